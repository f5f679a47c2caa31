//! Runs an axum router behind API Gateway.

use std::{
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use exactly_once::{Clock, Ids, invocation_deadline};
use futures::{
    FutureExt,
    future::{BoxFuture, Inspect, Then},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use lambda_http::{
    Adapter, Context as Invocation,
    lambda_runtime::{LambdaInvocation, Runtime, layers::TracingLayer},
    request::RequestContext,
};
use lambda_runtime_api_client::PooledClient;
use telemetry::Trace;
use tokio::{sync::watch, time::Instant};
use tower::{Service, layer::layer_fn};
use tracing::{Instrument, field::Empty};

use crate::{
    AfterAnswer, BODY_BYTES_MAX, CorsOrigin, Problem, lambda_extension::Extension, media_type,
    problem::PROBLEM_JSON, routes::allowed_methods,
};

/// How long before the invocation's deadline a request is answered, whatever its handler does: Lambda would answer the
/// gateway with an error, and end the environment.
const DEADLINE_MARGIN: Duration = Duration::from_millis(800);
/// How long before that a handler ends what its answer does not need: publishing at once, reading what has been changed.
const ANSWER_MARGIN: Duration = Duration::from_millis(200);
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Who calls, as the trace of all that the call leads to. Handlers take it as an `Extension`.
pub type Caller = Trace;

/// When a handler has to have its answer. What it does after its outcome is certain, and what its answer can do without,
/// ends by then. Handlers take it as an `Extension`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnswerBy(Instant);

impl AnswerBy {
    /// Does some work until then; `None` if it has not ended.
    pub async fn limit<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }

    /// This moment, or the one after this time if that is earlier.
    #[must_use]
    pub fn at_most(self, time: Duration) -> Self {
        Self(self.0.min(Instant::now() + time))
    }

    /// Whether there is this much time left.
    #[must_use]
    pub fn leaves(self, time: Duration) -> bool {
        Instant::now() + time <= self.0
    }
}

/// Serves until Lambda ends the process. `unrouted` answers what API Gateway found no route for and sent
/// here by its catch-all: such a request passes no check of the gateway, so it must not reach `routes`.
///
/// For routes that leave no work until after their answer: whatever is left there may be frozen with the environment.
///
/// # Errors
/// The runtime API is gone.
pub async fn serve(
    routes: Router,
    unrouted: Router,
    cors: CorsOrigin,
    clock: Clock,
    ids: Ids,
) -> Result<(), lambda_http::Error> {
    let (after_answer, work) = AfterAnswer::new(false);
    tokio::spawn(work.run());
    let app = app(routes, unrouted, cors, clock, ids, after_answer);
    // As `lambda_http::run` makes it, but for the spans, which are sent after the answer.
    Runtime::new(Adapter::from(app))
        .layer(TracingLayer::new())
        .layer(layer_fn(|inner| SendSpans { inner }))
        .run()
        .await
}

/// Serves as [`serve`] does, and lets the environment go on after an answer until the work that was left is done, if
/// Lambda allows it.
///
/// # Errors
/// The runtime API is gone.
pub async fn serve_and_finish(
    routes: Router,
    unrouted: Router,
    cors: CorsOrigin,
    clock: Clock,
    ids: Ids,
) -> Result<(), lambda_http::Error> {
    let Some(extension) = Extension::register(PooledClient::builder().build()).await else {
        return serve(routes, unrouted, cors, clock, ids).await;
    };
    telemetry::flush_at_the_end();
    let (after_answer, work) = AfterAnswer::new(true);
    let (sender, answered) = watch::channel(String::new());
    let app = app(routes, unrouted, cors, clock.clone(), ids, after_answer);
    // As `lambda_http::run` makes it.
    let runtime = Runtime::new(Adapter::from(app))
        .layer(TracingLayer::new())
        .layer(layer_fn(|inner| ReportAnswers { inner, answered: sender.clone() }));
    // If one of them ends, so does the process, and Lambda starts another.
    futures::try_join!(runtime.run(), extension.run(work, answered, clock)).map(drop)
}

/// Sends the spans of each invocation once it has been answered.
struct SendSpans<S> {
    inner: S,
}

type AfterAnswered = Box<
    dyn FnOnce(Result<(), lambda_http::Error>) -> BoxFuture<'static, Result<(), lambda_http::Error>>
        + Send,
>;

impl<S> Service<LambdaInvocation> for SendSpans<S>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_http::Error>,
{
    type Response = ();
    type Error = lambda_http::Error;
    type Future =
        Then<S::Future, BoxFuture<'static, Result<(), lambda_http::Error>>, AfterAnswered>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let send = |answered| async move {
            telemetry::flush().await;
            answered
        };
        self.inner.call(invocation).then(Box::new(move |answered| send(answered).boxed()))
    }
}

