//! An AWS endpoint: the simulated services behind a socket, in real time, without faults.
//!
//! In: a simulated AWS, and how long calls take ([`Delays`]). Out: a URL for `AWS_ENDPOINT_URL`, and the calls that came in.
//! Guarantee: a call is carried out when its delay has passed, and recorded whatever its answer is.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use simulated_aws::{Call, Service, SimulatedAws};

use crate::{
    calls::RecordedCall,
    http::{Answers, Request, Response, Server},
};

/// How long calls take besides what it takes to carry them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays {
    /// Reads and writes of single items.
    pub dynamodb: Duration,
    pub transaction: Duration,
    pub sns: Duration,
    pub sqs: Duration,
    pub ses: Duration,
}

impl Delays {
    /// None, to measure what the functions themselves use.
    pub const NONE: Self = Self::all(Duration::ZERO);
    /// What calls within a region take, about.
    pub const REGION: Self = Self {
        dynamodb: Duration::from_millis(5),
        transaction: Duration::from_millis(10),
        sns: Duration::from_millis(15),
        sqs: Duration::from_millis(10),
        ses: Duration::from_millis(30),
    };

    /// The same for all calls.
    #[must_use]
    pub const fn all(delay: Duration) -> Self {
        Self { dynamodb: delay, transaction: delay, sns: delay, sqs: delay, ses: delay }
    }

    fn of(self, call: &Call) -> Duration {
        match call.service() {
            Some(Service::DynamoDb) if call.operation().starts_with("Transact") => self.transaction,
            Some(Service::DynamoDb) => self.dynamodb,
            Some(Service::Sns) => self.sns,
            Some(Service::Sqs) => self.sqs,
            Some(Service::Ses) => self.ses,
            None => Duration::ZERO,
        }
    }
}

/// The endpoint, for as long as it is kept.
#[derive(Debug)]
pub struct AwsEndpoint {
    desk: Arc<Desk>,
    server: Server,
}

#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    aws: SimulatedAws,
    delays: Delays,
    calls: Vec<RecordedCall>,
}

impl AwsEndpoint {
    /// # Errors
    /// No port is free.
    pub async fn start(aws: SimulatedAws, delays: Delays) -> Result<Self> {
        let state = Mutex::new(State { aws, delays, calls: Vec::new() });
        let desk = Arc::new(Desk { state });
        Ok(Self { server: Server::start(desk.clone()).await?, desk })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The calls since this was last asked.
    #[must_use]
    pub fn take_calls(&self) -> Vec<RecordedCall> {
        std::mem::take(&mut self.desk.lock().calls)
    }

    /// From now on calls take this long.
    pub fn set_delays(&self, delays: Delays) {
        self.desk.lock().delays = delays;
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answers for Desk {
    async fn answer(&self, request: Request) -> Response {
        let begun = Instant::now();
        let call = Call::read(request.header("x-amz-target"), &request.body);
        let (aws, delay) = {
            let state = self.lock();
            (state.aws.clone(), state.delays.of(&call))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let answer = aws.answer(&call).await;
        let content_type = match call.service() {
            Some(Service::DynamoDb | Service::Sqs) => "application/x-amz-json-1.0",
            _ => "text/xml",
        };
        let mut headers = vec![("content-type", content_type.to_owned())];
        if let Some(error) = answer.query_error() {
            headers.push(("x-amzn-query-error", error));
        }
        let (operation, ended) = (call.operation().to_owned(), Instant::now());
        let recorded = RecordedCall { operation, status: answer.status, begun, ended };
        self.lock().calls.push(recorded);
        Response { status: answer.status, headers, body: answer.body }
    }
}
