//! The lists behind the counts of the page, and what an order's time line says of consumers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest};
use e2e::{Item, Queue, Seconds, Stack, browser::Browser};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::Console;

/// Maximum number of items of one BatchWriteItem call.
const WRITES_AT_ONCE: usize = 25;
/// Number of tries of which the fastest counts.
const TRIES: usize = 3;
/// Within what a list has to answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn id(index: usize) -> String {
    uuid::Uuid::from_u128(0xc0_0000 + index as u128).to_string()
}

/// An order that was placed an hour ago and so many milliseconds later, pending or confirmed.
fn order(index: usize, is_pending: bool) -> Item {
    let later = SignedDuration::from_millis(i64::try_from(index).unwrap_or_default());
    let at = format!("{:.3}", Timestamp::now() - SignedDuration::from_hours(1) + later);
    let status = if is_pending { "pending" } else { "confirmed" };
    let mut item = Item::from([
        ("order_id".to_owned(), text(&id(index))),
        ("status".to_owned(), text(status)),
        ("customer_email".to_owned(), text(&format!("behind-count-{}@example.com", index % 60))),
        ("items".to_owned(), AttributeValue::L(Vec::new())),
        ("total".to_owned(), AttributeValue::N("2050".into())),
        ("currency".to_owned(), text("UAH")),
        ("created_at".to_owned(), text(&at)),
        ("updated_at".to_owned(), text(&at)),
    ]);
    if is_pending {
        item.insert("pending_shard".to_owned(), text(&(index % 8).to_string()));
    }
    item
}

async fn put_orders(stack: &Stack, orders: Vec<Item>) -> Result<()> {
    for chunk in orders.chunks(WRITES_AT_ONCE) {
        let puts = chunk.iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build();
            WriteRequest::builder().put_request(put.expect("an item")).build()
        });
        let table = stack.setting("ORDERS_TABLE");
        stack.dynamodb.batch_write_item().request_items(table, puts.collect()).send().await?;
    }
    Ok(())
}

