//! Lambda around one function's process: the Runtime API and the Extensions API, as an execution environment has them.
//!
//! In: a command to run and events. Out: answers, and the moments at which the process was ready, had answered and was idle.
//! Guarantees: one invocation at a time; an invocation has ended only when the runtime and every extension of it ask for
//! the next event, as on Lambda, which freezes the environment then; the process ends with its environment.
//!
//! - <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>
//! - <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>

use std::{
    collections::BTreeMap,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::{sync::watch, time::timeout};

use crate::http::{Answers, Request, Response, Server};

/// The functions' time-out, as the template has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of bytes that are shown of what a function reports: a batch has a trace for each message.
const ERROR_BYTES_MAX: usize = 2000;
/// How long a process may take until it asks for its first event.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// One execution environment.
#[derive(Debug)]
pub struct Environment {
    process: Child,
    runtime: Arc<RuntimeApi>,
    _server: Server,
    started: Instant,
    ready: Instant,
}

/// What came of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub answer: String,
    /// When the event was handed over.
    pub begun: Instant,
    /// When the answer came in.
    pub answered: Instant,
    /// When the environment had nothing left to do.
    pub idle: Instant,
}

#[derive(Debug)]
struct RuntimeApi {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the invocation that is under way, or was the last.
    invocation: u64,
    event: String,
    begun: Option<Instant>,
    answer: Option<(Instant, Result<String, String>)>,
    /// The number of the last invocation that the runtime was given.
    runtime_given: u64,
    is_runtime_waiting: bool,
    extensions: BTreeMap<String, Extension>,
    idle: Option<Instant>,
}

#[derive(Debug, Default)]
struct Extension {
    takes_invocations: bool,
    /// The number of the last invocation that it was given.
    given: u64,
    is_waiting: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        let is_up_to_date = |extension: &Extension| {
            extension.is_waiting
                && (!extension.takes_invocations || extension.given == self.invocation)
        };
        self.is_runtime_waiting
            && self.runtime_given == self.invocation
            && self.extensions.values().all(is_up_to_date)
    }

    fn note_idle(&mut self) {
        if self.is_idle() && self.idle.is_none() {
            self.idle = Some(Instant::now());
        }
    }
}

impl Environment {
    /// Starts a process and waits until it asks for its first event. `command` has all of its environment but the address
    /// of the Runtime API.
    ///
    /// # Errors
    /// It cannot be started, or it fails before it asks.
    pub async fn start(mut command: Command) -> Result<Self> {
        let runtime = Arc::new(RuntimeApi { state: watch::Sender::default() });
        let server = Server::start(runtime.clone(), None).await?;
        command.env("AWS_LAMBDA_RUNTIME_API", server.address.to_string());
        let started = Instant::now();
        let program = command.get_program().to_owned();
        let process = command
            .spawn()
            .with_context(|| format!("cannot run {}: `make build` makes it", program.display()))?;
        // From here on it ends with this.
        let mut environment = Self { process, runtime, _server: server, started, ready: started };
        environment.ready = environment.idle(INIT_TIMEOUT).await?;
        Ok(environment)
    }

    /// How long the process took until it asked for its first event.
    #[must_use]
    pub fn time_to_ready(&self) -> Duration {
        self.ready - self.started
    }

    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Hands over an event and waits until it is answered and the environment idle.
    ///
    /// # Errors
    /// The function reports an error, dies or does not answer in time.
    pub async fn invoke(&mut self, event: impl Into<String>) -> Result<Invocation> {
        let (event, begun) = (event.into(), Instant::now());
        self.runtime.state.send_modify(|state| {
            state.invocation += 1;
            state.event = event;
            state.begun = Some(begun);
            state.answer = None;
            state.idle = None;
        });
        let idle = self.idle(TIMEOUT).await?;
        let answer = self.runtime.state.borrow().answer.clone();
        match answer {
            Some((answered, Ok(answer))) => Ok(Invocation { answer, begun, answered, idle }),
            Some((_, Err(mut error))) => {
                error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
                bail!("the function reports an error: {error}")
            }
            None => bail!("the function asks for the next event and has not answered"),
        }
    }

    /// Ends the process by SIGTERM, so that a tool around it can write what it has found, and waits for that.
    ///
    /// # Errors
    /// There is no `kill`.
    pub fn terminate(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        self.process.wait()?;
        Ok(())
    }

