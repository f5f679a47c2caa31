//! An event is stored with the change that it reports, and published afterwards.
//!
//! In: events as bytes with their attributes. Out: the writes that store them as pending, for the caller's
//! transaction ([`Outbox::append`]); then their publication and clearing ([`Outbox::publish`], or [`Outbox::send`]
//! now and [`Outbox::clear`] later). Events for whose publication somebody else answers until they have been published are
//! only stored ([`Outbox::store`]), and get a place in the outbox if SNS does not take them
//! ([`Outbox::publish_or_enqueue`]): that saves the place in the good case. [`crate::CausedEvents`] does so for consumers.
//!
//! Guarantees: an event is published if and only if its transaction was committed, at least once. What a
//! crash, a slow or an absent SNS leaves unpublished stays pending, in the sparse index `outbox`, until a
//! sweep ([`Outbox::sweep`]) publishes it. An event is cleared after SNS has accepted it, never before.
//! Publishing waits for a bounded time only, so that no caller waits for SNS to come back. An event that SNS
//! refuses for good is set aside as stuck and holds up no other.
//!
//! The table: partition key `stream`, sort key `event_id`, and a keys-only index `outbox` on `outbox_shard` and
//! `pending_since`, two attributes that an item has only while it is pending. The first three names are configuration.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    operation::query::builders::QueryFluentBuilder,
    types::{
        AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BatchStatementResponse,
        Put, TransactWriteItem, Update, builders::PutBuilder,
    },
};
use aws_sdk_sns::{
    error::ProvideErrorMetadata,
    types::{MessageAttributeValue, PublishBatchRequestEntry},
};
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use tracing::Span;

use crate::{
    CallError, Clock, ErrorChain, Item, Role, Shards, TableError, TransactionWrite,
    backoff::jittered_exponential,
    batching::batches,
    table::{batch_get, count_partition, is_applied, text},
    transaction::{PAUSE_FIRST, PAUSE_MAX},
};

/// The shard of events that SNS refuses for good, or that cannot be read: they wait for a person.
pub const STUCK: &str = "stuck";
/// The partition key of an event log, unless said otherwise: what an event is about.
const PARTITION_KEY: &str = "stream";
/// The sort key of an event log, unless said otherwise.
const SORT_KEY: &str = "event_id";
/// The sparse index of pending events, unless said otherwise.
const INDEX: &str = "outbox";
/// What moves an event to the stuck ones, with the moment that the index sorts by if it was not in the outbox.
const SET_ASIDE: &str =
    "SET outbox_shard = :stuck, pending_since = if_not_exists(pending_since, :since)";
/// Maximum number of events in one page of a sweep: as many as one BatchGetItem call reads.
const SWEEP_PAGE_EVENTS: i32 = 100;
/// What SNS says of a message that it will never take.
const REFUSALS: [&str; 5] = [
    "InvalidParameter",
    "InvalidParameterValue",
    "ParameterValueInvalid",
    "BatchRequestTooLong",
    "ValidationError",
];
/// How long a caller waits for SNS; what is not published by then is the sweep's.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a caller waits for published events to be cleared; what is not cleared by then is published again.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of statements in one BatchExecuteStatement call.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>
const STATEMENTS_MAX: usize = 25;
/// Maximum number of BatchExecuteStatement calls for one list of events: a statement may fail by itself, which the
/// client does not try again.
const CLEAR_ATTEMPTS_MAX: u32 = 3;

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
    /// Its size as SNS counts it, in bytes of body and attributes.
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
    dynamodb: Client,
    sns: aws_sdk_sns::Client,
    table: String,
    partition_key: String,
    sort_key: String,
    index: String,
    topic_arn: String,
    shards: Shards,
    hear: Option<fn(Publications)>,
    clock: Clock,
}

/// What came of an attempt at publishing, in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publications {
    /// SNS has accepted them.
    pub published: usize,
    /// SNS has not accepted them, or not in time.
    pub left: usize,
    /// When it ended.
    pub at: Timestamp,
}

/// What a sweep did, in events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Published and taken out of the outbox.
    pub published: usize,
    /// Refused for good, now or earlier.
    pub stuck: u64,
    /// Still pending: SNS did not take them, they could not be read, or the time was up.
    pub left: usize,
    /// Since when the oldest is pending of the pages of which something is left, or `None` if nothing is.
    pub left_since: Option<Timestamp>,
}

