//! Commits a DynamoDB transaction and says what became of it.
//!
//! In: writes, each with its [`Role`]. Out: a [`Commit`]. What a cancellation means is decided by a pure function
//! ([`interpret_cancellation`]), because its order is what exactly-once hangs on: a marker first, then a guard, then
//! conflicts, and only then a failed business condition. DynamoDB need not report every failing reason, so a failed
//! condition that is reported beside a conflict is never believed before the conflict is gone.
//!
//! Arithmetic belongs in a transaction: one ClientRequestToken stands for one logical attempt, so that an answer that
//! is lost does not add twice. The token is kept while the outcome is unknown or in progress, and replaced only after
//! a definite cancellation.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, TransactWriteItem},
};

use crate::{CallError, Item, backoff::jittered_exponential};

/// Why a write is in the transaction, which decides what its failure means.
///
/// `Tag` names the writes whose failure the caller has to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<Tag> {
    /// The inbox marker: fails if the event has had its effect.
    Marker,
    /// The condition on the state that the decision was based on: fails if that state has changed.
    Guard(Tag),
    /// A condition of the business: fails if the answer is no.
    Condition(Tag),
    /// A write without a condition that could fail.
    Unconditional,
}

/// One write of a transaction.
#[derive(Debug, Clone)]
pub struct TransactionWrite<Tag> {
    /// Why it is there.
    pub role: Role<Tag>,
    /// What it does.
    pub item: TransactWriteItem,
}

impl<Tag> TransactionWrite<Tag> {
    /// A write of this role: a `Put`, `Update`, `Delete` or `ConditionCheck` in its `TransactWriteItem`.
    #[must_use]
    pub fn new(role: Role<Tag>, item: TransactWriteItem) -> Self {
        Self { role, item }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit<Tag> {
    /// All writes were carried out.
    Done,
    /// No write was carried out: the marker is there already.
    Duplicate,
    /// No write was carried out: a guard failed. Which one, and its item as it is now (`None` if there is no such
    /// item), if the write asked for it with ALL_OLD.
    GuardFailed(Tag, Option<Item>),
    /// No write was carried out: these business conditions failed, each with its item as it is now.
    ConditionFailed(Vec<(Tag, Option<Item>)>),
}

/// Why nothing is known, or can be known, of a transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Other transactions were in the way, every time. No write was carried out.
    #[error("the items of the transaction stayed in use by other transactions or throttled")]
    Busy,
    /// DynamoDB refuses the request itself; again would be refused again. No write was carried out.
    #[error("DynamoDB refuses the transaction: {0}")]
    Invalid(String),
    /// The call failed, and the transaction may or may not have been carried out.
    #[error("the outcome of the transaction is unknown")]
    Unknown(#[source] CallError),
}

/// What the reasons of a cancellation mean.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancellation<Tag> {
    /// See [`Commit::Duplicate`].
    Duplicate,
    /// See [`Commit::GuardFailed`].
    GuardFailed(Tag, Option<Item>),
    /// See [`Commit::ConditionFailed`].
    ConditionFailed(Vec<(Tag, Option<Item>)>),
    /// It passes with time: try the whole transaction again.
    Transient,
    /// See [`CommitError::Invalid`].
    Invalid(String),
}

/// Maximum number of attempts at a transaction that others are in the way of: fifty writers of one item get through.
const ATTEMPTS_MAX: u32 = 16;
/// First pause between two attempts, before jitter.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause between two attempts.
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Commits, and tries again, within bounds and with jitter, while conflicts or throttling are in the way.
///
/// # Errors
/// [`CommitError`]: whether anything was carried out is known unless it is [`CommitError::Unknown`].
pub async fn commit<Tag: Clone>(
    client: &Client,
    writes: &[TransactionWrite<Tag>],
) -> Result<Commit<Tag>, CommitError> {
    let roles: Vec<Role<Tag>> = writes.iter().map(|write| write.role.clone()).collect();
    let mut token = new_request_token();
    let mut in_progress = None;
    for attempt in 0..ATTEMPTS_MAX {
        let sent = client
            .transact_write_items()
            .client_request_token(&token)
            .set_transact_items(Some(writes.iter().map(|write| write.item.clone()).collect()))
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(Commit::Done),
            Err(error) => error,
        };
        if error.code() == Some("TransactionInProgressException") {
            // An earlier try with this token is still being carried out, so its outcome is asked for by the token.
            in_progress = Some(CallError::of("TransactWriteItems")(error));
            pause(attempt).await;
            continue;
        }
        let cancellation = interpret_error(&roles, error)?;
        in_progress = None;
        match cancellation {
            Cancellation::Duplicate => return Ok(Commit::Duplicate),
            Cancellation::GuardFailed(tag, item) => return Ok(Commit::GuardFailed(tag, item)),
            Cancellation::ConditionFailed(failed) => return Ok(Commit::ConditionFailed(failed)),
            Cancellation::Invalid(why) => return Err(CommitError::Invalid(why)),
            Cancellation::Transient => {
                token = new_request_token();
                pause(attempt).await;
            }
        }
    }
    Err(in_progress.map_or(CommitError::Busy, CommitError::Unknown))
}