    /// Waits until nothing of it is under way; when that was.
    async fn idle(&mut self, patience: Duration) -> Result<Instant> {
        let mut state = self.runtime.state.subscribe();
        let waiting = timeout(patience, state.wait_for(|state| state.idle.is_some()));
        if let Ok(found) = waiting.await {
            return found?.idle.context("it is idle");
        }
        match self.process.try_wait()? {
            Some(status) => bail!("the function has ended: {status}"),
            None => bail!("the function is not idle after {patience:?}"),
        }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl RuntimeApi {
    async fn next_of_runtime(&self) -> Response {
        self.state.send_modify(|state| {
            state.is_runtime_waiting = true;
            state.note_idle();
        });
        let mut changes = self.state.subscribe();
        let is_new = |state: &State| state.invocation > state.runtime_given;
        if changes.wait_for(is_new).await.is_err() {
            return Response::json(500, "{}");
        }
        let mut response = Response::json(200, "");
        self.state.send_modify(|state| {
            state.is_runtime_waiting = false;
            state.runtime_given = state.invocation;
            response = Response {
                status: 200,
                headers: vec![
                    ("content-type", "application/json".to_owned()),
                    ("lambda-runtime-aws-request-id", request_id(state.invocation)),
                    ("lambda-runtime-deadline-ms", deadline_ms().to_string()),
                    ("lambda-runtime-invoked-function-arn", FUNCTION_ARN.to_owned()),
                    ("lambda-runtime-trace-id", TRACE_ID.to_owned()),
                ],
                body: state.event.clone(),
            };
        });
        response
    }

    fn register(&self, request: &Request) -> Response {
        let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut events = asked["events"].as_array().into_iter().flatten();
        let takes_invocations = events.any(|event| event == "INVOKE");
        let mut id = String::new();
        self.state.send_modify(|state| {
            id = format!("extension-{}", state.extensions.len() + 1);
            let given = state.invocation;
            let extension = Extension { takes_invocations, given, is_waiting: false };
            state.extensions.insert(id.clone(), extension);
        });
        let mut response = Response::json(
            200,
            json!({ "functionName": "f", "functionVersion": "1", "handler": "h" }),
        );
        response.headers.push(("lambda-extension-identifier", id));
        response
    }

    async fn next_of_extension(&self, request: &Request) -> Response {
        let id = request.header("lambda-extension-identifier").unwrap_or_default().to_owned();
        self.state.send_modify(|state| {
            if let Some(extension) = state.extensions.get_mut(&id) {
                extension.is_waiting = true;
            }
            state.note_idle();
        });
        let mut changes = self.state.subscribe();
        let is_new = |state: &State| {
            state.extensions.get(&id).is_none_or(|extension| {
                extension.takes_invocations && state.invocation > extension.given
            })
        };
        if changes.wait_for(is_new).await.is_err() {
            return Response::json(500, "{}");
        }
        let mut response =
            Response::json(403, json!({ "errorType": "Extension.UnknownIdentifier" }));
        self.state.send_modify(|state| {
            let invocation = state.invocation;
            if let Some(extension) = state.extensions.get_mut(&id) {
                extension.is_waiting = false;
                extension.given = invocation;
                let event = json!({
                    "eventType": "INVOKE",
                    "deadlineMs": deadline_ms(),
                    "requestId": request_id(invocation),
                    "invokedFunctionArn": FUNCTION_ARN,
                    "tracing": { "type": "X-Amzn-Trace-Id", "value": TRACE_ID },
                });
                response = Response::json(200, event);
            }
        });
        response
    }

    fn answered(&self, answer: Result<String, String>) -> Response {
        let now = Instant::now();
        self.state.send_modify(|state| state.answer = Some((now, answer)));
        Response::json(202, json!({ "status": "OK" }))
    }
}

const FUNCTION_ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const TRACE_ID: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";

fn request_id(invocation: u64) -> String {
    format!("00000000-0000-4000-8000-{invocation:012}")
}

fn deadline_ms() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now + TIMEOUT).as_millis()
}

impl Answers for RuntimeApi {
    async fn answer(&self, request: Request) -> Response {
        let path: Vec<_> = request.path.trim_start_matches('/').split('/').collect();
        let body = || String::from_utf8_lossy(&request.body).into_owned();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["2018-06-01", "runtime", "invocation", "next"]) => {
                self.next_of_runtime().await
            }
            ("POST", ["2018-06-01", "runtime", "invocation", _, "response"]) => {
                self.answered(Ok(body()))
            }
            ("POST", ["2018-06-01", "runtime", "invocation", _, "error"]) => {
                self.answered(Err(body()))
            }
            ("POST", ["2018-06-01", "runtime", "init", "error"]) => self.answered(Err(body())),
            ("POST", ["2020-01-01", "extension", "register"]) => self.register(&request),
            ("GET", ["2020-01-01", "extension", "event", "next"]) => {
                self.next_of_extension(&request).await
            }
            _ => Response::json(404, json!({ "path": request.path })),
        }
    }
}
