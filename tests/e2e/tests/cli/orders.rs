//! `orderflow order`.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Seconds, Stack, eventually};

async fn confirmed(stack: &Stack, name: &str) -> Result<(String, String)> {
    let product = stack.api.product(name, "10.50", 10).await?;
    let order = stack.api.order("operator@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    Ok((product, order))
}

#[tokio::test]
async fn an_order_is_shown_with_its_lines_and_its_history() -> Result<()> {
    let stack = Stack::load().await?;
    let (_, order) = confirmed(&stack, "Showcase").await?;
    let shown = stack.json(&["order", "show", &order]).await?;
    assert_eq!((&shown["id"], &shown["status"]), (&order.as_str().into(), &"confirmed".into()));
    for command in ["show", "history"] {
        let json = stack.run(&["order", command, &order, "--output", "json"]).await?.stdout;
        assert!(json.contains("21.00"), "money keeps its two digits: {json}");
    }
    let text = stack.run(&["order", "show", &order]).await?.stdout;
    assert!(text.contains("Showcase") && text.contains("21.00 UAH"), "{text}");
    // Whose it is, only if somebody asks.
    assert!(text.contains("o***@e***.com") && !text.contains("operator@example.com"), "{text}");
    assert_eq!(shown["customer_email"], "o***@e***.com");
    let in_full = stack.run(&["order", "show", &order, "--show-email"]).await?.stdout;
    assert!(in_full.contains("operator@example.com"), "{in_full}");

    let history = stack.json(&["order", "history", &order]).await?;
    let types: Vec<_> = history.as_array().into_iter().flatten().collect();
    let types: Vec<_> = types.iter().filter_map(|event| event["event_type"].as_str()).collect();
    assert_eq!(types, ["OrderCreated", "StockReserved", "OrderConfirmed"]);
    let text = stack.run(&["order", "history", &order]).await?.stdout;
    assert!(text.contains("OrderConfirmed") && text.contains("published"), "{text}");
    Ok(())
}

#[tokio::test]
async fn cancelling_asks_first_and_gives_the_stock_back_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed(&stack, "Cancelled by the operator").await?;
    let unasked = stack.run(&["order", "cancel", &order]).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(stack.api.status(&order).await?, "confirmed");
    for _ in 0..2 {
        let cancelled = stack.json(&["order", "cancel", &order, "--yes"]).await?;
        assert_eq!(cancelled["status"], "cancelled", "also when it is so already");
        assert_eq!(cancelled["customer_email"], "o***@e***.com");
    }
    let again = stack.run(&["order", "cancel", &order]).await?;
    assert_eq!(again.code, 0, "nobody is asked about what is so already: {again:?}");
    assert!(again.stdout.contains("was cancelled before"), "{again:?}");
    eventually("the stock to be given back", 60.secs(), async || {
        Ok((stack.api.stock(&product).await? == 10).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_shipped_order_is_not_cancelled_and_the_reason_is_said() -> Result<()> {
    let stack = Stack::load().await?;
    let (_, order) = confirmed(&stack, "Shipped").await?;
    let shipped = stack.api.admin("POST", &format!("/orders/{order}/ship"), "").await?;
    e2e::expect_status(&shipped, 200)?;
    let refused = stack.run(&["order", "cancel", &order, "--yes"]).await?;
    assert!(refused.code == 1 && refused.stderr.contains("409"), "{refused:?}");
    assert!(refused.stderr.contains("shipped"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_republished_event_is_pending_until_it_has_been_published_again() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed(&stack, "Republished").await?;
    let republished = stack.json(&["order", "republish", &order, "--now"]).await?;
    assert_eq!(republished["event_type"], "OrderConfirmed");
    assert!(republished["relay"]["published"].as_u64() >= Some(1), "{republished}");
    let history = stack.json(&["order", "history", &order]).await?;
    assert_eq!(history[2]["outbox"], "published", "{history}");

    // Without --now it is left to the relay's schedule.
    stack.json(&["order", "republish", &order]).await?;
    let log = stack.log(&order).await?;
    let since = log.iter().find_map(|item| item.get("pending_since")?.as_s().ok());
    if let Some(since) = since {
        let delay = jiff::Timestamp::now().duration_since(since.parse()?).as_secs();
        assert!(
            delay < 120,
            "status does not show a delay of an hour that there was not: {delay} s"
        );
    }
    stack.sweep().await?.context("the sweep failed")?;
    let history = stack.json(&["order", "history", &order]).await?;
    assert_eq!(history[2]["outbox"], "published", "{history}");
    assert_eq!(stack.api.stock(&product).await?, 8);
    assert_eq!(stack.log(&order).await?.len(), 3, "nothing happened a second time");
    Ok(())
}

#[tokio::test]
async fn a_stuck_event_is_listed_shown_and_republished_by_its_id() -> Result<()> {
    let stack = Stack::load().await?;
    let (_, order) = confirmed(&stack, "Stuck").await?;
    let history = stack.json(&["order", "history", &order]).await?;
    let event = history[1]["event_id"].as_str().context("an event")?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("EVENT_LOG_TABLE"))
        .key("order_id", text(&order))
        .key("event_id", text(event))
        .update_expression("SET outbox_shard = :stuck, pending_since = :since")
        .expression_attribute_values(":stuck", text("stuck"))
        .expression_attribute_values(":since", text("2026-01-01T00:00:00.000Z"))
        .send()
        .await?;
    let stuck = stack.json(&["outbox", "list"]).await?;
    let found = stuck.as_array().into_iter().flatten().find(|one| one["event_id"] == event);
    let found = found.with_context(|| format!("it is listed: {stuck}"))?;
    assert_eq!(
        (&found["outbox"], &found["event_type"]),
        (&"stuck".into(), &"StockReserved".into())
    );
    let table = stack.run(&["outbox", "list", "--pending"]).await?.stdout;
    assert!(table.contains(event) && table.contains(&order), "{table}");
    let shown = stack.run(&["outbox", "show", event]).await?;
    assert!(shown.stdout.contains("attribute  event_type = StockReserved"), "{shown:?}");

    let republished = stack.json(&["order", "republish", "--event", event, "--now"]).await?;
    assert_eq!(
        (&republished["order_id"], &republished["event_id"]),
        (&order.into(), &event.into())
    );
    assert!(republished["relay"]["published"].as_u64() >= Some(1), "{republished}");
    let left = stack.run(&["outbox", "list"]).await?.stdout;
    assert!(!left.contains(event), "{left}");
    let published = stack.run(&["outbox", "show", event]).await?;
    assert!(published.code == 3 && published.stderr.contains("order's id"), "{published:?}");
    Ok(())
}
