//! An event is stored with the change that it tells of, and published afterwards.
//!
//! In: events as bytes with their attributes. Out: the writes that store them as pending, for the caller's
//! transaction ([`Outbox::append`]); then their publication ([`Outbox::publish`]).
//!
//! Guarantees: an event is published if and only if its transaction was committed, at least once. What a
//! crash, a slow or an absent SNS leaves unpublished stays pending, in the sparse index `outbox`, until a
//! sweep publishes it. Publishing waits for a bounded time only, so that no caller waits for SNS to come back.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{AttributeValue, Put, TransactWriteItem},
};
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Role, Step};

/// The sparse index spreads over so many partitions.
pub const SHARDS: u64 = 8;
/// SNS takes so many messages in one call.
pub const PUBLISH_COUNT_MAX: usize = 10;
/// SNS takes so many bytes in one call, of bodies and attributes together.
pub const PUBLISH_BYTES_MAX: usize = 256 * 1024;
/// So long does a caller wait for SNS; what is not published by then is the sweep's.
const PUBLISH_WAIT: Duration = Duration::from_secs(2);

/// One event on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is about: the partition of the event log.
    pub stream: String,
    /// Its idempotency key: the sort key of the event log.
    pub id: Uuid,
    /// Its bytes.
    pub body: String,
    /// Its SNS message attributes, at most ten: raw delivery drops a message that has more. Stored with the
    /// event, so that a republished one carries them too.
    pub attributes: BTreeMap<String, String>,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        let attributes: usize = self
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.len() + "String".len())
            .sum();
        self.body.len() + attributes
    }
}

/// The event log, and the topic that its events are published on.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The table client.
    pub dynamodb: Client,
    /// The topic client.
    pub sns: aws_sdk_sns::Client,
    /// The event log: partition key `stream_key`, sort key `event_id`.
    pub table: String,
    /// What the event log calls its partition key.
    pub stream_key: &'static str,
    /// Where events are published.
    pub topic_arn: String,
}

impl Outbox {
    /// The steps that store these events as pending, for the transaction of the change that they tell of.
    #[must_use]
    pub fn append(&self, events: &[Outgoing], now: Timestamp) -> Vec<Step> {
        events.iter().map(|event| self.append_one(event, now)).collect()
    }

    fn append_one(&self, event: &Outgoing, now: Timestamp) -> Step {
        let attributes = event
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), AttributeValue::S(value.clone())))
            .collect();
        let put = Put::builder()
            .table_name(&self.table)
            .item(self.stream_key, AttributeValue::S(event.stream.clone()))
            .item("event_id", AttributeValue::S(event.id.to_string()))
            .item("body", AttributeValue::S(event.body.clone()))
            .item("attributes", AttributeValue::M(attributes))
            .item("outbox_shard", AttributeValue::S(shard(event.id)))
            .item("pending_since", AttributeValue::S(format!("{now:.3}")))
            .build()
            .expect("a put has a table and an item");
        Step::new(Role::Write, TransactWriteItem::builder().put(put).build())
    }

    /// Publishes committed events and marks them as published, within [`PUBLISH_WAIT`]. Says how many were
    /// published and marked; the others stay pending, which loses nothing.
    pub async fn publish(&self, events: &[Outgoing]) -> usize {
        let mut published = 0;
        let work = async {
            for batch in batches(events) {
                let accepted = self.publish_batch(batch).await;
                // Marked after publishing: a crash between publishes twice, and inboxes take it once.
                published += self.clear(&accepted).await;
            }
        };
        if tokio::time::timeout(PUBLISH_WAIT, work).await.is_err() {
            tracing::warn!(
                pending = events.len() - published,
                "publishing takes too long; left to the sweep"
            );
        }
        published
    }

    /// Publishes one batch and reads every failed entry. Says which events SNS has accepted.
    async fn publish_batch<'a>(&self, batch: &'a [Outgoing]) -> Vec<&'a Outgoing> {
        let entries = batch.iter().enumerate().map(|(index, event)| entry(index, event)).collect();
        let sent = self
            .sns
            .publish_batch()
            .topic_arn(&self.topic_arn)
            .set_publish_batch_request_entries(Some(entries))
            .send()
            .await;
        match sent {
            Ok(answer) => {
                for failed in answer.failed() {
                    tracing::warn!(code = failed.code(), "SNS refused an event; left to the sweep");
                }
                let index = |id: Option<&str>| id?.parse::<usize>().ok();
                answer
                    .successful()
                    .iter()
                    .filter_map(|entry| batch.get(index(entry.id())?))
                    .collect()
            }
            Err(error) => {
                let error = DisplayErrorContext(&error).to_string();
                tracing::warn!(error, events = batch.len(), "publishing failed; left to the sweep");
                Vec::new()
            }
        }
    }

    /// Takes these events out of the sparse index. Says how many were.
    async fn clear(&self, events: &[&Outgoing]) -> usize {
        let cleared =
            futures::future::join_all(events.iter().map(|event| self.clear_one(event))).await;
        cleared.into_iter().filter(|cleared| *cleared).count()
    }

    async fn clear_one(&self, event: &Outgoing) -> bool {
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .key(self.stream_key, AttributeValue::S(event.stream.clone()))
            .key("event_id", AttributeValue::S(event.id.to_string()))
            .update_expression("REMOVE outbox_shard, pending_since")
            .condition_expression("attribute_exists(event_id)")
            .send()
            .await;
        if let Err(error) = &sent {
            let error = DisplayErrorContext(error).to_string();
            tracing::warn!(error, "a published event stays pending; it will be published again");
        }
        sent.is_ok()
    }
}

