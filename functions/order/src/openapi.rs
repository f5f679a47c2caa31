//! What the order service's HTTP calls are, for the API's description: made of the types and limits that
//! [`crate::http`] reads and writes.

use events::{Email, Money, ProductId, Quantity, Stamp, StockLine};
use http_api::{
    ProblemType,
    openapi::{
        Access::{self, Administrators, Anyone},
        Answer, Operation, Parameter, idempotency_key, named, of, or_null, page_parameters,
    },
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::{
    http::{OrderHistory, OrderPage, OrderResponse, OrderTags, PlacedOrder, WAIT_SECONDS_MAX},
    rules::{CatalogEntry, LINES_MAX, Order, OrderRequest, Status, place},
    tags::Tags,
};

/// The calls of order-api.
#[must_use]
pub fn operations() -> Vec<Operation> {
    vec![
        Operation {
            method: "POST",
            path: "/orders",
            id: "placeOrder",
            summary: "Place an order",
            description: "It is answered as soon as it is stored, as `pending`: GET /orders/{id} with `Prefer: wait` tells \
                          what becomes of it. One product may be given flat, beside the address. With `expected_total` \
                          it is refused if it costs another amount."
                .into(),
            access: Anyone,
            parameters: vec![idempotency_key(false)],
            body: Some((order_request, request_examples())),
            answers: vec![Answer {
                status: 201,
                description: "The order.",
                body: Some((
                    of::<PlacedOrder>,
                    json!(PlacedOrder { order: order_response(Status::Pending), order_token: TOKEN.into() }),
                )),
                headers: &["Location", "Cache-Control"],
            }],
            problems: vec![ProblemType::TotalChanged],
        },
        Operation {
            method: "GET",
            path: "/orders",
            id: "listOrders",
            summary: "A customer's orders, the newest first",
            description: "Page by page.".into(),
            access: Administrators,
            parameters: [vec![customer_email()], page_parameters()].concat(),
            body: None,
            answers: vec![answer(
                "A page; the last has no `next_cursor`.",
                (of::<OrderPage>, json!({ "orders": [example(Status::Confirmed)], "next_cursor": null })),
                &["Cache-Control"],
            )],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/orders/{id}",
            id: "getOrder",
            summary: "One order",
            description: "With `Prefer: wait` as soon as the order is no longer `pending`. Without its token the \
                          customer's address is masked."
                .into(),
            access: Anyone,
            parameters: vec![prefer(), order_token(false)],
            body: None,
            answers: vec![answer(
                "The order.",
                (of::<OrderResponse>, example(Status::Confirmed)),
                &["Preference-Applied", "Cache-Control"],
            )],
            problems: vec![ProblemType::OrderToken],
        },
        Operation {
            method: "GET",
            path: "/admin/orders/{id}",
            id: "getOrderAsAdministrator",
            summary: "One order, with its customer's address",
            description: "As GET /orders/{id}, without a token.".into(),
            access: Administrators,
            parameters: vec![prefer()],
            body: None,
            answers: vec![answer(
                "The order.",
                (of::<OrderResponse>, example(Status::Confirmed)),
                &["Preference-Applied", "Cache-Control"],
            )],
            problems: vec![],
        },
        Operation {
            parameters: vec![order_token(true)],
            problems: vec![ProblemType::OrderStatus, ProblemType::OrderToken],
            ..transition("/orders/{id}/cancel", "cancelOrder", Status::Cancelled, Anyone)
        },
        transition(
            "/admin/orders/{id}/cancel",
            "cancelOrderAsAdministrator",
            Status::Cancelled,
            Administrators,
        ),
        transition("/orders/{id}/ship", "shipOrder", Status::Shipped, Administrators),
        Operation {
            method: "PUT",
            path: "/orders/{id}/tags",
            id: "tagOrder",
            summary: "Tag an order",
            description: "Its tags become these, all of them. They change nothing of what becomes of the order, and customers \
                          do not see them. Without an `Idempotency-Key`: a repetition comes to the same."
                .into(),
            access: Administrators,
            parameters: vec![],
            body: Some((order_tags, tags_examples())),
            answers: vec![answer(
                "The tags.",
                (of::<OrderTags>, json!({ "tags": ["suspicious"] })),
                &["Cache-Control"],
            )],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/orders/{id}/events",
            id: "getOrderHistory",
            summary: "All that happened to an order",
            description: "Its events, the oldest first.".into(),
            access: Administrators,
            parameters: vec![],
            body: None,
            answers: vec![answer(
                "The events.",
                (of::<OrderHistory>, json!({ "events": [event_example()] })),
                &["Cache-Control"],
            )],
            problems: vec![],
        },
        Operation {
            method: "GET",
            path: "/openapi.json",
            id: "getDescription",
            summary: "This document",
            description: "The description of the API in OpenAPI 3.1.".into(),
            access: Anyone,
            parameters: vec![],
            body: None,
            answers: vec![answer(
                "The document.",
                (any_object, json!({ "openapi": "3.1.1" })),
                &["Cache-Control"],
            )],
            problems: vec![],
        },
    ]
}

/// Bodies of POST /orders that are taken, by name.
#[must_use]
pub fn request_examples() -> Vec<(&'static str, Value)> {
    let line = json!({ "product_id": PRODUCT, "quantity": 2 });
    vec![
        (
            "items",
            json!({ "customer_email": "test@example.com", "items": [line], "expected_total": 41 }),
        ),
        (
            "flat",
            json!({ "customer_email": "test@example.com", "product_id": PRODUCT, "quantity": 2 }),
        ),
    ]
}

/// Bodies of PUT /orders/{id}/tags that are taken, by name.
#[must_use]
pub fn tags_examples() -> Vec<(&'static str, Value)> {
    vec![("one", json!({ "tags": ["suspicious"] })), ("none", json!({ "tags": [] }))]
}

const PRODUCT: &str = "7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11";
const TOKEN: &str = "kXh2mY0b3q1cL8s9vQ4tR7uW6zA5dE2fG1hJ0kN3pSs";
const ORDER: &str = "3b241101-e2bb-4255-8caf-4136c566a962";

fn answer(
    description: &'static str,
    body: (fn(&mut SchemaGenerator) -> Schema, Value),
    headers: &'static [&'static str],
) -> Answer {
    Answer { status: 200, description, body: Some(body), headers }
}

