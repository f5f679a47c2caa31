//! What is stored and queued of one order and its payment, and which processes are under way.
//!
//! In: writes of the payment's row. Out: the state after them. Guarantee: who has read the row before a write is out of date after it.

use order::rules::Status;
use payment::rules::{PaymentStatus, may_move};
use product::rules::ReservationStatus;

use super::{
    Mistake, Scenario,
    stripe::{Progress, Stripe},
};

/// A message in the queue of its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// There is none yet.
    Unpublished,
    /// It is to be delivered until it is acknowledged.
    Waiting,
    /// It was acknowledged, which does not keep it from coming back.
    Acknowledged,
}

/// A message of the queue `payment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// OrderAwaitingPayment.
    Awaiting,
    /// OrderCancelled.
    Cancelled,
    /// OrderPaymentOverdue, of which there may be any number.
    Overdue,
}

/// What payment-consumer or payment-api reports to order-consumer, once an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reply {
    /// It has not happened.
    Absent,
    /// It is in the log, and the marker of what has caused it names it: who receives that again, publishes it.
    Stored(Cause),
    /// It is published, or in the outbox, which comes to the same.
    Sent(Message),
}

/// A key of a request to Stripe, as the row keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The first is 0, and each that replaces it one more.
    pub number: u8,
    pub has_failed: bool,
}

/// The row of the table `payments`. `payment::payments::Payment` without what never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub status: PaymentStatus,
    pub creation: Option<Key>,
    pub intent: Option<u8>,
    pub refund: Option<Key>,
}

/// What a process of payment-consumer is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    /// Write that a PaymentIntent is going to be made, and under which key.
    WriteCreating,
    /// Look whether one was made.
    FindIntent,
    /// Write another key for that.
    WriteCreationKey,
    /// Make it.
    Create,
    /// Write that Stripe failed at that.
    WriteCreationFailed,
    /// Cancel it.
    Cancel,
    /// Ask what has become of it, after it could not be cancelled.
    Ask,
    /// Write where the payment ends up, with the marker of the message and the event that it causes.
    Record(PaymentStatus),
    /// Write that it is paid, as a webhook would have, before it is given back.
    RecordSuccess,
    /// Write that the money is going to be given back, and under which key.
    WriteRefunding,
    /// Look whether it was.
    FindRefund,
    /// Write another key for that.
    WriteRefundKey,
    /// Give it back.
    Refund,
    /// Write that Stripe failed at that.
    WriteRefundFailed,
}

impl Next {
    /// Whether that fails if somebody else has written the row.
    pub(super) fn is_write(self) -> bool {
        match self {
            Self::WriteCreating
            | Self::WriteCreationKey
            | Self::WriteCreationFailed
            | Self::Record(_)
            | Self::RecordSuccess
            | Self::WriteRefunding
            | Self::WriteRefundKey
            | Self::WriteRefundFailed => true,
            Self::FindIntent
            | Self::Create
            | Self::Cancel
            | Self::Ask
            | Self::FindRefund
            | Self::Refund => false,
        }
    }
}

/// A process of payment-consumer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The message that it handles.
    pub cause: Cause,
    pub next: Next,
    /// The payment as it has read and written it.
    pub row: Option<Row>,
    /// Nobody has written the row since.
    pub is_current: bool,
}

/// The whole of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub order: Status,
    pub reservation: ReservationStatus,
    pub row: Option<Row>,
    /// The key under which a PaymentIntent is being made is too old to be relied on.
    pub creation_is_old: bool,
    /// The same of the refund.
    pub refund_is_old: bool,
    pub stock_reserved: Message,
    pub awaiting: Message,
    pub cancelled: Message,
    pub overdue: Message,
    /// What releases the stock: OrderCancelled or OrderExpired, in the queue of product-consumer.
    pub release: Message,
    pub payment_succeeded: Reply,
    pub payment_cancelled: Reply,
    pub stripe: Stripe,
    pub processes: Vec<Process>,
    /// The payment has moved as it must not. The other fields cannot tell.
    pub has_moved_back: bool,
}

