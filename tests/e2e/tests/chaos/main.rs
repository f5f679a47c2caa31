//! Many orders, many accidents: what must hold when it is quiet again.
//!
//! Seeded: `ORDERFLOW_SEED` repeats what the customers do, `ORDERFLOW_ORDERS` says how many there are. Which calls are
//! struck depends on the SDK's invocation ids besides, so the accidents are as many but not the same. Needs a
//! stack with the fault proxy, for itself.

mod payments;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Queue, Seconds, Stack, api::order_body, eventually};
use fastrand::Rng;
use futures::{StreamExt, TryStreamExt, stream};

const PRODUCTS: usize = 5;
/// Two thirds of what all customers want together, so that many are rejected.
const STOCK_PER_ORDER: f64 = 0.3;
/// Fewer rejected orders would show little of what a rejection meets.
const REJECTED_PERCENT_MIN: usize = 10;
/// Number of customers that order side by side.
const CUSTOMERS: usize = 12;
/// 5 % of all calls: half of them fail, half lose their answer. And 5 of a thousand kill their process.
const FAULTS_PERMILLE: [u64; 3] = [25, 25, 5];

#[tokio::test(flavor = "multi_thread")]
async fn after_any_number_of_accidents_the_books_are_right() -> Result<()> {
    let stack = Stack::load().await?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("ORDERFLOW_SEED").unwrap_or_else(|| fastrand::u64(..));
    let orders = number("ORDERFLOW_ORDERS").unwrap_or(250);
    println!("seed {seed}, {orders} orders; repeat with ORDERFLOW_SEED={seed}");
    stack.set_visibility_timeouts(5).await?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let stock = (orders as f64 * STOCK_PER_ORDER) as u64;
    let mut products = Vec::new();
    for n in 0..PRODUCTS {
        products.push(stack.api.product(&format!("Chaos {n}"), "1.25", stock).await?);
    }
    stack.chaos(seed, FAULTS_PERMILLE).await?;
    let sweeping = tokio::spawn(sweep_for_ever(stack.clone()));
    let begun = Instant::now();
    let unanswered = Arc::new(AtomicUsize::new(0));
    let placed: Vec<String> = stream::iter(0..orders)
        .map(|n| customer(&stack, &products, Rng::with_seed(seed.wrapping_add(n)), &unanswered))
        .buffer_unordered(CUSTOMERS)
        .try_collect()
        .await?;
    println!(
        "{} orders placed in {:?}, {} calls answered only on another try, struck: {}",
        placed.len(),
        begun.elapsed(),
        unanswered.load(Ordering::Relaxed),
        stack.chaos_struck().await?
    );
    stack.chaos(seed, [0, 0, 0]).await?;
    wait_until_quiet(&stack, &placed).await?;
    sweeping.abort();
    check_books(&stack, &products, stock, &placed).await
}

async fn sweep_for_ever(stack: Stack) {
    loop {
        // A sweep that is struck fails; the next one goes on.
        let _ = stack.sweep().await;
        tokio::time::sleep(2.secs()).await;
    }
}

