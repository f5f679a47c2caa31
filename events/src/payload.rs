//! What each event says in its `data`, and the merging of lines that name one product twice.
//!
//! Reading is the one way in for what others wrote, so it checks what JSON Schema can state, and what it cannot:
//! 1. a line's total is its unit price times its quantity;
//! 2. an order's total is the sum of its lines;
//! 3. no list has two lines of one product.

use std::{collections::HashSet, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::value::{
    CountVisitor, Currency, EXACT_INTEGER_MAX, Email, InvalidValue, Money, Name, OrderId,
    ProductId, Quantity, Reason,
};

/// Maximum number of lines of an order: its transaction has at most 100 items, and more than one a line
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>).
pub const LINES_MAX: usize = 50;

/// A `T` that is read from a JSON object. Derived readers take an array for a struct, too, field by field.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Defines a part of a payload, which is read from an object and checked as a whole.
macro_rules! payload {
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $about:literal])+
                $(#[serde($($serde:tt)+)])?
                $(#[schemars($($schemars:tt)+)])?
                pub $field:ident: $type:ty,
            )+
        }
        $check:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
        pub struct $name {
            $(
                $(#[doc = $about])+
                $(#[serde($($serde)+)])?
                $(#[schemars($($schemars)+)])?
                pub $field: $type,
            )+
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                struct Fields {
                    $($(#[serde($($serde)+)])? $field: $type,)+
                }

                let Object(Fields { $($field),+ }) = Object::deserialize(deserializer)?;
                let payload = Self { $($field),+ };
                let check: fn(&Self) -> Result<(), InvalidValue> = $check;
                check(&payload).map_err(D::Error::custom)?;
                Ok(payload)
            }
        }
    };
}

payload! {
    /// The `data` of OrderCreated, OrderConfirmed, OrderCancelled, OrderShipped, OrderAwaitingPayment, OrderPaymentReminder,
    /// OrderPaymentOverdue and OrderExpired: the whole order, so that a consumer needs nobody's table.
    pub struct Order {
        /// Which order.
        pub order_id: OrderId,
        /// One line a product.
        #[serde(deserialize_with = "order_lines")]
        #[schemars(length(min = 1, max = LINES_MAX))]
        pub items: Vec<Line>,
        /// The sum of the lines.
        pub total_price: Money,
        /// Of every amount in the order.
        pub currency: Currency,
        /// Who ordered.
        pub customer_email: Email,
    }
    |order| check_total(&order.items, order.total_price)
}

payload! {
    /// One product of an order at the price at which it was ordered.
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
    |line| match line.unit_price.times(line.quantity) {
        Some(total) if total == line.line_total => Ok(()),
        _ => Err(InvalidValue::new("line_total must be unit_price times quantity")),
    }
}

payload! {
    /// The `data` of OrderRejected: the order and why.
    pub struct RejectedOrder {
        /// Which order.
        pub order_id: OrderId,
        /// One line a product.
        #[serde(deserialize_with = "order_lines")]
        #[schemars(length(min = 1, max = LINES_MAX))]
        pub items: Vec<Line>,
        /// The sum of the lines.
        pub total_price: Money,
        /// Of every amount in the order.
        pub currency: Currency,
        /// Who ordered.
        pub customer_email: Email,
        /// Why, as a sentence for the customer.
        pub reason: Reason,
    }
    |order| check_total(&order.items, order.total_price)
}

impl RejectedOrder {
    /// The order, rejected for this reason.
    #[must_use]
    pub fn new(order: Order, reason: Reason) -> Self {
        let Order { order_id, items, total_price, currency, customer_email } = order;
        Self { order_id, items, total_price, currency, customer_email, reason }
    }
}

payload! {
    /// The `data` of StockReserved and StockReleased.
    pub struct Stock {
        /// For which order.
        pub order_id: OrderId,
        /// What was taken or given back, one line a product.
        #[serde(deserialize_with = "stock_lines")]
        #[schemars(length(min = 1, max = LINES_MAX))]
        pub items: Vec<StockLine>,
    }
    |_| Ok(())
}

payload! {
    /// A number of pieces of one product.
    pub struct StockLine {
        /// Which product.
        pub product_id: ProductId,
        /// How many.
        pub quantity: Quantity,
    }
    |_| Ok(())
}

payload! {
    /// The `data` of StockRejected: nothing was taken, and what was missing.
    pub struct RejectedStock {
        /// For which order.
        pub order_id: OrderId,
        /// What the order asked for.
        #[serde(deserialize_with = "stock_lines")]
        #[schemars(length(min = 1, max = LINES_MAX))]
        pub items: Vec<StockLine>,
        /// The products that could not be had.
        #[serde(deserialize_with = "short_lines")]
        #[schemars(length(max = LINES_MAX))]
        pub short: Vec<ShortLine>,
    }
    |_| Ok(())
}

payload! {
    /// One product of which there was too little.
    pub struct ShortLine {
        /// Which product.
        pub product_id: ProductId,
        /// How many the order asked for.
        pub requested: Quantity,
        /// How many there were; none: there is no such product.
        #[serde(default, deserialize_with = "available_pieces")]
        #[schemars(schema_with = "available_pieces_schema")]
        pub available: Option<u64>,
    }
    |_| Ok(())
}

payload! {
    /// The `data` of PaymentRequested, PaymentSucceeded, PaymentFailed, PaymentCancelled and PaymentRefunded.
    pub struct Payment {
        /// For which order.
        pub order_id: OrderId,
        /// What is or was to be paid: the total of the order.
        pub amount: Money,
        /// Of the amount.
        pub currency: Currency,
        /// What the payment provider calls it; absent if it was never asked for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub payment_id: Option<Name>,
        /// Why it failed, was cancelled or given back, as a sentence for an operator; absent if there is nothing to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub reason: Option<Reason>,
    }
    |_| Ok(())
}

fn order_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Line>, D::Error> {
    let lines = Vec::deserialize(deserializer)?;
    check_lines(1, &lines, |line: &Line| &line.product_id).map_err(D::Error::custom)?;
    Ok(lines)
}

fn stock_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<StockLine>, D::Error> {
    let lines = Vec::deserialize(deserializer)?;
    check_lines(1, &lines, |line: &StockLine| &line.product_id).map_err(D::Error::custom)?;
    Ok(lines)
}

fn short_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ShortLine>, D::Error> {
    let lines = Vec::deserialize(deserializer)?;
    check_lines(0, &lines, |line: &ShortLine| &line.product_id).map_err(D::Error::custom)?;
    Ok(lines)
}

fn check_lines<L>(
    min: usize,
    lines: &[L],
    product: impl Fn(&L) -> &ProductId,
) -> Result<(), InvalidValue> {
    if !(min..=LINES_MAX).contains(&lines.len()) {
        let found = lines.len();
        return Err(InvalidValue::new(format!(
            "must have {min} to {LINES_MAX} lines, not {found}"
        )));
    }
    let mut products = HashSet::new();
    match lines.iter().map(product).find(|product| !products.insert(*product)) {
        Some(twice) => Err(InvalidValue::new(format!("must have one line of product {twice}"))),
        None => Ok(()),
    }
}

fn check_total(lines: &[Line], total: Money) -> Result<(), InvalidValue> {
    if Money::sum(lines.iter().map(|line| line.line_total)) == Some(total) {
        Ok(())
    } else {
        Err(InvalidValue::new("total_price must be the sum of the lines"))
    }
}

fn available_pieces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Pieces;

    impl<'de> Visitor<'de> for Pieces {
        type Value = Option<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number from 0 to 9007199254740991, or null")
        }

        fn visit_none<E: Error>(self) -> Result<Option<u64>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(
            self,
            deserializer: D,
        ) -> Result<Option<u64>, D::Error> {
            let expected = "a whole number from 0 to 9007199254740991, or null";
            deserializer.deserialize_u64(CountVisitor(expected)).map(Some)
        }
    }

    deserializer.deserialize_option(Pieces)
}

fn available_pieces_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["integer", "null"], "minimum": 0, "maximum": EXACT_INTEGER_MAX })
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
