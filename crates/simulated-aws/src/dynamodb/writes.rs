//! Writes of DynamoDB's items, alone and in transactions.
//!
//! In: PutItem, UpdateItem, DeleteItem, TransactWriteItems. Out: what they changed, or why not. Guarantee: a transaction is
//! carried out wholly or not at all, and once for each token.
//!
//! - A transaction holds its items until it ends; another transaction or a plain write of one of them is refused with a
//!   conflict. It writes each item twice, to prepare and to commit.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html>
//! - A token is idempotent for ten minutes; the same token with other writes is refused; while the first is under way, the
//!   second is refused as in progress. At most 100 writes of 4 MB; codes and messages of the reasons of a cancellation.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
//! - A failed condition uses units, too.
//!   <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-unit-calculations.html>
//!
//! Harsher than the pages: of several failing reasons of a transaction, one at random is all that is sure to be reported,
//! and a cancelled transaction costs the table as much as one that is carried out.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Stored, error, refused, store, throttled,
    throughput::{Demand, half_read_units, item_bytes},
};
use crate::{
    SimulatedAws, State,
    expression::{Condition, Item, Refusal, Scope, Update, normal_item},
    wire::{Answer, digest_of_json},
};

/// How long a token is remembered.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// Maximum number of characters of a token.
const TOKEN_CHARS_MAX: usize = 36;
/// Maximum number of writes of one transaction.
const WRITES_MAX: usize = 100;
/// Maximum size of the items of one transaction.
const TRANSACTION_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Maximum size of an item.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items>
const ITEM_BYTES_MAX: u64 = 400 * 1024;

#[derive(Debug)]
pub(super) struct Token {
    /// A digest of what it stands for: a sale has hundreds of thousands of them.
    writes: u64,
    /// When it was carried out, or `None` while it is under way.
    done: Option<Instant>,
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

/// A write that has been read.
#[derive(Debug)]
struct Write<'a> {
    table: &'a Value,
    key: String,
    condition: Option<Condition>,
    change: Change,
    /// Whether a failed condition hands over the item.
    returns_old: bool,
}

#[derive(Debug)]
enum Change {
    Put(Item),
    Update(Item, Update),
    Delete,
    /// Nothing changes.
    Check,
}

/// What a write comes to.
#[derive(Debug)]
enum Outcome {
    After(Option<Item>),
    ConditionFailed,
}

impl Change {
    /// A name of an operation without its `Item`, or of a transaction's action.
    fn read<'a>(
        kind: &str,
        write: &'a Value,
        scope: &mut Scope<'a>,
        stored: &Stored,
    ) -> Result<Self, Refusal> {
        Ok(match kind {
            "Put" => {
                let item = normal_item(&write["Item"])?;
                stored.key_of_item(&item)?;
                if item_bytes(&item) > ITEM_BYTES_MAX {
                    return invalid("Item size has exceeded the maximum allowed size");
                }
                check_index_keys(stored, &item)?;
                Self::Put(item)
            }
            "Update" => {
                let update = scope.update(write)?;
                Self::Update(normal_item(&write["Key"])?, update)
            }
            "Delete" => Self::Delete,
            "ConditionCheck" => Self::Check,
            _ => return Err(Refusal::Unsupported(kind.to_owned())),
        })
    }
}

impl<'a> Write<'a> {
    fn read(state: &mut State, kind: &str, write: &'a Value) -> Result<Self, Refusal> {
        let stored = state.dynamodb.stored(&write["TableName"])?;
        let mut scope = Scope::of(write);
        let change = Change::read(kind, write, &mut scope, stored)?;
        let condition = scope.condition(write, "ConditionExpression")?;
        scope.finish()?;
        if kind == "ConditionCheck" && condition.is_none() {
            return invalid("The ConditionCheck has no ConditionExpression");
        }
        let key = match &change {
            Change::Put(item) => stored.key_of_item(item)?,
            _ => stored.key_of_request(&write["Key"])?,
        };
        let returns_old = match write["ReturnValuesOnConditionCheckFailure"].as_str() {
            Some("ALL_OLD") => true,
            None | Some("NONE") => false,
            Some(other) => {
                return invalid(format!(
                    "Value '{other}' at 'returnValuesOnConditionCheckFailure' failed to satisfy constraint"
                ));
            }
        };
        Ok(Self { table: &write["TableName"], key, condition, change, returns_old })
    }

