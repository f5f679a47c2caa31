//! What a seed does to a run: which faults, how many, and what else happens beside the orders.
//!
//! In: a seed. Out: a [`Plan`]. Guarantee: leaving a kind out ([`Plan::without`]) changes nothing else of the plan, so that a run that
//! fails can be tried again with less.

use std::time::Duration;

use simulated_aws::{Faults, Service};

use crate::lambda::Harshness;

/// How long customers order, and faults strike.
pub(crate) const ORDERING: Duration = Duration::from_secs(120);
/// Of a thousand changes of an index, maximum number of those that come minutes late.
const LONG_INDEX_LAGS_MAX: u64 = 100;
/// How long a service may be away.
const OUTAGE_SECONDS: std::ops::Range<u64> = 20..100;

/// What may go wrong, or happen besides, in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Calls that fail before they are carried out.
    Fail,
    /// Calls whose answer is lost.
    Lose,
    /// Calls that are answered late.
    Slow,
    /// Calls that are carried out late.
    Late,
    /// Calls that are never answered.
    Hang,
    /// Environments that die before a call.
    KillBefore,
    /// Environments that die after a call.
    KillAfter,
    /// Entries of batches that fail.
    Partial,
    /// Messages that are delivered twice.
    Duplicate,
    /// Services that are away for a while.
    Outage,
    /// Invocations that are throttled, because the account has little concurrency.
    Throttling,
    /// Environments that stand still in the middle of an invocation.
    Stall,
    /// Schedules that fire late, or twice.
    Schedule,
    /// Events of a newer producer, and a deployment that understands them some minutes later.
    Deployment,
    /// An operator who pauses, replays and republishes.
    Operator,
    /// Events that break the contract, and their redrive.
    Poison,
    /// Administrators who change products and stock.
    Administrator,
    /// Customers who send one request over two connections.
    Repetition,
    /// All customers at once.
    Burst,
    /// Malformed messages, contradictions, replays.
    Hostility,
    /// Indexes that are minutes behind.
    IndexLag,
    /// Indexes whose number of shards is raised and lowered.
    Resharding,
    /// Environments that are frozen as soon as they have answered.
    Freeze,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 23] = [
        Self::Fail,
        Self::Lose,
        Self::Slow,
        Self::Late,
        Self::Hang,
        Self::KillBefore,
        Self::KillAfter,
        Self::Partial,
        Self::Duplicate,
        Self::Outage,
        Self::Throttling,
        Self::Stall,
        Self::Schedule,
        Self::Deployment,
        Self::Operator,
        Self::Poison,
        Self::Administrator,
        Self::Repetition,
        Self::Burst,
        Self::Hostility,
        Self::IndexLag,
        Self::Resharding,
        Self::Freeze,
    ];
}

/// A service is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which.
    pub service: Service,
    /// Since when, from the beginning of the orders.
    pub from: Duration,
    /// Until when.
    pub until: Duration,
}

