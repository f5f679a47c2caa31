//! The clock, and the source of ids: the two things that a program takes from its environment besides its clients.
//!
//! In: the time source of an AWS configuration, or of a client that was built with it. Out: moments and ids. Guarantee:
//! this library reads no other clock, sleeps only by tokio's time, and draws other random numbers only by `fastrand`,
//! so that a simulation decides all of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_smithy_async::time::SharedTimeSource;
use jiff::Timestamp;
use uuid::{Builder, ContextV7, Uuid};

/// The clock of an AWS configuration: the wall clock, unless that has another time source.
#[derive(Debug, Clone, Default)]
pub struct Clock(SharedTimeSource);

impl Clock {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::try_from(self.0.now()).unwrap_or(Timestamp::MAX)
    }

    /// How long it is until this moment; zero if it has passed.
    #[must_use]
    pub fn time_until(&self, moment: Timestamp) -> Duration {
        moment.duration_since(self.now()).try_into().unwrap_or_default()
    }

    /// How long it is since this moment; zero if it is still to come.
    #[must_use]
    pub fn time_since(&self, moment: Timestamp) -> Duration {
        self.now().duration_since(moment).try_into().unwrap_or_default()
    }
}

/// The moment at which an invocation ends: `Context::deadline` of the Lambda runtime, in milliseconds since 1970.
#[must_use]
pub fn invocation_deadline(deadline_ms: u64) -> Timestamp {
    let deadline = i64::try_from(deadline_ms).ok();
    deadline.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

impl From<SharedTimeSource> for Clock {
    fn from(time_source: SharedTimeSource) -> Self {
        Self(time_source)
    }
}

/// What `SdkConfig::time_source` and every client's `config().time_source()` return; `None` is the wall clock.
impl From<Option<SharedTimeSource>> for Clock {
    fn from(time_source: Option<SharedTimeSource>) -> Self {
        Self(time_source.unwrap_or_default())
    }
}

/// Where new ids come from: the operating system's randomness, or a seed.
#[derive(Debug, Clone, Default)]
pub struct Ids(Source);

#[derive(Debug, Clone)]
enum Source {
    /// The counter keeps ids in the order of their making within a millisecond.
    System(Arc<Mutex<ContextV7>>),
    Seeded(Arc<Mutex<fastrand::Rng>>),
}

impl Default for Source {
    fn default() -> Self {
        Self::System(Arc::new(Mutex::new(ContextV7::new())))
    }
}

impl Ids {
    /// Ids that the seed decides, for tests and simulations: whoever knows the seed knows them.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)))))
    }

    /// A new id that says nothing (RFC 9562, version 4).
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where they come from")]
    pub fn random(&self) -> Uuid {
        match &self.0 {
            Source::System(_) => Uuid::new_v4(),
            Source::Seeded(random) => {
                Builder::from_random_bytes(lock(random).u128(..).to_be_bytes()).into_uuid()
            }
        }
    }

    /// A new id that sorts after those made at earlier moments (RFC 9562, version 7).
    #[must_use]
    pub fn ordered(&self, now: Timestamp) -> Uuid {
        match &self.0 {
            Source::System(counter) => {
                let seconds = u64::try_from(now.as_second()).unwrap_or_default();
                let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
                let counter: &Mutex<ContextV7> = counter;
                Uuid::new_v7(uuid::Timestamp::from_unix(counter, seconds, nanos))
            }
            Source::Seeded(random) => {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
                let bytes = lock(random).u128(..).to_be_bytes();
                let (bytes, _) = bytes.split_first_chunk().expect("10 of 16 bytes");
                Builder::from_unix_timestamp_millis(millis, bytes).into_uuid()
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use aws_smithy_async::time::StaticTimeSource;

    use super::*;

    #[test]
    fn a_clock_says_what_its_time_source_says() {
        let source = SharedTimeSource::new(StaticTimeSource::from_secs(1_700_000_000));
        let clock = Clock::from(Some(source));
        let moment = Timestamp::from_second(1_700_000_010).expect("in range");
        assert_eq!(clock.now().as_second(), 1_700_000_000);
        assert_eq!(clock.time_until(moment), Duration::from_secs(10));
        assert_eq!(clock.time_since(moment), Duration::ZERO);
    }

    #[test]
    fn a_deadline_that_no_calendar_has_is_the_end_of_time() {
        assert_eq!(invocation_deadline(1_700_000_000_500).as_millisecond(), 1_700_000_000_500);
        assert_eq!(invocation_deadline(u64::MAX), Timestamp::MAX);
    }

    #[test]
    fn ids_of_one_seed_are_the_same_and_ordered_ids_are_in_order() {
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let draw = |ids: Ids| (ids.random(), ids.ordered(now));
        assert_eq!(draw(Ids::seeded(7)), draw(Ids::seeded(7)));
        assert_ne!(draw(Ids::seeded(7)), draw(Ids::seeded(8)));
        assert_ne!(draw(Ids::default()), draw(Ids::default()));
        let (random, ordered) = draw(Ids::seeded(7));
        assert_eq!((random.get_version_num(), ordered.get_version_num()), (4, 7));
        for ids in [Ids::default(), Ids::seeded(1)] {
            let later = now + Duration::from_millis(1);
            assert!(ids.ordered(now) < ids.ordered(later));
        }
        let ids = Ids::default();
        let made: Vec<_> = (0..1000).map(|_| ids.ordered(now)).collect();
        assert!(made.is_sorted(), "those of one moment keep the order of their making");
    }
}
