//! An effect happens once for each key, such as the id of an event.
//!
//! In: a key. Out: whether its effect is still to be had, and what came of it. Two forms:
//!
//! - **Marker** ([`Inbox::marker`]): a put that fails if it is there, as one write of the transaction that has
//!   the effect. Survives a crash anywhere, because marker and effect exist together or not at all.
//! - **Lease** ([`Inbox::idempotent`]): for an effect that no transaction can hold, such as a mail or a payment.
//!   Whoever claims first is the owner until the lease ends; completion, release and the record of an unknown outcome
//!   are conditional on the owner, so that a late first attempt cannot overwrite its successor. It is marked after the
//!   effect: a crash between repeats the effect, never loses it. An effect whose outcome is unknown keeps its lease,
//!   and such attempts are counted and bounded.
//!
//! Both say when (`claimed_at`, `done_at`, milliseconds since 1970): nothing here depends on it, and people read it.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{
        AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    },
};
use futures::{
    FutureExt,
    future::{Either, select},
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    CallError, Clock, Failure, Ids, Item, Role, TableError, TransactionWrite,
    error::{BoxError, ErrorChain},
    table::{is_applied, number, text},
};

/// How long a marker is kept: longer than queue retention (4 days) and DLQ retention (14 days) together, so
/// that a redriven event still meets the marker of its first delivery.
pub const MARKER_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The end of a lease in which the effect must not be under way any more: its outcome is stored then, and the clocks of
/// two machines may differ.
pub const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// Number of attempts with an unknown outcome after which an effect is not tried again, unless said otherwise.
const UNKNOWN_ATTEMPTS_MAX_DEFAULT: u32 = 3;
/// The condition of a write that only a claim's owner may make, and only until it is completed.
const OWNED_IN_PROGRESS: &str = "#owner = :owner AND #state = :in_progress";

const DONE: &str = "done";
const IN_PROGRESS: &str = "in_progress";

/// The markers of one consumer.
#[derive(Debug, Clone)]
pub struct Inbox {
    client: Client,
    table: String,
    consumer: String,
    clock: Clock,
    ids: Ids,
    unknown_attempts_max: u32,
    is_kept_for_ever: bool,
}

/// What an effect is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectKey {
    key: String,
    fingerprint: Option<String>,
    subject: Option<String>,
}

impl EffectKey {
    /// The effect of this key, such as an event's id.
    pub fn new(key: impl fmt::Display) -> Self {
        Self { key: key.to_string(), fingerprint: None, subject: None }
    }

    /// What the effect is about, such as an order's id: it is stored beside the claim, so that who finds a claim knows.
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    /// Ties the key to what the effect is made of: with another payload the key is refused
    /// ([`IdempotentError::KeyReused`]).
    #[must_use]
    pub fn payload(self, payload: impl AsRef<[u8]>) -> Self {
        let digest = Sha256::digest(payload);
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { fingerprint: Some(fingerprint), ..self }
    }
}

impl From<Uuid> for EffectKey {
    fn from(key: Uuid) -> Self {
        Self::new(key)
    }
}

impl From<&str> for EffectKey {
    fn from(key: &str) -> Self {
        Self::new(key)
    }
}

/// Whose an effect is. Exhaustive on purpose: each of these asks the caller for something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller's, until the lease ends.
    Mine {
        /// Number of earlier attempts of which it is unknown whether they had the effect.
        unknown_attempts: u32,
    },
    /// Nobody's: it has been had.
    Done {
        /// What came of it, as JSON, if that was stored.
        result: Option<String>,
    },
    /// Another's, until this moment.
    Held(Timestamp),
    /// The key belongs to an effect with another payload.
    KeyReused,
}

/// How an effect failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum EffectError {
    /// It did not happen: the claim is given back.
    NotDone(Failure),
    /// It may have happened, such as a call without an answer: the lease is kept.
    Unknown(BoxError),
}

impl From<Failure> for EffectError {
    fn from(failure: Failure) -> Self {
        Self::NotDone(failure)
    }
}

/// What came of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect<T> {
    /// It happened now.
    Done(T),
    /// It happened before: this came of it then.
    Duplicate(T),
}

impl<T> Effect<T> {
    /// What came of it, now or before.
    pub fn into_result(self) -> T {
        match self {
            Self::Done(result) | Self::Duplicate(result) => result,
        }
    }
}

