//! `orderflow dlq`: what could not be handled, and giving it another chance or throwing it away.
//!
//! In: queues and a selection. Out: dead letters; sent to their queue again, or deleted. Guarantees: a letter is
//! deleted from the DLQ only after its queue took it, so it is redriven at least once, and consumers take it once;
//! its attributes are kept, but for what its consumer wrote when it sent it to the DLQ; whatever is not selected stays.
//!
//! SQS has no way to look at a queue without receiving: listing hides the messages for the time of the listing
//! and raises their receive count, which on a DLQ nothing depends on. What another listing hides from this one is
//! counted, by comparing with the number of messages that the DLQ has, and is never taken for an empty DLQ.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    types::{DeleteMessageBatchRequestEntry, Message as SqsMessage, MessageSystemAttributeName},
};
use exactly_once::{RETRIES_EXHAUSTED, is_failure_attribute};
use futures::future::join_all;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    held,
    output::{counted, cut, indent, plain, table},
    queue_attributes,
    redriven::Became,
    select::{DeadLetter, Selection, Since, glimpse},
    send::{self, Message},
    stack::{Queue, Stack},
    when::short,
};

/// How long messages are hidden while a DLQ is gone through, in seconds. They are put back at its end, or, if the command is
/// killed, come back by themselves.
pub(crate) const LISTING_VISIBILITY_TIMEOUT_SECONDS: i32 = 30;
/// How often a way through a DLQ goes on, by one poll each, for letters that another listing holds: mostly that one
/// ends, and gives them back, within this time.
const HELD_POLLS_MAX: u32 = 3;
/// Maximum length of a detail in a table, in characters; `dlq show` has all of it.
const DETAIL_CHARACTERS_MAX: usize = 60;
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
    /// What became of those that were sent, if somebody has waited for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub became: Option<Became>,
}

/// What a listing came to.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Listing {
    /// Those that the selection takes, oldest first in each queue.
    pub letters: Vec<DeadLetter>,
    /// Number of letters that were looked at.
    pub read: u64,
    /// Number of letters that another listing holds.
    pub held_elsewhere: u64,
}

impl Listing {
    /// Fails if some could not be looked at.
    ///
    /// # Errors
    /// Another listing holds them.
    pub(crate) fn require_complete(&self) -> Result<(), CliError> {
        match self.held_elsewhere {
            0 => Ok(()),
            count => Err(CliError::HeldElsewhere { count }),
        }
    }

    /// Fails if there is none, and says whether there are others.
    ///
    /// # Errors
    /// Nothing is selected: because another listing holds some, or because there is no such letter.
    pub(crate) fn require_some(&self, queue: &str) -> Result<(), CliError> {
        if !self.letters.is_empty() {
            return Ok(());
        }
        self.require_complete()?;
        let others = match self.read {
            0 => "its DLQ is empty".to_owned(),
            read => format!("{} of its DLQ not selected", are(read)),
        };
        Err(CliError::NotFound(format!("no such dead letter of {queue}: {others}")))
    }

    /// A line for each letter.
    pub(crate) fn text(&self) -> String {
        match (self.letters.as_slice(), self.read, self.held_elsewhere) {
            // The error says who has them.
            ([], 0, 1..) => String::new(),
            ([], 0, 0) => "No dead letters.".to_owned(),
            ([], read, _) => format!("No such dead letter: {} not selected.", are(read)),
            (letters, ..) => summary(letters),
        }
    }
}

fn are(count: u64) -> String {
    format!("{} {}", counted(count, "letter"), if count == 1 { "is" } else { "are" })
}

/// The dead letters of a queue that a selection takes, oldest first. They stay where they are.
pub(crate) async fn list(
    stack: &Stack,
    queue: &Queue,
    selection: &Selection,
) -> Result<Listing, CliError> {
    let now = Timestamp::now();
    let mut held = Vec::new();
    let read = receive_all(stack, queue, &mut held).await;
    // Also if the reading failed half way.
    put_back(stack, &queue.dlq_url, &held).await;
    let held_elsewhere = read?;
    let read = held.len() as u64;
    let mut letters: Vec<DeadLetter> =
        held.into_iter().map(|held| held.letter).filter(|l| selection.takes(l, now)).collect();
    letters.sort_by(|a, b| (a.since, &a.message_id).cmp(&(b.since, &b.message_id)));
    Ok(Listing { letters, read, held_elsewhere })
}

