//! What is not a function's business is refused to its role. Each test makes a call that is its business
//! first, so that a refusal is not one of the credentials.

use std::fmt::Debug;

use anyhow::{Context, Result};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{AttributeValue, BatchStatementRequest},
};
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Queue, expect_status};

fn is_refusal(error: &impl ProvideErrorMetadata) -> bool {
    let refusals = ["AccessDenied", "AccessDeniedException", "AuthorizationError"];
    error.code().is_some_and(|code| refusals.contains(&code))
}

fn assert_refused<T: Debug, E: ProvideErrorMetadata + Debug>(answer: Result<T, E>) {
    let error = answer.expect_err("allowed: was the stack started with --server-env AUTH=true?");
    assert!(is_refusal(&error), "{error:?}");
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

#[tokio::test]
async fn order_api_reads_orders_and_does_not_write_products() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("ORDER_API").await?);
    let (orders, products) = (stack.setting("ORDERS_TABLE"), stack.setting("PRODUCTS_TABLE"));
    dynamodb.get_item().table_name(orders).key("order_id", text("none")).send().await?;
    let write = dynamodb.put_item().table_name(products).item("product_id", text("forged"));
    assert_refused(write.send().await);
    assert!(stack.item("PRODUCTS_TABLE", "product_id", "forged").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn order_consumer_reads_orders_and_does_not_make_any() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("ORDER_CONSUMER").await?);
    let orders = stack.setting("ORDERS_TABLE");
    dynamodb.get_item().table_name(orders).key("order_id", text("none")).send().await?;
    let write = dynamodb.put_item().table_name(orders).item("order_id", text("forged"));
    assert_refused(write.send().await);
    assert!(stack.item("ORDERS_TABLE", "order_id", "forged").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn product_api_reads_products_and_neither_reads_nor_clears_the_event_log() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("PRODUCT_API").await?);
    dynamodb.scan().table_name(stack.setting("PRODUCTS_TABLE")).limit(1).send().await?;
    let event_log = stack.setting("EVENT_LOG_TABLE");
    assert_refused(dynamodb.scan().table_name(event_log).send().await);
    let statement = BatchStatementRequest::builder()
        .statement(format!(
            "UPDATE \"{event_log}\" REMOVE outbox_shard WHERE \"order_id\" = ? AND \"event_id\" = ?"
        ))
        .set_parameters(Some(vec![text("none"), text("none")]))
        .build()?;
    assert_refused(dynamodb.batch_execute_statement().statements(statement).send().await);
    Ok(())
}

#[tokio::test]
async fn product_consumer_reads_reservations_and_not_orders() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("PRODUCT_CONSUMER").await?);
    let read =
        |table| dynamodb.get_item().table_name(stack.setting(table)).key("order_id", text("none"));
    read("RESERVATIONS_TABLE").send().await?;
    assert_refused(read("ORDERS_TABLE").send().await);
    Ok(())
}

#[tokio::test]
async fn notification_consumer_gives_up_a_lease_and_publishes_nothing() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let role = stack.with_role_of("NOTIFICATION_CONSUMER").await?;
    let lease = aws_sdk_dynamodb::Client::new(&role).delete_item();
    lease.table_name(stack.setting("IDEMPOTENCY_TABLE")).key("key", text("none")).send().await?;
    let publish = aws_sdk_sns::Client::new(&role).publish();
    assert_refused(publish.topic_arn(stack.setting("TOPIC_ARN")).message("{}").send().await);
    Ok(())
}

#[tokio::test]
async fn feedback_consumer_suppresses_an_address_and_reads_none() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("FEEDBACK_CONSUMER").await?);
    let table = stack.setting("SUPPRESSED_TABLE");
    let suppress = dynamodb.put_item().table_name(table).item("email", text("a@example.com"));
    suppress.send().await?;
    assert_refused(dynamodb.scan().table_name(table).send().await);
    let release = dynamodb.delete_item().table_name(table).key("email", text("a@example.com"));
    assert_refused(release.send().await);
    let orders = stack.setting("ORDERS_TABLE");
    let read = dynamodb.get_item().table_name(orders).key("order_id", text("none"));
    assert_refused(read.send().await);
    Ok(())
}

#[tokio::test]
async fn analytics_consumer_counts_and_neither_reads_nor_replaces_what_is_counted() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("ANALYTICS_CONSUMER").await?);
    let table = stack.setting("ANALYTICS_TABLE");
    let add = dynamodb.update_item().table_name(table).key("day", text("0#tried"));
    let add = add.key("row", text("tried")).update_expression("ADD units :none");
    add.expression_attribute_values(":none", AttributeValue::N("0".into())).send().await?;
    let key = dynamodb.get_item().table_name(table).key("day", text("0#tried"));
    assert_refused(key.key("row", text("tried")).send().await);
    let replaced = dynamodb.put_item().table_name(table).item("day", text("0#tried"));
    assert_refused(replaced.item("row", text("forged")).send().await);
    let orders = stack.setting("ORDERS_TABLE");
    let read = dynamodb.get_item().table_name(orders).key("order_id", text("none"));
    assert_refused(read.send().await);
    Ok(())
}

