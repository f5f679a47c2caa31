//! What is said on a connection, and on the queue about one: docs/live-updates.md in types.
//!
//! In: the texts that clients send, events, orders as they are stored. Out: what is answered or posted. Guarantees: a client
//! is sent an order's id, status and version and why it was rejected or has expired, and nothing of its customer; what it
//! sends is bounded before it is read.

use events::{Body, Event, OrderId};
use exactly_once::Message;
use order::rules::Status;
use serde::{Deserialize, Serialize};

/// Maximum length of a client's message, in bytes: an id, a token and the names of three fields have 200.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Maximum number of connections that watch one order: a customer's devices and tabs, and those of them that are gone without
/// a word. Each is one call for each change.
pub const WATCHERS_MAX: usize = 20;

/// How far an order has come, as a client is sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Update {
    pub order_id: OrderId,
    /// Rises with each change: a client drops what is not newer than what it knows.
    pub version: u8,
    pub status: Status,
    /// Why it was rejected or has expired, as a sentence for the customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Update {
    #[must_use]
    pub fn new(order_id: OrderId, status: Status, reason: Option<String>) -> Self {
        Self { order_id, version: status.version(), status, reason }
    }

    /// The change that an event reports, or `None` if it reports none of an order's status. An event is enough: each status
    /// has its version, so that nothing has to be read, and a change that was overtaken is sent nevertheless.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let (status, reason) = match &event.body {
            Body::OrderAwaitingPayment(_) => (Status::AwaitingPayment, None),
            Body::OrderConfirmed(_) => (Status::Confirmed, None),
            Body::OrderRejected(order) => (Status::Rejected, Some(order.reason.to_string())),
            Body::OrderCancelled(_) => (Status::Cancelled, None),
            Body::OrderShipped(_) => (Status::Shipped, None),
            Body::OrderExpired(_) => (Status::Expired, None),
            // Who watches an order knows that it is pending.
            Body::OrderCreated(_)
            | Body::OrderPaymentReminder(_)
            | Body::OrderPaymentOverdue(_)
            | Body::StockReserved(_)
            | Body::StockReleased(_)
            | Body::StockRejected(_)
            | Body::PaymentRequested(_)
            | Body::PaymentSucceeded(_)
            | Body::PaymentFailed(_)
            | Body::PaymentCancelled(_)
            | Body::PaymentRefunded(_) => return None,
        };
        Some(Self::new(event.body.order_id().clone(), status, reason))
    }

    /// As it is sent.
    #[must_use]
    pub fn to_json(&self, kind: Kind) -> String {
        #[derive(Serialize)]
        struct Sent<'a> {
            kind: Kind,
            #[serde(flatten)]
            update: &'a Update,
        }
        serde_json::to_string(&Sent { kind, update: self })
            .expect("an update has text keys only, so it always has a JSON form")
    }
}

/// Why an update is sent. Whoever has had changes alone may have had old ones that came again: only after the state is a
/// client up to date, and one that is not sent it connects again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The answer to a `watch`.
    State,
    /// Something has happened to the order.
    Change,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Request {
    /// To be sent the state of this order and each change of it. The token says that it may be.
    Watch { order_id: OrderId, order_token: String },
}

/// Reads a client's message.
///
/// # Errors
/// It is too long, or none that there is.
pub fn parse_request(text: &str) -> Result<Request, Refusal> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    serde_json::from_str(text).map_err(|_| Refusal::Unreadable)
}

/// Why a client is sent no state. It is sent this, and its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    TooLarge,
    /// The message is no `watch`.
    Unreadable,
    /// The token is not the order's. There may be no such order: who does not have its token does not learn that.
    WrongToken,
    /// There is no such order any more.
    UnknownOrder,
    /// [`WATCHERS_MAX`] watch it already.
    TooManyWatchers,
    /// The connection watches another order: one connection, one order.
    WatchesAnotherOrder,
}

