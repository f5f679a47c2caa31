//! What follows from what was read: pure functions, no clock and no network.

use std::{borrow::Cow, collections::HashMap, str::FromStr};

use events::{
    Body, Currency, Email, Line, Money, Name, OrderId, ProductId, Reason, RejectedOrder,
    RejectedStock, Stamp, StockLine, merge,
};
use exactly_once::{Commit, Handled};
use http_api::FieldError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{stripe_amount::StripeAmount, tags::Tags};

/// Maximum number of lines of an order, as sent.
pub const LINES_MAX: usize = events::LINES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted; stock is not taken yet.
    Pending,
    /// Stock is taken; it is not paid yet.
    AwaitingPayment,
    /// Stock is taken, and it is paid if orders are paid.
    Confirmed,
    /// Stock could not be had.
    Rejected,
    /// Cancelled by the customer.
    Cancelled,
    /// On its way to the customer.
    Shipped,
    /// Not paid in time; its stock is given back.
    Expired,
}

impl Status {
    /// Every status there is.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::AwaitingPayment,
        Self::Confirmed,
        Self::Rejected,
        Self::Cancelled,
        Self::Shipped,
        Self::Expired,
    ];

    /// As tables and answers write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::AwaitingPayment => "awaiting_payment",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Shipped => "shipped",
            Self::Expired => "expired",
        }
    }

    /// The version of an order in this status: of two states of one order, the one with the higher number is the later. It
    /// rises with every transition, because statuses only move forward; those that no transition leaves have the highest. So
    /// it follows from an event as well as from the table, and nothing has to be counted.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::Pending => 1,
            Self::AwaitingPayment => 2,
            Self::Confirmed => 3,
            Self::Rejected | Self::Cancelled | Self::Shipped | Self::Expired => 4,
        }
    }
}

/// Not an enumeration: there will be others, which is no reason for a client to fail.
impl JsonSchema for Status {
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How far the order has come. Show one that you do not know as it is.",
            "type": "string",
            "x-extensible-enum": Self::ALL,
        })
    }
}

/// An order, in the form in which the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub order_id: OrderId,
    pub status: Status,
    /// One line a product.
    pub items: Vec<StoredLine>,
    #[serde(with = "events::minor_units")]
    pub total: Money,
    pub currency: Currency,
    pub customer_email: Email,
    /// Why it was rejected, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub created_at: Stamp,
    /// When its status last changed.
    pub updated_at: Stamp,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// One product of an order at the price at which it was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLine {
    product_id: ProductId,
    product_name: Name,
    quantity: events::Quantity,
    #[serde(with = "events::minor_units")]
    unit_price: Money,
    #[serde(with = "events::minor_units")]
    line_total: Money,
}

impl Order {
    /// The lines as events and answers write them.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let lines = self.items.iter().cloned();
        lines
            .map(|StoredLine { product_id, product_name, quantity, unit_price, line_total }| Line {
                product_id,
                product_name,
                quantity,
                unit_price,
                line_total,
            })
            .collect()
    }

    /// The order as the payload of an event.
    #[must_use]
    pub fn to_payload(&self) -> events::Order {
        events::Order {
            order_id: self.order_id.clone(),
            items: self.lines(),
            total_price: self.total,
            currency: self.currency.clone(),
            customer_email: self.customer_email.clone(),
        }
    }
}

/// A customer's request for an order: checked field by field, not yet against the products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRequest {
    pub customer_email: Email,
    /// What, as sent.
    pub lines: Vec<StockLine>,
    /// What the customer expects it to cost, if the client says so.
    pub expected_total: Option<Money>,
}

/// A product as order-api sees it: what it is called and what it costs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CatalogEntry {
    pub product_id: ProductId,
    pub name: Name,
    /// Of one piece.
    #[serde(with = "events::minor_units")]
    pub price: Money,
    pub currency: Currency,
    /// Whether it can be ordered. Products that are older than this attribute can.
    #[serde(default = "is_sold")]
    pub active: bool,
}

fn is_sold() -> bool {
    true
}

