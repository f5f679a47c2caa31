//! The mail provider does not answer.

use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::{Queue, Seconds, Stack, eventually};
use futures::future::try_join_all;

/// Seconds for which notification-consumer leaves alone a provider that keeps failing.
const PAUSE: u64 = 30;
/// Calls in a pause, from five execution environments at the most. Without a breaker there are nearly 200.
const CALLS_MAX: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_mail_provider_is_down_it_is_left_alone_and_afterwards_every_mail_is_sent_once()
-> Result<()> {
    const ORDERS: usize = 10;
    let stack = Stack::load().await?;
    let product = stack.api.product("Unmailed", "1", 100).await?;
    stack.down(Some("ses")).await?;
    let down = Instant::now();
    let lines = [(product.as_str(), 1)];
    let placed = (0..ORDERS).map(|_| stack.api.order("unmailed@example.com", &lines));
    let orders = try_join_all(placed).await?;
    for order in &orders {
        assert_eq!(
            stack.api.wait_until_settled(order).await?,
            "confirmed",
            "orders do not wait for mails"
        );
    }
    for order in &orders {
        stack.record(order).await?;
    }
    eventually("the outage to outlast a pause", (2 * PAUSE).secs(), async || {
        Ok((down.elapsed() > (PAUSE + 5).secs()).then_some(()))
    })
    .await?;
    let mut calls = 0;
    for order in &orders {
        let of_order = stack.calls(order).await?;
        calls += of_order.iter().filter(|call| call.operation == "SendEmail").count();
    }
    println!("{calls} calls to the provider while {ORDERS} orders had 2 mails to send");
    assert!(calls < CALLS_MAX, "{calls} calls");
    stack.down(None).await?;
    for order in &orders {
        eventually(&format!("both mails of {order}"), (3 * PAUSE).secs(), async || {
            Ok((stack.mails(order).await?.len() >= 2).then_some(()))
        })
        .await?;
    }
    stack.wait_until_drained(Queue::Notification).await?;
    for order in &orders {
        let mails = stack.mails(order).await?;
        ensure!(mails.len() == 2, "order {order} has {mails:?}");
    }
    assert_eq!(stack.messages(stack.dlq(Queue::Notification)).await?, 0);
    Ok(())
}
