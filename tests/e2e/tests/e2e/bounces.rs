//! What SES says of mails: who is mailed no more, and that orders do not mind.

use anyhow::Result;
use e2e::{
    Seconds, Stack, eventually,
    feedback::{bounce, complaint},
};

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
        stack.publish_feedback(&feedback).await?;
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
    stack.publish_feedback(&bounce("full@example.com", "Transient")).await?;
    // What comes after it on the same queue has been taken: so has it.
    stack.publish_feedback(&complaint("after-full@example.com")).await?;
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
