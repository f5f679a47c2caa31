//! An SQS batch, message by message.
//!
//! In: a batch and a handler of one message. Out: the answer that names the messages to be delivered again
//! (ReportBatchItemFailures). Guarantees: each message has its own outcome; a panic is the failure of its
//! message, not of the batch; a transient failure comes back later and later; poison goes to the DLQ at
//! once, with its reason, and is acknowledged only when it is there; so does a message that has kept failing for too
//! long, with its last error; nothing is acknowledged that failed; work stops before the invocation times out, because
//! a time-out would fail the whole batch.
//!
//! A consumer gives a message up by the time since its first receive, not by SQS's receive count: that also counts
//! receives that no function has seen, because Lambda throttled it. The queue's `maxReceiveCount` is only the net below,
//! for a process that dies each time, and has to be high.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::MessageAttributeValue,
};
use futures::{FutureExt, StreamExt, stream};
use tracing::{Instrument, Span};

use crate::{
    CallError, ErrorChain, TableError,
    backoff::{Backoff, VISIBILITY_TIMEOUT_SECONDS_MAX},
    error::{BoxError, panic_message},
    transaction::CommitError,
};

/// Number of messages of a batch that are handled at a time.
const CONCURRENCY: usize = 10;
/// How long before the invocation's deadline a message that has not ended is given back.
const DEADLINE_MARGIN: Duration = Duration::from_millis(1500);
/// The part of that margin in which SQS can take a message back; the rest is for the invocation's answer.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(1000);
/// Maximum number of attributes of one message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
const ATTRIBUTES_MAX: usize = 10;
const DETAIL_CHARS_MAX: usize = 1000;
/// How long after its first receive a message that keeps failing is given up, unless said otherwise.
const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);
/// The reason of a message that was given up, unless its failure has one of its own.
pub const RETRIES_EXHAUSTED: &str = "retries_exhausted";

/// One message, as the handler sees it.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its id on the queue.
    pub message_id: String,
    /// The number of this delivery: 1 is the first.
    pub deliveries: u32,
    /// The body as it came.
    pub body: String,
    /// The attributes that are texts.
    pub attributes: BTreeMap<String, String>,
    /// When it was received first, or `None` if SQS does not say.
    pub first_received: Option<SystemTime>,
    /// When the handler has to have ended.
    pub deadline: SystemTime,
}

impl Incoming {
    /// How long the handler still has.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        time_until(self.deadline)
    }
}

/// What became of a message that needs no further delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It had its effect now.
    Done,
    /// It had its effect before, or the state has moved past it.
    Duplicate,
    /// This consumer has no use for it.
    Ignored,
}

/// Why a message could not be handled, and whether another try can help.
#[derive(Debug)]
pub enum Failure {
    /// Another try can help: a throttle, a time-out, a conflict, a service that is down.
    Transient {
        /// What happened, for the log.
        error: BoxError,
        /// When to try again, if that is known better than by the schedule.
        retry_in: Option<Duration>,
        /// The stable code with which the message goes to the DLQ if no try has helped.
        reason: Cow<'static, str>,
    },
    /// No try can help: the message itself is wrong.
    Poison {
        /// A stable code, by which an operator selects.
        reason: Cow<'static, str>,
        /// A sentence that says what is wrong.
        detail: String,
    },
}

impl Failure {
    /// A failure that passes with time.
    pub fn transient(error: impl Into<BoxError>) -> Self {
        Self::Transient { error: error.into(), retry_in: None, reason: RETRIES_EXHAUSTED.into() }
    }

    /// A failure that may pass with time, and has a reason of its own if it does not: such as an event of a type that
    /// only the next deployment of this consumer knows.
    pub fn transient_because(
        reason: impl Into<Cow<'static, str>>,
        error: impl Into<BoxError>,
    ) -> Self {
        Self::Transient { error: error.into(), retry_in: None, reason: reason.into() }
    }

    /// A failure of which it is known when it will have passed.
    pub fn retry_in(retry_in: Duration, error: impl Into<BoxError>) -> Self {
        let (error, reason) = (error.into(), RETRIES_EXHAUSTED.into());
        Self::Transient { error, retry_in: Some(retry_in), reason }
    }

    /// A message that no retry can save.
    pub fn poison(reason: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self::Poison { reason: reason.into(), detail: detail.to_string() }
    }
}

impl From<TableError> for Failure {
    /// What is wrong in itself is poison: an operator repairs it and redrives the message.
    fn from(error: TableError) -> Self {
        if !error.is_permanent() {
            return Self::transient(error);
        }
        let reason = match error {
            TableError::CorruptItem { .. } => "corrupt_item",
            _ => "invalid_transaction",
        };
        Self::poison(reason, ErrorChain(&error))
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        TableError::from(error).into()
    }
}

