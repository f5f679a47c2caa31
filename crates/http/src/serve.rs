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
    let routes = routes
        .fallback(|| async { Problem::not_found("There is no such path.") })
        .method_not_allowed_fallback(|| async { Problem::not_found("There is no such call.") });
    let app = Router::new().fallback(move |request: Request| {
        let chosen = if by_catch_all(&request) { unrouted.clone() } else { routes.clone() };
        async move { tower::ServiceExt::oneshot(chosen, request).await }
    });
    lambda_http::run(app.layer(middleware::from_fn(boundary))).await
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
