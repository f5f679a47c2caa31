//! An SQS batch, message by message.
//!
//! In: a batch, and a handler of one message ([`Consumer::run`]), of all of them ([`Consumer::run_batch`]), or both
//! ([`Consumer::run_together`]). Out: the answer that names the messages to be delivered again (ReportBatchItemFailures). Guarantees: each message has its own
//! outcome; a panic is the failure of its message, not of the batch; a transient failure comes back later and later;
//! poison goes to the DLQ at once, with its reason, and is acknowledged only when it is there; so does a message that
//! has kept failing for too long, with its last error; nothing is acknowledged that failed; work stops before the
//! invocation times out, because a time-out would fail the whole batch.
//!
//! In a FIFO queue (its URL ends with `.fifo`) the messages of a group are handled one after the other; after a failure
//! the rest of the group is given back unbegun, while other groups go on. A message that was moved to the DLQ does not
//! hold up its group.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
//!
//! A consumer gives a message up by the time since its first receive, not by SQS's receive count: that also counts
//! receives that no function has seen, because Lambda throttled it. The queue's `maxReceiveCount` is only the net below,
//! for a process that dies each time, and has to be high.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use futures::{
    FutureExt, StreamExt,
    future::{join_all, ready},
    stream,
};
use jiff::Timestamp;
use tracing::{Instrument, Span};

use crate::{
    CallError, Clock, Failure, Handled, LogObserver, Message, Observer, Outcome,
    backoff::{Backoff, PAUSE_SECONDS_MAX},
    dead_letter::DeadLetter,
    error::{BoxError, ErrorChain, panic_message},
    invocation_deadline,
};

/// Number of messages (groups, in a FIFO queue) of a batch that are handled at a time, unless said otherwise.
const CONCURRENCY_DEFAULT: usize = 10;
/// How long before the invocation's deadline a message that has not ended is given back, unless said otherwise.
const DEADLINE_RESERVE_DEFAULT: Duration = Duration::from_millis(1500);
/// The end of that reserve that is for the invocation's answer; SQS can take messages back in what is before it.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// The end of what is before it that a DLQ does not get: a message that it did not take is still given its pause.
const PAUSE_TIME: Duration = Duration::from_millis(300);
/// How long after its first receive a message that keeps failing is given up, unless said otherwise.
const GIVE_UP_AFTER_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);

/// Maximum number of messages of FIFO queues of which it is remembered when they were first tried.
const TRIED_MAX: usize = 10_000;

/// When each message of a FIFO queue was first tried here. Its first receive says nothing of that: those that wait behind a
/// failing message of their group are received with it, again and again.
type FirstTried = Arc<Mutex<HashMap<String, Timestamp>>>;

/// One consumer's queue and DLQ.
#[derive(Debug, Clone)]
pub struct Consumer {
    name: String,
    sqs: Client,
    queue_url: String,
    dlq_url: String,
    backoff: Backoff,
    give_up_after: Duration,
    concurrency: usize,
    deadline_reserve: Duration,
    observer: Arc<dyn Observer>,
    clock: Clock,
    first_tried: FirstTried,
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
#[derive(Debug, Clone, thiserror::Error)]
enum HandlerError {
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("did not end before the invocation's deadline")]
    TimedOut,
    #[error("the handler of the batch did not answer this message")]
    Unanswered,
}

/// Takes a batch handler's answers, message by message. What was answered stays answered if the handler panics or runs
/// out of time later; what was not is tried again.
#[derive(Debug, Clone, Default)]
pub struct Answers(Arc<Mutex<HashMap<String, Result<Handled, Failure>>>>);

impl Answers {
    /// Says what became of one message. The last answer counts.
    pub fn set(&self, message: &Message, result: Result<Handled, Failure>) {
        self.lock().insert(message.message_id.clone(), result);
    }

