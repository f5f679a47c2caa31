//! SNS does not answer, or refuses one event for good.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Item, Seconds, Stack, eventually, expect_status};
use events::Stamp;
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use jiff::{SignedDuration, Timestamp};

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_accepted_while_sns_is_down_and_settle_within_two_sweeps() -> Result<()> {
    const ORDERS: usize = 30;
    let stack = Stack::load().await?;
    let product = stack.api.product("Patience", "1", 100).await?;
    stack.down(Some("sns")).await?;
    let lines = [(product.as_str(), 1)];
    let orders: Vec<String> = stream::iter(0..ORDERS)
        .map(|_| stack.api.order("patience@example.com", &lines))
        .buffered(8)
        .try_collect()
        .await?;
    for order in &orders {
        assert_eq!(stack.api.status(order).await?, "pending");
    }
    stack.down(None).await?;
    // This stack sets RelayAgeSeconds to 2.
    eventually("the events to be old enough for the relay", 30.secs(), async || {
        let last = stack.item("ORDERS_TABLE", "order_id", &orders[ORDERS - 1]).await?;
        let last = last.context("the order")?;
        let since: Stamp = last["created_at"].as_s().map_or("", String::as_str).parse()?;
        let age = Timestamp::now().duration_since(since.timestamp());
        Ok((age > SignedDuration::from_secs(2)).then_some(()))
    })
    .await?;
    let mut sweeps = 0;
    while sweeps < 2 {
        // On a busy machine a sweep may time out, which is no sweep.
        sweeps += usize::from(stack.sweep().await?.is_some());
    }
    // The relay's own sweep of this minute may have taken some of them, so what they published is not counted.
    eventually("no order to stand for its event", 5.secs(), async || {
        let items = orders.iter().map(|order| stack.item("ORDERS_TABLE", "order_id", order));
        let items = try_join_all(items).await?;
        let stands = |item: &Item| {
            let shard = item.get("pending_shard").and_then(|shard| shard.as_s().ok());
            shard.is_some_and(|shard| shard.starts_with("unpublished-"))
        };
        Ok((!items.iter().flatten().any(stands)).then_some(()))
    })
    .await?;
    let settled =
        try_join_all(orders.iter().map(|order| stack.api.wait_until_settled(order))).await?;
    assert!(settled.iter().all(|status| status == "confirmed"), "{settled:?}");
    assert_eq!(stack.api.stock(&product).await?, 100 - ORDERS as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_sns_refuses_for_good_is_set_aside_and_holds_up_no_other() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Held up", "1", 100).await?;
    stack.down(Some("sns")).await?;
    let order = stack.api.order("held-up@example.com", &[(&product, 1)]).await?;
    // Cancelled, so that its events are in the outbox.
    let cancelled = stack.api.cancel(&order).await?;
    expect_status(&cancelled, 200)?;
    // Larger than SNS takes, and older than the order: in the same shard it comes first.
    let log = stack.log(&order).await?;
    let shard = log[0]["outbox_shard"].clone();
    let refused = uuid::Uuid::new_v4().to_string();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    stack
        .dynamodb
        .put_item()
        .table_name(stack.setting("EVENT_LOG_TABLE"))
        .item("order_id", text(&refused))
        .item("event_id", text(&refused))
        .item("body", text(&"x".repeat(300 * 1024)))
        .item(
            "attributes",
            AttributeValue::M([("event_type".to_owned(), text("OrderCreated"))].into()),
        )
        .item("outbox_shard", shard)
        .item("pending_since", text("2025-01-01T00:00:00.000Z"))
        .send()
        .await?;
    stack.down(None).await?;
    let stuck = eventually("the refused event to be set aside", 60.secs(), async || {
        let report = stack.sweep().await?;
        Ok(report.and_then(|report| report["stuck"].as_u64()).filter(|stuck| *stuck > 0))
    })
    .await?;
    assert_eq!(stuck, 1);
    assert_eq!(stack.log(&refused).await?[0]["outbox_shard"], text("stuck"));
    eventually("the events of the order to be relayed", 30.secs(), async || {
        stack.sweep().await?;
        let log = stack.log(&order).await?;
        Ok((!log.iter().any(|event| event.contains_key("outbox_shard"))).then_some(()))
    })
    .await?;
    stack
        .dynamodb
        .delete_item()
        .table_name(stack.setting("EVENT_LOG_TABLE"))
        .key("order_id", text(&refused))
        .key("event_id", text(&refused))
        .send()
        .await?;
    Ok(())
}

/// What no reader understands is counted with the stuck events, not skipped for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_is_set_aside_and_counted() -> Result<()> {
    let stack = Stack::load().await?;
    let unreadable = uuid::Uuid::new_v4().to_string();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let table = stack.setting("EVENT_LOG_TABLE");
    let put = stack.dynamodb.put_item().table_name(table);
    let put = put.item("order_id", text(&unreadable)).item("event_id", text(&unreadable));
    let put = put.item("body", AttributeValue::N("1".to_owned()));
    let put = put.item("outbox_shard", text("0"));
    put.item("pending_since", text("2025-01-01T00:00:00.000Z")).send().await?;
    eventually("the unreadable event to be counted", 60.secs(), async || {
        let report = stack.sweep().await?;
        Ok(report.filter(|report| report["stuck"] == 1))
    })
    .await?;
    assert_eq!(stack.log(&unreadable).await?[0]["outbox_shard"], text("stuck"));
    let delete = stack.dynamodb.delete_item().table_name(table);
    let delete = delete.key("order_id", text(&unreadable)).key("event_id", text(&unreadable));
    delete.send().await?;
    Ok(())
}

/// The relay's own query belongs to no order, so it is struck here, with everything else of DynamoDB.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_cannot_read_fails_loudly_and_loses_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Unread", "1", 100).await?;
    stack.down(Some("sns")).await?;
    let order = stack.api.order("unread@example.com", &[(&product, 1)]).await?;
    stack.down(Some("dynamodb")).await?;
    assert_eq!(stack.sweep().await?, None, "a sweep without a table must fail, not report nothing");
    stack.down(None).await?;
    eventually("the order to be relayed", 30.secs(), async || {
        stack.sweep().await?;
        Ok((stack.api.status(&order).await? == "confirmed").then_some(()))
    })
    .await
}