/// The order that follows from a customer's request and the catalog. It never looks at stock: that is
/// decided where stock is taken.
///
/// # Errors
/// Every line that cannot be ordered, by its place in the request.
pub fn place(
    order_id: OrderId,
    request: OrderRequest,
    catalog: &HashMap<ProductId, CatalogEntry>,
    currency: &Currency,
    now: Stamp,
) -> Result<Order, Vec<FieldError>> {
    let error = |place: usize, field: &str, message: String| FieldError {
        field: format!("items[{place}].{field}"),
        message,
    };
    let mut errors = Vec::new();
    for (place, line) in request.lines.iter().enumerate() {
        match catalog.get(&line.product_id) {
            Some(entry) if !entry.active => {
                let message = format!("{:?} is not sold any more", entry.name.as_str());
                errors.push(error(place, "product_id", message));
            }
            Some(entry) if entry.currency == *currency => {}
            Some(entry) => {
                let message = format!("is priced in {}, not in {currency}", entry.currency);
                errors.push(error(place, "product_id", message));
            }
            None => {
                let message = format!("there is no product {}", line.product_id);
                errors.push(error(place, "product_id", message));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let place_of = |product: &ProductId| {
        request.lines.iter().rposition(|line| line.product_id == *product).unwrap_or_default()
    };
    let merged = merge(request.lines.iter().cloned()).map_err(|product| {
        let message = "the lines of this product have more than 1000 pieces together".to_owned();
        vec![error(place_of(&product), "quantity", message)]
    })?;
    let mut items = Vec::with_capacity(merged.len());
    for StockLine { product_id, quantity } in merged {
        let entry = &catalog[&product_id];
        let line_total = entry.price.times(quantity).ok_or_else(too_expensive)?;
        items.push(StoredLine {
            product_id,
            product_name: entry.name.clone(),
            quantity,
            unit_price: entry.price,
            line_total,
        });
    }
    let total = Money::sum(items.iter().map(|line| line.line_total)).ok_or_else(too_expensive)?;
    Ok(Order {
        order_id,
        status: Status::Pending,
        items,
        total,
        currency: currency.clone(),
        customer_email: request.customer_email,
        reason: None,
        created_at: now,
        updated_at: now,
        tags: Tags::default(),
    })
}

/// What an order costs, if that is not what the customer expects.
#[must_use]
pub fn changed_total(order: &Order, expected: Option<Money>) -> Option<Money> {
    expected.filter(|expected| *expected != order.total).map(|_| order.total)
}

/// Whether an order can be paid in the way in which orders are paid: better refused where it is placed than later, where nobody hears of it.
///
/// # Errors
/// What is wrong with its total.
pub fn check_payable(order: &Order, payments: Payments) -> Result<(), Vec<FieldError>> {
    match payments {
        Payments::None => Ok(()),
        Payments::Stripe => match StripeAmount::new(order.total, &order.currency) {
            Ok(_) => Ok(()),
            Err(error) => {
                let message = format!("the total {error}");
                Err(vec![FieldError { field: "items".into(), message }])
            }
        },
    }
}

fn too_expensive() -> Vec<FieldError> {
    let message = "the total is more than an exact amount of money can be".to_owned();
    vec![FieldError { field: "items".into(), message }]
}

/// How orders are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payments {
    /// Not here: an order is confirmed when its stock is taken.
    None,
    /// By Stripe, after stock is taken and before the order is confirmed.
    Stripe,
}

impl FromStr for Payments {
    type Err = UnknownPayments;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "stripe" => Ok(Self::Stripe),
            _ => Err(UnknownPayments),
        }
    }
}

/// A way to pay that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be none or stripe")]
pub struct UnknownPayments;

/// What another service replies to an order's event: a step of the saga has succeeded, or failed for good.
/// <https://microservices.io/patterns/data/saga.html>
#[derive(Debug, Clone, Copy)]
pub enum SagaReply<'a> {
    /// All of its stock was taken.
    StockReserved,
    /// None of its stock was taken.
    StockRejected(&'a RejectedStock),
    /// It is paid.
    PaymentSucceeded,
    /// It is not paid, and cannot be paid any more.
    PaymentCancelled,
}

/// A transition of an order from one status to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The only status from which it is made.
    pub from: Status,
    pub to: Status,
    /// Why, for the customer.
    pub reason: Option<String>,
    pub body: Body,
}

/// What a reply comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// This transition is to be made.
    Apply(Box<Transition>),
    /// The order has moved on: the reply comes again, or meets a cancellation.
    AlreadySettled,
    /// The order has moved on by the opposite reply, or has not come as far. Each service decides once an order, so that
    /// no order of arrival explains this: the reply is not the service's.
    Contradiction,
}

