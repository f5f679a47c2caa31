//! `orderflow dlq`: what could not be handled, and giving it another chance or throwing it away.
//!
//! In: queues and a selection. Out: dead letters; sent to their queue again, or deleted. Guarantees: a letter is
//! deleted from the DLQ only after its queue took it, so it is redriven at least once, and consumers take it once;
//! its attributes are kept, but for what its consumer wrote when it sent it to the DLQ; whatever is not selected stays.
//!
//! SQS has no way to look at a queue without receiving: listing hides the messages for the time of the listing
//! and raises their receive count, which on a DLQ nothing depends on.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        Message as SqsMessage, MessageSystemAttributeName, QueueAttributeName,
    },
};
use futures::future::try_join_all;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    output::{plain, table},
    select::{DeadLetter, RETRIES_EXHAUSTED, Selection, glimpse},
    send::{self, Message},
    stack::{Queue, Stack},
    when::short,
};

/// The attributes that a consumer adds to what it sends to the DLQ.
const FAILURE_ATTRIBUTES: [&str; 4] = ["failure_reason", "failure_detail", "failed_at", "consumer"];
/// How long messages are hidden while a DLQ is gone through, in seconds. They are put back at its end, or, if the command is
/// killed, come back by themselves.
const VISIBILITY_TIMEOUT_SECONDS: i32 = 30;
/// Number of batches in a row with nothing new after which all has been seen: on a long way through a DLQ
/// its first messages come back while others are still to come.
const STALE_BATCHES_MAX: u32 = 50;
/// A long poll asks all of SQS's servers: when it comes back empty, nothing is left that is not hidden.
const POLL_SECONDS: i32 = 1;
/// Maximum number of dead letters that are read, so that a listing ends and fits into memory.
pub(crate) const READ_MAX: usize = 10_000;
/// How often a move task is asked how far it is.
const MOVE_PAUSE: Duration = Duration::from_secs(1);
/// How long a move task is watched; after that SQS goes on with it by itself.
const MOVE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// One received message, with what it takes to delete it or put it back.
#[derive(Debug)]
struct Held {
    letter: DeadLetter,
    message: SqsMessage,
}

/// What became of the selected letters of a queue.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    pub queue: String,
    /// Sent to their queue again, or deleted.
    pub done: u64,
    /// Not: why.
    pub failed: Vec<String>,
    /// `move_task` or `message_by_message`.
    pub by: &'static str,
}

/// The dead letters of a queue that a selection takes, oldest first. They stay where they are.
pub(crate) async fn list(
    stack: &Stack,
    queue: &Queue,
    selection: &Selection,
) -> Result<Vec<DeadLetter>, CliError> {
    let now = Timestamp::now();
    let mut round = Round::of(stack, queue);
    let mut held = Vec::new();
    let read = loop {
        match round.next().await {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => held.extend(batch),
            Err(error) => break Err(error),
        }
    };
    // Also if the reading failed half way.
    put_back(stack, queue, &held).await;
    read?;
    let mut letters: Vec<DeadLetter> =
        held.into_iter().map(|held| held.letter).filter(|l| selection.takes(l, now)).collect();
    letters.sort_by(|a, b| (a.since, &a.message_id).cmp(&(b.since, &b.message_id)));
    Ok(letters)
}

pub(crate) async fn list_all(
    stack: &Stack,
    queues: &[&Queue],
    selection: &Selection,
) -> Result<Vec<DeadLetter>, CliError> {
    let lists = try_join_all(queues.iter().map(|queue| list(stack, queue, selection))).await?;
    Ok(lists.concat())
}

/// Sends these letters to their queue again.
pub(crate) async fn redrive(
    stack: &Stack,
    queue: &Queue,
    letters: &[DeadLetter],
    bar: &ProgressBar,
) -> Result<Done, CliError> {
    work_off(stack, queue, letters, bar, true).await
}

