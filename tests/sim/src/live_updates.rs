//! Customers who follow their orders over WebSockets, whatever happens to the functions and the connections in between.
//!
//! In: a seed, and what goes wrong while orders move on. Out: what each customer has seen, and what became of connections that
//! said nothing. The functions are the production ones; what is simulated of API Gateway is where connections are.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-overview.html>
//!
//! - What is posted to a connection that is open comes on it; to one that is closed, it is answered with 410.
//! - A call that fails may have sent its message.
//! - `$disconnect` comes late or not at all: "best effort".

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::{error::ProvideErrorMetadata, types::AttributeValue};
use events::{Body, Event, OrderId};
use exactly_once::Ids;
use order::{order_token::OrderTokens, rules::Status};
use push::{
    protocol::{SilenceCheck, Update},
    websocket::WebSocketEvent,
    wiring::{PushApiConfig, PushConsumerConfig},
};
use serde_json::{Value, json};
use simulated_aws::{Answer, ExternalCall, Faults, QueueSettings, Received, SimulatedAws, Table};
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

use crate::{RUN_MAX, in_virtual_time, lambda::TIMEOUT, shop::VISIBILITY_TIMEOUT};

const HOST: &str = "connections.invalid";
const ORDERS: &str = "orders";
const CONNECTIONS: &str = "connections";
const QUEUE: &str = "push";
const SECRET: &str = "the-secret-of-the-simulated-shop-that-signs";
/// For how long something goes wrong.
const FAULTS_TIME: Duration = Duration::from_secs(10 * 60);
/// Between two changes of an order, at most.
const STEP_MS_MAX: u64 = 20_000;
/// How late an event comes on the queue.
const EVENT_LATE_MS: std::ops::Range<u64> = 10..5_000;
/// How soon after a move was announced it is made, and somebody begins to watch.
const AROUND_A_MOVE_MS: std::ops::Range<u64> = 0..300;
/// How long somebody waits for a move before he begins to watch: less than silence may last.
const SILENCE_SOME: Duration = Duration::from_secs(8);
/// How long a customer waits for the state before he connects again.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);
/// How long after the last fault everything has come: the visibility timeout and the longest pause of the schedule, more than twice.
const SETTLING: Duration = Duration::from_secs(5 * 60);
const ORDERS_COUNT: usize = 3;
const CUSTOMERS_OF_AN_ORDER: usize = 3;
const SILENT_COUNT: usize = 3;

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveReport {
    /// Number of connections that were answered with the state.
    pub sessions: usize,
    /// Number of them in which a change came after the state.
    pub followed: usize,
    /// Number of messages that a customer dropped, because they were not newer.
    pub dropped: usize,
    /// How long connections that said nothing were open.
    pub silences: Vec<Duration>,
}

/// The connections as API Gateway has them. Clones are the same.
#[derive(Debug, Clone)]
struct WebSockets {
    aws: SimulatedAws,
    /// What came on each; `None` once it is closed.
    open: Arc<Mutex<BTreeMap<String, Option<Vec<Value>>>>>,
}

impl WebSockets {
    fn new(aws: &SimulatedAws) -> Self {
        let sockets = Self { aws: aws.clone(), open: Arc::default() };
        let served = sockets.clone();
        aws.serve_host(HOST, move |call, is_failing| served.serve(call, is_failing));
        sockets
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Vec<Value>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, call: &ExternalCall, is_failing: bool) -> Answer {
        let id = call.path.rsplit('/').next().unwrap_or_default();
        let error = |status, code: &str| Answer {
            status,
            body: json!({ "__type": code, "message": code }).to_string(),
        };
        if is_failing && self.aws.draw(0..2) == 0 {
            return error(500, "InternalServerException");
        }
        let mut open = self.lock();
        let Some(inbox) = open.get_mut(id).filter(|inbox| inbox.is_some()) else {
            return error(410, "GoneException");
        };
        match (call.method.as_str(), inbox.as_mut()) {
            ("POST", Some(messages)) => {
                messages.push(serde_json::from_str(&call.body).expect("JSON"));
            }
            ("DELETE", _) => *inbox = None,
            _ => return error(400, "BadRequestException"),
        }
        if is_failing {
            return error(500, "InternalServerException");
        }
        Answer { status: 200, body: String::new() }
    }

