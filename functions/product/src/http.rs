//! The product service's HTTP calls.

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use events::{Currency, Id, Money, Name, ProductId, WholeNumber};
use exactly_once::{ErrorChain, IdempotencyKeys, Ids};
use http_api::{
    AnswerBy, Cursor, Fields, IfMatch, Problem, ProblemType, QueryFields, has_current, if_match,
    request_key,
};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::Span;

use crate::{
    dynamodb::{
        CategoryChange, Changed, ProductChange, ProductCursor, Products, Restocked, Selection,
        StockChanges,
    },
    rules::{Product, STOCK_MAX, version_of_tag},
};

#[derive(Debug, Clone)]
pub struct ProductApi {
    pub products: Products,
    pub stock_changes: StockChanges,
    pub currency: Currency,
    pub idempotency_keys: IdempotencyKeys,
    pub ids: Ids,
}

pub fn routes(api: ProductApi) -> Router {
    Router::new()
        .route("/products", get(list_products).post(create_product))
        .route("/products/{id}", get(show_product).patch(change_product))
        .route("/products/{id}/stock", post(restock_product))
        .route("/admin/products", get(list_all_products))
        .route("/admin/products/{id}", get(show_any_product))
        .with_state(api)
}

/// The highest price of one piece, in minor units: 50 lines of 1000 pieces at this price are still an exact
/// amount of money.
pub(crate) const PRICE_MINOR_MAX: i64 = 1_000_000_000;
/// [`Name::EXPECTED`], or null.
const CATEGORY_EXPECTED: &str = "must be a text of 1 to 200 characters, not only spaces, without control characters, U+FFFE and U+FFFF, or null to clear it";
const ACTIVE_EXPECTED: &str = "must be true or false";
const PRICE_EXPECTED: &str = "must be a number from 0.00 to 10000000.00 with at most two decimals";

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Product")]
pub(crate) struct ProductResponse {
    id: ProductId,
    name: Name,
    price: Money,
    currency: Currency,
    /// Pieces that no order has taken.
    stock: u64,
    category: Option<Name>,
    /// Whether the shop sells it.
    active: bool,
}

impl From<Product> for ProductResponse {
    fn from(product: Product) -> Self {
        let Product { product_id: id, name, price, currency, category, stock, active, .. } =
            product;
        Self { id, name, price, currency, stock, category, active }
    }
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ProductPage {
    products: Vec<ProductResponse>,
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Stock")]
pub(crate) struct StockResponse {
    pub(crate) id: ProductId,
    /// The stock after the change, or null if it could not be read then.
    pub(crate) stock: Option<u64>,
}

/// The scope of every administrator's idempotency keys: the identity of an assumed role changes with its session.
const ADMINISTRATORS: &str = "administrators";

async fn create_product(State(api): State<ProductApi>, body: Bytes) -> Result<Response, Problem> {
    let id = Id::from(api.ids.random());
    let product = parse_new_product(&body, id, &api.currency)?;
    api.products.add(&product, &api.stock_changes).await.map_err(Problem::of_write)?;
    // Relative to the request's own path (RFC 9110, section 10.2.2): right under stages and custom domains.
    let location = [(header::LOCATION, format!("products/{}", product.product_id))];
    Ok((StatusCode::CREATED, location, tagged(product)).into_response())
}

/// A product with its entity tag.
fn tagged(product: Product) -> Response {
    let tag = [(header::ETAG, format!("\"{}\"", product.tag()))];
    (tag, Json(ProductResponse::from(product))).into_response()
}

/// A product, unless the client has it.
fn tagged_unless_current(product: Product, headers: &HeaderMap) -> Response {
    let tag = product.tag();
    if has_current(headers, &tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, format!("\"{tag}\""))]).into_response();
    }
    tagged(product)
}

async fn list_products(
    State(api): State<ProductApi>,
    query: QueryFields,
) -> Result<Json<ProductPage>, Problem> {
    page(&api, query, false).await
}

