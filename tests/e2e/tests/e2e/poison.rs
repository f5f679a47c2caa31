//! Messages that no retry can save: each is moved to the DLQ as it came, with its reason, has no effect, and
//! holds up nobody.
//!
//! Invalid UTF-8 and empty bodies are tested with the reader itself, because SQS takes neither.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use e2e::{Capability, Queue, Seconds, Stack, eventually};
use events::{Body, Event};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// Number of messages that are sent at a time.
const SENDERS: usize = 8;
/// What SQS, and so an event, had as its largest body for most of its life, in bytes.
const LARGE_BYTES: usize = 256_000;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The fields of an event and its parts, in the order of the types.
const ENVELOPE: [&str; 7] =
    ["event_type", "event_id", "event_version", "timestamp", "source", "correlation_id", "data"];
const ORDER: [&str; 5] = ["order_id", "items", "total_price", "currency", "customer_email"];
const LINE: [&str; 5] = ["product_id", "product_name", "quantity", "unit_price", "line_total"];

/// A malformed message: where it is sent, the reason it has to be given, and what it is.
struct Case {
    queue: Queue,
    reason: &'static str,
    body: String,
}

/// An OrderCreated of a product, of an order that nobody knows.
fn good(product: &str) -> Result<String> {
    let sample = include_str!("../../../../events/samples/OrderCreated.json");
    let mut event = Event::decode(sample.as_bytes())?;
    event.id = Uuid::now_v7();
    if let Body::OrderCreated(order) = &mut event.body {
        order.order_id = Uuid::new_v4().into();
        order.items[0].product_id = product.parse()?;
    }
    Ok(event.encode())
}

