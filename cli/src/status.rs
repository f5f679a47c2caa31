//! `orderflow status`: where the flow stands.
//!
//! In: a stack. Out: a [`Status`]: for each queue what waits, what is dead and whether its consumer is on; what
//! the outbox holds; which orders wait for too long. Counts of SQS are approximate by its nature. What the
//! endpoint has no metrics of (an emulator's age of the oldest message) is absent, not an error.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use exactly_once::outbox::Backlog;
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    consumer,
    error::CliError,
    metrics::{MetricId, MetricOwner, Minutes, Statistic, of_cloudwatch},
    output::{Output, counted, table},
    queue_attributes,
    stack::{Queue, Stack},
    when::short,
};

/// How far back metrics are looked for: SQS reports each minute, some minutes late.
const METRICS_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// How long an answer of CloudWatch is used again.
pub(crate) const METRICS_PAUSE: Duration = Duration::from_secs(60);
/// If the stack does not say when an order has been pending for too long.
const PENDING_MINUTES_DEFAULT: i64 = 15;
/// For how long an event may be pending before somebody should look: the relay sweeps each minute, and publishes what is older than one.
const OUTBOX_AGE_MAX: SignedDuration = SignedDuration::from_mins(3);
/// Maximum number of orders that are named because they wait for too long.
const ORDERS_NAMED_MAX: u16 = 10;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    pub stack: String,
    pub at: Timestamp,
    pub queues: Vec<QueueStatus>,
    /// Events on their way to the topic.
    pub outbox: OutboxStatus,
    /// Orders that are not settled.
    pub orders: OrdersStatus,
}

/// Where one queue stands, in messages.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QueueStatus {
    pub name: String,
    /// Who is given its messages.
    pub consumer_name: String,
    /// To be had.
    pub waiting: u64,
    pub in_flight: u64,
    /// Not to be had yet.
    pub delayed: u64,
    pub dead: u64,
    /// Since when the oldest waits; null without metrics.
    pub oldest_age_seconds: Option<u64>,
    /// Messages that came in the last minute with a metric; null without metrics.
    pub sent_per_minute: Option<u64>,
    /// Messages that were done in that minute; null without metrics.
    pub done_per_minute: Option<u64>,
    /// The consumer: `on`, `off`, or on its way to one.
    pub consumer: String,
    /// Since when, if Lambda says that.
    pub consumer_since: Option<Timestamp>,
}

/// Events that are stored and not yet published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OutboxStatus {
    /// Will be published.
    pub pending: u64,
    /// Since when the oldest of them waits.
    pub oldest_pending_since: Option<Timestamp>,
    /// SNS refuses them for good.
    pub stuck: u64,
}

/// Orders that wait for their stock.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OrdersStatus {
    pub pending: u64,
    /// Those that wait for longer than `pending_max_minutes`.
    pub pending_too_long: u64,
    /// The oldest of those.
    pub oldest: Vec<String>,
    /// A parameter of the stack.
    pub pending_max_minutes: i64,
}

impl Status {
    /// Asks for everything at once.
    ///
    /// # Errors
    /// Something other than a metric is not to be had.
    pub(crate) async fn of(stack: &Stack, metrics: &QueueMetrics) -> Result<Self, CliError> {
        let (status, metrics) = tokio::join!(Self::without_metrics(stack), metrics.newest(stack));
        let mut status = status?;
        for (index, queue) in status.queues.iter_mut().enumerate() {
            let metric = |name: &str| metrics.get(&format!("{name}{index}")).copied();
            queue.oldest_age_seconds = metric("age");
            queue.sent_per_minute = metric("sent");
            queue.done_per_minute = metric("done");
        }
        Ok(status)
    }

    /// Asks for all but metrics, of which CloudWatch sells each.
    ///
    /// # Errors
    /// Something is not to be had.
    pub(crate) async fn without_metrics(stack: &Stack) -> Result<Self, CliError> {
        let queues = try_join_all(stack.queues.iter().map(|queue| queue_status(stack, queue)));
        let (queues, outbox, orders) =
            tokio::join!(queues, outbox_status(stack), orders_status(stack));
        Ok(Self {
            stack: stack.name.clone(),
            at: Timestamp::now(),
            queues: queues?,
            outbox: outbox?,
            orders: orders?,
        })
    }

