//! An internal Lambda extension: it lets an environment go on after an answer, for a bounded time, and only then be frozen.
//!
//! In: the Extensions API, and which invocations have been answered. Out: the deferred work of each invocation is done after
//! its answer. Guarantees: an invocation whose work does not end in time is over all the same, well before its function's
//! time is up; where there is no such API, there is no extension ([`Extension::register`]).
//!
//! The invocation ends, and the environment is frozen, once the runtime and each extension have asked for the next event; until
//! then its time goes on, is billed, and is limited by the function's time-out. The caller has its answer before.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>

use std::time::Duration;

use axum::body::{Body, to_bytes};
use exactly_once::Clock;
use http::{HeaderName, HeaderValue, StatusCode};
use lambda_http::Error;
use lambda_runtime_api_client::{PooledClient, build_request};
use serde::Deserialize;
use tokio::sync::watch;

use crate::after_answer::{DeferredWork, time_left};

/// How long a process waits to hear whether it may register: nearly all of the ten seconds that Lambda gives it to begin. One
/// that has registered and has not heard of it would never be ready, because Lambda waits for all extensions.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(9);
/// Maximum size of an event of the Extensions API.
const EVENT_BYTES_MAX: usize = 64 * 1024;
const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");

/// The registered extension of this process.
pub(crate) struct Extension {
    client: PooledClient,
    identifier: HeaderValue,
}

/// The event of one invocation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invoke {
    request_id: String,
    deadline_ms: u64,
}

impl Extension {
    /// Registers for the event `INVOKE`. `None` if there is no Extensions API, or it refuses: the environment is then frozen
    /// as soon as an answer is given.
    pub(crate) async fn register(client: PooledClient) -> Option<Self> {
        let request = build_request()
            .method("POST")
            .uri("/2020-01-01/extension/register")
            .header(NAME, "after-answer")
            .body(r#"{"events":["INVOKE"]}"#.to_owned().into())
            .expect("a request of constants");
        let answered = tokio::time::timeout(REGISTER_TIMEOUT, client.call(request)).await;
        let identifier = match answered {
            Ok(Ok(answer)) if answer.status() == StatusCode::OK => {
                answer.headers().get(IDENTIFIER).cloned()
            }
            _ => None,
        };
        tracing::info!(registered = identifier.is_some(), "extension for work after answers");
        Some(Self { client, identifier: identifier? })
    }

    /// Does the deferred work of each invocation after its answer, until Lambda ends the process. `answered` has the request
    /// id of the invocation that was answered last.
    ///
    /// # Errors
    /// The Extensions API is gone.
    pub(crate) async fn run(
        self,
        mut work: DeferredWork,
        mut answered: watch::Receiver<String>,
        clock: Clock,
    ) -> Result<(), Error> {
        loop {
            let Invoke { request_id, deadline_ms } = self.next().await?;
            // Whether there ever is an answer or not, the next event is asked for in time.
            let answer = async { answered.wait_for(|id| *id == request_id).await.is_ok() };
            let is_answered = tokio::time::timeout(time_left(deadline_ms, &clock), answer).await;
            if is_answered == Ok(true) {
                work.finish(deadline_ms, &clock).await;
                telemetry::flush().await;
            }
        }
    }

    /// The next invocation: asked for, the last one is over.
    async fn next(&self) -> Result<Invoke, Error> {
        let request = build_request()
            .method("GET")
            .uri("/2020-01-01/extension/event/next")
            .header(IDENTIFIER, &self.identifier)
            .body(String::new().into())?;
        let (parts, body) = self.client.call(request).await?.into_parts();
        let body = to_bytes(Body::new(body), EVENT_BYTES_MAX).await?;
        if parts.status != StatusCode::OK {
            return Err(format!("the Extensions API answers with {}", parts.status).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::{TcpListener, TcpStream},
        sync::{
            Arc, Mutex, PoisonError,
            mpsc::{Receiver, RecvTimeoutError, Sender, channel},
        },
    };

    use super::*;
    use crate::AfterAnswer;

    /// How long a test waits for what has to come.
    const PATIENCE: Duration = Duration::from_secs(20);
    /// How long it waits for what must not come.
    const SILENCE: Duration = Duration::from_millis(100);

    /// An Extensions API. It answers a registration with this status, and each request for an event with one that the test
    /// gives, once there is one.
    struct Api {
        endpoint: http::Uri,
        requests: Receiver<String>,
        events: Sender<String>,
    }

    impl Api {
        fn begin(status: &'static str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let ((asked, requests), (events, next)) = (channel(), channel::<String>());
            let next = Arc::new(Mutex::new(next));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (asked, next) = (asked.clone(), next.clone());
                    std::thread::spawn(move || serve(&stream, status, &asked, &next));
                }
            });
            let endpoint = format!("http://{address}").parse().expect("an address");
            Self { endpoint, requests, events }
        }

        fn client(&self) -> PooledClient {
            PooledClient::builder().with_endpoint(self.endpoint.clone()).build()
        }

        fn wait_for(&self, request: &str) {
            let asked = self.requests.recv_timeout(PATIENCE).expect("a request in time");
            assert_eq!(asked, request);
        }

        fn invoke(&self, request_id: &str, time: Duration) {
            let deadline =
                Clock::default().now() + jiff::SignedDuration::try_from(time).expect("a time");
            let event = serde_json::json!({
                "eventType": "INVOKE",
                "deadlineMs": deadline.as_millisecond(),
                "requestId": request_id,
            });
            self.events.send(event.to_string()).expect("somebody asks");
        }
    }

