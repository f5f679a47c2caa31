//! Customers, who order, look and cancel, and administrators, who change products and stock, all at once.
//!
//! In: the API and the products. Out: the orders that were answered with 201; what administrators were answered that they have
//! added to the stock. Guarantee: every answer is checked by itself: a repetition is answered as the first time, a list has only
//! what is the customer's own, a cancelled order stays cancelled.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::join;
use serde_json::{Value, json};
use simulated_aws::SimulatedAws;

use crate::clients::{Api, Call};

/// How long after its order a customer may cancel it.
const CANCEL_MS_MAX: u64 = 20_000;
/// How long after its order an administrator may ship it.
const SHIP_MS_MAX: u64 = 60_000;
/// Number of times that a refused change of stock is asked for again: DynamoDB reports other reasons of a refusal each time.
const REPETITIONS: usize = 6;

/// One customer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Customer {
    pub number: usize,
    /// When it begins, at the latest.
    pub begins_ms_max: u64,
    /// Whether it may send a request over two connections at once.
    pub repeats: bool,
}

fn status_of(order: &Value) -> &str {
    order["status"].as_str().unwrap_or_default()
}

impl Customer {
    /// Orders, looks at the order, and may cancel it. Returns the order's id.
    pub(crate) async fn order(
        self,
        aws: &SimulatedAws,
        api: &Api,
        products: &[String],
    ) -> Result<String> {
        tokio::time::sleep(Duration::from_millis(aws.draw(0..self.begins_ms_max))).await;
        let email = format!("customer{}@example.com", self.number);
        let lines = usize::try_from(aws.draw(1..products.len() as u64 + 1))?;
        let line = |product| json!({ "product_id": product, "quantity": aws.draw(1..4) });
        let items: Vec<Value> = products.iter().take(lines).map(line).collect();
        let body = json!({ "customer_email": email, "items": items });
        let key = format!("order-{}", self.number);
        let call = Call::post("/orders", body).key(&key);
        let (status, answer) = if self.repeats && aws.draw(0..3) == 0 {
            let (one, other) = join!(api.insist(&call), api.insist(&call));
            let (one, other) = (one?, other?);
            ensure!(one == other, "one request over two connections: {one:?} and {other:?}");
            one
        } else {
            api.insist(&call).await?
        };
        ensure!(status == 201, "an order was answered with {status}: {answer}");
        let id = answer["id"].as_str().context("an id")?.to_owned();
        let token = answer["order_token"].as_str().context("a token")?;
        if self.repeats && aws.draw(0..4) == 0 {
            let other = json!({ "customer_email": email, "items": [items[0], items[0]] });
            let (status, answer) = api.insist(&Call::post("/orders", other).key(&key)).await?;
            ensure!(status == 422, "{id}: its key for another order: {status} {answer}");
        }
        match aws.draw(0..9) {
            0 => self.look(api, &id, &email).await?,
            1 => {
                let call = Call { prefer: Some("wait=5"), ..Call::get("/orders/{id}").id(&id) };
                let (status, order) = api.insist(&call).await?;
                ensure!(status == 200 && order["id"] == *id, "{id}: {status} {order}");
            }
            2 | 3 => self.cancel(aws, api, &id, token).await?,
            4 => ship(aws, api, &id).await?,
            _ => {}
        }
        Ok(id)
    }

    async fn look(self, api: &Api, id: &str, email: &str) -> Result<()> {
        let list = Call { query: vec![("customer_email", email)], ..Call::get("/orders") };
        let (status, page) = api.insist(&list).await?;
        // The index may not have it yet.
        let orders = page["orders"].as_array().context("a list")?;
        let is_own = orders.iter().all(|order| order["customer_email"] == *email);
        ensure!(status == 200 && is_own, "{id}: a list of {email}: {status} {page}");
        let (status, history) = api.insist(&Call::get("/orders/{id}/events").id(id)).await?;
        // Not always first: events are sorted by their ids, and so by the clocks of those who made them.
        let mut events = history["events"].as_array().into_iter().flatten();
        let has_creation = events.any(|event| event["event_type"] == "OrderCreated");
        ensure!(status == 200 && has_creation, "{id}: {status} {history}");
        Ok(())
    }

