//! The orders that await payment: who is reminded, and for whom the time to pay is over.
//!
//! In: the sparse index `awaiting_payment`, in which an order is only while it awaits payment. Out: the events
//! OrderPaymentReminder and OrderPaymentOverdue, each in one transaction with what the order says of it. Guarantees: an order is
//! reminded once at most; it is never called overdue before its time; and it is called overdue again and again until it has
//! left `awaiting_payment`, so that neither a lost webhook nor a lost message strands it. Nothing expires here: whether it was
//! paid in time, the payment service asks of the provider.

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
    },
};
use events::{Body, Stamp};
use exactly_once::{
    CallError, Commit, Ids, Item, Outbox, Outgoing, Role, Shards, TableError, TransactionWrite,
    commit,
    table::{batch_get, count_partition, text},
};
use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use jiff::{SignedDuration, Timestamp};
use messaging::EventFactory;
use telemetry::Trace;
use tokio::time::Instant;

use crate::rules::{Order, Status};

/// The sparse index of orders that await payment.
pub(crate) const INDEX: &str = "awaiting_payment";
/// What the partition begins with of an order of which the payment service had to be asked twice.
const LATE: &str = "late-";
/// How long the payment service has to find out about an overdue order before it is asked again.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(10);
/// Maximum number of orders of one partition in one sweep: the next one is a minute away.
const SWEEP_PAGE_ORDERS: i32 = 100;
/// Maximum number of partitions that are read at once.
const QUERIES_AT_ONCE: usize = 8;

/// What the sweep does next with an order that awaits payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It reminds the customer.
    Remind,
    /// It asks the payment service for the first time.
    Ask,
    /// It asks for the second time, after [`ASK_AGAIN`].
    AskAgain,
    /// It asks once more, and operators should know.
    AskLate,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Remind => "remind",
            Self::Ask => "ask",
            Self::AskAgain => "ask_again",
            Self::AskLate => "ask_late",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let steps = [Self::Remind, Self::Ask, Self::AskAgain, Self::AskLate];
        steps.into_iter().find(|step| step.as_str() == text)
    }
}

/// What is to happen next with an order that awaits payment, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSchedule {
    step: Step,
    next_at: Timestamp,
    due_at: Timestamp,
}

impl PaymentSchedule {
    /// The attributes of an order in which it is kept, which only an order has that awaits payment.
    pub(crate) const ATTRIBUTES: [&str; 4] =
        ["payment_shard", "payment_step", "payment_next_at", "payment_due_at"];

    /// Of an order whose stock is taken now, for this long: the customer is reminded half way.
    #[must_use]
    pub fn new(now: Timestamp, reservation_time: SignedDuration) -> Self {
        let due_at = now.saturating_add(reservation_time).unwrap_or(Timestamp::MAX);
        let half = now.saturating_add(reservation_time / 2).unwrap_or(Timestamp::MAX);
        Self { step: Step::Remind, next_at: half, due_at }
    }

    /// The attributes of its order, in this shard of the index.
    pub(crate) fn attributes(&self, shard: &str) -> [(&'static str, AttributeValue); 4] {
        let partition = match self.step {
            Step::AskLate => format!("{LATE}{shard}"),
            Step::Remind | Step::Ask | Step::AskAgain => shard.to_owned(),
        };
        let [partition_name, step, next_at, due_at] = Self::ATTRIBUTES;
        [
            (partition_name, text(partition)),
            (step, text(self.step.as_str())),
            (next_at, text(Stamp::from(self.next_at).to_string())),
            (due_at, text(Stamp::from(self.due_at).to_string())),
        ]
    }

    /// `None` if the item has none.
    fn read(item: &Item) -> Option<Self> {
        let field = |name: &str| item.get(name)?.as_s().ok();
        let moment = |name: &str| Some(field(name)?.parse::<Stamp>().ok()?.timestamp());
        Some(Self {
            step: Step::parse(field("payment_step")?)?,
            next_at: moment("payment_next_at")?,
            due_at: moment("payment_due_at")?,
        })
    }

    /// What is to happen now, and what then comes next. `None` if it is not time yet.
    fn advance(&self, now: Timestamp) -> Option<(PaymentEvent, Self)> {
        if now < self.next_at {
            return None;
        }
        let ask_again_at = now.saturating_add(ASK_AGAIN).unwrap_or(Timestamp::MAX);
        let after = |step, next_at| Self { step, next_at, due_at: self.due_at };
        Some(match self.step {
            // After an outage that was longer than that, a reminder would be of what is over.
            Step::Remind if now < self.due_at => {
                (PaymentEvent::Reminder, after(Step::Ask, self.due_at))
            }
            Step::Remind | Step::Ask => {
                (PaymentEvent::Overdue, after(Step::AskAgain, ask_again_at))
            }
            Step::AskAgain | Step::AskLate => {
                (PaymentEvent::Overdue, after(Step::AskLate, ask_again_at))
            }
        })
    }
}

/// What the sweep reports of an order that awaits payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PaymentEvent {
    Reminder,
    Overdue,
}