/// Reports each invocation that has been answered: the runtime API has its answer, or its error.
struct ReportAnswers<S> {
    inner: S,
    answered: watch::Sender<String>,
}

impl<S> Service<LambdaInvocation> for ReportAnswers<S>
where
    S: Service<LambdaInvocation, Response = (), Error = lambda_http::Error>,
{
    type Response = ();
    type Error = lambda_http::Error;
    type Future = Inspect<S::Future, Box<dyn FnOnce(&Result<(), lambda_http::Error>) + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let (answered, id) = (self.answered.clone(), invocation.context.request_id.clone());
        let report = move |_: &_| drop(answered.send_replace(id));
        self.inner.call(invocation).inspect(Box::new(report))
    }
}

/// What [`serve`] serves.
pub fn app(
    routes: Router,
    unrouted: Router,
    cors: CorsOrigin,
    clock: Clock,
    ids: Ids,
    after_answer: AfterAnswer,
) -> Router {
    let routes = routes
        .fallback(|| async { Problem::not_found("There is no such path.") })
        .method_not_allowed_fallback(refuse_method)
        .route_layer(middleware::from_fn(negotiate))
        .route_layer(middleware::from_fn(require_gateways_route));
    let app = Router::new().fallback(move |request: Request| {
        // No handler takes OPTIONS: where no page may call, it is a method like any other that is not taken.
        let is_unrouted = by_catch_all(&request) || request.method() == Method::OPTIONS;
        let router = if is_unrouted { unrouted.clone() } else { routes.clone() };
        async move { tower::ServiceExt::oneshot(router, request).await }
    });
    app.layer(middleware::map_response(as_problem)).layer(middleware::from_fn(
        move |mut request: Request, next| {
            request.extensions_mut().insert(after_answer.clone());
            let (cors, clock, ids) = (cors.clone(), clock.clone(), ids.clone());
            async move {
                let mut response = match cors.preflight(request.method()) {
                    Some(preflight) => preflight,
                    None => boundary(request, next, clock, ids).await,
                };
                cors.mark(response.headers_mut());
                response
            }
        },
    ))
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

/// Answers a path that is right with a method that it does not take: what the gateway need not have found out, because it lets
/// pass what another route of the path does.
async fn refuse_method(path: MatchedPath) -> Problem {
    allowed_methods(path.as_str())
        .map_or_else(|| Problem::not_found("There is no such call."), Problem::method_not_allowed)
}

/// Refuses a body that is not said to be JSON, and a client that takes no JSON, before anything is done.
async fn negotiate(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_taken = headers.get(CONTENT_TYPE).is_none_or(media_type::is_json);
    if *request.method() == Method::POST || *request.method() == Method::PATCH {
        let has_body = request.body().size_hint().lower() > 0;
        if has_body && !is_taken {
            return Problem::unsupported_media_type().into_response();
        }
    }
    if !media_type::accept_json(headers.get_all(ACCEPT)) {
        return Problem::not_acceptable().into_response();
    }
    next.run(request).await
}

/// Lets a handler run only if the route that axum has matched is the one by which the gateway sent the request: the
/// gateway checks signatures by its own reading of the path, which may differ for a raw `\` or `#`.
async fn require_gateways_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if matched.is_none() || matched != route(&request).map(path_of) {
        return Problem::not_found("There is no such path.").into_response();
    }
    next.run(request).await
}

