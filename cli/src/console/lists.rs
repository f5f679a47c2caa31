//! The lists behind the counts of the page: orders, events, payments, products, mails.
//!
//! In: which list, and from where to go on. Out: a page of fifty. Guarantee: it answers within a second however large the tables
//! are: an index has it, or a scan ends after part of a second and says how far it has read.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use events::{Email, Name};
use order::rules::Status;
use payment::rules::PaymentStatus;
use serde::Deserialize;

use super::{Answer, Console};
use crate::{
    error::CliError,
    mail::{self, UnknownMail},
    order_list::{self, OrderRow},
    outbox::{self, OutboxEvent},
    pagination::{ENTRIES_DEFAULT, ENTRIES_MAX, Page, PageRequest},
    payment_list::{self, PaymentRow},
    product::{self, ProductRow},
};

/// For how long a list reads a table, so that it answers within a second.
const SCAN_TIME: Duration = Duration::from_millis(800);

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/api/lists/orders", get(orders))
        .route("/api/lists/events", get(events))
        .route("/api/lists/payments", get(payments))
        .route("/api/lists/products", get(products))
        .route("/api/lists/mails", get(mails))
}

fn page(from: Option<String>) -> PageRequest {
    PageRequest { from, limit: ENTRIES_DEFAULT, scan_time: SCAN_TIME }
}

/// The value that is written so.
fn known<T: Copy>(all: &[T], written: fn(T) -> &'static str, text: &str) -> Result<T, CliError> {
    let found = all.iter().copied().find(|one| written(*one) == text);
    found.ok_or_else(|| CliError::NotFound(format!("no status {text:?}")))
}

#[derive(Debug, Deserialize)]
struct OrdersQuery {
    status: Option<String>,
    customer: Option<String>,
    #[serde(default)]
    late: bool,
    from: Option<String>,
}

async fn orders(
    State(console): State<Arc<Console>>,
    Query(query): Query<OrdersQuery>,
) -> Answer<Page<OrderRow>> {
    let selection = match (query.status, query.customer) {
        (Some(status), _) => {
            order_list::Selection::Status(known(&Status::ALL, Status::as_str, &status)?)
        }
        (None, Some(email)) => order_list::Selection::Customer(address(&email)?),
        (None, None) if query.late => order_list::Selection::Late,
        (None, None) => order_list::Selection::All,
    };
    order_list::list(&console.stack, &selection, &page(query.from)).await.map(Json)
}

fn address(email: &str) -> Result<Email, CliError> {
    email.parse().map_err(|_| CliError::NotFound("this is no e-mail address".into()))
}

#[derive(Debug, Deserialize)]
struct EventsQuery {
    #[serde(default)]
    pending: bool,
    from: Option<String>,
}

/// The stuck events, or those that are going to be published. One goes on after as many as were read before.
async fn events(
    State(console): State<Arc<Console>>,
    Query(query): Query<EventsQuery>,
) -> Answer<Page<OutboxEvent>> {
    let outbox = console.stack.outbox()?;
    let before = query.from.and_then(|from| from.parse::<u16>().ok()).unwrap_or_default();
    let before = before.min(ENTRIES_MAX);
    let limit = usize::from(before + ENTRIES_DEFAULT) + 1;
    let keys = if query.pending {
        outbox.list_pending(limit).await?
    } else {
        outbox.list_stuck(limit).await?
    };
    let next = (keys.len() == limit && before < ENTRIES_MAX)
        .then(|| (before + ENTRIES_DEFAULT).to_string());
    let keys: Vec<_> = keys.into_iter().skip(before.into()).take(ENTRIES_DEFAULT.into()).collect();
    let items = outbox::read_all(&console.stack, &keys).await?;
    Ok(Json(Page { items, read: None, next }))
}

#[derive(Debug, Deserialize)]
struct PaymentsQuery {
    status: Option<String>,
    #[serde(default)]
    overdue: bool,
    from: Option<String>,
}

async fn payments(
    State(console): State<Arc<Console>>,
    Query(query): Query<PaymentsQuery>,
) -> Answer<Page<PaymentRow>> {
    let selection = match query.status {
        Some(status) => payment_list::Selection::Status(known(
            &PaymentStatus::ALL,
            PaymentStatus::as_str,
            &status,
        )?),
        None if query.overdue => payment_list::Selection::Overdue,
        None => payment_list::Selection::All,
    };
    payment_list::list(&console.stack, selection, &page(query.from)).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct ProductsQuery {
    category: Option<String>,
    stock_below: Option<u64>,
    from: Option<String>,
}

async fn products(
    State(console): State<Arc<Console>>,
    Query(query): Query<ProductsQuery>,
) -> Answer<Page<ProductRow>> {
    let selection = match (query.category, query.stock_below) {
        (Some(category), _) => {
            let category: Result<Name, _> = category.parse();
            product::Selection::Category(
                category.map_err(|_| CliError::NotFound("this is no category".into()))?,
            )
        }
        (None, Some(stock)) => product::Selection::StockBelow(stock),
        (None, None) => product::Selection::All,
    };
    product::list(&console.stack, &selection, &page(query.from)).await.map(Json)
}

#[derive(Debug, Deserialize)]
struct MailsQuery {
    from: Option<String>,
}

async fn mails(
    State(console): State<Arc<Console>>,
    Query(query): Query<MailsQuery>,
) -> Answer<Page<UnknownMail>> {
    mail::list_unknown(&console.stack, &page(query.from)).await.map(Json)
}
