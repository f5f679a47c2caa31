//! The sections of queues that wait. They are played together, so that the time in which a message becomes too old goes by once.

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use e2e::{Queue, Stack, feedback::bounce};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    dead_letters::{QUEUES, wait_until_nothing_moves},
    playing::Playing,
    relay::waiting_order,
};

/// More than the alarms' threshold.
const BACKLOG: usize = 1_001;
/// Maximum number of messages of one SendMessageBatch call.
const MESSAGES_AT_ONCE: usize = 10;

/// What each consumer takes, of an order that is settled: a duplicate for it.
async fn duplicates(stack: &Stack, settled: &str) -> Result<[(Queue, String); 7]> {
    Ok([
        (Queue::Product, stack.event(settled, "OrderCreated").await?),
        (Queue::Order, stack.event(settled, "StockReserved").await?),
        (Queue::Payment, stack.event(settled, "OrderAwaitingPayment").await?),
        (Queue::Notification, stack.event(settled, "OrderAwaitingPayment").await?),
        (Queue::Feedback, bounce("bob@example.com", "Permanent").to_string()),
        (Queue::Analytics, stack.event(settled, "OrderAwaitingPayment").await?),
        (Queue::Push, stack.event(settled, "OrderAwaitingPayment").await?),
    ])
}

