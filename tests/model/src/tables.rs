//! What is stored, and the transactions that change it, as DynamoDB carries them out.
//!
//! In: the writes of a transaction, in the order and with the roles that the stores give them, and how a
//! cancellation is to be reported. Out: what became of it, as `exactly_once::transaction::interpret_cancellation` sees it.
//! Guarantee, which is DynamoDB's: all writes are carried out or none is.

use std::{collections::HashMap, fmt};

use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason};
use events::{Currency, EventType, Money, OrderId, ProductId, Quantity, ShortLine, StockLine};
use exactly_once::{
    Commit, CommitTogether, Item, Role,
    transaction::{Cancellation, Verdict, interpret_cancellation, interpret_cancellation_together},
};
use order::rules::{CatalogEntry, Order, OrderRequest, Status, place};
use product::rules::{Reservation, ReservationStatus, StockChange};

/// What there is before the first order, and what will be ordered.
#[derive(Debug)]
pub struct Scenario {
    pub stock: Vec<u64>,
    pub orders: Vec<ScenarioOrder>,
    /// Maximum number of processes that act at a time on what they have read.
    pub processes_max: usize,
    /// Publishing and clearing are two steps, and SNS may not take what a message has caused. Without these, there are far
    /// fewer states, and what the loss of a clearing leads to is there all the same: the message comes back.
    pub clears_apart: bool,
    /// product-consumer may receive two orders in one batch.
    pub has_batches: bool,
    /// Conditions that are not checked: to find out what they are good for.
    pub unchecked: Vec<Condition>,
}

/// A kind of condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// That the marker is not there.
    Marker,
    /// That the state has not changed.
    Guard,
    /// That there is enough stock.
    Business,
}

/// An order that a customer may place.
#[derive(Debug)]
pub struct ScenarioOrder {
    /// Its lines as events report them.
    pub lines: Vec<StockLine>,
    /// The same by place: product and pieces.
    pub pieces: Vec<(usize, i64)>,
    /// The order in every status, and its item.
    statuses: Vec<(Order, Item)>,
}

/// Every status of an order that is not paid here.
pub const STATUSES: [Status; 5] =
    [Status::Pending, Status::Confirmed, Status::Rejected, Status::Cancelled, Status::Shipped];

impl Scenario {
    /// A shop with this stock of each product, and orders of these numbers of pieces of each product.
    ///
    /// # Panics
    /// An order orders nothing, or too much.
    #[must_use]
    pub fn new(stock: &[u64], orders: &[&[u64]], processes_max: usize) -> Self {
        let products: Vec<ProductId> =
            (0..stock.len()).map(|product| format!("p{product}").parse().expect("an id")).collect();
        let orders = (0..).zip(orders).map(|(n, pieces)| placed(n, &products, pieces)).collect();
        Self {
            stock: stock.to_vec(),
            orders,
            processes_max,
            clears_apart: false,
            has_batches: false,
            unchecked: Vec::new(),
        }
    }

    /// The same scenario, where publishing and clearing are two steps.
    #[must_use]
    pub fn clearing_apart(self) -> Self {
        Self { clears_apart: true, ..self }
    }

    /// The same scenario, where product-consumer may receive two orders in one batch.
    #[must_use]
    pub fn with_batches(self) -> Self {
        Self { has_batches: true, ..self }
    }

    /// The same shop with tables that do not check these conditions.
    #[must_use]
    pub fn unchecked(mut self, conditions: &[Condition]) -> Self {
        self.unchecked = conditions.to_vec();
        self
    }

    /// An order in this status.
    #[must_use]
    pub fn order(&self, order: usize, status: Status) -> &Order {
        &self.in_status(order, status).0
    }

    fn in_status(&self, order: usize, status: Status) -> &(Order, Item) {
        let known = &self.orders[order].statuses;
        known.iter().find(|(order, _)| order.status == status).expect("every status is there")
    }

    /// A reservation as product-service reads it.
    #[must_use]
    pub fn reservation(&self, order: usize, status: ReservationStatus) -> Reservation {
        let items = match status {
            ReservationStatus::Cancelled => Vec::new(),
            _ => self.orders[order].lines.clone(),
        };
        Reservation { status, items }
    }

    /// The product of a line, by its place.
    #[must_use]
    pub fn product(&self, id: &ProductId) -> usize {
        let number = id.as_str().strip_prefix('p').and_then(|number| number.parse().ok());
        number.expect("the id of a product of this shop")
    }