/// Why an effect is not known to have happened. As a [`Failure`] it says when to try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdempotentError {
    /// Another attempt is under way, or has died: nobody else tries before this moment.
    #[error("another attempt holds the lease until {until}")]
    Held {
        /// When the lease ends.
        until: Timestamp,
        /// How long that is from now.
        retry_in: Duration,
    },
    /// It did not happen.
    #[error("the effect did not happen")]
    NotDone(#[source] Failure),
    /// It may have happened. Nobody tries again before the lease has ended.
    #[error("whether the effect happened is unknown")]
    Unknown {
        /// How long the lease lasts from now.
        retry_in: Duration,
        /// What the effect said.
        #[source]
        source: BoxError,
    },
    /// As many attempts as are allowed had an unknown outcome. The claim is given back, so that it can be tried again
    /// on purpose.
    #[error("{attempts} attempts had no answer; the effect may have happened")]
    UnknownTooOften {
        /// Number of those attempts.
        attempts: u32,
    },
    /// The key belongs to an effect with another payload.
    #[error("the key was used before with another payload")]
    KeyReused,
    /// The lease would end before the effect could: nothing was begun.
    #[error("a lease of {} ms leaves the effect no time; its end takes {} ms", lease.as_millis(), LEASE_MARGIN.as_millis())]
    NoTimeLeft {
        /// The lease that was asked for.
        lease: Duration,
    },
    /// It happened, but what came of it has no JSON form: it is marked as done, without a result.
    #[error("the effect happened, but its result has no JSON form")]
    ResultNotStored(#[source] serde_json::Error),
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl From<IdempotentError> for Failure {
    fn from(error: IdempotentError) -> Self {
        let reason = match error {
            IdempotentError::NotDone(failure) => return failure,
            IdempotentError::Table(error) => return error.into(),
            IdempotentError::Held { retry_in, .. } | IdempotentError::Unknown { retry_in, .. } => {
                return Self::retry_in(retry_in, error);
            }
            IdempotentError::NoTimeLeft { .. } => return Self::transient(error),
            IdempotentError::UnknownTooOften { .. } => "outcome_unknown",
            IdempotentError::KeyReused => "key_reused",
            IdempotentError::ResultNotStored(_) => "result_not_stored",
        };
        Self::poison(reason, ErrorChain(&error))
    }
}

/// The effect had no answer within its time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
struct NoAnswer(Duration);

impl Inbox {
    /// The inbox of `consumer` in `table`, whose key is the text `key`. It goes by the client's clock.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, consumer: impl Into<String>) -> Self {
        let clock = client.config().time_source().into();
        Self {
            client,
            table: table.into(),
            consumer: consumer.into(),
            clock,
            ids: Ids::default(),
            unknown_attempts_max: UNKNOWN_ATTEMPTS_MAX_DEFAULT,
            is_kept_for_ever: false,
        }
    }

    /// Keeps the markers of transactions for ever: right where the effect has no guard of its own and a late delivery, such as a
    /// replay of an old log, would have it again. Leases end all the same.
    #[must_use]
    pub fn keep_for_ever(self) -> Self {
        Self { is_kept_for_ever: true, ..self }
    }

    /// Where the owners of leases come from, instead of the operating system's randomness.
    #[must_use]
    pub fn ids(self, ids: Ids) -> Self {
        Self { ids, ..self }
    }

    /// Maximum number of attempts at one effect with an unknown outcome, instead of 3.
    #[must_use]
    pub fn unknown_attempts_max(self, unknown_attempts_max: u32) -> Self {
        Self { unknown_attempts_max, ..self }
    }

    /// The write that lets a key have its effect once.
    #[must_use]
    pub fn marker<Tag>(&self, key: impl fmt::Display) -> TransactionWrite<Tag> {
        self.marker_with(key, [])
    }

    /// A marker with attributes of the caller's: what the effect has left to do ([`Inbox::find_marker`]).
    pub(crate) fn marker_with<Tag>(
        &self,
        key: impl fmt::Display,
        attributes: impl IntoIterator<Item = (&'static str, AttributeValue)>,
    ) -> TransactionWrite<Tag> {
        let now = self.clock.now();
        let mut put = Put::builder()
            .table_name(&self.table)
            .item("key", self.key(key))
            .item("state", text(DONE))
            .item("done_at", milliseconds(now, Duration::ZERO))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "key");
        if !self.is_kept_for_ever {
            put = put.item("expires_at", seconds(now, MARKER_TTL));
        }
        for (name, value) in attributes {
            put = put.item(name, value);
        }
        let put = put.build().expect("a put has a table and an item");
        TransactionWrite::new(Role::Marker, TransactWriteItem::builder().put(put).build())
    }

    /// The marker of a key, or `None` if the key has had no effect.
    #[cfg(feature = "outbox")]
    pub(crate) async fn find_marker(
        &self,
        key: impl fmt::Display,
    ) -> Result<Option<Item>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("key", self.key(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem marker"))?;
        Ok(answer.item)
    }

    /// Has an effect once that no transaction can hold, and remembers what came of it for [`MARKER_TTL`].
    ///
    /// For the time of the lease nobody else tries. The effect has the lease without [`LEASE_MARGIN`]; what it has
    /// not answered by then is unknown. A process that dies leaves its lease behind, and the next attempt after its
    /// end has the effect again: give the other side the key as an idempotency key where it takes one. An effect
    /// that panics is unknown, too.
    ///
    /// # Errors
    /// [`IdempotentError`], which becomes a [`Failure`] by `?` in a consumer's handler.
    pub async fn idempotent<T, F>(
        &self,
        key: impl Into<EffectKey>,
        lease: Duration,
        effect: impl FnOnce() -> F,
    ) -> Result<Effect<T>, IdempotentError>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, EffectError>>,
    {
        let key = key.into();
        let limit = lease.saturating_sub(LEASE_MARGIN);
        if limit.is_zero() {
            return Err(IdempotentError::NoTimeLeft { lease });
        }
        let owner = self.ids.random();
        let until = self.clock.now() + lease;
        let unknown_attempts = match self.claim(&key, owner, lease).await? {
            Claim::Mine { unknown_attempts } => unknown_attempts,
            Claim::Done { result } => return Ok(Effect::Duplicate(self.stored(result)?)),
            Claim::Held(until) => {
                let retry_in = self.clock.time_until(until);
                return Err(IdempotentError::Held { until, retry_in });
            }
            Claim::KeyReused => return Err(IdempotentError::KeyReused),
        };
        if unknown_attempts >= self.unknown_attempts_max {
            self.forget(&key, owner).await?;
            return Err(IdempotentError::UnknownTooOften { attempts: unknown_attempts });
        }
        // Of the lease, what is left of it after the claim.
        let limit = limit.min(self.clock.time_until(until).saturating_sub(LEASE_MARGIN));
        // The limit is looked at first: what has stood still beyond it, with its process, does not go on. It is dropped before
        // its outcome is noted: an answer that comes meanwhile is nobody's.
        let ended = {
            let effect = pin!(AssertUnwindSafe(async { effect().await }).catch_unwind());
            match select(pin!(tokio::time::sleep(limit)), effect).await {
                Either::Right((ended, _)) => Some(ended),
                Either::Left(_) => None,
            }
        };
        let error = match ended {
            Some(Ok(Ok(result))) => return self.completed(&key, owner, result).await,
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => {
                self.note_unknown(&key, owner, unknown_attempts + 1).await;
                resume_unwind(panic)
            }
            None => EffectError::Unknown(NoAnswer(limit).into()),
        };
        match error {
            EffectError::NotDone(failure) => {
                if let Err(error) = self.release(&key, owner).await {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(error, "a claim was not given back; it ends with its lease");
                }
                Err(IdempotentError::NotDone(failure))
            }
            EffectError::Unknown(source) => {
                self.note_unknown(&key, owner, unknown_attempts + 1).await;
                Err(IdempotentError::Unknown { retry_in: self.clock.time_until(until), source })
            }
        }
    }

    /// What came of an effect that happened before.
    fn stored<T: DeserializeOwned>(&self, result: Option<String>) -> Result<T, TableError> {
        // A marker of a transaction has no result, and neither has an effect that returns nothing.
        serde_json::from_str(result.as_deref().unwrap_or("null"))
            .map_err(TableError::corrupt(&self.table))
    }

    async fn completed<T: Serialize>(
        &self,
        key: &EffectKey,
        owner: Uuid,
        result: T,
    ) -> Result<Effect<T>, IdempotentError> {
        let json = serde_json::to_string(&result);
        // Marked after the effect: a crash between repeats it, never loses it.
        if !self.complete(key, owner, json.as_deref().ok()).await? {
            tracing::warn!("an effect ended after its lease; another attempt may have had it too");
        }
        json.map(|_| Effect::Done(result)).map_err(IdempotentError::ResultNotStored)
    }

    async fn note_unknown(&self, key: &EffectKey, owner: Uuid, attempts: u32) {
        if let Err(error) = self.record_unknown(key, owner, attempts).await {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(
                error,
                "an unknown outcome was not recorded; the lease holds all the same"
            );
        }
    }

    /// Claims an effect for `owner` (new for every attempt) until `lease` has passed.
    ///
    /// # Errors
    /// The table did not answer: whether the claim was stored is unknown. Claim again with the same owner.
    pub async fn claim(
        &self,
        key: &EffectKey,
        owner: Uuid,
        lease: Duration,
    ) -> Result<Claim, TableError> {
        let now = self.clock.now();
        let (set, same) = match key.fingerprint {
            Some(_) => (
                ", fingerprint = :fingerprint",
                " AND (attribute_not_exists(fingerprint) OR fingerprint = :fingerprint)",
            ),
            None => ("", ""),
        };
        let set = match key.subject {
            Some(_) => format!(", claimed_at = :now, subject = :subject{set}"),
            None => format!(", claimed_at = :now{set}"),
        };
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(&key.key))
            .update_expression(format!(
                "SET #state = :in_progress, #owner = :owner, leased_until = :until, expires_at = :expires{set}"
            ))
            .condition_expression(format!(
                "attribute_not_exists(#key) OR (#state = :in_progress AND leased_until <= :now{same})"
            ))
            .expression_attribute_names("#key", "key")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":until", milliseconds(now, lease))
            .expression_attribute_values(":expires", seconds(now, MARKER_TTL))
            .expression_attribute_values(":now", milliseconds(now, Duration::ZERO))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(fingerprint) = &key.fingerprint {
            call = call.expression_attribute_values(":fingerprint", text(fingerprint));
        }
        if let Some(subject) = &key.subject {
            call = call.expression_attribute_values(":subject", text(subject));
        }
        match call.send().await {
            Ok(claimed) => Ok(mine(claimed.attributes.as_ref())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    interpret_refused_claim(&self.table, failed.item(), key, owner)
                }
                _ => Err(CallError::of("UpdateItem claim")(error).into()),
            },
        }
    }

    /// Marks the effect as had, with what came of it as JSON. `false` if the lease ended in the meantime and the claim
    /// is another's now.
    ///
    /// # Errors
    /// The table did not answer: the effect may be repeated when the lease ends.
    pub async fn complete(
        &self,
        key: &EffectKey,
        owner: Uuid,
        result: Option<&str>,
    ) -> Result<bool, TableError> {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(&key.key))
            // The owner stays: the SDK's own retry of a completion that worked must find it.
            .update_expression(match result {
                Some(_) => {
                    "SET #state = :done, done_at = :now, #result = :result REMOVE leased_until"
                }
                None => "SET #state = :done, done_at = :now REMOVE leased_until",
            })
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":done", text(DONE))
            .expression_attribute_values(":now", milliseconds(self.clock.now(), Duration::ZERO))
            .expression_attribute_values(":owner", text(owner));
        if let Some(result) = result {
            call = call
                .expression_attribute_names("#result", "result")
                .expression_attribute_values(":result", text(result));
        }
        is_applied(call.send().await, "UpdateItem completion")
    }

    /// Records that it is unknown whether this attempt had the effect, as the `attempts`-th of its kind. The lease stays:
    /// until it ends nobody tries again. `false` if the claim is another's by now.
    ///
    /// # Errors
    /// The table did not answer: the next attempt does not know of this one.
    pub async fn record_unknown(
        &self,
        key: &EffectKey,
        owner: Uuid,
        attempts: u32,
    ) -> Result<bool, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(&key.key))
            .update_expression("SET unknown_attempts = :attempts")
            .condition_expression(OWNED_IN_PROGRESS)
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":attempts", number(attempts))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .send()
            .await;
        is_applied(sent, "UpdateItem claim")
    }

    /// Gives a claim back because the effect failed, so that the next attempt need not wait for its end. Unknown
    /// outcomes before stay counted. `false` if the claim is another's by now, or completed: then it stays as it is.
    ///
    /// # Errors
    /// The table did not answer: the next attempt waits for the lease's end.
    pub async fn release(&self, key: &EffectKey, owner: Uuid) -> Result<bool, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(&key.key))
            .update_expression("SET leased_until = :released REMOVE fingerprint")
            .condition_expression(OWNED_IN_PROGRESS)
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":released", number(0))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .send()
            .await;
        is_applied(sent, "UpdateItem claim")
    }

    /// Gives a claim back and forgets its unknown outcomes.
    async fn forget(&self, key: &EffectKey, owner: Uuid) -> Result<bool, TableError> {
        let sent = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("key", self.key(&key.key))
            .condition_expression(OWNED_IN_PROGRESS)
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .send()
            .await;
        is_applied(sent, "DeleteItem claim")
    }

    fn key(&self, key: impl fmt::Display) -> AttributeValue {
        text(format!("{}#{key}", self.consumer))
    }
}

