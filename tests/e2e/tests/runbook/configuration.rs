//! The sections of what nobody but its owner can put right at SES and at Stripe, and of refunds and webhooks that are refused.

use anyhow::{Result, ensure};
use e2e::{
    Queue, Stack, expect_status,
    localstripe::GOOD_CARD,
    payments::{
        WEBHOOK_SECRET, intent_id, localstripe, name_intent, open_payment, order_becomes,
        payment_becomes, send_webhook, show_payment, signed, succeeded, unpaid_order,
    },
};
use serde_json::json;

use crate::{
    dead_letters::{die, wait_until_nothing_moves},
    playing::Playing,
};

/// The key of the stack's secret, which localstripe takes.
const API_KEY: &str = "sk_test_orderflow";
/// A restricted key, by its form: localstripe answers 401 to all of them.
const WRONG_KEY: &str = "rk_test_orderflow";
/// The secret of another endpoint.
const OTHER_WEBHOOK_SECRET: &str = "whsec_of_another_endpoint";
/// More than the alarm's threshold.
const REFUSED_WEBHOOKS: u32 = 4;

/// Puts this into the secret, and has a function read it now instead of within five minutes.
async fn set_secret(
    stack: &Stack,
    function: &str,
    api_key: &str,
    webhook_secrets: &[&str],
) -> Result<()> {
    let secret = json!({ "api_key": api_key, "webhook_secrets": webhook_secrets }).to_string();
    let put = aws_sdk_secretsmanager::Client::new(&stack.aws).put_secret_value();
    put.secret_id(stack.setting("STRIPE_SECRET_ARN")).secret_string(secret).send().await?;
    stack.restart(function).await
}

#[tokio::test]
async fn mails_that_gave_up_while_the_sender_was_not_verified_are_redriven() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "mail-configuration").await?;
    let product = stack.api.product("Napkin ring", "2.80", 10).await?;
    stack.verify_sender(false).await?;
    let order = stack.api.order("alice@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    playing.wait_until_raised().await?;
    // As after twelve hours.
    stack.pause(Queue::Notification).await?;
    for _ in 0..2 {
        die(&stack, Queue::Notification, &order, None).await?;
    }
    stack.verify_sender(true).await?;
    stack.resume(Queue::Notification).await?;
    playing.note_repair();

    let redrive = "dlq redrive notification --reason retries_exhausted --wait 2m";
    playing.run(redrive, &[]).await?;
    stack.wait_for_mails(&order, 2).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}

#[tokio::test]
async fn payments_that_gave_up_while_the_key_was_wrong_are_redriven() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "payment-configuration").await?;
    set_secret(&stack, "PAYMENT_CONSUMER", WRONG_KEY, &[WEBHOOK_SECRET]).await?;
    let (order, _) = unpaid_order(&stack, "Salt cellar").await?;
    playing.wait_until_raised().await?;
    // As after twelve hours.
    stack.pause(Queue::Payment).await?;
    die(&stack, Queue::Payment, &order, None).await?;
    set_secret(&stack, "PAYMENT_CONSUMER", API_KEY, &[WEBHOOK_SECRET]).await?;
    stack.resume(Queue::Payment).await?;
    playing.note_repair();

    playing.run("dlq redrive payment --reason retries_exhausted --wait 2m", &[]).await?;
    open_payment(&stack, &order).await?;
    wait_until_nothing_moves(&stack).await?;
    playing.end().await
}

#[tokio::test]
async fn a_payment_is_shown_again_when_payment_api_has_the_right_key() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "payment-api-configuration").await?;
    let (order, _) = unpaid_order(&stack, "Pepper mill").await?;
    open_payment(&stack, &order).await?;
    set_secret(&stack, "PAYMENT_API", WRONG_KEY, &[WEBHOOK_SECRET]).await?;
    expect_status(&show_payment(&stack, &order).await?, 503)?;
    playing.wait_until_raised().await?;

    set_secret(&stack, "PAYMENT_API", API_KEY, &[WEBHOOK_SECRET]).await?;
    playing.note_repair();
    expect_status(&show_payment(&stack, &order).await?, 200)?;
    playing.end().await
}

/// localstripe gives back what was paid and nothing else: a payment that names another order's PaymentIntent, which is not paid, stands for an account
/// without money.
#[tokio::test]
async fn a_refund_that_stripe_refused_is_given_back_when_it_is_asked_for_again() -> Result<()> {
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "refunds-refused").await?;
    let (order, _) = unpaid_order(&stack, "Soup tureen").await?;
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    let (unpaid, _) = unpaid_order(&stack, "Soup ladle").await?;
    wait_until_nothing_moves(&stack).await?;
    name_intent(&stack, &order, &intent_id(&stack, &unpaid).await?).await?;
    expect_status(&stack.api.cancel(&order).await?, 200)?;
    playing.wait_until_raised().await?;
    stack.pause(Queue::Payment).await?;
    name_intent(&stack, &order, &intent).await?;

    let values = [("ORDER", order.as_str())];
    playing.run("payment refund ORDER", &values).await?;
    playing.note_repair();
    stack.resume(Queue::Payment).await?;
    payment_becomes(&stack, &order, "refunded").await?;
    wait_until_nothing_moves(&stack).await?;
    playing.run("payment show ORDER", &values).await?;
    playing.end().await
}

#[tokio::test]
async fn webhooks_of_an_endpoint_are_let_in_when_its_secret_stands_beside_the_old_one() -> Result<()>
{
    let stack = Stack::load().await?;
    let mut playing = Playing::begin(&stack, "webhooks-refused").await?;
    let body = succeeded("evt_of_another_endpoint", "pi_of_another_shop");
    let send =
        async |secret: &str| send_webhook(&stack, &body, Some(&signed(&body, secret, 0))).await;
    for _ in 0..REFUSED_WEBHOOKS {
        ensure!(send(OTHER_WEBHOOK_SECRET).await? == 400);
    }
    playing.wait_until_raised().await?;
    set_secret(&stack, "PAYMENT_API", API_KEY, &[WEBHOOK_SECRET, OTHER_WEBHOOK_SECRET]).await?;
    playing.note_repair();
    for secret in [WEBHOOK_SECRET, OTHER_WEBHOOK_SECRET] {
        ensure!(send(secret).await? == 200);
    }
    set_secret(&stack, "PAYMENT_API", API_KEY, &[WEBHOOK_SECRET]).await?;
    playing.end().await
}
