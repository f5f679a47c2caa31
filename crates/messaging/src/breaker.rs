//! A circuit breaker around somebody else's service: while it fails, it is left alone, but for one call now and then.
//!
//! In: the ends of calls, and the time. Out: whether a call may be made. Guarantees: no more than one call is
//! let through in each pause of an open breaker; one success closes it. Written here because `failsafe` reads
//! the system's clock itself: with the time passed in, every sequence of calls and pauses is a test.

use std::time::Duration;

use tokio::time::Instant;

/// Number of failures in a row that open it.
pub const FAILURES_MAX: u32 = 5;
/// How long the service is left alone.
pub const PAUSE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Calls are made; this number of them has failed since the last success.
    Closed(u32),
    /// No calls before this time. The first after it is let through and begins the next pause: one that never
    /// ends keeps nobody out for longer.
    Open(Instant),
}

impl Breaker {
    /// How long it stays open, or `None` if a call may be let through.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Open(until) if now < *until => Some(*until - now),
            _ => None,
        }
    }

    /// Lets a call through, whose end has to be recorded, or says for how long there will be none.
    ///
    /// # Errors
    /// How long it stays open.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(remaining) = self.open_for(now) {
            return Err(remaining);
        }
        if let Self::Open(until) = self {
            *until = now + PAUSE;
        }
        Ok(())
    }

    /// A call succeeded: it closes.
    pub fn record_success(&mut self) {
        *self = Self::Closed(0);
    }

    /// A call failed. Whether this is what opened it.
    pub fn record_failure(&mut self, now: Instant) -> bool {
        match self {
            Self::Closed(failures) if *failures + 1 < FAILURES_MAX => {
                *failures += 1;
                false
            }
            Self::Closed(_) => {
                *self = Self::Open(now + PAUSE);
                true
            }
            Self::Open(until) => {
                *until = now + PAUSE;
                false
            }
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for nth in 1..=FAILURES_MAX {
            assert_eq!(breaker.admit(now), Ok(()));
            assert_eq!(breaker.record_failure(now), nth == FAILURES_MAX);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_for_a_pause() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now), Err(PAUSE));
        assert_eq!(breaker.admit(now + PAUSE / 3), Err(PAUSE - PAUSE / 3));
        assert_eq!(breaker.open_for(now + PAUSE), None);
    }

    #[test]
    fn failures_with_successes_between_do_not_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            (1..FAILURES_MAX).for_each(|_| assert!(!breaker.record_failure(now)));
            breaker.record_success();
        }
        assert_eq!(breaker.admit(now), Ok(()));
    }

    #[test]
    fn after_the_pause_one_call_is_let_through_and_its_end_decides() {
        let later = Instant::now() + PAUSE;
        let mut breaker = opened(Instant::now());
        assert_eq!(breaker.admit(later + PAUSE), Ok(()));
        assert!(breaker.admit(later + PAUSE).is_err(), "one, not two");
        assert!(!breaker.record_failure(later + PAUSE));
        assert_eq!(breaker.admit(later + PAUSE), Err(PAUSE), "another pause");
        assert_eq!(breaker.admit(later + 2 * PAUSE), Ok(()));
        breaker.record_success();
        (0..10).for_each(|_| assert_eq!(breaker.admit(later + 2 * PAUSE), Ok(())));
    }

    proptest! {
        /// Whatever the calls come to, and those that never end: of any PAUSE after it has opened, one call at
        /// most falls into it until one succeeds; and it never stays shut for longer than a PAUSE.
        #[test]
        fn an_open_breaker_lets_one_call_through_a_pause(
            steps in prop::collection::vec((0..20_u64, 0..4_u8), 1..200),
        ) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let mut last_while_open: Option<Instant> = None;
            for (seconds, end) in steps {
                now += Duration::from_secs(seconds);
                prop_assert!(breaker.open_for(now).is_none_or(|wait| wait <= PAUSE));
                let open = matches!(breaker, Breaker::Open(_));
                if breaker.admit(now).is_err() {
                    continue;
                }
                if open {
                    prop_assert!(last_while_open.is_none_or(|last| now - last >= PAUSE));
                    last_while_open = Some(now);
                }
                match end {
                    0 => breaker.record_success(),
                    1 => {}
                    _ => _ = breaker.record_failure(now),
                }
                if breaker == Breaker::Closed(0) {
                    last_while_open = None;
                }
            }
        }
    }
}
