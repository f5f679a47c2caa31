//! The simulated DynamoDB against another implementation of DynamoDB, written by others and checked by them against AWS.
//!
//! In: the cases of the conformance suite, and random sequences of the calls that production code makes. Out: a shortest
//! sequence after which the two answer differently. Guarantee: nothing but the two takes part; there is no emulator.

#[path = "conformance/calls.rs"]
mod calls;
#[path = "conformance/cases.rs"]
mod cases;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use dynoxide::{Database, errors::DynoxideError};
use proptest::{prelude::*, sample::select};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use simulated_aws::{Faults, Index, SimulatedAws, Table};

use calls::call;
use cases::{TABLES, cases};

/// What the oracle answers, in the form of [`calls::call`].
fn ask_oracle(oracle: &Database, operation: &str, request: &Value) -> Value {
    let answered = match operation {
        "PutItem" => ask(request, |request| oracle.put_item(request)),
        "UpdateItem" => ask(request, |request| oracle.update_item(request)),
        "DeleteItem" => ask(request, |request| oracle.delete_item(request)),
        "GetItem" => ask(request, |request| oracle.get_item(request)),
        "BatchGetItem" => ask(request, |request| oracle.batch_get_item(request)),
        "Query" => ask(request, |request| oracle.query(request)),
        "Scan" => ask(request, |request| oracle.scan(request)),
        "TransactWriteItems" => ask(request, |request| oracle.transact_write_items(request)),
        "BatchExecuteStatement" => ask(request, |request| oracle.batch_execute_statement(request)),
        "CreateTable" => ask(request, |request| oracle.create_table(request)),
        other => panic!("{other} is not used"),
    };
    answered.unwrap_or_else(failure)
}

fn ask<Request: DeserializeOwned, Answer: Serialize>(
    request: &Value,
    call: impl FnOnce(Request) -> dynoxide::errors::Result<Answer>,
) -> Result<Value, DynoxideError> {
    let request = serde_json::from_value(request.clone());
    let request = request.map_err(|why| DynoxideError::ValidationException(why.to_string()))?;
    let answer = serde_json::to_value(call(request)?).expect("JSON");
    let mut kept = json!({});
    for name in ["Attributes", "Item", "Items", "Count", "LastEvaluatedKey", "Responses"] {
        if !answer[name].is_null() {
            kept[name] = answer[name].clone();
        }
    }
    if let Some(left) = answer["UnprocessedKeys"].as_object() {
        let keys = left.values().filter_map(|left| left["Keys"].as_array());
        kept["Unprocessed"] = json!(keys.map(Vec::len).sum::<usize>());
    }
    if let Some(responses) = answer["Responses"].as_array() {
        let code =
            |response: &Value| response["Error"]["Code"].as_str().unwrap_or("None").to_owned();
        let errors: Vec<_> = responses.iter().map(code).collect();
        kept = json!({ "Errors": errors });
    }
    // A batch has no order.
    for (_, items) in kept["Responses"].as_object_mut().into_iter().flatten() {
        items.as_array_mut().into_iter().for_each(|items| items.sort_by_key(Value::to_string));
    }
    if kept["Responses"].is_null() {
        kept.as_object_mut().map(|kept| kept.remove("Responses"));
    }
    Ok(kept)
}

fn failure(error: DynoxideError) -> Value {
    let (code, with) = match error {
        DynoxideError::ConditionalCheckFailedException(_, item) => {
            ("ConditionalCheckFailedException", item.map(|item| json!(item)))
        }
        DynoxideError::TransactionCanceledException(_, reasons) => {
            let reasons = reasons.into_iter().map(|reason| {
                let mut json = json!({ "Code": reason.code });
                if let Some(item) = reason.item {
                    json["Item"] = json!(item);
                }
                json
            });
            ("TransactionCanceledException", Some(reasons.collect::<Vec<_>>().into()))
        }
        DynoxideError::ValidationException(_)
        | DynoxideError::KeyEmptyValueValidation(_)
        | DynoxideError::EnvelopedValidation(_) => ("ValidationException", None),
        DynoxideError::ResourceNotFoundException(_) => ("ResourceNotFoundException", None),
        DynoxideError::IdempotentParameterMismatchException(_) => {
            ("IdempotentParameterMismatchException", None)
        }
        other => panic!("{other:?}"),
    };
    let mut failure = json!({ "error": code });
    if let Some(with) = with {
        failure["with"] = with;
    }
    failure
}

