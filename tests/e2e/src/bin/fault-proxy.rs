//! A proxy between the functions and the emulator that breaks chosen AWS calls, and by chance Stripe's.
//!
//! In: `fault-proxy LISTEN_PORT EMULATOR_PORT [LOCALSTRIPE_PORT]`; the functions' calls; orders under `/__faults`, `/__down`, `/__chaos`
//! and `/__calls`. Out: the answers of the emulator and of localstripe, or what a broken network, service or process would leave.
//!
//! What localstripe lacks and orders that are paid under faults rely on is here: an idempotency key is answered as it was the first time.
//!
//! A call is one logical call of the SDK with all its attempts, known by `amz-sdk-invocation-id`. A fault belongs
//! to one order: it is keyed by a product that only this order has, and every id that turns up beside a known
//! one in a transaction (which never mixes orders) becomes known too. Many faults can thus run side by side.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::IncomingStream,
};
use e2e::faults::Kind;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// One fault: the `nth` (from 0) call of `operation` by `function` that has to do with `key`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Fault {
    key: String,
    function: String,
    operation: String,
    nth: usize,
    kind: Kind,
    #[serde(default)]
    struck: usize,
    #[serde(default)]
    invocation: Option<String>,
}

/// One call that had to do with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Call {
    function: String,
    operation: String,
    nth: usize,
}

/// Random faults: numbers of a thousand calls that fail, lose their answer, or kill their process.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Chaos {
    seed: u64,
    fail_permille: u64,
    lose_permille: u64,
    kill_permille: u64,
}

#[derive(Default)]
struct Plan {
    faults: Vec<Fault>,
    /// For each key the ids that are known to belong to it.
    aliases: BTreeMap<String, HashSet<String>>,
    /// For each key its calls, in order, with the invocation that made them.
    calls: BTreeMap<String, Vec<(Call, String)>>,
    chaos: Chaos,
    chaos_struck: BTreeMap<&'static str, u64>,
    down: Option<String>,
}

#[derive(Clone)]
struct Proxy {
    client: reqwest::Client,
    emulator_port: u16,
    listen_port: u16,
    stripe: Option<LocalStripe>,
    plan: Arc<Mutex<Plan>>,
}

/// localstripe, and what was answered under each idempotency key. One call with a key at a time: Stripe refuses a second.
#[derive(Clone)]
struct LocalStripe {
    port: u16,
    keyed: Arc<tokio::sync::Mutex<HashMap<String, Answered>>>,
}

#[derive(Clone)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[derive(Debug, Deserialize)]
struct Down {
    service: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut ports = std::env::args().skip(1).map(|port| port.parse::<u16>());
    let usage = "usage: fault-proxy LISTEN_PORT EMULATOR_PORT [LOCALSTRIPE_PORT]";
    let listen_port = ports.next().context(usage)??;
    let emulator_port = ports.next().context(usage)??;
    let stripe_port = ports.next().transpose()?;
    let proxy = Proxy {
        client: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?,
        emulator_port,
        listen_port,
        stripe: stripe_port.map(|port| LocalStripe { port, keyed: Arc::default() }),
        plan: Arc::default(),
    };
    let app = Router::new()
        .route("/__faults", post(arm).get(faults))
        .route("/__calls/{key}", get(calls).post(record))
        .route("/__chaos", post(set_chaos).get(chaos_struck))
        .route("/__down", post(set_down))
        .fallback(forward)
        .with_state(proxy);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen_port)).await?;
    axum::serve(listener, app.into_make_service_with_connect_info::<Peer>()).await?;
    Ok(())
}

/// The other end of one connection. Who it is is found out once: a process keeps its connections open.
#[derive(Clone)]
struct Peer {
    port: u16,
    caller: Arc<OnceLock<Option<Caller>>>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { port: stream.remote_addr().port(), caller: Arc::default() }
    }
}

async fn arm(State(proxy): State<Proxy>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    let mut plan = proxy.plan();
    for fault in faults {
        plan.watch(&fault.key);
        plan.faults.push(fault);
    }
    StatusCode::NO_CONTENT
}

async fn faults(State(proxy): State<Proxy>) -> Json<Vec<Fault>> {
    Json(proxy.plan().faults.clone())
}

