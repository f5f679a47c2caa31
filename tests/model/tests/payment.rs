//! Every state that the payment of an order can come to, whatever is repeated, lost, late, cancelled, or fails at Stripe.
//!
//! `cargo test -p model -- --nocapture` tells how many there are.

use std::{collections::BTreeSet, time::Instant};

use model::payment::{
    Mistake, PaymentSaga, Scenario,
    properties::{
        COMES_TO_REST, EXPIRED_UNCHARGED, FORWARD, NONE_LEFT, ONE_INTENT, RECORDED_TRULY,
        REFUNDED_ONCE, REST_MONEY,
    },
};
use stateright::{
    Checker, CheckerBuilder, DiscoveryClassification, Expectation, HasDiscoveries, Model,
};

fn checker(scenario: Scenario) -> CheckerBuilder<PaymentSaga> {
    PaymentSaga::new(scenario).checker().threads(1)
}

/// Visits every state. Fails with the way to the first one that breaks a promise, or if a state that there should be is not there.
fn check(name: &str, scenario: Scenario) {
    let start = Instant::now();
    let checker = checker(scenario).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, {:.1?}",
        checker.unique_state_count(),
        checker.state_count(),
        start.elapsed(),
    );
    let (places, promises): (Vec<_>, Vec<_>) = checker
        .model()
        .properties()
        .into_iter()
        .partition(|property| matches!(property.expectation, Expectation::Sometimes));
    promises.iter().for_each(|promise| checker.assert_no_discovery(promise.name));
    places.iter().for_each(|place| {
        checker.assert_any_discovery(place.name);
    });
    assert!(checker.is_done());
}

/// The promises that are broken anywhere.
fn broken(name: &str, scenario: Scenario) -> BTreeSet<&'static str> {
    let start = Instant::now();
    let checker = checker(scenario).finish_when(HasDiscoveries::All).spawn_bfs().join();
    let is_promise = |name: &&str| {
        let found = checker.discovery_classification(name);
        matches!(found, DiscoveryClassification::Counterexample)
    };
    let broken = checker.discoveries().into_keys().filter(is_promise).collect();
    let states = checker.unique_state_count();
    println!("{name}: {states} states, {:.1?}, broken: {broken:?}", start.elapsed());
    broken
}

/// Fails unless this promise is found to be broken.
fn assert_breaks(scenario: Scenario, promise: &'static str) {
    let what = scenario.mistake.map_or("Stripe".to_owned(), |mistake| format!("{mistake:?}"));
    let until = HasDiscoveries::AllOf([promise].into());
    let checker = checker(scenario).finish_when(until).spawn_bfs().join();
    let path = checker.discovery(promise);
    let path = path.unwrap_or_else(|| panic!("{what} does not break: {promise}"));
    println!("{what} breaks {promise:?}: {:?}", path.into_actions());
}

#[test]
fn an_order_is_paid_or_ends_without_a_charge() {
    check("one payment, two processes at a time", Scenario::new(2, 2));
}

#[test]
fn a_payment_that_needs_three_keys_is_made_once() {
    check("one payment, three keys", Scenario::new(1, 3));
}

/// Keys alone keep a refund from being made twice, without Stripe's refusal.
#[test]
fn money_is_given_back_once_by_a_stripe_that_would_give_it_back_twice() {
    check("one payment, refunded as often as asked", Scenario::new(1, 2).refunding_twice());
}

#[test]
fn an_order_that_expires_unasked_is_charged() {
    let scenario = Scenario::new(1, 2).with(Mistake::ExpiresUnasked);
    assert_breaks(scenario.clone(), EXPIRED_UNCHARGED);
    assert_breaks(scenario, REST_MONEY);
}

#[test]
fn an_order_that_expires_before_its_payment_is_cancelled_is_charged() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::RecordsBeforeCancelling), EXPIRED_UNCHARGED);
}

#[test]
fn a_new_key_for_each_try_makes_a_second_payment() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::CreatesUnderNewKeys), ONE_INTENT);
}

#[test]
fn a_key_that_is_too_old_makes_a_second_payment() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::TrustsOldKeys), ONE_INTENT);
}

#[test]
fn a_key_under_which_stripe_has_failed_leads_nowhere() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::ReusesFailedKeys), COMES_TO_REST);
}

#[test]
fn an_order_that_is_reported_overdue_once_waits_for_ever() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::AsksOnce), COMES_TO_REST);
}

#[test]
fn a_cancellation_that_does_not_wait_for_a_bank_keeps_the_money() {
    assert_breaks(Scenario::new(1, 2).with(Mistake::ForgetsUndecided), REST_MONEY);
}

#[test]
fn a_payment_that_is_written_unguarded_moves_back() {
    let scenario = Scenario::new(2, 2).with(Mistake::WritesUnguarded);
    assert_breaks(scenario.clone(), FORWARD);
    assert_breaks(scenario, RECORDED_TRULY);
}

#[test]
fn a_new_key_for_each_refund_gives_money_back_twice() {
    let scenario = Scenario::new(1, 2).refunding_twice();
    assert_breaks(scenario.with(Mistake::RefundsUnderNewKeys), REFUNDED_ONCE);
}

/// And so does Stripe's refusal alone, without keys.
#[test]
fn a_new_key_for_each_refund_is_held_by_stripes_refusal() {
    let scenario = Scenario::new(1, 2).with(Mistake::RefundsUnderNewKeys);
    assert_eq!(broken("refunds under new keys", scenario), BTreeSet::new());
}

/// A call that takes its time while its key becomes too old, and another process meanwhile finds nothing: the second PaymentIntent is one
/// whose client secret nobody has.
#[test]
fn a_key_that_becomes_too_old_in_use_makes_a_second_payment_that_nobody_can_pay() {
    let scenario = Scenario { ages_in_use: true, ..Scenario::new(2, 2) };
    assert_eq!(broken("keys that age in use", scenario), [ONE_INTENT, NONE_LEFT].into());
}

/// So does a Stripe that carries a call out after it has failed under its key, which it documents not to do.
#[test]
fn a_failure_that_stripe_does_not_repeat_makes_a_second_payment() {
    let scenario = Scenario { keeps_failures: false, ..Scenario::new(2, 2) };
    assert_breaks(scenario, ONE_INTENT);
}
