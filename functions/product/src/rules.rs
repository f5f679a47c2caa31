//! What follows from what was read: pure functions, no clock and no network.

use std::{collections::HashMap, ops::RangeInclusive};

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
    /// Counts the changes of name, price, category and whether it is sold, not those of stock.
    pub version: u64,
    /// Whether the shop sells it. Products that are older than this attribute are sold.
    #[serde(default = "is_sold")]
    pub active: bool,
}

fn is_sold() -> bool {
    true
}

impl Product {
    /// What its entity tag has between the quotes: another for each change that a reader could see.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}.{}", self.version, self.stock)
    }
}

/// The version of which an entity tag tells, or `None` if it is no tag of a product.
#[must_use]
pub fn version_of_tag(tag: &str) -> Option<u64> {
    let (version, stock) = tag.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(version) && is_number(stock)).then(|| version.parse().ok()).flatten()
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

/// What is known of the stock of products of which there was too little: pieces, or `None` if there is no such product.
pub type SeenStock = HashMap<ProductId, Option<u64>>;

/// What an order gets when it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allocation {
    /// All of its lines.
    Reserve,
    /// None of them, for good: these are short.
    Reject(Vec<ShortLine>),
}

/// Decides about several orders that are committed together, each for itself: who comes first is served first, and an order
/// that cannot have all of its lines takes none. Stock that was not seen to be short is taken to be enough; its
/// condition finds out. Stock may come in after it was seen: a rejection stands, because the first look decides.
#[must_use]
pub fn allocate(orders: &[&[StockLine]], seen: &SeenStock) -> Vec<Allocation> {
    let mut left = seen.clone();
    let mut allocate_one = |lines: &&[StockLine]| {
        let short: Vec<ShortLine> =
            lines.iter().filter_map(|line| short_line(line, &left)).collect();
        if !short.is_empty() {
            return Allocation::Reject(short);
        }
        for line in *lines {
            if let Some(Some(stock)) = left.get_mut(&line.product_id) {
                *stock -= u64::from(line.quantity.get());
            }
        }
        Allocation::Reserve
    };
    orders.iter().map(&mut allocate_one).collect()
}

/// What a line lacks of the stock that is left, or `None` if it lacks nothing that is known.
fn short_line(line: &StockLine, left: &SeenStock) -> Option<ShortLine> {
    let available = *left.get(&line.product_id)?;
    let requested = line.quantity;
    let is_enough = available.is_some_and(|pieces| pieces >= requested.get().into());
    (!is_enough).then(|| ShortLine { product_id: line.product_id.clone(), requested, available })
}

