//! Orders that are paid by localstripe, with accidents of AWS's calls, Stripe's calls and processes.
//!
//! Customers pay, cancel, do both at once, or neither; Stripe's webhooks come again and in any order, and some are lost, because a process
//! died of them. When it is quiet again, each order has either goods and their price paid, or neither.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{
    Queue, Seconds, Stack,
    api::order_body,
    eventually,
    localstripe::{GOOD_CARD, KEY, LocalStripe},
};
use fastrand::Rng;
use futures::{StreamExt, TryStreamExt, stream};
use ring::hmac;
use serde_json::{Value, json};

use crate::{CUSTOMERS, FAULTS_PERMILLE, sweep_for_ever};

const ORDERS: u64 = 300;
const PIECES: u64 = 100_000;
/// The secret with which the stack's localstripe signs its webhooks.
const WEBHOOK_SECRET: &str = "whsec_orderflow";
/// What webhooks may say besides what is so: they are hints.
const EVENT_TYPES: [&str; 3] =
    ["payment_intent.succeeded", "payment_intent.canceled", "payment_intent.payment_failed"];
/// Number of objects of a page of Stripe's lists.
const PAGE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn after_any_number_of_accidents_who_pays_has_the_goods_or_the_money() -> Result<()> {
    let stack = Stack::load().await?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("ORDERFLOW_SEED").unwrap_or_else(|| fastrand::u64(..));
    let orders = number("ORDERFLOW_PAID_ORDERS").unwrap_or(ORDERS);
    println!("seed {seed}, {orders} paid orders; repeat with ORDERFLOW_SEED={seed}");
    stack.set_visibility_timeouts(5).await?;
    let product = stack.api.product("Paid chaos", "1.25", PIECES).await?;
    stack.chaos(seed, FAULTS_PERMILLE).await?;
    let sweeping = tokio::spawn(sweep_for_ever(stack.clone()));
    let placed: Vec<String> = stream::iter(0..orders)
        .map(|n| {
            let rng = Rng::with_seed(seed.wrapping_add(n));
            Customer { stack: stack.clone(), rng }.order(&product)
        })
        .buffer_unordered(CUSTOMERS)
        .try_collect()
        .await?;
    println!("{} orders placed, struck: {}", placed.len(), stack.chaos_struck().await?);
    stack.chaos(seed, [0, 0, 0]).await?;
    wait_until_quiet(&stack).await?;
    sweeping.abort();
    check_books(&stack, &product, &placed).await?;
    let reconciled = stack.run(&["reconcile"]).await?;
    ensure!(reconciled.code == 0, "{}", reconciled.stdout);
    Ok(())
}

struct Customer {
    stack: Stack,
    rng: Rng,
}

impl Customer {
    async fn order(mut self, product: &str) -> Result<String> {
        let quantity = self.rng.u64(1..=3);
        let body = order_body("payer@example.com", &[(product, quantity)]);
        let key = uuid::Uuid::new_v4().to_string();
        let answer = self.insist("POST", "/orders", body, &[("idempotency-key", &key)]).await?;
        let order = answer["id"].as_str().context("an id")?.to_owned();
        let token = answer["order_token"].as_str().context("a token")?.to_owned();
        let Some(intent) = self.payment_intent(&order, &token).await? else { return Ok(order) };
        match self.rng.u32(0..100) {
            0..40 => self.pay(&intent).await?,
            40..55 => {
                self.pay(&intent).await?;
                self.pause().await;
                self.cancel(&order, &token).await?;
            }
            55..70 => {
                let canceller = Self { stack: self.stack.clone(), rng: self.rng.fork() };
                let (paid, cancelled) =
                    tokio::join!(self.pay(&intent), canceller.cancel(&order, &token));
                paid.and(cancelled)?;
            }
            70..85 => self.cancel(&order, &token).await?,
            // Never paid: the time runs out.
            _ => {}
        }
        for _ in 0..self.rng.u32(0..3) {
            self.send_webhook(&intent).await?;
        }
        Ok(order)
    }