/// Every way of being malformed, for the queue `product`.
fn malformed(good: &str) -> Result<Vec<(&'static str, String)>> {
    let json: Value = serde_json::from_str(good)?;
    // As text: parsed and written again, the fields have another order.
    let (_, data) = good.split_once("\"data\":").context("data, the last field")?;
    let data = &data[..data.len() - 1];
    let (id, order) = (json["event_id"].to_string(), json["data"]["order_id"].to_string());
    // Fails if the sample no longer has what is to be replaced: the case would be a good message.
    let with = |from: &str, to: &str| {
        let changed = good.replacen(from, to, 1);
        ensure!(changed != good, "the event has no {from}");
        Ok(changed)
    };
    let without = |field: &str| {
        let mut json = json.clone();
        json.as_object_mut().and_then(|json| json.remove(field));
        json.to_string()
    };
    let data_without = |field: &str| {
        let mut json = json.clone();
        json["data"].as_object_mut().and_then(|data| data.remove(field));
        json.to_string()
    };
    let correlation_id = json["correlation_id"].to_string();
    let (_, items) = data.split_once("\"items\":").context("items")?;
    let items = &items[..=items.find(']').context("the end of the items")?];
    let line = &items[1..items.len() - 1];
    let email = r#""test@example.com""#;
    let time = r#""2025-11-20T10:35:00.123Z""#;
    let wrapped = serde_json::json!({
        "Type": "Notification",
        "MessageId": Uuid::new_v4(),
        "TopicArn": "arn:aws:sns:us-east-1:000000000000:orders",
        "Message": good,
        "Timestamp": "2025-11-20T10:35:00.123Z",
    });
    let digits = "9".repeat(300);
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    Ok(vec![
        // Not JSON.
        ("not_json", good[..good.len() / 2].into()),
        ("not_json", good[..good.trim_end().len() - 1].into()),
        ("not_json", good[..1].into()),
        ("not_json", format!("{good}}}")),
        ("not_json", format!("{good}{good}")),
        ("not_json", format!("\u{feff}{good}")),
        ("not_json", "   ".into()),
        ("not_json", "not JSON".into()),
        ("not_json", "<event type=\"OrderCreated\"/>".into()),
        ("not_json", "event_type: OrderCreated".into()),
        ("not_json", good.replace('"', "'")),
        ("not_json", with("\"event_type\"", "event_type")?),
        ("not_json", with(r#""quantity":5"#, r#""quantity":05"#)?),
        ("not_json", with(r#""quantity":5"#, r#""quantity":+5"#)?),
        ("not_json", with(r#""quantity":5"#, r#""quantity":"#)?),
        ("not_json", "[".repeat(10_000)),
        ("not_json", "{\"a\":".repeat(10_000)),
        ("not_json", "x".repeat(LARGE_BYTES)),
        (
            "not_json",
            with("Test Laptop", &"x".repeat(LARGE_BYTES - 2000))?[..LARGE_BYTES - 2000].into(),
        ),
        // JSON, but no envelope.
        ("schema", "null".into()),
        ("schema", "true".into()),
        ("schema", "0".into()),
        ("schema", digits.clone()),
        ("schema", "\"OrderCreated\"".into()),
        ("schema", "[]".into()),
        ("schema", "{}".into()),
        ("schema", format!("[{good}]")),
        ("schema", serde_json::to_string(good)?),
        ("schema", wrapped.to_string()),
        ("schema", data.into()),
        ("schema", deep(100)),
        ("schema", deep(5000)),
        ("schema", without("event_type")),
        ("schema", without("event_version")),
        ("schema", without("event_id")),
        ("schema", without("timestamp")),
        ("schema", without("source")),
        ("schema", without("correlation_id")),
        ("schema", without("data")),
        ("schema", with("\"OrderCreated\"", "7")?),
        ("schema", with("\"OrderCreated\"", "null")?),
        ("schema", with("\"1.0\"", "1.0")?),
        ("schema", with(&id, "\"no-uuid\"")?),
        ("schema", with(&id, "7")?),
        ("schema", with(&id, &id.replace('-', ""))?),
        ("schema", with(&id, &format!("\"{{{}}}\"", id.trim_matches('"')))?),
        ("schema", with("order-service", "product-service")?),
        ("schema", with(&correlation_id, "\"\"")?),
        ("schema", with(&correlation_id, "\"a b\"")?),
        ("schema", with(&correlation_id, &format!("\"{}\"", "x".repeat(129)))?),
        ("schema", with(&correlation_id, &format!("\"{}\"", "x".repeat(200_000)))?),
        ("schema", positional(&json, &ENVELOPE)),
        ("schema", with(time, "\"2025-11-20 10:35:00Z\"")?),
        ("schema", with(time, "\"yesterday\"")?),
        ("schema", with(time, "1763634900")?),
        ("schema", with(time, "\"2025-13-45T99:99:99Z\"")?),
        // An envelope, but of something else.
        ("unknown_type", with("OrderCreated", "OrderTeleported")?),
        ("unknown_type", with("OrderCreated", "ordercreated")?),
        ("unknown_type", with("OrderCreated", "")?),
        ("unknown_type", with("OrderCreated", &"x".repeat(LARGE_BYTES - 2000))?),
        ("unsupported_version", with("\"1.0\"", "\"2.0\"")?),
        ("unsupported_version", with("\"1.0\"", "\"+1.0\"")?),
        ("unsupported_version", with("\"1.0\"", "\"01.0\"")?),
        ("unsupported_version", with("\"1.0\"", "\"0.9\"")?),
        ("unsupported_version", with("\"1.0\"", "\"1\"")?),
        ("unsupported_version", with("\"1.0\"", "\"one\"")?),
        ("unsupported_version", with("\"1.0\"", "\"\"")?),
        ("unsupported_version", with("\"1.0\"", &format!("\"{digits}.0\""))?),
        // The right envelope around the wrong data.
        ("schema", with(data, "null")?),
        ("schema", with(data, "[]")?),
        ("schema", with(data, "{}")?),
        ("schema", with(data, &deep(5000))?),
        ("schema", data_without("order_id")),
        ("schema", data_without("items")),
        ("schema", data_without("total_price")),
        ("schema", data_without("currency")),
        ("schema", data_without("customer_email")),
        ("schema", with(&order, "\"a b\"")?),
        ("schema", with(&order, &format!("\"{}\"", "x".repeat(65)))?),
        ("schema", with(r#""quantity":5"#, r#""quantity":0"#)?),
        ("schema", with(r#""quantity":5"#, r#""quantity":-5"#)?),
        ("schema", with(r#""quantity":5"#, r#""quantity":1.5"#)?),
        ("schema", with(r#""quantity":5"#, r#""quantity":"5""#)?),
        ("schema", with(r#""quantity":5"#, r#""quantity":1001"#)?),
        ("schema", with(r#""quantity":5"#, r#""quantity":18446744073709551616"#)?),
        ("schema", with(r#""quantity":5"#, &format!(r#""quantity":{digits}"#))?),
        ("schema", with(r#""unit_price":1000.00"#, r#""unit_price":-1"#)?),
        ("schema", with(r#""unit_price":1000.00"#, r#""unit_price":0.001"#)?),
        ("schema", with(r#""unit_price":1000.00"#, r#""unit_price":1e300"#)?),
        ("schema", with(r#""unit_price":1000.00"#, r#""unit_price":"1000.00""#)?),
        ("schema", with("UAH", "hryvnia")?),
        ("schema", with(email, "\"nobody\"")?),
        ("schema", with(email, "\"a@example.com\\r\\nBcc: b@example.com\"")?),
        ("schema", with(email, "null")?),
        ("schema", with(data, &positional(&json["data"], &ORDER))?),
        ("schema", with(items, "[]")?),
        ("schema", with(items, &format!("[{line},{line}]"))?),
        ("schema", with(line, &positional(&json["data"]["items"][0], &LINE))?),
        ("schema", with(r#""line_total":5000.00"#, r#""line_total":5000.01"#)?),
        ("schema", with(r#""total_price":5000.00"#, r#""total_price":0.01"#)?),
        ("schema", with(email, "\"a@b!c.com\"")?),
        ("schema", with("Test Laptop", "a\\ufffe")?),
        ("schema", with("Test Laptop", "")?),
        ("schema", with("Test Laptop", "a\\u0000b")?),
        ("schema", with("Test Laptop", &"x".repeat(LARGE_BYTES - 2000))?),
    ])
}

/// The values of an object without their names, in the order in which the types have them.
fn positional(object: &Value, names: &[&str]) -> String {
    names.iter().map(|name| object[*name].clone()).collect::<Value>().to_string()
}

fn mark(run: &str, number: usize) -> String {
    format!("{run}-{number}")
}

async fn send(stack: &Stack, case: &Case, mark: &str) -> Result<()> {
    let text = |value: &str| {
        MessageAttributeValue::builder().data_type("String").string_value(value).build()
    };
    stack
        .sqs
        .send_message()
        .queue_url(stack.queue(case.queue))
        .message_body(&case.body)
        .message_attributes("case", text(mark)?)
        .message_attributes("correlation_id", text(&format!("correlation of {mark}"))?)
        .message_attributes("event_type", text("OrderCreated")?)
        .message_attributes("event_version", text("1.0")?)
        .message_attributes("traceparent", text(TRACEPARENT)?)
        .send()
        .await?;
    Ok(())
}

/// Takes the dead letters of this run from a DLQ until there are `count`; others' stay.
async fn take_dead(
    stack: &Stack,
    queue: Queue,
    run: &str,
    count: usize,
) -> Result<HashMap<String, Message>> {
    let found = std::sync::Mutex::new(HashMap::new());
    let subject = format!("{count} dead letters in the DLQ of {}", queue.name());
    eventually(&subject, 120.secs(), async || {
        let answer = stack
            .sqs
            .receive_message()
            .queue_url(stack.dlq(queue))
            .max_number_of_messages(10)
            .visibility_timeout(1)
            .wait_time_seconds(1)
            .message_attribute_names("All")
            .send()
            .await?;
        for message in answer.messages.unwrap_or_default() {
            let Some(mark) = attribute(&message, "case").filter(|mark| mark.starts_with(run))
            else {
                continue;
            };
            let receipt = message.receipt_handle().context("a receipt")?;
            let delete = stack.sqs.delete_message().queue_url(stack.dlq(queue));
            delete.receipt_handle(receipt).send().await?;
            found.lock().expect("no test panics with it").insert(mark.to_owned(), message.clone());
        }
        let mut found = found.lock().expect("no test panics with it");
        Ok((found.len() == count).then(|| std::mem::take(&mut *found)))
    })
    .await
}

fn attribute<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.message_attributes()?.get(name)?.string_value()
}

#[tokio::test]
async fn each_malformed_message_lands_in_its_dlq_with_its_reason_and_the_next_good_one_is_handled()
-> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::DeliversBodiesAsTheyAre) {
        return Ok(());
    }
    let begun = Timestamp::now();
    let product = stack.api.product("Unpoisoned", "10", 10).await?;
    let good = good(&product)?;
    let on = |queue| move |(reason, body)| Case { queue, reason, body };
    let mut cases: Vec<Case> = malformed(&good)?.into_iter().map(on(Queue::Product)).collect();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    // The other consumers read events by the same reader: every fifth case shows that they ask it.
    for queue in [Queue::Notification, Queue::Order, Queue::Analytics] {
        cases.extend(malformed(&good)?.into_iter().step_by(5).map(on(queue)));
    }
    let stock = include_str!("../../../../events/samples/StockReserved.json");
    let of_nobody = stock.replace("3b241101-e2bb-4255-8caf-4136c566a962", "no-such-order");
    cases.push(Case { queue: Queue::Order, reason: "unknown_order", body: of_nobody });

    let run = Uuid::new_v4().to_string();
    stream::iter(cases.iter().enumerate())
        .map(|(number, case)| {
            let (stack, mark) = (&stack, mark(&run, number));
            async move { send(stack, case, &mark).await }
        })
        .buffer_unordered(SENDERS)
        .try_collect::<Vec<()>>()
        .await?;

    let mut dead = HashMap::new();
    for queue in Queue::ALL {
        let count = cases.iter().filter(|case| case.queue == queue).count();
        dead.extend(take_dead(&stack, queue, &run, count).await?);
    }
    for (number, case) in cases.iter().enumerate() {
        let shown: String = case.body.chars().take(120).collect();
        let shown = format!("case {number} on {}: {shown}", case.queue.name());
        let mark = mark(&run, number);
        let letter = dead.get(&mark).with_context(|| format!("no dead letter of {shown}"))?;
        let wanted = |name| attribute(letter, name).with_context(|| format!("no {name}: {shown}"));
        assert_eq!(wanted("failure_reason")?, case.reason, "{shown}");
        assert!(!wanted("failure_detail")?.trim().is_empty(), "{shown}");
        let first_failed_at: Timestamp = wanted("first_failed_at")?.parse()?;
        // In whole milliseconds.
        let since_begun = begun.as_millisecond()..=Timestamp::now().as_millisecond();
        assert!(since_begun.contains(&first_failed_at.as_millisecond()), "{shown}");
        let attempts: u32 = wanted("attempts")?.parse()?;
        match case.reason {
            // A deployment that knows it may be under way: it is tried again for ten seconds.
            "unknown_type" | "unsupported_version" => assert!(attempts >= 2, "{attempts}: {shown}"),
            _ => assert_eq!(attempts, 1, "{shown}"),
        }
        // A message keeps five attributes beside those of its failure.
        assert_eq!(wanted("correlation_id")?, format!("correlation of {mark}"), "{shown}");
        assert_eq!(wanted("event_type")?, "OrderCreated", "{shown}");
        assert_eq!(wanted("event_version")?, "1.0", "{shown}");
        assert_eq!(wanted("traceparent")?, TRACEPARENT, "{shown}");
        assert!(letter.body() == Some(&case.body), "another body: {shown}");
    }

    // All consumers still do their work, and no malformed message had an effect.
    let order = stack.api.order("after-poison@example.com", &[(&product, 3)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    stack.wait_for_mails(&order, 2).await?;
    assert_eq!(stack.api.stock(&product).await?, 7, "3 for the good order, none for the others");
    Ok(())
}