    /// Each answer is put in at once, so a panic elsewhere leaves none half-made.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Result<Handled, Failure>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group of a message, or `None` if its queue is no FIFO queue.
fn group_id(message: &SqsMessage) -> Option<&String> {
    message.attributes.get("MessageGroupId")
}

impl Consumer {
    /// The consumer of this queue, whose poison goes to this DLQ. `name` stands in logs and metrics. It goes by
    /// the client's clock.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        sqs: Client,
        queue_url: impl Into<String>,
        dlq_url: impl Into<String>,
    ) -> Self {
        let clock = sqs.config().time_source().into();
        Self {
            name: name.into(),
            sqs,
            queue_url: queue_url.into(),
            dlq_url: dlq_url.into(),
            backoff: Backoff::default(),
            give_up_after: GIVE_UP_AFTER_DEFAULT,
            concurrency: CONCURRENCY_DEFAULT,
            deadline_reserve: DEADLINE_RESERVE_DEFAULT,
            observer: Arc::new(LogObserver),
            clock,
            first_tried: FirstTried::default(),
        }
    }

    /// When a failed message comes back, instead of the default schedule.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// How long after its first receive a message that keeps failing goes to the DLQ, instead of two hours. It has to
    /// outlast what the consumer is to survive: an hour in which Lambda throttles it, a provider's outage. In a FIFO queue
    /// the time counts since this environment has first tried the message, and the queue's `maxReceiveCount` is the bound
    /// across environments.
    #[must_use]
    pub fn give_up_after(self, give_up_after: Duration) -> Self {
        Self { give_up_after, ..self }
    }

