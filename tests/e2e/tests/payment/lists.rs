//! `orderflow payment list`, and what the command's JSON and an order's time line say of a payment.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Seconds, Stack, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{open_payment, unpaid_order};

/// The time to pay is over for an order, and the relay has asked the payment service a moment ago.
async fn be_overdue(stack: &Stack, order: &str) -> Result<()> {
    let moment = |at: Timestamp| AttributeValue::S(format!("{at:.3}"));
    let now = Timestamp::now();
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("ORDERS_TABLE"))
        .key("order_id", AttributeValue::S(order.to_owned()))
        .update_expression("SET payment_due_at = :due, payment_next_at = :next")
        .condition_expression("attribute_exists(payment_next_at)")
        .expression_attribute_values(":due", moment(now - SignedDuration::from_mins(3)))
        .expression_attribute_values(":next", moment(now + SignedDuration::from_mins(7)))
        .send()
        .await?;
    Ok(())
}

fn row<'a>(page: &'a Value, order: &str) -> Option<&'a Value> {
    page["items"].as_array()?.iter().find(|row| row["order_id"] == order)
}

#[tokio::test]
async fn payments_are_listed_by_status_and_those_that_are_overdue_by_their_index() -> Result<()> {
    let stack = Stack::load().await?;
    let (overdue, _) = unpaid_order(&stack, "Overdue payment").await?;
    let (in_time, _) = unpaid_order(&stack, "Payment in time").await?;
    for order in [&overdue, &in_time] {
        open_payment(&stack, order).await?;
    }
    let open = stack.json(&["payment", "list", "--status", "open", "--limit", "1000"]).await?;
    for order in [&overdue, &in_time] {
        let payment = row(&open, order).with_context(|| format!("{order}: {open}"))?;
        assert_eq!((&payment["status"], &payment["currency"]), (&"open".into(), &"EUR".into()));
        assert_eq!(payment["amount"].to_string(), "50.0");
    }
    assert!(open["read"].is_u64(), "it says how much it has read: {open}");
    let refunded =
        stack.json(&["payment", "list", "--status", "refunded", "--limit", "1000"]).await?;
    assert_eq!(row(&refunded, &overdue), None, "{refunded}");
    let all = stack.json(&["payment", "list", "--limit", "1000"]).await?;
    assert!(row(&all, &overdue).is_some(), "{all}");

    let awaiting = ["order", "list", "--status", "awaiting_payment", "--limit", "1000"];
    let awaiting = stack.json(&awaiting).await?;
    for order in [&overdue, &in_time] {
        let found = row(&awaiting, order).with_context(|| format!("{order}: {awaiting}"))?;
        assert!(found["payment_due_at"].is_string() && awaiting["read"].is_null(), "{found}");
    }
    be_overdue(&stack, &overdue).await?;
    let list = ["payment", "list", "--overdue", "--limit", "1000"];
    let found = stack.json(&list).await?;
    let payment = row(&found, &overdue).with_context(|| format!("{overdue}: {found}"))?;
    assert!(payment["due_at"].is_string() && payment["status"] == "open", "{payment}");
    assert_eq!(row(&found, &in_time), None, "its time is not over: {found}");
    let text = stack.run(&list).await?.stdout;
    assert!(text.contains("OVERDUE FOR") && text.contains(" 3m "), "{text}");
    for order in [&overdue, &in_time] {
        stack.json(&["order", "cancel", order, "--yes"]).await?;
    }
    let found = stack.json(&list).await?;
    assert_eq!(row(&found, &overdue), None, "it does not await payment any more: {found}");
    let wrong = stack.run(&["payment", "list", "--status", "lost"]).await?;
    assert!(wrong.code == 2 && wrong.stderr.contains("refunding"), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn an_order_as_json_has_its_payment_and_its_time_line_what_payment_consumer_did() -> Result<()>
{
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Payment as JSON").await?;
    open_payment(&stack, &order).await?;
    let json = stack.json(&["order", "show", &order]).await?;
    assert_eq!((&json["id"], &json["payment"]["status"]), (&order.as_str().into(), &"open".into()));
    assert!(json["payment"]["payment_id"].is_string(), "{json}");
    let text = stack.run(&["order", "show", &order, "--output", "json"]).await?.stdout;
    assert!(text.contains("50.00"), "money keeps its two digits: {text}");
    let handled = eventually("payment-consumer's marker", 60.secs(), async || {
        let history = stack.json(&["order", "history", &order]).await?;
        let events = history.as_array().into_iter().flatten();
        let consumers = events.flat_map(|event| event["consumers"].as_array()).flatten();
        let mut payments = consumers.filter(|one| one["consumer"] == "payment-consumer");
        Ok(payments.find(|one| one["state"] == "done").cloned())
    })
    .await?;
    assert!(handled["done_at"].is_string() && handled["caused"][0].is_string(), "{handled}");
    let trace = stack.run(&["order", "trace", &order]).await?.stdout;
    assert!(trace.contains("OrderAwaitingPayment → PaymentRequested"), "{trace}");
    stack.json(&["order", "cancel", &order, "--yes"]).await?;
    Ok(())
}
