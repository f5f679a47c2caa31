//! What is true of every state that the payment of an order can come to, and which states there must be.

use order::rules::Status;
use payment::rules::PaymentStatus;
use product::rules::ReservationStatus;
use stateright::Property;

use super::{
    PaymentSaga,
    saga::Settled,
    state::{Cause, Message, Next, OrderReply, Reply, State},
    stripe::{Intent, Known, Progress},
};

/// What is made is made once.
pub const ONE_INTENT: &str = "an order has one PaymentIntent at most that is not cancelled";
/// And what is not paid is cancelled.
pub const NONE_LEFT: &str =
    "a payment that ends unpaid leaves no PaymentIntent that is not cancelled";
/// No money is taken twice.
pub const CHARGED_ONCE: &str = "an order can be charged by one PaymentIntent at most";
/// Whoever has the goods has paid.
pub const KEPT_IS_PAID: &str = "what is confirmed or shipped is paid once, and not given back";
/// Nor will there be one.
pub const EXPIRED_UNCHARGED: &str = "an order that expired has no charge, and can have none";
/// No money is given back twice.
pub const REFUNDED_ONCE: &str = "no money is given back twice";
/// Not before an order is cancelled.
pub const REFUNDED_CANCELLED: &str = "money is given back of cancelled orders only";
/// By `payment::rules::may_move`.
pub const FORWARD: &str = "a payment only moves forward";
/// What the row says of it, Stripe says as well.
pub const RECORDED_TRULY: &str = "what is recorded of a payment is what has happened at Stripe";
/// By `order::rules::settle`.
pub const NO_CONTRADICTION: &str = "no reply contradicts what its order has come to";
/// The order does not await payment for ever, and no message waits for ever.
pub const COMES_TO_REST: &str = "everything comes to rest if nothing more goes wrong";
/// The customer has the goods or the money.
pub const REST_MONEY: &str = "at rest no money is kept without goods";
/// Not even by a customer who has kept the page open.
pub const REST_UNPAYABLE: &str = "at rest what has ended without goods can be paid no more";
/// Nothing is held for nobody.
pub const REST_STOCK: &str = "at rest only confirmed and shipped orders hold stock";
/// The row is at an end of its own.
pub const REST_RECORDED: &str = "at rest a payment is recorded as what it has come to";

/// An order that is paid in time.
pub const CONFIRMED: &str = "an order ends confirmed";
/// An order that is sent on its way.
pub const SHIPPED: &str = "an order ends shipped";
/// An order whose customer does nothing.
pub const EXPIRED: &str = "an order ends expired";
/// An order that is paid and cancelled.
pub const REFUNDED: &str = "an order ends cancelled, and its money was given back";
/// An order that is cancelled before it is paid.
pub const CANCELLED_UNPAID: &str = "an order ends cancelled, and was never paid";
/// A cancellation that is faster than the beginning of the payment.
pub const TOMBSTONE: &str = "a payment ends before it has begun";
/// An order whose payment is found out by asking, because its webhook was lost.
pub const LOST_WEBHOOK: &str = "a payment is found to have succeeded without a webhook";
/// An order that is overdue while its bank takes its time.
pub const UNDECIDED: &str = "an order is overdue while a bank has not decided";
/// A failure of Stripe's that had not made anything.
pub const RENEWED: &str = "a PaymentIntent is made under another key";
/// A failure of Stripe's that had made what it was asked for.
pub const FOUND: &str = "a PaymentIntent is found that was made under a key that has failed";
/// Days between a call and the look for what it has done.
pub const FOUND_FORGOTTEN: &str = "a PaymentIntent is found of whose key Stripe knows nothing";
/// A second key for a refund.
pub const REFUND_RENEWED: &str = "money is given back under another key";
/// A refund in Stripe's list.
pub const REFUND_FOUND: &str = "a refund is found that was made under a key that has failed";
/// An amount that Stripe does not take.
pub const UNPAYABLE: &str = "an order ends expired that Stripe would never take";
/// A process that has read what another has changed since.
pub const OUT_OF_DATE: &str = "a process is about to call Stripe on what is out of date";

