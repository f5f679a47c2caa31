//! An event is stored with the change that it tells of, and published afterwards.
//!
//! In: events as bytes with their attributes. Out: the writes that store them as pending, for the caller's
//! transaction ([`Outbox::append`]); then their publication ([`Outbox::publish`]).
//!
//! Guarantees: an event is published if and only if its transaction was committed, at least once. What a
//! crash, a slow or an absent SNS leaves unpublished stays pending, in the sparse index `outbox`, until a
//! sweep ([`Outbox::sweep`]) publishes it. Publishing waits for a bounded time only, so that no caller waits
//! for SNS to come back. An event that SNS refuses for good is set aside as stuck and holds up no other.
//!
//! The table: partition key of the caller's choice, sort key `event_id`, and a keys-only index `outbox` on
//! `outbox_shard` and `pending_since`, two attributes that an item has only while it is pending.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata},
    types::{AttributeValue, KeysAndAttributes, Put, Select, TransactWriteItem},
};
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Item, Role, Step};

/// The sparse index spreads over so many partitions.
pub const SHARDS: u64 = 8;
/// SNS takes so many messages in one call.
pub const PUBLISH_COUNT_MAX: usize = 10;
/// SNS takes so many bytes in one call, of bodies and attributes together.
pub const PUBLISH_BYTES_MAX: usize = 256 * 1024;
/// The shard of events that SNS refuses for good: they wait for a person.
pub const STUCK: &str = "stuck";
/// The sparse index of pending events.
pub const INDEX: &str = "outbox";
/// DynamoDB reads so many items by key in one call.
const SWEEP_PAGE: i32 = 100;
/// What SNS says of a message that it will never take.
const REFUSALS: [&str; 5] = [
    "InvalidParameter",
    "InvalidParameterValue",
    "ParameterValueInvalid",
    "BatchRequestTooLong",
    "ValidationError",
];
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
    /// The event log.
    pub table: String,
    /// What the event log calls its partition key.
    pub stream_key: &'static str,
    /// Where events are published.
    pub topic_arn: String,
}

/// What a sweep did, in events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Published and taken out of the outbox.
    pub published: usize,
    /// Refused for good, now or earlier.
    pub stuck: usize,
    /// Still pending: SNS was not to be had, or the time was up.
    pub left: usize,
}

/// A sweep could not be made, or not to its end. What is pending stays so.
#[derive(Debug, thiserror::Error)]
#[error("the outbox cannot be read: {0}")]
pub struct SweepError(String);

