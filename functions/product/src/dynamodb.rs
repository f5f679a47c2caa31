//! The product service's tables.
//!
//! In: decisions of [`crate::rules`]. Out: what DynamoDB made of them. Guarantee: marker, reservation, stock
//! and the event that tells of it change in one transaction or not at all.

use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{
        AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
    },
};
use delivery::{
    Commit, Failure, Handled, Inbox, Item, Outbox, Outgoing, Repeated, Requests, Role, Step,
    commit, request, transaction::CommitError,
};
use events::{Body, Event, Id, Name, OrderId, ProductId, RejectedStock, Stock, StockLine};
use http_api::RequestKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use telemetry::Trace;

use crate::rules::{self, Product, Release, Released, Reservation, STOCK_MAX, Standing};

/// The table did not answer, or holds something that it should not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

/// The products table.
#[derive(Debug, Clone)]
pub struct Products {
    /// The table client.
    pub client: Client,
    /// The table's name.
    pub table: String,
}

/// What to change of a product; what is nothing stays.
#[derive(Debug, Default)]
pub struct Change {
    /// A new name.
    pub name: Option<Name>,
    /// A new price.
    pub price: Option<events::Money>,
    /// A new category.
    pub category: Option<Name>,
}

/// What became of a change of stock.
#[derive(Debug, PartialEq, Eq)]
pub enum Restocked {
    /// The new stock.
    Now(u64),
    /// The stock as it is: the change would have left the range from 0 to [`STOCK_MAX`].
    OutOfRange(u64),
    /// There is no such product.
    Unknown,
}

/// What became of a change of stock that came with a request key.
#[derive(Debug, PartialEq, Eq)]
pub enum RestockedOnce {
    /// The key is new, or was refused before.
    Now(Restocked),
    /// The key came before.
    Before(Repeated),
}

/// Where a page of products ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct AfterProduct {
    after: ProductId,
}

impl http_api::Cursor for AfterProduct {}

