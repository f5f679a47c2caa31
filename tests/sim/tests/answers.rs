//! What a customer waits for, where an environment goes on after its answer and where it is frozen.

use anyhow::Result;

#[test]
fn where_an_environment_goes_on_a_customer_waits_for_two_calls_and_the_event_is_published_after()
-> Result<()> {
    let calls = sim::answer_calls(true)?;
    assert_eq!(calls.before, ["BatchGetItem", "TransactWriteItems"]);
    assert_eq!(calls.after, ["PublishBatch", "BatchExecuteStatement"]);
    assert_eq!(calls.next, ["GetItem"]);
    assert_eq!(calls.repeated, ["BatchGetItem"]);
    Ok(())
}

#[test]
fn where_it_is_frozen_the_event_is_published_before_the_answer_and_cleared_when_it_goes_on()
-> Result<()> {
    let calls = sim::answer_calls(false)?;
    assert_eq!(calls.before, ["BatchGetItem", "TransactWriteItems", "PublishBatch"]);
    assert_eq!(calls.after, [""; 0]);
    let mut next = calls.next;
    next.sort();
    assert_eq!(next, ["BatchExecuteStatement", "GetItem"]);
    assert_eq!(calls.repeated, ["BatchGetItem"]);
    Ok(())
}

#[test]
fn what_an_environment_has_not_published_when_it_dies_after_its_answer_the_relay_publishes()
-> Result<()> {
    assert_eq!(sim::pending_after_death()?, [1, 0]);
    Ok(())
}
