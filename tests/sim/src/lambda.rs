//! Lambda: concurrency that runs out, execution environments that are used again, freeze and end, time-outs, event source
//! mappings, and the relay's schedule.
//!
//! In: functions to invoke, and how harsh to be ([`Harshness`]). Out: what they answer, or that nobody does. Guarantees: never
//! more invocations at a time than the account and the function's reservation have room for; an environment handles one
//! invocation at a time, is frozen between them, and nothing of it goes on once it has ended. Where it has an extension, an
//! invocation is over when that is done, too; its answer is there before.
//!
//! - Concurrency: <https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html>
//! - Extensions: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>
//! - Environments: <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>
//! - Mappings: <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>. The template sets no batching window.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    time::Duration,
};

use analytics::{dynamodb::AnalyticsConsumer, wiring::AnalyticsConsumerConfig};
use anyhow::Result;
use aws_config::SdkConfig;
use exactly_once::Ids;
use futures::future::{LocalBoxFuture, join_all};
use messaging::EventConsumer;
use notification::{
    NotificationConfig, Notifier,
    suppression::{FeedbackConfig, FeedbackHandler},
};
use order::{dynamodb::OrderConsumer, wiring::OrderConsumerConfig};
use payment::{consumer::PaymentConsumer, wiring::PaymentConsumerConfig};
use product::{dynamodb::ProductConsumer, wiring::ProductConsumerConfig};
use relay::{Relay, RelayConfig};
use serde_json::{Value, json};
use simulated_aws::{Environment, Received, SimulatedAws};
use tokio::{sync::Notify, time::Instant};

use crate::shop::{self, Queue, SHARDS_DEFAULT, VISIBILITY_TIMEOUT};

/// The functions' time-out, as the template has it.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// The relay's.
const RELAY_TIMEOUT: Duration = Duration::from_secs(55);
const RELAY_INTERVAL: Duration = Duration::from_secs(60);
/// How late the relay's schedule may fire.
const RELAY_LATE_MS_MAX: u64 = 30_000;
/// How long a mapping takes to notice a message.
const POLL_MS_MAX: u64 = 300;
/// How long a call of SQS takes at the most.
const CALL_MS_MAX: u64 = 25;
/// Number of batches that a mapping polls for at a time.
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>
const POLLERS: usize = 5;
/// How long a throttled invocation waits before Lambda tries it again.
const THROTTLE_PAUSE_MS: std::ops::Range<u64> = 1000..10_000;
/// How long an idle environment is kept.
const IDLE_SECONDS: std::ops::Range<u64> = 5..900;
/// How long an environment may stand still in the middle of an invocation.
const STALL_MS: std::ops::Range<u64> = 1000..15_000;

/// How the story says that an environment begins and ends.
pub(crate) const BEGINS: &str = "begins, as";
pub(crate) const ENDS: &str = "ends before its invocation does";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    OrderApi,
    ProductApi,
    PaymentApi,
    Consumer(Queue),
    Relay,
}

/// What Lambda does to its functions, besides invoking them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harshness {
    /// Number of invocations at a time that the account has room for.
    pub concurrency: usize,
    /// Whether the consumers have a part of it for themselves.
    pub is_reserved: bool,
    /// Of a thousand invocations, those in whose middle the environment stands still for a while.
    pub stalls: u64,
    /// Whether schedules fire late, and twice.
    pub has_unruly_schedule: bool,
    /// Whether an extension may register: otherwise an environment is frozen as soon as it has answered.
    pub has_extensions: bool,
}

/// An environment that is not invoked at the moment, and what was made in it.
struct Idle<T> {
    environment: Environment,
    handler: Rc<T>,
    ends: Instant,
}

/// The environments of one function that wait for an invocation.
pub(crate) struct Environments<T>(Rc<RefCell<Vec<Idle<T>>>>);