/// What the outbox holds, in events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Not published yet.
    pub pending: u64,
    /// Since when the oldest of them is pending, or `None` if none is.
    pub oldest_pending_since: Option<Timestamp>,
    /// Refused by SNS for good.
    pub stuck: u64,
}

/// The key of an event that is not published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpublishedKey {
    /// What it is about: the partition of the event log.
    pub stream: String,
    /// The sort key of the event log, as it is stored.
    pub event_id: String,
    /// Since when it waits.
    pub pending_since: Option<Timestamp>,
}

/// Events that SNS has answered for, until the event log says so too ([`Outbox::clear`]). Dropped, they stay pending and
/// are published once more.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[must_use = "an event stays pending until it is cleared"]
pub struct Sent {
    accepted: Vec<EventKey>,
    refused: Vec<EventKey>,
}

/// The key of an event in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventKey {
    /// What it is about: the partition of the event log.
    pub stream: String,
    /// The sort key of the event log.
    pub id: Uuid,
}

impl From<&Outgoing> for EventKey {
    fn from(event: &Outgoing) -> Self {
        Self { stream: event.stream.clone(), id: event.id }
    }
}

/// What became of one event that was handed to SNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Publication {
    Accepted,
    /// It may be taken later.
    Failed,
    /// It is never going to be taken.
    Refused,
}

impl Outbox {
    /// The outbox in the event log `table`, whose events are published on the topic. It goes by the clock of the
    /// DynamoDB client.
    #[must_use]
    pub fn new(
        dynamodb: Client,
        sns: aws_sdk_sns::Client,
        table: impl Into<String>,
        topic_arn: impl Into<String>,
    ) -> Self {
        let clock = dynamodb.config().time_source().into();
        Self {
            dynamodb,
            sns,
            table: table.into(),
            partition_key: PARTITION_KEY.to_owned(),
            sort_key: SORT_KEY.to_owned(),
            index: INDEX.to_owned(),
            topic_arn: topic_arn.into(),
            shards: Shards::default(),
            hear: None,
            clock,
        }
    }

    /// The name of the table's partition key, instead of `stream`.
    #[must_use]
    pub fn partition_key(self, name: impl Into<String>) -> Self {
        Self { partition_key: name.into(), ..self }
    }

    /// The name of the table's sort key, instead of `event_id`.
    #[must_use]
    pub fn sort_key(self, name: impl Into<String>) -> Self {
        Self { sort_key: name.into(), ..self }
    }

    /// The name of the sparse index of pending events, instead of `outbox`.
    #[must_use]
    pub fn index(self, name: impl Into<String>) -> Self {
        Self { index: name.into(), ..self }
    }

    /// Spreads new pending events over this number of partitions.
    #[must_use]
    pub fn shards(self, shards: Shards) -> Self {
        Self { shards, ..self }
    }

    /// Has this function hear of every attempt at publishing that is not the sweep's: for metrics. It must neither block nor
    /// panic.
    #[must_use]
    pub fn on_publication(self, hear: fn(Publications)) -> Self {
        Self { hear: Some(hear), ..self }
    }

    /// The name of the event log's table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The writes that store these events as pending, for the transaction of the change that they report.
    #[must_use]
    pub fn append<Tag>(&self, events: &[Outgoing]) -> Vec<TransactionWrite<Tag>> {
        let now = self.clock.now();
        events.iter().map(|event| self.append_one(event, now)).collect()
    }

    fn append_one<Tag>(&self, event: &Outgoing, now: Timestamp) -> TransactionWrite<Tag> {
        let put = self
            .put(event)
            .item("outbox_shard", text(self.shards.of(event.id)))
            .item("pending_since", text(sortable(now)));
        unconditional(put)
    }

    /// The writes that store these events without a place in the outbox, for the transaction of the change that they report.
    /// No sweep finds them: in the same transaction there has to be something that has somebody publish them, again and
    /// again until it is done ([`Outbox::publish_or_enqueue`]).
    #[must_use]
    pub fn store<Tag>(&self, events: &[Outgoing]) -> Vec<TransactionWrite<Tag>> {
        events.iter().map(|event| unconditional(self.put(event))).collect()
    }

