//! Reads of DynamoDB's tables and indexes, page by page.
//!
//! In: GetItem, BatchGetItem, Query and Scan. Out: items, keys at which to go on, unprocessed keys, or why not.
//!
//! - A page ends at its limit or at 1 MB, and then says where to go on even if nothing follows.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html>
//! - A batch of at most 100 keys and 16 MB may leave keys unprocessed; only if all of them are throttled is the call.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::{Map, Value, json};

use super::{
    Index, KEY_SEPARATOR, READER_OF_TABLE, Stored, partition_key, throttled,
    throughput::{Demand, Units, half_read_units, item_bytes},
};
use crate::{
    State,
    expression::{Item, Refusal, Scope, normal_item},
    wire::Answer,
};

/// Maximum size of a page.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Maximum number of keys of a batch.
const BATCH_KEYS_MAX: usize = 100;
/// Maximum size of a batch's answer.
const BATCH_BYTES_MAX: u64 = 16 * 1024 * 1024;

fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

fn is_consistent(request: &Value) -> bool {
    request["ConsistentRead"].as_bool() == Some(true)
}

fn read<'a>(stored: &'a Stored, key: &str, is_consistent: bool) -> Option<&'a Item> {
    let row = stored.rows.get(key)?;
    if is_consistent { row.item.as_ref() } else { row.seen_by(READER_OF_TABLE) }
}

pub(super) fn demand(stored: &Stored, index: Option<&Index>, key: &str, half_reads: u64) -> Demand {
    Demand { partition: stored.partition(index, key), units: Units { writes: 0, half_reads } }
}

pub(super) fn get(state: &mut State, request: &Value) -> Result<Answer, Refusal> {
    let is_consistent = is_consistent(request);
    let stored = state.dynamodb.stored(&request["TableName"])?;
    let key = stored.key_of_request(&request["Key"])?;
    let item = read(stored, &key, is_consistent).cloned();
    let half_reads = half_read_units(item.as_ref().map_or(0, item_bytes), is_consistent);
    let demand = demand(stored, None, partition_key(&key), half_reads);
    if let Some(refused) = use_units(state, demand) {
        return Ok(refused);
    }
    Ok(Answer::ok(item.map_or_else(|| json!({}), |item| json!({ "Item": item }))))
}

/// Takes units from a partition, or returns what the call is answered with if it can bear no more.
fn use_units(state: &mut State, demand: Demand) -> Option<Answer> {
    let demands = [demand];
    if let Some((_, why)) = state.dynamodb.throughput.too_much(&demands).pop_first() {
        return Some(throttled(state, &why));
    }
    state.dynamodb.throughput.charge(demands);
    None
}

pub(super) fn batch_get(state: &mut State, request: &Value) -> Result<Answer, Refusal> {
    let tables = request["RequestItems"].as_object();
    let keys = || tables.into_iter().flatten().map(|(_, wanted)| &wanted["Keys"]);
    let count: usize = keys().filter_map(Value::as_array).map(Vec::len).sum();
    if count == 0 || keys().any(|keys| keys.as_array().is_none_or(Vec::is_empty)) {
        return invalid(
            "1 validation error detected: Value at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1",
        );
    }
    if count > BATCH_KEYS_MAX {
        return invalid("Too many items requested for the BatchGetItem call");
    }
    // All keys are checked before anything is read.
    let mut wanted_rows = Vec::new();
    for (name, wanted) in tables.into_iter().flatten() {
        let fields = wanted.as_object().into_iter().flatten();
        if let Some((field, _)) = fields
            .into_iter()
            .find(|(field, _)| !["Keys", "ConsistentRead"].contains(&field.as_str()))
        {
            return Err(Refusal::Unsupported(format!("{field} of BatchGetItem")));
        }
        let stored = state.dynamodb.stored(&json!(name))?;
        let mut seen = BTreeSet::new();
        for key in wanted["Keys"].as_array().into_iter().flatten() {
            let row = stored.key_of_request(key)?;
            if !seen.insert(row.clone()) {
                return invalid("Provided list of item keys contains duplicates");
            }
            wanted_rows.push((name, key, row, is_consistent(wanted)));
        }
    }
    let (mut responses, mut unprocessed) = (Map::new(), Map::new());
    let (mut bytes, mut why_throttled, mut processed) = (0, None, 0);
    for (name, key, row, is_consistent) in wanted_rows {
        let items = responses.entry(name).or_insert_with(|| json!([]));
        let is_left = state.random.u64(0..1000) < state.faults.partial;
        let stored = state.dynamodb.stored(&json!(name))?;
        let item = read(stored, &row, is_consistent).cloned();
        let size = item.as_ref().map_or(0, item_bytes);
        let demands =
            [demand(stored, None, partition_key(&row), half_read_units(size, is_consistent))];
        let too_much = state.dynamodb.throughput.too_much(&demands).pop_first();
        let is_too_big = bytes + size > BATCH_BYTES_MAX;
        if is_left || is_too_big || too_much.is_some() {
            let left = unprocessed
                .entry(name)
                .or_insert_with(|| json!({ "Keys": [], "ConsistentRead": is_consistent }));
            left["Keys"].as_array_mut().into_iter().for_each(|left| left.push(key.clone()));
            why_throttled = why_throttled.or(too_much.map(|(_, why)| why));
            continue;
        }
        state.dynamodb.throughput.charge(demands);
        (bytes, processed) = (bytes + size, processed + 1);
        items
            .as_array_mut()
            .into_iter()
            .for_each(|items| items.extend(item.clone().map(|item| json!(item))));
    }
    match why_throttled {
        Some(why) if processed == 0 => return Ok(throttled(state, &why)),
        Some(_) => state.dynamodb.throughput.note_throttled_call(),
        None => {}
    }
    Ok(Answer::ok(json!({ "Responses": responses, "UnprocessedKeys": unprocessed })))
}