/// What must be true, and what must be there.
#[must_use]
pub fn all() -> Vec<Property<PaymentSaga>> {
    vec![
        always(ONE_INTENT, |_, state| {
            intents(state, |intent| intent.progress != Progress::Canceled) <= 1
        }),
        always(NONE_LEFT, |_, state| {
            !is_recorded(state, PaymentStatus::Cancelled)
                || intents(state, |intent| intent.progress != Progress::Canceled) == 0
        }),
        always(CHARGED_ONCE, |_, state| intents(state, is_chargeable) <= 1),
        always(KEPT_IS_PAID, |_, state| {
            !has_goods(state)
                || intents(state, is_paid) == 1 && intents(state, |intent| intent.refunds > 0) == 0
        }),
        always(EXPIRED_UNCHARGED, |_, state| {
            state.order != Status::Expired || intents(state, is_chargeable) == 0
        }),
        always(REFUNDED_ONCE, |_, state| intents(state, |intent| intent.refunds > 1) == 0),
        always(REFUNDED_CANCELLED, |_, state| {
            state.order == Status::Cancelled || intents(state, |intent| intent.refunds > 0) == 0
        }),
        always(FORWARD, |_, state| !state.has_moved_back),
        always(RECORDED_TRULY, |_, state| is_recorded_truly(state)),
        always(NO_CONTRADICTION, |saga, state| {
            let replies = [OrderReply::PaymentSucceeded, OrderReply::PaymentCancelled];
            replies.into_iter().all(|reply| {
                state.reply(reply) == Reply::Absent
                    || saga.settle(state.order, reply) != Settled::Contradiction
            })
        }),
        always(COMES_TO_REST, |saga, state| saga.end(state).is_some()),
        always(REST_MONEY, |_, state| {
            let is_kept = |intent: &Intent| is_paid(intent) && intent.refunds == 0;
            !state.is_at_rest() || has_goods(state) || intents(state, is_kept) == 0
        }),
        always(REST_UNPAYABLE, |_, state| {
            let is_payable = |intent: &Intent| is_chargeable(intent) && !is_paid(intent);
            !state.is_at_rest() || has_goods(state) || intents(state, is_payable) == 0
        }),
        always(REST_STOCK, |_, state| {
            let expected = if has_goods(state) {
                ReservationStatus::Reserved
            } else {
                ReservationStatus::Released
            };
            !state.is_at_rest() || state.reservation == expected
        }),
        always(REST_RECORDED, |_, state| {
            let expected = match (intents(state, is_paid), has_goods(state)) {
                (0, _) => PaymentStatus::Cancelled,
                (_, true) => PaymentStatus::Succeeded,
                (_, false) => PaymentStatus::Refunded,
            };
            !state.is_at_rest() || is_recorded(state, expected)
        }),
        sometimes(CONFIRMED, |_, state| at_rest(state, Status::Confirmed)),
        sometimes(SHIPPED, |_, state| at_rest(state, Status::Shipped)),
        sometimes(EXPIRED, |_, state| at_rest(state, Status::Expired) && !state.stripe.refuses),
        sometimes(REFUNDED, |_, state| {
            at_rest(state, Status::Cancelled) && is_recorded(state, PaymentStatus::Refunded)
        }),
        sometimes(CANCELLED_UNPAID, |_, state| {
            at_rest(state, Status::Cancelled)
                && is_recorded(state, PaymentStatus::Cancelled)
                && intents(state, |intent| intent.progress == Progress::Canceled) == 1
        }),
        sometimes(TOMBSTONE, |_, state| {
            state.row.is_some_and(|row| row.creation.is_none())
                && state.awaiting == Message::Waiting
        }),
        sometimes(LOST_WEBHOOK, |_, state| {
            state.payment_succeeded == Reply::Stored(Cause::Overdue)
        }),
        sometimes(UNDECIDED, |_, state| {
            state.overdue == Message::Acknowledged
                && intents(state, |intent| intent.progress == Progress::Processing) == 1
                && state.processes.is_empty()
        }),
        sometimes(RENEWED, |_, state| {
            state.row.is_some_and(|row| row.status == PaymentStatus::Open)
                && intents(state, |intent| intent.key > 0) == 1
        }),
        sometimes(FOUND, |_, state| {
            state.row.is_some_and(|row| row.status == PaymentStatus::Open)
                && state.stripe.creation_keys[0] == Known::Failed
                && intents(state, |intent| intent.key == 0) == 1
        }),
        sometimes(FOUND_FORGOTTEN, |_, state| {
            state.row.is_some_and(|row| row.status == PaymentStatus::Open)
                && state.stripe.creation_keys[0] == Known::Nothing
                && intents(state, |intent| intent.key == 0) == 1
        }),
        sometimes(REFUND_RENEWED, |_, state| {
            is_recorded(state, PaymentStatus::Refunded)
                && matches!(state.stripe.refund_keys[1], Known::Done(_))
        }),
        sometimes(REFUND_FOUND, |_, state| {
            is_recorded(state, PaymentStatus::Refunded)
                && state.stripe.refund_keys[0] == Known::Failed
                && state.stripe.refund_keys[1] == Known::Nothing
        }),
        sometimes(UNPAYABLE, |_, state| {
            at_rest(state, Status::Expired) && state.stripe.refuses && state.row.is_some()
        }),
        sometimes(OUT_OF_DATE, |_, state| {
            let calls = [Next::Create, Next::Cancel, Next::Refund];
            state.processes.iter().any(|one| !one.is_current && calls.contains(&one.next))
        }),
    ]
}

