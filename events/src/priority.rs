//! Which orders go first: those of which the total is above a shop's threshold.
//!
//! In: an event and the threshold. Out: the message attribute `priority` of an order's event, by which subscriptions are filtered.
//! Guarantee: all events of one order have the same priority, as long as the threshold stays the same, since its total does.

use crate::{envelope::Body, value::Money};

/// Whether an event is delivered past the others, to queues of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The order's total is above the threshold.
    High,
    /// It is not.
    Normal,
}

impl Priority {
    /// The name of the message attribute.
    pub const ATTRIBUTE: &str = "priority";

    /// The priority of an order's event; `None` if the event is none of the order service's.
    #[must_use]
    pub fn of(body: &Body, threshold: Money) -> Option<Self> {
        let is_high = body.order_total()? > threshold;
        Some(if is_high { Self::High } else { Self::Normal })
    }

    /// The value of the message attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
        }
    }
}
