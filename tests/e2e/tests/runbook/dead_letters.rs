//! The sections of the DLQs.
//!
//! Poison dies by itself. A message that died of a fault of a dependency, which an emulator has none of, is moved from its queue to the DLQ: as SQS does
//! after the last try, or with the reason that its consumer gives.

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::MessageAttributeValue;
use e2e::{
    Queue, Seconds, Stack, eventually, expect_status,
    feedback::bounce,
    localstripe::GOOD_CARD,
    payments::{intent_id, localstripe, order_becomes, unpaid_order},
};
use serde_json::Value;
use uuid::Uuid;

use crate::playing::Playing;

/// All queues of a stack whose orders are paid, and followed by their customers.
pub(crate) const QUEUES: [Queue; 7] = [
    Queue::Product,
    Queue::Order,
    Queue::Payment,
    Queue::Notification,
    Queue::Feedback,
    Queue::Analytics,
    Queue::Push,
];

/// Waits until no message is on any queue: what an order brings about has come to its end.
pub(crate) async fn wait_until_nothing_moves(stack: &Stack) -> Result<()> {
    eventually("all queues to be empty", 120.secs(), async || {
        for queue in QUEUES {
            if stack.messages(stack.queue(queue)).await? > 0 {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// Waits until there are this many dead letters of a queue.
pub(crate) async fn wait_until_dead(stack: &Stack, queue: Queue, count: u64) -> Result<()> {
    let subject = format!("{count} dead letters of {}", queue.name());
    eventually(&subject, 60.secs(), async || {
        Ok((stack.messages(stack.dlq(queue)).await? == count).then_some(()))
    })
    .await
}

/// Moves the message with this text from its queue, whose consumer is paused, to the DLQ; with what its consumer says of its failure, if it does.
pub(crate) async fn die(
    stack: &Stack,
    queue: Queue,
    text: &str,
    failure: Option<(&str, &str)>,
) -> Result<()> {
    let message = stack.message_with(stack.queue(queue), text).await?;
    let mut attributes = message.message_attributes.unwrap_or_default();
    if let Some((reason, detail)) = failure {
        let now = format!("{:.3}", jiff::Timestamp::now());
        for (name, value) in [
            ("failure_reason", reason),
            ("failure_detail", detail),
            ("first_failed_at", &now),
            ("original_message_id", message.message_id.as_deref().unwrap_or_default()),
            ("attempts", "4"),
        ] {
            let value =
                MessageAttributeValue::builder().data_type("String").string_value(value).build()?;
            attributes.insert(name.to_owned(), value);
        }
    }
    let body = message.body.context("a body")?;
    let letter = stack.sqs.send_message().queue_url(stack.dlq(queue)).message_body(body);
    letter.set_message_attributes(Some(attributes)).send().await?;
    let receipt = message.receipt_handle.context("a receipt")?;
    let delete = stack.sqs.delete_message().queue_url(stack.queue(queue));
    delete.receipt_handle(receipt).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_message_that_product_gave_up_is_redriven_and_poison_is_dropped() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "product-dlq").await?;
    stack.send(stack.queue(Queue::Product), r#"{"event_type": "OrderCreated", "#).await?;
    wait_until_dead(&stack, Queue::Product, 1).await?;
    let product = stack.api.product("Teapot", "19.90", 10).await?;
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    die(&stack, Queue::Product, &order, None).await?;
    stack.resume(Queue::Product).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq list product", &[]).await?;
    playing.run("dlq show product --reason retries_exhausted", &[]).await?;
    playing.run("dlq redrive product --reason retries_exhausted --wait 1m", &[]).await?;
    playing.run("dlq drop product --reason not_json", &[]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    wait_until_nothing_moves(&stack).await?;
    playing.run("dlq list product", &[]).await?;
    playing.run("reconcile", &[]).await?;
    playing.end().await
}

#[tokio::test]
async fn a_contradiction_is_compared_with_the_books_and_dropped() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "order-dlq").await?;
    let product = stack.api.product("Saucer", "4.90", 10).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    wait_until_nothing_moves(&stack).await?;
    // Its stock was taken, and somebody says that there was none.
    let reserved = stack.event(&order, "StockReserved").await?;
    let id = serde_json::from_str::<Value>(&reserved)?["event_id"].clone();
    let id = id.as_str().context("the event's id")?;
    let rejected = reserved.replacen("StockReserved", "StockRejected", 1);
    let rejected = rejected.replacen(id, &Uuid::now_v7().to_string(), 1);
    let rejected = rejected.strip_suffix("}}").context("an event ends with its data")?;
    stack.send(stack.queue(Queue::Order), &format!(r#"{rejected},"short":[]}}}}"#)).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq show order --reason contradiction", &[]).await?;
    playing.run("reconcile", &[]).await?;
    playing.run("dlq drop order --reason contradiction", &[]).await?;
    playing.end().await
}

#[tokio::test]
async fn a_mail_of_which_nobody_knows_is_sent_again_and_one_to_nobody_is_dropped() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "notification-dlq").await?;
    let product = stack.api.product("Milk jug", "9.90", 10).await?;
    // Without product-consumer an order has but one mail.
    stack.pause(Queue::Product).await?;
    stack.pause(Queue::Notification).await?;
    let unknown = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    let failure =
        ("mail_outcome_unknown", "3 attempts had no answer; the effect may have happened");
    die(&stack, Queue::Notification, &unknown, Some(failure)).await?;
    let refused = stack.api.order("nobody@example.com", &[(&product, 1)]).await?;
    let failure = ("address_refused", "Domain contains dot-dot");
    die(&stack, Queue::Notification, &refused, Some(failure)).await?;
    stack.resume(Queue::Notification).await?;
    stack.resume(Queue::Product).await?;
    stack.api.wait_until_settled(&unknown).await?;
    stack.api.wait_until_settled(&refused).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq list notification", &[]).await?;
    let redrive = "dlq redrive notification --reason mail_outcome_unknown --wait 1m";
    playing.run(redrive, &[]).await?;
    playing.run("dlq drop notification --reason address_refused", &[]).await?;
    stack.wait_for_mails(&unknown, 2).await?;
    playing.end().await
}

#[tokio::test]
async fn a_bounce_that_was_given_up_is_redriven_and_its_address_suppressed() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "feedback-dlq").await?;
    stack.pause(Queue::Feedback).await?;
    stack.publish_feedback(&bounce("bob@example.com", "Permanent")).await?;
    die(&stack, Queue::Feedback, "bob@example.com", None).await?;
    stack.resume(Queue::Feedback).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq show feedback", &[]).await?;
    playing.run("dlq redrive feedback --all --wait 1m", &[]).await?;
    playing.run("suppressed list", &[]).await?;
    playing.end().await
}

#[tokio::test]
async fn an_event_that_was_given_up_is_redriven_and_counted() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "analytics-dlq").await?;
    let product = stack.api.product("Milk jug", "12.50", 10).await?;
    stack.pause(Queue::Analytics).await?;
    let order = stack.api.order("carol@example.com", &[(&product, 2)]).await?;
    stack.api.wait_until_settled(&order).await?;
    die(&stack, Queue::Analytics, &order, None).await?;
    stack.resume(Queue::Analytics).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq list analytics", &[]).await?;
    playing.run("dlq redrive analytics --all --wait 1m", &[]).await?;
    playing.run("analytics daily", &[]).await?;
    let reported = stack.reported_amounts(&order, &product).await?;
    ensure!(stack.counted_amounts(&product).await? == reported, "it is counted once");
    playing.end().await
}