    /// The write that gives a stored event a place in the outbox, for a transaction that takes away what else has it
    /// published.
    #[must_use]
    pub fn enqueue<Tag>(&self, key: &EventKey) -> TransactionWrite<Tag> {
        let update = Update::builder()
            .table_name(&self.table)
            .key(&self.partition_key, text(&key.stream))
            .key(&self.sort_key, text(key.id))
            .update_expression("SET outbox_shard = :shard, pending_since = :since")
            .expression_attribute_values(":shard", text(self.shards.of(key.id)))
            .expression_attribute_values(":since", text(sortable(self.clock.now())))
            .build()
            .expect("an update has a table, a key and an expression");
        let update = TransactWriteItem::builder().update(update).build();
        TransactionWrite::new(Role::Unconditional, update)
    }

    fn put(&self, event: &Outgoing) -> PutBuilder {
        let attributes =
            event.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Put::builder()
            .table_name(&self.table)
            .item(&self.partition_key, text(&event.stream))
            .item(&self.sort_key, text(event.id))
            .item("body", text(&event.body))
            .item("attributes", AttributeValue::M(attributes))
    }

    /// Publishes events that were only stored, within two seconds, and gives those that SNS does not take a place in the
    /// outbox, within two more. Returns the keys of those with which neither is known to have been done: whoever answers
    /// for them has to try again.
    pub async fn publish_or_enqueue(&self, events: &[Outgoing]) -> Vec<EventKey> {
        let sent = self.send(events).await;
        let left = events.iter().map(EventKey::from);
        let left: Vec<EventKey> = left.filter(|key| !sent.accepted.contains(key)).collect();
        if left.is_empty() {
            return left;
        }
        let enqueued = left.iter().map(async |key| {
            if sent.refused.contains(key) {
                return self.set_aside_refused(key).await;
            }
            let enqueued = self.republish(&key.stream, key.id, self.clock.now()).await;
            enqueued.unwrap_or_else(|error| {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(error, "an event is neither published nor in the outbox");
                false
            })
        });
        match tokio::time::timeout(CLEAR_TIMEOUT, join_all(enqueued)).await {
            Ok(enqueued) => {
                let left = left.into_iter().zip(enqueued);
                left.filter_map(|(key, is_enqueued)| (!is_enqueued).then_some(key)).collect()
            }
            Err(_) => {
                tracing::warn!(events = left.len(), "the event log takes too long");
                left
            }
        }
    }

    /// Publishes events that were only stored, from the log: what [`Outbox::publish_or_enqueue`] does, when their process is
    /// gone. What is in the outbox is left to the sweep.
    ///
    /// # Errors
    /// The event log did not answer: whoever answers for the events has to try again.
    pub async fn publish_stored(&self, keys: &[EventKey]) -> Result<Vec<EventKey>, TableError> {
        const OPERATION: &str = "BatchGetItem stored events";
        let item = |key: &EventKey| {
            let stream = (self.partition_key.clone(), text(&key.stream));
            Item::from([stream, (self.sort_key.clone(), text(key.id))])
        };
        let items = keys.iter().map(item).collect();
        let read = batch_get(&self.dynamodb, &self.table, items, OPERATION).await?;
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        let (mut events, mut left) = (Vec::new(), Vec::new());
        for item in read.items.iter().filter(|item| !item.contains_key("outbox_shard")) {
            match self.outgoing(item) {
                Some(event) => events.push(event),
                None if self.set_aside_unreadable(item).await => {}
                None => {
                    let id = text_field(item, &self.sort_key);
                    left.extend(keys.iter().find(|key| id == Some(key.id.to_string())).cloned());
                }
            }
        }
        // A batch answer has no order; the keys have.
        events.sort_by_key(|event| keys.iter().position(|key| key.id == event.id));
        left.extend(self.publish_or_enqueue(&events).await);
        Ok(left)
    }

    /// Publishes any number of committed events, in as few calls as SNS takes, and clears them, within two seconds each.
    /// Returns how many were published and cleared; the others stay pending, which loses nothing.
    pub async fn publish(&self, events: &[Outgoing]) -> usize {
        let sent = self.send(events).await;
        self.clear(sent).await
    }

