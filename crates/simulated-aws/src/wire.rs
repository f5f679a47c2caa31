//! HTTP between a client and the simulated AWS, and what goes wrong on the way.
//!
//! In: requests of the SDK. Out: answers, late, lost or none. Guarantee: each request is served in a task of its own, so that
//! one whose client has given up may still be carried out, as on AWS.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::json;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Environment, SimulatedAws, dynamodb, external, mail,
    observer::{Attempt, Call},
    secrets, sns, sqs,
};

/// A service that may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Its tables.
    DynamoDb,
    /// Publishing.
    Sns,
    /// Sending, and changing visibility. What is on the queues is still received.
    Sqs,
    /// Mails.
    Ses,
    /// Secrets.
    SecretsManager,
    /// What is not AWS ([`SimulatedAws::serve_host`]).
    External,
}

/// How many of a thousand attempts at calls go wrong, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Fail before they are carried out, with a server's error.
    pub fail: u64,
    /// Are carried out, and the connection breaks before the answer.
    pub lose: u64,
    /// Are carried out at once, and answered after four seconds.
    pub slow: u64,
    /// Are carried out four to eight seconds later, when the client has given up.
    pub late: u64,
    /// Are neither carried out nor answered.
    pub hang: u64,
    /// Kill the calling environment before they are carried out.
    pub kill_before: u64,
    /// Are carried out, and kill the calling environment.
    pub kill_after: u64,
    /// Of a batch, entries that fail by themselves.
    pub partial: u64,
    /// Of messages, those that are delivered twice, and of deleted ones those that come once more.
    pub duplicate: u64,
    /// Of mails, those that SES refuses for a reason that passes: it is throttled, paused or not in order.
    pub mail: u64,
}

/// What goes wrong with one attempt at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// See [`Faults::fail`].
    Fail,
    /// See [`Faults::lose`].
    Lose,
    /// See [`Faults::slow`].
    Slow,
    /// See [`Faults::late`].
    Late,
    /// See [`Faults::hang`].
    Hang,
    /// See [`Faults::kill_before`].
    KillBefore,
    /// See [`Faults::kill_after`].
    KillAfter,
}

/// For how long a planned fault strikes the same call again: the SDK's attempts at a call are over by then.
const PLANNED_FAULT_LASTS: Duration = Duration::from_secs(10);

/// A fault of one call, which is known by its first attempt.
#[derive(Debug)]
pub(crate) struct PlannedFault {
    attempt: u64,
    fault: Fault,
    /// The environment, the call's digest and the end, once it has struck.
    struck: Option<(u64, u64, Instant)>,
}

impl Fault {
    /// What a reader of the story has to know beyond the answer.
    fn effect(self) -> &'static str {
        match self {
            Self::Lose => " (the answer is lost)",
            Self::Slow => " (answered after 4 s)",
            Self::Late => " (carried out late, and nobody hears of it)",
            Self::KillAfter => " (the environment dies)",
            Self::None | Self::Fail | Self::Hang | Self::KillBefore => "",
        }
    }
}

const SLOW: Duration = Duration::from_secs(4);

/// An answer in the making.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its HTTP status.
    pub status: u16,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// What stands in the header `x-amzn-query-error` of an error of SQS; `None` if it is none.
    #[must_use]
    pub fn query_error(&self) -> Option<String> {
        if self.status >= 400 { sqs::query_error(self) } else { None }
    }

    pub(crate) fn ok(body: impl ToString) -> Self {
        Self { status: 200, body: body.to_string() }
    }

    /// An error of a service that speaks JSON.
    pub(crate) fn json_error(status: u16, code: &str, message: &str) -> Self {
        Self { status, body: json!({ "__type": code, "message": message }).to_string() }
    }

    /// An error of a service that speaks XML.
    pub(crate) fn xml_error(status: u16, code: &str, message: &str) -> Self {
        let fault = if status < 500 { "Sender" } else { "Receiver" };
        let body = format!(
            "<ErrorResponse><Error><Type>{fault}</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        Self { status, body }
    }
}

