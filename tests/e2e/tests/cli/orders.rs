//! `orderflow order`.

use anyhow::Result;
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
    let text = stack.run(&["order", "show", &order]).await?.stdout;
    assert!(text.contains("Showcase") && text.contains("21.00 UAH"), "{text}");

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
    }
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
async fn a_republished_event_is_pending_until_the_relay_has_published_it_again() -> Result<()> {
    let stack = Stack::load().await?;
    let (product, order) = confirmed(&stack, "Republished").await?;
    let republished = stack.json(&["order", "republish", &order, "--now"]).await?;
    assert_eq!(republished["event_type"], "OrderConfirmed");
    assert!(republished["relay"]["published"].as_u64() >= Some(1), "{republished}");
    let history = stack.json(&["order", "history", &order]).await?;
    assert_eq!(history[2]["outbox"], "published", "{history}");

    // Without --now the relay's own minute comes.
    stack.json(&["order", "republish", &order]).await?;
    eventually("the relay", 130.secs(), async || {
        let history = stack.json(&["order", "history", &order]).await?;
        Ok((history[2]["outbox"] == "published").then_some(()))
    })
    .await?;
    assert_eq!(stack.api.stock(&product).await?, 8);
    assert_eq!(stack.log(&order).await?.len(), 3, "nothing happened a second time");
    Ok(())
}
