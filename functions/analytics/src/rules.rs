//! What an event counts for, and which events are counted in one transaction.
//!
//! In: events. Out: rows, and what is added to each. Guarantees: pure; what several events add to a row is the sum of what each
//! adds, in whatever order and in whatever groups they come; no sum is rounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    str::FromStr,
};

use events::{Body, Currency, Event, Line, ProductId};
use jiff::{civil::Date, tz::TimeZone};
use order::rules::Status;

/// One row: what is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The day (UTC) on which the event happened: that of the change of status, not that of the order.
    pub day: Date,
    pub product_id: ProductId,
    /// To which the order came by the event.
    pub status: Status,
    /// Sums of two currencies would be of none.
    pub currency: Currency,
}

/// What a row is read from is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row is PRODUCT_ID#STATUS#CURRENCY")]
pub struct InvalidRow;

impl Row {
    /// The key of the row within its day: `PRODUCT_ID#STATUS#CURRENCY`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}#{}#{}", self.product_id, self.status.as_str(), self.currency)
    }

    /// The row of a day with this key.
    ///
    /// # Errors
    /// It is no key of a row.
    pub fn of_key(day: Date, key: &str) -> Result<Self, InvalidRow> {
        // None of the three has a # in it.
        let parts: Vec<&str> = key.split('#').collect();
        let [product_id, status, currency] = parts[..] else { return Err(InvalidRow) };
        let status = Status::ALL.into_iter().find(|known| known.as_str() == status);
        Ok(Self {
            day,
            product_id: product_id.parse().map_err(|_| InvalidRow)?,
            status: status.ok_or(InvalidRow)?,
            currency: currency.parse().map_err(|_| InvalidRow)?,
        })
    }
}

/// What is added to a row, or has been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Pieces.
    pub units: u64,
    /// Minor units of the row's currency. Wider than an amount of an order: it is the sum of any number of them.
    pub revenue: i128,
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        self.units += other.units;
        self.revenue += other.revenue;
    }
}

/// Rows with what is added to each, in the order of their keys: the same events make the same transaction.
pub type Totals = BTreeMap<Row, Amounts>;

/// What one event adds, each product once; nothing, if it brings no order to another status.
#[must_use]
pub fn additions(event: &Event) -> Vec<(Row, Amounts)> {
    let Some((status, lines, currency)) = outcome(event) else { return Vec::new() };
    let day = event.timestamp.timestamp().to_zoned(TimeZone::UTC).date();
    let addition = |line: &Line| {
        let (product_id, currency) = (line.product_id.clone(), currency.clone());
        let amounts =
            Amounts { units: line.quantity.get().into(), revenue: line.line_total.minor().into() };
        (Row { day, product_id, status, currency }, amounts)
    };
    lines.iter().map(addition).collect()
}

/// The status that an order comes to by an event, and its lines.
fn outcome(event: &Event) -> Option<(Status, &[Line], &Currency)> {
    let (status, order) = match &event.body {
        Body::OrderCreated(order) => (Status::Pending, order),
        Body::OrderAwaitingPayment(order) => (Status::AwaitingPayment, order),
        Body::OrderConfirmed(order) => (Status::Confirmed, order),
        Body::OrderCancelled(order) => (Status::Cancelled, order),
        Body::OrderShipped(order) => (Status::Shipped, order),
        Body::OrderExpired(order) => (Status::Expired, order),
        Body::OrderRejected(order) => {
            return Some((Status::Rejected, &order.items, &order.currency));
        }
        Body::StockReserved(_)
        | Body::StockReleased(_)
        | Body::StockRejected(_)
        | Body::OrderPaymentReminder(_)
        | Body::OrderPaymentOverdue(_)
        | Body::PaymentRequested(_)
        | Body::PaymentSucceeded(_)
        | Body::PaymentFailed(_)
        | Body::PaymentCancelled(_)
        | Body::PaymentRefunded(_) => return None,
    };
    Some((status, &order.items, &order.currency))
}

/// What these events add together.
#[must_use]
pub fn total<'a>(events: impl IntoIterator<Item = &'a Event>) -> Totals {
    let mut total = Totals::new();
    for (row, amounts) in events.into_iter().flat_map(additions) {
        *total.entry(row).or_default() += amounts;
    }
    total
}