    fn outcome(&self, stored: &Stored) -> Result<Outcome, Refusal> {
        let before = before(stored, &self.key);
        let nothing = Item::new();
        let present = before.unwrap_or(&nothing);
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(present)) {
            return Ok(Outcome::ConditionFailed);
        }
        Ok(Outcome::After(match &self.change {
            Change::Put(item) => Some(item.clone()),
            Change::Delete => None,
            Change::Check => before.cloned(),
            Change::Update(key, update) => {
                // After the condition, as DynamoDB Local does.
                let is_key = |name: &&str| stored.table.keys.iter().any(|key| key == name);
                if let Some(key) = update.attributes().find(is_key) {
                    return invalid(format!(
                        "One or more parameter values were invalid: Cannot update attribute {key}. This attribute is part of the key"
                    ));
                }
                let mut item = present.clone();
                item.extend(key.clone());
                let after = update.apply(&item)?;
                if item_bytes(&after) > ITEM_BYTES_MAX {
                    return invalid("Item size to update has exceeded the maximum allowed size");
                }
                check_index_keys(stored, &after)?;
                Some(after)
            }
        }))
    }
}

/// Whether a write would be carried out, if nothing else were in its way.
pub(super) fn accepts(state: &mut State, kind: &str, write: &Value) -> bool {
    let Ok(read) = Write::read(state, kind, write) else { return false };
    let Ok(stored) = state.dynamodb.stored(read.table) else { return false };
    matches!(read.outcome(stored), Ok(Outcome::After(_)))
}

fn before<'a>(stored: &'a Stored, key: &str) -> Option<&'a Item> {
    stored.rows.get(key).and_then(|row| row.item.as_ref())
}

