//! DynamoDB: tables, conditional writes, transactions that take time, indexes that lag, partitions that throttle.
//!
//! In: requests of the wire. Out: answers of the wire, and for tests the items and the units that were used.
//! Guarantees: what a request may have beyond what is simulated is refused (501).
//!
//! Semantics and their sources:
//! - A global index and a read that does not ask for consistency may be behind, each item by itself.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html>
//!   Usually for a fraction of a second, longer in failures that no page bounds ([`SimulatedAws::lag_indexes`]).
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html#GSI.Writes>
//! - Expired items are there, in reads, indexes and conditions, until they are deleted, within a few days.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html>
//! - What a partition can bear: `throughput`.
//! - Transactions and writes: `writes`. Writes as PartiQL: `statements`. Reads, their pages and limits: `reads`.

mod reads;
mod statements;
mod throughput;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    EPOCH_SECONDS, SimulatedAws, State,
    expression::{Item, Refusal, normal_item},
    wire::Answer,
};
use throughput::{Demand, Partition, Throttled, Throughput, write_units};

pub use statements::update_of_statement;
pub use throughput::{Units, Usage};

/// How far an index, or a read without consistency, may be behind.
const LAG_MS_MAX: u64 = 2000;
/// How far an index may be behind in a failure of DynamoDB's own.
const LONG_LAG_MS_MAX: u64 = 150_000;
/// How long an item that has expired may stay.
const EXPIRED_SECONDS_MAX: u64 = 2 * 24 * 60 * 60;
/// An item that expired this long ago is taken for one whose attribute means something else, and stays.
const EXPIRED_SECONDS_BELIEVED: u64 = 5 * 365 * 24 * 60 * 60;
/// Maximum size of a partition key's value.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-partition-sort-keys>
const PARTITION_KEY_BYTES_MAX: usize = 2048;
/// Maximum size of a sort key's value.
const SORT_KEY_BYTES_MAX: usize = 1024;

/// A table to be made. All of its keys are texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its keys: the partition key and, if it has one, the sort key.
    pub keys: Vec<String>,
    /// Its global indexes.
    pub indexes: Vec<Index>,
}

/// A global index: an item is in it while it has its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its partition key and sort key.
    pub keys: [String; 2],
}

#[derive(Debug)]
pub(crate) struct DynamoDb {
    begun: Instant,
    /// When it began, in seconds since 1970.
    epoch_seconds: u64,
    tables: BTreeMap<String, Stored>,
    tokens: HashMap<String, writes::Token>,
    /// Those of transactions that were carried out, the oldest first.
    done_tokens: VecDeque<(Instant, String)>,
    throughput: Throughput,
    /// Reports every reason, and lags nowhere.
    is_kind: bool,
    /// Of a thousand changes of an index, those that come minutes late.
    long_lags: u64,
}

impl Default for DynamoDb {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            epoch_seconds: EPOCH_SECONDS,
            tables: BTreeMap::new(),
            tokens: HashMap::new(),
            done_tokens: VecDeque::new(),
            throughput: Throughput::default(),
            is_kind: false,
            long_lags: 0,
        }
    }
}

#[derive(Debug)]
struct Stored {
    table: Table,
    /// By the values of their keys.
    rows: BTreeMap<String, Row>,
    /// Indexes that have only keys.
    keys_only: BTreeSet<String>,
    /// Attribute that says when an item expires, in seconds since 1970.
    time_to_live: Option<String>,
    /// When which rows are deleted if they have not changed, and how late each reader sees it.
    deletions: BTreeMap<(Instant, String), Deletion>,
}

#[derive(Debug)]
struct Deletion {
    expires_at: String,
    lags: Vec<Duration>,
}

/// An item with its past, as far as somebody may still see it.
#[derive(Debug, Default)]
struct Row {
    item: Option<Item>,
    past: Vec<Past>,
    in_transaction: bool,
}

