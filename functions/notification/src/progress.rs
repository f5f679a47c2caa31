//! How far the mails of an order have come, so that one which has been overtaken says so.
//!
//! In: an order and the stage that a mail reports. Out: whether a mail of a later stage was begun before. Guarantee: the
//! stage of an order only grows, so that no customer takes a late "created" for the present state after "rejected". One item an order in the
//! idempotency table, with the life of a marker; an order that has none is at its first stage, which is not written.

use aws_sdk_dynamodb::Client;
use events::{EventType, OrderId};
use exactly_once::{
    CallError, TableError,
    inbox::MARKER_TTL,
    table::{is_applied, number, text},
};
use jiff::Timestamp;

/// The stage of an order of which nothing is noted.
const FIRST_STAGE: u8 = 0;

/// The stage of an order that the mail about an event reports: a later stage overtakes an earlier one.
pub(crate) fn stage(event_type: EventType) -> u8 {
    match event_type {
        EventType::OrderConfirmed | EventType::OrderRejected => 1,
        EventType::OrderCancelled | EventType::OrderShipped | EventType::OrderExpired => 2,
        // Before the order is decided; and what nobody is mailed about.
        EventType::OrderCreated
        | EventType::OrderAwaitingPayment
        | EventType::OrderPaymentReminder
        | EventType::OrderPaymentOverdue
        | EventType::StockReserved
        | EventType::StockReleased
        | EventType::StockRejected
        | EventType::PaymentRequested
        | EventType::PaymentSucceeded
        | EventType::PaymentFailed
        | EventType::PaymentCancelled
        | EventType::PaymentRefunded => FIRST_STAGE,
    }
}

/// The stages that orders' mails have come to.
#[derive(Debug, Clone)]
pub(crate) struct MailProgress {
    client: Client,
    table: String,
}

impl MailProgress {
    pub(crate) fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Notes that a mail of this stage is begun. `false` if one of a later stage was begun before.
    ///
    /// # Errors
    /// The table did not answer: noting the same again is harmless.
    pub(crate) async fn advance(
        &self,
        order: &OrderId,
        stage: u8,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        if stage == FIRST_STAGE {
            return Ok(self.stage(order).await? == FIRST_STAGE);
        }
        let ttl = i64::try_from(MARKER_TTL.as_secs()).unwrap_or(i64::MAX);
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", text(format!("mails#{order}")))
            .update_expression("SET stage = :stage, expires_at = :expires")
            .condition_expression("attribute_not_exists(stage) OR stage <= :stage")
            .expression_attribute_values(":stage", number(stage))
            .expression_attribute_values(":expires", number(now.as_second().saturating_add(ttl)))
            .send()
            .await;
        is_applied(sent, "UpdateItem mail progress")
    }
    /// The stage that an order's mails have come to, as the last write left it.
    async fn stage(&self, order: &OrderId) -> Result<u8, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("key", text(format!("mails#{order}")))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem mail progress"))?;
        let Some(item) = answer.item else { return Ok(FIRST_STAGE) };
        let stage = item.get("stage").and_then(|stage| stage.as_n().ok());
        stage
            .map_or("", String::as_str)
            .parse()
            .map_err(TableError::corrupt::<std::num::ParseIntError>(&self.table))
    }
}
