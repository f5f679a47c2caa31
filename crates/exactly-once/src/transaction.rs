//! Commits a DynamoDB transaction and says what became of it.
//!
//! In: writes, each with its [`Role`]. Out: a [`Commit`]. What a cancellation means is decided by a pure function
//! ([`interpret_cancellation`]), because its order is what exactly-once hangs on: a marker first, then a guard, then
//! conflicts, and only then a failed business condition. DynamoDB need not report every failing reason, so a failed
//! condition that is reported beside a conflict is never believed before the conflict is gone.
//!
//! Transactions of several messages can be committed as one ([`commit_together`]): it costs one call, and a member that fails
//! is distinguished from the others, which go on without it.
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

/// What became of transactions that were committed as one ([`commit_together`]).
#[derive(Debug, Clone, PartialEq)]
pub enum CommitTogether<Tag> {
    /// All writes of all members were carried out.
    Done,
    /// No write was carried out, because of these members, by their places: what became of each is final, as if it had been
    /// committed by itself. DynamoDB need not report every one that has failed. The others may be committed without them.
    MembersFailed(Vec<(usize, Commit<Tag>)>),
    /// No write was carried out: these conditions of the business failed, each with its item as it is now. What that means
    /// for each member, the caller decides.
    ConditionFailed(Vec<(Tag, Option<Item>)>),
}

/// Maximum number of writes in one transaction.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
pub const TRANSACTION_WRITES_MAX: usize = 100;
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
    let interpret = |reasons: &[CancellationReason]| match interpret_cancellation(&roles, reasons) {
        Cancellation::Duplicate => Verdict::Known(Commit::Duplicate),
        Cancellation::GuardFailed(tag, item) => Verdict::Known(Commit::GuardFailed(tag, item)),
        Cancellation::ConditionFailed(failed) => Verdict::Known(Commit::ConditionFailed(failed)),
        Cancellation::Transient => Verdict::Transient,
        Cancellation::Invalid(why) => Verdict::Invalid(why),
    };
    let items = writes.iter().map(|write| write.item.clone()).collect();
    Ok(transact(client, items, interpret).await?.unwrap_or(Commit::Done))
}

/// Commits several transactions as one, and tries again as [`commit`] does. `members` are the transactions, each with its own
/// marker and guards; `shared` are writes that belong to several of them, such as the sum of what they take of one
/// stock, because a transaction names each item once. Together they are at most [`TRANSACTION_WRITES_MAX`] writes.
///
/// # Errors
/// [`CommitError`], of all members: whether anything was carried out is known unless it is [`CommitError::Unknown`].
pub async fn commit_together<Tag: Clone>(
    client: &Client,
    members: &[Vec<TransactionWrite<Tag>>],
    shared: &[TransactionWrite<Tag>],
) -> Result<CommitTogether<Tag>, CommitError> {
    let roles = |writes: &[TransactionWrite<Tag>]| -> Vec<Role<Tag>> {
        writes.iter().map(|write| write.role.clone()).collect()
    };
    let member_roles: Vec<Vec<Role<Tag>>> = members.iter().map(|writes| roles(writes)).collect();
    let shared_roles = roles(shared);
    let interpret = |reasons: &[CancellationReason]| {
        interpret_cancellation_together(&member_roles, &shared_roles, reasons)
    };
    let items = members.iter().flatten().chain(shared).map(|write| write.item.clone()).collect();
    Ok(transact(client, items, interpret).await?.unwrap_or(CommitTogether::Done))
}

/// What a cancellation means, as far as it decides what is done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<T> {
    /// The answer is known.
    Known(T),
    /// It passes with time: try the whole transaction again.
    Transient,
    /// See [`CommitError::Invalid`].
    Invalid(String),
}