    /// The id of a product, by its place.
    #[must_use]
    pub fn product_id(&self, product: usize) -> ProductId {
        format!("p{product}").parse().expect("an id")
    }

    /// What is short of an order, as the log keeps it here: by the places of its lines.
    #[must_use]
    pub fn short_places(&self, order: usize, short: &[ShortLine]) -> Short {
        let lines = &self.orders[order].lines;
        let place = |id: &ProductId| lines.iter().position(|line| line.product_id == *id);
        short
            .iter()
            .filter_map(|short| Some((place(&short.product_id)?, short.available)))
            .collect()
    }

    /// What is short, as events report it.
    #[must_use]
    pub fn short(&self, order: usize, short: &Short) -> Vec<ShortLine> {
        let lines = &self.orders[order].lines;
        short
            .iter()
            .map(|&(line, available)| ShortLine {
                product_id: lines[line].product_id.clone(),
                requested: lines[line].quantity,
                available,
            })
            .collect()
    }
}

fn placed(number: usize, products: &[ProductId], pieces: &[u64]) -> ScenarioOrder {
    let pieces: Vec<(usize, u64)> =
        pieces.iter().copied().enumerate().filter(|(_, pieces)| *pieces > 0).collect();
    let line = |&(product, pieces): &(usize, u64)| {
        let quantity = Quantity::try_from(pieces).expect("a quantity");
        StockLine { product_id: products[product].clone(), quantity }
    };
    let entry = |id: &ProductId| CatalogEntry {
        product_id: id.clone(),
        name: id.as_str().parse().expect("a name"),
        price: Money::from_minor(100).expect("in range"),
        currency: Currency::default(),
        active: true,
    };
    let catalog: HashMap<_, _> = products.iter().map(|id| (id.clone(), entry(id))).collect();
    let lines: Vec<StockLine> = pieces.iter().map(line).collect();
    let request = OrderRequest {
        customer_email: "test@example.com".parse().expect("an address"),
        lines: lines.clone(),
        expected_total: None,
    };
    let id: OrderId = format!("o{number}").parse().expect("an id");
    let new = place(
        id,
        request,
        &catalog,
        &Currency::default(),
        "2026-01-01T00:00:00.000Z".parse().expect("a moment"),
    )
    .expect("an order");
    let statuses = STATUSES
        .into_iter()
        .map(|status| {
            let order = Order { status, ..new.clone() };
            let item = serde_dynamo::to_item(&order).expect("an item");
            (order, item)
        })
        .collect();
    let pieces = lines.iter().zip(&pieces);
    let pieces =
        pieces.map(|(line, (product, _))| (*product, i64::from(line.quantity.get()))).collect();
    ScenarioOrder { lines, pieces, statuses }
}

/// Which lines were refused, by their place, and how many pieces there were.
pub type Short = Vec<(usize, Option<u64>)>;

/// An event of an order, of which there is to be one of each type.
pub type EventId = (usize, EventType);

/// The rows of all tables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tables {
    /// Pieces of each product. A number that can be negative, so that it is seen when it is.
    pub stock: Vec<i64>,
    /// What is kept about each order.
    pub orders: Vec<Row>,
}

/// What is kept about an order, in every table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// The order's status, or `None` if it has not been placed.
    pub status: Option<Status>,
    pub reservation: Option<ReservationStatus>,
    /// The order stands for the publication of its `OrderCreated`.
    pub unpublished: bool,
    /// The event log, and how far each event has come.
    pub events: Vec<LoggedEvent>,
}

/// An event in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoggedEvent {
    pub kind: EventType,
    /// What was short, if it reports that.
    pub short: Short,
    /// It is in the outbox.
    pub pending: bool,
    /// The message in the queue.
    pub message: Message,
    /// The consumer's inbox has its marker.
    pub marked: bool,
    /// The event that the marker names: it came with it, and has no place in the outbox.
    pub caused: Option<EventType>,
}

/// A message in the queue of its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// There is none yet.
    Unpublished,
    /// It is to be delivered until it is acknowledged.
    Waiting,
    /// It was acknowledged, which does not keep it from coming back.
    Acknowledged,
}

impl Row {
    /// An event of this order.
    #[must_use]
    pub fn event(&self, kind: EventType) -> Option<&LoggedEvent> {
        self.events.iter().find(|event| event.kind == kind)
    }

