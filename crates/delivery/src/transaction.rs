//! Commits a DynamoDB transaction and says what became of it.
//!
//! In: steps, each a write with its [`Role`]. Out: a [`Commit`]. The verdict on a cancellation is a pure
//! function ([`judge`]), because its order is what exactly-once hangs on: a marker first, then the guard,
//! then conflicts, and only then a business refusal. DynamoDB need not report every failing reason, so a
//! refusal that is reported beside a conflict is never believed before the conflict is gone.
//!
//! Arithmetic belongs into a transaction: the SDK gives it a ClientRequestToken and keeps that over its own
//! retries, so that an answer that is lost does not add twice.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::{DisplayErrorContext, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, TransactWriteItem},
};

use crate::Item;

/// Why a step is in the transaction, which decides what its failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The inbox marker: fails if the event has had its effect.
    Marker,
    /// The condition on the state that the decision was based on: fails if that state has changed.
    Guard,
    /// A condition of the business: fails if the answer is no.
    Business,
    /// A write without a condition that could fail.
    Write,
}

/// One write of a transaction.
#[derive(Debug, Clone)]
pub struct Step {
    /// Why it is there.
    pub role: Role,
    /// What it does.
    pub write: TransactWriteItem,
}

impl Step {
    /// A step of this role.
    #[must_use]
    pub fn new(role: Role, write: TransactWriteItem) -> Self {
        Self { role, write }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// All steps were carried out.
    Done,
    /// Nothing was: the marker is there already.
    Already,
    /// Nothing was: a guard failed. Which step it was, and its item as it is now (none: there is no such
    /// item), if the step asked for it with ALL_OLD.
    Guarded(usize, Option<Item>),
    /// Nothing was: these steps' conditions of the business failed; each with its item as it is now.
    Refused(Vec<(usize, Option<Item>)>),
}

/// Why nothing is known, or can be known, of a transaction.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Other transactions were in the way, every time. Nothing was carried out.
    #[error("the items stayed in use by other transactions or throttled")]
    Busy,
    /// DynamoDB refuses the request itself; again would be refused again. Nothing was carried out.
    #[error("DynamoDB refuses the transaction: {0}")]
    Invalid(String),
    /// The call failed, and the transaction may or may not have been carried out.
    #[error("the transaction's outcome is unknown: {0}")]
    Unknown(String),
}

/// What the reasons of a cancellation come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// See [`Commit::Already`].
    Already,
    /// See [`Commit::Guarded`].
    Guarded(usize, Option<Item>),
    /// Try the whole again.
    Retry,
    /// See [`Commit::Refused`].
    Refused(Vec<(usize, Option<Item>)>),
    /// See [`CommitError::Invalid`].
    Invalid(String),
}

/// So often is a transaction tried that others are in the way of.
const ATTEMPTS_MAX: u32 = 12;
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Commits, and tries again, within bounds and with jitter, while conflicts or throttling are in the way.
///
/// # Errors
/// [`CommitError`]: whether anything was carried out is known unless it is [`CommitError::Unknown`].
pub async fn commit(client: &Client, steps: &[Step]) -> Result<Commit, CommitError> {
    let roles: Vec<Role> = steps.iter().map(|step| step.role).collect();
    for attempt in 0..ATTEMPTS_MAX {
        let sent = client
            .transact_write_items()
            .set_transact_items(Some(steps.iter().map(|step| step.write.clone()).collect()))
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(Commit::Done),
            Err(error) => error,
        };
        match verdict(&roles, &error)? {
            Verdict::Already => return Ok(Commit::Already),
            Verdict::Guarded(step, item) => return Ok(Commit::Guarded(step, item)),
            Verdict::Refused(steps) => return Ok(Commit::Refused(steps)),
            Verdict::Invalid(why) => return Err(CommitError::Invalid(why)),
            Verdict::Retry => tokio::time::sleep(pause(attempt, fastrand::f64())).await,
        }
    }
    Err(CommitError::Busy)
}

fn verdict(
    roles: &[Role],
    error: &SdkError<TransactWriteItemsError>,
) -> Result<Verdict, CommitError> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Ok(judge(roles, cancelled.cancellation_reasons()))
        }
        Some(TransactWriteItemsError::TransactionInProgressException(_)) => Ok(Verdict::Retry),
        Some(error) if error.meta().code() == Some("ValidationException") => {
            Ok(Verdict::Invalid(error.meta().message().unwrap_or_default().to_owned()))
        }
        _ => Err(CommitError::Unknown(DisplayErrorContext(error).to_string())),
    }
}