fn table_request(name: &str, keys: &[&str], indexes: &[cases::IndexOf]) -> Value {
    let schema = |keys: &[&str]| -> Vec<Value> {
        let keys = keys.iter().zip(["HASH", "RANGE"]);
        keys.map(|(key, kind)| json!({ "AttributeName": key, "KeyType": kind })).collect()
    };
    let mut names: Vec<&str> = keys.to_vec();
    names.extend(indexes.iter().flat_map(|(_, keys, _)| keys));
    names.sort_unstable();
    names.dedup();
    let attributes: Vec<_> =
        names.iter().map(|name| json!({ "AttributeName": name, "AttributeType": "S" })).collect();
    let mut request = json!({
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": attributes,
        "KeySchema": schema(keys),
    });
    for (name, keys, is_keys_only) in indexes {
        let kind = if *is_keys_only { "KEYS_ONLY" } else { "ALL" };
        let index = json!({
            "IndexName": name,
            "KeySchema": schema(keys),
            "Projection": { "ProjectionType": kind },
        });
        match request["GlobalSecondaryIndexes"].as_array_mut() {
            Some(indexes) => indexes.push(index),
            None => request["GlobalSecondaryIndexes"] = json!([index]),
        }
    }
    request
}

/// Carries out the same calls by both, and returns each with both answers, the simulation's first.
fn compare(
    calls: Vec<(String, Value)>,
    make_tables: impl Fn(&SimulatedAws),
    tables: &[(&str, &[&str], &[cases::IndexOf])],
    pause: Duration,
) -> Vec<[Value; 2]> {
    fastrand::seed(1);
    let oracle = Database::memory().expect("a database in memory");
    for (name, keys, indexes) in tables {
        oracle
            .create_table(
                serde_json::from_value(table_request(name, keys, indexes)).expect("a table"),
            )
            .expect("the table is made");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let aws = SimulatedAws::new(1, Faults::default());
        aws.be_kind();
        make_tables(&aws);
        let config = simulated_aws::loader().load().await;
        let client = Client::new(&aws.environment().config(&config));
        let mut answers = Vec::new();
        for (operation, request) in calls {
            let mut simulated = call(&client, &operation, &request).await;
            let mut oracle = ask_oracle(&oracle, &operation, &request);
            if operation == "Scan" {
                // The order of partitions is each one's own.
                for answer in [&mut simulated, &mut oracle] {
                    let items = answer["Items"].as_array_mut().into_iter();
                    items.for_each(|items| items.sort_by_key(Value::to_string));
                }
            }
            answers.push([simulated, oracle]);
            tokio::time::sleep(pause).await;
        }
        answers
    })
}

/// Cases that the oracle does not refuse before it looks at the item. DynamoDB Local does.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html>
const KNOWN_DIFFERENCES: [&str; 2] = ["what is compared with itself", "an order of booleans"];