/// An earlier form of an item.
#[derive(Debug)]
struct Past {
    item: Option<Item>,
    /// By reader, the moment from which it has the next form.
    until: Vec<Instant>,
}

/// Who reads without consistency: the table's readers, then those of each index.
const READER_OF_TABLE: usize = 0;

impl Row {
    fn write(&mut self, item: Option<Item>, at: Instant, lags: &[Duration]) {
        self.past.retain(|past| past.until.iter().any(|until| *until > at));
        let before = std::mem::replace(&mut self.item, item);
        let last = self.past.last();
        let until = lags.iter().enumerate().map(|(reader, lag)| {
            // What is older is not seen for longer than what follows it.
            (at + *lag).max(last.map_or(at, |last| last.until[reader]))
        });
        let until = until.collect();
        self.past.push(Past { item: before, until });
    }

    fn seen_by(&self, reader: usize) -> Option<&Item> {
        let now = Instant::now();
        let past = self.past.iter().find(|past| past.until[reader] > now);
        past.map_or(self.item.as_ref(), |past| past.item.as_ref())
    }
}

impl SimulatedAws {
    /// Makes a table.
    pub fn create_table(&self, table: Table) {
        let stored = Stored {
            rows: BTreeMap::new(),
            keys_only: BTreeSet::new(),
            time_to_live: None,
            deletions: BTreeMap::new(),
            table,
        };
        self.lock().dynamodb.tables.insert(stored.table.name.clone(), stored);
    }

    /// Lets an index of a table have only the keys, its own and the table's; otherwise it has all attributes.
    ///
    /// # Panics
    /// There is no such table.
    pub fn project_keys_only(&self, table: &str, index: &str) {
        let mut state = self.lock();
        let stored = state.dynamodb.tables.get_mut(table).expect("there is such a table");
        stored.keys_only.insert(index.to_owned());
    }

    /// From now on items of a table expire at the moment, in seconds since 1970, that this attribute has. They are
    /// deleted up to two days later.
    ///
    /// # Panics
    /// There is no such table.
    pub fn set_time_to_live(&self, table: &str, attribute: &str) {
        let mut state = self.lock();
        let stored = state.dynamodb.tables.get_mut(table).expect("there is such a table");
        stored.time_to_live = Some(attribute.to_owned());
    }

    /// From now on, of a thousand changes of an index so many come minutes late.
    pub fn lag_indexes(&self, permille: u64) {
        self.lock().dynamodb.long_lags = permille;
    }

    /// From now on DynamoDB is as kind as emulators are: it reports every reason of a cancellation, and no read is behind.
    /// For comparisons with them.
    pub fn be_kind(&self) {
        self.lock().dynamodb.is_kind = true;
    }

    /// All items of a table as they are, in the order of their keys.
    #[must_use]
    pub fn items(&self, table: &str) -> Vec<BTreeMap<String, Value>> {
        let mut state = self.lock();
        delete_expired(&mut state);
        let rows =
            state.dynamodb.tables.get(table).into_iter().flat_map(|stored| stored.rows.values());
        rows.filter_map(|row| row.item.clone()).collect()
    }

    /// An item as it is, by its keys, or `None` if there is none.
    #[must_use]
    pub fn item(&self, table: &str, key: &Value) -> Option<BTreeMap<String, Value>> {
        let state = self.lock();
        let stored = state.dynamodb.tables.get(table)?;
        let key = stored.key_of_request(key).ok()?;
        stored.rows.get(&key)?.item.clone()
    }

    /// Whether the condition of a write (`Put`, `Update`, `Delete`, `ConditionCheck`) lets it be carried out now; a write
    /// that is invalid is refused.
    #[must_use]
    pub fn accepts(&self, kind: &str, write: &Value) -> bool {
        writes::accepts(&mut self.lock(), kind, write)
    }

    /// What DynamoDB's tables have used so far.
    #[must_use]
    pub fn units(&self) -> Usage {
        self.lock().dynamodb.throughput.usage()
    }
}

