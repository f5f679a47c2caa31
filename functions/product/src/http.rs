//! The product service's HTTP calls.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use delivery::{Repeated, Requests};
use events::{Currency, Id, Money, Name, ProductId};
use http_api::{Cursor, Fields, Page, Problem, RequestKey};
use serde::Serialize;

use crate::{
    rules::{Product, STOCK_MAX},
    dynamodb::{AfterProduct, Change, Products, Restocked, RestockedOnce},
};

/// What the calls work with.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Where the products are.
    pub products: Products,
    /// Of every price.
    pub currency: Currency,
    /// Which requests have been answered.
    pub requests: Requests,
}

/// The calls.
pub fn routes(shop: Shop) -> Router {
    Router::new()
        .route("/products", get(list).post(create))
        .route("/products/{id}", get(show).patch(change))
        .route("/products/{id}/stock", post(restock))
        .with_state(shop)
}

/// The highest price of one piece, in minor units: 50 lines of 1000 pieces at this price are still an exact
/// amount of money.
const PRICE_MINOR_MAX: i64 = 1_000_000_000;

#[derive(Serialize)]
struct Shown {
    id: ProductId,
    name: Name,
    price: Money,
    currency: Currency,
    stock: u64,
    category: Option<Name>,
}

impl From<Product> for Shown {
    fn from(product: Product) -> Self {
        let Product { product_id: id, name, price, currency, category, stock, .. } = product;
        Self { id, name, price, currency, stock, category }
    }
}

