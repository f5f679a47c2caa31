//! `orderflow order list`: the orders behind a count, a customer's, or those of a status.
//!
//! In: a selection and a page. Out: a line for each order, as the last write left it. Indexes serve what they can: the pending,
//! the late, those that await payment and a customer's, in the order of the index. For the other statuses the table is scanned, in
//! no order, within the bounds of [`pagination`](crate::pagination).

use events::{Email, Money, Stamp};
use exactly_once::{Item, table::batch_get_all};
use jiff::{SignedDuration, Timestamp};
use order::{
    order_index::{self, IndexPage, IndexPlace, IndexRange},
    rules::Status,
};
use serde::Serialize;

use crate::{
    error::CliError,
    output::{plain, table},
    pagination::{Page, PageRequest, TableScan, scan},
    stack::Stack,
    status::pending_minutes_max,
};

const OPERATION: &str = "BatchGetItem orders";

/// Which orders.
#[derive(Debug, Clone)]
pub(crate) enum Selection {
    All,
    Status(Status),
    /// Of this customer, whose address is written as in the orders.
    Customer(Email),
    /// Pending for longer than the stack's `OrderPendingMaxMinutes`.
    Late,
}

/// One order of a list. What cannot be read of it is null: an operator is to see that it is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OrderRow {
    pub order_id: String,
    pub status: Option<String>,
    pub customer_email: Option<String>,
    pub total: Option<Money>,
    pub currency: Option<String>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    /// Until when it is to be paid, of one that awaits payment.
    pub payment_due_at: Option<Timestamp>,
}

impl OrderRow {
    pub(crate) fn read(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok().cloned();
        let moment = |name: &str| Some(text(name)?.parse::<Stamp>().ok()?.timestamp());
        let total = || Money::from_minor(item.get("total")?.as_n().ok()?.parse().ok()?).ok();
        Some(Self {
            order_id: text("order_id")?,
            status: text("status"),
            customer_email: text("customer_email"),
            total: total(),
            currency: text("currency"),
            created_at: moment("created_at"),
            updated_at: moment("updated_at"),
            payment_due_at: moment("payment_due_at"),
        })
    }

    fn has_status(&self, status: Status) -> bool {
        self.status.as_deref() == Some(status.as_str())
    }
}

/// A page of orders.
///
/// # Errors
/// The table does not answer, or the page is none of this list.
pub(crate) async fn list(
    stack: &Stack,
    selection: &Selection,
    request: &PageRequest,
) -> Result<Page<OrderRow>, CliError> {
    let name = stack.output("OrdersTable")?;
    match selection {
        Selection::All => scan_orders(stack, name, None, request).await,
        Selection::Status(Status::Pending) => pending(stack, name, None, request).await,
        Selection::Late => {
            let minutes = SignedDuration::from_mins(pending_minutes_max(stack));
            let before = Stamp::from(Timestamp::now() - minutes).to_string();
            pending(stack, name, Some(&before), request).await
        }
        Selection::Status(Status::AwaitingPayment) => {
            let place = place(request)?;
            let range =
                IndexRange { after: place.as_ref(), before: None, limit: request.entries() };
            let page = order_index::awaiting_payment(&stack.dynamodb, name, range).await?;
            let is_wanted = |row: &OrderRow| row.has_status(Status::AwaitingPayment);
            rows(stack, name, &page, is_wanted).await
        }
        Selection::Status(status) => scan_orders(stack, name, Some(*status), request).await,
        Selection::Customer(email) => {
            let place = place(request)?;
            let limit = request.entries();
            let page =
                order_index::of_customer(&stack.dynamodb, name, email, place.as_ref(), limit)
                    .await?;
            rows(stack, name, &page, |_| true).await
        }
    }
}

async fn pending(
    stack: &Stack,
    name: &str,
    before: Option<&str>,
    request: &PageRequest,
) -> Result<Page<OrderRow>, CliError> {
    let place = place(request)?;
    let range = IndexRange { after: place.as_ref(), before, limit: request.entries() };
    let page = order_index::pending(&stack.dynamodb, name, range).await?;
    rows(stack, name, &page, |row| row.has_status(Status::Pending)).await
}

/// The place in an index after which a page begins.
///
/// # Errors
/// It is none.
pub(crate) fn place(request: &PageRequest) -> Result<Option<IndexPlace>, CliError> {
    let Some(from) = &request.from else { return Ok(None) };
    let place = IndexPlace::parse(from).ok_or_else(|| {
        CliError::NotDone(format!(
            "{from:?} is no place in this list: take what the page before names"
        ))
    })?;
    Ok(Some(place))
}