/// Receives every letter of a DLQ that is to be had. Returns the number of those that are not.
async fn receive_all(stack: &Stack, queue: &Queue, held: &mut Vec<Held>) -> Result<u64, CliError> {
    let mut round = Round::of(stack, queue);
    let mut polls = 0;
    loop {
        loop {
            match round.next().await? {
                batch if batch.is_empty() => break,
                batch => held.extend(batch),
            }
        }
        if held.len() >= READ_MAX {
            return Ok(0);
        }
        // While these are held no other listing is given them: whatever else is counted, somebody else has.
        let [visible, in_flight, delayed] =
            queue_attributes::read(stack, &queue.dlq_url).await?.counts;
        let missing = (visible + in_flight + delayed).saturating_sub(held.len() as u64);
        if missing == 0 || polls == HELD_POLLS_MAX {
            return Ok(missing);
        }
        polls += 1;
    }
}

pub(crate) async fn list_all(
    stack: &Stack,
    queues: &[&Queue],
    selection: &Selection,
) -> Result<Listing, CliError> {
    let mut all = Listing::default();
    // Each comes to its end, where it gives its letters back, before an error of one is reported.
    for listing in join_all(queues.iter().map(|queue| list(stack, queue, selection))).await {
        let listing = listing?;
        all.letters.extend(listing.letters);
        all.read += listing.read;
        all.held_elsewhere += listing.held_elsewhere;
    }
    Ok(all)
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
                let letters = list(stack, queue, &Selection::default()).await?.letters;
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
    let mut polls = 0;
    let mut round = Round::of(stack, queue);
    let worked = loop {
        // All that were selected have been received: no poll is needed to know that nothing is left.
        if met == wanted.len() {
            break Ok(());
        }
        let batch = match round.next().await {
            Ok(batch) if batch.is_empty() && polls == HELD_POLLS_MAX => break Ok(()),
            Ok(batch) if batch.is_empty() => {
                polls += 1;
                continue;
            }
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
    put_back(stack, &queue.dlq_url, &others).await;
    worked?;
    if met < wanted.len() {
        let gone = are((wanted.len() - met) as u64);
        outcome.failed.push(format!("{gone} no longer in the DLQ, or another listing holds them"));
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
            let messages = receive(self.stack, &self.queue.dlq_url).await?;
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

/// Receives a batch. The call is carried to its end even if nobody waits for it any more, because its letters are
/// hidden by then and have to be known.
async fn receive(stack: &Stack, dlq_url: &str) -> Result<Vec<SqsMessage>, CliError> {
    let (held, dlq_url) = (stack.held.clone(), dlq_url.to_owned());
    let call = stack
        .sqs
        .receive_message()
        .queue_url(&dlq_url)
        .max_number_of_messages(i32::try_from(send::ENTRIES_MAX).unwrap_or(i32::MAX))
        .visibility_timeout(LISTING_VISIBILITY_TIMEOUT_SECONDS)
        .wait_time_seconds(POLL_SECONDS)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All);
    let receiving = stack.held.receiving().await;
    let received = tokio::spawn(async move {
        let answer = call.send().await?;
        let messages = answer.messages.unwrap_or_default();
        held.note(&dlq_url, &messages);
        std::mem::drop(receiving);
        Ok(messages)
    });
    received.await.map_err(CliError::local("receiving dead letters"))?
}

/// Shows letters to everybody again.
async fn put_back(stack: &Stack, dlq_url: &str, held: &[Held]) {
    let receipts = held.iter().filter_map(|held| held.message.receipt_handle.clone());
    let receipts: Vec<String> = receipts.collect();
    held::make_visible(&stack.sqs, dlq_url, receipts.clone()).await;
    receipts.iter().for_each(|receipt| stack.held.forget(receipt));
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
        batch.iter().filter_map(|h| h.message.receipt_handle()).for_each(|r| stack.held.forget(r));
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
    let source = queue_attributes::read(stack, &queue.dlq_url).await?.arn;
    let target = queue_attributes::read(stack, &queue.url).await?.arn;
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
                return Ok(Some(Done { queue, done: moved, by: "move_task", ..Done::default() }));
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

/// The message as it goes to its queue again.
fn again(message: &SqsMessage) -> Message {
    let mut attributes = message.message_attributes.clone().unwrap_or_default();
    attributes.retain(|name, _| !is_failure_attribute(name));
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
    let moment = |name: &str| attributes.get(name).and_then(|at| at.parse::<Timestamp>().ok());
    let sent = sent.unwrap_or(Timestamp::UNIX_EPOCH);
    let reason = attributes.get("failure_reason").cloned();
    let (since, since_is) = match (moment("failed_at"), &reason) {
        // Consumers of before said it themselves; SQS's redrive and a copy of a letter do not change it.
        (Some(failed_at), _) => (failed_at, Since::FailedAt),
        (None, Some(_)) => (sent, Since::FailedAt),
        // A standard queue's message keeps the moment at which it was sent when SQS moves it to the DLQ. When it was
        // received for the first time is no better: on some endpoints this listing is the first.
        (None, None) => (sent, Since::Sent),
    };
    DeadLetter {
        queue: queue.name.clone(),
        message_id: message.message_id.clone().unwrap_or_default(),
        original_message_id: attributes.get("original_message_id").cloned(),
        reason: reason.unwrap_or_else(|| RETRIES_EXHAUSTED.to_owned()),
        detail: attributes.get("failure_detail").cloned(),
        event_type: event_type.or_else(|| attributes.get("event_type").cloned()),
        order_id,
        event_id,
        since,
        since_is,
        first_failed_at: moment("first_failed_at"),
        attempts: attributes.get("attempts").and_then(|attempts| attempts.parse().ok()),
        receives: system(MessageSystemAttributeName::ApproximateReceiveCount)
            .and_then(|count| count.parse().ok())
            .unwrap_or_default(),
        attributes,
        body,
    }
}

/// How long ago a letter died; of one that SQS moved, at most.
fn age(letter: &DeadLetter, now: Timestamp) -> String {
    let age = short(now.duration_since(letter.since).as_secs());
    match letter.since_is {
        Since::FailedAt => age,
        Since::Sent => format!("≤{age}"),
    }
}

/// A line each.
pub(crate) fn summary(letters: &[DeadLetter]) -> String {
    let now = Timestamp::now();
    let rows = letters.iter().map(|letter| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        vec![
            letter.queue.clone(),
            letter.message_id.clone(),
            age(letter, now),
            letter.reason.clone(),
            or_dash(&letter.event_type),
            or_dash(&letter.order_id),
            cut(letter.detail.as_deref().unwrap_or_default(), DETAIL_CHARACTERS_MAX),
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
        let mut lines = vec![format!("message id    {}", letter.message_id)];
        let original = letter.original_message_id.iter();
        lines.extend(original.map(|id| format!("on its queue  {id}")));
        lines.push(format!("queue         {}", letter.queue));
        let first = letter.first_failed_at.iter();
        lines.extend(first.map(|at| format!("first failed  {at:.3}")));
        lines.push(match letter.since_is {
            Since::FailedAt => format!("dead since    {:.3}", letter.since),
            Since::Sent => format!(
                "sent          {:.3}; SQS moved it to the DLQ later and does not say when",
                letter.since
            ),
        });
        let attempts = letter.attempts.iter();
        lines.extend(attempts.map(|attempts| format!("attempts      {attempts}")));
        lines.push(format!("received      {}", counted(letter.receives.into(), "time")));
        lines.push(format!("reason        {}", letter.reason));
        lines.extend(letter.detail.iter().map(|detail| format!("detail        {detail}")));
        let others = letter.attributes.iter().filter(|(name, _)| !is_failure_attribute(name));
        lines.extend(others.map(|(name, value)| format!("attribute     {name} = {value}")));
        let body = match serde_json::from_str::<serde::de::IgnoredAny>(&letter.body) {
            Ok(_) => indent(&letter.body),
            Err(_) => letter.body.clone(),
        };
        lines.extend(body.lines().map(|line| format!("  {line}")));
        lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
    };
    letters.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

pub(crate) fn outcome(verb: &str, all: &[Done]) -> String {
    let line = |done: &Done| {
        let failed: String = done.failed.iter().map(|why| format!("\n  {}", plain(why))).collect();
        let became = done.became.as_ref();
        let became = became.map(|became| format!("; {}", became.text())).unwrap_or_default();
        format!("{}: {} {verb}{became}{failed}", done.queue, done.done)
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dead letter whose consumer has given these attributes beside its reason; it was sent to the DLQ at noon.
    fn dead_letter_with(attributes: &[(&str, &str)]) -> SqsMessage {
        let reason = ("failure_reason", "schema");
        let attributes = attributes.iter().copied().chain([("traceparent", "00-1"), reason]);
        attributes
            .fold(SqsMessage::builder(), |message, (name, value)| {
                message.message_attributes(name, send::text_attribute(value))
            })
            .message_id("m1")
            .body(r#"{"event_type":"OrderCreated","data":{"order_id":"o1"}}"#)
            .attributes(MessageSystemAttributeName::SentTimestamp, "1763640000000")
            .build()
    }

    fn dead_lettered() -> SqsMessage {
        dead_letter_with(&[
            ("failure_detail", "data.items: missing"),
            ("first_failed_at", "2025-11-20T11:00:00.000Z"),
            ("original_message_id", "m0"),
            ("attempts", "3"),
        ])
    }

    /// As consumers wrote it before; SQS's redrive of a DLQ, and another move, have sent it anew since.
    fn dead_lettered_before() -> SqsMessage {
        dead_letter_with(&[
            ("failed_at", "2025-11-19T08:00:00.000Z"),
            ("consumer", "product-consumer"),
        ])
    }

    fn queue() -> Queue {
        let text = String::new;
        Queue {
            name: "product".into(),
            url: text(),
            dlq_url: text(),
            consumer: text(),
            consumer_name: text(),
        }
    }

    #[test]
    fn a_redriven_letter_keeps_its_attributes_but_not_those_of_its_failure() {
        for message in [dead_lettered(), dead_lettered_before()] {
            let again = again(&message);
            assert_eq!(again.attributes.keys().collect::<Vec<_>>(), ["traceparent"]);
            assert!(again.body.contains("OrderCreated"));
        }
    }

    #[test]
    fn a_dead_letter_has_the_reason_that_its_consumer_gave() {
        let letter = letter(&queue(), &dead_lettered());
        assert_eq!(letter.reason, "schema");
        assert_eq!(letter.order_id.as_deref(), Some("o1"));
    }

    #[test]
    fn a_dead_letter_died_when_it_was_sent_to_the_dlq_unless_its_consumer_said_when() {
        let died = |message| {
            let letter = letter(&queue(), &message);
            (letter.since.to_string(), letter.since_is)
        };
        assert_eq!(died(dead_lettered()), ("2025-11-20T12:00:00Z".into(), Since::FailedAt));
        assert_eq!(died(dead_lettered_before()), ("2025-11-19T08:00:00Z".into(), Since::FailedAt));
    }

    #[test]
    fn the_attempts_of_a_letter_are_null_if_its_consumer_did_not_say_them() {
        let attempts = |message| {
            let letter = serde_json::to_value(letter(&queue(), &message)).expect("JSON");
            letter.get("attempts").cloned()
        };
        assert_eq!(attempts(dead_lettered()), Some(3.into()));
        assert_eq!(attempts(dead_lettered_before()), Some(serde_json::Value::Null));
        let text = in_full(&[letter(&queue(), &dead_lettered_before())]);
        assert!(!text.contains("attempts") && !text.contains("failed_at"), "{text}");
    }

    #[test]
    fn a_dead_letter_says_when_it_died_when_it_failed_first_how_often_and_which_message_it_was() {
        let text = in_full(&[letter(&queue(), &dead_lettered())]);
        for line in [
            "on its queue  m0",
            "first failed  2025-11-20T11:00:00.000Z",
            "dead since    2025-11-20T12:00:00.000Z",
            "attempts      3",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn of_a_letter_that_sqs_moved_it_is_said_that_only_its_sending_is_known() {
        let message = SqsMessage::builder()
            .message_id("m2")
            .body("x")
            .attributes(MessageSystemAttributeName::SentTimestamp, "1763640000000")
            .build();
        let letter = letter(&queue(), &message);
        assert_eq!((letter.since_is, letter.reason.as_str()), (Since::Sent, RETRIES_EXHAUSTED));
        let text = in_full(std::slice::from_ref(&letter));
        assert!(text.contains("sent          2025-11-20T12:00:00.000Z; SQS moved it"), "{text}");
        assert!(!text.contains("dead since"), "{text}");
        assert!(summary(&[letter]).contains('≤'));
    }

    #[test]
    fn a_listing_says_why_it_is_empty() {
        let listing = |read, held_elsewhere| Listing { letters: Vec::new(), read, held_elsewhere };
        assert_eq!(listing(0, 0).text(), "No dead letters.");
        assert_eq!(listing(1, 0).text(), "No such dead letter: 1 letter is not selected.");
        assert_eq!(listing(0, 12).text(), "", "the error names the twelve");
        let none = |read, held| listing(read, held).require_some("product");
        assert!(matches!(none(0, 12), Err(CliError::HeldElsewhere { count: 12 })));
        assert!(
            matches!(none(3, 0), Err(CliError::NotFound(why)) if why.contains("3 letters are"))
        );
        assert!(listing(3, 1).require_complete().is_err());
        assert!(listing(3, 0).require_complete().is_ok());
    }

    #[test]
    fn a_detail_that_is_cut_says_so() {
        let mut letter = letter(&queue(), &dead_lettered());
        letter.detail = Some("x".repeat(61));
        assert!(summary(&[letter]).contains("xxx…"));
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
