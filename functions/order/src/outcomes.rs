//! Metrics of what becomes of orders.
//!
//! In: the statuses that orders have just come to, and how long those took that waited for their stock. Out: counts by outcome,
//! and the times. Guarantees: only what is committed is counted, and each transition once; one whose process dies between its
//! commit and this is missing in the metrics, and nowhere else.

use jiff::Timestamp;

use crate::rules::{Order, Status, Transition};

/// An order that was placed or moved on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    to: Status,
    /// How long it was pending, in milliseconds, if this is what ended that.
    pending_ms: Option<u64>,
}

impl Outcome {
    pub(crate) fn placed() -> Self {
        Self { to: Status::Pending, pending_ms: None }
    }

    pub(crate) fn of(transition: &Transition, order: &Order, now: Timestamp) -> Self {
        let pending = now.duration_since(order.created_at.timestamp());
        let is_settled = transition.from == Status::Pending && transition.to != Status::Cancelled;
        let pending_ms = is_settled.then(|| pending.as_millis().try_into().unwrap_or_default());
        Self { to: transition.to, pending_ms }
    }
}

/// Counts them.
pub(crate) fn count(outcomes: &[Outcome], now: Timestamp) {
    let number =
        |status: Status| outcomes.iter().filter(|outcome| outcome.to == status).count() as u64;
    let pending_ms: Vec<u64> = outcomes.iter().filter_map(|outcome| outcome.pending_ms).collect();
    telemetry::report(
        &[
            ("orders_placed", number(Status::Pending)),
            ("orders_awaiting_payment", number(Status::AwaitingPayment)),
            ("orders_confirmed", number(Status::Confirmed)),
            ("orders_rejected", number(Status::Rejected)),
            ("orders_cancelled", number(Status::Cancelled)),
            ("orders_expired", number(Status::Expired)),
            ("orders_shipped", number(Status::Shipped)),
        ],
        &[("order_settled_ms", &pending_ms)],
        now,
    );
}
