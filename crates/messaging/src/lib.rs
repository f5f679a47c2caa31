//! How Orderflow's functions use the library: where contract ([`events`]) and delivery ([`exactly_once`]) meet.
//!
//! In: settings, SQS batches, and what happened to an order. Out: a consumer's handler is given decoded events with
//! their trace; an event is made ready for the outbox. Guarantees: what breaks the contract is poison with the reason
//! that the contract gives; each message ends with one log line that names its event; metrics count every outcome.

pub mod breaker;

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use events::{Body, CorrelationId, DecodeError, Event, Id, Money, Priority, Stamp};
use exactly_once::{
    Answers, Backoff, Clock, Consumer, Failure, Handled, Ids, Inbox, LogObserver, Message,
    Observer, Outbox, Outcome, Outgoing, Shards, outbox::Publications,
};
use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use settings::Environment;
use telemetry::Trace;
use tracing::{Span, field::Empty};

/// The name of the event log's partition key.
pub const PARTITION_KEY: &str = "order_id";

/// Where events are stored and published.
#[derive(Debug)]
pub struct OutboxConfig {
    event_log_table: String,
    topic_arn: String,
    shards: Shards,
}

impl OutboxConfig {
    /// Reads `EVENT_LOG_TABLE`, `TOPIC_ARN` and `OUTBOX_SHARDS`.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let event_log_table = environment.text("EVENT_LOG_TABLE");
        let topic_arn = environment.text("TOPIC_ARN");
        let shards = environment.value("OUTBOX_SHARDS");
        Some(Self { event_log_table: event_log_table?, topic_arn: topic_arn?, shards: shards? })
    }

    #[must_use]
    pub fn outbox(&self, aws: &SdkConfig) -> Outbox {
        let (dynamodb, sns) = (aws_sdk_dynamodb::Client::new(aws), aws_sdk_sns::Client::new(aws));
        Outbox::new(dynamodb, sns, &self.event_log_table, &self.topic_arn)
            .partition_key(PARTITION_KEY)
            .shards(self.shards)
            .on_publication(count_publications)
    }
}

/// What is left here is published by the relay, or with the message that caused it.
fn count_publications(Publications { published, left, at: now, .. }: Publications) {
    telemetry::count(&[("events_published", published as u64), ("events_left", left as u64)], now);
}

/// A consumer's queue, its DLQ and its table of markers.
#[derive(Debug)]
pub struct ConsumerConfig {
    idempotency_table: String,
    queue_url: String,
    dlq_url: String,
    priority_queue: Option<PriorityQueue>,
    retry_schedule: Backoff,
    give_up_after_seconds: u32,
}

/// The queue by which a consumer is given the events of orders with high priority, and its DLQ.
#[derive(Debug)]
struct PriorityQueue {
    url: String,
    dlq_url: String,
}