/// As [`list_products`], with what the shop does not sell.
async fn list_all_products(
    State(api): State<ProductApi>,
    query: QueryFields,
) -> Result<Json<ProductPage>, Problem> {
    page(&api, query, true).await
}

async fn page(
    api: &ProductApi,
    mut query: QueryFields,
    with_inactive: bool,
) -> Result<Json<ProductPage>, Problem> {
    let category = query.optional("category", Name::EXPECTED, |text| text.parse::<Name>().ok());
    let (limit, after) = query.page::<ProductCursor>();
    query.finish()?;
    let selection = Selection { category, with_inactive };
    let (products, next) = api.products.page(limit, after, &selection).await?;
    let products = products.into_iter().map(ProductResponse::from).collect();
    Ok(Json(ProductPage { products, next_cursor: next.map(|next| next.encode()) }))
}

async fn show_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let product = api.products.get(&parse_product_id(&id)?).await?.filter(|product| product.active);
    let product = product.ok_or_else(|| product_not_found(&id))?;
    Ok(tagged_unless_current(product, &headers))
}

/// As [`show_product`], also if the shop does not sell it.
async fn show_any_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let product = api.products.get(&parse_product_id(&id)?).await?;
    let product = product.ok_or_else(|| product_not_found(&id))?;
    Ok(tagged_unless_current(product, &headers))
}

/// The versions for which a change is, or `None` if it is for whichever there is.
fn versions(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Problem> {
    match if_match(headers)? {
        None | Some(IfMatch::Any) => Ok(None),
        Some(IfMatch::OneOf(tags)) => {
            let versions: Vec<_> = tags.iter().filter_map(|tag| version_of_tag(tag)).collect();
            if versions.is_empty() {
                return Err(Problem::precondition_failed());
            }
            Ok(Some(versions))
        }
    }
}

async fn change_product(
    State(api): State<ProductApi>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let product_id = parse_product_id(&id)?;
    let change = parse_product_change(&body)?;
    let versions = versions(&headers)?;
    match api.products.change(&product_id, &change, versions.as_deref()).await? {
        Changed::Done(product) => Ok(tagged(product)),
        Changed::Overtaken => Err(Problem::precondition_failed()),
        Changed::UnknownProduct => Err(product_not_found(&id)),
    }
}

async fn restock_product(
    State(api): State<ProductApi>,
    Extension(answer_by): Extension<AnswerBy>,
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
    let versions = versions(&headers)?;
    let change = (delta, versions.as_deref());
    let restocked = api.products.restock(&product_id, change, &key, keys, changes).await;
    match restocked.map_err(Problem::of_write)? {
        Restocked::Done => {
            // The change is made: a read that fails now, or takes too long, must not make the client believe that it was not.
            let stock = match answer_by.limit(api.products.get(&product_id)).await {
                Some(Ok(product)) => product.map(|product| product.stock),
                Some(Err(error)) => {
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(error, "the stock was changed but could not be read");
                    None
                }
                None => {
                    tracing::warn!("the stock was changed but could not be read in time");
                    None
                }
            };
            Ok(Json(StockResponse { id: product_id, stock }))
        }
        Restocked::KeyReused => Err(Problem::key_reused()),
        Restocked::Overtaken => Err(Problem::precondition_failed()),
        Restocked::OutOfRange(stock) => {
            Err(Problem::conflict(ProblemType::StockOutOfRange, out_of_range(stock, delta)))
        }
        Restocked::UnknownProduct => Err(product_not_found(&id)),
    }
}

fn out_of_range(stock: u64, delta: i64) -> String {
    let wanted = i128::from(stock) + i128::from(delta);
    format!(
        "The stock is {stock}. A change by {delta} would make it {wanted}; a stock is from 0 to {STOCK_MAX}."
    )
}

/// Reads a new product, which gets this id.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_new_product(
    body: &[u8],
    product_id: ProductId,
    currency: &Currency,
) -> Result<Product, Problem> {
    let mut fields = Fields::of_body(body)?;
    let name = fields.required("name", Name::EXPECTED);
    let price = fields.required("price", PRICE_EXPECTED);
    refuse_too_high(&mut fields, price);
    let category = fields.optional("category", Name::EXPECTED);
    let stock_expected = format!("must be a whole number from 0 to {STOCK_MAX}");
    let given = fields.optional::<WholeNumber>("stock", &stock_expected);
    let stock = given.and_then(|stock| u64::try_from(stock.get()).ok());
    if given.is_some() && stock.is_none_or(|stock| stock > STOCK_MAX) {
        fields.complain("stock", stock_expected);
    }
    let currency_expected = format!("must be {currency}: this shop has no other");
    if fields
        .optional::<Currency>("currency", &currency_expected)
        .is_some_and(|given| given != *currency)
    {
        fields.complain("currency", currency_expected);
    }
    let active = fields.optional::<bool>("active", ACTIVE_EXPECTED);
    fields.finish()?;
    let (Some(name), Some(price)) = (name, price) else { return Err(Problem::internal()) };
    Ok(Product {
        product_id,
        name,
        price,
        currency: currency.clone(),
        category,
        stock: stock.unwrap_or_default(),
        version: 1,
        active: active.unwrap_or(true),
    })
}

