//! The Lambda function that runs each minute and publishes what was left unpublished.
//!
//! In: a tick of the clock. Out: every event that has been pending for longer than `RELAY_AGE_SECONDS` is on the
//! topic, or stays pending, or is set aside as stuck; and metrics of what an operator should know: events
//! left and stuck, and orders that have been pending for too long. Guarantees: a sweep loses nothing, and two
//! sweeps at once, or a sweep and a function that publishes its own events, publish twice at worst.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{AttributeValue, Select},
};
use delivery::{Outbox, outbox::Swept};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use settings::Environment;

/// So long before the invocation's deadline no new batch is begun.
const DEADLINE_MARGIN: Duration = Duration::from_secs(12);

struct Relay {
    outbox: Outbox,
    age: Duration,
    orders_table: String,
    pending_max: SignedDuration,
}

/// What a sweep found and did: the function's answer, and its metrics.
#[derive(Debug, Serialize)]
struct Report {
    published: usize,
    left: usize,
    stuck: usize,
    orders_pending_too_long: usize,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let orders_table = environment.text("ORDERS_TABLE");
    let event_log_table = environment.text("EVENT_LOG_TABLE");
    let topic_arn = environment.text("TOPIC_ARN");
    let age_seconds = environment.value("RELAY_AGE_SECONDS", 60_u32);
    let pending_minutes = environment.value("ORDER_PENDING_MAX_MINUTES", 15_u32);
    environment.check()?;
    let aws = settings::aws().await;
    let relay = Relay {
        outbox: Outbox {
            dynamodb: Client::new(&aws),
            sns: aws_sdk_sns::Client::new(&aws),
            table: event_log_table,
            stream_key: "order_id",
            topic_arn,
        },
        age: Duration::from_secs(age_seconds.into()),
        orders_table,
        pending_max: SignedDuration::from_mins(pending_minutes.into()),
    };
    lambda_runtime::run(service_fn(async |tick: LambdaEvent<Value>| {
        let now = Timestamp::now().as_millisecond();
        let left = tick.context.deadline.saturating_sub(u64::try_from(now).unwrap_or_default());
        relay.tick(Duration::from_millis(left)).await
    }))
    .await
}

impl Relay {
    async fn tick(&self, time_left: Duration) -> Result<Report, Error> {
        let deadline = Instant::now() + time_left.saturating_sub(DEADLINE_MARGIN);
        let Swept { published, left, stuck } = self.outbox.sweep(self.age, deadline).await?;
        let orders_pending_too_long = self.orders_pending_too_long().await?;
        let report = Report { published, left, stuck, orders_pending_too_long };
        telemetry::gauge(&[
            ("outbox_published", published),
            ("outbox_left", left),
            ("outbox_stuck", stuck),
            ("orders_pending_too_long", orders_pending_too_long),
        ]);
        tracing::info!(published, left, stuck, orders_pending_too_long, "outbox swept");
        Ok(report)
    }

    /// How many orders have not been settled for so long that somebody should look. The index is sparse: an
    /// order is in it only while it is pending.
    async fn orders_pending_too_long(&self) -> Result<usize, Error> {
        let before = Timestamp::now() - self.pending_max;
        let mut count = 0;
        let mut start = None;
        loop {
            let page = self
                .outbox
                .dynamodb
                .query()
                .table_name(&self.orders_table)
                .index_name("pending")
                .key_condition_expression("pending_shard = :pending AND created_at < :before")
                .expression_attribute_values(":pending", AttributeValue::S("pending".into()))
                .expression_attribute_values(":before", AttributeValue::S(format!("{before:.3}")))
                .select(Select::Count)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| DisplayErrorContext(error).to_string())?;
            count += usize::try_from(page.count).unwrap_or_default();
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }
}