/// What became of one message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is acknowledged.
    Handled(Handled),
    /// It will be delivered again.
    Retried {
        /// Why.
        error: BoxError,
        /// When, if SQS took the pause.
        retry_in: Duration,
    },
    /// It was moved to the DLQ.
    DeadLettered {
        /// The stable code of what is wrong with it.
        reason: Cow<'static, str>,
    },
    /// There was no time left to begin with it: it will be delivered again.
    NotStarted,
}

/// Hears of every outcome: for logs and metrics. It must neither block nor panic.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The span in which a message is handled and its outcome is reported.
    fn span(&self, consumer: &str, message: &Incoming) -> Span;

    /// One message has come to this, within its span.
    fn message_ended(&self, outcome: &Outcome);

    /// The whole batch has come to this.
    fn batch_ended(&self, outcomes: &[Outcome]);
}

/// Logs one line for each message by `tracing`, and counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn span(&self, consumer: &str, message: &Incoming) -> Span {
        let Incoming { message_id, deliveries, .. } = message;
        tracing::info_span!("message", consumer, message_id, deliveries)
    }

    fn message_ended(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Handled(handled) => tracing::info!(outcome = ?handled, "message handled"),
            Outcome::Retried { error, retry_in } => tracing::warn!(
                outcome = "Retried",
                error = %ErrorChain(error.as_ref()),
                retry_in_seconds = retry_in.as_secs(),
                "message failed"
            ),
            Outcome::DeadLettered { reason } => tracing::error!(
                outcome = "DeadLettered",
                reason = reason.as_ref(),
                "message moved to the DLQ"
            ),
            Outcome::NotStarted => {
                tracing::warn!(outcome = "NotStarted", "no time left for message");
            }
        }
    }

    fn batch_ended(&self, _: &[Outcome]) {}
}

/// One consumer's queue and DLQ.
#[derive(Debug, Clone)]
pub struct Consumer {
    name: String,
    sqs: Client,
    queue_url: String,
    dlq_url: String,
    backoff: Backoff,
    give_up_after: Duration,
    observer: Arc<dyn Observer>,
}

/// SQS did not do what it was called for.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0} had no answer before the invocation's deadline")]
    Timeout(&'static str),
}

/// A message is poison, and the DLQ did not take it.
#[derive(Debug, thiserror::Error)]
#[error("poison ({reason}), and the DLQ did not take it")]
struct NotDeadLettered {
    reason: Cow<'static, str>,
    source: SettleError,
}

/// A handler neither ended well nor failed by itself.
#[derive(Debug, thiserror::Error)]
enum HandlerError {
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("did not end before the invocation's deadline")]
    TimedOut,
}

