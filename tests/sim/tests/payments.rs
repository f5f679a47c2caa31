//! Orders that are paid by Stripe, under faults: by seed.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use sim::{PaymentReport, expire_beside_unreadable_order, play_payments, record_payments};
use simulated_aws::Faults;

const ORDERS: usize = 20;
/// Another number by the environment: ORDERFLOW_PAYMENT_SEEDS.
const SEEDS: u64 = 20;

const FAULTS: Faults = Faults {
    fail: 40,
    lose: 40,
    slow: 20,
    late: 20,
    hang: 20,
    kill_before: 30,
    kill_after: 30,
    partial: 100,
    duplicate: 100,
    mail: 20,
};

fn seeds() -> Result<u64> {
    match std::env::var("ORDERFLOW_PAYMENT_SEEDS") {
        Ok(seeds) => seeds.parse().context("ORDERFLOW_PAYMENT_SEEDS is a number"),
        Err(_) => Ok(SEEDS),
    }
}

#[test]
fn whatever_fails_who_pays_gets_the_goods_or_the_money() -> Result<()> {
    let mut sum: BTreeMap<String, usize> = BTreeMap::new();
    let mut refunds = 0;
    for seed in 1..=seeds()? {
        match play_payments(seed, ORDERS, FAULTS) {
            Ok(PaymentReport { orders, refunds: given_back, .. }) => {
                refunds += given_back;
                orders.into_iter().for_each(|(status, n)| *sum.entry(status).or_default() += n);
            }
            Err(error) => {
                for moment in record_payments(seed, ORDERS, FAULTS, true).1 {
                    println!(
                        "{:>9.3} {:>4} {}",
                        moment.at.as_secs_f64(),
                        moment.environment,
                        moment.what
                    );
                }
                return Err(error.context(format!("seed {seed}")));
            }
        }
    }
    println!("{sum:?}, {refunds} refunds");
    // What the seeds are for has happened.
    for status in ["confirmed", "shipped", "cancelled", "expired"] {
        ensure!(sum.contains_key(status), "no order was {status}: {sum:?}");
    }
    ensure!(refunds > 0, "nothing was refunded");
    Ok(())
}

#[test]
fn a_seed_is_played_the_same_again() -> Result<()> {
    assert_eq!(play_payments(7, ORDERS, FAULTS)?, play_payments(7, ORDERS, FAULTS)?);
    Ok(())
}

#[test]
fn an_order_that_cannot_be_read_keeps_no_other_from_expiring() -> Result<()> {
    // By which order comes first, and in which call, the seed decides.
    for seed in 1..=5 {
        assert_eq!(expire_beside_unreadable_order(seed)?, "expired", "seed {seed}");
    }
    Ok(())
}
