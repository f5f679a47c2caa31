//! DynamoDB: tables, conditional writes, transactions that take time, indexes that lag.
//!
//! Semantics and their sources:
//! - A transaction holds its items until it ends; another transaction or a plain write of one of them is refused with a
//!   conflict. <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html>
//! - A token is idempotent for ten minutes; the same token with other writes is refused; while the first is under way, the
//!   second is refused as in progress. <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
//! - A global index and a read that does not ask for consistency may be behind.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html>
//! - A batch may leave keys unprocessed. <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
//!
//! Harsher than the pages: of several failing reasons of a transaction, one at random is all that is sure to be reported.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    SimulatedAws, State,
    expression::{self, Invalid, Item, Scope, order_of},
    wire::Answer,
};

/// How long a token is remembered.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// Maximum number of writes of one transaction.
const WRITES_MAX: usize = 100;
/// How far an index, or a read without consistency, may be behind.
const LAG_MS_MAX: u64 = 2000;

/// A table to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its keys: the partition key and, if it has one, the sort key.
    pub keys: Vec<String>,
    /// Its global indexes, each with all attributes.
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

#[derive(Debug, Default)]
pub(crate) struct DynamoDb {
    tables: BTreeMap<String, Stored>,
    tokens: HashMap<String, Token>,
}

#[derive(Debug)]
struct Stored {
    table: Table,
    rows: BTreeMap<String, Row>,
}

/// An item with its past, as far as somebody may still see it.
#[derive(Debug, Default)]
struct Row {
    item: Option<Item>,
    /// Earlier forms, each until the moment at which the last reader has the next one.
    past: Vec<(Instant, Option<Item>)>,
    in_transaction: bool,
}

impl Row {
    fn write(&mut self, item: Option<Item>, lag: Duration) {
        let now = Instant::now();
        self.past.retain(|(until, _)| *until > now);
        let before = std::mem::replace(&mut self.item, item);
        // What is older is not seen for longer than what follows it.
        let until = (now + lag).max(self.past.last().map_or(now, |(until, _)| *until));
        self.past.push((until, before));
    }

    /// As the reader that is furthest behind sees it.
    fn late(&self) -> Option<&Item> {
        let now = Instant::now();
        let past = self.past.iter().find(|(until, _)| *until > now);
        past.map_or(self.item.as_ref(), |(_, item)| item.as_ref())
    }
}

#[derive(Debug)]
struct Token {
    writes: Value,
    /// When it was carried out, or `None` while it is under way.
    done: Option<Instant>,
}

impl SimulatedAws {
    /// Makes a table.
    pub fn create_table(&self, table: Table) {
        let stored = Stored { rows: BTreeMap::new(), table };
        self.lock().dynamodb.tables.insert(stored.table.name.clone(), stored);
    }

    /// All items of a table as they are, in the order of their keys.
    #[must_use]
    pub fn items(&self, table: &str) -> Vec<BTreeMap<String, Value>> {
        let state = self.lock();
        let rows =
            state.dynamodb.tables.get(table).into_iter().flat_map(|stored| stored.rows.values());
        rows.filter_map(|row| row.item.clone()).collect()
    }
}

impl SimulatedAws {
    /// An item as it is, by its keys, or `None` if there is none.
    #[must_use]
    pub fn item(&self, table: &str, key: &Value) -> Option<BTreeMap<String, Value>> {
        let state = self.lock();
        let stored = state.dynamodb.tables.get(table)?;
        let key = key_of(&stored.table, &item_of(key)).ok()?;
        stored.rows.get(&key)?.item.clone()
    }

    /// Whether the condition of a write (`Put`, `Update`, `Delete`, `ConditionCheck`) lets it be carried out now; a write
    /// that is invalid is refused.
    #[must_use]
    pub fn accepts(&self, kind: &str, write: &Value) -> bool {
        let key = if kind == "Put" { "Item" } else { "Key" };
        let table = write["TableName"].as_str().unwrap_or_default();
        let present = self.item(table, &write[key]);
        matches!(apply(kind, write, present.as_ref()), Ok(Ok(_)))
    }
}

fn key_of(table: &Table, item: &Item) -> Result<String, Invalid> {
    let keys = table.keys.iter().map(|name| {
        let value = item.get(name).and_then(|value| value["S"].as_str());
        value.ok_or_else(|| Invalid(format!("the key {name} is missing or no text")))
    });
    Ok(keys.collect::<Result<Vec<_>, _>>()?.join("\u{0}"))
}

