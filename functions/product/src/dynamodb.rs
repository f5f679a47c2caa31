//! The product service's tables.
//!
//! In: decisions of [`crate::rules`]. Out: what DynamoDB made of them. Guarantee: marker, reservation, stock
//! and the event that reports it change in one transaction or not at all.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem, Update,
    },
};
use events::{Body, Event, Id, Name, OrderId, ProductId, RejectedStock, Stock, StockLine};
use exactly_once::{
    Answers, CallError, CausedEvents, Clock, Commit, CommitError, CommitTogether, Decided,
    EarlierRequest, Failure, Handled, IdempotencyKeys, Ids, Inbox, Item, Message, Outbox, Outgoing,
    RequestKey, Role, TableError, TransactionWrite, commit, commit_together,
    idempotency_keys::interpret_key_item,
    table::{batch_get, number, text},
    transaction::TRANSACTION_WRITES_MAX,
};
use futures::future::join_all;
use messaging::{EventFactory, ReceivedEvent};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use telemetry::Trace;
use tokio::time::Instant;

use crate::rules::{
    self, Allocation, Product, Release, ReleaseOutcome, Reservation, ReservationStatus, SeenStock,
    StockChange,
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
    /// Whether the shop sells it.
    pub active: Option<bool>,
}

/// What became of a change of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It was made; the product as it is then.
    Done(Product),
    /// The product has another version than the change is for.
    Overtaken,
    /// There is no such product.
    UnknownProduct,
}

/// Which products a page is to have.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only those of this category.
    pub category: Option<Name>,
    /// Also those that the shop does not sell.
    pub with_inactive: bool,
}

impl Selection {
    /// Whether a product is one of them.
    #[must_use]
    pub fn contains(&self, product: &Product) -> bool {
        (product.active || self.with_inactive)
            && self.category.as_ref().is_none_or(|wanted| product.category.as_ref() == Some(wanted))
    }
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
    /// The product has another version than the change is for.
    Overtaken,
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

    /// A page of products, and the cursor of the next one. It is full, or the last.
    ///
    /// # Errors
    /// The table did not answer, or not with everything in several tries.
    pub async fn page(
        &self,
        limit: i32,
        after: Option<ProductCursor>,
        selection: &Selection,
    ) -> Result<(Vec<Product>, Option<ProductCursor>), TableError> {
        let limit_entries = usize::try_from(limit).unwrap_or_default();
        let (mut page, mut after) = (Vec::new(), after.map(|at| at.after));
        loop {
            let (read, next) = match &selection.category {
                // One more than the page has, to know whether it is the last.
                Some(category) => {
                    let limit = BATCH_GET_KEYS_MAX.min(limit + 1);
                    self.read_category(category, limit, after.as_ref()).await?
                }
                None => self.read_all(limit + 1, after.as_ref()).await?,
            };
            for product in read.into_iter().filter(|product| selection.contains(product)) {
                if page.len() == limit_entries {
                    // There is one more, so this page has a next one. It begins after the last that this one shows.
                    let after = page.last().map(|last: &Product| last.product_id.clone());
                    return Ok((page, after.map(|after| ProductCursor { after })));
                }
                page.push(product);
            }
            after = match next {
                Some(next) => Some(next),
                None => return Ok((page, None)),
            };
        }
    }

    /// Some products of the table, and after which to go on.
    async fn read_all(
        &self,
        limit: i32,
        after: Option<&ProductId>,
    ) -> Result<(Vec<Product>, Option<ProductId>), TableError> {
        let start = after.map(|id| Item::from([("product_id".into(), text(id.as_str()))]));
        let answer = self
            .client
            .scan()
            .table_name(&self.table)
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Scan products"))?;
        let items = answer.items.unwrap_or_default().into_iter();
        let products: Result<_, _> = items.map(|item| read(item, &self.table)).collect();
        Ok((products?, answer.last_evaluated_key.as_ref().and_then(id_of)))
    }

