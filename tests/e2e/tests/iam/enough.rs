//! What the shop does, it may do.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Queue, Seconds, Stack, api::order_body, eventually, expect_status};
use jiff::Timestamp;

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
        stack.wait_until_drained(queue).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_order_is_confirmed_published_and_mailed_of() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Allowed", "10", 5).await?;
    let order = stack.api.order("allowed@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 3);
    published(&stack, &order, 3).await?;
    mailed(&stack, &order, 2).await
}

#[tokio::test]
async fn an_order_for_too_much_is_rejected_published_and_mailed_of() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Allowed, but short", "10", 1).await?;
    // Of the second it is known that the product was short, and its stock is read first.
    for _ in 0..2 {
        let order = stack.api.order("short@example.com", &[(&product, 2)]).await?;
        assert_eq!(stack.api.wait_until_settled(&order).await?, "rejected");
        published(&stack, &order, 3).await?;
        mailed(&stack, &order, 2).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_order_is_cancelled_and_its_stock_given_back() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Allowed, then cancelled", "10", 5).await?;
    let order = stack.api.order("cancelled@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let cancelled = stack.api.cancel(&order).await?;
    expect_status(&cancelled, 200)?;
    published(&stack, &order, 5).await?;
    assert_eq!(stack.api.stock(&product).await?, 5);
    mailed(&stack, &order, 3).await
}

#[tokio::test]
async fn an_order_is_shipped_listed_and_its_history_read() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let api = &stack.api;
    let product = api.product("Allowed, then shipped", "10", 5).await?;
    let body = order_body("shipped@example.com", &[(&product, 2)]);
    let key = [("idempotency-key", "allowed-to-ship")];
    let order = api.call_with("POST", "/orders", body.clone(), &key).await?.id()?;
    let again = api.call_with("POST", "/orders", body, &key).await?;
    assert_eq!(again.id()?, order);
    assert_eq!(api.wait_until_settled(&order).await?, "confirmed");
    for (method, path) in [
        ("POST", format!("/orders/{order}/ship")),
        ("GET", format!("/orders/{order}/events")),
        ("GET", "/orders?customer_email=shipped@example.com".into()),
    ] {
        expect_status(&api.admin(method, &path, "").await?, 200)?;
    }
    let tags = r#"{"tags":["allowed"]}"#;
    expect_status(&api.admin("PUT", &format!("/orders/{order}/tags"), tags).await?, 200)?;
    published(&stack, &order, 4).await?;
    mailed(&stack, &order, 3).await
}

/// order-api publishes at once, so an event that is pending for long is made: one that was published before.
#[tokio::test]
async fn relay_publishes_what_is_pending() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Relayed", "10", 5).await?;
    let order = stack.api.order("relayed@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    published(&stack, &order, 3).await?;
    let outbox = stack.outbox();
    let last = stack.log(&order).await?.pop().context("an event")?;
    let id = last["event_id"].as_s().ok().context("an id")?.parse()?;
    assert!(outbox.republish(&order, id, Timestamp::UNIX_EPOCH).await?);
    let report = stack.sweep().await?.context("the sweep failed")?;
    assert_eq!((&report["left"], &report["stuck"]), (&0.into(), &0.into()), "{report}");
    published(&stack, &order, 3).await
}

/// A consumer that meets a marker reads which events came with it, and publishes them again.
#[tokio::test]
async fn an_event_that_comes_again_has_its_consequences_published_again() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Allowed again", "10", 5).await?;
    let order = stack.api.order("again@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    published(&stack, &order, 3).await?;
    for (queue, event_type) in [(Queue::Product, "OrderCreated"), (Queue::Order, "StockReserved")] {
        stack.send(stack.queue(queue), &stack.event(&order, event_type).await?).await?;
        // What is refused for want of a right is tried again for an hour.
        stack.wait_until_drained(queue).await?;
    }
    Ok(())
}

/// order-api publishes at once, so an order that waits for the relay is made of one that does not.
#[tokio::test]
async fn relay_publishes_what_an_order_stands_for() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Stood for", "10", 5).await?;
    let order = stack.api.order("stood-for@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let change = |expression: &str| {
        let change = stack.dynamodb.update_item().table_name(stack.setting("ORDERS_TABLE"));
        change.key("order_id", text(&order)).update_expression(expression)
    };
    let created = stack.log(&order).await?[0]["event_id"].clone();
    change("SET pending_shard = :shard, created_event_id = :event, created_at = :long_ago")
        .expression_attribute_values(":shard", text("unpublished-0"))
        .expression_attribute_values(":event", created)
        .expression_attribute_values(":long_ago", text("2025-01-01T00:00:00.000Z"))
        .send()
        .await?;
    stack.sweep().await?.context("the sweep failed")?;
    let item = stack.item("ORDERS_TABLE", "order_id", &order).await?.context("the order")?;
    assert_eq!(item["pending_shard"], text("0"));
    change("REMOVE pending_shard").send().await?;
    Ok(())
}

#[tokio::test]
async fn products_are_changed_restocked_and_listed() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Changed", "10", 5).await?;
    let path = format!("/products/{product}");
    let changed = stack.api.admin("PATCH", &path, r#"{"price":11}"#).await?;
    expect_status(&changed, 200)?;
    // Twice with one key is once.
    let (stock, key) = (format!("{path}/stock"), [("idempotency-key", "allowed-to-restock")]);
    for _ in 0..2 {
        let restocked = stack.api.admin_with("POST", &stock, r#"{"delta":5}"#, &key).await?;
        expect_status(&restocked, 200)?;
    }
    expect_status(&stack.api.call("GET", "/products", "").await?, 200)?;
    expect_status(&stack.api.admin("PATCH", &path, r#"{"category":"allowed"}"#).await?, 200)?;
    let listed = stack.api.call("GET", "/products?category=allowed", "").await?;
    assert_eq!(listed.json["products"][0]["id"], product.as_str(), "{}", listed.text);
    assert_eq!(stack.api.stock(&product).await?, 10);
    Ok(())
}

#[tokio::test]
async fn an_order_is_counted_and_the_days_are_shown() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let product = stack.api.product("Allowed, and counted", "10", 5).await?;
    let order = stack.api.order("counted@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let wanted = stack.reported_amounts(&order, &product).await?;
    eventually("the order to be counted", 30.secs(), async || {
        Ok((stack.counted_amounts(&product).await? == wanted).then_some(()))
    })
    .await?;
    let today = Timestamp::now().to_string();
    let path = format!("/analytics/daily?from={0}&to={0}", &today[..10]);
    expect_status(&stack.api.admin("GET", &path, "").await?, 200)
}

#[tokio::test]
async fn each_consumer_moves_poison_to_its_dlq() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
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