/// Reads what to change of a product.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_product_change(body: &[u8]) -> Result<ProductChange, Problem> {
    let mut fields = Fields::of_body(body)?;
    let changes_nothing =
        !["name", "price", "category", "active"].iter().any(|name| fields.contains(name));
    let change = ProductChange {
        name: fields.changed("name", Name::EXPECTED),
        price: fields.changed("price", PRICE_EXPECTED),
        active: fields.changed("active", ACTIVE_EXPECTED),
        category: fields
            .changed_or_cleared("category", CATEGORY_EXPECTED)
            .map(|category| category.map_or(CategoryChange::Clear, CategoryChange::Set)),
    };
    refuse_too_high(&mut fields, change.price);
    fields.finish()?;
    if changes_nothing {
        return Err(Problem::unreadable(
            "Nothing to change: send name, price, category or active.",
        ));
    }
    Ok(change)
}

/// Reads by how much to change a stock.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_stock_change(body: &[u8]) -> Result<i64, Problem> {
    let mut fields = Fields::of_body(body)?;
    let expected = format!("must be a whole number from -{STOCK_MAX} to {STOCK_MAX}, not 0");
    let delta = fields.required::<WholeNumber>("delta", &expected).map(WholeNumber::get);
    if delta.is_some_and(|delta| delta == 0 || delta.unsigned_abs() > STOCK_MAX) {
        fields.complain("delta", expected);
    }
    fields.finish()?;
    delta.ok_or_else(Problem::internal)
}

fn refuse_too_high(fields: &mut Fields<'_>, price: Option<Money>) {
    if price.is_some_and(|price| price.minor() > PRICE_MINOR_MAX) {
        fields.complain("price", PRICE_EXPECTED);
    }
}

/// What cannot be an id is the id of no product.
fn parse_product_id(id: &str) -> Result<ProductId, Problem> {
    let product_id: ProductId = id.parse().map_err(|_| product_not_found(id))?;
    Span::current().record("product_id", product_id.as_str());
    Ok(product_id)
}