#[tokio::test]
async fn a_change_that_nobody_could_be_told_of_is_dropped() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "push-dlq").await?;
    let product = stack.api.product("Tea cosy", "7.90", 10).await?;
    stack.pause(Queue::Push).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    let failure = ("retries_exhausted", "PostToConnection: AccessDeniedException");
    die(&stack, Queue::Push, &order, Some(failure)).await?;
    stack.resume(Queue::Push).await?;
    playing.wait_until_raised().await?;

    playing.run("dlq list push", &[]).await?;
    playing.run("dlq drop push --all", &[]).await?;
    playing.end().await
}

#[tokio::test]
async fn a_refund_that_failed_is_given_back_when_it_is_redriven() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "payment-dlq").await?;
    let (order, product) = unpaid_order(&stack, "Sugar bowl").await?;
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    stack.pause(Queue::Payment).await?;
    expect_status(&stack.api.cancel(&order).await?, 200)?;
    die(&stack, Queue::Payment, &order, Some(("refund_failed", "re_3PqLkX2eZvKYlo2C0t"))).await?;
    stack.resume(Queue::Payment).await?;
    stack.api.wait_for_stock(&product, 10).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.wait_until_raised().await?;

    let values = [("ORDER", order.as_str())];
    playing.run("dlq show payment", &values).await?;
    playing.run("payment show ORDER", &values).await?;
    playing.run("dlq redrive payment --reason refund_failed --wait 1m", &values).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.run("payment show ORDER", &values).await?;
    playing.run("reconcile", &values).await?;
    playing.end().await
}
