//! The same event more than once.

use anyhow::Result;
use e2e::{Queue, Stack};
use futures::future::try_join_all;

const DELIVERIES: usize = 20;

/// An order of 2 out of 10 that is confirmed and mailed of, and its product.
async fn confirmed_order(stack: &Stack, name: &str) -> Result<(String, String)> {
    let product = stack.api.product(name, "10", 10).await?;
    let order = stack.api.order("twenty@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    stack.wait_for_mails(&order, 2).await?;
    Ok((product, order))
}

/// Waits until everything that was sent has been handled, and looks at what it did.
async fn assert_had_no_further_effect(stack: &Stack, product: &str, order: &str) -> Result<()> {
    for queue in Queue::ALL {
        stack.wait_until_drained(queue).await?;
    }
    assert_eq!(stack.api.stock(product).await?, 8);
    assert_eq!(stack.api.status(order).await?, "confirmed");
    assert_eq!(stack.mails(order).await?.len(), 2);
    assert_eq!(stack.log(order).await?.len(), 3, "no event was made a second time");
    Ok(())
}

#[tokio::test]
async fn an_event_delivered_twenty_times_at_once_has_its_effect_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed_order(&stack, "At once").await?;
    for event_type in ["OrderCreated", "StockReserved", "OrderConfirmed"] {
        let event = stack.event(&order, event_type).await?;
        try_join_all((0..DELIVERIES).map(|_| stack.publish(&event))).await?;
    }
    assert_had_no_further_effect(&stack, &product, &order).await
}

#[tokio::test]
async fn an_event_delivered_twenty_times_one_by_one_has_its_effect_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed_order(&stack, "One by one").await?;
    let event = stack.event(&order, "OrderCreated").await?;
    for _ in 0..DELIVERIES {
        stack.publish(&event).await?;
        stack.wait_until_drained(Queue::Product).await?;
    }
    assert_had_no_further_effect(&stack, &product, &order).await
}

/// The first delivery is one of the twenty here: none has the advantage of having been alone.
#[tokio::test]
async fn a_new_event_delivered_twenty_times_at_once_has_its_effect_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed_order(&stack, "All new").await?;
    let event = stack.event(&order, "OrderCreated").await?;
    // Another order with another event: the same bytes with both ids replaced.
    let (new_order, new_event) =
        (uuid::Uuid::new_v4().to_string(), uuid::Uuid::now_v7().to_string());
    let old_event = stack.log(&order).await?[0]["event_id"].as_s().cloned().unwrap_or_default();
    let event = event.replace(&order, &new_order).replace(&old_event, &new_event);
    try_join_all((0..DELIVERIES).map(|_| stack.publish(&event))).await?;
    stack.wait_for_mails(&new_order, 1).await?;
    // Not the queue `order`: its consumer does not know the new order, so an event about it is poison there.
    stack.wait_until_drained(Queue::Product).await?;
    stack.wait_until_drained(Queue::Notification).await?;
    assert_eq!(stack.api.stock(&product).await?, 6, "2 for the first order, 2 for the new one");
    assert_eq!(stack.mails(&new_order).await?.len(), 1);
    Ok(())
}
