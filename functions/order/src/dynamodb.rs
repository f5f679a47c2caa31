//! The order service's tables.
//!
//! In: decisions of [`crate::rules`]. Out: what DynamoDB made of them. Guarantee: an order and the event that
//! reports it change in one transaction or not at all, and the event is then published at least once.
//!
//! A new order stands for the publication of its own event. It is in a partition of the index `pending` that says so, until
//! its stock is decided, which shows that the event was published; or until the relay has published it once more, because it
//! took too long ([`PendingOrders::publish_unpublished`]); or until it is cancelled, which puts its event in the outbox.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
    },
};
use events::{Body, Email, Event, OrderId, ProductId, Stamp};
use exactly_once::{
    Answers, CallError, CausedEvents, Commit, CommitError, CommitTogether, Decided, EarlierRequest,
    Failure, Handled, IdempotencyKeys, Inbox, Item, Message, Outbox, Outgoing, RequestKey, Role,
    Shards, TableError, TransactionWrite, commit, commit_together,
    idempotency_keys::interpret_key_item,
    outbox::EventKey,
    table::{batch_get, batch_get_tables, count_partition, is_applied, text},
    transaction::TRANSACTION_WRITES_MAX,
};
use futures::{
    StreamExt, TryStreamExt,
    future::{join_all, try_join_all},
    stream,
};
use jiff::{SignedDuration, Timestamp};
use messaging::{EventFactory, ReceivedEvent};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use telemetry::Trace;
use tokio::time::Instant;

use crate::{
    awaiting_payment::PaymentSchedule,
    outcomes::{self, Outcome},
    rules::{
        CatalogEntry, Decision, Order, Payments, SagaReply, Settlement, Status, Transition,
        interpret_settlement, settle,
    },
    tags::Tags,
};

/// The index of customers' orders.
pub(crate) const CUSTOMER_INDEX: &str = "by_customer_keys";
/// The sparse index of pending orders.
pub(crate) const PENDING_INDEX: &str = "pending";
/// The one partition of that index before it was sharded: read as long as an order may be in it.
const UNSHARDED: &str = "pending";
/// What the partition begins with of an order whose `OrderCreated` may not be published.
const UNPUBLISHED: &str = "unpublished-";
/// Maximum number of orders of one partition whose events one sweep publishes once more: what is only late, because a consumer
/// is behind, is not to become a second load of the same size.
const PUBLISHED_AGAIN_MAX: usize = 100;

/// How long stock is kept for an order that is not paid, unless said otherwise.
const RESERVATION_TIME: SignedDuration = SignedDuration::from_mins(30);

/// Maximum number of partitions of the index that are read at once to count them: an emulator answers one after the other, and
/// each answer has its own time limit.
const QUERIES_AT_ONCE: usize = 8;

/// The orders table, and the outbox of its events.
#[derive(Debug, Clone)]
pub struct Orders {
    client: Client,
    table: String,
    outbox: Outbox,
    event_factory: EventFactory,
    pending_shards: Shards,
    reservation_time: SignedDuration,
}

/// The writes whose failure means something of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderWrite {
    Order,
    IdempotencyKey,
}

/// What became of a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is stored. These events are to be published at once; if they are not, the relay does it. They are not in the
    /// outbox.
    Now(Vec<Outgoing>),
    /// Its idempotency key came before.
    Earlier(EarlierRequest),
}

/// A client's idempotency key, and the answer that is stored with it.
#[derive(Debug)]
pub struct KeyedAnswer<'a> {
    pub keys: &'a IdempotencyKeys,
    pub key: &'a RequestKey,
    pub answer: &'a str,
}

/// What became of a request for a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransitionOutcome {
    /// The order is in the requested status, now or already. These events are in the outbox and are to be published at once;
    /// if they are not, the relay does it.
    Applied(Box<Order>, Vec<Outgoing>),
    /// The order is in a status from which this cannot be done.
    Refused(Status),
    UnknownOrder,
}

/// The position after which a page of orders begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderCursor {
    after: OrderId,
    created_at: Stamp,
}

impl http_api::Cursor for OrderCursor {}