/// A page of items, in the order in which they are read, from behind `start`.
struct Page {
    items: Vec<Item>,
    bytes: u64,
    /// The item at which to go on.
    last: Option<Item>,
}

fn page(items: Vec<Item>, limit: Option<usize>) -> Page {
    let mut page = Page { items: Vec::new(), bytes: 0, last: None };
    for item in items {
        page.bytes += item_bytes(&item);
        page.items.push(item);
        if page.bytes >= PAGE_BYTES_MAX || Some(page.items.len()) == limit {
            page.last = page.items.last().cloned();
            break;
        }
    }
    page
}

fn limit(request: &Value) -> Result<Option<usize>, Refusal> {
    match request["Limit"].as_i64() {
        None => Ok(None),
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if limit > 0 => Ok(Some(limit)),
            _ => invalid(format!(
                "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"
            )),
        },
    }
}

/// The key at which to begin, if the request has one: exactly the keys of the table and of the index.
fn start(request: &Value, keys: &BTreeSet<&String>) -> Result<Option<Item>, Refusal> {
    if request["ExclusiveStartKey"].is_null() {
        return Ok(None);
    }
    let start = normal_item(&request["ExclusiveStartKey"])?;
    let is_text = |value: &Value| value["S"].as_str().is_some_and(|text| !text.is_empty());
    if start.keys().collect::<BTreeSet<_>>() != *keys || !start.values().all(is_text) {
        return invalid("The provided starting key is invalid");
    }
    Ok(Some(start))
}

fn key_only(item: Item, keys: &BTreeSet<&String>) -> Item {
    item.into_iter().filter(|(name, _)| keys.contains(name)).collect()
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value["S"].as_str()).unwrap_or_default()
}

fn item_key(item: &Item, keys: &[String]) -> String {
    keys.iter().map(|key| text(item, key)).collect::<Vec<_>>().join(KEY_SEPARATOR)
}

fn hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