impl ConsumerConfig {
    /// Reads `IDEMPOTENCY_TABLE`, `QUEUE_URL`, `DLQ_URL`, `RETRY_SCHEDULE` and `GIVE_UP_AFTER_SECONDS`.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
        let queue_url = environment.text("QUEUE_URL");
        let dlq_url = environment.text("DLQ_URL");
        let retry_schedule = environment.value("RETRY_SCHEDULE");
        let give_up_after_seconds = environment.value("GIVE_UP_AFTER_SECONDS");
        Some(Self {
            idempotency_table: idempotency_table?,
            queue_url: queue_url?,
            dlq_url: dlq_url?,
            priority_queue: None,
            retry_schedule: retry_schedule?,
            give_up_after_seconds: give_up_after_seconds?,
        })
    }

    /// As [`ConsumerConfig::read`], and `PRIORITY_QUEUE_URL` and `PRIORITY_DLQ_URL`, which are `none` where no orders go first.
    pub fn read_with_priority(environment: &mut Environment) -> Option<Self> {
        let config = Self::read(environment);
        let url = environment.text("PRIORITY_QUEUE_URL");
        let dlq_url = environment.text("PRIORITY_DLQ_URL");
        let (config, url, dlq_url) = (config?, url?, dlq_url?);
        let priority_queue = (url != "none").then_some(PriorityQueue { url, dlq_url });
        Some(Self { priority_queue, ..config })
    }

    /// Number of queues whose messages the consumer is given, each by an event source mapping of its own.
    #[must_use]
    pub fn queue_count(&self) -> u32 {
        1 + u32::from(self.priority_queue.is_some())
    }

    #[must_use]
    pub fn inbox(&self, aws: &SdkConfig, ids: &Ids, consumer: &str) -> Inbox {
        let client = aws_sdk_dynamodb::Client::new(aws);
        Inbox::new(client, &self.idempotency_table, consumer).ids(ids.clone())
    }

    /// The table of markers.
    #[must_use]
    pub fn idempotency_table(&self) -> &str {
        &self.idempotency_table
    }

    /// The consumer of the queue, by the name that stands in logs.
    #[must_use]
    pub fn event_consumer(&self, aws: &SdkConfig, ids: &Ids, name: &str) -> EventConsumer {
        let observer = EventObserver::new(aws);
        let batch = observer.batch.clone();
        let consumer_of = |queue_url: &str, dlq_url: &str| {
            self.consumer_of(queue_url, dlq_url, observer.clone(), aws, name)
        };
        let of_priority_queue = self.priority_queue.as_ref().map(|queue| {
            let queue_name = queue.url.rsplit('/').next().unwrap_or_default().to_owned();
            (queue_name, consumer_of(&queue.url, &queue.dlq_url))
        });
        EventConsumer {
            consumer: consumer_of(&self.queue_url, &self.dlq_url),
            of_priority_queue,
            ids: ids.clone(),
            batch,
        }
    }

    /// The consumer of a queue whose messages are no events.
    #[must_use]
    pub fn consumer(&self, aws: &SdkConfig, name: &str) -> Consumer {
        self.consumer_of(&self.queue_url, &self.dlq_url, EventObserver::new(aws), aws, name)
    }

    fn consumer_of(
        &self,
        queue_url: &str,
        dlq_url: &str,
        observer: EventObserver,
        aws: &SdkConfig,
        name: &str,
    ) -> Consumer {
        let sqs = aws_sdk_sqs::Client::new(aws);
        Consumer::new(name, sqs, queue_url, dlq_url)
            .backoff(self.retry_schedule.clone())
            .give_up_after(Duration::from_secs(self.give_up_after_seconds.into()))
            .observer(observer)
    }
}

/// A consumer whose handler gets decoded events, each with the trace that it goes on with.
#[derive(Debug, Clone)]
pub struct EventConsumer {
    consumer: Consumer,
    /// That of the queue for orders with high priority, by the queue's name; `None` where no orders go first.
    of_priority_queue: Option<(String, Consumer)>,
    ids: Ids,
    batch: Arc<Mutex<Batch>>,
}

impl EventConsumer {
    /// The consumer that knows the queue of a batch: an event source mapping gives the messages of one queue at a time.
    fn consumer_of(&self, batch: &SqsEvent) -> &Consumer {
        let arn = batch.records.first().and_then(|record| record.event_source_arn.as_deref());
        let name = arn.and_then(|arn| arn.rsplit(':').next());
        match &self.of_priority_queue {
            Some((priority, consumer)) if name == Some(priority) => consumer,
            _ => &self.consumer,
        }
    }