/// What a sweep has done, in orders.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct AwaitingSwept {
    /// Reminded.
    pub reminded: u64,
    /// Reported to the payment service, because their time to pay is over.
    pub overdue: u64,
}

/// The orders that await payment.
#[derive(Debug, Clone)]
pub struct AwaitingPayment {
    client: Client,
    table: String,
    outbox: Outbox,
    event_factory: EventFactory,
    ids: Ids,
}

impl AwaitingPayment {
    #[must_use]
    pub fn new(
        client: Client,
        table: impl Into<String>,
        outbox: Outbox,
        event_factory: EventFactory,
        ids: Ids,
    ) -> Self {
        Self { client, table: table.into(), outbox, event_factory, ids }
    }

    /// Reminds whose time is half over and reports whose time is over, unless `deadline` has passed.
    ///
    /// # Errors
    /// The tables did not answer. What was reported until then is in the outbox.
    pub async fn sweep(
        &self,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<AwaitingSwept, TableError> {
        let mut swept = AwaitingSwept::default();
        if Instant::now() >= deadline {
            return Ok(swept);
        }
        let reported = stream::iter(partitions())
            .map(async |partition| {
                let swept = self.sweep_partition(&partition, now).await;
                swept.unwrap_or_else(|error| vec![Err(error)])
            })
            .buffer_unordered(QUERIES_AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let mut failure = None;
        let mut events = Vec::new();
        // One that fails holds up no other.
        for reported in reported.into_iter().flatten() {
            match reported {
                Ok(None) => {}
                Ok(Some((event, outgoing))) => {
                    match event {
                        PaymentEvent::Reminder => swept.reminded += 1,
                        PaymentEvent::Overdue => swept.overdue += 1,
                    }
                    events.push(outgoing);
                }
                Err(error) => failure = Some(error),
            }
        }
        // They are in the outbox: what is not published now, the next sweep publishes.
        self.outbox.publish(&events).await;
        failure.map_or(Ok(swept), Err)
    }

    /// What was reported of each of its orders, or why it was not.
    async fn sweep_partition(
        &self,
        partition: &str,
        now: Timestamp,
    ) -> Result<Vec<Result<Option<(PaymentEvent, Outgoing)>, TableError>>, TableError> {
        const OPERATION: &str = "BatchGetItem orders that await payment";
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(INDEX)
            .key_condition_expression("payment_shard = :shard AND payment_next_at <= :now")
            .expression_attribute_values(":shard", text(partition))
            .expression_attribute_values(":now", text(Stamp::from(now).to_string()))
            .limit(SWEEP_PAGE_ORDERS)
            .send()
            .await
            .map_err(CallError::of("Query orders that await payment"))?;
        let ids = answer.items.unwrap_or_default().into_iter();
        let keys: Vec<Item> = ids
            .filter_map(|mut item| {
                Some(Item::from([("order_id".to_owned(), item.remove("order_id")?)]))
            })
            .collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        // The index may lag behind, so the table is asked. What a throttled table leaves out is the next sweep's.
        let read = batch_get(&self.client, &self.table, keys, OPERATION).await?;
        let shard = partition.strip_prefix(LATE).unwrap_or(partition);
        let reported = read.items.into_iter().map(|item| self.report(item, shard, now));
        Ok(join_all(reported).await)
    }

    /// Does what is next for one order, if it is still time for that.
    async fn report(
        &self,
        item: Item,
        shard: &str,
        now: Timestamp,
    ) -> Result<Option<(PaymentEvent, Outgoing)>, TableError> {
        let Some(schedule) = PaymentSchedule::read(&item) else { return Ok(None) };
        let Some((event, next)) = schedule.advance(now) else { return Ok(None) };
        let correlation_id = item.get("correlation_id").and_then(|id| id.as_s().ok()).cloned();
        let order: Order =
            serde_dynamo::from_item(item).map_err(TableError::corrupt(&self.table))?;
        let body = match event {
            PaymentEvent::Reminder => Body::OrderPaymentReminder(order.to_payload()),
            PaymentEvent::Overdue => Body::OrderPaymentOverdue(order.to_payload()),
        };
        let trace = Trace::continued(correlation_id.as_deref(), None, &self.ids);
        let outgoing = self.event_factory.outgoing(&trace.correlation_id, body, &trace);
        let mut set = Vec::new();
        let mut update = Update::builder()
            .table_name(&self.table)
            .key("order_id", text(order.order_id.as_str()))
            .condition_expression("#status = :awaiting AND payment_next_at = :at")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":awaiting", text(Status::AwaitingPayment.as_str()))
            .expression_attribute_values(":at", text(Stamp::from(schedule.next_at).to_string()))
            .return_values_on_condition_check_failure(AllOld);
        for (name, value) in next.attributes(shard) {
            set.push(format!("{name} = :{name}"));
            update = update.expression_attribute_values(format!(":{name}"), value);
        }
        let update = update
            .update_expression(format!("SET {}", set.join(", ")))
            .build()
            .expect("an update has a table, a key and an expression");
        let update = TransactWriteItem::builder().update(update).build();
        let mut writes = vec![TransactionWrite::new(Role::Guard(()), update)];
        writes.extend(self.outbox.append(std::slice::from_ref(&outgoing)));
        match commit(&self.client, &writes).await? {
            Commit::Done => Ok(Some((event, outgoing))),
            // Paid or cancelled meanwhile, or another sweep was faster.
            Commit::Duplicate | Commit::GuardFailed(..) | Commit::ConditionFailed(_) => Ok(None),
        }
    }

    /// Number of orders of which the payment service had to be asked twice, and that still await payment.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn count_late(&self) -> Result<u64, TableError> {
        let counts = stream::iter(Shards::all()).map(async |shard| {
            let partition = format!("{LATE}{shard}");
            let (index, partition) = ((&*self.table, INDEX), ("payment_shard", &*partition));
            count_partition(&self.client, index, partition, None, "Query overdue orders").await
        });
        counts
            .buffer_unordered(QUERIES_AT_ONCE)
            .try_fold(0, async |sum, count| Ok(sum + count))
            .await
    }
}

