//! The sections of the DLQs.
//!
//! Poison dies by itself. A message that died of a fault of a dependency, which an emulator has none of, is moved from its queue to the DLQ: as SQS does
//! after the last try, or with the reason that its consumer gives.

use anyhow::{Context, Result};
use aws_sdk_sqs::types::MessageAttributeValue;
use e2e::{Queue, Seconds, Stack, eventually};

use crate::playing::Playing;

/// All queues of a stack whose orders are paid.
const QUEUES: [Queue; 5] =
    [Queue::Product, Queue::Order, Queue::Payment, Queue::Notification, Queue::Feedback];

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
        let consumer = format!("{}-consumer", queue.name().to_lowercase());
        for (name, value) in [
            ("failure_reason", reason),
            ("failure_detail", detail),
            ("failed_at", &now),
            ("first_failed_at", &now),
            ("original_message_id", message.message_id.as_deref().unwrap_or_default()),
            ("consumer", &consumer),
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
