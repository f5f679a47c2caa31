//! An SQS batch, message by message.
//!
//! In: a batch and a handler of one message. Out: the answer that names the messages to be delivered again
//! (ReportBatchItemFailures). Guarantees: each message has its own outcome; a panic is the failure of its
//! message, not of the batch; a transient failure comes back later and later; poison goes to the DLQ at
//! once, with its reason, and is acknowledged only when it is there; nothing is acknowledged that failed;
//! work stops before the invocation times out, because a time-out would fail the whole batch.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::{Client, error::DisplayErrorContext, types::MessageAttributeValue};
use futures::{FutureExt, StreamExt, stream};
use telemetry::Trace;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

/// So many messages of a batch are in work at a time.
const CONCURRENCY: usize = 10;
/// What has not ended so long before the invocation's deadline is given back.
const DEADLINE_MARGIN: Duration = Duration::from_millis(1500);
/// Of that margin, what SQS has to take a message back; the rest is for the invocation's answer.
const SETTLE_TIME: Duration = Duration::from_millis(1000);
/// SQS takes no longer visibility timeout (12 hours).
const VISIBILITY_SECONDS_MAX: u64 = 43_200;
/// SQS takes so many attributes on one message.
const ATTRIBUTES_MAX: usize = 10;
const DETAIL_CHARS_MAX: usize = 1000;

/// One message, as the handler sees it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The body as it came.
    pub body: String,
    /// What the sender's trace goes on as here.
    pub trace: Trace,
    /// When the handler has to have ended.
    pub deadline: SystemTime,
}

impl Incoming {
    /// Names the event in the log line that this message ends with.
    pub fn is_event(&self, id: Uuid, event_type: &str, stream: &str) {
        let span = Span::current();
        span.record("event_id", id.to_string());
        span.record("event_type", event_type);
        span.record("stream", stream);
    }

    /// How long the handler still has.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        until(self.deadline)
    }
}

/// What became of a message that needs no further delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It had its effect now.
    Done,
    /// It had its effect before: a duplicate, or news that have been overtaken.
    Already,
    /// This consumer has no use for it.
    Ignored,
}

/// Why a message could not be handled, and whether another try can help.
#[derive(Debug)]
pub enum Failure {
    /// It can: a throttle, a time-out, a conflict, a service that is down.
    Transient {
        /// What happened, for the log.
        error: String,
        /// When to try again, if that is known better than by the schedule.
        retry_in: Option<Duration>,
    },
    /// It cannot: the message itself is wrong.
    Poison {
        /// A stable code, by which an operator selects.
        reason: &'static str,
        /// A sentence that says what is wrong.
        detail: String,
    },
}

impl Failure {
    /// A failure that passes with time.
    pub fn transient(error: impl fmt::Display) -> Self {
        Self::Transient { error: error.to_string(), retry_in: None }
    }

    /// A message that no retry can save.
    pub fn poison(reason: &'static str, detail: impl fmt::Display) -> Self {
        Self::Poison { reason, detail: detail.to_string() }
    }
}

/// How long a message waits after its first, second, … failed delivery, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff(Vec<u64>);

impl Backoff {
    /// The pause after so many deliveries: at least the half of its step (equal jitter), so that messages that
    /// failed together do not come back together.
    #[must_use]
    pub fn pause(&self, deliveries: u32, random: f64) -> Duration {
        let step = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let seconds = self.0[step.min(self.0.len() - 1)];
        Duration::from_secs(seconds).mul_f64(0.5 + random / 2.0)
    }
}

impl Default for Backoff {
    /// 30 s, 1 min, 5 min, then 15 min.
    fn default() -> Self {
        Self(vec![30, 60, 300, 900])
    }
}

impl FromStr for Backoff {
    type Err = String;

    /// Reads `30,60,300,900`: seconds, the last of which repeats.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let steps: Result<Vec<u64>, _> = text.split(',').map(|step| step.trim().parse()).collect();
        match steps {
            Ok(steps) if steps.iter().all(|step| *step <= VISIBILITY_SECONDS_MAX) => {
                Ok(Self(steps))
            }
            _ => Err(format!(
                "must be whole seconds up to {VISIBILITY_SECONDS_MAX}, like 30,60,300,900"
            )),
        }
    }
}

/// One consumer's queue and DLQ.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Its name in logs, metrics and dead letters.
    pub name: &'static str,
    /// The queue client.
    pub sqs: Client,
    /// Where its messages come from.
    pub queue_url: String,
    /// Where its poison goes.
    pub dlq_url: String,
    /// When a failed message comes back.
    pub backoff: Backoff,
}

