//! What follows from what was read: pure functions, no clock and no network.

use std::collections::HashMap;

use delivery::{Commit, Handled};
use events::{
    Body, Currency, Email, Line, Money, Name, OrderId, ProductId, RejectedOrder, RejectedStock,
    Stamp, StockLine, merge,
};
use http_api::FieldError;
use serde::{Deserialize, Serialize};

/// So many lines may an order have, as sent.
pub const LINES_MAX: usize = 50;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted; stock is not taken yet.
    Pending,
    /// Stock is taken.
    Confirmed,
    /// Stock could not be had.
    Rejected,
    /// Called off by the customer.
    Cancelled,
    /// On its way.
    Shipped,
}

impl Status {
    /// As tables and answers write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Shipped => "shipped",
        }
    }
}

/// An order, in the form in which the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its key.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: Status,
    /// One line a product.
    pub items: Vec<StoredLine>,
    /// The sum of the lines.
    #[serde(with = "events::minor_units")]
    pub total: Money,
    /// Of every amount.
    pub currency: Currency,
    /// Who ordered.
    pub customer_email: Email,
    /// Why it was rejected, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was accepted.
    pub created_at: Stamp,
    /// When its status last changed.
    pub updated_at: Stamp,
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

    /// The order as events tell it.
    #[must_use]
    pub fn told(&self) -> events::Order {
        events::Order {
            order_id: self.order_id.clone(),
            items: self.lines(),
            total_price: self.total,
            currency: self.currency.clone(),
            customer_email: self.customer_email.clone(),
        }
    }
}

/// What a customer asks for: checked field by field, not yet against the products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who orders.
    pub customer_email: Email,
    /// What, as sent.
    pub lines: Vec<StockLine>,
}

/// A product as order-api sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Offer {
    /// Its key.
    pub product_id: ProductId,
    /// What it is called.
    pub name: Name,
    /// Of one piece.
    #[serde(with = "events::minor_units")]
    pub price: Money,
    /// Of the price.
    pub currency: Currency,
}

