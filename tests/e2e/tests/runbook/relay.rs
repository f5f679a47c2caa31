//! The sections of what the relay counts in its sweeps: events that are stuck, orders that are late, payments that are overdue.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{
    Queue, Seconds, Stack, eventually,
    payments::{open_payment, order_becomes, pass_time, unpaid_order},
};

use jiff::{SignedDuration, Timestamp};

use crate::{dead_letters::wait_until_nothing_moves, playing::Playing};

/// Places an order while product-consumer is paused, and waits until the relay has published its event once more, as it does by itself of an order that
/// waits: then it does no more.
pub(crate) async fn waiting_order(stack: &Stack, product: &str) -> Result<String> {
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("alice@example.com", &[(product, 1)]).await?;
    eventually("the relay to publish OrderCreated once more", 60.secs(), async || {
        stack.sweep().await?.context("the sweep failed")?;
        Ok((stack.messages(stack.queue(Queue::Product)).await? == 2).then_some(()))
    })
    .await?;
    Ok(order)
}

/// An order of which product-consumer never hears.
async fn unheard_order(stack: &Stack, product: &str) -> Result<String> {
    let order = waiting_order(stack, product).await?;
    let queue = stack.queue(Queue::Product);
    for _ in 0..2 {
        let message = stack.message_with(queue, &order).await?;
        let receipt = message.receipt_handle().context("a receipt")?;
        stack.sqs.delete_message().queue_url(queue).receipt_handle(receipt).send().await?;
    }
    stack.resume(Queue::Product).await?;
    wait_until_nothing_moves(stack).await?;
    Ok(order)
}

/// Puts an order's first event back into the outbox, and returns the event's id.
async fn set_outbox(stack: &Stack, order: &str, shard: &str, since: Timestamp) -> Result<String> {
    let event = stack.log(order).await?[0]["event_id"].clone();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let table = stack.setting("EVENT_LOG_TABLE");
    let update = stack.dynamodb.update_item().table_name(table).key("order_id", text(order));
    let update = update.key("event_id", event.clone());
    let update = update.update_expression("SET outbox_shard = :shard, pending_since = :since");
    let update = update.expression_attribute_values(":shard", text(shard));
    let since = text(&format!("{since:.3}"));
    update.expression_attribute_values(":since", since).send().await?;
    Ok(event.as_s().ok().context("the event's id")?.clone())
}

/// Lets the relay's next sweeps look for SNS here; where it is, without.
async fn set_sns_endpoint(stack: &Stack, endpoint: Option<&str>) -> Result<()> {
    const VARIABLE: &str = "AWS_ENDPOINT_URL_SNS";
    stack
        .change_variables("RELAY", |variables| match endpoint {
            Some(endpoint) => drop(variables.insert(VARIABLE.to_owned(), endpoint.to_owned())),
            None => drop(variables.remove(VARIABLE)),
        })
        .await
}

#[tokio::test]
async fn an_event_that_sns_did_not_take_for_minutes_is_published_when_it_does() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "outbox-old").await?;
    let product = stack.api.product("Egg timer", "6.20", 10).await?;
    let order = unheard_order(&stack, &product).await?;
    // Nobody listens there.
    set_sns_endpoint(&stack, Some("http://127.0.0.1:1")).await?;
    let since = Timestamp::now() - SignedDuration::from_mins(4);
    set_outbox(&stack, &order, "0", since).await?;
    playing.wait_until_raised().await?;

    playing.run("outbox list --pending", &[]).await?;
    set_sns_endpoint(&stack, None).await?;
    stack.sweep().await?.context("the sweep failed")?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}

#[tokio::test]
async fn a_stuck_event_is_published_again_and_its_order_settles() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "outbox-stuck").await?;
    let product = stack.api.product("Cake stand", "39.00", 10).await?;
    let order = unheard_order(&stack, &product).await?;
    // As the relay leaves it if SNS refuses it for good.
    let event = set_outbox(&stack, &order, "stuck", Timestamp::now()).await?;
    playing.wait_until_raised().await?;

    let values = [("ORDER", order.as_str()), ("EVENT", event.as_str())];
    playing.run("outbox list", &values).await?;
    playing.run("outbox show EVENT", &values).await?;
    playing.run("order republish ORDER --event EVENT --now", &values).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    playing.run("outbox list", &values).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}

#[tokio::test]
async fn an_order_whose_event_was_lost_settles_when_it_is_published_again() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "orders-pending").await?;
    let product = stack.api.product("Butter dish", "14.50", 10).await?;
    let order = unheard_order(&stack, &product).await?;
    playing.wait_until_raised().await?;

    let values = [("ORDER", order.as_str())];
    playing.run("status", &values).await?;
    playing.run("order list --late", &values).await?;
    playing.run("order history ORDER", &values).await?;
    playing.run("order republish ORDER --now", &values).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "awaiting_payment");
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}

#[tokio::test]
async fn an_overdue_payment_is_ended_when_payment_consumer_works_again() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "payments-overdue").await?;
    let (order, product) = unpaid_order(&stack, "Gravy boat").await?;
    open_payment(&stack, &order).await?;
    wait_until_nothing_moves(&stack).await?;
    stack.pause(Queue::Payment).await?;
    // The reminder, the end, and the ten minutes after which the relay asks once more.
    for _ in 0..3 {
        pass_time(&stack, &order).await?;
    }
    let due = (Timestamp::now() - SignedDuration::from_mins(31)).to_string();
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("ORDERS_TABLE"))
        .key("order_id", AttributeValue::S(order.clone()))
        .update_expression("SET payment_due_at = :due")
        .expression_attribute_values(":due", AttributeValue::S(due))
        .send()
        .await?;
    playing.wait_until_raised().await?;
    stack.wait_until_drained(Queue::Notification).await?;

    let values = [("ORDER", order.as_str())];
    playing.run("status", &values).await?;
    playing.run("payment list --overdue", &values).await?;
    playing.run("payment show ORDER", &values).await?;
    stack.resume(Queue::Payment).await?;
    order_becomes(&stack, &order, "expired").await?;
    stack.api.wait_for_stock(&product, 10).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}
