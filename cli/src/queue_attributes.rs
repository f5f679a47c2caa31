//! What SQS says of a queue.
//!
//! In: a queue's URL. Out: how many messages it has, and its ARN, by one call. Guarantee: reads only.

use aws_sdk_sqs::types::QueueAttributeName;

use crate::{error::CliError, stack::Stack};

/// Of one queue, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueAttributes {
    pub arn: String,
    /// Number of messages: waiting, in flight, delayed.
    pub counts: [u64; 3],
}

impl QueueAttributes {
    /// Whether no message is waiting, in flight or delayed.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }
}

/// Asks SQS.
///
/// # Errors
/// It does not answer, or names no ARN.
pub(crate) async fn read(stack: &Stack, url: &str) -> Result<QueueAttributes, CliError> {
    const COUNTS: [QueueAttributeName; 3] = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let call = stack.sqs.get_queue_attributes().queue_url(url);
    let call = call.set_attribute_names(Some(COUNTS.to_vec()));
    let answer = call.attribute_names(QueueAttributeName::QueueArn).send().await?;
    let mut attributes = answer.attributes.unwrap_or_default();
    let counts =
        COUNTS.map(|name| attributes.get(&name).and_then(|n| n.parse().ok()).unwrap_or_default());
    let arn = attributes.remove(&QueueAttributeName::QueueArn);
    let arn = arn.ok_or_else(|| CliError::NotDone(format!("SQS does not say the ARN of {url}")))?;
    Ok(QueueAttributes { arn, counts })
}
