//! A part is down: orders are accepted, somebody notices, and everything settles when it is back.

use anyhow::{Context, Result};
use e2e::{Queue, Seconds, Stack, eventually};
use futures::future::try_join_all;
use jiff::Timestamp;

#[tokio::test]
async fn while_product_consumer_is_down_orders_are_accepted_and_settle_later() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Later", "1", 15).await?;
    stack.pause(Queue::Product).await?;
    let lines = [(product.as_str(), 1)];
    let orders =
        try_join_all((0..20).map(|_| stack.api.order("later@example.com", &lines))).await?;
    for order in &orders {
        assert_eq!(stack.api.status(order).await?, "pending");
    }
    assert_eq!(stack.api.stock(&product).await?, 15);
    stack.resume(Queue::Product).await?;
    let settled =
        try_join_all(orders.iter().map(|order| stack.api.wait_until_settled(order))).await?;
    let confirmed = settled.iter().filter(|status| *status == "confirmed").count();
    assert_eq!((confirmed, stack.api.stock(&product).await?), (15, 0));
    Ok(())
}

/// This stack is deployed with OrderPendingMaxMinutes=0: every pending order has been so for too long.
#[tokio::test]
async fn an_order_that_stays_pending_is_noticed_and_can_be_republished() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Lost", "1", 5).await?;
    let pending = async || {
        let report = stack.sweep().await?.context("the sweep failed")?;
        report["orders_pending_too_long"].as_u64().context("a count")
    };
    assert_eq!(pending().await?, 0);
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("lost@example.com", &[(&product, 1)]).await?;
    assert_eq!(pending().await?, 1);
    // Its event gets lost, as it would if somebody purged the queue.
    let queue = stack.queue(Queue::Product);
    let lost = stack.message_with(queue, &order).await?;
    let receipt = lost.receipt_handle().context("a receipt")?;
    stack.sqs.delete_message().queue_url(queue).receipt_handle(receipt).send().await?;
    stack.resume(Queue::Product).await?;
    assert_eq!(pending().await?, 1);
    let outbox = stack.outbox();
    let log = stack.log(&order).await?;
    let last = log.last().context("an event")?["event_id"].as_s().ok().context("an id")?;
    assert!(outbox.republish(&order, last.parse()?, Timestamp::UNIX_EPOCH).await?);
    eventually("the republished order to be confirmed", 60.secs(), async || {
        stack.sweep().await?;
        Ok((stack.api.status(&order).await? == "confirmed").then_some(()))
    })
    .await?;
    assert_eq!(stack.api.stock(&product).await?, 4);
    assert_eq!(pending().await?, 0);
    let no_such = outbox.republish("no-such", uuid::Uuid::now_v7(), Timestamp::UNIX_EPOCH).await?;
    assert!(!no_such, "what is not there cannot be republished");
    Ok(())
}
