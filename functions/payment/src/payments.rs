//! The table `payments`: one row an order, which says how far its payment has come.
//!
//! In: what [`crate::rules`] has decided. Out: what DynamoDB made of it. Guarantees: a row only moves forward, each move is made once,
//! conditional on what it was decided from; a move, the marker of its cause and the event that reports it are one transaction.

use aws_sdk_dynamodb::{
    Client,
    types::{Put, TransactWriteItem},
};
use events::{Body, Currency, Money, OrderId, Stamp};
use exactly_once::{
    CallError, Commit, Item, Role, TableError, TransactionWrite, commit,
    table::{number, text},
};
use serde::{Deserialize, Serialize};

use crate::rules::{KeyedRequest, PaymentStatus, may_move};

/// The payment of an order, in the form in which the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub order_id: OrderId,
    pub status: PaymentStatus,
    #[serde(with = "events::minor_units")]
    pub amount: Money,
    pub currency: Currency,
    /// How the PaymentIntent is made; `None` if none may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation: Option<KeyedRequest>,
    /// The id of the PaymentIntent; `None` before it is known, and if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<String>,
    /// How the money is given back; `None` as long as it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund: Option<KeyedRequest>,
    /// Stripe's id of the refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
    /// How often it was written: what a write is conditional on.
    pub version: u64,
    pub updated_at: Stamp,
}

impl Payment {
    /// Of an order that is to be paid: its PaymentIntent is about to be made.
    #[must_use]
    pub fn begin(order: &events::Order, creation: KeyedRequest, now: Stamp) -> Self {
        Self {
            creation: Some(creation),
            status: PaymentStatus::Creating,
            ..Self::never(order, now)
        }
    }

    /// Of an order that must never be paid: what would have begun its payment may still come.
    #[must_use]
    pub fn never(order: &events::Order, now: Stamp) -> Self {
        Self {
            order_id: order.order_id.clone(),
            status: PaymentStatus::Cancelled,
            amount: order.total_price,
            currency: order.currency.clone(),
            creation: None,
            payment_id: None,
            refund: None,
            refund_id: None,
            version: 0,
            updated_at: now,
        }
    }

    /// The payment after a move.
    ///
    /// # Panics
    /// There is no such move.
    #[must_use]
    pub fn moved(self, to: PaymentStatus, now: Stamp) -> Self {
        assert!(may_move(self.status, to), "from {:?} to {to:?}", self.status);
        Self { status: to, version: self.version + 1, updated_at: now, ..self }
    }

    /// The payment after it was found paid or cancelled, and the event that reports it.
    ///
    /// # Panics
    /// There is no such move.
    #[must_use]
    pub fn concluded(self, to: PaymentStatus, reason: Option<String>, now: Stamp) -> (Self, Body) {
        let next = self.moved(to, now);
        let payload = next.to_payload(reason);
        let body = match to {
            PaymentStatus::Succeeded => Body::PaymentSucceeded(payload),
            PaymentStatus::Cancelled => Body::PaymentCancelled(payload),
            other => panic!("{other:?} is no conclusion"),
        };
        (next, body)
    }

    /// The payment with something else noted, in the same status.
    #[must_use]
    pub fn noted(self, now: Stamp) -> Self {
        Self { version: self.version + 1, updated_at: now, ..self }
    }

    /// What an event says of it.
    #[must_use]
    pub fn to_payload(&self, reason: Option<String>) -> events::Payment {
        events::Payment {
            order_id: self.order_id.clone(),
            amount: self.amount,
            currency: self.currency.clone(),
            payment_id: self.payment_id.as_ref().and_then(|id| id.parse().ok()),
            // What Stripe says may be no text of ours: then the event goes without.
            reason: reason.and_then(|reason| reason.parse().ok()),
        }
    }
}

/// A move of a payment, with the event that reports it, if one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub next: Payment,
    pub body: Option<Body>,
}

/// The table.
#[derive(Debug, Clone)]
pub struct PaymentsTable {
    client: Client,
    name: String,
}

impl PaymentsTable {
    #[must_use]
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// The payment of an order as the last write left it, or `None` if there is none.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn get(&self, order: &OrderId) -> Result<Option<Payment>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .key("order_id", text(order.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem payment"))?;
        let read = |item| serde_dynamo::from_item(item).map_err(TableError::corrupt(&self.name));
        answer.item.map(read).transpose()
    }

    /// The write of a payment that fails if it is not what it was decided from any more.
    ///
    /// # Errors
    /// It has no form as an item.
    pub fn write(&self, next: &Payment) -> Result<TransactionWrite<()>, TableError> {
        let item: Item = serde_dynamo::to_item(next).map_err(TableError::corrupt(&self.name))?;
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        let put = match next.version.checked_sub(1) {
            None => put.condition_expression("attribute_not_exists(order_id)"),
            Some(previous) => put
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", number(previous)),
        };
        let put = put.build().expect("a put has a table and an item");
        Ok(TransactionWrite::new(Role::Guard(()), TransactWriteItem::builder().put(put).build()))
    }

    /// Writes a payment by itself: what is done at Stripe next, if the process dies. `false` if it is not what it was decided from.
    ///
    /// # Errors
    /// The table did not answer: whether it is written is unknown.
    pub async fn put(&self, next: &Payment) -> Result<bool, TableError> {
        self.commit(&[self.write(next)?]).await.map(|commit| commit == Commit::Done)
    }

    /// Commits a transaction that has such a write.
    ///
    /// # Errors
    /// The tables did not answer: whether it is committed is unknown.
    pub async fn commit(&self, writes: &[TransactionWrite<()>]) -> Result<Commit<()>, TableError> {
        Ok(commit(&self.client, writes).await?)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn order() -> events::Order {
        let sample =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/samples/OrderAwaitingPayment.json");
        let event = events::Event::decode(&std::fs::read(sample).expect("a sample"));
        match event.expect("an event").body {
            Body::OrderAwaitingPayment(order) => order,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_payment_survives_the_table() {
        let now = Timestamp::from_second(1_800_000_000).expect("a moment");
        let creation = KeyedRequest::new("an-event", now);
        let mut payment = Payment::begin(&order(), creation.clone(), now.into());
        payment = Payment { payment_id: Some("pi_1".into()), ..payment };
        payment = payment.moved(PaymentStatus::Succeeded, now.into());
        payment.refund = Some(KeyedRequest { has_failed: true, ..creation });
        let item: Item = serde_dynamo::to_item(&payment).expect("an item");
        assert_eq!(item["version"].as_n().map(String::as_str), Ok("1"));
        assert_eq!(serde_dynamo::from_item::<_, Payment>(item).ok(), Some(payment));
    }

    #[test]
    #[should_panic(expected = "from Cancelled to Open")]
    fn a_cancelled_payment_cannot_be_opened() {
        let now = Timestamp::UNIX_EPOCH.into();
        let _ = Payment::never(&order(), now).moved(PaymentStatus::Open, now);
    }
}
