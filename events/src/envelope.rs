//! The envelope that every event travels in, and the reading of it.
//!
//! Versions: a consumer takes any `1.x` and ignores fields that it does not know. Another major version or
//! an unknown type is an error of its own, because it tells the operator to deploy rather than to repair.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    payload::{Object, Order, Payment, RejectedOrder, RejectedStock, Stock},
    priority::Priority,
    value::{CorrelationId, Money, OrderId, Stamp, hyphenated_uuid},
};

/// The version that this crate writes.
pub const VERSION: &str = "1.0";
/// The major version that this crate reads.
pub const MAJOR_VERSION: u32 = 1;

/// What an event is about. The name is the wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum EventType {
    OrderCreated,
    OrderConfirmed,
    OrderRejected,
    OrderCancelled,
    OrderShipped,
    StockReserved,
    StockReleased,
    StockRejected,
    OrderAwaitingPayment,
    OrderPaymentReminder,
    OrderPaymentOverdue,
    OrderExpired,
    PaymentRequested,
    PaymentSucceeded,
    PaymentFailed,
    PaymentCancelled,
    PaymentRefunded,
}

impl EventType {
    /// Every type there is.
    pub const ALL: [Self; 17] = [
        Self::OrderCreated,
        Self::OrderConfirmed,
        Self::OrderRejected,
        Self::OrderCancelled,
        Self::OrderShipped,
        Self::StockReserved,
        Self::StockReleased,
        Self::StockRejected,
        Self::OrderAwaitingPayment,
        Self::OrderPaymentReminder,
        Self::OrderPaymentOverdue,
        Self::OrderExpired,
        Self::PaymentRequested,
        Self::PaymentSucceeded,
        Self::PaymentFailed,
        Self::PaymentCancelled,
        Self::PaymentRefunded,
    ];

    /// The wire form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderCreated => "OrderCreated",
            Self::OrderConfirmed => "OrderConfirmed",
            Self::OrderRejected => "OrderRejected",
            Self::OrderCancelled => "OrderCancelled",
            Self::OrderShipped => "OrderShipped",
            Self::StockReserved => "StockReserved",
            Self::StockReleased => "StockReleased",
            Self::StockRejected => "StockRejected",
            Self::OrderAwaitingPayment => "OrderAwaitingPayment",
            Self::OrderPaymentReminder => "OrderPaymentReminder",
            Self::OrderPaymentOverdue => "OrderPaymentOverdue",
            Self::OrderExpired => "OrderExpired",
            Self::PaymentRequested => "PaymentRequested",
            Self::PaymentSucceeded => "PaymentSucceeded",
            Self::PaymentFailed => "PaymentFailed",
            Self::PaymentCancelled => "PaymentCancelled",
            Self::PaymentRefunded => "PaymentRefunded",
        }
    }

    /// Which service publishes it.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::StockReserved | Self::StockReleased | Self::StockRejected => "product-service",
            Self::PaymentRequested
            | Self::PaymentSucceeded
            | Self::PaymentFailed
            | Self::PaymentCancelled
            | Self::PaymentRefunded => "payment-service",
            _ => "order-service",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| DecodeError::UnknownType(shortened(text)))
    }
}

/// What happened, with all that a consumer needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Body {
    OrderCreated(Order),
    OrderConfirmed(Order),
    OrderRejected(RejectedOrder),
    OrderCancelled(Order),
    OrderShipped(Order),
    StockReserved(Stock),
    StockReleased(Stock),
    StockRejected(RejectedStock),
    OrderAwaitingPayment(Order),
    OrderPaymentReminder(Order),
    OrderPaymentOverdue(Order),
    OrderExpired(Order),
    PaymentRequested(Payment),
    PaymentSucceeded(Payment),
    PaymentFailed(Payment),
    PaymentCancelled(Payment),
    PaymentRefunded(Payment),
}