    /// Serves the queue until Lambda ends the process.
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve<H, F>(&self, handler: H) -> Result<(), Error>
    where
        H: Fn(Event, Trace, Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            let answer = self.run(batch.payload, batch.context.deadline, &handler).await;
            telemetry::flush().await;
            Ok::<_, Error>(answer)
        }))
        .await
    }

    /// Handles one batch, as [`Consumer::run`] does.
    pub async fn run<H, F>(&self, batch: SqsEvent, deadline_ms: u64, handler: H) -> SqsBatchResponse
    where
        H: Fn(Event, Trace, Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let consumer = self.consumer_of(&batch);
        consumer.run(batch, deadline_ms, |message| self.handle(message, &handler)).await
    }

    /// Serves the queue until Lambda ends the process: the events of a batch together, and what that leaves, one by one.
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve_together<H, F, A, G>(&self, together: H, alone: A) -> Result<(), Error>
    where
        H: Fn(Vec<ReceivedEvent>, Answers) -> F,
        F: Future<Output = ()>,
        A: Fn(Event, Trace, Message) -> G,
        G: Future<Output = Result<Handled, Failure>>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            let deadline_ms = batch.context.deadline;
            // In a box: a future of that many futures is deeper than the compiler looks.
            let answer = Box::pin(self.run_together(batch.payload, deadline_ms, &together, &alone));
            let answer = answer.await;
            telemetry::flush().await;
            Ok::<_, Error>(answer)
        }))
        .await
    }

    /// Handles one batch, as [`Consumer::run_together`] does.
    pub async fn run_together<H, F, A, G>(
        &self,
        batch: SqsEvent,
        deadline_ms: u64,
        together: H,
        alone: A,
    ) -> SqsBatchResponse
    where
        H: Fn(Vec<ReceivedEvent>, Answers) -> F,
        F: Future<Output = ()>,
        A: Fn(Event, Trace, Message) -> G,
        G: Future<Output = Result<Handled, Failure>>,
    {
        let together = |messages, answers| together(self.receive(messages), answers);
        let alone = |message| self.handle(message, &alone);
        let consumer = self.consumer_of(&batch);
        consumer.run_together(batch, deadline_ms, together, alone).await
    }

    /// Serves a queue with other messages than events on it, until Lambda ends the process: what `read_other` takes is no event.
    ///
    /// # Errors
    /// The runtime API is gone.
    pub async fn serve_mixed<O, H, F>(
        &self,
        read_other: fn(&Message) -> Option<O>,
        handler: H,
    ) -> Result<(), Error>
    where
        H: Fn(Received<O>) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        lambda_runtime::run(service_fn(async |batch: LambdaEvent<SqsEvent>| {
            let deadline_ms = batch.context.deadline;
            let answer = self.run_mixed(batch.payload, deadline_ms, read_other, &handler).await;
            telemetry::flush().await;
            Ok::<_, Error>(answer)
        }))
        .await
    }

    /// Handles one batch of such a queue, as [`Consumer::run`] does.
    pub async fn run_mixed<O, H, F>(
        &self,
        batch: SqsEvent,
        deadline_ms: u64,
        read_other: fn(&Message) -> Option<O>,
        handler: H,
    ) -> SqsBatchResponse
    where
        H: Fn(Received<O>) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let handle = async |message: Message| {
            let received = match read_other(&message) {
                Some(other) => Received::Other(other),
                None => {
                    // For the log line: nothing goes on with it.
                    read_trace(&message, &self.ids);
                    Received::Event(Box::new(self.decode(&message)?))
                }
            };
            handler(received).await
        };
        self.consumer_of(&batch).run(batch, deadline_ms, handle).await
    }

    /// The events of those messages that have one. What the others are is said when they are handled by themselves.
    fn receive(&self, messages: Vec<Message>) -> Vec<ReceivedEvent> {
        let received = messages.into_iter().filter_map(|message| {
            let trace = read_trace(&message, &self.ids);
            let event = self.decode(&message).ok()?;
            Some(ReceivedEvent { event, trace, message })
        });
        received.collect()
    }

    async fn handle<H, F>(&self, message: Message, handler: &H) -> Result<Handled, Failure>
    where
        H: Fn(Event, Trace, Message) -> F,
        F: Future<Output = Result<Handled, Failure>>,
    {
        let trace = read_trace(&message, &self.ids);
        let event = self.decode(&message)?;
        handler(event, trace, message).await
    }

    /// Decodes the event of a message, and notes it if this is its first delivery.
    fn decode(&self, message: &Message) -> Result<Event, Failure> {
        let event = decode(message)?;
        if message.deliveries == 1 {
            lock(&self.batch).note_first_delivery(&event);
        }
        Ok(event)
    }
}

/// What came on a queue that has more than events.
#[derive(Debug, Clone)]
pub enum Received<O> {
    Event(Box<Event>),
    Other(O),
}

/// An event as it came in a batch.
#[derive(Debug, Clone)]
pub struct ReceivedEvent {
    pub event: Event,
    /// What it goes on with.
    pub trace: Trace,
    /// By which it is answered.
    pub message: Message,
}

/// Reads the event of a message, and names it in the log line that the message ends with.
fn decode(message: &Message) -> Result<Event, Failure> {
    let event = Event::decode(message.body.as_bytes()).map_err(|error| match error {
        // A deployment may be under way: a newer producer's event waits for the newer consumer.
        DecodeError::UnknownType(_) | DecodeError::UnsupportedVersion(_) => {
            Failure::transient_because(error.reason(), error)
        }
        DecodeError::NotJson(_) | DecodeError::Schema { .. } => {
            Failure::poison(error.reason(), error)
        }
    })?;
    let span = &message.span;
    span.record("event_id", event.id.to_string());
    span.record("event_type", event.body.event_type().as_str());
    span.record("order_id", event.body.order_id().as_str());
    Ok(event)
}

/// Continues the trace of a message, and names it in the log line that the message ends with.
fn read_trace(message: &Message, ids: &Ids) -> Trace {
    let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
    let trace = Trace::continued(attribute("correlation_id"), attribute("traceparent"), ids);
    let span = &message.span;
    span.record("correlation_id", &trace.correlation_id);
    span.record("traceparent", &trace.traceparent);
    if let (true, Some(parent)) = (telemetry::is_recording(), &trace.parent) {
        span.record("parent", parent);
    }
    trace
}

/// Makes events and ids, by a clock and a source of ids.
#[derive(Debug, Clone, Default)]
pub struct EventFactory {
    clock: Clock,
    ids: Ids,
    priority_threshold: Option<Money>,
}