    pub(crate) fn event_mut(&mut self, kind: EventType) -> Option<&mut LoggedEvent> {
        self.events.iter_mut().find(|event| event.kind == kind)
    }

    fn log(&mut self, kind: EventType, short: &Short, pending: bool) {
        self.events.push(LoggedEvent {
            kind,
            short: short.clone(),
            pending,
            message: Message::Unpublished,
            marked: false,
            caused: None,
        });
        // A log is read by type, so that two that differ only in the order of writing are one state.
        self.events.sort_by_key(|event| event.kind as u8);
    }
}

/// Whether one of the consumers of the saga takes this event.
#[must_use]
pub fn is_queued(kind: EventType) -> bool {
    match kind {
        // product-consumer
        EventType::OrderCreated | EventType::OrderCancelled => true,
        // order-consumer
        EventType::StockReserved | EventType::StockRejected => true,
        EventType::OrderConfirmed
        | EventType::OrderRejected
        | EventType::OrderShipped
        | EventType::StockReleased
        | EventType::OrderAwaitingPayment
        | EventType::OrderPaymentReminder
        | EventType::OrderPaymentOverdue
        | EventType::OrderExpired
        | EventType::PaymentRequested
        | EventType::PaymentSucceeded
        | EventType::PaymentFailed
        | EventType::PaymentCancelled
        | EventType::PaymentRefunded => false,
    }
}

/// One write of a transaction, with its condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts the marker of an event, if there is none, which names the event that comes with it.
    PutMarker(EventId, Option<EventType>),
    /// Puts a new order, if there is none, which stands for the publication of its event.
    Create(usize),
    /// Moves an order from one status to another, if it is in the first. It does not stand for its event any more.
    Transition(usize, Status, Status),
    /// Puts the reservation of an order, if there is none.
    Reserve(usize, ReservationStatus),
    /// Moves the reservation of an order from reserved to released, if it is reserved.
    Release(usize),
    /// Changes the stock of a product, if its stock allows it.
    Stock(usize, StockChange),
    /// Puts an event into the log, with a place in the outbox.
    Append(usize, EventType, Short),
    /// Puts an event into the log only.
    Store(usize, EventType, Short),
    /// Gives an event of the log a place in the outbox.
    Enqueue(usize, EventType),
}

/// The write and its condition in words, the same for each order, product and number of pieces.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutMarker(_, None) => f.write_str("the marker, if there is none"),
            Self::PutMarker(_, Some(_)) => {
                f.write_str("the marker, which names its event, if there is none")
            }
            Self::Create(_) => {
                f.write_str("the order, which stands for its event, if there is none")
            }
            Self::Transition(_, from, to) => {
                let (from, to) = (from.as_str(), to.as_str());
                write!(f, "the order from {from} to {to}, if it is {from}")
            }
            Self::Reserve(_, status) => {
                let status = format!("{status:?}").to_lowercase();
                write!(f, "the reservation {status}, if there is none")
            }
            Self::Release(_) => {
                f.write_str("the reservation from reserved to released, if it is reserved")
            }
            Self::Stock(_, change) if *change.allowed_stock().start() > 0 => {
                f.write_str("stock is taken, if there is enough")
            }
            Self::Stock(..) => f.write_str("stock is given back, if there is such a product"),
            Self::Append(_, kind, _) => write!(f, "the event {}, in the outbox", kind.as_str()),
            Self::Store(_, kind, _) => write!(f, "the event {}", kind.as_str()),
            Self::Enqueue(_, kind) => write!(f, "{} is put in the outbox", kind.as_str()),
        }
    }
}

impl Write {
    /// The kind of its condition, or `None` if it has none.
    fn condition(&self) -> Option<Condition> {
        match self {
            Self::PutMarker(..) => Some(Condition::Marker),
            Self::Create(_) | Self::Transition(..) | Self::Reserve(..) | Self::Release(_) => {
                Some(Condition::Guard)
            }
            Self::Stock(..) => Some(Condition::Business),
            Self::Append(..) | Self::Store(..) | Self::Enqueue(..) => None,
        }
    }

    /// The role that the services give it, tagged with its place in the transaction.
    fn role(&self, place: usize) -> Role<usize> {
        match self.condition() {
            Some(Condition::Marker) => Role::Marker,
            Some(Condition::Guard) => Role::Guard(place),
            Some(Condition::Business) => Role::Condition(place),
            None => Role::Unconditional,
        }
    }