impl Orders {
    #[must_use]
    pub fn new(
        client: Client,
        table: impl Into<String>,
        outbox: Outbox,
        event_factory: EventFactory,
    ) -> Self {
        let table = table.into();
        Self {
            client,
            table,
            outbox,
            event_factory,
            pending_shards: Shards::default(),
            reservation_time: RESERVATION_TIME,
        }
    }

    /// What its events, and the ids and moments of new orders, are made by.
    #[must_use]
    pub fn event_factory(&self) -> &EventFactory {
        &self.event_factory
    }

    /// How long stock is kept for an order that is not paid, instead of half an hour.
    #[must_use]
    pub fn reservation_time(self, reservation_time: SignedDuration) -> Self {
        Self { reservation_time, ..self }
    }

    /// Spreads new pending orders over this number of partitions of the index `pending`, and those that await payment over as
    /// many of theirs.
    #[must_use]
    pub fn pending_shards(self, pending_shards: Shards) -> Self {
        Self { pending_shards, ..self }
    }

    /// Where its events wait until they are published.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Stores a new order with its event; with an idempotency key, once a key.
    ///
    /// # Errors
    /// The tables did not answer: whether the order is stored is unknown.
    pub async fn add(
        &self,
        order: &Order,
        keyed: Option<KeyedAnswer<'_>>,
        trace: &Trace,
    ) -> Result<Added, TableError> {
        let item: Item = serde_dynamo::to_item(order).map_err(TableError::corrupt(&self.table))?;
        let body = Body::OrderCreated(order.to_payload());
        let events = [self.event_factory.outgoing(&trace.correlation_id, body, trace)];
        let shard = self.pending_shards.of(&order.order_id);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            // While the order is pending, so that those that stay so are found without reading all.
            .item("pending_shard", text(format!("{UNPUBLISHED}{shard}")))
            .item("created_event_id", text(events[0].id))
            .condition_expression("attribute_not_exists(order_id)")
            .build()
            .expect("a put has a table and an item");
        let put = TransactWriteItem::builder().put(put).build();
        let mut writes = vec![TransactionWrite::new(Role::Guard(OrderWrite::Order), put)];
        writes.extend(self.outbox.store(&events));
        if let Some(KeyedAnswer { keys, key, answer }) = &keyed {
            let tag = OrderWrite::IdempotencyKey;
            writes.push(keys.record(tag, key, answer));
        }
        match commit(&self.client, &writes).await? {
            Commit::Done => {
                outcomes::count(&[Outcome::placed()], self.event_factory.now().timestamp());
                Ok(Added::Now(events.into()))
            }
            // The id is random: what is there under it is this very order, stored by an attempt whose
            // answer was lost. The relay publishes its event.
            Commit::GuardFailed(OrderWrite::Order, _) => Ok(Added::Now(Vec::new())),
            Commit::GuardFailed(OrderWrite::IdempotencyKey, item) => {
                let fingerprint = keyed.map(|keyed| keyed.key.fingerprint.as_str());
                let earlier =
                    interpret_key_item(&item.unwrap_or_default(), fingerprint.unwrap_or_default());
                Ok(Added::Earlier(earlier))
            }
            Commit::Duplicate | Commit::ConditionFailed(_) => {
                unreachable!("the transaction has neither a marker nor a business condition")
            }
        }
    }