impl Stored {
    /// The value of the row's key in `rows`, and of its partition key.
    fn key_of_item(&self, item: &Item) -> Result<String, Refusal> {
        let mut key = Vec::new();
        for (place, name) in self.table.keys.iter().enumerate() {
            let why = match item.get(name) {
                None => format!("Missing the key {name} in the item"),
                Some(value) => match value["S"].as_str() {
                    None => {
                        let actual = kind_of(value);
                        format!("Type mismatch for key {name} expected: S actual: {actual}")
                    }
                    Some("") => return Err(empty_key(name)),
                    Some(text) if text.len() > key_bytes_max(place) => too_long_key(place),
                    Some(text) => {
                        key.push(text);
                        continue;
                    }
                },
            };
            return Err(Refusal::Invalid(format!(
                "One or more parameter values were invalid: {why}"
            )));
        }
        Ok(key.join(KEY_SEPARATOR))
    }

    /// The same for a request's key, which has nothing else.
    fn key_of_request(&self, key: &Value) -> Result<String, Refusal> {
        let key = normal_item(key)?;
        let is_key = |name: &String| self.table.keys.contains(name) && key[name]["S"].is_string();
        if key.len() != self.table.keys.len() || !key.keys().all(is_key) {
            return Err(Refusal::Invalid(
                "The provided key element does not match the schema".to_owned(),
            ));
        }
        self.key_of_item(&key)
    }

    /// What an index has of an item: nothing if the item lacks its keys.
    fn projected(&self, index: &Index, item: Option<&Item>) -> Option<Item> {
        let item = item?;
        if !index.keys.iter().all(|key| item.contains_key(key)) {
            return None;
        }
        let is_key = |name: &String| index.keys.contains(name) || self.table.keys.contains(name);
        let is_keys_only = self.keys_only.contains(&index.name);
        let fields = item.iter().filter(|(name, _)| !is_keys_only || is_key(name));
        Some(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn partition(&self, index: Option<&Index>, key: &str) -> Partition {
        Partition {
            table: self.table.name.clone(),
            index: index.map(|index| index.name.clone()),
            key: key.to_owned(),
        }
    }

    /// What it takes to write an item, in the table and in its indexes. A write of a transaction takes twice as much of
    /// the table, to prepare and to commit; indexes follow after it. At which rate an index is then written no page says:
    /// it is assumed that it is the plain one, because preparing and committing are done by then.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-capacity-handling>
    fn demands(
        &self,
        key: &str,
        before: Option<&Item>,
        after: Option<&Item>,
        is_transactional: bool,
    ) -> Vec<Demand> {
        let bytes = |item: Option<&Item>| item.map_or(0, throughput::item_bytes);
        let units = write_units(bytes(before).max(bytes(after)));
        let units = Units::of_writes(if is_transactional { 2 * units } else { units });
        let mut demands =
            vec![Demand { partition: self.partition(None, partition_key(key)), units }];
        for index in &self.table.indexes {
            let entries = [self.projected(index, before), self.projected(index, after)];
            let mut demand = |entry: &Item, bytes: u64| {
                let key = entry[&index.keys[0]]["S"].as_str().unwrap_or_default();
                let units = Units::of_writes(write_units(bytes));
                demands.push(Demand { partition: self.partition(Some(index), key), units });
            };
            match &entries {
                [Some(before), Some(after)] if before == after => {}
                [Some(before), Some(after)]
                    if index.keys.iter().all(|key| before[key] == after[key]) =>
                {
                    demand(after, bytes(Some(before)).max(bytes(Some(after))));
                }
                // A changed key is a deletion here and a write there.
                entries => entries.iter().flatten().for_each(|entry| {
                    demand(entry, bytes(Some(entry)));
                }),
            }
        }
        demands
    }
}

/// Between a partition key and a sort key.
const KEY_SEPARATOR: &str = "\u{0}";

fn partition_key(key: &str) -> &str {
    key.split(KEY_SEPARATOR).next().unwrap_or_default()
}

fn key_bytes_max(place: usize) -> usize {
    if place == 0 { PARTITION_KEY_BYTES_MAX } else { SORT_KEY_BYTES_MAX }
}

fn too_long_key(place: usize) -> String {
    let (what, max) = (if place == 0 { "hashkey" } else { "rangekey" }, key_bytes_max(place));
    format!("Size of {what} has exceeded the maximum size limit of{max} bytes")
}

fn empty_key(name: &str) -> Refusal {
    Refusal::Invalid(format!(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: {name}"
    ))
}

fn kind_of(value: &Value) -> &str {
    value.as_object().and_then(|value| value.keys().next()).map_or("nothing", String::as_str)
}

fn error(code: &str, message: &str) -> Answer {
    Answer::json_error(400, &format!("com.amazonaws.dynamodb.v20120810#{code}"), message)
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Invalid(why) => error("ValidationException", &why),
        Refusal::NotFound(what) => error("ResourceNotFoundException", &what),
        Refusal::Unsupported(what) => Answer::json_error(501, "NotImplemented", &what),
    }
}

/// Tables on demand answer with this exception, which the SDK tries again; provisioned ones with
/// ProvisionedThroughputExceededException.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
fn throttled(state: &mut State, throttled: &Throttled) -> Answer {
    state.dynamodb.throughput.note_throttled_call();
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
        "message": throttled.message(),
        "throttlingReasons": [{
            "reason": throttled.reason,
            "resource": format!("arn:aws:dynamodb:simulated:0:table/{}", throttled.resource),
        }],
    });
    Answer { status: 400, body: body.to_string() }
}