async fn record(
    State(proxy): State<Proxy>,
    axum::extract::Path(key): axum::extract::Path<String>,
) -> StatusCode {
    proxy.plan().watch(&key);
    StatusCode::NO_CONTENT
}

async fn calls(
    State(proxy): State<Proxy>,
    axum::extract::Path(key): axum::extract::Path<String>,
) -> Json<Vec<Call>> {
    let calls = proxy.plan().calls.get(&key).cloned().unwrap_or_default();
    Json(calls.into_iter().map(|(call, _)| call).collect())
}

async fn set_chaos(State(proxy): State<Proxy>, Json(chaos): Json<Chaos>) -> StatusCode {
    proxy.plan().chaos = chaos;
    StatusCode::NO_CONTENT
}

async fn chaos_struck(State(proxy): State<Proxy>) -> Json<BTreeMap<&'static str, u64>> {
    Json(proxy.plan().chaos_struck.clone())
}

async fn set_down(State(proxy): State<Proxy>, Json(down): Json<Down>) -> StatusCode {
    proxy.plan().down = down.service;
    StatusCode::NO_CONTENT
}

async fn forward(
    State(proxy): State<Proxy>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let listen_port = proxy.listen_port;
    // Reading all of /proc is no work for the threads that answer.
    let known = tokio::task::spawn_blocking(move || {
        peer.caller.get_or_init(|| caller(peer.port, listen_port)).clone()
    });
    let caller = known.await.unwrap_or_default();
    let function = caller.as_ref().map_or("", |caller| caller.function.as_str());
    if let Some(stripe) = proxy.stripe.clone().filter(|_| is_for_stripe(&headers)) {
        return proxy.forward_to_stripe(&stripe, caller.as_ref(), method, uri, headers, body).await;
    }
    let operation = operation(&headers, &body);
    let invocation = headers
        .get("amz-sdk-invocation-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let text = String::from_utf8_lossy(&body).into_owned();
    let kind = proxy.plan().decide_fault(function, &operation, &invocation, &text);
    match kind {
        Some(Kind::Fail) => return broken(&operation),
        Some(Kind::KillBefore) => {
            kill(caller.as_ref());
            return broken(&operation);
        }
        Some(Kind::Cancel) => return cancelled(&text),
        Some(Kind::Partial) => return refused_entries(&operation, &text),
        Some(Kind::NotVerified) => return not_verified(),
        Some(Kind::Hang) => {
            tokio::time::sleep(HANG).await;
            return broken(&operation);
        }
        // It ends the task of this connection, and with it the connection, before a byte is answered.
        Some(Kind::Reset) => std::panic::resume_unwind(Box::new("reset on purpose")),
        _ => {}
    }
    let answer = proxy.pass_on(proxy.emulator_port, method, &uri, headers, body).await;
    let answer = answer.map(Answered::into_response);
    match kind {
        Some(Kind::Lose) => broken_off(),
        Some(Kind::KillAfter) => {
            kill(caller.as_ref());
            broken_off()
        }
        Some(Kind::Slow) => {
            tokio::time::sleep(SLOW).await;
            answer.unwrap_or_else(|_| broken_off())
        }
        _ => answer.unwrap_or_else(|error| {
            (StatusCode::BAD_GATEWAY, format!("the emulator is gone: {error}")).into_response()
        }),
    }
}

impl Proxy {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a call on to Stripe, unless chance breaks it.
    async fn forward_to_stripe(
        &self,
        stripe: &LocalStripe,
        caller: Option<&Caller>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let function = caller.map_or("", |caller| caller.function.as_str());
        // A call of Stripe's has one attempt, so it is known by itself.
        let call = uuid::Uuid::new_v4().to_string();
        let kind = self.plan().by_chance(function, STRIPE, &call);
        if matches!(kind, Some(Kind::KillBefore)) {
            kill(caller);
            return stripe_failed().into_response();
        }
        let fails = matches!(kind, Some(Kind::Fail));
        let key =
            headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let answer = match key {
            None if fails => Ok(stripe_failed()),
            None => self.pass_on(stripe.port, method, &without_age(&uri), headers, body).await,
            Some(key) => {
                let mut keyed = stripe.keyed.lock().await;
                match keyed.get(&key) {
                    Some(answered) => Ok(answered.clone()),
                    None => {
                        let answer = if fails {
                            Ok(stripe_failed())
                        } else {
                            self.pass_on(stripe.port, method, &uri, headers, body).await
                        };
                        if let Ok(answered) = &answer {
                            keyed.insert(key, answered.clone());
                        }
                        answer
                    }
                }
            }
        };
        match kind {
            Some(Kind::Lose) => broken_off(),
            Some(Kind::KillAfter) => {
                kill(caller);
                broken_off()
            }
            _ => answer.map_or_else(
                |error| {
                    (StatusCode::BAD_GATEWAY, format!("localstripe is gone: {error}"))
                        .into_response()
                },
                Answered::into_response,
            ),
        }
    }

    async fn pass_on(
        &self,
        port: u16,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answered, reqwest::Error> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("http://127.0.0.1:{port}{path}");
        let answer = self.client.request(method, url).headers(headers).body(body).send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        headers.remove("transfer-encoding");
        headers.remove("connection");
        Ok(Answered { status, headers, body })
    }
}

/// What chance calls a call of Stripe's.
const STRIPE: &str = "Stripe";

/// Calls of AWS are signed otherwise.
fn is_for_stripe(headers: &HeaderMap) -> bool {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    authorization.is_some_and(|value| value.starts_with("Bearer "))
}

/// localstripe knows no filter by age, and refuses one: without it the list is longer, and right.
fn without_age(uri: &Uri) -> Uri {
    let Some(query) = uri.query() else { return uri.clone() };
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "created[gte]");
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
    format!("{}?{query}", uri.path()).parse().unwrap_or_else(|_| uri.clone())
}

