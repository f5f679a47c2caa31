//! What the services do about one payment, in which order, and everything that can go wrong in between.
//!
//! In: a state and a step. Out: the state after it. payment-consumer's steps are those of `functions/payment/src/consumer.rs`, one for each
//! call of a table or of Stripe; a process whose write fails ends, because who receives its message then reads again just as it would.

use events::{Currency, Money, ProductId};
use jiff::Timestamp;
use order::rules::{
    self as order_rules, CatalogEntry, Decision, Order, OrderRequest, Payments, SagaReply,
    Settlement, Status,
};
use payment::rules::{
    self as payment_rules, Ending, EndingStep, KEY_LIFETIME, KeyedRequest, KeyedStep, Observed,
    PaymentStatus, observe,
};
use product::rules::{self as product_rules, Release, Reservation, ReservationStatus};
use stateright::{Model, Property};

use super::{
    Mistake, Scenario, properties,
    state::{Cause, Key, Keyed, Message, Next, OrderReply, Process, Reply, Row, State},
    stripe::{Answer, Fate, Known, Progress, Stripe},
};

/// What can happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The order is cancelled: by its customer.
    CancelOrder,
    /// It is sent on its way.
    ShipOrder,
    /// The relay reports that the time to pay is over.
    ReportOverdue,
    /// order-consumer receives a reply.
    Settle(OrderReply),
    /// product-consumer releases the stock.
    ReleaseStock,
    /// The message that has caused a reply is received again, and the reply published.
    Publish(OrderReply),
    /// payment-consumer receives a message.
    Receive(Cause),
    /// A process goes on.
    Proceed(usize, Fate),
    /// A process is lost.
    Lose(usize),
    /// The customer pays, at once or by a bank that takes its time.
    Pay(u8, Progress),
    /// The bank decides.
    Decide(u8, Progress),
    /// payment-api receives a webhook about a PaymentIntent: `true` if it reports that the customer could not pay.
    Webhook(u8, bool),
    /// A key becomes too old to be relied on.
    Age(Keyed),
    /// Stripe forgets a key that is too old.
    Forget(Keyed),
}

/// What a reply comes to for an order in some status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    To(Status),
    Already,
    Contradiction,
}

/// The saga of an order that is paid by Stripe.
#[derive(Debug)]
pub struct PaymentSaga {
    pub scenario: Scenario,
    /// What the order service decides, by status and reply: it is asked once, because it clones the whole order each time.
    settled: Vec<[Settled; 3]>,
    cancelled: Vec<Option<Status>>,
    shipped: Vec<Option<Status>>,
}

const REPLIES: [OrderReply; 3] =
    [OrderReply::StockReserved, OrderReply::PaymentSucceeded, OrderReply::PaymentCancelled];
/// Any moment.
const NOW: i64 = 1_800_000_000;