    /// Makes the transition that `decide` finds, with the event that reports it. If the order moves on in between,
    /// decides again.
    ///
    /// # Errors
    /// The tables did not answer: whether the transition was made is unknown, and asking again finds out.
    pub async fn apply_transition(
        &self,
        id: &OrderId,
        decide: fn(&Order) -> Decision,
        trace: &Trace,
    ) -> Result<TransitionOutcome, TableError> {
        // Statuses only move forward, and there are three transitions at most before the last.
        const ATTEMPTS_MAX: usize = 4;
        let Some(mut item) = self.get_item(id).await? else {
            return Ok(TransitionOutcome::UnknownOrder);
        };
        for _ in 0..ATTEMPTS_MAX {
            let unpublished = unpublished_event(&item);
            let order: Order = self.read(item)?;
            let transition = match decide(&order) {
                Decision::Apply(transition) => transition,
                Decision::AlreadyApplied => {
                    return Ok(TransitionOutcome::Applied(Box::new(order), Vec::new()));
                }
                Decision::Refused(status) => return Ok(TransitionOutcome::Refused(status)),
            };
            let now = self.event_factory.now();
            let body = transition.body.clone();
            let events = [self.event_factory.outgoing(&trace.correlation_id, body, trace)];
            let mut writes =
                vec![self.transition_write(id, &transition, now, &trace.correlation_id)];
            writes.extend(self.outbox.append(&events));
            // Nothing else would have the event published: a cancelled order is not looked at again.
            writes.extend(unpublished.map(|created| self.outbox.enqueue(&created)));
            match commit(&self.client, &writes).await? {
                Commit::Done => {
                    let moment = now.timestamp();
                    outcomes::count(&[Outcome::of(&transition, &order, moment)], moment);
                    let order = Order { status: transition.to, updated_at: now, ..order };
                    return Ok(TransitionOutcome::Applied(Box::new(order), events.into()));
                }
                Commit::GuardFailed(_, Some(now)) => item = now,
                Commit::GuardFailed(_, None) => return Ok(TransitionOutcome::UnknownOrder),
                Commit::Duplicate | Commit::ConditionFailed(_) => {
                    unreachable!("the transaction has neither a marker nor a business condition")
                }
            }
        }
        Err(TableError::Contended { subject: "the order's status".into() })
    }

    /// A page of a customer's orders, newest first, each as the last write left it, and the cursor of the next one. The index
    /// says which orders these are; what is gone since is left out.
    ///
    /// # Errors
    /// The table did not answer, or not with everything in several tries.
    pub async fn of_customer(
        &self,
        customer_email: &Email,
        limit: i32,
        after: Option<OrderCursor>,
    ) -> Result<(Vec<Order>, Option<OrderCursor>), TableError> {
        let start = after.map(|at| {
            Item::from([
                ("order_id".to_owned(), text(at.after.as_str())),
                ("created_at".to_owned(), text(at.created_at.to_string())),
                ("customer_email".to_owned(), text(customer_email.as_str())),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(CUSTOMER_INDEX)
            .key_condition_expression("customer_email = :email")
            .expression_attribute_values(":email", text(customer_email.as_str()))
            .scan_index_forward(false)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Query orders by customer"))?;
        let next = answer.last_evaluated_key.and_then(|key| {
            let field = |name: &str| key.get(name)?.as_s().ok();
            Some(OrderCursor {
                after: field("order_id")?.parse().ok()?,
                created_at: field("created_at")?.parse().ok()?,
            })
        });
        let ids: Vec<AttributeValue> = answer
            .items
            .unwrap_or_default()
            .into_iter()
            .filter_map(|mut key| key.remove("order_id"))
            .collect();
        Ok((self.get_all(&ids).await?, next))
    }

    /// The orders with these ids, in their order, as the last write left them; those that there are not are left out.
    async fn get_all(&self, ids: &[AttributeValue]) -> Result<Vec<Order>, TableError> {
        const OPERATION: &str = "BatchGetItem orders";
        let keys = ids.iter().map(|id| Item::from([("order_id".to_owned(), id.clone())])).collect();
        let read = batch_get(&self.client, &self.table, keys, OPERATION).await?;
        // A page without what a throttled table leaves out would look complete.
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        let mut items = read.items;
        // A batch answer has no order; the index has.
        items.sort_by_key(|item| ids.iter().position(|id| item.get("order_id") == Some(id)));
        items.into_iter().map(|item| self.read(item)).collect()
    }

    /// The events of an order as they were stored, in the order in which they were made.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn history(&self, id: &OrderId) -> Result<Vec<String>, TableError> {
        let mut bodies = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(self.outbox.table())
                .key_condition_expression("order_id = :id")
                .expression_attribute_values(":id", text(id.as_str()))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(CallError::of("Query event log"))?;
            let items = page.items.unwrap_or_default().into_iter();
            bodies.extend(items.filter_map(|mut item| match item.remove("body") {
                Some(AttributeValue::S(body)) => Some(body),
                _ => None,
            }));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(bodies);
            }
        }
    }

    /// One order, as the last write left it, or `None` if there is no such order.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn get(&self, id: &OrderId) -> Result<Option<Order>, TableError> {
        self.get_item(id).await?.map(|item| self.read(item)).transpose()
    }

