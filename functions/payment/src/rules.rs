//! What follows from what was read of a payment: pure functions, no clock and no network.
//!
//! A payment is one row of the table `payments`, written before Stripe is called and after it has answered. What it says decides what may be
//! asked of Stripe next, so that a process that dies anywhere leaves a row from which another goes on.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::stripe::IntentStatus;

/// For how long an idempotency key is relied on. Stripe may forget it after 24 hours; the rest is for calls and clocks that are slow.
/// <https://docs.stripe.com/api/idempotent_requests>
pub const KEY_LIFETIME: Duration = Duration::from_secs(20 * 60 * 60);
/// How much earlier than the first request the list is searched: more than clocks differ.
pub const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(10 * 60);

/// How far the payment of an order has come. It only moves forward, in the order of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentStatus {
    /// A PaymentIntent may have been made, or not.
    Creating,
    /// It is there and can be paid.
    Open,
    /// It cannot be paid any more, and never was.
    Cancelled,
    /// It is paid.
    Succeeded,
    /// It is paid, and the money may be on its way back, or not.
    Refunding,
    /// The money was given back.
    Refunded,
}

impl PaymentStatus {
    /// Every status there is.
    pub const ALL: [Self; 6] = [
        Self::Creating,
        Self::Open,
        Self::Cancelled,
        Self::Succeeded,
        Self::Refunding,
        Self::Refunded,
    ];

    /// As the table and answers write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Open => "open",
            Self::Cancelled => "cancelled",
            Self::Succeeded => "succeeded",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
        }
    }
}

/// Not an enumeration: there will be others, which is no reason for a client to fail.
impl JsonSchema for PaymentStatus {
    fn schema_name() -> Cow<'static, str> {
        "PaymentStatus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How far the payment has come. Show one that you do not know as it is.",
            "type": "string",
            "x-extensible-enum": Self::ALL,
        })
    }
}

/// A request to Stripe under way: its key, since when, and whether the key is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedRequest {
    /// The `Idempotency-Key`.
    pub key: String,
    /// Seconds since 1970 at which the key was first used.
    pub since: i64,
    /// Stripe failed under this key, and would only repeat that.
    #[serde(default)]
    pub has_failed: bool,
}

/// What to ask of Stripe next for a request whose outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyedStep {
    /// Send it under its key: for the first time or again, which comes to the same.
    Send,
    /// The key proves nothing any more. Look whether it was carried out since this moment, and send it under another key only if it was not.
    Find {
        /// From when on it may have been.
        since: Timestamp,
    },
}

impl KeyedRequest {
    /// A request that is about to be sent for the first time.
    #[must_use]
    pub fn new(key: impl Into<String>, now: Timestamp) -> Self {
        Self { key: key.into(), since: now.as_second(), has_failed: false }
    }

    /// What to do with it at this moment.
    #[must_use]
    pub fn next_step(&self, now: Timestamp) -> KeyedStep {
        let lifetime = i64::try_from(KEY_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        if !self.has_failed && now.as_second().saturating_sub(self.since) < lifetime {
            return KeyedStep::Send;
        }
        let margin = i64::try_from(CLOCK_DIFFERENCE_MAX.as_secs()).unwrap_or_default();
        let since = Timestamp::from_second(self.since.saturating_sub(margin).max(0));
        KeyedStep::Find { since: since.unwrap_or(Timestamp::UNIX_EPOCH) }
    }
}

/// Why a payment is to end without goods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The order was cancelled: what was paid is given back.
    OrderCancelled,
    /// The time to pay is over: what was paid in time stays paid.
    TimeOver,
}

/// What ends a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingStep {
    /// Nothing is to be done any more.
    Nothing,
    /// There is no payment yet: note that there must never be one. The event that would begin it may still come.
    PutTombstone,
    /// Find out whether there is a PaymentIntent: finish its creation first.
    FinishCreation,
    /// Cancel the PaymentIntent.
    Cancel,
    /// Give the money back.
    Refund,
}

/// What ends the payment that has this status, or none.
#[must_use]
pub fn end(status: Option<PaymentStatus>, ending: Ending) -> EndingStep {
    use PaymentStatus::{Cancelled, Creating, Open, Refunded, Refunding, Succeeded};
    match (status, ending) {
        (None, _) => EndingStep::PutTombstone,
        (Some(Creating), _) => EndingStep::FinishCreation,
        (Some(Open), _) => EndingStep::Cancel,
        (Some(Succeeded | Refunding), Ending::OrderCancelled) => EndingStep::Refund,
        (Some(Succeeded | Refunding), Ending::TimeOver) | (Some(Cancelled | Refunded), _) => {
            EndingStep::Nothing
        }
    }
}

/// What Stripe's PaymentIntent means for a payment that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The customer has to do something.
    Unpaid,
    /// Stripe does not know yet, and cannot cancel it: ask again later.
    Undecided,
    /// It is paid.
    Paid,
    /// It can never be paid.
    Cancelled,
}

