//! Every path of the API with the methods that it takes: what the gateway's catch-all is answered from.

use axum::{Router, routing::any};

use crate::Problem;

/// Each path, as the template writes it, with its methods, as the header `Allow` does.
pub const ROUTES: [(&str, &str); 17] = [
    ("/admin/orders/{id}", "GET, HEAD"),
    ("/admin/orders/{id}/cancel", "POST"),
    ("/admin/products", "GET, HEAD"),
    ("/admin/products/{id}", "GET, HEAD"),
    ("/analytics/daily", "GET, HEAD"),
    ("/openapi.json", "GET, HEAD"),
    ("/orders", "GET, HEAD, POST"),
    ("/orders/{id}", "GET, HEAD"),
    ("/orders/{id}/cancel", "POST"),
    ("/orders/{id}/ship", "POST"),
    ("/orders/{id}/tags", "PUT"),
    ("/orders/{id}/events", "GET, HEAD"),
    ("/orders/{id}/payment", "GET, HEAD"),
    ("/payments/webhook", "POST"),
    ("/products", "GET, HEAD, POST"),
    ("/products/{id}", "GET, HEAD, PATCH"),
    ("/products/{id}/stock", "POST"),
];

const PRODUCT_CALLS: &str = "POST /products and PATCH /products/{id} take it";

/// Every field that some call takes, and which.
const FIELDS: [(&str, &str); 13] = [
    ("active", PRODUCT_CALLS),
    ("customer_email", "POST /orders takes it, beside items"),
    ("items", "POST /orders takes it"),
    ("expected_total", "POST /orders takes it"),
    (
        "product_id",
        "POST /orders takes it in each of the items, or beside customer_email if there are no items",
    ),
    (
        "quantity",
        "POST /orders takes it in each of the items, or beside customer_email if there are no items",
    ),
    ("name", PRODUCT_CALLS),
    ("price", PRODUCT_CALLS),
    ("category", PRODUCT_CALLS),
    ("stock", "POST /products takes it; POST /products/{id}/stock changes it by delta"),
    ("currency", "POST /products takes it"),
    ("tags", "PUT /orders/{id}/tags takes it"),
    ("delta", "POST /products/{id}/stock takes it"),
];

/// The methods that a path takes, as the header `Allow` lists them, or `None` if there is no such path.
pub(crate) fn allowed_methods(path: &str) -> Option<&'static str> {
    ROUTES.iter().find(|(known, _)| *known == path).map(|(_, methods)| *methods)
}

/// Which call takes a field, as a sentence, or `None` if the API does not know the field.
pub(crate) fn call_that_takes(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(name, _)| *name == field).map(|(_, call)| *call)
}

/// Answers what the gateway has no route for: another path, or another method.
///
/// `absent` are paths of the API that this stack does not have.
pub fn unrouted(absent: &'static [&'static str]) -> Router {
    let present = move || ROUTES.into_iter().filter(|(path, _)| !absent.contains(path));
    let not_found = Router::new().fallback(move || async move {
        let paths: Vec<_> = present().map(|(path, methods)| format!("{methods} {path}")).collect();
        Problem::not_found(format!("There is no such path. There are: {}.", paths.join("; ")))
    });
    present().fold(not_found, |router, (path, methods)| {
        router.route(path, any(async move || Problem::method_not_allowed(methods)))
    })
}
