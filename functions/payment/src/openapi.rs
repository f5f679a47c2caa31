//! What the payment service's HTTP calls are, for the API's description: made of the types that [`crate::http`] reads and writes.

use http_api::{
    ProblemType,
    openapi::{Access::Anyone, Answer, Operation, Parameter, of},
};
use order::openapi::order_token;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::http::{PaymentResponse, WebhookResponse};

/// The calls of payment-api.
#[must_use]
pub fn operations() -> Vec<Operation> {
    vec![
        Operation {
            method: "GET",
            path: "/orders/{id}/payment",
            id: "getPayment",
            summary: "What an order is paid with",
            description: "Where orders are paid by Stripe. There is one as soon as the order is `awaiting_payment`, or a moment \
                          later; while it is `open`, `client_secret` is what Stripe's library in the browser pays with."
                .into(),
            access: Anyone,
            parameters: vec![order_token(true)],
            body: None,
            answers: vec![Answer {
                status: 200,
                description: "The payment.",
                body: Some((
                    of::<PaymentResponse>,
                    json!({
                        "order_id": "3b241101-e2bb-4255-8caf-4136c566a962",
                        "status": "open",
                        "amount": 50.00,
                        "currency": "EUR",
                        "client_secret": "pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_YrKJUKribcBjcG8HVhfZluoGH",
                    }),
                )),
                headers: &["Cache-Control"],
            }],
            problems: vec![ProblemType::OrderToken],
        },
        Operation {
            method: "POST",
            path: "/payments/webhook",
            id: "receiveWebhook",
            summary: "For Stripe alone: what has become of a payment",
            description: "Where orders are paid by Stripe. What is not signed by Stripe within the last five minutes is refused."
                .into(),
            access: Anyone,
            parameters: vec![Parameter {
                name: "Stripe-Signature",
                place: "header",
                required: true,
                description: "As Stripe makes it: https://docs.stripe.com/webhooks#verify-manually".into(),
                schema: json!({ "type": "string" }),
                example: json!("t=1764324947,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd"),
            }],
            body: Some((stripe_event, vec![(
                "paid",
                json!({
                    "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy",
                    "type": "payment_intent.succeeded",
                    "data": { "object": { "object": "payment_intent", "id": "pi_3MtwBwLkdIwHu7ix28a3tqPa" } },
                }),
            )])),
            answers: vec![Answer {
                status: 200,
                description: "It has had its effect, or needs none.",
                body: Some((of::<WebhookResponse>, json!(WebhookResponse { received: true }))),
                headers: &["Cache-Control"],
            }],
            problems: vec![],
        },
    ]
}

fn stripe_event(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "An event of Stripe's: https://docs.stripe.com/api/events",
        "required": ["id", "type", "data"],
        "properties": {
            "id": { "type": "string", "pattern": "^evt_" },
            "type": { "type": "string" },
            "data": {
                "type": "object",
                "required": ["object"],
                "properties": { "object": { "type": "object" } },
            },
        },
    })
}
