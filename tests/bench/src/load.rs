//! Events without end: fresh ones, made of a few that the functions themselves have published.
//!
//! In: the functions' binaries, once. Out: events, each with ids of its own, and the tables' items that they need.
//! Guarantee: what a function gets differs from a real event in ids and addresses only.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sim::shop::{ORDERS, PRODUCTS, Queue, UNPUBLISHED};
use simulated_aws::{Call, SimulatedAws};

use crate::{
    endpoint::Delays,
    shop::{Function, Shop, body_of, new_aws, order_request},
};

/// Number of products, and of customers: none of them is as busy as a partition of DynamoDB bears.
const PRODUCTS_COUNT: usize = 10;
const CUSTOMERS: u64 = 1000;
/// Number of shards of the index of pending orders.
const PENDING_SHARDS: u64 = 8;

const MESSAGE: &str = "@MESSAGE@";
const ORDER: &str = "@ORDER@";
const EVENT: &str = "@EVENT@";
const PRODUCT: &str = "@PRODUCT@";

/// What an invocation is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// POST /orders.
    Order,
    /// POST /orders with an `Idempotency-Key`.
    KeyedOrder,
    /// A batch of this number of `OrderCreated`.
    ReserveStock(usize),
    /// One `StockReserved`.
    SettleOrder,
    /// One `OrderCreated`, to be mailed.
    Mail,
}

#[derive(Debug)]
pub struct Load {
    order_created: String,
    stock_reserved: String,
    pending_order: BTreeMap<String, Value>,
    products: Vec<BTreeMap<String, Value>>,
    made: u64,
}

impl Load {
    /// Has the functions place one order, and keeps what they publish.
    ///
    /// # Errors
    /// A function does not do its work.
    pub async fn record(binaries: &std::path::Path) -> Result<Self> {
        let shop = Shop::deploy(binaries, Delays::NONE).await?;
        let mut product_api = shop.start(Function::ProductApi).await?;
        let mut order_api = shop.start(Function::OrderApi).await?;
        let mut product_consumer = shop.start(Function::Consumer(Queue::Product)).await?;
        let mut products = Vec::new();
        for _ in 0..PRODUCTS_COUNT {
            products.push(shop.add_product(&mut product_api).await?);
        }
        let request = order_request(&products[0], "customer0@example.com", None);
        let order = body_of(&order_api.invoke(request.to_string()).await?, 201)?;
        let order_id = order["id"].as_str().context("the order's id")?;
        let batch = shop.receive(Queue::Product, 1)?;
        let order_created = template(&batch.event["Records"][0], order_id, &products[0])?;
        let pending_order = shop.aws().item(ORDERS, &json!({ "order_id": { "S": order_id } }));
        shop.deliver(&mut product_consumer, &batch).await?;
        let batch = shop.receive(Queue::Order, 1)?;
        let stock_reserved = template(&batch.event["Records"][0], order_id, &products[0])?;
        Ok(Self {
            order_created,
            stock_reserved,
            pending_order: pending_order.context("the order")?,
            products: shop.aws().items(PRODUCTS),
            made: 0,
        })
    }

    /// An AWS with nothing but the products, and without subscribers: what is published is gone.
    ///
    /// # Errors
    /// A product is refused.
    pub async fn new_aws(&self) -> Result<SimulatedAws> {
        let aws = new_aws()?;
        for queue in Queue::OF_EVENTS {
            aws.delete_queue(&queue.url());
            aws.delete_queue(&queue.dlq_url());
        }
        for product in &self.products {
            put(&aws, PRODUCTS, &json!(product)).await?;
        }
        Ok(aws)
    }

    /// A fresh event; what it is about is put into this AWS's tables.
    ///
    /// # Errors
    /// An item is refused.
    pub async fn event(&mut self, work: Work, aws: &SimulatedAws) -> Result<String> {
        match work {
            Work::Order | Work::KeyedOrder => {
                self.made += 1;
                let product = self.product_id();
                let email = format!("customer{}@example.com", self.made % CUSTOMERS);
                let key = format!("key-of-the-client-{:012}", self.made);
                let key = (work == Work::KeyedOrder).then_some(key.as_str());
                Ok(order_request(&product, &email, key).to_string())
            }
            Work::ReserveStock(count) => {
                let template = self.order_created.clone();
                let records: Vec<_> = (0..count).map(|_| self.fresh(&template).1).collect();
                Ok(batch(&records))
            }
            Work::Mail => {
                let template = self.order_created.clone();
                Ok(batch(&[self.fresh(&template).1]))
            }
            Work::SettleOrder => {
                let template = self.stock_reserved.clone();
                let (order_id, record) = self.fresh(&template);
                let mut order = self.pending_order.clone();
                let text = |text: String| json!({ "S": text });
                order.insert("order_id".to_owned(), text(order_id));
                // Of the real order too: one of the shards, one of the customers.
                let shard = format!("{UNPUBLISHED}{}", self.made % PENDING_SHARDS);
                order.insert("pending_shard".to_owned(), text(shard));
                let email = format!("customer{}@example.com", self.made % CUSTOMERS);
                order.insert("customer_email".to_owned(), text(email));
                put(aws, ORDERS, &json!(order)).await?;
                Ok(batch(&[record]))
            }
        }
    }

    /// The id of an order, and a record about it.
    fn fresh(&mut self, template: &str) -> (String, String) {
        self.made += 1;
        let number = self.made;
        let order_id = format!("3b241101-e2bb-4255-8caf-{number:012x}");
        let record = template
            .replace(MESSAGE, &format!("11111111-e2bb-4255-8caf-{number:012x}"))
            .replace(ORDER, &order_id)
            .replace(EVENT, &format!("0198c9a4-7a52-7c4e-9f0e-{number:012x}"))
            .replace(PRODUCT, &self.product_id());
        (order_id, record)
    }

    fn product_id(&self) -> String {
        let place = usize::try_from(self.made).unwrap_or_default() % self.products.len();
        self.products[place]["product_id"]["S"].as_str().unwrap_or_default().to_owned()
    }
}

fn batch(records: &[String]) -> String {
    format!("{{\"Records\":[{}]}}", records.join(","))
}

/// A record with a place for each id.
fn template(record: &Value, order_id: &str, product_id: &str) -> Result<String> {
    let body: Value = serde_json::from_str(record["body"].as_str().context("a body")?)?;
    let event_id = body["event_id"].as_str().context("an event's id")?;
    let mut record = record.clone();
    record["messageId"] = json!(MESSAGE);
    let text = record.to_string();
    Ok(text.replace(event_id, EVENT).replace(order_id, ORDER).replace(product_id, PRODUCT))
}

async fn put(aws: &SimulatedAws, table: &str, item: &Value) -> Result<()> {
    let request = json!({ "TableName": table, "Item": item });
    let answer = aws.answer(&Call::DynamoDb("PutItem".to_owned(), request)).await;
    ensure!(answer.status == 200, "an item is refused: {}", answer.body);
    Ok(())
}