impl<T> Default for Environments<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T> Clone for Environments<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Environments<T> {
    /// Ends all of them, as a deployment does.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().drain(..).for_each(|idle| idle.environment.die());
    }

    /// Freezes an environment until it is invoked again, or has been idle for long enough.
    fn put(&self, aws: &SimulatedAws, environment: Environment, handler: Rc<T>) {
        environment.freeze();
        let ends = Instant::now() + Duration::from_secs(aws.draw(IDLE_SECONDS));
        self.0.borrow_mut().push(Idle { environment, handler, ends });
    }

    fn take(&self) -> Option<(Environment, Rc<T>)> {
        let mut idle = self.0.borrow_mut();
        let now = Instant::now();
        idle.retain(|one| {
            if one.ends <= now {
                one.environment.die();
            }
            one.ends > now
        });
        idle.pop().map(|one| (one.environment, one.handler))
    }
}

/// What became of an invocation.
pub(crate) struct Invoked<A> {
    /// What the function answered, or `None` if it timed out or its environment died.
    pub answer: Option<A>,
    /// Where, and whether that stood still.
    pub environment: Environment,
    pub has_stalled: bool,
    /// How long it took.
    pub took: Duration,
}

/// A part of the account's concurrency, for one invocation.
struct Slot {
    lambda: Lambda,
    function: Function,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.lambda.state.borrow_mut();
        *state.running.entry(self.function).or_default() -= 1;
    }
}

#[derive(Default)]
struct State {
    running: BTreeMap<Function, usize>,
    reserved: BTreeMap<Function, usize>,
    paused: BTreeSet<Queue>,
    stalls: bool,
    /// Number of times that an invocation was throttled.
    throttled: u64,
    /// Records of event types and versions that only the next deployment's consumers understand.
    newer: BTreeSet<String>,
    is_newer_deployed: bool,
    taken_by_newer: BTreeSet<(Queue, String)>,
}

/// Lambda. Clones are the same.
#[derive(Clone)]
pub(crate) struct Lambda {
    pub aws: SimulatedAws,
    pub config: SdkConfig,
    pub ids: Ids,
    harshness: Harshness,
    /// Number of shards in the settings of environments that begin now.
    shards: Rc<Cell<u64>>,
    /// How long a customer has to pay by Stripe, in minutes; `None` if orders are not paid.
    reservation_minutes: Rc<Cell<Option<u64>>>,
    /// Which generation of the analytics is counted in environments that begin now.
    analytics_generation: Rc<Cell<u64>>,
    state: Rc<RefCell<State>>,
    consumers: Rc<BTreeMap<Queue, Environments<Consumer>>>,
    relays: Rc<Environments<Relay>>,
    resumed: Rc<Notify>,
}

impl Lambda {
    pub(crate) fn new(
        aws: &SimulatedAws,
        config: &SdkConfig,
        ids: &Ids,
        harshness: Harshness,
    ) -> Self {
        let mut state = State::default();
        if harshness.is_reserved {
            // As the template has it: at least each mapping's MaximumConcurrency.
            for queue in Queue::ALL {
                let function = Function::Consumer(queue.consumer());
                state.reserved.insert(function, queue.reserved_concurrency());
            }
        }
        let queues = Queue::ALL.into_iter().chain([Queue::Payment]);
        let consumers = queues.map(|queue| (queue, Environments::default())).collect();
        Self {
            aws: aws.clone(),
            config: config.clone(),
            ids: ids.clone(),
            harshness,
            shards: Rc::new(Cell::new(SHARDS_DEFAULT)),
            reservation_minutes: Rc::default(),
            analytics_generation: Rc::new(Cell::new(1)),
            state: Rc::new(RefCell::new(state)),
            consumers: Rc::new(consumers),
            relays: Rc::default(),
            resumed: Rc::default(),
        }
    }

    /// Reserves concurrency for a function: 0 throttles all of its invocations.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html>
    pub(crate) fn reserve(&self, function: Function, concurrency: usize) {
        self.aws.note(|| format!("{function:?} has a concurrency of {concurrency}"));
        self.state.borrow_mut().reserved.insert(function, concurrency);
    }

    /// From now on, environments stand still in the middle of an invocation, or no more.
    pub(crate) fn stall(&self, stalls: bool) {
        self.state.borrow_mut().stalls = stalls;
    }

    /// Number of invocations that were throttled.
    pub(crate) fn throttled(&self) -> u64 {
        self.state.borrow().throttled
    }