/// A named function, so that closures know the types that they take.
fn always(
    promise: &'static str,
    is_kept: fn(&PaymentSaga, &State) -> bool,
) -> Property<PaymentSaga> {
    Property::always(promise, is_kept)
}

fn sometimes(name: &'static str, is_so: fn(&PaymentSaga, &State) -> bool) -> Property<PaymentSaga> {
    Property::sometimes(name, is_so)
}

fn intents(state: &State, is: impl Fn(&Intent) -> bool) -> usize {
    state.stripe.intents.iter().filter(|intent| is(intent)).count()
}

fn is_paid(intent: &Intent) -> bool {
    intent.progress == Progress::Succeeded
}

fn has_goods(state: &State) -> bool {
    matches!(state.order, Status::Confirmed | Status::Shipped)
}

/// It is paid, or may be: whoever has no client secret cannot.
fn is_chargeable(intent: &Intent) -> bool {
    match intent.progress {
        Progress::Open => intent.is_offered,
        Progress::Processing | Progress::Succeeded => true,
        Progress::Canceled => false,
    }
}

fn is_recorded(state: &State, status: PaymentStatus) -> bool {
    state.row.is_some_and(|row| row.status == status)
}

fn is_recorded_truly(state: &State) -> bool {
    let Some(row) = state.row else { return state.stripe.intents.is_empty() };
    let mine = row.intent.and_then(|intent| state.stripe.intents.get(usize::from(intent)));
    match row.status {
        PaymentStatus::Creating => intents(state, is_paid) == 0,
        PaymentStatus::Open => mine.is_some(),
        PaymentStatus::Cancelled => intents(state, is_chargeable) == 0,
        PaymentStatus::Succeeded => mine.is_some_and(|one| is_paid(one) && one.refunds == 0),
        PaymentStatus::Refunding => mine.is_some_and(is_paid),
        PaymentStatus::Refunded => mine.is_some_and(|one| is_paid(one) && one.refunds > 0),
    }
}

fn at_rest(state: &State, order: Status) -> bool {
    state.is_at_rest() && state.order == order
}