async fn delete_orders(stack: &Stack, count: usize) -> Result<()> {
    for chunk in (0..count).collect::<Vec<_>>().chunks(WRITES_AT_ONCE) {
        let deletes = chunk.iter().map(|index| {
            let delete = DeleteRequest::builder().key("order_id", text(&id(*index))).build();
            WriteRequest::builder().delete_request(delete.expect("a key")).build()
        });
        let table = stack.setting("ORDERS_TABLE");
        stack.dynamodb.batch_write_item().request_items(table, deletes.collect()).send().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_count_opens_its_list_fifty_rows_at_a_time_and_a_row_opens_its_order() -> Result<()> {
    const ORDERS: usize = 70;
    let stack = Stack::load().await?;
    let product = stack.api.product("In a list", "10.25", 5).await?;
    let settled = stack.api.order("in-a-list@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&settled).await?, "confirmed");
    stack.wait_until_drained(Queue::Notification).await?;
    put_orders(&stack, (0..ORDERS).map(|index| order(index, true)).collect()).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;

    let count = |name: &str| format!("document.querySelector('[data-list={name}]')");
    let late = count("orders-late");
    browser.until(&format!("{late}?.textContent === '{ORDERS}'"), 30.secs()).await?;
    for name in ["orders-pending", "events-stuck", "events-pending"] {
        browser.until(&format!("{} !== null", count(name)), 10.secs()).await?;
    }
    browser.click("[data-list=orders-late]")?;
    let rows = "document.querySelectorAll('#list-rows [data-row]').length";
    browser.until(&format!("{rows} === 50"), 30.secs()).await?;
    let first = "document.querySelector('#list-rows [data-order]').dataset.order";
    assert_eq!(browser.value(first)?, id(0), "the oldest is the first");
    let said = "document.getElementById('list').innerText";
    let text = browser.value(said)?;
    let text = text.as_str().context("the list")?;
    assert!(text.contains("Late orders") && text.contains("there are more"), "{text}");
    assert!(text.contains("b***@e***.com") && !text.contains("behind-count-"), "{text}");
    browser.click("#list-more")?;
    browser.until(&format!("{rows} === {ORDERS}"), 30.secs()).await?;
    browser.until(&format!("{said}.includes('that is all')"), 10.secs()).await?;

    // A customer's orders, from the index; a row of them opens the time line.
    browser.value("document.getElementById('orders-customer').value = 'in-a-list@example.com'")?;
    browser.click("#orders-by-customer button")?;
    browser.until(&format!("{first} === '{settled}'"), 30.secs()).await?;
    browser.click("#list-rows [data-order]")?;
    let line = "[...document.querySelectorAll('.line strong')].map(e => e.textContent).join()";
    let wanted = "OrderCreated,StockReserved,OrderConfirmed";
    browser.until(&format!("{line} === '{wanted}'"), 30.secs()).await?;
    let time_line = browser.value("document.getElementById('order').innerText")?;
    let time_line = time_line.as_str().context("a time line")?;
    for did in ["product-consumer: done", "order-consumer: done", "notification-consumer: done"] {
        assert!(time_line.contains(did), "{did}: {time_line}");
    }
    assert!(time_line.contains("Correlation id"), "{time_line}");

    // A status that no index has.
    browser.value("document.getElementById('orders-status').value = 'confirmed'")?;
    browser.click("#orders-by-status button")?;
    browser.until(&format!("/were read|so far/.test({said})"), 30.secs()).await?;
    // And each of the others answers.
    let lists = browser.value("Object.keys(LISTS)")?;
    let of_payments = |name: &str| name.starts_with("payments");
    for name in lists.as_array().context("names")?.iter().filter_map(Value::as_str) {
        browser.click(&format!("[data-open-list={name}]"))?;
        let answered = if of_payments(name) {
            format!("{said}.includes('Payments=none')")
        } else {
            format!("/that is all|there are more|were read|so far/.test({said})")
        };
        browser.until(&answered, 30.secs()).await?;
    }
    delete_orders(&stack, ORDERS).await?;
    Ok(())
}

#[tokio::test]
async fn a_list_answers_within_a_second_however_many_orders_there_are_and_says_how_far_it_has_read()
-> Result<()> {
    const ORDERS: usize = 12_000;
    let stack = Stack::load().await?;
    put_orders(&stack, (0..ORDERS).map(|index| order(index, index % 10 == 0)).collect()).await?;
    let console = Console::start(&stack)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    // The fastest of a few tries: the machine may be busy with something else.
    let ask = async |list: &str| -> Result<(Value, Duration)> {
        let mut fastest: Option<(Value, Duration)> = None;
        for _ in 0..TRIES {
            let begun = Instant::now();
            let call = http.get(format!("{}/api/lists/{list}", console.base));
            let answer = call.header("x-orderflow-token", &console.token).send().await?;
            let answer: Value = answer.error_for_status()?.json().await?;
            let took = begun.elapsed();
            if fastest.as_ref().is_none_or(|(_, before)| took < *before) {
                fastest = Some((answer, took));
            }
        }
        fastest.context("an answer")
    };
    let mut answers = Vec::new();
    for list in ["late=true", "status=pending", "customer=behind-count-7@example.com"] {
        answers.push((list.to_owned(), ask(&format!("orders?{list}")).await?));
    }
    // Of a status that no order has, the table is read in parts, each of which says how far it is.
    let mut parts = Vec::new();
    let mut next = Some(String::new());
    while let Some(from) = next {
        let part = ask(&format!("orders?status=expired{from}")).await?;
        next = part.0["next"].as_str().map(|from| format!("&from={from}"));
        parts.push(part);
    }
    // What is found wrong is found once the stack is as it was.
    delete_orders(&stack, ORDERS).await?;
    for (list, (page, took)) in &answers {
        assert_eq!(page["items"].as_array().map(Vec::len), Some(50), "{list}: {page}");
        assert!(page["next"].is_string() && page["read"].is_null(), "{list}: {page}");
        assert!(*took < ANSWER_TIME, "{list} took {} ms", took.as_millis());
    }
    let read: u64 = parts.iter().filter_map(|(page, _)| page["read"].as_u64()).sum();
    assert!(read >= ORDERS as u64, "all of it, in {} parts: {read}", parts.len());
    for (page, took) in &parts {
        assert!(*took < ANSWER_TIME, "{} ms: {page}", took.as_millis());
    }
    Ok(())
}
