//! `orderflow reconcile`: whether orders, payments, reservations, stock and event log tell the same story.
//!
//! In: the whole of five tables, or of six where orders are paid. Out: every [`Difference`] between them, each with what it is about. What is compared is
//! pure ([`compare`]). Guarantees: reads only. An order that has changed within the last minutes is under way: it is
//! counted, and not compared. The tables are read one beside the other while the shop goes on, so a difference counts only if a
//! second reading finds the same one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use events::{ProductId, Quantity, Stamp};
use exactly_once::{Item, TableError};
use futures::try_join;
use jiff::{SignedDuration, Timestamp};
use order::rules::{Order, Status};
use payment::{payments::Payment, rules::PaymentStatus};
use product::rules::{Product, Reservation, ReservationStatus};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::CliError,
    output::{counted, table},
    stack::Stack,
};

/// Orders that changed within this time are under way.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(5);

/// What the tables hold, by order and by product.
#[derive(Debug, Default)]
pub(crate) struct Books {
    orders: BTreeMap<String, Order>,
    reservations: BTreeMap<String, Reservation>,
    products: BTreeMap<String, Product>,
    /// `None` where orders are not paid.
    payments: Option<BTreeMap<String, Payment>>,
    /// The types of each order's events, with how often each is there.
    events: BTreeMap<String, BTreeMap<String, usize>>,
    /// The sum of each product's opening balance and of what administrators added and took.
    recorded: HashMap<String, i128>,
}

/// What two tables say differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Difference {
    /// `order` or `product`.
    kind: &'static str,
    id: String,
    /// A sentence that names both sides.
    problem: String,
}

/// What a comparison came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    orders: usize,
    products: usize,
    /// Orders that were not compared because they have just changed.
    under_way: usize,
    pub(crate) differences: Vec<Difference>,
}

/// Reads the tables and compares them, twice if they differ.
///
/// # Errors
/// A table cannot be read.
pub(crate) async fn reconcile(stack: &Stack) -> Result<Report, CliError> {
    let first = compare(&read_books(stack).await?, Timestamp::now());
    if first.differences.is_empty() {
        return Ok(first);
    }
    let mut second = compare(&read_books(stack).await?, Timestamp::now());
    second.differences.retain(|difference| first.differences.contains(difference));
    Ok(second)
}

async fn read_books(stack: &Stack) -> Result<Books, CliError> {
    let (orders, reservations, products, events, changes) = try_join!(
        scan(stack, "OrdersTable", None),
        scan(stack, "ReservationsTable", None),
        scan(stack, "ProductsTable", None),
        scan(stack, "EventLogTable", Some("order_id, attributes")),
        scan(stack, "StockChangesTable", None),
    )?;
    let mut books = Books::default();
    if stack.output("PaymentsTable").is_ok() {
        let mut payments = BTreeMap::new();
        for item in scan(stack, "PaymentsTable", None).await? {
            let payment: Payment = read(item, "payments")?;
            payments.insert(payment.order_id.to_string(), payment);
        }
        books.payments = Some(payments);
    }
    for item in orders {
        let order: Order = read(item, "orders")?;
        books.orders.insert(order.order_id.to_string(), order);
    }
    for mut item in reservations {
        let id = text(item.remove("order_id"));
        books.reservations.insert(id, read(item, "reservations")?);
    }
    for item in products {
        let product: Product = read(item, "products")?;
        books.products.insert(product.product_id.to_string(), product);
    }
    for mut item in events {
        let event_type = match item.remove("attributes") {
            Some(AttributeValue::M(mut attributes)) => text(attributes.remove("event_type")),
            _ => String::new(),
        };
        let types = books.events.entry(text(item.remove("order_id"))).or_default();
        *types.entry(event_type).or_default() += 1;
    }
    for mut item in changes {
        let delta = match item.remove("delta") {
            Some(AttributeValue::N(delta)) => delta.parse().unwrap_or_default(),
            _ => 0_i128,
        };
        *books.recorded.entry(text(item.remove("product_id"))).or_default() += delta;
    }
    Ok(books)
}