/// A new ClientRequestToken: random, of 32 characters (36 at most are taken).
fn new_request_token() -> String {
    format!("{:032x}", fastrand::u128(..))
}

async fn pause(attempt: u32) {
    let pause = jittered_exponential(attempt, PAUSE_FIRST, PAUSE_MAX, fastrand::f64());
    tokio::time::sleep(pause).await;
}

fn interpret_error<Tag: Clone>(
    roles: &[Role<Tag>],
    error: SdkError<TransactWriteItemsError>,
) -> Result<Cancellation<Tag>, CommitError> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Ok(interpret_cancellation(roles, cancelled.cancellation_reasons()))
        }
        Some(error)
            if matches!(
                error.code(),
                Some("ValidationException" | "IdempotentParameterMismatchException")
            ) =>
        {
            Ok(Cancellation::Invalid(error.message().unwrap_or_default().to_owned()))
        }
        _ => Err(CommitError::Unknown(CallError::of("TransactWriteItems")(error))),
    }
}

/// What the reasons of a cancellation mean: the marker first, then a guard, then whatever passes with
/// time, and a failed business condition only if nothing else is left.
#[must_use]
pub fn interpret_cancellation<Tag: Clone>(
    roles: &[Role<Tag>],
    reasons: &[CancellationReason],
) -> Cancellation<Tag> {
    let mut guard_failed = None;
    let mut conditions_failed = Vec::new();
    for (role, reason) in roles.iter().zip(reasons) {
        if reason.code() != Some("ConditionalCheckFailed") {
            continue;
        }
        let item = || reason.item().cloned();
        match role {
            Role::Marker => return Cancellation::Duplicate,
            Role::Guard(tag) if guard_failed.is_none() => guard_failed = Some((tag, item())),
            Role::Condition(tag) => conditions_failed.push((tag.clone(), item())),
            Role::Guard(_) | Role::Unconditional => {}
        }
    }
    if let Some((tag, item)) = guard_failed {
        return Cancellation::GuardFailed(tag.clone(), item);
    }
    if let Some(reason) = reasons.iter().find(|reason| {
        matches!(reason.code(), Some("ValidationError" | "ItemCollectionSizeLimitExceeded"))
    }) {
        return Cancellation::Invalid(reason.message().unwrap_or_default().to_owned());
    }
    let is_transient = |reason: &CancellationReason| {
        !matches!(reason.code(), None | Some("None" | "ConditionalCheckFailed"))
    };
    if conditions_failed.is_empty() || reasons.iter().any(is_transient) {
        return Cancellation::Transient;
    }
    Cancellation::ConditionFailed(conditions_failed)
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
        let roles = [Role::Guard(()), Role::Condition(()), Role::Marker, Role::Unconditional];
        let reasons = [
            reason("ConditionalCheckFailed"),
            reason("ConditionalCheckFailed"),
            reason("ConditionalCheckFailed"),
            reason("TransactionConflict"),
        ];
        assert_eq!(interpret_cancellation(&roles, &reasons), Cancellation::Duplicate);
    }

    #[test]
    fn a_failed_guard_hands_over_the_item_as_it_is_now() {
        let item = Item::from([("status".to_owned(), AttributeValue::S("cancelled".into()))]);
        let guard = CancellationReason::builder()
            .code("ConditionalCheckFailed")
            .set_item(Some(item.clone()))
            .build();
        let roles = [Role::Marker, Role::Guard("order")];
        assert_eq!(
            interpret_cancellation(&roles, &[reason("None"), guard]),
            Cancellation::GuardFailed("order", Some(item))
        );
    }

    #[test]
    fn a_failed_condition_beside_a_conflict_is_tried_again() {
        let roles = [Role::Marker, Role::Condition(1), Role::Condition(2)];
        let refused = reason("ConditionalCheckFailed");
        for passing in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
            let reasons = [reason("None"), refused.clone(), reason(passing)];
            assert_eq!(
                interpret_cancellation(&roles, &reasons),
                Cancellation::Transient,
                "{passing}"
            );
        }
        let reasons = [reason("None"), refused, reason("None")];
        assert_eq!(
            interpret_cancellation(&roles, &reasons),
            Cancellation::ConditionFailed(vec![(1, None)])
        );
    }

    #[test]
    fn what_dynamodb_calls_invalid_is_not_tried_again() {
        let invalid =
            CancellationReason::builder().code("ValidationError").message("too big").build();
        assert_eq!(
            interpret_cancellation(&[Role::<()>::Unconditional], &[invalid]),
            Cancellation::Invalid("too big".into())
        );
    }

    const CODES: [&str; 6] = [
        "None",
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "SomethingNew",
    ];
    /// A role for the write at each place, tagged with that place.
    const ROLES: [fn(usize) -> Role<usize>; 4] =
        [|_| Role::Marker, Role::Guard, Role::Condition, |_| Role::Unconditional];

    proptest! {
        /// DynamoDB may leave failing reasons out. Hiding one may delay a verdict, never turn one business
        /// answer into another: what is hidden comes to light on the next try.
        #[test]
        fn a_failed_condition_is_only_ever_believed_when_nothing_else_failed(
            writes in prop::collection::vec((select(&ROLES[..]), select(&CODES[..])), 1..60),
        ) {
            let writes: Vec<_> = writes.into_iter().enumerate().map(|(n, (role, code))| (role(n), code)).collect();
            let roles: Vec<_> = writes.iter().map(|write| write.0).collect();
            let reasons: Vec<_> = writes.iter().map(|write| reason(write.1)).collect();
            let any_failed = |is: fn(&Role<usize>) -> bool| {
                writes.iter().any(|(role, code)| is(role) && *code == "ConditionalCheckFailed")
            };
            let marker_failed = any_failed(|role| matches!(role, Role::Marker));
            let guard_failed = any_failed(|role| matches!(role, Role::Guard(_)));
            let condition_failed = any_failed(|role| matches!(role, Role::Condition(_)));
            let other = writes.iter().any(|write| !matches!(write.1, "None" | "ConditionalCheckFailed"));
            match interpret_cancellation(&roles, &reasons) {
                Cancellation::Duplicate => prop_assert!(marker_failed),
                Cancellation::GuardFailed(tag, _) => {
                    prop_assert!(!marker_failed);
                    prop_assert_eq!(writes[tag], (Role::Guard(tag), "ConditionalCheckFailed"));
                }
                Cancellation::ConditionFailed(failed) => {
                    prop_assert!(!marker_failed && !guard_failed && !other);
                    for (index, write) in writes.iter().enumerate() {
                        let reported = failed.iter().any(|(tag, _)| *tag == index);
                        prop_assert_eq!(*write == (Role::Condition(index), "ConditionalCheckFailed"), reported);
                    }
                }
                Cancellation::Transient => {
                    prop_assert!(!marker_failed && !guard_failed && (other || !condition_failed));
                }
                Cancellation::Invalid(why) => prop_assert!(false, "{}", why),
            }
        }

        #[test]
        fn fewer_reasons_than_writes_panic_nowhere(
            roles in prop::collection::vec(select(&ROLES[..]), 0..5),
            codes in prop::collection::vec(select(&CODES[..]), 0..5),
        ) {
            let roles: Vec<_> = roles.iter().enumerate().map(|(n, role)| role(n)).collect();
            let _ = interpret_cancellation(&roles, &codes.iter().map(|code| reason(code)).collect::<Vec<_>>());
        }
    }
}
