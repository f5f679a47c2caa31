//! One order from the call to the mail.

use anyhow::{Context, Result};
use e2e::{Queue, Seconds, Stack, api::order_body, eventually, expect_status};

#[tokio::test]
async fn an_order_travels_from_the_call_to_stock_and_mail() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Test Laptop", "1000", 50).await?;
    let body = order_body("test@example.com", &[(&product, 5)]);
    let answer = api.call("POST", "/orders", body).await?;
    expect_status(&answer, 201)?;
    assert_eq!(answer.json["status"], "pending");
    assert_eq!(answer.json["currency"], "UAH");
    assert!(answer.text.contains(r#""total_price":5000.00"#), "{}", answer.text);
    assert!(answer.text.contains(r#""unit_price":1000.00"#), "{}", answer.text);
    let order = answer.id()?;
    assert_eq!(stack.api.follow("/orders", &answer).await?.json["id"], order.as_str());
    eventually("the stock to become 45", 30.secs(), async || {
        Ok((api.stock(&product).await? == 45).then_some(()))
    })
    .await?;
    assert_eq!(api.wait_until_settled(&order).await?, "confirmed");
    let mails = stack.wait_for_mails(&order, 2).await?;
    let mut mails: Vec<_> = mails.iter().map(String::as_str).collect();
    mails.sort_unstable();
    let (confirmed, created) =
        (format!("Order #{order} Confirmed"), format!("Order #{order} Created Successfully"));
    assert_eq!(mails, [confirmed, created]);
    Ok(())
}

#[tokio::test]
async fn an_order_for_more_than_there_is_is_rejected_and_says_why() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Rare Laptop", "1000.50", 4).await?;
    let order = api.order("rejected@example.com", &[(&product, 5)]).await?;
    assert_eq!(api.wait_until_settled(&order).await?, "rejected");
    let answer = api.call("GET", &format!("/orders/{order}"), "").await?;
    assert_eq!(answer.json["reason"], "Out of stock: Rare Laptop");
    assert!(answer.text.contains(r#""total_price":5002.50"#), "{}", answer.text);
    assert_eq!(api.stock(&product).await?, 4);
    let rejection = stack.event(&order, "StockRejected").await?;
    assert!(rejection.contains(r#""requested":5,"available":4"#), "{rejection}");
    Ok(())
}

#[tokio::test]
async fn every_event_of_an_order_is_logged_published_and_carries_the_callers_trail() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Traced Laptop", "1", 9).await?;
    let trail = [
        ("x-correlation-id", "trail-7"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let body = order_body("trail@example.com", &[(&product, 1)]);
    let answer = stack.api.call_with("POST", "/orders", body, &trail).await?;
    expect_status(&answer, 201)?;
    assert_eq!(answer.headers["x-correlation-id"], "trail-7");
    let order = answer.id()?;
    let log = eventually("three published events", 30.secs(), async || {
        let log = stack.log(&order).await?;
        let published = log.iter().all(|event| !event.contains_key("outbox_shard"));
        Ok((log.len() == 3 && published).then_some(log))
    })
    .await?;
    let mut types = Vec::new();
    for event in &log {
        let body = event["body"].as_s().ok().context("a body")?;
        assert!(body.contains(r#""correlation_id":"trail-7""#), "{body}");
        let attributes = event["attributes"].as_m().ok().context("attributes")?;
        let text = |name: &str| attributes[name].as_s().cloned().unwrap_or_default();
        assert!(text("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert_eq!(text("correlation_id"), "trail-7");
        types.push(text("event_type"));
    }
    assert_eq!(types, ["OrderCreated", "StockReserved", "OrderConfirmed"]);
    Ok(())
}

#[tokio::test]
async fn an_order_that_names_a_product_twice_has_one_line() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Twice", "2.25", 10).await?;
    let other = api.product("Once", "1", 10).await?;
    let lines = [(product.as_str(), 3), (other.as_str(), 1), (product.as_str(), 4)];
    let answer = api.call("POST", "/orders", order_body("twice@example.com", &lines)).await?;
    expect_status(&answer, 201)?;
    let items = answer.json["items"].as_array().context("items")?;
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["quantity"], 7);
    assert!(answer.text.contains(r#""total_price":16.75"#), "{}", answer.text);
    assert_eq!(api.wait_until_settled(&answer.id()?).await?, "confirmed");
    assert_eq!(api.stock(&product).await?, 3);
    Ok(())
}

#[tokio::test]
async fn an_order_may_have_fifty_lines_and_be_rejected_for_one_of_them() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let mut products = Vec::new();
    for n in 0..50 {
        products.push(api.product(&format!("Line {n}"), "0.01", 2).await?);
    }
    let lines: Vec<_> = products.iter().map(|product| (product.as_str(), 1)).collect();
    let order = api.order("fifty@example.com", &lines).await?;
    assert_eq!(api.wait_until_settled(&order).await?, "confirmed");
    let mut greedy = lines.clone();
    greedy[49].1 = 2;
    let order = api.order("fifty@example.com", &greedy).await?;
    assert_eq!(api.wait_until_settled(&order).await?, "rejected");
    for product in &products {
        assert_eq!(api.stock(product).await?, 1, "{product}");
    }
    Ok(())
}

#[tokio::test]
async fn a_single_product_may_be_ordered_flat() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Flat", "3", 3).await?;
    let body =
        format!(r#"{{"product_id":"{product}","quantity":3,"customer_email":"flat@example.com"}}"#);
    let answer = stack.api.call("POST", "/orders", body).await?;
    expect_status(&answer, 201)?;
    assert_eq!(stack.api.wait_until_settled(&answer.id()?).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 0);
    Ok(())
}

/// SQS keeps no order, and an outage reorders: the mail of a new order may be sent after the mail of its confirmation.
#[tokio::test]
async fn a_mail_that_was_overtaken_says_so() -> Result<()> {
    const NOTE: &str = "This message is late";
    let stack = Stack::load().await?;
    let product = stack.api.product("Overtaken", "10", 10).await?;
    let order = stack.api.order("overtaken@example.com", &[(&product, 1)]).await?;
    stack.wait_for_mails(&order, 2).await?;
    // The same events of another order, which only the notification consumer hears of, and in the other order.
    let late_order = uuid::Uuid::new_v4().to_string();
    for (event_type, mails) in [("OrderConfirmed", 1), ("OrderCreated", 2)] {
        let event = stack.event(&order, event_type).await?;
        let event_id = serde_json::from_str::<serde_json::Value>(&event)?["event_id"].clone();
        let event_id = event_id.as_str().context("an event id")?;
        let event = event.replace(&order, &late_order);
        let event = event.replace(event_id, &uuid::Uuid::now_v7().to_string());
        stack.send(stack.queue(Queue::Notification), &event).await?;
        stack.wait_for_mails(&late_order, mails).await?;
    }
    let confirmed = stack.mail(&format!("Order #{late_order} Confirmed")).await?;
    assert!(!confirmed.contains(NOTE), "{confirmed}");
    let created = stack.mail(&format!("Order #{late_order} Created Successfully")).await?;
    assert!(created.contains(NOTE), "{created}");
    Ok(())
}

/// Nothing but the schedule, once a minute, invokes the relay here.
#[tokio::test]
async fn an_event_that_is_pending_again_is_published_by_the_relays_schedule() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Scheduled", "1", 9).await?;
    let order = stack.api.order("scheduled@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let event = stack.log(&order).await?[0]["event_id"].as_s().ok().context("an id")?.parse()?;
    assert!(stack.outbox().republish(&order, event, jiff::Timestamp::UNIX_EPOCH).await?);
    eventually("the schedule to have published it", 130.secs(), async || {
        let log = stack.log(&order).await?;
        Ok((!log.iter().any(|event| event.contains_key("outbox_shard"))).then_some(()))
    })
    .await?;
    assert_eq!(stack.api.stock(&product).await?, 8, "nothing happened a second time");
    Ok(())
}
