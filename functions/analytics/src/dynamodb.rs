//! The analytics table.
//!
//! In: events, as [`crate::rules`] counts them. Out: rows. Guarantee: what an event adds and its marker are one transaction,
//! together with other events of its batch. The rows of a generation are its own: they begin empty, and so do its markers.

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc};

use aws_sdk_dynamodb::{
    Client,
    types::{TransactWriteItem, Update},
};
use events::Event;
use exactly_once::{
    Answers, CallError, CommitError, CommitTogether, Failure, Handled, Inbox, Item, Role,
    TableError, TransactionWrite, commit_together,
    table::{number, text},
    transaction::TRANSACTION_WRITES_MAX,
};
use jiff::civil::Date;
use messaging::ReceivedEvent;
use serde::{Deserialize, Serialize};

use crate::rules::{self, Amounts, Days, Row};

/// Number of transactions that are tried for events that are counted together, before each is counted by itself: the first, and
/// two that leave out who was counted before.
const ROUNDS_MAX: usize = 3;

const PARTITION_KEY: &str = "day";
const SORT_KEY: &str = "row";

/// Whose rows and markers are meant: counted anew from the event log, they are another generation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(NonZeroU32);

impl Generation {
    /// The partition of a day.
    fn partition(self, day: Date) -> String {
        format!("{self}#{day}")
    }
}

impl Default for Generation {
    /// The first.
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Generation {
    type Err = <NonZeroU32 as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// By whose name a generation's markers are kept.
#[must_use]
pub fn marker_owner(consumer: &str, generation: Generation) -> String {
    format!("{consumer}#{generation}")
}

/// The rows of one generation.
#[derive(Debug, Clone)]
pub struct AnalyticsTable {
    client: Client,
    table: String,
    generation: Generation,
}

/// The position after which a page of rows begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCursor {
    day: Date,
    row: String,
}

impl http_api::Cursor for RowCursor {}

/// Some rows in the order of their days and keys, and where the next page begins.
pub type RowPage = (Vec<(Row, Amounts)>, Option<RowCursor>);

impl AnalyticsTable {
    /// The rows of this generation in this table.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, generation: Generation) -> Self {
        Self { client, table: table.into(), generation }
    }

    /// A page of the rows of some days. It is full, or the last.
    ///
    /// # Errors
    /// The table did not answer, or an item is no row.
    pub async fn page(
        &self,
        days: Days,
        limit: i32,
        after: Option<RowCursor>,
    ) -> Result<RowPage, TableError> {
        let (mut page, mut after) = (Vec::new(), after);
        let first = after.as_ref().map_or(days.first(), |after| after.day);
        for day in days.since(first) {
            let mut start = after.take().filter(|after| after.day == day).map(|after| after.row);
            loop {
                let left = limit - i32::try_from(page.len()).unwrap_or(i32::MAX);
                // One more than there is room for, to know whether there is a next page.
                let (rows, next) = self.read_day(day, left.saturating_add(1), start).await?;
                for (row, amounts) in rows {
                    if i32::try_from(page.len()).is_ok_and(|rows| rows >= limit) {
                        let last = page.last().map(|(last, _): &(Row, Amounts)| last);
                        let cursor = last.map(|last| RowCursor { day: last.day, row: last.key() });
                        return Ok((page, cursor));
                    }
                    page.push((row, amounts));
                }
                match next {
                    Some(next) => start = Some(next),
                    None => break,
                }
            }
        }
        Ok((page, None))
    }

    /// All rows of some days.
    ///
    /// # Errors
    /// The table did not answer, or an item is no row.
    pub async fn all(&self, days: Days) -> Result<Vec<(Row, Amounts)>, TableError> {
        Ok(self.page(days, i32::MAX, None).await?.0)
    }