    /// The first half of [`Outbox::publish`]: hands committed events to SNS, within two seconds. Whoever waits for the
    /// publication only does the other half, [`Outbox::clear`], afterwards.
    pub async fn send(&self, events: &[Outgoing]) -> Sent {
        let mut sent = Sent::default();
        let work = async {
            for batch in batches(events, Outgoing::bytes) {
                self.send_batch(batch, &mut sent).await;
            }
        };
        if tokio::time::timeout(PUBLISH_TIMEOUT, work).await.is_err() {
            tracing::warn!(
                pending = events.len() - sent.accepted.len() - sent.refused.len(),
                "publishing takes too long; left to the sweep"
            );
        }
        if let Some(hear) = self.hear {
            let published = sent.accepted.len();
            let left = events.len() - published;
            hear(Publications { published, left, at: self.clock.now() });
        }
        sent
    }

    /// The other half of [`Outbox::publish`]: takes what SNS has accepted out of the outbox, within two seconds, and sets
    /// aside what it has refused. Returns how many were cleared; the others are published again.
    pub async fn clear(&self, sent: Sent) -> usize {
        let events = sent.accepted.len();
        match tokio::time::timeout(CLEAR_TIMEOUT, self.note_sent(&sent)).await {
            Ok(noted) => noted.published,
            Err(_) => {
                tracing::warn!(events, "clearing takes too long; they may be published again");
                0
            }
        }
    }

    /// Publishes what has been pending for longer than `age`, oldest first in each shard, until all is
    /// published or `deadline` has come. Events that SNS refuses for good move to the shard [`STUCK`].
    ///
    /// # Errors
    /// The event log did not answer. What other shards had pending may have been published.
    pub async fn sweep(&self, age: Duration, deadline: Instant) -> Result<Swept, TableError> {
        let before = self.clock.now() - jiff::SignedDuration::try_from(age).unwrap_or_default();
        let shards = Shards::all().map(|shard| self.sweep_shard(shard, before, deadline));
        let mut swept = Swept::default();
        // Every shard has its turn before an error of one is reported.
        for shard in join_all(shards).await {
            let shard = shard?;
            swept.published += shard.published;
            swept.left += shard.left;
            swept.left_since = earlier(swept.left_since, shard.left_since);
        }
        swept.stuck = self.count_shard(STUCK).await?;
        Ok(swept)
    }

    async fn sweep_shard(
        &self,
        shard: String,
        before: Timestamp,
        deadline: Instant,
    ) -> Result<Swept, TableError> {
        let mut swept = Swept::default();
        let mut start = None;
        loop {
            let page = self
                .query_shard(&shard)
                .key_condition_expression("outbox_shard = :shard AND pending_since < :before")
                .expression_attribute_values(":before", text(sortable(before)))
                .limit(SWEEP_PAGE_EVENTS)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(CallError::of("Query outbox"))?;
            let items = page.items.unwrap_or_default();
            // The oldest comes first.
            let since = items.first().and_then(|item| text_field(item, "pending_since"));
            let (events, unread) = self.read_pending(items).await?;
            let mut sent = Sent::default();
            for batch in batches(&events, Outgoing::bytes) {
                if Instant::now() < deadline {
                    self.send_batch(batch, &mut sent).await;
                }
            }
            let noted = self.note_sent(&sent).await;
            for EventKey { stream, id } in &sent.accepted {
                tracing::info!(stream, event_id = %id, "event published by the sweep");
            }
            swept.published += noted.published;
            let left = unread + events.len() - noted.published - noted.stuck;
            if left > 0 {
                let since = since.and_then(|since| since.parse().ok());
                swept.left_since = earlier(swept.left_since, since);
            }
            swept.left += left;
            start = page.last_evaluated_key;
            if start.is_none() || Instant::now() >= deadline {
                return Ok(swept);
            }
        }
    }

    /// The events of these keys that are still pending, and how many of the keys could not be read now. The index
    /// may lag behind, so the table is asked.
    async fn read_pending(&self, keys: Vec<Item>) -> Result<(Vec<Outgoing>, usize), TableError> {
        let order: Vec<String> =
            keys.iter().filter_map(|key| text_field(key, &self.sort_key)).collect();
        let only_key = |mut item: Item| {
            item.retain(|name, _| *name == self.partition_key || *name == self.sort_key);
            item
        };
        let keys = keys.into_iter().map(only_key).collect();
        let read = batch_get(&self.dynamodb, &self.table, keys, "BatchGetItem events").await?;
        let pending = read.items.iter().filter(|item| item.contains_key("outbox_shard"));
        let mut events = Vec::new();
        for item in pending {
            match self.outgoing(item) {
                Some(event) => events.push(event),
                None => drop(self.set_aside_unreadable(item).await),
            }
        }
        // A batch answer has no order; the index has.
        events.sort_by_key(|event| order.iter().position(|id| *id == event.id.to_string()));
        Ok((events, read.unprocessed))
    }

