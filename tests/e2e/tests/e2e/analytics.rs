//! What is counted by day, product and status, and the call that shows it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use e2e::{Amounts, Capability, Queue, Seconds, Stack, eventually, expect_status};
use futures::future::try_join_all;
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde_json::Value;

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// Yesterday and today: a test may begin before midnight and end after it.
fn range() -> String {
    let today = today();
    format!("from={}&to={today}", today.saturating_sub(1.day()))
}

/// The rows of these days, of whatever pages.
async fn rows(stack: &Stack, query: &str) -> Result<Vec<Value>> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/analytics/daily?{query}{cursor}");
        let answer = stack.api.admin("GET", &path, "").await?;
        expect_status(&answer, 200)?;
        rows.extend(answer.json["rows"].as_array().context("rows")?.iter().cloned());
        match answer.json["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(rows),
        }
    }
}

/// What is shown of a product, by status: units, and revenue in minor units.
async fn shown(stack: &Stack, product: &str) -> Result<Amounts> {
    let mut shown = BTreeMap::new();
    for row in rows(stack, &range()).await?.iter().filter(|row| row["product_id"] == product) {
        let units = row["units"].as_u64().context("units")?;
        let revenue = (row["revenue"].as_f64().context("revenue")? * 100.0).round() as u64;
        let status = row["status"].as_str().context("a status")?.to_owned();
        let sum: &mut (u64, u64) = shown.entry(status).or_default();
        *sum = (sum.0 + units, sum.1 + revenue);
    }
    Ok(shown)
}

fn amounts(of: &[(&str, u64, u64)]) -> Amounts {
    of.iter().map(|(status, units, revenue)| ((*status).to_owned(), (*units, *revenue))).collect()
}

async fn wait_until_shown(stack: &Stack, product: &str, wanted: Amounts) -> Result<()> {
    let shown = eventually(&format!("{product} to be counted"), 60.secs(), async || {
        let shown = shown(stack, product).await?;
        Ok((shown == wanted).then_some(()))
    })
    .await;
    if shown.is_err() {
        assert_eq!(self::shown(stack, product).await?, wanted);
    }
    shown
}

