//! What follows from what was read: pure functions, no clock and no network.

use std::ops::RangeInclusive;

use events::{Currency, Money, Name, ProductId, Quantity, ShortLine, StockLine};
use exactly_once::{Commit, Handled, Item};
use serde::{Deserialize, Serialize};

/// The highest stock of one product, in pieces.
pub const STOCK_MAX: u64 = 1_000_000_000;

/// A product, in the form in which the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub product_id: ProductId,
    pub name: Name,
    /// Of one piece.
    #[serde(with = "events::minor_units")]
    pub price: Money,
    pub currency: Currency,
    /// Where it belongs, if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Name>,
    /// Pieces that no order has taken.
    pub stock: u64,
    /// Counts the changes of name, price and category, not those of stock.
    pub version: u64,
}

/// The status of an order's reservation of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReservationStatus {
    /// All lines were taken.
    Reserved,
    /// No line was taken, for good.
    Rejected,
    /// What was taken has been given back.
    Released,
    /// A tombstone: the order was cancelled before its creation was seen, so whatever comes now takes nothing.
    Cancelled,
}

/// An order's reservation of stock, in the form in which the table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub status: ReservationStatus,
    /// The order's lines, one a product.
    pub items: Vec<StockLine>,
}

/// What a cancellation of an order calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// Give these lines back.
    GiveBack(Vec<StockLine>),
    /// Put a tombstone, so that no line is taken any more.
    Tombstone,
    /// There is nothing to do, nor will there be.
    Nothing,
}

/// What a cancellation calls for, given the order's reservation so far.
#[must_use]
pub fn release(reservation: Option<Reservation>) -> Release {
    match reservation {
        None => Release::Tombstone,
        Some(Reservation { status: ReservationStatus::Reserved, items }) => {
            Release::GiveBack(items)
        }
        Some(_) => Release::Nothing,
    }
}

/// What the transaction that reserves or rejects means for its message: a reservation that was there already stands,
/// whatever it says.
///
/// # Errors
/// The products whose stock was short, by the tags of their writes, each with the product as it is now: the order is
/// to be rejected.
pub fn interpret_reservation<Tag>(
    commit: Commit<Tag>,
) -> Result<Handled, Vec<(Tag, Option<Item>)>> {
    match commit {
        Commit::Done => Ok(Handled::Done),
        Commit::Duplicate | Commit::GuardFailed(..) => Ok(Handled::Duplicate),
        Commit::ConditionFailed(failed) => Err(failed),
    }
}

/// What the transaction of a release means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// The event is dealt with.
    Settled(Handled),
    /// The reservation has moved on since it was read: read it and decide again.
    DecideAgain,
    /// A product that is to take its pieces back is gone. Products are never deleted: no retry can help.
    UnknownProduct,
}

/// What the transaction of a release means for its message. A tombstone that loses its race has met a reservation,
/// whose stock it has to give back: a guard that failed is never an answer here.
#[must_use]
pub fn interpret_release<Tag>(commit: &Commit<Tag>) -> ReleaseOutcome {
    match commit {
        Commit::Done => ReleaseOutcome::Settled(Handled::Done),
        Commit::Duplicate => ReleaseOutcome::Settled(Handled::Duplicate),
        Commit::GuardFailed(..) => ReleaseOutcome::DecideAgain,
        Commit::ConditionFailed(_) => ReleaseOutcome::UnknownProduct,
    }
}

/// A change of a product's stock, by its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockChange {
    /// An order takes pieces.
    Reserve(Quantity),
    /// A cancelled order gives them back.
    Release(Quantity),
    /// An administrator adds pieces, or takes them.
    Adjust(i64),
}

impl StockChange {
    /// The number of pieces that is added: negative if they are taken.
    #[must_use]
    pub fn delta(self) -> i64 {
        match self {
            Self::Reserve(quantity) => -i64::from(quantity.get()),
            Self::Release(quantity) => i64::from(quantity.get()),
            Self::Adjust(delta) => delta,
        }
    }

