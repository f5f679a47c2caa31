//! The order service's tables.
//!
//! In: decisions of [`crate::rules`]. Out: what DynamoDB made of them. Guarantee: an order and the event that
//! tells of it change in one transaction or not at all, and the event is then published at least once.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{
        AttributeValue, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure::AllOld,
        TransactWriteItem, Update,
    },
};
use delivery::{
    Commit, Failure, Handled, Inbox, Item, Outbox, Outgoing, Repeated, Role, Step, commit, request,
    transaction::CommitError,
};
use events::{Body, Email, Event, OrderId, ProductId, Stamp};
use http_api::RequestKey;
use serde::{Deserialize, Serialize};
use telemetry::Trace;

use crate::rules::{Move, Offer, Order, Status, Stock, Wish, after_settle, settle};

/// The tables did not answer, or hold something that they should not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

/// What an order carries in the sparse index `pending` until it leaves that status.
pub const PENDING_SHARD: &str = "pending";

/// The orders table, and what is to be told of it.
#[derive(Debug, Clone)]
pub struct Orders {
    /// The table client.
    pub client: Client,
    /// The orders table.
    pub table: String,
    /// What is to be told.
    pub outbox: Outbox,
}

/// What became of a new order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is stored.
    Now,
    /// Its request key came before.
    Before(Repeated),
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fulfilled {
    /// The order stands as wished, now or already.
    So(Order),
    /// The order stands where this cannot be.
    Refused(Status),
    /// There is no such order.
    Unknown,
}

/// Where a page of orders ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct AfterOrder {
    after: OrderId,
    created_at: Stamp,
}

impl http_api::Cursor for AfterOrder {}

impl Orders {
    /// Stores a new order with its event, and publishes that. With a request key and the step that stores it,
    /// once a key.
    ///
    /// # Errors
    /// The tables did not answer: whether the order is stored is unknown.
    pub async fn add(
        &self,
        order: &Order,
        key: Option<(&RequestKey, Step)>,
        trace: &Trace,
    ) -> Result<Added, StoreError> {
        let item: Item = serde_dynamo::to_item(order).map_err(failed)?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            // While the order is pending, so that those that stay so are found without reading all.
            .item("pending_shard", text(PENDING_SHARD))
            .condition_expression("attribute_not_exists(order_id)")
            .build()
            .expect("a put has a table and an item");
        let created = [told(&trace.correlation_id, Body::OrderCreated(order.told()), trace)];
        let mut steps = vec![Step::new(Role::Guard, TransactWriteItem::builder().put(put).build())];
        let now = order.created_at.timestamp();
        steps.extend(self.outbox.append(&created, now));
        let key_step = steps.len();
        let key = key.map(|(key, step)| {
            steps.push(step);
            key
        });
        match (commit(&self.client, &steps).await.map_err(failed)?, key) {
            (Commit::Done, _) => {
                self.outbox.publish(&created).await;
                Ok(Added::Now)
            }
            (Commit::Guarded(step, item), Some(key)) if step == key_step => {
                let item = item.ok_or_else(|| failed("a request key without its item"))?;
                Ok(Added::Before(request::judge(&item, &key.fingerprint)))
            }
            // The id is random: what is there under it is this very order, stored by an attempt whose
            // answer was lost. The sweep publishes it.
            (Commit::Guarded(..), _) => Ok(Added::Now),
            (other, _) => Err(failed(format!("a new order cannot come to {other:?}"))),
        }
    }