#[tokio::test]
async fn analytics_api_reads_days_and_counts_nothing() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("ANALYTICS_API").await?);
    let table = stack.setting("ANALYTICS_TABLE");
    let day = dynamodb.query().table_name(table).key_condition_expression("#day = :day");
    let day = day.expression_attribute_names("#day", "day");
    day.expression_attribute_values(":day", text("0#none")).send().await?;
    let add = dynamodb.update_item().table_name(table).key("day", text("0#none"));
    let add = add.key("row", text("none")).update_expression("ADD units :none");
    let add = add.expression_attribute_values(":none", AttributeValue::N("0".into()));
    assert_refused(add.send().await);
    let events = stack.setting("EVENT_LOG_TABLE");
    assert_refused(dynamodb.scan().table_name(events).send().await);
    Ok(())
}

#[tokio::test]
async fn relay_looks_for_what_is_pending_and_makes_no_order() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let dynamodb = aws_sdk_dynamodb::Client::new(&stack.with_role_of("RELAY").await?);
    let pending =
        dynamodb.query().table_name(stack.setting("EVENT_LOG_TABLE")).index_name("outbox");
    let pending = pending.key_condition_expression("outbox_shard = :shard");
    pending.expression_attribute_values(":shard", text("0")).send().await?;
    let orders = stack.setting("ORDERS_TABLE");
    let made = dynamodb.put_item().table_name(orders).item("order_id", text("made"));
    assert_refused(made.send().await);
    assert_refused(dynamodb.scan().table_name(orders).send().await);
    Ok(())
}

#[tokio::test]
async fn a_consumer_handles_the_messages_of_no_queue_but_its_own_and_sends_to_none() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    for own in Queue::ALL {
        let role = stack.with_role_of(&format!("{}_CONSUMER", own.name())).await?;
        let sqs = aws_sdk_sqs::Client::new(&role);
        for queue in Queue::ALL.into_iter().chain([Queue::NotificationPriority]) {
            let url = stack.queue(queue);
            let look = sqs.get_queue_attributes().queue_url(url);
            let looked = look.attribute_names(QueueAttributeName::QueueArn).send().await;
            let put_off = sqs.change_message_visibility().queue_url(url).receipt_handle("none");
            let put_off = put_off.visibility_timeout(0).send().await;
            let of_priority = (Queue::Notification, Queue::NotificationPriority);
            if queue == own || (own, queue) == of_priority {
                looked?;
                // It gets as far as to hear that there is no such message.
                let error = put_off.expect_err("there is no such message");
                assert!(!is_refusal(&error), "{error:?}");
            } else {
                assert_refused(put_off);
                assert_refused(looked);
                assert_refused(sqs.receive_message().queue_url(url).send().await);
                let dlq = sqs.send_message().queue_url(stack.dlq(queue)).message_body("{}");
                assert_refused(dlq.send().await);
            }
            assert_refused(sqs.send_message().queue_url(url).message_body("{}").send().await);
        }
    }
    Ok(())
}

/// Consumers believe the topic. The tests' own credentials are of somebody to whom IAM allows everything.
#[tokio::test]
async fn who_may_publish_to_every_topic_may_not_publish_events() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let topic = stack.setting("TOPIC_ARN");
    // Without an event type it passes no queue's filter.
    let relay = aws_sdk_sns::Client::new(&stack.with_role_of("RELAY").await?);
    relay.publish().topic_arn(topic).message("{}").send().await?;
    stack.sns.get_topic_attributes().topic_arn(topic).send().await?;
    let alarms = stack.sns.publish().topic_arn(stack.setting("ALARM_TOPIC_ARN"));
    alarms.message("tried").send().await?;
    assert_refused(stack.sns.publish().topic_arn(topic).message("{}").send().await);
    Ok(())
}

/// A signature says who calls, not that they may.
#[tokio::test]
async fn who_signs_as_a_function_is_no_administrator() -> Result<()> {
    let Some(stack) = crate::enforcing().await? else { return Ok(()) };
    let role = stack.with_role_of("PRODUCT_API").await?;
    let provider = role.credentials_provider().context("credentials")?;
    let api = stack.api.signing_as(provider.provide_credentials().await?);
    let answer = api.admin("POST", "/products", r#"{"name":"Forged","price":1}"#).await?;
    expect_status(&answer, 403)
}