impl Products {
    /// Stores a new product.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn add(&self, product: &Product) -> Result<(), StoreError> {
        let item = serde_dynamo::to_item(product).map_err(failed)?;
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map(drop)
            .map_err(|error| failed(DisplayErrorContext(error)))
    }

    /// One product, as the last write left it.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn get(&self, id: &ProductId) -> Result<Option<Product>, StoreError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("product_id", text(id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error)))?;
        answer.item.map(|item| serde_dynamo::from_item(item).map_err(failed)).transpose()
    }

    /// A page of products, and where the next one begins.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn page(
        &self,
        limit: i32,
        after: Option<AfterProduct>,
    ) -> Result<(Vec<Product>, Option<AfterProduct>), StoreError> {
        let start = after.map(|at| Item::from([("product_id".into(), text(at.after.as_str()))]));
        let answer = self
            .client
            .scan()
            .table_name(&self.table)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| failed(DisplayErrorContext(error)))?;
        let next = answer.last_evaluated_key.and_then(|key| {
            Some(AfterProduct { after: key.get("product_id")?.as_s().ok()?.parse().ok()? })
        });
        let products =
            serde_dynamo::from_items(answer.items.unwrap_or_default()).map_err(failed)?;
        Ok((products, next))
    }

    /// Changes a product. Nothing: there is no such product.
    ///
    /// # Errors
    /// The table did not answer, or others kept changing the product.
    pub async fn change(
        &self,
        id: &ProductId,
        change: &Change,
    ) -> Result<Option<Product>, StoreError> {
        const ATTEMPTS_MAX: usize = 5;
        for _ in 0..ATTEMPTS_MAX {
            let Some(mut product) = self.get(id).await? else { return Ok(None) };
            let read = product.version;
            product.version += 1;
            let mut sets = vec!["version = :version"];
            let mut values = vec![(":version", number(product.version)), (":read", number(read))];
            if let Some(name) = &change.name {
                sets.push("#name = :name");
                values.push((":name", text(name.as_str())));
                product.name = name.clone();
            }
            if let Some(price) = change.price {
                sets.push("price = :price");
                values.push((":price", AttributeValue::N(price.minor().to_string())));
                product.price = price;
            }
            if let Some(category) = &change.category {
                sets.push("category = :category");
                values.push((":category", text(category.as_str())));
                product.category = Some(category.clone());
            }
            let mut update = self
                .client
                .update_item()
                .table_name(&self.table)
                .key("product_id", text(id.as_str()))
                .update_expression(format!("SET {}", sets.join(", ")))
                // Set to what was reckoned, not added to: a retry of the SDK cannot count twice.
                .condition_expression("version = :read");
            if change.name.is_some() {
                update = update.expression_attribute_names("#name", "name");
            }
            for (name, value) in values {
                update = update.expression_attribute_values(name, value);
            }
            match update.send().await {
                Ok(_) => return Ok(Some(product)),
                Err(error)
                    if error
                        .as_service_error()
                        .is_some_and(|e| e.is_conditional_check_failed_exception()) => {}
                Err(error) => return Err(failed(DisplayErrorContext(error))),
            }
        }
        Err(failed("others kept changing the product"))
    }

    /// Adds to the stock of a product, or takes from it.
    ///
    /// # Errors
    /// The table did not answer: whether the stock has changed is unknown.
    pub async fn restock(&self, id: &ProductId, delta: i64) -> Result<Restocked, StoreError> {
        let step = Step::new(Role::Business, self.stock_change(id, delta));
        match commit(&self.client, &[step]).await.map_err(failed)? {
            Commit::Done => {
                let product = self.get(id).await?;
                Ok(product.map_or(Restocked::Unknown, |product| Restocked::Now(product.stock)))
            }
            _ => Ok(match self.get(id).await? {
                Some(product) => Restocked::OutOfRange(product.stock),
                None => Restocked::Unknown,
            }),
        }
    }

    /// The same, once a request key. The new stock is part of the answer that is kept with the key, so it has to
    /// be known beforehand: the transaction holds only if the stock is still what was read.
    ///
    /// # Errors
    /// The table did not answer, or the stock changed all the time: whether it was changed here is found
    /// out by asking again with the same key.
    pub async fn restock_once(
        &self,
        id: &ProductId,
        delta: i64,
        key: &RequestKey,
        requests: &Requests,
        answer: impl Fn(u64) -> String,
    ) -> Result<RestockedOnce, StoreError> {
        const ATTEMPTS_MAX: usize = 20;
        for _ in 0..ATTEMPTS_MAX {
            let Some(product) = self.get(id).await? else {
                return Ok(RestockedOnce::Now(Restocked::Unknown));
            };
            let Some(stock) = rules::restocked(product.stock, delta) else {
                return Ok(RestockedOnce::Now(Restocked::OutOfRange(product.stock)));
            };
            let set = Update::builder()
                .table_name(&self.table)
                .key("product_id", text(id.as_str()))
                .update_expression("SET stock = :stock")
                .condition_expression("stock = :read")
                .expression_attribute_values(":stock", number(stock))
                .expression_attribute_values(":read", number(product.stock))
                .build()
                .expect("an update has a table, a key and an expression");
            let steps = [
                requests.step(&key.key, &key.fingerprint, &answer(stock), Timestamp::now()),
                Step::new(Role::Guard, TransactWriteItem::builder().update(set).build()),
            ];
            match commit(&self.client, &steps).await.map_err(failed)? {
                Commit::Done => return Ok(RestockedOnce::Now(Restocked::Now(stock))),
                Commit::Guarded(0, Some(item)) => {
                    return Ok(RestockedOnce::Before(request::judge(&item, &key.fingerprint)));
                }
                _ => {}
            }
        }
        Err(failed("the stock kept changing"))
    }

    /// The write that changes stock by `delta`, if that leaves it between 0 and [`STOCK_MAX`].
    fn stock_change(&self, id: &ProductId, delta: i64) -> TransactWriteItem {
        let (condition, bound) = if delta < 0 {
            ("stock >= :bound", delta.unsigned_abs())
        } else {
            ("stock <= :bound", STOCK_MAX.saturating_sub(delta.unsigned_abs()))
        };
        let update = Update::builder()
            .table_name(&self.table)
            .key("product_id", text(id.as_str()))
            .update_expression("SET stock = stock + :delta")
            .condition_expression(condition)
            .expression_attribute_values(":delta", AttributeValue::N(delta.to_string()))
            .expression_attribute_values(":bound", number(bound))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("an update has a table, a key and an expression");
        TransactWriteItem::builder().update(update).build()
    }
}

/// What product-consumer works with.
#[derive(Debug, Clone)]
pub struct Reservations {
    /// Where stock is.
    pub products: Products,
    /// The reservations table.
    pub table: String,
    /// What has had its effect.
    pub inbox: Inbox,
    /// What is to be told.
    pub outbox: Outbox,
}

impl Reservations {
    /// Takes the stock of all lines, or rejects the order; and tells of it.
    ///
    /// # Errors
    /// Nothing was done, or whether it was is unknown; another try finds out.
    pub async fn reserve(
        &self,
        event: &Event,
        order: &events::Order,
        trace: &Trace,
    ) -> Result<Handled, Failure> {
        let lines = events::merge(order.items.iter().map(|line| StockLine {
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        }))
        .map_err(|product| Failure::poison("schema", format!("{product}: too many pieces")))?;
        let id = &order.order_id;
        let reserved = told(
            event,
            Body::StockReserved(Stock { order_id: id.clone(), items: lines.clone() }),
            trace,
        );
        let mut steps = self.opening(event, id, Standing::Reserved, &lines)?;
        let first_line = steps.len();
        steps.extend(lines.iter().map(|line| {
            let delta = -i64::from(line.quantity.get());
            Step::new(Role::Business, self.products.stock_change(&line.product_id, delta))
        }));
        let refused = match rules::after_reserve(self.commit(steps, reserved).await?) {
            Ok(handled) => return Ok(handled),
            Err(refused) => refused,
        };
        let refused: Vec<_> =
            refused.into_iter().map(|(step, item)| (step - first_line, item)).collect();
        let rejected = told(
            event,
            Body::StockRejected(RejectedStock {
                order_id: id.clone(),
                items: lines.clone(),
                short: rules::short(&lines, &refused),
            }),
            trace,
        );
        // Stock may have come in between. The rejection stands: the first look decides.
        let steps = self.opening(event, id, Standing::Rejected, &lines)?;
        let commit = self.commit(steps, rejected).await?;
        // It has no line that could be refused again.
        Ok(rules::after_reserve(commit).unwrap_or(Handled::Already))
    }