/// One customer: orders with a key, insists, and then may cancel, be shipped to, or have an event delivered again.
async fn customer(
    stack: &Stack,
    products: &[String],
    mut rng: Rng,
    unanswered: &AtomicUsize,
) -> Result<String> {
    let lines: Vec<(&str, u64)> = (0..rng.usize(1..=3))
        .map(|_| (products[rng.usize(..products.len())].as_str(), rng.u64(1..=2)))
        .collect();
    let key = uuid::Uuid::new_v4().to_string();
    let body = order_body("chaos@example.com", &lines);
    let order = eventually("an order to be accepted", 120.secs(), async || {
        let keyed = [("idempotency-key", key.as_str())];
        let answer = stack.api.call_with("POST", "/orders", body.clone(), &keyed).await?;
        match answer.status {
            201 => Ok(Some(answer.id()?)),
            500.. => {
                unanswered.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            _ => bail!("{}", answer.text),
        }
    })
    .await?;
    // Sometimes at once, sometimes when it has gone some way: every wish meets every status.
    tokio::time::sleep(Duration::from_millis(rng.u64(0..1500))).await;
    match rng.u32(0..100) {
        0..25 => {
            request_transition(stack, &format!("/admin/orders/{order}/cancel"), unanswered).await?
        }
        25..40 => request_transition(stack, &format!("/orders/{order}/ship"), unanswered).await?,
        _ => {}
    }
    if rng.u32(0..100) < 15 {
        let log = stack.log(&order).await?;
        let event = &log[rng.usize(..log.len())];
        stack.publish(event["body"].as_s().ok().context("a body")?).await?;
    }
    Ok(order)
}

/// What the order's status forbids is refused, and that is an answer too.
async fn request_transition(stack: &Stack, path: &str, unanswered: &AtomicUsize) -> Result<()> {
    eventually(path, 120.secs(), async || {
        let answer = stack.api.admin("POST", path, "").await?;
        match answer.status {
            200 | 409 => Ok(Some(())),
            500.. => {
                unanswered.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            _ => bail!("{path}: {}", answer.text),
        }
    })
    .await
}

/// Waits until nothing moves any more.
async fn wait_until_quiet(stack: &Stack, placed: &[String]) -> Result<()> {
    let limit = Duration::from_secs(240);
    eventually("every order to be settled and every event to be published", limit, async || {
        let orders = stack.items("ORDERS_TABLE").await?;
        let pending = orders
            .iter()
            .filter(|order| order["status"].as_s().is_ok_and(|s| s == "pending"))
            .count();
        let log = stack.items("EVENT_LOG_TABLE").await?;
        let unpublished = log.iter().filter(|event| event.contains_key("outbox_shard")).count();
        let mut waiting = 0;
        for queue in Queue::ALL {
            waiting += stack.messages(stack.queue(queue)).await?;
        }
        tokio::time::sleep(1.secs()).await;
        Ok((orders.len() >= placed.len() && pending == 0 && unpublished == 0 && waiting == 0)
            .then_some(()))
    })
    .await
}

/// Everything that must be right at rest.
async fn check_books(
    stack: &Stack,
    products: &[String],
    stock: u64,
    placed: &[String],
) -> Result<()> {
    let text = |item: &e2e::Item, name: &str| {
        item.get(name).and_then(|v| v.as_s().ok()).cloned().unwrap_or_default()
    };
    let mut taken: HashMap<String, u64> = HashMap::new();
    let mut statuses: HashMap<String, usize> = HashMap::new();
    let mut status_of: HashMap<String, String> = HashMap::new();
    for order in stack.items("ORDERS_TABLE").await? {
        let status = text(&order, "status");
        for line in order["items"].as_l().ok().context("items")? {
            let line = line.as_m().ok().context("a line")?;
            let quantity: u64 = line["quantity"].as_n().ok().context("a quantity")?.parse()?;
            if matches!(status.as_str(), "confirmed" | "shipped") {
                *taken.entry(text(line, "product_id")).or_default() += quantity;
            }
        }
        *statuses.entry(status.clone()).or_default() += 1;
        status_of.insert(text(&order, "order_id"), status);
    }
    println!("statuses: {statuses:?}");
    let rejected = statuses.get("rejected").copied().unwrap_or_default();
    ensure!(
        rejected * 100 >= placed.len() * REJECTED_PERCENT_MIN,
        "{rejected} of {} orders were rejected",
        placed.len()
    );
    // A customer whose answer was lost tries again with the same key: no order more than were placed.
    ensure!(
        status_of.len() == placed.len(),
        "{} orders for {} customers",
        status_of.len(),
        placed.len()
    );
    for product in products {
        let item =
            stack.item("PRODUCTS_TABLE", "product_id", product).await?.context("a product")?;
        let left: u64 = item["stock"].as_n().ok().context("a stock")?.parse()?;
        let taken = taken.get(product).copied().unwrap_or_default();
        ensure!(left == stock - taken, "stock {left}, put in {stock}, taken {taken}");
    }
    let mut logged: HashMap<(String, String), usize> = HashMap::new();
    for event in stack.items("EVENT_LOG_TABLE").await? {
        let attributes = event["attributes"].as_m().ok().context("attributes")?;
        *logged.entry((text(&event, "order_id"), text(attributes, "event_type"))).or_default() += 1;
    }
    let twice: Vec<_> = logged.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "logged twice: {twice:?}");
    let mails: std::collections::HashSet<String> = stack.all_mails().await?.into_iter().collect();
    for (order, event_type) in logged.keys() {
        let outcome = match event_type.as_str() {
            "OrderCreated" => "Created Successfully",
            "OrderConfirmed" => "Confirmed",
            "OrderRejected" => "Rejected",
            "OrderCancelled" => "Cancelled",
            "OrderShipped" => "Shipped",
            _ => continue,
        };
        let subject = format!("Order #{order} {outcome}");
        ensure!(mails.contains(&subject), "never mailed: {subject}");
    }
    for queue in [Queue::Product, Queue::Order] {
        let dead = stack.messages(stack.dlq(queue)).await?;
        ensure!(dead == 0, "{dead} messages in the DLQ of {queue:?}");
    }
    // A mail whose answers were all lost was sent, as is checked above, and is given up: nothing else may be there.
    for _ in 0..stack.messages(stack.dlq(Queue::Notification)).await? {
        let letter = stack.message_with(stack.dlq(Queue::Notification), "").await?;
        let attributes = letter.message_attributes().context("attributes")?;
        let reason = attributes.get("failure_reason").and_then(|value| value.string_value());
        ensure!(reason == Some("mail_outcome_unknown"), "a mail is dead: {attributes:?}");
        println!("a mail was given up after its answers were lost");
    }
    println!("{} events, {} mails; the books are right", logged.len(), mails.len());
    Ok(())
}