/// What a claim that was refused has found.
fn interpret_refused_claim(
    table: &str,
    found: Option<&Item>,
    key: &EffectKey,
    owner: Uuid,
) -> Result<Claim, TableError> {
    let field = |name: &str| found.and_then(|item| item.get(name));
    let text_of = |name: &str| field(name).and_then(|value| value.as_s().ok());
    let is = |name: &str, wanted: &str| text_of(name).is_some_and(|value| value == wanted);
    if let (Some(known), Some(asked)) = (text_of("fingerprint"), &key.fingerprint)
        && known != asked
    {
        return Ok(Claim::KeyReused);
    }
    if is("state", DONE) {
        return Ok(Claim::Done { result: text_of("result").cloned() });
    }
    // The claim was carried out, its answer was lost, and the SDK's retry met what it had written itself.
    if is("owner", &owner.to_string()) {
        return Ok(mine(found));
    }
    field("leased_until")
        .and_then(|until| until.as_n().ok()?.parse().ok())
        .and_then(|until| Timestamp::from_millisecond(until).ok())
        .map(Claim::Held)
        .ok_or("a marker has state, owner and leased_until")
        .map_err(TableError::corrupt(table))
}

/// A claim that the caller has, by its item.
fn mine(item: Option<&Item>) -> Claim {
    let unknown = item.and_then(|item| item.get("unknown_attempts")?.as_n().ok()?.parse().ok());
    Claim::Mine { unknown_attempts: unknown.unwrap_or_default() }
}