pub(crate) async fn settled_order(stack: &Stack, product: &str) -> Result<String> {
    let order = stack.api.order("alice@example.com", &[(product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    wait_until_nothing_moves(stack).await?;
    Ok(order)
}

async fn send_backlog(stack: &Stack, queue: Queue, body: &str) -> Result<()> {
    for first in (0..BACKLOG).step_by(MESSAGES_AT_ONCE) {
        let entries = (first..BACKLOG.min(first + MESSAGES_AT_ONCE)).map(|index| {
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string());
            entry.message_body(body).build().expect("an id and a body")
        });
        let call = stack.sqs.send_message_batch().queue_url(stack.queue(queue));
        let sent = call.set_entries(Some(entries.collect())).send().await?;
        ensure!(sent.failed().is_empty(), "{:?}", sent.failed());
    }
    Ok(())
}

#[tokio::test]
async fn queues_of_more_than_a_thousand_messages_are_worked_off() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Toast rack", "12.50", 10).await?;
    let settled = settled_order(&stack, &product).await?;
    let mut of_product = Playing::begin(&stack, "product-backlog").await?;
    let mut of_order = Playing::begin(&stack, "order-backlog").await?;
    let mut of_notification = Playing::begin(&stack, "notification-backlog").await?;
    let mut of_feedback = Playing::begin(&stack, "feedback-backlog").await?;
    let mut of_payment = Playing::begin(&stack, "payment-backlog").await?;
    let mut of_analytics = Playing::begin(&stack, "analytics-backlog").await?;
    let mut of_push = Playing::begin(&stack, "push-backlog").await?;
    for (queue, body) in duplicates(&stack, &settled).await? {
        stack.pause(queue).await?;
        send_backlog(&stack, queue, &body).await?;
    }
    for playing in [
        &of_product,
        &of_order,
        &of_notification,
        &of_feedback,
        &of_payment,
        &of_analytics,
        &of_push,
    ] {
        playing.wait_until_raised().await?;
    }

    of_product.run("status", &[]).await?;
    of_notification.run("status", &[]).await?;
    of_product.run("resume product", &[]).await?;
    is_over(&stack, of_product, Queue::Product).await?;
    of_order.run("resume order", &[]).await?;
    is_over(&stack, of_order, Queue::Order).await?;
    of_payment.run("resume payment", &[]).await?;
    is_over(&stack, of_payment, Queue::Payment).await?;
    of_feedback.run("resume feedback", &[]).await?;
    is_over(&stack, of_feedback, Queue::Feedback).await?;
    of_analytics.run("resume analytics", &[]).await?;
    is_over(&stack, of_analytics, Queue::Analytics).await?;
    of_push.run("resume push", &[]).await?;
    is_over(&stack, of_push, Queue::Push).await?;
    stack.resume(Queue::Notification).await?;
    is_over(&stack, of_notification, Queue::Notification).await?;
    wait_until_nothing_moves(&stack).await
}

/// One queue after the other; the rest of what waits on it are copies, of which there is nothing more to see.
async fn is_over(stack: &Stack, playing: Playing<'_>, queue: Queue) -> Result<()> {
    playing.end().await?;
    stack.sqs.purge_queue().queue_url(stack.queue(queue)).send().await?;
    stack.wait_until_drained(queue).await
}

#[tokio::test]
async fn events_that_come_late_are_older_than_a_minute_and_later_ones_are_not() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Sugar bowl", "9.50", 10).await?;
    let settled = settled_order(&stack, &product).await?;
    let mut all = [
        Playing::begin(&stack, "product-lag").await?,
        Playing::begin(&stack, "order-lag").await?,
        Playing::begin(&stack, "payment-lag").await?,
        Playing::begin(&stack, "notification-lag").await?,
        Playing::begin(&stack, "push-lag").await?,
    ];
    for (queue, event) in duplicates(&stack, &settled).await? {
        if queue == Queue::Feedback {
            continue;
        }
        // What was on its way for two minutes.
        let mut event: Value = serde_json::from_str(&event)?;
        let happened: Timestamp = event["timestamp"].as_str().context("a moment")?.parse()?;
        event["timestamp"] = format!("{:.3}", happened - SignedDuration::from_mins(2)).into();
        stack.send(stack.queue(queue), &event.to_string()).await?;
    }
    for playing in &all {
        playing.wait_until_raised().await?;
    }
    wait_until_nothing_moves(&stack).await?;
    for playing in &mut all {
        playing.run("status", &[]).await?;
        playing.note_repair();
    }
    settled_order(&stack, &product).await?;
    for playing in all {
        playing.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn queues_whose_consumers_were_paused_are_worked_off_when_they_are_switched_on() -> Result<()>
{
    let stack = Stack::load().await?;
    let product = stack.api.product("Egg cup", "3.50", 10).await?;
    let settled = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&settled).await?;
    wait_until_nothing_moves(&stack).await?;
    let mut of_product = Playing::begin(&stack, "product-waiting").await?;
    let mut of_order = Playing::begin(&stack, "order-waiting").await?;
    let mut of_notification = Playing::begin(&stack, "notification-waiting").await?;
    let mut of_feedback = Playing::begin(&stack, "feedback-waiting").await?;
    let mut of_payment = Playing::begin(&stack, "payment-waiting").await?;
    let mut of_analytics = Playing::begin(&stack, "analytics-waiting").await?;
    let mut of_push = Playing::begin(&stack, "push-waiting").await?;
    for queue in QUEUES {
        stack.pause(queue).await?;
    }
    let order = waiting_order(&stack, &product).await?;
    // Without product-consumer no order comes as far as these queues: they get what they had before, which is a duplicate to them.
    let reserved = stack.event(&settled, "StockReserved").await?;
    stack.send(stack.queue(Queue::Order), &reserved).await?;
    let awaiting = stack.event(&settled, "OrderAwaitingPayment").await?;
    for queue in [Queue::Payment, Queue::Push] {
        stack.send(stack.queue(queue), &awaiting).await?;
    }
    stack.publish_feedback(&bounce("bob@example.com", "Permanent")).await?;
    for playing in [
        &of_product,
        &of_order,
        &of_notification,
        &of_feedback,
        &of_payment,
        &of_analytics,
        &of_push,
    ] {
        playing.wait_until_raised().await?;
    }

    of_feedback.run("resume feedback", &[]).await?;
    of_feedback.end().await?;
    of_analytics.run("resume analytics", &[]).await?;
    of_analytics.end().await?;
    of_push.run("resume push", &[]).await?;
    of_push.end().await?;
    of_payment.run("resume payment", &[]).await?;
    of_payment.end().await?;
    of_order.run("resume order", &[]).await?;
    of_order.end().await?;
    of_notification.run("resume notification", &[]).await?;
    of_notification.end().await?;
    of_product.run("status", &[]).await?;
    of_product.run("resume product", &[]).await?;
    of_product.end().await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    wait_until_nothing_moves(&stack).await
}
