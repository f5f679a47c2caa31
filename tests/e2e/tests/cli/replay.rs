//! `orderflow replay`.

use anyhow::Result;
use e2e::{Queue, Stack};

async fn mailed(stack: &Stack, name: &str) -> Result<(String, String)> {
    let product = stack.api.product(name, "10", 10).await?;
    let order = stack.api.order("again@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    stack.wait_for_mails(&order, 2).await?;
    Ok((product, order))
}

async fn assert_unchanged(stack: &Stack, product: &str, order: &str) -> Result<()> {
    for queue in Queue::ALL {
        stack.wait_until_drained(queue).await?;
    }
    assert_eq!(stack.api.stock(product).await?, 8);
    assert_eq!(stack.api.status(order).await?, "confirmed");
    assert_eq!(stack.mails(order).await?.len(), 2, "nobody is mailed again");
    assert_eq!(stack.log(order).await?.len(), 3, "no event was made a second time");
    let reported = stack.reported_amounts(order, product).await?;
    assert_eq!(stack.counted_amounts(product).await?, reported, "nothing is counted again");
    Ok(())
}

#[tokio::test]
async fn an_hour_replayed_to_every_queue_changes_nothing_and_mails_nobody() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = mailed(&stack, "All of it again").await?;
    for queue in ["product", "order", "notification", "analytics"] {
        let replayed = stack.json(&["replay", "--queue", queue, "--from", "1h", "--yes"]).await?;
        assert!(replayed["sent"].as_u64() >= Some(1), "{replayed}");
        let chosen: u64 = replayed["events"]
            .as_object()
            .into_iter()
            .flat_map(|events| events.values())
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert_eq!(replayed["sent"], chosen, "{replayed}");
    }
    assert_unchanged(&stack, &product, &order).await
}

#[tokio::test]
async fn one_orders_events_go_to_one_queue_as_its_filter_allows() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = mailed(&stack, "One order again").await?;
    stack.pause(Queue::Notification).await?;
    let replay = ["replay", "--queue", "notification", "--order", &order];
    let dry = stack.json(&[&replay[..], &["--dry-run"]].concat()).await?;
    assert_eq!(dry["sent"], 0);
    assert_eq!(dry["events"]["OrderCreated"], 1);
    assert_eq!(stack.messages(stack.queue(Queue::Notification)).await?, 0, "a dry run sends none");

    let unasked = stack.run(&replay).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert!(unasked.stderr.contains("2 events (1 OrderConfirmed, 1 OrderCreated) of 1 order"));
    assert_eq!(stack.messages(stack.queue(Queue::Notification)).await?, 0, "it asks before");

    let replayed = stack.json(&[&replay[..], &["--yes"]].concat()).await?;
    assert_eq!(replayed["sent"], 2, "{replayed}");
    assert_eq!(replayed["events"]["OrderConfirmed"], 1);
    assert_eq!(replayed["events"]["StockReserved"], serde_json::Value::Null);
    assert_eq!(replayed["filtered_out"], 1, "the stock is none of its business");
    assert_eq!(stack.messages(stack.queue(Queue::Notification)).await?, 2);
    for other in [Queue::Product, Queue::Order] {
        assert_eq!(stack.messages(stack.queue(other)).await?, 0, "no other queue sees them");
    }
    let message = stack.message_with(stack.queue(Queue::Notification), &order).await?;
    let attributes = message.message_attributes.unwrap_or_default();
    for name in ["event_type", "event_version", "correlation_id", "traceparent"] {
        assert!(attributes.contains_key(name), "{name} is not in {attributes:?}");
    }
    stack.resume(Queue::Notification).await?;
    assert_unchanged(&stack, &product, &order).await
}

#[tokio::test]
async fn a_range_in_which_nothing_happened_sends_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    let range = ["--from", "2020-01-01", "--to", "2020-01-02"];
    let replayed = stack.json(&[&["replay", "--queue", "order"], &range[..]].concat()).await?;
    assert_eq!(replayed["sent"], 0, "{replayed}");
    let backwards = stack
        .run(&["replay", "--queue", "order", "--from", "2020-01-02", "--to", "2020-01-01"])
        .await?;
    assert!(backwards.code == 1 && backwards.stderr.contains("nothing is between"));
    Ok(())
}

#[tokio::test]
async fn an_unknown_order_ends_with_3_and_a_time_without_a_zone_sends_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    for more in [&["--yes"][..], &["--dry-run"]] {
        let command = [&["replay", "--queue", "order", "--order", "no-such-order"], more].concat();
        let ran = stack.run(&command).await?;
        assert!(ran.code == 3 && ran.stderr.contains("no order"), "{ran:?}");
    }
    let zoneless = ["replay", "--queue", "order", "--from", "2020-01-01T04:00", "--yes"];
    let ran = stack.run(&zoneless).await?;
    assert!(ran.code == 2 && ran.stderr.contains("has no time zone"), "{ran:?}");
    Ok(())
}
