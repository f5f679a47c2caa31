//! What comes from outside is read without a panic, whatever it is. A short run; `make fuzz` does a long one.

use axum::response::IntoResponse;
use events::{Currency, Event, EventType, ProductId};
use fuzz::fuzz;
use http::{HeaderMap, HeaderValue};
use http_api::{Problem, request_key};

fn samples() -> Vec<Vec<u8>> {
    let sample = |event_type: EventType| {
        let path = format!("{}/../../events/samples/{event_type}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).expect("the committed sample")
    };
    EventType::ALL.into_iter().map(sample).collect()
}

/// Each kind of body that the API takes, in each of its forms.
fn bodies() -> Vec<Vec<u8>> {
    let bodies = [
        r#"{"customer_email":"a@example.com","items":[{"product_id":"p-1","quantity":2}]}"#,
        r#"{"customer_email":"a@example.com","items":[{"product_id":"p","quantity":1},{"product_id":"q","quantity":1000}]}"#,
        r#"{"customer_email":"a@example.com","product_id":"p","quantity":2}"#,
        r#"{"name":"Laptop","price":1000.00,"stock":10,"category":"Computers","currency":"UAH"}"#,
        r#"{"name":"Laptop","price":0.01}"#,
        r#"{"price":10000000.00,"category":null}"#,
        r#"{"delta":-5}"#,
    ];
    bodies.map(|body| body.as_bytes().to_vec()).into()
}

#[test]
fn no_message_makes_the_reader_of_events_panic() {
    let outcomes = fuzz("events", &samples(), |input| match Event::decode(input) {
        Ok(event) => {
            // What is taken is taken again in the form in which it is passed on.
            assert_eq!(Event::decode(event.encode().as_bytes()), Ok(event));
            "taken"
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.reason()
        }
    });
    for reached in ["taken", "not_json", "schema", "unknown_type", "unsupported_version"] {
        assert!(outcomes.contains_key(reached), "no input came to {reached}: {outcomes:?}");
    }
}

#[test]
fn no_body_makes_the_readers_of_requests_panic_or_answer_with_a_5xx() {
    let currency: Currency = "UAH".parse().expect("a currency");
    let id: ProductId = "a-product".parse().expect("an id");
    let keyed: HeaderMap =
        [("idempotency-key".parse().expect("a name"), HeaderValue::from_static("k"))]
            .into_iter()
            .collect();
    let outcomes = fuzz("bodies", &bodies(), |input| {
        let taken = [
            of(order::http::parse_order_request(input)),
            of(product::http::parse_new_product(input, id.clone(), &currency)),
            of(product::http::parse_product_change(input)),
            of(product::http::parse_stock_change(input)),
        ];
        of(order::http::parse_tags(input));
        of(request_key(&keyed, "a@example.com", "POST", "/orders", input));
        match taken {
            [true, ..] => "an order",
            [_, true, ..] => "a product",
            [_, _, true, _] => "a change of a product",
            [.., true] => "a change of stock",
            _ => "refused",
        }
    });
    let kinds = ["an order", "a product", "a change of a product", "a change of stock", "refused"];
    for reached in kinds {
        assert!(outcomes.contains_key(reached), "no input came to {reached}: {outcomes:?}");
    }
}

/// Whether a body was taken. A refusal has to blame the client.
fn of<T>(read: Result<T, Problem>) -> bool {
    match read {
        Ok(_) => true,
        Err(problem) => {
            let status = problem.into_response().status();
            assert!(status.is_client_error(), "{status}");
            false
        }
    }
}
