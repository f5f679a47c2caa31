//! The product service's tables.
//!
//! In: decisions of [`crate::rules`]. Out: what DynamoDB made of them. Guarantee: marker, reservation, stock
//! and the event that reports it change in one transaction or not at all.

use aws_sdk_dynamodb::{
    Client,
    types::{Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update},
};
use events::{
    Body, Event, Id, Name, OrderId, ProductId, Quantity, RejectedStock, Stock, StockLine,
};
use exactly_once::{
    CallError, Clock, Commit, EarlierRequest, Failure, Handled, IdempotencyKeys, Ids, Inbox, Item,
    Outbox, Outgoing, RequestKey, Role, TableError, TransactionWrite, commit,
    idempotency_keys::interpret_key_item,
    table::{number, text},
};
use messaging::EventFactory;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use telemetry::Trace;

use crate::rules::{
    self, Product, Release, ReleaseOutcome, Reservation, ReservationStatus, StockChange,
};

/// The products table.
#[derive(Debug, Clone)]
pub struct Products {
    client: Client,
    table: String,
}

/// What administrators did to stock, from the opening balance of each product: with the reservations, stock can be
/// computed from it. An item a change, kept for ever.
#[derive(Debug, Clone)]
pub struct StockChanges {
    table: String,
    clock: Clock,
    ids: Ids,
}

impl StockChanges {
    /// The changes in this table.
    #[must_use]
    pub fn new(table: impl Into<String>, clock: Clock, ids: Ids) -> Self {
        Self { table: table.into(), clock, ids }
    }

    /// The write that records a change, for its transaction.
    fn record<Tag>(&self, id: &ProductId, delta: i64) -> TransactionWrite<Tag> {
        let now = self.clock.now();
        let put = Put::builder()
            .table_name(&self.table)
            .item("product_id", text(id.as_str()))
            .item("change_id", text(self.ids.ordered(now)))
            .item("delta", number(delta))
            .item("changed_at", text(format!("{now:.3}")))
            .build()
            .expect("a put has a table and an item");
        TransactionWrite::new(Role::Unconditional, TransactWriteItem::builder().put(put).build())
    }
}

/// A change of a product; what is `None` stays.
#[derive(Debug, Default)]
pub struct ProductChange {
    /// A new name.
    pub name: Option<Name>,
    /// A new price.
    pub price: Option<events::Money>,
    /// What becomes of the category.
    pub category: Option<CategoryChange>,
}

/// What becomes of a product's category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CategoryChange {
    /// It belongs to this one.
    Set(Name),
    /// It belongs to none any more.
    Clear,
}

/// What became of a change of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restocked {
    /// It was made, now or by an earlier request with this key.
    Done,
    /// Another request came with this key.
    KeyReused,
    /// The stock as it is: the change would have left the range from 0 to [`STOCK_MAX`](crate::rules::STOCK_MAX).
    OutOfRange(u64),
    /// There is no such product.
    UnknownProduct,
}

/// The position after which a page of products begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProductCursor {
    after: ProductId,
}

impl http_api::Cursor for ProductCursor {}

/// The writes whose failure means something of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestockWrite {
    Product,
    IdempotencyKey,
}

impl Products {
    /// The products in this table.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Stores a new product, with its stock as opening balance.
    ///
    /// # Errors
    /// The tables did not answer: whether it is stored is unknown.
    pub async fn add(&self, product: &Product, changes: &StockChanges) -> Result<(), TableError> {
        let item: Item =
            serde_dynamo::to_item(product).map_err(TableError::corrupt(&self.table))?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .build()
            .expect("a put has a table and an item");
        let put = TransactWriteItem::builder().put(put).build();
        let opening = i64::try_from(product.stock).unwrap_or(i64::MAX);
        let writes: [TransactionWrite<()>; 2] = [
            TransactionWrite::new(Role::Unconditional, put),
            changes.record(&product.product_id, opening),
        ];
        match commit(&self.client, &writes).await? {
            Commit::Done => Ok(()),
            Commit::Duplicate | Commit::GuardFailed(..) | Commit::ConditionFailed(_) => {
                unreachable!("the transaction has no condition")
            }
        }
    }