/// What Stripe answers when it fails. <https://docs.stripe.com/error-low-level#server-errors>
fn stripe_failed() -> Answered {
    let body = r#"{"error":{"type":"api_error","message":"broken on purpose"}}"#;
    let headers = HeaderMap::from_iter([(
        axum::http::header::CONTENT_TYPE,
        axum::http::HeaderValue::from_static("application/json"),
    )]);
    Answered { status: StatusCode::INTERNAL_SERVER_ERROR, headers, body: Bytes::from(body) }
}

impl Plan {
    fn watch(&mut self, key: &str) {
        self.aliases.entry(key.to_owned()).or_insert_with(|| HashSet::from([key.to_owned()]));
    }

    /// What is to be done to an attempt of a call.
    fn decide_fault(
        &mut self,
        function: &str,
        operation: &str,
        invocation: &str,
        text: &str,
    ) -> Option<Kind> {
        // The text is read once: looking in it for every known id takes seconds with a large event and many orders.
        let found: HashSet<String> = uuids(text).into_iter().collect();
        let keys: Vec<String> = self
            .aliases
            .iter()
            .filter(|(_, ids)| !found.is_disjoint(ids))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &keys {
            // Who counts events counts those of several orders in one transaction, and makes no id of its own.
            if operation == "TransactWriteItems"
                && !function.ends_with("analytics-consumer")
                && let Some(ids) = self.aliases.get_mut(key)
            {
                ids.extend(found.iter().cloned());
            }
            self.note(key, function, operation, invocation);
        }
        if self.down.as_deref().is_some_and(|service| service == self::service(operation)) {
            return Some(Kind::Fail);
        }
        let mut struck = None;
        // A call that has to do with several orders, as the relay's has, is struck for all of them.
        for fault in &mut self.faults {
            let is_due = |calls: &Vec<(Call, String)>| {
                calls.iter().any(|(call, by)| by == invocation && call.nth == fault.nth)
            };
            let meant = keys.contains(&fault.key)
                && fault.operation == operation
                && function.ends_with(&fault.function)
                && match &fault.invocation {
                    Some(by) => by == invocation,
                    None => self.calls.get(&fault.key).is_some_and(is_due),
                };
            // These are answered: what the function sends next is another call.
            let is_once = matches!(fault.kind, Kind::Cancel | Kind::Partial);
            if meant && !(is_once && fault.struck > 0) {
                fault.invocation = Some(invocation.to_owned());
                fault.struck += 1;
                struck = struck.or(Some(fault.kind));
            }
        }
        if struck.is_some() {
            return struck;
        }
        self.by_chance(function, operation, invocation)
    }

