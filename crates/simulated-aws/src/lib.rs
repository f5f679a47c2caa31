//! A simulated AWS for unmodified clients: harsher than AWS, in virtual time, decided by a seed.
//!
//! In: a seed, [`Faults`], tables, queues, subscriptions. Out: AWS configurations ([`Environment::config`]) whose clients
//! speak to this AWS through their HTTP client and go by its clock. Requests and answers are the real wire formats.
//! Guarantees: the same seed with the same calls gives the same answers at the same virtual times; what is not simulated
//! is refused loudly (501), never answered kindly.
//!
//! It needs tokio's current-thread runtime with paused time, and `fastrand::seed` before the first client. For clients in
//! other processes there is [`SimulatedAws::prompt`], in real time: whoever has a socket asks it for answers
//! ([`SimulatedAws::answer`]).
//!
//! - `dynamodb`: transactions that take time, conflicts of which not all are reported, requests in progress, tokens, late
//!   indexes, stale reads.
//! - `sns`: topics with filters, duplicates, raw and enveloped delivery, retries, DLQs, and batches that fail in part.
//! - `sqs`: duplicates, any order, visibility, receive counts, retention, redrive, late counts, move tasks, FIFO queues.
//! - `mail`: SES, with its refusals. `secrets`: what Secrets Manager keeps.
//! - `external`: the services of others, which whoever simulates them brings.
//! - `observer`: who is shown each step, to check what has to be true at each.
//! - `wire`: HTTP, and what goes wrong on the way.

mod dynamodb;
mod expression;
mod external;
mod mail;
mod observer;
mod secrets;
mod sns;
mod sqs;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_async::time::TimeSource;
use tokio::{sync::Notify, time::Instant};

pub use dynamodb::{Index, Table, Units, Usage, update_of_statement};
pub use external::ExternalCall;
pub use mail::{MailSettings, SentMail};
pub use observer::{Call, Step};
pub use sns::{SubscriptionSettings, UnknownFilter};
pub use sqs::{QueueSettings, Received};
pub use wire::{Answer, Fault, Faults, Moment, Service};

/// When every simulation begins, in seconds since 1970: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: u64 = 1_767_225_600;

/// The host of every service of AWS's.
const HOST: &str = "simulated.invalid";

/// The whole of it. Clones are the same AWS.
#[derive(Debug, Clone)]
pub struct SimulatedAws {
    state: Arc<Mutex<State>>,
    begun: Instant,
    /// When it began, by its own clock, in seconds since 1970.
    epoch_seconds: u64,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    faults: Faults,
    planned_fault: Option<wire::PlannedFault>,
    dynamodb: dynamodb::DynamoDb,
    sns: sns::Sns,
    sqs: sqs::Sqs,
    mail: mail::Mail,
    secrets: BTreeMap<String, String>,
    external: external::External,
    observer: observer::Observer,
    attempts: u64,
    environments: u64,
    calls: u64,
    /// A digest of all calls, their times and answers.
    trace: u64,
    away: BTreeSet<Service>,
    /// Nothing takes time by itself.
    is_prompt: bool,
    /// What happened, if somebody is going to read it.
    story: Option<Vec<Moment>>,
}

impl SimulatedAws {
    /// An AWS in which this seed decides everything that is left to chance.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            faults,
            planned_fault: None,
            dynamodb: dynamodb::DynamoDb::default(),
            sns: sns::Sns::default(),
            sqs: sqs::Sqs::default(),
            mail: mail::Mail::default(),
            secrets: BTreeMap::new(),
            external: external::External::default(),
            observer: observer::Observer::default(),
            attempts: 0,
            environments: 0,
            calls: 0,
            trace: 0,
            away: BTreeSet::new(),
            is_prompt: false,
            story: None,
        };
        let state = Arc::new(Mutex::new(state));
        Self { state, begun: Instant::now(), epoch_seconds: EPOCH_SECONDS }
    }

    /// An AWS for measurements of clients in other processes, which go by the machine's clock: it is this late, in seconds
    /// since 1970, there are no faults, nothing is behind, and nothing takes time by itself.
    #[must_use]
    pub fn prompt(now_seconds: u64) -> Self {
        let aws = Self { epoch_seconds: now_seconds, ..Self::new(0, Faults::default()) };
        aws.be_kind();
        {
            let mut state = aws.lock();
            state.is_prompt = true;
            state.dynamodb.set_epoch(now_seconds);
        }
        aws
    }

    /// From now on, these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// From now on, a service is away, or is there again.
    pub fn set_away(&self, service: Service, is_away: bool) {
        self.note(|| format!("{service:?} is {}", if is_away { "away" } else { "there again" }));
        let away = &mut self.lock().away;
        if is_away {
            away.insert(service)
        } else {
            away.remove(&service)
        };
    }

    /// Keeps the story from now on. It takes memory and time: for a seed that has failed.
    pub fn keep_story(&self) {
        self.lock().story = Some(Vec::new());
    }

    /// What happened so far, in its order; nothing unless the story is kept.
    #[must_use]
    pub fn story(&self) -> Vec<Moment> {
        self.lock().story.clone().unwrap_or_default()
    }

    /// Adds a moment to the story, if that is kept.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let at = self.begun.elapsed();
        if let Some(story) = &mut self.lock().story {
            story.push(Moment { at, environment: 0, what: what() });
        }
    }

    /// Number of attempts at calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// A digest of all calls so far, with their times and answers: the same for the same seed.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.lock().trace
    }

    /// What time it is by AWS's own clock, since 1970.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_secs(self.epoch_seconds) + self.begun.elapsed()
    }

    /// A new execution environment, whose clock may be wrong by up to a second.
    #[must_use]
    pub fn environment(&self) -> Environment {
        let mut state = self.lock();
        state.environments += 1;
        let (skew_ms, number) = (state.random.i64(-1000..=1000), state.environments);
        Environment {
            aws: self.clone(),
            number,
            skew_ms,
            died: Arc::default(),
            frost: Arc::default(),
        }
    }

    /// A number that the seed decides.
    pub fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.lock().random.u64(range)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an environment has died, and who waits for it. Not a `watch`: that wakes in an order of its own chance.
