//! The JSON Schema (2020-12) of each event type, generated from the types that read and write it.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    envelope::{Envelope, EventType, MAJOR_VERSION, MINOR_VERSION_DIGITS_MAX},
    payload::{Order, Payment, RejectedOrder, RejectedStock, Stock},
};

/// The schema of one event type, as `schemas/<type>.json` holds it.
#[must_use]
pub fn schema(event_type: EventType) -> Schema {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = match event_type {
        EventType::OrderCreated
        | EventType::OrderConfirmed
        | EventType::OrderCancelled
        | EventType::OrderShipped
        | EventType::OrderAwaitingPayment
        | EventType::OrderPaymentReminder
        | EventType::OrderPaymentOverdue
        | EventType::OrderExpired => generator.into_root_schema_for::<Envelope<Order>>(),
        EventType::OrderRejected => generator.into_root_schema_for::<Envelope<RejectedOrder>>(),
        EventType::StockReserved | EventType::StockReleased => {
            generator.into_root_schema_for::<Envelope<Stock>>()
        }
        EventType::StockRejected => generator.into_root_schema_for::<Envelope<RejectedStock>>(),
        EventType::PaymentRequested
        | EventType::PaymentSucceeded
        | EventType::PaymentFailed
        | EventType::PaymentCancelled
        | EventType::PaymentRefunded => generator.into_root_schema_for::<Envelope<Payment>>(),
    };
    name_type(&mut schema, event_type);
    schema
}

/// The schemas of all event types for a document that has what they share at this pointer, and what they share.
#[must_use]
pub fn schemas_within(definitions_path: &str) -> (Vec<(EventType, Schema)>, Map<String, Value>) {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = definitions_path.to_owned().into();
    let mut generator = settings.into_generator();
    let schemas = EventType::ALL.map(|event_type| {
        let mut schema = match event_type {
            EventType::OrderCreated
            | EventType::OrderConfirmed
            | EventType::OrderCancelled
            | EventType::OrderShipped
            | EventType::OrderAwaitingPayment
            | EventType::OrderPaymentReminder
            | EventType::OrderPaymentOverdue
            | EventType::OrderExpired => Envelope::<Order>::json_schema(&mut generator),
            EventType::OrderRejected => Envelope::<RejectedOrder>::json_schema(&mut generator),
            EventType::StockReserved | EventType::StockReleased => {
                Envelope::<Stock>::json_schema(&mut generator)
            }
            EventType::StockRejected => Envelope::<RejectedStock>::json_schema(&mut generator),
            EventType::PaymentRequested
            | EventType::PaymentSucceeded
            | EventType::PaymentFailed
            | EventType::PaymentCancelled
            | EventType::PaymentRefunded => Envelope::<Payment>::json_schema(&mut generator),
        };
        name_type(&mut schema, event_type);
        (event_type, schema)
    });
    (schemas.into(), generator.take_definitions(true))
}

fn name_type(schema: &mut Schema, event_type: EventType) {
    schema.insert("title".into(), json!(event_type.as_str()));
    schema.insert("description".into(), json!("The JSON form, around the data of this type."));
    // The Rust type says "a text"; which text is what tells one event type from another.
    if let Some(properties) = schema.get_mut("properties") {
        properties["event_type"] = json!({ "const": event_type.as_str() });
        let version = format!(r"^{MAJOR_VERSION}\.[0-9]{{1,{MINOR_VERSION_DIGITS_MAX}}}$");
        properties["event_version"] = json!({ "type": "string", "pattern": version });
        properties["source"] = json!({ "const": event_type.source() });
    }
}
