//! `orderflow console`: status, dead letters, orders and switches as a web page, for the person at this machine.
//!
//! In: a stack. Out: a page on 127.0.0.1 that needs no network beyond AWS itself: its files are in the binary.
//! Guarantees: only who has the token from the printed URL gets at the stack. The token stands behind `#`, which
//! no browser sends anywhere, and comes with each call in a header, which no other site's page can set. Host and
//! Origin are checked on every request, so that neither a rebound name nor a form of another origin gets through.

mod analytics;
mod dead_list;
mod lists;
mod logged_metrics;
mod rates;
mod redrives;

use std::{collections::HashSet, net::Ipv4Addr, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::future::try_join;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    consumer::{self, Switched},
    dlq::{self, Done},
    dropped,
    error::CliError,
    marker::{self, HandledEvent},
    order::{self, OrderView},
    output::Output,
    payment::OrderPayment,
    select::DeadLetter,
    stack::{Queue, Stack},
    status::{QueueMetrics, Status},
};
use dead_list::{DeadLetters, DeadList};
use rates::{Chart, Rates};
use redrives::{Redrive, Redrives};

const PAGE: &str = include_str!("console/index.html");
const STYLE: &str = include_str!("console/style.css");
const SCRIPT: &str = include_str!("console/app.js");
const CHARTS: &str = include_str!("console/charts.js");
// uPlot (https://github.com/leeoniya/uPlot, MIT) as npm has it, which a test compares: an operator's machine may have no npm.
const UPLOT: &str = include_str!("console/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("console/uplot/uPlot.min.css");
const ANALYTICS_SCRIPT: &str = include_str!("console/analytics.js");
const LISTS_SCRIPT: &str = include_str!("console/lists.js");
const LISTS_STYLE: &str = include_str!("console/lists.css");

const TOKEN: HeaderName = HeaderName::from_static("x-orderflow-token");
const HTTP_PORT: u16 = 80;
/// The page may load its own files and call its own origin, and nothing else; nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' \
                      data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

struct Console {
    stack: Stack,
    output: Output,
    guard: Guard,
    dead: DeadLetters,
    metrics: QueueMetrics,
    rates: Rates,
    redrives: Redrives,
}

#[derive(Debug, Clone)]
struct Guard {
    token: String,
    port: u16,
}

/// What is printed once the page is there.
#[derive(Debug, Serialize)]
struct Address {
    url: String,
}

pub(crate) async fn serve(stack: Stack, port: u16, output: Output) -> Result<(), CliError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| CliError::NotDone(format!("port {port} is not to be had: {error}")))?;
    let port = listener.local_addr().map_err(CliError::local("listening"))?.port();
    // Two random UUIDs: 244 bits that nobody guesses.
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let url = format!("http://127.0.0.1:{port}/#token={token}");
    let guard = Guard { token, port };
    let (dead, metrics) = (DeadLetters::default(), QueueMetrics::default());
    let (rates, redrives) = (Rates::default(), Redrives::default());
    let console = Arc::new(Console { stack, output, guard, dead, metrics, rates, redrives });
    let sampled = Arc::clone(&console);
    tokio::spawn(async move { sampled.rates.sample(&sampled.stack).await });
    output.say(&Address { url }, |address| {
        format!("Open {}\nThe token in it is the key: whoever has it may do what you may. Ctrl-C ends it.", address.url)
    })?;
    axum::serve(listener, routes(console)).await.map_err(CliError::local("serving the console"))
}

fn routes(console: Arc<Console>) -> Router {
    let file = |kind: &'static str, text: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", PAGE))
        .route("/style.css", file("text/css; charset=utf-8", STYLE))
        .route("/app.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/charts.js", file("text/javascript; charset=utf-8", CHARTS))
        .route("/uplot.js", file("text/javascript; charset=utf-8", UPLOT))
        .route("/uplot.css", file("text/css; charset=utf-8", UPLOT_STYLE))
        .route("/analytics.js", file("text/javascript; charset=utf-8", ANALYTICS_SCRIPT))
        .route("/lists.js", file("text/javascript; charset=utf-8", LISTS_SCRIPT))
        .route("/lists.css", file("text/css; charset=utf-8", LISTS_STYLE))
        .merge(analytics::routes())
        .merge(lists::routes())
        .route("/api/status", get(status))
        .route("/api/rates", get(rates))
        .route("/api/dead", get(dead).post(refresh_dead))
        .route("/api/queues/{queue}/redrive", post(redrive))
        .route("/api/queues/{queue}/drop", post(drop_letters))
        .route("/api/queues/{queue}/pause", post(pause))
        .route("/api/queues/{queue}/resume", post(resume))
        .route("/api/orders/{id}", get(one_order))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), guarded))
        .with_state(console)
}

