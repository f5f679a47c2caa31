//! Pauses between attempts: a schedule for messages, and jittered exponential pauses within an invocation.
//!
//! Pure: the random number is passed in. Equal jitter: at least half of a pause, so that what failed together
//! does not come back together. <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>

use std::{str::FromStr, time::Duration};

/// Maximum pause before a retry, in seconds. SQS hides a message for twelve hours at most, and counts from its receive; the
/// pause is set later, by five minutes of a batching window and a function's fifteen at most.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub const PAUSE_SECONDS_MAX: u64 = 12 * 60 * 60 - 20 * 60;

/// How long a message waits after its first, second, … failed delivery, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff(Vec<u64>);

/// A text is no [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be whole seconds up to {PAUSE_SECONDS_MAX}, like 30,60,300,900")]
pub struct InvalidBackoff;

impl Backoff {
    /// The pause after this number of deliveries, for a random number from 0 to 1.
    #[must_use]
    pub fn pause(&self, deliveries: u32, random: f64) -> Duration {
        let step = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let seconds = self.0[step.min(self.0.len() - 1)];
        jittered(Duration::from_secs(seconds), random)
    }
}

impl Default for Backoff {
    /// 30 s, 1 min, 5 min, then 15 min.
    fn default() -> Self {
        Self(vec![30, 60, 300, 900])
    }
}

impl FromStr for Backoff {
    type Err = InvalidBackoff;

    /// Reads `30,60,300,900`: seconds, the last of which repeats.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let steps: Result<Vec<u64>, _> = text.split(',').map(|step| step.trim().parse()).collect();
        match steps {
            Ok(steps) if steps.iter().all(|step| *step <= PAUSE_SECONDS_MAX) => Ok(Self(steps)),
            _ => Err(InvalidBackoff),
        }
    }
}

/// A pause that doubles with each attempt from `first` to `max`, with jitter.
#[must_use]
pub fn jittered_exponential(attempt: u32, first: Duration, max: Duration, random: f64) -> Duration {
    jittered(first.saturating_mul(2_u32.saturating_pow(attempt)).min(max), random)
}

fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_by_the_schedule_and_keep_at_least_half_of_each_step() {
        let backoff = Backoff::default();
        for (deliveries, seconds) in [(0, 30), (1, 30), (2, 60), (3, 300), (4, 900), (99, 900)] {
            let full = Duration::from_secs(seconds);
            assert_eq!(backoff.pause(deliveries, 0.0), full / 2);
            assert_eq!(backoff.pause(deliveries, 1.0), full);
        }
    }

    #[test]
    fn a_schedule_is_read_from_text_or_refused_with_an_example() {
        assert_eq!("1,2".parse(), Ok(Backoff(vec![1, 2])));
        for text in ["", "x", "1,,2", "-1", "43201", "1.5"] {
            let error = text.parse::<Backoff>().expect_err(text).to_string();
            assert!(error.contains("30,60"), "{text}: {error}");
        }
    }

    #[test]
    fn exponential_pauses_grow_to_their_limit_and_are_jittered() {
        let (first, max) = (Duration::from_millis(20), Duration::from_millis(400));
        assert_eq!(jittered_exponential(0, first, max, 0.0), first / 2);
        assert_eq!(jittered_exponential(0, first, max, 1.0), first);
        assert_eq!(jittered_exponential(30, first, max, 1.0), max);
    }
}
