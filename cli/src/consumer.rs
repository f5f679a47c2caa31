//! `orderflow pause` and `resume`: whether a consumer is given messages.
//!
//! In: a queue. Out: its event source mapping is switched, and has switched when the command ends. Guarantee:
//! nothing is lost by a pause: messages wait on their queue, which keeps them for four days.

use std::time::{Duration, Instant};

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use futures::future::try_join_all;
use serde::Serialize;

use crate::{
    error::CliError,
    output::table,
    stack::{Queue, Stack},
};

/// AWS takes up to a minute to switch.
const SWITCH_WAIT: Duration = Duration::from_secs(120);
const SWITCH_PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, Serialize)]
pub(crate) struct Switched {
    queue: String,
    consumer: String,
}

/// `on`, `off`, or on its way to one, as Lambda says it.
pub(crate) async fn state(stack: &Stack, queue: &Queue) -> Result<String, CliError> {
    let mapping = mapping(stack, queue).await?;
    Ok(match mapping.state() {
        Some("Enabled") => "on".to_owned(),
        Some("Disabled") => "off".to_owned(),
        Some(other) => other.to_lowercase(),
        None => "unknown".to_owned(),
    })
}

/// Switches the consumers of these queues, and waits until they are switched.
pub(crate) async fn switch(
    stack: &Stack,
    queues: &[&Queue],
    on: bool,
) -> Result<Vec<Switched>, CliError> {
    try_join_all(queues.iter().map(|queue| switch_one(stack, queue, on))).await
}

async fn switch_one(stack: &Stack, queue: &Queue, on: bool) -> Result<Switched, CliError> {
    let uuid = mapping(stack, queue).await?.uuid;
    let wanted = if on { "on" } else { "off" };
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let state = state(stack, queue).await?;
        if state == wanted {
            return Ok(Switched { queue: queue.name.clone(), consumer: state });
        }
        // A mapping that is still on its way takes no change.
        if !asked && (state == "on" || state == "off") {
            let update = stack.lambda.update_event_source_mapping();
            update.set_uuid(uuid.clone()).enabled(on).send().await?;
            asked = true;
        }
        if begun.elapsed() > SWITCH_WAIT {
            return Err(CliError::NotDone(format!(
                "the consumer of {} is still {state} after {} s; `orderflow status` shows when it is {wanted}",
                queue.name,
                SWITCH_WAIT.as_secs()
            )));
        }
        tokio::time::sleep(SWITCH_PAUSE).await;
    }
}

async fn mapping(
    stack: &Stack,
    queue: &Queue,
) -> Result<EventSourceMappingConfiguration, CliError> {
    let answer =
        stack.lambda.list_event_source_mappings().function_name(&queue.consumer).send().await?;
    let queue_name = queue.url.rsplit('/').next().unwrap_or_default();
    let of_queue = |mapping: &EventSourceMappingConfiguration| {
        mapping.event_source_arn().is_some_and(|arn| arn.rsplit(':').next() == Some(queue_name))
    };
    answer.event_source_mappings.unwrap_or_default().into_iter().find(of_queue).ok_or_else(|| {
        CliError::NotFound(format!(
            "{} is not given the messages of {}: the mapping is gone; deploy the stack again",
            queue.consumer, queue.name
        ))
    })
}

pub(crate) fn text(switched: &[Switched]) -> String {
    let rows = switched.iter().map(|one| vec![one.queue.clone(), one.consumer.clone()]);
    table(&["queue", "consumer"], rows)
}