    /// Disables or enables the mapping of a queue.
    pub(crate) fn pause(&self, queue: Queue, is_paused: bool) {
        self.aws.note(|| format!("{queue:?} is {}", if is_paused { "paused" } else { "resumed" }));
        let mut state = self.state.borrow_mut();
        if is_paused {
            state.paused.insert(queue)
        } else {
            state.paused.remove(&queue)
        };
        self.resumed.notify_waiters();
    }

    /// Names an event, by its body, that only consumers of the next deployment understand.
    pub(crate) fn expect_newer(&self, body: &str) {
        self.state.borrow_mut().newer.insert(body.to_owned());
    }

    /// Deploys consumers that understand the newer events.
    pub(crate) fn deploy(&self) {
        self.aws.note(|| "the consumers are deployed anew".to_owned());
        self.end_idle();
        self.state.borrow_mut().is_newer_deployed = true;
    }

    /// Deploys another number of shards of both indexes. Environments that are busy keep the old one.
    pub(crate) fn set_shards(&self, shards: u64) {
        self.aws.note(|| format!("the indexes have {shards} shards"));
        self.shards.set(shards);
        self.end_idle();
    }

    /// From now on, orders are paid by Stripe, within so many minutes.
    pub(crate) fn pay_by_stripe(&self, reservation_minutes: u64) {
        self.reservation_minutes.set(Some(reservation_minutes));
    }

    /// Deploys another generation of the analytics. Environments that are busy keep the old one.
    pub(crate) fn count_analytics_anew(&self, generation: u64) {
        self.aws.note(|| format!("the analytics are those of generation {generation}"));
        self.analytics_generation.set(generation);
        self.end_idle();
    }

    fn end_idle(&self) {
        self.consumers.values().for_each(Environments::end);
        self.relays.end();
    }

    /// The environment variables of an environment that begins now, those of a consumer for this queue.
    pub(crate) fn variables(&self, queue: Queue) -> HashMap<String, String> {
        let mut variables = shop::variables(queue, self.shards.get());
        if let Some(minutes) = self.reservation_minutes.get() {
            variables.extend(shop::payment_variables(minutes));
        }
        let generation = self.analytics_generation.get().to_string();
        variables.insert("ANALYTICS_GENERATION".to_owned(), generation);
        variables
    }

    /// Whether the newer consumer of a queue was given this event.
    pub(crate) fn has_newer_taken(&self, queue: Queue, body: &str) -> bool {
        self.state.borrow().taken_by_newer.contains(&(queue, body.to_owned()))
    }

    /// Room for one invocation, or `None` if it is throttled.
    fn slot(&self, function: Function) -> Option<Slot> {
        let mut state = self.state.borrow_mut();
        let running =
            |function: &Function| state.running.get(function).copied().unwrap_or_default();
        let has_room = match state.reserved.get(&function) {
            Some(reserved) => running(&function) < *reserved,
            None => {
                let reserved: usize = state.reserved.values().sum();
                let unreserved = state.running.iter();
                let unreserved = unreserved.filter(|(one, _)| !state.reserved.contains_key(one));
                let running: usize = unreserved.map(|(_, running)| running).sum();
                running < self.harshness.concurrency.saturating_sub(reserved).max(1)
            }
        };
        if !has_room {
            state.throttled += 1;
            return None;
        }
        *state.running.entry(function).or_default() += 1;
        Some(Slot { lambda: self.clone(), function })
    }

    /// Whether the environments of a function go on after an answer, until its extension has asked for the next event.
    pub(crate) fn has_extensions(&self) -> bool {
        self.harshness.has_extensions
    }