impl Consumer {
    /// The consumer of this queue, whose poison goes to this DLQ. `name` stands in logs, metrics and dead letters.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        sqs: Client,
        queue_url: impl Into<String>,
        dlq_url: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            sqs,
            queue_url: queue_url.into(),
            dlq_url: dlq_url.into(),
            backoff: Backoff::default(),
            give_up_after: GIVE_UP_AFTER_DEFAULT,
            observer: Arc::new(LogObserver),
        }
    }

    /// When a failed message comes back, instead of the default schedule.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// How long after its first receive a message that keeps failing goes to the DLQ, instead of two hours. It has to
    /// outlast what the consumer is to survive: an hour in which Lambda throttles it, a provider's outage.
    #[must_use]
    pub fn give_up_after(self, give_up_after: Duration) -> Self {
        Self { give_up_after, ..self }
    }

    /// Who hears of outcomes, instead of [`LogObserver`].
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        Self { observer: Arc::new(observer), ..self }
    }

    /// Handles every message of a batch and says which are to be delivered again. `deadline_ms` is the
    /// invocation's deadline in milliseconds since 1970 (`Context::deadline`).
    pub async fn run<H, F>(&self, batch: SqsEvent, deadline_ms: u64, handler: H) -> SqsBatchResponse
    where
        H: Fn(Incoming) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let deadline = UNIX_EPOCH + Duration::from_millis(deadline_ms) - DEADLINE_MARGIN;
        let ended: Vec<(String, Outcome)> = stream::iter(batch.records)
            .map(|message| self.run_message(message, deadline, &handler))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut answer = SqsBatchResponse::default();
        let mut outcomes = Vec::with_capacity(ended.len());
        for (message_id, outcome) in ended {
            if matches!(outcome, Outcome::Retried { .. } | Outcome::NotStarted) {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                answer.batch_item_failures.push(failure);
            }
            outcomes.push(outcome);
        }
        self.observer.batch_ended(&outcomes);
        answer
    }

    async fn run_message<H, F>(
        &self,
        message: SqsMessage,
        deadline: SystemTime,
        handler: &H,
    ) -> (String, Outcome)
    where
        H: Fn(Incoming) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let incoming = incoming(&message, deadline);
        let delivery = Delivery {
            deliveries: incoming.deliveries,
            first_received: incoming.first_received,
            end: deadline + SETTLE_TIMEOUT,
        };
        let message_id = incoming.message_id.clone();
        let span = self.observer.span(&self.name, &incoming);
        let work = async {
            let outcome = match incoming.time_left() {
                Duration::ZERO => Outcome::NotStarted,
                time_left => {
                    let result = run_guarded(handler(incoming), time_left).await;
                    self.settle(&message, delivery, result).await
                }
            };
            self.observer.message_ended(&outcome);
            outcome
        };
        (message_id, work.instrument(span).await)
    }

    /// Sends a failed message where it belongs, in the time until the delivery's end: an SQS that does not answer must
    /// not make the invocation time out, because that would give back the whole batch.
    async fn settle(
        &self,
        message: &SqsMessage,
        delivery: Delivery,
        result: Result<Handled, Failure>,
    ) -> Outcome {
        let (reason, detail) = match result {
            Ok(handled) => return Outcome::Handled(handled),
            Err(Failure::Poison { reason, detail }) => (reason, detail),
            Err(Failure::Transient { error, retry_in: None, reason })
                if delivery.age() >= self.give_up_after =>
            {
                (reason, ErrorChain(error.as_ref()).to_string())
            }
            Err(Failure::Transient { error, retry_in, .. }) => {
                return self.retry(message, delivery, error, retry_in).await;
            }
        };
        match self.send_to_dlq(message, delivery, &reason, &detail).await {
            Ok(()) => Outcome::DeadLettered { reason },
            Err(source) => {
                let error = NotDeadLettered { reason, source }.into();
                self.retry(message, delivery, error, None).await
            }
        }
    }

    async fn retry(
        &self,
        message: &SqsMessage,
        delivery: Delivery,
        error: BoxError,
        retry_in: Option<Duration>,
    ) -> Outcome {
        let random = fastrand::f64();
        let retry_in = retry_in.unwrap_or_else(|| self.backoff.pause(delivery.deliveries, random));
        self.delay_redelivery(message, retry_in, delivery.end).await;
        Outcome::Retried { error, retry_in }
    }

    /// Lets a message come back after a pause. If that fails it comes back after the queue's own timeout.
    async fn delay_redelivery(&self, message: &SqsMessage, pause: Duration, end: SystemTime) {
        // Rounded up: a lease that a message waits for has then ended when it comes back.
        let seconds = (pause.as_secs_f64().ceil() as u64).min(VISIBILITY_TIMEOUT_SECONDS_MAX);
        let call = self
            .sqs
            .change_message_visibility()
            .queue_url(&self.queue_url)
            .set_receipt_handle(message.receipt_handle.clone())
            .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX));
        if let Err(error) = call_until(end, "ChangeMessageVisibility", call.send()).await {
            tracing::warn!(
                error = %ErrorChain(&error),
                "the pause was not set; the queue's visibility timeout holds"
            );
        }
    }

    /// Moves a message to the DLQ, with its attributes and with what is wrong.
    async fn send_to_dlq(
        &self,
        message: &SqsMessage,
        delivery: Delivery,
        reason: &str,
        detail: &str,
    ) -> Result<(), SettleError> {
        let now = SystemTime::now();
        let own = [
            ("failure_reason", reason.to_owned()),
            ("failure_detail", printable(detail)),
            ("failed_at", rfc_3339(now)),
            ("first_failed_at", rfc_3339(delivery.first_received.unwrap_or(now))),
            ("original_message_id", message.message_id.clone().unwrap_or_default()),
            ("consumer", self.name.clone()),
        ];
        let mut send = self
            .sqs
            .send_message()
            .queue_url(&self.dlq_url)
            .message_body(escape_refused(message.body.as_deref().unwrap_or_default()));
        let mut original: Vec<_> = message
            .message_attributes
            .iter()
            .filter(|(name, _)| !own.iter().any(|(own, _)| own == name))
            .filter_map(|(name, value)| Some((name, escape_refused(value.string_value.as_ref()?))))
            .collect();
        original.sort();
        original.truncate(ATTRIBUTES_MAX - own.len());
        let all = original.into_iter().map(|(name, value)| (name.clone(), value));
        let own = own.map(|(name, value)| (name.to_owned(), value));
        for (name, value) in all.chain(own).filter(|(_, value)| !value.is_empty()) {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .expect("an attribute has a type");
            send = send.message_attributes(name, value);
        }
        call_until(delivery.end, "SendMessage dead letter", send.send()).await
    }
}