    /// Calls until there is an answer; a refusal for the order's status is one.
    async fn insist(
        &self,
        method: &str,
        path: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<Value> {
        eventually(path, 120.secs(), async || {
            let answer = self.stack.api.call_with(method, path, body.clone(), headers).await?;
            match answer.status {
                200 | 201 | 404 | 409 => Ok(Some(answer.json)),
                500.. => Ok(None),
                _ => bail!("{path}: {}", answer.text),
            }
        })
        .await
    }

    /// What the order is paid with, or `None` if it cannot be paid any more.
    async fn payment_intent(&self, order: &str, token: &str) -> Result<Option<String>> {
        let path = format!("/orders/{order}/payment");
        eventually(&format!("the payment of {order}"), 180.secs(), async || {
            let payment =
                self.insist("GET", &path, String::new(), &[("order-token", token)]).await?;
            let secret = payment["client_secret"].as_str();
            let id = secret.and_then(|secret| secret.split_once("_secret_")).map(|(id, _)| id);
            Ok(match (id, payment["status"].as_str()) {
                (Some(id), _) => Some(Some(id.to_owned())),
                (None, Some("cancelled" | "succeeded" | "refunding" | "refunded")) => Some(None),
                (None, _) => None,
            })
        })
        .await
    }

    /// Pays, unless it is too late.
    async fn pay(&mut self, intent: &str) -> Result<()> {
        self.pause().await;
        localstripe(&self.stack).pay(intent, GOOD_CARD).await.map(drop)
    }

    async fn cancel(&self, order: &str, token: &str) -> Result<()> {
        let path = format!("/orders/{order}/cancel");
        self.insist("POST", &path, String::new(), &[("order-token", token)]).await.map(drop)
    }

    /// A webhook of Stripe's, one more, about what may not have happened; nobody sends it again if nobody answers.
    async fn send_webhook(&mut self, intent: &str) -> Result<()> {
        let event_type = self.rng.choice(EVENT_TYPES).context("a type")?;
        let body = json!({
            "id": format!("evt_{}", uuid::Uuid::new_v4().simple()),
            "type": event_type,
            "data": { "object": { "id": intent, "object": "payment_intent" } },
        })
        .to_string();
        let at = jiff::Timestamp::now().as_second();
        let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
        let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = format!("t={at},v1={hex}");
        let headers = [("stripe-signature", signature.as_str())];
        let answer = self.stack.api.call_with("POST", "/payments/webhook", body, &headers).await?;
        ensure!(answer.status == 200 || answer.status >= 500, "{}", answer.text);
        Ok(())
    }

    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..1500))).await;
    }
}

fn localstripe(stack: &Stack) -> LocalStripe {
    LocalStripe { endpoint: stack.setting("STRIPE_ENDPOINT").to_owned() }
}

/// Waits until nothing moves any more, and lets the time to pay pass of whatever still awaits its payment.
async fn wait_until_quiet(stack: &Stack) -> Result<()> {
    let limit = Duration::from_secs(300);
    eventually("every order to be settled and every event to be published", limit, async || {
        let orders = stack.items("ORDERS_TABLE").await?;
        let mut open = 0;
        for order in &orders {
            let status = order["status"].as_s().ok().context("a status")?;
            open += usize::from(matches!(status.as_str(), "pending" | "awaiting_payment"));
            if status == "awaiting_payment" {
                pass_time(stack, &order["order_id"]).await;
            }
        }
        let log = stack.items("EVENT_LOG_TABLE").await?;
        let unpublished = log.iter().filter(|event| event.contains_key("outbox_shard")).count();
        let mut waiting = 0;
        for queue in Queue::ALL.into_iter().chain([Queue::Payment]) {
            waiting += stack.messages(stack.queue(queue)).await?;
        }
        tokio::time::sleep(2.secs()).await;
        Ok((open == 0 && unpublished == 0 && waiting == 0).then_some(()))
    })
    .await
}