    /// Has an order have these tags and no others. Returns whether there is such an order.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn set_tags(&self, id: &OrderId, tags: &Tags) -> Result<bool, TableError> {
        let call = self.client.update_item().table_name(&self.table);
        let call = call.key("order_id", text(id.as_str()));
        let call = call.condition_expression("attribute_exists(order_id)");
        let call = if tags.is_empty() {
            call.update_expression("REMOVE tags")
        } else {
            let tags = AttributeValue::L(tags.iter().map(text).collect());
            call.update_expression("SET tags = :tags").expression_attribute_values(":tags", tags)
        };
        is_applied(call.send().await, "UpdateItem tags")
    }

    async fn get_item(&self, id: &OrderId) -> Result<Option<Item>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("order_id", text(id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem order"))?;
        Ok(answer.item)
    }

    fn read<T: DeserializeOwned>(&self, item: Item) -> Result<T, TableError> {
        serde_dynamo::from_item(item).map_err(TableError::corrupt(&self.table))
    }

    /// The write that makes a transition, if the order is still in the status from which it is made.
    fn transition_write(
        &self,
        id: &OrderId,
        transition: &Transition,
        now: Stamp,
        correlation_id: &str,
    ) -> TransactionWrite<OrderWrite> {
        let mut set = "SET #status = :to, updated_at = :now".to_owned();
        let mut update = Update::builder()
            .table_name(&self.table)
            .key("order_id", text(id.as_str()))
            .condition_expression("#status = :from")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", text(transition.from.as_str()))
            .expression_attribute_values(":to", text(transition.to.as_str()))
            .expression_attribute_values(":now", text(now.to_string()))
            .return_values_on_condition_check_failure(AllOld);
        if let Some(reason) = &transition.reason {
            set.push_str(", reason = :reason");
            update = update.expression_attribute_values(":reason", text(reason));
        }
        if transition.to == Status::AwaitingPayment {
            let schedule = PaymentSchedule::new(now.timestamp(), self.reservation_time);
            for (name, value) in schedule.attributes(&self.pending_shards.of(id)) {
                set.push_str(&format!(", {name} = :{name}"));
                update = update.expression_attribute_values(format!(":{name}"), value);
            }
            // The relay's events about it belong to what the others belong to.
            set.push_str(", correlation_id = :correlation_id");
            update = update.expression_attribute_values(":correlation_id", text(correlation_id));
        }
        let removed = match transition.from {
            Status::AwaitingPayment => PaymentSchedule::ATTRIBUTES.join(", "),
            _ => "pending_shard, created_event_id".to_owned(),
        };
        let update = update
            .update_expression(format!("{set} REMOVE {removed}"))
            .build()
            .expect("an update has a table, a key and an expression");
        let update = TransactWriteItem::builder().update(update).build();
        TransactionWrite::new(Role::Guard(OrderWrite::Order), update)
    }
}

/// The event of an order that stands for its publication.
fn unpublished_event(order: &Item) -> Option<EventKey> {
    let field = |name: &str| order.get(name)?.as_s().ok();
    field("pending_shard")?.strip_prefix(UNPUBLISHED)?;
    let id = field("created_event_id")?.parse().ok()?;
    Some(EventKey { stream: field("order_id")?.clone(), id })
}

#[derive(Debug, Clone)]
pub struct OrderConsumer {
    orders: Orders,
    caused: CausedEvents,
    payments: Payments,
}

/// What another service replies about an order, as it came.
#[derive(Debug, Clone, Copy)]
struct ReceivedReply<'a> {
    event: &'a Event,
    reply: SagaReply<'a>,
    trace: &'a Trace,
}

impl<'a> ReceivedReply<'a> {
    /// `None` if the event is no reply.
    fn new(event: &'a Event, trace: &'a Trace) -> Option<Self> {
        let reply = match &event.body {
            Body::StockReserved(_) => SagaReply::StockReserved,
            Body::StockRejected(rejected) => SagaReply::StockRejected(rejected),
            Body::PaymentSucceeded(_) => SagaReply::PaymentSucceeded,
            Body::PaymentCancelled(_) => SagaReply::PaymentCancelled,
            _ => return None,
        };
        Some(Self { event, reply, trace })
    }
}