fn product_not_found(id: &str) -> Problem {
    Problem::not_found(format!("There is no product {id:?}."))
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, response::IntoResponse};
    use serde_json::Value;

    use super::*;

    /// The answer to a body that cannot be taken.
    async fn answer<T>(read: Result<T, Problem>) -> Value {
        let Err(problem) = read else { panic!("it was taken") };
        let body = to_bytes(problem.into_response().into_body(), 10_000).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    fn new_product(body: &str) -> Result<Product, Problem> {
        parse_new_product(
            body.as_bytes(),
            "a-product".parse().expect("an id"),
            &Currency::default(),
        )
    }

    #[tokio::test]
    async fn an_error_about_a_price_names_the_limits_that_are_enforced() {
        let max = Money::from_minor(PRICE_MINOR_MAX).expect("in range");
        assert!(PRICE_EXPECTED.contains(&format!("from 0.00 to {max} ")));
        assert!(new_product(&format!(r#"{{"name":"x","price":{max}}}"#)).is_ok());
        for price in ["-1", "1.234", "10000000.01", "1e30", "1e400", r#""1""#, "null"] {
            let answer = answer(new_product(&format!(r#"{{"name":"x","price":{price}}}"#))).await;
            assert_eq!(answer["errors"][0]["message"], PRICE_EXPECTED, "{price}");
        }
    }

    #[tokio::test]
    async fn an_error_about_a_stock_says_what_it_has_to_be_and_nothing_of_our_types() {
        for stock in ["-1", "1.5", "true", r#""1""#, "1000000001", "99999999999999999999", "1e400"]
        {
            let answer =
                answer(new_product(&format!(r#"{{"name":"x","price":1,"stock":{stock}}}"#))).await;
            assert_eq!(
                answer["errors"][0]["message"], "must be a whole number from 0 to 1000000000",
                "{stock}"
            );
        }
    }

    #[test]
    fn a_whole_number_is_read_however_json_schema_lets_it_be_written() {
        for five in ["5", "5.0", "5e0", "50e-1"] {
            let product = new_product(&format!(r#"{{"name":"x","price":1,"stock":{five}}}"#));
            assert_eq!(product.map(|product| product.stock).ok(), Some(5), "{five}");
            let change = parse_stock_change(format!(r#"{{"delta":-{five}}}"#).as_bytes());
            assert_eq!(change.ok(), Some(-5), "{five}");
        }
        for delta in ["0.0", "-0.0", "1.5", "1e400", "9007199254740992.0"] {
            let change = parse_stock_change(format!(r#"{{"delta":{delta}}}"#).as_bytes());
            assert!(change.is_err(), "{delta}");
        }
    }

    #[test]
    fn a_change_that_leaves_the_range_says_what_it_would_lead_to() {
        assert_eq!(
            out_of_range(5, -7),
            "The stock is 5. A change by -7 would make it -2; a stock is from 0 to 1000000000."
        );
    }

    #[tokio::test]
    async fn a_change_of_a_product_refuses_the_fields_of_other_calls_by_name() {
        for body in [r#"{"stock":5}"#, r#"{"price":1,"stock":5}"#, r#"{"price":1,"stock":null}"#] {
            let answer = answer(parse_product_change(body.as_bytes())).await;
            assert_eq!(answer["errors"][0]["field"], "stock", "{body}");
            let message = answer["errors"][0]["message"].as_str().expect("a text");
            assert!(message.contains("POST /products/{id}/stock"), "{message}");
        }
        assert!(parse_product_change(br#"{"price":1,"colour":"red"}"#).is_ok());
        assert!(parse_stock_change(br#"{"delta":1,"stock":5}"#).is_err());
        assert!(new_product(r#"{"name":"x","price":1,"delta":5}"#).is_err());
    }

    #[tokio::test]
    async fn null_clears_the_category_and_nothing_else() {
        assert!(CATEGORY_EXPECTED.starts_with(Name::EXPECTED));
        let change = |body: &str| parse_product_change(body.as_bytes());
        assert_eq!(change(r#"{"price":1}"#).expect("valid").category, None);
        assert_eq!(
            change(r#"{"category":null}"#).expect("valid").category,
            Some(CategoryChange::Clear)
        );
        let lamps = CategoryChange::Set("lamps".parse().expect("a name"));
        assert_eq!(change(r#"{"category":"lamps"}"#).expect("valid").category, Some(lamps));
        for body in [r#"{"name":null}"#, r#"{"price":null}"#, r#"{"category":""}"#] {
            assert_eq!(answer(change(body)).await["errors"].as_array().map(Vec::len), Some(1));
        }
        assert_eq!(answer(change("{}")).await["title"], "The request cannot be read");
    }
}