impl Call {
    /// Reads a request by its header `x-amz-target` and its body.
    #[must_use]
    pub fn read(target: Option<&str>, body: &[u8]) -> Self {
        if let Some(target) = target {
            let json = serde_json::from_slice(body).unwrap_or_default();
            return match target.split_once('.') {
                Some(("DynamoDB_20120810", operation)) => {
                    Self::DynamoDb(operation.to_owned(), json)
                }
                Some(("AmazonSQS", operation)) => Self::Sqs(operation.to_owned(), json),
                Some(("secretsmanager", operation)) => {
                    Self::SecretsManager(operation.to_owned(), json)
                }
                _ => Self::Unknown(target.to_owned()),
            };
        }
        let form: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        match form.iter().find(|(name, _)| name == "Version").map(|(_, version)| version.as_str()) {
            Some("2010-03-31") => Self::Sns(form),
            Some("2010-12-01") => Self::Ses(form),
            _ => Self::Unknown("a form of no known version".to_owned()),
        }
    }

    /// The service that is called, or `None` if nobody here serves it.
    #[must_use]
    pub fn service(&self) -> Option<Service> {
        match self {
            Self::DynamoDb(..) => Some(Service::DynamoDb),
            Self::Sqs(..) => Some(Service::Sqs),
            Self::Sns(_) => Some(Service::Sns),
            Self::Ses(_) => Some(Service::Ses),
            Self::SecretsManager(..) => Some(Service::SecretsManager),
            Self::External(_) => Some(Service::External),
            Self::Unknown(_) => None,
        }
    }

    /// The name of the operation, as AWS's pages have it.
    #[must_use]
    pub fn operation(&self) -> &str {
        match self {
            Self::DynamoDb(operation, _)
            | Self::Sqs(operation, _)
            | Self::SecretsManager(operation, _) => operation,
            Self::External(call) => &call.path,
            Self::Sns(form) | Self::Ses(form) => {
                let action = form.iter().find(|(name, _)| name == "Action");
                action.map(|(_, action)| action.as_str()).unwrap_or_default()
            }
            Self::Unknown(what) => what,
        }
    }

    /// A digest of what is called: the SDK writes the fields of maps in any order.
    fn digest(&self) -> u64 {
        match self {
            Self::DynamoDb(operation, body)
            | Self::Sqs(operation, body)
            | Self::SecretsManager(operation, body) => digest_of((operation, digest_of_json(body))),
            Self::Sns(form) | Self::Ses(form) => {
                form.iter().map(|(_, value)| digest_of(value)).fold(0, u64::wrapping_add)
            }
            Self::External(call) => digest_of(call),
            Self::Unknown(what) => digest_of(what),
        }
    }

    /// What is called, for a reader.
    fn gist(&self) -> String {
        match self {
            Self::DynamoDb(operation, body)
            | Self::Sqs(operation, body)
            | Self::SecretsManager(operation, body) => {
                format!("{operation} {body}")
            }
            Self::Sns(form) | Self::Ses(form) => {
                let field = |wanted: &str| {
                    let mut fields = form.iter().filter(|(name, _)| name.ends_with(wanted));
                    fields.next().map(|(_, value)| value.as_str()).unwrap_or_default()
                };
                let messages = form.iter().filter(|(name, _)| {
                    name.ends_with(".Message") || name == "Message.Subject.Data"
                });
                let messages: Vec<_> = messages.map(|(_, value)| value.as_str()).collect();
                format!("{} {}", field("Action"), messages.join(" "))
            }
            Self::External(call) => format!("{} {} {}", call.method, call.path, call.body),
            Self::Unknown(what) => what.clone(),
        }
    }
}

fn digest_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The same for the same fields in any order.
pub(crate) fn digest_of_json(json: &serde_json::Value) -> u64 {
    match json {
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| digest_of((name, digest_of_json(value))))
            .fold(1, u64::wrapping_add),
        serde_json::Value::Array(values) => {
            digest_of(values.iter().map(digest_of_json).collect::<Vec<_>>())
        }
        serde_json::Value::String(text) => digest_of(text),
        value => digest_of(value.to_string()),
    }
}

