//! The order service's HTTP calls.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use events::{
    Currency, Email, Line, MaskedEmail, Money, OrderId, ProductId, Quantity, Stamp, StockLine,
};
use exactly_once::{EarlierRequest, ErrorChain, IdempotencyKeys, Outgoing};
use futures::future::try_join;
use http_api::{
    AfterAnswer, AnswerBy, Caller, ClientNetwork, Cursor, Fields, Problem, ProblemType,
    QueryFields, request_key,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::Span;

use crate::{
    client_limit::{Admission, ClientLimit},
    dynamodb::{Added, Catalog, CatalogRead, KeyedAnswer, OrderCursor, Orders, TransitionOutcome},
    order_token::{ORDER_TOKEN, OrderTokens},
    rules::{
        Decision, LINES_MAX, Order, OrderRequest, Payments, Status, cancel, changed_total,
        check_payable, place, ship,
    },
    tags::Tags,
};

#[derive(Debug, Clone)]
pub struct OrderApi {
    pub orders: Orders,
    pub catalog: Catalog,
    pub currency: Currency,
    pub payments: Payments,
    pub idempotency_keys: IdempotencyKeys,
    pub order_tokens: OrderTokens,
    pub client_limit: ClientLimit,
}

pub fn routes(api: OrderApi) -> Router {
    Router::new()
        .route("/orders", post(create_order).get(list_orders))
        .route("/orders/{id}", get(show_order))
        .route("/orders/{id}/cancel", post(cancel_order))
        .route("/orders/{id}/ship", post(ship_order))
        .route("/orders/{id}/tags", put(tag_order))
        .route("/admin/orders/{id}", get(show_order_to_administrator))
        .route("/admin/orders/{id}/cancel", post(cancel_order_as_administrator))
        .route("/orders/{id}/events", get(show_history))
        // What the answers say of a customer is nobody else's to keep.
        .layer(middleware::map_response(forbid_storing))
        .route("/openapi.json", get(show_description))
        .with_state(api)
}

/// The description of the whole API, as it was when this was built. tests/contract holds it to the code.
const DESCRIPTION: &str = include_str!("../../../docs/openapi.json");

async fn show_description() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, DESCRIPTION).into_response()
}

async fn forbid_storing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whose order it is: in full for who is known to be its customer or an administrator.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum ShownEmail {
    Full(Email),
    Masked(MaskedEmail),
}

/// An order as clients see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Order")]
pub(crate) struct OrderResponse {
    id: OrderId,
    status: Status,
    items: Vec<Line>,
    total_price: Money,
    currency: Currency,
    customer_email: ShownEmail,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    created_at: Stamp,
    updated_at: Stamp,
    /// Only as administrators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Tags>,
}

impl OrderResponse {
    /// With the address masked: for who knows no more than the order's id.
    fn masked(order: Order) -> Self {
        let masked = ShownEmail::Masked(order.customer_email.masked());
        Self { customer_email: masked, ..order.into() }
    }

    /// With its tags, of which its customer does not know.
    fn for_administrators(order: Order) -> Self {
        let tags = Some(order.tags.clone());
        Self { tags, ..order.into() }
    }
}

impl From<Order> for OrderResponse {
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
            customer_email: ShownEmail::Full(customer_email),
            reason,
            created_at,
            updated_at,
            tags: None,
        }
    }
}