/// What a request may have: whatever else there is in DynamoDB would be answered as if it were not there.
fn known_fields(operation: &str) -> Option<&'static [&'static str]> {
    Some(match operation {
        "GetItem" => &["TableName", "Key", "ConsistentRead"],
        "BatchGetItem" => &["RequestItems"],
        "Query" => &[
            "TableName",
            "IndexName",
            "KeyConditionExpression",
            "ExpressionAttributeNames",
            "ExpressionAttributeValues",
            "ConsistentRead",
            "ScanIndexForward",
            "Limit",
            "ExclusiveStartKey",
            "Select",
        ],
        "Scan" => &[
            "TableName",
            "ConsistentRead",
            "Limit",
            "ExclusiveStartKey",
            "ProjectionExpression",
            "ExpressionAttributeNames",
        ],
        "PutItem" => &[
            "TableName",
            "Item",
            "ConditionExpression",
            "ExpressionAttributeNames",
            "ExpressionAttributeValues",
            "ReturnValuesOnConditionCheckFailure",
            "ReturnValues",
        ],
        "UpdateItem" => &[
            "TableName",
            "Key",
            "UpdateExpression",
            "ConditionExpression",
            "ExpressionAttributeNames",
            "ExpressionAttributeValues",
            "ReturnValuesOnConditionCheckFailure",
            "ReturnValues",
        ],
        "DeleteItem" => &[
            "TableName",
            "Key",
            "ConditionExpression",
            "ExpressionAttributeNames",
            "ExpressionAttributeValues",
            "ReturnValuesOnConditionCheckFailure",
            "ReturnValues",
        ],
        "TransactWriteItems" => &["TransactItems", "ClientRequestToken"],
        "BatchExecuteStatement" => &["Statements"],
        _ => return None,
    })
}