    /// Some products of a category, in the order of their ids, and after which to go on. The index has keys only, so that no
    /// change of stock is a write of it; it may lag, so that what it finds is compared with the products themselves.
    async fn read_category(
        &self,
        category: &Name,
        limit: i32,
        after: Option<&ProductId>,
    ) -> Result<(Vec<Product>, Option<ProductId>), TableError> {
        const OPERATION: &str = "BatchGetItem products of a category";
        let start = after.map(|id| {
            Item::from([
                ("product_id".into(), text(id.as_str())),
                ("category".into(), text(category.as_str())),
            ])
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(CATEGORY_INDEX)
            .key_condition_expression("category = :category")
            .expression_attribute_values(":category", text(category.as_str()))
            .limit(limit)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(CallError::of("Query products of a category"))?;
        let next = answer.last_evaluated_key.as_ref().and_then(id_of);
        let found: Vec<ProductId> =
            answer.items.unwrap_or_default().iter().filter_map(id_of).collect();
        let key = |id: &ProductId| Item::from([("product_id".to_owned(), text(id.as_str()))]);
        let read = batch_get(&self.client, &self.table, found.iter().map(key).collect(), OPERATION)
            .await?;
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        let items = read.items.into_iter();
        let products: Result<Vec<Product>, _> =
            items.map(|item| self::read(item, &self.table)).collect();
        let mut products = products?;
        products.sort_by(|a, b| a.product_id.cmp(&b.product_id));
        Ok((products, next))
    }

    /// Changes a product, if it has one of these versions, or whichever it has. Of two changes at once both are made.
    ///
    /// # Errors
    /// The table did not answer, or others kept changing the product. Changing it again to the same is harmless.
    pub async fn change(
        &self,
        id: &ProductId,
        change: &ProductChange,
        versions: Option<&[u64]>,
    ) -> Result<Changed, TableError> {
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
        if let Some(active) = change.active {
            sets.push("active = :active");
            update = update.expression_attribute_values(":active", AttributeValue::Bool(active));
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
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("an update has a table, a key and an expression");
        let update = TransactWriteItem::builder().update(update).build();
        let update = of_versions(update, versions);
        // In a transaction, because that is tried again while others are in the way, and counts a version once.
        let write = TransactionWrite::new(Role::Condition(()), update);
        match commit(&self.client, &[write]).await? {
            Commit::Done => Ok(self.get(id).await?.map_or(Changed::UnknownProduct, Changed::Done)),
            Commit::ConditionFailed(failed) => {
                let is_there = failed.iter().any(|(_, product)| product.is_some());
                Ok(if is_there { Changed::Overtaken } else { Changed::UnknownProduct })
            }
            Commit::Duplicate | Commit::GuardFailed(..) => {
                unreachable!("the transaction has neither a marker nor a guard")
            }
        }
    }

    /// Adds to the stock of a product, or takes from it, once an idempotency key, if the product has one of these versions, or
    /// whichever it has.
    ///
    /// # Errors
    /// The table did not answer: whether the stock was changed is found out by asking again with the same key.
    pub async fn restock(
        &self,
        id: &ProductId,
        (delta, versions): (i64, Option<&[u64]>),
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
                of_versions(self.stock_change(id, StockChange::Adjust(delta)), versions),
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
                let Some(item) = failed.into_iter().find_map(|(_, product)| product) else {
                    return Ok(Restocked::UnknownProduct);
                };
                let product: Product = read(item, &self.table)?;
                if versions.is_some_and(|versions| !versions.contains(&product.version)) {
                    return Ok(Restocked::Overtaken);
                }
                Ok(Restocked::OutOfRange(product.stock))
            }
            Commit::Duplicate => unreachable!("the transaction has no marker"),
        }
    }

    /// The stock of these products as the last write left it: `None` for one that is not there.
    ///
    /// # Errors
    /// The table did not answer, or not with everything in several tries.
    async fn stock_of(&self, products: &[&ProductId]) -> Result<SeenStock, TableError> {
        const OPERATION: &str = "BatchGetItem stock";
        let key =
            |product: &&ProductId| Item::from([("product_id".to_owned(), text(product.as_str()))]);
        let keys = products.iter().map(key).collect();
        let read = batch_get(&self.client, &self.table, keys, OPERATION).await?;
        if read.unprocessed > 0 {
            return Err(TableError::Unprocessed { operation: OPERATION.into() });
        }
        let mut seen: SeenStock =
            products.iter().map(|product| ((*product).clone(), None)).collect();
        for item in read.items {
            let product: Product = self::read(item, &self.table)?;
            seen.insert(product.product_id, Some(product.stock));
        }
        Ok(seen)
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

/// The index of the products by category, which has keys only.
const CATEGORY_INDEX: &str = "by_category";

/// Maximum number of items that are read by their keys in one call.
const BATCH_GET_KEYS_MAX: i32 = 100;

/// The id of a product's item, or of its key.
fn id_of(item: &Item) -> Option<ProductId> {
    item.get("product_id")?.as_s().ok()?.parse().ok()
}

/// A write that is made only if the product has one of these versions.
fn of_versions(mut write: TransactWriteItem, versions: Option<&[u64]>) -> TransactWriteItem {
    if let (Some(versions), Some(update)) = (versions, &mut write.update) {
        let names = (0..versions.len()).map(|n| format!("version = :version{n}"));
        let is_one_of = names.collect::<Vec<_>>().join(" OR ");
        let before = update.condition_expression.take().unwrap_or_default();
        update.condition_expression = Some(format!("{before} AND ({is_one_of})"));
        let values = versions.iter().enumerate();
        let values = values.map(|(n, version)| (format!(":version{n}"), number(*version)));
        update.expression_attribute_values.get_or_insert_default().extend(values);
    }
    write
}

/// The writes whose failure means something of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StockWrite {
    Reservation,
    Stock(ProductId),
}

/// Number of transactions that are tried for orders that are decided together, before each is decided by itself: the first,
/// one that knows what is short, and two that leave out who had its reservation already.
const ROUNDS_MAX: usize = 4;
/// For how long a product of which there was too little is read before it is decided: its stock is then no longer a part of
/// transactions that could only fail, and that would be in each other's way.
const SHORT_FOR: Duration = Duration::from_secs(60);
/// Maximum number of products that are remembered as short.
const SHORT_PRODUCTS_MAX: usize = 1000;

/// An order that was created and is to be decided.
#[derive(Debug)]
struct Candidate<'a> {
    event: &'a Event,
    trace: &'a Trace,
    /// Its lines, one a product.
    lines: Vec<StockLine>,
}

impl<'a> Candidate<'a> {
    /// An order by the event of its creation.
    ///
    /// # Errors
    /// Its lines of one product have more pieces than a line may have: the event breaks the contract.
    fn new(event: &'a Event, order: &events::Order, trace: &'a Trace) -> Result<Self, Failure> {
        let lines = order
            .items
            .iter()
            .map(|line| StockLine { product_id: line.product_id.clone(), quantity: line.quantity });
        let lines = events::merge(lines)
            .map_err(|product| Failure::poison("schema", format!("{product}: too many pieces")))?;
        Ok(Self { event, trace, lines })
    }
}

/// What was decided about candidates, by their places, with the event that reports it. Who is not named was not decided.
#[derive(Debug, Default)]
struct DecidedCandidates(Vec<(usize, Result<Handled, Failure>, Option<Outgoing>)>);

impl DecidedCandidates {
    fn set(&mut self, place: usize, result: Result<Handled, Failure>) {
        self.0.push((place, result, None));
    }