/// Number of transactions that are tried for orders that are settled together, before each is settled by itself: the first,
/// and two that leave out those that had moved on.
const ROUNDS_MAX: usize = 3;

impl OrderConsumer {
    /// Settles these orders, once a message by the markers of this inbox.
    #[must_use]
    pub fn new(orders: Orders, inbox: Inbox, payments: Payments) -> Self {
        let caused = CausedEvents::new(inbox, orders.outbox.clone());
        Self { orders, caused, payments }
    }

    /// Handles the replies of a batch together: the orders in one read, their transitions in one transaction, as far as
    /// its limits allow. It leaves to [`OrderConsumer::handle`] whatever it cannot settle with others.
    pub async fn handle_together(&self, received: Vec<ReceivedEvent>, answers: Answers) {
        // Marker, order and event.
        const WRITES_OF_ORDER: usize = 3;
        // A transaction names each item once.
        let (mut events, mut orders) = (HashSet::new(), HashSet::new());
        let replies: Vec<(&Message, ReceivedReply<'_>)> = received
            .iter()
            .filter_map(|one| Some((&one.message, ReceivedReply::new(&one.event, &one.trace)?)))
            .filter(|(_, one)| {
                events.insert(one.event.id) && orders.insert(one.event.body.order_id())
            })
            .collect();
        let groups = replies.chunks(TRANSACTION_WRITES_MAX / WRITES_OF_ORDER);
        let settled = join_all(groups.map(|group| self.settle_together(group))).await;
        let (messages, decided): (Vec<&Message>, Vec<_>) = settled.into_iter().flatten().unzip();
        // Answered after publishing: what is answered is acknowledged, and its events have no place in the outbox.
        for (message, result) in messages.into_iter().zip(self.caused.publish(decided).await) {
            answers.set(message, result);
        }
    }

    /// Handles one event of the queue `order`.
    ///
    /// # Errors
    /// There is no such order, which is poison; or nothing was done, or whether it was is unknown, and another try
    /// finds out.
    pub async fn handle(&self, event: Event, trace: Trace) -> Result<Handled, Failure> {
        let Some(reply) = ReceivedReply::new(&event, &trace) else {
            return Ok(Handled::Ignored);
        };
        let (handled, events) = self.settle(reply).await?;
        let decided = Decided { key: event.id.to_string(), result: Ok(handled), events };
        self.caused.publish(vec![decided]).await.remove(0)
    }

    /// Settles several orders, and says what became of those replies of which something has.
    async fn settle_together<'a>(
        &self,
        group: &[(&'a Message, ReceivedReply<'_>)],
    ) -> Vec<(&'a Message, Decided)> {
        let decided = |one: ReceivedReply<'_>, result, events| Decided {
            key: one.event.id.to_string(),
            result,
            events,
        };
        let ids = group.iter().map(|(_, one)| text(one.event.body.order_id().as_str()));
        let orders = match self.orders.get_all(&ids.collect::<Vec<_>>()).await {
            Ok(orders) => orders,
            // An item that cannot be read is the fault of its message, which is found by itself.
            Err(error) if error.is_permanent() => return Vec::new(),
            Err(error) => {
                let error = Arc::new(error);
                let failed = group.iter().map(|(message, one)| {
                    (*message, decided(*one, Err(Failure::shared(&error)), Vec::new()))
                });
                return failed.collect();
            }
        };
        let (mut settled, mut open) = (Vec::new(), Vec::with_capacity(group.len()));
        for (message, reply) in group {
            let id = reply.event.body.order_id();
            let order = orders.iter().find(|order| order.order_id == *id);
            match transition_of(*reply, order, self.payments) {
                Ok(transition) => open.push((*message, *reply, transition)),
                Err(result) => settled.push((*message, decided(*reply, result, Vec::new()))),
            }
        }
        for _ in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let members = open.iter().map(|(_, one, transition)| self.settlement(*one, transition));
            let (members, events): (Vec<_>, Vec<_>) = members.unzip();
            match commit_together(&self.orders.client, &members, &[]).await {
                Ok(CommitTogether::Done) => {
                    let now = self.orders.event_factory.now().timestamp();
                    let outcomes = open.iter().filter_map(|(_, one, transition)| {
                        let id = one.event.body.order_id();
                        let order = orders.iter().find(|order| order.order_id == *id)?;
                        Some(Outcome::of(transition, order, now))
                    });
                    outcomes::count(&outcomes.collect::<Vec<_>>(), now);
                    settled.extend(open.drain(..).zip(events).map(|((message, one, _), event)| {
                        (message, decided(one, Ok(Handled::Done), vec![event]))
                    }));
                }
                Ok(CommitTogether::MembersFailed(failed)) => {
                    for (member, commit) in failed.into_iter().rev() {
                        let (message, one, _) = open.remove(member);
                        // An order that has moved on is read again, by itself.
                        if let Some(handled) = interpret_settlement(&commit) {
                            settled.push((message, decided(one, Ok(handled), Vec::new())));
                        }
                    }
                }
                // One of them is wrong in itself, and is found by itself.
                Ok(CommitTogether::ConditionFailed(_)) | Err(CommitError::Invalid(_)) => break,
                Err(error) => {
                    let error = Arc::new(TableError::from(error));
                    settled.extend(open.drain(..).map(|(message, one, _)| {
                        (message, decided(one, Err(Failure::shared(&error)), Vec::new()))
                    }));
                }
            }
        }
        settled
    }

    /// Moves an order as the reply says, with the event that reports it. Returns what became of the reply, and the events, to
    /// be published.
    ///
    /// # Errors
    /// There is no such order, which is poison; or nothing was done, or whether it was is unknown, and another try
    /// finds out.
    async fn settle(&self, reply: ReceivedReply<'_>) -> Result<(Handled, Vec<Outgoing>), Failure> {
        // Statuses only move forward: the second time the order is settled or cancelled.
        const ATTEMPTS_MAX: usize = 2;
        for _ in 0..ATTEMPTS_MAX {
            let order = self.orders.get(reply.event.body.order_id()).await?;
            let transition = match transition_of(reply, order.as_ref(), self.payments) {
                Ok(transition) => transition,
                Err(result) => return result.map(|handled| (handled, Vec::new())),
            };
            let (writes, event) = self.settlement(reply, &transition);
            let commit = commit(&self.orders.client, &writes).await?;
            if let Some(handled) = interpret_settlement(&commit) {
                let is_stored = commit == Commit::Done;
                if let Some(order) = order.as_ref().filter(|_| is_stored) {
                    let now = self.orders.event_factory.now().timestamp();
                    outcomes::count(&[Outcome::of(&transition, order, now)], now);
                }
                return Ok((handled, if is_stored { vec![event] } else { Vec::new() }));
            }
        }
        Err(TableError::Contended { subject: "the order".into() }.into())
    }

    /// The writes that settle an order, and the event that reports it.
    fn settlement(
        &self,
        reply: ReceivedReply<'_>,
        transition: &Transition,
    ) -> (Vec<TransactionWrite<OrderWrite>>, Outgoing) {
        let ReceivedReply { event, trace, .. } = reply;
        let event_factory = &self.orders.event_factory;
        let now = event_factory.now();
        let outgoing =
            event_factory.outgoing(&event.correlation_id, transition.body.clone(), trace);
        let events = std::slice::from_ref(&outgoing);
        let mut writes = vec![
            self.caused.marker(event.id, events),
            self.orders.transition_write(
                event.body.order_id(),
                transition,
                now,
                event.correlation_id.as_str(),
            ),
        ];
        writes.extend(self.caused.store(events));
        (writes, outgoing)
    }
}

