//! Orders that are paid by Stripe, against localstripe and a stack with `Payments=stripe`.

mod lists;
mod refused;

use anyhow::{Context, Result, ensure};
use e2e::{
    Queue, Seconds, Stack, eventually, expect_status,
    localstripe::{DECLINED_CARD, GOOD_CARD},
    payments::{
        WEBHOOK_SECRET, intent_id, let_time_run_out, localstripe, name_intent, open_payment,
        order_becomes, pass_time, payment_becomes, send_webhook, show_payment, signed, succeeded,
        unpaid_order,
    },
};
use futures::future::try_join_all;
use payment::webhook::TOLERANCE;
use serde_json::{Value, json};

#[tokio::test]
async fn an_order_is_confirmed_when_it_is_paid_and_not_before() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Paid").await?;
    let payment = open_payment(&stack, &order).await?;
    assert_eq!(
        (payment["amount"].to_string(), &payment["currency"]),
        ("50.0".into(), &json!("EUR"))
    );
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    payment_becomes(&stack, &order, "succeeded").await?;
    ensure!(show_payment(&stack, &order).await?.json.get("client_secret").is_none());
    let shipped = stack.api.admin("POST", &format!("/orders/{order}/ship"), "").await?;
    expect_status(&shipped, 200)?;
    assert_eq!(stack.api.stock(&product).await?, 6);
    assert_eq!(
        stack.api.reported_events(&order).await?,
        [
            "OrderCreated",
            "StockReserved",
            "OrderAwaitingPayment",
            "PaymentRequested",
            "PaymentSucceeded",
            "OrderConfirmed",
            "OrderShipped",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_command_shows_a_payment() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Visible").await?;
    let intent = intent_id(&stack, &order).await?;
    let shown = stack.run(&["payment", "show", &order]).await?;
    ensure!(shown.stdout.contains("open") && shown.stdout.contains(&intent), "{}", shown.stdout);
    let shown = stack.run(&["order", "show", &order]).await?;
    ensure!(shown.stdout.contains(&format!("payment   open ({intent})")), "{}", shown.stdout);
    let history = stack.run(&["order", "history", &order]).await?;
    for step in ["OrderAwaitingPayment", "PaymentRequested"] {
        ensure!(history.stdout.contains(step), "{}", history.stdout);
    }
    let none = stack.run(&["payment", "show", "no-such-order"]).await?;
    ensure!(none.stderr.contains("no payment of an order"), "{}", none.stderr);
    Ok(())
}

#[tokio::test]
async fn the_command_gives_a_payment_back_by_way_of_the_order_and_only_what_was_paid() -> Result<()>
{
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Given Back").await?;
    let intent = intent_id(&stack, &order).await?;
    let refund = ["payment", "refund", order.as_str(), "--yes"];
    let unpaid = stack.run(&refund).await?;
    ensure!(unpaid.code != 0 && unpaid.stderr.contains("the payment is open"), "{unpaid:?}");
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    let unasked = stack.run(&refund[..3]).await?;
    ensure!(unasked.code != 0 && unasked.stderr.contains("50.00 EUR back?"), "{unasked:?}");
    assert_eq!(stack.api.status(&order).await?, "confirmed");
    let done = stack.run(&refund).await?;
    ensure!(done.code == 0 && done.stdout.contains("payment-consumer gives it back"), "{done:?}");
    payment_becomes(&stack, &order, "refunded").await?;
    stack.api.wait_for_stock(&product, 10).await?;
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    let again = stack.run(&refund).await?;
    ensure!(again.code == 0 && again.stdout.contains("given back before"), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn the_command_has_a_cancellation_handled_again_and_refunds_nothing_that_is_shipped()
-> Result<()> {
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Stuck").await?;
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    stack.pause(Queue::Payment).await?;
    assert_eq!(stack.api.cancel(&order).await?.status, 200);
    // Before payment-consumer has seen that it is cancelled: then it sees it twice.
    let done = stack.run(&["payment", "refund", &order, "--yes"]).await?;
    stack.resume(Queue::Payment).await?;
    ensure!(done.code == 0, "{done:?}");
    payment_becomes(&stack, &order, "refunded").await?;
    stack.wait_until_drained(Queue::Payment).await?;
    let reported = stack.api.reported_events(&order).await?;
    let refunds = reported.iter().filter(|event| *event == "PaymentRefunded").count();
    assert_eq!(refunds, 1, "{reported:?}");

    let (shipped, _) = unpaid_order(&stack, "Sent Off").await?;
    let intent = intent_id(&stack, &shipped).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &shipped, "confirmed").await?;
    let answer = stack.api.admin("POST", &format!("/orders/{shipped}/ship"), "").await?;
    expect_status(&answer, 200)?;
    let refused = stack.run(&["payment", "refund", &shipped, "--yes"]).await?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("give its payment back at Stripe"),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_client_secret_is_the_customers_alone() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Secret").await?;
    open_payment(&stack, &order).await?;
    let path = format!("/orders/{order}/payment");
    let stranger = stack.api.call("GET", &path, "").await?;
    expect_status(&stranger, 403)?;
    let other = stack.api.order("other@example.com", &[]).await;
    ensure!(other.is_err(), "an order has lines");
    let (other, _) = unpaid_order(&stack, "Other").await?;
    let token = stack.api.order_token(&other).context("a token")?;
    let other = stack.api.call_with("GET", &path, "", &[("order-token", &token)]).await?;
    expect_status(&other, 403)?;
    // In no table: it is asked of Stripe whenever it is shown.
    for table in ["ORDERS_TABLE", "PAYMENTS_TABLE", "EVENT_LOG_TABLE", "IDEMPOTENCY_TABLE"] {
        let items = format!("{:?}", stack.items(table).await?);
        ensure!(!items.contains("_secret_"), "{table}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_that_is_not_paid_expires_and_gives_its_stock_back() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Unpaid").await?;
    let intent = intent_id(&stack, &order).await?;
    let_time_run_out(&stack, &order).await?;
    order_becomes(&stack, &order, "expired").await?;
    stack.api.wait_for_stock(&product, 10).await?;
    ensure!(!localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success(), "too late to pay");
    let answer = stack.api.call("GET", &format!("/orders/{order}"), "").await?;
    assert_eq!(answer.json["reason"], "The order was not paid in time");
    assert_eq!(stack.api.cancel(&order).await?.status, 409);
    let mails = stack.wait_for_mails(&order, 4).await?;
    for outcome in ["Awaits Payment", "Still Awaits Payment", "Expired"] {
        ensure!(mails.contains(&format!("Order #{order} {outcome}")), "{mails:?}");
    }
    let events = stack.api.reported_events(&order).await?;
    assert_eq!(
        events[2..],
        [
            "OrderAwaitingPayment",
            "PaymentRequested",
            "OrderPaymentReminder",
            "OrderPaymentOverdue",
            "PaymentCancelled",
            "OrderExpired",
            "StockReleased",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_payment_whose_webhook_is_lost_is_found_before_its_order_expires() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Lost webhook").await?;
    let intent = intent_id(&stack, &order).await?;
    let stripe = localstripe(&stack);
    // A row that names another PaymentIntent makes nothing of the webhook, as if it never came.
    name_intent(&stack, &order, "pi_another").await?;
    ensure!(stripe.pay(&intent, GOOD_CARD).await?.is_success());
    pass_time(&stack, &order).await?;
    eventually(&format!("the reminder of {order}"), 90.secs(), async || {
        Ok(stack.event(&order, "OrderPaymentReminder").await.ok())
    })
    .await?;
    assert_eq!(stack.api.status(&order).await?, "awaiting_payment");
    name_intent(&stack, &order, &intent).await?;
    pass_time(&stack, &order).await?;
    order_becomes(&stack, &order, "confirmed").await?;
    assert_eq!(stack.api.stock(&product).await?, 6);
    Ok(())
}

#[tokio::test]
async fn an_order_that_is_cancelled_before_it_is_paid_cannot_be_paid() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Cancelled").await?;
    let intent = intent_id(&stack, &order).await?;
    assert_eq!(stack.api.cancel(&order).await?.status, 200);
    stack.api.wait_for_stock(&product, 10).await?;
    payment_becomes(&stack, &order, "cancelled").await?;
    ensure!(!localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn a_paid_order_that_is_cancelled_is_refunded_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, product) = unpaid_order(&stack, "Refunded").await?;
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    order_becomes(&stack, &order, "confirmed").await?;
    assert_eq!(stack.api.cancel(&order).await?.status, 200);
    stack.api.wait_for_stock(&product, 10).await?;
    payment_becomes(&stack, &order, "refunded").await?;
    let cancelled = stack.event(&order, "OrderCancelled").await?;
    // To the queue, because on the topic only the functions may publish.
    let queue = stack.queue(Queue::Payment);
    try_join_all((0..5).map(|_| stack.send(queue, &cancelled))).await?;
    stack.wait_until_drained(Queue::Payment).await?;
    let reported = stack.api.reported_events(&order).await?;
    let refunds = reported.iter().filter(|event| *event == "PaymentRefunded").count();
    assert_eq!(refunds, 1, "{reported:?}");
    let url = format!("{}/v1/refunds?payment_intent={intent}", stack.setting("STRIPE_ENDPOINT"));
    let http = reqwest::Client::builder().no_proxy().build()?;
    let listed = http.get(url).bearer_auth(e2e::localstripe::KEY).send().await?;
    let listed: Value = serde_json::from_str(&listed.text().await?)?;
    let amounts: Vec<_> =
        listed["data"].as_array().context("refunds")?.iter().map(|r| &r["amount"]).collect();
    assert_eq!(amounts, [&json!(5000)]);
    Ok(())
}

#[tokio::test]
async fn after_a_declined_card_the_payment_stays_open() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Declined").await?;
    let intent = intent_id(&stack, &order).await?;
    assert_eq!(localstripe(&stack).pay(&intent, DECLINED_CARD).await?.as_u16(), 402);
    eventually(&format!("the failed payment of {order}"), 60.secs(), async || {
        Ok(stack.event(&order, "PaymentFailed").await.ok())
    })
    .await?;
    assert_eq!(stack.api.status(&order).await?, "awaiting_payment");
    // localstripe takes no second card for it; the simulation's Stripe does.
    assert_eq!(show_payment(&stack, &order).await?.json["status"], "open");
    Ok(())
}

#[tokio::test]
async fn what_is_not_signed_by_stripe_is_refused_and_has_no_effect() -> Result<()> {
    let stack = Stack::load().await?;
    let begun = jiff::Timestamp::now();
    let (order, _) = unpaid_order(&stack, "Forged").await?;
    let intent = intent_id(&stack, &order).await?;
    let body = succeeded("evt_forged", &intent);
    let too_old = i64::try_from(TOLERANCE.as_secs())? + 60;
    for signature in [
        None,
        Some("t=1,v1=00".to_owned()),
        Some(signed(&body, "whsec_other", 0)),
        Some(signed(&body, WEBHOOK_SECRET, too_old)),
        Some(signed(&format!("{body} "), WEBHOOK_SECRET, 0)),
    ] {
        assert_eq!(send_webhook(&stack, &body, signature.as_deref()).await?, 400, "{signature:?}");
    }
    let alarm = stack.alarm("webhooks-refused").await?;
    eventually("what the alarm watches", 30.secs(), async || {
        Ok((stack.emitted(&alarm, begun).await?.len() >= 5).then_some(()))
    })
    .await?;
    // Signed, but not true: Stripe is asked.
    let signature = signed(&body, WEBHOOK_SECRET, 0);
    assert_eq!(send_webhook(&stack, &body, Some(&signature)).await?, 200);
    assert_eq!(show_payment(&stack, &order).await?.json["status"], "open");
    // What is no payment of this shop, or of a type that nobody knows, is not to be sent again.
    for body in [
        succeeded("evt_foreign", "pi_of_another_shop"),
        json!({ "id": "evt_new", "type": "moon.full", "data": { "object": {} } }).to_string(),
    ] {
        let signature = signed(&body, WEBHOOK_SECRET, 0);
        assert_eq!(send_webhook(&stack, &body, Some(&signature)).await?, 200, "{body}");
    }
    Ok(())
}

#[tokio::test]
async fn a_webhook_that_comes_eight_times_at_once_has_one_effect() -> Result<()> {
    let stack = Stack::load().await?;
    let (order, _) = unpaid_order(&stack, "Eightfold").await?;
    let intent = intent_id(&stack, &order).await?;
    ensure!(localstripe(&stack).pay(&intent, GOOD_CARD).await?.is_success());
    let body = succeeded("evt_eightfold", &intent);
    let signature = signed(&body, WEBHOOK_SECRET, 0);
    let statuses =
        try_join_all((0..8).map(|_| send_webhook(&stack, &body, Some(&signature)))).await?;
    assert_eq!(statuses, [200; 8]);
    order_becomes(&stack, &order, "confirmed").await?;
    let reported = stack.api.reported_events(&order).await?;
    for event_type in ["PaymentSucceeded", "OrderConfirmed"] {
        let count = reported.iter().filter(|event| *event == event_type).count();
        assert_eq!(count, 1, "{reported:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_amount_that_stripe_does_not_take_is_refused_where_the_order_is_placed() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Cheap", "0.49", 10).await?;
    let body = e2e::api::order_body("cheap@example.com", &[(&product, 1)]);
    let answer = stack.api.call("POST", "/orders", body).await?;
    expect_status(&answer, 400)?;
    ensure!(answer.text.contains("the minimum is 0.50"), "{}", answer.text);
    Ok(())
}