    /// These have failed by one error.
    fn fail(&mut self, places: impl IntoIterator<Item = usize>, error: TableError) {
        let error = Arc::new(error);
        places.into_iter().for_each(|place| self.set(place, Err(Failure::shared(&error))));
    }
}

/// The products of which there was too little a short while ago. It decides nothing: it says what is worth reading first.
#[derive(Debug, Clone, Default)]
struct ShortProducts(Arc<Mutex<HashMap<ProductId, Instant>>>);

impl ShortProducts {
    fn note(&self, product: &ProductId) {
        let mut products = self.lock();
        if products.len() >= SHORT_PRODUCTS_MAX {
            products.clear();
        }
        products.insert(product.clone(), Instant::now());
    }

    fn contains(&self, product: &ProductId) -> bool {
        self.lock().get(product).is_some_and(|since| since.elapsed() < SHORT_FOR)
    }

    /// Each product is put in at once, so a panic elsewhere leaves none half-made.
    fn lock(&self) -> MutexGuard<'_, HashMap<ProductId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What product-consumer works with.
#[derive(Debug, Clone)]
pub struct ProductConsumer {
    products: Products,
    reservations_table: String,
    caused: CausedEvents,
    event_factory: EventFactory,
    short_products: ShortProducts,
}

impl ProductConsumer {
    /// Takes stock of these products, with reservations in this table.
    #[must_use]
    pub fn new(
        products: Products,
        reservations_table: String,
        inbox: Inbox,
        outbox: Outbox,
        event_factory: EventFactory,
    ) -> Self {
        let caused = CausedEvents::new(inbox, outbox);
        let short_products = ShortProducts::default();
        Self { products, reservations_table, caused, event_factory, short_products }
    }