fn item_of(value: &Value) -> Item {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn scope(request: &Value) -> Scope<'_> {
    Scope {
        names: &request["ExpressionAttributeNames"],
        values: &request["ExpressionAttributeValues"],
    }
}

fn invalid(Invalid(why): Invalid) -> Answer {
    Answer::json_error(400, "com.amazonaws.dynamodb.v20120810#ValidationException", &why)
}

fn error(code: &str, message: &str) -> Answer {
    Answer::json_error(400, &format!("com.amazonaws.dynamodb.v20120810#{code}"), message)
}

pub(crate) async fn serve(aws: &SimulatedAws, operation: &str, request: &Value) -> Answer {
    let answer = match operation {
        "TransactWriteItems" => return transact(aws, request).await,
        "GetItem" => get(&mut aws.lock(), request),
        "BatchGetItem" => batch_get(&mut aws.lock(), request),
        "Query" => query(&mut aws.lock(), request),
        "PutItem" | "UpdateItem" | "DeleteItem" => {
            let kind = operation.trim_end_matches("Item");
            write_alone(&mut aws.lock(), kind, request)
        }
        _ => return Answer::json_error(501, "NotImplemented", operation),
    };
    answer.unwrap_or_else(invalid)
}

fn stored<'a>(state: &'a mut State, name: &Value) -> Result<&'a mut Stored, Invalid> {
    let name = name.as_str().unwrap_or_default();
    state.dynamodb.tables.get_mut(name).ok_or_else(|| Invalid(format!("no table {name}")))
}

fn get(state: &mut State, request: &Value) -> Result<Answer, Invalid> {
    let stored = stored(state, &request["TableName"])?;
    let key = key_of(&stored.table, &item_of(&request["Key"]))?;
    let row = stored.rows.get(&key);
    let item = match request["ConsistentRead"].as_bool() {
        Some(true) => row.and_then(|row| row.item.as_ref()),
        _ => row.and_then(Row::late),
    };
    Ok(Answer::ok(item.map_or_else(|| json!({}), |item| json!({ "Item": item }))))
}

fn batch_get(state: &mut State, request: &Value) -> Result<Answer, Invalid> {
    let (mut responses, mut unprocessed) = (json!({}), json!({}));
    for (name, wanted) in request["RequestItems"].as_object().into_iter().flatten() {
        let is_consistent = wanted["ConsistentRead"].as_bool() == Some(true);
        let (mut items, mut left) = (Vec::new(), Vec::new());
        for key in wanted["Keys"].as_array().into_iter().flatten() {
            if state.random.u64(0..1000) < state.faults.partial {
                left.push(key.clone());
                continue;
            }
            let stored = stored(state, &json!(name))?;
            let row = stored.rows.get(&key_of(&stored.table, &item_of(key))?);
            let item = row.and_then(|row| match is_consistent {
                true => row.item.as_ref(),
                false => row.late(),
            });
            items.extend(item.cloned());
        }
        responses[name] = json!(items);
        if !left.is_empty() {
            unprocessed[name] = json!({ "Keys": left, "ConsistentRead": is_consistent });
        }
    }
    Ok(Answer::ok(json!({ "Responses": responses, "UnprocessedKeys": unprocessed })))
}

