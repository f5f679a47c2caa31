//! A simulated AWS for unmodified clients: harsher than AWS, in virtual time, decided by a seed.
//!
//! In: a seed, [`Faults`], tables, queues, subscriptions. Out: AWS configurations ([`Environment::config`]) whose clients
//! speak to this AWS through their HTTP client and go by its clock. Requests and answers are the real wire formats.
//! Guarantees: the same seed with the same calls gives the same answers at the same virtual times; what is not simulated
//! is refused loudly (501), never answered kindly.
//!
//! It needs tokio's current-thread runtime with paused time, and `fastrand::seed` before the first client.
//!
//! - `dynamodb`: transactions that take time, conflicts of which not all are reported, requests in progress, tokens, late
//!   indexes, stale reads.
//! - `sns`: topics with filters, duplicates, raw and enveloped delivery, retries, DLQs, and batches that fail in part.
//! - `sqs`: duplicates, any order, visibility, receive counts, retention, redrive, late counts, move tasks, FIFO queues.
//! - `mail`: SES, with its refusals.
//! - `observer`: who is shown each step, to check what has to be true at each.
//! - `wire`: HTTP, and what goes wrong on the way.

mod dynamodb;
mod expression;
mod mail;
mod observer;
mod sns;
mod sqs;
mod wire;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_async::time::TimeSource;
use tokio::{sync::Notify, time::Instant};

pub use dynamodb::{Index, Table, Units, Usage};
pub use mail::{MailSettings, SentMail};
pub use observer::{Call, Step};
pub use sns::{SubscriptionSettings, UnknownFilter};
pub use sqs::{QueueSettings, Received};
pub use wire::Faults;

/// When every simulation begins, in seconds since 1970: 2026-01-01T00:00:00Z.
const EPOCH_SECONDS: u64 = 1_767_225_600;

/// The whole of it. Clones are the same AWS.
#[derive(Debug, Clone)]
pub struct SimulatedAws {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    faults: Faults,
    dynamodb: dynamodb::DynamoDb,
    sns: sns::Sns,
    sqs: sqs::Sqs,
    mail: mail::Mail,
    observer: observer::Observer,
    attempts: u64,
    environments: u64,
    calls: u64,
    /// A digest of all calls, their times and answers.
    trace: u64,
}

impl SimulatedAws {
    /// An AWS in which this seed decides everything that is left to chance.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state = State {
            random: fastrand::Rng::with_seed(seed),
            faults,
            dynamodb: dynamodb::DynamoDb::default(),
            sns: sns::Sns::default(),
            sqs: sqs::Sqs::default(),
            mail: mail::Mail::default(),
            observer: observer::Observer::default(),
            attempts: 0,
            environments: 0,
            calls: 0,
            trace: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), begun: Instant::now() }
    }

    /// From now on, these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
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
        Duration::from_secs(EPOCH_SECONDS) + self.begun.elapsed()
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
            struck: Arc::default(),
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
    struck: Arc<AtomicU64>,
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
            .endpoint_url("http://simulated.invalid")
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

    /// Number of its calls that a fault has struck.
    #[must_use]
    pub fn faults_struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    fn die(&self) {
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
