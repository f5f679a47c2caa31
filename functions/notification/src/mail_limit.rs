//! How many mails one address gets in a day, if there is a limit: whoever orders in a stranger's name does not flood the
//! stranger.
//!
//! In: an address and the event that it is to be mailed about. Out: whether it is. Guarantees: counted by one conditional
//! update of one item a day and address, for all environments together; an event counts once, however often it is tried.

use std::num::NonZeroU32;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use events::Email;
use exactly_once::{
    TableError,
    table::{is_applied, number, text},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Counts the mails of each address, in the table of idempotency keys.
#[derive(Debug, Clone)]
pub(crate) struct MailLimit {
    client: Client,
    table: String,
    mails_per_day: Option<NonZeroU32>,
}

impl MailLimit {
    /// Without `mails_per_day` everything is admitted, and nothing is counted.
    pub(crate) fn new(
        client: Client,
        table: impl Into<String>,
        mails_per_day: Option<NonZeroU32>,
    ) -> Self {
        Self { client, table: table.into(), mails_per_day }
    }

    /// Whether this event may be mailed to this address today.
    ///
    /// # Errors
    /// The table did not answer: asking again is harmless.
    pub(crate) async fn admit(
        &self,
        address: &Email,
        event: Uuid,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        let Some(max) = self.mails_per_day else { return Ok(true) };
        let day = now.as_second().div_euclid(DAY_SECONDS);
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", text(format!("notification-address#{}#{day}", digest_of(address))))
            .update_expression("SET expires_at = :end ADD events :events")
            .condition_expression(
                "attribute_not_exists(events) OR contains(events, :event) OR size(events) < :max",
            )
            .expression_attribute_values(":end", number((day + 1) * DAY_SECONDS))
            .expression_attribute_values(":events", AttributeValue::Ss(vec![event.to_string()]))
            .expression_attribute_values(":event", text(event.to_string()))
            .expression_attribute_values(":max", number(max.get()))
            .send()
            .await;
        is_applied(sent, "UpdateItem address's mails")
    }
}

/// The address itself is not stored: a key would outlive the request of a customer to be forgotten.
fn digest_of(address: &Email) -> String {
    let digest = Sha256::digest(address.mailbox());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
