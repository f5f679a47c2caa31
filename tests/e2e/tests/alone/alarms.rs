//! An operator is alarmed: a dead letter raises the alarm of its queue, and the alarm ends with it; what the relay finds is
//! emitted as the alarms on it watch it.

use anyhow::{Context, Result};
use aws_sdk_cloudwatch::types::MetricAlarm;
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Capability, Queue, Seconds, Stack, alarms::is_beyond_threshold, eventually};
use jiff::Timestamp;

#[tokio::test]
async fn a_dead_letter_raises_its_queues_alarm() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::HasQueueMetrics) {
        return Ok(());
    }
    let state = async |wanted: &str| {
        let alarm = stack.alarm("product-dlq").await?;
        Ok(alarm.state_value().is_some_and(|state| state.as_str() == wanted).then_some(()))
    };
    stack.send(stack.queue(Queue::Product), "{").await?;
    let dlq = stack.dlq(Queue::Product);
    eventually("the dead letter", 60.secs(), async || {
        Ok((stack.messages(dlq).await? > 0).then_some(()))
    })
    .await?;
    eventually("the alarm", 120.secs(), async || state("ALARM").await).await?;
    stack.sqs.purge_queue().queue_url(dlq).send().await?;
    // LocalStack looks each minute, and at three periods of a minute, though the alarm has one: four minutes and what a look takes.
    eventually("the alarm to end", 300.secs(), async || state("OK").await).await
}

/// No emulator makes metrics of log lines, so the lines are compared with the deployed alarms. This stack is deployed with
/// OrderPendingMaxMinutes=0.
#[tokio::test]
async fn the_relay_emits_what_its_alarms_watch() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Alarming", "1", 5).await?;
    let pending = stack.alarm("orders-pending").await?;
    let stuck = stack.alarm("outbox-stuck").await?;
    assert_eq!(newest(&stack, &pending).await?, (0.0, false));
    assert_eq!(newest(&stack, &stuck).await?, (0.0, false));
    stack.pause(Queue::Product).await?;
    let order = stack.api.order("alarming@example.com", &[(&product, 1)]).await?;
    let event = stack.log(&order).await?[0]["event_id"].clone();
    set_outbox(&stack, &order, &event, "SET outbox_shard = :stuck, pending_since = :since").await?;
    assert_eq!(newest(&stack, &pending).await?, (1.0, true));
    assert_eq!(newest(&stack, &stuck).await?, (1.0, true));
    set_outbox(&stack, &order, &event, "REMOVE outbox_shard, pending_since").await?;
    stack.resume(Queue::Product).await?;
    stack.api.wait_until_settled(&order).await?;
    assert_eq!(newest(&stack, &pending).await?, (0.0, false));
    assert_eq!(newest(&stack, &stuck).await?, (0.0, false));
    Ok(())
}

/// What a sweep emits for an alarm, and whether that is beyond its threshold.
async fn newest(stack: &Stack, alarm: &MetricAlarm) -> Result<(f64, bool)> {
    let since = Timestamp::now();
    stack.sweep().await?.context("the sweep failed")?;
    let value = eventually("the sweep's metrics in its log", 30.secs(), async || {
        Ok(stack.emitted(alarm, since).await?.last().copied())
    })
    .await?;
    Ok((value, is_beyond_threshold(alarm, value)))
}

async fn set_outbox(
    stack: &Stack,
    order: &str,
    event: &AttributeValue,
    update: &str,
) -> Result<()> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut call = stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("EVENT_LOG_TABLE"))
        .key("order_id", text(order))
        .key("event_id", event.clone())
        .update_expression(update);
    if update.contains(":stuck") {
        call = call
            .expression_attribute_values(":stuck", text("stuck"))
            .expression_attribute_values(":since", text("2026-01-01T00:00:00.000Z"));
    }
    call.send().await?;
    Ok(())
}
