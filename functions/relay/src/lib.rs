//! The Lambda function that runs each minute and publishes what was left unpublished.
//!
//! In: a tick of the clock. Out: every event that has been pending for longer than `RELAY_AGE_SECONDS` is on the
//! topic, or stays pending, or is set aside as stuck, and so is that of every order that has been pending as long and still
//! stands for it; where orders are paid, a reminder of each whose time is half over and a report of each whose time is over; and metrics of what an operator should know: events
//! left and stuck, and orders that have been pending for too long. Guarantees: a sweep loses nothing, and two
//! sweeps at once, or a sweep and a function that publishes its own events, publish twice at worst.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use events::Money;
use exactly_once::{Clock, Ids, Outbox, TableError, invocation_deadline, outbox::Swept};
use jiff::SignedDuration;
use messaging::{EventFactory, OutboxConfig};
use order::{
    awaiting_payment::{AwaitingPayment, AwaitingSwept},
    dynamodb::PendingOrders,
    rules::Payments,
};
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
    payments: Payments,
    priority_total: Money,
}

impl RelayConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let outbox = OutboxConfig::read(environment);
        let orders_table = environment.text("ORDERS_TABLE");
        let age_seconds = environment.value("RELAY_AGE_SECONDS");
        let pending_max_minutes = environment.value("ORDER_PENDING_MAX_MINUTES");
        let payments = environment.value("PAYMENTS");
        let priority_total = environment.value("PRIORITY_TOTAL");
        Some(Self {
            outbox: outbox?,
            orders_table: orders_table?,
            age_seconds: age_seconds?,
            pending_max_minutes: pending_max_minutes?,
            payments: payments?,
            priority_total: priority_total?,
        })
    }

    /// The relay.
    #[must_use]
    pub fn relay(self, aws: &SdkConfig, ids: &Ids) -> Relay {
        let (outbox, client) = (self.outbox.outbox(aws), Client::new(aws));
        let awaiting_payment = || {
            let event_factory =
                EventFactory::new(aws, ids.clone()).priority_threshold(self.priority_total);
            let (client, table) = (client.clone(), self.orders_table.clone());
            AwaitingPayment::new(client, table, outbox.clone(), event_factory, ids.clone())
        };
        Relay {
            awaiting_payment: match self.payments {
                Payments::None => None,
                Payments::Stripe => Some(awaiting_payment()),
            },
            age: Duration::from_secs(self.age_seconds.into()),
            pending_orders: PendingOrders::new(client, self.orders_table),
            outbox,
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
    /// `None` where orders are not paid.
    awaiting_payment: Option<AwaitingPayment>,
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
    /// Orders of whose payment a reminder was made.
    pub payment_reminders: u64,
    /// Orders that have been due for their payment for longer than an operator should accept.
    pub orders_payment_overdue: u64,
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
        // All have their turn before an error of one is reported.
        let (swept, late, awaiting) = tokio::join!(
            self.outbox.sweep(self.age, deadline),
            self.pending_orders.publish_unpublished(&self.outbox, placed_before, deadline),
            self.sweep_awaiting_payment(deadline),
        );
        let (AwaitingSwept { reminded, .. }, orders_payment_overdue) = awaiting?;
        let Swept { published, left, stuck, left_since } = swept?;
        let (late_published, late_left) = late?;
        let (published, left) = ((published + late_published) as u64, (left + late_left) as u64);
        let now = self.clock.now();
        let left_for = left_since.map(|since| self.clock.time_since(since)).unwrap_or_default();
        let placed_before = now - self.pending_max;
        let orders_pending_too_long =
            self.pending_orders.count_placed_before(placed_before).await?;
        let report = Report {
            published,
            left,
            stuck,
            orders_pending_too_long,
            payment_reminders: reminded,
            orders_payment_overdue,
        };
        telemetry::gauge(
            &[
                ("outbox_published", published),
                ("outbox_left", left),
                ("outbox_stuck", stuck),
                ("outbox_oldest_seconds", left_for.as_secs()),
                ("orders_pending_too_long", orders_pending_too_long),
                ("orders_payment_overdue", orders_payment_overdue),
            ],
            now,
        );
        tracing::info!(
            published,
            left,
            stuck,
            orders_pending_too_long,
            orders_payment_overdue,
            "outbox swept"
        );
        Ok(report)
    }

    /// What was done for the orders that await payment, and how many of them are late.
    async fn sweep_awaiting_payment(
        &self,
        deadline: Instant,
    ) -> Result<(AwaitingSwept, u64), TableError> {
        let Some(orders) = &self.awaiting_payment else { return Ok((AwaitingSwept::default(), 0)) };
        let swept = orders.sweep(self.clock.now(), deadline).await?;
        Ok((swept, orders.count_late().await?))
    }
}