/// The transition that a reply calls for, or what becomes of its message without one.
fn transition_of(
    reply: ReceivedReply<'_>,
    order: Option<&Order>,
    payments: Payments,
) -> Result<Box<Transition>, Result<Handled, Failure>> {
    let body = &reply.event.body;
    let Some(order) = order else {
        let detail = format!("no order {}", body.order_id());
        return Err(Err(Failure::poison("unknown_order", detail)));
    };
    match settle(order, reply.reply, payments) {
        Settlement::Apply(transition) => Ok(transition),
        Settlement::AlreadySettled => Err(Ok(Handled::Duplicate)),
        Settlement::Contradiction => {
            let (event_type, status) = (body.event_type(), order.status.as_str());
            let detail = format!("{event_type} for an order that is {status}");
            Err(Err(Failure::poison("contradiction", detail)))
        }
    }
}

/// What order-api reads for a new order: the product service's table, and beside it the request's idempotency key.
#[derive(Debug, Clone)]
pub struct Catalog {
    client: Client,
    table: String,
}

impl Catalog {
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// These products, as the last write left them, and the request's idempotency key, in one call. A product that is
    /// not there is left out. The key is judged first: a repetition is one, whatever has become of the products.
    ///
    /// # Errors
    /// The tables did not answer, or not with everything in several tries.
    pub async fn entries(
        &self,
        ids: impl IntoIterator<Item = &ProductId>,
        keyed: Option<(&IdempotencyKeys, &RequestKey)>,
    ) -> Result<CatalogRead, TableError> {
        const OPERATION: &str = "BatchGetItem products and idempotency key";
        let mut ids: Vec<&ProductId> = ids.into_iter().collect();
        ids.sort();
        ids.dedup();
        let key = |id: &ProductId| Item::from([("product_id".to_owned(), text(id.as_str()))]);
        let mut wanted: Vec<(&str, Item)> =
            ids.into_iter().map(|id| (&*self.table, key(id))).collect();
        let location = keyed.map(|(keys, key)| keys.location(key));
        wanted.extend(location.clone());
        let mut read = batch_get_tables(&self.client, wanted, OPERATION).await?;
        let known = location.and_then(|(table, _)| read.items.remove(table)?.pop());
        if let (Some(item), Some((_, key))) = (known, keyed) {
            return Ok(CatalogRead::Earlier(interpret_key_item(&item, &key.fingerprint)));
        }
        // What a throttled table leaves out is neither a missing product nor a new key.
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        let entry = |item| {
            let entry: CatalogEntry =
                serde_dynamo::from_item(item).map_err(TableError::corrupt(&self.table))?;
            Ok((entry.product_id.clone(), entry))
        };
        let products = read.items.remove(&self.table).unwrap_or_default();
        let entries: Result<_, TableError> = products.into_iter().map(entry).collect();
        Ok(CatalogRead::Entries(entries?))
    }
}