    /// Gives back what a cancelled order has taken, or sees to it that it takes nothing; and tells of it.
    ///
    /// # Errors
    /// As for [`Reservations::reserve`].
    pub async fn release(
        &self,
        event: &Event,
        order_id: &OrderId,
        trace: &Trace,
    ) -> Result<Handled, Failure> {
        // A guard that fails has met a step forward (none, reserved, released), of which there are two.
        const STEPS_FORWARD: usize = 3;
        for _ in 0..STEPS_FORWARD {
            let commit = match rules::release(self.get(order_id).await?) {
                Release::Nothing => return Ok(Handled::Already),
                Release::Entomb => {
                    let steps = self.opening(event, order_id, Standing::Cancelled, &[])?;
                    commit(&self.products.client, &steps).await.map_err(unfinished)?
                }
                Release::GiveBack(lines) => {
                    let released = told(
                        event,
                        Body::StockReleased(Stock {
                            order_id: order_id.clone(),
                            items: lines.clone(),
                        }),
                        trace,
                    );
                    let mut steps = vec![
                        self.inbox.marker(event.id, Timestamp::now()),
                        Step::new(Role::Guard, self.reserved_to_released(order_id)),
                    ];
                    steps.extend(lines.iter().map(|line| {
                        let delta = i64::from(line.quantity.get());
                        Step::new(
                            Role::Business,
                            self.products.stock_change(&line.product_id, delta),
                        )
                    }));
                    self.commit(steps, released).await?
                }
            };
            match rules::after_release(&commit) {
                Released::Settled(handled) => return Ok(handled),
                Released::Again => {}
                Released::Refused => {
                    return Err(Failure::transient("a product is gone or its shelf is full"));
                }
            }
        }
        Err(Failure::transient("the reservation kept changing"))
    }

    /// Commits, with the event that tells of it, and publishes that.
    async fn commit(&self, mut steps: Vec<Step>, event: Outgoing) -> Result<Commit, Failure> {
        let events = [event];
        steps.extend(self.outbox.append(&events, Timestamp::now()));
        let commit = commit(&self.products.client, &steps).await.map_err(unfinished)?;
        if commit == Commit::Done {
            self.outbox.publish(&events).await;
        }
        Ok(commit)
    }

    /// The steps that every first word on an order begins with: the marker, and the reservation, of which
    /// there is one an order.
    fn opening(
        &self,
        event: &Event,
        order_id: &Id,
        status: Standing,
        lines: &[StockLine],
    ) -> Result<Vec<Step>, Failure> {
        let reservation = Reservation { status, items: lines.to_vec() };
        let item: Item = serde_dynamo::to_item(&reservation).map_err(Failure::transient)?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .item("order_id", text(order_id.as_str()))
            .condition_expression("attribute_not_exists(order_id)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("a put has a table and an item");
        Ok(vec![
            self.inbox.marker(event.id, Timestamp::now()),
            Step::new(Role::Guard, TransactWriteItem::builder().put(put).build()),
        ])
    }

    fn reserved_to_released(&self, order_id: &OrderId) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.table)
            .key("order_id", text(order_id.as_str()))
            .update_expression("SET #status = :released")
            .condition_expression("#status = :reserved")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":released", text("released"))
            .expression_attribute_values(":reserved", text("reserved"))
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("an update has a table, a key and an expression");
        TransactWriteItem::builder().update(update).build()
    }

    async fn get(&self, order_id: &OrderId) -> Result<Option<Reservation>, Failure> {
        let answer = self
            .products
            .client
            .get_item()
            .table_name(&self.table)
            .key("order_id", text(order_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| Failure::transient(DisplayErrorContext(error)))?;
        answer.item.map(serde_dynamo::from_item).transpose().map_err(Failure::transient)
    }
}

/// The event that follows from `cause`, ready to be stored and published.
fn told(cause: &Event, body: Body, trace: &Trace) -> Outgoing {
    let event = Event::now(&cause.correlation_id, body);
    Outgoing {
        stream: event.body.order_id().to_string(),
        id: event.id,
        body: event.encode(),
        attributes: event.attributes(&trace.traceparent),
    }
}

fn unfinished(error: CommitError) -> Failure {
    match error {
        CommitError::Invalid(why) => Failure::poison("invalid_transaction", why),
        passing => Failure::transient(passing),
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError(error.to_string())
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}