async fn scan(stack: &Stack, output: &str, fields: Option<&str>) -> Result<Vec<Item>, CliError> {
    let mut items = Vec::new();
    let mut start = None;
    loop {
        let page = stack
            .dynamodb
            .scan()
            .table_name(stack.output(output)?)
            .consistent_read(true)
            .set_projection_expression(
                fields.map(|fields| fields.replace("attributes", "#attributes")),
            )
            .set_expression_attribute_names(
                fields.map(|_| [("#attributes".to_owned(), "attributes".to_owned())].into()),
            )
            .set_exclusive_start_key(start)
            .send()
            .await?;
        items.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(items);
        }
    }
}

fn read<T: DeserializeOwned>(item: Item, table: &str) -> Result<T, CliError> {
    Ok(serde_dynamo::from_item(item).map_err(TableError::corrupt(table))?)
}

fn text(value: Option<AttributeValue>) -> String {
    match value {
        Some(AttributeValue::S(text)) => text,
        _ => String::new(),
    }
}

/// Compares the tables with each other.
pub(crate) fn compare(books: &Books, now: Timestamp) -> Report {
    let mut differences = BTreeSet::new();
    let has_just_changed = |at: Stamp| now.duration_since(at.timestamp()) < UNDER_WAY;
    let payment = |id: &String| books.payments.as_ref()?.get(id);
    let is_under_way = |order: &Order| {
        has_just_changed(order.updated_at)
            || payment(&order.order_id.to_string())
                .is_some_and(|payment| has_just_changed(payment.updated_at))
    };
    let mut under_way = 0;
    for (id, order) in &books.orders {
        if is_under_way(order) {
            under_way += 1;
            continue;
        }
        let mut problems = compare_order(order, books.reservations.get(id), books.events.get(id));
        if books.payments.is_some() {
            problems.extend(compare_payment(order, payment(id), books.events.get(id)));
        }
        let difference = |problem| Difference { kind: "order", id: id.clone(), problem };
        differences.extend(problems.into_iter().map(difference));
    }
    let mut without_order = |what: &str, id: &String| {
        if !books.orders.contains_key(id) {
            let problem = format!("there is {what} and no such order");
            differences.insert(Difference { kind: "order", id: id.clone(), problem });
        }
    };
    books.reservations.keys().for_each(|id| without_order("a reservation", id));
    books.events.keys().for_each(|id| without_order("an event", id));
    let payments = books.payments.iter().flatten();
    payments.for_each(|(id, _)| without_order("a payment", id));
    let mut held: HashMap<&str, i128> = HashMap::new();
    for reservation in books.reservations.values() {
        if reservation.status == ReservationStatus::Reserved {
            for line in &reservation.items {
                *held.entry(line.product_id.as_str()).or_default() +=
                    i128::from(line.quantity.get());
            }
        }
    }
    let held_of_none = held.keys().filter(|id| !books.products.contains_key(**id));
    for id in held_of_none {
        let problem = "it is reserved, and there is no such product".to_owned();
        differences.insert(Difference { kind: "product", id: (*id).to_owned(), problem });
    }
    for id in books.recorded.keys().filter(|id| !books.products.contains_key(*id)) {
        let problem = "changes of its stock are recorded, and there is no such product".to_owned();
        differences.insert(Difference { kind: "product", id: id.clone(), problem });
    }
    for (id, product) in &books.products {
        let recorded = books.recorded.get(id).copied().unwrap_or_default();
        let reserved = held.get(id.as_str()).copied().unwrap_or_default();
        let stock = i128::from(product.stock);
        if recorded - reserved != stock {
            let problem = format!(
                "the stock is {stock}, but {recorded} recorded less {reserved} reserved is {}",
                recorded - reserved
            );
            differences.insert(Difference { kind: "product", id: id.clone(), problem });
        }
    }
    Report {
        orders: books.orders.len(),
        products: books.products.len(),
        under_way,
        differences: differences.into_iter().collect(),
    }
}