/// The path of a route: an HTTP API writes the method before it.
fn path_of(route: &str) -> &str {
    route.split_once(' ').map_or(route, |(_, path)| path)
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
async fn boundary(mut request: Request, next: Next, clock: Clock, ids: Ids) -> Response {
    let begun = Instant::now();
    let caller = caller(request.headers(), &ids);
    let method = request.method().clone();
    let route = route(&request).map(str::to_owned);
    request.extensions_mut().insert(caller.clone());
    // Handlers record what the request is about: it stands in whatever is logged of it.
    let span = tracing::info_span!(
        "request",
        %method,
        route,
        correlation_id = caller.correlation_id,
        traceparent = caller.traceparent,
        parent = caller.parent.as_ref().filter(|_| telemetry::is_recording()),
        order_id = Empty,
        event_id = Empty,
        product_id = Empty,
        status = Empty,
    );
    let time_left = time_left(&request, &clock);
    let answer_by = AnswerBy(begun + time_left.saturating_sub(ANSWER_MARGIN));
    request.extensions_mut().insert(answer_by);
    let work = AssertUnwindSafe(next.run(request).instrument(span.clone())).catch_unwind();
    let mut response = match tokio::time::timeout(time_left, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let panic = exactly_once::panic_message(&*panic);
            span.in_scope(|| tracing::error!(panic, "the handler panicked"));
            Problem::internal().into_response()
        }
        Err(_) if method.is_safe() => {
            Problem::unavailable("There was no answer in time; try again.").into_response()
        }
        Err(_) => Problem::outcome_unknown().into_response(),
    };
    if method == Method::HEAD {
        // axum does it for handlers of GET, and for no other answer.
        *response.body_mut() = Body::empty();
    }
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    if let Ok(id) = HeaderValue::from_str(&caller.correlation_id) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    span.in_scope(|| {
        let status = response.status().as_u16();
        span.record("status", status);
        tracing::info!(
            duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request answered"
        );
    });
    response
}

/// The time in which a request has to be answered.
fn time_left(request: &Request, clock: &Clock) -> Duration {
    // A request that did not come through Lambda, as in a test, has no deadline.
    const WITHOUT_DEADLINE: Duration = Duration::from_secs(60);
    let Some(context) = request.extensions().get::<Invocation>() else { return WITHOUT_DEADLINE };
    clock.time_until(invocation_deadline(context.deadline)).saturating_sub(DEADLINE_MARGIN)
}

