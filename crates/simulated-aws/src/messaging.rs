//! SNS and SQS: a topic that copies to queues, and queues that deliver at least once, in any order.
//!
//! Semantics and their sources: a message may be delivered more than once and out of order
//! (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html>); it is invisible for its
//! visibility timeout, then comes back with a higher receive count, and beyond `maxReceiveCount` goes to the DLQ
//! (<https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>); a batch may fail in part
//! (<https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html>).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use crate::{SimulatedAws, State, wire::Answer};

/// How a queue behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// How long a received message stays hidden, unless its receiver says otherwise.
    pub visibility_timeout: Duration,
    /// Where a message goes after this number of receives, if anywhere.
    pub redrive: Option<(String, u32)>,
}

/// One received message, as an event source mapping hands it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its record in the event of a Lambda function.
    pub record: Value,
    /// What deletes it.
    pub receipt_handle: String,
}

#[derive(Debug, Clone)]
struct Message {
    id: u64,
    body: String,
    attributes: BTreeMap<String, String>,
    visible_at: Instant,
    receives: u32,
    first_received_ms: Option<u128>,
    receipt: u64,
}

#[derive(Debug)]
struct Queue {
    settings: QueueSettings,
    messages: Vec<Message>,
}

#[derive(Debug)]
struct Subscription {
    queue: String,
    event_types: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Messaging {
    queues: BTreeMap<String, Queue>,
    subscriptions: Vec<Subscription>,
    made: u64,
    /// Wakes whoever waits for a message.
    arrived: Arc<Notify>,
}

/// How late a copy of a published message may arrive.
const FAN_OUT_MS_MAX: u64 = 3000;

impl SimulatedAws {
    /// Makes a queue; its URL.
    pub fn create_queue(&self, name: &str, settings: QueueSettings) -> String {
        let url = format!("http://simulated.invalid/0/{name}");
        let queue = Queue { settings, messages: Vec::new() };
        self.lock().messaging.queues.insert(url.clone(), queue);
        url
    }

    /// Has a queue get what is published with one of these values of the attribute `event_type`, delivered raw.
    pub fn subscribe(&self, queue_url: &str, event_types: &[&str]) {
        let event_types = event_types.iter().map(|event_type| (*event_type).to_owned()).collect();
        let subscription = Subscription { queue: queue_url.to_owned(), event_types };
        self.lock().messaging.subscriptions.push(subscription);
    }

    /// Receives up to `max` messages as Lambda's event source mapping does, in any order.
    pub fn receive(&self, queue_url: &str, max: usize) -> Vec<Received> {
        let now_ms = self.now().as_millis();
        let mut state = self.lock();
        redrive(&mut state, queue_url);
        let State { messaging, random, .. } = &mut *state;
        let now = Instant::now();
        let Messaging { queues, made, .. } = messaging;
        let Some(queue) = queues.get_mut(queue_url) else { return Vec::new() };
        random.shuffle(&mut queue.messages);
        let mut received = Vec::new();
        for message in
            queue.messages.iter_mut().filter(|message| message.visible_at <= now).take(max)
        {
            *made += 1;
            message.receipt = *made;
            message.receives += 1;
            message.visible_at = now + queue.settings.visibility_timeout;
            let first = *message.first_received_ms.get_or_insert(now_ms);
            let attributes: serde_json::Map<String, Value> = message
                .attributes
                .iter()
                .map(|(name, value)| {
                    (name.clone(), json!({ "dataType": "String", "stringValue": value }))
                })
                .collect();
            let record = json!({
                "messageId": message.id.to_string(),
                "receiptHandle": message.receipt.to_string(),
                "body": message.body,
                "attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "ApproximateFirstReceiveTimestamp": first.to_string(),
                },
                "messageAttributes": attributes,
            });
            received.push(Received { record, receipt_handle: message.receipt.to_string() });
        }
        received
    }

    /// Deletes a message by its last receipt. An older receipt may delete nothing.
    pub fn delete(&self, queue_url: &str, receipt_handle: &str) {
        if let Some(queue) = self.lock().messaging.queues.get_mut(queue_url) {
            queue.messages.retain(|message| message.receipt.to_string() != receipt_handle);
        }
    }

