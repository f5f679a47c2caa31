//! A crash at any call of an order that is paid, and any other way to break it, changes nothing about how it ends: Stripe's calls and AWS's.

use anyhow::{Result, ensure};
use sim::{CrashPoints, PaymentScenario, play_payment_crash_points};

/// The first breaks every call, the others Stripe's: whether a failure of Stripe's has done what it was asked for is left to the seed.
const SEEDS: [u64; 3] = [1, 2, 3];

fn play(scenario: PaymentScenario) -> Result<()> {
    let CrashPoints { calls, points } = play_payment_crash_points(scenario, &SEEDS)?;
    println!("{scenario:?}: {points} points, by {} seeds, of {calls:?}", SEEDS.len());
    ensure!(calls.keys().any(|call| call.starts_with("/v1/")), "Stripe was not called");
    Ok(())
}

#[test]
fn an_order_that_is_paid() -> Result<()> {
    play(PaymentScenario::Paid)
}

#[test]
fn an_order_whose_first_card_is_declined() -> Result<()> {
    play(PaymentScenario::Declined)
}

#[test]
fn an_order_that_expires() -> Result<()> {
    play(PaymentScenario::Expired)
}

#[test]
fn an_order_that_is_cancelled_before_it_is_paid() -> Result<()> {
    play(PaymentScenario::CancelledUnpaid)
}

#[test]
fn an_order_that_is_cancelled_as_soon_as_it_is_paid() -> Result<()> {
    play(PaymentScenario::CancelledWhilePaid)
}

#[test]
fn an_order_that_is_cancelled_when_it_is_confirmed() -> Result<()> {
    play(PaymentScenario::CancelledPaid)
}

#[test]
fn an_order_that_is_paid_without_a_webhook() -> Result<()> {
    play(PaymentScenario::Unheard)
}

#[test]
fn an_order_of_which_a_bank_decides_when_its_time_is_over() -> Result<()> {
    play(PaymentScenario::Slow)
}
