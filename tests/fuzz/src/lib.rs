//! Fuzzing on the stable toolchain: good inputs, damaged at random, by the million.
//!
//! In: a corpus of good inputs and a function that reads one. Out: how many inputs came to what, or the first
//! input on which the function panicked. Guarantees: `ORDERFLOW_SEED` repeats a run; each input depends on the
//! seed and its number only, so that one of millions can be had again without the others.

mod mutate;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use exactly_once::panic_message;

/// In a run of `cargo test`; `make fuzz` sets `ORDERFLOW_FUZZ_INPUTS`.
const INPUTS_DEFAULT: u64 = 100_000;

/// What the inputs came to, and how many of them to each.
pub type Outcomes = BTreeMap<&'static str, u64>;

/// Has `target` read damaged inputs on all cores, and says how many came to what.
///
/// # Panics
/// The target panics; or a setting is no number.
pub fn fuzz(
    name: &str,
    corpus: &[Vec<u8>],
    target: impl Fn(&[u8]) -> &'static str + Sync,
) -> Outcomes {
    let seed = setting("ORDERFLOW_SEED").unwrap_or_else(|| fastrand::u64(..));
    let inputs = setting("ORDERFLOW_FUZZ_INPUTS").unwrap_or(INPUTS_DEFAULT);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    println!("{name}: {inputs} inputs, ORDERFLOW_SEED={seed}");
    let (begun, stop) = (Instant::now(), AtomicBool::new(false));
    let run = |first: u64| {
        let mut outcomes = Outcomes::new();
        for number in (first..inputs).step_by(threads as usize) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // Spread, because neighbouring seeds of this generator begin alike.
            let mut random = fastrand::Rng::with_seed(
                seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
            let input = mutate::damaged(corpus, &mut random);
            match catch_unwind(AssertUnwindSafe(|| target(&input))) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(panic) => {
                    stop.store(true, Ordering::Relaxed);
                    panic!(
                        "{name}: input {number} of ORDERFLOW_SEED={seed}: {}\n{}",
                        panic_message(&*panic),
                        input.escape_ascii()
                    );
                }
            }
        }
        outcomes
    };
    let outcomes = thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        runs.into_iter().fold(Outcomes::new(), |mut all, run| {
            let run = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            run.into_iter().for_each(|(outcome, count)| *all.entry(outcome).or_default() += count);
            all
        })
    });
    println!("{name}: no panic in {inputs} inputs, {:.0?}: {outcomes:?}", begun.elapsed());
    outcomes
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a whole number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_target_fails_the_run_and_shows_the_input() {
        let corpus = [b"{\"a\":1}".to_vec()];
        let run = || fuzz("on purpose", &corpus, |_| panic!("found"));
        let panic = catch_unwind(run).expect_err("the target always panics");
        let text = panic_message(&*panic);
        assert!(text.contains("ORDERFLOW_SEED=") && text.contains("found"), "{text}");
    }
}
