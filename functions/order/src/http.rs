//! The order service's HTTP calls.

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use events::{Currency, Email, Line, Money, OrderId, Stamp, StockLine};
use http_api::{Caller, Fields, Problem};
use serde::Serialize;

use crate::{
    rules::{LINES_MAX, Order, Status, Wanted, place},
    store::{Offers, Orders, StoreError},
};

/// What the calls work with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The orders.
    pub orders: Orders,
    /// What can be ordered.
    pub offers: Offers,
    /// Of every order.
    pub currency: Currency,
}

/// The calls.
pub fn routes(desk: Desk) -> Router {
    Router::new().route("/orders", post(create)).route("/orders/{id}", get(show)).with_state(desk)
}

/// Every path of the API with the methods that it takes: what the gateway's catch-all is answered from.
pub const PATHS: [(&str, &str); 5] = [
    ("/orders", "POST"),
    ("/orders/{id}", "GET"),
    ("/products", "GET, POST"),
    ("/products/{id}", "GET, PATCH"),
    ("/products/{id}/stock", "POST"),
];

/// The answers to what the gateway has no route for: another path, or another method.
pub fn unrouted() -> Router {
    let not_found = Router::new().fallback(|| async {
        let paths: Vec<_> =
            PATHS.iter().map(|(path, methods)| format!("{methods} {path}")).collect();
        Problem::not_found(format!("There is no such path. There are: {}.", paths.join("; ")))
    });
    PATHS.into_iter().fold(not_found, |router, (path, methods)| {
        router.route(path, any(async move || Problem::method_not_allowed(methods)))
    })
}

#[derive(Serialize)]
struct Shown {
    id: OrderId,
    status: Status,
    items: Vec<Line>,
    total_price: Money,
    currency: Currency,
    customer_email: Email,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    created_at: Stamp,
    updated_at: Stamp,
}

impl From<Order> for Shown {
    fn from(order: Order) -> Self {
        let items = order.lines();
        let Order { order_id: id, status, total, currency, customer_email, .. } = order;
        let Order { reason, created_at, updated_at, .. } = order;
        Self {
            id,
            status,
            items,
            total_price: total,
            currency,
            customer_email,
            reason,
            created_at,
            updated_at,
        }
    }
}

async fn create(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, Problem> {
    let wanted = wanted(&body)?;
    let products = wanted.lines.iter().map(|line| &line.product_id);
    let offers = desk.offers.of(products).await.map_err(unavailable)?;
    let order = place(OrderId::random(), wanted, &offers, &desk.currency, Stamp::now())
        .map_err(Problem::invalid)?;
    desk.orders.add(&order, &caller).await.map_err(unavailable)?;
    let location = [("location", format!("/orders/{}", order.order_id))];
    Ok((StatusCode::CREATED, location, Json(Shown::from(order))).into_response())
}

async fn show(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Json<Shown>, Problem> {
    let no_such = || Problem::not_found(format!("There is no order {id:?}."));
    // What cannot be an id is the id of nothing.
    let order_id: OrderId = id.parse().map_err(|_| no_such())?;
    let order = desk.orders.get(&order_id).await.map_err(unavailable)?;
    order.map(|order| Json(order.into())).ok_or_else(no_such)
}

/// Reads an order. A single product may be given flat, beside the address.
fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let mut fields = Fields::of_body(body)?;
    let customer_email = fields.required("customer_email");
    let lines = if fields.has("product_id") && !fields.has("items") {
        line(&mut fields).map(|line| vec![line])
    } else {
        fields.list("items", (1, LINES_MAX), line)
    };
    fields.finish()?;
    match (customer_email, lines) {
        (Some(customer_email), Some(lines)) => Ok(Wanted { customer_email, lines }),
        _ => Err(Problem::internal()),
    }
}

fn line(fields: &mut Fields<'_>) -> Option<StockLine> {
    // Both are read before either is missed, so that both complaints are heard.
    let (product_id, quantity) = (fields.required("product_id"), fields.required("quantity"));
    Some(StockLine { product_id: product_id?, quantity: quantity? })
}

fn unavailable(error: StoreError) -> Problem {
    tracing::error!(error = %error, "the tables failed");
    Problem::unavailable("The order could not be read or written; try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_product_may_be_given_flat() {
        let flat = br#"{"product_id":"p","quantity":2,"customer_email":"a@example.com"}"#;
        let listed =
            br#"{"items":[{"product_id":"p","quantity":2}],"customer_email":"a@example.com"}"#;
        assert_eq!(wanted(flat).ok(), wanted(listed).ok());
        assert!(wanted(flat).is_ok());
    }
}