    /// Some rows of a day after a key, and the key after which to go on.
    async fn read_day(
        &self,
        day: Date,
        limit: i32,
        after: Option<String>,
    ) -> Result<(Vec<(Row, Amounts)>, Option<String>), TableError> {
        let partition = self.generation.partition(day);
        let start = after.map(|row| {
            Item::from([
                (PARTITION_KEY.to_owned(), text(partition.clone())),
                (SORT_KEY.to_owned(), text(row)),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#day = :day")
            .expression_attribute_names("#day", PARTITION_KEY)
            .expression_attribute_values(":day", text(partition))
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Query rows of a day"))?;
        let next = answer.last_evaluated_key.as_ref().and_then(|key| row_key(key).cloned());
        let items = answer.items.unwrap_or_default().into_iter();
        let rows: Option<Vec<_>> = items.map(|item| read(day, &item)).collect();
        let rows = rows.ok_or("a row has a key, units and revenue");
        Ok((rows.map_err(TableError::corrupt(&self.table))?, next))
    }

    /// The write that adds to a row, which need not be there. In a transaction alone: a repetition would add again.
    fn addition(&self, row: &Row, amounts: Amounts) -> TransactionWrite<()> {
        let update = Update::builder()
            .table_name(&self.table)
            .key(PARTITION_KEY, text(self.generation.partition(row.day)))
            .key(SORT_KEY, text(row.key()))
            .update_expression("ADD units :units, revenue :revenue")
            .expression_attribute_values(":units", number(amounts.units))
            .expression_attribute_values(":revenue", number(amounts.revenue))
            .build()
            .expect("an update has a table, a key and an expression");
        TransactionWrite::new(
            Role::Unconditional,
            TransactWriteItem::builder().update(update).build(),
        )
    }
}

fn row_key(item: &Item) -> Option<&String> {
    item.get(SORT_KEY)?.as_s().ok()
}

fn read(day: Date, item: &Item) -> Option<(Row, Amounts)> {
    let number = |name: &str| item.get(name)?.as_n().ok();
    let row = Row::of_key(day, row_key(item)?).ok()?;
    let (units, revenue) = (number("units")?.parse().ok()?, number("revenue")?.parse().ok()?);
    Some((row, Amounts { units, revenue }))
}

/// What analytics-consumer works with.
#[derive(Debug, Clone)]
pub struct AnalyticsConsumer {
    table: AnalyticsTable,
    inbox: Inbox,
}

impl AnalyticsConsumer {
    /// Counts in this table, by markers of the same generation.
    #[must_use]
    pub fn new(table: AnalyticsTable, inbox: Inbox) -> Self {
        Self { table, inbox }
    }

    /// Counts the events of a batch together: in one transaction, as far as its limits allow. It leaves to
    /// [`AnalyticsConsumer::handle`] whatever it cannot count with others.
    pub async fn handle_together(&self, received: Vec<ReceivedEvent>, answers: Answers) {
        let events: Vec<&Event> = received.iter().map(|one| &one.event).collect();
        // One after the other: they add to the same rows, and would be in each other's way.
        for group in rules::groups(&events, TRANSACTION_WRITES_MAX) {
            let of_group: Vec<&Event> = group.iter().map(|place| events[*place]).collect();
            for (place, result) in self.count(&of_group).await {
                answers.set(&received[group[place]].message, result);
            }
        }
    }

    /// Handles one event of the queue `analytics`.
    ///
    /// # Errors
    /// It was not counted, or whether it was is unknown; another try finds out.
    pub async fn handle(&self, event: Event) -> Result<Handled, Failure> {
        if rules::additions(&event).is_empty() {
            return Ok(Handled::Ignored);
        }
        let counted = self.count(&[&event]).await.pop();
        let contended = || TableError::Contended { subject: "the rows of the event".into() };
        counted.map_or_else(|| Err(contended().into()), |(_, result)| result)
    }

    /// Counts these events in one transaction, each once; what became of them, by their places. Who is not named was not counted.
    async fn count(&self, events: &[&Event]) -> Vec<(usize, Result<Handled, Failure>)> {
        let mut counted = Vec::new();
        let mut open: Vec<usize> = (0..events.len()).collect();
        for _ in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let members: Vec<_> =
                open.iter().map(|place| vec![self.inbox.marker(events[*place].id)]).collect();
            let total = rules::total(open.iter().map(|place| events[*place]));
            let additions = total.iter().map(|(row, amounts)| self.table.addition(row, *amounts));
            let additions: Vec<_> = additions.collect();
            match commit_together(&self.table.client, &members, &additions).await {
                Ok(CommitTogether::Done) => {
                    counted.extend(open.drain(..).map(|place| (place, Ok(Handled::Done))));
                }
                Ok(CommitTogether::MembersFailed(failed)) => {
                    for (member, _) in failed.into_iter().rev() {
                        counted.push((open.remove(member), Ok(Handled::Duplicate)));
                    }
                }
                Ok(CommitTogether::ConditionFailed(_)) => {
                    unreachable!("no addition has a condition")
                }
                // One of them is wrong in itself, and is found by itself.
                Err(CommitError::Invalid(_)) if open.len() > 1 => break,
                Err(error) => {
                    let error = Arc::new(TableError::from(error));
                    let failed = open.drain(..).map(|place| (place, Err(Failure::shared(&error))));
                    counted.extend(failed);
                }
            }
        }
        counted
    }
}