/// Lets a request through or not, and sends every answer with the headers that keep the page to itself.
async fn guarded(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let api = request.uri().path().starts_with("/api/");
    let mut response = match console.guard.check(request.headers(), api) {
        Ok(()) if api => masked(console.output, next.run(request).await).await,
        Ok(()) => next.run(request).await,
        Err(why) => (StatusCode::FORBIDDEN, Json(json!({ "error": why }))).into_response(),
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The addresses of customers are masked here too, in dead letters and events as in orders.
async fn masked(output: Output, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let answer = axum::body::to_bytes(body, usize::MAX).await;
    let Ok(answer) = answer.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut masked = output.masked(&answer).into_owned().into_response();
    *masked.status_mut() = parts.status;
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
        masked.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    masked
}

impl Guard {
    /// The page's files are no secret; what it asks of the stack is.
    fn check(&self, headers: &HeaderMap, api: bool) -> Result<(), &'static str> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let mine = ["127.0.0.1", "localhost"].map(|host| match self.port {
            // Browsers leave out the port that HTTP has by default.
            HTTP_PORT => host.to_owned(),
            port => format!("{host}:{port}"),
        });
        let host = text(header::HOST).ok_or("no Host")?;
        if !mine.iter().any(|mine| mine == host) {
            return Err("this Host is not the console's");
        }
        let origin = text(header::ORIGIN);
        if origin.is_some_and(|origin| !mine.iter().any(|mine| origin == format!("http://{mine}")))
        {
            return Err("this Origin is not the console's");
        }
        let token = text(TOKEN).unwrap_or_default();
        if api && !same(token.as_bytes(), self.token.as_bytes()) {
            return Err("open the URL that the command has printed: the token is missing or wrong");
        }
        Ok(())
    }
}

/// Compares in a time that does not depend on where two secrets differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

type Answer<T> = Result<Json<T>, CliError>;

impl IntoResponse for CliError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::NotDone(_) | Self::HeldElsewhere { .. } | Self::NeedsAttention { .. } => {
                StatusCode::CONFLICT
            }
            Self::NoAnswer { .. } | Self::NotAws { .. } | Self::Refused { .. } | Self::Table(_) => {
                StatusCode::BAD_GATEWAY
            }
            Self::Usage(_) | Self::Interrupted { .. } | Self::Local { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(json!({ "error": self.to_string() }))).into_response()
    }
}

/// The status, and when the list of dead letters was made, so that a page knows whether it shows that one.
#[derive(Debug, Serialize)]
struct Look {
    #[serde(flatten)]
    status: Status,
    dead_list_at: Option<Timestamp>,
    redrives: Vec<Redrive>,
}

async fn status(State(console): State<Arc<Console>>) -> Answer<Look> {
    let status = Status::of(&console.stack, &console.metrics).await?;
    console.dead.follow(&console.stack, status.queues.iter().map(|queue| queue.dead).collect());
    let (dead_list_at, redrives) = (console.dead.at(), console.redrives.all());
    Ok(Json(Look { status, dead_list_at, redrives }))
}

async fn rates(State(console): State<Arc<Console>>) -> Answer<Vec<Chart>> {
    console.rates.charts(&console.stack).await.map(Json)
}

async fn dead(State(console): State<Arc<Console>>) -> Answer<DeadList> {
    console.dead.get(&console.stack).await.map(Json)
}

async fn refresh_dead(State(console): State<Arc<Console>>) -> Answer<DeadList> {
    console.dead.refresh(&console.stack).await.map(Json)
}

/// Which letters a request is about. Always named one by one: what is redriven or dropped is what the person saw.
#[derive(Debug, Deserialize)]
struct Wanted {
    ids: Vec<String>,
}

impl Wanted {
    /// Those of them that are on the list.
    async fn letters(&self, console: &Console, queue: &Queue) -> Result<Vec<DeadLetter>, CliError> {
        let ids: HashSet<&str> = self.ids.iter().map(String::as_str).collect();
        let mut letters = console.dead.get(&console.stack).await?.listing.letters;
        letters.retain(|l| l.queue == queue.name && ids.contains(l.message_id.as_str()));
        if letters.is_empty() {
            let gone = format!("{} has no such dead letter any more", queue.name);
            return Err(CliError::NotFound(gone));
        }
        Ok(letters)
    }
}

/// What was done with the letters, and where the copy of those that were dropped is.
#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    done: Done,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Redrive,
    Drop,
}