    async fn cancel(self, aws: &SimulatedAws, api: &Api, id: &str, token: &str) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(aws.draw(0..CANCEL_MS_MAX))).await;
        let call = Call::post("/orders/{id}/cancel", Value::Null).id(id).order_token(token);
        let (status, answer) = if self.repeats && aws.draw(0..2) == 0 {
            let (one, other) = join!(api.insist(&call), api.insist(&call));
            let (one, _) = (one?, other?);
            one
        } else {
            api.insist(&call).await?
        };
        ensure!(matches!(status, 200 | 409), "{id}: cancelled with {status}: {answer}");
        let (_, order) = api.insist(&Call::get("/orders/{id}").id(id)).await?;
        let fits = match status {
            200 => status_of(&order) == "cancelled",
            _ => status_of(&order) != "pending",
        };
        ensure!(fits, "{id}: cancelled with {status}, and then {order}");
        Ok(())
    }
}

/// Ships an order, as an administrator does when it is packed: one that is not confirmed cannot be.
async fn ship(aws: &SimulatedAws, api: &Api, id: &str) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(aws.draw(0..SHIP_MS_MAX))).await;
    let (status, answer) = api.insist(&Call::post("/orders/{id}/ship", Value::Null).id(id)).await?;
    ensure!(matches!(status, 200 | 409), "{id}: shipped with {status}: {answer}");
    let (_, order) = api.insist(&Call::get("/orders/{id}").id(id)).await?;
    let is_shipped = status_of(&order) == "shipped";
    ensure!(is_shipped || status == 409, "{id}: shipped with {status}, and then {order}");
    Ok(())
}

/// What an administrator was answered.
#[derive(Debug, Default)]
pub(crate) struct Administered {
    product: String,
    /// Pieces that were added to the stock, all in all.
    added: i64,
    /// Changes of stock that were refused, by their keys.
    refused: Vec<(String, i64)>,
}

impl Administered {
    /// Asks again, under the same keys, for what was refused, now that nothing is under way any more; the product, and what was added.
    ///
    /// A refusal while faults strike is not the last word: an attempt that had no answer may be carried out after the next one was refused.
    pub(crate) async fn settle(mut self, api: &Api) -> Result<(String, i64)> {
        for (key, delta) in self.refused {
            let mut answers = BTreeSet::new();
            for _ in 0..REPETITIONS {
                answers.insert(restock(api, &self.product, &key, delta).await?);
            }
            ensure!(
                answers.len() == 1,
                "a change of the stock of {} by {delta} is made and refused: {answers:?}",
                self.product
            );
            if answers.contains(&200) {
                self.added += delta;
            }
        }
        Ok((self.product, self.added))
    }
}

/// Asks for a change of stock; how it was answered.
async fn restock(api: &Api, product: &str, key: &str, delta: i64) -> Result<u16> {
    let call = Call::post("/products/{id}/stock", json!({ "delta": delta }));
    let (status, answer) = api.insist(&call.id(product).key(key)).await?;
    ensure!(matches!(status, 200 | 409), "the stock of {product} by {delta}: {status} {answer}");
    Ok(status)
}

/// One administrator changes a product now and then.
pub(crate) async fn administrate(
    aws: &SimulatedAws,
    api: &Api,
    product: &str,
    changes: u64,
) -> Result<Administered> {
    let mut administered = Administered { product: product.to_owned(), ..Administered::default() };
    for number in 0..changes {
        tokio::time::sleep(Duration::from_millis(aws.draw(0..20_000))).await;
        if aws.draw(0..3) == 0 {
            let price = aws.draw(1..100);
            let change = json!({ "price": price, "name": format!("Product at {price}") });
            let call = Call { method: "PATCH", ..Call::post("/products/{id}", change).id(product) };
            let (status, answer) = api.insist(&call).await?;
            ensure!(status == 200, "a change of {product}: {status} {answer}");
            continue;
        }
        let delta = i64::try_from(aws.draw(0..10))? - 4;
        if delta == 0 {
            continue;
        }
        let key = format!("restock-{product}-{number}");
        let both = join!(restock(api, product, &key, delta), restock(api, product, &key, delta));
        // A request that was refused is not remembered: the other may have found another stock.
        let (one, other) = (both.0?, both.1?);
        if one == 200 || other == 200 {
            administered.added += delta;
        } else {
            administered.refused.push((key, delta));
        }
    }
    Ok(administered)
}