    fn open(&self, id: &str) {
        self.lock().insert(id.to_owned(), Some(Vec::new()));
    }

    fn close(&self, id: &str) {
        self.lock().insert(id.to_owned(), None);
    }

    /// What came since the last look, or `None` if it is closed.
    fn take(&self, id: &str) -> Option<Vec<Value>> {
        self.lock().get_mut(id)?.as_mut().map(std::mem::take)
    }
}

/// The world of a run. Clones are the same.
#[derive(Clone)]
struct World {
    aws: SimulatedAws,
    config: SdkConfig,
    ids: Ids,
    sockets: WebSockets,
    tokens: OrderTokens,
    queue_url: String,
    dlq_url: String,
    /// An order is about to move on.
    moves: Rc<Notify>,
}

impl World {
    fn variables(&self) -> HashMap<String, String> {
        let endpoint = format!("http://{HOST}/v1");
        let variables = [
            ("CONNECTIONS_TABLE", CONNECTIONS),
            ("ORDERS_TABLE", ORDERS),
            ("IDEMPOTENCY_TABLE", "none"),
            ("CONNECTIONS_ENDPOINT", &endpoint),
            ("PUSH_QUEUE_URL", &self.queue_url),
            ("QUEUE_URL", &self.queue_url),
            ("DLQ_URL", &self.dlq_url),
            ("RETRY_SCHEDULE", "1,5,30"),
            ("GIVE_UP_AFTER_SECONDS", "7200"),
            ("ORDER_TOKEN_SECRET", SECRET),
            ("ORDER_TOKEN_SECRET_PREVIOUS", SECRET),
        ];
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Invokes push-api, in an environment of its own; whether it answered that all is well.
    async fn invoke(
        &self,
        event_type: &str,
        connection: &str,
        body: Option<String>,
    ) -> Result<bool> {
        let event = json!({
            "requestContext": { "eventType": event_type, "connectionId": connection },
            "body": body,
        });
        let event: WebSocketEvent = serde_json::from_value(event)?;
        let environment = self.aws.environment();
        let config = environment.config(&self.config);
        let api = settings::read_from(self.variables(), PushApiConfig::read)?.api(&config);
        let answer = tokio::select! {
            biased;
            () = environment.died() => None,
            answer = timeout(TIMEOUT, environment.run(api.handle(event))) => answer.ok(),
        };
        environment.die();
        let answer = answer.map(serde_json::to_value).transpose()?;
        Ok(answer.is_some_and(|answer| answer["statusCode"] == 200))
    }

    /// The event source mapping of the queue.
    async fn map(self) {
        loop {
            self.aws.message_visible(&self.queue_url).await;
            sleep(Duration::from_millis(self.aws.draw(5..200))).await;
            let batch = self.aws.receive(&self.queue_url, 10);
            if !batch.is_empty() {
                let world = self.clone();
                spawn_local(async move { world.hand_over(batch).await.expect("settings") });
            }
        }
    }

    async fn hand_over(&self, batch: Vec<Received>) -> Result<()> {
        let environment = self.aws.environment();
        let config = environment.config(&self.config);
        let read = settings::read_from(self.variables(), PushConsumerConfig::read)?;
        let (consumer, handler) = read.consumer(&config, &self.ids);
        let records: Vec<_> = batch.iter().map(|received| &received.record).collect();
        let event = serde_json::from_value(json!({ "Records": records }))?;
        let deadline_ms = environment.now_ms() + u64::try_from(TIMEOUT.as_millis())?;
        let handle = async |received| handler.handle(received).await;
        let work = consumer.run_mixed(event, deadline_ms, SilenceCheck::read, handle);
        let answer = tokio::select! {
            biased;
            () = environment.died() => None,
            answer = timeout(TIMEOUT, environment.run(work)) => answer.ok(),
        };
        environment.die();
        let Some(answer) = answer else { return Ok(()) };
        for Received { record, receipt_handle } in batch {
            let failures = &answer.batch_item_failures;
            if !failures.iter().any(|failure| record["messageId"] == failure.item_identifier) {
                self.aws.delete(&self.queue_url, &receipt_handle);
            }
        }
        Ok(())
    }

    /// Writes that an order has this status, once: a write that comes late does not set it back.
    async fn write_status(&self, order: &OrderId, status: Status) -> Result<()> {
        let environment = self.aws.environment();
        let client = aws_sdk_dynamodb::Client::new(&environment.config(&self.config));
        let text = |text: &str| AttributeValue::S(text.to_owned());
        loop {
            let written = client
                .update_item()
                .table_name(ORDERS)
                .key("order_id", text(order.as_str()))
                .update_expression("SET #status = :to, version = :version")
                .condition_expression("attribute_not_exists(version) OR version < :version")
                .expression_attribute_names("#status", "status")
                .expression_attribute_values(":to", text(status.as_str()))
                .expression_attribute_values(
                    ":version",
                    AttributeValue::N(status.version().to_string()),
                )
                .send()
                .await;
            match written {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == Some("ConditionalCheckFailedException") => {
                    return Ok(());
                }
                // An environment that has died writes nothing more.
                Err(_) if environment.is_dead() => {
                    return Box::pin(self.write_status(order, status)).await;
                }
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }

    /// Moves an order on to its end, each time with the event that says so, once or twice.
    async fn move_on(self, order: OrderId, path: Vec<Status>) -> Result<()> {
        for status in path {
            sleep(Duration::from_millis(self.aws.draw(1..STEP_MS_MAX))).await;
            self.moves.notify_waiters();
            sleep(Duration::from_millis(self.aws.draw(AROUND_A_MOVE_MS))).await;
            self.write_status(&order, status).await?;
            let body = event(&order, status)?;
            for _ in 0..self.aws.draw(1..3) {
                let (world, body) = (self.clone(), body.clone());
                spawn_local(async move {
                    sleep(Duration::from_millis(world.aws.draw(EVENT_LATE_MS))).await;
                    world.aws.send(&world.queue_url, &body, &BTreeMap::new());
                });
            }
        }
        Ok(())
    }

    /// A customer, who connects again until the order is at its end: his connections, each with what came on it, and whether it
    /// was open to the end of the run.
    async fn follow(self, order: OrderId, name: String, ends: Instant) -> Result<Vec<Session>> {
        let mut sessions = Vec::new();
        for number in 0.. {
            sleep(Duration::from_millis(self.aws.draw(1..5_000))).await;
            if Instant::now() >= ends {
                break;
            }
            let id = format!("{name}-{number}");
            if !self.invoke("CONNECT", &id, None).await? {
                continue;
            }
            self.sockets.open(&id);
            // As a change is made: that is when one could fall between the state and what is pushed.
            if self.aws.draw(0..4) != 0 {
                let _ = timeout(SILENCE_SOME, self.moves.notified()).await;
                sleep(Duration::from_millis(self.aws.draw(AROUND_A_MOVE_MS))).await;
            }
            let token = self.tokens.token(&order);
            let watch = json!({ "action": "watch", "order_id": order, "order_token": token });
            self.invoke("MESSAGE", &id, Some(watch.to_string())).await?;
            // Some go when they have seen enough of it for now; the last stays.
            let stays = self.aws.draw(0..3) != 0;
            let leaves = if stays {
                ends
            } else {
                Instant::now() + Duration::from_millis(self.aws.draw(100..90_000))
            };
            let (begun, mut messages, mut is_open) = (Instant::now(), Vec::new(), true);
            while Instant::now() < leaves.min(ends) {
                let Some(came) = self.sockets.take(&id) else {
                    is_open = false;
                    break;
                };
                messages.extend(came);
                let has_state = messages.iter().any(|message: &Value| message["kind"] == "state");
                if !has_state && begun.elapsed() > PATIENCE {
                    break;
                }
                sleep(LOOK).await;
            }
            let is_open_to_the_end = is_open && Instant::now() >= ends;
            sessions.push(Session { messages, is_open_to_the_end });
            if !is_open_to_the_end {
                self.sockets.close(&id);
                if self.aws.draw(0..4) != 0 {
                    self.invoke("DISCONNECT", &id, None).await?;
                }
            }
        }
        Ok(sessions)
    }

    /// Somebody who opens a connection and says nothing; how long it was open.
    async fn be_silent(self, name: String) -> Result<Duration> {
        while !self.invoke("CONNECT", &name, None).await? {
            sleep(Duration::from_secs(1)).await;
        }
        self.sockets.open(&name);
        let opened = Instant::now();
        while self.sockets.take(&name).is_some() {
            ensure!(
                opened.elapsed() < FAULTS_TIME + SETTLING,
                "{name} is open after {:?}",
                opened.elapsed()
            );
            sleep(LOOK).await;
        }
        Ok(opened.elapsed())
    }
}

/// One connection of a customer.
#[derive(Debug)]
struct Session {
    messages: Vec<Value>,
    is_open_to_the_end: bool,
}

/// The event that says that an order has this status now.
fn event(order: &OrderId, status: Status) -> Result<String> {
    let sample = match status {
        Status::AwaitingPayment => {
            include_str!("../../../events/samples/OrderAwaitingPayment.json")
        }
        Status::Confirmed => include_str!("../../../events/samples/OrderConfirmed.json"),
        Status::Shipped => include_str!("../../../events/samples/OrderShipped.json"),
        Status::Cancelled => include_str!("../../../events/samples/OrderCancelled.json"),
        Status::Expired => include_str!("../../../events/samples/OrderExpired.json"),
        Status::Rejected => include_str!("../../../events/samples/OrderRejected.json"),
        Status::Pending => bail!("who watches an order knows that it is pending"),
    };
    let mut event = Event::decode(sample.as_bytes())?;
    match &mut event.body {
        Body::OrderAwaitingPayment(data)
        | Body::OrderConfirmed(data)
        | Body::OrderShipped(data)
        | Body::OrderCancelled(data)
        | Body::OrderExpired(data) => data.order_id = order.clone(),
        Body::OrderRejected(data) => data.order_id = order.clone(),
        other => bail!("no change of an order: {other:?}"),
    }
    ensure!(Update::of(&event).is_some_and(|update| update.status == status), "{status:?}");
    Ok(event.encode())
}

/// Follows orders to their ends, under these faults for ten minutes, and says what was seen.
///
/// # Errors
/// A customer who was connected has missed a change, or somebody's silence was not ended.
pub fn follow_orders(seed: u64, faults: Faults) -> Result<LiveReport> {
    in_virtual_time(seed, async {
        let run = timeout(RUN_MAX, run(seed, faults)).await;
        run.unwrap_or_else(|_| bail!("not at its end within {RUN_MAX:?}"))
    })
}

async fn run(seed: u64, faults: Faults) -> Result<LiveReport> {
    use Status::{AwaitingPayment, Cancelled, Confirmed, Expired, Rejected, Shipped};
    let world = deploy(seed).await?;
    let aws = world.aws.clone();
    let mapping = spawn_local(world.clone().map());
    aws.set_faults(faults);
    let ends = Instant::now() + FAULTS_TIME + SETTLING;
    let paths = [
        vec![AwaitingPayment, Confirmed, Shipped],
        vec![Confirmed, Cancelled],
        vec![AwaitingPayment, Expired],
        vec![Rejected],
    ];
    let mut followed = Vec::new();
    let mut moving = Vec::new();
    for number in 0..ORDERS_COUNT {
        let order: OrderId = format!("order-{number}").parse()?;
        let which = usize::try_from(aws.draw(0..4))?;
        world.write_status(&order, Status::Pending).await?;
        moving.push(spawn_local(world.clone().move_on(order.clone(), paths[which].clone())));
        for customer in 0..CUSTOMERS_OF_AN_ORDER {
            let name = format!("c{number}{customer}");
            let follow = world.clone().follow(order.clone(), name, ends);
            followed.push((paths[which].clone(), spawn_local(follow)));
        }
    }
    let silent: Vec<_> = (0..SILENT_COUNT)
        .map(|number| spawn_local(world.clone().be_silent(format!("silent-{number}"))))
        .collect();
    sleep(FAULTS_TIME).await;
    aws.set_faults(Faults::default());
    let mut report = LiveReport::default();
    for moved in moving {
        moved.await??;
    }
    for (path, sessions) in followed {
        for session in sessions.await?? {
            check_session(&path, &session, &mut report)?;
        }
    }
    for silence in silent {
        report.silences.push(silence.await??);
    }
    mapping.abort();
    let dead = aws.bodies(&world.dlq_url);
    ensure!(dead.is_empty(), "dead letters: {dead:?}");
    Ok(report)
}

/// What a connection was sent: first the state, and then, if it was open to the end, each change after it.
fn check_session(path: &[Status], session: &Session, report: &mut LiveReport) -> Result<()> {
    let Session { messages, is_open_to_the_end } = session;
    let mut known: Vec<u64> = Vec::new();
    for message in messages {
        ensure!(message["error"].is_null(), "{message}");
        ensure!(!message.to_string().contains('@'), "somebody's address: {message}");
        let version = message["version"].as_u64().context("a version")?;
        if known.contains(&version) || known.last().is_some_and(|newest| *newest > version) {
            report.dropped += 1;
        }
        known.push(version);
    }
    let Some(state) = messages.iter().find(|message| message["kind"] == "state") else {
        // It has watched in vain, whatever came; its customer has connected again.
        ensure!(!is_open_to_the_end, "open to the end, and no state came: {messages:?}");
        return Ok(());
    };
    let state = state["version"].as_u64().context("a version")?;
    report.sessions += 1;
    report.followed += usize::from(known.iter().any(|version| *version > state));
    if *is_open_to_the_end {
        let versions = path.iter().map(|status| u64::from(status.version()));
        for version in versions.filter(|version| *version > state) {
            ensure!(known.contains(&version), "{version} of {path:?} did not come: {messages:?}");
        }
        let last = path.last().map(|status| u64::from(status.version()));
        ensure!(known.iter().copied().max() == last, "{path:?} ended unheard of: {messages:?}");
    }
    Ok(())
}

async fn deploy(seed: u64) -> Result<World> {
    let aws = SimulatedAws::new(seed, Faults::default());
    for (name, keys) in
        [(ORDERS, vec!["order_id"]), (CONNECTIONS, vec!["order_id", "connection_id"])]
    {
        let keys = keys.into_iter().map(str::to_owned).collect();
        aws.create_table(Table { name: name.to_owned(), keys, indexes: Vec::new() });
    }
    aws.set_time_to_live(CONNECTIONS, "expires_at");
    let dlq_url = aws.create_queue("push-dlq", QueueSettings::default());
    let settings = QueueSettings {
        visibility_timeout: VISIBILITY_TIMEOUT,
        redrive: Some((dlq_url.clone(), 200)),
        ..QueueSettings::default()
    };
    let queue_url = aws.create_queue(QUEUE, settings);
    let sockets = WebSockets::new(&aws);
    let config = settings::aws_with(simulated_aws::loader()).await;
    let tokens = OrderTokens::new(SECRET, SECRET)?;
    Ok(World {
        aws,
        config,
        ids: Ids::seeded(seed),
        sockets,
        tokens,
        queue_url,
        dlq_url,
        moves: Rc::default(),
    })
}
