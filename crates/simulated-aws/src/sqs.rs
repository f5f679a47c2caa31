//! SQS: queues that deliver at least once, in any order, and FIFO queues that keep the order of each group.
//!
//! In: calls of clients and of event source mappings, and what SNS delivers. Out: messages, refusals with AWS's codes.
//! Guarantees: what AWS's pages allow does happen, by seed: any subset in any order, two copies, a deleted message that
//! comes once more, counts that are late, an old receipt handle that works or does not. A message leaves a queue by being
//! deleted, by its retention, by redrive or by a move task, and never otherwise.
//!
//! A queue is a FIFO queue if its name ends with `.fifo`, as on AWS.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::{SimulatedAws, State, observer::Step, sns, wire::Answer};

const SECOND_MS: u64 = 1000;
/// Maximum number of messages in one call.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const ENTRIES_MAX: usize = 10;
/// Maximum size of a message and of a batch, in bytes of bodies and attributes.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
const BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of attributes of a message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
pub(crate) const ATTRIBUTES_MAX: usize = 10;
/// Maximum number of messages of a queue that are received and not deleted.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
const IN_FLIGHT_MAX: usize = 120_000;
/// Maximum time from the receive of a message until it is visible again, however often the timeout is changed.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
const VISIBILITY_TIMEOUT_SECONDS_MAX: u64 = 12 * 60 * 60;
/// Maximum delay of a message's first delivery.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-timers.html>
const DELAY_SECONDS_MAX: u64 = 900;
/// Maximum time for which a receive waits.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html>
const WAIT_SECONDS_MAX: u64 = 20;
/// How often a receive that waits looks again.
const POLL_MS: u64 = 100;
/// For how long a FIFO queue takes a deduplication id only once.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-key-terms.html>
const DEDUPLICATION_MS: u64 = 5 * 60 * SECOND_MS;
/// How far the approximate counts may be behind.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
const COUNTS_LAG_MS_MAX: u64 = 60 * SECOND_MS;
/// How long a move task takes, at least.
const MOVE_MS_MIN: u64 = SECOND_MS;
const MOVE_MS_MAX: u64 = 5 * SECOND_MS;

/// How a queue behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a received message stays hidden, unless its receiver says otherwise.
    pub visibility_timeout: Duration,
    /// The URL of the DLQ, and after how many receives a message goes there; `None` if it never does.
    pub redrive: Option<(String, u32)>,
    /// After what time a message is gone, whatever became of it.
    pub retention: Duration,
    /// How long a new message stays hidden, unless its sender says otherwise.
    pub delay: Duration,
    /// Maximum size of a message, in bytes of body and attributes.
    pub message_bytes_max: usize,
    /// Whether a FIFO queue takes a message without a deduplication id, and goes by its body.
    pub is_deduplicated_by_content: bool,
}

impl Default for QueueSettings {
    /// AWS's defaults.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>
    fn default() -> Self {
        Self {
            visibility_timeout: Duration::from_secs(30),
            redrive: None,
            retention: Duration::from_secs(4 * 24 * 60 * 60),
            delay: Duration::ZERO,
            message_bytes_max: BYTES_MAX,
            is_deduplicated_by_content: false,
        }
    }
}

/// One received message, as an event source mapping hands it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its record in the event of a Lambda function.
    pub record: Value,
    /// What deletes it.
    pub receipt_handle: String,
}

/// An attribute of a message, as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub data_type: String,
    pub value: AttributeValue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttributeValue {
    Text(String),
    /// Base64.
    Binary(String),
}

pub(crate) type Attributes = BTreeMap<String, Attribute>;

/// What a sender sends.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewMessage {
    pub body: String,
    pub attributes: Attributes,
    pub group_id: Option<String>,
    pub deduplication_id: Option<String>,
}

impl NewMessage {
    pub(crate) fn of_texts(body: &str, attributes: &BTreeMap<String, String>) -> Self {
        let attribute = |value: &String| Attribute {
            data_type: "String".to_owned(),
            value: AttributeValue::Text(value.clone()),
        };
        let attributes = attributes.iter().map(|(name, value)| (name.clone(), attribute(value)));
        Self { body: body.to_owned(), attributes: attributes.collect(), ..Self::default() }
    }

    /// Its size as SQS and SNS count it: body, and names, types and values of attributes.
    pub(crate) fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, attribute)| {
            let (AttributeValue::Text(value) | AttributeValue::Binary(value)) = &attribute.value;
            name.len() + attribute.data_type.len() + value.len()
        });
        self.body.len() + attributes.sum::<usize>()
    }
}

#[derive(Debug, Clone)]
struct Message {
    /// Tells copies apart that share a message id.
    copy: u64,
    id: String,
    content: NewMessage,
    sequence: u64,
    sent_ms: u64,
    /// From when retention counts.
    enqueued_ms: u64,
    visible_ms: u64,
    /// Number of receives, across all queues.
    receives: u32,
    first_received_ms: Option<u64>,
    last_received_ms: u64,
    receipt: u64,
    came_from: Option<String>,
    /// Whether it has survived a delete already.
    has_survived: bool,
}

impl Message {
    fn is_in_flight(&self, now_ms: u64) -> bool {
        self.receives > 0 && self.visible_ms > now_ms
    }
}

#[derive(Debug)]
struct Queue {
    name: String,
    settings: QueueSettings,
    messages: Vec<Message>,
    /// When a deduplication id was taken, and what its message got.
    deduplication: BTreeMap<String, (u64, Sent)>,
    /// What was counted after each change of the last minute.
    counted: VecDeque<(u64, [usize; 3])>,
    created_ms: u64,
}

#[derive(Debug)]
struct MoveTask {
    source_url: String,
    destination_url: Option<String>,
    begun_ms: u64,
    ends_ms: u64,
    to_move: usize,
    moved: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Sqs {
    queues: BTreeMap<String, Queue>,
    moves: Vec<MoveTask>,
    made: u64,
    /// Wakes whoever waits for a message.
    arrived: Arc<Notify>,
}

/// What a sender gets to know.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    id: String,
    sequence: u64,
}

/// A call that SQS refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    fn answer(&self) -> Answer {
        let code = format!("com.amazonaws.sqs#{}", self.code);
        let status = if self.code == "NotImplemented" { 501 } else { 400 };
        Answer::json_error(status, &code, &self.message)
    }
}

