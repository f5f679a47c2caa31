//! The AWS calls of an invocation: which, how many, and how many of them one after the other.
//!
//! In: calls with the moments at which they began and ended. Out: counts, depth, and the time that was spent waiting.
//! Guarantee: pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A call as the endpoint saw it: from the moment when it had come in to the one at which its answer was ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCall {
    pub operation: String,
    /// HTTP status of the answer.
    pub status: u16,
    pub begun: Instant,
    pub ended: Instant,
}

/// Number of calls by operation.
#[must_use]
pub fn count_by_operation(calls: &[RecordedCall]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.operation.as_str()).or_default() += 1;
    }
    counts
}

/// Number of calls of the longest chain in which each begins after the one before has ended. Calls that are made together
/// have to take long enough to overlap.
#[must_use]
pub fn sequential_depth(calls: &[RecordedCall]) -> usize {
    let mut by_beginning: Vec<_> = calls.iter().collect();
    by_beginning.sort_by_key(|call| call.begun);
    let mut depths: Vec<usize> = Vec::new();
    for (place, call) in by_beginning.iter().enumerate() {
        let before = by_beginning[..place].iter().zip(&depths);
        let before = before.filter(|(earlier, _)| earlier.ended <= call.begun);
        depths.push(1 + before.map(|(_, depth)| *depth).max().unwrap_or_default());
    }
    depths.into_iter().max().unwrap_or_default()
}

/// For how long at least one call was under way until this moment.
#[must_use]
pub fn waiting_time(calls: &[RecordedCall], until: Instant) -> Duration {
    let mut spans: Vec<_> = calls.iter().map(|call| (call.begun, call.ended.min(until))).collect();
    spans.retain(|(begun, ended)| begun < ended);
    spans.sort();
    let (mut waited, mut covered) = (Duration::ZERO, None::<Instant>);
    for (begun, ended) in spans {
        let begun = covered.map_or(begun, |covered| begun.max(covered));
        if ended > begun {
            waited += ended - begun;
        }
        covered = Some(covered.map_or(ended, |covered| covered.max(ended)));
    }
    waited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(spans: &[(u64, u64)]) -> (Instant, Vec<RecordedCall>) {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let call = |(begun, ended): &(u64, u64)| RecordedCall {
            operation: "GetItem".to_owned(),
            status: 200,
            begun: at(*begun),
            ended: at(*ended),
        };
        (zero, spans.iter().map(call).collect())
    }

    #[test]
    fn depth_is_that_of_the_longest_chain() {
        for (spans, expected) in [
            (&[][..], 0),
            (&[(0, 5)], 1),
            (&[(0, 5), (1, 6)], 1),
            (&[(0, 5), (5, 6), (7, 9)], 3),
            // Two chains beside each other, of which one is longer; given in any order.
            (&[(6, 8), (0, 5), (0, 2), (3, 4), (5, 6)], 4),
        ] {
            assert_eq!(sequential_depth(&calls(spans).1), expected, "{spans:?}");
        }
    }

    #[test]
    fn time_that_two_calls_share_is_waited_once_and_none_after_the_answer() {
        for (spans, until, expected) in
            [(&[(0, 5), (3, 8), (4, 5)][..], 100, 8), (&[(0, 5), (7, 9)], 8, 6), (&[(9, 12)], 8, 0)]
        {
            let (zero, calls) = calls(spans);
            let waited = waiting_time(&calls, zero + Duration::from_millis(until));
            assert_eq!(waited, Duration::from_millis(expected), "{spans:?}");
        }
    }
}