/// Lets the next step of an order that awaits its payment be due, unless it has just left that.
async fn pass_time(stack: &Stack, order: &AttributeValue) {
    let past = AttributeValue::S("2020-01-01T00:00:00.000Z".into());
    let passed = stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("ORDERS_TABLE"))
        .key("order_id", order.clone())
        .update_expression("SET payment_next_at = :past, payment_due_at = :past")
        .condition_expression("attribute_exists(payment_next_at)")
        .expression_attribute_values(":past", past)
        .send()
        .await;
    drop(passed);
}

/// Everything that must be right at rest, by what Stripe says.
async fn check_books(stack: &Stack, product: &str, placed: &[String]) -> Result<()> {
    let orders = stack.items("ORDERS_TABLE").await?;
    ensure!(orders.len() == placed.len(), "{} orders for {} customers", orders.len(), placed.len());
    let intents = list(stack, "payment_intents").await?;
    let refunds = list(stack, "refunds").await?;
    let mut statuses: HashMap<String, usize> = HashMap::new();
    let (mut taken, mut money) = (0, 0);
    for order in &orders {
        let text = |name: &str| order[name].as_s().ok().context("a text");
        let number = |value: &AttributeValue| -> Result<u64> {
            Ok(value.as_n().ok().context("a number")?.parse()?)
        };
        let (id, status) = (text("order_id")?, text("status")?);
        *statuses.entry(status.clone()).or_default() += 1;
        let mine: Vec<&Value> =
            intents.iter().filter(|intent| intent["metadata"]["order_id"] == **id).collect();
        let open = mine.iter().filter(|intent| intent["status"] != "canceled").count();
        ensure!(open <= 1, "{id} is {status} and has {open} payments: {mine:?}");
        let paid: Vec<&&Value> = mine.iter().filter(|one| one["status"] == "succeeded").collect();
        let mut kept = 0;
        for one in &paid {
            let back =
                refunds.iter().filter(|refund| refund["payment_intent"] == one["id"]).count();
            ensure!(back <= 1, "{id} was refunded {back} times");
            if back == 0 {
                kept += one["amount"].as_u64().context("an amount")?;
            }
        }
        let total = number(&order["total"])?;
        let is_kept = status == "confirmed";
        ensure!(kept == if is_kept { total } else { 0 }, "{id} is {status}: {kept} of {total}");
        ensure!(is_kept || open == paid.len(), "{id} is {status} and can be paid");
        ensure!(status != "expired" || paid.is_empty(), "{id} is expired and was paid");
        if is_kept {
            money += kept;
            for line in order["items"].as_l().ok().context("items")? {
                taken += number(&line.as_m().ok().context("a line")?["quantity"])?;
            }
        }
    }
    let left = stack.item("PRODUCTS_TABLE", "product_id", product).await?.context("a product")?;
    let left: u64 = left["stock"].as_n().ok().context("a stock")?.parse()?;
    ensure!(left + taken == PIECES, "{left} left and {taken} taken of {PIECES}");
    for queue in [Queue::Product, Queue::Order, Queue::Payment] {
        let dead = stack.messages(stack.dlq(queue)).await?;
        ensure!(dead == 0, "{dead} messages in the DLQ of {queue:?}");
    }
    for status in ["confirmed", "cancelled", "expired"] {
        ensure!(statuses.contains_key(status), "no order is {status}: {statuses:?}");
    }
    println!(
        "{statuses:?}; {} payments, {} refunds, {money} kept; the books are right",
        intents.len(),
        refunds.len()
    );
    Ok(())
}

/// All of Stripe's objects of a kind.
async fn list(stack: &Stack, kind: &str) -> Result<Vec<Value>> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().and_then(|last| last["id"].as_str());
        let after = after.map(|id| format!("&starting_after={id}")).unwrap_or_default();
        let endpoint = stack.setting("STRIPE_ENDPOINT");
        let url = format!("{endpoint}/v1/{kind}?limit={PAGE}{after}");
        let answer = http.get(url).bearer_auth(KEY).send().await?.error_for_status()?;
        let page: Value = serde_json::from_str(&answer.text().await?)?;
        let data = page["data"].as_array().context("a list")?;
        all.extend(data.iter().cloned());
        if page["has_more"] != true {
            return Ok(all);
        }
    }
}