impl PaymentSaga {
    /// The saga of an order in this scenario.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let pending = order();
        let in_statuses = Status::ALL.map(|status| Order { status, ..pending.clone() });
        let settle = |order: &Order, reply| {
            let reply = match reply {
                OrderReply::StockReserved => SagaReply::StockReserved,
                OrderReply::PaymentSucceeded => SagaReply::PaymentSucceeded,
                OrderReply::PaymentCancelled => SagaReply::PaymentCancelled,
            };
            match order_rules::settle(order, reply, Payments::Stripe) {
                Settlement::Apply(transition) => Settled::To(transition.to),
                Settlement::AlreadySettled => Settled::Already,
                Settlement::Contradiction => Settled::Contradiction,
            }
        };
        let decide = |decide: fn(&Order) -> Decision| {
            let decided = in_statuses.iter().map(|order| match decide(order) {
                Decision::Apply(transition) => Some(transition.to),
                Decision::AlreadyApplied | Decision::Refused(_) => None,
            });
            decided.collect()
        };
        let settled = in_statuses.iter().map(|order| REPLIES.map(|reply| settle(order, reply)));
        Self {
            scenario,
            settled: settled.collect(),
            cancelled: decide(order_rules::cancel),
            shipped: decide(order_rules::ship),
        }
    }

    /// What a reply comes to.
    #[must_use]
    pub fn settle(&self, status: Status, reply: OrderReply) -> Settled {
        self.settled[status_place(status)][reply as usize]
    }

    /// What a process does first that has received a message now, or `None` if there is nothing to do.
    fn receive(&self, state: &State, cause: Cause) -> Option<Next> {
        let ending = match cause {
            Cause::Awaiting => {
                return match state.row {
                    None => Some(Next::WriteCreating),
                    Some(row) if row.status == PaymentStatus::Creating => {
                        Some(self.create(state, row))
                    }
                    Some(_) => None,
                };
            }
            Cause::Cancelled => Ending::OrderCancelled,
            Cause::Overdue => Ending::TimeOver,
        };
        let step = payment_rules::end(state.row.map(|row| row.status), ending);
        if cause == Cause::Overdue
            && matches!(step, EndingStep::FinishCreation | EndingStep::Cancel)
            && self.scenario.has(Mistake::ExpiresUnasked)
        {
            return Some(Next::Record(PaymentStatus::Cancelled));
        }
        match (step, state.row) {
            (EndingStep::Nothing, _) => None,
            (EndingStep::PutTombstone, _) | (_, None) => {
                Some(Next::Record(PaymentStatus::Cancelled))
            }
            (EndingStep::FinishCreation, Some(row)) => Some(self.create(state, row)),
            (EndingStep::Cancel, Some(_)) => Some(self.cancel()),
            (EndingStep::Refund, Some(row)) if row.status == PaymentStatus::Succeeded => {
                Some(Next::WriteRefunding)
            }
            (EndingStep::Refund, Some(row)) => Some(self.refund(state, row)),
        }
    }

    /// How a PaymentIntent is made, or found.
    fn create(&self, state: &State, row: Row) -> Next {
        if self.scenario.has(Mistake::CreatesUnderNewKeys) {
            return Next::WriteCreationKey;
        }
        match self.next_step(row.creation, state.creation_is_old) {
            KeyedStep::Send => Next::Create,
            KeyedStep::Find { .. } => Next::FindIntent,
        }
    }

    fn refund(&self, state: &State, row: Row) -> Next {
        if self.scenario.has(Mistake::RefundsUnderNewKeys) {
            return Next::WriteRefundKey;
        }
        match self.next_step(row.refund, state.refund_is_old) {
            KeyedStep::Send => Next::Refund,
            KeyedStep::Find { .. } => Next::FindRefund,
        }
    }

    fn next_step(&self, key: Option<Key>, is_old: bool) -> KeyedStep {
        let is_old = is_old && !self.scenario.has(Mistake::TrustsOldKeys);
        let has_failed =
            !self.scenario.has(Mistake::ReusesFailedKeys) && key.is_some_and(|key| key.has_failed);
        let lifetime = i64::try_from(KEY_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let since = if is_old { NOW - lifetime } else { NOW };
        let now = Timestamp::from_second(NOW).expect("a moment");
        KeyedRequest { key: String::new(), since, has_failed }.next_step(now)
    }

    fn cancel(&self) -> Next {
        if self.scenario.has(Mistake::RecordsBeforeCancelling) {
            Next::Record(PaymentStatus::Cancelled)
        } else {
            Next::Cancel
        }
    }

    /// Writes the row, if it is what the process has read.
    fn write(&self, state: &mut State, process: &mut Process, row: Row) -> Option<()> {
        let is_unguarded = self.scenario.has(Mistake::WritesUnguarded);
        if !process.is_current && !is_unguarded {
            return None;
        }
        state.put(row);
        (process.row, process.is_current) = (Some(row), true);
        if !is_unguarded {
            state.processes.retain(|other| !other.next.is_write());
        }
        Some(())
    }

    /// The state after a process, which is no more among those of the state, has gone on, or `None` if it is where it was.
    fn proceed(&self, mut state: State, mut process: Process, fate: Fate) -> Option<State> {
        let row = process.row;
        let next_key = |key: Option<Key>| {
            let number = key.map_or(0, |key| (key.number + 1).min(self.scenario.keys - 1));
            Some(Key { number, has_failed: false })
        };
        let failed = |key: Option<Key>| key.map(|key| Key { has_failed: true, ..key });
        let next = match process.next {
            Next::WriteCreating => {
                let creating = Row {
                    status: PaymentStatus::Creating,
                    creation: next_key(None),
                    intent: None,
                    refund: None,
                };
                self.write(&mut state, &mut process, creating)?;
                Some(Next::Create)
            }
            Next::FindIntent => Some(match state.stripe.newest_intent() {
                Some(intent) => self.made(&mut process, intent),
                None => Next::WriteCreationKey,
            }),
            Next::WriteCreationKey => {
                let row = row?;
                let renewed = Row { creation: next_key(row.creation), ..row };
                self.write(&mut state, &mut process, renewed)?;
                state.creation_is_old = false;
                Some(Next::Create)
            }
            Next::Create => {
                let key = row?.creation?.number;
                match state.stripe.create(key, fate, self.scenario.keeps_failures) {
                    Answer::Done(intent) => Some(self.made(&mut process, intent)),
                    Answer::Failed => Some(Next::WriteCreationFailed),
                    Answer::Refused => Some(Next::Record(PaymentStatus::Cancelled)),
                }
            }
            Next::WriteCreationFailed => {
                let row = row?;
                let noted = Row { creation: failed(row.creation), ..row };
                self.write(&mut state, &mut process, noted)?;
                None
            }
            Next::Cancel => {
                if state.stripe.cancel(row?.intent?) {
                    self.conclude(&mut state, &process, Progress::Canceled)
                } else {
                    Some(Next::Ask)
                }
            }
            Next::Ask => {
                let progress = state.stripe.progress(row?.intent?);
                self.conclude(&mut state, &process, progress)
            }
            Next::Record(to) => {
                let is_tombstone = row.is_none();
                let never = Row { status: to, creation: None, intent: None, refund: None };
                let recorded = Row { status: to, ..row.unwrap_or(never) };
                self.write(&mut state, &mut process, recorded)?;
                let reply = Reply::Stored(process.cause);
                match to {
                    PaymentStatus::Succeeded => state.payment_succeeded = reply,
                    PaymentStatus::Cancelled
                        if is_tombstone && process.cause == Cause::Cancelled => {}
                    PaymentStatus::Cancelled => state.payment_cancelled = reply,
                    _ => {}
                }
                let is_left = recorded.intent.is_some() && to == PaymentStatus::Cancelled;
                let is_planted = self.scenario.has(Mistake::RecordsBeforeCancelling);
                (is_left && is_planted).then_some(Next::Cancel)
            }
            Next::RecordSuccess => {
                let row = row?;
                let paid = Row { status: PaymentStatus::Succeeded, ..row };
                self.write(&mut state, &mut process, paid)?;
                state.payment_succeeded = Reply::Sent(Message::Waiting);
                None
            }
            Next::WriteRefunding => {
                let row = row?;
                let (status, refund) = (PaymentStatus::Refunding, next_key(None));
                self.write(&mut state, &mut process, Row { status, refund, ..row })?;
                state.refund_is_old = false;
                Some(Next::Refund)
            }
            Next::FindRefund => {
                let intent = usize::from(row?.intent?);
                Some(if state.stripe.intents[intent].refunds > 0 {
                    Next::Record(PaymentStatus::Refunded)
                } else {
                    Next::WriteRefundKey
                })
            }
            Next::WriteRefundKey => {
                let row = row?;
                let renewed = Row { refund: next_key(row.refund), ..row };
                self.write(&mut state, &mut process, renewed)?;
                state.refund_is_old = false;
                Some(Next::Refund)
            }
            Next::Refund => {
                let row = row?;
                let refuses_second = self.scenario.refuses_second_refund;
                let (key, intent) = (row.refund?.number, row.intent?);
                Some(match state.stripe.refund(key, intent, fate, refuses_second) {
                    Answer::Failed => Next::WriteRefundFailed,
                    // It is looked for, and found: what was given back stays so.
                    Answer::Done(_) | Answer::Refused => Next::Record(PaymentStatus::Refunded),
                })
            }
            Next::WriteRefundFailed => {
                let row = row?;
                let noted = Row { refund: failed(row.refund), ..row };
                self.write(&mut state, &mut process, noted)?;
                None
            }
        };
        if let Some(next) = next {
            state.keep(Process { next, ..process }, &self.scenario);
        }
        Some(state)
    }

    /// What a process does with a PaymentIntent that was made, now or before.
    fn made(&self, process: &mut Process, intent: u8) -> Next {
        process.row = process.row.map(|row| Row { intent: Some(intent), ..row });
        match process.cause {
            Cause::Awaiting => Next::Record(PaymentStatus::Open),
            Cause::Cancelled | Cause::Overdue => self.cancel(),
        }
    }

    /// What a process does when Stripe has said what has become of a PaymentIntent that was to be cancelled. `None` if that is all.
    fn conclude(&self, state: &mut State, process: &Process, progress: Progress) -> Option<Next> {
        let observed = observe(progress.status());
        match (payment_rules::conclude(process.row?.status, observed), process.cause) {
            (Some(PaymentStatus::Succeeded), Cause::Cancelled) => Some(Next::RecordSuccess),
            (Some(to), _) => Some(Next::Record(to)),
            // It has an error, and comes again.
            (None, _) if observed == Observed::Unpaid => None,
            (None, Cause::Cancelled) if !self.scenario.has(Mistake::ForgetsUndecided) => None,
            // The relay asks again.
            (None, cause) => {
                *state.message_mut(cause) = Message::Acknowledged;
                None
            }
        }
    }

    /// payment-api asks Stripe, and writes what has happened.
    fn handle_webhook(&self, state: &mut State, intent: u8, is_decline: bool) -> Option<()> {
        let row = state.row?;
        if row.intent.is_some_and(|known| known != intent) {
            return None;
        }
        let row = Row { intent: Some(intent), ..row };
        let observed = observe(state.stripe.progress(intent).status());
        match payment_rules::conclude(row.status, observed) {
            Some(to) => {
                state.put(Row { status: to, ..row });
                let reply = if to == PaymentStatus::Succeeded {
                    &mut state.payment_succeeded
                } else {
                    &mut state.payment_cancelled
                };
                *reply = Reply::Sent(Message::Waiting);
            }
            None => {
                let is_open = matches!(row.status, PaymentStatus::Creating | PaymentStatus::Open);
                if !is_open || !is_decline || observed != Observed::Unpaid {
                    return None;
                }
                state.put(row);
            }
        }
        if !self.scenario.has(Mistake::WritesUnguarded) {
            state.processes.retain(|other| !other.next.is_write());
        }
        Some(())
    }

    /// The key that a request of the payment has, if it may become too old now.
    fn key_in_use(&self, state: &State, keyed: Keyed) -> Option<Key> {
        let row = state.row?;
        let (status, key) = match keyed {
            Keyed::Creation => (PaymentStatus::Creating, row.creation?),
            Keyed::Refund => (PaymentStatus::Refunding, row.refund?),
        };
        let is_last = key.number + 1 == self.scenario.keys;
        (row.status == status && !key.has_failed && !is_last).then_some(key)
    }

    /// Where everything ends if from here on nothing goes wrong, or `None` if something is stuck.
    #[must_use]
    pub fn end(&self, state: &State) -> Option<State> {
        // More than any state has left to do.
        const STEPS_MAX: usize = 60;
        let mut state = state.clone();
        for _ in 0..STEPS_MAX {
            let Some(step) = self.due(&state) else { return Some(state) };
            state = self.next_state(&state, step)?;
        }
        None
    }

    /// What happens next if nothing goes wrong and the customer does nothing. A bank decides before anything else.
    fn due(&self, state: &State) -> Option<Step> {
        let intents = (0..).zip(&state.stripe.intents);
        let mut undecided = intents.filter(|(_, one)| one.progress == Progress::Processing);
        if let Some((intent, _)) = undecided.next() {
            return Some(Step::Decide(intent, Progress::Succeeded));
        }
        if !state.processes.is_empty() {
            return Some(Step::Proceed(0, Fate::Done));
        }
        for reply in REPLIES {
            match state.reply(reply) {
                Reply::Stored(_) => return Some(Step::Publish(reply)),
                Reply::Sent(Message::Waiting) => return Some(Step::Settle(reply)),
                Reply::Absent | Reply::Sent(_) => {}
            }
        }
        let causes = [Cause::Awaiting, Cause::Cancelled, Cause::Overdue];
        if let Some(cause) = causes.into_iter().find(|one| state.message(*one) == Message::Waiting)
        {
            return Some(Step::Receive(cause));
        }
        if state.release == Message::Waiting {
            return Some(Step::ReleaseStock);
        }
        // If that is not possible, the order is stuck.
        (state.order == Status::AwaitingPayment).then_some(Step::ReportOverdue)
    }
}
fn status_place(status: Status) -> usize {
    Status::ALL.iter().position(|one| *one == status).expect("every status is there")
}