/// The order that follows from what a customer wants and what is on offer. It never looks at stock: that is
/// decided where stock is taken.
///
/// # Errors
/// Every line that cannot be ordered, by its place in the request.
pub fn place(
    order_id: OrderId,
    wanted: Wanted,
    offers: &HashMap<ProductId, Offer>,
    currency: &Currency,
    now: Stamp,
) -> Result<Order, Vec<FieldError>> {
    let error = |place: usize, field: &str, message: String| FieldError {
        field: format!("items[{place}].{field}"),
        message,
    };
    let mut errors = Vec::new();
    for (place, line) in wanted.lines.iter().enumerate() {
        match offers.get(&line.product_id) {
            Some(offer) if offer.currency == *currency => {}
            Some(offer) => {
                let message = format!("is priced in {}, not in {currency}", offer.currency);
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
        wanted.lines.iter().rposition(|line| line.product_id == *product).unwrap_or_default()
    };
    let merged = merge(wanted.lines.iter().cloned()).map_err(|product| {
        let message = "the lines of this product have more than 1000 pieces together".to_owned();
        vec![error(place_of(&product), "quantity", message)]
    })?;
    let mut items = Vec::with_capacity(merged.len());
    for StockLine { product_id, quantity } in merged {
        let offer = &offers[&product_id];
        let line_total = offer.price.times(quantity).ok_or_else(too_expensive)?;
        items.push(StoredLine {
            product_id,
            product_name: offer.name.clone(),
            quantity,
            unit_price: offer.price,
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
        customer_email: wanted.customer_email,
        reason: None,
        created_at: now,
        updated_at: now,
    })
}

fn too_expensive() -> Vec<FieldError> {
    let message = "the total is more than an exact amount of money can be".to_owned();
    vec![FieldError { field: "items".into(), message }]
}

/// What product-service said of an order's stock.
#[derive(Debug, Clone, Copy)]
pub enum Stock<'a> {
    /// All of it was taken.
    Reserved,
    /// None of it was.
    Rejected(&'a RejectedStock),
}

/// A move of an order from one status to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The only status from which it is made.
    pub from: Status,
    /// Where it leads.
    pub to: Status,
    /// Why, where the customer is told.
    pub reason: Option<String>,
    /// What tells of it.
    pub body: Body,
}

/// The move that news of stock call for. Nothing: the order has moved on, and the news are overtaken. A
/// confirmation that meets a cancelled order leaves it cancelled: the release of its stock is on its way.
#[must_use]
pub fn settle(order: &Order, stock: Stock<'_>) -> Option<Move> {
    if order.status != Status::Pending {
        return None;
    }
    let from = Status::Pending;
    Some(match stock {
        Stock::Reserved => Move {
            from,
            to: Status::Confirmed,
            reason: None,
            body: Body::OrderConfirmed(order.told()),
        },
        Stock::Rejected(rejected) => {
            let reason = reason(order, rejected);
            let body = Body::OrderRejected(RejectedOrder::new(order.told(), reason.clone()));
            Move { from, to: Status::Rejected, reason: Some(reason), body }
        }
    })
}

/// What the transaction of a settlement came to. Statuses only move forward: an order that has left
/// `pending` has been settled or cancelled, so a guard that failed is an answer.
#[must_use]
pub fn after_settle(commit: &Commit) -> Handled {
    if *commit == Commit::Done { Handled::Done } else { Handled::Already }
}

/// What a customer's or an administrator's wish comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// This move is to be made.
    Do(Box<Move>),
    /// It is so already.
    AlreadySo,
    /// The order stands where this cannot be done any more, or not yet.
    Refused(Status),
}

/// Calls an order off, unless it is on its way or came to nothing.
#[must_use]
pub fn cancel(order: &Order) -> Wish {
    match order.status {
        from @ (Status::Pending | Status::Confirmed) => Wish::Do(Box::new(Move {
            from,
            to: Status::Cancelled,
            reason: None,
            body: Body::OrderCancelled(order.told()),
        })),
        Status::Cancelled => Wish::AlreadySo,
        refused @ (Status::Rejected | Status::Shipped) => Wish::Refused(refused),
    }
}

/// Sends a confirmed order on its way.
#[must_use]
pub fn ship(order: &Order) -> Wish {
    match order.status {
        from @ Status::Confirmed => Wish::Do(Box::new(Move {
            from,
            to: Status::Shipped,
            reason: None,
            body: Body::OrderShipped(order.told()),
        })),
        Status::Shipped => Wish::AlreadySo,
        refused @ (Status::Pending | Status::Rejected | Status::Cancelled) => {
            Wish::Refused(refused)
        }
    }
}

/// A sentence for the customer: which products are missing, without telling how many there are.
fn reason(order: &Order, rejected: &RejectedStock) -> String {
    let names: Vec<&str> = rejected
        .short
        .iter()
        .map(|short| {
            let line = order.items.iter().find(|line| line.product_id == short.product_id);
            line.map_or(short.product_id.as_str(), |line| line.product_name.as_str())
        })
        .collect();
    if names.is_empty() {
        "Out of stock".into()
    } else {
        format!("Out of stock: {}", names.join(", "))
    }
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

    fn offer(product: usize, price_minor: i64) -> (ProductId, Offer) {
        let offer = Offer {
            product_id: id(product),
            name: format!("Product {product}").parse().expect("a name"),
            price: Money::from_minor(price_minor).expect("in range"),
            currency: Currency::default(),
        };
        (id(product), offer)
    }

    fn wanted(lines: Vec<StockLine>) -> Wanted {
        Wanted { customer_email: "test@example.com".parse().expect("an address"), lines }
    }

    fn order(
        lines: Vec<StockLine>,
        offers: &HashMap<ProductId, Offer>,
    ) -> Result<Order, Vec<FieldError>> {
        place(OrderId::random(), wanted(lines), offers, &Currency::default(), Stamp::now())
    }

    #[test]
    fn five_laptops_at_a_thousand_are_five_thousand() {
        let order = order(vec![line(1, 5)], &HashMap::from([offer(1, 100_000)])).expect("placed");
        assert_eq!(order.total.to_string(), "5000.00");
        assert_eq!(order.status, Status::Pending);
    }

    #[test]
    fn every_unknown_product_is_named_by_its_place() {
        let errors = order(vec![line(1, 1), line(2, 1), line(3, 1)], &HashMap::from([offer(2, 1)]))
            .expect_err("two are unknown");
        let places: Vec<_> = errors.into_iter().map(|error| error.field).collect();
        assert_eq!(places, ["items[0].product_id", "items[2].product_id"]);
    }

    #[test]
    fn lines_of_one_product_must_fit_into_one_line() {
        let offers = HashMap::from([offer(1, 1)]);
        let merged = order(vec![line(1, 400), line(1, 600)], &offers).expect("1000 fit");
        assert_eq!(merged.items.len(), 1);
        assert_eq!(merged.items[0].quantity, Quantity::MAX);
        let errors = order(vec![line(1, 400), line(1, 601)], &offers).expect_err("1001 do not");
        assert_eq!(errors[0].field, "items[1].quantity");
    }

    #[test]
    fn a_product_of_another_currency_is_refused() {
        let (id, mut offer) = offer(1, 1);
        offer.currency = "EUR".parse().expect("a currency");
        let errors = order(vec![line(1, 1)], &HashMap::from([(id, offer)])).expect_err("refused");
        assert!(errors[0].message.contains("EUR"), "{errors:?}");
    }

    #[test]
    fn news_of_stock_move_a_pending_order_and_no_other() {
        let offers = HashMap::from([offer(1, 100)]);
        let mut order = order(vec![line(1, 2)], &offers).expect("placed");
        let rejected = RejectedStock {
            order_id: order.order_id.clone(),
            items: vec![line(1, 2)],
            short: vec![ShortLine {
                product_id: id(1),
                requested: line(1, 2).quantity,
                available: Some(1),
            }],
        };
        let confirmed = settle(&order, Stock::Reserved).expect("a move");
        assert_eq!(confirmed.to, Status::Confirmed);
        assert_eq!(confirmed.body, Body::OrderConfirmed(order.told()));
        let refused = settle(&order, Stock::Rejected(&rejected)).expect("a move");
        assert_eq!(refused.to, Status::Rejected);
        assert_eq!(refused.reason.as_deref(), Some("Out of stock: Product 1"));
        for status in [Status::Confirmed, Status::Rejected, Status::Cancelled, Status::Shipped] {
            order.status = status;
            assert_eq!(settle(&order, Stock::Reserved), None);
            assert_eq!(settle(&order, Stock::Rejected(&rejected)), None);
        }
    }

    #[test]
    fn only_what_is_on_its_way_or_came_to_nothing_cannot_be_cancelled() {
        let mut order = order(vec![line(1, 2)], &HashMap::from([offer(1, 100)])).expect("placed");
        for (status, cancelled, shipped) in [
            (Status::Pending, Some(Status::Cancelled), None),
            (Status::Confirmed, Some(Status::Cancelled), Some(Status::Shipped)),
            (Status::Rejected, None, None),
            (Status::Cancelled, None, None),
            (Status::Shipped, None, None),
        ] {
            order.status = status;
            let to = |wish| match wish {
                Wish::Do(planned) => {
                    assert_eq!(planned.from, status);
                    Some(planned.to)
                }
                Wish::AlreadySo | Wish::Refused(_) => None,
            };
            assert_eq!((to(cancel(&order)), to(ship(&order))), (cancelled, shipped), "{status:?}");
        }
        order.status = Status::Cancelled;
        assert_eq!(cancel(&order), Wish::AlreadySo);
        order.status = Status::Shipped;
        assert_eq!(ship(&order), Wish::AlreadySo);
        assert_eq!(cancel(&order), Wish::Refused(Status::Shipped));
    }

    #[test]
    fn an_order_survives_the_table() {
        let order =
            order(vec![line(1, 2), line(2, 3)], &HashMap::from([offer(1, 199), offer(2, 5)]))
                .expect("placed");
        let item: delivery::Item = serde_dynamo::to_item(&order).expect("an item");
        assert_eq!(item["total"].as_n().map(String::as_str), Ok("413"));
        assert_eq!(serde_dynamo::from_item::<_, Order>(item).ok(), Some(order));
    }

    proptest! {
        #[test]
        fn the_total_is_the_sum_of_the_lines_and_no_piece_is_lost(
            lines in prop::collection::vec((0..8_usize, 1..=20_u64), 1..=LINES_MAX),
            prices in prop::collection::vec(0..=1_000_000_000_i64, 8),
        ) {
            let offers: HashMap<_, _> = prices.iter().enumerate().map(|(n, price)| offer(n, *price)).collect();
            let order = order(lines.iter().map(|(n, q)| line(*n, *q)).collect(), &offers).expect("placed");
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
