//! An event takes effect once.
//!
//! In: the id of an event. Out: whether its effect is still to be had. Two forms:
//!
//! - **Marker** ([`Inbox::marker`]): a put that fails if it is there, as one write of the transaction that has
//!   the effect. Survives a crash anywhere, because marker and effect exist together or not at all.
//! - **Lease** ([`Inbox::claim`], [`Inbox::complete`], [`Inbox::release`], [`Inbox::record_unknown`]): for an effect
//!   that no transaction can hold, such as a mail. Whoever claims first is the owner until the lease ends; completion,
//!   release and the record of an unknown outcome are conditional on the owner, so that a late first attempt cannot
//!   overwrite its successor. It is marked after the effect: a crash between repeats the effect, never loses it. An
//!   effect whose outcome is unknown keeps its lease, and the next claim learns how many such attempts there were.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{
        AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    },
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    CallError, Item, Role, TableError, TransactionWrite,
    table::{is_applied, number, text},
};

/// How long a marker is kept: longer than queue retention (4 days) and DLQ retention (14 days) together, so
/// that a redriven event still meets the marker of its first delivery.
pub const MARKER_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const DONE: &str = "done";
const IN_PROGRESS: &str = "in_progress";

/// The markers of one consumer.
#[derive(Debug, Clone)]
pub struct Inbox {
    client: Client,
    table: String,
    consumer: String,
}

/// Whose the effect of an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller's, until the lease ends.
    Mine {
        /// Number of earlier attempts of which it is unknown whether they had the effect.
        unknown_attempts: u32,
    },
    /// Nobody's: it has been had.
    Done,
    /// Another's, until this moment.
    Held(Timestamp),
}

impl Inbox {
    /// The inbox of `consumer` in `table`, whose key is the text `key`.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self { client, table: table.into(), consumer: consumer.into() }
    }

    /// The write that lets an event have its effect once.
    #[must_use]
    pub fn marker<Tag>(&self, event_id: Uuid, now: Timestamp) -> TransactionWrite<Tag> {
        let put = Put::builder()
            .table_name(&self.table)
            .item("key", self.key(event_id))
            .item("state", text(DONE))
            .item("expires_at", seconds(now, MARKER_TTL))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "key")
            .build()
            .expect("a put has a table and an item");
        TransactionWrite::new(Role::Marker, TransactWriteItem::builder().put(put).build())
    }

    /// Claims the effect of an event for `owner` (new for every attempt) until `lease` has passed.
    ///
    /// # Errors
    /// The table did not answer: whether the claim was stored is unknown. Claim again with the same owner.
    pub async fn claim(
        &self,
        event_id: Uuid,
        owner: Uuid,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Claim, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(event_id))
            .update_expression(
                "SET #state = :in_progress, #owner = :owner, leased_until = :until, expires_at = :expires",
            )
            .condition_expression(
                "attribute_not_exists(#key) OR (#state = :in_progress AND leased_until <= :now)",
            )
            .expression_attribute_names("#key", "key")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":until", milliseconds(now, lease))
            .expression_attribute_values(":expires", seconds(now, MARKER_TTL))
            .expression_attribute_values(":now", milliseconds(now, Duration::ZERO))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(claimed) => Ok(mine(claimed.attributes.as_ref())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    interpret_refused_claim(&self.table, failed.item(), owner)
                }
                _ => Err(CallError::of("UpdateItem claim")(error).into()),
            },
        }
    }

    /// Marks the effect as had. `false` if the lease ended in the meantime and the claim is another's now.
    ///
    /// # Errors
    /// The table did not answer: the effect may be repeated when the lease ends.
    pub async fn complete(&self, event_id: Uuid, owner: Uuid) -> Result<bool, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(event_id))
            // The owner stays: the SDK's own retry of a completion that worked must find it.
            .update_expression("SET #state = :done REMOVE leased_until")
            .condition_expression("#owner = :owner")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":done", text(DONE))
            .expression_attribute_values(":owner", text(owner))
            .send()
            .await;
        is_applied(sent, "UpdateItem completion")
    }

    /// Records that it is unknown whether this attempt had the effect, as the `attempts`-th of its kind. The lease stays:
    /// until it ends nobody tries again. `false` if the claim is another's by now.
    ///
    /// # Errors
    /// The table did not answer: the next attempt does not know of this one.
    pub async fn record_unknown(
        &self,
        event_id: Uuid,
        owner: Uuid,
        attempts: u32,
    ) -> Result<bool, TableError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", self.key(event_id))
            .update_expression("SET unknown_attempts = :attempts")
            .condition_expression("#owner = :owner AND #state = :in_progress")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":attempts", number(attempts))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .send()
            .await;
        is_applied(sent, "UpdateItem claim")
    }

    /// Gives a claim back because the effect failed, so that the next attempt need not wait for its end. `false`
    /// if the claim is another's by now, or completed: then it stays as it is.
    ///
    /// # Errors
    /// The table did not answer: the next attempt waits for the lease's end.
    pub async fn release(&self, event_id: Uuid, owner: Uuid) -> Result<bool, TableError> {
        let sent = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key("key", self.key(event_id))
            .condition_expression("#owner = :owner AND #state = :in_progress")
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .send()
            .await;
        is_applied(sent, "DeleteItem claim")
    }

    fn key(&self, event_id: Uuid) -> AttributeValue {
        text(format!("{}#{event_id}", self.consumer))
    }
}

/// What a claim that was refused has found.
fn interpret_refused_claim(
    table: &str,
    found: Option<&Item>,
    owner: Uuid,
) -> Result<Claim, TableError> {
    let field = |name: &str| found.and_then(|item| item.get(name));
    let is = |name: &str, wanted: &str| {
        field(name).and_then(|v| v.as_s().ok()).is_some_and(|v| v == wanted)
    };
    if is("state", DONE) {
        return Ok(Claim::Done);
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
        let (me, other) = (Uuid::now_v7(), Uuid::now_v7());
        let held = |owner: Uuid| {
            Item::from([
                ("state".to_owned(), text(IN_PROGRESS)),
                ("owner".to_owned(), text(owner)),
                ("leased_until".to_owned(), AttributeValue::N("1000".into())),
                ("unknown_attempts".to_owned(), AttributeValue::N("2".into())),
            ])
        };
        let done = Item::from([("state".to_owned(), text(DONE))]);
        assert_eq!(interpret_refused_claim("t", Some(&done), me).ok(), Some(Claim::Done));
        assert_eq!(
            interpret_refused_claim("t", Some(&held(me)), me).ok(),
            Some(Claim::Mine { unknown_attempts: 2 })
        );
        let until = Timestamp::from_millisecond(1000).expect("in range");
        assert_eq!(
            interpret_refused_claim("t", Some(&held(other)), me).ok(),
            Some(Claim::Held(until))
        );
        assert!(interpret_refused_claim("t", None, me).is_err());
    }
}