/// What SQS says besides its JSON, in a header, for clients that know the codes of its older protocol: those that have such
/// a code report it instead.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html>
pub(crate) fn query_error(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_str(&answer.body).ok()?;
    let code = body["__type"].as_str()?.strip_prefix("com.amazonaws.sqs#")?;
    Some(format!("{};Sender", query_code(code)))
}

fn query_code(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "EmptyBatchRequest"
        | "InvalidBatchEntryId"
        | "MessageNotInflight"
        | "TooManyEntriesInBatchRequest"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{code}"),
        _ => code.to_owned(),
    }
}

impl Queue {
    fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }

    fn arn(&self) -> String {
        format!("arn:aws:sqs:simulated:0:{}", self.name)
    }

    /// Waiting, in flight, delayed.
    fn count(&self, now_ms: u64) -> [usize; 3] {
        let mut counts = [0; 3];
        for message in &self.messages {
            let place = match (message.visible_ms > now_ms, message.receives) {
                (false, _) => 0,
                (true, 1..) => 1,
                (true, 0) => 2,
            };
            counts[place] += 1;
        }
        counts
    }

    /// Remembers the counts, for those who are given late ones.
    fn note_counts(&mut self, now_ms: u64) {
        let counts = self.count(now_ms);
        self.counted.push_back((now_ms, counts));
        let lag_max = now_ms.saturating_sub(COUNTS_LAG_MS_MAX);
        while self.counted.get(1).is_some_and(|(noted_ms, _)| *noted_ms <= lag_max) {
            self.counted.pop_front();
        }
    }

    /// The counts as they were, unless nothing has changed since.
    fn late_counts(&self, now_ms: u64, lag_ms: u64) -> [usize; 3] {
        let wanted_ms = now_ms.saturating_sub(lag_ms);
        let is_old = |(noted_ms, _): &&(u64, [usize; 3])| *noted_ms <= wanted_ms;
        match self.counted.iter().rev().find(is_old) {
            Some(noted) if Some(noted) != self.counted.back() => noted.1,
            Some(_) => self.count(now_ms),
            None => [0; 3],
        }
    }

    /// Drops what has been there for the retention period.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/setting-up-dead-letter-queue-retention.html>
    fn expire(&mut self, now_ms: u64) {
        let retention_ms = ms(self.settings.retention);
        self.messages.retain(|message| now_ms < message.enqueued_ms + retention_ms);
    }

    /// The groups of which nothing is given out, because a message of them is in flight.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html>
    fn blocked_groups(&self, now_ms: u64) -> BTreeSet<Option<String>> {
        let hidden = self.messages.iter().filter(|message| message.visible_ms > now_ms);
        hidden.map(|message| message.content.group_id.clone()).collect()
    }

    fn position(&self, copy: u64) -> Option<usize> {
        self.messages.iter().position(|message| message.copy == copy)
    }

    /// The message and the receipt that a receipt handle of this queue stands for.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html>
    fn read_handle(&self, handle: &str) -> Result<(u64, u64), Refusal> {
        let read = || {
            let [queue, copy, receipt] = *handle.split('#').collect::<Vec<_>>().as_slice() else {
                return None;
            };
            (queue == self.name).then_some((copy.parse().ok()?, receipt.parse().ok()?))
        };
        let invalid =
            || format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
        read().ok_or_else(|| Refusal::new("ReceiptHandleIsInvalid", invalid()))
    }

    fn handle(&self, message: &Message) -> String {
        format!("{}#{}#{}", self.name, message.copy, message.receipt)
    }
}

impl SimulatedAws {
    /// Makes a queue; its URL. A FIFO queue if the name ends with `.fifo`.
    pub fn create_queue(&self, name: &str, settings: QueueSettings) -> String {
        let url = format!("http://simulated.invalid/0/{name}");
        let queue = Queue {
            name: name.to_owned(),
            settings,
            messages: Vec::new(),
            deduplication: BTreeMap::new(),
            counted: VecDeque::new(),
            created_ms: self.now_ms(),
        };
        self.lock().sqs.queues.insert(url.clone(), queue);
        url
    }

    /// Deletes a queue with all that is on it.
    pub fn delete_queue(&self, queue_url: &str) {
        self.lock().sqs.queues.remove(queue_url);
    }

