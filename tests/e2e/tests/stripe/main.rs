//! Stripe's protocol on the wire, against localstripe: a server of it that others have written.
//!
//! In: `STRIPE_ENDPOINT`, which tests/e2e/tests/stripe/run.sh sets. It has no idempotency keys and no filters of lists, and its errors have
//! no codes: what depends on those is not tested here.

use std::{
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use e2e::localstripe::{DECLINED_CARD, GOOD_CARD, KEY, LocalStripe};
use jiff::Timestamp;
use order::stripe_amount::StripeAmount;
use payment::{
    stripe::{ApiKey, IntentStatus, NewIntent, PaymentIntent, RefundStatus, Stripe, StripeError},
    webhook::WebhookSecrets,
};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const SECRET: &str = "whsec_of_this_test";
/// localstripe sends a webhook a second after what it tells of.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(20);

async fn aws() -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(settings::http_client())
        .no_credentials()
        .region(Region::new("us-east-1"));
    settings::aws_with(loader).await
}

fn endpoint() -> Result<String> {
    std::env::var("STRIPE_ENDPOINT").context("STRIPE_ENDPOINT is not set: run `make e2e-stripe`")
}

async fn stripe(key: &str) -> Result<Stripe> {
    let key = ApiKey::new(key).context("a key")?;
    Ok(Stripe::new(&aws().await, &endpoint()?, &key))
}

fn order_id() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    format!("order-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn create(stripe: &Stripe, order_id: &str) -> Result<PaymentIntent> {
    let amount = StripeAmount::new("10.99".parse()?, &"EUR".parse()?)?;
    let new = NewIntent { order_id, amount, currency: "EUR" };
    Ok(stripe.create_intent(order_id, new).await?)
}

/// What the customer's browser does by Stripe's JavaScript: pays with this card.
async fn pay(intent: &PaymentIntent, card: &str) -> Result<reqwest::StatusCode> {
    LocalStripe { endpoint: endpoint()? }.pay(&intent.id, card).await
}

#[tokio::test]
async fn an_order_is_paid_and_its_money_given_back() -> Result<()> {
    let stripe = stripe(KEY).await?;
    let id = order_id();
    let intent = create(&stripe, &id).await?;
    assert_eq!(intent.status, IntentStatus::RequiresPaymentMethod);
    assert_eq!((intent.amount, &*intent.currency), (1099, "eur"));
    assert_eq!(intent.metadata.order_id.as_deref(), Some(&*id));
    ensure!(intent.client_secret.is_some(), "{intent:?}");
    ensure!(pay(&intent, GOOD_CARD).await?.is_success());
    let paid = stripe.get_intent(&intent.id).await?;
    assert_eq!(paid.status, IntentStatus::Succeeded);
    ensure!(stripe.list_refunds(&intent.id).await?.is_empty());
    let refund = stripe.create_refund(&format!("{id}-refund"), &intent.id).await?;
    assert_eq!((refund.amount, refund.status), (1099, Some(RefundStatus::Succeeded)));
    assert_eq!(stripe.list_refunds(&intent.id).await?, [refund]);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_payment_cannot_be_paid_and_a_paid_one_cannot_be_cancelled() -> Result<()> {
    let stripe = stripe(KEY).await?;
    let intent = create(&stripe, &order_id()).await?;
    let cancelled = stripe.cancel_intent(&intent.id).await?;
    assert_eq!(cancelled.status, IntentStatus::Canceled);
    ensure!(!pay(&intent, GOOD_CARD).await?.is_success());
    assert_eq!(stripe.get_intent(&intent.id).await?.status, IntentStatus::Canceled);

    let intent = create(&stripe, &order_id()).await?;
    pay(&intent, GOOD_CARD).await?;
    let refused = stripe.cancel_intent(&intent.id).await;
    // Stripe itself says payment_intent_unexpected_state.
    ensure!(matches!(refused, Err(StripeError::Refused { .. })), "{refused:?}");
    assert_eq!(stripe.get_intent(&intent.id).await?.status, IntentStatus::Succeeded);
    Ok(())
}

#[tokio::test]
async fn after_a_declined_card_the_payment_awaits_another() -> Result<()> {
    let stripe = stripe(KEY).await?;
    let intent = create(&stripe, &order_id()).await?;
    assert_eq!(pay(&intent, DECLINED_CARD).await?.as_u16(), 402);
    let declined = stripe.get_intent(&intent.id).await?;
    assert_eq!(declined.status, IntentStatus::RequiresPaymentMethod);
    Ok(())
}

#[tokio::test]
async fn a_payment_that_is_not_there_and_a_key_that_is_not_known_differ() -> Result<()> {
    let missing = stripe(KEY).await?.get_intent("pi_none").await;
    ensure!(matches!(missing, Err(StripeError::Missing)), "{missing:?}");
    // localstripe takes every key of more than five characters.
    let unknown = stripe("sk_").await?.get_intent("pi_none").await;
    ensure!(matches!(unknown, Err(StripeError::Configuration(401))), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_was_not_asked() -> Result<()> {
    let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let key = ApiKey::new(KEY).context("a key")?;
    let stripe = Stripe::new(&aws().await, &format!("http://{free}"), &key);
    let error = stripe.get_intent("pi_1").await;
    ensure!(matches!(error, Err(StripeError::NotDone(_))), "{error:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_may_have_done_it() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let key = ApiKey::new(KEY).context("a key")?;
    let stripe = Stripe::new(&aws().await, &format!("http://{}", silent.local_addr()?), &key);
    let error = stripe.cancel_intent("pi_1").await;
    ensure!(matches!(error, Err(StripeError::NoAnswer(_))), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_webhook_is_recognised_by_its_signature() -> Result<()> {
    let (sender, mut received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhook", listener.local_addr()?);
    let webhook =
        async |State(sender): State<mpsc::UnboundedSender<_>>, headers: HeaderMap, body: Bytes| {
            let _ = sender.send((headers, body));
        };
    let server = Router::new().route("/webhook", post(webhook)).with_state(sender);
    let server = tokio::spawn(async move { axum::serve(listener, server).await });
    let event_types = ["payment_intent.succeeded"];
    let localstripe = LocalStripe { endpoint: endpoint()? };
    localstripe.send_webhooks_to("of_this_test", &url, SECRET, &event_types).await?;

    let stripe = stripe(KEY).await?;
    let intent = create(&stripe, &order_id()).await?;
    pay(&intent, GOOD_CARD).await?;
    // Other tests are paid meanwhile, too.
    let found = timeout(WEBHOOK_TIMEOUT, async {
        while let Some((headers, body)) = received.recv().await {
            let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok());
            let event = WebhookSecrets::new([SECRET]).read(signature, &body, Timestamp::now())?;
            if event.payment_intent.as_deref() == Some(&*intent.id) {
                let other = WebhookSecrets::new(["whsec_other"]);
                ensure!(other.read(signature, &body, Timestamp::now()).is_err());
                return Ok(event.event_type);
            }
        }
        bail!("the server of webhooks has ended")
    });
    let found = found.await.context("no webhook of this payment came")??;
    assert_eq!(found, "payment_intent.succeeded");
    server.abort();
    Ok(())
}