    /// Invokes a function that has done everything with its answer, or returns `None` if it is throttled.
    ///
    /// # Errors
    /// Its settings are wrong.
    pub(crate) async fn invoke<T: 'static, A>(
        &self,
        function: Function,
        environments: &Environments<T>,
        timeout: Duration,
        start: impl FnOnce(&SdkConfig) -> Result<T>,
        work: impl AsyncFnOnce(Rc<T>, u64) -> A,
    ) -> Result<Option<Invoked<A>>> {
        let start = |environment: &Environment| start(&environment.config(&self.config));
        self.invoke_and_finish(function, environments, timeout, start, work, |_, _| None).await
    }

    /// Invokes a function that may go on after its answer: `finish` has what is left, if anything is. Whoever waits for the
    /// answer has it before. The invocation is over afterwards, within the same time; the environment may die in between.
    ///
    /// # Errors
    /// Its settings are wrong.
    pub(crate) async fn invoke_and_finish<T: 'static, A>(
        &self,
        function: Function,
        environments: &Environments<T>,
        timeout: Duration,
        start: impl FnOnce(&Environment) -> Result<T>,
        work: impl AsyncFnOnce(Rc<T>, u64) -> A,
        finish: impl FnOnce(Rc<T>, u64) -> Option<LocalBoxFuture<'static, ()>>,
    ) -> Result<Option<Invoked<A>>> {
        let Some(slot) = self.slot(function) else { return Ok(None) };
        let (environment, handler) = match environments.take() {
            Some(idle) => idle,
            None => {
                let environment = self.aws.environment();
                environment.note(|| format!("{BEGINS} {function:?}"));
                let handler = start(&environment)?;
                (environment, Rc::new(handler))
            }
        };
        environment.thaw();
        let begun = Instant::now();
        let has_stalled =
            self.aws.draw(0..1000) < self.harshness.stalls && self.state.borrow().stalls;
        let stall = async {
            if has_stalled {
                tokio::time::sleep(Duration::from_millis(self.aws.draw(0..1000))).await;
                environment.freeze();
                environment.note_stall();
                tokio::time::sleep(Duration::from_millis(self.aws.draw(STALL_MS))).await;
                environment.thaw();
            }
            std::future::pending::<()>().await;
        };
        let deadline_ms = environment.now_ms() + u64::try_from(timeout.as_millis())?;
        let times_out_at = Instant::now() + timeout;
        let work = environment.run(work(handler.clone(), deadline_ms));
        let answer = tokio::select! {
            biased;
            () = environment.died() => None,
            () = tokio::time::sleep(timeout) => {
                // The API's may: what its client waits for may take longer than all of its time.
                if !has_stalled && matches!(function, Function::Consumer(_) | Function::Relay) {
                    environment.note_timeout();
                }
                None
            }
            () = stall => None,
            answer = work => Some(answer),
        };
        let took = begun.elapsed();
        let invoked = Invoked { answer, environment: environment.clone(), has_stalled, took };
        if invoked.answer.is_none() {
            environment.note(|| ENDS.to_owned());
            environment.die();
            return Ok(Some(invoked));
        }
        let Some(finish) = finish(handler.clone(), deadline_ms) else {
            environments.put(&self.aws, environment, handler);
            return Ok(Some(invoked));
        };
        let (aws, environments) = (self.aws.clone(), environments.clone());
        tokio::task::spawn_local(async move {
            let has_finished = tokio::select! {
                biased;
                () = environment.died() => false,
                () = tokio::time::sleep_until(times_out_at) => {
                    if !has_stalled {
                        environment.note_timeout();
                    }
                    false
                }
                () = environment.run(finish) => true,
            };
            if has_finished {
                environments.put(&aws, environment, handler);
            } else {
                environment.note(|| ENDS.to_owned());
                environment.die();
            }
            drop(slot);
        });
        Ok(Some(invoked))
    }

    /// The event source mapping of a queue: polls for as long as the simulation runs.
    pub(crate) async fn map(self, queue: Queue) {
        let busy = Rc::new(RefCell::new(0));
        let ended = Rc::new(Notify::new());
        let pollers = [(); POLLERS].map(|()| self.poll(queue, &busy, &ended));
        join_all(pollers).await;
    }

    async fn poll(&self, queue: Queue, busy: &Rc<RefCell<usize>>, ended: &Rc<Notify>) {
        let mut was_full = false;
        loop {
            let resumed = self.resumed.notified();
            if self.state.borrow().paused.contains(&queue) {
                resumed.await;
                continue;
            }
            let one_ended = ended.notified();
            if *busy.borrow() >= queue.concurrency_max() {
                one_ended.await;
                continue;
            }
            self.aws.message_visible(&queue.url()).await;
            // Where there is more, a poll is as quick as its call.
            let notices_ms = if was_full { CALL_MS_MAX } else { POLL_MS_MAX };
            let notices = Duration::from_millis(self.aws.draw(0..notices_ms));
            tokio::time::sleep(notices).await;
            let is_paused = self.state.borrow().paused.contains(&queue);
            if is_paused || *busy.borrow() >= queue.concurrency_max() {
                continue;
            }
            let batch = self.aws.receive(&queue.url(), queue.batch_size());
            was_full = batch.len() == queue.batch_size();
            if batch.is_empty() {
                continue;
            }
            *busy.borrow_mut() += 1;
            let (lambda, busy, ended) = (self.clone(), busy.clone(), ended.clone());
            tokio::task::spawn_local(async move {
                lambda.hand_over(queue, batch).await.expect("settings of the simulation");
                *busy.borrow_mut() -= 1;
                ended.notify_waiters();
            });
        }
    }

    /// Invokes a consumer with a batch. While that is throttled, Lambda tries again until the messages' visibility timeout has
    /// passed, and then drops the batch: the messages are visible again, one receive older.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-backoff-strategy>
    async fn hand_over(&self, queue: Queue, batch: Vec<Received>) -> Result<()> {
        let dropped_at = Instant::now() + VISIBILITY_TIMEOUT;
        let batch = self.without_newer(queue, batch);
        if batch.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = batch.iter().map(|received| &received.record).collect();
        let event = json!({ "Records": records });
        let consumer = queue.consumer();
        let (function, environments) = (Function::Consumer(consumer), &self.consumers[&consumer]);
        let invoked = loop {
            let start = |config: &SdkConfig| {
                Consumer::start(config, &self.ids, queue, self.variables(queue))
            };
            let work =
                async |consumer: Rc<Consumer>, deadline_ms| consumer.run(&event, deadline_ms).await;
            if let Some(invoked) = self.invoke(function, environments, TIMEOUT, start, work).await?
            {
                break invoked;
            }
            tokio::time::sleep(Duration::from_millis(self.aws.draw(THROTTLE_PAUSE_MS))).await;
            if Instant::now() >= dropped_at {
                return Ok(());
            }
        };
        let Some(failed) = invoked.answer else { return Ok(()) };
        for Received { record, receipt_handle } in batch {
            if !failed.iter().any(|id| record["messageId"] == **id) {
                self.aws.delete(&queue.url(), &receipt_handle);
            } else if !invoked.has_stalled {
                let body = record["body"].as_str().unwrap_or_default();
                invoked.environment.note_given_back(&receipt_handle, body, invoked.took);
            }
        }
        Ok(())
    }

    /// A batch without what the newer consumers, once they are deployed, handle in a way that the present ones do not know.
    fn without_newer(&self, queue: Queue, batch: Vec<Received>) -> Vec<Received> {
        let mut state = self.state.borrow_mut();
        if !state.is_newer_deployed || state.newer.is_empty() {
            return batch;
        }
        let is_newer = |one: &Received| {
            one.record["body"].as_str().is_some_and(|body| state.newer.contains(body))
        };
        let (newer, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_newer);
        for Received { record, receipt_handle } in newer {
            let body = record["body"].as_str().unwrap_or_default().to_owned();
            state.taken_by_newer.insert((queue, body));
            self.aws.delete(&queue.url(), &receipt_handle);
        }
        rest
    }

    /// The relay, once a minute. A rule may be late, and may fire more than once.
    /// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-troubleshooting.html>
    pub(crate) async fn schedule_relay(self) {
        loop {
            tokio::time::sleep(RELAY_INTERVAL).await;
            let is_unruly = self.harshness.has_unruly_schedule;
            let times = if is_unruly && self.aws.draw(0..8) == 0 { 2 } else { 1 };
            for _ in 0..times {
                let late_ms = self.aws.draw(0..if is_unruly { RELAY_LATE_MS_MAX } else { 100 });
                let lambda = self.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(late_ms)).await;
                    lambda.run_relay().await.expect("settings of the simulation");
                });
            }
        }
    }

    /// One sweep. One that was throttled, or has failed, is followed by the next.
    pub(crate) async fn run_relay(&self) -> Result<()> {
        let start = |config: &SdkConfig| {
            let read = settings::read_from(self.variables(Queue::Order), RelayConfig::read)?;
            Ok(read.relay(config, &self.ids))
        };
        let work = async |relay: Rc<Relay>, deadline_ms| drop(relay.sweep(deadline_ms).await);
        self.invoke(Function::Relay, &self.relays, RELAY_TIMEOUT, start, work).await?;
        Ok(())
    }
}