    /// One product, as the last write left it, or `None` if there is no such product.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn get(&self, id: &ProductId) -> Result<Option<Product>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("product_id", text(id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem product"))?;
        answer.item.map(|item| read(item, &self.table)).transpose()
    }

    /// A page of products, and the cursor of the next one.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn page(
        &self,
        limit: i32,
        after: Option<ProductCursor>,
    ) -> Result<(Vec<Product>, Option<ProductCursor>), TableError> {
        let start = after.map(|at| Item::from([("product_id".into(), text(at.after.as_str()))]));
        let answer = self
            .client
            .scan()
            .table_name(&self.table)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Scan products"))?;
        let next = answer.last_evaluated_key.and_then(|key| {
            Some(ProductCursor { after: key.get("product_id")?.as_s().ok()?.parse().ok()? })
        });
        let items = answer.items.unwrap_or_default().into_iter();
        let products: Result<_, _> = items.map(|item| read(item, &self.table)).collect();
        Ok((products?, next))
    }

    /// Changes a product, and returns it, or `None` if there is no such product. Of two changes at once both are made.
    ///
    /// # Errors
    /// The table did not answer, or others kept changing the product. Changing it again to the same is harmless.
    pub async fn change(
        &self,
        id: &ProductId,
        change: &ProductChange,
    ) -> Result<Option<Product>, TableError> {
        let mut sets = vec!["version = version + :one"];
        let mut update = Update::builder()
            .table_name(&self.table)
            .key("product_id", text(id.as_str()))
            .condition_expression("attribute_exists(product_id)")
            .expression_attribute_values(":one", number(1));
        if let Some(name) = &change.name {
            sets.push("#name = :name");
            update = update
                .expression_attribute_names("#name", "name")
                .expression_attribute_values(":name", text(name.as_str()));
        }
        if let Some(price) = change.price {
            sets.push("price = :price");
            update = update.expression_attribute_values(":price", number(price.minor()));
        }
        let remove = match &change.category {
            Some(CategoryChange::Set(category)) => {
                sets.push("category = :category");
                update = update.expression_attribute_values(":category", text(category.as_str()));
                ""
            }
            Some(CategoryChange::Clear) => " REMOVE category",
            None => "",
        };
        let update = update
            .update_expression(format!("SET {}{remove}", sets.join(", ")))
            .build()
            .expect("an update has a table, a key and an expression");
        let update = TransactWriteItem::builder().update(update).build();
        // In a transaction, because that is tried again while others are in the way, and counts a version once.
        let write = TransactionWrite::new(Role::Condition(()), update);
        match commit(&self.client, &[write]).await? {
            Commit::Done => self.get(id).await,
            Commit::ConditionFailed(_) => Ok(None),
            Commit::Duplicate | Commit::GuardFailed(..) => {
                unreachable!("the transaction has neither a marker nor a guard")
            }
        }
    }

    /// Adds to the stock of a product, or takes from it, once an idempotency key.
    ///
    /// # Errors
    /// The table did not answer: whether the stock was changed is found out by asking again with the same key.
    pub async fn restock(
        &self,
        id: &ProductId,
        delta: i64,
        key: &RequestKey,
        keys: &IdempotencyKeys,
        changes: &StockChanges,
    ) -> Result<Restocked, TableError> {
        // No answer is stored: a repetition reads the stock as it is then.
        let writes = [
            keys.record(RestockWrite::IdempotencyKey, key, ""),
            changes.record(id, delta),
            TransactionWrite::new(
                Role::Condition(RestockWrite::Product),
                self.stock_change(id, StockChange::Adjust(delta)),
            ),
        ];
        match commit(&self.client, &writes).await? {
            Commit::Done => Ok(Restocked::Done),
            Commit::GuardFailed(_, item) => {
                match interpret_key_item(&item.unwrap_or_default(), &key.fingerprint) {
                    EarlierRequest::Replayed(_) => Ok(Restocked::Done),
                    EarlierRequest::KeyReused => Ok(Restocked::KeyReused),
                }
            }
            Commit::ConditionFailed(failed) => {
                // DynamoDB need not have reported that the key was there, too: then this is a repetition.
                match keys.find(key).await? {
                    Some(EarlierRequest::Replayed(_)) => return Ok(Restocked::Done),
                    Some(EarlierRequest::KeyReused) => return Ok(Restocked::KeyReused),
                    None => {}
                }
                let product = failed.into_iter().find_map(|(_, product)| product);
                Ok(product.map_or(Restocked::UnknownProduct, |product| {
                    Restocked::OutOfRange(rules::stock_of(&product))
                }))
            }
            Commit::Duplicate => unreachable!("the transaction has no marker"),
        }
    }

    /// The write that changes stock, if the stock allows it.
    fn stock_change(&self, id: &ProductId, change: StockChange) -> TransactWriteItem {
        let allowed = change.allowed_stock();
        let mut conditions = vec!["attribute_exists(product_id)"];
        let mut update = Update::builder()
            .table_name(&self.table)
            .key("product_id", text(id.as_str()))
            .update_expression("SET stock = stock + :delta")
            .expression_attribute_values(":delta", number(change.delta()))
            .return_values_on_condition_check_failure(AllOld);
        if *allowed.start() > 0 {
            conditions.push("stock >= :least");
            update = update.expression_attribute_values(":least", number(*allowed.start()));
        }
        if *allowed.end() < u64::MAX {
            conditions.push("stock <= :greatest");
            update = update.expression_attribute_values(":greatest", number(*allowed.end()));
        }
        let update = update
            .condition_expression(conditions.join(" AND "))
            .build()
            .expect("an update has a table, a key and an expression");
        TransactWriteItem::builder().update(update).build()
    }
}

