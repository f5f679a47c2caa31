//! `orderflow order history`, `order trace` and `logs`: what one order went through, and what each consumer did with it.

use anyhow::{Context, Result};
use e2e::{Queue, Seconds, Stack, eventually};
use serde_json::Value;

/// A confirmed order that was mailed twice.
async fn confirmed(stack: &Stack, name: &str) -> Result<String> {
    let product = stack.api.product(name, "10.50", 10).await?;
    let order = stack.api.order("timeline@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    eventually("both mails", 60.secs(), async || {
        let history = stack.json(&["order", "history", &order]).await?;
        let is_mailed = |event: &Value| consumer(event, "notification-consumer")["state"] == "done";
        Ok((is_mailed(&history[0]) && is_mailed(&history[2])).then_some(()))
    })
    .await?;
    stack.wait_until_drained(Queue::Notification).await?;
    Ok(order)
}

/// What a consumer did with an event.
fn consumer<'a>(event: &'a Value, name: &str) -> &'a Value {
    let mut consumers = event["consumers"].as_array().into_iter().flatten();
    consumers.find(|handled| handled["consumer"] == name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_history_says_what_each_consumer_did_with_each_event_and_when() -> Result<()> {
    let stack = Stack::load().await?;
    let order = confirmed(&stack, "Handled").await?;
    let history = stack.json(&["order", "history", &order]).await?;
    let [created, reserved, settled] = [&history[0], &history[1], &history[2]];
    let correlation = created["correlation_id"].as_str().context("a correlation id")?;
    assert_eq!(settled["correlation_id"], correlation);
    // Who caused what.
    let product = consumer(created, "product-consumer");
    assert_eq!((&product["state"], &product["caused"][0]), (&"done".into(), &reserved["event_id"]));
    let settling = consumer(reserved, "order-consumer");
    assert_eq!(settling["caused"][0], settled["event_id"]);
    // When, to the millisecond: a mail is claimed after its event, and done after that.
    let at = |value: &Value| value.as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let mail = consumer(settled, "notification-consumer");
    let made = at(&settled["timestamp"]).context("when it was made")?;
    let claimed =
        at(&mail["claimed_at"]).with_context(|| format!("when it was claimed: {mail}"))?;
    let done = at(&mail["done_at"]).with_context(|| format!("when it was done: {mail}"))?;
    assert!(made <= claimed && claimed <= done, "{made} {claimed} {done}");
    // Who is not given an event is not named with it.
    assert_eq!(consumer(settled, "product-consumer"), &Value::Null, "{settled}");
    let text = stack.run(&["order", "history", &order]).await?.stdout;
    assert!(text.contains(correlation) && text.contains("notification-consumer"), "{text}");
    assert!(text.contains("done") && text.contains("StockReserved"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_history_names_a_consumer_that_has_not_handled_an_event_yet() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Waiting", "10.50", 10).await?;
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("waiting@example.com", &[(&product, 2)]).await?;
    let history = stack.json(&["order", "history", &order]).await?;
    assert_eq!(consumer(&history[0], "product-consumer")["state"], "no_marker", "{history}");
    let text = stack.run(&["order", "history", &order]).await?.stdout;
    assert!(text.contains("no marker"), "{text}");
    stack.resume(Queue::Product).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    Ok(())
}

#[tokio::test]
async fn a_trace_goes_from_the_request_to_the_last_mail() -> Result<()> {
    let stack = Stack::load().await?;
    let order = confirmed(&stack, "Traced").await?;
    let trace = stack.json(&["order", "trace", &order]).await?;
    assert_eq!(
        (&trace["order_id"], &trace["status"]),
        (&order.as_str().into(), &"confirmed".into())
    );
    let steps = trace["steps"].as_array().context("steps")?;
    let did: Vec<_> = steps.iter().filter_map(|step| step["did"].as_str()).collect();
    for wanted in [
        "OrderCreated",
        "OrderCreated → StockReserved",
        "StockReserved → OrderConfirmed",
        "OrderCreated: done",
        "OrderConfirmed: done",
    ] {
        assert!(did.contains(&wanted), "{wanted}: {did:?}");
    }
    let took = trace["took_ms"].as_i64().context("how long")?;
    assert!((1..60_000).contains(&took), "{trace}");
    let last = steps.iter().filter_map(|step| step["to_ms"].as_i64()).max();
    assert_eq!(last, Some(took), "the last step is the end");
    let mail = steps
        .iter()
        .find(|step| step["claimed_ms"].is_i64() && step["did"] == "OrderConfirmed: done");
    let mail = mail.context("the mail")?;
    assert!(mail["claimed_ms"].as_i64() >= mail["from_ms"].as_i64(), "{mail}");

    let text = stack.run(&["order", "trace", &order]).await?.stdout;
    let bars = text.lines().filter(|line| line.contains('█') && line.contains(" ms"));
    assert!(bars.count() >= steps.len(), "a bar for each step: {text}");
    assert!(text.contains("product-consumer") && text.contains("+0 ms"), "{text}");
    let absent = stack.run(&["order", "trace", "no-such-order"]).await?;
    assert_eq!(absent.code, 3, "{absent:?}");
    Ok(())
}

#[tokio::test]
async fn the_logs_of_an_order_come_from_all_functions_in_the_order_of_time() -> Result<()> {
    let stack = Stack::load().await?;
    let order = confirmed(&stack, "Logged").await?;
    let other = confirmed(&stack, "Logged besides").await?;
    let logs = eventually("the lines of all functions", 60.secs(), async || {
        let logs = stack.json(&["logs", "--order", &order]).await?;
        let functions: Vec<_> = logs["lines"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|line| line["function"].as_str())
            .collect();
        let wanted = ["order-api", "product-consumer", "order-consumer", "notification-consumer"];
        Ok(wanted.iter().all(|function| functions.contains(function)).then_some(logs))
    })
    .await?;
    let lines = logs["lines"].as_array().context("lines")?;
    let times: Vec<_> = lines.iter().filter_map(|line| line["at"].as_str()).collect();
    let parsed: Vec<jiff::Timestamp> = times.iter().filter_map(|at| at.parse().ok()).collect();
    assert!(parsed.len() == lines.len() && parsed.is_sorted(), "{times:?}");
    let all = logs.to_string();
    for noise in ["START RequestId", "END RequestId", "REPORT RequestId"] {
        assert!(!all.contains(noise), "{all}");
    }
    assert!(!all.contains(&other), "another order's lines are left out: {all}");
    let text = stack.run(&["logs", "--order", &order, "--since", "5m"]).await?.stdout;
    assert!(text.contains("message handled") && text.contains("order-api"), "{text}");
    let none = stack.run(&["logs", "--order", &order, "--since", "now"]).await?;
    assert!(none.code == 0 && none.stdout.contains("--since reaches further back"), "{none:?}");
    let absent = stack.run(&["logs", "--order", "no-such-order"]).await?;
    assert_eq!(absent.code, 3, "{absent:?}");
    Ok(())
}