    /// An event as the log keeps it, or `None` if the item is not one that [`Outbox::append`] has written.
    fn outgoing(&self, item: &Item) -> Option<Outgoing> {
        let attributes = item.get("attributes")?.as_m().ok()?;
        let attributes =
            attributes.iter().map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone())));
        Some(Outgoing {
            stream: text_field(item, &self.partition_key)?,
            id: text_field(item, &self.sort_key)?.parse().ok()?,
            body: text_field(item, "body")?,
            attributes: attributes.collect::<Option<_>>()?,
        })
    }

    /// Moves an item that is no event to the stuck ones, where it is counted and waits for a person.
    /// Whether it was.
    async fn set_aside_unreadable(&self, item: &Item) -> bool {
        let (stream, id) = (item.get(&self.partition_key), item.get(&self.sort_key));
        tracing::error!(id = ?id, "an event in the outbox cannot be read and is stuck");
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .set_key(stream.cloned().zip(id.cloned()).map(|(stream, id)| {
                Item::from([(self.partition_key.clone(), stream), (self.sort_key.clone(), id)])
            }))
            .update_expression(SET_ASIDE)
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", &self.sort_key)
            .expression_attribute_values(":stuck", text(STUCK))
            .expression_attribute_values(":since", text(sortable(self.clock.now())))
            .send()
            .await;
        if let Err(error) = &sent {
            let error = ErrorChain(error).to_string();
            tracing::warn!(error, "it stays where it is; the next sweep tries again");
        }
        sent.is_ok()
    }

    /// Makes an event pending again, as of the moment `since`: the next sweep publishes it once more. `false`
    /// if there is no such event.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn republish(
        &self,
        stream: &str,
        id: Uuid,
        since: Timestamp,
    ) -> Result<bool, TableError> {
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .key(&self.partition_key, text(stream))
            .key(&self.sort_key, text(id))
            .update_expression("SET outbox_shard = :shard, pending_since = :since")
            .condition_expression("attribute_exists(body)")
            .expression_attribute_values(":shard", text(self.shards.of(id)))
            .expression_attribute_values(":since", text(sortable(since)))
            .send()
            .await;
        is_applied(sent, "UpdateItem event")
    }

    /// What the outbox holds. The index lags a little behind the table.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn backlog(&self) -> Result<Backlog, TableError> {
        let shards: Vec<String> = Shards::all().collect();
        let counts = try_join_all(shards.iter().map(|shard| self.count_shard(shard)));
        let oldest = try_join_all(shards.iter().map(|shard| self.oldest_in_shard(shard)));
        let (counts, oldest, stuck) = tokio::try_join!(counts, oldest, self.count_shard(STUCK))?;
        Ok(Backlog {
            pending: counts.into_iter().sum(),
            oldest_pending_since: oldest.into_iter().flatten().min(),
            stuck,
        })
    }

    /// The keys of at most `limit` events that SNS refuses for good, oldest first.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn list_stuck(&self, limit: usize) -> Result<Vec<UnpublishedKey>, TableError> {
        self.list_shard(STUCK, limit).await
    }

    /// The keys of at most `limit` events that are going to be published, oldest first.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn list_pending(&self, limit: usize) -> Result<Vec<UnpublishedKey>, TableError> {
        let shards: Vec<String> = Shards::all().collect();
        let keys = try_join_all(shards.iter().map(|shard| self.list_shard(shard, limit))).await?;
        let mut keys = keys.concat();
        keys.sort_by_key(|key| key.pending_since);
        keys.truncate(limit);
        Ok(keys)
    }

    async fn list_shard(
        &self,
        shard: &str,
        limit: usize,
    ) -> Result<Vec<UnpublishedKey>, TableError> {
        let mut keys = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .query_shard(shard)
                .key_condition_expression("outbox_shard = :shard")
                .limit(i32::try_from(limit - keys.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(CallError::of("Query outbox"))?;
            keys.extend(page.items.unwrap_or_default().iter().filter_map(|item| {
                Some(UnpublishedKey {
                    stream: text_field(item, &self.partition_key)?,
                    event_id: text_field(item, &self.sort_key)?,
                    pending_since: text_field(item, "pending_since")
                        .and_then(|since| since.parse().ok()),
                })
            }));
            start = page.last_evaluated_key;
            if start.is_none() || keys.len() >= limit {
                return Ok(keys);
            }
        }
    }

    fn query_shard(&self, shard: &str) -> QueryFluentBuilder {
        let query = self.dynamodb.query().table_name(&self.table).index_name(&self.index);
        query.expression_attribute_values(":shard", text(shard))
    }

    async fn count_shard(&self, shard: &str) -> Result<u64, TableError> {
        let partition = ("outbox_shard", shard);
        count_partition(&self.dynamodb, (&self.table, &self.index), partition, None, "Query outbox")
            .await
    }

    async fn oldest_in_shard(&self, shard: &str) -> Result<Option<Timestamp>, TableError> {
        let oldest = self.list_shard(shard, 1).await?;
        Ok(oldest.first().and_then(|key| key.pending_since))
    }

    /// Publishes one batch, and adds what SNS has answered for.
    async fn send_batch(&self, batch: &[Outgoing], sent: &mut Sent) {
        let mut publications = self.call_publish_batch(batch).await;
        if batch.len() > 1 && publications.iter().all(|one| *one == Publication::Refused) {
            // The call was refused as a whole: one by one, only the guilty are.
            for (event, publication) in batch.iter().zip(&mut publications) {
                *publication = self.call_publish_batch(std::slice::from_ref(event)).await[0];
            }
        }
        for (event, publication) in batch.iter().zip(publications) {
            match publication {
                Publication::Accepted => sent.accepted.push(event.into()),
                Publication::Refused => sent.refused.push(event.into()),
                Publication::Failed => {}
            }
        }
    }

    /// Hands one batch to SNS and reads every entry of its answer.
    async fn call_publish_batch(&self, batch: &[Outgoing]) -> Vec<Publication> {
        // Until the answer: for traces, at the level `debug`.
        let _spans: Vec<Span> = batch.iter().map(|event| self.publish_span(event)).collect();
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
                let refused = is_refusal(error.code(), error.message());
                let error = ErrorChain(&error).to_string();
                tracing::warn!(error, refused, events = batch.len(), "SNS did not take a batch");
                let publication = if refused { Publication::Refused } else { Publication::Failed };
                return vec![publication; batch.len()];
            }
        };
        // An entry that the answer leaves out was not taken.
        let mut publications = vec![Publication::Failed; batch.len()];
        let mut set = |id: Option<&str>, publication| {
            let index = id.and_then(|id| id.parse::<usize>().ok());
            if let Some(slot) = index.and_then(|index| publications.get_mut(index)) {
                *slot = publication;
            }
        };
        for entry in answer.successful() {
            set(entry.id(), Publication::Accepted);
        }
        for entry in answer.failed() {
            let refused = entry.sender_fault() && is_refusal(Some(entry.code()), entry.message());
            tracing::warn!(code = entry.code(), refused, "SNS did not take an event");
            let publication = if refused { Publication::Refused } else { Publication::Failed };
            set(Some(entry.id()), publication);
        }
        publications
    }

    /// The span of one publication, within the trace that the event was stored with, however much later it is.
    fn publish_span(&self, event: &Outgoing) -> Span {
        let topic = self.topic_arn.rsplit(':').next();
        let parent = event.attributes.get("traceparent");
        tracing::debug_span!("publish", topic, event_id = %event.id, parent)
    }

    /// Writes into the event log what SNS has answered. After publishing: a crash between the two publishes twice, and
    /// inboxes take it once.
    async fn note_sent(&self, sent: &Sent) -> Noted {
        let cleared = sent.accepted.chunks(STATEMENTS_MAX).map(|keys| self.clear_together(keys));
        let stuck = sent.refused.iter().map(|key| self.set_aside_refused(key));
        let (cleared, stuck) = futures::join!(join_all(cleared), join_all(stuck));
        Noted {
            published: cleared.into_iter().sum(),
            stuck: stuck.into_iter().filter(|is_set_aside| *is_set_aside).count(),
        }
    }

    /// Takes these events, as many as one call takes, out of the outbox; returns how many are. Each statement succeeds or
    /// fails by itself, and one whose item is not there fails instead of making it.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html>
    async fn clear_together(&self, keys: &[EventKey]) -> usize {
        let mut left: Vec<&EventKey> = keys.iter().collect();
        let mut missing = 0;
        for attempt in 0..CLEAR_ATTEMPTS_MAX {
            if attempt > 0 {
                let random = fastrand::f64();
                let pause = jittered_exponential(attempt - 1, PAUSE_FIRST, PAUSE_MAX, random);
                tokio::time::sleep(pause).await;
            }
            let statements = left.iter().map(|key| self.clearing_statement(key)).collect();
            let sent = self
                .dynamodb
                .batch_execute_statement()
                .set_statements(Some(statements))
                .send()
                .await;
            let answer = match sent {
                Ok(answer) => answer,
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(error, events = left.len(), "events stay pending");
                    return keys.len() - missing - left.len();
                }
            };
            // The answers are in the order of the statements; what is left out has not been carried out.
            let mut answers = answer.responses.unwrap_or_default().into_iter();
            left.retain(|key| match clearing(answers.next().as_ref()) {
                Clearing::Done => false,
                Clearing::NoSuchEvent => {
                    tracing::warn!(id = %key.id, "the event log does not have a published event");
                    missing += 1;
                    false
                }
                Clearing::Failed => true,
            });
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            tracing::warn!(
                events = left.len(),
                "events stay pending; they will be published again"
            );
        }
        keys.len() - missing - left.len()
    }

    fn clearing_statement(&self, key: &EventKey) -> BatchStatementRequest {
        let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let (table, partition_key, sort_key) =
            (name(&self.table), name(&self.partition_key), name(&self.sort_key));
        BatchStatementRequest::builder()
            .statement(format!(
                "UPDATE {table} REMOVE outbox_shard REMOVE pending_since \
                 WHERE {partition_key} = ? AND {sort_key} = ?"
            ))
            .parameters(text(&key.stream))
            .parameters(text(key.id))
            .build()
            .expect("a statement has its text")
    }

    /// Moves an event that SNS refuses for good to the stuck ones.
    async fn set_aside_refused(&self, key: &EventKey) -> bool {
        let sent = self
            .dynamodb
            .update_item()
            .table_name(&self.table)
            .key(&self.partition_key, text(&key.stream))
            .key(&self.sort_key, text(key.id))
            .update_expression(SET_ASIDE)
            .condition_expression("attribute_exists(body)")
            .expression_attribute_values(":stuck", text(STUCK))
            .expression_attribute_values(":since", text(sortable(self.clock.now())))
            .send()
            .await;
        if let Err(error) = &sent {
            let error = ErrorChain(error).to_string();
            tracing::warn!(error, "a refused event stays pending; it will be published again");
        }
        sent.is_ok()
    }
}

