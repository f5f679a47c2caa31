//! Every way an order can go.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use e2e::{Capability, Queue, Seconds, Stack, eventually, expect_status, new_event};
use events::{Body, Event, Order, OrderId, RejectedStock, Stock, StockLine};
use futures::future::try_join_all;
use serde_json::Value;

async fn cancel(stack: &Stack, order: &str) -> Result<u16> {
    Ok(stack.api.cancel(order).await?.status)
}

async fn ship(stack: &Stack, order: &str) -> Result<u16> {
    Ok(stack.api.admin("POST", &format!("/orders/{order}/ship"), "").await?.status)
}

#[tokio::test]
async fn a_confirmed_order_that_is_cancelled_gives_its_stock_back_once() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Returned", "10", 10).await?;
    let order = stack.api.order("returned@example.com", &[(&product, 4)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 6);
    assert_eq!(cancel(&stack, &order).await?, 200);
    stack.api.wait_for_stock(&product, 10).await?;
    assert_eq!(cancel(&stack, &order).await?, 200, "it is so already");
    let event = stack.event(&order, "OrderCancelled").await?;
    try_join_all((0..5).map(|_| stack.publish(&event))).await?;
    stack.wait_until_drained(Queue::Product).await?;
    assert_eq!(stack.api.stock(&product).await?, 10);
    assert_eq!(
        stack.api.reported_events(&order).await?,
        ["OrderCreated", "StockReserved", "OrderConfirmed", "OrderCancelled", "StockReleased"]
    );
    eventually("the mail of the cancellation", 120.secs(), async || {
        let mails = stack.mails(&order).await?;
        Ok(mails.contains(&format!("Order #{order} Cancelled")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_order_cancelled_at_once_leaves_the_stock_as_it_was() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("At once", "10", 10).await?;
    let order = stack.api.order("at-once@example.com", &[(&product, 4)]).await?;
    assert_eq!(cancel(&stack, &order).await?, 200);
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    for queue in [Queue::Product, Queue::Order] {
        stack.wait_until_drained(queue).await?;
    }
    stack.api.wait_for_stock(&product, 10).await?;
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn eight_concurrent_cancels_are_one() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Eight", "10", 10).await?;
    let order = stack.api.order("eight@example.com", &[(&product, 3)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let statuses = try_join_all((0..8).map(|_| cancel(&stack, &order))).await?;
    assert_eq!(statuses, [200; 8]);
    stack.api.wait_for_stock(&product, 10).await?;
    let reported = stack.api.reported_events(&order).await?;
    assert_eq!(
        reported.iter().filter(|event| *event == "OrderCancelled").count(),
        1,
        "{reported:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_confirmed_order_is_shipped_and_then_stays_shipped() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Shipped", "10", 10).await?;
    let order = stack.api.order("shipped@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(ship(&stack, &order).await?, 200);
    assert_eq!(ship(&stack, &order).await?, 200, "it is so already");
    assert_eq!(cancel(&stack, &order).await?, 409);
    assert_eq!(stack.api.status(&order).await?, "shipped");
    assert_eq!(stack.api.stock(&product).await?, 9);
    let events = stack.api.reported_events(&order).await?;
    assert_eq!(events, ["OrderCreated", "StockReserved", "OrderConfirmed", "OrderShipped"]);
    Ok(())
}

#[tokio::test]
async fn a_rejected_order_can_be_neither_cancelled_nor_shipped() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("None left", "10", 0).await?;
    let order = stack.api.order("none@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "rejected");
    let answer = stack.api.cancel(&order).await?;
    expect_status(&answer, 409)?;
    assert_eq!(answer.json["type"], "urn:orderflow:problem:order-status");
    assert_eq!(ship(&stack, &order).await?, 409);
    let none = stack.api.admin("POST", "/admin/orders/no-such/cancel", "").await?;
    expect_status(&none, 404)?;
    assert_eq!(ship(&stack, "no-such").await?, 404);
    Ok(())
}

/// Created (c) and cancelled (x), each twice, in every order of arrival: whatever comes first, stock ends
/// where it began. The order is one that only product-consumer knows, so that nobody else acts on it.
#[tokio::test]
async fn created_and_cancelled_twice_in_every_order_leave_the_stock_as_it_was() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Permuted", "10", 10).await?;
    let sample: Order = match sample_created()?.body {
        Body::OrderCreated(order) => order,
        other => anyhow::bail!("the sample is {other:?}"),
    };
    for arrivals in ["ccxx", "cxcx", "cxxc", "xccx", "xcxc", "xxcc"] {
        let mut order = sample.clone();
        order.order_id = uuid::Uuid::new_v4().into();
        order.items[0].product_id = product.parse()?;
        let created = new_event("permuted".parse()?, Body::OrderCreated(order.clone())).encode();
        let cancelled =
            new_event("permuted".parse()?, Body::OrderCancelled(order.clone())).encode();
        for arrival in arrivals.chars() {
            let event = if arrival == 'c' { &created } else { &cancelled };
            stack.send(stack.queue(Queue::Product), event).await?;
            stack.wait_until_drained(Queue::Product).await?;
        }
        assert_eq!(stack.api.stock(&product).await?, 10, "{arrivals}");
        let reservation =
            stack.item("RESERVATIONS_TABLE", "order_id", order.order_id.as_str()).await?;
        let status = reservation.as_ref().and_then(|r| r["status"].as_s().ok());
        let wanted = if arrivals.starts_with('x') { "cancelled" } else { "released" };
        assert_eq!(status.map(String::as_str), Some(wanted), "{arrivals}");
    }
    Ok(())
}

fn sample_created() -> Result<Event> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/samples/OrderCreated.json");
    Ok(Event::decode(&std::fs::read(path)?)?)
}

#[tokio::test]
async fn an_event_about_stock_of_a_cancelled_order_changes_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Stale", "10", 10).await?;
    let order = stack.api.order("stale@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(cancel(&stack, &order).await?, 200);
    let items = vec![StockLine { product_id: product.parse()?, quantity: 1_u64.try_into()? }];
    let stock = Stock { order_id: order.parse()?, items };
    let stale = new_event("stale".parse()?, Body::StockReserved(stock)).encode();
    stack.publish(&stale).await?;
    stack.wait_until_drained(Queue::Order).await?;
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    Ok(())
}

#[tokio::test]
async fn the_history_is_what_was_stored_byte_for_byte() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("History", "10.5", 10).await?;
    let order = stack.api.order("history@example.com", &[(&product, 1)]).await?;
    stack.api.wait_until_settled(&order).await?;
    let answer = stack.api.admin("GET", &format!("/orders/{order}/events"), "").await?;
    for event in stack.log(&order).await? {
        let body = event["body"].as_s().ok().context("a body")?;
        assert!(answer.text.contains(body), "{body} is not in {}", answer.text);
    }
    let missing = stack.api.admin("GET", "/orders/no-such/events", "").await?;
    expect_status(&missing, 404)
}

#[tokio::test]
async fn a_customers_orders_are_listed_newest_first_and_paged() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Paged", "1", 100).await?;
    let email = format!("listed-{}@example.com", uuid::Uuid::new_v4().simple());
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(stack.api.order(&email, &[(&product, 1)]).await?);
    }
    placed.reverse();
    let mut listed = Vec::new();
    let mut path = format!("/orders?customer_email={email}&limit=2");
    loop {
        let answer = stack.api.admin("GET", &path, "").await?;
        expect_status(&answer, 200)?;
        let page = answer.json["orders"].as_array().context("orders")?;
        listed.extend(page.iter().filter_map(|order| order["id"].as_str().map(str::to_owned)));
        let Some(cursor) = answer.json["next_cursor"].as_str() else { break };
        path = format!("/orders?customer_email={email}&limit=2&cursor={cursor}");
    }
    assert_eq!(listed, placed);
    let answer = stack.api.admin("GET", "/orders", "").await?;
    expect_status(&answer, 400)?;
    assert_eq!(answer.json["errors"][0]["field"], "customer_email");
    if stack.can(Capability::RefusesUnsignedCalls) {
        for (method, path) in [
            ("GET", "/orders?customer_email=a@example.com"),
            ("GET", "/orders/x/events"),
            ("POST", "/orders/x/ship"),
        ] {
            expect_status(&stack.api.call(method, path, "").await?, 403)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_caller_who_prefers_to_wait_is_answered_when_the_order_settles() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Awaited", "1", 1).await?;
    let order = stack.api.order("awaited@example.com", &[(&product, 1)]).await?;
    let path = format!("/orders/{order}");
    let prefer = [("prefer", "wait=30")];
    let answer = stack.api.call_with("GET", &path, "", &prefer).await?;
    expect_status(&answer, 200)?;
    assert_eq!(answer.json["status"], "confirmed");
    assert_eq!(answer.headers["preference-applied"], "wait=8", "capped");
    Ok(())
}

#[tokio::test]
async fn twelve_callers_with_one_key_make_one_order_and_all_get_it() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Keyed", "1", 100).await?;
    let email = format!("keyed-{}@example.com", uuid::Uuid::new_v4().simple());
    let key = uuid::Uuid::new_v4().to_string();
    let body = e2e::api::order_body(&email, &[(&product, 2)]);
    let keyed = [("idempotency-key", key.as_str())];
    let calls = (0..12).map(|_| stack.api.call_with("POST", "/orders", body.clone(), &keyed));
    let answers = try_join_all(calls).await?;
    for answer in &answers {
        expect_status(answer, 201)?;
        assert_eq!(answer.text, answers[0].text);
        assert_eq!(answer.headers["location"], answers[0].headers["location"]);
    }
    stack.api.wait_until_settled(&answers[0].id()?).await?;
    assert_eq!(stack.orders_of(&email).await?, 1);
    assert_eq!(stack.api.stock(&product).await?, 98);
    // Once more when the order has moved on, with the fields in another order.
    let value: Value = serde_json::from_str(&body)?;
    let reordered = format!(
        r#"{{ "items": {}, "customer_email": {} }}"#,
        value["items"], value["customer_email"]
    );
    let again = stack.api.call_with("POST", "/orders", reordered, &keyed).await?;
    expect_status(&again, 201)?;
    assert_eq!(again.text, answers[0].text);
    let other = e2e::api::order_body(&email, &[(&product, 3)]);
    let answer = stack.api.call_with("POST", "/orders", other, &keyed).await?;
    expect_status(&answer, 422)?;
    assert_eq!(answer.json["type"], "urn:orderflow:problem:idempotency-key-reused");
    assert_eq!(stack.orders_of(&email).await?, 1);
    // A key changes nothing about which bodies are valid.
    let answer = stack.api.call_with("POST", "/orders", "{}", &keyed).await?;
    expect_status(&answer, 400)?;
    // Another customer's key of the same text is another key.
    let stranger = format!("stranger-{email}");
    let other = e2e::api::order_body(&stranger, &[(&product, 2)]);
    expect_status(&stack.api.call_with("POST", "/orders", other, &keyed).await?, 201)?;
    assert_eq!(stack.orders_of(&stranger).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_change_of_stock_with_a_key_counts_once() -> Result<()> {
    let stack = Stack::load().await?;
    let (one, other) =
        (stack.api.product("One", "1", 5).await?, stack.api.product("Other", "1", 5).await?);
    let key = uuid::Uuid::new_v4().to_string();
    let keyed = [("idempotency-key", key.as_str())];
    let path = format!("/products/{one}/stock");
    let calls = (0..12).map(|_| stack.api.admin_with("POST", &path, r#"{"delta":7}"#, &keyed));
    for answer in try_join_all(calls).await? {
        expect_status(&answer, 200)?;
        assert_eq!(answer.json["stock"], 12);
    }
    assert_eq!(stack.api.stock(&one).await?, 12);
    // A repetition changes nothing, and reads the stock as it is by now.
    expect_status(&stack.api.restock(&one, -2).await?, 200)?;
    let again = stack.api.admin_with("POST", &path, r#"{"delta":7}"#, &keyed).await?;
    assert_eq!(again.json["stock"], 10);
    assert_eq!(stack.api.stock(&one).await?, 10);
    for (path, body) in
        [(path, r#"{"delta":8}"#), (format!("/products/{other}/stock"), r#"{"delta":7}"#)]
    {
        let answer = stack.api.admin_with("POST", &path, body, &keyed).await?;
        expect_status(&answer, 422)?;
    }
    assert_eq!(stack.api.stock(&other).await?, 5);
    Ok(())
}

#[tokio::test]
async fn a_release_is_taken_although_the_stock_is_at_its_limit() -> Result<()> {
    const STOCK_MAX: u64 = 1_000_000_000;
    let stack = Stack::load().await?;
    let product = stack.api.product("Brimming", "1", 5).await?;
    let order = stack.api.order("brimming@example.com", &[(&product, 5)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    expect_status(&stack.api.restock(&product, STOCK_MAX.cast_signed()).await?, 200)?;
    assert_eq!(cancel(&stack, &order).await?, 200);
    stack.api.wait_for_stock(&product, STOCK_MAX + 5).await?;
    expect_status(&stack.api.restock(&product, 1).await?, 409)?;
    expect_status(&stack.api.restock(&product, -10).await?, 200)
}

#[tokio::test]
async fn a_decision_about_stock_that_contradicts_the_order_is_a_dead_letter() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Contradicted", "1", 1).await?;
    let order = stack.api.order("contradicted@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "rejected");
    let items = vec![StockLine { product_id: product.parse()?, quantity: 2_u64.try_into()? }];
    let reserved = Body::StockReserved(Stock { order_id: order.parse()?, items });
    let forged = new_event("forged".parse()?, reserved);
    stack.publish(&forged.encode()).await?;
    let letter = stack.message_with(stack.dlq(Queue::Order), &forged.id.to_string()).await?;
    let attributes = letter.message_attributes().context("attributes")?;
    let reason = attributes.get("failure_reason").and_then(|value| value.string_value());
    assert_eq!(reason, Some("contradiction"));
    assert!(attributes.contains_key("original_message_id"), "{attributes:?}");
    assert!(attributes.contains_key("first_failed_at"), "{attributes:?}");
    assert_eq!(stack.api.status(&order).await?, "rejected");
    Ok(())
}

/// Both are decided for an order that is pending, and only one can be carried out.
#[tokio::test]
async fn of_two_decisions_at_the_same_moment_that_contradict_each_other_one_is_a_dead_letter()
-> Result<()> {
    const ORDERS: usize = 4;
    let stack = Stack::load().await?;
    let product = stack.api.product("Raced for", "1", 10).await?;
    let real = stack.api.order("raced@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&real).await?, "confirmed");
    let row = stack.item("ORDERS_TABLE", "order_id", &real).await?.context("the order")?;
    let items = vec![StockLine { product_id: product.parse()?, quantity: 2_u64.try_into()? }];
    let (mut orders, mut entries) = (Vec::new(), Vec::new());
    for _ in 0..ORDERS {
        let order = uuid::Uuid::new_v4().to_string();
        let put = stack.dynamodb.put_item().table_name(stack.setting("ORDERS_TABLE"));
        let put =
            put.set_item(Some(row.clone())).item("order_id", AttributeValue::S(order.clone()));
        put.item("status", AttributeValue::S("pending".into())).send().await?;
        let (order_id, items) = (order.parse::<OrderId>()?, items.clone());
        let reserved = Stock { order_id: order_id.clone(), items: items.clone() };
        let rejected = RejectedStock { order_id, items, short: Vec::new() };
        for body in [Body::StockReserved(reserved), Body::StockRejected(rejected)] {
            let entry = SendMessageBatchRequestEntry::builder().id(entries.len().to_string());
            let body = new_event("raced".parse()?, body).encode();
            entries.push(entry.message_body(body).build()?);
        }
        orders.push(order);
    }
    let send = stack.sqs.send_message_batch().queue_url(stack.queue(Queue::Order));
    let sent = send.set_entries(Some(entries)).send().await?;
    assert_eq!(sent.successful().len(), 2 * ORDERS);
    for order in &orders {
        let letter = stack.message_with(stack.dlq(Queue::Order), order).await?;
        let attributes = letter.message_attributes().context("attributes")?;
        assert_eq!(attributes["failure_reason"].string_value(), Some("contradiction"));
        let status = stack.api.status(order).await?;
        let dead = letter.body().unwrap_or_default();
        let is_other = dead.contains("StockRejected") == (status == "confirmed");
        assert!(is_other && status != "pending", "{status}, and the dead letter is {dead}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_a_500_and_no_invitation_to_try_again() -> Result<()> {
    let stack = Stack::load().await?;
    let id = uuid::Uuid::new_v4().to_string();
    let key = aws_sdk_dynamodb::types::AttributeValue::S(id.clone());
    let table = stack.setting("ORDERS_TABLE");
    stack.dynamodb.put_item().table_name(table).item("order_id", key).send().await?;
    let answer = stack.api.call("GET", &format!("/orders/{id}"), "").await?;
    expect_status(&answer, 500)?;
    assert_eq!(answer.json["type"], "urn:orderflow:problem:internal");
    assert!(!answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    Ok(())
}

#[tokio::test]
async fn personal_answers_are_not_stored_and_no_answer_is_sniffed() -> Result<()> {
    let stack = Stack::load().await?;
    for (path, is_personal) in [("/orders/no-such", true), ("/products", false)] {
        let answer = stack.api.call("GET", path, "").await?;
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        let stored = answer.headers.get("cache-control").map(|value| value.as_bytes());
        assert_eq!(stored == Some(b"no-store"), is_personal, "{path}");
    }
    Ok(())
}
