//! What SES says of mails that were sent: that an address cannot be reached, or that its owner complained.
//!
//! In: the messages that SES publishes, as event publishing or as a notification of an identity writes them. Out: the
//! addresses that are not to be mailed any more, and why. Guarantees: an address that is only out of reach for now (a full
//! mailbox) is none of them; of what else SES may say, nothing is an error.
//!
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>

use std::fmt;

use events::Email;
use serde::{Deserialize, Serialize};

/// Why an address is not mailed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuppressionReason {
    /// It does not exist, or its host refuses it for good.
    Bounce,
    /// Its owner called a mail spam.
    Complaint,
}

impl SuppressionReason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
        }
    }
}

impl fmt::Display for SuppressionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one message of SES calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Whom to mail no more. None, if the failure passes or the message is about something else.
    pub addresses: Vec<Email>,
    pub reason: SuppressionReason,
    /// The mail's id at SES.
    pub mail_id: String,
}

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    #[error("the body is no JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("it is not as SES writes bounces and complaints")]
    Schema(#[source] serde_json::Error),
    #[error("it names no recipient whose address can be read")]
    NoAddress,
}

impl FeedbackError {
    /// The failure reason of its dead letter.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::Schema(_) | Self::NoAddress => "schema",
        }
    }
}

#[derive(Deserialize)]
struct Message {
    /// By event publishing, or by an identity's notifications.
    #[serde(alias = "notificationType", rename = "eventType")]
    kind: String,
    mail: MailObject,
    bounce: Option<Bounce>,
    complaint: Option<Complaint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MailObject {
    message_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounce {
    bounce_type: String,
    bounced_recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complaint {
    complained_recipients: Vec<Recipient>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipient {
    email_address: String,
}

/// Reads a message of SES; `None` if it calls for nothing.
///
/// # Errors
/// It is none of SES's.
pub fn parse_feedback(body: &str) -> Result<Option<Feedback>, FeedbackError> {
    let json: serde_json::Value = serde_json::from_str(body).map_err(FeedbackError::NotJson)?;
    let message: Message = serde_json::from_value(json).map_err(FeedbackError::Schema)?;
    let (recipients, reason) = match (message.kind.as_str(), message.bounce, message.complaint) {
        // "Transient" passes, and of "Undetermined" SES does not know whether it does.
        ("Bounce", Some(bounce), _) if bounce.bounce_type == "Permanent" => {
            (bounce.bounced_recipients, SuppressionReason::Bounce)
        }
        ("Complaint", _, Some(complaint)) => {
            (complaint.complained_recipients, SuppressionReason::Complaint)
        }
        _ => return Ok(None),
    };
    let addresses: Vec<Email> =
        recipients.iter().filter_map(|recipient| parse_address(&recipient.email_address)).collect();
    if addresses.is_empty() {
        return Err(FeedbackError::NoAddress);
    }
    Ok(Some(Feedback { addresses, reason, mail_id: message.mail.message_id }))
}

/// As a header of a mail writes it: with a name before it, perhaps.
fn parse_address(text: &str) -> Option<Email> {
    let bare = text.rsplit_once('<').and_then(|(_, address)| address.strip_suffix('>'));
    bare.unwrap_or(text).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(kind: &str, of: &str) -> Result<Option<Feedback>, FeedbackError> {
        parse_feedback(&format!(r#"{{"{kind}", "mail": {{ "messageId": "m-1" }}, {of} }}"#))
    }

    #[test]
    fn a_permanent_bounce_and_a_complaint_name_whom_to_mail_no_more() {
        let bounce = r#""bounce": { "bounceType": "Permanent", "bounceSubType": "General",
            "bouncedRecipients": [{ "emailAddress": "Jane <gone@example.com>", "status": "5.1.1" }] }"#;
        let complaint = r#""complaint": { "complaintFeedbackType": "abuse",
            "complainedRecipients": [{ "emailAddress": "angry@example.com" }] }"#;
        for kind in ["eventType", "notificationType"] {
            for (what, of, address, reason) in [
                ("Bounce", bounce, "gone@example.com", SuppressionReason::Bounce),
                ("Complaint", complaint, "angry@example.com", SuppressionReason::Complaint),
            ] {
                let read = feedback(&format!(r#"{kind}": "{what}"#), of);
                let read = read.expect("readable").expect("something");
                assert_eq!(read.addresses, [address.parse().expect("an address")]);
                assert_eq!((read.reason, read.mail_id.as_str()), (reason, "m-1"));
            }
        }
    }

    #[test]
    fn what_passes_or_is_about_something_else_calls_for_nothing() {
        for kind in ["Transient", "Undetermined"] {
            let bounce = format!(
                r#""bounce": {{ "bounceType": "{kind}",
                "bouncedRecipients": [{{ "emailAddress": "full@example.com" }}] }}"#
            );
            let read = feedback(r#"eventType": "Bounce"#, &bounce);
            assert_eq!(read.expect("readable"), None, "{kind}");
        }
        let read = feedback(r#"eventType": "Delivery"#, r#""delivery": {}"#);
        assert_eq!(read.expect("readable"), None);
    }

    #[test]
    fn what_is_none_of_sess_is_poison_with_its_reason() {
        for (body, reason) in [
            ("", "not_json"),
            ("[]", "schema"),
            (r#"{"eventType":"Bounce"}"#, "schema"),
            (
                r#"{"eventType":"Complaint","mail":{"messageId":"m"},"complaint":{"complainedRecipients":[]}}"#,
                "schema",
            ),
        ] {
            let error = parse_feedback(body).expect_err(body);
            assert_eq!(error.reason(), reason, "{body}");
        }
    }
}