pub(crate) async fn drop(
    stack: &Stack,
    queue: &Queue,
    letters: &[DeadLetter],
    bar: &ProgressBar,
) -> Result<Done, CliError> {
    work_off(stack, queue, letters, bar, false).await
}

/// Sends everything that is in a DLQ to its queue again: by SQS itself where the endpoint can, or else message
/// by message.
pub(crate) async fn redrive_all(
    stack: &Stack,
    queue: &Queue,
    bar: &ProgressBar,
) -> Result<Done, CliError> {
    match move_task(stack, queue, bar).await? {
        Some(done) => Ok(done),
        None => {
            let mut all = Done::default();
            loop {
                let letters = list(stack, queue, &Selection::default()).await?;
                bar.set_length(all.done + letters.len() as u64);
                let done = redrive(stack, queue, &letters, bar).await?;
                all = Done { done: all.done + done.done, ..done };
                if letters.len() < READ_MAX || !all.failed.is_empty() {
                    return Ok(all);
                }
            }
        }
    }
}

/// Receives the letters again and does with each what is wanted. The others go back.
async fn work_off(
    stack: &Stack,
    queue: &Queue,
    letters: &[DeadLetter],
    bar: &ProgressBar,
    send_again: bool,
) -> Result<Done, CliError> {
    let wanted: HashSet<&str> = letters.iter().map(|letter| letter.message_id.as_str()).collect();
    let mut outcome =
        Done { queue: queue.name.clone(), by: "message_by_message", ..Done::default() };
    let mut others = Vec::new();
    let mut met = 0;
    let mut round = Round::of(stack, queue);
    let worked = loop {
        let batch = match round.next().await {
            Ok(batch) if batch.is_empty() => break Ok(()),
            Ok(batch) => batch,
            Err(error) => break Err(error),
        };
        let (selected, rest): (Vec<Held>, Vec<Held>) =
            batch.into_iter().partition(|held| wanted.contains(held.letter.message_id.as_str()));
        others.extend(rest);
        met += selected.len();
        let deliverable = if send_again {
            send_to_queue(stack, queue, selected, &mut others, &mut outcome.failed).await
        } else {
            Ok(selected)
        };
        let deleted = match deliverable {
            Ok(held) => delete(stack, queue, &held, &mut outcome.failed).await,
            Err(error) => Err(error),
        };
        match deleted {
            Ok(deleted) => outcome.done += deleted,
            Err(error) => break Err(error),
        }
        bar.set_position(outcome.done);
    };
    put_back(stack, queue, &others).await;
    worked?;
    if met < wanted.len() {
        let gone = wanted.len() - met;
        outcome
            .failed
            .push(format!("{gone} are no longer in the DLQ, or somebody else holds them"));
    }
    Ok(outcome)
}

/// Sends a batch to its queue; what the queue did not take goes to `others`.
async fn send_to_queue(
    stack: &Stack,
    queue: &Queue,
    mut selected: Vec<Held>,
    others: &mut Vec<Held>,
    failed: &mut Vec<String>,
) -> Result<Vec<Held>, CliError> {
    let mut taken = Vec::new();
    while !selected.is_empty() {
        let messages: Vec<Message> = selected.iter().map(|held| again(&held.message)).collect();
        let now: Vec<Held> = selected.drain(..send::first_batch(&messages)).collect();
        let fates = match send::send(stack, &queue.url, &messages[..now.len()]).await {
            Ok(fates) => fates,
            Err(error) => {
                others.extend(now);
                others.append(&mut selected);
                return Err(error);
            }
        };
        for (held, fate) in now.into_iter().zip(fates) {
            match fate {
                Ok(()) => taken.push(held),
                Err(why) => {
                    failed.push(format!("{}: {why}", held.letter.message_id));
                    others.push(held);
                }
            }
        }
    }
    Ok(taken)
}

