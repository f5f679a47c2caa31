//! What is true of every state that orders can come to, and which states there must be.
//!
//! The second kind keeps the first from being true of nothing: a model in which no order is ever cancelled
//! would promise much.

use events::EventType::{self, *};
use order::rules::Status;
use product::rules::ReservationStatus;
use stateright::Property;

use crate::{
    saga::{Process, Saga, State},
    tables::{LoggedEvent, Message, Row},
};

#[must_use]
pub fn all() -> Vec<Property<Saga>> {
    vec![
        always("stock is never negative", |_, state| {
            state.tables.stock.iter().all(|stock| *stock >= 0)
        }),
        always("no piece is lost or doubled", |saga, state| {
            stock_is_what_is_not_held(saga, state, |row| {
                row.reservation == Some(ReservationStatus::Reserved)
            })
        }),
        always("each event is logged once an order at most", |_, state| {
            state.tables.orders.iter().all(|row| {
                row.events.windows(2).all(|neighbours| neighbours[0].kind != neighbours[1].kind)
            })
        }),
        always("an order has one fate, and its events report it", |_, state| {
            state.tables.orders.iter().all(has_one_fate)
        }),
        always("what is confirmed or shipped has its stock", |_, state| {
            state.tables.orders.iter().all(|row| {
                !matches!(row.status, Some(Status::Confirmed | Status::Shipped))
                    || row.reservation == Some(ReservationStatus::Reserved)
            })
        }),
        always("a reservation is what its events report", |_, state| {
            state.tables.orders.iter().all(has_one_reservation)
        }),
        always("a rejection reports what was short", reports_what_was_short),
        always("whatever is not published yet has somebody who will publish it", |_, state| {
            state
                .tables
                .orders
                .iter()
                .all(|row| row.events.iter().all(|event| will_be_published(row, event)))
        }),
        always("everything comes to rest if nothing more goes wrong", |saga, state| {
            saga.end(state).is_some()
        }),
        always("at rest no order is stuck", |_, state| {
            !state.is_at_rest()
                || state.tables.orders.iter().all(|row| row.status != Some(Status::Pending))
        }),
        always("at rest only confirmed and shipped orders hold stock", |saga, state| {
            !state.is_at_rest()
                || stock_is_what_is_not_held(saga, state, |row| {
                    matches!(row.status, Some(Status::Confirmed | Status::Shipped))
                })
        }),
        always("at rest every message has been handled", |_, state| {
            let mut event = state.tables.orders.iter().flat_map(|row| &row.events);
            !state.is_at_rest()
                || event.all(|event| {
                    !crate::tables::is_queued(event.kind) || event.message == Message::Acknowledged
                })
        }),
        sometimes(CONFIRMED, |_, state| at_rest(state, |row| is(row, Status::Confirmed))),
        sometimes(REJECTED, |_, state| at_rest(state, |row| is(row, Status::Rejected))),
        sometimes(SHIPPED, |_, state| at_rest(state, |row| is(row, Status::Shipped))),
        sometimes(CANCELLED_LATE, |_, state| {
            at_rest(state, |row| is(row, Status::Cancelled) && row.event(OrderConfirmed).is_some())
        }),
        sometimes(CANCELLED_UNSEEN, |_, state| {
            at_rest(state, |row| row.reservation == Some(ReservationStatus::Cancelled))
        }),
        sometimes(OVERTAKEN, |_, state| {
            state.tables.orders.iter().any(|row| {
                is(row, Status::Cancelled)
                    && row.reservation == Some(ReservationStatus::Reserved)
                    && message(row, StockReserved) == Some(Message::Waiting)
            })
        }),
        sometimes(TOMBSTONE_LATE, |_, state| {
            state.processes.iter().any(|process| {
                matches!(process, Process::Release(order, None)
                    if state.tables.orders[*order].reservation == Some(ReservationStatus::Reserved))
            })
        }),
        sometimes(REPEATED, |_, state| {
            any(state, |event| event.marked && !event.pending && event.message == Message::Waiting)
        }),
        sometimes(LOST_UNACKNOWLEDGED, |_, state| {
            let reserved = |row: &Row| {
                row.event(StockReserved).is_some_and(|event| event.message == Message::Unpublished)
            };
            state.processes.is_empty()
                && state.tables.orders.iter().any(|row| {
                    reserved(row) && message(row, OrderCreated) == Some(Message::Waiting)
                })
        }),
        sometimes(ENQUEUED, |_, state| {
            any(state, |event| event.kind == StockReserved && event.pending)
        }),
        sometimes(STANDS_LATE, |_, state| {
            state
                .tables
                .orders
                .iter()
                .any(|row| row.unpublished && message(row, StockReserved) == Some(Message::Waiting))
        }),
        sometimes(PUBLISHED_UNCLEARED, |_, state| {
            any(state, |event| event.pending && event.message == Message::Acknowledged)
        }),
    ]
}