fn query(state: &mut State, request: &Value) -> Result<Answer, Invalid> {
    let stored = stored(state, &request["TableName"])?;
    let index = match request["IndexName"].as_str() {
        None => None,
        Some(name) => {
            let index = stored.table.indexes.iter().find(|index| index.name == name);
            Some(index.ok_or_else(|| Invalid(format!("no index {name}")))?.clone())
        }
    };
    let is_consistent = request["ConsistentRead"].as_bool() == Some(true);
    if is_consistent && index.is_some() {
        return Err(Invalid("a global index has no consistent reads".to_owned()));
    }
    let condition = request["KeyConditionExpression"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for row in stored.rows.values() {
        let item = if is_consistent { row.item.as_ref() } else { row.late() };
        let Some(item) = item else { continue };
        let keys = index.iter().flat_map(|index| &index.keys);
        if keys.into_iter().all(|key| item.contains_key(key))
            && expression::holds(condition, scope(request), item)?
        {
            found.push(item.clone());
        }
    }
    if let Some(Index { keys: [_, sort_key], .. }) = &index {
        found.sort_by(|a, b| {
            a.get(sort_key)
                .zip(b.get(sort_key))
                .and_then(|(a, b)| order_of(a, b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    }
    if request["ScanIndexForward"].as_bool() == Some(false) {
        found.reverse();
    }
    let limit = request["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok());
    if let Some(limit) = limit {
        // Nothing that reads here goes on to a second page within a simulation.
        found.truncate(limit);
    }
    let count = found.len();
    Ok(Answer::ok(match request["Select"].as_str() {
        Some("COUNT") => json!({ "Count": count }),
        _ => json!({ "Count": count, "Items": found }),
    }))
}

/// The item after a write, or the item that its condition refused.
fn apply(
    kind: &str,
    write: &Value,
    before: Option<&Item>,
) -> Result<Result<Option<Item>, Option<Item>>, Invalid> {
    let nothing = Item::new();
    let present = before.unwrap_or(&nothing);
    if let Some(condition) = write["ConditionExpression"].as_str()
        && !expression::holds(condition, scope(write), present)?
    {
        return Ok(Err(before.cloned()));
    }
    Ok(Ok(match kind {
        "Put" => Some(item_of(&write["Item"])),
        "Delete" => None,
        "ConditionCheck" => before.cloned(),
        _ => {
            let mut item = present.clone();
            item.extend(item_of(&write["Key"]));
            let update = write["UpdateExpression"].as_str().unwrap_or_default();
            Some(expression::updated(update, scope(write), &item)?)
        }
    }))
}

fn row_key(state: &mut State, kind: &str, write: &Value) -> Result<String, Invalid> {
    let stored = stored(state, &write["TableName"])?;
    key_of(&stored.table, &item_of(&write[if kind == "Put" { "Item" } else { "Key" }]))
}

fn lag(state: &mut State) -> Duration {
    Duration::from_millis(state.random.u64(0..LAG_MS_MAX))
}

fn write_alone(state: &mut State, kind: &str, request: &Value) -> Result<Answer, Invalid> {
    let key = row_key(state, kind, request)?;
    let lag = lag(state);
    let row = stored(state, &request["TableName"])?.rows.entry(key).or_default();
    if row.in_transaction {
        return Ok(error("TransactionConflictException", "a transaction holds the item"));
    }
    match apply(kind, request, row.item.as_ref())? {
        Ok(after) => {
            let attributes = match request["ReturnValues"].as_str() {
                Some("ALL_NEW") => json!({ "Attributes": after }),
                _ => json!({}),
            };
            row.write(after, lag);
            Ok(Answer::ok(attributes))
        }
        Err(before) => {
            let mut answer = json!({
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "message": "The conditional request failed",
            });
            if request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
                && let Some(before) = before
            {
                answer["Item"] = json!(before);
            }
            Ok(Answer { status: 400, body: answer.to_string() })
        }
    }
}

/// One write of a transaction: its kind, itself, and the key of its row.
type Write<'a> = (&'a str, &'a Value, (String, String));

async fn transact(aws: &SimulatedAws, request: &Value) -> Answer {
    let writes = match begin(&mut aws.lock(), request) {
        Ok(Ok(writes)) => writes,
        Ok(Err(answer)) => return answer,
        Err(why) => return invalid(why),
    };
    let takes = Duration::from_millis(aws.draw(3..60));
    tokio::time::sleep(takes).await;
    let mut state = aws.lock();
    let token = request["ClientRequestToken"].as_str().unwrap_or_default();
    let answer = end(&mut state, &writes);
    for (_, _, (table, key)) in &writes {
        if let Some(row) = state.dynamodb.tables.get_mut(table).and_then(|t| t.rows.get_mut(key)) {
            row.in_transaction = false;
        }
    }
    match answer {
        Ok(None) => {
            if let Some(token) = state.dynamodb.tokens.get_mut(token) {
                token.done = Some(Instant::now());
            }
            Answer::ok("{}")
        }
        Ok(Some(reasons)) => {
            state.dynamodb.tokens.remove(token);
            cancelled(reasons)
        }
        Err(why) => {
            state.dynamodb.tokens.remove(token);
            invalid(why)
        }
    }
}

/// Takes hold of a transaction's items, or says why not.
fn begin<'a>(
    state: &mut State,
    request: &'a Value,
) -> Result<Result<Vec<Write<'a>>, Answer>, Invalid> {
    let token = request["ClientRequestToken"].as_str().unwrap_or_default().to_owned();
    let now = Instant::now();
    state.dynamodb.tokens.retain(|_, token| token.done.is_none_or(|at| at + TOKEN_LIFE > now));
    if let Some(known) = state.dynamodb.tokens.get(&token) {
        return Ok(Err(if known.writes != request["TransactItems"] {
            error("IdempotentParameterMismatchException", "another request had this token")
        } else if known.done.is_some() {
            Answer::ok("{}")
        } else {
            error("TransactionInProgressException", "it is under way")
        }));
    }
    let mut writes: Vec<Write<'a>> = Vec::new();
    for write in request["TransactItems"].as_array().into_iter().flatten() {
        let (kind, write) = write
            .as_object()
            .and_then(|write| write.iter().next())
            .ok_or_else(|| Invalid("a write is empty".to_owned()))?;
        let table = write["TableName"].as_str().unwrap_or_default().to_owned();
        let key = row_key(state, kind, write)?;
        writes.push((kind, write, (table, key)));
    }
    let distinct: BTreeSet<_> = writes.iter().map(|(_, _, row)| row).collect();
    if distinct.len() < writes.len() {
        return Err(Invalid("a transaction names an item twice".to_owned()));
    }
    if writes.is_empty() || writes.len() > WRITES_MAX {
        return Err(Invalid(format!("a transaction has 1 to {WRITES_MAX} writes")));
    }
    let mut in_the_way = Vec::new();
    for (place, (_, _, (table, key))) in writes.iter().enumerate() {
        let row = stored(state, &json!(table))?.rows.entry(key.clone()).or_default();
        if row.in_transaction {
            in_the_way.push(place);
        }
    }
    if !in_the_way.is_empty() {
        let conflict = json!({ "Code": "TransactionConflict", "Message": "in use" });
        let reasons = reasons(
            state,
            writes.len(),
            in_the_way.iter().map(|place| (*place, conflict.clone())).collect(),
        );
        return Ok(Err(cancelled(reasons)));
    }
    for (_, _, (table, key)) in &writes {
        stored(state, &json!(table))?.rows.entry(key.clone()).or_default().in_transaction = true;
    }
    let writes_of_token = request["TransactItems"].clone();
    state.dynamodb.tokens.insert(token, Token { writes: writes_of_token, done: None });
    Ok(Ok(writes))
}

/// Carries a transaction out, or returns the reasons why not.
fn end(state: &mut State, writes: &[Write<'_>]) -> Result<Option<Vec<Value>>, Invalid> {
    let (mut after, mut failed) = (Vec::new(), Vec::new());
    for (place, (kind, write, (table, key))) in writes.iter().enumerate() {
        let before = stored(state, &json!(table))?.rows.get(key).and_then(|row| row.item.clone());
        match apply(kind, write, before.as_ref())? {
            Ok(item) => after.push(item),
            Err(before) => {
                let mut reason = json!({ "Code": "ConditionalCheckFailed", "Message": "The conditional request failed" });
                if write["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
                    && let Some(before) = before
                {
                    reason["Item"] = json!(before);
                }
                failed.push((place, reason));
            }
        }
    }
    if !failed.is_empty() {
        return Ok(Some(reasons(state, writes.len(), failed)));
    }
    for ((kind, _, (table, key)), item) in writes.iter().zip(after) {
        let lag = lag(state);
        if *kind != "ConditionCheck" {
            stored(state, &json!(table))?.rows.entry(key.clone()).or_default().write(item, lag);
        }
    }
    Ok(None)
}

/// The reasons of a cancellation, by the places of its writes. Not all of them need be there.
fn reasons(state: &mut State, writes: usize, mut failed: Vec<(usize, Value)>) -> Vec<Value> {
    if failed.len() > 1 {
        state.random.shuffle(&mut failed);
        let reported = state.random.usize(1..=failed.len());
        failed.truncate(reported);
    }
    let mut reasons = vec![json!({ "Code": "None" }); writes];
    for (place, reason) in failed {
        reasons[place] = reason;
    }
    reasons
}

fn cancelled(reasons: Vec<Value>) -> Answer {
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "Transaction cancelled",
        "CancellationReasons": reasons,
    });
    Answer { status: 400, body: body.to_string() }
}