/// A way through a DLQ, a batch of messages at a time, each message once.
struct Round<'a> {
    stack: &'a Stack,
    queue: &'a Queue,
    seen: HashSet<String>,
}

impl<'a> Round<'a> {
    fn of(stack: &'a Stack, queue: &'a Queue) -> Self {
        Self { stack, queue, seen: HashSet::new() }
    }

    /// The next batch; empty at the end.
    async fn next(&mut self) -> Result<Vec<Held>, CliError> {
        if self.seen.len() >= READ_MAX {
            return Ok(Vec::new());
        }
        for _ in 0..STALE_BATCHES_MAX {
            let answer = self
                .stack
                .sqs
                .receive_message()
                .queue_url(&self.queue.dlq_url)
                .max_number_of_messages(i32::try_from(send::ENTRIES_MAX).unwrap_or(i32::MAX))
                .visibility_timeout(VISIBILITY_TIMEOUT_SECONDS)
                .wait_time_seconds(POLL_SECONDS)
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .send()
                .await?;
            let messages = answer.messages.unwrap_or_default();
            if messages.is_empty() {
                break;
            }
            let fresh: Vec<Held> = messages
                .into_iter()
                .map(|message| Held { letter: letter(self.queue, &message), message })
                .filter(|held| self.seen.insert(held.letter.message_id.clone()))
                .collect();
            if !fresh.is_empty() {
                return Ok(fresh);
            }
        }
        Ok(Vec::new())
    }
}

/// Shows messages again at once. If that fails they come back when their time is up.
async fn put_back(stack: &Stack, queue: &Queue, held: &[Held]) {
    for batch in held.chunks(send::ENTRIES_MAX) {
        let entries = batch.iter().enumerate().filter_map(|(index, held)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(held.message.receipt_handle()?)
                .visibility_timeout(0)
                .build()
                .ok()
        });
        let call = stack.sqs.change_message_visibility_batch().queue_url(&queue.dlq_url);
        let _ = call.set_entries(Some(entries.collect())).send().await;
    }
}

/// Deletes messages from the DLQ; says how many, and of the others why not.
async fn delete(
    stack: &Stack,
    queue: &Queue,
    held: &[Held],
    failed: &mut Vec<String>,
) -> Result<u64, CliError> {
    let mut deleted = 0;
    for batch in held.chunks(send::ENTRIES_MAX) {
        let mut call = stack.sqs.delete_message_batch().queue_url(&queue.dlq_url);
        for (index, held) in batch.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(held.message.receipt_handle().unwrap_or_default())
                .build()
                .expect("an entry has an id and a receipt handle");
            call = call.entries(entry);
        }
        let answer = call.send().await?;
        deleted += answer.successful().len() as u64;
        failed.extend(answer.failed().iter().map(|entry| {
            let why = entry.message().unwrap_or_else(|| entry.code());
            format!("a letter stays in the DLQ of {}: {why}", queue.name)
        }));
    }
    Ok(deleted)
}

