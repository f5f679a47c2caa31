//! Every path of the API with the methods that it takes: what the gateway's catch-all is answered from.

use axum::{Router, routing::any};

use crate::Problem;

/// Each path, as the template writes it, with its methods, as the header `Allow` does.
pub const ROUTES: [(&str, &str); 8] = [
    ("/orders", "GET, POST"),
    ("/orders/{id}", "GET"),
    ("/orders/{id}/cancel", "POST"),
    ("/orders/{id}/ship", "POST"),
    ("/orders/{id}/events", "GET"),
    ("/products", "GET, POST"),
    ("/products/{id}", "GET, PATCH"),
    ("/products/{id}/stock", "POST"),
];

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
