//! The order service's HTTP calls.

use std::time::{Duration, Instant};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use delivery::{Repeated, Requests};
use events::{Currency, Email, InvalidValue, Line, Money, OrderId, Stamp, StockLine};
use http_api::{Caller, Cursor, FieldError, Fields, Page, Problem, RequestKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    rules::{LINES_MAX, Order, Status, Wanted, Wish, cancel, place, ship},
    dynamodb::{Added, AfterOrder, Fulfilled, Offers, Orders},
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
    /// Which requests have been answered.
    pub requests: Requests,
}

/// The calls.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/orders", post(create).get(list))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/cancel", post(cancelled))
        .route("/orders/{id}/ship", post(shipped))
        .route("/orders/{id}/events", get(history))
        .with_state(desk)
}

/// Every path of the API with the methods that it takes: what the gateway's catch-all is answered from.
pub const PATHS: [(&str, &str); 8] = [
    ("/orders", "GET, POST"),
    ("/orders/{id}", "GET"),
    ("/orders/{id}/cancel", "POST"),
    ("/orders/{id}/ship", "POST"),
    ("/orders/{id}/events", "GET"),
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

#[derive(Serialize)]
struct Listed {
    orders: Vec<Shown>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct History {
    events: Vec<Box<RawValue>>,
}

async fn create(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    // Before everything else: a repetition is answered as the first time, whatever has changed since.
    let key = RequestKey::of(&headers, "POST", "/orders", &body)?;
    if let Some(key) = &key {
        let found = desk.requests.find(&key.key, &key.fingerprint).await;
        match found.map_err(unavailable)? {
            Some(Repeated::Same(answer)) => return accepted(answer),
            Some(Repeated::Other) => return Err(Problem::key_reused()),
            None => {}
        }
    }
    let wanted = wanted(&body)?;
    let products = wanted.lines.iter().map(|line| &line.product_id);
    let offers = desk.offers.of(products).await.map_err(unavailable)?;
    let order = place(OrderId::random(), wanted, &offers, &desk.currency, Stamp::now())
        .map_err(Problem::invalid)?;
    let answer = serde_json::to_string(&Shown::from(order.clone())).map_err(unavailable)?;
    let key = key.as_ref().map(|key| {
        let now = order.created_at.timestamp();
        (key, desk.requests.step(&key.key, &key.fingerprint, &answer, now))
    });
    match desk.orders.add(&order, key, &caller).await.map_err(unavailable)? {
        Added::Now => accepted(answer),
        Added::Before(Repeated::Same(first)) => accepted(first),
        Added::Before(Repeated::Other) => Err(Problem::key_reused()),
    }
}

/// The answer to a new order, given for the first time or again.
fn accepted(answer: String) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Made {
        id: OrderId,
    }
    let made: Made = serde_json::from_str(&answer).map_err(unavailable)?;
    let headers = [
        (header::LOCATION, format!("/orders/{}", made.id)),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

async fn show(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order_id = known(&id)?;
    let wait = headers.get("prefer").and_then(|prefer| preferred_wait(prefer.to_str().ok()?));
    let deadline = Instant::now() + wait.unwrap_or_default();
    let order = loop {
        let order = desk.orders.get(&order_id).await.map_err(unavailable)?;
        let order = order.ok_or_else(|| no_such(&id))?;
        if order.status != Status::Pending || Instant::now() + WAIT_PAUSE > deadline {
            break order;
        }
        tokio::time::sleep(WAIT_PAUSE).await;
    };
    let mut response = Json(Shown::from(order)).into_response();
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        response.headers_mut().insert(PREFERENCE_APPLIED, applied.parse().map_err(unavailable)?);
    }
    Ok(response)
}

/// So long does a call wait for an order to settle: less than the function's timeout of 10 s.
const WAIT_SECONDS_MAX: u64 = 8;
const WAIT_PAUSE: Duration = Duration::from_millis(200);
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The `wait` preference of RFC 7240, section 4.3, capped. What cannot be read is no preference.
fn preferred_wait(prefer: &str) -> Option<Duration> {
    let mut preferences = prefer.split([',', ';']).filter_map(|one| one.trim().split_once('='));
    let (_, seconds) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    let seconds: u64 = seconds.trim().trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds.min(WAIT_SECONDS_MAX)))
}