/// Lets SQS move everything; `None` if this endpoint cannot.
async fn move_task(
    stack: &Stack,
    queue: &Queue,
    bar: &ProgressBar,
) -> Result<Option<Done>, CliError> {
    let (source, target) = (arn(stack, &queue.dlq_url).await?, arn(stack, &queue.url).await?);
    let started = stack
        .sqs
        .start_message_move_task()
        .source_arn(&source)
        // Said, because without it SQS sends each message where it came from, which of poison is nowhere.
        .destination_arn(&target)
        .send()
        .await;
    if let Err(error) = started {
        return if error.code().is_some_and(is_unknown_call) {
            Ok(None)
        } else {
            Err(error.into())
        };
    }
    let begun = Instant::now();
    while begun.elapsed() < MOVE_TIMEOUT {
        let answer = stack.sqs.list_message_move_tasks().source_arn(&source).max_results(1);
        let answer = answer.send().await?;
        let Some(task) = answer.results().first() else { break };
        let moved = u64::try_from(task.approximate_number_of_messages_moved()).unwrap_or_default();
        if let Some(all) = task.approximate_number_of_messages_to_move() {
            bar.set_length(u64::try_from(all).unwrap_or_default());
        }
        bar.set_position(moved);
        match task.status() {
            Some("RUNNING") => tokio::time::sleep(MOVE_PAUSE).await,
            Some("COMPLETED") => {
                let queue = queue.name.clone();
                return Ok(Some(Done { queue, done: moved, failed: Vec::new(), by: "move_task" }));
            }
            status => {
                return Err(CliError::NotDone(format!(
                    "SQS ended the move of {} as {} after {moved} messages{}; start it again for the rest",
                    queue.name,
                    status.unwrap_or("unknown"),
                    task.failure_reason().map(|why| format!(" ({why})")).unwrap_or_default(),
                )));
            }
        }
    }
    Err(CliError::NotDone(format!(
        "SQS still moves the dead letters of {} after {} minutes and goes on by itself",
        queue.name,
        MOVE_TIMEOUT.as_secs() / 60
    )))
}

/// What an endpoint says of a call that it has never heard of.
fn is_unknown_call(code: &str) -> bool {
    [
        "UnsupportedOperation",
        "InvalidAction",
        "UnknownOperation",
        "NotImplemented",
        "InternalFailure",
    ]
    .iter()
    .any(|unknown| code.contains(unknown))
}

async fn arn(stack: &Stack, url: &str) -> Result<String, CliError> {
    let names = QueueAttributeName::QueueArn;
    let answer = stack
        .sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(names.clone())
        .send()
        .await?;
    let arn = answer.attributes.and_then(|mut attributes| attributes.remove(&names));
    arn.ok_or_else(|| CliError::NotDone(format!("SQS does not say the ARN of {url}")))
}

/// The message as it goes to its queue again.
fn again(message: &SqsMessage) -> Message {
    let mut attributes = message.message_attributes.clone().unwrap_or_default();
    attributes.retain(|name, _| !FAILURE_ATTRIBUTES.contains(&name.as_str()));
    Message { body: message.body.clone().unwrap_or_default(), attributes }
}

fn letter(queue: &Queue, message: &SqsMessage) -> DeadLetter {
    let attributes: BTreeMap<String, String> = message
        .message_attributes
        .iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.string_value().unwrap_or("(binary)").to_owned()))
        .collect();
    let system = |name| message.attributes.as_ref()?.get(&name);
    let body = message.body.clone().unwrap_or_default();
    let [event_type, order_id, event_id] = glimpse(&body);
    let sent = system(MessageSystemAttributeName::SentTimestamp)
        .and_then(|ms| Timestamp::from_millisecond(ms.parse().ok()?).ok());
    let failed_at = attributes.get("failed_at").and_then(|at| at.parse().ok());
    DeadLetter {
        queue: queue.name.clone(),
        message_id: message.message_id.clone().unwrap_or_default(),
        reason: attributes
            .get("failure_reason")
            .cloned()
            .unwrap_or_else(|| RETRIES_EXHAUSTED.to_owned()),
        detail: attributes.get("failure_detail").cloned(),
        event_type: event_type.or_else(|| attributes.get("event_type").cloned()),
        order_id,
        event_id,
        since: failed_at.or(sent).unwrap_or(Timestamp::UNIX_EPOCH),
        receives: system(MessageSystemAttributeName::ApproximateReceiveCount)
            .and_then(|count| count.parse().ok())
            .unwrap_or_default(),
        attributes,
        body,
    }
}

