//! The payment service's HTTP calls: the customer's, who wants to pay, and Stripe's, who tells what came of it.
//!
//! In: `GET /orders/{id}/payment` with the order's token, `POST /payments/webhook` with Stripe's signature. Out: what a browser pays with;
//! PaymentSucceeded, PaymentFailed and PaymentCancelled. Guarantees: a client secret goes to who has the order's token, and nowhere else;
//! what Stripe tells is a hint, for whose truth Stripe is asked, so that order and number of its messages do not matter; a message is
//! answered with an error only if Stripe should send it again, or if it is not Stripe's.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::HeaderMap,
    routing::{get, post},
};
use events::{Body, Currency, Money, OrderId};
use exactly_once::{Clock, Commit, ErrorChain, Failure, Inbox, Outbox, TableError};
use http_api::{Caller, Problem};
use messaging::EventFactory;
use order::order_token::OrderTokens;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::Span;

use crate::{
    consumer::StripeAccount,
    outcomes,
    payments::{Payment, PaymentsTable},
    rules::{Observed, PaymentStatus, conclude, observe},
    stripe::{ClientSecret, PaymentIntent, StripeError},
};

/// Maximum number of tries of one webhook: a payment that moves meanwhile is decided again.
const ATTEMPTS_MAX: usize = 5;

/// What the calls are answered from.
pub struct PaymentApi {
    pub(crate) payments: PaymentsTable,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) event_factory: EventFactory,
    pub(crate) account: StripeAccount,
    pub(crate) order_tokens: OrderTokens,
    pub(crate) clock: Clock,
}

/// The payment of an order, for its customer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PaymentResponse {
    pub order_id: OrderId,
    /// How far it has come. Show one that you do not know as it is.
    pub status: PaymentStatus,
    /// What is to be paid.
    pub amount: Money,
    pub currency: Currency,
    /// What Stripe's library in the browser pays with; only as long as the order can be paid. Do not store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

/// The answer to Stripe, which reads its status alone.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WebhookResponse {
    pub received: bool,
}

pub fn routes(api: Arc<PaymentApi>) -> Router {
    Router::new()
        .route("/orders/{id}/payment", get(show_payment))
        .route("/payments/webhook", post(receive_webhook))
        .with_state(api)
}

async fn show_payment(
    State(api): State<Arc<PaymentApi>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<PaymentResponse>, Problem> {
    let not_found = || Problem::not_found(format!("There is no payment of an order {id:?} (yet)."));
    let order_id: OrderId = id.parse().map_err(|_| not_found())?;
    Span::current().record("order_id", order_id.as_str());
    api.order_tokens.require(&order_id, &headers)?;
    let payment = api.payments.get(&order_id).await?.ok_or_else(not_found)?;
    let secret = match (&payment.payment_id, payment.status) {
        (Some(id), PaymentStatus::Open) => {
            let stripe = api.account.stripe().await.map_err(unavailable)?;
            let intent = api.account.note(stripe.get_intent(id).await).map_err(unavailable)?;
            intent.map_err(|error| unavailable(error.into()))?.client_secret
        }
        _ => None,
    };
    let Payment { order_id, status, amount, currency, .. } = payment;
    let client_secret = secret.map(ClientSecret::into_text);
    Ok(Json(PaymentResponse { order_id, status, amount, currency, client_secret }))
}

/// Logged here: the customer cannot do anything about it.
fn unavailable(failure: Failure) -> Problem {
    tracing::error!(error = %failure, "Stripe did not answer");
    Problem::unavailable("Payment does not answer; try again.")
}

async fn receive_webhook(
    State(api): State<Arc<PaymentApi>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<WebhookResponse>, Problem> {
    const RECEIVED: Json<WebhookResponse> = Json(WebhookResponse { received: true });
    let secrets = api.account.read_secrets().await.map_err(|error| {
        tracing::error!(error = %ErrorChain(&error), "there are no secrets of webhooks");
        Problem::unavailable("The secrets could not be read; try again.")
    })?;
    let signature = headers.get("stripe-signature").and_then(|header| header.to_str().ok());
    let event = secrets.webhooks.read(signature, &body, api.clock.now()).map_err(|error| {
        tracing::warn!(%error, "a webhook is not Stripe's");
        telemetry::count(&[("webhooks_refused", 1)], api.clock.now());
        Problem::unreadable(error.to_string())
    })?;
    let is_about_payment = matches!(
        &*event.event_type,
        "payment_intent.succeeded" | "payment_intent.payment_failed" | "payment_intent.canceled"
    );
    let Some(intent_id) = event.payment_intent.as_deref().filter(|_| is_about_payment) else {
        return Ok(RECEIVED);
    };
    for _ in 0..ATTEMPTS_MAX {
        let stripe = api.account.stripe().await.map_err(unavailable)?;
        let intent =
            match api.account.note(stripe.get_intent(intent_id).await).map_err(unavailable)? {
                Ok(intent) => intent,
                // Another account's, or one of a test that Stripe has deleted: again would be the same.
                Err(StripeError::Missing) => return Ok(RECEIVED),
                Err(error) => return Err(unavailable(error.into())),
            };
        let order_id = intent.metadata.order_id.as_deref();
        let Some(order_id) = order_id.and_then(|id| id.parse::<OrderId>().ok()) else {
            return Ok(RECEIVED);
        };
        Span::current().record("order_id", order_id.as_str());
        let Some(payment) = api.payments.get(&order_id).await? else {
            // The row is written before Stripe is called: another shop's that uses the same account.
            return Ok(RECEIVED);
        };
        let Some((next, body)) =
            decide(payment, &intent, &event.event_type, api.clock.now().into())
        else {
            return Ok(RECEIVED);
        };
        let event_type = body.event_type();
        let events = [api.event_factory.outgoing(&caller.correlation_id, body, &caller)];
        let mut writes =
            vec![api.inbox.marker(&event.id), api.payments.write(&next).map_err(Problem::from)?];
        writes.extend(api.outbox.append(&events));
        match api.payments.commit(&writes).await.map_err(Problem::of_write)? {
            Commit::Done => {
                outcomes::count(event_type, api.clock.now());
                Span::current().record("event_id", events[0].id.to_string());
                // What SNS does not take now is the relay's.
                api.outbox.publish(&events).await;
                return Ok(RECEIVED);
            }
            Commit::Duplicate => return Ok(RECEIVED),
            Commit::GuardFailed(..) | Commit::ConditionFailed(_) => {}
        }
    }
    Err(TableError::Contended { subject: "the payment".into() }.into())
}

/// What a PaymentIntent, as Stripe has it now, means for its payment, and the event that reports it. `None` if nothing follows.
fn decide(
    payment: Payment,
    intent: &PaymentIntent,
    event_type: &str,
    now: events::Stamp,
) -> Option<(Payment, Body)> {
    if payment.payment_id.as_ref().is_some_and(|known| *known != intent.id) {
        tracing::error!("an order has a second PaymentIntent");
        return None;
    }
    let is_open = matches!(payment.status, PaymentStatus::Creating | PaymentStatus::Open);
    let payment = Payment { payment_id: Some(intent.id.clone()), ..payment };
    let observed = observe(intent.status);
    if let Some(to) = conclude(payment.status, observed) {
        return Some(payment.concluded(to, None, now));
    }
    let is_declined =
        is_open && observed == Observed::Unpaid && event_type == "payment_intent.payment_failed";
    is_declined.then(|| {
        let next = payment.noted(now);
        let body = Body::PaymentFailed(next.to_payload(intent.failure()));
        (next, body)
    })
}