fn transition(path: &'static str, id: &'static str, to: Status, access: Access) -> Operation {
    let (summary, when) = match to {
        Status::Cancelled => {
            ("Cancel an order", "Unless it was rejected or shipped. Its stock comes back.")
        }
        _ => ("Ship an order", "Once it is confirmed."),
    };
    Operation {
        method: "POST",
        path,
        id,
        summary,
        description: format!(
            "{when} Again for an order that is so already: it is answered as it is."
        ),
        access,
        parameters: vec![],
        body: None,
        answers: vec![answer(
            "The order as it is now.",
            (of::<OrderResponse>, example(to)),
            &["Cache-Control"],
        )],
        problems: vec![ProblemType::OrderStatus],
    }
}

/// By which a caller shows that the order is theirs.
#[must_use]
pub fn order_token(required: bool) -> Parameter {
    Parameter {
        name: "Order-Token",
        place: "header",
        required,
        description: "The `order_token` that POST /orders answered: who has it is taken for the order's customer."
            .into(),
        schema: json!({ "type": "string" }),
        example: json!(TOKEN),
    }
}

fn prefer() -> Parameter {
    Parameter {
        name: "Prefer",
        place: "header",
        required: false,
        description: format!(
            "`wait=SECONDS` (RFC 7240): answer as soon as the order is settled, and after this time at the latest, of \
             which {WAIT_SECONDS_MAX} seconds count. What cannot be read is no preference."
        ),
        schema: json!({ "type": "string" }),
        example: json!(format!("wait={WAIT_SECONDS_MAX}")),
    }
}

fn customer_email() -> Parameter {
    Parameter {
        name: "customer_email",
        place: "query",
        required: true,
        description: "Whose orders.".into(),
        schema: json!({ "$ref": "#/components/schemas/Email" }),
        example: json!("test@example.com"),
    }
}

/// An order as it would be answered.
fn example(status: Status) -> Value {
    json!(order_response(status))
}

fn order_response(status: Status) -> OrderResponse {
    OrderResponse::from(Order { status, ..order() })
}

fn order() -> Order {
    let product_id: ProductId = PRODUCT.parse().expect("an id");
    let quantity = Quantity::try_from(2).expect("in range");
    let request = OrderRequest {
        customer_email: "test@example.com".parse().expect("an address"),
        lines: vec![StockLine { product_id: product_id.clone(), quantity }],
        expected_total: None,
    };
    let entry = CatalogEntry {
        product_id: product_id.clone(),
        name: "Lamp".parse().expect("a name"),
        price: "20.5".parse().expect("an amount"),
        currency: events::Currency::default(),
        active: true,
    };
    let now: Stamp = "2026-01-01T10:35:00.123Z".parse().expect("a moment");
    let catalog = [(product_id, entry)].into();
    place(ORDER.parse().expect("an id"), request, &catalog, &events::Currency::default(), now)
        .expect("an order of a product that there is")
}

fn event_example() -> Value {
    let event = events::Event {
        id: "0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11".parse().expect("an id"),
        timestamp: order().created_at,
        correlation_id: "0f8fad5b-d9cb-469f-a165-70867728950e".parse().expect("an id"),
        body: events::Body::OrderCreated(order().to_payload()),
    };
    serde_json::from_str(&event.encode()).unwrap_or_default()
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "required": ["openapi"] })
}

fn order_tags(generator: &mut SchemaGenerator) -> Schema {
    let tags = of::<Tags>(generator);
    let body = json_schema!({
        "type": "object",
        "required": ["tags"],
        "properties": { "tags": tags },
    });
    named(generator, "NewOrderTags", body)
}

fn order_request(generator: &mut SchemaGenerator) -> Schema {
    let (email, line) = (of::<Email>(generator), of::<StockLine>(generator));
    let (product_id, quantity) = (of::<ProductId>(generator), of::<Quantity>(generator));
    let expected_total = or_null(&of::<Money>(generator));
    let items = json_schema!({
        "description": "What is ordered. Lines of one product are taken together, and have 1000 pieces together at most.",
        "type": "object",
        "required": ["customer_email", "items"],
        "properties": {
            "customer_email": email,
            "items": { "type": "array", "minItems": 1, "maxItems": LINES_MAX, "items": line },
            "expected_total": expected_total,
        },
    });
    let flat = json_schema!({
        "description": "One product.",
        "type": "object",
        "required": ["customer_email", "product_id", "quantity"],
        "properties": {
            "customer_email": email,
            "product_id": product_id,
            "quantity": quantity,
            "items": { "type": "null" },
            "expected_total": expected_total,
        },
    });
    let any_of =
        [named(generator, "NewOrder", items), named(generator, "NewOrderOfOneProduct", flat)];
    json_schema!({ "anyOf": any_of })
}
