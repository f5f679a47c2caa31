//! Live updates under faults: by seed.

use std::time::Duration;

use anyhow::{Context, Result};
use sim::LiveReport;
use simulated_aws::Faults;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=30;

const FAULTS: Faults = Faults {
    fail: 40,
    lose: 40,
    slow: 20,
    late: 20,
    hang: 20,
    kill_before: 20,
    kill_after: 20,
    partial: 100,
    duplicate: 100,
    mail: 0,
};

/// Of a customer who stays connected; one whose connection breaks learns the state with the next.
#[test]
fn who_is_connected_misses_no_change_whatever_the_functions_die_of() -> Result<()> {
    let mut all = LiveReport::default();
    for seed in SEEDS {
        let report = sim::follow_orders(seed, FAULTS).with_context(|| format!("seed {seed}"))?;
        all.sessions += report.sessions;
        all.followed += report.followed;
        all.dropped += report.dropped;
        all.silences.extend(report.silences);
    }
    // Else the seeds would show nothing.
    assert!(all.sessions > 300 && all.followed > 100 && all.dropped > 100, "{all:?}");
    Ok(())
}

#[test]
fn without_faults_silence_is_ended_after_ten_seconds() -> Result<()> {
    for seed in SEEDS.take(5) {
        let report = sim::follow_orders(seed, Faults::default())?;
        for silence in report.silences {
            let seconds = Duration::from_secs(9)..Duration::from_secs(12);
            assert!(seconds.contains(&silence), "seed {seed}: {silence:?}");
        }
    }
    Ok(())
}