    /// Makes the move that `wish` finds, and tells of it. If the order moves on in between, asks again.
    ///
    /// # Errors
    /// The tables did not answer: whether the move was made is unknown, and asking again finds out.
    pub async fn fulfil(
        &self,
        id: &OrderId,
        wish: fn(&Order) -> Wish,
        trace: &Trace,
    ) -> Result<Fulfilled, StoreError> {
        // Statuses only move forward, and there are two moves at most before the last.
        const MOVES_MAX: usize = 3;
        let Some(mut order) = self.get(id).await? else { return Ok(Fulfilled::Unknown) };
        for _ in 0..MOVES_MAX {
            let planned = match wish(&order) {
                Wish::Do(planned) => planned,
                Wish::AlreadySo => return Ok(Fulfilled::So(order)),
                Wish::Refused(status) => return Ok(Fulfilled::Refused(status)),
            };
            let now = Stamp::now();
            let news = [told(&trace.correlation_id, planned.body.clone(), trace)];
            let mut steps = vec![self.step(id, &planned, now)];
            steps.extend(self.outbox.append(&news, now.timestamp()));
            match commit(&self.client, &steps).await.map_err(failed)? {
                Commit::Done => {
                    self.outbox.publish(&news).await;
                    return Ok(Fulfilled::So(Order {
                        status: planned.to,
                        updated_at: now,
                        ..order
                    }));
                }
                Commit::Guarded(_, Some(item)) => {
                    order = serde_dynamo::from_item(item).map_err(failed)?;
                }
                other => return Err(failed(format!("a move cannot come to {other:?}"))),
            }
        }
        Err(failed("the order kept moving"))
    }

    /// A page of a customer's orders, newest first, and where the next one begins.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn of_customer(
        &self,
        customer_email: &Email,
        limit: i32,
        after: Option<AfterOrder>,
    ) -> Result<(Vec<Order>, Option<AfterOrder>), StoreError> {
        let start = after.map(|at| {
            Item::from([
                ("order_id".to_owned(), text(at.after.as_str())),
                ("created_at".to_owned(), text(&at.created_at.to_string())),
                ("customer_email".to_owned(), text(customer_email.as_str())),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("by_customer")
            .key_condition_expression("customer_email = :email")
            .expression_attribute_values(":email", text(customer_email.as_str()))
            .scan_index_forward(false)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error)))?;
        let next = answer.last_evaluated_key.and_then(|key| {
            let field = |name: &str| key.get(name)?.as_s().ok();
            Some(AfterOrder {
                after: field("order_id")?.parse().ok()?,
                created_at: field("created_at")?.parse().ok()?,
            })
        });
        let orders = serde_dynamo::from_items(answer.items.unwrap_or_default()).map_err(failed)?;
        Ok((orders, next))
    }

    /// The events of an order as they were stored, in the order in which they were made.
    ///
    /// # Errors
    /// The event log did not answer.
    pub async fn history(&self, id: &OrderId) -> Result<Vec<String>, StoreError> {
        let mut bodies = Vec::new();
        let mut start = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.outbox.table)
                .key_condition_expression("order_id = :id")
                .expression_attribute_values(":id", text(id.as_str()))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| failed(DisplayErrorContext(error)))?;
            let items = page.items.unwrap_or_default().into_iter();
            bodies.extend(items.filter_map(|mut item| match item.remove("body") {
                Some(AttributeValue::S(body)) => Some(body),
                _ => None,
            }));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(bodies);
            }
        }
    }

    /// One order, as the last write left it.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn get(&self, id: &OrderId) -> Result<Option<Order>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("order_id", text(id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error)))?;
        answer.item.map(|item| serde_dynamo::from_item(item).map_err(failed)).transpose()
    }

    /// The step that makes a move, if the order is still where it starts from.
    fn step(&self, id: &OrderId, planned: &Move, now: Stamp) -> Step {
        let mut update = Update::builder()
            .table_name(&self.table)
            .key("order_id", text(id.as_str()))
            .condition_expression("#status = :from")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":from", text(planned.from.as_str()))
            .expression_attribute_values(":to", text(planned.to.as_str()))
            .expression_attribute_values(":now", text(&now.to_string()))
            .return_values_on_condition_check_failure(AllOld);
        update = match &planned.reason {
            None => update
                .update_expression("SET #status = :to, updated_at = :now REMOVE pending_shard"),
            Some(reason) => update
                .update_expression(
                    "SET #status = :to, updated_at = :now, reason = :reason REMOVE pending_shard",
                )
                .expression_attribute_values(":reason", text(reason)),
        };
        let update = update.build().expect("an update has a table, a key and an expression");
        Step::new(Role::Guard, TransactWriteItem::builder().update(update).build())
    }
}