    /// Handles the new orders of a batch together: in one transaction, as far as its limits allow. It leaves to
    /// [`ProductConsumer::handle`] whatever it cannot decide with others.
    pub async fn handle_together(&self, received: Vec<ReceivedEvent>, answers: Answers) {
        let groups = groups(&received).into_iter().map(async |group| {
            let (messages, candidates): (Vec<_>, Vec<_>) = group.into_iter().unzip();
            let decided = self.decide(&candidates).await.0.into_iter();
            let decided = decided.map(|(place, result, event)| {
                let (key, events) = (candidates[place].event.id.to_string(), Vec::from_iter(event));
                (messages[place], Decided { key, result, events })
            });
            decided.collect::<Vec<_>>()
        });
        let (messages, decided): (Vec<&Message>, Vec<_>) =
            join_all(groups).await.into_iter().flatten().unzip();
        // Answered after publishing: what is answered is acknowledged, and its events have no place in the outbox.
        for (message, result) in messages.into_iter().zip(self.caused.publish(decided).await) {
            answers.set(message, result);
        }
    }

    /// Handles one event of the queue `product`.
    ///
    /// # Errors
    /// Nothing was done, or whether it was is unknown; another try finds out.
    pub async fn handle(&self, event: Event, trace: Trace) -> Result<Handled, Failure> {
        let (handled, stored) = match &event.body {
            Body::OrderCreated(order) => {
                let candidate = Candidate::new(&event, order, &trace)?;
                let decided = self.decide(&[candidate]).await.0.pop();
                let (_, result, stored) = decided.ok_or_else(|| contended("stock"))?;
                (result?, stored)
            }
            Body::OrderCancelled(order) | Body::OrderExpired(order) => {
                self.release(&event, &order.order_id, &trace).await?
            }
            _ => return Ok(Handled::Ignored),
        };
        let decided = Decided {
            key: event.id.to_string(),
            result: Ok(handled),
            events: Vec::from_iter(stored),
        };
        self.caused.publish(vec![decided]).await.remove(0)
    }

