//! The analytics, by another way than the service has them: what the event log says, and what is counted in the table.
//!
//! In: the simulated AWS. Out: rows of units and revenue, and what came of counting them anew. Guarantee: nothing of the service's
//! own rules is used here.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use events::{
    Body, CorrelationId, Currency, Event, Line, Money, Order, Quantity, RejectedOrder, Stamp,
};
use exactly_once::Ids;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use simulated_aws::{Call as AwsCall, Faults, SimulatedAws};
use tokio::task::spawn_local;

use crate::{
    RUN_MAX,
    books::{Item, number, text},
    in_virtual_time,
    lambda::{Harshness, Lambda},
    operator::event_log,
    shop::{self, ANALYTICS, EVENT_LOG, Queue},
};

/// Units and revenue in minor units, by day and by product, status and currency.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct AnalyticsRows(BTreeMap<(String, String), (i64, i64)>);

impl AnalyticsRows {
    /// Adds a row of the table, or takes it away.
    pub(crate) fn add(&mut self, row: &Item, sign: i64) -> Result<()> {
        let day = text(row, "day").split_once('#').context("a generation and a day")?.1;
        let amount = |name: &str| -> Result<i64> { Ok(sign * i64::try_from(number(row, name)?)?) };
        self.add_to(day, text(row, "row"), (amount("units")?, amount("revenue")?))
    }

    pub(crate) fn extend(&mut self, rows: Self) -> Result<()> {
        rows.0.into_iter().try_for_each(|((day, row), amounts)| self.add_to(&day, &row, amounts))
    }

    fn add_to(&mut self, day: &str, row: &str, (units, revenue): (i64, i64)) -> Result<()> {
        let sum = self.0.entry((day.to_owned(), row.to_owned())).or_default();
        sum.0 = sum.0.checked_add(units).context("units")?;
        sum.1 = sum.1.checked_add(revenue).context("revenue")?;
        Ok(())
    }

    /// What is counted in a generation.
    pub(crate) fn counted(aws: &SimulatedAws, generation: u64) -> Result<Self> {
        let mut rows = Self::default();
        for row in aws.items(ANALYTICS) {
            if text(&row, "day").starts_with(&format!("{generation}#")) {
                rows.add(&row, 1)?;
            }
        }
        Ok(rows)
    }

    /// What the whole event log says.
    pub(crate) fn of_log(aws: &SimulatedAws) -> Result<Self> {
        let mut rows = Self::default();
        for event in aws.items(EVENT_LOG) {
            rows.extend(rows_of_event(text(&event, "body"))?)?;
        }
        Ok(rows)
    }
}

/// What one event says.
pub(crate) fn rows_of_event(body: &str) -> Result<AnalyticsRows> {
    let event = Event::decode(body.as_bytes()).context("an event of the log cannot be read")?;
    let status = match event.body.event_type().as_str() {
        "OrderCreated" => "pending",
        "OrderAwaitingPayment" => "awaiting_payment",
        "OrderConfirmed" => "confirmed",
        "OrderRejected" => "rejected",
        "OrderCancelled" => "cancelled",
        "OrderShipped" => "shipped",
        "OrderExpired" => "expired",
        _ => return Ok(AnalyticsRows::default()),
    };
    let (lines, currency) = match &event.body {
        Body::OrderCreated(order)
        | Body::OrderAwaitingPayment(order)
        | Body::OrderConfirmed(order)
        | Body::OrderCancelled(order)
        | Body::OrderShipped(order)
        | Body::OrderExpired(order) => (&order.items, &order.currency),
        Body::OrderRejected(order) => (&order.items, &order.currency),
        _ => bail!("{status} without an order"),
    };
    let day = event.timestamp.to_string();
    let day = day.get(.."2026-01-01".len()).context("a day")?;
    let mut rows = AnalyticsRows::default();
    for line in lines {
        let row = format!("{}#{status}#{currency}", line.product_id);
        let revenue = line.unit_price.minor() * i64::from(line.quantity.get());
        rows.add_to(day, &row, (line.quantity.get().into(), revenue))?;
    }
    Ok(rows)
}

