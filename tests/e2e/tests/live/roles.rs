//! What is not these functions' business is refused to their roles. What is, all other tests of this group show.

use std::fmt::Debug;

use anyhow::Result;
use aws_sdk_dynamodb::{error::ProvideErrorMetadata, types::AttributeValue};
use e2e::{Capability, Queue};

fn assert_refused<T: Debug, E: ProvideErrorMetadata + Debug>(answer: Result<T, E>) {
    let error = answer.expect_err("allowed: was the stack started with --server-env AUTH=true?");
    let refusals = ["AccessDenied", "AccessDeniedException", "AuthorizationError"];
    assert!(error.code().is_some_and(|code| refusals.contains(&code)), "{error:?}");
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

#[tokio::test]
async fn push_api_reads_orders_and_changes_none_and_sends_to_its_queue_alone() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    if !stack.can(Capability::EnforcesIam) {
        return Ok(());
    }
    let role = stack.with_role_of("PUSH_API").await?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&role);
    let orders = stack.setting("ORDERS_TABLE");
    dynamodb.get_item().table_name(orders).key("order_id", text("none")).send().await?;
    let made = dynamodb.put_item().table_name(orders).item("order_id", text("forged"));
    assert_refused(made.send().await);
    assert_refused(dynamodb.scan().table_name(orders).send().await);
    let sqs = aws_sdk_sqs::Client::new(&role);
    let order = sqs.send_message().queue_url(stack.queue(Queue::Order)).message_body("{}");
    assert_refused(order.send().await);
    let publish = aws_sdk_sns::Client::new(&role).publish();
    assert_refused(publish.topic_arn(stack.setting("TOPIC_ARN")).message("{}").send().await);
    Ok(())
}

#[tokio::test]
async fn push_consumer_finds_who_watches_and_reads_no_order() -> Result<()> {
    let Some(stack) = crate::live_stack().await? else { return Ok(()) };
    if !stack.can(Capability::EnforcesIam) {
        return Ok(());
    }
    let role = stack.with_role_of("PUSH_CONSUMER").await?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&role);
    let connections = stack.setting("CONNECTIONS_TABLE");
    let key = |call: aws_sdk_dynamodb::operation::get_item::builders::GetItemFluentBuilder| {
        call.key("order_id", text("none"))
    };
    let look = key(dynamodb.get_item().table_name(connections));
    look.key("connection_id", text("none")).send().await?;
    assert_refused(key(dynamodb.get_item().table_name(stack.setting("ORDERS_TABLE"))).send().await);
    let made = dynamodb.put_item().table_name(connections).item("order_id", text("forged"));
    assert_refused(made.item("connection_id", text("forged")).send().await);
    let sqs = aws_sdk_sqs::Client::new(&role);
    for url in [stack.queue(Queue::Push), stack.queue(Queue::Order)] {
        assert_refused(sqs.send_message().queue_url(url).message_body("{}").send().await);
    }
    let publish = aws_sdk_sns::Client::new(&role).publish();
    assert_refused(publish.topic_arn(stack.setting("TOPIC_ARN")).message("{}").send().await);
    Ok(())
}