    /// The stock from which the change may be made, as least and greatest number of pieces. [`STOCK_MAX`] binds
    /// administrators only: what a cancelled order has taken comes back whatever the stock is.
    #[must_use]
    pub fn allowed_stock(self) -> RangeInclusive<u64> {
        let taken = self.delta().min(0).unsigned_abs();
        match self {
            Self::Adjust(delta @ 1..) => 0..=STOCK_MAX.saturating_sub(delta.unsigned_abs()),
            Self::Reserve(_) | Self::Release(_) | Self::Adjust(_) => taken..=u64::MAX,
        }
    }
}

/// The lines that were short. `failed` are the lines whose condition failed, by their place, each with
/// the product as it is now (`None` if there is no such product).
#[must_use]
pub fn short_lines(lines: &[StockLine], failed: &[(usize, Option<Item>)]) -> Vec<ShortLine> {
    failed
        .iter()
        .filter_map(|(place, product)| {
            let line = lines.get(*place)?;
            Some(ShortLine {
                product_id: line.product_id.clone(),
                requested: line.quantity,
                available: product.as_ref().map(stock_of),
            })
        })
        .collect()
}

/// The stock of a product's item.
#[must_use]
pub fn stock_of(product: &Item) -> u64 {
    product
        .get("stock")
        .and_then(|stock| stock.as_n().ok())
        .and_then(|stock| stock.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::AttributeValue;
    use proptest::prelude::*;

    fn line(product: usize, quantity: u64) -> StockLine {
        StockLine {
            product_id: format!("p{product}").parse().expect("an id"),
            quantity: quantity.try_into().expect("a quantity"),
        }
    }

    #[test]
    fn a_cancellation_gives_back_only_what_was_taken() {
        let of = |status| Some(Reservation { status, items: vec![line(1, 2)] });
        assert_eq!(release(of(ReservationStatus::Reserved)), Release::GiveBack(vec![line(1, 2)]));
        assert_eq!(release(None), Release::Tombstone);
        for settled in
            [ReservationStatus::Rejected, ReservationStatus::Released, ReservationStatus::Cancelled]
        {
            assert_eq!(release(of(settled)), Release::Nothing);
        }
    }

    #[test]
    fn an_unknown_product_differs_from_one_without_stock() {
        let empty = Item::from([("stock".to_owned(), AttributeValue::N("0".into()))]);
        let short = short_lines(&[line(0, 1), line(1, 2)], &[(0, Some(empty)), (1, None)]);
        assert_eq!(short.iter().map(|s| s.available).collect::<Vec<_>>(), [Some(0), None]);
    }

    proptest! {
        #[test]
        fn an_administrators_change_leaves_stock_in_its_range_and_a_release_is_always_taken(
            stock in 0..=STOCK_MAX, delta in any::<i64>(), pieces in 1..=1000_u64,
        ) {
            let exact = i128::from(stock) + i128::from(delta);
            let fits = (0..=i128::from(STOCK_MAX)).contains(&exact);
            prop_assert_eq!(StockChange::Adjust(delta).allowed_stock().contains(&stock), fits);
            let quantity = pieces.try_into().expect("a quantity");
            prop_assert!(StockChange::Release(quantity).allowed_stock().contains(&stock));
            prop_assert_eq!(StockChange::Reserve(quantity).allowed_stock().contains(&stock), stock >= pieces);
        }

        #[test]
        fn each_short_line_says_what_was_asked_for_and_what_there_was(
            quantities in prop::collection::vec(1..=1000_u64, 1..50),
            stocks in prop::collection::vec(prop::option::of(0..=1000_u64), 50),
        ) {
            let lines: Vec<_> = quantities.iter().enumerate().map(|(n, q)| line(n, *q)).collect();
            let failed: Vec<_> = lines.iter().enumerate()
                .filter(|(n, line)| stocks[*n].is_none_or(|stock| stock < line.quantity.get().into()))
                .map(|(n, _)| (n, stocks[n].map(|s| Item::from([("stock".to_owned(), AttributeValue::N(s.to_string()))]))))
                .collect();
            let short = short_lines(&lines, &failed);
            prop_assert_eq!(short.len(), failed.len());
            for shown in short {
                let n = lines.iter().position(|line| line.product_id == shown.product_id).expect("one of the lines");
                prop_assert_eq!(shown.requested, lines[n].quantity);
                prop_assert_eq!(shown.available, stocks[n]);
                prop_assert!(shown.available.is_none_or(|available| available < u64::from(shown.requested.get())));
            }
        }
    }
}