/// What became of one event that was handed to SNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    /// Later it may be taken.
    Failed,
    /// It is never going to be.
    Refused,
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
            .item("pending_since", AttributeValue::S(moment(now)))
            .build()
            .expect("a put has a table and an item");
        Step::new(Role::Write, TransactWriteItem::builder().put(put).build())
    }

    /// Publishes committed events and marks them as published, within two seconds. Says how many were
    /// published and marked; the others stay pending, which loses nothing.
    pub async fn publish(&self, events: &[Outgoing]) -> usize {
        let mut published = 0;
        let work = async {
            for batch in batches(events) {
                published += self.publish_batch(batch).await.published;
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

    /// Publishes what has been pending for longer than `age`, oldest first in each shard, until all is
    /// published or `deadline` has come. Events that SNS refuses for good move to the shard [`STUCK`].
    ///
    /// # Errors
    /// The event log did not answer. What other shards had pending may have been published.
    pub async fn sweep(&self, age: Duration, deadline: Instant) -> Result<Swept, SweepError> {
        let before = Timestamp::now() - jiff::SignedDuration::try_from(age).unwrap_or_default();
        let shards = (0..SHARDS).map(|shard| self.sweep_shard(shard.to_string(), before, deadline));
        let mut swept = Swept::default();
        // Every shard has its turn before an error of one is reported.
        for shard in futures::future::join_all(shards).await {
            let shard = shard?;
            swept.published += shard.published;
            swept.left += shard.left;
        }
        swept.stuck = self.stuck().await?;
        Ok(swept)
    }

    async fn sweep_shard(
        &self,
        shard: String,
        before: Timestamp,
        deadline: Instant,
    ) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        let mut start = None;
        loop {
            let page = self
                .dynamodb
                .query()
                .table_name(&self.table)
                .index_name(INDEX)
                .key_condition_expression("outbox_shard = :shard AND pending_since < :before")
                .expression_attribute_values(":shard", AttributeValue::S(shard.clone()))
                .expression_attribute_values(":before", AttributeValue::S(moment(before)))
                .limit(SWEEP_PAGE)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| SweepError(DisplayErrorContext(error).to_string()))?;
            let events = self.pending(page.items.unwrap_or_default()).await?;
            for batch in batches(&events) {
                if Instant::now() >= deadline {
                    swept.left += batch.len();
                    continue;
                }
                let batch = self.publish_batch(batch).await;
                swept.published += batch.published;
                swept.left += batch.left;
            }
            start = page.last_evaluated_key;
            if start.is_none() || Instant::now() >= deadline {
                return Ok(swept);
            }
        }
    }

    /// The events of these keys that are still pending. The index may lag behind, so the table is asked.
    async fn pending(&self, keys: Vec<Item>) -> Result<Vec<Outgoing>, SweepError> {
        const ATTEMPTS_MAX: usize = 5;
        let order: Vec<String> = keys.iter().filter_map(|key| text(key, "event_id")).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let only_key = |mut item: Item| {
            item.retain(|name, _| name == self.stream_key || name == "event_id");
            item
        };
        let keys = KeysAndAttributes::builder()
            .consistent_read(true)
            .set_keys(Some(keys.into_iter().map(only_key).collect()))
            .build()
            .map_err(|error| SweepError(error.to_string()))?;
        let mut unread = Some(HashMap::from([(self.table.clone(), keys)]));
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            let Some(request) = unread.take() else { break };
            let answer = self
                .dynamodb
                .batch_get_item()
                .set_request_items(Some(request))
                .send()
                .await
                .map_err(|error| SweepError(DisplayErrorContext(error).to_string()))?;
            let items = answer.responses.into_iter().flatten().flat_map(|(_, items)| items);
            found.extend(items.filter(|item| item.contains_key("outbox_shard")));
            // What a throttled table leaves out is found by the next sweep at the latest.
            unread = answer.unprocessed_keys.filter(|keys| !keys.is_empty());
        }
        let mut events: Vec<Outgoing> =
            found.iter().filter_map(|item| outgoing(item, self.stream_key)).collect();
        // A batch answer has no order; the index has.
        events.sort_by_key(|event| order.iter().position(|id| *id == event.id.to_string()));
        Ok(events)
    }

    /// Makes an event pending again, as of the moment `since`: the next sweep publishes it once more. `false`:
    /// there is no such event.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn nudge(
        &self,
        stream: &str,
        id: Uuid,
        since: Timestamp,
    ) -> Result<bool, SweepError> {
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .key(self.stream_key, AttributeValue::S(stream.to_owned()))
            .key("event_id", AttributeValue::S(id.to_string()))
            .update_expression("SET outbox_shard = :shard, pending_since = :since")
            .condition_expression("attribute_exists(event_id)")
            .expression_attribute_values(":shard", AttributeValue::S(shard(id)))
            .expression_attribute_values(":since", AttributeValue::S(moment(since)))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|e| e.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(SweepError(DisplayErrorContext(error).to_string())),
        }
    }

    /// How many events SNS has refused for good.
    async fn stuck(&self) -> Result<usize, SweepError> {
        let answer = self
            .dynamodb
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .key_condition_expression("outbox_shard = :shard")
            .expression_attribute_values(":shard", AttributeValue::S(STUCK.to_owned()))
            .select(Select::Count)
            .send()
            .await
            .map_err(|error| SweepError(DisplayErrorContext(error).to_string()))?;
        Ok(usize::try_from(answer.count).unwrap_or_default())
    }

    /// Publishes one batch and settles each of its events.
    async fn publish_batch(&self, batch: &[Outgoing]) -> Swept {
        let mut fates = self.hand_over(batch).await;
        if batch.len() > 1 && fates.iter().all(|fate| *fate == Fate::Refused) {
            // The call was refused as a whole: one by one, only the guilty are.
            for (event, fate) in batch.iter().zip(&mut fates) {
                *fate = self.hand_over(std::slice::from_ref(event)).await[0];
            }
        }
        let settled = batch.iter().zip(&fates).map(|(event, fate)| async move {
            match fate {
                // Marked after publishing: a crash between publishes twice, and inboxes take it once.
                Fate::Accepted => {
                    self.mark(event, "REMOVE outbox_shard, pending_since", None).await
                }
                Fate::Refused => self.mark(event, "SET outbox_shard = :stuck", Some(STUCK)).await,
                Fate::Failed => false,
            }
        });
        let settled = futures::future::join_all(settled).await;
        let count = |wanted: Fate| {
            fates.iter().zip(&settled).filter(|(fate, done)| **fate == wanted && **done).count()
        };
        let (published, stuck) = (count(Fate::Accepted), count(Fate::Refused));
        Swept { published, stuck, left: batch.len() - published - stuck }
    }

    /// Hands one batch to SNS and reads every entry of its answer.
    async fn hand_over(&self, batch: &[Outgoing]) -> Vec<Fate> {
        let entries = batch.iter().enumerate().map(|(index, event)| entry(index, event)).collect();
        let sent = self
            .sns
            .publish_batch()
            .topic_arn(&self.topic_arn)
            .set_publish_batch_request_entries(Some(entries))
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let refused = error.code().is_some_and(|code| REFUSALS.contains(&code));
                let error = DisplayErrorContext(&error).to_string();
                tracing::warn!(error, refused, events = batch.len(), "SNS did not take a batch");
                return vec![if refused { Fate::Refused } else { Fate::Failed }; batch.len()];
            }
        };
        // An entry that the answer leaves out was not taken.
        let mut fates = vec![Fate::Failed; batch.len()];
        let mut set = |id: Option<&str>, fate| {
            let index = id.and_then(|id| id.parse::<usize>().ok());
            if let Some(slot) = index.and_then(|index| fates.get_mut(index)) {
                *slot = fate;
            }
        };
        for entry in answer.successful() {
            set(entry.id(), Fate::Accepted);
        }
        for entry in answer.failed() {
            let refused = entry.sender_fault() && REFUSALS.contains(&entry.code());
            tracing::warn!(code = entry.code(), refused, "SNS did not take an event");
            set(Some(entry.id()), if refused { Fate::Refused } else { Fate::Failed });
        }
        fates
    }

    async fn mark(&self, event: &Outgoing, expression: &str, shard: Option<&str>) -> bool {
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .key(self.stream_key, AttributeValue::S(event.stream.clone()))
            .key("event_id", AttributeValue::S(event.id.to_string()))
            .update_expression(expression)
            .condition_expression("attribute_exists(event_id)")
            .set_expression_attribute_values(
                shard.map(|shard| [(":stuck".into(), AttributeValue::S(shard.into()))].into()),
            )
            .send()
            .await;
        if let Err(error) = &sent {
            let error = DisplayErrorContext(error).to_string();
            tracing::warn!(error, "an event stays pending; it will be published again");
        }
        sent.is_ok()
    }
}

/// An event as the log keeps it. Nothing: the item is not one that [`Outbox::append`] has written.
fn outgoing(item: &Item, stream_key: &str) -> Option<Outgoing> {
    let attributes = item.get("attributes")?.as_m().ok()?;
    let attributes =
        attributes.iter().map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone())));
    Some(Outgoing {
        stream: text(item, stream_key)?,
        id: text(item, "event_id")?.parse().ok()?,
        body: text(item, "body")?,
        attributes: attributes.collect::<Option<_>>()?,
    })
}

fn text(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

/// As the index sorts it: to the millisecond, in UTC.
fn moment(moment: Timestamp) -> String {
    format!("{moment:.3}")
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