    /// Receives up to `max` messages as Lambda's event source mapping does: any of them, in any order.
    pub fn receive(&self, queue_url: &str, max: usize) -> Vec<Received> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        // SQS's refusal is nothing to a mapping: it polls again.
        let taken = take(&mut state, queue_url, max, None, true, now_ms).unwrap_or_default();
        let Some(queue) = state.sqs.queues.get(queue_url) else { return Vec::new() };
        taken
            .iter()
            .map(|message| Received {
                record: record(queue, message),
                receipt_handle: queue.handle(message),
            })
            .collect()
    }

    /// Deletes a message as Lambda's event source mapping does, which hears nothing of a refusal.
    pub fn delete(&self, queue_url: &str, receipt_handle: &str) {
        self.show_acknowledged(queue_url, receipt_handle);
        let now_ms = self.now_ms();
        // What was not deleted comes back.
        let _ = delete(&mut self.lock(), queue_url, receipt_handle, now_ms);
    }

    fn show_acknowledged(&self, queue_url: &str, receipt_handle: &str) {
        let acknowledged = {
            let state = self.lock();
            state.sqs.queues.get(queue_url).and_then(|queue| {
                let (copy, _) = queue.read_handle(receipt_handle).ok()?;
                queue.messages.iter().find(|message| message.copy == copy).cloned()
            })
        };
        if let Some(Message { id, content, .. }) = acknowledged {
            let (message_id, body) = (&*id, &*content.body);
            self.show(&Step::Acknowledged { queue_url, message_id, body });
        }
    }

    /// Puts a message on a queue, past the topic: nobody looks at what is in it.
    pub fn send(&self, queue_url: &str, body: &str, attributes: &BTreeMap<String, String>) {
        let now_ms = self.now_ms();
        deposit(&mut self.lock(), queue_url, NewMessage::of_texts(body, attributes), 0, now_ms);
    }

    /// Whether nothing is on a queue, not even hidden.
    #[must_use]
    pub fn is_empty(&self, queue_url: &str) -> bool {
        self.messages(queue_url).is_empty()
    }

    /// Returns when a message is visible on a queue: a poller that waits for it costs nothing meanwhile.
    pub async fn message_visible(&self, queue_url: &str) {
        loop {
            let (next_ms, arrived) = {
                let state = self.lock();
                let queue = state.sqs.queues.get(queue_url);
                let messages = queue.into_iter().flat_map(|queue| &queue.messages);
                let next_ms = messages.map(|message| message.visible_ms).min();
                (next_ms, state.sqs.arrived.clone())
            };
            let arrived = arrived.notified();
            let now_ms = self.now_ms();
            match next_ms {
                Some(at_ms) if at_ms <= now_ms => return,
                Some(at_ms) => tokio::select! {
                    biased;
                    () = arrived => {}
                    () = tokio::time::sleep(Duration::from_millis(at_ms - now_ms)) => {}
                },
                None => arrived.await,
            }
        }
    }

    /// The bodies on a queue, hidden ones too.
    #[must_use]
    pub fn bodies(&self, queue_url: &str) -> Vec<String> {
        let messages = self.messages(queue_url);
        messages.into_iter().map(|message| message.content.body).collect()
    }

    /// The attributes of the messages on a queue, those that are texts.
    #[must_use]
    pub fn message_attributes(&self, queue_url: &str) -> Vec<BTreeMap<String, String>> {
        let texts = |message: Message| {
            let attributes = message.content.attributes.into_iter();
            attributes
                .filter_map(|(name, attribute)| match attribute.value {
                    AttributeValue::Text(value) => Some((name, value)),
                    AttributeValue::Binary(_) => None,
                })
                .collect()
        };
        self.messages(queue_url).into_iter().map(texts).collect()
    }

    fn messages(&self, queue_url: &str) -> Vec<Message> {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        sns::give_up_old(&mut state, now_ms);
        run_moves(&mut state.sqs, now_ms);
        let Some(queue) = state.sqs.queues.get_mut(queue_url) else { return Vec::new() };
        queue.expire(now_ms);
        queue.messages.clone()
    }

    /// What time it is by AWS's own clock, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        ms(self.now())
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Attributes of a message, by the names that their type, text and bytes have there.
fn attributes_json<'a>(
    attributes: impl IntoIterator<Item = (&'a String, &'a Attribute)>,
    [type_name, text_name, bytes_name]: [&str; 3],
) -> Map<String, Value> {
    let attribute = |attribute: &Attribute| {
        let (name, value) = match &attribute.value {
            AttributeValue::Text(value) => (text_name, value),
            AttributeValue::Binary(value) => (bytes_name, value),
        };
        json!({ type_name: attribute.data_type, name: value })
    };
    attributes.into_iter().map(|(name, one)| (name.clone(), attribute(one))).collect()
}

/// A message as it stands in the event of a function.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>
fn record(queue: &Queue, message: &Message) -> Value {
    let names = ["dataType", "stringValue", "binaryValue"];
    let attributes = attributes_json(&message.content.attributes, names);
    json!({
        "messageId": message.id,
        "receiptHandle": queue.handle(message),
        "body": message.content.body,
        "attributes": system_attributes(message),
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.arn(),
        "awsRegion": "simulated",
    })
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
fn system_attributes(message: &Message) -> Map<String, Value> {
    let first_received_ms = message.first_received_ms.unwrap_or_default();
    let mut attributes = Map::new();
    let mut set = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value.into());
        }
    };
    set("ApproximateReceiveCount", Some(message.receives.to_string()));
    set("ApproximateFirstReceiveTimestamp", Some(first_received_ms.to_string()));
    set("SentTimestamp", Some(message.sent_ms.to_string()));
    set("SenderId", Some("0".to_owned()));
    set("MessageGroupId", message.content.group_id.clone());
    if message.sequence > 0 {
        set("MessageDeduplicationId", message.content.deduplication_id.clone());
        set("SequenceNumber", Some(format!("{:020}", message.sequence)));
    }
    set("DeadLetterQueueSourceArn", message.came_from.clone());
    attributes
}

/// Receives: any of what is visible, in any order; in a FIFO queue the first ones of any groups, in order.
///
/// A receive that does not wait asks some of SQS's servers only, so that it may come back empty; one that waits asks all.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html>
fn take(
    state: &mut State,
    queue_url: &str,
    max: usize,
    visibility_ms: Option<u64>,
    is_waiting: bool,
    now_ms: u64,
) -> Result<Vec<Message>, Refusal> {
    sns::give_up_old(state, now_ms);
    let State { sqs, random, .. } = state;
    run_moves(sqs, now_ms);
    redrive(sqs, queue_url, now_ms);
    let Sqs { queues, made, .. } = sqs;
    let Some(queue) = queues.get_mut(queue_url) else { return Err(no_such_queue(queue_url)) };
    let in_flight = queue.messages.iter().filter(|message| message.is_in_flight(now_ms)).count();
    if in_flight >= IN_FLIGHT_MAX {
        // A receive that waits, and one of a FIFO queue, hears nothing of it.
        // <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/troubleshooting-api-errors.html>
        return if is_waiting || queue.is_fifo() {
            Ok(Vec::new())
        } else {
            let why = format!("Too many messages in flight: {in_flight}");
            Err(Refusal::new("OverLimit", why))
        };
    }
    let max = max.min(IN_FLIGHT_MAX - in_flight);
    let mut choice = if queue.is_fifo() {
        first_of_groups(queue, random, now_ms, max)
    } else {
        visible_in_any_order(queue, random, now_ms, max)
    };
    if random.bool() {
        choice.truncate(random.usize(usize::from(is_waiting)..=choice.len().max(1)));
    }
    let visibility_ms = visibility_ms.unwrap_or_else(|| ms(queue.settings.visibility_timeout));
    let mut taken = Vec::new();
    for place in choice {
        *made += 1;
        let message = &mut queue.messages[place];
        message.receipt = *made;
        message.receives += 1;
        message.first_received_ms.get_or_insert(now_ms);
        message.last_received_ms = now_ms;
        message.visible_ms = now_ms + visibility_ms;
        taken.push(message.clone());
    }
    queue.note_counts(now_ms);
    Ok(taken)
}

/// The places of up to `max` messages that are visible, of two copies of a message one only.
fn visible_in_any_order(
    queue: &Queue,
    random: &mut fastrand::Rng,
    now_ms: u64,
    max: usize,
) -> Vec<usize> {
    let messages = queue.messages.iter().enumerate();
    let visible = messages.filter(|(_, message)| message.visible_ms <= now_ms);
    let mut places: Vec<usize> = visible.map(|(place, _)| place).collect();
    random.shuffle(&mut places);
    // As far as is needed: to compare all with each other would take most of the time of a large backlog.
    let mut ids = BTreeSet::new();
    let distinct = places.into_iter().filter(|place| ids.insert(&queue.messages[*place].id));
    distinct.take(max).collect()
}

