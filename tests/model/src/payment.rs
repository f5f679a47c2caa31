//! How one order is paid, expires, is cancelled and refunded, as a model that is checked exhaustively.
//!
//! In: a [`Scenario`]. Out, from a model checker: every state that the order, its payment and Stripe can come to, whatever message comes
//! twice or late, whatever process is lost where, whatever Stripe fails at, and whatever the customer does when; and whether each of them
//! keeps what [`properties`] promise.
//!
//! What is decided is decided by the functions that the services call: `payment::rules` (what ends a payment, what Stripe's answer means,
//! which key is still good), `order::rules` and `product::rules`. Modelled is what surrounds them: the steps of payment-consumer between
//! any two of which it may be lost ([`saga`]), what is stored and queued ([`state`]), and [`stripe`].
//!
//! How few states cover so much:
//!
//! - A message is not counted. Until it is acknowledged it waits and may be received again, also by two processes at a time; after
//!   that it may still be received, which is a repetition. A lost process leaves its message waiting.
//! - What is conditional on what was read (order, reservation, and a webhook's move of the payment) is one step: had the world moved on in
//!   between, it would fail, and be decided again.
//! - A payment's version is not counted either. Whoever writes the row makes out of date what all others have read; what they
//!   would write fails, after which they read again, as who receives the message does.
//! - A webhook is not stored. It is a hint that may come at any time, any number of times or never, from when what it reports has happened.

pub mod properties;
pub mod saga;
pub mod state;
pub mod stripe;

pub use self::saga::PaymentSaga;

/// What can happen to one order.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Maximum number of processes of payment-consumer that are under way at a time.
    pub processes_max: usize,
    /// Number of keys for each request: under all but the last of them Stripe may fail, and they may become too old.
    pub keys: u8,
    /// Stripe gives back once what was paid once, whatever the key.
    pub refuses_second_refund: bool,
    /// Stripe repeats a failure under its key, as it documents.
    pub keeps_failures: bool,
    /// A key may become too old while a process is about to use it.
    pub ages_in_use: bool,
    /// What is done wrong.
    pub mistake: Option<Mistake>,
}

/// A mistake that is planted, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// An order expires when its time is over, and Stripe is not asked.
    ExpiresUnasked,
    /// A payment is recorded as cancelled before its PaymentIntent is.
    RecordsBeforeCancelling,
    /// Each try to make a PaymentIntent has another key, and nobody looks in Stripe's list.
    CreatesUnderNewKeys,
    /// Each try to give money back has another key, and nobody looks in Stripe's list.
    RefundsUnderNewKeys,
    /// A key is used again after Stripe has failed under it.
    ReusesFailedKeys,
    /// A key is used again however old it is.
    TrustsOldKeys,
    /// The payment service is asked about an overdue order once.
    AsksOnce,
    /// A cancellation is acknowledged while a bank has not decided.
    ForgetsUndecided,
    /// A payment is written whatever has become of it since it was read.
    WritesUnguarded,
}

impl Scenario {
    /// Everything may go wrong, and nothing is done wrong.
    #[must_use]
    pub fn new(processes_max: usize, keys: u8) -> Self {
        Self {
            processes_max,
            keys,
            refuses_second_refund: true,
            keeps_failures: true,
            ages_in_use: false,
            mistake: None,
        }
    }

    /// The same with a mistake.
    #[must_use]
    pub fn with(self, mistake: Mistake) -> Self {
        Self { mistake: Some(mistake), ..self }
    }

    /// The same at a Stripe that gives money back as often as it is asked under a new key.
    #[must_use]
    pub fn refunding_twice(self) -> Self {
        Self { refuses_second_refund: false, ..self }
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}
