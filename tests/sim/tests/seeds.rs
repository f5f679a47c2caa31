//! Seeds, each played twice: the books are right, and both runs are the same call by call.
//!
//! `ORDERFLOW_SEEDS` is their number, `ORDERFLOW_SEED` the first of them. `ORDERFLOW_PLAYS=1` plays each once.

use std::env;

use anyhow::{Context, Result, ensure};

/// As many as a plain `cargo test` has time for; `make sim` plays more.
const SEEDS_DEFAULT: u64 = 20;
const ORDERS: usize = 20;

fn setting(name: &str, default: u64) -> Result<u64> {
    env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

#[test]
fn whatever_goes_wrong_the_books_are_right_and_a_seed_repeats_itself() -> Result<()> {
    let (first, plays) = (setting("ORDERFLOW_SEED", 1)?, setting("ORDERFLOW_PLAYS", 2)?);
    let (mut orders, mut rejected, mut cancelled, mut calls) = (0, 0, 0, 0);
    for seed in first..first + setting("ORDERFLOW_SEEDS", SEEDS_DEFAULT)? {
        let again = format!("seed {seed}: ORDERFLOW_SEED={seed} ORDERFLOW_SEEDS=1 make sim");
        let report = sim::play(seed, ORDERS).with_context(|| again.clone())?;
        for _ in 1..plays {
            let repeated = sim::play(seed, ORDERS).with_context(|| again.clone())?;
            ensure!(report == repeated, "{again}: {report:?} and then {repeated:?}");
        }
        orders += report.orders;
        rejected += report.rejected;
        cancelled += report.cancelled;
        calls += report.calls;
    }
    println!("{orders} orders, {rejected} rejected, {cancelled} cancelled, {calls} calls");
    ensure!(rejected * 10 >= orders, "too few rejections to show anything: {rejected} of {orders}");
    Ok(())
}
