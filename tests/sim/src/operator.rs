//! What happens to the queues from outside: an operator, a newer producer, a broken one.
//!
//! In: the simulated AWS, and orders that there are. Out: events once more, under the ids that they have; paused mappings; what the
//! runs have to find on the DLQs. Guarantee: nothing here may change what the books say.
//!
//! `orderflow` is a program, not a library: what it does is done here with the same calls and in the same order. It replays to one
//! queue what its filter lets through, republishes by `Outbox::republish`, and deletes a dead letter only after its queue took it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aws_sdk_sqs::types::MessageAttributeValue;
use events::Priority;
use exactly_once::{FAILURE_ATTRIBUTES, Ids};
use jiff::Timestamp;
use messaging::OutboxConfig;
use simulated_aws::SimulatedAws;

use crate::{
    books::{Item, text},
    lambda::Lambda,
    shop::{EVENT_LOG, ORDERS, Queue, UNPUBLISHED},
};

/// Number of times that the operator does something.
const ACTIONS: u64 = 5;
/// Maximum number of times that one thing is tried.
const TRIES_MAX: usize = 200;

/// One event of the event log.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub order_id: String,
    pub event_id: String,
    pub event_type: String,
    pub body: String,
    pub attributes: BTreeMap<String, String>,
}

/// The event log.
pub(crate) fn event_log(aws: &SimulatedAws) -> Vec<Logged> {
    let event = |item: Item| {
        let attributes = item.get("attributes").and_then(|value| value["M"].as_object());
        let attributes: BTreeMap<String, String> = attributes
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value["S"].as_str()?.to_owned())))
            .collect();
        Logged {
            order_id: text(&item, "order_id").to_owned(),
            event_id: text(&item, "event_id").to_owned(),
            event_type: attributes.get("event_type").cloned().unwrap_or_default(),
            body: text(&item, "body").to_owned(),
            attributes,
        }
    };
    aws.items(EVENT_LOG).into_iter().map(event).collect()
}

fn one_of<T: Clone>(aws: &SimulatedAws, all: &[T]) -> Option<T> {
    let len = u64::try_from(all.len()).ok().filter(|len| *len > 0)?;
    all.get(usize::try_from(aws.draw(0..len)).ok()?).cloned()
}

/// The events that were published, as far as one can know: not those that an order stands for. Who sends these to a queue leaves
/// them out, because the queue's consumer would take the order for published.
pub(crate) fn published(aws: &SimulatedAws) -> Vec<Logged> {
    let orders = aws.items(ORDERS);
    let unpublished: BTreeSet<&str> = orders
        .iter()
        .filter(|order| text(order, "pending_shard").starts_with(UNPUBLISHED))
        .map(|order| text(order, "created_event_id"))
        .collect();
    let events = event_log(aws).into_iter();
    events.filter(|event| !unpublished.contains(&*event.event_id)).collect()
}