impl Refusal {
    /// A stable code, for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::WrongToken => "order_token",
            Self::UnknownOrder => "not_found",
            Self::TooManyWatchers => "too_many_watchers",
            Self::WatchesAnotherOrder => "watches_another_order",
        }
    }

    /// What is wrong, for people.
    fn detail(self) -> &'static str {
        match self {
            Self::TooLarge => "A message has at most 1024 bytes.",
            Self::Unreadable => {
                r#"Send {"action": "watch", "order_id": "…", "order_token": "…"}, the token being that of the order's answer."#
            }
            Self::WrongToken => "This is not the order's token, which POST /orders has answered.",
            Self::UnknownOrder => "There is no such order.",
            Self::TooManyWatchers => {
                "As many connections as may watch this order do. GET /orders/{id} with Prefer: wait tells it as well."
            }
            Self::WatchesAnotherOrder => "A connection watches one order. Open another one.",
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn to_json(self) -> String {
        serde_json::json!({ "error": self.code(), "detail": self.detail() }).to_string()
    }
}

/// A message to the queue `push`, of each new connection: some time later, see whether it has sent a message. It is no event,
/// and cannot be taken for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceCheck {
    pub close_if_silent: String,
}

impl SilenceCheck {
    /// Reads one, or `None` if the message is none.
    #[must_use]
    pub fn read(message: &Message) -> Option<Self> {
        serde_json::from_str(&message.body).ok()
    }

    /// As it is sent.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a text always has a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use events::EventType;

    use super::*;

    fn sample(event_type: EventType) -> Event {
        let path = format!("{}/../../events/samples/{event_type}.json", env!("CARGO_MANIFEST_DIR"));
        let bytes = fs::read(&path).expect("a sample of each type");
        Event::decode(&bytes).expect("an event")
    }

    #[test]
    fn every_event_of_an_order_that_changes_its_status_is_told_with_a_newer_version() {
        let changes: Vec<_> = EventType::ALL
            .into_iter()
            .filter_map(|event_type| Some((event_type, Update::of(&sample(event_type))?)))
            .collect();
        let types: Vec<_> = changes.iter().map(|(event_type, _)| event_type.as_str()).collect();
        let wanted = [
            "OrderConfirmed",
            "OrderRejected",
            "OrderCancelled",
            "OrderShipped",
            "OrderAwaitingPayment",
            "OrderExpired",
        ];
        assert_eq!(types, wanted);
        for (event_type, update) in changes {
            assert!(update.version > Status::Pending.version(), "{event_type}");
            assert_eq!(update.reason.is_some(), event_type == EventType::OrderRejected);
        }
    }

    #[test]
    fn a_client_is_told_nothing_of_the_customer() {
        for event_type in EventType::ALL {
            let Some(update) = Update::of(&sample(event_type)) else { continue };
            let json: serde_json::Value =
                serde_json::from_str(&update.to_json(Kind::Change)).expect("an object");
            let fields: Vec<_> = json.as_object().expect("an object").keys().cloned().collect();
            let allowed = ["kind", "order_id", "reason", "status", "version"];
            assert!(fields.iter().all(|field| allowed.contains(&field.as_str())), "{fields:?}");
            assert!(!json.to_string().contains('@'), "{update:?}");
        }
    }

    #[test]
    fn a_client_watches_an_order_by_its_token_and_can_ask_for_nothing_else() {
        let watch = parse_request(r#"{"action":"watch","order_id":"one","order_token":"t"}"#);
        let order_id = "one".parse().expect("an id");
        assert_eq!(watch, Ok(Request::Watch { order_id, order_token: "t".into() }));
        for wrong in [
            "",
            "ping",
            "[]",
            r#"{"action":"watch"}"#,
            r#"{"action":"watch","order_id":"one"}"#,
            r#"{"action":"watch","order_id":"o#e","order_token":"t"}"#,
            r#"{"action":"cancel","order_id":"one","order_token":"t"}"#,
            r#"{"action":"watch","order_id":1,"order_token":"t"}"#,
        ] {
            assert_eq!(parse_request(wrong), Err(Refusal::Unreadable), "{wrong}");
        }
        let long = format!(r#"{{"action":"watch","order_id":"one","order_token":"{:1024}"}}"#, "t");
        assert_eq!(parse_request(&long), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_check_of_silence_is_no_event_and_no_event_is_a_check() {
        let check = SilenceCheck { close_if_silent: "L0SM9cOFvHcCIhw=".into() };
        assert!(Event::decode(check.to_json().as_bytes()).is_err());
        for event_type in EventType::ALL {
            let event = sample(event_type).encode();
            assert!(serde_json::from_str::<SilenceCheck>(&event).is_err(), "{event_type}");
        }
    }
}
