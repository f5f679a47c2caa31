//! Work that a request leaves until after its answer.
//!
//! In: futures of handlers. Out: each is carried out once its request has been answered. Guarantees: it takes no time
//! off the answer, and a panic in it ends nothing else. It is not sure to end: an environment may be frozen or die
//! before, so whatever depends on it has to be somebody else's duty, too, as publishing is the relay's.

use std::{panic::AssertUnwindSafe, time::Duration};

use exactly_once::{Clock, invocation_deadline};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::Instrument;

/// Maximum time that the deferred work of one invocation takes: SNS and the event log may each take two seconds.
pub const AFTER_ANSWER_MAX: Duration = Duration::from_secs(4);
/// How long before an invocation's deadline its deferred work is given up. A function whose time is up is an error, and its
/// environment ends, although the answer was given.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);

/// Where handlers leave work until after their answer. They take it as an `Extension`.
#[derive(Debug, Clone)]
pub struct AfterAnswer {
    sender: UnboundedSender<BoxFuture<'static, ()>>,
    is_waited_for: bool,
}

/// The other end of it, for whoever serves the requests.
pub struct DeferredWork(UnboundedReceiver<BoxFuture<'static, ()>>);

impl AfterAnswer {
    /// A place for work, and the work that is left there. `is_waited_for`: whether the environment goes on after an
    /// answer until that work is done, or is frozen at once.
    #[must_use]
    pub fn new(is_waited_for: bool) -> (Self, DeferredWork) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender, is_waited_for }, DeferredWork(receiver))
    }

    /// Whether the environment goes on after the answer until the work is done. Where it does not, what should be done
    /// soon is done before.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.is_waited_for
    }

    /// Leaves this work until after the answer.
    pub fn defer(&self, work: impl Future<Output = ()> + Send + 'static) {
        let work = AssertUnwindSafe(work.in_current_span()).catch_unwind().map(|done| {
            if done.is_err() {
                tracing::error!("work after an answer panicked");
            }
        });
        // Nobody serves any more: then this process ends, and the work is somebody else's.
        let _ = self.sender.send(work.boxed());
    }
}

impl DeferredWork {
    /// Does all that was left so far, side by side, within [`AFTER_ANSWER_MAX`] and in good time before the deadline of the
    /// invocation, in milliseconds since 1970. Returns whether all has ended; what has not is given up.
    pub async fn finish(&mut self, deadline_ms: u64, clock: &Clock) -> bool {
        let mut left = Vec::new();
        while let Ok(work) = self.0.try_recv() {
            left.push(work);
        }
        let limit = time_left(deadline_ms, clock).min(AFTER_ANSWER_MAX);
        let has_ended = tokio::time::timeout(limit, join_all(left)).await.is_ok();
        if !has_ended {
            tracing::warn!("work after an answer takes too long and is given up");
        }
        has_ended
    }

    /// Does what is left as it comes, one after the other, until nobody can leave more.
    pub async fn run(mut self) {
        while let Some(work) = self.0.recv().await {
            work.await;
        }
    }
}

/// How long an invocation with this deadline may still do deferred work, or wait for its beginning.
pub(crate) fn time_left(deadline_ms: u64, clock: &Clock) -> Duration {
    clock.time_until(invocation_deadline(deadline_ms)).saturating_sub(DEADLINE_MARGIN)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::time::Instant;

    use super::*;

    /// Counts what is done, each after this time.
    fn counting(count: &Arc<AtomicUsize>, after: Duration) -> impl Future<Output = ()> + use<> {
        let count = count.clone();
        async move {
            tokio::time::sleep(after).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn deadline_in(clock: &Clock, time: Duration) -> u64 {
        let time = i64::try_from(time.as_millis()).expect("in range");
        u64::try_from(clock.now().as_millisecond() + time).expect("in range")
    }

    #[tokio::test(start_paused = true)]
    async fn work_begins_after_the_answer_runs_side_by_side_and_ends_within_its_limit() {
        let (after_answer, mut work) = AfterAnswer::new(true);
        let (count, clock) = (Arc::new(AtomicUsize::new(0)), Clock::default());
        for seconds in [1, 2, 9] {
            after_answer.defer(counting(&count, Duration::from_secs(seconds)));
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(count.load(Ordering::Relaxed), 0, "the answer has not been given");
        let begun = Instant::now();
        assert!(!work.finish(deadline_in(&clock, Duration::from_secs(60)), &clock).await);
        assert_eq!(begun.elapsed(), AFTER_ANSWER_MAX);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        // What was given up is not taken up again.
        assert!(work.finish(deadline_in(&clock, Duration::from_secs(60)), &clock).await);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_before_the_time_of_its_invocation_is_up() {
        let (after_answer, mut work) = AfterAnswer::new(true);
        let clock = Clock::default();
        after_answer.defer(std::future::pending());
        let (begun, time) = (Instant::now(), Duration::from_secs(2));
        assert!(!work.finish(deadline_in(&clock, time), &clock).await);
        assert!(begun.elapsed() <= time - DEADLINE_MARGIN, "{:?}", begun.elapsed());
        // Nothing is begun when there is no time left.
        after_answer.defer(std::future::pending());
        let begun = Instant::now();
        assert!(!work.finish(0, &clock).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_panics_ends_nothing_else() {
        for is_waited_for in [true, false] {
            let (after_answer, mut work) = AfterAnswer::new(is_waited_for);
            let (count, clock) = (Arc::new(AtomicUsize::new(0)), Clock::default());
            after_answer.defer(async { panic!("boom") });
            after_answer.defer(counting(&count, Duration::from_secs(1)));
            drop(after_answer);
            if is_waited_for {
                assert!(work.finish(deadline_in(&clock, Duration::from_secs(9)), &clock).await);
            } else {
                work.run().await;
            }
            assert_eq!(count.load(Ordering::Relaxed), 1);
        }
    }
}
