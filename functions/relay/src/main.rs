//! The Lambda function that runs each minute and publishes what was left unpublished.
//!
//! In: a tick of the clock. Out: every event that has been pending for longer than `RELAY_AGE_SECONDS` is on the
//! topic, or stays pending, or is set aside as stuck; and metrics of what an operator should know: events
//! left and stuck, and orders that have been pending for too long. Guarantees: a sweep loses nothing, and two
//! sweeps at once, or a sweep and a function that publishes its own events, publish twice at worst.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use exactly_once::{Clock, ErrorChain, Outbox, TableError, outbox::Swept};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use messaging::OutboxConfig;
use order::dynamodb::PendingOrders;
use serde::Serialize;
use serde_json::Value;
use settings::Environment;
use tokio::time::Instant;

/// How long before the invocation's deadline no new batch is begun.
const DEADLINE_MARGIN: Duration = Duration::from_secs(12);

struct Config {
    outbox: OutboxConfig,
    orders_table: String,
    age_seconds: u32,
    pending_max_minutes: u32,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
        let outbox = OutboxConfig::read(environment);
        let orders_table = environment.text("ORDERS_TABLE");
        let age_seconds = environment.value("RELAY_AGE_SECONDS");
        let pending_max_minutes = environment.value("ORDER_PENDING_MAX_MINUTES");
        Some(Self {
            outbox: outbox?,
            orders_table: orders_table?,
            age_seconds: age_seconds?,
            pending_max_minutes: pending_max_minutes?,
        })
    }
}

struct Relay {
    outbox: Outbox,
    age: Duration,
    pending_orders: PendingOrders,
    pending_max: SignedDuration,
    clock: Clock,
}

/// What a sweep found and did: the function's answer, and its metrics.
#[derive(Debug, Serialize)]
struct Report {
    published: u64,
    left: u64,
    stuck: u64,
    orders_pending_too_long: u64,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let relay = Relay {
        outbox: config.outbox.outbox(&aws),
        age: Duration::from_secs(config.age_seconds.into()),
        pending_orders: PendingOrders::new(Client::new(&aws), config.orders_table),
        pending_max: SignedDuration::from_mins(config.pending_max_minutes.into()),
        clock: aws.time_source().into(),
    };
    lambda_runtime::run(service_fn(async |tick: LambdaEvent<Value>| {
        let deadline = i64::try_from(tick.context.deadline).ok();
        let deadline = deadline.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time_left = relay.clock.time_until(deadline.unwrap_or(Timestamp::MAX));
        let report = relay.sweep(time_left).await;
        report.map_err(|error| ErrorChain(&error).to_string())
    }))
    .await
}

impl Relay {
    async fn sweep(&self, time_left: Duration) -> Result<Report, TableError> {
        let deadline = Instant::now() + time_left.saturating_sub(DEADLINE_MARGIN);
        let Swept { published, left, stuck } = self.outbox.sweep(self.age, deadline).await?;
        let (published, left) = (published as u64, left as u64);
        let now = self.clock.now();
        let placed_before = now - self.pending_max;
        let orders_pending_too_long =
            self.pending_orders.count_placed_before(placed_before).await?;
        let report = Report { published, left, stuck, orders_pending_too_long };
        telemetry::gauge(
            &[
                ("outbox_published", published),
                ("outbox_left", left),
                ("outbox_stuck", stuck),
                ("orders_pending_too_long", orders_pending_too_long),
            ],
            now,
        );
        tracing::info!(published, left, stuck, orders_pending_too_long, "outbox swept");
        Ok(report)
    }
}