pub(crate) async fn serve(aws: &SimulatedAws, operation: &str, request: &Value) -> Answer {
    let Some(known) = known_fields(operation) else {
        return Answer::json_error(501, "NotImplemented", operation);
    };
    let mut fields = request.as_object().into_iter().flatten();
    if let Some((field, _)) = fields.find(|(field, _)| !known.contains(&field.as_str())) {
        return Answer::json_error(501, "NotImplemented", &format!("{field} of {operation}"));
    }
    delete_expired(&mut aws.lock());
    let answer = match operation {
        "TransactWriteItems" => return writes::transact(aws, request).await,
        "GetItem" => reads::get(&mut aws.lock(), request),
        "BatchGetItem" => reads::batch_get(&mut aws.lock(), request),
        "Query" => reads::query(&mut aws.lock(), request),
        "Scan" => reads::scan(&mut aws.lock(), request),
        "BatchExecuteStatement" => statements::batch_execute(&mut aws.lock(), request),
        _ => writes::write_alone(&mut aws.lock(), operation.trim_end_matches("Item"), request),
    };
    answer.unwrap_or_else(refused)
}

impl DynamoDb {
    pub(crate) fn set_epoch(&mut self, epoch_seconds: u64) {
        self.epoch_seconds = epoch_seconds;
    }

    fn stored(&mut self, name: &Value) -> Result<&mut Stored, Refusal> {
        let name = name.as_str().unwrap_or_default();
        let found = self.tables.get_mut(name);
        found.ok_or_else(|| {
            Refusal::NotFound(format!("Requested resource not found: Table: {name} not found"))
        })
    }
}

/// Stores what a row is from now on, and when the item is to be deleted because it has expired.
fn store(state: &mut State, table: &Value, key: &str, item: Option<Item>) -> Result<(), Refusal> {
    let State { random, dynamodb, .. } = state;
    let (now, begun, epoch_seconds) = (Instant::now(), dynamodb.begun, dynamodb.epoch_seconds);
    let lag_ms_max = if dynamodb.is_kind { 1 } else { LAG_MS_MAX };
    let long_lags = dynamodb.long_lags;
    let stored = dynamodb.stored(table)?;
    let mut lag = |reader: usize| {
        let is_long = reader != READER_OF_TABLE && random.u64(0..1000) < long_lags;
        Duration::from_millis(random.u64(0..if is_long { LONG_LAG_MS_MAX } else { lag_ms_max }))
    };
    let mut lags = || -> Vec<Duration> { (0..=stored.table.indexes.len()).map(&mut lag).collect() };
    let lags_of_write = lags();
    let expires_at = stored.time_to_live.as_ref().and_then(|attribute| {
        // Only a number expires.
        item.as_ref()?.get(attribute)?["N"].as_str()
    });
    if let Some((text, at)) = expires_at.and_then(|text| Some((text, text.parse::<u64>().ok()?))) {
        let age_at_begin = epoch_seconds.saturating_sub(at);
        let expires = begun + Duration::from_secs(at.saturating_sub(epoch_seconds));
        if age_at_begin < EXPIRED_SECONDS_BELIEVED {
            let lags = lags();
            let stays = Duration::from_secs(random.u64(0..EXPIRED_SECONDS_MAX));
            let deletion = Deletion { expires_at: text.to_owned(), lags };
            stored.deletions.insert((expires.max(now) + stays, key.to_owned()), deletion);
        }
    }
    stored.rows.entry(key.to_owned()).or_default().write(item, now, &lags_of_write);
    Ok(())
}

/// Deletes what was due since the last call, as of the moment at which it was due. It uses no units.
fn delete_expired(state: &mut State) {
    let now = Instant::now();
    for stored in state.dynamodb.tables.values_mut() {
        let Some(attribute) = &stored.time_to_live else { continue };
        while let Some(due) = stored.deletions.first_entry().filter(|due| due.key().0 <= now) {
            let ((at, key), deletion) = due.remove_entry();
            let Some(row) = stored.rows.get_mut(&key) else { continue };
            let is_unchanged = row.item.as_ref().is_some_and(|item| {
                item.get(attribute).and_then(|value| value["N"].as_str())
                    == Some(&deletion.expires_at)
            });
            if row.in_transaction {
                stored.deletions.insert((now + Duration::from_secs(1), key), deletion);
            } else if is_unchanged {
                row.write(None, at, &deletion.lags);
            }
        }
    }
}

#[cfg(test)]
mod tests;
