//! What each event says in its `data`, and the merging of lines that name one product twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Currency, Email, Money, Name, OrderId, ProductId, Quantity};

/// The `data` of OrderCreated, OrderConfirmed, OrderCancelled and OrderShipped: the whole order, so that a
/// consumer needs nobody's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Which order.
    pub order_id: OrderId,
    /// One line a product.
    pub items: Vec<Line>,
    /// The sum of the lines.
    pub total_price: Money,
    /// Of every amount in the order.
    pub currency: Currency,
    /// Who ordered.
    pub customer_email: Email,
}

/// One product of an order at the price at which it was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Which product.
    pub product_id: ProductId,
    /// What it was called when it was ordered.
    pub product_name: Name,
    /// How many.
    pub quantity: Quantity,
    /// Of one piece.
    pub unit_price: Money,
    /// Of all pieces.
    pub line_total: Money,
}

/// The `data` of OrderRejected: the order and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedOrder {
    /// Which order.
    pub order_id: OrderId,
    /// One line a product.
    pub items: Vec<Line>,
    /// The sum of the lines.
    pub total_price: Money,
    /// Of every amount in the order.
    pub currency: Currency,
    /// Who ordered.
    pub customer_email: Email,
    /// Why, as a sentence for the customer.
    pub reason: String,
}

impl RejectedOrder {
    /// The order, rejected for this reason.
    #[must_use]
    pub fn new(order: Order, reason: String) -> Self {
        let Order { order_id, items, total_price, currency, customer_email } = order;
        Self { order_id, items, total_price, currency, customer_email, reason }
    }
}

/// The `data` of StockReserved and StockReleased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stock {
    /// For which order.
    pub order_id: OrderId,
    /// What was taken or given back, one line a product.
    pub items: Vec<StockLine>,
}

/// A number of pieces of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockLine {
    /// Which product.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
}

/// The `data` of StockRejected: nothing was taken, and what was missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectedStock {
    /// For which order.
    pub order_id: OrderId,
    /// What the order asked for.
    pub items: Vec<StockLine>,
    /// The products that could not be had.
    pub short: Vec<ShortLine>,
}

/// One product of which there was too little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortLine {
    /// Which product.
    pub product_id: ProductId,
    /// How many the order asked for.
    pub requested: Quantity,
    /// How many there were; none: there is no such product.
    pub available: Option<u64>,
}

/// What merging lines came to.
pub type ItemsMerged = Result<Vec<StockLine>, ProductId>;

/// One line a product, in the order of first mention: a transaction may name each item only once.
///
/// # Errors
/// The product whose merged quantity is more than one line may have.
pub fn merge(lines: impl IntoIterator<Item = StockLine>) -> ItemsMerged {
    let mut merged: Vec<StockLine> = Vec::new();
    for line in lines {
        match merged.iter_mut().find(|seen| seen.product_id == line.product_id) {
            Some(seen) => {
                seen.quantity =
                    seen.quantity.plus(line.quantity).ok_or_else(|| line.product_id.clone())?;
            }
            None => merged.push(line),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(product: u8, quantity: u64) -> StockLine {
        StockLine {
            product_id: format!("p{product}").parse().expect("an id"),
            quantity: quantity.try_into().expect("a quantity"),
        }
    }

    #[test]
    fn lines_of_one_product_become_one_line_in_the_order_of_first_mention() {
        let merged = merge([line(1, 2), line(2, 1), line(1, 3)]);
        assert_eq!(merged, Ok(vec![line(1, 5), line(2, 1)]));
        let too_many = merge([line(1, 600), line(1, 600)]);
        assert_eq!(too_many, Err(line(1, 1).product_id));
    }

    proptest! {
        #[test]
        fn merging_keeps_every_piece_and_names_each_product_once(
            lines in prop::collection::vec((0..6_u8, 1..=20_u64), 0..50),
        ) {
            let merged = merge(lines.iter().map(|&(product, count)| line(product, count))).expect("50 times 20 fit");
            for product in 0..6 {
                let wanted: u64 = lines.iter().filter(|l| l.0 == product).map(|l| l.1).sum();
                let found: Vec<u64> = merged.iter().filter(|l| l.product_id == line(product, 1).product_id)
                    .map(|l| l.quantity.get().into()).collect();
                prop_assert_eq!(found, if wanted == 0 { vec![] } else { vec![wanted] });
            }
        }
    }
}