fn caller(headers: &HeaderMap, ids: &Ids) -> Caller {
    let header = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    Caller::continued(header(CORRELATION_ID), header(TRACEPARENT), ids)
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Bytes,
        extract::Path,
        routing::{any, get, post},
    };
    use serde_json::{Value, json};

    use super::*;

    fn app(routes: Router, unrouted: Router) -> Router {
        app_for(CorsOrigin::NONE, routes, unrouted)
    }

    fn app_for(cors: CorsOrigin, routes: Router, unrouted: Router) -> Router {
        let after_answer = AfterAnswer::new(false).0;
        super::app(routes, unrouted, cors, Clock::default(), Ids::default(), after_answer)
    }

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
        // The gateway took the path for another: it has not checked the signature that this one needs.
        assert_eq!(status("/open/{id}").await, 404);
    }

    /// What the gateway sends for a path that it has read as this route.
    async fn handler_that_ran(path: &str, route: &str) -> Option<String> {
        let event = json!({
            "resource": route, "path": path, "httpMethod": "POST", "headers": {},
            "multiValueHeaders": {}, "isBase64Encoded": false, "body": null,
            "requestContext": { "resourcePath": route, "httpMethod": "POST" },
        });
        let routes = crate::ROUTES
            .into_iter()
            .fold(Router::new(), |routes, (path, _)| routes.route(path, any(async move || path)));
        let answer = answer(app(routes, crate::unrouted(&[])), &event).await;
        let is_ok = answer.status() == StatusCode::OK;
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a body");
        is_ok.then(|| String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn a_path_that_the_gateway_reads_as_another_route_than_axum_reaches_no_handler() {
        // Each path with the route that axum finds for it, once lambda_http has read it as a URL: there `\` is a `/`, what
        // begins with a `#` is no part of the path, and segments that are dots are resolved.
        // https://url.spec.whatwg.org/#path-state
        for (path, found) in [
            ("/orders/o/ship", Some("/orders/{id}/ship")),
            (r"/orders/o\ship", Some("/orders/{id}/ship")),
            (r"/orders\o\events", Some("/orders/{id}/events")),
            (r"/products/p\stock", Some("/products/{id}/stock")),
            (r"\products", Some("/products")),
            ("/orders/o/ship#/cancel", Some("/orders/{id}/ship")),
            ("/products#p", Some("/products")),
            ("/products/p/stock#", Some("/products/{id}/stock")),
            ("/orders/./o/ship", Some("/orders/{id}/ship")),
            ("/orders/o/./ship", Some("/orders/{id}/ship")),
            ("/orders/o/%2e/ship", Some("/orders/{id}/ship")),
            ("/orders/o/cancel/../ship", Some("/orders/{id}/ship")),
            ("/orders/../products", Some("/products")),
            // Encoded, they are a part of an id.
            ("/orders/o%5Cship", Some("/orders/{id}")),
            ("/orders/o%23/ship", Some("/orders/{id}/ship")),
            ("/orders/o%2Fship", Some("/orders/{id}")),
            ("/products/p%5Cstock", Some("/products/{id}")),
            ("/products%23p", None),
            // An empty id, which is the id of nothing.
            ("/orders//ship", Some("/orders/{id}/ship")),
            ("/orders/o//ship", None),
            ("//orders/o/ship", None),
            ("/products//", None),
        ] {
            let routes = crate::ROUTES.iter().map(|(route, _)| *route);
            for route in routes.chain(["/", "/{proxy+}"]) {
                let ran = handler_that_ran(path, route).await;
                let may_run = found.filter(|found| *found == route);
                assert_eq!(ran.as_deref(), may_run, "{path}, which came by {route}");
            }
        }
    }

    /// One that has no deadline of its own, as a request whose table never answers.
    async fn answer_of_standstill(method: &str) -> Value {
        let now = Clock::default().now().as_millisecond();
        let mut context = Invocation::default();
        context.deadline = u64::try_from(now).expect("in range") + 900;
        let event = json!({
            "resource": "/slow", "path": "/slow", "httpMethod": method, "headers": {},
            "multiValueHeaders": {}, "isBase64Encoded": false,
            "requestContext": { "resourcePath": "/slow", "httpMethod": method },
        });
        let standstill = || std::future::pending::<()>();
        let routes = Router::new().route("/slow", get(standstill).post(standstill));
        let mut request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        request.extensions_mut().insert(context);
        let answer = tower::ServiceExt::oneshot(app(routes, Router::new()), request).await;
        let body = answer.expect("an answer").into_body();
        let body = axum::body::to_bytes(body, 4096).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn a_request_is_answered_before_the_invocation_ends() {
        let read = answer_of_standstill("GET").await;
        assert_eq!(read["type"], "urn:orderflow:problem:unavailable");
        let write = answer_of_standstill("POST").await;
        assert_eq!(write["type"], "urn:orderflow:problem:outcome-unknown");
    }

    /// The answer to a call of a route that takes GET and POST, with these headers.
    async fn negotiated(method: &str, headers: &Value, body: Option<&str>) -> Response {
        let event = json!({
            "resource": "/orders", "path": "/orders", "httpMethod": method, "headers": headers,
            "multiValueHeaders": {}, "isBase64Encoded": false, "body": body,
            "requestContext": { "resourcePath": "/orders", "httpMethod": method },
        });
        let routes =
            Router::new().route("/orders", get(|| async { "got" }).post(|| async { "posted" }));
        answer(app(routes, crate::unrouted(&[])), &event).await
    }

    #[tokio::test]
    async fn a_body_of_another_type_and_a_client_that_takes_no_json_are_refused() {
        let form = json!({ "content-type": "application/x-www-form-urlencoded" });
        assert_eq!(negotiated("POST", &form, Some("a=b")).await.status(), 415);
        // Without a body its type means nothing.
        assert_eq!(negotiated("POST", &form, None).await.status(), 200);
        assert_eq!(negotiated("GET", &form, None).await.status(), 200);
        assert_eq!(negotiated("POST", &json!({}), Some("{}")).await.status(), 200);
        let html = json!({ "accept": "text/html" });
        assert_eq!(negotiated("GET", &html, None).await.status(), 406);
        assert_eq!(
            negotiated("GET", &json!({ "accept": "text/html, */*;q=0.1" }), None).await.status(),
            200
        );
    }

    #[tokio::test]
    async fn a_method_that_a_path_does_not_take_is_a_405_however_it_came() {
        let answer = negotiated("PATCH", &json!({}), None).await;
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "GET, HEAD, POST");
    }

    #[tokio::test]
    async fn head_is_answered_as_get_without_a_body() {
        for (method, accept, status) in [
            ("GET", "*/*", 200),
            ("HEAD", "*/*", 200),
            ("GET", "text/html", 406),
            ("HEAD", "text/html", 406),
        ] {
            let answer = negotiated(method, &json!({ "accept": accept }), None).await;
            assert_eq!(answer.status(), status, "{method}");
            let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a body");
            assert_eq!(body.is_empty(), method == "HEAD");
        }
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
            .route("/body", post(|_: Bytes| async {}));
        let app = app(routes, Router::new());
        let large = "x".repeat(3_000_000);
        for (method, path, body, status, reason) in [
            ("GET", "/of/%FF", "", 400, "The percent-encoded bytes of the path must be UTF-8"),
            ("POST", "/body", large.as_str(), 413, "262144 bytes"),
        ] {
            let route = if path.starts_with("/of") { "/of/{id}" } else { path };
            let event = json!({
                "resource": route, "path": path, "httpMethod": method, "headers": {},
                "multiValueHeaders": {}, "isBase64Encoded": false, "body": body,
                "requestContext": { "resourcePath": route, "httpMethod": method },
            });
            let answer = answer(app.clone(), &event).await;
            assert_eq!(answer.status(), status, "{path}");
            assert_eq!(answer.headers()[CONTENT_TYPE], PROBLEM_JSON, "{path}");
            let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("a body");
            let problem: Value = serde_json::from_slice(&body).expect("JSON");
            assert!(problem["detail"].as_str().is_some_and(|d| d.contains(reason)), "{problem}");
        }
    }

    /// What a call of `/orders` by this method is answered, and by a page of which origin it may be read.
    async fn answer_to_page(cors: &str, method: &str) -> (u16, Option<String>, bool) {
        let event = json!({
            "resource": "/orders", "path": "/orders", "httpMethod": method, "multiValueHeaders": {},
            "headers": { "origin": "https://shop.example.com" }, "isBase64Encoded": false,
            "requestContext": { "resourcePath": "/orders", "httpMethod": method },
        });
        async fn panics() -> &'static str {
            panic!("boom")
        }
        let routes = Router::new().route("/orders", get(|| async { "orders" }).post(panics));
        let cors = cors.parse().expect("an origin");
        let answer = answer(app_for(cors, routes, crate::unrouted(&[])), &event).await;
        let text = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
        let exposed = text("access-control-expose-headers");
        let is_exposed = exposed.is_some_and(|names| names.contains("X-Correlation-Id"));
        (answer.status().as_u16(), text("access-control-allow-origin"), is_exposed)
    }

    #[tokio::test]
    async fn a_page_of_the_one_origin_may_read_every_answer_errors_and_panics_included() {
        for cors in ["https://shop.example.com", "*"] {
            for (method, status) in [("OPTIONS", 204), ("GET", 200), ("POST", 500), ("PUT", 405)] {
                let wanted = (status, Some(cors.to_owned()), true);
                assert_eq!(answer_to_page(cors, method).await, wanted, "{cors} {method}");
            }
        }
    }

    #[tokio::test]
    async fn where_no_page_may_call_no_answer_says_that_one_may() {
        for (method, status) in [("OPTIONS", 405), ("GET", 200), ("POST", 500)] {
            assert_eq!(answer_to_page("none", method).await, (status, None, false), "{method}");
        }
    }
}