/// What a reply calls for. One that meets a cancelled order leaves it cancelled: the release of its stock and the end of
/// its payment are on their way.
#[must_use]
pub fn settle(order: &Order, reply: SagaReply<'_>, payments: Payments) -> Settlement {
    use SagaReply::{PaymentCancelled, PaymentSucceeded, StockRejected, StockReserved};
    let transition = |to, reason: Option<String>, body| {
        let from = order.status;
        Settlement::Apply(Box::new(Transition { from, to, reason, body }))
    };
    match (order.status, reply) {
        (Status::Cancelled, _) => Settlement::AlreadySettled,
        (Status::Pending, StockReserved) => match payments {
            Payments::None => {
                transition(Status::Confirmed, None, Body::OrderConfirmed(order.to_payload()))
            }
            Payments::Stripe => {
                let body = Body::OrderAwaitingPayment(order.to_payload());
                transition(Status::AwaitingPayment, None, body)
            }
        },
        (Status::Pending, StockRejected(rejected)) => {
            let reason = reason(order, rejected);
            let body = Body::OrderRejected(RejectedOrder::new(order.to_payload(), reason.clone()));
            transition(Status::Rejected, Some(reason.to_string()), body)
        }
        (Status::AwaitingPayment, PaymentSucceeded) => {
            transition(Status::Confirmed, None, Body::OrderConfirmed(order.to_payload()))
        }
        (Status::AwaitingPayment, PaymentCancelled) => {
            let body = Body::OrderExpired(order.to_payload());
            transition(Status::Expired, Some(NOT_PAID.to_owned()), body)
        }
        (
            Status::AwaitingPayment | Status::Confirmed | Status::Shipped | Status::Expired,
            StockReserved,
        )
        | (Status::Rejected, StockRejected(_))
        | (Status::Confirmed | Status::Shipped, PaymentSucceeded)
        | (Status::Expired, PaymentCancelled) => Settlement::AlreadySettled,
        (Status::Rejected, StockReserved)
        | (
            Status::AwaitingPayment | Status::Confirmed | Status::Shipped | Status::Expired,
            StockRejected(_),
        )
        | (Status::Pending | Status::Rejected | Status::Expired, PaymentSucceeded)
        | (
            Status::Pending | Status::Rejected | Status::Confirmed | Status::Shipped,
            PaymentCancelled,
        ) => Settlement::Contradiction,
    }
}

/// Why an order has expired, for the customer.
const NOT_PAID: &str = "The order was not paid in time";

/// What the transaction of a settlement means for its message, or `None` if the order has moved on in the meantime:
/// by the same reply, by a cancellation, or by a reply that contradicts this one. Deciding again tells which.
#[must_use]
pub fn interpret_settlement<Tag>(commit: &Commit<Tag>) -> Option<Handled> {
    match commit {
        Commit::Done => Some(Handled::Done),
        Commit::Duplicate => Some(Handled::Duplicate),
        Commit::GuardFailed(..) | Commit::ConditionFailed(_) => None,
    }
}

/// What a customer's or an administrator's request for a transition comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This transition is to be made.
    Apply(Box<Transition>),
    /// The order is in the requested status already.
    AlreadyApplied,
    /// The order is in a status from which this cannot be done any more, or not yet.
    Refused(Status),
}

/// Cancels an order, unless it is shipped, was rejected or has expired.
#[must_use]
pub fn cancel(order: &Order) -> Decision {
    match order.status {
        from @ (Status::Pending | Status::AwaitingPayment | Status::Confirmed) => {
            Decision::Apply(Box::new(Transition {
                from,
                to: Status::Cancelled,
                reason: None,
                body: Body::OrderCancelled(order.to_payload()),
            }))
        }
        Status::Cancelled => Decision::AlreadyApplied,
        refused @ (Status::Rejected | Status::Shipped | Status::Expired) => {
            Decision::Refused(refused)
        }
    }
}

#[must_use]
pub fn ship(order: &Order) -> Decision {
    match order.status {
        from @ Status::Confirmed => Decision::Apply(Box::new(Transition {
            from,
            to: Status::Shipped,
            reason: None,
            body: Body::OrderShipped(order.to_payload()),
        })),
        Status::Shipped => Decision::AlreadyApplied,
        refused @ (Status::Pending
        | Status::AwaitingPayment
        | Status::Rejected
        | Status::Cancelled
        | Status::Expired) => Decision::Refused(refused),
    }
}

