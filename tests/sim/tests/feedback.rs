//! What SES says of mails, under faults: by seed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use sim::{ANGRY, FINE, FULL, FeedbackReport, GONE, POISON};
use simulated_aws::Faults;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=25;

const FAULTS: Faults = Faults {
    fail: 40,
    lose: 40,
    slow: 20,
    late: 20,
    hang: 20,
    kill_before: 40,
    kill_after: 40,
    partial: 100,
    duplicate: 100,
    mail: 20,
};

#[test]
fn who_is_out_of_reach_or_complains_is_mailed_no_more_whatever_the_consumer_dies_of() -> Result<()>
{
    let counts = |of: &[(&str, usize)]| of.iter().map(|(to, n)| ((*to).to_owned(), *n)).collect();
    let because = |(email, why): (&str, &str)| (email.to_owned(), why.to_owned());
    let expected = FeedbackReport {
        suppressed: BTreeMap::from([(GONE, "bounce"), (ANGRY, "complaint")].map(because)),
        later_mails: counts(&[(FINE, 2), (FULL, 2)]),
        dead_letters: BTreeSet::from([POISON.to_owned()]),
    };
    for seed in SEEDS {
        let report =
            sim::suppress_addresses(seed, FAULTS).with_context(|| format!("seed {seed}"))?;
        assert_eq!(report, expected, "seed {seed}");
    }
    Ok(())
}
