//! Seeds, each played twice: the books are right, and both runs are the same call by call.
//!
//! `ORDERFLOW_SEEDS` is their number, `ORDERFLOW_SEED` the first of them; `ORDERFLOW_ONCE=1` plays each once, and `ORDERFLOW_THREADS` at a time.
//! A seed that fails says how to play it again, with how little it fails, and what happened to the order concerned;
//! `ORDERFLOW_EXPLAIN=0` leaves that out.

use std::{
    env,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use sim::{Plan, Report};

/// As many as a plain `cargo test` has time for; `make sim` plays more.
const SEEDS_DEFAULT: u64 = 20;
const ORDERS: usize = 20;
/// Number of seeds that are played at a time, each in a thread and a runtime of its own.
const THREADS_DEFAULT: u64 = 2;
const HOUR: Duration = Duration::from_secs(60 * 60);

fn setting(name: &str, default: u64) -> Result<u64> {
    env::var(name)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// What all seeds came to.
#[derive(Debug, Default)]
struct Sum {
    runs: u64,
    orders: usize,
    rejected: usize,
    cancelled: usize,
    throttled: u64,
    calls: u64,
    settled_after_max: Duration,
}

impl Sum {
    fn add(&mut self, report: &Report, runs: u64) {
        self.runs += runs;
        self.orders += report.orders;
        self.rejected += report.rejected;
        self.cancelled += report.cancelled;
        self.throttled += report.throttled;
        self.calls += report.calls;
        self.settled_after_max = self.settled_after_max.max(report.settled_after);
    }
}

/// Plays a seed as often as wanted, and compares.
fn play(seed: u64, runs: u64) -> Result<Report> {
    let report = sim::play(seed, ORDERS)?;
    for _ in 1..runs {
        let repeated = sim::play(seed, ORDERS)?;
        ensure!(report == repeated, "two runs differ: {report:?} and then {repeated:?}");
    }
    Ok(report)
}

#[test]
fn whatever_goes_wrong_the_books_are_right_and_a_seed_repeats_itself() -> Result<()> {
    let first = setting("ORDERFLOW_SEED", 1)?;
    let seeds = setting("ORDERFLOW_SEEDS", SEEDS_DEFAULT)?;
    let runs = if setting("ORDERFLOW_ONCE", 0)? == 1 { 1 } else { 2 };
    let next = AtomicU64::new(first);
    let has_failed = AtomicBool::new(false);
    let (sum, failures) = (Mutex::new(Sum::default()), Mutex::new(Vec::new()));
    let begun = Instant::now();
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                break;
            }
            match play(seed, runs) {
                Ok(report) => {
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(&report, runs);
                }
                Err(error) => {
                    has_failed.store(true, Ordering::Relaxed);
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    failures.push((seed, error));
                }
            }
        }
    };
    thread::scope(|scope| -> Result<()> {
        for _ in 0..setting("ORDERFLOW_THREADS", THREADS_DEFAULT)?.clamp(1, seeds.max(1)) {
            scope.spawn(work);
        }
        Ok(())
    })?;
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by_key(|(seed, _)| *seed);
    if let Some((seed, error)) = failures.into_iter().next() {
        if setting("ORDERFLOW_EXPLAIN", 1)? == 1 {
            println!("{}", sim::explain(seed, ORDERS));
        }
        let again = format!("ORDERFLOW_SEED={seed} ORDERFLOW_SEEDS=1 make sim");
        return Err(error.context(format!("seed {seed}: {again}")));
    }
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = begun.elapsed().as_secs_f64();
    let played = sum.runs as f64 * ORDERS as f64;
    println!("{sum:?}");
    println!("{seconds:.1} s, {:.2} s a thousand orders", seconds * 1000.0 / played);
    ensure!(sum.rejected * 10 >= sum.orders, "too few rejections to show anything: {sum:?}");
    Ok(())
}

/// Lambda throttles the consumers completely: each message is received once a minute, for nothing. Their patience is two hours since
/// the first receive, and the queue's is 200 receives.
#[test]
fn an_hour_in_which_lambda_throttles_all_consumers_costs_no_message() -> Result<()> {
    for seed in 1..=3 {
        let plan = Plan { consumers_throttled_for: HOUR, ..Plan::of(seed) };
        let report = sim::play_plan(seed, ORDERS, plan).with_context(|| format!("seed {seed}"))?;
        ensure!(report.throttled > 60, "seed {seed}: {report:?}");
        println!(
            "seed {seed}: {} throttled, settled after {:?}",
            report.throttled, report.settled_after
        );
    }
    Ok(())
}

#[test]
fn an_event_of_a_version_that_no_consumer_ever_understands_ends_on_the_dlq_with_its_reason()
-> Result<()> {
    let plan = Plan { has_unknown_version: true, settling_max: 3 * HOUR, ..Plan::of(7) };
    let report = sim::play_plan(7, ORDERS, plan.clone())?;
    ensure!(report.settled_after > HOUR, "it was given up too soon: {report:?}");
    // And before that it is no dead letter, and nothing is settled.
    let impatient = Plan { settling_max: HOUR, ..plan };
    match sim::play_plan(7, ORDERS, impatient) {
        Ok(report) => bail!("settled with an event that nobody understands: {report:?}"),
        Err(error) => ensure!(error.to_string().contains("not settled"), "{error:#}"),
    }
    Ok(())
}