    /// Answers the requests of one connection.
    fn serve(
        stream: &TcpStream,
        status: &str,
        asked: &Sender<String>,
        next: &Mutex<Receiver<String>>,
    ) -> Option<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
            let path = line.split(' ').nth(1)?.to_owned();
            while line.trim_end() != "" {
                line.clear();
                reader.read_line(&mut line).ok()?;
                let value = line.to_lowercase();
                if let Some(value) = value.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let path = path.trim_start_matches("/2020-01-01/extension/").to_owned();
            let is_registration = path == "register";
            asked.send(if is_registration { String::from_utf8(body).ok()? } else { path }).ok()?;
            let (status, body) = if is_registration {
                (status, String::new())
            } else {
                ("200 OK", next.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()?)
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nlambda-extension-identifier: id\r\n");
            let answer = format!("{head}content-length: {length}\r\n\r\n{body}");
            (&mut &*stream).write_all(answer.as_bytes()).ok()?;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_work_of_an_invocation_is_done_after_its_answer_and_before_the_next_is_asked_for() {
        let api = Api::begin("200 OK");
        let extension = Extension::register(api.client()).await.expect("registered");
        api.wait_for(r#"{"events":["INVOKE"]}"#);
        let (after_answer, work) = AfterAnswer::new(true);
        let (answer, answered) = watch::channel(String::new());
        tokio::spawn(extension.run(work, answered, Clock::default()));
        let (done, is_done) = channel();
        for request_id in ["one", "two"] {
            api.wait_for("event/next");
            api.invoke(request_id, Duration::from_secs(60));
            let done = done.clone();
            after_answer.defer(async move { done.send(()).expect("the test waits") });
            assert_eq!(is_done.recv_timeout(SILENCE), Err(RecvTimeoutError::Timeout));
            answer.send_replace(request_id.to_owned());
            is_done.recv_timeout(PATIENCE).expect("the work is done");
        }
        api.wait_for("event/next");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_invocation_that_is_never_answered_is_over_before_its_time_is_up() {
        let api = Api::begin("200 OK");
        let extension = Extension::register(api.client()).await.expect("registered");
        api.wait_for(r#"{"events":["INVOKE"]}"#);
        let (_after_answer, work) = AfterAnswer::new(true);
        let (_answer, answered) = watch::channel(String::new());
        tokio::spawn(extension.run(work, answered, Clock::default()));
        api.wait_for("event/next");
        let begun = tokio::time::Instant::now();
        api.invoke("one", Duration::from_secs(2));
        api.wait_for("event/next");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn where_an_extension_is_refused_or_unknown_there_is_none() {
        for status in ["403 Forbidden", "404 Not Found", "500 Internal Server Error"] {
            assert!(Extension::register(Api::begin(status).client()).await.is_none(), "{status}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let endpoint = format!("http://{address}").parse().expect("an address");
        // It takes the connection, and never answers.
        let client = PooledClient::builder().with_endpoint(endpoint).build();
        assert!(Extension::register(client).await.is_none());
    }
}
