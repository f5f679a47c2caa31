//! An AWS endpoint: the simulated services behind a socket, in real time, without faults.
//!
//! In: a simulated AWS, and when calls are answered ([`Pace`]). Out: a URL for `AWS_ENDPOINT_URL`, and the calls that came in.
//! Guarantees: a call is carried out when its time has come, and recorded whatever its answer is; in rounds, calls that do not
//! wait for each other overlap on any machine, however busy.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use simulated_aws::{Call, Service, SimulatedAws};
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use crate::{
    calls::RecordedCall,
    http::{Answers, Request, Response, Server},
    process::is_waiting,
    tls::Authority,
};

/// How often it is looked whether a round has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How often in a row nothing may be seen to happen before a round has ended.
const LOOKS: usize = 4;

/// When calls are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pace {
    /// Each after its delay.
    Delayed(Delays),
    /// All together, when these processes wait for nothing but answers.
    Rounds(Vec<u32>),
}

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
            // Nothing that is measured calls these.
            Some(Service::SecretsManager | Service::External) | None => Duration::ZERO,
        }
    }
}

/// The endpoint, for as long as it is kept.
#[derive(Debug)]
pub struct AwsEndpoint {
    backend: Arc<Backend>,
    server: Server,
    rounds: Option<AbortHandle>,
}

impl Drop for AwsEndpoint {
    fn drop(&mut self) {
        self.end_rounds();
    }
}

#[derive(Debug)]
struct Backend {
    state: Mutex<State>,
    /// Number of rounds that have ended.
    ended_rounds: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    aws: SimulatedAws,
    pace: Pace,
    calls: Vec<RecordedCall>,
    /// Number of calls that have come in.
    arrived: u64,
}

impl AwsEndpoint {
    /// # Errors
    /// No port is free.
    pub async fn start(aws: SimulatedAws, delays: Delays) -> Result<Self> {
        let pace = Pace::Delayed(delays);
        let state = Mutex::new(State { aws, pace, calls: Vec::new(), arrived: 0 });
        let backend = Arc::new(Backend { state, ended_rounds: watch::Sender::default() });
        Ok(Self { server: Server::start(backend.clone(), None).await?, backend, rounds: None })
    }

    /// The same AWS once more, behind TLS.
    ///
    /// # Errors
    /// No port is free.
    pub async fn with_tls(&self, authority: &Authority) -> Result<Self> {
        let backend = self.backend.clone();
        let server = Server::start(backend.clone(), Some(authority.acceptor())).await?;
        Ok(Self { server, backend, rounds: None })
    }

    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.server.is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.server.address)
    }

    #[must_use]
    pub fn aws(&self) -> SimulatedAws {
        self.backend.lock().aws.clone()
    }

    /// From now on calls go to another AWS: one that has grown for long takes memory and time.
    pub fn replace_aws(&self, aws: SimulatedAws) {
        self.backend.lock().aws = aws;
    }

    /// The calls since this was last asked.
    #[must_use]
    pub fn take_calls(&self) -> Vec<RecordedCall> {
        std::mem::take(&mut self.backend.lock().calls)
    }

    /// From now on calls are answered so.
    pub fn set_pace(&mut self, pace: Pace) {
        self.end_rounds();
        if let Pace::Rounds(processes) = &pace {
            let (backend, processes) = (self.backend.clone(), processes.clone());
            let rounds = tokio::spawn(async move { backend.end_rounds(&processes).await });
            self.rounds = Some(rounds.abort_handle());
        }
        self.backend.lock().pace = pace;
    }

    fn end_rounds(&mut self) {
        if let Some(rounds) = self.rounds.take() {
            rounds.abort();
        }
    }
}

impl Backend {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends rounds, one after the other, as long as it runs.
    async fn end_rounds(&self, processes: &[u32]) {
        let (mut arrived, mut quiet_looks) = (0, 0);
        loop {
            sleep(LOOK).await;
            let now = self.lock().arrived;
            let is_quiet = now == arrived && processes.iter().all(|process| is_waiting(*process));
            quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
            arrived = now;
            if quiet_looks == LOOKS {
                quiet_looks = 0;
                self.ended_rounds.send_modify(|ended| *ended += 1);
            }
        }
    }

    async fn wait_for_turn(&self, call: &Call) {
        // Before the call counts as arrived, so that no end of a round is missed.
        let mut round = self.ended_rounds.subscribe();
        let delay = {
            let mut state = self.lock();
            state.arrived += 1;
            match &state.pace {
                Pace::Delayed(delays) => Some(delays.of(call)),
                Pace::Rounds(_) => None,
            }
        };
        match delay {
            Some(Duration::ZERO) => {}
            Some(delay) => sleep(delay).await,
            // It cannot be closed while this is there.
            None => drop(round.changed().await),
        }
    }
}

impl Answers for Backend {
    async fn answer(&self, request: Request) -> Response {
        let begun = Instant::now();
        let call = Call::read(request.header("x-amz-target"), &request.body);
        self.wait_for_turn(&call).await;
        let aws = self.lock().aws.clone();
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

#[cfg(test)]
mod tests {
    use anyhow::ensure;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::calls::sequential_depth;

    async fn call(endpoint: &AwsEndpoint) -> Result<()> {
        let mut stream = TcpStream::connect(endpoint.server.address).await?;
        let request = "POST / HTTP/1.1\r\nx-amz-target: DynamoDB_20120810.GetItem\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        ensure!(&answer == b"HTTP/1.1 400", "{}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    #[tokio::test]
    async fn calls_that_do_not_wait_for_each_other_are_answered_in_one_round() -> Result<()> {
        let mut endpoint = AwsEndpoint::start(SimulatedAws::prompt(0), Delays::NONE).await?;
        endpoint.set_pace(Pace::Rounds(Vec::new()));
        let later = async {
            sleep(2 * LOOK).await;
            call(&endpoint).await
        };
        let (first, second) = tokio::join!(call(&endpoint), later);
        first.and(second)?;
        call(&endpoint).await?;
        let calls = endpoint.take_calls();
        assert_eq!((calls.len(), sequential_depth(&calls)), (3, 2));
        Ok(())
    }
}