    fn note(&mut self, key: &str, function: &str, operation: &str, invocation: &str) {
        let calls = self.calls.entry(key.to_owned()).or_default();
        if calls.iter().any(|(_, by)| by == invocation) {
            return;
        }
        let same = |call: &Call| call.function == function && call.operation == operation;
        let nth = calls.iter().filter(|(call, _)| same(call)).count();
        let call = Call { function: function.to_owned(), operation: operation.to_owned(), nth };
        calls.push((call, invocation.to_owned()));
    }

    fn by_chance(&mut self, function: &str, operation: &str, invocation: &str) -> Option<Kind> {
        let chaos = self.chaos;
        // The tests' own calls are not in question, and without an id attempts cannot be distinguished.
        if function.is_empty() || invocation.is_empty() {
            return None;
        }
        let chance = hash(chaos.seed, invocation) % 1000;
        let (fail, lose) = (chaos.fail_permille, chaos.fail_permille + chaos.lose_permille);
        let kill = lose + chaos.kill_permille;
        let (name, kind) = match chance {
            chance if chance < fail => ("failed", Kind::Fail),
            chance if chance < lose => ("lost", Kind::Lose),
            chance if chance < kill && operation != "SendEmail" => {
                ("killed", if chance % 2 == 0 { Kind::KillBefore } else { Kind::KillAfter })
            }
            _ => return None,
        };
        *self.chaos_struck.entry(name).or_default() += 1;
        Some(kind)
    }
}

fn hash(seed: u64, text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (seed, text).hash(&mut hasher);
    hasher.finish()
}

/// The operation of a call: a header in the JSON protocols, a field of the body in the query protocol.
fn operation(headers: &HeaderMap, body: &[u8]) -> String {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    if let Some((_, operation)) = target.and_then(|target| target.rsplit_once('.')) {
        return operation.to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let fields: HashMap<&str, &str> =
        text.split('&').filter_map(|field| field.split_once('=')).collect();
    fields.get("Action").copied().unwrap_or_default().to_owned()
}

fn service(operation: &str) -> &'static str {
    match operation {
        "Publish" | "PublishBatch" => "sns",
        "SendEmail" => "ses",
        "SendMessage" | "ChangeMessageVisibility" => "sqs",
        _ => "dynamodb",
    }
}

/// All ids in a text that have the form of a UUID.
fn uuids(text: &str) -> Vec<String> {
    const LENGTH: usize = 36;
    let bytes = text.as_bytes();
    let is_uuid = |part: &[u8]| {
        part.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    bytes
        .windows(LENGTH)
        .filter(|part| is_uuid(part))
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

/// How late a slow answer comes: later than an attempt of the SDK lasts by default, sooner than an invocation ends.
const SLOW: Duration = Duration::from_secs(4);

/// How long a hanging connection stays open: longer than any client waits.
const HANG: Duration = Duration::from_secs(60);

/// An answer that ends before it is complete, as when a connection is reset.
fn broken_off() -> Response {
    let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let body = futures::stream::once(async move { Err::<Bytes, _>(reset()) });
    ([("content-length", "100")], Body::from_stream(body)).into_response()
}

/// What a service that is out of order answers. The SDK tries again.
fn broken(operation: &str) -> Response {
    if matches!(service(operation), "ses" | "sns") {
        let body = "<ErrorResponse><Error><Type>Receiver</Type><Code>InternalFailure</Code>\
                    <Message>broken on purpose</Message></Error></ErrorResponse>";
        let headers = [("content-type", "text/xml")];
        return (StatusCode::INTERNAL_SERVER_ERROR, headers, body).into_response();
    }
    let headers = [("content-type", "application/x-amz-json-1.0")];
    let body = r#"{"__type":"InternalServerError","message":"broken on purpose"}"#;
    (StatusCode::INTERNAL_SERVER_ERROR, headers, body).into_response()
}

/// What SES answers if the sender is not verified, or if in the sandbox the recipient is not.
/// <https://docs.aws.amazon.com/ses/latest/APIReference/API_SendEmail.html>
fn not_verified() -> Response {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>MessageRejected</Code><Message>Email address is not \
                verified. The following identities failed the check in region EU-CENTRAL-1: shop@example.com\
                </Message></Error></ErrorResponse>";
    (StatusCode::BAD_REQUEST, [("content-type", "text/xml")], body).into_response()
}

/// A cancellation that the emulators never make by themselves: a conflict on one item, and a failed
/// condition on the last, which would be believed if the conflict were not.
fn cancelled(text: &str) -> Response {
    let request: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let items = request["TransactItems"].as_array().map_or(2, Vec::len).max(2);
    let mut reasons = vec![serde_json::json!({ "Code": "None" }); items];
    reasons[0] = serde_json::json!({ "Code": "TransactionConflict", "Message": "Transaction is ongoing for the item" });
    // The last conditional step before the events: an order's stock, where there is any.
    let conditional = request["TransactItems"].as_array().and_then(|items| {
        items.iter().rposition(|item| {
            item["Update"]["ConditionExpression"].as_str().is_some_and(|c| c.contains("stock"))
        })
    });
    if let Some(place) = conditional {
        reasons[place] = serde_json::json!({ "Code": "ConditionalCheckFailed", "Message": "The conditional request failed" });
    }
    let body = serde_json::json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled, please refer cancellation reasons for specific reasons",
        "CancellationReasons": reasons,
    });
    let headers = [("content-type", "application/x-amz-json-1.0")];
    (StatusCode::BAD_REQUEST, headers, body.to_string()).into_response()
}