impl Body {
    /// Its type.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::OrderCreated(_) => EventType::OrderCreated,
            Self::OrderConfirmed(_) => EventType::OrderConfirmed,
            Self::OrderRejected(_) => EventType::OrderRejected,
            Self::OrderCancelled(_) => EventType::OrderCancelled,
            Self::OrderShipped(_) => EventType::OrderShipped,
            Self::StockReserved(_) => EventType::StockReserved,
            Self::StockReleased(_) => EventType::StockReleased,
            Self::StockRejected(_) => EventType::StockRejected,
            Self::OrderAwaitingPayment(_) => EventType::OrderAwaitingPayment,
            Self::OrderPaymentReminder(_) => EventType::OrderPaymentReminder,
            Self::OrderPaymentOverdue(_) => EventType::OrderPaymentOverdue,
            Self::OrderExpired(_) => EventType::OrderExpired,
            Self::PaymentRequested(_) => EventType::PaymentRequested,
            Self::PaymentSucceeded(_) => EventType::PaymentSucceeded,
            Self::PaymentFailed(_) => EventType::PaymentFailed,
            Self::PaymentCancelled(_) => EventType::PaymentCancelled,
            Self::PaymentRefunded(_) => EventType::PaymentRefunded,
        }
    }

    /// Which order it is about: every event is about one.
    #[must_use]
    pub fn order_id(&self) -> &OrderId {
        match self {
            Self::OrderCreated(order)
            | Self::OrderConfirmed(order)
            | Self::OrderCancelled(order)
            | Self::OrderShipped(order)
            | Self::OrderAwaitingPayment(order)
            | Self::OrderPaymentReminder(order)
            | Self::OrderPaymentOverdue(order)
            | Self::OrderExpired(order) => &order.order_id,
            Self::OrderRejected(order) => &order.order_id,
            Self::StockReserved(stock) | Self::StockReleased(stock) => &stock.order_id,
            Self::StockRejected(stock) => &stock.order_id,
            Self::PaymentRequested(payment)
            | Self::PaymentSucceeded(payment)
            | Self::PaymentFailed(payment)
            | Self::PaymentCancelled(payment)
            | Self::PaymentRefunded(payment) => &payment.order_id,
        }
    }

    /// The total of the order, if it is an event of the order service, which alone knows it.
    #[must_use]
    pub fn order_total(&self) -> Option<Money> {
        match self {
            Self::OrderCreated(order)
            | Self::OrderConfirmed(order)
            | Self::OrderCancelled(order)
            | Self::OrderShipped(order)
            | Self::OrderAwaitingPayment(order)
            | Self::OrderPaymentReminder(order)
            | Self::OrderPaymentOverdue(order)
            | Self::OrderExpired(order) => Some(order.total_price),
            Self::OrderRejected(order) => Some(order.total_price),
            Self::StockReserved(_)
            | Self::StockReleased(_)
            | Self::StockRejected(_)
            | Self::PaymentRequested(_)
            | Self::PaymentSucceeded(_)
            | Self::PaymentFailed(_)
            | Self::PaymentCancelled(_)
            | Self::PaymentRefunded(_) => None,
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Made once, when the event is stored; the idempotency key everywhere. A UUIDv7 (RFC 9562), so that the events of
    /// one order sort by the time at which they were made.
    pub id: Uuid,
    /// When it happened.
    pub timestamp: Stamp,
    /// What it belongs to.
    pub correlation_id: CorrelationId,
    /// What happened.
    pub body: Body,
}

impl Event {
    /// Reads one event.
    ///
    /// # Errors
    /// Which rule of the contract the bytes break. Reading them again cannot help.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let json: &RawValue = serde_json::from_slice(bytes)
            .map_err(|error| DecodeError::NotJson(shortened(&error.to_string())))?;
        // Type and version first: they decide how, and whether, the rest can be read.
        let Object(head): Object<Head> = from_json(json.get(), "")?;
        if !is_supported(&head.event_version) {
            return Err(DecodeError::UnsupportedVersion(shortened(&head.event_version)));
        }
        let event_type: EventType = head.event_type.parse()?;
        let Object(envelope): Object<Envelope<&RawValue>> = from_json(json.get(), "")?;
        if envelope.source != event_type.source() {
            let why = format!("must be {:?} for {event_type}", event_type.source());
            return Err(DecodeError::Schema { field: "source".into(), why });
        }
        let data = envelope.data.get();
        let body = match event_type {
            EventType::OrderCreated => Body::OrderCreated(from_json(data, "data")?),
            EventType::OrderConfirmed => Body::OrderConfirmed(from_json(data, "data")?),
            EventType::OrderRejected => Body::OrderRejected(from_json(data, "data")?),
            EventType::OrderCancelled => Body::OrderCancelled(from_json(data, "data")?),
            EventType::OrderShipped => Body::OrderShipped(from_json(data, "data")?),
            EventType::StockReserved => Body::StockReserved(from_json(data, "data")?),
            EventType::StockReleased => Body::StockReleased(from_json(data, "data")?),
            EventType::StockRejected => Body::StockRejected(from_json(data, "data")?),
            EventType::OrderAwaitingPayment => Body::OrderAwaitingPayment(from_json(data, "data")?),
            EventType::OrderPaymentReminder => Body::OrderPaymentReminder(from_json(data, "data")?),
            EventType::OrderPaymentOverdue => Body::OrderPaymentOverdue(from_json(data, "data")?),
            EventType::OrderExpired => Body::OrderExpired(from_json(data, "data")?),
            EventType::PaymentRequested => Body::PaymentRequested(from_json(data, "data")?),
            EventType::PaymentSucceeded => Body::PaymentSucceeded(from_json(data, "data")?),
            EventType::PaymentFailed => Body::PaymentFailed(from_json(data, "data")?),
            EventType::PaymentCancelled => Body::PaymentCancelled(from_json(data, "data")?),
            EventType::PaymentRefunded => Body::PaymentRefunded(from_json(data, "data")?),
        };
        Ok(Self {
            id: envelope.event_id,
            timestamp: envelope.timestamp,
            correlation_id: envelope.correlation_id,
            body,
        })
    }

    /// The event as one line of JSON, the same on SNS, on SQS and in the event log.
    #[must_use]
    pub fn encode(&self) -> String {
        let json = match &self.body {
            Body::OrderCreated(data)
            | Body::OrderConfirmed(data)
            | Body::OrderCancelled(data)
            | Body::OrderShipped(data)
            | Body::OrderAwaitingPayment(data)
            | Body::OrderPaymentReminder(data)
            | Body::OrderPaymentOverdue(data)
            | Body::OrderExpired(data) => serde_json::to_string(&self.envelope(data)),
            Body::OrderRejected(data) => serde_json::to_string(&self.envelope(data)),
            Body::StockReserved(data) | Body::StockReleased(data) => {
                serde_json::to_string(&self.envelope(data))
            }
            Body::StockRejected(data) => serde_json::to_string(&self.envelope(data)),
            Body::PaymentRequested(data)
            | Body::PaymentSucceeded(data)
            | Body::PaymentFailed(data)
            | Body::PaymentCancelled(data)
            | Body::PaymentRefunded(data) => serde_json::to_string(&self.envelope(data)),
        };
        json.expect("an event has text keys and finite numbers only, so it always has a JSON form")
    }

    /// The SNS message attributes: what subscriptions filter on, and the trace. Never more than ten, because
    /// raw delivery to SQS drops a message that has more.
    #[must_use]
    pub fn attributes(
        &self,
        traceparent: &str,
        priority: Option<Priority>,
    ) -> BTreeMap<String, String> {
        let of_all = [
            ("event_type", self.body.event_type().as_str()),
            ("event_version", VERSION),
            ("correlation_id", &self.correlation_id),
            ("traceparent", traceparent),
        ];
        let priority = priority.map(|priority| (Priority::ATTRIBUTE, priority.as_str()));
        (of_all.into_iter().chain(priority))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn envelope<D>(&self, data: D) -> Envelope<D> {
        let event_type = self.body.event_type();
        Envelope {
            event_type: event_type.as_str().to_owned(),
            event_id: self.id,
            event_version: VERSION.to_owned(),
            timestamp: self.timestamp,
            source: event_type.source().to_owned(),
            correlation_id: self.correlation_id.clone(),
            data,
        }
    }
}

/// The JSON form, around the data of one type.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Envelope<D> {
    event_type: String,
    #[serde(deserialize_with = "hyphenated_uuid")]
    event_id: Uuid,
    event_version: String,
    timestamp: Stamp,
    source: String,
    correlation_id: CorrelationId,
    data: D,
}