/// Reads the status of a PaymentIntent.
#[must_use]
pub fn observe(status: IntentStatus) -> Observed {
    match status {
        IntentStatus::RequiresPaymentMethod
        | IntentStatus::RequiresConfirmation
        | IntentStatus::RequiresAction => Observed::Unpaid,
        IntentStatus::Succeeded => Observed::Paid,
        IntentStatus::Canceled => Observed::Cancelled,
        // Neither is ever asked for here; what is not known is not guessed.
        IntentStatus::Processing | IntentStatus::RequiresCapture | IntentStatus::Unknown => {
            Observed::Undecided
        }
    }
}

/// What becomes of a payment by what Stripe says of its PaymentIntent. `None` as long as Stripe has not decided, and for a payment of
/// which this was recorded before.
#[must_use]
pub fn conclude(status: PaymentStatus, observed: Observed) -> Option<PaymentStatus> {
    let to = match observed {
        Observed::Paid => PaymentStatus::Succeeded,
        Observed::Cancelled => PaymentStatus::Cancelled,
        Observed::Unpaid | Observed::Undecided => return None,
    };
    may_move(status, to).then_some(to)
}

/// Whether a payment may move from one status to another: forward only, and never from an end.
#[must_use]
pub fn may_move(from: PaymentStatus, to: PaymentStatus) -> bool {
    use PaymentStatus::{Cancelled, Creating, Open, Refunded, Refunding, Succeeded};
    matches!(
        (from, to),
        (Creating, Open | Cancelled | Succeeded)
            | (Open, Cancelled | Succeeded)
            | (Succeeded, Refunding | Refunded)
            | (Refunding, Refunded)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [PaymentStatus; 6] = PaymentStatus::ALL;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a moment")
    }

    #[test]
    fn a_key_is_used_again_until_stripe_may_have_forgotten_it() {
        let request = KeyedRequest::new("event", at(1_000_000));
        let lifetime = i64::try_from(KEY_LIFETIME.as_secs()).expect("small");
        // Clocks differ: the request may be from the future.
        for now in [1_000_000, 999_990, 1_000_000 + lifetime - 1] {
            assert_eq!(request.next_step(at(now)), KeyedStep::Send, "{now}");
        }
        let find = KeyedStep::Find { since: at(1_000_000 - 600) };
        assert_eq!(request.next_step(at(1_000_000 + lifetime)), find);
    }

    #[test]
    fn a_key_under_which_stripe_has_failed_is_not_used_again() {
        let request =
            KeyedRequest { has_failed: true, ..KeyedRequest::new("event", at(1_000_000)) };
        let find = KeyedStep::Find { since: at(1_000_000 - 600) };
        assert_eq!(request.next_step(at(1_000_000)), find);
    }

    #[test]
    fn a_cancelled_order_ends_with_no_payment_or_with_its_money_back() {
        use EndingStep::{Cancel, FinishCreation, Nothing, PutTombstone, Refund};
        let end = |status| end(status, Ending::OrderCancelled);
        assert_eq!(end(None), PutTombstone);
        assert_eq!(
            ALL.map(|status| end(Some(status))),
            [FinishCreation, Cancel, Nothing, Refund, Refund, Nothing]
        );
    }

    #[test]
    fn what_was_paid_when_time_is_over_stays_paid() {
        use EndingStep::{Cancel, FinishCreation, Nothing, PutTombstone};
        let end = |status| end(status, Ending::TimeOver);
        assert_eq!(end(None), PutTombstone);
        assert_eq!(
            ALL.map(|status| end(Some(status))),
            [FinishCreation, Cancel, Nothing, Nothing, Nothing, Nothing]
        );
    }

    #[test]
    fn a_payment_only_moves_forward_and_nothing_follows_an_end() {
        for from in ALL {
            for to in ALL {
                assert!(!may_move(from, to) || from < to, "{from:?} {to:?}");
                let is_end = matches!(from, PaymentStatus::Cancelled | PaymentStatus::Refunded);
                assert!(!(is_end && may_move(from, to)), "{from:?} {to:?}");
            }
        }
        // What was paid is never called unpaid.
        assert!(!may_move(PaymentStatus::Succeeded, PaymentStatus::Cancelled));
    }

    #[test]
    fn what_stripe_has_decided_is_concluded_once() {
        use PaymentStatus::{Cancelled, Creating, Open, Succeeded};
        for status in ALL {
            let is_open = matches!(status, Creating | Open);
            let concluded = |to| is_open.then_some(to);
            assert_eq!(conclude(status, Observed::Paid), concluded(Succeeded), "{status:?}");
            assert_eq!(conclude(status, Observed::Cancelled), concluded(Cancelled), "{status:?}");
            assert_eq!(conclude(status, Observed::Unpaid), None);
            assert_eq!(conclude(status, Observed::Undecided), None);
        }
    }

    #[test]
    fn what_stripe_has_not_decided_is_not_guessed() {
        assert_eq!(observe(IntentStatus::Processing), Observed::Undecided);
        assert_eq!(observe(IntentStatus::RequiresCapture), Observed::Undecided);
        assert_eq!(observe(IntentStatus::Unknown), Observed::Undecided);
        assert_eq!(observe(IntentStatus::Succeeded), Observed::Paid);
        assert_eq!(observe(IntentStatus::Canceled), Observed::Cancelled);
        assert_eq!(observe(IntentStatus::RequiresPaymentMethod), Observed::Unpaid);
    }
}
