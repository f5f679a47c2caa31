//! What is not the business of the two functions of payments is refused to their roles, and to the relay's what is theirs. Each test makes a call
//! that is its business first, so that a refusal is not one of the credentials. As for the other functions in `iam`, which has no payments.

use std::fmt::Debug;

use anyhow::Result;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, error::ProvideErrorMetadata, types::AttributeValue};
use e2e::{Capability, Queue, Stack};

fn assert_refused<T: Debug, E: ProvideErrorMetadata + Debug>(answer: Result<T, E>) {
    let error = answer.expect_err("allowed: was the stack started with --server-env AUTH=true?");
    let refusals = ["AccessDenied", "AccessDeniedException", "AuthorizationError"];
    assert!(error.code().is_some_and(|code| refusals.contains(&code)), "{error:?}");
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// The stack, if its emulator can refuse anything.
async fn enforcing() -> Result<Option<Stack>> {
    let stack = Stack::load().await?;
    Ok(stack.can(Capability::EnforcesIam).then_some(stack))
}

/// What neither of the two may: orders are order-service's, and the shop's other secrets nobody's here.
async fn assert_kept_from_orders_and_secrets(stack: &Stack, role: &SdkConfig) -> Result<()> {
    let dynamodb = Client::new(role);
    let read = |table| dynamodb.get_item().table_name(stack.setting(table));
    read("PAYMENTS_TABLE").key("order_id", text("none")).send().await?;
    assert_refused(read("ORDERS_TABLE").key("order_id", text("none")).send().await);
    assert_refused(read("PRODUCTS_TABLE").key("product_id", text("none")).send().await);
    let payments = stack.setting("PAYMENTS_TABLE");
    assert_refused(dynamodb.scan().table_name(payments).send().await);
    let delete = dynamodb.delete_item().table_name(payments).key("order_id", text("none"));
    assert_refused(delete.send().await);
    let secrets = aws_sdk_secretsmanager::Client::new(role);
    secrets.get_secret_value().secret_id(stack.setting("STRIPE_SECRET_ARN")).send().await?;
    let of_tokens = stack.setting("ORDER_TOKEN_SECRET_FIRST");
    assert_refused(secrets.get_secret_value().secret_id(of_tokens).send().await);
    let of_stripe = secrets.put_secret_value().secret_id(stack.setting("STRIPE_SECRET_ARN"));
    assert_refused(of_stripe.secret_string("{}").send().await);
    Ok(())
}

#[tokio::test]
async fn payment_api_reads_payments_and_handles_no_queue() -> Result<()> {
    let Some(stack) = enforcing().await? else { return Ok(()) };
    let role = stack.with_role_of("PAYMENT_API").await?;
    assert_kept_from_orders_and_secrets(&stack, &role).await?;
    let sqs = aws_sdk_sqs::Client::new(&role);
    let queue = stack.queue(Queue::Payment);
    assert_refused(sqs.receive_message().queue_url(queue).send().await);
    assert_refused(sqs.send_message().queue_url(queue).message_body("{}").send().await);
    Ok(())
}

#[tokio::test]
async fn payment_consumer_reads_payments_and_handles_its_own_queue_alone() -> Result<()> {
    let Some(stack) = enforcing().await? else { return Ok(()) };
    let role = stack.with_role_of("PAYMENT_CONSUMER").await?;
    assert_kept_from_orders_and_secrets(&stack, &role).await?;
    let sqs = aws_sdk_sqs::Client::new(&role);
    sqs.get_queue_attributes().queue_url(stack.queue(Queue::Payment)).send().await?;
    for queue in Queue::ALL {
        assert_refused(sqs.receive_message().queue_url(stack.queue(queue)).send().await);
        let send = sqs.send_message().queue_url(stack.dlq(queue)).message_body("{}");
        assert_refused(send.send().await);
    }
    let own = sqs.send_message().queue_url(stack.queue(Queue::Payment)).message_body("{}");
    assert_refused(own.send().await);
    Ok(())
}

#[tokio::test]
async fn relay_looks_for_orders_that_await_payment_and_touches_no_payment() -> Result<()> {
    let Some(stack) = enforcing().await? else { return Ok(()) };
    let role = stack.with_role_of("RELAY").await?;
    let dynamodb = Client::new(&role);
    let orders = dynamodb.query().table_name(stack.setting("ORDERS_TABLE"));
    let awaiting = orders.index_name("awaiting_payment");
    let awaiting = awaiting.key_condition_expression("payment_shard = :shard");
    awaiting.expression_attribute_values(":shard", text("0")).send().await?;
    let payment = dynamodb.get_item().table_name(stack.setting("PAYMENTS_TABLE"));
    assert_refused(payment.key("order_id", text("none")).send().await);
    let secrets = aws_sdk_secretsmanager::Client::new(&role);
    let secret = secrets.get_secret_value().secret_id(stack.setting("STRIPE_SECRET_ARN"));
    assert_refused(secret.send().await);
    Ok(())
}