/// What is wrong with the payment of an order that is not under way: money that was taken is the total of an order that is confirmed or
/// shipped, and who has no goods has his money.
fn compare_payment(
    order: &Order,
    payment: Option<&Payment>,
    events: Option<&BTreeMap<String, usize>>,
) -> Vec<String> {
    use PaymentStatus::{Cancelled, Creating, Open, Refunded, Refunding, Succeeded};
    let has = |event_type: &str| events.is_some_and(|events| events.contains_key(event_type));
    let mut problems = Vec::new();
    let (status, paid) = (order.status.as_str(), payment.map(|payment| payment.status));
    let fits = match order.status {
        // Of one that was confirmed before orders were paid here, there is no payment.
        Status::Confirmed | Status::Shipped => {
            paid == Some(Succeeded) || (paid.is_none() && !has("OrderAwaitingPayment"))
        }
        Status::AwaitingPayment => matches!(paid, None | Some(Creating | Open)),
        Status::Expired => paid == Some(Cancelled),
        Status::Cancelled => matches!(paid, None | Some(Cancelled | Refunded)),
        Status::Pending | Status::Rejected => paid.is_none(),
    };
    let name = paid.map_or("none", PaymentStatus::as_str);
    if !fits {
        problems.push(format!("the order is {status}, its payment {name}"));
    }
    if let Some(payment) = payment.filter(|payment| payment.amount != order.total) {
        let (amount, total) = (payment.amount, order.total);
        problems.push(format!("its payment is of {amount}, and its total {total}"));
    }
    let was_paid = matches!(paid, Some(Succeeded | Refunding | Refunded));
    for (event_type, wanted) in
        [("PaymentSucceeded", was_paid), ("PaymentRefunded", paid == Some(Refunded))]
    {
        match (wanted, has(event_type)) {
            (true, false) => {
                problems.push(format!("its payment is {name}, and its log has no {event_type}"));
            }
            (false, true) => {
                problems.push(format!("its payment is {name}, and its log has {event_type}"));
            }
            (true, true) | (false, false) => {}
        }
    }
    problems
}

/// The events that an order may have several of: the payment service is asked again, and a customer tries again.
const MAY_REPEAT: [&str; 2] = ["OrderPaymentOverdue", "PaymentFailed"];

/// What is wrong with an order that is not under way.
fn compare_order(
    order: &Order,
    reservation: Option<&Reservation>,
    events: Option<&BTreeMap<String, usize>>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let status = order.status.as_str();
    let reserved = reservation.map(|reservation| reservation.status);
    let fits = match order.status {
        // Late orders have an alarm of their own.
        Status::Pending => true,
        Status::AwaitingPayment | Status::Confirmed | Status::Shipped => {
            reserved == Some(ReservationStatus::Reserved)
        }
        Status::Expired => reserved == Some(ReservationStatus::Released),
        Status::Rejected => reserved == Some(ReservationStatus::Rejected),
        Status::Cancelled => matches!(
            reserved,
            Some(
                ReservationStatus::Released
                    | ReservationStatus::Cancelled
                    | ReservationStatus::Rejected
            )
        ),
    };
    if !fits {
        let reserved = reserved.map_or("none".to_owned(), |status| format!("{status:?}"));
        problems
            .push(format!("the order is {status}, its reservation {}", reserved.to_lowercase()));
    }
    if let Some(reservation) = reservation.filter(|one| one.status != ReservationStatus::Cancelled)
        && pieces(order.lines().into_iter().map(|line| (line.product_id, line.quantity)))
            != pieces(reservation.items.iter().map(|line| (line.product_id.clone(), line.quantity)))
    {
        problems.push("the order and its reservation name different pieces".to_owned());
    }
    let none = BTreeMap::new();
    let events = events.unwrap_or(&none);
    let wanted = match order.status {
        Status::Pending => "OrderCreated",
        Status::Confirmed => "OrderConfirmed",
        Status::Rejected => "OrderRejected",
        Status::Cancelled => "OrderCancelled",
        Status::Shipped => "OrderShipped",
        Status::AwaitingPayment => "OrderAwaitingPayment",
        Status::Expired => "OrderExpired",
    };
    for event_type in ["OrderCreated", wanted] {
        if !events.contains_key(event_type) {
            problems.push(format!("the order is {status}, and its log has no {event_type}"));
        }
    }
    let of_stock: &[&str] = match reserved {
        Some(ReservationStatus::Reserved) => &["StockReserved"],
        Some(ReservationStatus::Released) => &["StockReserved", "StockReleased"],
        Some(ReservationStatus::Rejected) => &["StockRejected"],
        Some(ReservationStatus::Cancelled) | None => &[],
    };
    for event_type in ["StockReserved", "StockReleased", "StockRejected"] {
        let reserved =
            reserved.map_or("none".to_owned(), |status| format!("{status:?}").to_lowercase());
        match (of_stock.contains(&event_type), events.contains_key(event_type)) {
            (true, false) => problems
                .push(format!("its reservation is {reserved}, and its log has no {event_type}")),
            (false, true) => {
                problems
                    .push(format!("its reservation is {reserved}, and its log has {event_type}"));
            }
            (true, true) | (false, false) => {}
        }
    }
    for (one, other) in [
        ("OrderConfirmed", "OrderRejected"),
        ("OrderShipped", "OrderCancelled"),
        ("OrderExpired", "OrderConfirmed"),
        ("OrderExpired", "OrderCancelled"),
    ] {
        if events.contains_key(one) && events.contains_key(other) {
            problems.push(format!("its log has {one} and {other}"));
        }
    }
    problems.extend(
        events
            .iter()
            .filter(|(event_type, count)| **count > 1 && !MAY_REPEAT.contains(&event_type.as_str()))
            .map(|(event_type, count)| format!("its log has {event_type} {count} times")),
    );
    problems.dedup();
    problems
}