    /// The bodies on a queue, hidden ones too.
    #[must_use]
    pub fn bodies(&self, queue_url: &str) -> Vec<String> {
        let mut state = self.lock();
        redrive(&mut state, queue_url);
        let queue = state.messaging.queues.get(queue_url);
        let messages = queue.into_iter().flat_map(|queue| &queue.messages);
        messages.map(|message| message.body.clone()).collect()
    }

    /// The attributes of the messages on a queue.
    #[must_use]
    pub fn message_attributes(&self, queue_url: &str) -> Vec<BTreeMap<String, String>> {
        let state = self.lock();
        let queue = state.messaging.queues.get(queue_url);
        let messages = queue.into_iter().flat_map(|queue| &queue.messages);
        messages.map(|message| message.attributes.clone()).collect()
    }
}

impl SimulatedAws {
    /// Puts a message on a queue, past the topic.
    pub fn send(&self, queue_url: &str, body: &str, attributes: &BTreeMap<String, String>) {
        put(&mut self.lock(), queue_url, body, attributes, 0);
    }

    /// Publishes a message to the topic, as something outside the simulated functions.
    pub fn publish(&self, body: &str, attributes: &BTreeMap<String, String>) {
        let mut state = self.lock();
        let event_type = attributes.get("event_type").cloned().unwrap_or_default();
        let subscriptions = state.messaging.subscriptions.iter();
        let taking = subscriptions.filter(|one| one.event_types.contains(&event_type));
        let queues: Vec<String> = taking.map(|one| one.queue.clone()).collect();
        for queue in queues {
            put(&mut state, &queue, body, attributes, FAN_OUT_MS_MAX);
        }
    }

    /// Whether nothing is on a queue, not even hidden.
    #[must_use]
    pub fn is_empty(&self, queue_url: &str) -> bool {
        let mut state = self.lock();
        redrive(&mut state, queue_url);
        state.messaging.queues.get(queue_url).is_none_or(|queue| queue.messages.is_empty())
    }

    /// Returns when a message is visible on a queue: a poller that waits for it costs nothing meanwhile.
    pub async fn message_visible(&self, queue_url: &str) {
        loop {
            let (next, arrived) = {
                let state = self.lock();
                let queue = state.messaging.queues.get(queue_url);
                let messages = queue.into_iter().flat_map(|queue| &queue.messages);
                let next = messages.map(|message| message.visible_at).min();
                (next, state.messaging.arrived.clone())
            };
            let arrived = arrived.notified();
            match next {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    biased;
                    () = arrived => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => arrived.await,
            }
        }
    }
}

/// Moves what was received too often to the DLQ.
fn redrive(state: &mut State, queue_url: &str) {
    let now = Instant::now();
    let Some(queue) = state.messaging.queues.get_mut(queue_url) else { return };
    let Some((dlq_url, receives_max)) = queue.settings.redrive.clone() else { return };
    let (dead, alive): (Vec<Message>, Vec<Message>) = std::mem::take(&mut queue.messages)
        .into_iter()
        .partition(|message| message.visible_at <= now && message.receives >= receives_max);
    queue.messages = alive;
    if let Some(dlq) = state.messaging.queues.get_mut(&dlq_url) {
        dlq.messages.extend(dead);
    }
}

fn put(
    state: &mut State,
    queue_url: &str,
    body: &str,
    attributes: &BTreeMap<String, String>,
    delay_ms_max: u64,
) -> bool {
    let copies = 1 + u64::from(state.random.u64(0..1000) < state.faults.duplicate);
    let State { messaging: Messaging { queues, made, arrived, .. }, random, .. } = state;
    let Some(queue) = queues.get_mut(queue_url) else { return false };
    arrived.notify_waiters();
    *made += 1;
    let id = *made;
    for _ in 0..copies {
        *made += 1;
        queue.messages.push(Message {
            id: if copies == 1 { id } else { *made },
            body: body.to_owned(),
            attributes: attributes.clone(),
            visible_at: Instant::now() + Duration::from_millis(random.u64(0..=delay_ms_max)),
            receives: 0,
            first_received_ms: None,
            receipt: 0,
        });
    }
    true
}

