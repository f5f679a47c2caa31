//! Every state that a few orders can come to, whatever is repeated, reordered, lost or cancelled.
//!
//! `cargo test -p model -- --nocapture` tells how many there are.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use model::{
    Condition, Saga, Scenario,
    properties::{ENQUEUED, REJECTED, STANDS_LATE},
    saga,
};
use stateright::{
    Checker, CheckerBuilder, DiscoveryClassification, Expectation, HasDiscoveries, Model,
};

/// Visits every state, unless it finds one that breaks a promise.
fn checker(scenario: Scenario) -> CheckerBuilder<Saga> {
    // The tests run side by side already: two threads of one checker wait for each other's memory half of the time.
    Saga::new(scenario).checker().threads(1).finish_when(HasDiscoveries::AnyFailures)
}

/// Waits until every state has been visited. Fails with the way to the first one that breaks a promise, or
/// if a state that there should be is not there. `never` are those that this scenario cannot come to.
fn check(name: &str, checker: impl Checker<Saga>, never: &[&str]) {
    let start = Instant::now();
    let checker = checker.join();
    let seen = &checker.model().seen;
    println!(
        "{name}: {} states, {} steps, {:.1?}; transactions came to {seen:?}",
        checker.unique_state_count(),
        checker.state_count(),
        start.elapsed(),
    );
    let properties = checker.model().properties();
    let (places, promises): (Vec<_>, Vec<_>) = properties
        .into_iter()
        .partition(|property| matches!(property.expectation, Expectation::Sometimes));
    promises.iter().for_each(|promise| checker.assert_no_discovery(promise.name));
    for place in places {
        if never.contains(&place.name) {
            checker.assert_no_discovery(place.name);
        } else {
            checker.assert_any_discovery(place.name);
        }
    }
    assert!(checker.is_done());
    let counters =
        [&seen.done, &seen.duplicate, &seen.guard_failed, &seen.condition_failed, &seen.retry];
    let is_met = |counter: &AtomicU64| counter.load(Relaxed) > 0;
    assert!(counters.into_iter().all(is_met), "{seen:?}");
}

/// The promises that this scenario is found to break, up to the first way to break one.
fn broken(scenario: Scenario) -> Vec<&'static str> {
    let checker = checker(scenario).spawn_bfs().join();
    let is_promise = |name: &&str| {
        let found = checker.discovery_classification(name);
        matches!(found, DiscoveryClassification::Counterexample)
    };
    let broken: Vec<_> = checker.discoveries().into_keys().filter(is_promise).collect();
    println!("broken: {broken:?}");
    broken
}

fn one_order() -> Scenario {
    Scenario::new(&[3], &[&[2]], 4).clearing_apart()
}

fn two_orders() -> Scenario {
    Scenario::new(&[3], &[&[2], &[2]], 2)
}

/// What there is only where clearing is a step of its own, and SNS may be away.
const NEVER: &[&str] = &[ENQUEUED, STANDS_LATE];

/// What the services really write is compared with these in the simulation.
#[test]
fn an_order_has_eleven_kinds_of_transactions() {
    let transactions = Saga::new(one_order()).transactions();
    assert_eq!(transactions.len(), 11, "{transactions:#?}");
}

#[test]
fn one_order_with_many_processes_at_a_time() {
    check("one order", checker(one_order()).spawn_bfs(), &[REJECTED]);
}

#[test]
fn two_orders_for_what_is_enough_for_one() {
    check("two orders", checker(two_orders()).spawn_bfs(), NEVER);
}

#[test]
fn two_orders_that_may_be_decided_together() {
    check(
        "two orders in batches",
        checker(Scenario::new(&[3], &[&[2], &[2]], 1).with_batches()).spawn_bfs(),
        NEVER,
    );
}

#[test]
fn two_orders_of_several_products_one_of_which_is_scarce() {
    let scenario = Scenario::new(&[2, 1, 0], &[&[1, 1, 0], &[2, 1, 0]], 1);
    check("three products", checker(scenario).spawn_bfs(), NEVER);
}

#[test]
fn three_orders_for_what_is_enough_for_two() {
    let scenario = Scenario::new(&[2], &[&[1], &[1], &[1]], 1);
    // Which of the three is which makes no difference.
    let checker = checker(scenario).symmetry_fn(saga::alike).spawn_dfs();
    check("three orders", checker, NEVER);
}

#[test]
fn without_its_guards_the_saga_is_found_broken() {
    assert!(!broken(one_order().unchecked(&[Condition::Guard])).is_empty());
}

#[test]
fn without_the_conditions_on_stock_the_saga_is_found_broken() {
    let broken = broken(two_orders().unchecked(&[Condition::Business]));
    assert!(broken.contains(&"stock is never negative"), "{broken:?}");
}

/// A marker keeps a duplicate from doing work again. What it would do, a guard prevents as well: each order
/// has one reservation and a status that only moves forward.
#[test]
fn without_its_markers_the_saga_is_held_by_its_guards() {
    let scenario = Scenario::new(&[3], &[&[2]], 3).unchecked(&[Condition::Marker]);
    assert_eq!(broken(scenario), Vec::<&str>::new());
}
