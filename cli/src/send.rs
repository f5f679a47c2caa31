//! Sending messages to a queue in batches.
//!
//! In: bodies with attributes. Out: which of them the queue took. Guarantee: every entry of every answer is read;
//! a failed entry is tried again a few times and then reported, never passed over.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};

pub(crate) use exactly_once::batching::ENTRIES_MAX;
use exactly_once::batching::batches;

use crate::{error::CliError, stack::Stack};

const ATTEMPTS_MAX: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub body: String,
    pub attributes: HashMap<String, MessageAttributeValue>,
}

impl Message {
    /// Its size as SQS counts it, in bytes of body and attributes.
    pub(crate) fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| {
            let text = value.string_value().map_or(0, str::len);
            name.len()
                + value.data_type().len()
                + text
                + value.binary_value().map_or(0, |b| b.as_ref().len())
        });
        self.body.len() + attributes.sum::<usize>()
    }
}

pub(crate) fn text_attribute(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .expect("an attribute has a type")
}

/// How many messages from the front fit into one call.
pub(crate) fn first_batch(messages: &[Message]) -> usize {
    batches(messages, Message::bytes).first().map_or(0, |batch| batch.len())
}

/// Sends at most [`ENTRIES_MAX`] messages, and says of each whether the queue took it and why not.
///
/// # Errors
/// The queue did not answer at all: whether it took any is unknown.
pub(crate) async fn send(
    stack: &Stack,
    queue_url: &str,
    messages: &[Message],
) -> Result<Vec<Result<(), String>>, CliError> {
    let mut fates: Vec<Result<(), String>> =
        vec![Err("the answer does not name it".to_owned()); messages.len()];
    let mut left: Vec<usize> = (0..messages.len()).collect();
    for attempt in 1..=ATTEMPTS_MAX {
        let mut batch = stack.sqs.send_message_batch().queue_url(queue_url);
        for &index in &left {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .message_body(&messages[index].body)
                .set_message_attributes(Some(messages[index].attributes.clone()))
                .build()
                .expect("an entry has an id and a body");
            batch = batch.entries(entry);
        }
        let answer = batch.send().await?;
        let mut again = Vec::new();
        for entry in answer.successful() {
            if let Some(fate) = entry.id().parse().ok().and_then(|i: usize| fates.get_mut(i)) {
                *fate = Ok(());
            }
        }
        for entry in answer.failed() {
            let Ok(index) = entry.id().parse::<usize>() else { continue };
            let why = format!("{}: {}", entry.code(), entry.message().unwrap_or("no reason given"));
            if let Some(fate) = fates.get_mut(index) {
                *fate = Err(why);
            }
            if !entry.sender_fault() {
                again.push(index);
            }
        }
        left = again;
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(RETRY_PAUSE * attempt).await;
    }
    Ok(fates)
}
