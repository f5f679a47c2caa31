//! What a customer waits for, where an environment goes on after its answer and where it is frozen.

use anyhow::Result;

#[test]
fn where_an_environment_goes_on_a_customer_waits_for_two_calls_and_the_event_is_published_after()
-> Result<()> {
    let calls = sim::answer_calls(true)?;
    assert_eq!(calls.before, ["BatchGetItem", "TransactWriteItems"]);
    assert_eq!(calls.after, ["PublishBatch"]);
    assert_eq!(calls.next, ["GetItem"]);
    assert_eq!(calls.repeated, ["BatchGetItem"]);
    Ok(())
}

#[test]
fn where_it_is_frozen_the_event_is_published_before_the_answer() -> Result<()> {
    let calls = sim::answer_calls(false)?;
    assert_eq!(calls.before, ["BatchGetItem", "TransactWriteItems", "PublishBatch"]);
    assert_eq!(calls.after, [""; 0]);
    assert_eq!(calls.next, ["GetItem"]);
    assert_eq!(calls.repeated, ["BatchGetItem"]);
    Ok(())
}

#[test]
fn what_an_environment_has_not_published_when_it_dies_after_its_answer_the_relay_publishes()
-> Result<()> {
    assert_eq!(sim::published_after_death()?, [0, 1]);
    Ok(())
}

#[test]
fn what_neither_sns_nor_the_outbox_has_taken_is_not_noted_as_published() -> Result<()> {
    assert_eq!(sim::published_after_nothing_took_it()?, [0, 1]);
    Ok(())
}
