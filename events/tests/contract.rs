//! The committed schemas and samples are the contract: these tests hold the types to them.
//! `UPDATE_CONTRACT=1 cargo test -p events` writes both anew after a wanted change.

use std::{fs, path::PathBuf};

use events::{
    Body, Currency, DecodeError, Email, Event, EventType, Line, Money, Order, Payment, Quantity,
    RejectedOrder, RejectedStock, ShortLine, Stock, StockLine, schema,
};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

fn committed(folder: &str, event_type: EventType) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{event_type}.json"))
}

/// Compares with the committed file, or writes it if `UPDATE_CONTRACT` is set.
fn assert_committed(path: &PathBuf, wanted: &str) {
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        fs::write(path, wanted).expect("the contract's folder can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the types say; after a wanted change: UPDATE_CONTRACT=1 cargo test -p events\n{wanted}",
        path.display()
    );
}

fn text<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a valid sample value")
}

fn sample(event_type: EventType) -> Event {
    let product_id = || text("7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11");
    let quantity = || Quantity::try_from(5).expect("in range");
    let order = || Order {
        order_id: text("3b241101-e2bb-4255-8caf-4136c566a962"),
        items: vec![Line {
            product_id: product_id(),
            product_name: text("Test Laptop"),
            quantity: quantity(),
            unit_price: text("1000"),
            line_total: text("5000"),
        }],
        total_price: text("5000"),
        currency: text("UAH"),
        customer_email: text("test@example.com"),
    };
    let items = || vec![StockLine { product_id: product_id(), quantity: quantity() }];
    let stock = || Stock { order_id: order().order_id, items: items() };
    let payment = || Payment {
        order_id: order().order_id,
        amount: order().total_price,
        currency: order().currency,
        payment_id: Some(text("pi_3MtwBwLkdIwHu7ix28a3tqPa")),
        reason: None,
    };
    let body = match event_type {
        EventType::OrderCreated => Body::OrderCreated(order()),
        EventType::OrderConfirmed => Body::OrderConfirmed(order()),
        EventType::OrderRejected => {
            Body::OrderRejected(RejectedOrder::new(order(), text("Out of stock: Test Laptop")))
        }
        EventType::OrderCancelled => Body::OrderCancelled(order()),
        EventType::OrderShipped => Body::OrderShipped(order()),
        EventType::StockReserved => Body::StockReserved(stock()),
        EventType::StockReleased => Body::StockReleased(stock()),
        EventType::StockRejected => Body::StockRejected(RejectedStock {
            order_id: order().order_id,
            items: items(),
            short: vec![
                ShortLine { product_id: product_id(), requested: quantity(), available: Some(2) },
                ShortLine { product_id: text("no-such"), requested: quantity(), available: None },
            ],
        }),
        EventType::OrderAwaitingPayment => Body::OrderAwaitingPayment(order()),
        EventType::OrderPaymentReminder => Body::OrderPaymentReminder(order()),
        EventType::OrderPaymentOverdue => Body::OrderPaymentOverdue(order()),
        EventType::OrderExpired => Body::OrderExpired(order()),
        EventType::PaymentRequested => Body::PaymentRequested(payment()),
        EventType::PaymentSucceeded => Body::PaymentSucceeded(payment()),
        EventType::PaymentFailed => Body::PaymentFailed(Payment {
            reason: Some(text("card_declined: Your card was declined.")),
            ..payment()
        }),
        EventType::PaymentCancelled => Body::PaymentCancelled(payment()),
        EventType::PaymentRefunded => Body::PaymentRefunded(payment()),
    };
    Event {
        id: text("0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11"),
        timestamp: text("2025-11-20T10:35:00.123Z"),
        correlation_id: text("0f8fad5b-d9cb-469f-a165-70867728950e"),
        body,
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for event_type in EventType::ALL {
        let json = serde_json::to_string_pretty(&schema(event_type)).expect("a schema is JSON");
        assert_committed(&committed("schemas", event_type), &format!("{json}\n"));
    }
}

#[test]
fn the_committed_samples_are_what_the_types_write_and_read() {
    for event_type in EventType::ALL {
        let event = sample(event_type);
        let line = format!("{}\n", event.encode());
        assert_committed(&committed("samples", event_type), &line);
        assert_eq!(Event::decode(line.as_bytes()), Ok(event));
    }
}

#[test]
fn samples_validate_against_their_schema_and_no_other_type_does() {
    for event_type in EventType::ALL {
        let schema = serde_json::to_value(schema(event_type)).expect("a schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        for other in EventType::ALL {
            let event: Value = serde_json::from_str(&sample(other).encode()).expect("JSON");
            assert_eq!(validator.is_valid(&event), other == event_type, "{other} as {event_type}");
        }
    }
}

#[test]
fn a_field_that_the_schema_requires_is_required_by_the_reader_too() {
    for event_type in EventType::ALL {
        let event: Value = serde_json::from_str(&sample(event_type).encode()).expect("JSON");
        let schema = serde_json::to_value(schema(event_type)).expect("a schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        for pointer in fields(&event, "") {
            let mut broken = event.clone();
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer below the root");
            broken
                .pointer_mut(parent)
                .and_then(Value::as_object_mut)
                .expect("an object")
                .remove(name);
            // Read as text again: money is exact only there.
            let read = Event::decode(broken.to_string().as_bytes());
            assert_eq!(read.is_ok(), validator.is_valid(&broken), "{event_type} without {pointer}");
        }
    }
}

/// The pointers of all fields, the nested ones too.
fn fields(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(name, value)| {
                let pointer = format!("{at}/{name}");
                let mut all = fields(value, &pointer);
                all.push(pointer);
                all
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| fields(value, &format!("{at}/{index}")))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn unknown_fields_and_newer_minor_versions_are_read() {
    let newer = sample(EventType::OrderCreated)
        .encode()
        .replace(r#""event_version":"1.0""#, r#""event_version":"1.7","new":{"a":[1]}"#)
        .replace(r#""currency""#, r#""gift":true,"currency""#);
    assert_eq!(Event::decode(newer.as_bytes()), Ok(sample(EventType::OrderCreated)));
}

#[test]
fn each_broken_rule_has_its_own_reason() {
    let good = sample(EventType::OrderCreated).encode();
    let cases: [(&str, String); 14] = [
        ("not_json", "{".into()),
        ("not_json", String::new()),
        ("not_json", " \n".into()),
        ("not_json", format!("\u{feff}{good}")),
        ("schema", "[]".into()),
        ("schema", "{}".into()),
        ("unknown_type", good.replace("OrderCreated", "OrderTeleported")),
        ("unsupported_version", good.replace(r#""1.0""#, r#""2.0""#)),
        ("unsupported_version", good.replace(r#""1.0""#, r#""one""#)),
        ("schema", good.replace(r#""quantity":5"#, r#""quantity":0"#)),
        ("schema", good.replace("5000.00", "5000.001")),
        ("schema", good.replace("5000.00", "1e400")),
        // Which of two would be meant?
        ("schema", good.replace(r#""source""#, r#""event_type":"OrderCancelled","source""#)),
        ("schema", good.replace(r#""quantity":5"#, r#""quantity":5,"quantity":6"#)),
    ];
    for (reason, json) in cases {
        assert_eq!(Event::decode(json.as_bytes()).map_err(|e| e.reason()), Err(reason), "{json}");
    }
    // Invalid UTF-8: as a whole, and within a text.
    let [mut whole, mut within] = [good.clone().into_bytes(), good.into_bytes()];
    whole[0] = 0xff;
    let at = within.iter().position(|byte| *byte == b'L').expect("the Laptop");
    within[at] = 0xc3;
    for bytes in [&b"\xff\xfe"[..], &whole, &within] {
        assert_eq!(Event::decode(bytes).map_err(|e| e.reason()), Err("not_json"));
    }
}

#[test]
fn an_error_names_the_field_and_what_it_should_be() {
    let json =
        sample(EventType::OrderCreated).encode().replace(r#""quantity":5"#, r#""quantity":-1"#);
    match Event::decode(json.as_bytes()) {
        Err(DecodeError::Schema { field, why }) => {
            assert_eq!(field, "data.items[0].quantity");
            assert!(why.contains("a whole number from 1 to 1000"), "{why}");
        }
        other => panic!("decoded to {other:?}"),
    }
}

prop_compose! {
    fn line()(id in "[a-zA-Z0-9_-]{1,64}", name in "[^\\p{Cc}\u{fffe}\u{ffff}]{0,20}[a-z]", count in 1..=1000_u64, units in 0..=1_000_000_000_i64) -> Line {
        let quantity = Quantity::try_from(count).expect("in range");
        let unit_price = Money::from_minor(units).expect("in range");
        Line {
            product_id: text(&id),
            product_name: text(&name),
            quantity,
            unit_price,
            line_total: unit_price.times(quantity).expect("in range"),
        }
    }
}

proptest! {
    #[test]
    fn every_event_survives_its_json(lines in prop::collection::vec(line(), 1..=50), reason in "[a-zа-я ]{0,80}[a-z]", correlation_id in "[!-~]{1,128}") {
        let mut seen = std::collections::HashSet::new();
        let lines: Vec<Line> = lines.into_iter().filter(|line| seen.insert(line.product_id.clone())).collect();
        let order = Order {
            order_id: Uuid::from_u128(1).into(),
            total_price: Money::sum(lines.iter().map(|line| line.line_total)).expect("in range"),
            items: lines,
            currency: text::<Currency>("UAH"),
            customer_email: text::<Email>("test@example.com"),
        };
        for body in [Body::OrderCreated(order.clone()), Body::OrderRejected(RejectedOrder::new(order, text(&reason)))] {
            let (id, timestamp) = (Uuid::from_u128(2), text("2026-01-01T00:00:00.000Z"));
            let event = Event { id, timestamp, correlation_id: text(&correlation_id), body };
            prop_assert_eq!(Event::decode(event.encode().as_bytes()), Ok(event));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Event::decode(&bytes);
    }
}
