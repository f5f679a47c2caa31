//! Pages of the orders table's indexes, for who looks at the orders behind a count.
//!
//! In: the place in an index where the last page ended. Out: the keys of the next page, oldest first (of a customer newest
//! first), and whether there are more. Guarantees: a page costs reads of its own length for each partition, however many orders
//! there are; a page never begins before the place that it was given, and no order is left out between two pages. An index may
//! lag behind the table: who shows an order reads it by its key.

use std::fmt;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use events::Email;
use exactly_once::{CallError, Item, TableError, table::text};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::{
    awaiting_payment,
    dynamodb::{self, CUSTOMER_INDEX},
};

/// Maximum number of partitions that are read at once: an emulator answers one after the other.
const QUERIES_AT_ONCE: usize = 8;
/// Sorts before and after each moment, for a page without that bound.
const FIRST: &str = "0";
const LAST: &str = "~";
/// What stands between the two halves of a place as it is written.
const SEPARATOR: char = '/';

/// A place in an index: the sort key and the order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexPlace {
    pub at: String,
    pub order_id: String,
}

impl IndexPlace {
    /// Reads a place as it was written.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let (at, order_id) = written.split_once(SEPARATOR)?;
        let is_moment = at.parse::<Timestamp>().is_ok();
        (is_moment && !order_id.is_empty())
            .then(|| Self { at: at.to_owned(), order_id: order_id.to_owned() })
    }

    fn read(item: &Item, sort_key: &str) -> Option<Self> {
        let field = |name: &str| item.get(name)?.as_s().ok().cloned();
        Some(Self { at: field(sort_key)?, order_id: field("order_id")? })
    }
}

impl fmt::Display for IndexPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}", self.at, self.order_id)
    }
}

/// Which part of an index is read.
#[derive(Debug, Clone, Copy)]
pub struct IndexRange<'a> {
    /// After this place.
    pub after: Option<&'a IndexPlace>,
    /// Before this moment, by the index's sort key.
    pub before: Option<&'a str>,
    /// Maximum number of orders.
    pub limit: usize,
}

/// A page of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPage {
    pub places: Vec<IndexPlace>,
    /// Whether there are more after the last.
    pub has_more: bool,
}

impl IndexPage {
    fn of(mut places: Vec<IndexPlace>, limit: usize) -> Self {
        let has_more = places.len() > limit;
        places.truncate(limit);
        Self { places, has_more }
    }

    /// From where to go on, as it is written; `None` at the end.
    #[must_use]
    pub fn next_place(&self) -> Option<String> {
        self.places.last().filter(|_| self.has_more).map(ToString::to_string)
    }
}

/// The orders that are pending, by when they were placed.
///
/// # Errors
/// The table did not answer.
pub async fn pending(
    client: &Client,
    table: &str,
    range: IndexRange<'_>,
) -> Result<IndexPage, TableError> {
    let index =
        Index { name: dynamodb::PENDING_INDEX, partition: "pending_shard", sort: "created_at" };
    merged(client, table, index, dynamodb::partitions().collect(), range).await
}

/// The orders that await payment, by when something is next to happen with them.
///
/// # Errors
/// The table did not answer.
pub async fn awaiting_payment(
    client: &Client,
    table: &str,
    range: IndexRange<'_>,
) -> Result<IndexPage, TableError> {
    let index = Index {
        name: awaiting_payment::INDEX,
        partition: "payment_shard",
        sort: "payment_next_at",
    };
    merged(client, table, index, awaiting_payment::partitions().collect(), range).await
}

/// The orders of a customer, whose address is written as in the orders, newest first.
///
/// # Errors
/// The table did not answer.
pub async fn of_customer(
    client: &Client,
    table: &str,
    email: &Email,
    after: Option<&IndexPlace>,
    limit: usize,
) -> Result<IndexPage, TableError> {
    let start = after.map(|place| {
        Item::from([
            ("order_id".to_owned(), text(&place.order_id)),
            ("created_at".to_owned(), text(&place.at)),
            ("customer_email".to_owned(), text(email.as_str())),
        ])
    });
    let answer = client
        .query()
        .table_name(table)
        .index_name(CUSTOMER_INDEX)
        .key_condition_expression("customer_email = :email")
        .expression_attribute_values(":email", text(email.as_str()))
        .scan_index_forward(false)
        .limit(page_limit(limit))
        .set_exclusive_start_key(start)
        .send()
        .await
        .map_err(CallError::of("Query orders by customer"))?;
    let items = answer.items.unwrap_or_default();
    let places = items.iter().filter_map(|item| IndexPlace::read(item, "created_at")).collect();
    Ok(IndexPage::of(places, limit))
}