/// Every partition of the index in which an order may be, whatever the number of shards is or was.
pub(crate) fn partitions() -> impl Iterator<Item = String> {
    Shards::all().chain(Shards::all().map(|shard| format!("{LATE}{shard}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minutes).expect("a moment")
    }

    fn schedule() -> PaymentSchedule {
        PaymentSchedule::new(at(0), SignedDuration::from_mins(30))
    }

    #[test]
    fn an_order_is_reminded_half_way_called_overdue_at_the_end_and_then_again_and_again() {
        let mut schedule = schedule();
        let mut steps = Vec::new();
        for minute in 0..65 {
            if let Some((event, next)) = schedule.advance(at(minute)) {
                let [(_, partition), ..] = next.attributes("3");
                let partition = partition.as_s().cloned();
                steps.push((minute, event, partition.expect("a text")));
                schedule = next;
            }
        }
        use PaymentEvent::{Overdue, Reminder};
        let expected = [
            (15, Reminder, "3"),
            (30, Overdue, "3"),
            (40, Overdue, "late-3"),
            (50, Overdue, "late-3"),
            (60, Overdue, "late-3"),
        ];
        assert_eq!(steps, expected.map(|(at, event, shard)| (at, event, shard.to_owned())));
    }

    #[test]
    fn nobody_is_reminded_of_what_is_over() {
        let (event, next) = schedule().advance(at(31)).expect("a step");
        assert_eq!(event, PaymentEvent::Overdue);
        assert_eq!(next.advance(at(40)), None);
        assert!(next.advance(at(41)).is_some());
    }

    #[test]
    fn a_schedule_survives_its_order() {
        let mut schedule = schedule();
        for minute in [15, 30, 40, 50] {
            let item = schedule.attributes("7").map(|(name, value)| (name.to_owned(), value));
            assert_eq!(PaymentSchedule::read(&item.into()), Some(schedule.clone()));
            schedule = schedule.advance(at(minute)).expect("a step").1;
        }
        assert_eq!(PaymentSchedule::read(&Item::new()), None);
    }
}