/// The writes whose failure means something of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StockWrite {
    Reservation,
    /// The stock of a line, by its place in the order.
    Line(usize),
}

/// What product-consumer works with.
#[derive(Debug, Clone)]
pub struct ProductConsumer {
    /// Where stock is.
    pub products: Products,
    /// The table of reservations.
    pub reservations_table: String,
    /// The events that have had their effect.
    pub inbox: Inbox,
    /// The events on their way out.
    pub outbox: Outbox,
    /// What makes them.
    pub event_factory: EventFactory,
}

impl ProductConsumer {
    /// Handles one event of the queue `product`.
    ///
    /// # Errors
    /// Nothing was done, or whether it was is unknown; another try finds out.
    pub async fn handle(&self, event: Event, trace: Trace) -> Result<Handled, Failure> {
        match &event.body {
            Body::OrderCreated(order) => self.reserve(&event, order, &trace).await,
            Body::OrderCancelled(order) => self.release(&event, &order.order_id, &trace).await,
            _ => Ok(Handled::Ignored),
        }
    }

    /// Takes the stock of all lines, or rejects the order; with the event that reports it.
    async fn reserve(
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
        let body = Body::StockReserved(Stock { order_id: id.clone(), items: lines.clone() });
        let mut writes = self.first_writes(event, id, ReservationStatus::Reserved, &lines)?;
        writes.extend(self.line_writes(&lines, StockChange::Reserve));
        let reserved = self.event_factory.outgoing(&event.correlation_id, body, trace);
        let failed = match rules::interpret_reservation(self.commit(writes, reserved).await?) {
            Ok(handled) => return Ok(handled),
            Err(failed) => failed,
        };
        let failed: Vec<_> = failed
            .into_iter()
            .filter_map(|(write, item)| match write {
                StockWrite::Line(place) => Some((place, item)),
                StockWrite::Reservation => None,
            })
            .collect();
        let short = rules::short_lines(&lines, &failed);
        // Stock may have come in between. The rejection stands: the first look decides.
        let writes = self.first_writes(event, id, ReservationStatus::Rejected, &lines)?;
        let body = Body::StockRejected(RejectedStock { order_id: id.clone(), items: lines, short });
        let rejected = self.event_factory.outgoing(&event.correlation_id, body, trace);
        let commit = self.commit(writes, rejected).await?;
        // It has no line that could be short again.
        Ok(rules::interpret_reservation(commit).unwrap_or(Handled::Duplicate))
    }

