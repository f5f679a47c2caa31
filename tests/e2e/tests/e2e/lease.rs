//! The lease form of the inbox against a real table: for effects that no transaction can hold.
//!
//! Tests whose names begin with that of another library and a number show that the race which was reported there does
//! not exist here.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use e2e::{Seconds, Stack, eventually};
use exactly_once::{Claim, Effect, EffectError, EffectKey, Failure, IdempotentError, Inbox};
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
    let event = EffectKey::new(Uuid::now_v7());
    let claims = (0..12).map(|_| inbox.claim(&event, Uuid::new_v4(), LONG));
    let claims = try_join_all(claims).await?;
    assert_eq!(claims.iter().filter(|claim| **claim == MINE).count(), 1, "{claims:?}");
    let held = claims.iter().filter(|claim| matches!(claim, Claim::Held(_))).count();
    assert_eq!(held, 11, "{claims:?}");
    Ok(())
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_to_be_ones_own() -> Result<()> {
    let inbox = inbox().await?;
    let (event, owner) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4());
    for _ in 0..2 {
        assert_eq!(inbox.claim(&event, owner, LONG).await?, MINE);
    }
    Ok(())
}

#[tokio::test]
async fn when_a_holder_dies_its_lease_ends_and_the_next_attempt_has_it() -> Result<()> {
    let inbox = inbox().await?;
    let (event, dead, next) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(&event, dead, SHORT).await?, MINE);
    let Claim::Held(until) = inbox.claim(&event, next, LONG).await? else {
        bail!("a live lease was not respected");
    };
    eventually("the lease to end", 10.secs(), async || {
        let claim = inbox.claim(&event, next, LONG).await?;
        Ok((claim == MINE).then_some(()))
    })
    .await?;
    assert!(Timestamp::now() >= until, "it was taken before its end");
    assert!(inbox.complete(&event, next, None).await?);
    Ok(())
}

#[tokio::test]
async fn a_holder_that_finishes_late_cannot_overwrite_its_successor() -> Result<()> {
    let inbox = inbox().await?;
    let (event, late, next) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(&event, late, SHORT).await?, MINE);
    eventually("the successor to have the lease", 10.secs(), async || {
        let claim = inbox.claim(&event, next, LONG).await?;
        Ok((claim == MINE).then_some(()))
    })
    .await?;
    assert!(!inbox.complete(&event, late, None).await?, "the late one must not mark");
    inbox.release(&event, late).await?;
    let third = inbox.claim(&event, Uuid::new_v4(), LONG).await?;
    assert!(matches!(third, Claim::Held(_)), "nor give back what is another's: {third:?}");
    assert!(inbox.complete(&event, next, None).await?);
    assert!(
        inbox.complete(&event, next, None).await?,
        "the SDK's retry of a completion finds it made"
    );
    let after = inbox.claim(&event, Uuid::new_v4(), LONG).await?;
    assert_eq!(after, Claim::Done { result: None });
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_given_back_can_be_claimed_at_once() -> Result<()> {
    let inbox = inbox().await?;
    let (event, first, next) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(inbox.claim(&event, first, LONG).await?, MINE);
    inbox.release(&event, first).await?;
    assert_eq!(inbox.claim(&event, next, LONG).await?, MINE);
    Ok(())
}

/// Counts how often an effect was had.
#[derive(Default)]
struct Effects(AtomicUsize);

