//! Orders with high priority, on a stack that was deployed with `PriorityQueue=on` and `PriorityTotal=1000`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use e2e::{Queue, Seconds, Stack, eventually};
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

/// Number of events that wait before the order is placed.
const BACKLOG: u64 = 2_000;
/// Number of messages of one call of SQS.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
const BATCH_MAX: u64 = 10;
const AT_ONCE: usize = 8;
/// How long both mails about an order may take while others wait, with two cold starts.
const MAILED_WITHIN: Duration = Duration::from_secs(20);

/// Puts so many events on the normal queue, each as if it were of another order and customer.
async fn fill(stack: &Stack, event: &str, [event_id, order, email]: [&str; 3]) -> Result<()> {
    let another = |number: u64| {
        event
            .replace(event_id, &Uuid::now_v7().to_string())
            .replace(order, &Uuid::new_v4().to_string())
            .replace(email, &format!("waits-{number}@example.com"))
    };
    let batches = (0..BACKLOG / BATCH_MAX).map(async |batch| {
        let entries = (0..BATCH_MAX).map(|place| {
            let body = another(batch * BATCH_MAX + place);
            let entry = SendMessageBatchRequestEntry::builder().id(place.to_string());
            entry.message_body(body).build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let call = stack.sqs.send_message_batch().queue_url(stack.queue(Queue::Notification));
        let answer = call.set_entries(Some(entries)).send().await?;
        ensure!(answer.failed().is_empty(), "{:?}", answer.failed());
        Ok(())
    });
    stream::iter(batches).buffer_unordered(AT_ONCE).try_collect().await
}

#[tokio::test]
async fn an_order_with_high_priority_does_not_wait_behind_two_thousand_mails() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Wanted by many", "600", 1_000).await?;
    stack.pause(Queue::Notification).await?;
    let first = stack.api.order("waits@example.com", &[(&product, 1)]).await?;
    let event = stack.event(&first, "OrderCreated").await?;
    let json: serde_json::Value = serde_json::from_str(&event)?;
    let event_id = json["event_id"].as_str().unwrap_or_default();
    fill(&stack, &event, [event_id, &first, "waits@example.com"]).await?;
    let waiting = stack.messages(stack.queue(Queue::Notification)).await?;
    stack.resume(Queue::Notification).await?;
    eventually("the backlog to be worked on", 60.secs(), async || {
        Ok((stack.messages(stack.queue(Queue::Notification)).await? < waiting).then_some(()))
    })
    .await?;
    let placed = Instant::now();
    // A total of exactly the threshold is not above it; the price of two is.
    let normal = stack.api.order("normal@example.com", &[(&product, 1)]).await?;
    let high = stack.api.order("high@example.com", &[(&product, 2)]).await?;
    let mails = stack.wait_for_mails(&high, 2).await?;
    let took = placed.elapsed();
    let left = stack.messages(stack.queue(Queue::Notification)).await?;
    println!("mailed twice after {} ms, while {left} messages waited", took.as_millis());
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert!(left > BACKLOG / 2, "{left} of {BACKLOG} were left: nothing to wait behind");
    assert_eq!(stack.mails(&normal).await?, Vec::<String>::new(), "it waits behind the others");
    assert!(took < MAILED_WITHIN, "{took:?}");
    // What has gone by one queue does not come by the other, too.
    assert_eq!(stack.messages(stack.dlq(Queue::NotificationPriority)).await?, 0);
    let queue = stack.queue(Queue::Notification);
    stack.sqs.purge_queue().queue_url(queue).send().await?;
    eventually("the backlog to be gone", 60.secs(), async || {
        Ok((stack.messages(queue).await? == 0).then_some(()))
    })
    .await?;
    assert_eq!(stack.mails(&high).await?.len(), 2, "once about each event");
    Ok(())
}

/// What the queue's consumer does with poison, it does by that queue's DLQ.
#[tokio::test]
async fn poison_of_the_priority_queue_is_sent_to_its_own_dlq() -> Result<()> {
    let stack = Stack::load().await?;
    let queue = stack.queue(Queue::NotificationPriority);
    stack.send(queue, "no JSON, with priority").await?;
    let dlq = stack.dlq(Queue::NotificationPriority);
    let dead = stack.message_with(dlq, "no JSON, with priority").await?;
    let reason = dead.message_attributes().and_then(|all| all.get("failure_reason"));
    assert_eq!(reason.and_then(|reason| reason.string_value()), Some("not_json"));
    // It is there before it is acknowledged.
    stack.wait_until_drained(Queue::NotificationPriority).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Notification)).await?, 0);
    stack.sqs.purge_queue().queue_url(dlq).send().await?;
    Ok(())
}