/// One delivery of a message, as far as it decides what becomes of a failure.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    deliveries: u32,
    first_received: Option<SystemTime>,
    /// Until when SQS has to have answered.
    end: SystemTime,
}

impl Delivery {
    /// The time since the first receive; zero if that is not known.
    fn age(&self) -> Duration {
        self.first_received.and_then(|first| first.elapsed().ok()).unwrap_or_default()
    }
}

fn rfc_3339(moment: SystemTime) -> String {
    jiff::Timestamp::try_from(moment)
        .map_or_else(|_| String::new(), |moment| format!("{moment:.3}"))
}

fn incoming(message: &SqsMessage, deadline: SystemTime) -> Incoming {
    let attributes = message.message_attributes.iter();
    let system = |name: &str| message.attributes.get(name);
    let first_received = system("ApproximateFirstReceiveTimestamp");
    Incoming {
        message_id: message.message_id.clone().unwrap_or_default(),
        deliveries: system("ApproximateReceiveCount")
            .and_then(|count| count.parse().ok())
            .unwrap_or(1),
        first_received: first_received
            .and_then(|ms| ms.parse().ok())
            .map(|ms| UNIX_EPOCH + Duration::from_millis(ms)),
        body: message.body.clone().unwrap_or_default(),
        attributes: attributes
            .filter_map(|(name, value)| Some((name.clone(), value.string_value.clone()?)))
            .collect(),
        deadline,
    }
}

/// Calls SQS, and gives up at `end`.
async fn call_until<T, E, R>(
    end: SystemTime,
    operation: &'static str,
    call: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<(), SettleError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    match tokio::time::timeout(time_until(end), call).await {
        Ok(answer) => Ok(answer.map(drop).map_err(CallError::of(operation))?),
        Err(_) => Err(SettleError::Timeout(operation)),
    }
}

fn time_until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Runs a handler so that neither a panic nor a standstill of it reaches the rest of the batch.
async fn run_guarded(
    handler: impl Future<Output = Result<Handled, Failure>>,
    time_left: Duration,
) -> Result<Handled, Failure> {
    match tokio::time::timeout(time_left, AssertUnwindSafe(handler).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            Err(Failure::transient(HandlerError::Panicked(panic_message(&*panic).to_owned())))
        }
        Err(_) => Err(Failure::transient(HandlerError::TimedOut)),
    }
}

/// What SQS takes in an attribute: a bounded text without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(DETAIL_CHARS_MAX)
        .map(|c| if c.is_control() || is_refused(c) { ' ' } else { c })
        .collect()
}

/// A text with the characters that SQS refuses as JSON escapes: in a JSON text they mean the same. SNS delivers what
/// SendMessage refuses.
fn escape_refused(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_refused(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether SQS refuses a message with this character in it.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn is_refused(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_detail_holds_nothing_that_sqs_refuses() {
        assert_eq!(printable("a\u{0}b\nc\u{ffff}"), "a b c ");
        assert_eq!(printable(&"x".repeat(5000)).len(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn a_character_that_sqs_refuses_is_escaped_and_means_the_same() {
        let body = "{\"name\":\"a\u{fffe}b\u{ffff}\u{1}\",\"ж\":\"\u{1f600}\"}";
        let escaped = escape_refused(body);
        assert!(!escaped.chars().any(is_refused), "{escaped}");
        assert!(escaped.contains(r"a\ufffeb\uffff\u0001"), "{escaped}");
        assert!(escaped.contains("ж") && escaped.contains('\u{1f600}'), "{escaped}");
    }

    #[tokio::test]
    async fn a_panic_and_a_standstill_are_failures_of_their_message() {
        let panicking = async { panic!("boom {}", 1) };
        let result = run_guarded(panicking, Duration::from_secs(5)).await;
        assert!(
            matches!(result, Err(Failure::Transient { error, .. }) if error.to_string() == "panicked: boom 1")
        );
        let result = run_guarded(std::future::pending(), Duration::from_millis(1)).await;
        assert!(
            matches!(result, Err(Failure::Transient { error, .. }) if error.to_string().contains("deadline"))
        );
    }
}
