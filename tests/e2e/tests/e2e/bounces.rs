//! What SES says of mails: who is mailed no more, and that orders do not mind. The bodies are those of SES's documentation.
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html>

use anyhow::Result;
use e2e::{Seconds, Stack, eventually};
use serde_json::{Value, json};

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

fn bounce(address: &str, bounce_type: &str) -> Value {
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

fn complaint(address: &str) -> Value {
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

async fn publish(stack: &Stack, feedback: &Value) -> Result<()> {
    let topic = stack.setting("MAIL_FEEDBACK_TOPIC_ARN");
    stack.sns.publish().topic_arn(topic).message(feedback.to_string()).send().await?;
    Ok(())
}

async fn becomes_suppressed(stack: &Stack, address: &str, reason: &str) -> Result<()> {
    eventually(&format!("{address} to be suppressed"), 60.secs(), async || {
        let item = stack.item("SUPPRESSED_TABLE", "email", address).await?;
        let found = item.and_then(|item| item["reason"].as_s().ok().cloned());
        Ok((found.as_deref() == Some(reason)).then_some(()))
    })
    .await
}

/// Orders, and waits until the mails that are due were handled; how many there are.
async fn mails_of_an_order(stack: &Stack, address: &str) -> Result<usize> {
    let product = stack.api.product("Bounced", "10", 10).await?;
    let order = stack.api.order(address, &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed", "its orders stand");
    stack.wait_until_drained(e2e::Queue::Notification).await?;
    Ok(stack.mails(&order).await?.len())
}

#[tokio::test]
async fn an_address_that_bounced_or_complained_gets_no_mails_and_its_orders_stand() -> Result<()> {
    let stack = Stack::load().await?;
    for (address, feedback, reason) in [
        ("gone@example.com", bounce("gone@example.com", "Permanent"), "bounce"),
        ("angry@example.com", complaint("angry@example.com"), "complaint"),
    ] {
        publish(&stack, &feedback).await?;
        becomes_suppressed(&stack, address, reason).await?;
        assert_eq!(mails_of_an_order(&stack, address).await?, 0, "{address}");
        // Mailboxes do not differ by the case of their letters.
        assert_eq!(mails_of_an_order(&stack, &address.replacen('g', "G", 1)).await?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_full_mailbox_is_mailed_again() -> Result<()> {
    let stack = Stack::load().await?;
    publish(&stack, &bounce("full@example.com", "Transient")).await?;
    // What comes after it on the same queue has been taken: so has it.
    publish(&stack, &complaint("after-full@example.com")).await?;
    becomes_suppressed(&stack, "after-full@example.com", "complaint").await?;
    eventually("the queue to be empty", 60.secs(), async || {
        let waiting = stack.messages(stack.setting("FEEDBACK_QUEUE_URL")).await?;
        Ok((waiting == 0).then_some(()))
    })
    .await?;
    assert!(stack.item("SUPPRESSED_TABLE", "email", "full@example.com").await?.is_none());
    assert_eq!(mails_of_an_order(&stack, "full@example.com").await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_none_of_sess_ends_on_the_dlq_with_its_reason() -> Result<()> {
    let stack = Stack::load().await?;
    let body = format!("no feedback {}", uuid::Uuid::new_v4());
    stack.send(stack.setting("FEEDBACK_QUEUE_URL"), &body).await?;
    let message = stack.message_with(stack.setting("FEEDBACK_DLQ_URL"), &body).await?;
    let attributes = message.message_attributes().cloned().unwrap_or_default();
    assert_eq!(attributes["failure_reason"].string_value(), Some("not_json"));
    Ok(())
}