/// The places of up to `max` messages that a FIFO queue can give out: group after group, each in its order.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/FIFO-queues-understanding-logic.html>
fn first_of_groups(
    queue: &Queue,
    random: &mut fastrand::Rng,
    now_ms: u64,
    max: usize,
) -> Vec<usize> {
    let blocked = queue.blocked_groups(now_ms);
    let mut groups: BTreeMap<&Option<String>, Vec<usize>> = BTreeMap::new();
    for (place, message) in queue.messages.iter().enumerate() {
        if !blocked.contains(&message.content.group_id) {
            groups.entry(&message.content.group_id).or_default().push(place);
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    random.shuffle(&mut groups);
    groups.into_iter().flatten().take(max).collect()
}

/// Moves what has been received often enough to the DLQ, at the receive that would be one too many.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>
fn redrive(sqs: &mut Sqs, queue_url: &str, now_ms: u64) {
    let Some(queue) = sqs.queues.get_mut(queue_url) else { return };
    queue.expire(now_ms);
    let Some((dlq_url, receives_max)) = queue.settings.redrive.clone() else { return };
    if !sqs.queues.contains_key(&dlq_url) {
        return;
    }
    let Some(queue) = sqs.queues.get_mut(queue_url) else { return };
    let (arn, is_fifo) = (queue.arn(), queue.is_fifo());
    let blocked = if is_fifo { queue.blocked_groups(now_ms) } else { BTreeSet::new() };
    let is_dead = |message: &Message| {
        message.visible_ms <= now_ms
            && message.receives >= receives_max
            && !blocked.contains(&message.content.group_id)
    };
    if !queue.messages.iter().any(is_dead) {
        return;
    }
    let (dead, alive): (Vec<_>, Vec<_>) =
        std::mem::take(&mut queue.messages).into_iter().partition(is_dead);
    queue.messages = alive;
    queue.note_counts(now_ms);
    let Some(dlq) = sqs.queues.get_mut(&dlq_url) else { return };
    for mut message in dead {
        message.came_from = Some(arn.clone());
        if is_fifo {
            // Retention counts anew, and another message with this deduplication id is not kept out.
            // <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>
            message.enqueued_ms = now_ms;
            message.content.deduplication_id = Some(message.id.clone());
        }
        dlq.messages.push(message);
    }
    dlq.note_counts(now_ms);
}

/// Ends the move tasks whose time has come: all that is visible goes, as new messages.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>
fn run_moves(sqs: &mut Sqs, now_ms: u64) {
    let Sqs { queues, moves, made, arrived } = sqs;
    for task in moves.iter_mut().filter(|task| task.moved.is_none() && task.ends_ms <= now_ms) {
        let Some(source) = queues.get_mut(&task.source_url) else { continue };
        source.expire(now_ms);
        let (moving, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut source.messages)
            .into_iter()
            .partition(|message| message.visible_ms <= now_ms);
        source.messages = staying;
        source.note_counts(now_ms);
        let mut moved = 0;
        for message in moving {
            let origin = message.came_from.as_deref().and_then(|arn| url_of(queues, arn));
            let Some(url) = task.destination_url.clone().or(origin) else {
                // It has no queue that it came from, and no other was named.
                if let Some(source) = queues.get_mut(&task.source_url) {
                    source.messages.push(message);
                }
                continue;
            };
            if let Some(destination) = queues.get_mut(&url) {
                *made += 1;
                let sequence = if destination.is_fifo() { *made } else { 0 };
                destination.messages.push(Message {
                    copy: *made,
                    id: made.to_string(),
                    content: message.content,
                    sequence,
                    sent_ms: now_ms,
                    enqueued_ms: now_ms,
                    visible_ms: now_ms,
                    receives: 0,
                    first_received_ms: None,
                    last_received_ms: 0,
                    receipt: 0,
                    came_from: None,
                    has_survived: false,
                });
                destination.note_counts(now_ms);
                arrived.notify_waiters();
                moved += 1;
            }
        }
        task.moved = Some(moved);
    }
}

fn url_of(queues: &BTreeMap<String, Queue>, arn: &str) -> Option<String> {
    queues.iter().find(|(_, queue)| queue.arn() == arn).map(|(url, _)| url.clone())
}

/// Whether SNS can deliver a message to a queue for good or ill: `false` is an error of the client, which is not repeated.
/// <https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html>
pub(crate) fn can_take(state: &State, queue_url: &str, message: &NewMessage) -> bool {
    let queue = state.sqs.queues.get(queue_url);
    queue.is_some_and(|queue| message.bytes() <= queue.settings.message_bytes_max)
}

/// Puts a message on a queue, in a standard queue perhaps twice. Not even SNS looks at what is in it.
pub(crate) fn deposit(
    state: &mut State,
    queue_url: &str,
    content: NewMessage,
    delay_ms: u64,
    now_ms: u64,
) -> Option<String> {
    put(state, queue_url, content, delay_ms, now_ms).map(|sent| sent.id)
}

fn put(
    state: &mut State,
    queue_url: &str,
    mut content: NewMessage,
    delay_ms: u64,
    now_ms: u64,
) -> Option<Sent> {
    let State { sqs: Sqs { queues, made, arrived, .. }, random, faults, .. } = state;
    let queue = queues.get_mut(queue_url)?;
    arrived.notify_waiters();
    *made += 1;
    let sent = Sent { id: made.to_string(), sequence: if queue.is_fifo() { *made } else { 0 } };
    let mut copies = 1;
    if queue.is_fifo() {
        let body = &content.body;
        let id = content.deduplication_id.get_or_insert_with(|| digest(body)).clone();
        queue.deduplication.retain(|_, (taken_ms, _)| now_ms < *taken_ms + DEDUPLICATION_MS);
        if let Some((_, first)) = queue.deduplication.get(&id) {
            return Some(first.clone());
        }
        queue.deduplication.insert(id, (now_ms, sent.clone()));
    } else if random.u64(0..1000) < faults.duplicate {
        copies = 2;
    }
    // Of two copies, both may have come about in SQS, which share their id, or on the way to it.
    let is_id_shared = random.bool();
    for nth in 0..copies {
        *made += 1;
        queue.messages.push(Message {
            copy: *made,
            id: if nth == 0 || is_id_shared { sent.id.clone() } else { made.to_string() },
            content: content.clone(),
            sequence: sent.sequence,
            sent_ms: now_ms,
            enqueued_ms: now_ms,
            visible_ms: now_ms + delay_ms,
            receives: 0,
            first_received_ms: None,
            last_received_ms: 0,
            receipt: 0,
            came_from: None,
            has_survived: false,
        });
    }
    queue.note_counts(now_ms);
    Some(sent)
}

/// Stands for the SHA-256 of a body, which only SQS itself looks at.
fn digest(body: &str) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Deletes a message. In a standard queue an older receipt handle may delete nothing, and a deleted message may come once
/// more; a FIFO queue refuses a handle whose visibility timeout has passed.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html>
/// <https://repost.aws/knowledge-center/sqs-receipt-handle-error>
fn delete(state: &mut State, queue_url: &str, handle: &str, now_ms: u64) -> Result<(), Refusal> {
    let State { sqs, random, faults, .. } = state;
    run_moves(sqs, now_ms);
    let queue = sqs.queues.get_mut(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    queue.expire(now_ms);
    let (copy, receipt) = queue.read_handle(handle)?;
    let Some(place) = queue.position(copy) else { return Ok(()) };
    let (is_fifo, visibility_ms) = (queue.is_fifo(), ms(queue.settings.visibility_timeout));
    let message = &mut queue.messages[place];
    let is_old = message.receipt != receipt;
    if is_fifo && (is_old || message.visible_ms <= now_ms) {
        return Err(expired_handle(handle));
    }
    if is_old && random.bool() {
        return Ok(());
    }
    if !is_fifo && !message.has_survived && random.u64(0..1000) < faults.duplicate {
        message.has_survived = true;
        message.visible_ms = now_ms + random.u64(0..=visibility_ms);
        sqs.arrived.notify_waiters();
        return Ok(());
    }
    queue.messages.remove(place);
    queue.note_counts(now_ms);
    Ok(())
}

/// Hides a message for a time from now on. Nothing hides one for more than twelve hours from its receive.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html>
fn change_visibility(
    state: &mut State,
    queue_url: &str,
    entry: &Value,
    now_ms: u64,
) -> Result<(), Refusal> {
    let seconds = number(entry, "VisibilityTimeout", VISIBILITY_TIMEOUT_SECONDS_MAX)?
        .ok_or_else(|| missing("VisibilityTimeout"))?;
    let handle = text(entry, "ReceiptHandle").ok_or_else(|| missing("ReceiptHandle"))?;
    let State { sqs, random, .. } = state;
    run_moves(sqs, now_ms);
    let queue = sqs.queues.get_mut(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    queue.expire(now_ms);
    let (copy, receipt) = queue.read_handle(handle)?;
    let invalid = |reason: &str| {
        let value = format!("Value {handle} for parameter ReceiptHandle is invalid.");
        Refusal::invalid(format!("{value} Reason: {reason}"))
    };
    let is_fifo = queue.is_fifo();
    let gone = "Message does not exist or is not available for visibility timeout change.";
    let place = queue.position(copy).ok_or_else(|| invalid(gone))?;
    let message = &mut queue.messages[place];
    if is_fifo && message.receipt != receipt {
        return Err(expired_handle(handle));
    }
    // With a standard queue an old handle might still work.
    // <https://repost.aws/knowledge-center/sqs-receipt-handle-error>
    let is_refused = message.receipt != receipt && random.bool();
    if is_refused || !message.is_in_flight(now_ms) {
        return Err(Refusal::new("MessageNotInflight", "The message referred to isn't in flight."));
    }
    let visible_ms = now_ms + seconds * SECOND_MS;
    if visible_ms > message.last_received_ms + VISIBILITY_TIMEOUT_SECONDS_MAX * SECOND_MS {
        return Err(invalid(&format!(
            "Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_TIMEOUT_SECONDS_MAX} seconds]"
        )));
    }
    message.visible_ms = visible_ms;
    queue.note_counts(now_ms);
    sqs.arrived.notify_waiters();
    Ok(())
}

fn no_such_queue(queue_url: &str) -> Refusal {
    Refusal::new("QueueDoesNotExist", format!("The specified queue does not exist: {queue_url}"))
}

fn expired_handle(handle: &str) -> Refusal {
    let value = format!("Value {handle} for parameter ReceiptHandle is invalid.");
    Refusal::invalid(format!("{value} Reason: The receipt handle has expired."))
}

fn missing(name: &str) -> Refusal {
    let message = format!("The request must contain the parameter {name}.");
    Refusal::new("MissingParameter", message)
}

fn text<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    request[name].as_str()
}

/// A whole number from zero to `max`, or `None` if there is none.
fn number(request: &Value, name: &str, max: u64) -> Result<Option<u64>, Refusal> {
    match &request[name] {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(number) if number <= max => Ok(Some(number)),
            _ => Err(Refusal::invalid(format!(
                "Value {value} for parameter {name} is invalid. Reason: Must be between 0 and {max}, if provided."
            ))),
        },
    }
}

/// Whether SQS takes this character.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The attributes of a message that is sent, as AWS wants them.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
fn read_attributes(entry: &Value) -> Result<Attributes, Refusal> {
    let given = entry["MessageAttributes"].as_object().into_iter().flatten();
    let attributes: Result<Attributes, Refusal> =
        given.map(|(name, value)| Ok((name.clone(), read_attribute(name, value)?))).collect();
    let attributes = attributes?;
    if attributes.len() > ATTRIBUTES_MAX {
        let number = attributes.len();
        return Err(Refusal::invalid(format!(
            "Number of message attributes [{number}] exceeds the allowed maximum [{ATTRIBUTES_MAX}]."
        )));
    }
    Ok(attributes)
}

fn read_attribute(name: &str, value: &Value) -> Result<Attribute, Refusal> {
    let invalid = |why: &str| Refusal::invalid(format!("Message (user) attribute '{name}' {why}"));
    let lower = name.to_lowercase();
    let is_name = (1..=256).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !lower.starts_with("aws.")
        && !lower.starts_with("amazon.");
    if !is_name {
        return Err(invalid("has a name that is not allowed."));
    }
    let data_type = text(value, "DataType").unwrap_or_default();
    let value = match data_type.split('.').next() {
        Some("String" | "Number") => {
            text(value, "StringValue").map(|value| AttributeValue::Text(value.to_owned()))
        }
        Some("Binary") => {
            text(value, "BinaryValue").map(|value| AttributeValue::Binary(value.to_owned()))
        }
        _ => return Err(invalid("has an unsupported type.")),
    };
    match value {
        Some(AttributeValue::Text(value)) if !value.chars().all(is_allowed) => {
            Err(Refusal::invalid(format!("Invalid characters found in attribute '{name}'.")))
        }
        Some(AttributeValue::Text(value) | AttributeValue::Binary(value)) if value.is_empty() => {
            Err(invalid(&format!("must contain a non-empty value of type '{data_type}'.")))
        }
        Some(value) => Ok(Attribute { data_type: data_type.to_owned(), value }),
        None => Err(invalid(&format!("must contain a non-empty value of type '{data_type}'."))),
    }
}

/// What is sent, and after what delay.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn read_message(queue: &Queue, entry: &Value) -> Result<(NewMessage, u64), Refusal> {
    let body = text(entry, "MessageBody").unwrap_or_default();
    if body.is_empty() {
        return Err(missing("MessageBody"));
    }
    if !body.chars().all(is_allowed) {
        let why = "Invalid binary character was found in the message body, the set of allowed characters is \
                   #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";
        return Err(Refusal::new("InvalidMessageContents", why));
    }
    let message = NewMessage {
        body: body.to_owned(),
        attributes: read_attributes(entry)?,
        group_id: text(entry, "MessageGroupId").map(str::to_owned),
        deduplication_id: text(entry, "MessageDeduplicationId").map(str::to_owned),
    };
    let bytes_max = queue.settings.message_bytes_max;
    if message.bytes() > bytes_max {
        return Err(Refusal::invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {bytes_max} bytes."
        )));
    }
    let delay = number(entry, "DelaySeconds", DELAY_SECONDS_MAX)?;
    check_fifo(queue, &message, delay)?;
    let delay_ms = delay.map_or_else(|| ms(queue.settings.delay), |seconds| seconds * SECOND_MS);
    Ok((message, delay_ms))
}