/// What a seed does to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Faults of calls: some runs have many of a kind, some few of all.
    pub faults: Faults,
    /// Services that are away.
    pub outages: Vec<Outage>,
    /// What Lambda does.
    pub harshness: Harshness,
    /// Whether a newer producer's events come first, and the consumers that understand them minutes later.
    pub has_deployment: bool,
    /// Whether an operator acts.
    pub has_operator: bool,
    /// Whether there are events that break the contract.
    pub has_poison: bool,
    /// Whether administrators change products and stock.
    pub has_administrators: bool,
    /// Whether customers send a request over two connections at once.
    pub has_repetitions: bool,
    /// Whether all customers come at once.
    pub is_burst: bool,
    /// Whether somebody sends what nobody in the system does.
    pub has_hostility: bool,
    /// Of a thousand changes of an index, those that come minutes late.
    pub long_index_lags: u64,
    /// Whether the indexes' number of shards is raised and lowered.
    pub has_resharding: bool,
    /// For how long the consumers are throttled completely.
    pub consumers_throttled_for: Duration,
    /// Whether an event comes of a version that no consumer ever understands.
    pub has_unknown_version: bool,
    /// For how long something may be unsettled after the last fault.
    pub settling_max: Duration,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(0x5eed));
        let mut up_to = |permille: u64| random.u64(0..=permille);
        let faults = Faults {
            fail: up_to(60),
            lose: up_to(40),
            slow: up_to(20),
            late: up_to(20),
            hang: up_to(20),
            kill_before: up_to(15),
            kill_after: up_to(15),
            partial: up_to(150),
            duplicate: up_to(200),
            mail: up_to(200),
        };
        let mut is_one_of = |all: u64| random.u64(0..all) == 0;
        let (is_reserved, is_small, has_stalls) = (is_one_of(3), is_one_of(3), is_one_of(3));
        let has_unruly_schedule = is_one_of(2);
        let (has_deployment, has_operator) = (is_one_of(4), is_one_of(2));
        let (has_poison, has_administrators) = (is_one_of(4), is_one_of(2));
        let (has_repetitions, is_burst) = (is_one_of(2), is_one_of(4));
        let outages = (0..random.u64(0..3)).map(|_| {
            let services = [Service::DynamoDb, Service::Sns, Service::Sqs, Service::Ses];
            let service = services[random.usize(0..services.len())];
            let from = Duration::from_secs(random.u64(0..ORDERING.as_secs() / 2));
            let until = from + Duration::from_secs(random.u64(OUTAGE_SECONDS));
            Outage { service, from, until: until.min(ORDERING) }
        });
        let outages = outages.collect();
        let mut harshness = Harshness {
            // Reservations are taken out of it: with them, the rest may be this small too.
            concurrency: if is_small { random.usize(2..8) } else { 1000 }
                + if is_reserved { 24 } else { 0 },
            is_reserved,
            stalls: if has_stalls { random.u64(0..100) } else { 0 },
            has_unruly_schedule,
            has_extensions: false,
        };
        let long_index_lags = random.u64(0..=LONG_INDEX_LAGS_MAX);
        harshness.has_extensions = random.bool();
        Self {
            faults,
            outages,
            harshness,
            has_deployment,
            has_operator,
            has_poison,
            has_administrators,
            has_repetitions,
            is_burst,
            has_hostility: true,
            long_index_lags,
            has_resharding: random.u64(0..4) == 0,
            consumers_throttled_for: Duration::ZERO,
            has_unknown_version: false,
            settling_max: crate::SETTLING_MAX,
        }
    }

    /// The same without one kind.
    #[must_use]
    pub fn without(mut self, kind: Kind) -> Self {
        let (faults, harshness) = (&mut self.faults, &mut self.harshness);
        match kind {
            Kind::Fail => faults.fail = 0,
            Kind::Lose => faults.lose = 0,
            Kind::Slow => faults.slow = 0,
            Kind::Late => faults.late = 0,
            Kind::Hang => faults.hang = 0,
            Kind::KillBefore => faults.kill_before = 0,
            Kind::KillAfter => faults.kill_after = 0,
            Kind::Partial => faults.partial = 0,
            Kind::Duplicate => faults.duplicate = 0,
            Kind::Outage => self.outages.clear(),
            Kind::Throttling => harshness.concurrency = 1000,
            Kind::Stall => harshness.stalls = 0,
            Kind::Schedule => harshness.has_unruly_schedule = false,
            Kind::Deployment => self.has_deployment = false,
            Kind::Operator => self.has_operator = false,
            Kind::Poison => self.has_poison = false,
            Kind::Administrator => self.has_administrators = false,
            Kind::Repetition => self.has_repetitions = false,
            Kind::Burst => self.is_burst = false,
            Kind::Hostility => self.has_hostility = false,
            Kind::IndexLag => self.long_index_lags = 0,
            Kind::Resharding => self.has_resharding = false,
            Kind::Freeze => harshness.has_extensions = true,
        }
        self
    }
}