pub(crate) fn serve_sqs(aws: &SimulatedAws, operation: &str, body: &Value) -> Answer {
    let mut state = aws.lock();
    let queue_url = body["QueueUrl"].as_str().unwrap_or_default();
    if !state.messaging.queues.contains_key(queue_url) {
        return Answer::json_error(400, "QueueDoesNotExist", queue_url);
    }
    match operation {
        "SendMessage" => {
            let attributes = body["MessageAttributes"].as_object().into_iter().flatten();
            let attributes = attributes
                .filter_map(|(name, value)| {
                    Some((name.clone(), value["StringValue"].as_str()?.to_owned()))
                })
                .collect();
            let text = body["MessageBody"].as_str().unwrap_or_default();
            put(&mut state, queue_url, text, &attributes, 0);
            Answer::ok(json!({ "MessageId": state.messaging.made.to_string() }))
        }
        "ChangeMessageVisibility" => {
            let receipt = body["ReceiptHandle"].as_str().unwrap_or_default();
            let pause = Duration::from_secs(body["VisibilityTimeout"].as_u64().unwrap_or_default());
            let queue = state.messaging.queues.get_mut(queue_url);
            let mut messages = queue.into_iter().flat_map(|queue| &mut queue.messages);
            let message = messages.find(|message| message.receipt.to_string() == receipt);
            let Some(message) = message else {
                return Answer::json_error(400, "MessageNotInflight", receipt);
            };
            message.visible_at = Instant::now() + pause;
            state.messaging.arrived.notify_waiters();
            Answer::ok("{}")
        }
        _ => Answer::json_error(501, "NotImplemented", operation),
    }
}

/// The entries of a batch, by their place in the form.
fn entries(form: &[(String, String)]) -> BTreeMap<u32, BTreeMap<&str, &str>> {
    let mut entries: BTreeMap<u32, BTreeMap<&str, &str>> = BTreeMap::new();
    for (name, value) in form {
        let field = name.strip_prefix("PublishBatchRequestEntries.member.");
        let field = field.and_then(|rest| rest.split_once('.'));
        if let Some((place, field)) = field
            && let Ok(place) = place.parse()
        {
            entries.entry(place).or_default().insert(field, value);
        }
    }
    entries
}

pub(crate) fn serve_sns(aws: &SimulatedAws, form: &[(String, String)]) -> Answer {
    let mut state = aws.lock();
    if !form.iter().any(|(name, value)| name == "Action" && value == "PublishBatch") {
        return Answer::xml_error(501, "NotImplemented", "only PublishBatch");
    }
    let (mut successful, mut failed) = (String::new(), String::new());
    for fields in entries(form).values() {
        let id = fields.get("Id").copied().unwrap_or_default();
        if state.random.u64(0..1000) < state.faults.partial {
            failed += &format!(
                "<member><Id>{id}</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member>"
            );
            continue;
        }
        let mut attributes = BTreeMap::new();
        for place in 1.. {
            let field = |end: &str| fields.get(&*format!("MessageAttributes.entry.{place}.{end}"));
            let (Some(name), Some(value)) = (field("Name"), field("Value.StringValue")) else {
                break;
            };
            attributes.insert((*name).to_owned(), (*value).to_owned());
        }
        let event_type = attributes.get("event_type").cloned().unwrap_or_default();
        let queues: Vec<String> = state
            .messaging
            .subscriptions
            .iter()
            .filter(|subscription| subscription.event_types.contains(&event_type))
            .map(|subscription| subscription.queue.clone())
            .collect();
        let body = fields.get("Message").copied().unwrap_or_default();
        for queue in queues {
            put(&mut state, &queue, body, &attributes, FAN_OUT_MS_MAX);
        }
        let message_id = state.messaging.made;
        successful += &format!("<member><Id>{id}</Id><MessageId>{message_id}</MessageId></member>");
    }
    Answer::ok(format!(
        "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
         <Successful>{successful}</Successful><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"
    ))
}
