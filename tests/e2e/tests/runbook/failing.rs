//! The sections of consumers of which more than one message in twenty fails. Their alarms calculate with several metrics, which MiniStack refuses: what
//! the template has them calculate is calculated here.

use anyhow::{Result, ensure};
use e2e::{Queue, Stack, feedback::bounce};

use crate::{
    dead_letters::{QUEUES, die, wait_until_dead, wait_until_nothing_moves},
    playing::Playing,
    waiting::settled_order,
};

/// Enough for a rate, with the poison.
const GOOD_MESSAGES: usize = 18;
/// Enough for a rate in which a conflict that is tried again weighs little.
const MESSAGES_AFTER_REPAIR: usize = 50;
const POISON: [&str; 2] = ["[]", r#"{"event_type": "OrderCreated", "#];

/// Sends each consumer this many messages of which it has nothing to do. Of a duplicate it would publish again what that has caused, which would come to
/// the others.
async fn send_good(stack: &Stack, settled: &str, count: usize) -> Result<()> {
    let reserved = stack.event(settled, "StockReserved").await?;
    let awaiting = stack.event(settled, "OrderAwaitingPayment").await?;
    let bounce = bounce("bob@example.com", "Permanent").to_string();
    for queue in QUEUES {
        let body = match queue {
            Queue::Feedback => &bounce,
            Queue::Order => &awaiting,
            _ => &reserved,
        };
        for _ in 0..count {
            stack.send(stack.queue(queue), body).await?;
        }
    }
    wait_until_nothing_moves(stack).await
}

#[tokio::test]
async fn consumers_that_fail_more_than_one_message_in_twenty_are_looked_into() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Fish kettle", "24.50", 10).await?;
    let settled = settled_order(&stack, &product).await?;
    let mut of_product = Playing::begin(&stack, "product-errors").await?;
    let mut of_order = Playing::begin(&stack, "order-errors").await?;
    let mut of_notification = Playing::begin(&stack, "notification-errors").await?;
    let mut of_payment = Playing::begin(&stack, "payment-errors").await?;
    let mut of_feedback = Playing::begin(&stack, "feedback-errors").await?;
    let mut of_analytics = Playing::begin(&stack, "analytics-errors").await?;
    let mut of_push = Playing::begin(&stack, "push-errors").await?;
    send_good(&stack, &settled, GOOD_MESSAGES).await?;
    for queue in QUEUES {
        for (dead_before, body) in (0..).zip(POISON) {
            stack.send(stack.queue(queue), body).await?;
            // So that they are listed in this order.
            wait_until_dead(&stack, queue, dead_before + 1).await?;
        }
    }
    let all = [
        &mut of_product,
        &mut of_order,
        &mut of_notification,
        &mut of_payment,
        &mut of_feedback,
        &mut of_analytics,
        &mut of_push,
    ];
    for playing in &all {
        playing.wait_until_raised().await?;
    }
    for playing in all {
        playing.note_repair();
    }

    of_product.run("dlq list product", &[]).await?;
    of_product.run("log-level product-consumer debug", &[]).await?;
    of_product.run("log-level product-consumer --reset", &[]).await?;
    of_order.run("dlq list order", &[]).await?;
    of_notification.run("dlq list notification", &[]).await?;
    of_payment.run("dlq list payment", &[]).await?;
    of_feedback.run("dlq list feedback", &[]).await?;
    of_analytics.run("dlq list analytics", &[]).await?;
    of_push.run("dlq list push", &[]).await?;
    for queue in QUEUES {
        let name = queue.name().to_lowercase();
        let dropped = stack.json(&["dlq", "drop", &name, "--all", "--no-copy", "--yes"]).await?;
        ensure!(dropped[0]["done"] == POISON.len(), "{dropped}");
    }
    send_good(&stack, &settled, MESSAGES_AFTER_REPAIR).await?;
    for playing in
        [of_product, of_order, of_notification, of_payment, of_feedback, of_analytics, of_push]
    {
        playing.end().await?;
    }
    Ok(())
}

/// SNS moves what it could not deliver, as SQS does what was received too often: without a word.
#[tokio::test]
async fn what_sns_could_not_deliver_is_redriven() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "sns-delivery").await?;
    let product = stack.api.product("Jam jar", "3.20", 10).await?;
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    die(&stack, Queue::Product, &order, None).await?;
    stack.resume(Queue::Product).await?;

    playing.run("dlq list product", &[]).await?;
    playing.run("dlq redrive product --reason retries_exhausted", &[]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}