/// The events that count, by their places, as many in a group as one transaction has room for: a marker for each, and each row
/// once. An event that came twice is in the groups once, because a transaction names each item once.
#[must_use]
pub fn groups(events: &[&Event], writes_max: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut seen = BTreeSet::new();
    // Of the last group.
    let mut rows: BTreeSet<Row> = BTreeSet::new();
    for (place, event) in events.iter().enumerate() {
        let of_event: BTreeSet<Row> = additions(event).into_iter().map(|(row, _)| row).collect();
        if of_event.is_empty() || !seen.insert(event.id) {
            continue;
        }
        let together: BTreeSet<Row> = rows.union(&of_event).cloned().collect();
        match groups.last_mut() {
            Some(group) if group.len() + 1 + together.len() <= writes_max => {
                group.push(place);
                rows = together;
            }
            _ => {
                groups.push(vec![place]);
                rows = of_event;
            }
        }
    }
    groups
}

/// A day written as `2026-05-03`, and in no other of ISO 8601's forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(Date);

impl Day {
    /// What it is, as the end of "`field` …".
    pub const EXPECTED: &'static str = "must be a day like 2026-05-03";

    #[must_use]
    pub fn date(self) -> Date {
        self.0
    }
}

impl From<Date> for Day {
    fn from(date: Date) -> Self {
        Self(date)
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let date: Date = text.parse().map_err(|_| Self::EXPECTED)?;
        if date.to_string() == text { Ok(Self(date)) } else { Err(Self::EXPECTED) }
    }
}

/// Maximum number of days that are read at once: a quarter.
pub const DAYS_MAX: i32 = 92;

/// Some days on end, the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    from: Date,
    to: Date,
}

impl Days {
    /// From one day to another, or `None` if the other is earlier, or there are more than [`DAYS_MAX`].
    #[must_use]
    pub fn new(from: Day, to: Day) -> Option<Self> {
        let (from, to) = (from.date(), to.date());
        let between = from.until(to).ok()?.get_days();
        (0..DAYS_MAX).contains(&between).then_some(Self { from, to })
    }

    #[must_use]
    pub fn first(self) -> Date {
        self.from
    }

    #[must_use]
    pub fn last(self) -> Date {
        self.to
    }

    /// Each of them, from this one on.
    pub fn since(self, day: Date) -> impl Iterator<Item = Date> {
        let first = day.max(self.from);
        let to = self.to;
        std::iter::successors(Some(first), |day| day.tomorrow().ok())
            .take_while(move |day| *day <= to)
    }
}

#[cfg(test)]
mod tests {
    use events::{CorrelationId, Money, Order, Quantity};
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn line(product: u8, quantity: u64, unit_minor: i64) -> Line {
        let quantity = Quantity::try_from(quantity).expect("a quantity");
        let unit_price = Money::from_minor(unit_minor).expect("an amount");
        Line {
            product_id: format!("p{product}").parse().expect("an id"),
            product_name: "Lamp".parse().expect("a name"),
            quantity,
            unit_price,
            line_total: unit_price.times(quantity).expect("an amount"),
        }
    }

    fn order(lines: Vec<Line>) -> Order {
        Order {
            order_id: "o1".parse().expect("an id"),
            total_price: Money::sum(lines.iter().map(|line| line.line_total)).expect("an amount"),
            items: lines,
            currency: Currency::default(),
            customer_email: "a@example.com".parse().expect("an address"),
        }
    }

    fn event(number: u128, at: &str, body: Body) -> Event {
        Event {
            id: Uuid::from_u128(number),
            timestamp: at.parse().expect("a moment"),
            correlation_id: "c".parse::<CorrelationId>().expect("an id"),
            body,
        }
    }

    const NOON: &str = "2026-05-03T12:00:00.000Z";

    #[test]
    fn the_day_is_that_of_the_event_in_utc() {
        for (at, day) in [
            ("2026-05-03T23:59:59.999Z", "2026-05-03"),
            ("2026-05-04T00:00:00.000Z", "2026-05-04"),
            ("2026-05-04T01:30:00+02:00", "2026-05-03"),
        ] {
            let rows = additions(&event(1, at, Body::OrderShipped(order(vec![line(1, 2, 150)]))));
            assert_eq!(rows[0].0.day.to_string(), day, "{at}");
            assert_eq!(rows[0].1, Amounts { units: 2, revenue: 300 });
        }
    }

    #[test]
    fn a_row_has_a_key_from_which_it_is_read() {
        let day: Date = "2026-05-03".parse().expect("a day");
        let row = Row {
            day,
            product_id: "a-b_c".parse().expect("an id"),
            status: Status::AwaitingPayment,
            currency: Currency::default(),
        };
        assert_eq!(row.key(), "a-b_c#awaiting_payment#UAH");
        assert_eq!(Row::of_key(day, &row.key()), Ok(row));
        for bad in [
            "",
            "p",
            "p#confirmed",
            "p#lost#UAH",
            "p#confirmed#uah",
            "#confirmed#UAH",
            "p#q#confirmed#UAH",
        ] {
            assert_eq!(Row::of_key(day, bad), Err(InvalidRow), "{bad}");
        }
    }