/// The number of pieces of each product.
fn pieces(lines: impl Iterator<Item = (ProductId, Quantity)>) -> BTreeMap<ProductId, u64> {
    let mut pieces = BTreeMap::new();
    for (product, quantity) in lines {
        *pieces.entry(product).or_default() += u64::from(quantity.get());
    }
    pieces
}

impl Report {
    /// Fails if there is a difference, for the exit code.
    pub(crate) fn require_none(&self) -> Result<(), CliError> {
        match self.differences.len() {
            0 => Ok(()),
            count => Err(CliError::NotDone(format!(
                "the tables differ in {}",
                counted(count as u64, "place")
            ))),
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let scope = format!(
            "{} and {} compared; under way: {}",
            counted((self.orders - self.under_way) as u64, "order"),
            counted(self.products as u64, "product"),
            counted(self.under_way as u64, "order")
        );
        if self.differences.is_empty() {
            return format!("No difference. {scope}.");
        }
        let rows = self
            .differences
            .iter()
            .map(|one| vec![one.kind.to_owned(), one.id.clone(), one.problem.clone()]);
        format!("{}\n\n{scope}.", table(&["what", "id", "difference"], rows))
    }
}

#[cfg(test)]
mod tests {
    use events::{Currency, Money, StockLine};
    use order::tags::Tags;
    use serde_json::json;

    use super::*;

    const LATER: &str = "2025-11-20T12:00:00Z";

    fn line(quantity: u64) -> StockLine {
        StockLine {
            product_id: "p1".parse().expect("an id"),
            quantity: quantity.try_into().expect("a quantity"),
        }
    }

    fn books(status: Status, reserved: Option<ReservationStatus>, stock: u64) -> Books {
        let at: Timestamp = "2025-11-20T10:00:00Z".parse().expect("a moment");
        let order = Order {
            order_id: "o1".parse().expect("an id"),
            status,
            items: vec![
                serde_json::from_value(json!({
                    "product_id": "p1", "product_name": "Lamp", "quantity": 3, "unit_price": 0, "line_total": 0,
                }))
                .expect("a line"),
            ],
            total: Money::from_minor(0).expect("in range"),
            currency: Currency::default(),
            customer_email: "a@example.com".parse().expect("an address"),
            reason: None,
            created_at: at.into(),
            updated_at: at.into(),
            tags: Tags::default(),
        };
        let product = Product {
            product_id: "p1".parse().expect("an id"),
            name: "Lamp".parse().expect("a name"),
            price: Money::from_minor(1).expect("in range"),
            currency: Currency::default(),
            category: None,
            stock,
            version: 1,
            active: true,
        };
        let reservation = |status| Reservation { status, items: vec![line(3)] };
        let event = match status {
            Status::Pending => "OrderCreated",
            Status::Confirmed => "OrderConfirmed",
            Status::Rejected => "OrderRejected",
            Status::Cancelled => "OrderCancelled",
            Status::Shipped => "OrderShipped",
            Status::AwaitingPayment => "OrderAwaitingPayment",
            Status::Expired => "OrderExpired",
        };
        let of_stock: &[&str] = match reserved {
            Some(ReservationStatus::Reserved) => &["StockReserved"],
            Some(ReservationStatus::Released) => &["StockReserved", "StockReleased"],
            Some(ReservationStatus::Rejected) => &["StockRejected"],
            _ => &[],
        };
        let events = ["OrderCreated", event].into_iter().chain(of_stock.iter().copied());
        let events = events.map(|event| (event.to_owned(), 1)).collect();
        Books {
            orders: BTreeMap::from([("o1".to_owned(), order)]),
            reservations: reserved
                .map(|status| ("o1".to_owned(), reservation(status)))
                .into_iter()
                .collect(),
            products: BTreeMap::from([("p1".to_owned(), product)]),
            events: BTreeMap::from([("o1".to_owned(), events)]),
            recorded: HashMap::from([("p1".to_owned(), 10)]),
            payments: None,
        }
    }

