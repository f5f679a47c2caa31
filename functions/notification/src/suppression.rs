//! The addresses that are not mailed any more.
//!
//! In: what SES says of an address; whether one may be mailed. Out: one item an address, in a table of its own, which has to
//! outlive both the stack and the markers. Guarantee: an address is one whatever the case of its letters, and the first
//! reason stays until an operator removes it.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use events::Email;
use exactly_once::{
    CallError, Clock, Consumer, Failure, Handled, Message, TableError,
    table::{is_applied, text},
};
use jiff::Timestamp;
use messaging::ConsumerConfig;
use settings::Environment;

use crate::feedback::{SuppressionReason, parse_feedback};

const CONSUMER: &str = "notification-feedback-consumer";

/// The table of suppressed addresses.
#[derive(Debug, Clone)]
pub struct SuppressedAddresses {
    client: Client,
    table: String,
}

impl SuppressedAddresses {
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Whether this address is not to be mailed.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn contains(&self, address: &Email) -> Result<bool, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("email", text(address.mailbox()))
            // What decides is read as the last write left it.
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem suppressed address"))?;
        Ok(answer.item.is_some())
    }

    /// Has it mailed no more. `false` if it is so already.
    ///
    /// # Errors
    /// The table did not answer: asking again is harmless.
    pub async fn add(
        &self,
        address: &Email,
        reason: SuppressionReason,
        mail_id: &str,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        let sent = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("email", text(address.mailbox()))
            .item("reason", text(reason.as_str()))
            .item("mail_id", text(mail_id))
            .item("suppressed_at", text(format!("{now:.3}")))
            .condition_expression("attribute_not_exists(email)")
            .send()
            .await;
        is_applied(sent, "PutItem suppressed address")
    }
}

/// The settings of notification-feedback-consumer.
#[derive(Debug)]
pub struct FeedbackConfig {
    consumer: ConsumerConfig,
    suppressed_table: String,
}

impl FeedbackConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let consumer = ConsumerConfig::read(environment);
        let suppressed_table = environment.text("SUPPRESSED_TABLE");
        Some(Self { consumer: consumer?, suppressed_table: suppressed_table? })
    }

    /// The consumer of the queue `feedback`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig) -> (Consumer, FeedbackHandler) {
        let handler = FeedbackHandler {
            suppressed: SuppressedAddresses::new(Client::new(aws), self.suppressed_table),
            clock: aws.time_source().into(),
        };
        (self.consumer.consumer(aws, CONSUMER), handler)
    }
}

/// Suppresses what SES says cannot or must not be mailed.
#[derive(Debug)]
pub struct FeedbackHandler {
    suppressed: SuppressedAddresses,
    clock: Clock,
}

impl FeedbackHandler {
    /// Handles one message of SES. Its redelivery finds the addresses suppressed already.
    ///
    /// # Errors
    /// It is none of SES's, or the table did not answer.
    pub async fn handle(&self, message: Message) -> Result<Handled, Failure> {
        let feedback = parse_feedback(&message.body)
            .map_err(|error| Failure::poison(error.reason(), error))?;
        let Some(feedback) = feedback else { return Ok(Handled::Ignored) };
        let mut is_new = false;
        for address in &feedback.addresses {
            let now = self.clock.now();
            is_new |= self.suppressed.add(address, feedback.reason, &feedback.mail_id, now).await?;
        }
        Ok(if is_new { Handled::Done } else { Handled::Duplicate })
    }
}
