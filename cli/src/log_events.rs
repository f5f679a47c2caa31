//! What a function has logged, page by page.
//!
//! In: a function, a pattern of CloudWatch Logs, a moment, and until when there is time. Out: each page of its log events since then. Guarantees: a log
//! group that is not there yet has logged nothing; whether that was all is known.

use std::time::Instant;

use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;

use crate::{error::CliError, stack::Stack};

/// Whose log is read, and what of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// By its name at Lambda.
    pub function: &'a str,
    pub pattern: &'a str,
    /// In milliseconds since 1970.
    pub from_ms: i64,
    pub deadline: Instant,
}

/// Hands each page to `take`, which says whether it has room for another. Whether all was read.
///
/// # Errors
/// CloudWatch Logs does not answer.
pub(crate) async fn read(
    stack: &Stack,
    wanted: Wanted<'_>,
    mut take: impl FnMut(Vec<FilteredLogEvent>) -> bool,
) -> Result<bool, CliError> {
    let mut next = None;
    loop {
        let call = stack
            .logs
            .filter_log_events()
            .log_group_name(format!("/aws/lambda/{}", wanted.function))
            .filter_pattern(wanted.pattern)
            .start_time(wanted.from_ms)
            .set_next_token(next);
        let page = match call.send().await {
            Ok(page) => page,
            // On an emulator, that of a function which has never run.
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let has_room = take(page.events.unwrap_or_default());
        next = page.next_token;
        if next.is_none() {
            return Ok(true);
        }
        if !has_room || Instant::now() >= wanted.deadline {
            return Ok(false);
        }
    }
}