    /// Books of a shop whose orders are paid.
    fn paid_books(
        status: Status,
        reserved: ReservationStatus,
        paid: Option<PaymentStatus>,
        events: &[&str],
    ) -> Books {
        let stock = if reserved == ReservationStatus::Reserved { 7 } else { 10 };
        let mut books = books(status, Some(reserved), stock);
        let order = &books.orders["o1"];
        let mut payment = Payment::never(&order.to_payload(), order.updated_at);
        if let Some(paid) = paid {
            payment.status = paid;
        }
        let payments = paid.map(|_| ("o1".to_owned(), payment));
        books.payments = Some(payments.into_iter().collect());
        let log = books.events.entry("o1".to_owned()).or_default();
        log.extend(events.iter().map(|event_type| ((*event_type).to_owned(), 1)));
        books
    }

    #[test]
    fn money_and_goods_that_agree_have_no_difference() {
        use PaymentStatus::{Cancelled, Open, Refunded, Succeeded};
        use ReservationStatus::{Released, Reserved};
        for (status, reserved, paid, events) in [
            (Status::Confirmed, Reserved, Some(Succeeded), &["PaymentSucceeded"][..]),
            // From before orders were paid here.
            (Status::Shipped, Reserved, None, &[]),
            (Status::AwaitingPayment, Reserved, Some(Open), &[]),
            (Status::Expired, Released, Some(Cancelled), &[]),
            (Status::Cancelled, Released, Some(Refunded), &["PaymentSucceeded", "PaymentRefunded"]),
        ] {
            let books = paid_books(status, reserved, paid, events);
            assert_eq!(problems(&books), Vec::<String>::new(), "{status:?}");
        }
    }

    #[test]
    fn money_without_goods_and_goods_without_money_are_a_difference() {
        use PaymentStatus::{Open, Succeeded};
        use ReservationStatus::{Released, Reserved};
        let found = |status, reserved, paid, events: &[&str]| {
            problems(&paid_books(status, reserved, paid, events))
        };
        assert_eq!(
            found(Status::Cancelled, Released, Some(Succeeded), &["PaymentSucceeded"]),
            ["the order is cancelled, its payment succeeded"]
        );
        assert_eq!(
            found(Status::Expired, Released, Some(Succeeded), &["PaymentSucceeded"]),
            ["the order is expired, its payment succeeded"]
        );
        assert_eq!(
            found(Status::Confirmed, Reserved, Some(Open), &[]),
            ["the order is confirmed, its payment open"]
        );
        assert_eq!(
            found(Status::Confirmed, Reserved, None, &["OrderAwaitingPayment"]),
            ["the order is confirmed, its payment none"]
        );
        assert_eq!(
            found(Status::Confirmed, Reserved, Some(Succeeded), &[]),
            ["its payment is succeeded, and its log has no PaymentSucceeded"]
        );
        let mut books =
            paid_books(Status::Confirmed, Reserved, Some(Succeeded), &["PaymentSucceeded"]);
        let payments = books.payments.as_mut().expect("payments");
        payments.get_mut("o1").expect("a payment").amount = Money::from_minor(1).expect("in range");
        assert_eq!(problems(&books), ["its payment is of 0.01, and its total 0.00"]);
    }

