//! Each rule of DynamoDB by itself, in the wire's own words.

use serde_json::{Value, json};

use super::*;
use crate::{Faults, SimulatedAws};

const TABLE: &str = "events";
/// An item with this in it takes 100 units to write, and 25 to read.
const PADDING_BYTES: usize = 100 * 1024 - 100;

fn aws(seed: u64) -> SimulatedAws {
    let aws = SimulatedAws::new(seed, Faults::default());
    aws.create_table(Table {
        name: TABLE.to_owned(),
        keys: vec!["series".to_owned(), "event".to_owned()],
        indexes: vec![Index {
            name: "by_shard".to_owned(),
            keys: ["part".to_owned(), "since".to_owned()],
        }],
    });
    aws
}

/// A kind one, for rules that have nothing to do with chance.
fn kind_aws() -> SimulatedAws {
    let aws = aws(1);
    aws.be_kind();
    aws
}

async fn call(aws: &SimulatedAws, operation: &str, mut request: Value) -> (u16, Value) {
    if !["TransactWriteItems", "BatchGetItem", "BatchExecuteStatement"].contains(&operation) {
        request["TableName"] = json!(TABLE);
    }
    let answer = serve(aws, operation, &request).await;
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

async fn ok(aws: &SimulatedAws, operation: &str, request: Value) -> Value {
    let (status, answer) = call(aws, operation, request).await;
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

/// The exception's name and message.
async fn refused(aws: &SimulatedAws, operation: &str, request: Value) -> (String, String) {
    let (status, answer) = call(aws, operation, request).await;
    assert_eq!(status, 400, "{operation}: {answer}");
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    (text("__type").rsplit('#').next().unwrap_or_default().to_owned(), text("message"))
}

async fn assert_invalid(aws: &SimulatedAws, operation: &str, request: Value, why: &str) {
    let (code, message) = refused(aws, operation, request).await;
    assert_eq!(code, "ValidationException", "{message}");
    assert!(message.contains(why), "{message}");
}

fn key(stream: &str, event: &str) -> Value {
    json!({ "series": { "S": stream }, "event": { "S": event } })
}

fn item(stream: &str, event: &str, more: &[(&str, Value)]) -> Value {
    let mut item = key(stream, event);
    more.iter().for_each(|(name, value)| item[name] = value.clone());
    item
}

fn padded(stream: &str, event: &str) -> Value {
    item(stream, event, &[("padding", json!({ "S": "x".repeat(PADDING_BYTES) }))])
}

fn in_shard(event: &str, shard: &str, since: &str) -> Value {
    item("s", event, &[("part", json!({ "S": shard })), ("since", json!({ "S": since }))])
}

async fn put(aws: &SimulatedAws, item: Value) {
    ok(aws, "PutItem", json!({ "Item": item })).await;
}

fn transaction(token: &str, writes: &[Value]) -> Value {
    json!({ "ClientRequestToken": token, "TransactItems": writes })
}

fn put_in_transaction(item: &Value) -> Value {
    json!({ "Put": { "TableName": TABLE, "Item": item } })
}

fn put_if_new(item: &Value) -> Value {
    json!({ "Put": {
        "TableName": TABLE,
        "Item": item,
        "ConditionExpression": "attribute_not_exists(series)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    } })
}

fn codes(answer: &Value) -> Vec<&str> {
    let reasons = answer["CancellationReasons"].as_array().into_iter().flatten();
    reasons.filter_map(|reason| reason["Code"].as_str()).collect()
}

fn shard_query(more: &[(&str, Value)]) -> Value {
    let mut query = json!({
        "IndexName": "by_shard",
        "KeyConditionExpression": "part = :shard",
        "ExpressionAttributeValues": { ":shard": { "S": "a" } },
    });
    more.iter().for_each(|(name, value)| query[name] = value.clone());
    query
}

fn stream_query(more: &[(&str, Value)]) -> Value {
    let mut query = json!({
        "KeyConditionExpression": "series = :series",
        "ExpressionAttributeValues": { ":series": { "S": "s" } },
        "ConsistentRead": true,
    });
    more.iter().for_each(|(name, value)| query[name] = value.clone());
    query
}

async fn second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_takes_a_thousand_write_units_within_a_second() {
    let aws = kind_aws();
    for event in 0..10 {
        put(&aws, padded("hot", &event.to_string())).await;
    }
    let (status, answer) = call(&aws, "PutItem", json!({ "Item": padded("hot", "more") })).await;
    assert_eq!(
        (status, &answer["__type"]),
        (400, &json!("com.amazonaws.dynamodb.v20120810#ThrottlingException"))
    );
    assert_eq!(answer["throttlingReasons"][0]["reason"], "TableWriteKeyRangeThroughputExceeded");
    put(&aws, padded("cool", "1")).await;
    second().await;
    put(&aws, padded("hot", "more")).await;
    assert_eq!(aws.units().throttled_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_gives_three_thousand_read_units_within_a_second() {
    let aws = kind_aws();
    put(&aws, padded("hot", "1")).await;
    let read =
        |is_consistent: bool| json!({ "Key": key("hot", "1"), "ConsistentRead": is_consistent });
    for _ in 0..119 {
        ok(&aws, "GetItem", read(true)).await;
    }
    // Half a read.
    ok(&aws, "GetItem", read(false)).await;
    ok(&aws, "GetItem", read(false)).await;
    let (code, _) = refused(&aws, "GetItem", read(false)).await;
    assert_eq!(code, "ThrottlingException");
    // Reads and writes are counted by themselves.
    put(&aws, item("hot", "2", &[])).await;
}

#[tokio::test(start_paused = true)]
async fn a_hot_partition_of_an_index_throttles_writes_of_the_table() {
    let aws = kind_aws();
    let wide = |event: u32| {
        let mut item = padded(&event.to_string(), "1");
        (item["part"], item["since"]) = (json!({ "S": "a" }), json!({ "S": "1" }));
        item
    };
    for event in 0..10 {
        put(&aws, wide(event)).await;
    }
    let (status, answer) = call(&aws, "PutItem", json!({ "Item": wide(10) })).await;
    assert_eq!(status, 400);
    assert_eq!(answer["throttlingReasons"][0]["reason"], "IndexWriteKeyRangeThroughputExceeded");
    second().await;
    aws.project_keys_only(TABLE, "by_shard");
    for event in 10..30 {
        put(&aws, wide(event)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_of_a_transaction_takes_twice_its_units_and_is_cancelled_when_throttled() {
    let aws = kind_aws();
    let writes: Vec<_> =
        (0..5).map(|event| put_in_transaction(&padded("hot", &event.to_string()))).collect();
    ok(&aws, "TransactWriteItems", transaction("1", &writes)).await;
    let writes =
        [put_in_transaction(&item("cool", "1", &[])), put_in_transaction(&item("hot", "9", &[]))];
    let (_, answer) = call(&aws, "TransactWriteItems", transaction("2", &writes)).await;
    assert_eq!(codes(&answer), ["None", "ThrottlingError"]);
    assert_eq!(aws.items(TABLE).len(), 5);
    second().await;
    ok(&aws, "TransactWriteItems", transaction("2", &writes)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_throttled_of_a_batch_is_left_unprocessed_and_all_of_it_is_an_exception() {
    let aws = kind_aws();
    put(&aws, padded("hot", "1")).await;
    for _ in 0..120 {
        ok(&aws, "GetItem", json!({ "Key": key("hot", "1"), "ConsistentRead": true })).await;
    }
    let batch = |keys: &[Value]| json!({ "RequestItems": { TABLE: { "Keys": keys, "ConsistentRead": true } } });
    let answer = ok(&aws, "BatchGetItem", batch(&[key("hot", "1"), key("cool", "1")])).await;
    assert_eq!(answer["UnprocessedKeys"][TABLE]["Keys"], json!([key("hot", "1")]));
    assert_eq!(answer["UnprocessedKeys"][TABLE]["ConsistentRead"], true);
    let (code, _) = refused(&aws, "BatchGetItem", batch(&[key("hot", "1")])).await;
    assert_eq!(code, "ThrottlingException");
    second().await;
    let answer = ok(&aws, "BatchGetItem", batch(&[key("hot", "1")])).await;
    assert_eq!(answer["UnprocessedKeys"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn units_are_counted_as_they_are_billed() {
    let aws = kind_aws();
    let mut before = Units::default();
    let mut used = |of: &str| {
        let total = aws.units().by_resource.get(of).copied().unwrap_or_default();
        let used = (total.writes - before.writes, total.half_reads - before.half_reads);
        before = total;
        used
    };
    put(&aws, item("s", "1", &[])).await;
    assert_eq!(used(TABLE), (1, 0), "a new item");
    let update = |expression: &str, values: Value| json!({ "Key": key("s", "1"), "UpdateExpression": expression, "ExpressionAttributeValues": values });
    ok(&aws, "UpdateItem", update("SET note = :n", json!({ ":n": { "S": "x".repeat(1024) } })))
        .await;
    assert_eq!(used(TABLE), (2, 0), "it has grown");
    ok(&aws, "UpdateItem", update("SET note = :n", json!({ ":n": { "S": "x" } }))).await;
    assert_eq!(used(TABLE), (2, 0), "it has shrunk: the larger counts");
    let condition = json!({ "Item": item("s", "1", &[]), "ConditionExpression": "attribute_not_exists(series)" });
    refused(&aws, "PutItem", condition).await;
    assert_eq!(used(TABLE), (1, 0), "a failed condition");
    ok(&aws, "DeleteItem", json!({ "Key": key("s", "none") })).await;
    assert_eq!(used(TABLE), (1, 0), "what is not there");
    ok(&aws, "GetItem", json!({ "Key": key("s", "none") })).await;
    assert_eq!(used(TABLE), (0, 1), "half a read of nothing");
    ok(&aws, "GetItem", json!({ "Key": key("s", "1"), "ConsistentRead": true })).await;
    assert_eq!(used(TABLE), (0, 2), "a consistent read");
    let write = transaction("1", &[put_in_transaction(&item("s", "2", &[]))]);
    ok(&aws, "TransactWriteItems", write.clone()).await;
    assert_eq!(used(TABLE), (2, 0), "prepared and committed");
    ok(&aws, "TransactWriteItems", write).await;
    assert_eq!(used(TABLE), (0, 4), "a token that was used before");
    call(&aws, "TransactWriteItems", transaction("2", &[put_if_new(&item("s", "2", &[]))])).await;
    assert_eq!(used(TABLE), (2, 0), "cancelled");
}

#[tokio::test(start_paused = true)]
async fn an_index_is_written_once_and_twice_when_its_key_changes() {
    let aws = kind_aws();
    aws.project_keys_only(TABLE, "by_shard");
    let mut before = 0;
    let mut used = || {
        let usage = aws.units().by_resource;
        let total = usage.get("events/index/by_shard").map_or(0, |units| units.writes);
        std::mem::replace(&mut before, total).abs_diff(total)
    };
    put(&aws, item("s", "1", &[])).await;
    assert_eq!(used(), 0, "without its keys");
    put(&aws, in_shard("1", "a", "1")).await;
    assert_eq!(used(), 1, "it enters");
    let mut noted = in_shard("1", "a", "1");
    noted["note"] = json!({ "S": "x" });
    put(&aws, noted).await;
    assert_eq!(used(), 0, "what the index does not have has changed");
    put(&aws, in_shard("1", "b", "1")).await;
    assert_eq!(used(), 2, "another key");
    put(&aws, item("s", "1", &[])).await;
    assert_eq!(used(), 1, "it leaves");
}

#[tokio::test(start_paused = true)]
async fn an_item_has_at_most_400_kb() {
    let aws = kind_aws();
    let large = item("s", "1", &[("text", json!({ "S": "x".repeat(400 * 1024) }))]);
    assert_invalid(&aws, "PutItem", json!({ "Item": large }), "maximum allowed size").await;
    let update = json!({
        "Key": key("s", "1"),
        "UpdateExpression": "SET #text = :text",
        "ExpressionAttributeNames": { "#text": "text" },
        "ExpressionAttributeValues": { ":text": large["text"] },
    });
    assert_invalid(&aws, "UpdateItem", update.clone(), "maximum allowed size").await;
    let mut write = update;
    write["TableName"] = json!(TABLE);
    let write = transaction("1", &[json!({ "Update": write })]);
    let (_, answer) = call(&aws, "TransactWriteItems", write).await;
    assert_eq!(codes(&answer), ["ValidationError"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_has_at_most_a_hundred_writes_of_4_mb_and_no_item_twice() {
    let aws = kind_aws();
    let writes = |count: usize| -> Vec<Value> {
        (0..count).map(|event| put_in_transaction(&item("s", &event.to_string(), &[]))).collect()
    };
    ok(&aws, "TransactWriteItems", transaction("1", &writes(100))).await;
    assert_invalid(
        &aws,
        "TransactWriteItems",
        transaction("2", &writes(101)),
        "less than or equal to 100",
    )
    .await;
    let twice = [writes(1), writes(1)].concat();
    assert_invalid(
        &aws,
        "TransactWriteItems",
        transaction("3", &twice),
        "multiple operations on one item",
    )
    .await;
    let large: Vec<_> = (0..11)
        .map(|stream| {
            let text = json!({ "S": "x".repeat(399 * 1024) });
            put_in_transaction(&item(&stream.to_string(), "1", &[("text", text)]))
        })
        .collect();
    assert_invalid(&aws, "TransactWriteItems", transaction("4", &large), "4 MB").await;
    ok(&aws, "TransactWriteItems", transaction("5", &large[..10])).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_reads_at_most_a_hundred_keys_and_16_mb() {
    let aws = kind_aws();
    let batch = |keys: Vec<Value>| json!({ "RequestItems": { TABLE: { "Keys": keys } } });
    let keys =
        |count: usize| (0..count).map(|stream| key(&stream.to_string(), "1")).collect::<Vec<_>>();
    assert_invalid(&aws, "BatchGetItem", batch(keys(101)), "Too many items").await;
    assert_invalid(&aws, "BatchGetItem", batch([keys(1), keys(1)].concat()), "duplicates").await;
    for stream in 0..45 {
        let text = json!({ "S": "x".repeat(399 * 1024) });
        put(&aws, item(&stream.to_string(), "1", &[("text", text)])).await;
    }
    let answer = ok(&aws, "BatchGetItem", batch(keys(45))).await;
    assert_eq!(answer["Responses"][TABLE].as_array().map(Vec::len), Some(41));
    assert_eq!(answer["UnprocessedKeys"][TABLE]["Keys"].as_array().map(Vec::len), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_limit_ends_a_page_and_says_where_to_go_on_even_if_nothing_follows() {
    let aws = kind_aws();
    for event in ["1", "2", "3"] {
        put(&aws, in_shard(event, "a", "same")).await;
    }
    for query in [stream_query, shard_query] {
        for is_forward in [true, false] {
            let (mut read, mut start) = (Vec::new(), Value::Null);
            for _ in 0..3 {
                let mut page =
                    query(&[("Limit", json!(1)), ("ScanIndexForward", json!(is_forward))]);
                if !start.is_null() {
                    page["ExclusiveStartKey"] = start;
                }
                let page = ok(&aws, "Query", page).await;
                read.extend(page["Items"][0]["event"]["S"].as_str().map(str::to_owned));
                start = page["LastEvaluatedKey"].clone();
                assert!(start.is_object(), "{page}");
            }
            let expected = if is_forward { ["1", "2", "3"] } else { ["3", "2", "1"] };
            assert_eq!(read, expected);
            let last = ok(
                &aws,
                "Query",
                query(&[("ExclusiveStartKey", start), ("ScanIndexForward", json!(is_forward))]),
            )
            .await;
            assert_eq!((&last["Count"], &last["LastEvaluatedKey"]), (&json!(0), &Value::Null));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_at_1_mb() {
    let aws = kind_aws();
    for event in 0..15 {
        put(&aws, padded("s", &format!("{event:02}"))).await;
        second().await;
    }
    let page = ok(&aws, "Query", stream_query(&[])).await;
    let start = page["LastEvaluatedKey"].clone();
    assert_eq!((&page["Count"], &start), (&json!(11), &key("s", "10")));
    let count = stream_query(&[("Select", json!("COUNT")), ("ExclusiveStartKey", start)]);
    let rest = ok(&aws, "Query", count).await;
    assert_eq!((&rest["Count"], &rest["Items"]), (&json!(4), &Value::Null));
    let scan = ok(&aws, "Scan", json!({})).await;
    assert_eq!(scan["Count"], 11);
}

#[tokio::test(start_paused = true)]
async fn a_start_must_be_a_key_within_the_query() {
    let aws = kind_aws();
    let start = |key: Value| stream_query(&[("ExclusiveStartKey", key)]);
    assert_invalid(&aws, "Query", start(key("other", "1")), "outside query boundaries").await;
    assert_invalid(
        &aws,
        "Query",
        start(json!({ "series": { "S": "s" } })),
        "starting key is invalid",
    )
    .await;
    assert_invalid(
        &aws,
        "Query",
        stream_query(&[("Limit", json!(0))]),
        "greater than or equal to 1",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_query_wants_its_partition_and_nothing_but_keys() {
    let aws = kind_aws();
    let query = |condition: &str| {
        json!({
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": { ":v": { "S": "s" } },
        })
    };
    for (condition, why) in [
        ("event = :v", "missed key schema element: series"),
        ("series < :v", "not supported"),
        ("series = :v AND note = :v", "missed key schema element: event"),
        ("series = :v AND event = :v AND note = :v", "not supported"),
        ("series = :v OR event = :v", "OR"),
        ("series = :v AND event <> :v", "<>"),
        ("series = :v AND attribute_exists(event)", "Invalid operator"),
    ] {
        assert_invalid(&aws, "Query", query(condition), why).await;
    }
    assert_invalid(
        &aws,
        "Query",
        shard_query(&[("ConsistentRead", json!(true))]),
        "Consistent reads are not supported",
    )
    .await;
    assert_invalid(&aws, "Query", shard_query(&[("IndexName", json!("none"))]), "specified index")
        .await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_texts_that_are_neither_empty_nor_too_long() {
    let aws = kind_aws();
    for (item, why) in [
        (item("", "1", &[]), "empty string value. Key: series"),
        (json!({ "series": { "S": "s" } }), "Missing the key event"),
        (item("s", "1", &[("event", json!({ "N": "1" }))]), "Type mismatch for key event"),
        (item(&"x".repeat(2049), "1", &[]), "Size of hashkey"),
        (item("s", &"x".repeat(1025), &[]), "Size of rangekey"),
        (in_shard("1", "", "1"), "empty string value. IndexName: by_shard"),
        (item("s", "1", &[("part", json!({ "N": "1" }))]), "Type mismatch for Index Key part"),
    ] {
        assert_invalid(&aws, "PutItem", json!({ "Item": item }), why).await;
    }
    for wrong in
        [json!({ "series": { "S": "s" } }), item("s", "1", &[("note", json!({ "S": "x" }))])]
    {
        assert_invalid(&aws, "GetItem", json!({ "Key": wrong }), "does not match the schema").await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_not_updated_and_nothing_unused_is_sent() {
    let aws = kind_aws();
    let update = |expression: &str, values: Value| json!({ "Key": key("s", "1"), "UpdateExpression": expression, "ExpressionAttributeValues": values });
    let value = || json!({ ":v": { "S": "x" } });
    assert_invalid(&aws, "UpdateItem", update("SET event = :v", value()), "part of the key").await;
    assert_invalid(&aws, "UpdateItem", update("REMOVE note", value()), "unused in expressions")
        .await;
    assert_invalid(&aws, "UpdateItem", update("REMOVE note", json!({})), "must not be empty").await;
    let without = json!({ "Item": item("s", "1", &[]), "ExpressionAttributeNames": { "#a": "a" } });
    assert_invalid(&aws, "PutItem", without, "only be specified when using expressions").await;
    let sum = update("SET count_of = count_of + :v", json!({ ":v": { "N": "1" } }));
    assert_invalid(&aws, "UpdateItem", sum, "does not exist in the item").await;
    let mut new = json!({ "Item": item("s", "1", &[]) });
    new["ReturnValues"] = json!("ALL_NEW");
    assert_invalid(&aws, "PutItem", new, "Return values").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_simulated_is_refused_loudly() {
    let aws = kind_aws();
    for (operation, request) in [
        ("BatchWriteItem", json!({})),
        ("Query", stream_query(&[("FilterExpression", json!("a = :series"))])),
        ("GetItem", json!({ "Key": key("s", "1"), "ProjectionExpression": "a" })),
        ("PutItem", json!({ "Item": item("s", "1", &[("set", json!({ "SS": ["a"] }))]) })),
        ("UpdateItem", json!({ "Key": key("s", "1"), "ReturnValues": "UPDATED_NEW" })),
    ] {
        assert_eq!(call(&aws, operation, request).await.0, 501, "{operation}");
    }
    let unknown =
        serve(&aws, "GetItem", &json!({ "TableName": "none", "Key": key("s", "1") })).await;
    assert!(unknown.body.contains("ResourceNotFoundException"), "{}", unknown.body);
}

#[tokio::test(start_paused = true)]
async fn an_expired_item_stays_visible_for_up_to_two_days_and_then_goes_by_itself() {
    let hour = Duration::from_secs(60 * 60);
    let mut stayed = Vec::new();
    for seed in 0..20 {
        let aws = aws(seed);
        aws.set_time_to_live(TABLE, "expires_at");
        let in_an_hour = json!({ "N": (aws.now() + hour).as_secs().to_string() });
        put(&aws, item("s", "1", &[("expires_at", in_an_hour.clone())])).await;
        let text = json!({ "S": in_an_hour["N"] });
        put(&aws, item("s", "text", &[("expires_at", text)])).await;
        put(&aws, item("s", "ages ago", &[("expires_at", json!({ "N": "1" }))])).await;
        put(&aws, item("s", "renewed", &[("expires_at", in_an_hour)])).await;
        let later = json!({ "N": (aws.now() + 100 * hour).as_secs().to_string() });
        put(&aws, item("s", "renewed", &[("expires_at", later)])).await;
        let written = aws.units().total.writes;
        tokio::time::sleep(hour).await;
        let mut hours = 0;
        while aws.items(TABLE).len() == 4 {
            tokio::time::sleep(hour).await;
            hours += 1;
        }
        let last = tokio::time::Instant::now();
        assert!((1..=48).contains(&hours), "{hours}");
        assert_eq!(aws.units().total.writes, written);
        tokio::time::sleep_until(last + 48 * hour).await;
        let left: Vec<_> =
            aws.items(TABLE).into_iter().map(|item| item["event"]["S"].clone()).collect();
        assert_eq!(left, ["ages ago", "renewed", "text"]);
        stayed.push(hours);
    }
    assert!(
        stayed.iter().any(|hours| *hours < 12) && stayed.iter().any(|hours| *hours > 36),
        "{stayed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_item_still_fails_a_condition() {
    let aws = aws(1);
    aws.set_time_to_live(TABLE, "expires_at");
    let now = json!({ "N": aws.now().as_secs().to_string() });
    let item = item("s", "1", &[("expires_at", now)]);
    put(&aws, item.clone()).await;
    second().await;
    let again = json!({ "Item": item, "ConditionExpression": "attribute_not_exists(series)" });
    let (code, _) = refused(&aws, "PutItem", again).await;
    assert_eq!(code, "ConditionalCheckFailedException");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_idempotent_for_ten_minutes_and_stands_for_the_same_writes() {
    let aws = kind_aws();
    let write = |event: &str| [put_if_new(&item("s", event, &[]))];
    ok(&aws, "TransactWriteItems", transaction("token", &write("1"))).await;
    ok(&aws, "TransactWriteItems", transaction("token", &write("1"))).await;
    let (code, _) = refused(&aws, "TransactWriteItems", transaction("token", &write("2"))).await;
    assert_eq!(code, "IdempotentParameterMismatchException");
    tokio::time::sleep(Duration::from_secs(599)).await;
    ok(&aws, "TransactWriteItems", transaction("token", &write("1"))).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (_, answer) = call(&aws, "TransactWriteItems", transaction("token", &write("1"))).await;
    assert_eq!(codes(&answer), ["ConditionalCheckFailed"]);
    assert_eq!(answer["CancellationReasons"][0]["Item"], item("s", "1", &[]));
    let long = "x".repeat(37);
    assert_invalid(&aws, "TransactWriteItems", transaction(&long, &write("3")), "between 1 and 36")
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_in_progress_until_its_transaction_ends_and_free_after_a_cancellation() {
    let aws = kind_aws();
    put(&aws, item("s", "taken", &[])).await;
    let cancelled = transaction("token", &[put_if_new(&item("s", "taken", &[]))]);
    let under_way = tokio::spawn({
        let (aws, cancelled) = (aws.clone(), cancelled.clone());
        async move { serve(&aws, "TransactWriteItems", &cancelled).await.status }
    });
    tokio::task::yield_now().await;
    let (code, _) = refused(&aws, "TransactWriteItems", cancelled).await;
    assert_eq!(code, "TransactionInProgressException");
    assert_eq!(under_way.await.expect("it ends"), 400);
    ok(&aws, "TransactWriteItems", transaction("token", &[put_if_new(&item("s", "free", &[]))]))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_holds_its_items_against_transactions_and_plain_writes() {
    let aws = kind_aws();
    put(&aws, item("s", "2", &[])).await;
    let held = item("s", "1", &[]);
    let under_way = tokio::spawn({
        let (aws, write) = (aws.clone(), transaction("1", &[put_if_new(&held)]));
        async move { serve(&aws, "TransactWriteItems", &write).await.status }
    });
    tokio::task::yield_now().await;
    let writes = [
        put_in_transaction(&item("s", "3", &[])),
        put_if_new(&held),
        put_if_new(&item("s", "2", &[])),
    ];
    let (_, answer) = call(&aws, "TransactWriteItems", transaction("2", &writes)).await;
    assert_eq!(codes(&answer), ["None", "TransactionConflict", "ConditionalCheckFailed"]);
    let (code, _) = refused(&aws, "PutItem", json!({ "Item": held })).await;
    assert_eq!(code, "TransactionConflictException");
    // Nothing of it can be read before it ends.
    let read = ok(&aws, "GetItem", json!({ "Key": key("s", "1"), "ConsistentRead": true })).await;
    assert_eq!(read, json!({}));
    assert_eq!(under_way.await.expect("it ends"), 200);
    ok(&aws, "PutItem", json!({ "Item": held })).await;
}

#[tokio::test(start_paused = true)]
async fn not_every_reason_of_a_cancellation_is_reported_but_one_is() {
    let aws = aws(7);
    for event in ["1", "2", "3"] {
        put(&aws, item("s", event, &[])).await;
    }
    let writes: Vec<_> =
        ["1", "2", "3"].iter().map(|event| put_if_new(&item("s", event, &[]))).collect();
    let mut reported = BTreeSet::new();
    for token in 0..40 {
        let (_, answer) =
            call(&aws, "TransactWriteItems", transaction(&token.to_string(), &writes)).await;
        reported.insert(codes(&answer).iter().filter(|code| **code != "None").count());
    }
    assert_eq!(reported, BTreeSet::from([1, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn an_index_and_reads_without_consistency_are_behind_each_item_and_reader_by_itself() {
    let (mut overtaken, mut apart) = (false, false);
    for seed in 0..20 {
        let aws = aws(seed);
        put(&aws, in_shard("1", "a", "1")).await;
        put(&aws, in_shard("2", "a", "2")).await;
        let read = json!({ "Key": key("s", "1") });
        let mut consistent = read.clone();
        consistent["ConsistentRead"] = json!(true);
        assert!(ok(&aws, "GetItem", consistent).await["Item"].is_object());
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let page = ok(&aws, "Query", shard_query(&[])).await;
            let events: Vec<_> = page["Items"].as_array().into_iter().flatten().collect();
            overtaken |= events.len() == 1 && events[0]["event"]["S"] == "2";
            let is_read = ok(&aws, "GetItem", read.clone()).await["Item"].is_object();
            apart |= is_read != events.iter().any(|event| event["event"]["S"] == "1");
        }
        assert_eq!(ok(&aws, "Query", shard_query(&[])).await["Count"], 2);
    }
    assert!(overtaken, "the later item is never there first");
    assert!(apart, "the index is always as far behind as the table's readers");
}

#[tokio::test(start_paused = true)]
async fn of_an_index_items_with_the_same_sort_key_are_in_no_order_and_pages_still_have_each_once() {
    let aws = aws(1);
    for event in 0..8 {
        put(&aws, in_shard(&event.to_string(), "a", "same")).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut read, mut start) = (Vec::new(), Value::Null);
    loop {
        let mut page = shard_query(&[("Limit", json!(3))]);
        if !start.is_null() {
            page["ExclusiveStartKey"] = start;
        }
        let page = ok(&aws, "Query", page).await;
        let items = page["Items"].as_array().into_iter().flatten();
        read.extend(items.filter_map(|item| item["event"]["S"].as_str().map(str::to_owned)));
        start = page["LastEvaluatedKey"].clone();
        if start.is_null() {
            break;
        }
    }
    let mut sorted = read.clone();
    sorted.sort_unstable();
    assert_ne!(read, sorted);
    assert_eq!(sorted, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn an_index_may_have_what_is_gone_and_only_keys() {
    let aws = aws(3);
    aws.project_keys_only(TABLE, "by_shard");
    let mut noted = in_shard("1", "a", "1");
    noted["note"] = json!({ "S": "x" });
    put(&aws, noted).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ok(&aws, "DeleteItem", json!({ "Key": key("s", "1") })).await;
    let page = ok(&aws, "Query", shard_query(&[])).await;
    assert_eq!(page["Items"], json!([in_shard("1", "a", "1")]));
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(ok(&aws, "Query", shard_query(&[])).await["Count"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_scan_reads_every_item_once_page_by_page_as_far_as_it_wants() {
    let aws = kind_aws();
    for stream in ["a", "b", "c"] {
        for event in ["1", "2"] {
            put(&aws, item(stream, event, &[("note", json!({ "S": "x" }))])).await;
        }
    }
    let (mut read, mut start) = (Vec::new(), Value::Null);
    loop {
        let mut scan = json!({
            "Limit": 1, "ProjectionExpression": "#s, event", "ExpressionAttributeNames": { "#s": "series" },
        });
        if !start.is_null() {
            scan["ExclusiveStartKey"] = start;
        }
        let page = ok(&aws, "Scan", scan).await;
        read.extend(page["Items"].as_array().into_iter().flatten().cloned());
        start = page["LastEvaluatedKey"].clone();
        if start.is_null() {
            break;
        }
    }
    let mut keys: Vec<_> = read.iter().map(Value::to_string).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((read.len(), keys.len()), (6, 6));
    assert_eq!(read[0].as_object().map(serde_json::Map::len), Some(2));
}

fn removing(events: &[&str]) -> Value {
    let statement = format!(
        "UPDATE \"{TABLE}\" REMOVE part REMOVE since WHERE \"series\" = ? AND \"event\" = ?"
    );
    let statements = events
        .iter()
        .map(
            |event| json!({ "Statement": statement, "Parameters": [{ "S": "s" }, { "S": event }] }),
        )
        .collect::<Vec<_>>();
    json!({ "Statements": statements })
}

/// The code of each statement's error, or nothing.
async fn executed(aws: &SimulatedAws, request: Value) -> Vec<String> {
    let answer = ok(aws, "BatchExecuteStatement", request).await;
    let responses = answer["Responses"].as_array().expect("responses");
    let code = |response: &Value| response["Error"]["Code"].as_str().unwrap_or_default().to_owned();
    responses.iter().map(code).collect()
}

#[tokio::test(start_paused = true)]
async fn each_statement_of_a_batch_is_carried_out_for_itself_and_makes_no_item() {
    let aws = kind_aws();
    for event in ["1", "2", "3"] {
        put(&aws, in_shard(event, "a", "t")).await;
    }
    assert_eq!(
        executed(&aws, removing(&["1", "none", "2"])).await,
        ["", "ConditionalCheckFailed", ""]
    );
    // Once more changes nothing.
    assert_eq!(executed(&aws, removing(&["1"])).await, [""]);
    assert_eq!(aws.item(TABLE, &key("s", "1")), normal_item(&key("s", "1")).ok());
    assert_eq!(aws.item(TABLE, &key("s", "none")), None);
    let page = ok(&aws, "Query", shard_query(&[])).await;
    assert_eq!(page["Count"], 1, "{page}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_to_25_statements_of_one_form_each_about_another_item() {
    let aws = kind_aws();
    let numbers: Vec<String> = (0..26).map(|number| number.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    assert_eq!(executed(&aws, removing(&numbers[..25])).await.len(), 25);
    for request in [removing(&numbers), removing(&[])] {
        assert_invalid(&aws, "BatchExecuteStatement", request, "less than or equal to 25").await;
    }
    let twice = removing(&["1", "1"]);
    assert_invalid(&aws, "BatchExecuteStatement", twice, "contains duplicates").await;
    let mut insert = removing(&["1"]);
    insert["Statements"][0]["Statement"] = json!("INSERT INTO events VALUE {'series': ?}");
    let (status, answer) = call(&aws, "BatchExecuteStatement", insert).await;
    assert_eq!(status, 501, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_statement_is_its_own_error() {
    let aws = kind_aws();
    put(&aws, in_shard("1", "a", "t")).await;
    let changed = |from: &str, to: &str| {
        let mut request = removing(&["2", "1"]);
        let statement = request["Statements"][0]["Statement"].as_str().expect("a statement");
        request["Statements"][0]["Statement"] = json!(statement.replace(from, to));
        request
    };
    let no_table = executed(&aws, changed(TABLE, "none")).await;
    assert_eq!(no_table, ["ResourceNotFound", ""]);
    let no_key = executed(&aws, changed("\"series\"", "\"part\"")).await;
    assert_eq!(no_key, ["ValidationError", ""]);
}

#[tokio::test(start_paused = true)]
async fn a_statement_may_be_throttled_or_meet_a_transaction_while_the_others_are_carried_out() {
    let aws = kind_aws();
    put(&aws, in_shard("1", "a", "t")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let transaction = transaction("t", &[put_in_transaction(&in_shard("1", "a", "t"))]);
    let (_, codes) = tokio::join!(call(&aws, "TransactWriteItems", transaction), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        executed(&aws, removing(&["1", "2"])).await
    });
    assert_eq!(codes, ["TransactionConflict", "ConditionalCheckFailed"]);
    // One item of 100 units after the other, until the partition bears no more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut large = padded("s", "9");
    large["part"] = json!({ "S": "a" });
    for _ in 0..9 {
        put(&aws, large.clone()).await;
    }
    let codes = executed(&aws, removing(&["1", "9"])).await;
    assert_eq!(codes, ["", "ThrottlingError"]);
}

#[tokio::test(start_paused = true)]
async fn statements_use_the_units_of_the_updates_that_they_are() {
    let units = async |by_statement: bool| {
        let aws = kind_aws();
        put(&aws, in_shard("1", "a", "t")).await;
        let before = aws.units().total.writes;
        if by_statement {
            executed(&aws, removing(&["1", "none"])).await;
        } else {
            for event in ["1", "none"] {
                let request = json!({
                    "Key": key("s", event),
                    "UpdateExpression": "REMOVE part, since",
                    "ConditionExpression": "attribute_exists(series)",
                });
                call(&aws, "UpdateItem", request).await;
            }
        }
        aws.units().total.writes - before
    };
    assert_eq!(units(true).await, units(false).await);
    // The table's, the index entry's, and that of the failed condition.
    assert_eq!(units(true).await, 3);
}

#[tokio::test(start_paused = true)]
async fn statements_fail_by_themselves_as_often_as_entries_of_batches_do() {
    let aws = aws(1);
    put(&aws, in_shard("1", "a", "t")).await;
    aws.set_faults(Faults { partial: 1000, ..Faults::default() });
    let codes = executed(&aws, removing(&["1"])).await;
    assert!(
        ["ThrottlingError", "TransactionConflict", "InternalServerError"].contains(&&*codes[0])
    );
    assert!(aws.item(TABLE, &key("s", "1")).is_some_and(|item| item.contains_key("part")));
}
