//! The mail provider does not answer.

use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::{
    Queue, Seconds, Stack,
    alarms::is_beyond_threshold,
    eventually,
    faults::{Call, Fault, Kind},
};
use futures::future::try_join_all;
use jiff::Timestamp;

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

/// A send that the provider answers late is one mail: neither the client nor SQS repeats it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_send_is_not_repeated() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Slowly mailed", "1", 100).await?;
    let send = |nth| Fault {
        call: Call { function: "notification-consumer".into(), operation: "SendEmail".into(), nth },
        kind: Kind::Slow,
    };
    stack.arm(&product, &[send(0), send(1)]).await?;
    let order = stack.api.order("slow@example.com", &[(&product, 1)]).await?;
    stack.wait_for_mails(&order, 2).await?;
    stack.wait_until_drained(Queue::Notification).await?;
    let mails = stack.mails(&order).await?;
    assert_eq!(mails.len(), 2, "{mails:?}");
    Ok(())
}

/// It is every mail's fault or none's: it waits, an alarm's metric counts it, and no mail dies of it.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_sender_is_not_verified_mails_wait_and_its_alarms_metric_counts() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Not verified", "1", 100).await?;
    let refused = |nth| Fault {
        call: Call { function: "notification-consumer".into(), operation: "SendEmail".into(), nth },
        kind: Kind::NotVerified,
    };
    stack.arm(&product, &[refused(0), refused(1)]).await?;
    let alarm = stack.alarm("mail-configuration").await?;
    let since = Timestamp::now();
    let order = stack.api.order("unverified@example.com", &[(&product, 1)]).await?;
    let counted = eventually("both refusals to be counted", 60.secs(), async || {
        let values = stack.emitted(&alarm, since).await?;
        Ok((values.len() >= 2).then_some(values))
    })
    .await?;
    assert!(counted.iter().all(|value| is_beyond_threshold(&alarm, *value)), "{counted:?}");
    stack.wait_for_mails(&order, 2).await?;
    stack.wait_until_drained(Queue::Notification).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Notification)).await?, 0);
    Ok(())
}