pub(super) fn query(state: &mut State, request: &Value) -> Result<Answer, Refusal> {
    let is_consistent = is_consistent(request);
    let is_kind = state.dynamodb.is_kind;
    let stored = state.dynamodb.stored(&request["TableName"])?;
    let table_keys = &stored.table.keys;
    let (index, reader) = match request["IndexName"].as_str() {
        None => (None, READER_OF_TABLE),
        Some(name) => {
            let place = stored.table.indexes.iter().position(|index| index.name == name);
            let Some(place) = place else {
                return invalid(format!("The table does not have the specified index: {name}"));
            };
            (Some(&stored.table.indexes[place]), READER_OF_TABLE + 1 + place)
        }
    };
    if is_consistent && index.is_some() {
        return invalid("Consistent reads are not supported on global secondary indexes");
    }
    let keys: &[String] = index.map_or(table_keys, |index| &index.keys);
    let mut scope = Scope::of(request);
    let condition = scope.key_condition(request, keys)?;
    scope.finish()?;
    let (limit, all_keys) = (limit(request)?, keys.iter().chain(table_keys).collect());
    let start = start(request, &all_keys)?;
    let is_backward = request["ScanIndexForward"].as_bool() == Some(false);

    let in_partition = |item: &Item| {
        item.get(&keys[0]).is_some_and(|key| key["S"] == condition.partition.as_str())
            && condition.holds(item)
    };
    if start.as_ref().is_some_and(|start| !in_partition(start)) {
        return invalid(
            "The provided starting key is outside query boundaries based on provided conditions",
        );
    }
    let position = |item: &Item| {
        let key = item_key(item, table_keys);
        // Of an index, items with the same sort key are in no order that could be relied on.
        let chance = if index.is_some() && !is_kind { hash(&key) } else { 0 };
        (keys.get(1).map(|key| text(item, key).to_owned()), chance, key)
    };
    let rows: Box<dyn Iterator<Item = &super::Row>> = match index {
        Some(_) => Box::new(stored.rows.values()),
        None => {
            // Only this partition: a table may be large.
            let (from, to) = (condition.partition.clone(), format!("{}\u{1}", condition.partition));
            Box::new(stored.rows.range(from..to).map(|(_, row)| row))
        }
    };
    let mut found: Vec<Item> = rows
        .filter_map(|row| if is_consistent { row.item.as_ref() } else { row.seen_by(reader) })
        .filter(|item| in_partition(item))
        .filter_map(|item| match index {
            None => Some(item.clone()),
            Some(index) => stored.projected(index, Some(item)),
        })
        .collect();
    found.sort_by_cached_key(position);
    if is_backward {
        found.reverse();
    }
    if let Some(start) = start.as_ref().map(position) {
        found.retain(|item| {
            let at = position(item);
            if is_backward { at < start } else { at > start }
        });
    }
    let page = page(found, limit);
    let demand =
        demand(stored, index, &condition.partition, half_read_units(page.bytes, is_consistent));
    let count = page.items.len();
    let mut answer = match request["Select"].as_str() {
        Some("COUNT") => json!({ "Count": count, "ScannedCount": count }),
        None => json!({ "Count": count, "ScannedCount": count, "Items": page.items }),
        Some(other) => return Err(Refusal::Unsupported(format!("Select {other}"))),
    };
    if let Some(last) = page.last {
        answer["LastEvaluatedKey"] = json!(key_only(last, &all_keys));
    }
    Ok(use_units(state, demand).unwrap_or_else(|| Answer::ok(answer)))
}

pub(super) fn scan(state: &mut State, request: &Value) -> Result<Answer, Refusal> {
    let is_consistent = is_consistent(request);
    let mut scope = Scope::of(request);
    let projection = scope.projection(request)?;
    scope.finish()?;
    let stored = state.dynamodb.stored(&request["TableName"])?;
    let (limit, all_keys) = (limit(request)?, stored.table.keys.iter().collect());
    let start = start(request, &all_keys)?;
    // Partitions are read in an order of DynamoDB's own; within each, the sort key's.
    let position = |item: &Item| {
        let key = item_key(item, &stored.table.keys);
        (hash(partition_key(&key)), key)
    };
    let start = start.as_ref().map(position);
    let rows = stored.rows.values();
    let mut found: Vec<Item> =
        rows.filter_map(|row| {
            if is_consistent { row.item.as_ref() } else { row.seen_by(READER_OF_TABLE) }
        })
        .filter(|item| start.as_ref().is_none_or(|start| position(item) > *start))
        .cloned()
        .collect();
    found.sort_by_cached_key(position);
    let mut page = page(found, limit);
    // The units of a scan are its page's; it takes them from the table as if that were one partition more.
    let demand = demand(stored, None, "", half_read_units(page.bytes, is_consistent));
    let last = page.last.map(|last| key_only(last, &all_keys));
    if let Some(names) = projection {
        page.items.iter_mut().for_each(|item| item.retain(|name, _| names.contains(name)));
    }
    let count = page.items.len();
    let mut answer = json!({ "Count": count, "ScannedCount": count, "Items": page.items });
    if let Some(last) = last {
        answer["LastEvaluatedKey"] = json!(last);
    }
    Ok(use_units(state, demand).unwrap_or_else(|| Answer::ok(answer)))
}