/// One more than a page has: so it is known whether there are more.
fn page_limit(limit: usize) -> i32 {
    i32::try_from(limit.saturating_add(1)).unwrap_or(i32::MAX)
}

#[derive(Debug, Clone, Copy)]
struct Index {
    name: &'static str,
    partition: &'static str,
    sort: &'static str,
}

/// The first of all partitions together.
async fn merged(
    client: &Client,
    table: &str,
    index: Index,
    partitions: Vec<String>,
    range: IndexRange<'_>,
) -> Result<IndexPage, TableError> {
    let read = stream::iter(partitions)
        .map(async |partition| of_partition(client, table, index, &partition, range).await);
    let places: Vec<Vec<IndexPlace>> = read.buffer_unordered(QUERIES_AT_ONCE).try_collect().await?;
    let mut places = places.concat();
    places.sort();
    Ok(IndexPage::of(places, range.limit))
}

/// The first of one partition, one more than a page has.
async fn of_partition(
    client: &Client,
    table: &str,
    index: Index,
    partition: &str,
    range: IndexRange<'_>,
) -> Result<Vec<IndexPlace>, TableError> {
    let (first, last) =
        (range.after.map_or(FIRST, |place| &place.at), range.before.unwrap_or(LAST));
    let mut places = Vec::new();
    if first > last {
        return Ok(places);
    }
    let mut start: Option<Item> = None;
    loop {
        // Orders of one moment have no order in an index: all of the last page's moment are read again, and those passed over
        // that it had.
        let page = client
            .query()
            .table_name(table)
            .index_name(index.name)
            .key_condition_expression(format!(
                "{} = :partition AND {} BETWEEN :first AND :last",
                index.partition, index.sort
            ))
            .expression_attribute_values(":partition", text(partition))
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last))
            // And one more, which mostly is of another moment.
            .limit(page_limit(range.limit).saturating_add(1))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Query an index of orders"))?;
        let items = page.items.unwrap_or_default();
        let found = items.iter().filter_map(|item| IndexPlace::read(item, index.sort));
        places.extend(found.filter(|place| {
            range.after.is_none_or(|after| place > after)
                && range.before.is_none_or(|before| place.at.as_str() < before)
        }));
        start = page.last_evaluated_key;
        // Of the last moment all are needed, so that the orders of that moment are cut by their ids.
        let last_moment = places.last().map(|place| place.at.clone());
        let is_cut = places.len() > range.limit
            && places.get(range.limit).map(|place| &place.at) != last_moment.as_ref();
        if start.is_none() || is_cut {
            return Ok(places);
        }
    }
}

/// The keys of these orders.
#[must_use]
pub fn keys(places: &[IndexPlace]) -> Vec<Item> {
    let key = |place: &IndexPlace| {
        Item::from([("order_id".to_owned(), AttributeValue::S(place.order_id.clone()))])
    };
    places.iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: &str, order_id: &str) -> IndexPlace {
        IndexPlace { at: at.into(), order_id: order_id.into() }
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        let place = place("2025-11-20T12:00:00.000Z", "o1");
        assert_eq!(IndexPlace::parse(&place.to_string()), Some(place));
        for written in ["", "/", "2025-11-20T12:00:00.000Z", "2025-11-20T12:00:00.000Z/", "x/o1"] {
            assert_eq!(IndexPlace::parse(written), None, "{written}");
        }
    }

    #[test]
    fn a_page_has_more_after_it_only_if_one_was_left_out() {
        let places = |count: usize| vec![place("a", "b"); count];
        assert!(!IndexPage::of(places(2), 2).has_more);
        let cut = IndexPage::of(places(3), 2);
        assert!(cut.has_more && cut.places.len() == 2);
    }
}
