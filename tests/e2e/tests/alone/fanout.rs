//! One event, several queues.

use anyhow::{Context, Result};
use e2e::{Queue, Stack};

#[tokio::test]
async fn each_queue_has_its_own_copy_of_the_one_event() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Copied", "1", 1).await?;
    stack.pause(Queue::Product).await?;
    stack.pause(Queue::Notification).await?;
    let order = stack.api.order("copies@example.com", &[(&product, 1)]).await?;
    let stored = stack.event(&order, "OrderCreated").await?;
    for queue in [Queue::Product, Queue::Notification] {
        let message = stack.message_with(stack.queue(queue), &order).await?;
        assert_eq!(message.body(), Some(stored.as_str()), "{queue:?}: raw, and byte for byte");
        let attributes = message.message_attributes().context("attributes")?;
        let mut names: Vec<_> = attributes.keys().map(String::as_str).collect();
        names.sort_unstable();
        let wanted = ["correlation_id", "event_type", "event_version", "priority", "traceparent"];
        assert_eq!(names, wanted);
    }
    // Its filter lets only events about stock through, and there are none yet.
    assert_eq!(stack.messages(stack.queue(Queue::Order)).await?, 0);
    stack.resume(Queue::Product).await?;
    stack.resume(Queue::Notification).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 0);
    Ok(())
}
