//! Orders that are paid by Stripe, as their customers, Stripe and the clock move them on: of a stack with `Payments=stripe`.

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use ring::hmac;
use serde_json::{Value, json};

use crate::{Answer, Seconds, Stack, eventually, localstripe::LocalStripe};

/// The secret with which the stack's localstripe signs its webhooks.
pub const WEBHOOK_SECRET: &str = "whsec_orderflow";

/// The stack's localstripe.
#[must_use]
pub fn localstripe(stack: &Stack) -> LocalStripe {
    LocalStripe { endpoint: stack.setting("STRIPE_ENDPOINT").to_owned() }
}

/// An order of four pieces out of ten that awaits its payment, and its product.
///
/// # Errors
/// It does not come to that.
pub async fn unpaid_order(stack: &Stack, name: &str) -> Result<(String, String)> {
    let product = stack.api.product(name, "12.50", 10).await?;
    let email = format!("{}@example.com", name.to_ascii_lowercase().replace(' ', "-"));
    let order = stack.api.order(&email, &[(&product, 4)]).await?;
    let status = stack.api.wait_until_settled(&order).await?;
    ensure!(status == "awaiting_payment", "order {order} is {status}");
    let stock = stack.api.stock(&product).await?;
    ensure!(stock == 6, "the stock of {product} is {stock}");
    Ok((order, product))
}

/// What its customer is shown of the payment of an order.
///
/// # Errors
/// No answer came, or the order was not placed here.
pub async fn show_payment(stack: &Stack, order: &str) -> Result<Answer> {
    let token = stack.api.order_token(order).context("the order's token")?;
    let path = format!("/orders/{order}/payment");
    stack.api.call_with("GET", &path, "", &[("order-token", &token)]).await
}

/// The payment of an order, once it can be paid.
///
/// # Errors
/// It does not come to that.
pub async fn open_payment(stack: &Stack, order: &str) -> Result<Value> {
    eventually(&format!("the payment of {order} to be open"), 60.secs(), async || {
        let answer = show_payment(stack, order).await?;
        Ok((answer.json["status"] == "open").then_some(answer.json))
    })
    .await
}

/// The PaymentIntent of an order, as its client secret begins.
///
/// # Errors
/// It has none that is open.
pub async fn intent_id(stack: &Stack, order: &str) -> Result<String> {
    let payment = open_payment(stack, order).await?;
    let secret = payment["client_secret"].as_str().context("a client secret")?;
    let (id, _) =
        secret.split_once("_secret_").context("a client secret names its PaymentIntent")?;
    Ok(id.to_owned())
}

/// Waits until an order has this status.
///
/// # Errors
/// It keeps another.
pub async fn order_becomes(stack: &Stack, order: &str, status: &str) -> Result<()> {
    eventually(&format!("order {order} to become {status}"), 60.secs(), async || {
        Ok((stack.api.status(order).await? == status).then_some(()))
    })
    .await
}

/// Waits until the payment of an order has this status.
///
/// # Errors
/// It keeps another.
pub async fn payment_becomes(stack: &Stack, order: &str, status: &str) -> Result<()> {
    eventually(&format!("the payment of {order} to become {status}"), 60.secs(), async || {
        Ok((show_payment(stack, order).await?.json["status"] == status).then_some(()))
    })
    .await
}

/// Lets the time go by until the next step of an order that awaits its payment is due: the relay reminds, or calls it overdue.
///
/// # Errors
/// It does not await its payment; the relay fails.
pub async fn pass_time(stack: &Stack, order: &str) -> Result<()> {
    let past = AttributeValue::S("2020-01-01T00:00:00.000Z".into());
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("ORDERS_TABLE"))
        .key("order_id", AttributeValue::S(order.to_owned()))
        .update_expression("SET payment_next_at = :past")
        .condition_expression("attribute_exists(payment_next_at)")
        .expression_attribute_values(":past", past)
        .send()
        .await?;
    // It does so each minute by itself.
    stack.sweep().await?.context("the relay's report")?;
    Ok(())
}

/// Lets all of the time pass in which an order can be paid: the reminder, and the end.
///
/// # Errors
/// It does not await its payment; the relay fails.
pub async fn let_time_run_out(stack: &Stack, order: &str) -> Result<()> {
    pass_time(stack, order).await?;
    eventually(&format!("the reminder of {order}"), 90.secs(), async || {
        Ok(stack.event(order, "OrderPaymentReminder").await.ok())
    })
    .await?;
    pass_time(stack, order).await
}

/// Has the payment of an order name another PaymentIntent.
///
/// # Errors
/// DynamoDB refused it.
pub async fn name_intent(stack: &Stack, order: &str, intent: &str) -> Result<()> {
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("PAYMENTS_TABLE"))
        .key("order_id", AttributeValue::S(order.to_owned()))
        .update_expression("SET payment_id = :intent")
        .expression_attribute_values(":intent", AttributeValue::S(intent.to_owned()))
        .send()
        .await?;
    Ok(())
}

/// The header by which a webhook's body is Stripe's.
#[must_use]
pub fn signed(body: &str, secret: &str, seconds_ago: i64) -> String {
    let at = jiff::Timestamp::now().as_second() - seconds_ago;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex}")
}

/// Sends a webhook, and returns the status of the answer.
///
/// # Errors
/// No answer came.
pub async fn send_webhook(stack: &Stack, body: &str, signature: Option<&str>) -> Result<u16> {
    let headers: Vec<_> =
        signature.map(|signature| ("stripe-signature", signature)).into_iter().collect();
    Ok(stack.api.call_with("POST", "/payments/webhook", body, &headers).await?.status)
}

/// The body of a webhook that says of a PaymentIntent that it was paid.
#[must_use]
pub fn succeeded(event: &str, intent: &str) -> String {
    let object = json!({ "id": intent, "object": "payment_intent" });
    json!({ "id": event, "type": "payment_intent.succeeded", "data": { "object": object } })
        .to_string()
}
