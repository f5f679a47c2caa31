//! Runs an axum router behind API Gateway.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use lambda_http::request::RequestContext;
use telemetry::Trace;

use crate::Problem;

const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Who calls, as the trace of all that the call leads to. Handlers take it as an `Extension`.
pub type Caller = Trace;

/// Serves until Lambda ends the process. `unrouted` answers what API Gateway found no route for and sent
/// here by its catch-all: such a request passes no check of the gateway, so it must not reach `routes`.
///
/// # Errors
/// The runtime API is gone.
pub async fn serve(routes: Router, unrouted: Router) -> Result<(), lambda_http::Error> {
    lambda_http::run(app(routes, unrouted)).await
}

fn app(routes: Router, unrouted: Router) -> Router {
    let routes = routes
        .fallback(|| async { Problem::not_found("There is no such path.") })
        .method_not_allowed_fallback(|| async { Problem::not_found("There is no such call.") });
    let app = Router::new().fallback(move |request: Request| {
        let chosen = if by_catch_all(&request) { unrouted.clone() } else { routes.clone() };
        async move { tower::ServiceExt::oneshot(chosen, request).await }
    });
    app.layer(middleware::from_fn(boundary))
}

/// Whether the gateway knew no better route than its catch-all. A request without a route did not come
/// through the gateway, so it passed no check either.
fn by_catch_all(request: &Request) -> bool {
    route(request).is_none_or(|r| r == "/" || r == "$default" || r.ends_with("{proxy+}"))
}

/// The route by which the gateway sent a request, as the template writes it.
fn route(request: &Request) -> Option<&str> {
    match request.extensions().get::<RequestContext>()? {
        RequestContext::ApiGatewayV1(context) => context.resource_path.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.route_key.as_deref(),
        _ => None,
    }
}

/// The boundary of a request: gives it a trace, catches a panic, logs it once.
async fn boundary(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let caller = caller(request.headers());
    let method = request.method().clone();
    let route = route(&request).map(str::to_owned);
    request.extensions_mut().insert(caller.clone());
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|_| {
        tracing::error!(correlation_id = caller.correlation_id, "the handler panicked");
        Problem::internal().into_response()
    });
    if let Ok(id) = HeaderValue::from_str(&caller.correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    tracing::info!(
        method = %method,
        route,
        status = response.status().as_u16(),
        duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        correlation_id = caller.correlation_id,
        traceparent = caller.traceparent,
        "request answered"
    );
    response
}

fn caller(headers: &HeaderMap) -> Caller {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Caller::continued(header(CORRELATION_ID), header(TRACEPARENT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    /// What the gateway sends for `GET /protected`, by the route that it has found. MiniStack matches a disguised
    /// path, such as `/orders/x%2Fship`, to the protected route; another gateway may send it by its catch-all.
    async fn status(route: &str) -> u16 {
        let event = serde_json::json!({
            "resource": route,
            "path": "/protected",
            "httpMethod": "GET",
            "headers": {},
            "multiValueHeaders": {},
            "requestContext": { "resourcePath": route, "httpMethod": "GET" },
            "body": null,
            "isBase64Encoded": false,
        });
        let routes = Router::new().route("/protected", get(|| async { "secret" }));
        let unrouted = Router::new().fallback(|| async { Problem::not_found("no such path") });
        let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        let answer = tower::ServiceExt::oneshot(app(routes, unrouted), request).await;
        answer.expect("an answer").status().as_u16()
    }

    #[tokio::test]
    async fn what_came_by_the_catch_all_reaches_no_route() {
        assert_eq!(status("/protected").await, 200);
        assert_eq!(status("/{proxy+}").await, 404);
        assert_eq!(status("/").await, 404);
    }

    #[tokio::test]
    async fn a_panic_is_the_failure_of_its_request() {
        async fn panics() -> &'static str {
            panic!("boom")
        }
        let event = serde_json::json!({
            "resource": "/panic", "path": "/panic", "httpMethod": "GET", "headers": {},
            "multiValueHeaders": {}, "isBase64Encoded": false,
            "requestContext": { "resourcePath": "/panic", "httpMethod": "GET" },
        });
        let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        let app = app(Router::new().route("/panic", get(panics)), Router::new());
        let answer = tower::ServiceExt::oneshot(app, request).await.expect("an answer");
        assert_eq!(answer.status(), 500);
    }
}
