//! `orderflow order list`, `product list`, `mail unknown` and `outbox list`: what stands behind each count.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Item, Queue, Stack};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

async fn put(stack: &Stack, table: &str, item: Item) -> Result<()> {
    stack.dynamodb.put_item().table_name(stack.setting(table)).set_item(Some(item)).send().await?;
    Ok(())
}

async fn delete(stack: &Stack, table: &str, key: &str, value: &str) -> Result<()> {
    let call = stack.dynamodb.delete_item().table_name(stack.setting(table));
    call.key(key, text(value)).send().await?;
    Ok(())
}

/// Stores an order that was placed at a moment, in a partition of the index `pending`.
async fn put_pending(stack: &Stack, id: &str, placed_at: Timestamp, shard: &str) -> Result<()> {
    let at = format!("{placed_at:.3}");
    let item = Item::from([
        ("order_id".to_owned(), text(id)),
        ("status".to_owned(), text("pending")),
        ("customer_email".to_owned(), text("listed@example.com")),
        ("items".to_owned(), AttributeValue::L(Vec::new())),
        ("total".to_owned(), number(2050)),
        ("currency".to_owned(), text("UAH")),
        ("created_at".to_owned(), text(&at)),
        ("updated_at".to_owned(), text(&at)),
        ("pending_shard".to_owned(), text(shard)),
    ]);
    put(stack, "ORDERS_TABLE", item).await
}

fn column<'a>(page: &'a Value, name: &str) -> Vec<&'a str> {
    let items = page["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item[name].as_str()).collect()
}

/// All pages of a list, one after the other.
async fn all_pages(stack: &Stack, arguments: &[&str], column_name: &str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let mut arguments = arguments.to_vec();
        arguments.extend(next.iter().flat_map(|next| ["--from", next]));
        let page = stack.json(&arguments).await?;
        all.extend(column(&page, column_name).into_iter().map(str::to_owned));
        next = page["next"].as_str().map(str::to_owned);
        if next.is_none() {
            return Ok(all);
        }
        anyhow::ensure!(all.len() < 1_000, "a list without an end: {page}");
    }
}

#[tokio::test]
async fn the_orders_behind_the_counts_of_late_and_pending_are_listed_page_by_page_oldest_first()
-> Result<()> {
    let stack = Stack::load().await?;
    let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    // Over several partitions, two of them placed in the same millisecond.
    let mut ids = Vec::new();
    for (index, shard) in ["3", "unpublished-5", "15", "pending", "0", "3"].iter().enumerate() {
        let id = uuid::Uuid::from_u128(0x1a7e_0000 + index as u128).to_string();
        let later = i64::try_from(index)?.min(4);
        put_pending(&stack, &id, hour_ago + SignedDuration::from_millis(later), shard).await?;
        ids.push(id);
    }
    let fresh = uuid::Uuid::new_v4().to_string();
    put_pending(&stack, &fresh, Timestamp::now(), "7").await?;

    let status = stack.json(&["status"]).await?;
    let late = all_pages(&stack, &["order", "list", "--late", "--limit", "2"], "order_id").await?;
    assert_eq!(late, ids, "oldest first, none twice and none left out");
    assert_eq!(status["orders"]["pending_too_long"], ids.len());
    let pending =
        all_pages(&stack, &["order", "list", "--status", "pending", "--limit", "4"], "order_id")
            .await?;
    assert_eq!(status["orders"]["pending"], pending.len());
    assert_eq!(pending.last(), Some(&fresh), "the youngest is the last");

    let said = stack.run(&["order", "list", "--late", "--limit", "2"]).await?.stdout;
    assert!(said.contains("20.50 UAH") && said.contains("go on with --from "), "{said}");
    assert!(said.contains("l***@e***.com") && !said.contains("listed@"), "{said}");
    let wrong = stack.run(&["order", "list", "--late", "--from", "nonsense"]).await?;
    assert!(wrong.code == 1 && wrong.stderr.contains("no place in this list"), "{wrong:?}");
    for id in ids.iter().chain([&fresh]) {
        delete(&stack, "ORDERS_TABLE", "order_id", id).await?;
    }
    assert!(stack.run(&["order", "list", "--late"]).await?.stdout.contains("No such orders."));
    Ok(())
}