/// A consumer in its environment.
enum Consumer {
    Product(EventConsumer, ProductConsumer),
    Order(EventConsumer, OrderConsumer),
    Notification(EventConsumer, Notifier),
    Feedback(exactly_once::Consumer, FeedbackHandler),
    Payment(EventConsumer, Box<PaymentConsumer>),
    Analytics(EventConsumer, AnalyticsConsumer),
}

impl Consumer {
    fn start(
        config: &SdkConfig,
        ids: &Ids,
        queue: Queue,
        variables: HashMap<String, String>,
    ) -> Result<Self> {
        Ok(match queue {
            Queue::Product => {
                let read = settings::read_from(variables, ProductConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(config, ids);
                Self::Product(consumer, handler)
            }
            Queue::Order => {
                let read = settings::read_from(variables, OrderConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(config, ids);
                Self::Order(consumer, handler)
            }
            Queue::Notification | Queue::NotificationPriority => {
                let read = settings::read_from(variables, NotificationConfig::read)?;
                let (consumer, handler) = read.consumer(config, ids);
                Self::Notification(consumer, handler)
            }
            Queue::Feedback => {
                let read = settings::read_from(variables, FeedbackConfig::read)?;
                let (consumer, handler) = read.consumer(config);
                Self::Feedback(consumer, handler)
            }
            Queue::Payment => {
                let read = settings::read_from(variables, PaymentConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(config, ids);
                Self::Payment(consumer, Box::new(handler))
            }
            Queue::Analytics => {
                let read = settings::read_from(variables, AnalyticsConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(config, ids);
                Self::Analytics(consumer, handler)
            }
        })
    }

    /// The ids of the messages that are to come again.
    async fn run(&self, event: &Value, deadline_ms: u64) -> Vec<String> {
        let batch = serde_json::from_value(event.clone()).expect("a batch of messages");
        let answer = match self {
            Self::Product(consumer, handler) => {
                let together =
                    async |received, answers| handler.handle_together(received, answers).await;
                let alone = async |event, trace, _| handler.handle(event, trace).await;
                // In a box: a future of that many futures is deeper than the compiler looks.
                Box::pin(consumer.run_together(batch, deadline_ms, together, alone)).await
            }
            Self::Order(consumer, handler) => {
                let together =
                    async |received, answers| handler.handle_together(received, answers).await;
                let alone = async |event, trace, _| handler.handle(event, trace).await;
                // In a box: a future of that many futures is deeper than the compiler looks.
                Box::pin(consumer.run_together(batch, deadline_ms, together, alone)).await
            }
            Self::Notification(consumer, notifier) => {
                let handle = async |event, _, message| notifier.handle(event, message).await;
                consumer.run(batch, deadline_ms, handle).await
            }
            Self::Feedback(consumer, handler) => {
                let handle = async |message| handler.handle(message).await;
                consumer.run(batch, deadline_ms, handle).await
            }
            Self::Payment(consumer, handler) => {
                let handle = async |event, trace, _| handler.handle(event, trace).await;
                consumer.run(batch, deadline_ms, handle).await
            }
            Self::Analytics(consumer, handler) => {
                let together =
                    async |received, answers| handler.handle_together(received, answers).await;
                let alone = async |event, _, _| handler.handle(event).await;
                // In a box: a future of that many futures is deeper than the compiler looks.
                Box::pin(consumer.run_together(batch, deadline_ms, together, alone)).await
            }
        };
        answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }
}