    /// Number of messages that are handled at a time, instead of ten; in a FIFO queue, of groups. At least one.
    #[must_use]
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.max(1), ..self }
    }

    /// How long before the invocation's deadline a message that has not ended is given back, instead of 1.5 s. Half a
    /// second of it is for the invocation's answer; in the rest SQS takes messages back.
    #[must_use]
    pub fn deadline_reserve(self, deadline_reserve: Duration) -> Self {
        Self { deadline_reserve, ..self }
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
        H: Fn(Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let deadline = self.handler_deadline(deadline_ms);
        let span = self.batch_span(&batch);
        let groups = stream::iter(self.groups(batch.records));
        let ended: Vec<Vec<Ended>> = groups
            .map(|group| self.run_group(group, deadline, &handler))
            .buffer_unordered(self.concurrency)
            .collect()
            .instrument(span)
            .await;
        self.answer(ended.into_iter().flatten().collect())
    }

    /// Hands a batch to a handler as a whole, which answers message by message: for work that is cheaper together, such
    /// as one transaction for several messages. In a FIFO queue it gets the first message of each group, then the
    /// second of each group that goes on, and so on.
    pub async fn run_batch<H, F>(
        &self,
        batch: SqsEvent,
        deadline_ms: u64,
        handler: H,
    ) -> SqsBatchResponse
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
    {
        let unanswered = async |_, error| Err(Failure::transient(error));
        self.run_rounds(batch, deadline_ms, &handler, unanswered).await
    }

    /// Hands a batch to `together` as [`Consumer::run_batch`] does, and what that leaves unanswered to `alone`, message by
    /// message: because it would rather not handle it with others, or because it panicked. So a message that makes
    /// `together` panic each time costs the batch a detour, and nothing else.
    pub async fn run_together<H, F, A, G>(
        &self,
        batch: SqsEvent,
        deadline_ms: u64,
        together: H,
        alone: A,
    ) -> SqsBatchResponse
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
        A: Fn(Message) -> G,
        G: Future<Output = Result<Handled, Failure>>,
    {
        let alone = async |message: Message, error| {
            let time_left = message.time_left();
            if time_left.is_zero() {
                return Err(Failure::transient(error));
            }
            let work = async { alone(message).await };
            let result = run_guarded(work, time_left).await;
            result.unwrap_or_else(|error| Err(Failure::transient(error)))
        };
        self.run_rounds(batch, deadline_ms, &together, alone).await
    }

    async fn run_rounds<H, F>(
        &self,
        batch: SqsEvent,
        deadline_ms: u64,
        handler: &H,
        unanswered: impl AsyncFn(Message, HandlerError) -> Result<Handled, Failure>,
    ) -> SqsBatchResponse
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
    {
        let span = self.batch_span(&batch);
        let rounds = async {
            let deadline = self.handler_deadline(deadline_ms);
            let mut groups: Vec<VecDeque<SqsMessage>> =
                self.groups(batch.records).into_iter().map(Into::into).collect();
            let mut ended = Vec::new();
            while !groups.is_empty() {
                let round = groups.iter_mut().filter_map(VecDeque::pop_front).collect();
                let outcomes = self.run_round(round, deadline, handler, &unanswered).await;
                let mut going_on = Vec::new();
                for (rest, outcome) in groups.into_iter().zip(outcomes) {
                    if outcome.outcome.is_redelivered() {
                        let pause = pause_of(&outcome.outcome);
                        ended.extend(self.give_back(rest, deadline, pause).await);
                    } else if !rest.is_empty() {
                        going_on.push(rest);
                    }
                    ended.push(outcome);
                }
                groups = going_on;
            }
            self.answer(ended)
        };
        rounds.instrument(span).await
    }

    /// The span of a whole batch, of which those of its messages are children: for traces, at the level `debug`.
    fn batch_span(&self, batch: &SqsEvent) -> Span {
        tracing::debug_span!("batch", consumer = self.name, messages = batch.records.len())
    }

    fn handler_deadline(&self, deadline_ms: u64) -> Timestamp {
        invocation_deadline(deadline_ms) - self.deadline_reserve
    }

    fn is_fifo(&self) -> bool {
        self.queue_url.ends_with(".fifo")
    }

    /// What is handled one after the other: the messages of a group in a FIFO queue; elsewhere each by itself, because a
    /// standard queue's group ids (fair queues) promise no order.
    fn groups(&self, messages: Vec<SqsMessage>) -> Vec<Vec<SqsMessage>> {
        if !self.is_fifo() {
            return messages.into_iter().map(|message| vec![message]).collect();
        }
        let mut groups: Vec<Vec<SqsMessage>> = Vec::new();
        for message in messages {
            let group = groups.iter_mut().find(|group| group_id(&group[0]) == group_id(&message));
            match group {
                Some(group) => group.push(message),
                None => groups.push(vec![message]),
            }
        }
        groups
    }

    async fn run_group<H, F>(
        &self,
        group: Vec<SqsMessage>,
        deadline: Timestamp,
        handler: &H,
    ) -> Vec<Ended>
    where
        H: Fn(Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let mut ended = Vec::with_capacity(group.len());
        let mut group: VecDeque<SqsMessage> = group.into();
        while let Some(record) = group.pop_front() {
            let message = self.read(&record, deadline);
            let span = message.span.clone();
            let work = async {
                match message.time_left() {
                    Duration::ZERO => Outcome::NotStarted,
                    time_left => {
                        let delivery = self.delivery(&message);
                        let work = async { handler(message).await };
                        let result = run_guarded(work, time_left).await;
                        let result = result.unwrap_or_else(|error| Err(Failure::transient(error)));
                        self.settle(&record, delivery, result).await
                    }
                }
            };
            let outcome = self.report(record.message_id.clone(), work).instrument(span).await;
            if outcome.outcome.is_redelivered() {
                let (rest, pause) = (std::mem::take(&mut group), pause_of(&outcome.outcome));
                ended.extend(self.give_back(rest, deadline, pause).await);
            }
            ended.push(outcome);
        }
        ended
    }

    async fn run_round<H, F>(
        &self,
        round: Vec<SqsMessage>,
        deadline: Timestamp,
        handler: &H,
        unanswered: &impl AsyncFn(Message, HandlerError) -> Result<Handled, Failure>,
    ) -> Vec<Ended>
    where
        H: Fn(Vec<Message>, Answers) -> F,
        F: Future<Output = ()>,
    {
        let messages: Vec<Message> =
            round.iter().map(|record| self.read(record, deadline)).collect();
        let time_left = self.clock.time_until(deadline);
        let answers = Answers::default();
        let error = if time_left.is_zero() {
            None
        } else {
            let work = async { handler(messages.clone(), answers.clone()).await };
            Some(run_guarded(work, time_left).await.err().unwrap_or(HandlerError::Unanswered))
        };
        let answers = &answers;
        join_all(round.iter().zip(messages).map(|(record, message)| {
            let span = message.span.clone();
            let error = error.clone();
            let work = async move {
                let Some(error) = error else { return Outcome::NotStarted };
                let delivery = self.delivery(&message);
                let answer = answers.lock().remove(&message.message_id);
                let result = match answer {
                    Some(answer) => answer,
                    None => unanswered(message, error).await,
                };
                self.settle(record, delivery, result).await
            };
            self.report(record.message_id.clone(), work).instrument(span)
        }))
        .await
    }

    /// Gives back what a failure in its group holds up, for as long as that message itself stays away: SQS gives out
    /// nothing of a group while a message of it is in flight.
    async fn give_back(
        &self,
        rest: impl IntoIterator<Item = SqsMessage>,
        deadline: Timestamp,
        pause: Option<Duration>,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        for record in rest {
            let message = self.read(&record, deadline);
            if let Some(pause) = pause {
                self.delay_redelivery(&record, pause, self.delivery(&message).end).await;
            }
            let outcome = self.report(record.message_id.clone(), ready(Outcome::NotStarted));
            ended.push(outcome.instrument(message.span).await);
        }
        ended
    }

    fn read(&self, record: &SqsMessage, deadline: Timestamp) -> Message {
        let message = Message::read(record, deadline, &self.clock);
        let span = self.observer.span(&self.name, &message);
        Message { span, ..message }
    }

    fn delivery(&self, message: &Message) -> Delivery {
        let settle_time = self.deadline_reserve.saturating_sub(ANSWER_TIME);
        Delivery {
            deliveries: message.deliveries,
            first_received: message.first_received,
            end: message.deadline + settle_time,
        }
    }

    async fn report(
        &self,
        message_id: Option<String>,
        work: impl Future<Output = Outcome>,
    ) -> Ended {
        let outcome = work.await;
        self.observer.message_ended(&outcome);
        Ended { message_id: message_id.unwrap_or_default(), outcome }
    }

    fn answer(&self, ended: Vec<Ended>) -> SqsBatchResponse {
        let mut answer = SqsBatchResponse::default();
        let mut outcomes = Vec::with_capacity(ended.len());
        for Ended { message_id, outcome } in ended {
            if outcome.is_redelivered() {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                answer.batch_item_failures.push(failure);
            }
            outcomes.push(outcome);
        }
        self.observer.batch_ended(&outcomes);
        answer
    }

    /// Sends a failed message where it belongs, in the time until the delivery's end: an SQS that does not answer must
    /// not make the invocation time out, because that would give back the whole batch.
    async fn settle(
        &self,
        record: &SqsMessage,
        delivery: Delivery,
        result: Result<Handled, Failure>,
    ) -> Outcome {
        let age = || self.time_tried(record, &delivery);
        let (reason, detail) = match result {
            Ok(handled) => {
                self.forget_tried(record);
                return Outcome::Handled(handled);
            }
            Err(Failure::Poison { reason, detail }) => (reason, detail),
            Err(Failure::Transient { error, retry_in: None, reason })
                if age() >= self.give_up_after =>
            {
                (reason, ErrorChain(error.as_ref()).to_string())
            }
            Err(Failure::Transient { error, retry_in, .. }) => {
                return self.retry(record, delivery, error, retry_in).await;
            }
        };
        match self.send_to_dlq(record, delivery, &reason, &detail).await {
            Ok(()) => {
                self.forget_tried(record);
                Outcome::DeadLettered { reason }
            }
            Err(source) => {
                let error = NotDeadLettered { reason, source }.into();
                self.retry(record, delivery, error, None).await
            }
        }
    }

    /// For how long a message has been tried.
    fn time_tried(&self, record: &SqsMessage, delivery: &Delivery) -> Duration {
        let first = if group_id(record).is_some() {
            let mut first_tried = self.first_tried();
            // Who forgets tries for longer, within the queue's own bound.
            if first_tried.len() >= TRIED_MAX {
                first_tried.clear();
            }
            let id = record.message_id.clone().unwrap_or_default();
            Some(*first_tried.entry(id).or_insert_with(|| self.clock.now()))
        } else {
            delivery.first_received
        };
        first.map(|first| self.clock.time_since(first)).unwrap_or_default()
    }

    fn forget_tried(&self, record: &SqsMessage) {
        if let Some(id) = &record.message_id {
            self.first_tried().remove(id);
        }
    }

    fn first_tried(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.first_tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn retry(
        &self,
        record: &SqsMessage,
        delivery: Delivery,
        error: BoxError,
        retry_in: Option<Duration>,
    ) -> Outcome {
        let random = fastrand::f64();
        let retry_in = retry_in.unwrap_or_else(|| self.backoff.pause(delivery.deliveries, random));
        self.delay_redelivery(record, retry_in, delivery.end).await;
        Outcome::Retried { error, retry_in }
    }

    /// Lets a message come back after a pause. If that fails it comes back after the queue's own timeout.
    async fn delay_redelivery(&self, record: &SqsMessage, pause: Duration, end: Timestamp) {
        // Rounded up: a lease that a message waits for has then ended when it comes back.
        let seconds = (pause.as_secs_f64().ceil() as u64).min(PAUSE_SECONDS_MAX);
        let call = self
            .sqs
            .change_message_visibility()
            .queue_url(&self.queue_url)
            .set_receipt_handle(record.receipt_handle.clone())
            .visibility_timeout(i32::try_from(seconds).unwrap_or(i32::MAX));
        if let Err(error) = self.call_until(end, "ChangeMessageVisibility", call.send()).await {
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
        let first_failed_at = delivery.first_received.unwrap_or_else(|| self.clock.now());
        let attempts = delivery.deliveries;
        let letter = DeadLetter { message, reason, detail, first_failed_at, attempts };
        let call = self.sqs.send_message().queue_url(&self.dlq_url);
        let send = letter.fill(call, self.dlq_url.ends_with(".fifo")).send();
        self.call_until(delivery.end - PAUSE_TIME, "SendMessage dead letter", send).await
    }

    /// Calls SQS, and gives up at `end`.
    async fn call_until<T, E, R>(
        &self,
        end: Timestamp,
        operation: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<(), SettleError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.clock.time_until(end), call).await {
            Ok(answer) => Ok(answer.map(drop).map_err(CallError::of(operation))?),
            Err(_) => Err(SettleError::Timeout(operation)),
        }
    }
}

/// What one message has come to.
struct Ended {
    message_id: String,
    outcome: Outcome,
}

/// For how long a failed message stays away, or `None` if that is the queue's own timeout.
fn pause_of(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Retried { retry_in, .. } => Some(*retry_in),
        Outcome::NotStarted | Outcome::Handled(_) | Outcome::DeadLettered { .. } => None,
    }
}

/// One delivery of a message, as far as it decides what becomes of a failure.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    deliveries: u32,
    first_received: Option<Timestamp>,
    /// Until when SQS has to have answered.
    end: Timestamp,
}

/// Runs a handler so that neither a panic nor a standstill of it reaches the rest of the batch.
async fn run_guarded<T>(
    handler: impl Future<Output = T>,
    time_left: Duration,
) -> Result<T, HandlerError> {
    match tokio::time::timeout(time_left, AssertUnwindSafe(handler).catch_unwind()).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => Err(HandlerError::Panicked(panic_message(&*panic).to_owned())),
        Err(_) => Err(HandlerError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_and_a_standstill_are_failures_of_their_message() {
        let panicking = async { panic!("boom {}", 1) };
        let error = run_guarded::<()>(panicking, Duration::from_secs(5)).await.expect_err("panics");
        assert_eq!(error.to_string(), "panicked: boom 1");
        let still = std::future::pending::<()>();
        let error = run_guarded(still, Duration::from_millis(1)).await.expect_err("stands still");
        assert!(error.to_string().contains("deadline"), "{error}");
    }
}