fn read(request: &HttpRequest) -> Call {
    let body = request.body().bytes().unwrap_or_default();
    if let Some(call) = external::read(request, body) {
        return Call::External(call);
    }
    match Call::read(request.headers().get("x-amz-target"), body) {
        Call::Unknown(_) if request.headers().get("x-amz-target").is_none() => {
            Call::Unknown(format!("{} {}", request.method(), request.uri()))
        }
        call => call,
    }
}

impl SimulatedAws {
    /// Breaks the call whose first attempt has this number ([`crate::Step`]): it and what the SDK tries again of it, whatever
    /// else goes wrong.
    pub fn plan_fault(&self, attempt: u64, fault: Fault) {
        self.lock().planned_fault = Some(PlannedFault { attempt, fault, struck: None });
    }

    fn planned_fault(&self, attempt: u64, environment: u64, call: &Call) -> Option<Fault> {
        let mut state = self.lock();
        let planned = state.planned_fault.as_mut()?;
        if attempt == planned.attempt {
            let until = Instant::now() + PLANNED_FAULT_LASTS;
            planned.struck = Some((environment, call.digest(), until));
        }
        let is_same = |(by, digest, until): (u64, u64, Instant)| {
            by == environment && Instant::now() < until && digest == call.digest()
        };
        planned.struck.is_some_and(is_same).then_some(planned.fault)
    }

    /// Carries out a call and answers it, without anything that goes wrong on the way.
    pub async fn answer(&self, call: &Call) -> Answer {
        self.lock().calls += 1;
        carry_out(self, call).await
    }
}

async fn carry_out(aws: &SimulatedAws, call: &Call) -> Answer {
    match call {
        Call::DynamoDb(operation, body) => dynamodb::serve(aws, operation, body).await,
        Call::Sqs(operation, body) => sqs::serve(aws, operation, body).await,
        Call::Sns(form) => sns::serve(aws, form),
        Call::Ses(form) => mail::serve(aws, form),
        Call::SecretsManager(operation, body) => secrets::serve(aws, operation, body),
        Call::External(call) => external::serve(aws, call, false),
        Call::Unknown(what) => Answer::json_error(501, "NotImplemented", what),
    }
}

#[derive(Debug, Clone)]
struct Connector(Environment);

/// The HTTP client of an environment.
pub(crate) fn client(environment: Environment) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector(environment));
    http_client_fn(move |_, _| connector.clone())
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (sender, receiver) = oneshot::channel();
        let (call, environment) = (read(&request), self.0.clone());
        tokio::spawn(serve(environment, call, sender));
        HttpConnectorFuture::new(async move {
            // Until a request is sent to its end, the SDK takes a long wait for an upload that has stalled.
            let _ = ByteStream::new(request.into_body()).collect().await;
            let answer = receiver.await.map_err(|_| {
                ConnectorError::io(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
            })?;
            let status = answer.status.try_into().map_err(|error| {
                ConnectorError::other(Box::<dyn std::error::Error + Send + Sync>::from(error), None)
            })?;
            let query_error = answer.query_error();
            let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
            if let Some(error) = query_error {
                response.headers_mut().insert("x-amzn-query-error", error);
            }
            Ok(response)
        })
    }
}

