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

/// The attributes that a dead letter has besides its message's own; these may be five. When it died its own
/// `SentTimestamp` says, and whose it is its DLQ.
const FAILURE_ATTRIBUTES: [&str; 5] =
    ["failure_reason", "failure_detail", "first_failed_at", "original_message_id", "attempts"];
/// Those that dead letters had before: a DLQ keeps them for 14 days, and one that is dropped is kept in a file for longer.
const FORMER_FAILURE_ATTRIBUTES: [&str; 2] = ["failed_at", "consumer"];

/// Whether a dead letter has this attribute because it failed, and not from its message: what sends it to its queue again
/// leaves it out.
#[must_use]
pub fn is_failure_attribute(name: &str) -> bool {
    FAILURE_ATTRIBUTES.contains(&name) || FORMER_FAILURE_ATTRIBUTES.contains(&name)
}

/// What is wrong with a message, since when, and how often it was received until it was given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadLetter<'a> {
    pub message: &'a SqsMessage,
    pub reason: &'a str,
    pub detail: &'a str,
    pub first_failed_at: Timestamp,
    pub attempts: u32,
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
            format!("{:.3}", self.first_failed_at),
            message_id,
            self.attempts.to_string(),
        ];
        let mut original: Vec<_> = self
            .message
            .message_attributes
            .iter()
            // SQS's own redrive has kept those of the failure before.
            .filter(|(name, _)| !is_failure_attribute(name))
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
    use std::collections::BTreeMap;

    use aws_lambda_events::event::sqs::SqsMessageAttribute;

    use super::*;

    /// The attributes with which a message of these is sent to the DLQ.
    fn attributes_when_dead(own: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut message = SqsMessage::default();
        message.message_id = Some("m1".into());
        for (name, value) in own {
            let mut attribute = SqsMessageAttribute::default();
            attribute.string_value = Some((*value).to_owned());
            message.message_attributes.insert((*name).to_owned(), attribute);
        }
        let (reason, detail, attempts) = ("schema", "data.items: missing", 3);
        let first_failed_at = "2025-11-20T11:00:00Z".parse().expect("a moment");
        let letter = DeadLetter { message: &message, reason, detail, first_failed_at, attempts };
        let config = aws_sdk_sqs::Config::builder().behavior_version_latest().build();
        let call = aws_sdk_sqs::Client::from_conf(config).send_message();
        let call = letter.fill(call, false);
        let attributes = call.get_message_attributes().iter().flatten();
        let text = |value: &MessageAttributeValue| value.string_value().map(str::to_owned);
        attributes.map(|(name, value)| (name.clone(), text(value).expect("a text"))).collect()
    }

    #[test]
    fn a_dead_letter_keeps_five_attributes_of_its_message_beside_those_of_its_failure() {
        let own = [
            ("correlation_id", "c"),
            ("event_type", "OrderCreated"),
            ("event_version", "1.0"),
            ("priority", "high"),
            ("traceparent", "00-1"),
        ];
        let failure = [
            ("attempts", "3"),
            ("failure_detail", "data.items: missing"),
            ("failure_reason", "schema"),
            ("first_failed_at", "2025-11-20T11:00:00.000Z"),
            ("original_message_id", "m1"),
        ];
        let expected = own.iter().chain(&failure);
        let expected = expected.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(attributes_when_dead(&own), expected.collect());
    }

    #[test]
    fn what_a_message_has_of_an_earlier_failure_does_not_stay() {
        let earlier = [
            ("attempts", "7"),
            ("consumer", "product-consumer"),
            ("failed_at", "2025-10-01T00:00:00.000Z"),
            ("traceparent", "00-1"),
        ];
        let dead = attributes_when_dead(&earlier);
        assert_eq!((dead["attempts"].as_str(), dead["traceparent"].as_str()), ("3", "00-1"));
        assert!(!dead.contains_key("failed_at") && !dead.contains_key("consumer"), "{dead:?}");
    }

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