#[derive(Deserialize)]
struct Head {
    event_type: String,
    event_version: String,
}

/// Maximum number of digits of a minor version: it is recorded, and nothing is computed with it.
pub(crate) const MINOR_VERSION_DIGITS_MAX: usize = 9;

/// Whether a version is `1.` and digits. Parsed as numbers, `+1.0` and `01.0` would pass.
fn is_supported(version: &str) -> bool {
    version.split_once('.').is_some_and(|(major, minor)| {
        major == MAJOR_VERSION.to_string()
            && (1..=MINOR_VERSION_DIGITS_MAX).contains(&minor.len())
            && minor.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Which rule of the contract an event breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no JSON text.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The type is none of [`EventType`].
    #[error("unknown event_type {0:?}: is this consumer older than the producer?")]
    UnknownType(String),
    /// The major version is not [`MAJOR_VERSION`].
    #[error("event_version {0:?} is not 1.x: is this consumer older than the producer?")]
    UnsupportedVersion(String),
    /// A field is missing or has a wrong value.
    #[error("{field}: {why}")]
    Schema {
        /// Where, as `data.items[0].quantity`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

impl DecodeError {
    /// A stable code for `failure_reason`, alarms and selections.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::UnknownType(_) => "unknown_type",
            Self::UnsupportedVersion(_) => "unsupported_version",
            Self::Schema { .. } => "schema",
        }
    }
}

/// Maximum length of a foreign text in an error: enough to recognise it.
const QUOTED_CHARS_MAX: usize = 200;

fn shortened(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

fn from_json<'de, T: Deserialize<'de>>(json: &'de str, at: &str) -> Result<T, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let field = match (at, path.as_str()) {
            ("", ".") => "event".to_owned(),
            ("", path) => path.to_owned(),
            (at, ".") => at.to_owned(),
            (at, path) => format!("{at}.{path}"),
        };
        let why = error.inner().to_string();
        // The position is one within the part that is read, and the field says where it is.
        let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
        DecodeError::Schema { field, why: shortened(why) }
    })
}