/// What was read for a new order.
#[derive(Debug)]
pub enum CatalogRead {
    /// Its idempotency key came before.
    Earlier(EarlierRequest),
    /// The products that there are.
    Entries(HashMap<ProductId, CatalogEntry>),
}

/// The orders that are not settled, read over the sparse index `pending`: an order is in it only while it is pending.
#[derive(Debug, Clone)]
pub struct PendingOrders {
    client: Client,
    table: String,
}

impl PendingOrders {
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Publishes the `OrderCreated` of those that were placed before this moment and still stand for its publication, unless
    /// `deadline` has passed: it may never have been published, or it was and a consumer is behind. Each is published once more
    /// at most, or its event gets a place in the outbox; then its order is pending like any other. Returns the number of those,
    /// and of those that are left.
    ///
    /// # Errors
    /// The tables did not answer. What other partitions had may have been published.
    pub async fn publish_unpublished(
        &self,
        outbox: &Outbox,
        before: Timestamp,
        deadline: Instant,
    ) -> Result<(usize, usize), TableError> {
        let mut sum = (0, 0);
        if Instant::now() >= deadline {
            return Ok(sum);
        }
        let shards = Shards::all()
            .map(async |shard| self.publish_unpublished_of(&shard, outbox, before).await);
        // Every partition has its turn before an error of one is reported.
        for counts in join_all(shards).await {
            let (published, left) = counts?;
            sum = (sum.0 + published, sum.1 + left);
        }
        Ok(sum)
    }

    async fn publish_unpublished_of(
        &self,
        shard: &str,
        outbox: &Outbox,
        before: Timestamp,
    ) -> Result<(usize, usize), TableError> {
        let partition = format!("{UNPUBLISHED}{shard}");
        let limit = i32::try_from(PUBLISHED_AGAIN_MAX).unwrap_or(i32::MAX);
        let late = self.placed_before(&partition, &Stamp::from(before).to_string(), limit).await?;
        let id = |mut item: Item| item.remove("order_id");
        // The index may lag behind, so the table is asked.
        let events = self.unpublished_events(late.into_iter().filter_map(id)).await?;
        let left = outbox.publish_stored(&events).await?;
        let published: Vec<&EventKey> =
            events.iter().filter(|event| !left.contains(event)).collect();
        for EventKey { stream, id, .. } in &published {
            tracing::info!(order_id = stream, event_id = %id, "event published by the sweep");
        }
        let noted = published.iter().map(|event| self.note_published(event, &partition, shard));
        try_join_all(noted).await?;
        Ok((published.len(), left.len()))
    }