/// A batch's answer, which is a success and says of each entry that it was not carried out.
fn refused_entries(operation: &str, text: &str) -> Response {
    if operation == "BatchGetItem" {
        let request: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let unprocessed = &request["RequestItems"];
        let body = serde_json::json!({ "Responses": {}, "UnprocessedKeys": unprocessed });
        let headers = [("content-type", "application/x-amz-json-1.0")];
        return (headers, body.to_string()).into_response();
    }
    if operation == "BatchExecuteStatement" {
        let request: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let statements = request["Statements"].as_array().map_or(0, Vec::len);
        let failed = serde_json::json!({ "Error": { "Code": "InternalServerError" } });
        let body = serde_json::json!({ "Responses": vec![failed; statements] });
        let headers = [("content-type", "application/x-amz-json-1.0")];
        return (headers, body.to_string()).into_response();
    }
    let is_id =
        |name: &str| name.starts_with("PublishBatchRequestEntries.") && name.ends_with(".Id");
    let failed: String = form_urlencoded::parse(text.as_bytes())
        .filter(|(name, _)| is_id(name))
        .map(|(_, id)| {
            format!("<member><Id>{id}</Id><Code>InternalError</Code><SenderFault>false</SenderFault></member>")
        })
        .collect();
    let body = format!(
        "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
         <Successful/><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"
    );
    ([("content-type", "text/xml")], body).into_response()
}

/// The process that made a call.
#[derive(Debug, Clone)]
struct Caller {
    pid: u32,
    function: String,
}

/// Finds the process at the other end of a connection, through `/proc`: the socket's inode by its port, and
/// the process that holds this inode, or `None` if it is not a function's.
fn caller(peer_port: u16, listen_port: u16) -> Option<Caller> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!(":{peer_port:04X}"), format!(":{listen_port:04X}"));
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&local) && fields.get(2)?.ends_with(&remote))
            .then(|| fields.get(9).map(|i| (*i).to_owned()))?
    })?;
    let socket = format!("socket:[{inode}]");
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        // What runs functions runs a file of this name.
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if name.trim() != "bootstrap" {
            continue;
        }
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path())
                .is_ok_and(|link| link.as_os_str() == socket.as_str())
        });
        if holds {
            let environment = std::fs::read(process.path().join("environ")).ok()?;
            let environment = String::from_utf8_lossy(&environment).into_owned();
            let function = environment
                .split('\0')
                .find_map(|variable| variable.strip_prefix("AWS_LAMBDA_FUNCTION_NAME="))?;
            return Some(Caller { pid, function: function.to_owned() });
        }
    }
    None
}

fn kill(caller: Option<&Caller>) {
    if let Some(caller) = caller {
        // Through the command, so that the tests need no unsafe code; it knows no mercy either.
        let _ =
            std::process::Command::new("kill").args(["-KILL", &caller.pid.to_string()]).status();
    }
}
