//! Pages of lists: what an index serves, and what only a scan of a table finds, which is bounded.
//!
//! In: a table, where the last page ended, and bounds. Out: a [`Page`]: what was found, how much of a table was read for it,
//! and from where to go on. Guarantee: no list reads more items of a table than its bound, or for longer (but for its first
//! call): a table of millions is read in parts, each of which somebody has asked for.

use std::time::Duration;

use aws_sdk_dynamodb::{operation::scan::builders::ScanFluentBuilder, types::AttributeValue};
use exactly_once::Item;
use serde::Serialize;
use tokio::time::Instant;

use crate::{error::CliError, stack::Stack};

/// Maximum number of entries of one page.
pub(crate) const ENTRIES_MAX: u16 = 1_000;
/// Number of entries of one page, unless said otherwise.
pub(crate) const ENTRIES_DEFAULT: u16 = 50;
/// Maximum number of items of a table that one list of the command reads.
pub(crate) const SCAN_ITEMS_MAX: u32 = 20_000;
/// For how long one list of the command reads a table.
const SCAN_TIME: Duration = Duration::from_secs(10);
/// Maximum number of items of one call, so that a call is short.
const SCAN_CALL_ITEMS: u32 = 1_000;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// Number of items of the table that were looked through for them; null where an index has them, or all are wanted.
    pub read: Option<u32>,
    /// From where to go on; null at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// What is said below a table of this page: how far it goes. Empty if it is all that there is.
    pub(crate) fn end_text(&self) -> String {
        match (&self.next, self.read) {
            (None, _) => String::new(),
            (Some(next), None) => format!("\nThere are more: go on with --from {next}"),
            (Some(next), Some(read)) => {
                format!("\nRead {} of the table; go on with --from {next}", grouped(read))
            }
        }
    }
}

/// A number as people read it: 20,000.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Which page, and how much may be read for it.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// Where the page before ended.
    pub from: Option<String>,
    /// Maximum number of entries.
    pub limit: u16,
    /// For how long a table is read.
    pub scan_time: Duration,
}

impl PageRequest {
    /// A page that the command prints.
    pub(crate) fn of_command(from: Option<String>, limit: u16) -> Self {
        Self { from, limit, scan_time: SCAN_TIME }
    }

    pub(crate) fn entries(&self) -> usize {
        self.limit.into()
    }
}

/// What of a table is read.
pub(crate) struct TableScan<'a> {
    pub table: &'a str,
    /// The name of its one key.
    pub key: &'static str,
    /// Whether the scan has a filter: then most of what is read is not found.
    pub is_filtered: bool,
}

/// Reads a table for a page, in no order; `build` adds the filter and what is read of an item, the key among it.
///
/// # Errors
/// The table does not answer.
pub(crate) async fn scan(
    stack: &Stack,
    scan: TableScan<'_>,
    request: &PageRequest,
    build: impl Fn(ScanFluentBuilder) -> ScanFluentBuilder,
) -> Result<Page<Item>, CliError> {
    let deadline = Instant::now() + request.scan_time;
    let mut start = request.from.clone();
    let (mut found, mut read): (Vec<Item>, u32) = (Vec::new(), 0);
    loop {
        let left = SCAN_ITEMS_MAX - read;
        // One more than the page has, to know whether it is the last.
        let wanted = u32::from(request.limit) + 1 - u32::try_from(found.len()).unwrap_or_default();
        let items = left.min(if scan.is_filtered { SCAN_CALL_ITEMS } else { wanted });
        let key =
            start.take().map(|key| Item::from([(scan.key.to_owned(), AttributeValue::S(key))]));
        let call = stack.dynamodb.scan().table_name(scan.table);
        let call = build(call)
            .limit(i32::try_from(items).unwrap_or(i32::MAX))
            .set_exclusive_start_key(key);
        let begun = Instant::now();
        let answer = call.send().await?;
        let took = begun.elapsed();
        read += u32::try_from(answer.scanned_count).unwrap_or_default();
        let key_of = |item: &Item| item.get(scan.key)?.as_s().ok().cloned();
        start = answer.last_evaluated_key.as_ref().and_then(key_of);
        found.extend(answer.items.unwrap_or_default());
        if found.len() > request.entries() {
            found.truncate(request.entries());
            start = found.last().and_then(key_of);
            break;
        }
        // Another call takes as long as this one did.
        let is_over = Instant::now() + took >= deadline;
        if start.is_none() || read >= SCAN_ITEMS_MAX || is_over {
            break;
        }
    }
    Ok(Page { items: found, read: scan.is_filtered.then_some(read), next: start })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(read: Option<u32>, next: Option<&str>) -> Page<u8> {
        Page { items: Vec::new(), read, next: next.map(str::to_owned) }
    }

    #[test]
    fn a_page_says_how_far_it_has_read_and_how_to_go_on() {
        assert_eq!(
            page(Some(20_000), Some("abc")).end_text(),
            "\nRead 20,000 of the table; go on with --from abc"
        );
        assert_eq!(page(None, Some("abc")).end_text(), "\nThere are more: go on with --from abc");
        assert_eq!(page(Some(7), None).end_text(), "", "the whole table was read");
    }

    #[test]
    fn a_large_number_is_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
