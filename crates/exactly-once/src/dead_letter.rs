//! A message becomes a dead letter: its body and attributes, and what is wrong with it.
//!
//! In: a message and a failure. Out: what SQS takes as a message of the DLQ. Guarantee: no text that SQS refuses keeps a
//! message from being moved.

use aws_lambda_events::event::sqs::SqsMessage;
use aws_sdk_sqs::{
    operation::send_message::builders::SendMessageFluentBuilder, types::MessageAttributeValue,
};
use jiff::Timestamp;

/// Maximum number of attributes of one message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>
const ATTRIBUTES_MAX: usize = 10;
const DETAIL_CHARS_MAX: usize = 1000;

/// The attributes that a dead letter has besides its message's own: what sends it to its queue again leaves them out.
pub const FAILURE_ATTRIBUTES: [&str; 6] = [
    "failure_reason",
    "failure_detail",
    "failed_at",
    "first_failed_at",
    "original_message_id",
    "consumer",
];

/// What is wrong with a message, and since when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetter<'a> {
    pub message: &'a SqsMessage,
    pub consumer: &'a str,
    pub reason: &'a str,
    pub detail: &'a str,
    pub failed_at: Timestamp,
    pub first_failed_at: Timestamp,
}

impl DeadLetter<'_> {
    /// Fills in the call that sends it. In a FIFO queue it keeps its group, and one message becomes one dead letter.
    pub(crate) fn fill(
        &self,
        mut call: SendMessageFluentBuilder,
        is_fifo: bool,
    ) -> SendMessageFluentBuilder {
        let message_id = self.message.message_id.clone().unwrap_or_default();
        if is_fifo {
            let group_id = self.message.attributes.get("MessageGroupId");
            call = call
                .message_group_id(group_id.unwrap_or(&message_id))
                .message_deduplication_id(&message_id);
        }
        let values: [String; FAILURE_ATTRIBUTES.len()] = [
            self.reason.to_owned(),
            printable(self.detail),
            format!("{:.3}", self.failed_at),
            format!("{:.3}", self.first_failed_at),
            message_id,
            self.consumer.to_owned(),
        ];
        let mut original: Vec<_> = self
            .message
            .message_attributes
            .iter()
            .filter(|(name, _)| !FAILURE_ATTRIBUTES.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name, escape_refused(value.string_value.as_ref()?))))
            .collect();
        original.sort();
        original.truncate(ATTRIBUTES_MAX - FAILURE_ATTRIBUTES.len());
        let original = original.into_iter().map(|(name, value)| (name.clone(), value));
        let own = FAILURE_ATTRIBUTES.map(str::to_owned).into_iter().zip(values);
        for (name, value) in original.chain(own).filter(|(_, value)| !value.is_empty()) {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .expect("an attribute has a type");
            call = call.message_attributes(name, value);
        }
        call.message_body(escape_refused(self.message.body.as_deref().unwrap_or_default()))
    }
}

/// What SQS takes in an attribute: a bounded text without control characters.
fn printable(text: &str) -> String {
    text.chars()
        .take(DETAIL_CHARS_MAX)
        .map(|c| if c.is_control() || is_refused(c) { ' ' } else { c })
        .collect()
}

/// A text with the characters that SQS refuses as JSON escapes: in a JSON text they mean the same. SNS delivers what
/// SendMessage refuses.
fn escape_refused(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_refused(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether SQS refuses a message with this character in it.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn is_refused(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_detail_holds_nothing_that_sqs_refuses() {
        assert_eq!(printable("a\u{0}b\nc\u{ffff}"), "a b c ");
        assert_eq!(printable(&"x".repeat(5000)).len(), DETAIL_CHARS_MAX);
    }

    #[test]
    fn a_character_that_sqs_refuses_is_escaped_and_means_the_same() {
        let body = "{\"name\":\"a\u{fffe}b\u{ffff}\u{1}\",\"ж\":\"\u{1f600}\"}";
        let escaped = escape_refused(body);
        assert!(!escaped.chars().any(is_refused), "{escaped}");
        assert!(escaped.contains(r"a\ufffeb\uffff\u0001"), "{escaped}");
        assert!(escaped.contains("ж") && escaped.contains('\u{1f600}'), "{escaped}");
    }
}