#[tokio::test]
async fn a_customers_orders_are_listed_newest_first_and_those_of_a_status_by_a_scan() -> Result<()>
{
    let stack = Stack::load().await?;
    let product = stack.api.product("Behind a count", "10.25", 20).await?;
    let mut orders = Vec::new();
    for _ in 0..3 {
        let order = stack.api.order("behind-a-count@example.com", &[(&product, 1)]).await?;
        assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
        orders.push(order);
    }
    let list = ["order", "list", "--customer", "behind-a-count@example.com", "--limit", "2"];
    let found = all_pages(&stack, &list, "order_id").await?;
    orders.reverse();
    assert_eq!(found, orders);
    let page = stack.json(&list).await?;
    assert_eq!(page["read"], Value::Null, "an index has them");
    assert_eq!(page["items"][0]["customer_email"], "b***@e***.com");
    let in_full = stack.run(&[&list[..], &["--show-email"]].concat()).await?.stdout;
    assert!(in_full.contains("behind-a-count@example.com"), "{in_full}");

    let cancelled = &orders[0];
    stack.json(&["order", "cancel", cancelled, "--yes"]).await?;
    let list = ["order", "list", "--status", "cancelled", "--limit", "1000"];
    let found: BTreeSet<String> = all_pages(&stack, &list, "order_id").await?.into_iter().collect();
    assert!(found.contains(cancelled) && !found.contains(&orders[1]), "{found:?}");
    let page = stack.json(&list).await?;
    assert!(page["read"].as_u64() >= Some(3), "it says how much it has read: {page}");
    // All of them, page by page.
    let all = all_pages(&stack, &["order", "list", "--limit", "2"], "order_id").await?;
    assert!(orders.iter().all(|order| all.iter().filter(|one| *one == order).count() == 1));
    let wrong = stack.run(&["order", "list", "--status", "lost"]).await?;
    assert!(wrong.code == 2 && wrong.stderr.contains("awaiting_payment"), "{wrong:?}");
    let help = stack.run(&["order", "list", "--help"]).await?.stdout;
    assert!(help.contains("at most 20,000 items"), "{help}");
    Ok(())
}

#[tokio::test]
async fn a_scan_ends_at_its_bound_says_how_far_it_has_come_and_goes_on_from_there() -> Result<()> {
    const BOUND: usize = 20_000;
    const WRITES_AT_ONCE: usize = 25;
    let stack = Stack::load().await?;
    let mut made = Vec::new();
    for chunk in (0..BOUND + 500).collect::<Vec<_>>().chunks(WRITES_AT_ONCE) {
        let requests = chunk.iter().map(|index| {
            let id = format!("bound-{index}");
            let item = Item::from([
                ("product_id".to_owned(), text(&id)),
                ("name".to_owned(), text("Many")),
                ("stock".to_owned(), number(if *index == 0 { 1 } else { 9 })),
            ]);
            let put = aws_sdk_dynamodb::types::PutRequest::builder().set_item(Some(item)).build();
            made.push(id);
            let put = put.expect("an item");
            aws_sdk_dynamodb::types::WriteRequest::builder().put_request(put).build()
        });
        let table = stack.setting("PRODUCTS_TABLE");
        let call = stack.dynamodb.batch_write_item().request_items(table, requests.collect());
        call.send().await?;
    }
    let list = ["product", "list", "--stock-below", "0"];
    let page = stack.json(&list).await?;
    assert_eq!(page["read"], BOUND, "{page}");
    let next = page["next"].as_str().context("from where to go on")?.to_owned();
    let said = stack.run(&list).await?.stdout;
    let wanted = format!("Read 20,000 of the table; go on with --from {next}");
    assert!(said.contains("No such products.") && said.contains(&wanted), "{said}");
    let rest = stack.json(&[&list[..], &["--from", &next]].concat()).await?;
    assert_eq!(rest["next"], Value::Null, "{rest}");
    assert!(rest["read"].as_u64() >= Some(500), "{rest}");
    let few = all_pages(&stack, &["product", "list", "--stock-below", "5"], "product_id").await?;
    assert!(few.contains(&"bound-0".to_owned()), "in one of the parts: {few:?}");
    for chunk in made.chunks(WRITES_AT_ONCE) {
        let requests = chunk.iter().map(|id| {
            let delete =
                aws_sdk_dynamodb::types::DeleteRequest::builder().key("product_id", text(id));
            let delete = delete.build().expect("a key");
            aws_sdk_dynamodb::types::WriteRequest::builder().delete_request(delete).build()
        });
        let table = stack.setting("PRODUCTS_TABLE");
        let call = stack.dynamodb.batch_write_item().request_items(table, requests.collect());
        call.send().await?;
    }
    Ok(())
}

