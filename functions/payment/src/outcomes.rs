//! Metrics of what becomes of payments.
//!
//! In: the type of an event that has just been committed. Out: a count. Guarantees: only what is committed is counted, and
//! each transition once; one whose process dies between its commit and this is missing in the metrics, and nowhere else.

use events::EventType;
use jiff::Timestamp;

/// Counts what this event reports.
pub(crate) fn count(event_type: EventType, now: Timestamp) {
    let number = |counted: EventType| u64::from(event_type == counted);
    telemetry::count(
        &[
            ("payments_requested", number(EventType::PaymentRequested)),
            ("payments_succeeded", number(EventType::PaymentSucceeded)),
            ("payments_failed", number(EventType::PaymentFailed)),
            ("payments_cancelled", number(EventType::PaymentCancelled)),
            ("payments_refunded", number(EventType::PaymentRefunded)),
        ],
        now,
    );
}