/// Waits for an event of this type.
pub(crate) async fn first_event(aws: &SimulatedAws, event_type: &str) -> Result<Logged> {
    for _ in 0..TRIES_MAX {
        let events = published(aws).into_iter().filter(|event| event.event_type == event_type);
        if let Some(event) = one_of(aws, &events.collect::<Vec<_>>()) {
            return Ok(event);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    bail!("no {event_type} in time")
}

/// An operator, with a program like `orderflow`.
#[derive(Clone)]
pub(crate) struct Operator {
    pub lambda: Lambda,
}

impl Operator {
    /// Acts now and then.
    pub(crate) async fn act(&self) -> Result<()> {
        let aws = &self.lambda.aws;
        for _ in 0..ACTIONS {
            tokio::time::sleep(Duration::from_millis(aws.draw(0..25_000))).await;
            let queues = Queue::OF_EVENTS;
            let queue = queues[usize::try_from(aws.draw(0..queues.len() as u64))?];
            match aws.draw(0..4) {
                0 => {
                    self.lambda.pause(queue, true);
                    tokio::time::sleep(Duration::from_millis(aws.draw(1000..40_000))).await;
                    self.lambda.pause(queue, false);
                }
                1 => self.replay(queue).await?,
                2 => self.republish().await?,
                _ => {
                    // To the topic: every queue is given it once more.
                    if let Some(event) = one_of(aws, &published(aws)) {
                        aws.note(|| format!("published once more: {}", event.body));
                        aws.publish(&event.body, &event.attributes);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the events of one order to a queue again.
    async fn replay(&self, queue: Queue) -> Result<()> {
        let aws = &self.lambda.aws;
        let log = published(aws);
        let Some(order) = one_of(aws, &log).map(|event| event.order_id) else { return Ok(()) };
        aws.note(|| format!("the events of {order} are replayed to {queue:?}"));
        let events = log.iter().filter(|event| event.order_id == order);
        for event in events.filter(|event| queue.event_types().contains(&&*event.event_type)) {
            self.send(queue, &event.body, &event.attributes).await?;
        }
        Ok(())
    }

    /// Makes an event pending again.
    async fn republish(&self) -> Result<()> {
        let aws = &self.lambda.aws;
        let Some(event) = one_of(aws, &event_log(aws)) else { return Ok(()) };
        aws.note(|| format!("{} of {} is republished", event.event_type, event.order_id));
        for _ in 0..TRIES_MAX {
            let environment = aws.environment();
            let config = environment.config(&self.lambda.config);
            let read =
                settings::read_from(self.lambda.variables(Queue::Order), OutboxConfig::read)?;
            let outbox = read.outbox(&config);
            let since = Timestamp::from_millisecond(i64::try_from(environment.now_ms())?)?;
            let id = event.event_id.parse()?;
            let republished = tokio::select! {
                biased;
                () = environment.died() => continue,
                republished = outbox.republish(&event.order_id, id, since) => republished,
            };
            match republished {
                Ok(true) => return Ok(()),
                Ok(false) => bail!("no event {}", event.event_id),
                Err(_) => tokio::time::sleep(Duration::from_secs(2)).await,
            }
        }
        bail!("{} could not be republished", event.event_id)
    }

    /// Sends the dead letters of a queue to it again that have this reason.
    pub(crate) async fn redrive(&self, queue: Queue, reason: &str) -> Result<()> {
        let aws = &self.lambda.aws;
        let letters = aws.message_attributes(&queue.dlq_url());
        if !letters.iter().any(|letter| letter.get("failure_reason").is_some_and(|r| r == reason)) {
            return Ok(());
        }
        aws.note(|| format!("the dead letters of {queue:?} with {reason} are redriven"));
        for letter in aws.receive(&queue.dlq_url(), usize::MAX) {
            let attributes = letter.record["messageAttributes"].as_object();
            let mut attributes: BTreeMap<String, String> = attributes
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| {
                    Some((name.clone(), value["stringValue"].as_str()?.to_owned()))
                })
                .collect();
            if attributes.get("failure_reason").is_none_or(|found| found != reason) {
                continue;
            }
            attributes.retain(|name, _| !FAILURE_ATTRIBUTES.contains(&name.as_str()));
            let body = letter.record["body"].as_str().context("a body")?;
            self.send(queue, body, &attributes).await?;
            aws.delete(&queue.dlq_url(), &letter.receipt_handle);
        }
        Ok(())
    }

    /// Sends a message until the queue took it.
    async fn send(
        &self,
        queue: Queue,
        body: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let environment = self.lambda.aws.environment();
            let client = aws_sdk_sqs::Client::new(&environment.config(&self.lambda.config));
            let mut call = client.send_message().queue_url(queue.url()).message_body(body);
            for (name, value) in attributes {
                let value =
                    MessageAttributeValue::builder().data_type("String").string_value(value);
                call = call.message_attributes(name, value.build()?);
            }
            let sent = tokio::select! {
                biased;
                () = environment.died() => continue,
                sent = call.send() => sent,
            };
            if sent.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        bail!("{queue:?} does not take {body}")
    }
}

/// Events that the shop's own functions would not publish.
pub(crate) struct Stranger<'a> {
    pub aws: &'a SimulatedAws,
    pub ids: &'a Ids,
}

impl Stranger<'_> {
    /// The same event with another id, of another order.
    fn twin(&self, event: &Logged) -> (String, BTreeMap<String, String>) {
        let (order, id) = (self.ids.random().to_string(), self.ids.random().to_string());
        let body = event.body.replace(&event.order_id, &order).replace(&event.event_id, &id);
        let mut attributes = event.attributes.clone();
        // Of what has none, the normal queue takes care, whatever the total is.
        attributes.remove(Priority::ATTRIBUTE);
        (body, attributes)
    }

    /// Publishes an event whose data break the contract, for the queues `product`, `notification` and `analytics`; its body.
    pub(crate) async fn publish_poison(&self) -> Result<String> {
        let (body, attributes) = self.twin(&first_event(self.aws, "OrderCreated").await?);
        let body = body.replace("\"customer_email\":", "\"customer\":");
        self.aws.note(|| format!("a broken producer publishes {body}"));
        self.aws.publish(&body, &attributes);
        Ok(body)
    }

    /// Publishes an event of the next major version, for the queues `product`, `notification` and `analytics`; its body.
    pub(crate) async fn publish_next_version(&self) -> Result<String> {
        let (body, mut attributes) = self.twin(&first_event(self.aws, "OrderCreated").await?);
        let body = body.replace("\"event_version\":\"1.0\"", "\"event_version\":\"2.0\"");
        attributes.insert("event_version".to_owned(), "2.0".to_owned());
        self.aws.note(|| format!("a newer producer publishes {body}"));
        self.aws.publish(&body, &attributes);
        Ok(body)
    }

    /// Sends an event of an unknown type to a queue, as the next template's filter lets it through; its body.
    pub(crate) async fn send_unknown_type(&self, queue: Queue) -> Result<String> {
        let (body, mut attributes) = self.twin(&first_event(self.aws, "OrderCreated").await?);
        let body = body.replace("OrderCreated", "OrderReturned");
        attributes.insert("event_type".to_owned(), "OrderReturned".to_owned());
        self.aws.note(|| format!("{queue:?} is given {body}"));
        self.aws.send(&queue.url(), &body, &attributes);
        Ok(body)
    }

    /// Publishes an event once more as a newer producer of the same major version writes it, with a field more.
    pub(crate) async fn publish_next_minor_version(&self) -> Result<()> {
        let event = first_event(self.aws, "OrderCreated").await?;
        let newer = "\"event_version\":\"1.9\",\"hint\":{\"of\":[\"a\",1]}";
        let body = event.body.replace("\"event_version\":\"1.0\"", newer);
        self.aws.note(|| format!("a newer producer publishes {body}"));
        self.aws.publish(&body, &event.attributes);
        Ok(())
    }
}