/// The pieces that these orders take of each product, in the order of first mention: a transaction names each item once.
#[must_use]
pub fn total_by_product<'a>(
    lines: impl IntoIterator<Item = &'a StockLine>,
) -> Vec<(&'a ProductId, u32)> {
    let mut totals: Vec<(&ProductId, u32)> = Vec::new();
    for StockLine { product_id, quantity } in lines {
        match totals.iter_mut().find(|(product, _)| *product == product_id) {
            Some((_, total)) => *total += quantity.get(),
            None => totals.push((product_id, quantity.get())),
        }
    }
    totals
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
    /// Orders take this number of pieces together.
    Reserve(u32),
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
            Self::Reserve(pieces) => -i64::from(pieces),
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
    use proptest::prelude::*;

    fn line(product: usize, quantity: u64) -> StockLine {
        StockLine {
            product_id: format!("p{product}").parse().expect("an id"),
            quantity: quantity.try_into().expect("a quantity"),
        }
    }

    #[test]
    fn a_tag_tells_its_version_and_nothing_else_does() {
        for (tag, version) in [
            ("3.17", Some(3)),
            ("0.0", Some(0)),
            ("", None),
            ("3", None),
            ("3.", None),
            (".17", None),
            ("+3.17", None),
            ("3.x", None),
            ("99999999999999999999.1", None),
        ] {
            assert_eq!(version_of_tag(tag), version, "{tag}");
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
        let seen =
            SeenStock::from([(line(0, 1).product_id, Some(0)), (line(1, 1).product_id, None)]);
        let allocations = allocate(&[&[line(0, 1), line(1, 2), line(2, 3)]], &seen);
        let [Allocation::Reject(short)] = &allocations[..] else { panic!("{allocations:?}") };
        assert_eq!(short.iter().map(|s| s.available).collect::<Vec<_>>(), [Some(0), None]);
    }

    #[test]
    fn an_order_that_cannot_have_all_of_its_lines_leaves_them_to_the_next() {
        let seen =
            SeenStock::from([(line(0, 1).product_id, Some(5)), (line(1, 1).product_id, Some(0))]);
        let orders: [&[StockLine]; 4] =
            [&[line(0, 3), line(1, 1)], &[line(0, 4)], &[line(0, 2)], &[line(0, 1)]];
        let allocations = allocate(&orders, &seen);
        let is_reserved: Vec<_> =
            allocations.iter().map(|one| *one == Allocation::Reserve).collect();
        assert_eq!(is_reserved, [false, true, false, true]);
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
            let reserve = StockChange::Reserve(Quantity::get(quantity));
            prop_assert_eq!(reserve.allowed_stock().contains(&stock), stock >= pieces);
        }

        #[test]
        fn orders_get_no_more_than_was_seen_and_only_those_that_lack_something_are_rejected(
            orders in prop::collection::vec(prop::collection::vec(1..=9_u64, 1..4), 1..10),
            stocks in prop::collection::vec(prop::option::of(prop::option::of(0..=20_u64)), 4),
        ) {
            let orders: Vec<Vec<StockLine>> = orders.iter()
                .map(|quantities| quantities.iter().enumerate().map(|(n, q)| line(n, *q)).collect())
                .collect();
            let seen: SeenStock = stocks.iter().enumerate()
                .filter_map(|(n, stock)| Some((line(n, 1).product_id, (*stock)?)))
                .collect();
            let lines: Vec<&[StockLine]> = orders.iter().map(Vec::as_slice).collect();
            let allocations = allocate(&lines, &seen);
            let mut left = seen.clone();
            for (lines, allocation) in lines.iter().zip(allocations) {
                let short: Vec<_> = lines.iter().filter(|line| {
                    let stock = left.get(&line.product_id);
                    stock.is_some_and(|stock| stock.is_none_or(|stock| stock < line.quantity.get().into()))
                }).collect();
                match allocation {
                    Allocation::Reserve => {
                        prop_assert!(short.is_empty());
                        for line in *lines {
                            if let Some(Some(stock)) = left.get_mut(&line.product_id) {
                                *stock -= u64::from(line.quantity.get());
                            }
                        }
                    }
                    Allocation::Reject(said) => {
                        prop_assert!(!said.is_empty());
                        prop_assert_eq!(said.len(), short.len());
                        for (said, line) in said.iter().zip(short) {
                            prop_assert_eq!(&said.product_id, &line.product_id);
                            prop_assert_eq!(said.requested, line.quantity);
                            prop_assert_eq!(said.available, left[&line.product_id]);
                        }
                    }
                }
            }
        }

        #[test]
        fn totals_have_each_product_once_and_lose_no_piece(
            lines in prop::collection::vec((0..4_usize, 1..=1000_u64), 0..50),
        ) {
            let lines: Vec<_> = lines.into_iter().map(|(product, quantity)| line(product, quantity)).collect();
            let totals = total_by_product(&lines);
            let pieces: u32 = lines.iter().map(|line| line.quantity.get()).sum();
            prop_assert_eq!(totals.iter().map(|(_, total)| total).sum::<u32>(), pieces);
            let mut products: Vec<_> = totals.iter().map(|(product, _)| product).collect();
            products.dedup();
            products.sort();
            products.dedup();
            prop_assert_eq!(products.len(), totals.len());
        }
    }
}