/// A pending order.
fn order() -> Order {
    let product: ProductId = "p".parse().expect("an id");
    let entry = CatalogEntry {
        product_id: product.clone(),
        name: "p".parse().expect("a name"),
        price: Money::from_minor(100).expect("in range"),
        currency: Currency::default(),
        active: true,
    };
    let line = events::StockLine {
        product_id: product.clone(),
        quantity: 1_u64.try_into().expect("a quantity"),
    };
    let request = OrderRequest {
        customer_email: "test@example.com".parse().expect("an address"),
        lines: vec![line],
        expected_total: None,
    };
    let catalog = [(product, entry)].into();
    let now = "2026-01-01T00:00:00.000Z".parse().expect("a moment");
    order_rules::place("o".parse().expect("an id"), request, &catalog, &Currency::default(), now)
        .expect("an order")
}

impl Model for PaymentSaga {
    type State = State;
    type Action = Step;

    /// Stock is taken, and the order service does not know it yet.
    fn init_states(&self) -> Vec<State> {
        let state = |refuses| State {
            order: Status::Pending,
            reservation: ReservationStatus::Reserved,
            row: None,
            creation_is_old: false,
            refund_is_old: false,
            stock_reserved: Message::Waiting,
            awaiting: Message::Unpublished,
            cancelled: Message::Unpublished,
            overdue: Message::Unpublished,
            release: Message::Unpublished,
            payment_succeeded: Reply::Absent,
            payment_cancelled: Reply::Absent,
            stripe: Stripe::new(refuses, self.scenario.keys),
            processes: Vec::new(),
            has_moved_back: false,
        };
        [false, true].map(state).into()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend([Step::CancelOrder, Step::ShipOrder, Step::ReportOverdue, Step::ReleaseStock]);
        for reply in REPLIES {
            match state.reply(reply) {
                Reply::Absent => {}
                Reply::Stored(_) => steps.push(Step::Publish(reply)),
                Reply::Sent(_) => steps.push(Step::Settle(reply)),
            }
        }
        for cause in [Cause::Awaiting, Cause::Cancelled, Cause::Overdue] {
            if state.message(cause) != Message::Unpublished {
                steps.push(Step::Receive(cause));
            }
        }
        for (place, process) in state.processes.iter().enumerate() {
            steps.push(Step::Lose(place));
            steps.push(Step::Proceed(place, Fate::Done));
            let (key, keys) = match (process.next, process.row) {
                (Next::Create, Some(row)) => (row.creation, &state.stripe.creation_keys),
                (Next::Refund, Some(row)) => (row.refund, &state.stripe.refund_keys),
                _ => continue,
            };
            let may_fail = key.is_some_and(|key| {
                key.number + 1 < self.scenario.keys
                    && keys[usize::from(key.number)] == Known::Nothing
            });
            // Of a mistake that makes more and more of them, two are enough.
            let is_few = state.stripe.intents.len() < 2;
            if may_fail && (is_few || process.next == Next::Refund) {
                steps.push(Step::Proceed(place, Fate::DoneAndFailed));
            }
            if may_fail {
                steps.push(Step::Proceed(place, Fate::Failed));
            }
        }
        for (number, intent) in (0..).zip(&state.stripe.intents) {
            match intent.progress {
                Progress::Open if intent.is_offered => {
                    steps.push(Step::Pay(number, Progress::Succeeded));
                    steps.push(Step::Pay(number, Progress::Processing));
                }
                Progress::Processing => {
                    steps.push(Step::Decide(number, Progress::Succeeded));
                    steps.push(Step::Decide(number, Progress::Open));
                }
                Progress::Open => {}
                Progress::Succeeded | Progress::Canceled => {
                    steps.push(Step::Webhook(number, false));
                }
            }
            if intent.is_offered {
                // A card may have been declined at any time since.
                steps.push(Step::Webhook(number, true));
            }
        }
        for keyed in [Keyed::Creation, Keyed::Refund] {
            steps.extend([Step::Age(keyed), Step::Forget(keyed)]);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::CancelOrder => {
                state.order = self.cancelled[status_place(state.order)]?;
                (state.cancelled, state.release) = (Message::Waiting, Message::Waiting);
            }
            Step::ShipOrder => state.order = self.shipped[status_place(state.order)]?,
            Step::ReportOverdue => {
                let is_asked = state.overdue != Message::Unpublished;
                if state.order != Status::AwaitingPayment
                    || state.overdue == Message::Waiting
                    || is_asked && self.scenario.has(Mistake::AsksOnce)
                {
                    return None;
                }
                state.overdue = Message::Waiting;
            }
            Step::Settle(reply) => match self.settle(state.order, reply) {
                Settled::To(status) => state.order = status,
                // What it has caused is published, if the one before was lost in between.
                Settled::Already | Settled::Contradiction => {
                    state.set_reply(reply, Message::Acknowledged);
                    let caused = match (reply, state.order) {
                        (OrderReply::PaymentCancelled, Status::Expired) => &mut state.release,
                        (OrderReply::StockReserved, order) if order != Status::Cancelled => {
                            &mut state.awaiting
                        }
                        _ => return (state != *last).then_some(state),
                    };
                    if *caused == Message::Unpublished {
                        *caused = Message::Waiting;
                    }
                }
            },
            Step::ReleaseStock => {
                if state.release != Message::Waiting {
                    return None;
                }
                let items = Vec::new();
                let reservation = Reservation { status: state.reservation, items };
                match product_rules::release(Some(reservation)) {
                    Release::GiveBack(_) => state.reservation = ReservationStatus::Released,
                    Release::Tombstone => state.reservation = ReservationStatus::Cancelled,
                    Release::Nothing => {}
                }
                state.release = Message::Acknowledged;
            }
            Step::Publish(reply) => state.set_reply(reply, Message::Waiting),
            Step::Receive(cause) => match self.receive(&state, cause) {
                Some(next) => {
                    if state.processes.len() == self.scenario.processes_max {
                        return None;
                    }
                    let row = state.row;
                    state.keep(Process { cause, next, row, is_current: true }, &self.scenario);
                }
                // Its reply is published first. Of OrderPaymentOverdue it is another one that has caused it.
                None if cause != Cause::Overdue
                    && (state.payment_succeeded == Reply::Stored(cause)
                        || state.payment_cancelled == Reply::Stored(cause)) =>
                {
                    return None;
                }
                None => *state.message_mut(cause) = Message::Acknowledged,
            },
            Step::Proceed(place, fate) => {
                let process = state.processes.remove(place);
                state = self.proceed(state, process, fate)?;
            }
            Step::Lose(place) => drop(state.processes.remove(place)),
            Step::Pay(intent, progress) | Step::Decide(intent, progress) => {
                state.stripe.intents[usize::from(intent)].progress = progress;
            }
            Step::Webhook(intent, is_decline) => {
                self.handle_webhook(&mut state, intent, is_decline)?;
            }
            Step::Age(keyed) => {
                let key = self.key_in_use(&state, keyed)?;
                if !self.scenario.ages_in_use && state.uses(keyed, key.number) {
                    return None;
                }
                match keyed {
                    Keyed::Creation => state.creation_is_old = true,
                    Keyed::Refund => state.refund_is_old = true,
                }
            }
            Step::Forget(keyed) => {
                let key = self.key_in_use(&state, keyed)?.number;
                // No process lives from before a key is too old until Stripe forgets it: that is four hours.
                if state.uses(keyed, key) {
                    return None;
                }
                let (is_old, keys) = match keyed {
                    Keyed::Creation => (state.creation_is_old, &mut state.stripe.creation_keys),
                    Keyed::Refund => (state.refund_is_old, &mut state.stripe.refund_keys),
                };
                if !is_old {
                    return None;
                }
                keys[usize::from(key)] = Known::Nothing;
            }
        }
        // What changes nothing is no step.
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