    /// Takes the stock of all lines of each order, or rejects it; with the events that report it, in one transaction.
    async fn decide(&self, candidates: &[Candidate<'_>]) -> DecidedCandidates {
        let mut decided = DecidedCandidates::default();
        let mut open: Vec<usize> = (0..candidates.len()).collect();
        let mut seen = match self.see_short_products(candidates).await {
            Ok(seen) => seen,
            // A product that cannot be read is the fault of its orders, which are found by themselves.
            Err(error) if error.is_permanent() && open.len() > 1 => return decided,
            Err(error) => {
                decided.fail(open, error);
                return decided;
            }
        };
        for _ in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            let lines: Vec<&[StockLine]> =
                open.iter().map(|place| &*candidates[*place].lines).collect();
            let allocations = rules::allocate(&lines, &seen);
            let transaction = open
                .iter()
                .zip(&allocations)
                .map(|(place, allocation)| self.order_writes(&candidates[*place], allocation));
            let (members, events): (Vec<_>, Vec<_>) =
                match transaction.collect::<Result<Vec<_>, _>>() {
                    Ok(transaction) => transaction.into_iter().unzip(),
                    // An item that cannot be written is found by itself.
                    Err(_) if open.len() > 1 => break,
                    Err(error) => {
                        decided.set(open[0], Err(error.into()));
                        break;
                    }
                };
            let reserved = lines.iter().zip(&allocations);
            let reserved = reserved.filter(|(_, allocation)| **allocation == Allocation::Reserve);
            let taken = rules::total_by_product(reserved.flat_map(|(lines, _)| *lines));
            let shared: Vec<_> = taken
                .into_iter()
                .map(|(product, pieces)| self.stock_write(product, StockChange::Reserve(pieces)))
                .collect();
            match commit_together(&self.products.client, &members, &shared).await {
                Ok(CommitTogether::Done) => {
                    let done = open.drain(..).zip(events);
                    decided
                        .0
                        .extend(done.map(|(place, event)| (place, Ok(Handled::Done), Some(event))));
                }
                Ok(CommitTogether::MembersFailed(failed)) => {
                    // By marker or guard: a reservation that is there already stands, whatever it says.
                    for (member, _) in failed.into_iter().rev() {
                        decided.set(open.remove(member), Ok(Handled::Duplicate));
                    }
                }
                Ok(CommitTogether::ConditionFailed(failed)) => {
                    for (write, item) in failed {
                        let StockWrite::Stock(product) = write else { continue };
                        self.short_products.note(&product);
                        seen.insert(product, item.as_ref().map(rules::stock_of));
                    }
                }
                // One of them is wrong in itself, and is found by itself.
                Err(CommitError::Invalid(_)) if open.len() > 1 => break,
                Err(error) => decided.fail(open.drain(..), error.into()),
            }
        }
        decided
    }

    /// The stock of those products of these orders of which there was too little a short while ago.
    async fn see_short_products(
        &self,
        candidates: &[Candidate<'_>],
    ) -> Result<SeenStock, TableError> {
        let lines = candidates.iter().flat_map(|candidate| &candidate.lines);
        let products: BTreeSet<&ProductId> = lines.map(|line| &line.product_id).collect();
        let short = products.into_iter().filter(|product| self.short_products.contains(product));
        let short: Vec<&ProductId> = short.collect();
        if short.is_empty() {
            return Ok(SeenStock::new());
        }
        self.products.stock_of(&short).await
    }

    /// The writes of one order and its event, except for its stock.
    fn order_writes(
        &self,
        candidate: &Candidate<'_>,
        allocation: &Allocation,
    ) -> Result<(Vec<TransactionWrite<StockWrite>>, Outgoing), TableError> {
        let Candidate { event, trace, lines } = candidate;
        let (order_id, items) = (event.body.order_id().clone(), lines.clone());
        let (status, body) = match allocation {
            Allocation::Reserve => {
                let stock = Stock { order_id: order_id.clone(), items };
                (ReservationStatus::Reserved, Body::StockReserved(stock))
            }
            Allocation::Reject(short) => {
                let short = short.clone();
                let stock = RejectedStock { order_id: order_id.clone(), items, short };
                (ReservationStatus::Rejected, Body::StockRejected(stock))
            }
        };
        let outgoing = self.event_factory.outgoing(&event.correlation_id, body, trace);
        let events = std::slice::from_ref(&outgoing);
        let mut writes = self.first_writes(event, &order_id, status, lines, events)?;
        writes.extend(self.caused.store(events));
        Ok((writes, outgoing))
    }

    /// Gives back what a cancelled order has taken, with the event that reports it, or sees to it that the order takes
    /// nothing. Returns that event, to be published.
    async fn release(
        &self,
        event: &Event,
        order_id: &OrderId,
        trace: &Trace,
    ) -> Result<(Handled, Option<Outgoing>), Failure> {
        // A guard that fails has met a step forward (none, reserved, released), of which there are two.
        const ATTEMPTS_MAX: usize = 3;
        for _ in 0..ATTEMPTS_MAX {
            let (writes, stored) = match rules::release(self.get_reservation(order_id).await?) {
                Release::Nothing => return Ok((Handled::Duplicate, None)),
                Release::Tombstone => {
                    let status = ReservationStatus::Cancelled;
                    (self.first_writes(event, order_id, status, &[], &[])?, None)
                }
                Release::GiveBack(lines) => {
                    let (writes, released) = self.give_back(event, order_id, lines, trace);
                    (writes, Some(released))
                }
            };
            let commit = commit(&self.products.client, &writes).await?;
            match rules::interpret_release(&commit) {
                ReleaseOutcome::Settled(handled) => {
                    return Ok((handled, stored.filter(|_| commit == Commit::Done)));
                }
                ReleaseOutcome::DecideAgain => {}
                ReleaseOutcome::UnknownProduct => {
                    let detail = "a product that is to take its pieces back is gone";
                    return Err(Failure::poison("unknown_product", detail));
                }
            }
        }
        Err(contended("the reservation"))
    }

    /// The writes that give these lines back, and the event that reports it.
    fn give_back(
        &self,
        event: &Event,
        order_id: &OrderId,
        lines: Vec<StockLine>,
        trace: &Trace,
    ) -> (Vec<TransactionWrite<StockWrite>>, Outgoing) {
        let changes: Vec<_> = lines
            .iter()
            .map(|line| self.stock_write(&line.product_id, StockChange::Release(line.quantity)))
            .collect();
        let body = Body::StockReleased(Stock { order_id: order_id.clone(), items: lines });
        let outgoing = self.event_factory.outgoing(&event.correlation_id, body, trace);
        let events = std::slice::from_ref(&outgoing);
        let mut writes = vec![
            self.caused.marker(event.id, events),
            TransactionWrite::new(
                Role::Guard(StockWrite::Reservation),
                self.reserved_to_released(order_id),
            ),
        ];
        writes.extend(changes);
        writes.extend(self.caused.store(events));
        (writes, outgoing)
    }

    /// The writes that every first decision about an order begins with: the marker, and the reservation, of which
    /// there is one an order.
    fn first_writes(
        &self,
        event: &Event,
        order_id: &Id,
        status: ReservationStatus,
        lines: &[StockLine],
        events: &[Outgoing],
    ) -> Result<Vec<TransactionWrite<StockWrite>>, TableError> {
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
            self.caused.marker(event.id, events),
            TransactionWrite::new(Role::Guard(StockWrite::Reservation), put),
        ])
    }