/// Faults while the events are counted for the first time, of a thousand calls each; and messages that come twice.
const FAULTS: Faults = Faults {
    fail: 10,
    lose: 20,
    slow: 5,
    late: 5,
    hang: 0,
    kill_before: 5,
    kill_after: 10,
    partial: 0,
    duplicate: 100,
    mail: 0,
};
const PRODUCTS: u64 = 12;
/// The days on which the orders are placed.
const DAYS: i64 = 2;
/// Of a hundred events, those that are published once more while the log is replayed.
const PUBLISHED_AGAIN: u64 = 5;
const LOOK: Duration = Duration::from_secs(1);
/// Number of orders whose events come at once: batches are full, and the queue is never so long that the simulation takes long to
/// look through it.
const ORDERS_AT_ONCE: usize = 50;

/// What came of counting the analytics anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Events in the log.
    pub events: usize,
    /// Rows, in either generation.
    pub rows: usize,
    /// Pieces that were ordered.
    pub units: i64,
}

/// Has the events of so many orders counted as they come, with faults, and then anew from the event log, under the next generation.
///
/// # Errors
/// Either is not what the log says.
pub fn count_anew(seed: u64, orders: usize) -> Result<Rebuilt> {
    in_virtual_time(seed, async {
        let run = tokio::time::timeout(RUN_MAX, run(seed, orders)).await;
        run.unwrap_or_else(|_| bail!("it did not end within {RUN_MAX:?}"))
    })
}

async fn run(seed: u64, orders: usize) -> Result<Rebuilt> {
    let aws = SimulatedAws::new(seed, Faults::default());
    shop::deploy(&aws);
    // Nobody else is asked: they would need stock and customers.
    for queue in Queue::OF_EVENTS.into_iter().filter(|queue| *queue != Queue::Analytics) {
        aws.delete_queue(&queue.url());
        aws.delete_queue(&queue.dlq_url());
    }
    let config = settings::aws_with(simulated_aws::loader()).await;
    let harshness = Harshness {
        concurrency: 1000,
        is_reserved: false,
        stalls: 5,
        has_unruly_schedule: false,
        has_extensions: true,
    };
    let ids = Ids::seeded(seed);
    let lambda = Lambda::new(&aws, &config, &ids, harshness);
    let mapping = spawn_local(lambda.clone().map(Queue::Analytics));

    aws.set_faults(FAULTS);
    lambda.stall(true);
    let maker = Rc::new(Maker { aws: aws.clone(), ids });
    for number in 0..orders {
        for event in maker.events_of(number)? {
            maker.store_and_publish(&event).await?;
        }
        if number % ORDERS_AT_ONCE == 0 {
            counted(&aws).await;
        }
    }
    counted(&aws).await;
    let logged = AnalyticsRows::of_log(&aws)?;
    let incremental = AnalyticsRows::counted(&aws, 1)?;
    ensure!(incremental == logged, "counted as they came, the rows are not what the log says");

    lambda.count_analytics_anew(2);
    ensure!(AnalyticsRows::counted(&aws, 2)?.0.is_empty(), "the next generation begins with rows");
    let log = event_log(&aws);
    for (number, event) in log.iter().enumerate() {
        // As `orderflow replay` does.
        aws.send(&Queue::Analytics.url(), &event.body, &event.attributes);
        if aws.draw(0..100) < PUBLISHED_AGAIN {
            aws.publish(&event.body, &event.attributes);
        }
        if number % (2 * ORDERS_AT_ONCE) == 0 {
            counted(&aws).await;
        }
    }
    counted(&aws).await;
    let rebuilt = AnalyticsRows::counted(&aws, 2)?;
    ensure!(rebuilt == incremental, "counted anew from the log, the rows are others");
    ensure!(AnalyticsRows::counted(&aws, 1)? == incremental, "the first generation has changed");
    let dead = aws.bodies(&Queue::Analytics.dlq_url());
    ensure!(dead.is_empty(), "dead letters: {dead:?}");
    mapping.abort();
    let placed = rebuilt.0.iter().filter(|((_, row), _)| row.contains("#pending#"));
    let units = placed.map(|(_, (units, _))| units).sum();
    Ok(Rebuilt { events: log.len(), rows: rebuilt.0.len(), units })
}