    fn problems(books: &Books) -> Vec<String> {
        let now = LATER.parse().expect("a moment");
        compare(books, now).differences.into_iter().map(|one| one.problem).collect()
    }

    #[test]
    fn books_that_agree_have_no_difference() {
        use ReservationStatus::{Cancelled, Rejected, Released, Reserved};
        for (status, reserved, stock) in [
            (Status::Confirmed, Some(Reserved), 7),
            (Status::Shipped, Some(Reserved), 7),
            (Status::Rejected, Some(Rejected), 10),
            (Status::Cancelled, Some(Released), 10),
            (Status::Cancelled, Some(Cancelled), 10),
            (Status::Pending, None, 10),
            (Status::Expired, Some(Released), 10),
        ] {
            assert_eq!(
                problems(&books(status, reserved, stock)),
                Vec::<String>::new(),
                "{status:?}"
            );
        }
    }

    #[test]
    fn stock_that_nobody_recorded_is_a_difference() {
        let found = problems(&books(Status::Confirmed, Some(ReservationStatus::Reserved), 8));
        assert_eq!(found, ["the stock is 8, but 10 recorded less 3 reserved is 7"]);
    }

    #[test]
    fn an_order_and_a_reservation_that_contradict_each_other_are_a_difference() {
        let found = problems(&books(Status::Confirmed, None, 10));
        assert_eq!(found, ["the order is confirmed, its reservation none"]);
        let found = problems(&books(Status::Cancelled, Some(ReservationStatus::Reserved), 7));
        assert_eq!(found, ["the order is cancelled, its reservation reserved"]);
        // What a cancellation that nobody may publish would leave: the parcel is gone, and its stock is back.
        let found = problems(&books(Status::Shipped, Some(ReservationStatus::Released), 10));
        assert_eq!(found, ["the order is shipped, its reservation released"]);
    }

    #[test]
    fn an_event_that_is_missing_or_twice_there_is_a_difference() {
        let mut books = books(Status::Confirmed, Some(ReservationStatus::Reserved), 7);
        let log = BTreeMap::from([("OrderCreated".to_owned(), 2), ("StockReserved".to_owned(), 1)]);
        books.events.insert("o1".to_owned(), log);
        assert_eq!(
            problems(&books),
            [
                "its log has OrderCreated 2 times",
                "the order is confirmed, and its log has no OrderConfirmed",
            ]
        );
    }

    #[test]
    fn events_that_contradict_the_reservation_or_each_other_are_a_difference() {
        let mut books = books(Status::Confirmed, Some(ReservationStatus::Reserved), 7);
        let log = books.events.get_mut("o1").expect("its events");
        log.extend([("StockRejected".to_owned(), 1), ("OrderRejected".to_owned(), 1)]);
        log.remove("StockReserved");
        assert_eq!(
            problems(&books),
            [
                "its log has OrderConfirmed and OrderRejected",
                "its reservation is reserved, and its log has StockRejected",
                "its reservation is reserved, and its log has no StockReserved",
            ]
        );
    }

    #[test]
    fn other_pieces_than_were_ordered_and_products_that_are_gone_are_a_difference() {
        let mut other = books(Status::Confirmed, Some(ReservationStatus::Reserved), 6);
        other.reservations.get_mut("o1").expect("a reservation").items = vec![line(4)];
        assert_eq!(problems(&other), ["the order and its reservation name different pieces"]);
        other = books(Status::Confirmed, Some(ReservationStatus::Reserved), 7);
        other.products.clear();
        assert_eq!(
            problems(&other),
            [
                "changes of its stock are recorded, and there is no such product",
                "it is reserved, and there is no such product",
            ]
        );
    }

    #[test]
    fn a_reservation_without_an_order_is_a_difference_and_an_order_under_way_is_none() {
        let mut lost = books(Status::Confirmed, Some(ReservationStatus::Reserved), 7);
        lost.orders.clear();
        assert_eq!(
            problems(&lost),
            ["there is a reservation and no such order", "there is an event and no such order"]
        );
        let fresh = books(Status::Confirmed, None, 10);
        let report = compare(&fresh, "2025-11-20T10:01:00Z".parse().expect("a moment"));
        assert_eq!((report.under_way, report.differences), (1, Vec::new()));
    }
}