    fn holds(&self, tables: &Tables) -> bool {
        match self {
            Self::PutMarker((order, kind), _) => {
                !tables.orders[*order].event(*kind).is_some_and(|event| event.marked)
            }
            Self::Create(order) => tables.orders[*order].status.is_none(),
            Self::Transition(order, from, _) => tables.orders[*order].status == Some(*from),
            Self::Reserve(order, _) => tables.orders[*order].reservation.is_none(),
            Self::Release(order) => {
                tables.orders[*order].reservation == Some(ReservationStatus::Reserved)
            }
            Self::Stock(product, change) => u64::try_from(tables.stock[*product])
                .is_ok_and(|stock| change.allowed_stock().contains(&stock)),
            Self::Append(..) | Self::Store(..) | Self::Enqueue(..) => true,
        }
    }

    /// The item as it is, where the store asks for it with ALL_OLD and something is done with it.
    fn item(&self, scenario: &Scenario, tables: &Tables) -> Option<Item> {
        match self {
            Self::Transition(order, ..) => {
                let status = tables.orders[*order].status?;
                Some(scenario.in_status(*order, status).1.clone())
            }
            Self::Stock(product, _) => {
                let stock = AttributeValue::N(tables.stock[*product].to_string());
                Some(Item::from([("stock".to_owned(), stock)]))
            }
            _ => None,
        }
    }

    pub(crate) fn apply(&self, tables: &mut Tables) {
        match self {
            Self::PutMarker((order, kind), caused) => {
                if let Some(event) = tables.orders[*order].event_mut(*kind) {
                    (event.marked, event.caused) = (true, *caused);
                }
            }
            Self::Create(order) => {
                let row = &mut tables.orders[*order];
                (row.status, row.unpublished) = (Some(Status::Pending), true);
            }
            Self::Transition(order, _, to) => {
                let row = &mut tables.orders[*order];
                (row.status, row.unpublished) = (Some(*to), false);
            }
            Self::Reserve(order, standing) => tables.orders[*order].reservation = Some(*standing),
            Self::Release(order) => {
                tables.orders[*order].reservation = Some(ReservationStatus::Released)
            }
            Self::Stock(product, change) => tables.stock[*product] += change.delta(),
            Self::Append(order, kind, short) => {
                tables.orders[*order].log(*kind, short, is_queued(*kind));
            }
            Self::Store(order, kind, short) => tables.orders[*order].log(*kind, short, false),
            Self::Enqueue(order, kind) => {
                if let Some(event) = tables.orders[*order].event_mut(*kind) {
                    event.pending = true;
                }
            }
        }
    }
}

/// What DynamoDB reports of a transaction that it cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which of the writes whose conditions failed are reported, as bits. The others seem to be fine.
    pub reported: u32,
    /// Another transaction is in the way of a write that is not reported otherwise.
    pub conflict: bool,
}

impl Report {
    /// Everything that there is to report, and nothing in the way.
    pub const FULL: Self = Self { reported: u32::MAX, conflict: false };
}

/// Which of these writes would fail.
fn failing(scenario: &Scenario, tables: &Tables, writes: &[Write]) -> u32 {
    (0..)
        .zip(writes)
        .filter(|(_, write)| {
            let is_unchecked = |condition| scenario.unchecked.contains(&condition);
            !write.condition().is_some_and(is_unchecked) && !write.holds(tables)
        })
        .fold(0, |failing, (place, _)| failing | 1 << place)
}

/// The ways in which DynamoDB may report what becomes of these writes: one for each verdict that the production code can
/// come to. Reports with the same verdict lead to the same state.
#[must_use]
pub fn reports<V: PartialEq>(
    scenario: &Scenario,
    tables: &Tables,
    writes: &[Write],
    verdict: impl Fn(Report) -> V,
) -> Vec<Report> {
    let failing = failing(scenario, tables, writes);
    if failing == 0 {
        return vec![Report::FULL];
    }
    // A cancellation gives one reason at least. A conflict alone changes nothing and need not be tried.
    let all = (1..=failing)
        .filter(|reported| reported & !failing == 0)
        .flat_map(|reported| [false, true].map(|conflict| Report { reported, conflict }));
    let mut distinct: Vec<(V, Report)> = Vec::new();
    for report in all {
        let verdict = verdict(report);
        if distinct.iter().all(|(known, _)| *known != verdict) {
            distinct.push((verdict, report));
        }
    }
    distinct.into_iter().map(|(_, report)| report).collect()
}