/// What the order service is replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderReply {
    StockReserved,
    PaymentSucceeded,
    PaymentCancelled,
}

/// A request to Stripe that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    Creation,
    Refund,
}
impl State {
    /// The message of a cause.
    #[must_use]
    pub fn message(&self, cause: Cause) -> Message {
        match cause {
            Cause::Awaiting => self.awaiting,
            Cause::Cancelled => self.cancelled,
            Cause::Overdue => self.overdue,
        }
    }

    pub(super) fn message_mut(&mut self, cause: Cause) -> &mut Message {
        match cause {
            Cause::Awaiting => &mut self.awaiting,
            Cause::Cancelled => &mut self.cancelled,
            Cause::Overdue => &mut self.overdue,
        }
    }

    /// A reply to the order service.
    #[must_use]
    pub fn reply(&self, reply: OrderReply) -> Reply {
        match reply {
            OrderReply::StockReserved => Reply::Sent(self.stock_reserved),
            OrderReply::PaymentSucceeded => self.payment_succeeded,
            OrderReply::PaymentCancelled => self.payment_cancelled,
        }
    }

    pub(super) fn set_reply(&mut self, reply: OrderReply, message: Message) {
        match reply {
            OrderReply::StockReserved => self.stock_reserved = message,
            OrderReply::PaymentSucceeded => self.payment_succeeded = Reply::Sent(message),
            OrderReply::PaymentCancelled => self.payment_cancelled = Reply::Sent(message),
        }
    }

    /// Writes the row: what others have read is out of date.
    pub(super) fn put(&mut self, row: Row) {
        if let Some(before) = self.row.filter(|before| before.status != row.status) {
            self.has_moved_back |= !may_move(before.status, row.status);
        }
        if row.status == PaymentStatus::Open
            && let Some(intent) = row.intent
        {
            // payment-api answers the client secret to whoever reads this row.
            self.stripe.intents[usize::from(intent)].is_offered = true;
        }
        // Keys are used only as long as the request is under way.
        self.creation_is_old &= row.status == PaymentStatus::Creating;
        self.refund_is_old &= row.status == PaymentStatus::Refunding;
        self.row = Some(row);
        self.processes.iter_mut().for_each(|process| process.is_current = false);
    }

    pub(super) fn keep(&mut self, process: Process, scenario: &Scenario) {
        let is_guarded = !scenario.has(Mistake::WritesUnguarded);
        // What it is about to write would fail.
        if is_guarded && !process.is_current && process.next.is_write() {
            return;
        }
        self.processes.push(process);
        self.processes.sort_unstable();
    }

    /// Whether a process is about to use this key.
    pub(super) fn uses(&self, keyed: Keyed, number: u8) -> bool {
        self.processes.iter().any(|process| {
            let key = match (keyed, process.next) {
                (Keyed::Creation, Next::Create) => process.row.and_then(|row| row.creation),
                (Keyed::Refund, Next::Refund) => process.row.and_then(|row| row.refund),
                _ => None,
            };
            key.is_some_and(|key| key.number == number)
        })
    }

    /// Whether nothing is under way: what happens now is a repetition, or the customer's.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let messages =
            [self.stock_reserved, self.awaiting, self.cancelled, self.overdue, self.release];
        let is_sent = |reply| matches!(reply, Reply::Absent | Reply::Sent(Message::Acknowledged));
        self.processes.is_empty()
            && !messages.contains(&Message::Waiting)
            && is_sent(self.payment_succeeded)
            && is_sent(self.payment_cancelled)
            && !matches!(self.order, Status::Pending | Status::AwaitingPayment)
            && self.stripe.intents.iter().all(|intent| intent.progress != Progress::Processing)
    }
}