impl Effects {
    /// Has it once more; how often it was had before.
    fn have(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_repeated_effect_returns_what_came_of_the_first() -> Result<()> {
    let (inbox, effects) = (inbox().await?, Effects::default());
    let key = EffectKey::new(Uuid::now_v7()).payload("5 EUR");
    let charge = async || Ok(format!("charge {}", effects.have()));
    let first: Effect<String> = inbox.idempotent(key.clone(), LONG, charge).await?;
    assert_eq!(first, Effect::Done("charge 0".to_owned()));
    let again: Effect<String> = inbox.idempotent(key.clone(), LONG, charge).await?;
    assert_eq!(again, Effect::Duplicate("charge 0".to_owned()));
    let other = inbox.idempotent::<String, _>(key.payload("6 EUR"), LONG, charge).await;
    assert!(matches!(other, Err(IdempotentError::KeyReused)), "{other:?}");
    assert_eq!(effects.count(), 1);
    Ok(())
}

#[tokio::test]
async fn an_effect_that_did_not_happen_can_be_tried_at_once() -> Result<()> {
    let (inbox, effects) = (inbox().await?, Effects::default());
    let key = Uuid::now_v7();
    let effect = async || match effects.have() {
        0 => Err(EffectError::NotDone(Failure::transient("refused"))),
        _ => Ok(()),
    };
    let first = inbox.idempotent(key, LONG, effect).await;
    assert!(matches!(first, Err(IdempotentError::NotDone(Failure::Transient { .. }))), "{first:?}");
    assert_eq!(inbox.idempotent(key, LONG, effect).await?, Effect::Done(()));
    Ok(())
}

/// A claim that is given back between must not make the count begin anew.
#[tokio::test]
async fn an_unknown_outcome_keeps_its_lease_and_is_repeated_at_most_as_often_as_allowed()
-> Result<()> {
    let (inbox, effects) = (inbox().await?.unknown_attempts_max(2), Effects::default());
    let key = Uuid::now_v7();
    let effect = async || match effects.have() {
        1 => Err(EffectError::NotDone(Failure::transient("refused"))),
        _ => Err(EffectError::Unknown("no answer".into())),
    };
    let unknown = Effects::default();
    let last = eventually("the attempts to be used up", 60.secs(), async || {
        match inbox.idempotent::<(), _>(key, Duration::from_secs(4), effect).await {
            Err(IdempotentError::Unknown { .. }) => {
                unknown.have();
                let other = inbox.idempotent::<(), _>(key, LONG, effect).await;
                assert!(matches!(other, Err(IdempotentError::Held { .. })), "{other:?}");
                Ok(None)
            }
            Err(error @ IdempotentError::UnknownTooOften { .. }) => Ok(Some(error)),
            _ => Ok(None),
        }
    })
    .await?;
    assert_eq!((unknown.count(), effects.count()), (2, 3), "{last}");
    let failure = Failure::from(last);
    let Failure::Poison { reason, .. } = &failure else { bail!("no retry helps: {failure:?}") };
    assert_eq!(reason, "outcome_unknown");
    Ok(())
}

#[tokio::test]
async fn an_effect_without_an_answer_ends_before_its_lease_and_is_unknown() -> Result<()> {
    let inbox = inbox().await?;
    let (begun, lease) = (std::time::Instant::now(), Duration::from_secs(4));
    let standstill = async || std::future::pending::<Result<(), EffectError>>().await;
    let ended = inbox.idempotent(Uuid::now_v7(), lease, standstill).await;
    assert!(matches!(ended, Err(IdempotentError::Unknown { .. })), "{ended:?}");
    assert!(begun.elapsed() < lease, "nobody else may have begun: {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_panic_of_an_effect_is_unknown_and_goes_on() -> Result<()> {
    let inbox = inbox().await?;
    let key = Uuid::now_v7();
    let (guard, panics) = (inbox.clone(), async || panic!("on purpose"));
    let panicked = tokio::spawn(async move { guard.idempotent::<(), _>(key, LONG, panics).await });
    assert!(panicked.await.is_err_and(|error| error.is_panic()));
    let next = inbox.idempotent::<(), _>(key, LONG, async || Ok(())).await;
    assert!(matches!(next, Err(IdempotentError::Held { .. })), "{next:?}");
    Ok(())
}

/// The recovery of an orphan overwrites a completed result: who takes a lease over does so only if it has ended and is
/// not completed, in one conditional write; and who completes late does not overwrite the successor's result.
/// <https://github.com/aws-powertools/powertools-lambda-typescript/issues/5714>
#[tokio::test]
async fn powertools_typescript_5714_the_takeover_of_an_orphan_overwrites_no_result() -> Result<()> {
    let inbox = inbox().await?;
    let (key, orphan) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4());
    assert_eq!(inbox.claim(&key, orphan, SHORT).await?, MINE);
    let effect = async || Ok("of the successor".to_owned());
    eventually("the successor to have the effect", 10.secs(), async || {
        Ok(inbox.idempotent(key.clone(), LONG, effect).await.ok())
    })
    .await?;
    assert!(!inbox.complete(&key, orphan, Some("\"of the orphan\"")).await?);
    let takers =
        (0..12).map(|_| inbox.idempotent(key.clone(), LONG, async || Ok("new".to_owned())));
    for taken in try_join_all(takers).await? {
        assert_eq!(taken, Effect::Duplicate("of the successor".to_owned()));
    }
    Ok(())
}

/// A rejected duplicate deletes the owner's lock: only the owner gives a claim back.
/// <https://github.com/aws-powertools/powertools-lambda-typescript/issues/5675>
#[tokio::test]
async fn powertools_typescript_5675_a_rejected_duplicate_leaves_the_owners_lease() -> Result<()> {
    let inbox = inbox().await?;
    let (key, owner) = (EffectKey::new(Uuid::now_v7()), Uuid::new_v4());
    assert_eq!(inbox.claim(&key, owner, LONG).await?, MINE);
    for _ in 0..2 {
        let duplicate = inbox.idempotent(key.clone(), LONG, async || Ok(())).await;
        assert!(matches!(duplicate, Err(IdempotentError::Held { .. })), "{duplicate:?}");
    }
    assert!(!inbox.release(&key, Uuid::new_v4()).await?, "not the owner");
    assert!(inbox.complete(&key, owner, None).await?, "the owner still is it");
    Ok(())
}

/// Without a deadline an execution that has timed out counts as under way for ever, or is joined by a second one: here
/// every lease has an end, and the effect is cut off before it.
/// <https://github.com/aws-powertools/powertools-lambda-typescript/issues/5678>
/// <https://github.com/aws-powertools/powertools-lambda-python/issues/8386>
#[tokio::test]
async fn powertools_typescript_5678_and_python_8386_no_second_execution_begins_before_the_first_is_cut_off()
-> Result<()> {
    let (inbox, key) = (inbox().await?, Uuid::now_v7());
    let under_way = AtomicUsize::new(0);
    let slow = async || {
        assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "two at once");
        // The guard ends it, and with it the count.
        let _ended = CountDown(&under_way);
        std::future::pending::<()>().await;
        Ok(())
    };
    let (begun, pause) = (std::time::Instant::now(), Duration::from_millis(100));
    let consumers = (0..4).map(async |_| {
        while begun.elapsed() < Duration::from_secs(10) {
            let ended = inbox.idempotent::<(), _>(key, Duration::from_secs(4), slow).await;
            assert!(ended.is_err(), "it never ends well");
            tokio::time::sleep(pause).await;
        }
    });
    futures::future::join_all(consumers).await;
    Ok(())
}

struct CountDown<'a>(&'a AtomicUsize);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// With 0 ms left the lease has ended when it begins: nothing is begun.
/// <https://github.com/aws-powertools/powertools-lambda-python/issues/4759>
#[tokio::test]
async fn powertools_python_4759_with_no_time_left_nothing_is_begun() -> Result<()> {
    let (inbox, effects) = (inbox().await?, Effects::default());
    for lease in [Duration::ZERO, Duration::from_millis(1), exactly_once::inbox::LEASE_MARGIN] {
        let effect = async || {
            effects.have();
            Ok(())
        };
        let ended = inbox.idempotent(Uuid::now_v7(), lease, effect).await;
        assert!(matches!(ended, Err(IdempotentError::NoTimeLeft { .. })), "{ended:?}");
    }
    assert_eq!(effects.count(), 0);
    Ok(())
}