/// A new order as its customer sees it, for the API's description: [`answer_created`] writes it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct PlacedOrder {
    #[serde(flatten)]
    pub(crate) order: OrderResponse,
    /// What the customer needs to cancel the order, and to see the address in full: the header `Order-Token`.
    pub(crate) order_token: String,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct OrderPage {
    orders: Vec<OrderResponse>,
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct OrderHistory {
    /// In the order in which they were made, as docs/asyncapi.yaml describes them.
    #[schemars(with = "Vec<std::collections::BTreeMap<String, serde_json::Value>>")]
    events: Vec<Box<RawValue>>,
}

async fn create_order(
    State(api): State<OrderApi>,
    Extension(caller): Extension<Caller>,
    Extension(answer_by): Extension<AnswerBy>,
    Extension(after_answer): Extension<AfterAnswer>,
    network: Option<ClientNetwork>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let request = parse_order_request(&body)?;
    let scope = request.customer_email.as_str();
    let key = request_key(&headers, scope, "POST", "/orders", &body)?;
    let products = request.lines.iter().map(|line| &line.product_id);
    let keyed = key.as_ref().map(|key| (&api.idempotency_keys, key));
    // Beside each other: a limit costs a call, and no time.
    let reading = api.catalog.entries(products, keyed);
    let catalog = match try_join(reading, api.client_limit.admit(network)).await? {
        // A repetition is answered as the first time, whatever has changed since.
        (CatalogRead::Earlier(earlier), _) => return answer_earlier(&api, earlier),
        (_, Admission::Refused { retry_after }) => return Err(Problem::throttled(retry_after)),
        (CatalogRead::Entries(catalog), Admission::Admitted) => catalog,
    };
    let event_factory = api.orders.event_factory();
    let (id, now) = (event_factory.new_id(), event_factory.now());
    let expected_total = request.expected_total;
    let order = place(id, request, &catalog, &api.currency, now).map_err(Problem::invalid)?;
    check_payable(&order, api.payments).map_err(Problem::invalid)?;
    if let Some(total) = changed_total(&order, expected_total) {
        return Err(Problem::total_changed(&total.to_string(), order.currency.as_str()));
    }
    let answer =
        serde_json::to_string(&OrderResponse::from(order.clone())).map_err(Problem::unexpected)?;
    let keyed =
        key.as_ref().map(|key| KeyedAnswer { keys: &api.idempotency_keys, key, answer: &answer });
    match api.orders.add(&order, keyed, &caller).await.map_err(Problem::of_write)? {
        Added::Now(events) => {
            record_event(&events);
            publish_created(&api, events, &after_answer, answer_by).await;
            answer_created(&api, &answer)
        }
        Added::Earlier(earlier) => answer_earlier(&api, earlier),
    }
}

/// Publishes the event of a new order: after the answer, if the environment goes on until then. There is nothing to clear:
/// until the order is settled, it stands for the publication.
async fn publish_created(
    api: &OrderApi,
    events: Vec<Outgoing>,
    after_answer: &AfterAnswer,
    answer_by: AnswerBy,
) {
    let outbox = api.orders.outbox().clone();
    let publication = async move {
        let _ = outbox.send(&events).await;
    };
    if after_answer.is_waited_for() {
        after_answer.defer(publication);
    } else if answer_by.limit(publication).await.is_none() {
        tracing::warn!("the event is left to the relay: there is no time left");
    }
}

/// Publishes what is in the outbox, and clears it: after the answer, if the environment goes on until then. If it may be
/// frozen, the customer waits for the publication, but not for the clearing; what is not cleared, the relay publishes once
/// more. A publication that takes too long is the relay's, and no reason for another answer.
async fn publish(
    api: &OrderApi,
    events: Vec<Outgoing>,
    after_answer: &AfterAnswer,
    answer_by: AnswerBy,
) {
    let outbox = api.orders.outbox().clone();
    if events.is_empty() {
        return;
    }
    if after_answer.is_waited_for() {
        after_answer.defer(async move {
            outbox.publish(&events).await;
        });
        return;
    }
    match answer_by.limit(outbox.send(&events)).await {
        Some(sent) => after_answer.defer(async move {
            outbox.clear(sent).await;
        }),
        None => tracing::warn!("the events are left to the relay: there is no time left"),
    }
}

fn answer_earlier(api: &OrderApi, earlier: EarlierRequest) -> Result<Response, Problem> {
    match earlier {
        EarlierRequest::Replayed(answer) => answer_created(api, &answer),
        EarlierRequest::KeyReused => Err(Problem::key_reused()),
    }
}

/// The answer to a new order, given for the first time or again. The token is no part of what is stored, and is made anew.
fn answer_created(api: &OrderApi, answer: &str) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Created {
        id: OrderId,
    }
    let created: Created = serde_json::from_str(answer).map_err(Problem::unexpected)?;
    Span::current().record("order_id", created.id.as_str());
    // Written into the text, in which money has its two digits; the token needs no escape.
    let fields = answer.trim_end().strip_suffix('}').ok_or_else(Problem::internal)?;
    let token = api.order_tokens.token(&created.id);
    let answer = format!(r#"{fields},"order_token":"{token}"}}"#);
    let headers = [
        // Relative to the request's own path (RFC 9110, section 10.2.2): right under stages and custom domains.
        (header::LOCATION, format!("orders/{}", created.id)),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

async fn show_order(
    State(api): State<OrderApi>,
    Extension(answer_by): Extension<AnswerBy>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order_id = parse_order_id(&id)?;
    // A wrong token is an error, and not the same as none: its sender would take the masked address for the order's.
    let is_customer = match headers.get(ORDER_TOKEN) {
        Some(_) => api.order_tokens.require(&order_id, &headers).map(|()| true)?,
        None => false,
    };
    let show = if is_customer { OrderResponse::from } else { OrderResponse::masked };
    answer_order(&api, answer_by, order_id, (&method, &headers), show).await
}

/// With the customer's address, which needs no token: the gateway has checked the signature.
async fn show_order_to_administrator(
    State(api): State<OrderApi>,
    Extension(answer_by): Extension<AnswerBy>,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order_id = parse_order_id(&id)?;
    let show = OrderResponse::for_administrators;
    answer_order(&api, answer_by, order_id, (&method, &headers), show).await
}

async fn answer_order(
    api: &OrderApi,
    answer_by: AnswerBy,
    order_id: OrderId,
    (method, headers): (&Method, &HeaderMap),
    show: fn(Order) -> OrderResponse,
) -> Result<Response, Problem> {
    // HEAD does not wait: nothing that it answers changes, and the gateway limits those who wait by GET alone.
    let prefer = headers.get("prefer").filter(|_| *method == Method::GET);
    let wait = prefer.and_then(|prefer| preferred_wait(prefer.to_str().ok()?));
    let order =
        api.orders.get(&order_id).await?.ok_or_else(|| order_not_found(order_id.as_str()))?;
    let order = match wait {
        Some(wait) => wait_until_settled(&api.orders, order, answer_by.at_most(wait)).await,
        None => order,
    };
    let mut response = Json(show(order)).into_response();
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        let applied = applied.parse().map_err(Problem::unexpected)?;
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// Reads an order again and again until it is no longer pending or the time is up; returns it as it was last read. A
/// read that fails or is slow ends the wait: what was read before is a better answer than an error.
async fn wait_until_settled(orders: &Orders, mut order: Order, end: AnswerBy) -> Order {
    while order.status == Status::Pending && end.leaves(WAIT_PAUSE) {
        tokio::time::sleep(WAIT_PAUSE).await;
        match end.limit(orders.get(&order.order_id)).await {
            Some(Ok(Some(read))) => order = read,
            Some(Ok(None)) | None => break,
            Some(Err(error)) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(error, "the wait for an order ends early");
                break;
            }
        }
    }
    order
}

/// Maximum time that a call waits for an order to settle: less than the function's timeout of 10 s.
pub const WAIT_SECONDS_MAX: u64 = 8;
const WAIT_PAUSE: Duration = Duration::from_millis(200);
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The `wait` preference of RFC 7240, section 4.3, capped. What cannot be read is no preference.
fn preferred_wait(prefer: &str) -> Option<Duration> {
    let mut preferences = prefer.split([',', ';']).filter_map(|one| one.trim().split_once('='));
    let (_, seconds) = preferences.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    let seconds: u64 = seconds.trim().trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds.min(WAIT_SECONDS_MAX)))
}

async fn cancel_order(
    State(api): State<OrderApi>,
    Extension(caller): Extension<Caller>,
    Extension(answer_by): Extension<AnswerBy>,
    Extension(after_answer): Extension<AfterAnswer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<OrderResponse>, Problem> {
    // Before anything is read: a stranger's guess costs no table anything.
    api.order_tokens.require(&parse_order_id(&id)?, &headers)?;
    apply_transition(&api, (&caller, &after_answer, answer_by), &id, cancel, "cancelled").await
}

async fn cancel_order_as_administrator(
    State(api): State<OrderApi>,
    Extension(caller): Extension<Caller>,
    Extension(answer_by): Extension<AnswerBy>,
    Extension(after_answer): Extension<AfterAnswer>,
    Path(id): Path<String>,
) -> Result<Json<OrderResponse>, Problem> {
    apply_transition(&api, (&caller, &after_answer, answer_by), &id, cancel, "cancelled").await
}

async fn ship_order(
    State(api): State<OrderApi>,
    Extension(caller): Extension<Caller>,
    Extension(answer_by): Extension<AnswerBy>,
    Extension(after_answer): Extension<AfterAnswer>,
    Path(id): Path<String>,
) -> Result<Json<OrderResponse>, Problem> {
    apply_transition(&api, (&caller, &after_answer, answer_by), &id, ship, "shipped").await
}

/// The tags of an order, all of them.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OrderTags {
    pub(crate) tags: Tags,
}

async fn tag_order(
    State(api): State<OrderApi>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<OrderTags>, Problem> {
    let order_id = parse_order_id(&id)?;
    let tags = parse_tags(&body)?;
    if !api.orders.set_tags(&order_id, &tags).await? {
        return Err(order_not_found(&id));
    }
    Ok(Json(OrderTags { tags }))
}

async fn apply_transition(
    api: &OrderApi,
    (caller, after_answer, answer_by): (&Caller, &AfterAnswer, AnswerBy),
    id: &str,
    decide: fn(&Order) -> Decision,
    participle: &str,
) -> Result<Json<OrderResponse>, Problem> {
    let order_id = parse_order_id(id)?;
    match api.orders.apply_transition(&order_id, decide, caller).await? {
        TransitionOutcome::Applied(order, events) => {
            record_event(&events);
            publish(api, events, after_answer, answer_by).await;
            Ok(Json((*order).into()))
        }
        TransitionOutcome::Refused(status) => Err(Problem::conflict(
            ProblemType::OrderStatus,
            format!("The order is {}; it cannot be {participle}.", status.as_str()),
        )),
        TransitionOutcome::UnknownOrder => Err(order_not_found(id)),
    }
}

async fn show_history(
    State(api): State<OrderApi>,
    Path(id): Path<String>,
) -> Result<Json<OrderHistory>, Problem> {
    let events = api.orders.history(&parse_order_id(&id)?).await?;
    if events.is_empty() {
        return Err(order_not_found(&id));
    }
    let events = events.into_iter().map(RawValue::from_string).collect::<Result<_, _>>();
    Ok(Json(OrderHistory { events: events.map_err(Problem::unexpected)? }))
}

async fn list_orders(
    State(api): State<OrderApi>,
    mut query: QueryFields,
) -> Result<Json<OrderPage>, Problem> {
    let customer_email: Option<Email> =
        query.required("customer_email", Email::EXPECTED, |text| text.parse().ok());
    let (limit, after) = query.page::<OrderCursor>();
    query.finish()?;
    let customer_email = customer_email.ok_or_else(Problem::internal)?;
    let (orders, next) = api.orders.of_customer(&customer_email, limit, after).await?;
    let orders = orders.into_iter().map(OrderResponse::for_administrators).collect();
    Ok(Json(OrderPage { orders, next_cursor: next.map(|next| next.encode()) }))
}

/// What cannot be an id is the id of no order.
fn parse_order_id(id: &str) -> Result<OrderId, Problem> {
    let order_id: OrderId = id.parse().map_err(|_| order_not_found(id))?;
    Span::current().record("order_id", order_id.as_str());
    Ok(order_id)
}

/// Names the first of these events in the log line of the request that made it.
fn record_event(events: &[Outgoing]) {
    if let Some(event) = events.first() {
        Span::current().record("event_id", event.id.to_string());
    }
}

fn order_not_found(id: &str) -> Problem {
    Problem::not_found(format!("There is no order {id:?}."))
}

/// Reads a request for an order. A single product may be given flat, beside the address.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_order_request(body: &[u8]) -> Result<OrderRequest, Problem> {
    let mut fields = Fields::of_body(body)?;
    let customer_email = fields.required("customer_email", Email::EXPECTED);
    let lines = if fields.has("product_id") && !fields.has("items") {
        parse_line(&mut fields).map(|line| vec![line])
    } else {
        fields.list("items", (1, LINES_MAX), parse_line)
    };
    let expected_total = fields.optional("expected_total", Money::EXPECTED);
    fields.finish()?;
    match (customer_email, lines) {
        (Some(customer_email), Some(lines)) => {
            Ok(OrderRequest { customer_email, lines, expected_total })
        }
        _ => Err(Problem::internal()),
    }
}

/// Reads the tags that an order is to have.
///
/// # Errors
/// What is wrong with them.
pub fn parse_tags(body: &[u8]) -> Result<Tags, Problem> {
    let mut fields = Fields::of_body(body)?;
    let tags = fields.required("tags", Tags::EXPECTED);
    fields.finish()?;
    tags.ok_or_else(Problem::internal)
}

fn parse_line(fields: &mut Fields<'_>) -> Option<StockLine> {
    // Both are read before either is missed, so that both complaints are heard.
    let product_id = fields.required("product_id", ProductId::EXPECTED);
    let quantity = fields.required("quantity", Quantity::EXPECTED);
    Some(StockLine { product_id: product_id?, quantity: quantity? })
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
        assert_eq!(parse_order_request(flat).ok(), parse_order_request(listed).ok());
        assert!(parse_order_request(flat).is_ok());
    }

    #[test]
    fn a_field_of_another_call_or_of_the_other_form_is_refused() {
        let listed =
            r#""items":[{"product_id":"p","quantity":2}],"customer_email":"a@example.com""#;
        let is_taken =
            |more: &str| parse_order_request(format!("{{{listed},{more}}}").as_bytes()).is_ok();
        assert!(is_taken(r#""note":"quick""#));
        for more in [r#""price":1"#, r#""delta":1"#, r#""product_id":"p""#, r#""quantity":2"#] {
            assert!(!is_taken(more), "{more}");
        }
        let flat =
            br#"{"product_id":"p","quantity":2,"customer_email":"a@example.com","items":null}"#;
        assert!(parse_order_request(flat).is_ok());
    }
}
