//! What is pushed, and what becomes of it when something fails.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{
    Queue, Seconds, Stack, eventually, expect_status,
    live::Live,
    localstripe::GOOD_CARD,
    payments::{intent_id, let_time_run_out, localstripe, open_payment},
};
use events::Event;
use jiff::Timestamp;

const PROMPT: Duration = Duration::from_secs(15);

fn changes(statuses: &[(u64, &str)]) -> Vec<(u64, String)> {
    statuses.iter().map(|(version, status)| (*version, (*status).to_owned())).collect()
}

/// An order that awaits its payment, and a connection that knows it.
async fn watched(stack: &Stack, name: &str) -> Result<(String, Live)> {
    let product = stack.api.product(name, "10", 50).await?;
    let order = stack.api.order("pushed@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    let mut live = Live::watching(stack, &order).await?;
    assert_eq!(live.message("the state", PROMPT).await?["version"], 2);
    Ok((order, live))
}

/// How long ago the event of an order happened, in milliseconds.
async fn age_ms(stack: &Stack, order: &str, event_type: &str) -> Result<i64> {
    let now = Timestamp::now();
    let event = Event::decode(stack.event(order, event_type).await?.as_bytes())?;
    Ok(now.duration_since(event.timestamp.timestamp()).as_millis().try_into()?)
}

#[tokio::test]
async fn each_change_of_an_order_arrives_from_its_placing_to_its_shipping() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let product = stack.api.product("Watched to the end", "10", 50).await?;
    let order = stack.api.order("watched@example.com", &[(&product, 1)]).await?;
    let mut live = Live::watching(&stack, &order).await?;
    // The order may be on its way already when it is read: what comes first is its state, whichever that is.
    let mut known = live.statuses_until("awaiting_payment", PROMPT).await?;
    localstripe(&stack).pay(&intent_id(&stack, &order).await?, GOOD_CARD).await?;
    known.extend(live.statuses_until("confirmed", PROMPT).await?);
    expect_status(&stack.api.admin("POST", &format!("/orders/{order}/ship"), "").await?, 200)?;
    known.extend(live.statuses_until("shipped", PROMPT).await?);
    known.retain(|(version, _)| *version > 1);
    assert_eq!(known, changes(&[(2, "awaiting_payment"), (3, "confirmed"), (4, "shipped")]));
    Ok(())
}

/// A second is the promise on AWS. An emulator takes 100 ms for each of the invocations on the way, on a machine that does more than this.
#[tokio::test]
async fn a_change_arrives_soon_after_its_event() -> Result<()> {
    const TRIES: usize = 10;
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let mut ages = Vec::new();
    for _ in 0..TRIES {
        let (order, mut live) = watched(&stack, "Timed").await?;
        stack.api.cancel(&order).await?;
        live.statuses_until("cancelled", PROMPT).await?;
        ages.push(age_ms(&stack, &order, "OrderCancelled").await?);
    }
    ages.sort_unstable();
    println!("from event to arrival: {ages:?} ms");
    assert!(ages[TRIES / 2] < 2_000, "{ages:?}");
    Ok(())
}

#[tokio::test]
async fn an_order_that_is_not_paid_and_one_that_is_short_are_told_with_their_reasons() -> Result<()>
{
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (unpaid, mut live) = watched(&stack, "Not paid").await?;
    open_payment(&stack, &unpaid).await?;
    let_time_run_out(&stack, &unpaid).await?;
    assert_eq!(live.statuses_until("expired", 60.secs()).await?, changes(&[(4, "expired")]));
    let product = stack.api.product("Scarce", "10", 1).await?;
    stack.pause(Queue::Product).await?;
    let short = stack.api.order("short@example.com", &[(&product, 2)]).await?;
    let mut live = Live::watching(&stack, &short).await?;
    assert_eq!(live.message("the state", PROMPT).await?["status"], "pending");
    stack.resume(Queue::Product).await?;
    let rejected = live.message("the rejection", 60.secs()).await?;
    assert_eq!(rejected["kind"], "change");
    assert_eq!((&rejected["version"], &rejected["status"]), (&4.into(), &"rejected".into()));
    assert_eq!(rejected["reason"], "Out of stock: Scarce");
    Ok(())
}

#[tokio::test]
async fn every_connection_is_told_and_one_that_has_gone_is_forgotten_and_holds_up_none()
-> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (order, mut first) = watched(&stack, "Several").await?;
    let mut second = Live::watching(&stack, &order).await?;
    second.message("the state", PROMPT).await?;
    // One of which API Gateway has said nothing when it went.
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let expiry = AttributeValue::N((Timestamp::now().as_second() + 600).to_string());
    for key in [order.as_str(), "connection#0000gone"] {
        let put = stack.dynamodb.put_item().table_name(stack.setting("CONNECTIONS_TABLE"));
        put.item("order_id", text(key))
            .item("connection_id", text("0000gone"))
            .item("watches", text(&order))
            .item("expires_at", expiry.clone())
            .send()
            .await?;
    }
    stack.api.cancel(&order).await?;
    for live in [&mut first, &mut second] {
        assert_eq!(live.statuses_until("cancelled", PROMPT).await?, changes(&[(4, "cancelled")]));
    }
    eventually("the gone connection to be forgotten", 30.secs(), async || {
        let items = stack.items("CONNECTIONS_TABLE").await?;
        let gone = items.iter().any(|item| item["connection_id"] == text("0000gone"));
        Ok((!gone).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_connection_that_is_closed_is_forgotten() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (order, live) = watched(&stack, "Watched no more").await?;
    let order = AttributeValue::S(order);
    let count = async || {
        let items = stack.items("CONNECTIONS_TABLE").await?;
        let of_order = |item: &&e2e::Item| {
            item.get("order_id") == Some(&order) || item.get("watches") == Some(&order)
        };
        anyhow::Ok(items.iter().filter(of_order).count())
    };
    assert_eq!(count().await?, 2, "what it watches, by both keys");
    live.vanish();
    eventually("both to be gone", 30.secs(), async || Ok((count().await? == 0).then_some(()))).await
}

#[tokio::test]
async fn a_redelivery_and_what_waited_for_a_paused_consumer_are_told_and_nothing_is_lost()
-> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (order, mut live) = watched(&stack, "Backlog").await?;
    stack.pause(Queue::Push).await?;
    stack.api.cancel(&order).await?;
    let cancelled = stack.event(&order, "OrderCancelled").await?;
    // It comes twice, and with it an older one, which a client drops.
    let older = stack.event(&order, "OrderAwaitingPayment").await?;
    for event in [&cancelled, &older] {
        stack.send(stack.queue(Queue::Push), event).await?;
    }
    stack.resume(Queue::Push).await?;
    let mut versions = Vec::new();
    for _ in 0..3 {
        let message = live.message("all that waited", 60.secs()).await?;
        versions.push(message["version"].as_u64().context("a version")?);
    }
    versions.sort_unstable();
    assert_eq!(versions, [2, 4, 4]);
    stack.wait_until_drained(Queue::Push).await?;
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn poison_goes_to_the_dlq_with_its_reason() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    for (poison, reason) in
        [("poison for PUSH", "not_json"), (r#"{"close_if_silent":7,"for":"PUSH"}"#, "schema")]
    {
        stack.send(stack.queue(Queue::Push), poison).await?;
        let message = stack.message_with(stack.dlq(Queue::Push), poison).await?;
        let attributes = message.message_attributes().context("attributes")?;
        let found = attributes.get("failure_reason").and_then(|reason| reason.string_value());
        assert_eq!(found, Some(reason), "{attributes:?}");
    }
    Ok(())
}
