//! What the shop does, it may do.

use anyhow::Result;
use e2e::{Queue, Seconds, Stack, eventually};

/// Waits until all events of an order are published, so that none was left for want of a right.
async fn published(stack: &Stack, order: &str, events: usize) -> Result<()> {
    eventually("all events to be published", 30.secs(), async || {
        let log = stack.log(order).await?;
        let pending = log.iter().filter(|event| event.contains_key("outbox_shard")).count();
        Ok((log.len() == events && pending == 0).then_some(()))
    })
    .await
}

/// Waits until the mails are out and no consumer has anything left to try again.
async fn mailed(stack: &Stack, order: &str, mails: usize) -> Result<()> {
    eventually("all mails", 30.secs(), async || {
        Ok((stack.mails(order).await?.len() == mails).then_some(()))
    })
    .await?;
    for queue in Queue::ALL {
        stack.drained(queue).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_order_is_confirmed_published_and_mailed_of() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Allowed", "10", 5).await?;
    let order = stack.api.order("allowed@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.settled(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 3);
    published(&stack, &order, 3).await?;
    mailed(&stack, &order, 2).await
}

#[tokio::test]
async fn an_order_for_too_much_is_rejected_published_and_mailed_of() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Allowed, but short", "10", 1).await?;
    let order = stack.api.order("short@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.settled(&order).await?, "rejected");
    published(&stack, &order, 3).await?;
    mailed(&stack, &order, 2).await
}

#[tokio::test]
async fn products_are_changed_restocked_and_listed() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Changed", "10", 5).await?;
    let path = format!("/products/{product}");
    let changed = stack.api.admin("PATCH", &path, r#"{"price":11}"#).await?;
    e2e::expect_status(&changed, 200)?;
    let restocked = stack.api.admin("POST", &format!("{path}/stock"), r#"{"delta":5}"#).await?;
    e2e::expect_status(&restocked, 200)?;
    e2e::expect_status(&stack.api.call("GET", "/products", "").await?, 200)?;
    assert_eq!(stack.api.stock(&product).await?, 10);
    Ok(())
}

#[tokio::test]
async fn each_consumer_moves_poison_to_its_dlq() -> Result<()> {
    let stack = Stack::load().await?;
    for queue in Queue::ALL {
        let poison = format!("poison for {}", queue.name());
        stack.send(stack.queue(queue), &poison).await?;
        let message = stack.message_with(stack.dlq(queue), &poison).await?;
        let attributes = message.message_attributes().cloned().unwrap_or_default();
        // SQS moves a message there too, when its tries are used up, but with no reason.
        assert!(attributes.contains_key("failure_reason"), "{queue:?}: {attributes:?}");
    }
    Ok(())
}