    /// Gives back what a cancelled order has taken, with the event that reports it, or sees to it that the order takes
    /// nothing.
    async fn release(
        &self,
        event: &Event,
        order_id: &OrderId,
        trace: &Trace,
    ) -> Result<Handled, Failure> {
        // A guard that fails has met a step forward (none, reserved, released), of which there are two.
        const ATTEMPTS_MAX: usize = 3;
        for _ in 0..ATTEMPTS_MAX {
            let commit = match rules::release(self.get_reservation(order_id).await?) {
                Release::Nothing => return Ok(Handled::Duplicate),
                Release::Tombstone => self.tombstone(event, order_id).await?,
                Release::GiveBack(lines) => self.give_back(event, order_id, lines, trace).await?,
            };
            match rules::interpret_release(&commit) {
                ReleaseOutcome::Settled(handled) => return Ok(handled),
                ReleaseOutcome::DecideAgain => {}
                ReleaseOutcome::UnknownProduct => {
                    let detail = "a product that is to take its pieces back is gone";
                    return Err(Failure::poison("unknown_product", detail));
                }
            }
        }
        Err(TableError::Contended { subject: "the reservation".into() }.into())
    }

    async fn tombstone(
        &self,
        event: &Event,
        order_id: &OrderId,
    ) -> Result<Commit<StockWrite>, Failure> {
        let writes = self.first_writes(event, order_id, ReservationStatus::Cancelled, &[])?;
        Ok(commit(&self.products.client, &writes).await?)
    }

    async fn give_back(
        &self,
        event: &Event,
        order_id: &OrderId,
        lines: Vec<StockLine>,
        trace: &Trace,
    ) -> Result<Commit<StockWrite>, Failure> {
        let mut writes = vec![
            self.inbox.marker(event.id),
            TransactionWrite::new(
                Role::Guard(StockWrite::Reservation),
                self.reserved_to_released(order_id),
            ),
        ];
        writes.extend(self.line_writes(&lines, StockChange::Release));
        let body = Body::StockReleased(Stock { order_id: order_id.clone(), items: lines });
        let released = self.event_factory.outgoing(&event.correlation_id, body, trace);
        self.commit(writes, released).await
    }

    /// Commits, with the event that reports it, and publishes that.
    async fn commit(
        &self,
        mut writes: Vec<TransactionWrite<StockWrite>>,
        event: Outgoing,
    ) -> Result<Commit<StockWrite>, Failure> {
        let events = [event];
        writes.extend(self.outbox.append(&events));
        let commit = commit(&self.products.client, &writes).await?;
        if commit == Commit::Done {
            self.outbox.publish(&events).await;
        }
        Ok(commit)
    }

    /// The writes that every first decision about an order begins with: the marker, and the reservation, of which
    /// there is one an order.
    fn first_writes(
        &self,
        event: &Event,
        order_id: &Id,
        status: ReservationStatus,
        lines: &[StockLine],
    ) -> Result<Vec<TransactionWrite<StockWrite>>, Failure> {
        let reservation = Reservation { status, items: lines.to_vec() };
        let item: Item = serde_dynamo::to_item(&reservation)
            .map_err(TableError::corrupt(&self.reservations_table))?;
        let put = Put::builder()
            .table_name(&self.reservations_table)
            .set_item(Some(item))
            .item("order_id", text(order_id.as_str()))
            .condition_expression("attribute_not_exists(order_id)")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("a put has a table and an item");
        let put = TransactWriteItem::builder().put(put).build();
        Ok(vec![
            self.inbox.marker(event.id),
            TransactionWrite::new(Role::Guard(StockWrite::Reservation), put),
        ])
    }

    /// The writes that change the stock of each line.
    fn line_writes(
        &self,
        lines: &[StockLine],
        change: fn(Quantity) -> StockChange,
    ) -> impl Iterator<Item = TransactionWrite<StockWrite>> {
        lines.iter().enumerate().map(move |(place, line)| {
            let change = self.products.stock_change(&line.product_id, change(line.quantity));
            TransactionWrite::new(Role::Condition(StockWrite::Line(place)), change)
        })
    }

    fn reserved_to_released(&self, order_id: &OrderId) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.reservations_table)
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

    async fn get_reservation(&self, order_id: &OrderId) -> Result<Option<Reservation>, TableError> {
        let answer = self
            .products
            .client
            .get_item()
            .table_name(&self.reservations_table)
            .key("order_id", text(order_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem reservation"))?;
        answer.item.map(|item| read(item, &self.reservations_table)).transpose()
    }
}

fn read<T: DeserializeOwned>(item: Item, table: &str) -> Result<T, TableError> {
    serde_dynamo::from_item(item).map_err(TableError::corrupt(table))
}