fn check_fifo(queue: &Queue, message: &NewMessage, delay: Option<u64>) -> Result<(), Refusal> {
    let unfit = |name: &str| {
        let why = "The request include parameter that is not valid for this queue type.";
        Refusal::invalid(format!("Value for parameter {name} is invalid. Reason: {why}"))
    };
    let ids = [&message.group_id, &message.deduplication_id];
    let is_id =
        |id: &str| (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic());
    if !ids.into_iter().flatten().all(|id| is_id(id)) {
        return Err(unfit("MessageGroupId or MessageDeduplicationId"));
    }
    if !queue.is_fifo() {
        // A group id is for fair queues, which promise no order.
        return match &message.deduplication_id {
            Some(_) => Err(unfit("MessageDeduplicationId")),
            None => Ok(()),
        };
    }
    if delay.is_some_and(|seconds| seconds > 0) {
        return Err(unfit("DelaySeconds"));
    }
    if message.group_id.is_none() {
        return Err(missing("MessageGroupId"));
    }
    if message.deduplication_id.is_none() && !queue.settings.is_deduplicated_by_content {
        return Err(Refusal::invalid(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
        ));
    }
    Ok(())
}

fn send(state: &mut State, queue_url: &str, entry: &Value, now_ms: u64) -> Result<Value, Refusal> {
    let queue = state.sqs.queues.get(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    let (message, delay_ms) = read_message(queue, entry)?;
    let sent = put(state, queue_url, message, delay_ms, now_ms);
    let sent = sent.ok_or_else(|| no_such_queue(queue_url))?;
    let mut answer = json!({ "MessageId": sent.id });
    if sent.sequence > 0 {
        answer["SequenceNumber"] = format!("{:020}", sent.sequence).into();
    }
    Ok(answer)
}

/// The entries of a batch: one to ten, each with an id of its own.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-batch-api-actions.html>
fn read_entries(request: &Value) -> Result<Vec<(String, Value)>, Refusal> {
    let entries = request["Entries"].as_array().cloned().unwrap_or_default();
    if entries.is_empty() {
        return Err(Refusal::new("EmptyBatchRequest", "The batch contains no entries."));
    }
    if entries.len() > ENTRIES_MAX {
        let why = format!("Maximum number of entries per request are {ENTRIES_MAX}.");
        return Err(Refusal::new("TooManyEntriesInBatchRequest", why));
    }
    let mut ids = BTreeSet::new();
    let mut read = Vec::new();
    for entry in entries {
        let id = text(&entry, "Id").unwrap_or_default().to_owned();
        let is_id = (1..=80).contains(&id.len())
            && id.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !is_id {
            let why = "A batch entry id can only contain alphanumeric characters, hyphens and underscores.";
            return Err(Refusal::new("InvalidBatchEntryId", why));
        }
        if !ids.insert(id.clone()) {
            return Err(Refusal::new("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
        }
        read.push((id, entry));
    }
    Ok(read)
}

/// Carries out a batch entry by entry. Some of them may fail by themselves.
fn run_batch(
    state: &mut State,
    entries: Vec<(String, Value)>,
    run: impl Fn(&mut State, &Value) -> Result<Value, Refusal>,
) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, entry) in entries {
        if state.random.u64(0..1000) < state.faults.partial {
            failed.push(json!({ "Id": id, "Code": "InternalError", "SenderFault": false }));
            continue;
        }
        match run(state, &entry) {
            Ok(mut answer) => {
                answer["Id"] = id.into();
                successful.push(answer);
            }
            Err(Refusal { code, message }) => failed.push(json!({
                "Id": id, "Code": query_code(code), "Message": message, "SenderFault": true,
            })),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
async fn receive_message(aws: &SimulatedAws, request: &Value) -> Result<Value, Refusal> {
    let queue_url = text(request, "QueueUrl").unwrap_or_default();
    let max = match &request["MaxNumberOfMessages"] {
        Value::Null => 1,
        value => match value.as_u64().and_then(|max| usize::try_from(max).ok()) {
            Some(max) if (1..=ENTRIES_MAX).contains(&max) => max,
            _ => {
                return Err(Refusal::invalid(format!(
                    "Value {value} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and \
                     {ENTRIES_MAX}, if provided."
                )));
            }
        },
    };
    let visibility = number(request, "VisibilityTimeout", VISIBILITY_TIMEOUT_SECONDS_MAX)?;
    let visibility_ms = visibility.map(|seconds| seconds * SECOND_MS);
    let wait_ms = number(request, "WaitTimeSeconds", WAIT_SECONDS_MAX)?.unwrap_or(0) * SECOND_MS;
    if !request["ReceiveRequestAttemptId"].is_null() {
        return Err(Refusal::new("NotImplemented", "ReceiveRequestAttemptId"));
    }
    let end_ms = aws.now_ms() + wait_ms;
    loop {
        let now_ms = aws.now_ms();
        {
            let mut state = aws.lock();
            let taken = take(&mut state, queue_url, max, visibility_ms, wait_ms > 0, now_ms)?;
            let queue = state.sqs.queues.get(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
            if !taken.is_empty() {
                let messages: Vec<Value> =
                    taken.iter().map(|message| received(queue, message, request)).collect();
                return Ok(json!({ "Messages": messages }));
            }
        }
        if now_ms >= end_ms {
            return Ok(json!({}));
        }
        tokio::time::sleep(Duration::from_millis(POLL_MS.min(end_ms - now_ms))).await;
    }
}

/// A message as ReceiveMessage answers it: with those attributes that were asked for.
fn received(queue: &Queue, message: &Message, request: &Value) -> Value {
    let asked = |field: &str| -> Vec<String> {
        let names = request[field].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let system_asked = [asked("AttributeNames"), asked("MessageSystemAttributeNames")].concat();
    let is_system_asked = |name: &str| system_asked.iter().any(|one| one == "All" || one == name);
    let mut system = system_attributes(message);
    system.retain(|name, _| is_system_asked(name));
    let own_asked = asked("MessageAttributeNames");
    let is_own_asked = |name: &str| {
        own_asked.iter().any(|asked| match asked.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => asked == "All" || asked == name,
        })
    };
    let own = message.content.attributes.iter().filter(|(name, _)| is_own_asked(name));
    let own = attributes_json(own, ["DataType", "StringValue", "BinaryValue"]);
    let mut answer = json!({
        "MessageId": message.id,
        "ReceiptHandle": queue.handle(message),
        "Body": message.content.body,
    });
    if !system.is_empty() {
        answer["Attributes"] = system.into();
    }
    if !own.is_empty() {
        answer["MessageAttributes"] = own.into();
    }
    answer
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
fn queue_attributes(
    state: &mut State,
    queue_url: &str,
    request: &Value,
    now_ms: u64,
) -> Result<Value, Refusal> {
    const COUNTS: [&str; 3] = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ];
    let State { sqs, random, .. } = state;
    run_moves(sqs, now_ms);
    let dlq_arn = |url: &str| sqs.queues.get(url).map(Queue::arn);
    let queue = sqs.queues.get(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    let seconds = |duration: Duration| duration.as_secs().to_string();
    let settings = &queue.settings;
    let created = (queue.created_ms / SECOND_MS).to_string();
    let mut all: BTreeMap<&str, String> = BTreeMap::from([
        ("QueueArn", queue.arn()),
        ("VisibilityTimeout", seconds(settings.visibility_timeout)),
        ("MessageRetentionPeriod", seconds(settings.retention)),
        ("DelaySeconds", seconds(settings.delay)),
        ("MaximumMessageSize", settings.message_bytes_max.to_string()),
        ("ReceiveMessageWaitTimeSeconds", "0".to_owned()),
        ("CreatedTimestamp", created.clone()),
        ("LastModifiedTimestamp", created),
    ]);
    if let Some((url, receives_max)) = &settings.redrive {
        let policy = json!({
            "deadLetterTargetArn": dlq_arn(url),
            "maxReceiveCount": receives_max,
        });
        all.insert("RedrivePolicy", policy.to_string());
    }
    if queue.is_fifo() {
        all.insert("FifoQueue", "true".to_owned());
        let is_by_content = settings.is_deduplicated_by_content;
        all.insert("ContentBasedDeduplication", is_by_content.to_string());
    }
    // Expired messages are not counted, and what nobody has received yet is not redriven.
    let queue = sqs.queues.get_mut(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    queue.expire(now_ms);
    let lag_ms = if random.bool() { 0 } else { random.u64(0..COUNTS_LAG_MS_MAX) };
    for (name, count) in COUNTS.into_iter().zip(queue.late_counts(now_ms, lag_ms)) {
        all.insert(name, count.to_string());
    }
    let asked = request["AttributeNames"].as_array().into_iter().flatten();
    let mut answer = Map::new();
    for name in asked.filter_map(Value::as_str) {
        match all.get(name) {
            _ if name == "All" => {
                let all =
                    all.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into()));
                answer.extend(all);
            }
            Some(value) => _ = answer.insert(name.to_owned(), value.clone().into()),
            // One that this queue has not.
            None if ["RedrivePolicy", "FifoQueue", "ContentBasedDeduplication"].contains(&name) => {
            }
            None => {
                let why = format!("Unknown Attribute {name}.");
                return Err(Refusal::new("InvalidAttributeName", why));
            }
        }
    }
    Ok(json!({ "Attributes": answer }))
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>
fn start_move(state: &mut State, request: &Value, now_ms: u64) -> Result<Value, Refusal> {
    let State { sqs, random, .. } = state;
    run_moves(sqs, now_ms);
    let find = |arn: &str| {
        let why = "The resource that you specified for the ARN parameter doesn't exist.";
        url_of(&sqs.queues, arn).ok_or_else(|| Refusal::new("ResourceNotFoundException", why))
    };
    let source_url = find(text(request, "SourceArn").unwrap_or_default())?;
    let destination_url = text(request, "DestinationArn").map(find).transpose()?;
    let targets = sqs.queues.values().filter_map(|queue| queue.settings.redrive.as_ref());
    if !targets.into_iter().any(|(dlq_url, _)| *dlq_url == source_url) {
        return Err(Refusal::invalid("Source queue must be configured as a Dead Letter Queue."));
    }
    if sqs.moves.iter().any(|task| task.source_url == source_url && task.moved.is_none()) {
        let why = "There is already a task running. Only one active task is allowed for a source queue arn at a given time.";
        return Err(Refusal::new("UnsupportedOperation", why));
    }
    sqs.moves.push(MoveTask {
        to_move: sqs.queues.get(&source_url).map_or(0, |queue| queue.messages.len()),
        source_url,
        destination_url,
        begun_ms: now_ms,
        ends_ms: now_ms + random.u64(MOVE_MS_MIN..MOVE_MS_MAX),
        moved: None,
    });
    Ok(json!({ "TaskHandle": format!("move-{}", sqs.moves.len()) }))
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListMessageMoveTasks.html>
fn list_moves(state: &mut State, request: &Value, now_ms: u64) -> Result<Value, Refusal> {
    run_moves(&mut state.sqs, now_ms);
    let sqs = &state.sqs;
    let source_arn = text(request, "SourceArn").unwrap_or_default();
    let source_url = url_of(&sqs.queues, source_arn).ok_or_else(|| {
        let why = "The resource that you specified for the SourceArn parameter doesn't exist.";
        Refusal::new("ResourceNotFoundException", why)
    })?;
    let max = request["MaxResults"].as_u64().and_then(|max| max.try_into().ok()).unwrap_or(1);
    let arn_of =
        |url: &Option<String>| url.as_ref().and_then(|url| sqs.queues.get(url)).map(Queue::arn);
    let tasks = sqs.moves.iter().rev().filter(|task| task.source_url == source_url).take(max);
    let results: Vec<Value> = tasks
        .map(|task| {
            json!({
                "Status": if task.moved.is_some() { "COMPLETED" } else { "RUNNING" },
                "SourceArn": source_arn,
                "DestinationArn": arn_of(&task.destination_url),
                "ApproximateNumberOfMessagesMoved": task.moved.unwrap_or(0),
                "ApproximateNumberOfMessagesToMove": task.to_move,
                "StartedTimestamp": task.begun_ms,
            })
        })
        .collect();
    Ok(json!({ "Results": results }))
}

/// Carries out a call.
pub(crate) async fn serve(aws: &SimulatedAws, operation: &str, request: &Value) -> Answer {
    let answered = match operation {
        "ReceiveMessage" => receive_message(aws, request).await,
        _ => serve_at_once(aws, operation, request),
    };
    match answered {
        Ok(answer) => Answer::ok(answer),
        Err(refusal) => refusal.answer(),
    }
}

fn serve_at_once(aws: &SimulatedAws, operation: &str, request: &Value) -> Result<Value, Refusal> {
    let now_ms = aws.now_ms();
    let mut state = aws.lock();
    let state = &mut *state;
    match operation {
        "StartMessageMoveTask" => return start_move(state, request, now_ms),
        "ListMessageMoveTasks" => return list_moves(state, request, now_ms),
        _ => {}
    }
    let queue_url = text(request, "QueueUrl").unwrap_or_default();
    let queue = state.sqs.queues.get_mut(queue_url).ok_or_else(|| no_such_queue(queue_url))?;
    if queue.counted.is_empty() {
        queue.note_counts(now_ms);
    }
    let delete_entry = |state: &mut State, entry: &Value| {
        let handle = text(entry, "ReceiptHandle").ok_or_else(|| missing("ReceiptHandle"))?;
        delete(state, queue_url, handle, now_ms).map(|()| json!({}))
    };
    let change_entry = |state: &mut State, entry: &Value| {
        change_visibility(state, queue_url, entry, now_ms).map(|()| json!({}))
    };
    match operation {
        "SendMessage" => send(state, queue_url, request, now_ms),
        "DeleteMessage" => delete_entry(state, request),
        "ChangeMessageVisibility" => change_entry(state, request),
        "GetQueueAttributes" => queue_attributes(state, queue_url, request, now_ms),
        "SendMessageBatch" => {
            let entries = read_entries(request)?;
            let bytes = |(_, entry): &(String, Value)| {
                let attributes = read_attributes(entry).unwrap_or_default();
                let body = text(entry, "MessageBody").unwrap_or_default().to_owned();
                NewMessage { body, attributes, ..NewMessage::default() }.bytes()
            };
            let bytes: usize = entries.iter().map(bytes).sum();
            if bytes > BYTES_MAX {
                let why = format!(
                    "Batch requests cannot be longer than {BYTES_MAX} bytes. You have sent {bytes} bytes."
                );
                return Err(Refusal::new("BatchRequestTooLong", why));
            }
            let send_entry =
                |state: &mut State, entry: &Value| send(state, queue_url, entry, now_ms);
            Ok(run_batch(state, entries, send_entry))
        }
        "DeleteMessageBatch" => Ok(run_batch(state, read_entries(request)?, delete_entry)),
        "ChangeMessageVisibilityBatch" => {
            Ok(run_batch(state, read_entries(request)?, change_entry))
        }
        _ => Err(Refusal::new("NotImplemented", operation)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Faults;

    /// A queue with as many messages in flight as it may have, and one that waits.
    fn full(name: &str) -> (SimulatedAws, String) {
        let aws = SimulatedAws::new(1, Faults::default());
        let url = aws.create_queue(name, QueueSettings::default());
        let now_ms = aws.now_ms();
        let message = |group: &str| NewMessage {
            body: group.to_owned(),
            group_id: Some(group.to_owned()),
            ..NewMessage::default()
        };
        deposit(&mut aws.lock(), &url, message("in flight"), 0, now_ms);
        assert_eq!(aws.receive(&url, 1).len(), 1);
        if let Some(queue) = aws.lock().sqs.queues.get_mut(&url) {
            let one = queue.messages[0].clone();
            queue.messages.resize(IN_FLIGHT_MAX, one);
        }
        deposit(&mut aws.lock(), &url, message("waits"), 0, now_ms);
        (aws, url)
    }

    fn try_take(aws: &SimulatedAws, url: &str, is_waiting: bool) -> Result<usize, Refusal> {
        let now_ms = aws.now_ms();
        take(&mut aws.lock(), url, 10, None, is_waiting, now_ms).map(|taken| taken.len())
    }

    #[tokio::test(start_paused = true)]
    async fn with_120_000_messages_in_flight_a_receive_gets_none_and_is_refused_if_it_does_not_wait()
     {
        let (aws, url) = full("queue");
        assert_eq!(try_take(&aws, &url, false).map_err(|refusal| refusal.code), Err("OverLimit"));
        assert_eq!(try_take(&aws, &url, true), Ok(0));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(try_take(&aws, &url, true).is_ok_and(|taken| taken > 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifo_queue_says_nothing_of_120_000_messages_in_flight() {
        let (aws, url) = full("queue.fifo");
        assert_eq!(try_take(&aws, &url, false), Ok(0));
        assert_eq!(try_take(&aws, &url, true), Ok(0));
    }
}