/// A sentence for the customer: which products are missing, without telling how many there are.
fn reason(order: &Order, rejected: &RejectedStock) -> Reason {
    let names: Vec<&str> = rejected
        .short
        .iter()
        .map(|short| {
            let line = order.items.iter().find(|line| line.product_id == short.product_id);
            line.map_or(short.product_id.as_str(), |line| line.product_name.as_str())
        })
        .collect();
    let reason = if names.is_empty() {
        "Out of stock".to_owned()
    } else {
        format!("Out of stock: {}", names.join(", "))
    };
    reason.parse().expect("a reason has room for the names of all lines that an event has")
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Quantity, ShortLine};
    use proptest::prelude::*;

    fn id(product: usize) -> ProductId {
        format!("p{product}").parse().expect("an id")
    }

    fn line(product: usize, quantity: u64) -> StockLine {
        StockLine { product_id: id(product), quantity: quantity.try_into().expect("a quantity") }
    }

    fn entry(product: usize, price_minor: i64) -> (ProductId, CatalogEntry) {
        let entry = CatalogEntry {
            product_id: id(product),
            name: format!("Product {product}").parse().expect("a name"),
            price: Money::from_minor(price_minor).expect("in range"),
            currency: Currency::default(),
            active: true,
        };
        (id(product), entry)
    }

    fn request(lines: Vec<StockLine>) -> OrderRequest {
        let customer_email = "test@example.com".parse().expect("an address");
        OrderRequest { customer_email, lines, expected_total: None }
    }

    fn order(
        lines: Vec<StockLine>,
        catalog: &HashMap<ProductId, CatalogEntry>,
    ) -> Result<Order, Vec<FieldError>> {
        let (id, now) = ("an-order".parse().expect("an id"), "2026-01-01T00:00:00.000Z".parse());
        place(id, request(lines), catalog, &Currency::default(), now.expect("a moment"))
    }

    #[test]
    fn five_laptops_at_a_thousand_are_five_thousand() {
        let order = order(vec![line(1, 5)], &HashMap::from([entry(1, 100_000)])).expect("placed");
        assert_eq!(order.total.to_string(), "5000.00");
        assert_eq!(order.status, Status::Pending);
    }

    #[test]
    fn every_unknown_product_is_named_by_its_place() {
        let errors = order(vec![line(1, 1), line(2, 1), line(3, 1)], &HashMap::from([entry(2, 1)]))
            .expect_err("two are unknown");
        let places: Vec<_> = errors.into_iter().map(|error| error.field).collect();
        assert_eq!(places, ["items[0].product_id", "items[2].product_id"]);
    }

    #[test]
    fn lines_of_one_product_must_fit_into_one_line() {
        let catalog = HashMap::from([entry(1, 1)]);
        let merged = order(vec![line(1, 400), line(1, 600)], &catalog).expect("1000 fit");
        assert_eq!(merged.items.len(), 1);
        assert_eq!(merged.items[0].quantity, Quantity::MAX);
        let errors = order(vec![line(1, 400), line(1, 601)], &catalog).expect_err("1001 do not");
        assert_eq!(errors[0].field, "items[1].quantity");
    }

    #[test]
    fn a_product_that_is_not_sold_any_more_is_refused_by_name() {
        let (id, mut entry) = entry(1, 1);
        entry.active = false;
        let catalog = HashMap::from([(id, entry), super::tests::entry(2, 1)]);
        let errors = order(vec![line(2, 1), line(1, 1)], &catalog).expect_err("refused");
        assert_eq!(errors[0].field, "items[1].product_id");
        assert_eq!(errors[0].message, "\"Product 1\" is not sold any more");
        let older = r#"{"product_id":"p","name":"x","price":1,"currency":"UAH"}"#;
        assert!(serde_json::from_str::<CatalogEntry>(older).expect("an entry").active);
    }

    #[test]
    fn a_total_that_is_not_the_expected_one_is_returned() {
        let order = order(vec![line(1, 5)], &HashMap::from([entry(1, 100)])).expect("placed");
        assert_eq!(changed_total(&order, None), None);
        assert_eq!(changed_total(&order, "5".parse().ok()), None);
        for expected in ["4.99", "5.01"] {
            assert_eq!(changed_total(&order, expected.parse().ok()), Some(order.total));
        }
    }

    #[test]
    fn an_order_that_stripe_would_not_take_is_refused_where_orders_are_paid_by_stripe() {
        let mut order = order(vec![line(1, 1)], &HashMap::from([entry(1, 49)])).expect("placed");
        order.currency = "EUR".parse().expect("a currency");
        assert_eq!(check_payable(&order, Payments::None), Ok(()));
        let errors = check_payable(&order, Payments::Stripe).expect_err("refused");
        assert_eq!(errors[0].field, "items");
        assert_eq!(errors[0].message, "the total is less than can be paid: the minimum is 0.50");
        order.total = Money::from_minor(50).expect("in range");
        assert_eq!(check_payable(&order, Payments::Stripe), Ok(()));
    }

    #[test]
    fn a_product_of_another_currency_is_refused() {
        let (id, mut entry) = entry(1, 1);
        entry.currency = "EUR".parse().expect("a currency");
        let errors = order(vec![line(1, 1)], &HashMap::from([(id, entry)])).expect_err("refused");
        assert!(errors[0].message.contains("EUR"), "{errors:?}");
    }

    fn rejected(order: &Order) -> RejectedStock {
        let short =
            ShortLine { product_id: id(1), requested: line(1, 2).quantity, available: Some(1) };
        let order_id = order.order_id.clone();
        RejectedStock { order_id, items: vec![line(1, 2)], short: vec![short] }
    }

    #[test]
    fn a_reply_moves_an_order_that_waits_for_it_and_no_other() {
        use SagaReply::{PaymentCancelled, PaymentSucceeded, StockRejected, StockReserved};
        let mut order = order(vec![line(1, 2)], &HashMap::from([entry(1, 100)])).expect("placed");
        let rejected = rejected(&order);
        let rejected = StockRejected(&rejected);
        // Whether it applies (a letter of where to), is known already (.), or contradicts (!); for stock reserved and rejected, then
        // payment succeeded and cancelled.
        for (status, none, stripe) in [
            (Status::Pending, "cr!!", "ar!!"),
            (Status::AwaitingPayment, ".!ce", ".!ce"),
            (Status::Confirmed, ".!.!", ".!.!"),
            (Status::Rejected, "!.!!", "!.!!"),
            (Status::Cancelled, "....", "...."),
            (Status::Shipped, ".!.!", ".!.!"),
            (Status::Expired, ".!!.", ".!!."),
        ] {
            order.status = status;
            for (payments, wanted) in [(Payments::None, none), (Payments::Stripe, stripe)] {
                let replies = [StockReserved, rejected, PaymentSucceeded, PaymentCancelled];
                let found = replies.map(|reply| match settle(&order, reply, payments) {
                    Settlement::AlreadySettled => '.',
                    Settlement::Contradiction => '!',
                    Settlement::Apply(transition) => {
                        assert_eq!(transition.from, status);
                        transition.to.as_str().chars().next().unwrap_or_default()
                    }
                });
                assert_eq!(String::from_iter(found), wanted, "{status:?} {payments:?}");
            }
        }
    }

    #[test]
    fn a_transition_comes_with_the_event_that_reports_it() {
        let mut order = order(vec![line(1, 2)], &HashMap::from([entry(1, 100)])).expect("placed");
        let applied = |order: &Order, reply, payments| match settle(order, reply, payments) {
            Settlement::Apply(transition) => *transition,
            other => panic!("no transition but {other:?}"),
        };
        let payload = order.to_payload();
        let reserved = applied(&order, SagaReply::StockReserved, Payments::None);
        assert_eq!(reserved.body, Body::OrderConfirmed(payload.clone()));
        let reserved = applied(&order, SagaReply::StockReserved, Payments::Stripe);
        assert_eq!(reserved.body, Body::OrderAwaitingPayment(payload.clone()));
        let rejected = rejected(&order);
        let refused = applied(&order, SagaReply::StockRejected(&rejected), Payments::Stripe);
        assert_eq!(refused.reason.as_deref(), Some("Out of stock: Product 1"));
        order.status = Status::AwaitingPayment;
        let paid = applied(&order, SagaReply::PaymentSucceeded, Payments::Stripe);
        assert_eq!(paid.body, Body::OrderConfirmed(payload.clone()));
        // Also if payments were switched off meanwhile: what was begun is brought to its end.
        let unpaid = applied(&order, SagaReply::PaymentCancelled, Payments::None);
        assert_eq!(unpaid.body, Body::OrderExpired(payload));
        assert_eq!(unpaid.reason.as_deref(), Some("The order was not paid in time"));
    }

    #[test]
    fn shipped_rejected_and_expired_orders_cannot_be_cancelled_and_only_confirmed_ones_are_shipped()
    {
        let mut order = order(vec![line(1, 2)], &HashMap::from([entry(1, 100)])).expect("placed");
        for (status, cancelled, shipped) in [
            (Status::Pending, Some(Status::Cancelled), None),
            (Status::Confirmed, Some(Status::Cancelled), Some(Status::Shipped)),
            (Status::AwaitingPayment, Some(Status::Cancelled), None),
            (Status::Rejected, None, None),
            (Status::Cancelled, None, None),
            (Status::Shipped, None, None),
            (Status::Expired, None, None),
        ] {
            order.status = status;
            let to = |decision| match decision {
                Decision::Apply(transition) => {
                    assert_eq!(transition.from, status);
                    Some(transition.to)
                }
                Decision::AlreadyApplied | Decision::Refused(_) => None,
            };
            assert_eq!((to(cancel(&order)), to(ship(&order))), (cancelled, shipped), "{status:?}");
        }
        order.status = Status::Cancelled;
        assert_eq!(cancel(&order), Decision::AlreadyApplied);
        order.status = Status::Shipped;
        assert_eq!(ship(&order), Decision::AlreadyApplied);
        assert_eq!(cancel(&order), Decision::Refused(Status::Shipped));
    }

    #[test]
    fn every_transition_raises_the_version() {
        use SagaReply::{PaymentCancelled, PaymentSucceeded, StockRejected, StockReserved};
        let mut order = order(vec![line(1, 2)], &HashMap::from([entry(1, 100)])).expect("placed");
        let rejected = rejected(&order);
        let mut transitions = 0;
        for status in Status::ALL {
            order.status = status;
            let replies =
                [StockReserved, StockRejected(&rejected), PaymentSucceeded, PaymentCancelled];
            let settled = [Payments::None, Payments::Stripe]
                .into_iter()
                .flat_map(|payments| replies.map(|reply| settle(&order, reply, payments)))
                .filter_map(|settlement| match settlement {
                    Settlement::Apply(transition) => Some(transition.to),
                    Settlement::AlreadySettled | Settlement::Contradiction => None,
                });
            let asked_for = [cancel(&order), ship(&order)].into_iter().filter_map(|d| match d {
                Decision::Apply(transition) => Some(transition.to),
                Decision::AlreadyApplied | Decision::Refused(_) => None,
            });
            for to in settled.chain(asked_for) {
                transitions += 1;
                assert!(to.version() > status.version(), "{status:?} to {to:?}");
            }
        }
        assert!(transitions >= 8, "this test has lost sight of the transitions");
    }

    #[test]
    fn an_order_survives_the_table() {
        let order =
            order(vec![line(1, 2), line(2, 3)], &HashMap::from([entry(1, 199), entry(2, 5)]))
                .expect("placed");
        let item: exactly_once::Item = serde_dynamo::to_item(&order).expect("an item");
        assert_eq!(item["total"].as_n().map(String::as_str), Ok("413"));
        assert_eq!(serde_dynamo::from_item::<_, Order>(item).ok(), Some(order));
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_the_lines_and_no_piece_is_lost(
            lines in prop::collection::vec((0..8_usize, 1..=20_u64), 1..=LINES_MAX),
            prices in prop::collection::vec(0..=1_000_000_000_i64, 8),
        ) {
            let catalog: HashMap<_, _> = prices.iter().enumerate().map(|(n, price)| entry(n, *price)).collect();
            let order = order(lines.iter().map(|(n, q)| line(*n, *q)).collect(), &catalog).expect("placed");
            let wanted: i64 = lines.iter().map(|(n, q)| prices[*n] * i64::try_from(*q).expect("small")).sum();
            prop_assert_eq!(order.total.minor(), wanted);
            let sum: i64 = order.items.iter().map(|line| line.line_total.minor()).sum();
            prop_assert_eq!(sum, wanted);
            let mut products: Vec<_> = order.items.iter().map(|line| &line.product_id).collect();
            products.sort();
            products.dedup();
            prop_assert_eq!(products.len(), order.items.len());
        }
    }
}