async fn cancelled(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    fulfil(&desk, &caller, &id, cancel, "cancelled").await
}

async fn shipped(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    fulfil(&desk, &caller, &id, ship, "shipped").await
}

async fn fulfil(
    desk: &Desk,
    caller: &Caller,
    id: &str,
    wish: fn(&Order) -> Wish,
    wished: &str,
) -> Result<Json<Shown>, Problem> {
    let order_id = known(id)?;
    match desk.orders.fulfil(&order_id, wish, caller).await.map_err(unavailable)? {
        Fulfilled::So(order) => Ok(Json(order.into())),
        Fulfilled::Refused(status) => Err(Problem::conflict(
            "order-status",
            format!("The order is {}; it cannot be {wished}.", status.as_str()),
        )),
        Fulfilled::Unknown => Err(no_such(id)),
    }
}

async fn history(
    State(desk): State<Desk>,
    Path(id): Path<String>,
) -> Result<Json<History>, Problem> {
    let events = desk.orders.history(&known(&id)?).await.map_err(unavailable)?;
    if events.is_empty() {
        return Err(no_such(&id));
    }
    let events = events.into_iter().map(RawValue::from_string).collect::<Result<_, _>>();
    Ok(Json(History { events: events.map_err(unavailable)? }))
}

#[derive(Debug, Deserialize)]
struct OfCustomer {
    customer_email: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

async fn list(
    State(desk): State<Desk>,
    Query(query): Query<OfCustomer>,
) -> Result<Json<Listed>, Problem> {
    let page = Page::new(query.limit, query.cursor).read::<AfterOrder>();
    let email: Result<Email, _> = query.customer_email.as_deref().unwrap_or_default().parse();
    let customer_email = email.map_err(|error: InvalidValue| {
        let message = error.to_string();
        Problem::invalid(vec![FieldError { field: "customer_email".into(), message }])
    })?;
    let (limit, after) = page?;
    let found = desk.orders.of_customer(&customer_email, limit, after).await;
    let (orders, next) = found.map_err(unavailable)?;
    let orders = orders.into_iter().map(Shown::from).collect();
    Ok(Json(Listed { orders, next_cursor: next.map(|next| next.encode()) }))
}

/// What cannot be an id is the id of nothing.
fn known(id: &str) -> Result<OrderId, Problem> {
    id.parse().map_err(|_| no_such(id))
}

fn no_such(id: &str) -> Problem {
    Problem::not_found(format!("There is no order {id:?}."))
}

/// Reads an order. A single product may be given flat, beside the address.
///
/// # Errors
/// Everything that is wrong with it.
pub fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
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

fn unavailable(error: impl std::fmt::Display) -> Problem {
    tracing::error!(error = %error, "the tables failed");
    Problem::unavailable("The order could not be read or written; try again.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_to_wait_is_capped_and_a_malformed_one_is_none() {
        for (prefer, seconds) in [
            ("wait=3", Some(3)),
            ("respond-async, WAIT = 5", Some(5)),
            ("wait=3600", Some(WAIT_SECONDS_MAX)),
            ("wait=-1", None),
            ("wait", None),
            ("return=minimal", None),
        ] {
            assert_eq!(preferred_wait(prefer), seconds.map(Duration::from_secs), "{prefer}");
        }
    }

    #[test]
    fn a_single_product_may_be_given_flat() {
        let flat = br#"{"product_id":"p","quantity":2,"customer_email":"a@example.com"}"#;
        let listed =
            br#"{"items":[{"product_id":"p","quantity":2}],"customer_email":"a@example.com"}"#;
        assert_eq!(wanted(flat).ok(), wanted(listed).ok());
        assert!(wanted(flat).is_ok());
    }
}