impl EventFactory {
    /// By the clock of this configuration.
    #[must_use]
    pub fn new(aws: &SdkConfig, ids: Ids) -> Self {
        Self { clock: aws.time_source().into(), ids, priority_threshold: None }
    }

    /// Events of orders get a priority: high, if the order's total is above this.
    #[must_use]
    pub fn priority_threshold(mut self, total: Money) -> Self {
        self.priority_threshold = Some(total);
        self
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.clock.now().into()
    }

    /// The id of something new, which nobody can guess: 122 random bits.
    #[must_use]
    pub fn new_id(&self) -> Id {
        self.ids.random().into()
    }

    /// An event that happens now, ready to be stored and published. What can be no correlation id is replaced, as
    /// [`Trace::continued`] does.
    #[must_use]
    pub fn outgoing(&self, correlation_id: &str, body: Body, trace: &Trace) -> Outgoing {
        let now = self.clock.now();
        let correlation_id =
            correlation_id.parse().unwrap_or_else(|_| CorrelationId::from(self.ids.random()));
        let id = self.ids.ordered(now);
        let event = Event { id, timestamp: now.into(), correlation_id, body };
        let priority = self.priority_threshold.and_then(|total| Priority::of(&event.body, total));
        Outgoing {
            stream: event.body.order_id().to_string(),
            id: event.id,
            body: event.encode(),
            attributes: event.attributes(&trace.traceparent, priority),
        }
    }
}

/// What is measured of a batch while it is handled.
#[derive(Debug, Default)]
struct Batch {
    begun: Option<Timestamp>,
    /// The events that came for the first time, and when each of them happened.
    first_deliveries: Vec<(Id, Timestamp)>,
}

impl Batch {
    fn note_first_delivery(&mut self, event: &Event) {
        let id = Id::from(event.id);
        // What the batch leaves is decoded once more, by itself.
        if !self.first_deliveries.iter().any(|(known, _)| *known == id) {
            self.first_deliveries.push((id, event.timestamp.timestamp()));
        }
    }
}

/// It is never left half-changed, so a panic elsewhere does not matter.
fn lock(batch: &Mutex<Batch>) -> MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long it is between two moments, in milliseconds; zero if the clocks of two machines disagree.
fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    to.duration_since(from).as_millis().try_into().unwrap_or_default()
}

/// Logs each message with its event and trace, and reports outcomes, ages and durations as metrics.
#[derive(Debug, Clone)]
struct EventObserver {
    clock: Clock,
    batch: Arc<Mutex<Batch>>,
}

impl EventObserver {
    fn new(aws: &SdkConfig) -> Self {
        Self { clock: aws.time_source().into(), batch: Arc::default() }
    }
}

impl Observer for EventObserver {
    fn span(&self, consumer: &str, message: &Message) -> Span {
        lock(&self.batch).begun.get_or_insert_with(|| self.clock.now());
        tracing::info_span!(
            "message",
            consumer,
            message_id = message.message_id,
            deliveries = message.deliveries,
            correlation_id = Empty,
            traceparent = Empty,
            parent = Empty,
            event_id = Empty,
            event_type = Empty,
            order_id = Empty,
        )
    }

    fn message_ended(&self, outcome: &Outcome) {
        LogObserver.message_ended(outcome);
    }

    fn batch_ended(&self, outcomes: &[Outcome]) {
        let count = |wanted: fn(&Outcome) -> bool| {
            outcomes.iter().filter(|outcome| wanted(outcome)).count() as u64
        };
        let now = self.clock.now();
        let Batch { begun, first_deliveries } = std::mem::take(&mut *lock(&self.batch));
        let ages: Vec<u64> =
            first_deliveries.iter().map(|(_, happened)| milliseconds(*happened, now)).collect();
        let duration: Vec<u64> = begun.iter().map(|begun| milliseconds(*begun, now)).collect();
        telemetry::report(
            &[
                ("done", count(|o| matches!(o, Outcome::Handled(Handled::Done)))),
                ("duplicate", count(|o| matches!(o, Outcome::Handled(Handled::Duplicate)))),
                ("ignored", count(|o| matches!(o, Outcome::Handled(Handled::Ignored)))),
                ("retried", count(|o| matches!(o, Outcome::Retried { .. }))),
                ("dead_lettered", count(|o| matches!(o, Outcome::DeadLettered { .. }))),
                ("not_started", count(|o| matches!(o, Outcome::NotStarted))),
            ],
            &[("event_age_ms", &ages), ("batch_ms", &duration)],
            now,
        );
    }
}
