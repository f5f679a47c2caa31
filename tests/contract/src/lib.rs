//! What others rely on: the descriptions of the HTTP API and of the events, made of the types that are read and written, and what
//! a change of them would break.
//!
//! In: the functions' operations, the events' schemas, and what was released last. Out: docs/openapi.json, which order-api serves,
//! docs/asyncapi.yaml, and the names of whatever would break a client or a consumer.

mod compatibility;

use events::{EventType, Priority, schemas_within};
use http_api::openapi::{Operation, document};
use serde_json::{Map, Value, json};

pub use compatibility::{broken_calls, broken_events};

const DESCRIPTION: &str = "Orders, and the products that can be ordered. An order that was accepted takes effect exactly once. \
     Errors are problem+json (RFC 9457) with a stable `type`: docs/problems.md has a section for each. Clients ignore fields \
     that they do not know, and expect further problem types and statuses of orders. A field that another call takes is \
     refused by name; one that no call knows is ignored.";

/// Every call of the API.
#[must_use]
pub fn operations() -> Vec<Operation> {
    [
        order::openapi::operations(),
        product::openapi::operations(),
        payment::openapi::operations(),
        analytics::openapi::operations(),
    ]
    .concat()
}

/// The description of the API in OpenAPI 3.1.
#[must_use]
pub fn openapi() -> Value {
    document(&operations(), DESCRIPTION)
}

/// What notification-consumer takes, by either of its queues.
const MAILED: &[EventType] = &[
    EventType::OrderCreated,
    EventType::OrderAwaitingPayment,
    EventType::OrderPaymentReminder,
    EventType::OrderExpired,
    EventType::OrderConfirmed,
    EventType::OrderRejected,
    EventType::OrderCancelled,
    EventType::OrderShipped,
];

/// Each consumer of events, with a subscription in the template that says which it takes.
pub const CONSUMERS: [(&str, &str, &[EventType]); 7] = [
    (
        "product-consumer",
        "ProductSubscription",
        &[EventType::OrderCreated, EventType::OrderCancelled, EventType::OrderExpired],
    ),
    (
        "order-consumer",
        "OrderSubscription",
        &[
            EventType::StockReserved,
            EventType::StockRejected,
            EventType::PaymentSucceeded,
            EventType::PaymentCancelled,
        ],
    ),
    (
        "payment-consumer",
        "PaymentSubscription",
        &[
            EventType::OrderAwaitingPayment,
            EventType::OrderCancelled,
            EventType::OrderPaymentOverdue,
        ],
    ),
    ("notification-consumer", "NotificationSubscription", MAILED),
    ("notification-consumer", "NotificationPrioritySubscription", MAILED),
    (
        "analytics-consumer",
        "AnalyticsSubscription",
        &[
            EventType::OrderCreated,
            EventType::OrderAwaitingPayment,
            EventType::OrderConfirmed,
            EventType::OrderRejected,
            EventType::OrderCancelled,
            EventType::OrderShipped,
            EventType::OrderExpired,
        ],
    ),
    (
        "push-consumer",
        "PushSubscription",
        &[
            EventType::OrderAwaitingPayment,
            EventType::OrderConfirmed,
            EventType::OrderRejected,
            EventType::OrderCancelled,
            EventType::OrderShipped,
            EventType::OrderExpired,
        ],
    ),
];

/// The description of the events in AsyncAPI 3.
#[must_use]
pub fn asyncapi(sample: impl Fn(EventType) -> Value) -> Value {
    let (payloads, schemas) = schemas_within("/components/schemas");
    let mut messages = Map::new();
    for (event_type, payload) in payloads {
        let mut properties = json!({
            "event_type": { "const": event_type.as_str() },
            "event_version": { "type": "string" },
            "correlation_id": { "type": "string" },
            "traceparent": { "type": "string", "description": "W3C Trace Context." },
        });
        if event_type.source() == "order-service" {
            properties[Priority::ATTRIBUTE] = json!({
                "enum": [Priority::High.as_str(), Priority::Normal.as_str()],
                "description": "Whether the order's total is above the shop's threshold. An event that was stored before there were priorities has none.",
            });
        }
        let message = json!({
            "name": event_type.as_str(),
            "title": event_type.as_str(),
            "contentType": "application/json",
            "correlationId": { "location": "$message.payload#/correlation_id" },
            "headers": {
                "type": "object",
                "description": "Message attributes, by which subscriptions are filtered.",
                "required": ["event_type", "event_version", "correlation_id", "traceparent"],
                "properties": properties,
            },
            "payload": payload,
            "examples": [{ "name": event_type.as_str(), "payload": sample(event_type) }],
        });
        messages.insert(event_type.as_str().into(), message);
    }
    let of_channel = |event_type: &EventType| json!({ "$ref": format!("#/channels/orders/messages/{event_type}") });
    let mut operations = Map::new();
    let operation = |action: &str, title: String, types: &[EventType]| {
        let messages: Vec<_> = types.iter().map(of_channel).collect();
        json!({ "action": action, "title": title, "channel": { "$ref": "#/channels/orders" }, "messages": messages })
    };
    for source in ["order-service", "product-service", "payment-service"] {
        let types: Vec<_> =
            EventType::ALL.into_iter().filter(|one| one.source() == source).collect();
        let title = format!("What {source} publishes");
        operations.insert(format!("{source}-sends"), operation("send", title, &types));
    }
    for (consumer, _, types) in CONSUMERS {
        let title = format!("What {consumer} takes");
        operations.insert(format!("{consumer}-receives"), operation("receive", title, types));
    }
    let references: Map<_, _> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orderflow: events",
            "version": format!("{}.0", events::VERSION),
            "description": "What happened to orders and their stock. Each event is delivered at least once and in any order: \
                            `event_id` is what a consumer remembers. A consumer takes every version of its major number, and \
                            ignores fields that it does not know.",
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": {
            "orders": {
                "address": "orders",
                "title": "The topic of all events",
                "description": "An SNS topic (output TopicArn of the stack). Subscribe a queue of your own, with raw delivery and a filter on event_type.",
                "messages": references,
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}