#[tokio::test]
async fn products_are_listed_with_their_stock_all_or_of_a_category_or_those_of_which_few_are_left()
-> Result<()> {
    let stack = Stack::load().await?;
    let body = |name: &str, stock: u64| {
        format!(r#"{{"name":"{name}","price":12.50,"stock":{stock},"category":"counted goods"}}"#)
    };
    let mut ids = BTreeSet::new();
    for (name, stock) in [("Few", 2), ("Some", 40), ("Many", 900)] {
        let made = stack.api.admin("POST", "/products", &body(name, stock)).await?;
        e2e::expect_status(&made, 201)?;
        ids.insert(made.json["id"].as_str().context("an id")?.to_owned());
    }
    let list = ["product", "list", "--category", "counted goods", "--limit", "2"];
    let found = all_pages(&stack, &list, "product_id").await?;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids);
    let few = stack.json(&["product", "list", "--stock-below", "3", "--limit", "1000"]).await?;
    assert!(column(&few, "name").contains(&"Few") && !column(&few, "name").contains(&"Some"));
    let all = all_pages(&stack, &["product", "list", "--limit", "3"], "product_id").await?;
    assert!(ids.iter().all(|id| all.iter().filter(|one| *one == id).count() == 1), "{all:?}");
    let said = stack.run(&["product", "list", "--category", "counted goods"]).await?.stdout;
    assert!(said.contains("12.50 UAH") && said.contains("900") && said.contains("sold"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_mail_without_an_answer_is_listed_with_its_order_and_one_that_was_sent_is_not()
-> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Mailed", "10", 5).await?;
    let order = stack.api.order("mailed@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    stack.wait_until_drained(Queue::Notification).await?;
    let history = stack.json(&["order", "history", &order]).await?;
    let event = history[0]["event_id"].as_str().context("an event")?;
    let lease = |until: i64, unknown: Option<i64>| {
        let mut item = Item::from([
            ("key".to_owned(), text(&format!("notification-consumer#{event}"))),
            ("state".to_owned(), text("in_progress")),
            ("subject".to_owned(), text(&order)),
            ("claimed_at".to_owned(), number(Timestamp::now().as_millisecond() - 5_000)),
            ("leased_until".to_owned(), number(until)),
            ("expires_at".to_owned(), number(Timestamp::now().as_second() + 3_600)),
        ]);
        item.extend(unknown.map(|count| ("unknown_attempts".to_owned(), number(count))));
        item
    };
    let found = async || -> Result<Option<Value>> {
        let page = stack.json(&["mail", "unknown"]).await?;
        let mut items = page["items"].as_array().into_iter().flatten();
        Ok(items.find(|mail| mail["event_id"] == event).cloned())
    };
    assert_eq!(found().await?, None, "it was sent");
    let now = Timestamp::now().as_millisecond();
    for (until, unknown, is_unknown) in [
        (now + 60_000, Some(2), true),
        // The process has died under it.
        (now - 1_000, None, true),
        // It is being sent; it was given back.
        (now + 60_000, None, false),
        (0, None, false),
    ] {
        put(&stack, "IDEMPOTENCY_TABLE", lease(until, unknown)).await?;
        assert_eq!(found().await?.is_some(), is_unknown, "{until} {unknown:?}");
    }
    put(&stack, "IDEMPOTENCY_TABLE", lease(now + 60_000, Some(2))).await?;
    let mail = found().await?.context("the mail")?;
    assert_eq!(mail["order_id"], order.as_str());
    assert_eq!(
        (&mail["event_type"], &mail["unknown_attempts"]),
        (&"OrderCreated".into(), &2.into())
    );
    let said = stack.run(&["mail", "unknown"]).await?.stdout;
    assert!(said.contains(&order) && said.contains("--reason mail_outcome_unknown"), "{said}");
    let history = stack.run(&["order", "history", &order]).await?.stdout;
    assert!(history.contains("outcome unknown, 2 attempts without an answer"), "{history}");
    delete(&stack, "IDEMPOTENCY_TABLE", "key", &format!("notification-consumer#{event}")).await?;
    Ok(())
}

#[tokio::test]
async fn payments_are_not_listed_where_orders_are_not_paid() -> Result<()> {
    let stack = Stack::load().await?;
    for list in [&["payment", "list"][..], &["payment", "list", "--overdue"]] {
        let ran = stack.run(list).await?;
        assert!(ran.code == 3 && ran.stderr.contains("Payments=none"), "{ran:?}");
    }
    Ok(())
}