fn entry(index: usize, event: &Outgoing) -> PublishBatchRequestEntry {
    let mut entry =
        PublishBatchRequestEntry::builder().id(index.to_string()).message(event.body.clone());
    for (name, value) in &event.attributes {
        let value = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(value)
            .build()
            .expect("an attribute has a type");
        entry = entry.message_attributes(name, value);
    }
    entry.build().expect("an entry has an id and a message")
}

/// Cuts a list of events so that no batch has more entries or bytes than SNS takes. An event that is too
/// large on its own gets a batch of its own, so that its refusal is its own.
fn batches(events: &[Outgoing]) -> Vec<&[Outgoing]> {
    let mut batches = Vec::new();
    let mut rest = events;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest
            .iter()
            .take(PUBLISH_COUNT_MAX)
            .take_while(|event| {
                bytes += event.bytes();
                bytes <= PUBLISH_BYTES_MAX
            })
            .count();
        let (batch, after) = rest.split_at(fitting.max(1));
        batches.push(batch);
        rest = after;
    }
    batches
}

/// Which partition of the sparse index an event waits in.
fn shard(id: Uuid) -> String {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    (hasher.finish() % SHARDS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(bytes: usize) -> Outgoing {
        Outgoing {
            stream: "s".into(),
            id: Uuid::now_v7(),
            body: "x".repeat(bytes),
            attributes: BTreeMap::from([("event_type".into(), "Made".into())]),
        }
    }

    proptest! {
        #[test]
        fn batches_keep_every_event_in_order_and_within_what_sns_takes(
            sizes in prop::collection::vec(0..300_000_usize, 0..40),
        ) {
            let events: Vec<_> = sizes.into_iter().map(event).collect();
            let batches = batches(&events);
            prop_assert_eq!(&batches.concat(), &events);
            for batch in batches {
                let bytes: usize = batch.iter().map(Outgoing::bytes).sum();
                prop_assert!(batch.len() == 1 || (batch.len() <= PUBLISH_COUNT_MAX && bytes <= PUBLISH_BYTES_MAX));
            }
        }

        #[test]
        fn events_spread_over_all_shards(seed in any::<u128>()) {
            let shards: std::collections::BTreeSet<_> =
                (0..200).map(|n| shard(Uuid::from_u128(seed.wrapping_add(n)))).collect();
            prop_assert_eq!(shards.len(), 8);
        }
    }
}