/// An order that is left alone.
pub const CONFIRMED: &str = "an order ends confirmed";
/// An order of more than there is.
pub const REJECTED: &str = "an order ends rejected";
/// An order that is sent on its way.
pub const SHIPPED: &str = "an order ends shipped";
/// An order that was confirmed first.
pub const CANCELLED_LATE: &str = "an order ends cancelled after it was confirmed";
/// An order whose cancellation was faster than its creation.
pub const CANCELLED_UNSEEN: &str = "an order ends cancelled before it was seen created";
/// A confirmation that meets a cancelled order.
pub const OVERTAKEN: &str = "a reservation is reported after its order was cancelled";
/// A reservation that is faster than the tombstone that was to prevent it.
pub const TOMBSTONE_LATE: &str = "a tombstone is about to lose its race";
/// A duplicate that is about to meet a marker.
pub const REPEATED: &str = "an event comes again after it had its effect";
/// A consumer that was lost between its transaction and everything after it.
pub const LOST_UNACKNOWLEDGED: &str = "a process is lost after its transaction";
/// A consumer whose event SNS did not take.
pub const ENQUEUED: &str = "an event that a message has caused is in the outbox";
/// An order that is settled before the relay has looked at it.
pub const STANDS_LATE: &str = "an order stands for its event when its stock is reserved";
/// A producer was lost between publishing and clearing, or a cancelled order had its event put in the outbox.
const PUBLISHED_UNCLEARED: &str = "an event is in the outbox although it was published";

/// A named function, so that closures know the types that they take.
fn always(promise: &'static str, is_kept: fn(&Saga, &State) -> bool) -> Property<Saga> {
    Property::always(promise, is_kept)
}

fn sometimes(name: &'static str, is_so: fn(&Saga, &State) -> bool) -> Property<Saga> {
    Property::sometimes(name, is_so)
}

fn is(row: &Row, status: Status) -> bool {
    row.status == Some(status)
}

fn message(row: &Row, kind: EventType) -> Option<Message> {
    row.event(kind).map(|event| event.message)
}

fn any(state: &State, is: impl Fn(&LoggedEvent) -> bool) -> bool {
    state.tables.orders.iter().flat_map(|row| &row.events).any(is)
}

fn at_rest(state: &State, is: impl Fn(&Row) -> bool) -> bool {
    state.is_at_rest() && state.tables.orders.iter().any(is)
}

/// By the outbox, by its order, or by the message that has caused it, which is not acknowledged.
fn will_be_published(row: &Row, event: &LoggedEvent) -> bool {
    let mut causes = row.events.iter().filter(|cause| cause.caused == Some(event.kind));
    !crate::tables::is_queued(event.kind)
        || event.message != Message::Unpublished
        || event.pending
        || event.kind == OrderCreated && row.unpublished
        || causes.any(|cause| cause.message == Message::Waiting)
}

fn stock_is_what_is_not_held(saga: &Saga, state: &State, holds: impl Fn(&Row) -> bool) -> bool {
    saga.scenario.stock.iter().enumerate().all(|(product, initial)| {
        let orders = saga.scenario.orders.iter().zip(&state.tables.orders);
        let held: i64 = orders
            .filter(|(_, row)| holds(row))
            .flat_map(|(placed, _)| &placed.pieces)
            .filter(|(of, _)| *of == product)
            .map(|(_, pieces)| pieces)
            .sum();
        i64::try_from(*initial).is_ok_and(|initial| initial == state.tables.stock[product] + held)
    })
}

fn has_one_fate(row: &Row) -> bool {
    let event = |kind| row.event(kind).is_some();
    let status_is_reported = match row.status {
        None => row.events.is_empty(),
        Some(Status::Pending) => {
            event(OrderCreated)
                && ![OrderConfirmed, OrderRejected, OrderCancelled, OrderShipped]
                    .into_iter()
                    .any(event)
        }
        Some(Status::Confirmed) => event(OrderConfirmed) && !event(OrderCancelled),
        Some(Status::Rejected) => event(OrderRejected),
        Some(Status::Cancelled) => event(OrderCancelled),
        Some(Status::Shipped) => event(OrderShipped),
        // Orders are not paid here.
        Some(Status::AwaitingPayment | Status::Expired) => false,
    };
    let never_both = [
        (OrderConfirmed, OrderRejected),
        (OrderCancelled, OrderRejected),
        (OrderCancelled, OrderShipped),
        (StockReserved, StockRejected),
    ];
    let only_after = [
        (OrderConfirmed, StockReserved),
        (OrderRejected, StockRejected),
        (OrderShipped, OrderConfirmed),
        (StockReleased, StockReserved),
        (StockReleased, OrderCancelled),
    ];
    status_is_reported
        && !never_both.into_iter().any(|(one, other)| event(one) && event(other))
        && only_after.into_iter().all(|(later, first)| !event(later) || event(first))
}

fn has_one_reservation(row: &Row) -> bool {
    let event = |kind| row.event(kind).is_some();
    let is_called_off = row.event(OrderCancelled).is_some_and(|event| event.marked);
    let (reserved, rejected, released) =
        (event(StockReserved), event(StockRejected), event(StockReleased));
    // A cancellation that has had its effect keeps it: no late reservation or rejection takes its place.
    (reserved, rejected, released, is_called_off)
        == match row.reservation {
            None => (false, false, false, false),
            Some(ReservationStatus::Reserved) => (true, false, false, false),
            Some(ReservationStatus::Rejected) => (false, true, false, false),
            Some(ReservationStatus::Released) => (true, false, true, true),
            Some(ReservationStatus::Cancelled) => (false, false, false, true),
        }
}

fn reports_what_was_short(saga: &Saga, state: &State) -> bool {
    saga.scenario.orders.iter().zip(&state.tables.orders).all(|(placed, row)| {
        row.event(StockRejected).is_none_or(|event| {
            let is_short = |(line, available): &(usize, Option<u64>)| {
                let requested = u64::from(placed.lines[*line].quantity.get());
                available.is_none_or(|available| available < requested)
            };
            !event.short.is_empty() && event.short.iter().all(is_short)
        })
    })
}
