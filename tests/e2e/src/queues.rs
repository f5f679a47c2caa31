//! The stack's queues and topic, from outside.

use anyhow::{Context, Result};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use events::{Body, CorrelationId, Event};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Stack,
    wait::{Seconds, eventually},
};

/// A queue by what it is called in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Queue {
    Product,
    Notification,
    /// Those events for the same consumer that are of orders with high priority, where there are such.
    NotificationPriority,
    Order,
    /// Where orders are paid by Stripe.
    Payment,
    /// Where customers follow their orders over WebSockets.
    Push,
    /// What SES says of mails.
    Feedback,
    /// What is counted by day.
    Analytics,
}

/// An event that happens now.
#[must_use]
pub fn new_event(correlation_id: CorrelationId, body: Body) -> Event {
    Event { id: Uuid::now_v7(), timestamp: Timestamp::now().into(), correlation_id, body }
}

impl Queue {
    /// Those of every stack.
    pub const ALL: [Self; 4] = [Self::Product, Self::Notification, Self::Order, Self::Analytics];

    /// As the settings write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "PRODUCT",
            Self::Notification => "NOTIFICATION",
            Self::NotificationPriority => "NOTIFICATION_PRIORITY",
            Self::Order => "ORDER",
            Self::Payment => "PAYMENT",
            Self::Push => "PUSH",
            Self::Feedback => "FEEDBACK",
            Self::Analytics => "ANALYTICS",
        }
    }
}

impl Stack {
    #[must_use]
    pub fn queue(&self, queue: Queue) -> &str {
        self.setting(&format!("{}_QUEUE_URL", queue.name()))
    }

    #[must_use]
    pub fn dlq(&self, queue: Queue) -> &str {
        self.setting(&format!("{}_DLQ_URL", queue.name()))
    }

    /// Publishes an event as its producer does.
    ///
    /// # Errors
    /// SNS refused it.
    pub async fn publish(&self, event: &str) -> Result<()> {
        let json: Value = serde_json::from_str(event)?;
        let event_type = json["event_type"].as_str().context("an event has a type")?;
        let attribute = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(event_type)
            .build()?;
        self.sns
            .publish()
            .topic_arn(self.setting("TOPIC_ARN"))
            .message(event)
            .message_attributes("event_type", attribute)
            .send()
            .await?;
        Ok(())
    }

    /// Puts a body on a queue, past the topic.
    ///
    /// # Errors
    /// SQS refused it.
    pub async fn send(&self, queue_url: &str, body: &str) -> Result<()> {
        self.sqs.send_message().queue_url(queue_url).message_body(body).send().await?;
        Ok(())
    }

    /// Messages of a queue that are waiting, in flight or delayed.
    ///
    /// # Errors
    /// SQS did not answer.
    pub async fn messages(&self, queue_url: &str) -> Result<u64> {
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(queue_url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(count(QueueAttributeName::ApproximateNumberOfMessages)
            + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
            + count(QueueAttributeName::ApproximateNumberOfMessagesDelayed))
    }

    /// Waits until nothing is left on a queue, in flight or delayed.
    ///
    /// # Errors
    /// Something stays.
    pub async fn wait_until_drained(&self, queue: Queue) -> Result<()> {
        let subject = format!("the queue {} to be empty", queue.name());
        eventually(&subject, 120.secs(), async || {
            Ok((self.messages(self.queue(queue)).await? == 0).then_some(()))
        })
        .await
    }

    /// Looks for a message whose body has `text` in it. It stays on the queue.
    ///
    /// # Errors
    /// None comes.
    pub async fn message_with(&self, queue_url: &str, text: &str) -> Result<Message> {
        eventually(&format!("a message with {text} on {queue_url}"), 180.secs(), async || {
            let answer = self
                .sqs
                .receive_message()
                .queue_url(queue_url)
                .max_number_of_messages(10)
                .visibility_timeout(1)
                .wait_time_seconds(1)
                .message_attribute_names("All")
                .message_system_attribute_names(aws_sdk_sqs::types::MessageSystemAttributeName::All)
                .send()
                .await?;
            let mut messages = answer.messages.unwrap_or_default().into_iter();
            Ok(messages.find(|m| m.body().is_some_and(|body| body.contains(text))))
        })
        .await
    }
}