#[tokio::test]
async fn each_status_that_an_order_comes_to_is_counted_with_its_units_and_revenue() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Counted", "10.35", 5).await?;
    let other = stack.api.product("Counted beside it", "0.01", 5).await?;
    let order = stack.api.order("counted@example.com", &[(&product, 2), (&other, 3)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let ship = format!("/orders/{order}/ship");
    expect_status(&stack.api.admin("POST", &ship, "").await?, 200)?;
    let short = stack.api.order("short@example.com", &[(&product, 4)]).await?;
    assert_eq!(stack.api.wait_until_settled(&short).await?, "rejected");
    let again = stack.api.order("again@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&again).await?, "confirmed");
    expect_status(&stack.api.cancel(&again).await?, 200)?;
    let wanted = amounts(&[
        ("pending", 7, 7245),
        ("confirmed", 3, 3105),
        ("shipped", 2, 2070),
        ("rejected", 4, 4140),
        ("cancelled", 1, 1035),
    ]);
    wait_until_shown(&stack, &product, wanted).await?;
    let wanted = amounts(&[("pending", 3, 3), ("confirmed", 3, 3), ("shipped", 3, 3)]);
    wait_until_shown(&stack, &other, wanted).await
}

#[tokio::test]
async fn an_event_that_comes_many_times_at_once_and_later_is_counted_once() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Counted once", "2.50", 5).await?;
    let order = stack.api.order("once@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let wanted = amounts(&[("pending", 2, 500), ("confirmed", 2, 500)]);
    wait_until_shown(&stack, &product, wanted.clone()).await?;
    let queue = stack.queue(Queue::Analytics);
    for _ in 0..2 {
        for event_type in ["OrderCreated", "OrderConfirmed"] {
            let event = stack.event(&order, event_type).await?;
            try_join_all((0..3).map(|_| stack.send(queue, &event))).await?;
        }
        stack.wait_until_drained(Queue::Analytics).await?;
        assert_eq!(shown(&stack, &product).await?, wanted);
    }
    Ok(())
}

/// The three come in one batch: the consumer is paused while they are sent.
#[tokio::test]
async fn what_is_poison_or_a_duplicate_in_a_batch_does_not_hold_up_what_is_new() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Beside poison", "2.50", 50).await?;
    let first = stack.api.order("first@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&first).await?, "confirmed");
    wait_until_shown(&stack, &product, amounts(&[("pending", 1, 250), ("confirmed", 1, 250)]))
        .await?;
    stack.pause(Queue::Analytics).await?;
    let queue = stack.queue(Queue::Analytics);
    let poison = format!("poison of {product}");
    stack.send(queue, &poison).await?;
    stack.send(queue, &stack.event(&first, "OrderConfirmed").await?).await?;
    let second = stack.api.order("second@example.com", &[(&product, 3)]).await?;
    assert_eq!(stack.api.wait_until_settled(&second).await?, "confirmed");
    stack.resume(Queue::Analytics).await?;
    wait_until_shown(&stack, &product, amounts(&[("pending", 4, 1000), ("confirmed", 4, 1000)]))
        .await?;
    stack.message_with(stack.dlq(Queue::Analytics), &poison).await?;
    Ok(())
}

#[tokio::test]
async fn pages_have_every_row_once_in_the_order_of_days_products_and_statuses() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Paged", "1", 5).await?;
    let order = stack.api.order("paged@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let wanted = amounts(&[("pending", 1, 100), ("confirmed", 1, 100)]);
    wait_until_shown(&stack, &product, wanted).await?;
    let key = |row: &Value| {
        ["day", "product_id", "status", "currency"]
            .map(|name| row[name].as_str().unwrap_or_default().to_owned())
    };
    // Other tests count meanwhile: what is there before is there in each of the pages' list.
    let before: Vec<_> = rows(&stack, &range()).await?.iter().map(key).collect();
    let paged: Vec<_> =
        rows(&stack, &format!("{}&limit=3", range())).await?.iter().map(key).collect();
    assert!(
        paged.len() >= before.len() && before.len() > 3,
        "{} and {}",
        paged.len(),
        before.len()
    );
    assert!(paged.windows(2).all(|two| two[0] < two[1]), "{paged:?}");
    assert!(before.iter().all(|row| paged.contains(row)), "{before:?} {paged:?}");
    // A day on which the shop was not there yet.
    assert_eq!(rows(&stack, "from=2001-01-01&to=2001-04-02").await?, Vec::<Value>::new());
    Ok(())
}

#[tokio::test]
async fn a_bad_range_of_days_is_refused_with_every_reason_at_once() -> Result<()> {
    let stack = Stack::load().await?;
    for (query, fields) in [
        ("", &["from", "to"][..]),
        ("from=2026-05-03", &["to"]),
        ("from=yesterday&to=2026-02-30", &["from", "to"]),
        ("from=20260503&to=2026-05-03T00:00:00Z", &["from", "to"]),
        ("from=2026-05-03&to=2026-05-02", &["to"]),
        ("from=2026-01-01&to=2026-04-03", &["to"]),
        ("from=2026-05-03&to=2026-05-03&limit=0&cursor=x", &["limit", "cursor"]),
        ("from=2026-05-03&from=2026-05-03&to=2026-05-03", &["from"]),
    ] {
        let answer = stack.api.admin("GET", &format!("/analytics/daily?{query}"), "").await?;
        expect_status(&answer, 400).with_context(|| query.to_owned())?;
        let errors = answer.json["errors"].as_array().context("errors")?;
        let named: Vec<_> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
        assert_eq!(named, fields, "{query}");
    }
    Ok(())
}

#[tokio::test]
async fn who_does_not_sign_sees_nothing_of_what_is_counted() -> Result<()> {
    let stack = Stack::load().await?;
    let path = format!("/analytics/daily?{}", range());
    if stack.can(Capability::RefusesUnsignedCalls) {
        let answer = stack.api.call("GET", &path, "").await?;
        expect_status(&answer, 403)?;
    }
    let head = stack.api.admin("HEAD", &path, "").await?;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    Ok(())
}