pub(crate) fn summary(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "No dead letters.".to_owned();
    }
    let now = Timestamp::now();
    let rows = letters.iter().map(|letter| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![
            letter.queue.clone(),
            letter.message_id.clone(),
            short(now.duration_since(letter.since).as_secs()),
            letter.reason.clone(),
            or_dash(&letter.event_type),
            or_dash(&letter.order_id),
            letter.detail.as_deref().unwrap_or_default().chars().take(60).collect(),
        ]
    });
    let headings = ["queue", "message id", ">age", "reason", "type", "order", "detail"];
    let more = if letters.len() >= READ_MAX {
        format!("\nThese are the first {READ_MAX}; there may be more.")
    } else {
        String::new()
    };
    format!("{}{more}", table(&headings, rows))
}

pub(crate) fn in_full(letters: &[DeadLetter]) -> String {
    let one = |letter: &DeadLetter| {
        let mut lines = vec![
            format!("message id  {}", letter.message_id),
            format!("queue       {}", letter.queue),
            format!("dead since  {:.3}", letter.since),
            format!("received    {} times", letter.receives),
            format!("reason      {}", letter.reason),
        ];
        lines.extend(letter.detail.iter().map(|detail| format!("detail      {detail}")));
        let others = letter.attributes.iter();
        let others = others.filter(|(name, _)| !FAILURE_ATTRIBUTES.contains(&name.as_str()));
        lines.extend(others.map(|(name, value)| format!("attribute   {name} = {value}")));
        let body = serde_json::from_str::<serde_json::Value>(&letter.body)
            .and_then(|json| serde_json::to_string_pretty(&json))
            .unwrap_or_else(|_| letter.body.clone());
        lines.extend(body.lines().map(|line| format!("  {line}")));
        lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
    };
    letters.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

pub(crate) fn outcome(verb: &str, all: &[Done]) -> String {
    let line = |done: &Done| {
        let failed: String = done.failed.iter().map(|why| format!("\n  {}", plain(why))).collect();
        format!("{}: {} {verb}{failed}", done.queue, done.done)
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_lettered() -> SqsMessage {
        let attribute = |value: &str| send::text_attribute(value);
        SqsMessage::builder()
            .message_id("m1")
            .body(r#"{"event_type":"OrderCreated","data":{"order_id":"o1"}}"#)
            .message_attributes("traceparent", attribute("00-1"))
            .message_attributes("failure_reason", attribute("schema"))
            .message_attributes("failure_detail", attribute("data.items: missing"))
            .message_attributes("failed_at", attribute("2025-11-20T12:00:00.000Z"))
            .message_attributes("consumer", attribute("product-consumer"))
            .build()
    }

    fn queue() -> Queue {
        let text = String::new;
        Queue { name: "product".into(), url: text(), dlq_url: text(), consumer: text() }
    }

    #[test]
    fn a_redriven_letter_keeps_its_attributes_but_not_those_of_its_failure() {
        let again = again(&dead_lettered());
        assert_eq!(again.attributes.keys().collect::<Vec<_>>(), ["traceparent"]);
        assert!(again.body.contains("OrderCreated"));
    }

    #[test]
    fn a_dead_letter_has_the_reason_that_its_consumer_gave() {
        let letter = letter(&queue(), &dead_lettered());
        assert_eq!(letter.reason, "schema");
        assert_eq!(letter.since.to_string(), "2025-11-20T12:00:00Z");
        assert_eq!(letter.order_id.as_deref(), Some("o1"));
    }

    #[test]
    fn a_letter_that_sqs_moved_has_used_up_its_retries() {
        let message = SqsMessage::builder().message_id("m2").body("x").build();
        assert_eq!(letter(&queue(), &message).reason, RETRIES_EXHAUSTED);
    }

    #[test]
    fn only_an_endpoint_that_lacks_move_tasks_is_worked_around() {
        assert!(is_unknown_call("AWS.SimpleQueueService.UnsupportedOperation"));
        assert!(is_unknown_call("InvalidAction"));
        assert!(!is_unknown_call("AccessDenied"));
        assert!(!is_unknown_call("ResourceNotFoundException"));
    }
}
