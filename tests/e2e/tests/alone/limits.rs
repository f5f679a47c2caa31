//! Limits per client and address, on a stack that was deployed with `OrdersPerClientHour=50` and `MailsPerAddressDay=4`.

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::primitives::Blob;
use e2e::{ALIAS, Queue, Stack, api::order_body, expect_status};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::{Value, json};

const ORDERS_PER_CLIENT_HOUR: usize = 50;
const MAILS_PER_ADDRESS_DAY: usize = 4;
/// Number of requests under way: each has a process of its own.
const AT_ONCE: usize = 8;

/// Sends an order as the gateway does for a client with this address; the emulators' own gateways have only one client.
async fn order_from(
    stack: &Stack,
    source_ip: &str,
    body: &str,
    key: Option<&str>,
) -> Result<Value> {
    let mut headers = json!({ "content-type": "application/json" });
    if let Some(key) = key {
        headers["idempotency-key"] = key.into();
    }
    let request = json!({
        "resource": "/orders",
        "path": "/orders",
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {},
        "requestContext": {
            "resourcePath": "/orders",
            "httpMethod": "POST",
            "path": "/v1/orders",
            "stage": "v1",
            "requestId": uuid::Uuid::new_v4().to_string(),
            "identity": { "sourceIp": source_ip },
        },
        "body": body,
        "isBase64Encoded": false,
    });
    let invoked = stack.lambda.invoke().function_name(stack.setting("ORDER_API_FUNCTION"));
    let answer = invoked.qualifier(ALIAS).payload(Blob::new(request.to_string())).send().await?;
    ensure!(answer.function_error.is_none(), "{answer:?}");
    Ok(serde_json::from_slice(answer.payload.context("an answer")?.as_ref())?)
}

/// Of an answer; `None` if it has no such header.
fn header<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    answer["headers"][name].as_str().or(answer["multiValueHeaders"][name][0].as_str())
}

#[tokio::test]
async fn a_client_that_has_had_its_orders_is_asked_to_wait_and_no_other_is() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Wanted by a script", "1", 1000).await?;
    let body = order_body("script@example.com", &[(&product, 1)]);
    let key = uuid::Uuid::new_v4().to_string();
    let subnet = "2001:db8:1:2";
    let first = order_from(&stack, &format!("{subnet}::1"), &body, Some(&key)).await?;
    assert_eq!(first["statusCode"], 201, "{first}");
    let addresses: Vec<String> =
        (0..2 * ORDERS_PER_CLIENT_HOUR).map(|n| format!("{subnet}::{:x}", n + 2)).collect();
    let sent = stream::iter(&addresses).map(|address| order_from(&stack, address, &body, None));
    let answers: Vec<Value> = sent.buffer_unordered(AT_ONCE).try_collect().await?;
    let (placed, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer["statusCode"] == 201);
    // Twice that, if the clock's hour ends in between; never all.
    let placed = placed.len() + 1;
    assert!([1, 2].contains(&placed.div_ceil(ORDERS_PER_CLIENT_HOUR)), "{placed} were placed");
    assert!(placed >= ORDERS_PER_CLIENT_HOUR && !refused.is_empty(), "{placed} were placed");
    let refused = refused[0];
    assert_eq!(refused["statusCode"], 429, "{refused}");
    let problem: Value = serde_json::from_str(refused["body"].as_str().context("a body")?)?;
    assert_eq!(problem["type"], "urn:orderflow:problem:throttled");
    let seconds: u64 = header(refused, "retry-after").context("Retry-After")?.parse()?;
    assert!((1..=3600).contains(&seconds), "{seconds}");
    // A repetition is no new order.
    let again = order_from(&stack, &format!("{subnet}::1"), &body, Some(&key)).await?;
    assert_eq!((&again["statusCode"], &again["body"]), (&first["statusCode"], &first["body"]));
    for other in ["2001:db8:1:3::1", "192.0.2.1"] {
        let answer = order_from(&stack, other, &body, None).await?;
        assert_eq!(answer["statusCode"], 201, "{other}: {answer}");
    }
    // Nobody's address is kept.
    let keys = stack.items("IDEMPOTENCY_TABLE").await?;
    let keys: Vec<_> = keys.iter().filter_map(|item| item["key"].as_s().ok()).collect();
    assert!(keys.iter().any(|key| key.starts_with("order-api-client#")), "{keys:?}");
    assert!(
        !keys.iter().any(|key| key.contains("2001:db8") || key.contains("192.0.2")),
        "{keys:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_address_that_has_had_its_mails_gets_no_more_and_its_orders_stand() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Ordered in a stranger's name", "1", 1000).await?;
    let (day, mut flood) = (today(), flood(&stack, &product, "flooded").await?);
    if today() != day {
        // The day has ended in between, and what was counted with it.
        flood = self::flood(&stack, &product, "flooded-tomorrow").await?;
    }
    let (orders, mails) = flood;
    assert_eq!(mails, MAILS_PER_ADDRESS_DAY, "of {}", 2 * orders.len());
    // The others are recorded as handled, and do not come tomorrow.
    for order in &orders {
        for event in ["OrderCreated", "OrderConfirmed"] {
            let event: Value = serde_json::from_str(&stack.event(order, event).await?)?;
            let id = event["event_id"].as_str().context("an id")?;
            let marker = stack
                .item("IDEMPOTENCY_TABLE", "key", &format!("notification-consumer#{id}"))
                .await?;
            let state = marker.context("a marker")?.remove("state");
            assert_eq!(state, Some(AttributeValue::S("done".into())), "{order}");
        }
    }
    Ok(())
}

/// The number of the day (UTC), by which mails are counted.
fn today() -> i64 {
    Timestamp::now().as_second().div_euclid(24 * 60 * 60)
}

/// Three orders of one address, however it is written; how many mails there are of them.
async fn flood(stack: &Stack, product: &str, mailbox: &str) -> Result<(Vec<String>, usize)> {
    let (mut orders, mut mails) = (Vec::new(), 0);
    let address = format!("{mailbox}@example.com");
    let shouted = format!("{}@example.com", mailbox.to_uppercase());
    for address in [&address, &shouted, &address.to_uppercase()] {
        let body = order_body(address, &[(product, 1)]);
        let answer = stack.api.call("POST", "/orders", body).await?;
        expect_status(&answer, 201)?;
        let order = answer.id()?;
        assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
        orders.push(order);
    }
    stack.wait_until_drained(Queue::Notification).await?;
    for order in &orders {
        mails += stack.mails(order).await?.len();
    }
    Ok((orders, mails))
}
