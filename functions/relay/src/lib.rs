//! The Lambda function that runs each minute and publishes what was left unpublished.
//!
//! In: a tick of the clock. Out: every event that has been pending for longer than `RELAY_AGE_SECONDS` is on the
//! topic, or stays pending, or is set aside as stuck, and so is that of every order that has been pending as long and still
//! stands for it; and metrics of what an operator should know: events
//! left and stuck, and orders that have been pending for too long. Guarantees: a sweep loses nothing, and two
//! sweeps at once, or a sweep and a function that publishes its own events, publish twice at worst.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use exactly_once::{Clock, Outbox, TableError, invocation_deadline, outbox::Swept};
use jiff::SignedDuration;
use messaging::OutboxConfig;
use order::dynamodb::PendingOrders;
use serde::Serialize;
use settings::Environment;
use tokio::time::Instant;

/// How long before the invocation's deadline no new batch is begun.
const DEADLINE_MARGIN: Duration = Duration::from_secs(12);

/// The settings of relay.
pub struct RelayConfig {
    outbox: OutboxConfig,
    orders_table: String,
    age_seconds: u32,
    pending_max_minutes: u32,
}

impl RelayConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
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

    /// The relay.
    #[must_use]
    pub fn relay(self, aws: &SdkConfig) -> Relay {
        Relay {
            outbox: self.outbox.outbox(aws),
            age: Duration::from_secs(self.age_seconds.into()),
            pending_orders: PendingOrders::new(Client::new(aws), self.orders_table),
            pending_max: SignedDuration::from_mins(self.pending_max_minutes.into()),
            clock: aws.time_source().into(),
        }
    }
}

/// See the crate.
pub struct Relay {
    outbox: Outbox,
    age: Duration,
    pending_orders: PendingOrders,
    pending_max: SignedDuration,
    clock: Clock,
}

/// What a sweep found and did: the function's answer, and its metrics.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Events that were published and taken out of the outbox.
    pub published: u64,
    /// Events that are still pending.
    pub left: u64,
    /// Events that wait for a person.
    pub stuck: u64,
    /// Orders that have been pending for longer than an operator should accept.
    pub orders_pending_too_long: u64,
}

impl Relay {
    /// Sweeps once, in an invocation that ends at `deadline_ms`, in milliseconds since 1970.
    ///
    /// # Errors
    /// The tables did not answer.
    pub async fn sweep(&self, deadline_ms: u64) -> Result<Report, TableError> {
        let time_left = self.clock.time_until(invocation_deadline(deadline_ms));
        let deadline = Instant::now() + time_left.saturating_sub(DEADLINE_MARGIN);
        let placed_before =
            self.clock.now() - SignedDuration::try_from(self.age).unwrap_or_default();
        // Both have their turn before an error of one is reported.
        let (swept, late) = tokio::join!(
            self.outbox.sweep(self.age, deadline),
            self.pending_orders.publish_unpublished(&self.outbox, placed_before, deadline),
        );
        let Swept { published, left, stuck } = swept?;
        let (late_published, late_left) = late?;
        let (published, left) = ((published + late_published) as u64, (left + late_left) as u64);
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
