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
    Commit, Failure, Handled, Inbox, Item, Outbox, Outgoing, Role, Step, commit,
    transaction::CommitError,
};
use events::{Body, Event, OrderId, ProductId, Stamp};
use telemetry::Trace;

use crate::rules::{Move, Offer, Order, Stock, settle};

/// The tables did not answer, or hold something that they should not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

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

impl Orders {
    /// Stores a new order with its event, and publishes that.
    ///
    /// # Errors
    /// The tables did not answer: whether the order is stored is unknown.
    pub async fn add(&self, order: &Order, trace: &Trace) -> Result<(), StoreError> {
        let item: Item = serde_dynamo::to_item(order).map_err(failed)?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(order_id)")
            .build()
            .expect("a put has a table and an item");
        let created = [told(&trace.correlation_id, Body::OrderCreated(order.told()), trace)];
        let mut steps = vec![Step::new(Role::Guard, TransactWriteItem::builder().put(put).build())];
        steps.extend(self.outbox.append(&created, order.created_at.timestamp()));
        match commit(&self.client, &steps).await.map_err(failed)? {
            Commit::Done => {
                self.outbox.publish(&created).await;
                Ok(())
            }
            // The id is random: what is there under it is this very order, stored by an attempt whose
            // answer was lost. The sweep publishes it.
            Commit::Guarded(_) => Ok(()),
            other => Err(failed(format!("a new order cannot come to {other:?}"))),
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
            None => update.update_expression("SET #status = :to, updated_at = :now"),
            Some(reason) => update
                .update_expression("SET #status = :to, updated_at = :now, reason = :reason")
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
            Ok(Commit::Done) => {
                self.orders.outbox.publish(&news).await;
                Ok(Handled::Done)
            }
            // Statuses only move forward: an order that has left `pending` has been settled or cancelled.
            Ok(_) => Ok(Handled::Already),
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
