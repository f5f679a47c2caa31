//! `orderflow payment list`: the payments of a status, or those that are overdue.
//!
//! In: a selection and a page. Out: a line for each payment. Those that are overdue, the index of orders that await payment has;
//! for a status the table is scanned, in no order, within the bounds of [`pagination`](crate::pagination).

use ::payment::rules::PaymentStatus;
use events::{Money, Stamp};
use exactly_once::{Item, table::batch_get_all};
use jiff::{SignedDuration, Timestamp};
use order::order_index::{self, IndexRange};
use serde::Serialize;

use crate::{
    error::CliError,
    order_list::{OrderRow, place, read_orders},
    output::{plain, table},
    pagination::{Page, PageRequest, TableScan, scan},
    payment,
    stack::Stack,
    when::short,
};

/// An order whose time to pay is over is looked at again by the relay after ten minutes at most: later ones of the index are not
/// overdue.
const ASKED_AGAIN_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Which payments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selection {
    All,
    Status(PaymentStatus),
    /// Of orders that still await payment after their time to pay.
    Overdue,
}

/// One payment of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PaymentRow {
    pub order_id: String,
    /// Null if the payment has not begun.
    pub status: Option<String>,
    pub amount: Option<Money>,
    pub currency: Option<String>,
    /// At Stripe.
    pub payment_id: Option<String>,
    pub updated_at: Option<Timestamp>,
    /// Until when it was to be paid, of one that is overdue.
    pub due_at: Option<Timestamp>,
}

impl PaymentRow {
    fn read(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok().cloned();
        let amount = || Money::from_minor(item.get("amount")?.as_n().ok()?.parse().ok()?).ok();
        Some(Self {
            order_id: text("order_id")?,
            status: text("status"),
            amount: amount(),
            currency: text("currency"),
            payment_id: text("payment_id"),
            updated_at: text("updated_at")
                .and_then(|at| at.parse::<Stamp>().ok())
                .map(Stamp::timestamp),
            due_at: None,
        })
    }

    /// Of an order that is overdue.
    fn overdue(order: &OrderRow, payment: Option<&Self>) -> Self {
        Self {
            order_id: order.order_id.clone(),
            status: payment.and_then(|payment| payment.status.clone()),
            amount: order.total,
            currency: order.currency.clone(),
            payment_id: payment.and_then(|payment| payment.payment_id.clone()),
            updated_at: payment.and_then(|payment| payment.updated_at),
            due_at: order.payment_due_at,
        }
    }
}

/// A page of payments.
///
/// # Errors
/// Orders are not paid here, a table does not answer, or the page is none of this list.
pub(crate) async fn list(
    stack: &Stack,
    selection: Selection,
    request: &PageRequest,
) -> Result<Page<PaymentRow>, CliError> {
    let name = payment::table_name(stack)?;
    let status = match selection {
        Selection::Overdue => return overdue(stack, name, request).await,
        Selection::All => None,
        Selection::Status(status) => Some(status),
    };
    let wanted = TableScan { table: name, key: "order_id", is_filtered: status.is_some() };
    let page = scan(stack, wanted, request, |call| match status {
        None => call,
        Some(status) => call
            .filter_expression("#status = :status")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", exactly_once::table::text(status.as_str())),
    });
    let page = page.await?;
    let items = page.items.iter().filter_map(PaymentRow::read).collect();
    Ok(Page { items, read: page.read, next: page.next })
}

async fn overdue(
    stack: &Stack,
    payments: &str,
    request: &PageRequest,
) -> Result<Page<PaymentRow>, CliError> {
    const OPERATION: &str = "BatchGetItem payments";
    let now = Timestamp::now();
    let before = Stamp::from(now + ASKED_AGAIN_WITHIN).to_string();
    let after = place(request)?;
    let range =
        IndexRange { after: after.as_ref(), before: Some(&before), limit: request.entries() };
    let orders = stack.output("OrdersTable")?;
    let page = order_index::awaiting_payment(&stack.dynamodb, orders, range).await?;
    let next = page.next_place();
    let (orders, read) = tokio::join!(
        read_orders(stack, orders, &page.places),
        batch_get_all(&stack.dynamodb, payments, order_index::keys(&page.places), OPERATION),
    );
    let payments: Vec<PaymentRow> = read?.iter().filter_map(PaymentRow::read).collect();
    let is_overdue = |row: &OrderRow| {
        row.status.as_deref() == Some("awaiting_payment")
            && row.payment_due_at.is_some_and(|due| due <= now)
    };
    let items = orders?
        .iter()
        .filter_map(OrderRow::read)
        .filter(is_overdue)
        .map(|order| {
            let payment = payments.iter().find(|payment| payment.order_id == order.order_id);
            PaymentRow::overdue(&order, payment)
        })
        .collect();
    Ok(Page { items, read: None, next })
}

/// As people read it.
pub(crate) fn text(page: &Page<PaymentRow>) -> String {
    if page.items.is_empty() {
        return format!("No such payments.{}", page.end_text());
    }
    let now = Timestamp::now();
    let known = |text: &Option<String>| plain(text.as_deref().unwrap_or("-"));
    let rows = page.items.iter().map(|row| {
        let amount = match (row.amount, &row.currency) {
            (Some(amount), Some(currency)) => format!("{amount} {currency}"),
            _ => "-".to_owned(),
        };
        let overdue = row.due_at.map(|due| short(now.duration_since(due).as_secs()));
        vec![
            known(&row.status),
            amount,
            overdue.unwrap_or_else(|| "-".to_owned()),
            row.updated_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
            known(&row.payment_id),
            plain(&row.order_id),
        ]
    });
    let headings = ["status", ">amount", ">overdue for", "updated", "payment at Stripe", "order"];
    format!("{}{}", table(&headings, rows), page.end_text())
}

#[cfg(test)]
mod tests {
    use exactly_once::table::{number, text as attribute};

    use super::*;

    #[test]
    fn an_overdue_order_whose_payment_has_not_begun_is_in_the_list() {
        let order = Item::from([
            ("order_id".to_owned(), attribute("o1")),
            ("status".to_owned(), attribute("awaiting_payment")),
            ("total".to_owned(), number(5000)),
            ("currency".to_owned(), attribute("EUR")),
            ("payment_due_at".to_owned(), attribute("2025-11-20T12:00:00.000Z")),
        ]);
        let order = OrderRow::read(&order).expect("an order");
        let row = PaymentRow::overdue(&order, None);
        assert_eq!(row.status, None);
        let said = text(&Page { items: vec![row], read: None, next: None });
        assert!(said.contains("50.00 EUR") && said.contains("o1"), "{said}");
    }
}
