//! The sections of queues that wait. They are played together, so that the time in which a message becomes too old goes by once.

use anyhow::Result;
use e2e::{Queue, Stack, feedback::bounce};

use crate::{
    dead_letters::{QUEUES, wait_until_nothing_moves},
    playing::Playing,
    relay::waiting_order,
};

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
    for queue in QUEUES {
        stack.pause(queue).await?;
    }
    let order = waiting_order(&stack, &product).await?;
    // Without product-consumer no order comes as far as these queues: they get what they had before, which is a duplicate to them.
    let reserved = stack.event(&settled, "StockReserved").await?;
    stack.send(stack.queue(Queue::Order), &reserved).await?;
    let awaiting = stack.event(&settled, "OrderAwaitingPayment").await?;
    stack.send(stack.queue(Queue::Payment), &awaiting).await?;
    stack.publish_feedback(&bounce("bob@example.com", "Permanent")).await?;
    for playing in [&of_product, &of_order, &of_notification, &of_feedback, &of_payment] {
        playing.wait_until_raised().await?;
    }

    of_feedback.run("resume feedback", &[]).await?;
    of_feedback.end().await?;
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
