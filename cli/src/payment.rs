//! `orderflow payment`: how far the payment of an order has come, and giving it back.
//!
//! In: an order's id. Out: its row of the table `payments`: what Stripe calls it, what was asked of Stripe last, and whether that is known to have been
//! done. Guarantees: there is no client secret in it, because none is stored; Stripe is not called from here: what is given back, the deployed
//! functions give back by their rules, once.

use events::OrderId;
use exactly_once::ErrorChain;
use jiff::Timestamp;
use payment::{
    payments::{Payment, PaymentsTable},
    rules::{KeyedRequest, PaymentStatus},
};
use serde::Serialize;

use crate::{error::CliError, order, replay, stack::Stack};

/// What is known of the payment of an order. That it cannot be read fails nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum OrderPayment {
    /// How far it has come; null before it has begun.
    Known(Option<Payment>),
    /// Why it is not known.
    NotRead { error: String },
}

impl OrderPayment {
    /// Of an order, or `None` where orders are not paid.
    pub(crate) async fn of(stack: &Stack, id: &str) -> Option<Self> {
        let (table, order) = (table(stack)?, id.parse::<OrderId>().ok()?);
        Some(match table.get(&order).await {
            Ok(payment) => Self::Known(payment),
            Err(error) => Self::NotRead { error: ErrorChain(&error).to_string() },
        })
    }

    /// What `order show` says of it: a line.
    pub(crate) fn line(&self) -> String {
        let what = match self {
            Self::Known(Some(Payment { status, payment_id: Some(id), .. })) => {
                format!("{} ({id})", status.as_str())
            }
            Self::Known(Some(payment)) => payment.status.as_str().to_owned(),
            Self::Known(None) => "none yet".to_owned(),
            Self::NotRead { error } => format!("unknown: {error}"),
        };
        format!("payment   {what}\n")
    }
}

/// How the payment of an order is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refund {
    /// It was before.
    Done,
    /// The order is cancelled, and its payment refunded with it.
    ByCancelling,
    /// The order was cancelled, and payment-consumer is to handle that again.
    BySendingAgain,
}

impl Refund {
    /// What becomes of an order and its payment.
    ///
    /// # Errors
    /// Nothing was paid, or the order cannot be cancelled.
    pub(crate) fn of(payment: PaymentStatus, order: &str) -> Result<Self, CliError> {
        use PaymentStatus::{Cancelled, Creating, Open, Refunded, Refunding, Succeeded};
        match (payment, order) {
            (Refunded, _) => Ok(Self::Done),
            (Creating | Open | Cancelled, _) => Err(CliError::NotDone(format!(
                "nothing is to be given back: the payment is {}",
                payment.as_str()
            ))),
            (Succeeded | Refunding, "cancelled") => Ok(Self::BySendingAgain),
            (Succeeded | Refunding, "pending" | "awaiting_payment" | "confirmed") => {
                Ok(Self::ByCancelling)
            }
            (Succeeded | Refunding, status) => Err(CliError::NotDone(format!(
                "the order is {status} and cannot be cancelled: give its payment back at Stripe"
            ))),
        }
    }

    /// What is asked before it is done.
    pub(crate) fn question(self, payment: &Payment) -> String {
        let Payment { amount, currency, order_id, .. } = payment;
        match self {
            Self::Done | Self::BySendingAgain => {
                format!("Give {amount} {currency} of order {order_id} back?")
            }
            Self::ByCancelling => {
                format!("Cancel order {order_id} and give {amount} {currency} back?")
            }
        }
    }
}

/// Has the payment of an order given back. It takes the functions a moment.
///
/// # Errors
/// They were not reached.
pub(crate) async fn refund(stack: &Stack, payment: &Payment, how: Refund) -> Result<(), CliError> {
    let order = payment.order_id.as_str();
    match how {
        Refund::Done => Ok(()),
        Refund::ByCancelling => order::cancel(stack, order).await.map(drop),
        Refund::BySendingAgain => {
            let queue = stack.queue("payment")?;
            replay::send_event_again(stack, queue, order, "OrderCancelled").await
        }
    }
}

/// The payment of an order.
///
/// # Errors
/// There is none, or orders are not paid here.
pub(crate) async fn show(stack: &Stack, id: &str) -> Result<Payment, CliError> {
    let absent =
        || CliError::NotFound(format!("no payment of an order {id:?} in stack {}", stack.name));
    let order: OrderId = id.parse().map_err(|_| absent())?;
    let table = PaymentsTable::new(stack.dynamodb.clone(), table_name(stack)?);
    table.get(&order).await?.ok_or_else(absent)
}

/// The table's name.
///
/// # Errors
/// Orders are not paid in this stack.
pub(crate) fn table_name(stack: &Stack) -> Result<&str, CliError> {
    stack.output("PaymentsTable").map_err(|_| {
        let why = "orders are not paid in stack";
        CliError::NotFound(format!("{why} {}: it has Payments=none", stack.name))
    })
}

/// The table, or `None` if orders are not paid in this stack.
pub(crate) fn table(stack: &Stack) -> Option<PaymentsTable> {
    let name = stack.output("PaymentsTable").ok()?;
    Some(PaymentsTable::new(stack.dynamodb.clone(), name))
}

/// As people read it.
pub(crate) fn text(payment: &Payment) -> String {
    let known = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    let request = |request: &Option<KeyedRequest>| match request {
        None => "-".to_owned(),
        Some(KeyedRequest { key, since, has_failed }) => {
            let since = Timestamp::from_second(*since).unwrap_or(Timestamp::UNIX_EPOCH);
            let failed = if *has_failed { ", under which Stripe has failed" } else { "" };
            format!("key {key} since {since}{failed}")
        }
    };
    format!(
        "order       {}\nstatus      {}\namount      {} {}\npayment     {}\nasked for   {}\nrefund      {}\nasked for   {}\nupdated     {}",
        payment.order_id,
        payment.status.as_str(),
        payment.amount,
        payment.currency,
        known(&payment.payment_id),
        request(&payment.creation),
        known(&payment.refund_id),
        request(&payment.refund),
        payment.updated_at,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_paid_is_given_back_by_way_of_the_order_and_nothing_else_is() {
        use PaymentStatus::{Cancelled, Creating, Open, Refunded, Refunding, Succeeded};
        for status in ["pending", "awaiting_payment", "confirmed"] {
            assert_eq!(Refund::of(Succeeded, status).ok(), Some(Refund::ByCancelling));
        }
        for payment in [Succeeded, Refunding] {
            assert_eq!(Refund::of(payment, "cancelled").ok(), Some(Refund::BySendingAgain));
            assert!(Refund::of(payment, "shipped").is_err());
            assert!(Refund::of(payment, "a status of later").is_err());
        }
        for payment in [Creating, Open, Cancelled] {
            assert!(Refund::of(payment, "cancelled").is_err());
        }
        assert_eq!(Refund::of(Refunded, "cancelled").ok(), Some(Refund::Done));
    }
}