/// Sends a transaction until its outcome is known: `None` if it was carried out, or what its cancellation means.
async fn transact<T>(
    client: &Client,
    items: Vec<TransactWriteItem>,
    interpret: impl Fn(&[CancellationReason]) -> Verdict<T>,
) -> Result<Option<T>, CommitError> {
    let mut token = new_request_token();
    let mut in_progress = None;
    for attempt in 0..ATTEMPTS_MAX {
        let sent = client
            .transact_write_items()
            .client_request_token(&token)
            .set_transact_items(Some(items.clone()))
            .send()
            .await;
        let error = match sent {
            Ok(_) => return Ok(None),
            Err(error) => error,
        };
        if error.code() == Some("TransactionInProgressException") {
            // An earlier try with this token is still being carried out, so its outcome is asked for by the token.
            in_progress = Some(CallError::of("TransactWriteItems")(error));
            pause(attempt).await;
            continue;
        }
        let verdict = interpret_error(error, &interpret)?;
        in_progress = None;
        match verdict {
            Verdict::Known(outcome) => return Ok(Some(outcome)),
            Verdict::Invalid(why) => return Err(CommitError::Invalid(why)),
            Verdict::Transient => {
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

fn interpret_error<T>(
    error: SdkError<TransactWriteItemsError>,
    interpret: impl Fn(&[CancellationReason]) -> Verdict<T>,
) -> Result<Verdict<T>, CommitError> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            Ok(interpret(cancelled.cancellation_reasons()))
        }
        Some(error)
            if matches!(
                error.code(),
                Some("ValidationException" | "IdempotentParameterMismatchException")
            ) =>
        {
            Ok(Verdict::Invalid(error.message().unwrap_or_default().to_owned()))
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

/// What the reasons of a cancellation mean for transactions that were committed as one, `members` and then `shared` writes.
/// Markers and guards are each member's own, and are believed whatever else is reported; a failed condition is believed as
/// [`interpret_cancellation`] believes it: only if nothing else is in the way.
#[must_use]
pub fn interpret_cancellation_together<Tag: Clone>(
    members: &[Vec<Role<Tag>>],
    shared: &[Role<Tag>],
    reasons: &[CancellationReason],
) -> Verdict<CommitTogether<Tag>> {
    let mut failed = Vec::new();
    let mut rest = reasons;
    for (place, roles) in members.iter().enumerate() {
        let (own, others) = rest.split_at(roles.len().min(rest.len()));
        rest = others;
        match interpret_cancellation(roles, own) {
            Cancellation::Duplicate => failed.push((place, Commit::Duplicate)),
            Cancellation::GuardFailed(tag, item) => {
                failed.push((place, Commit::GuardFailed(tag, item)));
            }
            Cancellation::ConditionFailed(_)
            | Cancellation::Transient
            | Cancellation::Invalid(_) => {}
        }
    }
    if !failed.is_empty() {
        return Verdict::Known(CommitTogether::MembersFailed(failed));
    }
    let all: Vec<Role<Tag>> = members.iter().flatten().chain(shared).cloned().collect();
    match interpret_cancellation(&all, reasons) {
        Cancellation::ConditionFailed(failed) => {
            Verdict::Known(CommitTogether::ConditionFailed(failed))
        }
        Cancellation::Invalid(why) => Verdict::Invalid(why),
        Cancellation::Transient | Cancellation::Duplicate | Cancellation::GuardFailed(..) => {
            Verdict::Transient
        }
    }
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

    #[test]
    fn a_member_that_fails_is_told_from_the_others() {
        let members = [vec![Role::Marker, Role::Guard("a")], vec![Role::Marker, Role::Guard("b")]];
        let shared = [Role::Condition("stock")];
        let (fine, failed) = (reason("None"), reason("ConditionalCheckFailed"));
        let conflict = reason("TransactionConflict");
        let interpret = |reasons: [&CancellationReason; 5]| {
            let reasons: Vec<_> = reasons.into_iter().cloned().collect();
            interpret_cancellation_together(&members, &shared, &reasons)
        };
        assert_eq!(
            interpret([&fine, &fine, &failed, &failed, &failed]),
            Verdict::Known(CommitTogether::MembersFailed(vec![(1, Commit::Duplicate)]))
        );
        assert_eq!(
            interpret([&failed, &fine, &fine, &failed, &conflict]),
            Verdict::Known(CommitTogether::MembersFailed(vec![
                (0, Commit::Duplicate),
                (1, Commit::GuardFailed("b", None)),
            ]))
        );
        assert_eq!(
            interpret([&fine, &fine, &fine, &fine, &failed]),
            Verdict::Known(CommitTogether::ConditionFailed(vec![("stock", None)]))
        );
        assert_eq!(interpret([&fine, &conflict, &fine, &fine, &failed]), Verdict::Transient);
        assert_eq!(
            interpret([&fine, &fine, &fine, &reason("ValidationError"), &fine]),
            Verdict::Invalid(String::new())
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

        /// A member fails together with others exactly as it would by itself, and nothing fails that was not reported.
        #[test]
        fn each_member_fails_as_it_would_by_itself(
            writes in prop::collection::vec(
                prop::collection::vec((select(&ROLES[..]), select(&CODES[..])), 1..5), 1..6,
            ),
        ) {
            let members: Vec<Vec<Role<usize>>> =
                writes.iter().map(|member| member.iter().enumerate().map(|(n, (role, _))| role(n)).collect()).collect();
            let reasons: Vec<Vec<_>> =
                writes.iter().map(|member| member.iter().map(|(_, code)| reason(code)).collect()).collect();
            let alone: Vec<_> = members.iter().zip(&reasons).enumerate().filter_map(|(place, (roles, reasons))| {
                match interpret_cancellation(roles, reasons) {
                    Cancellation::Duplicate => Some((place, Commit::Duplicate)),
                    Cancellation::GuardFailed(tag, item) => Some((place, Commit::GuardFailed(tag, item))),
                    _ => None,
                }
            }).collect();
            match interpret_cancellation_together(&members, &[], &reasons.concat()) {
                Verdict::Known(CommitTogether::MembersFailed(failed)) => prop_assert_eq!(failed, alone),
                Verdict::Known(CommitTogether::ConditionFailed(_)) => {
                    prop_assert!(alone.is_empty());
                    prop_assert!(reasons.concat().iter().all(|r| matches!(r.code(), Some("None" | "ConditionalCheckFailed"))));
                }
                verdict => {
                    prop_assert!(alone.is_empty());
                    prop_assert_eq!(verdict, Verdict::Transient);
                }
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