async fn serve(environment: Environment, call: Call, sender: oneshot::Sender<Answer>) {
    // What a frozen environment was about to call it calls when it goes on.
    environment.thawed().await;
    if environment.is_dead() {
        return forget(sender).await;
    }
    let aws = environment.aws.clone();
    let mut attempt = Attempt::begin(&aws, environment.number, &call);
    let (fault, latency, late) = draw(&aws);
    let fault = aws.planned_fault(attempt.number(), environment.number, &call).unwrap_or(fault);
    tokio::time::sleep(latency).await;
    if let Some(refusal) = refusal_of_absent(&aws, &call) {
        let Some(answer) = refusal else { return forget(sender).await };
        note(&environment, &call, &answer, " (it is away)");
        if sender.send(answer).is_ok() {
            attempt.heard();
        }
        return;
    }
    match fault {
        Fault::Hang => return forget(sender).await,
        Fault::KillBefore => {
            environment.die();
            return forget(sender).await;
        }
        // What hears nobody's answer: its client has timed out by then, or is dead.
        Fault::Late => tokio::time::sleep(late).await,
        _ => {}
    }
    let answer = match (&call, fault) {
        (Call::DynamoDb(..) | Call::Sqs(..) | Call::SecretsManager(..), Fault::Fail) => {
            Answer::json_error(500, "InternalServerError", "a fault of the simulation")
        }
        (Call::Sns(_) | Call::Ses(_), Fault::Fail) => {
            Answer::xml_error(500, "InternalFailure", "a fault of the simulation")
        }
        // Only the service knows what its failure has done.
        (Call::External(call), Fault::Fail) => external::serve(&aws, call, true),
        (call, _) => carry_out(&aws, call).await,
    };
    attempt.carried_out(environment.number, &call, answer.status, &answer.body);
    note(&environment, &call, &answer, fault.effect());
    match fault {
        Fault::Lose => return,
        Fault::KillAfter => {
            environment.die();
            return forget(sender).await;
        }
        Fault::Slow => tokio::time::sleep(SLOW).await,
        _ => {}
    }
    // Nobody may be there any more to hear it.
    if sender.send(answer).is_ok() {
        attempt.heard();
    }
}

/// What a service that is away makes of a call: an answer, or silence. `None` if it is there.
///
/// SES only refuses: a send without an answer may have sent, and three of those rightly end on the DLQ.
fn refusal_of_absent(aws: &SimulatedAws, call: &Call) -> Option<Option<Answer>> {
    let mut state = aws.lock();
    let service = call.service().filter(|service| state.away.contains(service))?;
    let is_silent = service != Service::Ses && state.random.u64(0..4) == 0;
    let answer = match service {
        Service::DynamoDb | Service::Sqs | Service::SecretsManager | Service::External => {
            Answer::json_error(503, "ServiceUnavailable", "it is away")
        }
        Service::Sns | Service::Ses => Answer::xml_error(503, "ServiceUnavailable", "it is away"),
    };
    Some((!is_silent).then_some(answer))
}

/// Adds a call to the digest: two runs of a seed must not differ in any. And to the story, if that is kept.
fn note(environment: &Environment, call: &Call, answer: &Answer, effect: &str) {
    let at = environment.aws.begun.elapsed();
    let mut state = environment.aws.lock();
    state.trace =
        digest_of((state.trace, at, environment.number, call.digest(), answer.status, effect));
    if let Some(story) = &mut state.story {
        let what = format!("{} -> {} {}{effect}", call.gist(), answer.status, answer.body);
        story.push(Moment { at, environment: environment.number, what });
    }
}

/// One line of a run's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, in virtual time since the run began.
    pub at: Duration,
    /// The number of the execution environment; 0 is the simulation itself.
    pub environment: u64,
    /// What was called and answered, or what happened.
    pub what: String,
}

/// Keeps the connection open without a word until its client has gone.
async fn forget(mut sender: oneshot::Sender<Answer>) {
    sender.closed().await;
}

fn draw(aws: &SimulatedAws) -> (Fault, Duration, Duration) {
    let mut state = aws.lock();
    state.calls += 1;
    let faults = state.faults;
    let latency = Duration::from_millis(state.random.u64(1..25));
    let late = Duration::from_millis(state.random.u64(4000..8000));
    let mut left = state.random.u64(0..1000);
    let kinds = [
        (faults.fail, Fault::Fail),
        (faults.lose, Fault::Lose),
        (faults.slow, Fault::Slow),
        (faults.late, Fault::Late),
        (faults.hang, Fault::Hang),
        (faults.kill_before, Fault::KillBefore),
        (faults.kill_after, Fault::KillAfter),
    ];
    for (permille, fault) in kinds {
        if left < permille {
            return (fault, latency, late);
        }
        left -= permille;
    }
    (Fault::None, latency, late)
}
