//! A limit of mails a second: each gets a slot of its own, and the slots are evenly apart.
//!
//! In: the time, and how long a mail can wait. Out: how long it has to. Guarantees: all environments together never
//! have more slots in a second than allowed, but for one each when they begin together; a mail that cannot wait
//! takes none.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Maximum number of execution environments for each queue of the consumer: its mapping's `MaximumConcurrency`, of which 2
/// is the least that Lambda takes.
const ENVIRONMENTS_PER_QUEUE: u64 = 2;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    apart: Duration,
    next: Option<Instant>,
}

impl Rate {
    /// This environment's share of `count` mails a second that the environments of so many queues send together.
    #[must_use]
    pub(crate) fn share_of(count: NonZeroU32, queues: u32) -> Self {
        let environments = ENVIRONMENTS_PER_QUEUE * u64::from(queues);
        // Rounded up: with 3 a second, 333 ms apart would be four in a second.
        let nanos = (1_000_000_000 * environments).div_ceil(count.get().into());
        Self { apart: Duration::from_nanos(nanos), next: None }
    }

    /// Takes the next slot and returns how long until it begins, or `None`, and takes none, if that is longer than
    /// `patience`.
    pub(crate) fn slot(&mut self, now: Instant, patience: Duration) -> Option<Duration> {
        let slot = self.next.map_or(now, |next| next.max(now));
        let wait = slot - now;
        if wait > patience {
            return None;
        }
        self.next = Some(slot + self.apart);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u32, queues: u32) -> Rate {
        Rate::share_of(NonZeroU32::new(count).expect("not 0"), queues)
    }

    #[test]
    fn mails_that_come_together_leave_one_after_the_other() {
        let (mut rate, now, patience) = (rate(20, 1), Instant::now(), Duration::from_millis(250));
        let waits: Vec<_> = (0..5).map(|_| rate.slot(now, patience)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(waits, [ms(0), ms(100), ms(200), None, None]);
        assert_eq!(rate.slot(now + patience, patience), ms(50), "the impatient took no slot");
    }

    proptest! {
        #[test]
        fn no_second_has_more_mails_than_allowed(
            count in 1..50_u32,
            queues in 1..3_u32,
            arrivals in prop::collection::vec((0..400_u64, 0..3000_u64), 1..200),
        ) {
            let (mut rate, mut now) = (rate(count, queues), Instant::now());
            let mut sent = Vec::new();
            for (pause, patience) in arrivals {
                now += Duration::from_millis(pause);
                let patience = Duration::from_millis(patience);
                if let Some(wait) = rate.slot(now, patience) {
                    prop_assert!(wait <= patience);
                    sent.push(now + wait);
                }
            }
            for window in sent.windows(count as usize + 1) {
                let environments = u32::try_from(ENVIRONMENTS_PER_QUEUE).expect("2") * queues;
                let time = window[count as usize] - window[0];
                prop_assert!(time >= Duration::from_secs(1) * environments);
            }
        }
    }
}