    /// The write that changes the stock of a product.
    fn stock_write(
        &self,
        product: &ProductId,
        change: StockChange,
    ) -> TransactionWrite<StockWrite> {
        let role = Role::Condition(StockWrite::Stock(product.clone()));
        TransactionWrite::new(role, self.products.stock_change(product, change))
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

/// The new orders among these events, as many in a group as one transaction has room for. An event or order that came
/// twice is in the groups once, because a transaction names each item once.
fn groups(received: &[ReceivedEvent]) -> Vec<Vec<(&Message, Candidate<'_>)>> {
    // Marker, reservation and event.
    const WRITES_OF_ORDER: usize = 3;
    let mut groups: Vec<Vec<(&Message, Candidate<'_>)>> = Vec::new();
    let (mut events, mut orders) = (HashSet::new(), HashSet::new());
    // Of the last group.
    let mut products: HashSet<&ProductId> = HashSet::new();
    for ReceivedEvent { event, trace, message } in received {
        let Body::OrderCreated(order) = &event.body else { continue };
        let Ok(candidate) = Candidate::new(event, order, trace) else { continue };
        if !events.insert(event.id) || !orders.insert(&order.order_id) {
            continue;
        }
        let of_order = order.items.iter().map(|line| &line.product_id);
        let together: HashSet<&ProductId> =
            products.iter().copied().chain(of_order.clone()).collect();
        match groups.last_mut() {
            Some(group)
                if (group.len() + 1) * WRITES_OF_ORDER + together.len()
                    <= TRANSACTION_WRITES_MAX =>
            {
                group.push((message, candidate));
                products = together;
            }
            _ => {
                groups.push(vec![(message, candidate)]);
                products = of_order.collect();
            }
        }
    }
    groups
}

fn contended(subject: &'static str) -> Failure {
    TableError::Contended { subject: subject.into() }.into()
}

fn read<T: DeserializeOwned>(item: Item, table: &str) -> Result<T, TableError> {
    serde_dynamo::from_item(item).map_err(TableError::corrupt(table))
}
