//! An operator is alarmed: a dead letter raises the alarm of its queue, and the alarm ends with it.

use anyhow::{Context, Result};
use e2e::{Capability, Queue, Seconds, Stack, eventually};

#[tokio::test]
async fn a_dead_letter_raises_its_queues_alarm() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::HasQueueMetrics) {
        return Ok(());
    }
    let alarm = format!("{}-product-dlq", stack.setting("STACK_NAME"));
    let state = async |wanted: &str| {
        let answer = stack.cloudwatch.describe_alarms().alarm_names(&alarm).send().await?;
        let alarm = answer.metric_alarms().first().context("the alarm")?;
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
    eventually("the alarm to end", 180.secs(), async || state("OK").await).await
}