/// What became of one message.
enum Outcome {
    Handled(Handled),
    Retried { error: String, retry_in: Duration },
    Poisoned { reason: &'static str },
    NotBegun,
}

impl Consumer {
    /// Handles every message of a batch and says which are to be delivered again. `deadline_ms` is the
    /// invocation's deadline in milliseconds since 1970 (`Context::deadline`).
    pub async fn run<H, F>(&self, batch: SqsEvent, deadline_ms: u64, handler: H) -> SqsBatchResponse
    where
        H: Fn(Incoming) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let deadline = UNIX_EPOCH + Duration::from_millis(deadline_ms) - DEADLINE_MARGIN;
        let outcomes: Vec<(String, Outcome)> = stream::iter(batch.records)
            .map(|message| self.message(message, deadline, &handler))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        Self::count(&outcomes);
        let mut answer = SqsBatchResponse::default();
        for (message_id, outcome) in outcomes {
            if matches!(outcome, Outcome::Retried { .. } | Outcome::NotBegun) {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                answer.batch_item_failures.push(failure);
            }
        }
        answer
    }

    async fn message<H, F>(
        &self,
        message: SqsMessage,
        deadline: SystemTime,
        handler: &H,
    ) -> (String, Outcome)
    where
        H: Fn(Incoming) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let message_id = message.message_id.clone().unwrap_or_default();
        let deliveries = deliveries(&message);
        let attribute = |name: &str| message.message_attributes.get(name)?.string_value.as_deref();
        let trace = Trace::continued(attribute("correlation_id"), attribute("traceparent"));
        let span = tracing::info_span!(
            "message",
            consumer = self.name,
            message_id,
            deliveries,
            correlation_id = trace.correlation_id,
            traceparent = trace.traceparent,
            event_id = Empty,
            event_type = Empty,
            stream = Empty,
        );
        let incoming = Incoming { body: message.body.clone().unwrap_or_default(), trace, deadline };
        let work = async {
            let outcome = match incoming.time_left() {
                Duration::ZERO => Outcome::NotBegun,
                time_left => {
                    let result = guarded(handler(incoming), time_left).await;
                    self.settle(&message, deliveries, result, deadline + SETTLE_TIME).await
                }
            };
            log(&outcome);
            outcome
        };
        (message_id, work.instrument(span).await)
    }

    /// Sends a failed message where it belongs, in the time until `end`: an SQS that does not answer must not
    /// make the invocation time out, because that would give back the whole batch.
    async fn settle(
        &self,
        message: &SqsMessage,
        deliveries: u32,
        result: Result<Handled, Failure>,
        end: SystemTime,
    ) -> Outcome {
        let (error, retry_in) = match result {
            Ok(handled) => return Outcome::Handled(handled),
            Err(Failure::Poison { reason, detail }) => {
                match self.bury(message, reason, &detail, end).await {
                    Ok(()) => return Outcome::Poisoned { reason },
                    Err(error) => (format!("{reason}, and the DLQ did not take it: {error}"), None),
                }
            }
            Err(Failure::Transient { error, retry_in }) => (error, retry_in),
        };
        let retry_in = retry_in.unwrap_or_else(|| self.backoff.pause(deliveries, fastrand::f64()));
        self.hide(message, retry_in, end).await;
        Outcome::Retried { error, retry_in }
    }

    /// Lets a message come back after a pause. If that fails it comes back after the queue's own timeout.
    async fn hide(&self, message: &SqsMessage, pause: Duration, end: SystemTime) {
        // Rounded up: a lease that a message waits for has then ended when it comes back.
        let seconds = (pause.as_secs_f64().ceil() as u64).min(VISIBILITY_SECONDS_MAX);
        let call = self
            .sqs
            .change_message_visibility()
            .queue_url(&self.queue_url)
            .set_receipt_handle(message.receipt_handle.clone())
            .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX));
        if let Err(error) = answered(call.send(), end).await {
            tracing::warn!(error, "the pause was not set; the queue's visibility timeout holds");
        }
    }

    /// Moves poison to the DLQ, with its attributes and with what is wrong.
    async fn bury(
        &self,
        message: &SqsMessage,
        reason: &str,
        detail: &str,
        end: SystemTime,
    ) -> Result<(), String> {
        let own = [
            ("failure_reason", reason.to_owned()),
            ("failure_detail", plain(detail)),
            ("failed_at", format!("{:.3}", jiff::Timestamp::now())),
            ("consumer", self.name.to_owned()),
        ];
        let mut send = self
            .sqs
            .send_message()
            .queue_url(&self.dlq_url)
            .message_body(message.body.clone().unwrap_or_default());
        let mut original: Vec<_> = message
            .message_attributes
            .iter()
            .filter(|(name, _)| !own.iter().any(|(own, _)| own == name))
            .filter_map(|(name, value)| Some((name, value.string_value.clone()?)))
            .collect();
        original.sort();
        original.truncate(ATTRIBUTES_MAX - own.len());
        let all = original.into_iter().map(|(name, value)| (name.clone(), value));
        for (name, value) in all.chain(own.map(|(name, value)| (name.to_owned(), value))) {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .expect("an attribute has a type");
            send = send.message_attributes(name, value);
        }
        answered(send.send(), end).await
    }

    fn count(outcomes: &[(String, Outcome)]) {
        let of = |wanted: fn(&Outcome) -> bool| {
            outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count() as u64
        };
        telemetry::count(&[
            ("done", of(|o| matches!(o, Outcome::Handled(Handled::Done)))),
            ("already", of(|o| matches!(o, Outcome::Handled(Handled::Already)))),
            ("ignored", of(|o| matches!(o, Outcome::Handled(Handled::Ignored)))),
            ("retried", of(|o| matches!(o, Outcome::Retried { .. }))),
            ("poisoned", of(|o| matches!(o, Outcome::Poisoned { .. }))),
            ("not_begun", of(|o| matches!(o, Outcome::NotBegun))),
        ]);
    }
}