/// What order-consumer works with.
#[derive(Debug, Clone)]
pub struct Settling {
    /// The orders.
    pub orders: Orders,
    /// What has had its effect.
    pub inbox: Inbox,
}

impl Settling {
    /// Moves an order as its stock says, and tells of it.
    ///
    /// # Errors
    /// No such order, which is poison; or nothing was done, or whether it was is unknown, and another try
    /// finds out.
    pub async fn settle(
        &self,
        event: &Event,
        id: &OrderId,
        stock: Stock<'_>,
        trace: &Trace,
    ) -> Result<Handled, Failure> {
        let order = self.orders.get(id).await.map_err(Failure::transient)?;
        let order =
            order.ok_or_else(|| Failure::poison("unknown_order", format!("no order {id}")))?;
        let Some(planned) = settle(&order, stock) else { return Ok(Handled::Already) };
        let now = Stamp::now();
        let news = [told(&event.correlation_id, planned.body.clone(), trace)];
        let mut steps =
            vec![self.inbox.marker(event.id, now.timestamp()), self.orders.step(id, &planned, now)];
        steps.extend(self.orders.outbox.append(&news, now.timestamp()));
        match commit(&self.orders.client, &steps).await {
            Ok(commit) => {
                if commit == Commit::Done {
                    self.orders.outbox.publish(&news).await;
                }
                Ok(after_settle(&commit))
            }
            Err(CommitError::Invalid(why)) => Err(Failure::poison("invalid_transaction", why)),
            Err(passing) => Err(Failure::transient(passing)),
        }
    }
}

/// What order-api reads of other services' tables.
#[derive(Debug, Clone)]
pub struct Offers {
    /// The table client.
    pub client: Client,
    /// The products table.
    pub table: String,
}

impl Offers {
    /// These products, as the last write left them. A product that is not there is left out.
    ///
    /// # Errors
    /// The table did not answer, or not with everything in several tries.
    pub async fn of(
        &self,
        ids: impl IntoIterator<Item = &ProductId>,
    ) -> Result<HashMap<ProductId, Offer>, StoreError> {
        const ATTEMPTS_MAX: usize = 5;
        let mut wanted: Vec<&ProductId> = ids.into_iter().collect();
        wanted.sort();
        wanted.dedup();
        let mut keys = KeysAndAttributes::builder().consistent_read(true);
        for id in wanted {
            keys = keys.keys(Item::from([("product_id".to_owned(), text(id.as_str()))]));
        }
        let keys = keys.build().map_err(failed)?;
        let mut unread = Some(HashMap::from([(self.table.clone(), keys)]));
        let mut offers = HashMap::new();
        for _ in 0..ATTEMPTS_MAX {
            let Some(request) = unread.take() else { return Ok(offers) };
            let answer = self
                .client
                .batch_get_item()
                .set_request_items(Some(request))
                .send()
                .await
                .map_err(|error| failed(DisplayErrorContext(error)))?;
            for item in answer.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                let offer: Offer = serde_dynamo::from_item(item).map_err(failed)?;
                offers.insert(offer.product_id.clone(), offer);
            }
            // A throttled table answers in part: what it left out is no missing product.
            unread = answer.unprocessed_keys.filter(|keys| !keys.is_empty());
        }
        if unread.is_none() { Ok(offers) } else { Err(failed("the products table is throttled")) }
    }
}

/// An event that happens now, ready to be stored and published.
fn told(correlation_id: &str, body: Body, trace: &Trace) -> Outgoing {
    let event = Event::now(correlation_id, body);
    Outgoing {
        stream: event.body.order_id().to_string(),
        id: event.id,
        body: event.encode(),
        attributes: event.attributes(&trace.traceparent),
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError(error.to_string())
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}