#[derive(Debug, Default)]
struct Death {
    is_dead: AtomicBool,
    notify: Notify,
}

/// Whether an environment stands still, and who waits for it to go on, in their order.
#[derive(Debug, Default)]
struct Frost {
    is_frozen: bool,
    waiting: Vec<Waker>,
}

/// What a function's configuration is loaded from: nothing of the machine's.
#[must_use]
pub fn loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static("simulated"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "simulated"))
}

/// One execution environment of a function: its clients, its clock, its life.
#[derive(Debug, Clone)]
pub struct Environment {
    aws: SimulatedAws,
    number: u64,
    skew_ms: i64,
    died: Arc<Death>,
    frost: Arc<Mutex<Frost>>,
}

impl Environment {
    /// A function's configuration in this environment: its time-outs and retries, and everything else of this AWS. The
    /// function's own is loaded once before, by [`loader`], because loading reads files, which takes real time.
    #[must_use]
    pub fn config(&self, function: &SdkConfig) -> SdkConfig {
        // The SDK keeps its budget of retries by region for the whole process: neither environments nor runs share it.
        static REGIONS: AtomicU64 = AtomicU64::new(0);
        let region = REGIONS.fetch_add(1, Ordering::Relaxed);
        function
            .to_builder()
            .region(Region::new(format!("simulated-{region}")))
            .endpoint_url(format!("http://{HOST}"))
            .time_source(self.clone())
            .http_client(wire::client(self.clone()))
            .build()
    }

    /// Returns when the environment has died, by a fault of a call that was made from it.
    pub async fn died(&self) {
        let notified = self.died.notify.notified();
        if !self.is_dead() {
            notified.await;
        }
    }

    /// Whether it has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.died.is_dead.load(Ordering::Relaxed)
    }

    /// Stops the environment: nothing of it runs until it is thawed, while time passes. Lambda does so between
    /// invocations. <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html>
    pub fn freeze(&self) {
        self.frost().is_frozen = true;
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        let waiting = {
            let mut frost = self.frost();
            frost.is_frozen = false;
            std::mem::take(&mut frost.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Returns when the environment is not frozen.
    pub async fn thawed(&self) {
        poll_fn(|context| self.poll_thawed(context)).await;
    }

    /// Does work that stands still while the environment does.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| match self.poll_thawed(context) {
            Poll::Ready(()) => work.as_mut().poll(context),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll_thawed(&self, context: &Context<'_>) -> Poll<()> {
        let mut frost = self.frost();
        if !frost.is_frozen {
            return Poll::Ready(());
        }
        if !frost.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            frost.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn frost(&self) -> MutexGuard<'_, Frost> {
        self.frost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a moment of this environment to the story, if that is kept.
    pub fn note(&self, what: impl FnOnce() -> String) {
        let at = self.aws.begun.elapsed();
        if let Some(story) = &mut self.aws.lock().story {
            story.push(Moment { at, environment: self.number, what: what() });
        }
    }

    /// Ends it, as Lambda does with one that has been idle or has timed out. Nothing that it left behind goes on.
    pub fn die(&self) {
        self.died.is_dead.store(true, Ordering::Relaxed);
        self.died.notify.notify_waiters();
        self.aws.show(&Step::Died { environment: self.number });
    }

    /// What time it is by its clock, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let now = u64::try_from(self.aws.now().as_millis()).unwrap_or(u64::MAX);
        now.saturating_add_signed(self.skew_ms)
    }
}

impl TimeSource for Environment {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_stands_still_while_its_environment_is_frozen_and_goes_on_with_time_passed() {
        let environment = SimulatedAws::new(1, Faults::default()).environment();
        let begun = Instant::now();
        let frost = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            environment.freeze();
            tokio::time::sleep(Duration::from_secs(10)).await;
            environment.thaw();
        };
        let work = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let went_on = begun.elapsed();
            tokio::time::sleep(Duration::from_secs(1)).await;
            went_on
        };
        let (went_on, ()) = tokio::join!(environment.run(work), frost);
        assert_eq!(went_on, Duration::from_millis(10_500));
        assert_eq!(begun.elapsed(), Duration::from_millis(11_500));
    }
}