async fn redrive(
    State(console): State<Arc<Console>>,
    Path(queue): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Answer<Changed> {
    change(console, queue, wanted, Change::Redrive).await
}

async fn drop_letters(
    State(console): State<Arc<Console>>,
    Path(queue): Path<String>,
    Json(wanted): Json<Wanted>,
) -> Answer<Changed> {
    change(console, queue, wanted, Change::Drop).await
}

/// Carries it to its end even if the page is closed: the letters are held meanwhile. Whatever came of it, the list is made again.
async fn change(
    console: Arc<Console>,
    queue: String,
    wanted: Wanted,
    change: Change,
) -> Answer<Changed> {
    let changed = tokio::spawn(async move {
        let stack = &console.stack;
        let queue = stack.queue(&queue)?;
        let letters = wanted.letters(&console, queue).await?;
        let copy = match change {
            Change::Redrive => None,
            Change::Drop => Some(dropped::keep(&letters, &queue.name, None)?),
        };
        let reserved = console.dead.reserve().await;
        let hidden = ProgressBar::hidden();
        let done = match change {
            Change::Redrive => dlq::redrive(stack, queue, &letters, &hidden).await,
            Change::Drop => dlq::drop(stack, queue, &letters, &hidden).await,
        };
        drop(reserved);
        let refreshed = console.dead.refresh(stack).await;
        let done = done?;
        if matches!(change, Change::Redrive) {
            let (stack, dead) = (stack.clone(), console.dead.clone());
            console.redrives.watch(stack, queue.clone(), letters, dead);
        }
        refreshed.map(|_| Changed { done, copy })
    });
    changed.await.map_err(CliError::local("changing dead letters"))?.map(Json)
}

async fn pause(
    State(console): State<Arc<Console>>,
    Path(queue): Path<String>,
) -> Answer<Vec<Switched>> {
    let queue = console.stack.queue(&queue)?;
    consumer::switch(&console.stack, &[queue], false).await.map(Json)
}

async fn resume(
    State(console): State<Arc<Console>>,
    Path(queue): Path<String>,
) -> Answer<Vec<Switched>> {
    let queue = console.stack.queue(&queue)?;
    consumer::switch(&console.stack, &[queue], true).await.map(Json)
}

/// An order with its time line.
#[derive(Debug, Serialize)]
struct OneOrder {
    order: OrderView,
    events: Vec<HandledEvent>,
}

async fn one_order(
    State(console): State<Arc<Console>>,
    Path(id): Path<String>,
) -> Answer<OneOrder> {
    let shown = order::show(&console.stack, &id, order::Email::Masked);
    let known = try_join(shown, marker::history(&console.stack, &id));
    let (known, payment) = tokio::join!(known, OrderPayment::of(&console.stack, &id));
    let (order, events) = known?;
    Ok(Json(OneOrder { order: order.with_payment(payment.as_ref())?, events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(headers: &[(HeaderName, &str)], api: bool) -> bool {
        let guard = Guard { token: "secret".into(), port: 4000 };
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a header")));
        guard.check(&headers.collect(), api).is_ok()
    }

    #[test]
    fn the_page_is_had_without_a_token_and_the_stack_only_with_it() {
        let host = (header::HOST, "127.0.0.1:4000");
        assert!(allowed(std::slice::from_ref(&host), false));
        assert!(!allowed(std::slice::from_ref(&host), true));
        assert!(!allowed(&[host.clone(), (TOKEN, "secreT")], true));
        assert!(allowed(&[host, (TOKEN, "secret")], true));
    }

    #[test]
    fn a_name_that_was_rebound_to_this_machine_is_refused() {
        for host in
            ["evil.example:4000", "127.0.0.1:4001", "127.0.0.1", "127.0.0.1:4000.evil.example"]
        {
            assert!(!allowed(&[(header::HOST, host), (TOKEN, "secret")], true), "{host}");
            assert!(!allowed(&[(header::HOST, host)], false), "{host}");
        }
        assert!(!allowed(&[(TOKEN, "secret")], true));
        assert!(allowed(&[(header::HOST, "localhost:4000"), (TOKEN, "secret")], true));
    }

    #[test]
    fn on_port_80_the_page_is_called_without_a_port() {
        let guard = Guard { token: "secret".into(), port: HTTP_PORT };
        let check = |host: &'static str, origin: &'static str| {
            let headers = [(header::HOST, host), (header::ORIGIN, origin), (TOKEN, "secret")];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
            guard.check(&headers.into_iter().collect(), true).is_ok()
        };
        assert!(check("127.0.0.1", "http://127.0.0.1"));
        assert!(check("localhost", "http://localhost"));
        assert!(!check("127.0.0.1:8080", "http://127.0.0.1"));
        assert!(!check("127.0.0.1", "http://127.0.0.1:8080"));
    }

    #[test]
    fn another_origin_is_refused_even_with_the_token() {
        let with = |origin: &'static str| {
            let host = (header::HOST, "127.0.0.1:4000");
            allowed(&[host, (header::ORIGIN, origin), (TOKEN, "secret")], true)
        };
        assert!(with("http://127.0.0.1:4000"));
        for origin in
            ["http://evil.example", "null", "http://127.0.0.1:4001", "https://127.0.0.1:4000"]
        {
            assert!(!with(origin), "{origin}");
        }
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
        for text in [PAGE, STYLE, SCRIPT, CHARTS, LISTS_STYLE, LISTS_SCRIPT] {
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"));
        }
        assert!(
            !PAGE.contains("<script>") && !PAGE.contains("style=") && !PAGE.contains("onclick")
        );
        // What a stranger sent is shown as text, never as markup.
        for script in [SCRIPT, CHARTS, LISTS_SCRIPT] {
            assert!(!script.contains("innerHTML"));
        }
    }
}