/// Waits until nothing is left on the queue.
async fn counted(aws: &SimulatedAws) {
    while !aws.is_empty(&Queue::Analytics.url()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes orders with what becomes of them.
struct Maker {
    aws: SimulatedAws,
    ids: Ids,
}

impl Maker {
    /// The events of an order, from hour to hour.
    fn events_of(&self, number: usize) -> Result<Vec<Event>> {
        let order = self.order()?;
        let whole = || order.clone();
        let mut bodies = vec![Body::OrderCreated(whole())];
        match number % 20 {
            0 | 1 => {
                let reason = "Too little is left.".parse()?;
                bodies.push(Body::OrderRejected(RejectedOrder::new(whole(), reason)));
            }
            2 => bodies.extend([Body::OrderAwaitingPayment(whole()), Body::OrderExpired(whole())]),
            3 | 4 => bodies.extend([Body::OrderConfirmed(whole()), Body::OrderCancelled(whole())]),
            5..=7 => bodies.extend([Body::OrderConfirmed(whole()), Body::OrderShipped(whole())]),
            _ => bodies.push(Body::OrderConfirmed(whole())),
        }
        let begun = Timestamp::from_second(i64::try_from(self.aws.now().as_secs())?)?;
        let within = u64::try_from(DAYS * 24 * 60)?;
        let mut at = begun + SignedDuration::from_mins(i64::try_from(self.aws.draw(0..within))?);
        let mut event = |body: Body| {
            at += SignedDuration::from_hours(1);
            let id = self.ids.ordered(at);
            let correlation_id = CorrelationId::from(self.ids.random());
            Event { id, timestamp: Stamp::from(at), correlation_id, body }
        };
        Ok(bodies.into_iter().map(&mut event).collect())
    }

    fn order(&self) -> Result<Order> {
        let draw = |range| self.aws.draw(range);
        let first = draw(0..PRODUCTS);
        let line = |place: u64| -> Result<Line> {
            let product = (first + place) % PRODUCTS;
            let quantity = Quantity::try_from(draw(1..6))?;
            let unit_price = Money::from_minor(i64::try_from(99 + 101 * product)?)?;
            Ok(Line {
                product_id: format!("product-{product}").parse()?,
                product_name: format!("Product {product}").parse()?,
                quantity,
                unit_price,
                line_total: unit_price.times(quantity).context("an amount")?,
            })
        };
        let items: Vec<Line> = (0..draw(1..3)).map(line).collect::<Result<_>>()?;
        Ok(Order {
            order_id: self.ids.random().into(),
            total_price: Money::sum(items.iter().map(|line| line.line_total)).context("a total")?,
            items,
            currency: Currency::default(),
            customer_email: "customer@example.com".parse()?,
        })
    }

    async fn store_and_publish(&self, event: &Event) -> Result<()> {
        let (body, attributes) = (event.encode(), event.attributes("none", None));
        let texts: BTreeMap<_, _> =
            attributes.iter().map(|(name, value)| (name, json!({ "S": value }))).collect();
        let item = json!({
            "order_id": { "S": event.body.order_id() },
            "event_id": { "S": event.id.to_string() },
            "body": { "S": body },
            "attributes": { "M": texts },
        });
        let put = json!({ "TableName": EVENT_LOG, "Item": item });
        let answer = self.aws.answer(&AwsCall::DynamoDb("PutItem".to_owned(), put)).await;
        ensure!(answer.status == 200, "{}", answer.body);
        self.aws.publish(&body, &attributes);
        Ok(())
    }
}