/// Refuses an item that has a key of an index that is no text, or is empty.
fn check_index_keys(stored: &Stored, item: &Item) -> Result<(), Refusal> {
    for index in &stored.table.indexes {
        for key in &index.keys {
            let Some(value) = item.get(key) else { continue };
            match value["S"].as_str() {
                Some("") => {
                    return invalid(format!(
                        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty string value. IndexName: {}, IndexKey: {key}",
                        index.name
                    ));
                }
                Some(_) => {}
                None => {
                    return invalid(format!(
                        "One or more parameter values were invalid: Type mismatch for Index Key {key} Expected: S Actual: {} IndexName: {}",
                        super::kind_of(value),
                        index.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Units of a write, by what it comes to: a failed condition costs as much as writing the item that is there.
fn demands(
    stored: &Stored,
    key: &str,
    outcome: Option<&Outcome>,
    is_transactional: bool,
) -> Vec<Demand> {
    let before = before(stored, key);
    let after = match outcome {
        Some(Outcome::After(after)) => after.as_ref(),
        _ => before,
    };
    stored.demands(key, before, after, is_transactional)
}

pub(super) fn write_alone(
    state: &mut State,
    kind: &str,
    request: &Value,
) -> Result<Answer, Refusal> {
    let returns_new = match (kind, request["ReturnValues"].as_str()) {
        (_, None | Some("NONE")) => false,
        ("Update", Some("ALL_NEW")) => true,
        (_, Some("ALL_NEW")) => return invalid("Return values set to invalid value"),
        (_, Some(other)) => return Err(Refusal::Unsupported(format!("ReturnValues {other}"))),
    };
    let write = Write::read(state, kind, request)?;
    let stored = state.dynamodb.stored(write.table)?;
    if stored.rows.get(&write.key).is_some_and(|row| row.in_transaction) {
        return Ok(error("TransactionConflictException", "Transaction is ongoing for the item"));
    }
    let outcome = write.outcome(stored)?;
    let demands = demands(stored, &write.key, Some(&outcome), false);
    let before = before(stored, &write.key).cloned();
    if let Some((_, why)) = state.dynamodb.throughput.too_much(&demands).pop_first() {
        return Ok(throttled(state, &why));
    }
    state.dynamodb.throughput.charge(demands);
    match outcome {
        Outcome::After(after) => {
            let attributes = if returns_new { json!({ "Attributes": after }) } else { json!({}) };
            store(state, write.table, &write.key, after)?;
            Ok(Answer::ok(attributes))
        }
        Outcome::ConditionFailed => {
            let mut answer = json!({
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "message": "The conditional request failed",
            });
            if let (true, Some(before)) = (write.returns_old, before) {
                answer["Item"] = json!(before);
            }
            Ok(Answer { status: 400, body: answer.to_string() })
        }
    }
}

/// A transaction that holds its items.
struct Held<'a> {
    token: Option<String>,
    writes: Vec<Write<'a>>,
    /// What the writes come to; nobody else changes their items.
    outcomes: Vec<Outcome>,
}

pub(super) async fn transact(aws: &SimulatedAws, request: &Value) -> Answer {
    let (held, takes) = {
        let mut state = aws.lock();
        let held = match begin(&mut state, request) {
            Ok(Ok(held)) => held,
            Ok(Err(answer)) => return answer,
            Err(why) => return refused(why),
        };
        if state.is_prompt {
            // Under one lock: no other transaction comes between.
            return end(&mut state, held);
        }
        let takes = duration(&mut state);
        (held, takes)
    };
    tokio::time::sleep(takes).await;
    end(&mut aws.lock(), held)
}

/// How long a transaction takes. No page bounds it; one that outlasts its client's patience is met again as in progress.
fn duration(state: &mut State) -> Duration {
    let is_long = state.random.u64(0..1000) < state.faults.late;
    Duration::from_millis(state.random.u64(if is_long { 3000..9000 } else { 3..60 }))
}

/// Takes hold of a transaction's items, or returns the answer to one that does not come to that.
fn begin<'a>(state: &mut State, request: &'a Value) -> Result<Result<Held<'a>, Answer>, Refusal> {
    let token = request["ClientRequestToken"].as_str().map(str::to_owned);
    let now = Instant::now();
    if token.as_ref().is_some_and(|token| token.is_empty() || token.len() > TOKEN_CHARS_MAX) {
        return invalid(
            "1 validation error detected: Value at 'clientRequestToken' failed to satisfy constraint: Member must have length between 1 and 36",
        );
    }
    let items = request["TransactItems"].as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() || items.len() > WRITES_MAX {
        return invalid(format!(
            "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: Member must have length less than or equal to {WRITES_MAX}"
        ));
    }
    let mut writes: Vec<Write<'a>> = Vec::new();
    for item in items {
        let mut actions = item.as_object().into_iter().flatten();
        let (Some((kind, write)), None) = (actions.next(), actions.next()) else {
            return invalid("TransactItems can only contain one of Check, Put, Update or Delete");
        };
        check_fields(kind, write)?;
        writes.push(Write::read(state, kind, write)?);
    }
    let distinct: BTreeSet<_> =
        writes.iter().map(|write| (write.table.as_str(), write.key.as_str())).collect();
    if distinct.len() < writes.len() {
        return invalid("Transaction request cannot include multiple operations on one item");
    }
    state.dynamodb.forget_tokens(now);
    if let Some(known) = token.as_ref().and_then(|token| state.dynamodb.tokens.get(token)) {
        return Ok(Err(if known.writes != digest_of_json(&request["TransactItems"]) {
            error(
                "IdempotentParameterMismatchException",
                "The request uses the same client token as a previous, but non-identical request.",
            )
        } else if known.done.is_some() {
            repeated(state, &writes)?
        } else {
            error(
                "TransactionInProgressException",
                "The transaction with the given request token is already in progress.",
            )
        }));
    }
    let (mut outcomes, mut reasons, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut is_hopeless) = (0, false);
    for (place, write) in writes.iter().enumerate() {
        let stored = state.dynamodb.stored(write.table)?;
        let outcome = if stored.rows.get(&write.key).is_some_and(|row| row.in_transaction) {
            is_hopeless = true;
            reasons.push((
                place,
                reason("TransactionConflict", "Transaction is ongoing for the item"),
            ));
            None
        } else {
            match write.outcome(stored) {
                Ok(outcome) => Some(outcome),
                Err(Refusal::Invalid(why)) => {
                    is_hopeless = true;
                    reasons.push((place, reason("ValidationError", &why)));
                    None
                }
                Err(refusal) => return Err(refusal),
            }
        };
        if matches!(outcome, Some(Outcome::ConditionFailed)) {
            reasons.push((place, condition_failed(stored, write)));
        }
        let demands = demands(stored, &write.key, outcome.as_ref(), true);
        let size = |item: Option<&Item>| item.map_or(0, item_bytes);
        bytes += match &outcome {
            Some(Outcome::After(after)) => {
                size(after.as_ref()).max(size(before(stored, &write.key)))
            }
            _ => size(before(stored, &write.key)),
        };
        wanted.extend(demands.into_iter().map(|demand| (place, demand)));
        outcomes.extend(outcome);
    }
    if bytes > TRANSACTION_BYTES_MAX {
        return invalid(
            "The aggregate size of the items in the transaction exceeds the limit of 4 MB",
        );
    }
    let demands: Vec<_> = wanted.iter().map(|(_, demand)| demand.clone()).collect();
    let too_much = state.dynamodb.throughput.too_much(&demands);
    let mut places = BTreeSet::new();
    for (at, why) in &too_much {
        let place = wanted[*at].0;
        if places.insert(place) {
            reasons.retain(|(other, _)| *other != place);
            reasons.push((place, reason("ThrottlingError", why.message())));
        }
    }
    if !places.is_empty() {
        is_hopeless = true;
        state.dynamodb.throughput.note_throttled_call();
    }
    let is_cancelled = !reasons.is_empty();
    let charged = wanted.into_iter().filter(|(place, demand)| {
        let is_of_index = demand.partition.index.is_some();
        !places.contains(place) && (!is_cancelled || !is_of_index)
    });
    state.dynamodb.throughput.charge(charged.map(|(_, demand)| demand));
    if is_hopeless {
        return Ok(Err(cancelled(state, writes.len(), reasons)));
    }
    for write in &writes {
        let stored = state.dynamodb.stored(write.table)?;
        stored.rows.entry(write.key.clone()).or_default().in_transaction = true;
    }
    if let Some(token) = &token {
        let known = Token { writes: digest_of_json(&request["TransactItems"]), done: None };
        state.dynamodb.tokens.insert(token.clone(), known);
    }
    Ok(Ok(Held { token, writes, outcomes }))
}

/// What a write of a transaction may have.
fn check_fields(kind: &str, write: &Value) -> Result<(), Refusal> {
    const SHARED: [&str; 5] = [
        "TableName",
        "ConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "ReturnValuesOnConditionCheckFailure",
    ];
    let own: &[&str] = match kind {
        "Put" => &["Item"],
        "Update" => &["Key", "UpdateExpression"],
        _ => &["Key"],
    };
    let mut fields = write.as_object().into_iter().flatten().map(|(field, _)| field.as_str());
    match fields.find(|field| !SHARED.contains(field) && !own.contains(field)) {
        Some(field) => Err(Refusal::Unsupported(format!("{field} of {kind}"))),
        None => Ok(()),
    }
}

/// The answer to a token that was used before: it costs as much as reading the items.
fn repeated(state: &mut State, writes: &[Write<'_>]) -> Result<Answer, Refusal> {
    for write in writes {
        let stored = state.dynamodb.stored(write.table)?;
        let bytes = before(stored, &write.key).map_or(0, item_bytes);
        let half_reads = 2 * half_read_units(bytes, true);
        let demand =
            super::reads::demand(stored, None, super::partition_key(&write.key), half_reads);
        state.dynamodb.throughput.charge([demand]);
    }
    Ok(Answer::ok("{}"))
}

/// Carries a transaction out, or says why not, and lets go of its items.
fn end(state: &mut State, held: Held<'_>) -> Answer {
    let Held { token, writes, outcomes } = held;
    let mut failed = Vec::new();
    for (place, (write, outcome)) in writes.iter().zip(&outcomes).enumerate() {
        let Ok(stored) = state.dynamodb.stored(write.table) else { continue };
        if matches!(outcome, Outcome::ConditionFailed) {
            failed.push((place, condition_failed(stored, write)));
        }
        if let Some(row) = stored.rows.get_mut(&write.key) {
            row.in_transaction = false;
        }
    }
    if !failed.is_empty() {
        if let Some(token) = token {
            state.dynamodb.tokens.remove(&token);
        }
        return cancelled(state, writes.len(), failed);
    }
    for (write, outcome) in writes.iter().zip(outcomes) {
        if let (Outcome::After(after), false) = (outcome, matches!(write.change, Change::Check))
            && let Err(why) = store(state, write.table, &write.key, after)
        {
            return refused(why);
        }
    }
    if let Some(token) = token {
        state.dynamodb.note_done(token, Instant::now());
    }
    Answer::ok("{}")
}

impl super::DynamoDb {
    fn note_done(&mut self, token: String, now: Instant) {
        if let Some(known) = self.tokens.get_mut(&token) {
            known.done = Some(now);
            self.done_tokens.push_back((now, token));
        }
    }

    /// Forgets those whose time is over.
    fn forget_tokens(&mut self, now: Instant) {
        while self.done_tokens.front().is_some_and(|(at, _)| *at + TOKEN_LIFE <= now) {
            let Some((_, token)) = self.done_tokens.pop_front() else { break };
            self.tokens.remove(&token);
        }
    }
}

fn reason(code: &str, message: &str) -> Value {
    json!({ "Code": code, "Message": message })
}

fn condition_failed(stored: &Stored, write: &Write<'_>) -> Value {
    let mut reason = reason("ConditionalCheckFailed", "The conditional request failed");
    if let (true, Some(before)) = (write.returns_old, before(stored, &write.key)) {
        reason["Item"] = json!(before);
    }
    reason
}

/// The answer to a transaction that is not carried out, with reasons by the places of its writes. Not all need be there.
fn cancelled(state: &mut State, writes: usize, mut failed: Vec<(usize, Value)>) -> Answer {
    if failed.len() > 1 && !state.dynamodb.is_kind {
        state.random.shuffle(&mut failed);
        let reported = state.random.usize(1..=failed.len());
        failed.truncate(reported);
    }
    let mut reasons = vec![json!({ "Code": "None" }); writes];
    for (place, reason) in failed {
        reasons[place] = reason;
    }
    let codes: Vec<_> = reasons.iter().filter_map(|reason| reason["Code"].as_str()).collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": message,
        "CancellationReasons": reasons,
    });
    Answer { status: 400, body: body.to_string() }
}
