//! Stripe as its documentation has it, at its harshest: what it has made, and what it remembers of it.
//!
//! In: calls, and what becomes of each. Out: answers. Guarantees, which are Stripe's: a PaymentIntent that is cancelled cannot succeed,
//! and one that has succeeded cannot be cancelled; a key that it knows is answered as it was the first time, a failure included; its lists
//! have everything that there is. <https://docs.stripe.com/api/idempotent_requests>

use payment::stripe::IntentStatus;

/// How far a PaymentIntent has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// It can be paid and cancelled.
    Open,
    /// A bank has not decided: it can be neither paid again nor cancelled.
    Processing,
    Succeeded,
    Canceled,
}

impl Progress {
    /// As Stripe's API says it.
    #[must_use]
    pub fn status(self) -> IntentStatus {
        match self {
            Self::Open => IntentStatus::RequiresPaymentMethod,
            Self::Processing => IntentStatus::Processing,
            Self::Succeeded => IntentStatus::Succeeded,
            Self::Canceled => IntentStatus::Canceled,
        }
    }
}

/// A PaymentIntent of the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Intent {
    pub progress: Progress,
    /// The number of the key that has made it.
    pub key: u8,
    /// The customer may have its client secret, and can pay it.
    pub is_offered: bool,
    /// How often its money was given back.
    pub refunds: u8,
}

/// What Stripe remembers of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    /// It was never used, or is forgotten.
    Nothing,
    /// What was asked for was done, and of which PaymentIntent.
    Done(u8),
    /// Stripe failed: so it does each time, whether it was done or not.
    Failed,
}

/// What becomes of a call under a key that Stripe does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out and answered. That no answer comes is the loss of the process that waits for it.
    Done,
    /// It is carried out, and answered with a 5xx.
    DoneAndFailed,
    /// It is not carried out, and answered with a 5xx.
    Failed,
}

/// An answer to a call under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done, now or before, with this PaymentIntent.
    Done(u8),
    /// A 5xx.
    Failed,
    /// It can never be done.
    Refused,
}

/// Keys by their number: the first, then those that have replaced it.
pub type Keys = Vec<Known>;

/// The account of the shop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stripe {
    /// It refuses to make a PaymentIntent for this order.
    pub refuses: bool,
    /// Oldest first.
    pub intents: Vec<Intent>,
    pub creation_keys: Keys,
    pub refund_keys: Keys,
}

impl Stripe {
    /// An account that has nothing yet, with this number of keys for each request.
    #[must_use]
    pub fn new(refuses: bool, keys: u8) -> Self {
        let nothing = vec![Known::Nothing; keys.into()];
        Self { refuses, intents: Vec::new(), creation_keys: nothing.clone(), refund_keys: nothing }
    }

    /// Makes a PaymentIntent.
    pub fn create(&mut self, key: u8, fate: Fate, keeps_failures: bool) -> Answer {
        let number = u8::try_from(self.intents.len()).expect("few");
        match self.creation_keys[usize::from(key)] {
            Known::Done(intent) => return Answer::Done(intent),
            Known::Failed => return Answer::Failed,
            Known::Nothing if self.refuses => return Answer::Refused,
            Known::Nothing => {}
        }
        if fate != Fate::Failed {
            let progress = Progress::Open;
            self.intents.push(Intent { progress, key, is_offered: false, refunds: 0 });
        }
        let (known, answer) = answer(fate, number, keeps_failures);
        self.creation_keys[usize::from(key)] = known;
        answer
    }

    /// Gives the money of a PaymentIntent back. `refuses_second`: what was given back is not given back again.
    pub fn refund(&mut self, key: u8, intent: u8, fate: Fate, refuses_second: bool) -> Answer {
        match self.refund_keys[usize::from(key)] {
            Known::Done(intent) => return Answer::Done(intent),
            Known::Failed => return Answer::Failed,
            Known::Nothing => {}
        }
        let of = &mut self.intents[usize::from(intent)];
        if of.refunds > 0 && refuses_second {
            return Answer::Refused;
        }
        if fate != Fate::Failed {
            of.refunds = (of.refunds + 1).min(2);
        }
        let (known, answer) = answer(fate, intent, true);
        self.refund_keys[usize::from(key)] = known;
        answer
    }

    /// Cancels a PaymentIntent, if it can be; whether it was.
    pub fn cancel(&mut self, intent: u8) -> bool {
        let progress = &mut self.intents[usize::from(intent)].progress;
        let is_open = *progress == Progress::Open;
        if is_open {
            *progress = Progress::Canceled;
        }
        is_open
    }

    /// The newest PaymentIntent in its list.
    #[must_use]
    pub fn newest_intent(&self) -> Option<u8> {
        u8::try_from(self.intents.len()).ok()?.checked_sub(1)
    }

    /// How far a PaymentIntent has come.
    #[must_use]
    pub fn progress(&self, intent: u8) -> Progress {
        self.intents[usize::from(intent)].progress
    }
}

fn answer(fate: Fate, intent: u8, keeps_failures: bool) -> (Known, Answer) {
    match fate {
        Fate::Done => (Known::Done(intent), Answer::Done(intent)),
        Fate::DoneAndFailed | Fate::Failed if keeps_failures => (Known::Failed, Answer::Failed),
        Fate::DoneAndFailed | Fate::Failed => (Known::Nothing, Answer::Failed),
    }
}
