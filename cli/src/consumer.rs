//! `orderflow pause` and `resume`: whether a consumer is given messages.
//!
//! In: a queue. Out: its event source mapping is switched, and has switched when the command ends. Guarantee:
//! nothing is lost by a pause: messages wait on their queue, which keeps them for four days.

use std::time::{Duration, Instant};

use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use futures::future::try_join_all;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    output::table,
    queue_attributes,
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

/// Whether a consumer is given messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerState {
    /// `on`, `off`, or on its way to one, as Lambda says it.
    pub name: String,
    /// Since when, if Lambda says that.
    pub since: Option<Timestamp>,
}

impl ConsumerState {
    fn of(mapping: &EventSourceMappingConfiguration) -> Self {
        let name = match mapping.state() {
            Some("Enabled") => "on".to_owned(),
            Some("Disabled") => "off".to_owned(),
            Some(other) => other.to_lowercase(),
            None => "unknown".to_owned(),
        };
        // When it was changed, or its state changed, for the last time: of one that is off, when it was paused.
        let changed = mapping.last_modified();
        let since = changed.and_then(|at| Timestamp::new(at.secs(), 0).ok());
        Self { name, since }
    }
}

/// Whether the consumer of a queue is given its messages.
pub(crate) async fn state(
    stack: &Stack,
    queue: &Queue,
    queue_arn: &str,
) -> Result<ConsumerState, CliError> {
    Ok(ConsumerState::of(&mapping(stack, queue, queue_arn).await?))
}

/// Those of these queues whose consumer is not off already.
pub(crate) async fn not_off<'a>(
    stack: &Stack,
    queues: &[&'a Queue],
) -> Result<Vec<&'a Queue>, CliError> {
    let states = queues.iter().map(async |queue| {
        let arn = queue_attributes::read(stack, &queue.url).await?.arn;
        state(stack, queue, &arn).await
    });
    let states = try_join_all(states).await?;
    let with_states = queues.iter().zip(states);
    Ok(with_states.filter(|(_, state)| state.name != "off").map(|(queue, _)| *queue).collect())
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
    let arn = queue_attributes::read(stack, &queue.url).await?.arn;
    let wanted = if on { "on" } else { "off" };
    let begun = Instant::now();
    let mut asked = false;
    loop {
        let mapping = mapping(stack, queue, &arn).await?;
        let state = ConsumerState::of(&mapping).name;
        if state == wanted {
            return Ok(Switched { queue: queue.name.clone(), consumer: state });
        }
        // A mapping that is still on its way takes no change.
        if !asked && (state == "on" || state == "off") {
            let update = stack.lambda.update_event_source_mapping();
            update.set_uuid(mapping.uuid).enabled(on).send().await?;
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

/// What gives a consumer the messages of its queue. It is found by the queue: what it names is the consumer's alias.
async fn mapping(
    stack: &Stack,
    queue: &Queue,
    queue_arn: &str,
) -> Result<EventSourceMappingConfiguration, CliError> {
    let list = stack.lambda.list_event_source_mappings().event_source_arn(queue_arn);
    let mappings = list.send().await?.event_source_mappings.unwrap_or_default();
    mappings.into_iter().next().ok_or_else(|| {
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

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::primitives::DateTime;

    use super::*;

    #[test]
    fn a_consumer_is_off_since_its_mapping_was_changed() {
        let mapping = EventSourceMappingConfiguration::builder().state("Disabled");
        let state = ConsumerState::of(&mapping.last_modified(DateTime::from_secs(0)).build());
        let wanted = ConsumerState { name: "off".into(), since: Some(Timestamp::UNIX_EPOCH) };
        assert_eq!(state, wanted);
    }
}
