//! The lease form of the inbox against a real table: for effects that no transaction can hold.

use std::time::Duration;

use anyhow::{Result, bail};
use delivery::{Claim, Inbox};
use e2e::{Seconds, Stack, eventually};
use futures::future::try_join_all;
use jiff::Timestamp;
use uuid::Uuid;

const MINE: Claim = Claim::Mine { unknown_attempts: 0 };
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);

async fn inbox() -> Result<Inbox> {
    let stack = Stack::load().await?;
    Ok(Inbox::new(stack.dynamodb.clone(), stack.setting("IDEMPOTENCY_TABLE"), "lease-test"))
}

#[tokio::test]
async fn of_many_consumers_with_one_message_one_has_the_lease() -> Result<()> {
    let inbox = inbox().await?;
    let event = Uuid::now_v7();
    let claims = (0..12).map(|_| inbox.claim(event, Uuid::new_v4(), Timestamp::now(), LONG));
    let claims = try_join_all(claims).await?;
    assert_eq!(claims.iter().filter(|claim| **claim == MINE).count(), 1, "{claims:?}");
    let held = claims.iter().filter(|claim| matches!(claim, Claim::Held(_))).count();
    assert_eq!(held, 11, "{claims:?}");
    Ok(())
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_to_be_ones_own() -> Result<()> {
    let inbox = inbox().await?;
    let (event, owner) = (Uuid::now_v7(), Uuid::new_v4());
    for _ in 0..2 {
        assert_eq!(inbox.claim(event, owner, Timestamp::now(), LONG).await?, MINE);
    }
    Ok(())
}

#[tokio::test]
async fn when_a_holder_dies_its_lease_ends_and_the_next_attempt_has_it() -> Result<()> {
    let inbox = inbox().await?;
    let (event, dead, next) = (Uuid::now_v7(), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(event, dead, Timestamp::now(), SHORT).await?, MINE);
    let Claim::Held(until) = inbox.claim(event, next, Timestamp::now(), LONG).await? else {
        bail!("a live lease was not respected");
    };
    eventually("the lease to end", 10.secs(), async || {
        let claim = inbox.claim(event, next, Timestamp::now(), LONG).await?;
        Ok((claim == MINE).then_some(()))
    })
    .await?;
    assert!(Timestamp::now() >= until, "it was taken before its end");
    assert!(inbox.complete(event, next).await?);
    Ok(())
}

#[tokio::test]
async fn a_holder_that_finishes_late_cannot_overwrite_its_successor() -> Result<()> {
    let inbox = inbox().await?;
    let (event, late, next) = (Uuid::now_v7(), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(event, late, Timestamp::now(), SHORT).await?, MINE);
    eventually("the successor to have the lease", 10.secs(), async || {
        let claim = inbox.claim(event, next, Timestamp::now(), LONG).await?;
        Ok((claim == MINE).then_some(()))
    })
    .await?;
    assert!(!inbox.complete(event, late).await?, "the late one must not mark");
    inbox.release(event, late).await?;
    let third = inbox.claim(event, Uuid::new_v4(), Timestamp::now(), LONG).await?;
    assert!(matches!(third, Claim::Held(_)), "nor give back what is another's: {third:?}");
    assert!(inbox.complete(event, next).await?);
    assert!(inbox.complete(event, next).await?, "the SDK's retry of a completion finds it made");
    let after = inbox.claim(event, Uuid::new_v4(), Timestamp::now(), LONG).await?;
    assert_eq!(after, Claim::Done);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_given_back_can_be_claimed_at_once() -> Result<()> {
    let inbox = inbox().await?;
    let (event, first, next) = (Uuid::now_v7(), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(event, first, Timestamp::now(), LONG).await?, MINE);
    inbox.release(event, first).await?;
    assert_eq!(inbox.claim(event, next, Timestamp::now(), LONG).await?, MINE);
    Ok(())
}
