//! Runs an axum router behind API Gateway.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use lambda_http::request::RequestContext;
use telemetry::Trace;
use tracing::Instrument;

use crate::{BODY_BYTES_MAX, Problem, problem::PROBLEM_JSON};

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
        let router = if by_catch_all(&request) { unrouted.clone() } else { routes.clone() };
        async move { tower::ServiceExt::oneshot(router, request).await }
    });
    app.layer(middleware::map_response(as_problem)).layer(middleware::from_fn(boundary))
}

/// What axum refuses by itself, with a line of text, becomes a problem in our own words: a path that is not UTF-8, a
/// body that is larger than it reads.
async fn as_problem(answer: Response) -> Response {
    let is_problem = answer.headers().get(CONTENT_TYPE).is_some_and(|t| t == PROBLEM_JSON);
    if !answer.status().is_client_error() || is_problem {
        return answer;
    }
    if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return Problem::too_large(BODY_BYTES_MAX).into_response();
    }
    let detail = "The percent-encoded bytes of the path must be UTF-8 (RFC 3986, section 2.5).";
    Problem::unreadable(detail).into_response()
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
    // What a handler logs is found by the correlation id, too.
    let span = tracing::info_span!("request", correlation_id = caller.correlation_id);
    let answer = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|panic| {
        let panic = delivery::panic_message(&*panic);
        tracing::error!(panic, correlation_id = caller.correlation_id, "the handler panicked");
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
    use axum::{
        body::Bytes,
        extract::Path,
        routing::{get, post},
    };
    use serde_json::{Value, json};

    use super::*;
    async fn answer(app: Router, event: &Value) -> Response {
        let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        tower::ServiceExt::oneshot(app, request).await.expect("an answer")
    }

    /// What the gateway sends for `GET /protected`, by the route that it has found. MiniStack matches a disguised
    /// path, such as `/orders/x%2Fship`, to the protected route; another gateway may send it by its catch-all.
    async fn status(route: &str) -> u16 {
        let event = json!({
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
        answer(app(routes, unrouted), &event).await.status().as_u16()
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
        let event = json!({
            "resource": "/panic", "path": "/panic", "httpMethod": "GET", "headers": {},
            "multiValueHeaders": {}, "isBase64Encoded": false,
            "requestContext": { "resourcePath": "/panic", "httpMethod": "GET" },
        });
        let app = app(Router::new().route("/panic", get(panics)), Router::new());
        assert_eq!(answer(app, &event).await.status(), 500);
    }

    #[tokio::test]
    async fn what_axum_refuses_by_itself_is_a_problem_too() {
        let routes = Router::new()
            .route("/of/{id}", get(|_: Path<String>| async {}))
            .route("/", post(|_: Bytes| async {}));
        let app = app(routes, Router::new());
        let large = "x".repeat(3_000_000);
        for (method, path, body, status, reason) in [
            ("GET", "/of/%FF", "", 400, "The percent-encoded bytes of the path must be UTF-8"),
            ("POST", "/", large.as_str(), 413, "262144 bytes"),
        ] {
            let event = json!({
                "resource": path, "path": path, "httpMethod": method, "headers": {},
                "multiValueHeaders": {}, "isBase64Encoded": false, "body": body,
                "requestContext": { "resourcePath": "/a-route", "httpMethod": method },
            });
            let answer = answer(app.clone(), &event).await;
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.headers()[CONTENT_TYPE], PROBLEM_JSON, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a body");
            let problem: Value = serde_json::from_slice(&body).expect("JSON");
            assert!(problem["detail"].as_str().is_some_and(|d| d.contains(reason)), "{problem}");
        }
    }
}
