//! `orderflow payment`: how far the payment of an order has come.
//!
//! In: an order's id. Out: its row of the table `payments`: what Stripe calls it, what was asked of Stripe last, and whether that is known to have been
//! done. Guarantee: reads only; there is no client secret in it, because none is stored.

use events::OrderId;
use jiff::Timestamp;
use payment::{
    payments::{Payment, PaymentsTable},
    rules::KeyedRequest,
};

use crate::{error::CliError, stack::Stack};

/// The payment of an order.
///
/// # Errors
/// There is none, or orders are not paid here.
pub(crate) async fn show(stack: &Stack, id: &str) -> Result<Payment, CliError> {
    let absent =
        || CliError::NotFound(format!("no payment of an order {id:?} in stack {}", stack.name));
    let order: OrderId = id.parse().map_err(|_| absent())?;
    let Some(table) = table(stack) else {
        let why = "orders are not paid in stack";
        return Err(CliError::NotFound(format!("{why} {}: it has Payments=none", stack.name)));
    };
    table.get(&order).await?.ok_or_else(absent)
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
