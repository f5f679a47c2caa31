//! Every path of the API with the methods that it takes: what the gateway's catch-all is answered from.

use axum::{Router, routing::any};

use crate::Problem;

/// Each path, as the template writes it, with its methods, as the header `Allow` does.
pub const ROUTES: [(&str, &str); 10] = [
    ("/orders", "GET, POST"),
    ("/orders/{id}", "GET"),
    ("/orders/{id}/cancel", "POST"),
    ("/orders/{id}/ship", "POST"),
    ("/orders/{id}/events", "GET"),
    ("/admin/orders/{id}", "GET"),
    ("/admin/orders/{id}/cancel", "POST"),
    ("/products", "GET, POST"),
    ("/products/{id}", "GET, PATCH"),
    ("/products/{id}/stock", "POST"),
];

const PRODUCT_CALLS: &str = "POST /products and PATCH /products/{id} take it";

/// Every field that some call takes, and which.
const FIELDS: [(&str, &str); 10] = [
    ("customer_email", "POST /orders takes it, beside items"),
    ("items", "POST /orders takes it"),
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
    ("delta", "POST /products/{id}/stock takes it"),
];

/// Which call takes a field, as a sentence, or `None` if the API does not know the field.
pub(crate) fn call_that_takes(field: &str) -> Option<&'static str> {
    FIELDS.iter().find(|(name, _)| *name == field).map(|(_, call)| *call)
}

/// Answers what the gateway has no route for: another path, or another method.
pub fn unrouted() -> Router {
    let not_found = Router::new().fallback(|| async {
        let paths: Vec<_> =
            ROUTES.iter().map(|(path, methods)| format!("{methods} {path}")).collect();
        Problem::not_found(format!("There is no such path. There are: {}.", paths.join("; ")))
    });
    ROUTES.into_iter().fold(not_found, |router, (path, methods)| {
        router.route(path, any(async move || Problem::method_not_allowed(methods)))
    })
}