    /// Fails if somebody should look at something: dead letters, a consumer that is off, events that are stuck or old, orders that wait for
    /// too long. What may pass by itself within minutes, such as a queue that is long, is none of it.
    ///
    /// # Errors
    /// It is so; it says what.
    pub(crate) fn require_no_problem(&self) -> Result<(), CliError> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(CliError::NeedsAttention { problems }) }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for queue in &self.queues {
            if queue.dead > 0 {
                let letters = counted(queue.dead, "dead letter");
                problems.push(format!("{letters} of {}", queue.name));
            }
            if queue.consumer == "off" {
                problems.push(format!(
                    "the consumer of {} is {}",
                    queue.name,
                    queue.consumer_text(self.at)
                ));
            }
        }
        if self.outbox.stuck > 0 {
            problems.push(format!("{} stuck", counted(self.outbox.stuck, "event")));
        }
        let pending_for =
            self.outbox.oldest_pending_since.map(|since| self.at.duration_since(since));
        if let Some(age) = pending_for.filter(|age| *age > OUTBOX_AGE_MAX) {
            problems.push(format!("an event has been pending for {}", short(age.as_secs())));
        }
        if self.orders.pending_too_long > 0 {
            let orders = counted(self.orders.pending_too_long, "order");
            let minutes = self.orders.pending_max_minutes;
            problems.push(format!("{orders} pending for longer than {minutes} minutes"));
        }
        problems
    }

    pub(crate) fn text(&self) -> String {
        let age = |seconds: Option<u64>| {
            seconds.map_or("-".into(), |s| short(i64::try_from(s).unwrap_or(i64::MAX)))
        };
        let rows = self.queues.iter().map(|queue| {
            vec![
                queue.name.clone(),
                queue.waiting.to_string(),
                queue.in_flight.to_string(),
                queue.delayed.to_string(),
                queue.dead.to_string(),
                age(queue.oldest_age_seconds),
                queue.consumer_text(self.at),
            ]
        });
        let headings =
            ["queue", ">waiting", ">in flight", ">delayed", ">dead", ">oldest", "consumer"];
        let since = self.outbox.oldest_pending_since.map_or(String::new(), |since| {
            format!(", the oldest for {}", short(self.at.duration_since(since).as_secs()))
        });
        let named = if self.orders.oldest.is_empty() {
            String::new()
        } else {
            format!("\n  {}", self.orders.oldest.join("\n  "))
        };
        format!(
            "Stack {} at {:.0}\n\n{}\n\nOutbox: {} pending{since}; {} stuck\nOrders: {} pending; {} for longer than {} \
             minutes{named}",
            self.stack,
            self.at,
            table(&headings, rows),
            self.outbox.pending,
            self.outbox.stuck,
            self.orders.pending,
            self.orders.pending_too_long,
            self.orders.pending_max_minutes,
        )
    }
}

/// Shows the status again and again. What cannot be had now is no end: the last status stays, with the reason why it
/// is not up to date.
///
/// # Errors
/// Stdout does not take it.
pub(crate) async fn watch(
    stack: &Stack,
    interval: Duration,
    output: Output,
) -> Result<(), CliError> {
    let mut last: Option<Status> = None;
    let metrics = QueueMetrics::default();
    loop {
        match Status::of(stack, &metrics).await {
            Ok(status) => {
                output.say_again(&status, Status::text)?;
                last = Some(status);
            }
            Err(error) => {
                output.say_stale(&stale_text(last.as_ref(), &error), &last_text(&last))?
            }
        }
        tokio::time::sleep(interval).await;
    }
}

fn last_text(last: &Option<Status>) -> String {
    last.as_ref().map(Status::text).unwrap_or_default()
}

fn stale_text(last: Option<&Status>, error: &CliError) -> String {
    let since = last.map(|status| format!(" since {:.0}", status.at)).unwrap_or_default();
    format!("not up to date{since}: {error}")
}

impl QueueStatus {
    /// The consumer as people read it: how long it has been off tells a pause from one that was forgotten.
    fn consumer_text(&self, now: Timestamp) -> String {
        match self.consumer_since.filter(|_| self.consumer == "off") {
            Some(since) => format!("off for {}", short(now.duration_since(since).as_secs())),
            None => self.consumer.clone(),
        }
    }
}

async fn queue_status(stack: &Stack, queue: &Queue) -> Result<QueueStatus, CliError> {
    let own = async {
        let attributes = queue_attributes::read(stack, &queue.url).await?;
        let consumer = consumer::state(stack, queue, &attributes.arn).await?;
        Ok::<_, CliError>((attributes.counts, consumer))
    };
    let (own, dead) = tokio::join!(own, queue_attributes::read(stack, &queue.dlq_url));
    let ([waiting, in_flight, delayed], consumer) = own?;
    Ok(QueueStatus {
        name: queue.name.clone(),
        consumer_name: queue.consumer_name.clone(),
        waiting,
        in_flight,
        delayed,
        dead: dead?.counts.iter().sum(),
        oldest_age_seconds: None,
        sent_per_minute: None,
        done_per_minute: None,
        consumer: consumer.name,
        consumer_since: consumer.since,
    })
}

async fn outbox_status(stack: &Stack) -> Result<OutboxStatus, CliError> {
    let Backlog { pending, oldest_pending_since, stuck, .. } = stack.outbox()?.backlog().await?;
    Ok(OutboxStatus { pending, oldest_pending_since, stuck })
}

/// For how many minutes an order may be pending before it is late.
pub(crate) fn pending_minutes_max(stack: &Stack) -> i64 {
    stack
        .parameter("OrderPendingMaxMinutes")
        .and_then(|minutes| minutes.parse().ok())
        .unwrap_or(PENDING_MINUTES_DEFAULT)
}