    /// The `OrderCreated` of those of these orders that still stand for its publication.
    ///
    /// # Errors
    /// The table did not answer, or not for all of them.
    pub async fn unpublished_events(
        &self,
        order_ids: impl IntoIterator<Item = AttributeValue>,
    ) -> Result<Vec<EventKey>, TableError> {
        const OPERATION: &str = "BatchGetItem unpublished orders";
        let key = |id| Item::from([("order_id".to_owned(), id)]);
        let keys = order_ids.into_iter().map(key).collect();
        let read = batch_get(&self.client, &self.table, keys, OPERATION).await?;
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        Ok(read.items.iter().filter_map(unpublished_event).collect())
    }

    /// An order does not stand for its event's publication any more, if it still does.
    async fn note_published(
        &self,
        event: &EventKey,
        from: &str,
        to: &str,
    ) -> Result<bool, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("order_id", text(&event.stream))
            .update_expression("SET pending_shard = :to REMOVE created_event_id")
            .condition_expression("pending_shard = :from")
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":to", text(to))
            .send()
            .await;
        is_applied(sent, "UpdateItem published order")
    }

    /// How many there are.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn count(&self) -> Result<u64, TableError> {
        self.count_shards(None).await
    }

    /// How many of them were placed before this moment.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn count_placed_before(&self, moment: Timestamp) -> Result<u64, TableError> {
        self.count_shards(Some(("created_at", &Stamp::from(moment).to_string()))).await
    }

    async fn count_shards(&self, before: Option<(&str, &str)>) -> Result<u64, TableError> {
        let counts = stream::iter(partitions()).map(async |shard| {
            let (index, partition) = ((&*self.table, PENDING_INDEX), ("pending_shard", &*shard));
            count_partition(&self.client, index, partition, before, "Query pending orders").await
        });
        counts
            .buffer_unordered(QUERIES_AT_ONCE)
            .try_fold(0, async |sum, count| Ok(sum + count))
            .await
    }

    /// The ids of the oldest that were placed before this moment, at most `limit`.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn oldest_placed_before(
        &self,
        moment: Timestamp,
        limit: u16,
    ) -> Result<Vec<String>, TableError> {
        let before = Stamp::from(moment).to_string();
        let oldest = stream::iter(partitions())
            .map(async |shard| self.placed_before(&shard, &before, limit.into()).await);
        let items: Vec<Vec<Item>> = oldest.buffer_unordered(QUERIES_AT_ONCE).try_collect().await?;
        let items = items.into_iter().flatten();
        let field = |item: &Item, name: &str| item.get(name)?.as_s().ok().cloned();
        let mut orders: Vec<(String, String)> = items
            .filter_map(|item| Some((field(&item, "created_at")?, field(&item, "order_id")?)))
            .collect();
        orders.sort();
        orders.truncate(limit.into());
        Ok(orders.into_iter().map(|(_, id)| id).collect())
    }

    /// The keys of the oldest of one partition, at most `limit`.
    async fn placed_before(
        &self,
        partition: &str,
        before: &str,
        limit: i32,
    ) -> Result<Vec<Item>, TableError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(PENDING_INDEX)
            .key_condition_expression("pending_shard = :shard AND created_at < :before")
            .expression_attribute_values(":shard", text(partition))
            .expression_attribute_values(":before", text(before))
            .limit(limit)
            .send()
            .await
            .map_err(CallError::of("Query pending orders"))?;
        Ok(answer.items.unwrap_or_default())
    }
}

/// Every partition of the index `pending` in which an order may be, whatever the number of shards is or was.
pub(crate) fn partitions() -> impl Iterator<Item = String> {
    let unpublished = Shards::all().map(|shard| format!("{UNPUBLISHED}{shard}"));
    Shards::all().chain(unpublished).chain([UNSHARDED.to_owned()])
}