/// Carries out a transaction, or returns `None` if it is to be tried again.
///
/// # Panics
/// The transaction is judged invalid.
pub fn commit(
    scenario: &Scenario,
    tables: &mut Tables,
    writes: &[Write],
    report: Report,
) -> Option<Commit<usize>> {
    let commit = judge(scenario, tables, writes, report);
    if commit == Some(Commit::Done) {
        writes.iter().for_each(|write| write.apply(tables));
    }
    commit
}

/// What becomes of a transaction, or `None` if it is to be tried again.
///
/// # Panics
/// The transaction is judged invalid.
#[must_use]
pub fn judge(
    scenario: &Scenario,
    tables: &Tables,
    writes: &[Write],
    report: Report,
) -> Option<Commit<usize>> {
    let failing = failing(scenario, tables, writes);
    if failing == 0 {
        return Some(Commit::Done);
    }
    let reasons = reasons(scenario, tables, writes, failing, report);
    match interpret_cancellation(&roles(writes), &reasons) {
        Cancellation::Duplicate => Some(Commit::Duplicate),
        Cancellation::GuardFailed(place, item) => Some(Commit::GuardFailed(place, item)),
        Cancellation::ConditionFailed(failed) => Some(Commit::ConditionFailed(failed)),
        Cancellation::Transient => None,
        Cancellation::Invalid(why) => panic!("a transaction of the model is invalid: {why}"),
    }
}

/// Carries out transactions that are committed as one, or returns `None` if they are to be tried again.
///
/// # Panics
/// The transaction is judged invalid.
pub fn commit_together(
    scenario: &Scenario,
    tables: &mut Tables,
    members: &[Vec<Write>],
    shared: &[Write],
    report: Report,
) -> Option<CommitTogether<usize>> {
    let commit = judge_together(scenario, tables, members, shared, report);
    if commit == Some(CommitTogether::Done) {
        members.iter().flatten().chain(shared).for_each(|write| write.apply(tables));
    }
    commit
}

/// What becomes of transactions that are committed as one, or `None` if they are to be tried again.
///
/// # Panics
/// The transaction is judged invalid.
#[must_use]
pub fn judge_together(
    scenario: &Scenario,
    tables: &Tables,
    members: &[Vec<Write>],
    shared: &[Write],
    report: Report,
) -> Option<CommitTogether<usize>> {
    let writes: Vec<Write> = members.iter().flatten().chain(shared).cloned().collect();
    let failing = failing(scenario, tables, &writes);
    if failing == 0 {
        return Some(CommitTogether::Done);
    }
    let reasons = reasons(scenario, tables, &writes, failing, report);
    let all = roles(&writes);
    let mut rest = &all[..];
    let of_members: Vec<Vec<Role<usize>>> = members
        .iter()
        .map(|writes| {
            let (own, others) = rest.split_at(writes.len());
            rest = others;
            own.to_vec()
        })
        .collect();
    match interpret_cancellation_together(&of_members, rest, &reasons) {
        Verdict::Known(commit) => Some(commit),
        Verdict::Transient => None,
        Verdict::Invalid(why) => panic!("a transaction of the model is invalid: {why}"),
    }
}

fn roles(writes: &[Write]) -> Vec<Role<usize>> {
    writes.iter().enumerate().map(|(place, write)| write.role(place)).collect()
}

/// How DynamoDB reports these writes, of which some would fail.
fn reasons(
    scenario: &Scenario,
    tables: &Tables,
    writes: &[Write],
    failing: u32,
    report: Report,
) -> Vec<CancellationReason> {
    let mut conflict = report.conflict;
    let mut reason = |place: usize, write: &Write| {
        let reason = CancellationReason::builder();
        if failing & report.reported & 1 << place != 0 {
            reason.code("ConditionalCheckFailed").set_item(write.item(scenario, tables)).build()
        } else if std::mem::take(&mut conflict) {
            reason.code("TransactionConflict").build()
        } else {
            reason.code("None").build()
        }
    };
    writes.iter().enumerate().map(|(place, write)| reason(place, write)).collect()
}