/// The orders of a page of an index, in its order. The index may lag: what has moved on since is left out.
async fn rows(
    stack: &Stack,
    name: &str,
    page: &IndexPage,
    is_wanted: impl Fn(&OrderRow) -> bool,
) -> Result<Page<OrderRow>, CliError> {
    let next = page.next_place();
    let items = read_orders(stack, name, &page.places).await?;
    let items = items.iter().filter_map(OrderRow::read).filter(is_wanted).collect();
    Ok(Page { items, read: None, next })
}

/// The orders at these places, in their order; what is gone is left out.
///
/// # Errors
/// The table does not answer, or not for all of them.
pub(crate) async fn read_orders(
    stack: &Stack,
    name: &str,
    places: &[IndexPlace],
) -> Result<Vec<Item>, CliError> {
    let mut items =
        batch_get_all(&stack.dynamodb, name, order_index::keys(places), OPERATION).await?;
    let position = |item: &Item| {
        let id = item.get("order_id")?.as_s().ok()?;
        places.iter().position(|place| place.order_id == *id)
    };
    items.sort_by_key(position);
    Ok(items)
}

async fn scan_orders(
    stack: &Stack,
    name: &str,
    status: Option<Status>,
    request: &PageRequest,
) -> Result<Page<OrderRow>, CliError> {
    let wanted = TableScan { table: name, key: "order_id", is_filtered: status.is_some() };
    let page = scan(stack, wanted, request, |call| {
        let call = call
            .projection_expression(
                "order_id, #status, customer_email, #total, currency, created_at, updated_at, payment_due_at",
            )
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#total", "total");
        match status {
            None => call,
            Some(status) => call
                .filter_expression("#status = :status")
                .expression_attribute_values(":status", exactly_once::table::text(status.as_str())),
        }
    });
    let page = page.await?;
    let items = page.items.iter().filter_map(OrderRow::read).collect();
    Ok(Page { items, read: page.read, next: page.next })
}

/// As people read it.
pub(crate) fn text(page: &Page<OrderRow>) -> String {
    if page.items.is_empty() {
        return format!("No such orders.{}", page.end_text());
    }
    let known = |text: &Option<String>| plain(text.as_deref().unwrap_or("-"));
    let rows = page.items.iter().map(|row| {
        let total = match (row.total, &row.currency) {
            (Some(total), Some(currency)) => format!("{total} {currency}"),
            _ => "-".to_owned(),
        };
        vec![
            row.created_at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}")),
            known(&row.status),
            total,
            known(&row.customer_email),
            plain(&row.order_id),
        ]
    });
    let table = table(&["created", "status", ">total", "customer", "order"], rows);
    format!("{table}{}", page.end_text())
}

#[cfg(test)]
mod tests {
    use exactly_once::table::{number, text as attribute};

    use super::*;

    fn item() -> Item {
        Item::from([
            ("order_id".to_owned(), attribute("o1")),
            ("status".to_owned(), attribute("pending")),
            ("customer_email".to_owned(), attribute("anna@example.com")),
            ("total".to_owned(), number(2050)),
            ("currency".to_owned(), attribute("UAH")),
            ("created_at".to_owned(), attribute("2025-11-20T12:00:00.000Z")),
        ])
    }

    #[test]
    fn an_order_of_a_list_has_its_total_with_two_digits_and_the_text_says_where_to_go_on() {
        let row = OrderRow::read(&item()).expect("an order");
        let json = serde_json::to_string(&row).expect("JSON");
        assert!(json.contains(r#""total":20.50"#), "{json}");
        let next = Some("2025-11-20T12:00:00.000Z/o1".to_owned());
        let said = text(&Page { items: vec![row], read: None, next });
        assert!(said.contains("20.50 UAH") && said.contains("2025-11-20T12:00:00Z"), "{said}");
        assert!(said.ends_with("--from 2025-11-20T12:00:00.000Z/o1"), "{said}");
    }

    #[test]
    fn an_order_that_cannot_be_read_is_in_the_list_all_the_same() {
        let mut odd = item();
        odd.insert("total".to_owned(), attribute("much"));
        odd.remove("created_at");
        let row = OrderRow::read(&odd).expect("it has a key");
        assert_eq!((row.total, row.created_at), (None, None));
        let said = text(&Page { items: vec![row], read: Some(3), next: None });
        assert!(said.contains("o1"), "{said}");
    }

    #[test]
    fn an_empty_page_of_a_scan_says_how_far_it_has_read() {
        let page = Page { items: Vec::new(), read: Some(20_000), next: Some("o9".into()) };
        assert_eq!(text(&page), "No such orders.\nRead 20,000 of the table; go on with --from o9");
    }
}
