//! What SES says of mails, in the form of its documentation.
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html>

use anyhow::Result;
use serde_json::{Value, json};

use crate::Stack;

fn mail(address: &str) -> Value {
    json!({
        "timestamp": "2017-08-05T00:40:02.012Z",
        "source": "Sender Name <sender@example.com>",
        "sourceArn": "arn:aws:ses:us-east-1:123456789012:identity/sender@example.com",
        "sendingAccountId": "123456789012",
        "messageId": "EXAMPLE7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000",
        "destination": [address],
        "headersTruncated": false,
        "headers": [{ "name": "From", "value": "Sender Name <sender@example.com>" }],
        "commonHeaders": { "subject": "Message sent from Amazon SES" },
        "tags": { "ses:configuration-set": ["ConfigSet"] },
    })
}

/// A mail came back: `Permanent` or `Transient`.
#[must_use]
pub fn bounce(address: &str, bounce_type: &str) -> Value {
    json!({
        "eventType": "Bounce",
        "bounce": {
            "bounceType": bounce_type,
            "bounceSubType": "General",
            "bouncedRecipients": [{
                "emailAddress": address,
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown",
            }],
            "timestamp": "2017-08-05T00:41:02.669Z",
            "feedbackId": "01000157c44f053b-61b59c11-9236-11e6-8f96-7be8aexample-000000",
            "reportingMTA": "dsn; mta.example.com",
        },
        "mail": mail(address),
    })
}

/// Somebody does not want to be mailed.
#[must_use]
pub fn complaint(address: &str) -> Value {
    json!({
        "eventType": "Complaint",
        "complaint": {
            "complainedRecipients": [{ "emailAddress": address }],
            "timestamp": "2017-08-05T00:41:02.669Z",
            "feedbackId": "01000157c44f053b-61b59c11-9236-11e6-8f96-7be8aexample-000000",
            "userAgent": "Amazon SES Mailbox Simulator",
            "complaintFeedbackType": "abuse",
            "arrivalDate": "2017-08-05T00:41:02.669Z",
        },
        "mail": mail(address),
    })
}

impl Stack {
    /// Publishes what SES says, as SES does.
    ///
    /// # Errors
    /// SNS refused it.
    pub async fn publish_feedback(&self, feedback: &Value) -> Result<()> {
        let topic = self.setting("MAIL_FEEDBACK_TOPIC_ARN");
        self.sns.publish().topic_arn(topic).message(feedback.to_string()).send().await?;
        Ok(())
    }
}