/// What the event log has noted, in events.
struct Noted {
    published: usize,
    stuck: usize,
}

/// What became of one statement that clears an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clearing {
    Done,
    NoSuchEvent,
    Failed,
}

fn clearing(answer: Option<&BatchStatementResponse>) -> Clearing {
    let Some(answer) = answer else { return Clearing::Failed };
    match answer.error().map(|error| error.code()) {
        None => Clearing::Done,
        Some(Some(BatchStatementErrorCodeEnum::ConditionalCheckFailed)) => Clearing::NoSuchEvent,
        Some(_) => Clearing::Failed,
    }
}

/// Whether SNS will never take this message. What is wrong with the topic is no message's fault: once that is put
/// right, the events are published.
fn is_refusal(code: Option<&str>, message: Option<&str>) -> bool {
    code.is_some_and(|code| REFUSALS.contains(&code))
        && !message.is_some_and(|message| message.contains("TopicArn"))
}

fn unconditional<Tag>(put: PutBuilder) -> TransactionWrite<Tag> {
    let put = put.build().expect("a put has a table and an item");
    TransactionWrite::new(Role::Unconditional, TransactWriteItem::builder().put(put).build())
}

/// The earlier of two moments, as far as they are known.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn text_field(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

/// A moment as the index sorts it: to the millisecond, in UTC.
fn sortable(moment: Timestamp) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_topic_is_no_fault_of_the_message() {
        let invalid = Some("InvalidParameter");
        assert!(is_refusal(invalid, Some("Invalid parameter: Message too long")));
        assert!(!is_refusal(invalid, Some("Invalid parameter: TopicArn Reason: no such topic")));
        assert!(!is_refusal(Some("Throttling"), None));
        assert!(!is_refusal(None, None));
    }
}