/// Whether SQS did what it was called for until `end`; if not, why.
async fn answered<T, E: std::error::Error>(
    call: impl Future<Output = Result<T, E>>,
    end: SystemTime,
) -> Result<(), String> {
    match tokio::time::timeout(until(end), call).await {
        Ok(answer) => answer.map(drop).map_err(|error| DisplayErrorContext(&error).to_string()),
        Err(_) => Err("no answer before the invocation's deadline".to_owned()),
    }
}

fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Runs a handler so that neither a panic nor a standstill of it reaches the rest of the batch.
async fn guarded(
    handler: impl Future<Output = Result<Handled, Failure>>,
    time_left: Duration,
) -> Result<Handled, Failure> {
    match tokio::time::timeout(time_left, AssertUnwindSafe(handler).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Failure::transient(format!("panicked: {}", panic_text(&*panic)))),
        Err(_) => Err(Failure::transient("did not end before the invocation's deadline")),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with no message")
}

fn deliveries(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
}

/// What SQS takes in an attribute: a bounded text without control characters.
fn plain(text: &str) -> String {
    text.chars()
        .take(DETAIL_CHARS_MAX)
        .map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c })
        .collect()
}

fn log(outcome: &Outcome) {
    match outcome {
        Outcome::Handled(handled) => tracing::info!(outcome = ?handled, "message handled"),
        Outcome::Retried { error, retry_in } => {
            tracing::warn!(
                outcome = "Retried",
                error,
                retry_in_seconds = retry_in.as_secs(),
                "message failed"
            );
        }
        Outcome::Poisoned { reason } => {
            tracing::error!(outcome = "Poisoned", reason, "message moved to the DLQ");
        }
        Outcome::NotBegun => tracing::warn!(outcome = "NotBegun", "no time left for message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_by_the_schedule_and_keep_at_least_half_of_each_step() {
        let backoff = Backoff::default();
        for (deliveries, seconds) in [(0, 30), (1, 30), (2, 60), (3, 300), (4, 900), (99, 900)] {
            let full = Duration::from_secs(seconds);
            assert_eq!(backoff.pause(deliveries, 0.0), full / 2);
            assert_eq!(backoff.pause(deliveries, 1.0), full);
        }
    }

    #[test]
    fn a_schedule_is_read_from_text_or_refused_with_an_example() {
        assert_eq!("1,2".parse(), Ok(Backoff(vec![1, 2])));
        for text in ["", "x", "1,,2", "-1", "43201", "1.5"] {
            assert!(text.parse::<Backoff>().is_err_and(|why| why.contains("30,60")), "{text}");
        }
    }

    #[test]
    fn a_failure_detail_holds_nothing_that_sqs_refuses() {
        assert_eq!(plain("a\u{0}b\nc\u{ffff}"), "a b c ");
        assert_eq!(plain(&"x".repeat(5000)).len(), DETAIL_CHARS_MAX);
    }

    #[tokio::test]
    async fn a_panic_and_a_standstill_are_failures_of_their_message() {
        let panicking = async { panic!("boom {}", 1) };
        let result = guarded(panicking, Duration::from_secs(5)).await;
        assert!(
            matches!(result, Err(Failure::Transient { error, .. }) if error == "panicked: boom 1")
        );
        let result = guarded(std::future::pending(), Duration::from_millis(1)).await;
        assert!(
            matches!(result, Err(Failure::Transient { error, .. }) if error.contains("deadline"))
        );
    }
}