async fn orders_status(stack: &Stack) -> Result<OrdersStatus, CliError> {
    let orders = stack.pending_orders()?;
    let pending_max_minutes = pending_minutes_max(stack);
    let before = Timestamp::now() - SignedDuration::from_mins(pending_max_minutes);
    let (pending, pending_too_long, oldest) = tokio::try_join!(
        orders.count(),
        orders.count_placed_before(before),
        orders.oldest_placed_before(before, ORDERS_NAMED_MAX),
    )?;
    Ok(OrdersStatus { pending, pending_too_long, oldest, pending_max_minutes })
}

/// The metrics of the queues, which are asked for once a minute: they change no sooner, and CloudWatch sells each.
#[derive(Debug, Default)]
pub(crate) struct QueueMetrics {
    last: tokio::sync::Mutex<Option<(Instant, HashMap<String, u64>)>>,
}

impl QueueMetrics {
    async fn newest(&self, stack: &Stack) -> HashMap<String, u64> {
        let mut last = self.last.lock().await;
        if let Some((_, newest)) = last.as_ref().filter(|(at, _)| at.elapsed() < METRICS_PAUSE) {
            return newest.clone();
        }
        let newest = metrics(stack).await;
        *last = Some((Instant::now(), newest.clone()));
        newest
    }
}

/// The newest value of each metric of each queue, by name and the queue's index; empty where there are none.
async fn metrics(stack: &Stack) -> HashMap<String, u64> {
    const METRICS: [(&str, &str, Statistic); 3] = [
        ("age", "ApproximateAgeOfOldestMessage", Statistic::Maximum),
        ("sent", "NumberOfMessagesSent", Statistic::Sum),
        ("done", "NumberOfMessagesDeleted", Statistic::Sum),
    ];
    let now = Timestamp::now();
    let wanted = stack.queues.iter().enumerate().flat_map(|(index, queue)| {
        METRICS.map(|(id, name, statistic)| {
            let of = MetricOwner::Queue(queue.url.clone());
            (format!("{id}{index}"), MetricId { of, name, statistic })
        })
    });
    let (ids, metrics): (Vec<String>, Vec<MetricId>) = wanted.unzip();
    let minutes = Minutes::between(now - METRICS_WINDOW, now);
    // Metrics are a help, not the subject: without them the rest still stands.
    let values = of_cloudwatch(stack, &metrics, minutes).await.unwrap_or_default();
    let newest = |values: Vec<Option<f64>>| values.into_iter().flatten().next_back();
    ids.into_iter()
        .zip(values)
        .filter_map(|(id, values)| Some((id, newest(values)?.max(0.0).round() as u64)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_shows_a_missing_age_as_a_dash_and_names_orders_that_wait_too_long() {
        let at: Timestamp = "2025-11-20T12:00:00Z".parse().expect("a moment");
        let queue = QueueStatus {
            name: "product".into(),
            consumer_name: "product-consumer".into(),
            waiting: 3,
            in_flight: 2,
            delayed: 0,
            dead: 1,
            oldest_age_seconds: None,
            sent_per_minute: None,
            done_per_minute: None,
            consumer: "off".into(),
            consumer_since: Some(at - SignedDuration::from_hours(3)),
        };
        let status = Status {
            stack: "shop".into(),
            at,
            queues: vec![queue],
            outbox: OutboxStatus {
                pending: 4,
                oldest_pending_since: Some(at - SignedDuration::from_secs(90)),
                stuck: 1,
            },
            orders: OrdersStatus {
                pending: 5,
                pending_too_long: 1,
                oldest: vec!["an-order".into()],
                pending_max_minutes: 15,
            },
        };
        let text = status.text();
        assert!(text.contains("- off") || text.contains("-  off"), "{text}");
        assert!(text.contains("off for 3h"), "a forgotten pause shows: {text}");
        assert!(text.contains("4 pending, the oldest for 90s; 1 stuck"), "{text}");
        assert!(text.ends_with("1 for longer than 15 minutes\n  an-order"), "{text}");
        assert_eq!(
            status.problems(),
            [
                "1 dead letter of product",
                "the consumer of product is off for 3h",
                "1 event stuck",
                "1 order pending for longer than 15 minutes",
            ]
        );
        let since = Some(at - SignedDuration::from_mins(4));
        let outbox = OutboxStatus { pending: 1, oldest_pending_since: since, stuck: 0 };
        let orders = OrdersStatus { pending_too_long: 0, ..status.orders.clone() };
        let late = Status { queues: Vec::new(), outbox, orders, ..status };
        assert_eq!(late.problems(), ["an event has been pending for 4m"]);
        // What is merely on its way is no problem.
        let outbox = OutboxStatus { oldest_pending_since: Some(at), ..late.outbox.clone() };
        assert_eq!(Status { outbox, ..late }.problems(), [""; 0]);
    }
}