fn milliseconds(now: Timestamp, later: Duration) -> AttributeValue {
    let later = i64::try_from(later.as_millis()).unwrap_or(i64::MAX);
    number(now.as_millisecond().saturating_add(later))
}

fn seconds(now: Timestamp, later: Duration) -> AttributeValue {
    let later = i64::try_from(later.as_secs()).unwrap_or(i64::MAX);
    number(now.as_second().saturating_add(later))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_claim_is_interpreted_by_what_it_met() {
        let (me, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key = EffectKey::new("a").payload("b");
        let item = |state: &str, owner: Uuid, fingerprint: Option<&String>| {
            let mut item = Item::from([
                ("state".to_owned(), text(state)),
                ("owner".to_owned(), text(owner)),
                ("leased_until".to_owned(), AttributeValue::N("1000".into())),
                ("unknown_attempts".to_owned(), AttributeValue::N("2".into())),
                ("result".to_owned(), text("7")),
            ]);
            if let Some(fingerprint) = fingerprint {
                item.insert("fingerprint".to_owned(), text(fingerprint));
            }
            item
        };
        let claim = |item: &Item| interpret_refused_claim("t", Some(item), &key, me).ok();
        let same = key.fingerprint.as_ref();
        let done = Some(Claim::Done { result: Some("7".into()) });
        assert_eq!(claim(&item(DONE, other, same)), done);
        assert_eq!(claim(&item(DONE, other, None)), done);
        let until = Timestamp::from_millisecond(1000).expect("in range");
        assert_eq!(claim(&item(IN_PROGRESS, me, same)), Some(Claim::Mine { unknown_attempts: 2 }));
        assert_eq!(claim(&item(IN_PROGRESS, other, same)), Some(Claim::Held(until)));
        let another = Some(&"of another payload".to_owned());
        assert_eq!(claim(&item(DONE, other, another)), Some(Claim::KeyReused));
        assert_eq!(claim(&item(IN_PROGRESS, other, another)), Some(Claim::KeyReused));
        assert!(interpret_refused_claim("t", None, &key, me).is_err());
    }
}
