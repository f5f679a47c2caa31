//! The product service's HTTP calls.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use delivery::{ErrorChain, IdempotencyKeys};
use events::{Currency, Id, Money, Name, ProductId};
use http_api::{Cursor, Fields, Page, Problem, request_key};
use serde::Serialize;

use crate::{
    dynamodb::{ProductChange, ProductCursor, Products, Restocked, StockChanges},
    rules::{Product, STOCK_MAX},
};

#[derive(Debug, Clone)]
pub struct ProductApi {
    pub products: Products,
    pub stock_changes: StockChanges,
    pub currency: Currency,
    pub idempotency_keys: IdempotencyKeys,
}

pub fn routes(api: ProductApi) -> Router {
    Router::new()
        .route("/products", get(list_products).post(create_product))
        .route("/products/{id}", get(show_product).patch(change_product))
        .route("/products/{id}/stock", post(restock_product))
        .with_state(api)
}

/// The highest price of one piece, in minor units: 50 lines of 1000 pieces at this price are still an exact
/// amount of money.
const PRICE_MINOR_MAX: i64 = 1_000_000_000;

#[derive(Serialize)]
struct ProductResponse {
    id: ProductId,
    name: Name,
    price: Money,
    currency: Currency,
    stock: u64,
    category: Option<Name>,
}

impl From<Product> for ProductResponse {
    fn from(product: Product) -> Self {
        let Product { product_id: id, name, price, currency, category, stock, .. } = product;
        Self { id, name, price, currency, stock, category }
    }
}

#[derive(Serialize)]
struct ProductPage {
    products: Vec<ProductResponse>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct StockResponse {
    id: ProductId,
    /// The stock after the change, or `None` if it could not be read then.
    stock: Option<u64>,
}

/// The scope of every administrator's idempotency keys: the identity of an assumed role changes with its session.
const ADMINISTRATORS: &str = "administrators";

async fn create_product(State(api): State<ProductApi>, body: Bytes) -> Result<Response, Problem> {
    let product = parse_new_product(&body, &api.currency)?;
    api.products.add(&product, &api.stock_changes).await.map_err(Problem::of_write)?;
    // Relative to the request's own path (RFC 9110, section 10.2.2): right under stages and custom domains.
    let location = [("location", format!("products/{}", product.product_id))];
    Ok((axum::http::StatusCode::CREATED, location, Json(ProductResponse::from(product)))
        .into_response())
}

async fn list_products(
    State(api): State<ProductApi>,
    Query(page): Query<Page>,
) -> Result<Json<ProductPage>, Problem> {
    let (limit, after) = page.read::<ProductCursor>()?;
    let (products, next) = api.products.page(limit, after).await?;
    let products = products.into_iter().map(ProductResponse::from).collect();
    Ok(Json(ProductPage { products, next_cursor: next.map(|next| next.encode()) }))
}

async fn show_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
) -> Result<Json<ProductResponse>, Problem> {
    let product = api.products.get(&parse_product_id(&id)?).await?;
    product.map(|product| Json(product.into())).ok_or_else(|| product_not_found(&id))
}

async fn change_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<ProductResponse>, Problem> {
    let product_id = parse_product_id(&id)?;
    let change = parse_product_change(&body)?;
    let product = api.products.change(&product_id, &change).await?;
    product.map(|product| Json(product.into())).ok_or_else(|| product_not_found(&id))
}

async fn restock_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<StockResponse>, Problem> {
    let path = format!("/products/{id}/stock");
    let key = request_key(&headers, ADMINISTRATORS, "POST", &path, &body)?;
    let product_id = parse_product_id(&id)?;
    let delta = parse_stock_change(&body)?;
    let key = key.ok_or_else(Problem::idempotency_key_required)?;
    let (keys, changes) = (&api.idempotency_keys, &api.stock_changes);
    let restocked = api.products.restock(&product_id, delta, &key, keys, changes).await;
    match restocked.map_err(Problem::of_write)? {
        Restocked::Done => {
            // The change is made: a read that fails now must not make the client believe that it was not.
            let stock = match api.products.get(&product_id).await {
                Ok(product) => product.map(|product| product.stock),
                Err(error) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(error, "the stock was changed but could not be read");
                    None
                }
            };
            Ok(Json(StockResponse { id: product_id, stock }))
        }
        Restocked::KeyReused => Err(Problem::key_reused()),
        Restocked::OutOfRange(stock) => Err(Problem::conflict(
            "stock-out-of-range",
            format!(
                "The stock is {stock}. A change by {delta} would make it {}; it must stay between 0 and {STOCK_MAX}.",
                i128::from(stock) + i128::from(delta)
            ),
        )),
        Restocked::UnknownProduct => Err(product_not_found(&id)),
    }
}

/// Reads a new product, and gives it an id.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_new_product(body: &[u8], currency: &Currency) -> Result<Product, Problem> {
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
pub fn parse_product_change(body: &[u8]) -> Result<ProductChange, Problem> {
    let mut fields = Fields::of_body(body)?;
    if !["name", "price", "category"].iter().any(|name| fields.has(name)) {
        return Err(Problem::unreadable("Nothing to change: send name, price or category."));
    }
    let change = ProductChange {
        name: fields.optional("name"),
        price: price(&mut fields, false),
        category: fields.optional("category").map(Some),
    };
    fields.finish()?;
    Ok(change)
}

/// Reads by how much to change a stock.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_stock_change(body: &[u8]) -> Result<i64, Problem> {
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

/// What cannot be an id is the id of no product.
fn parse_product_id(id: &str) -> Result<ProductId, Problem> {
    id.parse().map_err(|_| product_not_found(id))
}

fn product_not_found(id: &str) -> Problem {
    Problem::not_found(format!("There is no product {id:?}."))
}