    #[test]
    fn every_status_of_an_order_is_counted_and_nothing_else_is() {
        let whole = || order(vec![line(1, 1, 100)]);
        let rejected =
            events::RejectedOrder::new(whole(), "Too little.".parse().expect("a reason"));
        let counted = [
            Body::OrderCreated(whole()),
            Body::OrderAwaitingPayment(whole()),
            Body::OrderConfirmed(whole()),
            Body::OrderRejected(rejected),
            Body::OrderCancelled(whole()),
            Body::OrderShipped(whole()),
            Body::OrderExpired(whole()),
        ];
        let statuses: Vec<Status> = counted
            .into_iter()
            .flat_map(|body| additions(&event(1, NOON, body)))
            .map(|(row, _)| row.status)
            .collect();
        assert_eq!(statuses, Status::ALL);
        for body in [Body::OrderPaymentReminder(whole()), Body::OrderPaymentOverdue(whole())] {
            assert_eq!(additions(&event(1, NOON, body)), []);
        }
    }

    #[test]
    fn days_are_written_in_one_form_and_at_most_a_quarter_of_them_is_asked_for() {
        let day = |text: &str| text.parse::<Day>();
        for bad in
            ["", "2026-5-3", "20260503", "2026-02-30", "2026-05-03T00:00:00", "+002026-05-03"]
        {
            assert!(day(bad).is_err(), "{bad}");
        }
        let days = |from, to| Days::new(day(from).expect("a day"), day(to).expect("a day"));
        assert!(days("2026-05-03", "2026-05-02").is_none());
        assert!(days("2026-01-01", "2026-04-03").is_none(), "93 days");
        let quarter = days("2026-01-01", "2026-04-02").expect("92 days");
        assert_eq!(quarter.since(quarter.first()).count(), 92);
        let last = quarter.last();
        assert_eq!(quarter.since(last).collect::<Vec<_>>(), [last]);
        assert_eq!(quarter.since(last.tomorrow().expect("a day")).count(), 0);
        let one = days("2026-05-03", "2026-05-03").expect("a day");
        assert_eq!(one.since(one.first()).count(), 1);
    }

    /// The lines of an order (quantity and price by product), what happened to it, and on which day.
    type SomeEvent = (BTreeMap<u8, (u64, i64)>, usize, i64);

    /// Events of some products on three days.
    fn some_events() -> impl Strategy<Value = Vec<Event>> {
        let lines = prop::collection::btree_map(0..30_u8, (1..=1000_u64, 0..1_000_000_i64), 1..=50);
        let kinds = 0..3_usize;
        prop::collection::vec((lines, kinds, 0..3_i64), 0..25).prop_map(|events| {
            let one = |(number, (lines, kind, day)): (usize, SomeEvent)| {
                let lines =
                    lines.into_iter().map(|(p, (quantity, price))| line(p, quantity, price));
                let order = order(lines.collect());
                let body = match kind {
                    0 => Body::OrderCreated(order),
                    1 => Body::OrderConfirmed(order),
                    _ => Body::OrderPaymentReminder(order),
                };
                let noon: Timestamp = NOON.parse().expect("a moment");
                let at = noon + SignedDuration::from_hours(24 * day);
                Event { timestamp: at.into(), ..event(number as u128, NOON, body) }
            };
            events.into_iter().enumerate().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn however_events_are_grouped_their_sum_is_that_of_each_by_itself(
            events in some_events(), twice in any::<bool>(), room in 51..=100_usize,
        ) {
            let mut all: Vec<&Event> = events.iter().collect();
            if twice {
                all.extend(events.iter());
            }
            let groups = groups(&all, room);
            let mut places: Vec<usize> = groups.concat();
            places.sort_unstable();
            let wanted: Vec<usize> = (0..events.len()).filter(|place| !additions(&events[*place]).is_empty()).collect();
            prop_assert_eq!(places, wanted, "each event that counts is in one group");
            let mut sum = Totals::new();
            for group in &groups {
                let of_group = total(group.iter().map(|place| all[*place]));
                prop_assert!(group.len() + of_group.len() <= room);
                for (row, amounts) in of_group {
                    *sum.entry(row).or_default() += amounts;
                }
            }
            let (mut units, mut revenue) = (0, 0);
            for amounts in sum.values() {
                units += amounts.units;
                revenue += amounts.revenue;
            }
            let lines = events.iter().flat_map(additions);
            let each = lines.fold((0, 0), |(u, r), (_, one)| (u + one.units, r + one.revenue));
            prop_assert_eq!((units, revenue), each);
            prop_assert_eq!(sum, total(&events));
        }
    }
}
