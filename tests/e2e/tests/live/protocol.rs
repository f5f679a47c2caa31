//! What a client says, and how long its connection stays open.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{
    Seconds, Stack, eventually,
    live::{Arrival, Live},
};
use serde_json::Value;

const PROMPT: Duration = Duration::from_secs(10);

/// The connections that watch an order, in the table.
async fn watchers(stack: &Stack, order: &str) -> Result<usize> {
    let items = stack.items("CONNECTIONS_TABLE").await?;
    let order = AttributeValue::S(order.to_owned());
    Ok(items.iter().filter(|item| item.get("order_id") == Some(&order)).count())
}

/// What is refused is answered with why, and closed.
async fn assert_refused(live: &mut Live, error: &str) -> Result<()> {
    let message = live.message(&format!("the error {error}"), PROMPT).await?;
    assert_eq!(message["error"], error, "{message}");
    assert!(message["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{message}");
    assert_eq!(live.next("the end", PROMPT).await?, Arrival::Closed);
    Ok(())
}

async fn new_order(stack: &Stack, name: &str) -> Result<String> {
    let product = stack.api.product(name, "10", 50).await?;
    stack.api.order("live@example.com", &[(&product, 1)]).await
}

#[tokio::test]
async fn the_state_comes_first_and_says_nothing_of_the_customer() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let order = new_order(&stack, "Watched late").await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    let mut live = Live::watching(&stack, &order).await?;
    let state = live.message("the state", PROMPT).await?;
    let wanted = serde_json::json!({ "kind": "state", "order_id": order, "version": 2, "status": "awaiting_payment" });
    assert_eq!(state, wanted);
    // Again on the same connection: the state as it is now.
    live.watch(&order, &stack.api.order_token(&order).context("a token")?).await?;
    assert_eq!(live.message("the state again", PROMPT).await?, wanted);
    assert_eq!(watchers(&stack, &order).await?, 1);
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_have_the_order_s_token_is_refused_and_closed() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (order, other) = (new_order(&stack, "Watched").await?, new_order(&stack, "Another").await?);
    let others_token = stack.api.order_token(&other).context("a token")?;
    for (order, token) in
        [(order.as_str(), others_token.as_str()), (&order, ""), (&order, "A"), ("none", "A")]
    {
        let mut live = Live::open(&stack).await?;
        live.watch(order, token).await?;
        assert_refused(&mut live, "order_token").await?;
    }
    assert_eq!(watchers(&stack, &order).await?, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_no_watch_is_refused_and_closed() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let long = format!(r#"{{"action":"watch","order_id":"x","order_token":"{:2000}"}}"#, "x");
    for (text, error) in [
        ("hello", "unreadable"),
        (r#"{"action":"cancel","order_id":"x"}"#, "unreadable"),
        (r#"{"action":"watch"}"#, "unreadable"),
        (r#"{"action":"$connect"}"#, "unreadable"),
        (r#"{"action":"$disconnect"}"#, "unreadable"),
        (&long, "too_large"),
    ] {
        let mut live = Live::open(&stack).await?;
        live.say(text).await?;
        assert_refused(&mut live, error).await.with_context(|| text.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_watches_one_order() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let (first, second) = (new_order(&stack, "First").await?, new_order(&stack, "Second").await?);
    let mut live = Live::watching(&stack, &first).await?;
    assert_eq!(live.message("the state", PROMPT).await?["order_id"], first.as_str());
    live.watch(&second, &stack.api.order_token(&second).context("a token")?).await?;
    // A change of the first may come before it.
    loop {
        let message = live.message("the refusal", PROMPT).await?;
        if message["error"] != Value::Null {
            assert_eq!(message["error"], "watches_another_order");
            break;
        }
        assert_eq!(message["order_id"], first.as_str(), "{message}");
    }
    assert_eq!(live.next("the end", PROMPT).await?, Arrival::Closed);
    Ok(())
}

#[tokio::test]
async fn one_order_is_watched_by_twenty_connections_and_no_more() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let order = new_order(&stack, "Popular").await?;
    stack.api.wait_until_settled(&order).await?;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut live = Live::watching(&stack, &order).await?;
        assert_eq!(live.message("the state", PROMPT).await?["status"], "awaiting_payment");
        open.push(live);
    }
    let mut one_more = Live::watching(&stack, &order).await?;
    assert_refused(&mut one_more, "too_many_watchers").await?;
    // One that goes makes room.
    open.pop().context("one")?.vanish();
    eventually("room for another", 30.secs(), async || {
        Ok((watchers(&stack, &order).await? == 19).then_some(()))
    })
    .await?;
    let mut another = Live::watching(&stack, &order).await?;
    assert_eq!(another.message("the state", PROMPT).await?["status"], "awaiting_payment");
    Ok(())
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_ten_seconds_and_one_that_watches_is_not() -> Result<()>
{
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    let order = new_order(&stack, "Watched for long").await?;
    stack.api.wait_until_settled(&order).await?;
    let opened = Instant::now();
    let mut watching = Live::watching(&stack, &order).await?;
    watching.message("the state", PROMPT).await?;
    let mut silent = Live::open(&stack).await?;
    assert_eq!(silent.next("the end of silence", 25.secs()).await?, Arrival::Closed);
    let after = opened.elapsed();
    println!("a silent connection was closed after {after:.1?}");
    assert!(after >= 9.secs(), "{after:?}");
    // The other's time was over before.
    stack.api.cancel(&order).await?;
    let statuses = watching.statuses_until("cancelled", PROMPT).await?;
    assert_eq!(statuses, [(4, "cancelled".to_owned())]);
    Ok(())
}