#[derive(Serialize)]
struct Shelf {
    products: Vec<Shown>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct InStock {
    id: ProductId,
    stock: u64,
}

async fn create(State(shop): State<Shop>, body: Bytes) -> Result<Response, Problem> {
    let product = new_product(&body, &shop.currency)?;
    shop.products.add(&product).await.map_err(unavailable)?;
    let location = [("location", format!("/products/{}", product.product_id))];
    Ok((axum::http::StatusCode::CREATED, location, Json(Shown::from(product))).into_response())
}

async fn list(State(shop): State<Shop>, Query(page): Query<Page>) -> Result<Json<Shelf>, Problem> {
    let (limit, after) = page.read::<AfterProduct>()?;
    let (products, next) = shop.products.page(limit, after).await.map_err(unavailable)?;
    let products = products.into_iter().map(Shown::from).collect();
    Ok(Json(Shelf { products, next_cursor: next.map(|next| next.encode()) }))
}

async fn show(State(shop): State<Shop>, Path(id): Path<String>) -> Result<Json<Shown>, Problem> {
    let product = shop.products.get(&known(&id)?).await.map_err(unavailable)?;
    product.map(|product| Json(product.into())).ok_or_else(|| no_such(&id))
}

async fn change(
    State(shop): State<Shop>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Shown>, Problem> {
    let product_id = known(&id)?;
    let change = change_of_product(&body)?;
    let product = shop.products.change(&product_id, &change).await.map_err(unavailable)?;
    product.map(|product| Json(product.into())).ok_or_else(|| no_such(&id))
}

async fn restock(
    State(shop): State<Shop>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let key = RequestKey::of(&headers, "POST", &format!("/products/{id}/stock"), &body)?;
    // Before everything else: a repetition is answered as the first time, whatever has changed since.
    if let Some(key) = &key {
        let found = shop.requests.find(&key.key, &key.fingerprint).await;
        if let Some(repeated) = found.map_err(unavailable)? {
            return again(repeated);
        }
    }
    let product_id = known(&id)?;
    let delta = change_of_stock(&body)?;
    let shown = |stock| {
        let shown = InStock { id: product_id.clone(), stock };
        serde_json::to_string(&shown).expect("an id and a number always have a JSON form")
    };
    let restocked = match &key {
        None => shop.products.restock(&product_id, delta).await.map_err(unavailable)?,
        Some(key) => {
            let once = shop.products.restock_once(&product_id, delta, key, &shop.requests, shown);
            match once.await.map_err(unavailable)? {
                RestockedOnce::Now(restocked) => restocked,
                RestockedOnce::Before(repeated) => return again(repeated),
            }
        }
    };
    match restocked {
        Restocked::Now(stock) => Ok(json(shown(stock))),
        Restocked::OutOfRange(stock) => Err(Problem::conflict(
            "stock-out-of-range",
            format!("The stock is {stock}; a change by {delta} would leave 0 to {STOCK_MAX}."),
        )),
        Restocked::Unknown => Err(no_such(&id)),
    }
}

/// The answer to a key that came before.
fn again(repeated: Repeated) -> Result<Response, Problem> {
    match repeated {
        Repeated::Same(answer) => Ok(json(answer)),
        Repeated::Other => Err(Problem::key_reused()),
    }
}

fn json(answer: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

/// Reads a new product, and gives it an id.
///
/// # Errors
/// Everything that is wrong with it.
pub fn new_product(body: &[u8], currency: &Currency) -> Result<Product, Problem> {
    let mut fields = Fields::of_body(body)?;
    let name = fields.required("name");
    let price = price(&mut fields, true);
    let category = fields.optional("category");
    let stock = fields.optional::<u64>("stock");
    if stock.is_some_and(|stock| stock > STOCK_MAX) {
        fields.complain("stock", format!("must be at most {STOCK_MAX}"));
    }
    if fields.optional::<Currency>("currency").is_some_and(|given| given != *currency) {
        fields.complain("currency", format!("must be {currency}: this shop has no other"));
    }
    fields.finish()?;
    let (Some(name), Some(price)) = (name, price) else { return Err(Problem::internal()) };
    Ok(Product {
        product_id: Id::random(),
        name,
        price,
        currency: currency.clone(),
        category,
        stock: stock.unwrap_or_default(),
        version: 1,
    })
}

/// Reads what to change of a product.
///
/// # Errors
/// Everything that is wrong with it.
pub fn change_of_product(body: &[u8]) -> Result<Change, Problem> {
    let mut fields = Fields::of_body(body)?;
    if !["name", "price", "category"].iter().any(|name| fields.has(name)) {
        return Err(Problem::unreadable("Nothing to change: send name, price or category."));
    }
    let change = Change {
        name: fields.optional("name"),
        price: price(&mut fields, false),
        category: fields.optional("category"),
    };
    fields.finish()?;
    Ok(change)
}

/// Reads by how much to change a stock.
///
/// # Errors
/// Everything that is wrong with it.
pub fn change_of_stock(body: &[u8]) -> Result<i64, Problem> {
    let mut fields = Fields::of_body(body)?;
    let delta = fields.required::<i64>("delta");
    if delta.is_some_and(|delta| delta == 0 || delta.unsigned_abs() > STOCK_MAX) {
        let message = format!("must be a whole number from -{STOCK_MAX} to {STOCK_MAX}, not 0");
        fields.complain("delta", message);
    }
    fields.finish()?;
    delta.ok_or_else(Problem::internal)
}

fn price(fields: &mut Fields<'_>, required: bool) -> Option<Money> {
    let price: Option<Money> =
        if required { fields.required("price") } else { fields.optional("price") };
    if price.is_some_and(|price| price.minor() > PRICE_MINOR_MAX) {
        fields.complain("price", "must be at most 10000000.00");
    }
    price
}

/// What cannot be an id is the id of nothing.
fn known(id: &str) -> Result<ProductId, Problem> {
    id.parse().map_err(|_| no_such(id))
}

fn no_such(id: &str) -> Problem {
    Problem::not_found(format!("There is no product {id:?}."))
}

fn unavailable(error: impl std::fmt::Display) -> Problem {
    tracing::error!(error = %error, "the products table failed");
    Problem::unavailable(
        "The product could not be read or written; nothing is lost by trying again.",
    )
}