/// What the reasons of a cancellation come to: the marker first, then a guard, then whatever passes with
/// time, and a refusal of the business only if nothing else is left.
#[must_use]
pub fn judge(roles: &[Role], reasons: &[CancellationReason]) -> Verdict {
    let failed = |role: Role| {
        reasons.iter().enumerate().filter(move |(index, reason)| {
            roles.get(*index) == Some(&role) && reason.code() == Some("ConditionalCheckFailed")
        })
    };
    if failed(Role::Marker).next().is_some() {
        return Verdict::Already;
    }
    if let Some((step, reason)) = failed(Role::Guard).next() {
        return Verdict::Guarded(step, reason.item().cloned());
    }
    if let Some(reason) = reasons.iter().find(|reason| {
        matches!(reason.code(), Some("ValidationError" | "ItemCollectionSizeLimitExceeded"))
    }) {
        return Verdict::Invalid(reason.message().unwrap_or_default().to_owned());
    }
    let passes = |reason: &CancellationReason| {
        !matches!(reason.code(), None | Some("None" | "ConditionalCheckFailed"))
    };
    let refused: Vec<_> =
        failed(Role::Business).map(|(index, reason)| (index, reason.item().cloned())).collect();
    if refused.is_empty() || reasons.iter().any(passes) {
        return Verdict::Retry;
    }
    Verdict::Refused(refused)
}

/// Doubling from [`PAUSE_FIRST`] to [`PAUSE_MAX`], of which at least the half (equal jitter).
fn pause(attempt: u32, random: f64) -> Duration {
    let full = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(PAUSE_MAX);
    full.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::{prelude::*, sample::select};

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn the_marker_is_believed_before_everything_else() {
        let roles = [Role::Guard, Role::Business, Role::Marker, Role::Write];
        let reasons = [
            reason("ConditionalCheckFailed"),
            reason("ConditionalCheckFailed"),
            reason("ConditionalCheckFailed"),
            reason("TransactionConflict"),
        ];
        assert_eq!(judge(&roles, &reasons), Verdict::Already);
    }

    #[test]
    fn a_failed_guard_hands_over_the_item_as_it_is_now() {
        let item = Item::from([("status".to_owned(), AttributeValue::S("cancelled".into()))]);
        let guard = CancellationReason::builder()
            .code("ConditionalCheckFailed")
            .set_item(Some(item.clone()))
            .build();
        let roles = [Role::Marker, Role::Guard];
        assert_eq!(judge(&roles, &[reason("None"), guard]), Verdict::Guarded(1, Some(item)));
    }

    #[test]
    fn a_refusal_beside_a_conflict_is_tried_again() {
        let roles = [Role::Marker, Role::Business, Role::Business];
        let refused = reason("ConditionalCheckFailed");
        for passing in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
            let reasons = [reason("None"), refused.clone(), reason(passing)];
            assert_eq!(judge(&roles, &reasons), Verdict::Retry, "{passing}");
        }
        let reasons = [reason("None"), refused, reason("None")];
        assert_eq!(judge(&roles, &reasons), Verdict::Refused(vec![(1, None)]));
    }

    #[test]
    fn what_dynamodb_calls_invalid_is_not_tried_again() {
        let invalid =
            CancellationReason::builder().code("ValidationError").message("too big").build();
        assert_eq!(judge(&[Role::Write], &[invalid]), Verdict::Invalid("too big".into()));
    }

    #[test]
    fn pauses_grow_to_their_limit_and_are_jittered() {
        assert_eq!(pause(0, 0.0), PAUSE_FIRST / 2);
        assert_eq!(pause(0, 1.0), PAUSE_FIRST);
        assert_eq!(pause(30, 1.0), PAUSE_MAX);
    }

    const CODES: [&str; 6] = [
        "None",
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "SomethingNew",
    ];
    const ROLES: [Role; 4] = [Role::Marker, Role::Guard, Role::Business, Role::Write];

    proptest! {
        /// DynamoDB may leave failing reasons out. Hiding one may delay a verdict, never turn one business
        /// answer into another: what is hidden comes to light on the next try.
        #[test]
        fn a_business_refusal_is_only_ever_believed_when_nothing_else_failed(
            steps in prop::collection::vec((select(&ROLES[..]), select(&CODES[..])), 1..60),
        ) {
            let roles: Vec<_> = steps.iter().map(|step| step.0).collect();
            let reasons: Vec<_> = steps.iter().map(|step| reason(step.1)).collect();
            let failed = |role| steps.contains(&(role, "ConditionalCheckFailed"));
            let other = steps.iter().any(|step| !matches!(step.1, "None" | "ConditionalCheckFailed"));
            match judge(&roles, &reasons) {
                Verdict::Already => prop_assert!(failed(Role::Marker)),
                Verdict::Guarded(..) => prop_assert!(failed(Role::Guard) && !failed(Role::Marker)),
                Verdict::Refused(refused) => {
                    prop_assert!(!failed(Role::Marker) && !failed(Role::Guard) && !other);
                    for (index, step) in steps.iter().enumerate() {
                        let reported = refused.iter().any(|(reported, _)| *reported == index);
                        prop_assert_eq!(*step == (Role::Business, "ConditionalCheckFailed"), reported);
                    }
                }
                Verdict::Retry => prop_assert!(!failed(Role::Marker) && !failed(Role::Guard)
                    && (other || !failed(Role::Business))),
                Verdict::Invalid(why) => prop_assert!(false, "{}", why),
            }
        }

        #[test]
        fn fewer_reasons_than_steps_panic_nowhere(
            roles in prop::collection::vec(select(&ROLES[..]), 0..5),
            codes in prop::collection::vec(select(&CODES[..]), 0..5),
        ) {
            let _ = judge(&roles, &codes.iter().map(|code| reason(code)).collect::<Vec<_>>());
        }
    }
}