#[test]
fn the_simulation_answers_each_case_as_the_oracle_does_but_for_known_differences() {
    let calls = cases().into_iter().map(|case| (case.operation.to_owned(), case.request)).collect();
    // So that no partition throttles, which the oracle's never do.
    let answers = compare(calls, cases::create_tables, &TABLES, Duration::from_secs(2));
    let mut failures = Vec::new();
    for (case, [simulated, oracle]) in cases().iter().zip(answers) {
        let is_known = KNOWN_DIFFERENCES.contains(&case.name);
        if is_known == (simulated == oracle) {
            let short = |answer: Value| answer.to_string().chars().take(400).collect::<String>();
            let (name, simulated, oracle) = (case.name, short(simulated), short(oracle));
            failures.push(format!("{name}\n  simulation: {simulated}\n  oracle: {oracle}"));
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

const TABLE: &str = "table";
const KEYS: [&str; 2] = ["series", "event"];
const INDEX: cases::IndexOf = ("by_part", ["part", "since"], false);

fn create_table(aws: &SimulatedAws) {
    aws.create_table(Table {
        name: TABLE.to_owned(),
        keys: KEYS.map(str::to_owned).to_vec(),
        indexes: vec![Index { name: INDEX.0.to_owned(), keys: INDEX.1.map(str::to_owned) }],
    });
}

fn number() -> impl Strategy<Value = Value> {
    (-2..4_i64).prop_map(|number| json!({ "N": number.to_string() }))
}

fn text() -> impl Strategy<Value = Value> {
    select(&["p", "q", "r"][..]).prop_map(|text| json!({ "S": text }))
}

fn key() -> impl Strategy<Value = Value> {
    (select(&["a", "b"][..]), select(&["1", "2", "3"][..]))
        .prop_map(|(series, event)| json!({ "series": { "S": series }, "event": { "S": event } }))
}

fn item() -> impl Strategy<Value = Value> {
    let optional = |value| prop::option::weighted(0.7, value);
    let texts = [0; 3].map(|_| optional(text().boxed()));
    (key(), optional(number().boxed()), texts).prop_map(|(mut item, n, [s, part, since])| {
        for (name, value) in [("n", n), ("s", s), ("part", part), ("since", since)] {
            value.into_iter().for_each(|value| item[name] = value);
        }
        item
    })
}

/// Expressions with the values that they may name.
fn with_values(
    expressions: &'static [&'static str],
    field: &'static str,
) -> impl Strategy<Value = Value> {
    (select(expressions), number(), text(), text()).prop_map(move |(expression, n, s, t)| {
        let mut request = json!({});
        if !expression.is_empty() {
            request[field] = json!(expression);
        }
        for (name, value) in [(":n", n), (":s", s), (":t", t)] {
            if expression.contains(name) {
                request["ExpressionAttributeValues"][name] = value;
            }
        }
        request
    })
}

const CONDITIONS: &[&str] = &[
    "",
    "attribute_exists(series)",
    "attribute_not_exists(series)",
    "n = :n",
    "n <> :n",
    "n < :n",
    "n <= :n AND attribute_exists(s)",
    "n >= :n OR s = :s",
    "attribute_not_exists(n) OR (n > :n AND s = :s)",
    "s < :n",
    "s < part",
    "(n = :n OR n > :n) AND s <> :s",
];

/// None of a key: in a transaction the oracle carries that out.
const UPDATES: &[&str] = &[
    "SET n = n + :n",
    "SET n = :n, s = :s",
    "SET part = :s, since = :t",
    "REMOVE part, since",
    "REMOVE gone",
    "ADD n :n",
    "ADD s :n",
    "SET s = :s REMOVE n",
    "SET s = part, part = s",
    "SET n = s + :n",
    "SET part = :n",
    "SET n = :n REMOVE n",
];

fn merged(mut request: Value, more: Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        match (name.as_str(), request[name].is_object()) {
            ("ExpressionAttributeValues", true) => {
                let values = value.as_object().into_iter().flatten();
                values.for_each(|(key, value)| request[name][key] = value.clone());
            }
            _ => request[name] = value.clone(),
        }
    }
    request["TableName"] = json!(TABLE);
    request
}

/// A write: its kind and itself.
fn write() -> impl Strategy<Value = (&'static str, Value)> {
    let put = item().prop_map(|item| ("Put", json!({ "Item": item })));
    let update = (key(), with_values(UPDATES, "UpdateExpression"))
        .prop_map(|(key, update)| ("Update", merged(update, json!({ "Key": key }))));
    let delete = key().prop_map(|key| ("Delete", json!({ "Key": key })));
    let condition = with_values(CONDITIONS, "ConditionExpression");
    let write = prop_oneof![3 => put, 4 => update, 1 => delete];
    (write, condition, any::<bool>()).prop_map(|((kind, write), condition, returns_old)| {
        let mut write = merged(write, condition);
        if returns_old {
            write["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
        }
        (kind, write)
    })
}

fn transaction() -> impl Strategy<Value = (String, Value)> {
    let check = (key(), with_values(&CONDITIONS[1..], "ConditionExpression"))
        .prop_map(|(key, check)| ("ConditionCheck", merged(check, json!({ "Key": key }))));
    let writes = prop::collection::vec(prop_oneof![4 => write(), 1 => check], 1..4);
    (writes, prop::option::of(select(&["t1", "t2", "t3"][..])), any::<u64>()).prop_map(
        |(writes, token, new)| {
            let writes: Vec<_> =
                writes.into_iter().map(|(kind, write)| json!({ kind: write })).collect();
            let token = token.map_or_else(|| new.to_string(), str::to_owned);
            let request = json!({ "TransactItems": writes, "ClientRequestToken": token });
            ("TransactWriteItems".to_owned(), request)
        },
    )
}

fn query() -> impl Strategy<Value = (String, Value)> {
    const OF_TABLE: &[&str] = &[
        "series = :k",
        "series = :k AND event < :e",
        "series = :k AND event >= :e",
        "event = :e AND series = :k",
    ];
    const OF_INDEX: &[&str] =
        &["part = :s", "part = :s AND since <= :t", "part = :s AND since = :t"];
    let of_table = (select(OF_TABLE), key()).prop_map(|(condition, key)| {
        let mut query = json!({ "KeyConditionExpression": condition, "ConsistentRead": true });
        for (name, key) in [(":k", &key["series"]), (":e", &key["event"])] {
            if condition.contains(name) {
                query["ExpressionAttributeValues"][name] = key.clone();
            }
        }
        query
    });
    let of_index = with_values(OF_INDEX, "KeyConditionExpression")
        .prop_map(|query| merged(query, json!({ "IndexName": INDEX.0 })));
    let limit = prop::option::of(1..3);
    (prop_oneof![of_table, of_index], limit, any::<bool>()).prop_map(|(query, limit, forward)| {
        let mut query = merged(query, json!({ "ScanIndexForward": forward }));
        limit.into_iter().for_each(|limit| query["Limit"] = json!(limit));
        ("Query".to_owned(), query)
    })
}

fn a_call() -> impl Strategy<Value = (String, Value)> {
    let alone = (write(), any::<bool>()).prop_map(|((kind, mut write), returns_new)| {
        if returns_new && kind == "Update" {
            write["ReturnValues"] = json!("ALL_NEW");
        }
        (format!("{kind}Item"), write)
    });
    let get = key().prop_map(|key| {
        let request = json!({ "Key": key, "ConsistentRead": true });
        ("GetItem".to_owned(), merged(request, json!({})))
    });
    let batch = prop::collection::vec(key(), 1..4).prop_map(|keys| {
        let request =
            json!({ "RequestItems": { TABLE: { "Keys": keys, "ConsistentRead": true } } });
        ("BatchGetItem".to_owned(), request)
    });
    let statements = prop::sample::subsequence(vec![("a", "1"), ("a", "2"), ("b", "1")], 1..4)
        .prop_map(|keys| {
            let statement = format!(
                "UPDATE \"{TABLE}\" REMOVE part REMOVE since WHERE \"series\" = ? AND \"event\" = ?"
            );
            let statements = keys.into_iter().map(|(series, event)| {
                json!({ "Statement": statement, "Parameters": [{ "S": series }, { "S": event }] })
            });
            let request = json!({ "Statements": statements.collect::<Vec<_>>() });
            ("BatchExecuteStatement".to_owned(), request)
        });
    prop_oneof![
        4 => alone, 4 => transaction(), 1 => get, 1 => batch, 1 => statements, 3 => query()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_called_the_simulation_answers_as_the_oracle_and_holds_the_same_items(
        mut calls in prop::collection::vec(a_call(), 1..40),
    ) {
        calls.push(("Scan".to_owned(), json!({ "TableName": TABLE, "ConsistentRead": true })));
        let tables: [(&str, &[&str], &[cases::IndexOf]); 1] = [(TABLE, &KEYS, &[INDEX])];
        let answers = compare(calls.clone(), create_table, &tables, Duration::ZERO);
        for ((operation, request), [simulated, oracle]) in calls.iter().zip(answers) {
            if [&simulated, &oracle].map(|answer| &answer["error"])
                == ["ValidationException", "IdempotentParameterMismatchException"]
            {
                // Both are true, and no page says which comes first.
                continue;
            }
            prop_assert_eq!(simulated, oracle, "{} {}", operation, request);
        }
    }
}
