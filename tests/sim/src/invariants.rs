//! What has to be true at each step, whatever goes wrong: not only how it ends.
//!
//! In: each step of the simulated AWS. Out: the first invariant that was broken, and when. Guarantee: nothing here is about
//! how the code is written; it is about what one call may change, which call may leave an environment, and what an
//! acknowledgement promises.
//!
//! - Writes (`check_order`, `check_reservation`, …): what one call changes is one step. An effect, its marker and the event
//!   that reports it change in one; statuses move forward; stock and reservations add up; nothing is lost from a log.
//! - Two lines: had a transaction's marker not been there, its guard would refuse the same transaction, and the other way
//!   round. Each is asked by itself, because either alone hides that the other is gone.
//! - Leases (`check_lease`): whoever changes one owns it, and whoever sends a mail does.
//! - Calls (`check_begun`): what decides is read consistently; a token is kept while its outcome is unknown, and nothing
//!   is sent again of which the outcome is known.
//! - Acknowledgements: a message is gone only if it had its effect, or is on the DLQ, or calls for none.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use events::{Event, EventType};
use serde_json::{Value, json};
use simulated_aws::{Call, SimulatedAws, Step, update_of_statement};
use tokio::time::Instant;

use crate::{
    analytics::{AnalyticsRows, rows_of_event},
    books::{Item, number, text},
    hostile::Poison,
    shop::{
        ANALYTICS, EVENT_LOG, IDEMPOTENCY, ORDERS, PRODUCTS, Queue, RESERVATIONS, SHARDS_DEFAULT,
        STOCK_CHANGES, UNPUBLISHED, variables,
    },
    transactions::describe,
};

/// By how much the clock of an environment may differ from AWS's, in milliseconds.
const SKEW_MS: u64 = 1000;
/// The end of a lease in which no mail is begun, in milliseconds.
const LEASE_MARGIN_MS: u64 = 3000;
/// A conflict is no reason to give up before this many attempts,
const ATTEMPTS_MAX: u32 = 16;
/// unless the time that handlers have was up: the time-out without the consumer's reserve.
const HANDLING_TIME: Duration = Duration::from_millis(8500);
/// The time-out of a consumer.
const INVOCATION_MAX: Duration = Duration::from_secs(10);
/// The longest that an environment stands still.
const STALL_MAX: Duration = Duration::from_secs(15);
/// Least pause between two attempts at a transaction.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// What a mail says of which a later one of its order was begun before.
const OVERTAKEN: &str = "This message is late";
/// Number of sends without an answer after which a mail is given up.
const UNKNOWN_SENDS_MAX: usize = 3;

const PRODUCT_MARKERS: &str = "product-consumer#";
const ORDER_MARKERS: &str = "order-consumer#";
const MAIL_MARKERS: &str = "notification-consumer#";
/// Of the first generation.
const ANALYTICS_MARKERS: &str = "analytics-consumer#1#";

/// The observer's own view. Clones are the same.
#[derive(Clone)]
pub(crate) struct Invariants(Arc<Mutex<Watch>>);

impl Invariants {
    /// Watches an AWS from now on, which has to be its beginning.
    pub(crate) fn watch(aws: &SimulatedAws) -> Self {
        let watch = Arc::new(Mutex::new(Watch::new(aws.now())));
        let observer = watch.clone();
        aws.set_observer(move |aws, step| {
            let mut watch = observer.lock().unwrap_or_else(PoisonError::into_inner);
            // The first says most: what follows may follow from it.
            if watch.broken.is_none()
                && let Err(broken) = watch.observe(aws, step)
            {
                watch.broken = Some(format!("after {:?}: {broken:#}", aws.now() - watch.begun));
            }
        });
        Self(watch)
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this message end on its DLQ.
    pub(crate) fn expect(&self, poison: Poison) {
        self.lock().poison.push(poison);
    }

    /// Lets a newer consumer than the present ones acknowledge this message.
    pub(crate) fn expect_newer(&self, body: &str) {
        self.lock().newer.insert(body.to_owned());
    }

    /// The kinds of transactions that orders were seen to have, each as its writes in words.
    pub(crate) fn transactions(&self) -> BTreeSet<BTreeSet<String>> {
        self.lock().kinds.clone()
    }

    /// Whether every invariant has held so far.
    pub(crate) fn verdict(&self) -> Result<()> {
        match &self.lock().broken {
            Some(broken) => bail!("invariant broken {broken}"),
            None => Ok(()),
        }
    }

    /// Checks the end: what was poison is where it belongs, and nothing else is; every write was seen.
    pub(crate) fn check_end(&self, aws: &SimulatedAws) -> Result<()> {
        self.verdict()?;
        let watch = self.lock();
        watch.check_dlqs(aws)?;
        for row in aws.items(EVENT_LOG) {
            watch.check_on_its_way(text(&row, "order_id"), text(&row, "event_id"))?;
        }
        watch.check_analytics_of_log(aws)?;
        for (table, _) in KEYS {
            let seen = watch.rows.range(rows_of(table)).count();
            ensure!(seen == aws.items(table).len(), "{table}: a write was no step of any call");
        }
        Ok(())
    }

    /// Whether this event's mail was given up, because too many of its sends had no answer.
    pub(crate) fn is_mail_given_up(&self, event_id: &str) -> bool {
        self.lock().is_mail_given_up(event_id)
    }
}

/// One row, before and after a step.
struct Change {
    table: &'static str,
    key: String,
    before: Option<Item>,
    after: Option<Item>,
}

impl Change {
    fn is_new(&self, table: &str, prefix: &str) -> bool {
        self.table == table && self.before.is_none() && self.key.starts_with(prefix)
    }

    /// The row as it is now, or `None` if this change is not one of this table that leaves one.
    fn after_in(&self, table: &str) -> Option<&Item> {
        self.after.as_ref().filter(|_| self.table == table)
    }
}

/// An attempt at a mail: one claim of its lease.
#[derive(Debug)]
struct Claim {
    event_id: String,
    environment: u64,
    /// When its lease ends, in milliseconds since 1970.
    leased_until: u64,
    /// Its call that sends the mail.
    send: Option<Send>,
    has_tried_to_complete: bool,
    /// That its outcome is unknown stands in the table.
    is_noted_unknown: bool,
    /// The stage that the mails of its order had come to when it was made.
    stage: u64,
}

#[derive(Debug, Clone, Copy)]
struct Send {
    /// SES has taken the mail.
    is_taken: bool,
    /// Whether its sender has heard an answer; `None` while it waits for one.
    is_heard: Option<bool>,
}

/// The attempts at one transaction, which are those of one environment with the same writes.
#[derive(Debug)]
struct Transaction {
    token: String,
    last_heard: Option<Instant>,
    conflicts: u32,
    end: End,
    markers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    Conflict,
    Known,
}

struct Watch {
    begun: Duration,
    broken: Option<String>,
    /// When an attempt at a call has left its environment, in milliseconds since 1970.
    begun_at: BTreeMap<u64, u64>,
    rows: BTreeMap<(&'static str, String), Item>,
    /// The claims of mails, by owner.
    claims: BTreeMap<String, Claim>,
    /// The owner whose mail an attempt at a call sends.
    sends: BTreeMap<u64, String>,
    transactions: BTreeMap<(u64, u64), Transaction>,
    /// The transaction of an attempt at a call, and what its answer says.
    answers: BTreeMap<u64, ((u64, u64), End)>,
    /// Orders of which an environment was answered that stock is short, and nothing else was in the way.
    short: BTreeSet<(u64, String)>,
    /// The stock of a product that an environment has read, and when: a read that its client gave up may come last.
    read_stock: BTreeMap<(u64, String), Vec<(Instant, i64)>>,
    /// Events that SNS has accepted, and those that it has refused for good.
    accepted: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Events to be published that an environment knows: because it has stored them, or has read them in the outbox, or the
    /// marker that names them, or the order that stands for them.
    known_pending: BTreeSet<(u64, String)>,
    /// Environments that died or whose invocation timed out.
    gone: BTreeSet<u64>,
    /// Environments that stood still in the middle of an invocation.
    stalled: BTreeSet<u64>,
    last_mail: BTreeMap<u64, Instant>,
    /// Receipts of deliveries that were given a pause.
    paused: BTreeSet<String>,
    dead_lettered: BTreeSet<String>,
    /// The environment of an attempt at sending a dead letter that is under way, and when such an attempt had no answer.
    dead_letters: BTreeMap<u64, u64>,
    unanswered_dead_letters: BTreeMap<u64, Instant>,
    poison: Vec<Poison>,
    kinds: BTreeSet<BTreeSet<String>>,
    /// Bodies that only newer consumers take.
    newer: BTreeSet<String>,
    marker_life: u64,
}

/// How long a message may be on a queue and then on its DLQ, in seconds, by the template's own numbers.
fn retention_seconds() -> u64 {
    const TEMPLATE: &str = include_str!("../../../infra/template.yaml");
    let (mut queue, mut dlq, mut is_dlq) = (0_u64, 0_u64, false);
    for line in TEMPLATE.lines() {
        if let Some(name) = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'))
            && !name.starts_with(' ')
        {
            is_dlq = name.ends_with("Dlq");
        }
        if let Some(seconds) = line.trim().strip_prefix("MessageRetentionPeriod: ") {
            let longest = if is_dlq { &mut dlq } else { &mut queue };
            *longest = seconds.parse::<u64>().unwrap_or_default().max(*longest);
        }
    }
    assert!(queue > 0 && dlq > queue, "the template has other retention periods: {queue}, {dlq}");
    assert!(TEMPLATE.contains("{ AttributeName: expires_at, Enabled: true }"), "TTL is off");
    queue + dlq
}

fn rows_of(table: &'static str) -> std::ops::RangeInclusive<(&'static str, String)> {
    (table, String::new())..=(table, "\u{10ffff}".to_owned())
}

/// The tables that are watched, each with its keys.
const KEYS: [(&str, &[&str]); 7] = [
    (ORDERS, &["order_id"]),
    (PRODUCTS, &["product_id"]),
    (RESERVATIONS, &["order_id"]),
    (EVENT_LOG, &["order_id", "event_id"]),
    (IDEMPOTENCY, &["key"]),
    (STOCK_CHANGES, &["product_id", "change_id"]),
    (ANALYTICS, &["day", "row"]),
];

/// The writes of a call, each with its kind.
fn writes<'a>(operation: &'a str, body: &'a Value) -> Vec<(&'a str, &'a Value)> {
    match operation {
        "TransactWriteItems" => {
            let items = body["TransactItems"].as_array().into_iter().flatten();
            let writes = items.filter_map(|item| item.as_object()?.iter().next());
            writes.map(|(kind, write)| (kind.as_str(), write)).collect()
        }
        "PutItem" | "UpdateItem" | "DeleteItem" => {
            vec![(operation.trim_end_matches("Item"), body)]
        }
        _ => Vec::new(),
    }
}

/// The table of a write and the key of its row, as text and as DynamoDB has it.
fn row_of(kind: &str, write: &Value) -> Option<(&'static str, String, Value)> {
    let (table, names) = *KEYS.iter().find(|(table, _)| write["TableName"] == *table)?;
    let item = &write[if kind == "Put" { "Item" } else { "Key" }];
    let parts: Vec<&str> = names.iter().filter_map(|name| item[name]["S"].as_str()).collect();
    let key = names.iter().map(|name| ((*name).to_owned(), item[name].clone())).collect();
    Some((table, parts.join("/"), Value::Object(key)))
}

fn event_of(row: &Item) -> Result<Event> {
    Event::decode(text(row, "body").as_bytes()).context("an event of the log cannot be read")
}

fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The reservations that a transaction puts with this status, each with its order.
fn reservations_in<'a>(body: &'a Value, status: &str) -> Vec<(&'a str, Item)> {
    let puts = writes("TransactWriteItems", body).into_iter().filter(|(kind, write)| {
        *kind == "Put"
            && write["TableName"] == RESERVATIONS
            && write["Item"]["status"]["S"] == status
    });
    let put = |(_, put): (&str, &'a Value)| {
        let order = put["Item"]["order_id"]["S"].as_str()?;
        Some((order, serde_json::from_value(put["Item"].clone()).ok()?))
    };
    puts.filter_map(put).collect()
}

/// The products whose stock was too little for a transaction, if nothing else was in its way.
fn short_products(body: &Value, answer: &str) -> BTreeSet<String> {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let reasons = answer["CancellationReasons"].as_array().into_iter().flatten();
    let codes = reasons.map(|reason| reason["Code"].as_str().unwrap_or("None"));
    let mut short = BTreeSet::new();
    for ((_, write), code) in writes("TransactWriteItems", body).into_iter().zip(codes) {
        match code {
            "None" => {}
            "ConditionalCheckFailed" => {
                if write["TableName"] == PRODUCTS {
                    short.extend(write["Key"]["product_id"]["S"].as_str().map(str::to_owned));
                }
            }
            _ => return BTreeSet::new(),
        }
    }
    short
}

/// What the reasons of a cancellation say: a marker or a guard that failed is an answer, whatever else failed; another
/// condition is one if nothing was in the way.
fn end_of_cancelled(writes: &[(&str, &Value)], answer: &str) -> End {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let reasons = answer["CancellationReasons"].as_array().into_iter().flatten();
    let mut end = End::Conflict;
    let mut is_in_the_way = false;
    for ((_, write), reason) in writes.iter().zip(reasons) {
        let table = write["TableName"].as_str().unwrap_or_default();
        match reason["Code"].as_str() {
            Some("ConditionalCheckFailed")
                if matches!(table, ORDERS | RESERVATIONS | IDEMPOTENCY) =>
            {
                return End::Known;
            }
            Some("ConditionalCheckFailed") => end = End::Known,
            None | Some("None") => {}
            Some(_) => is_in_the_way = true,
        }
    }
    if is_in_the_way { End::Conflict } else { end }
}

/// The lines of a reservation, by product.
fn lines(reservation: &Item) -> Result<BTreeMap<String, i64>> {
    let mut lines = BTreeMap::new();
    for line in reservation["items"]["L"].as_array().into_iter().flatten() {
        let line: Item = serde_json::from_value(line["M"].clone())?;
        let quantity = i64::try_from(number(&line, "quantity")?)?;
        *lines.entry(text(&line, "product_id").to_owned()).or_default() += quantity;
    }
    Ok(lines)
}

fn field<'a>(form: &'a [(String, String)], wanted: &str) -> &'a str {
    form.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value)
}

/// The events of a batch for SNS, by the id of their entry.
fn published(form: &[(String, String)]) -> BTreeMap<&str, String> {
    let ids = form.iter().filter_map(|(name, id)| {
        let place = name.strip_prefix("PublishBatchRequestEntries.member.")?.strip_suffix(".Id")?;
        let body = field(form, &format!("PublishBatchRequestEntries.member.{place}.Message"));
        let body: Value = serde_json::from_str(body).ok()?;
        Some((id.as_str(), body["event_id"].as_str()?.to_owned()))
    });
    ids.collect()
}

impl Watch {
    fn new(begun: Duration) -> Self {
        Self {
            begun,
            broken: None,
            begun_at: BTreeMap::new(),
            rows: BTreeMap::new(),
            claims: BTreeMap::new(),
            sends: BTreeMap::new(),
            transactions: BTreeMap::new(),
            answers: BTreeMap::new(),
            short: BTreeSet::new(),
            read_stock: BTreeMap::new(),
            accepted: BTreeSet::new(),
            refused: BTreeSet::new(),
            known_pending: BTreeSet::new(),
            gone: BTreeSet::new(),
            stalled: BTreeSet::new(),
            last_mail: BTreeMap::new(),
            paused: BTreeSet::new(),
            dead_lettered: BTreeSet::new(),
            dead_letters: BTreeMap::new(),
            unanswered_dead_letters: BTreeMap::new(),
            poison: Vec::new(),
            kinds: BTreeSet::new(),
            newer: BTreeSet::new(),
            marker_life: retention_seconds(),
        }
    }

    fn row(&self, table: &'static str, key: &str) -> Option<&Item> {
        self.rows.get(&(table, key.to_owned()))
    }

    fn status(&self, table: &'static str, key: &str) -> &str {
        self.row(table, key).map_or("", |row| text(row, "status"))
    }

    fn observe(&mut self, aws: &SimulatedAws, step: &Step<'_>) -> Result<()> {
        match *step {
            Step::Begun { attempt, environment, call } => {
                self.check_begun(aws, attempt, environment, call)
            }
            Step::CarriedOut { attempt, environment, call, status, answer } => match call {
                Call::DynamoDb(operation, body) => {
                    self.note_transaction(attempt, environment, operation, body, status, answer);
                    if status == 200 {
                        self.note_read(environment, operation, answer);
                    }
                    self.check_writes(aws, (attempt, environment), operation, body, status)
                }
                Call::Sns(form) => {
                    self.note_publication(form, status, answer);
                    Ok(())
                }
                Call::Ses(_) => {
                    let owner = self.sends.get(&attempt);
                    let claim = owner.and_then(|owner| self.claims.get_mut(owner));
                    if let Some(send) = claim.and_then(|claim| claim.send.as_mut()) {
                        send.is_taken = status == 200;
                    }
                    Ok(())
                }
                Call::Sqs(operation, body) if operation == "SendMessage" && status == 200 => {
                    let id = &body["MessageAttributes"]["original_message_id"]["StringValue"];
                    self.dead_lettered.extend(id.as_str().map(str::to_owned));
                    Ok(())
                }
                Call::Sqs(..) | Call::SecretsManager(..) | Call::External(_) | Call::Unknown(_) => {
                    Ok(())
                }
            },
            Step::Ended { attempt, is_heard } => {
                self.note_end(attempt, is_heard);
                Ok(())
            }
            Step::Died { environment } => {
                self.gone.insert(environment);
                Ok(())
            }
            Step::TimedOut { environment } => {
                self.gone.insert(environment);
                bail!("an invocation of environment {environment} has used up its function's time")
            }
            Step::Stalled { environment } => {
                self.stalled.insert(environment);
                Ok(())
            }
            Step::GivenBack { environment, receipt_handle, body, took } => {
                self.check_given_back(environment, receipt_handle, body, took)
            }
            Step::Acknowledged { queue_url, message_id, body } => {
                self.check_acknowledged(aws, queue_url, message_id, body)
            }
        }
    }

    // Calls as they leave.

    fn check_begun(
        &mut self,
        aws: &SimulatedAws,
        attempt: u64,
        environment: u64,
        call: &Call,
    ) -> Result<()> {
        self.begun_at.insert(attempt, u64::try_from(aws.now().as_millis())?);
        match call {
            Call::DynamoDb(operation, body) => match operation.as_str() {
                "GetItem" => {
                    ensure!(body["ConsistentRead"] == true, "a read that decides may be stale")
                }
                "BatchGetItem" => {
                    for (table, keys) in body["RequestItems"].as_object().into_iter().flatten() {
                        ensure!(keys["ConsistentRead"] == true, "a read of {table} may be stale");
                    }
                }
                "TransactWriteItems" => {
                    self.kinds.extend(describe(&writes(operation, body)));
                    self.check_token(attempt, environment, body)?;
                }
                "UpdateItem" => {
                    let owner = body["ExpressionAttributeValues"][":owner"]["S"].as_str();
                    let is_completion = body["ExpressionAttributeValues"][":done"].is_object();
                    let claim = owner.and_then(|owner| self.claims.get_mut(owner));
                    if let (Some(claim), true) = (claim, is_completion) {
                        claim.has_tried_to_complete = true;
                    }
                }
                _ => {}
            },
            Call::Sns(form) => {
                for event_id in published(form).into_values() {
                    let key = (environment, event_id);
                    ensure!(
                        self.known_pending.contains(&key),
                        "event {} is published, and its publisher does not know it as pending",
                        key.1
                    );
                }
            }
            Call::Ses(form) => self.check_send(aws, attempt, environment, form)?,
            Call::Sqs(operation, body) => {
                if operation == "SendMessage" {
                    self.dead_letters.insert(attempt, environment);
                } else if operation == "ChangeMessageVisibility" {
                    let receipt = body["ReceiptHandle"].as_str().unwrap_or_default();
                    self.paused.insert(receipt.to_owned());
                }
            }
            Call::SecretsManager(..) | Call::External(_) | Call::Unknown(_) => {}
        }
        Ok(())
    }

    /// One token stands for one logical attempt; the next one waits until the outcome of the last is known.
    fn check_token(&mut self, attempt: u64, environment: u64, body: &Value) -> Result<()> {
        let rejected = reservations_in(body, "rejected");
        let reserved = reservations_in(body, "reserved");
        // What an environment was about to call when it stood still, it calls when it goes on, be its time up by then.
        let has_stalled = self.stalled.contains(&environment);
        let decided_within = INVOCATION_MAX + if has_stalled { STALL_MAX } else { Duration::ZERO };
        for (order, reservation) in &rejected {
            let mut is_read_short = false;
            for product in lines(reservation)?.into_keys() {
                let read = self.read_stock.get(&(environment, product.clone()));
                let together = rejected.iter().chain(&reserved);
                let wanted =
                    together.map(|(_, one)| Ok(lines(one)?.get(&product).copied().unwrap_or(0)));
                let wanted: i64 = wanted.sum::<Result<i64>>()?;
                is_read_short |= read
                    .into_iter()
                    .flatten()
                    .any(|(at, stock)| at.elapsed() < decided_within && *stock < wanted);
            }
            ensure!(
                is_read_short || self.short.contains(&(environment, (*order).to_owned())),
                "{order} is rejected, and whether stock is short was in doubt"
            );
        }
        let all = writes("TransactWriteItems", body);
        // Without an id of its own, a transaction may be that of another delivery at the same moment.
        if !all.iter().any(|(_, w)| w["TableName"] == EVENT_LOG || w["TableName"] == STOCK_CHANGES)
        {
            return Ok(());
        }
        let token = body["ClientRequestToken"].as_str().context("a transaction without a token")?;
        let key = (environment, digest(&body["TransactItems"]));
        let now = Instant::now();
        match self.transactions.get_mut(&key) {
            None => {
                let markers = all.iter().filter(|(_, write)| write["TableName"] == IDEMPOTENCY);
                let markers =
                    markers.filter_map(|(_, w)| Some(w["Item"]["key"]["S"].as_str()?.to_owned()));
                let transaction = Transaction {
                    token: token.to_owned(),
                    last_heard: None,
                    conflicts: 0,
                    end: End::Unknown,
                    markers: markers.collect(),
                };
                self.transactions.insert(key, transaction);
            }
            Some(earlier) => {
                if earlier.token != token {
                    ensure!(
                        earlier.end != End::Unknown,
                        "another token, while the outcome of the transaction with the first is unknown"
                    );
                    ensure!(
                        earlier.end != End::Known,
                        "a transaction is sent again, and its answer has said what became of it"
                    );
                    let pause = earlier.last_heard.map_or(Duration::ZERO, |heard| now - heard);
                    ensure!(pause >= PAUSE_MIN, "a transaction is tried again after {pause:?}");
                    token.clone_into(&mut earlier.token);
                    earlier.end = End::Unknown;
                }
            }
        }
        self.answers.insert(attempt, (key, End::Unknown));
        Ok(())
    }

    fn note_transaction(
        &mut self,
        attempt: u64,
        environment: u64,
        operation: &str,
        body: &Value,
        status: u16,
        answer: &str,
    ) {
        if operation != "TransactWriteItems" {
            return;
        }
        if status == 400 {
            let short = short_products(body, answer);
            for (order, reservation) in reservations_in(body, "reserved") {
                let lines = lines(&reservation).unwrap_or_default();
                if lines.keys().any(|product| short.contains(product)) {
                    self.short.insert((environment, order.to_owned()));
                }
            }
        }
        if status == 200 {
            for (kind, write) in writes(operation, body) {
                if let (EVENT_LOG, "Put", Some(id)) = (
                    write["TableName"].as_str().unwrap_or_default(),
                    kind,
                    write["Item"]["event_id"]["S"].as_str(),
                ) {
                    self.known_pending.insert((environment, id.to_owned()));
                }
            }
        }
        if let Some((_, end)) = self.answers.get_mut(&attempt) {
            *end = match status {
                200 => End::Known,
                400 if answer.contains("TransactionCanceledException") => {
                    end_of_cancelled(&writes(operation, body), answer)
                }
                400 if answer.contains("ValidationException") => End::Known,
                _ => End::Unknown,
            };
        }
    }

    fn note_read(&mut self, environment: u64, operation: &str, answer: &str) {
        let answer: Value = match operation {
            "BatchGetItem" | "GetItem" => serde_json::from_str(answer).unwrap_or_default(),
            _ => return,
        };
        let marked = answer["Item"]["events"]["L"].as_array().into_iter().flatten();
        let marked = marked.map(|named| &named["M"]["id"]);
        let orders = answer["Responses"][ORDERS].as_array().into_iter().flatten();
        let unpublished = orders.filter(|order| {
            let shard = order["pending_shard"]["S"].as_str();
            shard.is_some_and(|shard| shard.starts_with(UNPUBLISHED))
        });
        for id in marked.chain(unpublished.map(|order| &order["created_event_id"])) {
            self.known_pending.extend(id["S"].as_str().map(|id| (environment, id.to_owned())));
        }
        for row in answer["Responses"][PRODUCTS].as_array().into_iter().flatten() {
            let stock = row["stock"]["N"].as_str().and_then(|stock| stock.parse().ok());
            if let (Some(product), Some(stock)) = (row["product_id"]["S"].as_str(), stock) {
                let read = self.read_stock.entry((environment, product.to_owned())).or_default();
                read.push((Instant::now(), stock));
            }
        }
        for row in answer["Responses"][EVENT_LOG].as_array().into_iter().flatten() {
            if let (true, Some(id)) =
                (row["outbox_shard"].is_object(), row["event_id"]["S"].as_str())
            {
                self.known_pending.insert((environment, id.to_owned()));
            }
        }
    }

    fn note_publication(&mut self, form: &[(String, String)], status: u16, answer: &str) {
        let (taken, failed) = answer.split_once("<Failed>").unwrap_or((answer, ""));
        for (id, event_id) in published(form) {
            let id = format!("<Id>{id}</Id>");
            if status == 200 && taken.contains(&id) {
                self.accepted.insert(event_id);
            } else if (400..500).contains(&status)
                || failed.contains(&id) && failed.contains("<SenderFault>true")
            {
                self.refused.insert(event_id);
            }
        }
    }

    fn note_end(&mut self, attempt: u64, is_heard: bool) {
        let owner = self.sends.get(&attempt);
        let claim = owner.and_then(|owner| self.claims.get_mut(owner));
        if let Some(send) = claim.and_then(|claim| claim.send.as_mut()) {
            send.is_heard = Some(is_heard);
        }
        self.begun_at.remove(&attempt);
        if let Some(environment) = self.dead_letters.remove(&attempt)
            && !is_heard
        {
            self.unanswered_dead_letters.insert(environment, Instant::now());
        }
        if let Some((key, end)) = self.answers.remove(&attempt)
            && is_heard
            && let Some(transaction) = self.transactions.get_mut(&key)
        {
            transaction.end = end;
            transaction.last_heard = Some(Instant::now());
            transaction.conflicts += u32::from(end == End::Conflict);
        }
    }

    // Mails.

    /// Only the owner of the lease sends, once, and not so late that the lease might end first.
    fn check_send(
        &mut self,
        aws: &SimulatedAws,
        attempt: u64,
        environment: u64,
        form: &[(String, String)],
    ) -> Result<()> {
        let subject = field(form, "Message.Subject.Data");
        let (order, outcome) = subject
            .strip_prefix("Order #")
            .and_then(|rest| rest.split_once(' '))
            .with_context(|| format!("a mail about {subject:?}"))?;
        let (event_type, stage) = match outcome {
            "Created Successfully" => (EventType::OrderCreated, 0),
            "Confirmed" => (EventType::OrderConfirmed, 1),
            "Rejected" => (EventType::OrderRejected, 1),
            "Cancelled" => (EventType::OrderCancelled, 2),
            "Shipped" => (EventType::OrderShipped, 2),
            _ => bail!("a mail about {subject:?}"),
        };
        let event_id = self.event_of_order(order, event_type)?;
        let event_id = event_id.with_context(|| format!("{subject:?}: there is no such event"))?;
        let what = format!("the mail {subject:?} of environment {environment}");
        let marker = self.row(IDEMPOTENCY, &format!("{MAIL_MARKERS}{event_id}"));
        let marker = marker.with_context(|| format!("{what}: without a claim"))?.clone();
        ensure!(text(&marker, "state") == "in_progress", "{what}: without a claim: {marker:?}");
        let until = number(&marker, "leased_until")?;
        let now = u64::try_from(aws.now().as_millis())?;
        ensure!(
            now + LEASE_MARGIN_MS <= until + SKEW_MS,
            "{what}: at {now}, and its lease ends at {until}"
        );
        let owner = text(&marker, "owner").to_owned();
        for (other, earlier) in self.claims.iter().filter(|(other, _)| **other != owner) {
            let Some(send) = earlier.send.filter(|_| earlier.event_id == event_id) else {
                continue;
            };
            let is_gone = self.gone.contains(&earlier.environment)
                || self.stalled.contains(&earlier.environment);
            // A call that AWS carries out late is under way for longer than anybody waits for it.
            let is_given_up = now + LEASE_MARGIN_MS + SKEW_MS >= earlier.leased_until;
            ensure!(
                send.is_heard.is_some() || is_gone || is_given_up,
                "{what}: another of the same event, by {other}, is under way"
            );
            // Its answer was lost, or it could not be marked: then nobody knows of it.
            let is_excused = !send.is_taken
                || send.is_heard == Some(false)
                || is_gone
                || earlier.has_tried_to_complete;
            ensure!(is_excused, "{what}: it was sent before, and that was known");
        }
        let claim = self.claims.get_mut(&owner);
        let claim = claim.with_context(|| format!("{what}: the claim of {owner} was not seen"))?;
        ensure!(
            claim.environment == environment,
            "{what}: environment {} has the lease",
            claim.environment
        );
        ensure!(claim.send.is_none(), "{what}: twice under one claim");
        ensure!(
            claim.stage <= stage || field(form, "Message.Body.Text.Data").contains(OVERTAKEN),
            "{what}: a later one was begun before, and it does not say so"
        );
        claim.send = Some(Send { is_taken: false, is_heard: None });
        self.sends.insert(attempt, owner);
        self.check_pace(environment)
    }

    /// Four environments share the mails of a second: two for each queue of the consumer.
    fn check_pace(&mut self, environment: u64) -> Result<()> {
        let variables = variables(Queue::Notification, SHARDS_DEFAULT);
        let rate: f64 = variables["MAILS_PER_SECOND"].parse()?;
        let apart = Duration::from_secs_f64(4.0 / rate) - Duration::from_millis(2);
        let now = Instant::now();
        if let Some(last) = self.last_mail.insert(environment, now)
            && !self.stalled.contains(&environment)
        {
            let since = now - last;
            ensure!(since >= apart, "environment {environment} sends two mails within {since:?}");
        }
        Ok(())
    }

    fn event_of_order(&self, order: &str, event_type: EventType) -> Result<Option<String>> {
        let range = (EVENT_LOG, format!("{order}/"))..(EVENT_LOG, format!("{order}0"));
        for (_, row) in self.rows.range(range) {
            let event = event_of(row)?;
            if event.body.event_type() == event_type {
                return Ok(Some(event.id.to_string()));
            }
        }
        Ok(None)
    }

    /// The order of an event, or nothing if the log does not have it.
    fn order_of(&self, event_id: &str) -> String {
        let mut logged = self.rows.range(rows_of(EVENT_LOG)).map(|((_, key), _)| key);
        let key = logged.find(|key| key.ends_with(event_id));
        key.and_then(|key| key.split('/').next()).unwrap_or_default().to_owned()
    }

    fn is_mail_given_up(&self, event_id: &str) -> bool {
        let claims = self.claims.values().filter(|claim| claim.event_id == event_id);
        claims.filter(|claim| claim.is_noted_unknown).count() >= UNKNOWN_SENDS_MAX
    }

    // Writes.

    fn check_writes(
        &mut self,
        aws: &SimulatedAws,
        caller: (u64, u64),
        operation: &str,
        body: &Value,
        status: u16,
    ) -> Result<()> {
        // Each statement is a write of its own.
        let statements = body["Statements"].as_array().into_iter().flatten();
        let updates: Vec<Value> = statements.filter_map(update_of_statement).collect();
        let mut writes = writes(operation, body);
        writes.extend(updates.iter().map(|update| ("Update", update)));
        let mut changes = Vec::new();
        for (kind, write) in &writes {
            let Some((table, key, names)) = row_of(kind, write) else { continue };
            let after = aws.item(table, &names);
            let before = match after.clone() {
                Some(row) => self.rows.insert((table, key.clone()), row),
                None => self.rows.remove(&(table, key.clone())),
            };
            if before != after {
                changes.push(Change { table, key, before, after });
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        ensure!(status == 200, "{operation} was answered with {status} and has written");
        for change in &changes {
            let Change { table, key, .. } = change;
            let checked = match *table {
                ORDERS => self.check_order(change, &changes),
                RESERVATIONS => self.check_reservation(change, &changes),
                PRODUCTS => check_stock(change, &changes),
                EVENT_LOG => self.check_event(change, &changes),
                IDEMPOTENCY if key.starts_with(MAIL_MARKERS) => {
                    let order = self.order_of(key.trim_start_matches(MAIL_MARKERS));
                    self.check_lease(aws, caller, change, body)
                        .with_context(|| format!("a mail of order {order}"))
                }
                IDEMPOTENCY => check_marker(change, &changes),
                // All of them together, below.
                ANALYTICS => Ok(()),
                _ => {
                    ensure!(change.before.is_none(), "a stock change was changed");
                    Ok(())
                }
            };
            checked.with_context(|| format!("{operation} of {table} {key}"))?;
            if *table == IDEMPOTENCY {
                self.check_life(aws, change).with_context(|| format!("{operation} of {key}"))?;
            }
        }
        self.check_analytics(&changes).with_context(|| format!("{operation} of {ANALYTICS}"))?;
        if operation == "TransactWriteItems" {
            // Each line by itself: its write would be refused now.
            for (kind, write) in &writes {
                let Some((table, key, _)) = row_of(kind, write) else { continue };
                let is_line = matches!(table, ORDERS | RESERVATIONS | IDEMPOTENCY);
                ensure!(
                    !is_line || !aws.accepts(kind, write),
                    "repeated, the write of {table} {key} would be carried out again"
                );
            }
        }
        Ok(())
    }

    fn check_order(&self, change: &Change, all: &[Change]) -> Result<()> {
        let Some(after) = &change.after else { bail!("an order is gone") };
        let (from, to) =
            (change.before.as_ref().map(|row| text(row, "status")), text(after, "status"));
        let event_type = match (from, to) {
            (None, "pending") => EventType::OrderCreated,
            (Some("pending"), "confirmed") => EventType::OrderConfirmed,
            (Some("pending"), "rejected") => EventType::OrderRejected,
            (Some("pending" | "confirmed"), "cancelled") => EventType::OrderCancelled,
            (Some("confirmed"), "shipped") => EventType::OrderShipped,
            (Some("pending"), "pending") => return self.check_published(change),
            _ => bail!("an order goes from {from:?} to {to:?}"),
        };
        ensure!(
            after.contains_key("pending_shard") == (to == "pending"),
            "an order is {to}, and its place in the index of pending ones is {:?}",
            after.get("pending_shard")
        );
        let created = text(after, "created_event_id");
        match &change.before {
            None => {
                let is_its = |one: &Change| one.table == EVENT_LOG && one.key.ends_with(created);
                ensure!(
                    text(after, "pending_shard").starts_with(UNPUBLISHED)
                        && !created.is_empty()
                        && all.iter().any(is_its),
                    "a new order does not stand for its event: {after:?}"
                );
            }
            Some(before) if stands_for_event(before) => {
                let event_id = text(before, "created_event_id");
                let event = self.row(EVENT_LOG, &format!("{}/{event_id}", change.key));
                ensure!(
                    event.is_some_and(|event| event.contains_key("outbox_shard"))
                        || to != "cancelled" && self.accepted.contains(event_id),
                    "an order is {to}, and nobody will publish its OrderCreated {event_id}"
                );
            }
            Some(_) => {}
        }
        if let Some(before) = &change.before {
            for name in ["items", "total", "currency", "customer_email", "created_at"] {
                ensure!(before.get(name) == after.get(name), "an order's {name} has changed");
            }
        }
        reported(&change.key, event_type, all)?;
        let held = self.status(RESERVATIONS, &change.key);
        match to {
            "confirmed" => {
                ensure!(matches!(held, "reserved" | "released"), "confirmed, and {held:?}");
                self.cause(ORDER_MARKERS, &change.key, all)?;
            }
            "rejected" => {
                ensure!(held == "rejected", "rejected, and its reservation is {held:?}");
                self.cause(ORDER_MARKERS, &change.key, all)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// An order does not stand for its event any more: it is published, or in the outbox.
    fn check_published(&self, change: &Change) -> Result<()> {
        let (Some(before), Some(after)) = (&change.before, &change.after) else {
            bail!("an order is gone")
        };
        let event_id = text(before, "created_event_id");
        ensure!(
            stands_for_event(before) && !stands_for_event(after),
            "a pending order is changed to {after:?}"
        );
        let rest = |row: &Item| {
            let mut rest = row.clone();
            rest.retain(|name, _| !matches!(name.as_str(), "pending_shard" | "created_event_id"));
            rest
        };
        ensure!(rest(before) == rest(after), "a pending order is changed to {after:?}");
        self.check_on_its_way(&change.key, event_id)
    }

    /// An event is published, or has a place in the outbox.
    fn check_on_its_way(&self, order: &str, event_id: &str) -> Result<()> {
        let row = self.row(EVENT_LOG, &format!("{order}/{event_id}"));
        ensure!(
            self.accepted.contains(event_id)
                || row.is_some_and(|row| row.contains_key("outbox_shard")),
            "SNS has not accepted event {event_id} of {order}, and it is not in the outbox"
        );
        Ok(())
    }

    fn check_reservation(&self, change: &Change, all: &[Change]) -> Result<()> {
        let Some(after) = &change.after else { bail!("a reservation is gone") };
        let (from, to) =
            (change.before.as_ref().map(|row| text(row, "status")), text(after, "status"));
        let (cause, report, moves_stock) = match (from, to) {
            (None, "reserved") => (EventType::OrderCreated, Some(EventType::StockReserved), true),
            (None, "rejected") => (EventType::OrderCreated, Some(EventType::StockRejected), false),
            (None, "cancelled") => (EventType::OrderCancelled, None, false),
            (Some("reserved"), "released") => {
                (EventType::OrderCancelled, Some(EventType::StockReleased), true)
            }
            _ => bail!("a reservation goes from {from:?} to {to:?}"),
        };
        let event = self.cause(PRODUCT_MARKERS, &change.key, all)?;
        ensure!(event.body.event_type() == cause, "{to} because of {}", event.body.event_type());
        if let Some(report) = report {
            reported(&change.key, report, all)?;
        }
        // By how much, together with other orders of the step, `check_stock` asks.
        for product in lines(after)?.into_keys().filter(|_| moves_stock) {
            let is_moved = all.iter().any(|c| c.table == PRODUCTS && c.key == product);
            ensure!(is_moved, "{to}, and stock has not changed");
        }
        Ok(())
    }

    /// The event that has changed this order, or its reservation, in this step: the one whose marker came with it.
    fn cause(&self, prefix: &str, order: &str, all: &[Change]) -> Result<Event> {
        let markers = all.iter().filter(|change| change.is_new(IDEMPOTENCY, prefix));
        let mut ids = markers.map(|marker| &marker.key[prefix.len()..]);
        let row = ids.find_map(|id| self.row(EVENT_LOG, &format!("{order}/{id}")));
        event_of(row.with_context(|| format!("an effect without its marker {prefix}"))?)
    }

    fn check_event(&self, change: &Change, all: &[Change]) -> Result<()> {
        let Some(after) = &change.after else { bail!("an event is gone") };
        let event = event_of(after)?;
        let (is_pending, event_id) = (after.contains_key("outbox_shard"), event.id.to_string());
        ensure!(
            is_pending == after.contains_key("pending_since"),
            "an event is in the outbox by half: {after:?}"
        );
        match &change.before {
            None => {
                let order = event.body.order_id().as_str();
                ensure!(change.key == format!("{order}/{event_id}"), "an event under another key");
                let is_named = |row: &Item| {
                    let named = row.get("events").and_then(|events| events["L"].as_array());
                    let mut named = named.into_iter().flatten();
                    named.any(|one| {
                        one["M"]["id"]["S"] == event_id.as_str() && one["M"]["stream"]["S"] == order
                    }) || text(row, "created_event_id") == event_id && stands_for_event(row)
                };
                ensure!(
                    is_pending != all.iter().filter_map(|c| c.after.as_ref()).any(is_named),
                    "an event that nobody will publish, or two will"
                );
                let is_effect = |c: &Change| matches!(c.table, ORDERS | RESERVATIONS);
                ensure!(
                    all.iter().any(|c| is_effect(c) && c.key == order),
                    "an event without the change that it reports"
                );
                let range = (EVENT_LOG, format!("{order}/"))..(EVENT_LOG, format!("{order}0"));
                for (_, row) in self.rows.range(range) {
                    let other = event_of(row)?;
                    ensure!(
                        other.id == event.id || other.body.event_type() != event.body.event_type(),
                        "a second {} of {order}",
                        event.body.event_type()
                    );
                }
            }
            Some(before) => {
                for name in ["body", "attributes"] {
                    ensure!(before.get(name) == after.get(name), "an event's {name} has changed");
                }
                let was_pending = before.contains_key("outbox_shard");
                ensure!(
                    !was_pending || is_pending || self.accepted.contains(&event_id),
                    "an event has left the outbox, and SNS has never accepted it"
                );
                ensure!(
                    text(after, "outbox_shard") != "stuck" || self.refused.contains(&event_id),
                    "an event is set aside that SNS has not refused"
                );
            }
        }
        Ok(())
    }

    /// The lease of a mail: only its owner changes it, until it has ended.
    fn check_lease(
        &mut self,
        aws: &SimulatedAws,
        (attempt, environment): (u64, u64),
        change: &Change,
        request: &Value,
    ) -> Result<()> {
        let event_id = change.key.trim_start_matches(MAIL_MARKERS).to_owned();
        let now = u64::try_from(aws.now().as_millis())?;
        let owner = |row: &Item| text(row, "owner").to_owned();
        let named =
            request["ExpressionAttributeValues"][":owner"]["S"].as_str().unwrap_or_default();
        let after_owner = change.after.as_ref().map(owner);
        let before_owner = change.before.as_ref().map(owner);
        if let Some(before) = &change.before {
            ensure!(
                text(before, "state") != "done",
                "what was done is changed: {:?}",
                change.after
            );
        }
        let until = |row: &Item| number(row, "leased_until");
        // A late attempt at a claim whose retry was carried out, and given back, claims once more: for nobody, but in order.
        let is_claim = request["ExpressionAttributeValues"][":until"].is_object();
        if let Some(new) = after_owner.as_ref().filter(|_| is_claim || before_owner != after_owner)
        {
            let after = change.after.as_ref().context("a row")?;
            ensure!(text(after, "state") == "in_progress", "claimed as {after:?}");
            let begun = self.begun_at.get(&attempt).copied().unwrap_or(now);
            // What stands still calls for a lease of which a part has passed, or all of it.
            ensure!(
                until(after)? > begun + SKEW_MS || self.stalled.contains(&environment),
                "a lease that has ended when it begins"
            );
            if let Some(before) = &change.before {
                let ends = until(before)?;
                ensure!(
                    ends <= now + SKEW_MS,
                    "claimed by {new}, while {before_owner:?} has the lease for {} ms",
                    ends.saturating_sub(now)
                );
                ensure!(
                    after.get("unknown_attempts") == before.get("unknown_attempts"),
                    "a claim has changed the number of unknown outcomes"
                );
            }
            let order = self.order_of(&event_id);
            let stage = self.row(IDEMPOTENCY, &format!("mails#{order}"));
            let claim = Claim {
                event_id,
                environment,
                stage: stage.map_or(Ok(0), |row| number(row, "stage"))?,
                leased_until: until(after)?,
                send: None,
                has_tried_to_complete: false,
                is_noted_unknown: false,
            };
            let claim = self.claims.entry(new.clone()).or_insert(claim);
            ensure!(claim.environment == environment, "two environments claim as {new}");
            return Ok(());
        }
        let owner = before_owner.context("a lease without an owner")?;
        ensure!(
            named == owner,
            "a lease of {owner} is changed by {:?}: {:?}",
            if named.is_empty() { "nobody" } else { named },
            change.after
        );
        let claim = self.claims.get_mut(&owner).context("a claim that was not seen")?;
        ensure!(
            claim.environment == environment,
            "a lease of environment {} is changed by environment {environment}",
            claim.environment
        );
        let Some(after) = &change.after else {
            let unknown =
                change.before.as_ref().map_or(Ok(0), |row| number(row, "unknown_attempts"));
            ensure!(
                unknown? >= UNKNOWN_SENDS_MAX as u64,
                "a claim is forgotten with its unknown outcomes"
            );
            return Ok(());
        };
        if text(after, "state") == "done" {
            ensure!(
                !after.contains_key("leased_until"),
                "done, and leased until {:?}",
                until(after)
            );
            ensure!(
                claim.send.is_some_and(|send| send.is_heard == Some(true)),
                "marked as sent before SES has answered"
            );
        } else if change.before.as_ref().map_or(Ok(0), until)? > until(after)? {
            // Given back before its end: then it has to be known that no mail was sent.
            ensure!(
                claim.send.is_none_or(|send| send.is_heard == Some(true) && !send.is_taken),
                "a lease is given back, and its mail may have been sent: {claim:?}"
            );
        } else {
            let before = change.before.as_ref().context("a row")?;
            ensure!(until(after)? == until(before)?, "a lease is moved");
            let unknown = |row: &Item| {
                row.get("unknown_attempts").map_or(Ok(0), |_| number(row, "unknown_attempts"))
            };
            ensure!(
                unknown(after)? == unknown(before)? + 1,
                "an unknown outcome is counted wrongly"
            );
            claim.is_noted_unknown = true;
        }
        Ok(())
    }

    /// Whoever may still come meets the marker: it outlives queue and DLQ.
    fn check_life(&self, aws: &SimulatedAws, change: &Change) -> Result<()> {
        // Requests that change stock, and events that are counted, are remembered for ever.
        if let Some(after) = change.after.as_ref().filter(|after| after.contains_key("expires_at"))
        {
            let expires = number(after, "expires_at")?;
            let until = aws.now().as_secs() + self.marker_life;
            let is_new = change.before.as_ref().and_then(|row| row.get("expires_at"))
                != after.get("expires_at");
            ensure!(
                !is_new || expires > until,
                "it ends at {expires}, and a message may come until {until}"
            );
        }
        // A sum has no other guard.
        let is_counted = change.key.starts_with(ANALYTICS_MARKERS);
        ensure!(
            !is_counted || change.after.as_ref().is_none_or(|row| !row.contains_key("expires_at")),
            "an event that was counted is forgotten"
        );
        let is_kept_for_ever = change.key.starts_with("product-api#") || is_counted;
        ensure!(
            is_kept_for_ever
                || change.after.as_ref().is_none_or(|row| row.contains_key("expires_at")),
            "it is never removed"
        );
        Ok(())
    }

    // Analytics.

    /// What a step adds to the rows is what the events of its markers are about, and nothing is added without them.
    fn check_analytics(&self, all: &[Change]) -> Result<()> {
        let mut added = AnalyticsRows::default();
        for change in all.iter().filter(|change| change.table == ANALYTICS) {
            added.add(change.after.as_ref().context("a row is gone")?, 1)?;
            if let Some(before) = &change.before {
                added.add(before, -1)?;
            }
        }
        let mut events = AnalyticsRows::default();
        for marker in all.iter().filter(|change| change.is_new(IDEMPOTENCY, ANALYTICS_MARKERS)) {
            let id = marker.key.trim_start_matches(ANALYTICS_MARKERS);
            let row = self.row(EVENT_LOG, &format!("{}/{id}", self.order_of(id)));
            let row = row.with_context(|| format!("a marker of {id}, which is not in the log"))?;
            events.extend(rows_of_event(text(row, "body"))?)?;
        }
        ensure!(added == events, "{added:?} are added, and the events are about {events:?}");
        Ok(())
    }

    /// Every event of the log is counted, once.
    fn check_analytics_of_log(&self, aws: &SimulatedAws) -> Result<()> {
        let (counted, logged) = (AnalyticsRows::counted(aws, 1)?, AnalyticsRows::of_log(aws)?);
        ensure!(counted == logged, "{counted:?} are counted, and the log says {logged:?}");
        Ok(())
    }

    // Messages.

    /// What comes again comes after a pause; and a conflict is no reason for it.
    fn check_given_back(
        &self,
        environment: u64,
        receipt_handle: &str,
        body: &str,
        took: Duration,
    ) -> Result<()> {
        // A DLQ that does not answer takes the time for it: the queue's own timeout is the pause then.
        let is_dlq_silent = self.dead_letters.values().any(|one| *one == environment)
            || self
                .unanswered_dead_letters
                .get(&environment)
                .is_some_and(|at| at.elapsed() < INVOCATION_MAX);
        ensure!(
            is_dlq_silent || self.paused.contains(receipt_handle),
            "a message is given back without a pause: {body}"
        );
        let Ok(event) = Event::decode(body.as_bytes()) else { return Ok(()) };
        let marker = format!("#{}", event.id);
        let range = (environment, 0)..=(environment, u64::MAX);
        for (_, transaction) in self.transactions.range(range) {
            let is_its = transaction.markers.iter().any(|key| key.ends_with(&marker));
            // Of this invocation: an earlier one had its own reason.
            let is_of_invocation =
                transaction.last_heard.is_some_and(|heard| heard.elapsed() <= took);
            if !is_its || !is_of_invocation {
                continue;
            }
            ensure!(
                transaction.end != End::Conflict
                    || transaction.conflicts >= ATTEMPTS_MAX
                    || took >= HANDLING_TIME,
                "a transaction is given up after {} conflicts",
                transaction.conflicts
            );
        }
        Ok(())
    }

    fn check_acknowledged(
        &self,
        aws: &SimulatedAws,
        queue_url: &str,
        message_id: &str,
        body: &str,
    ) -> Result<()> {
        let Some(queue) = Queue::OF_EVENTS.into_iter().find(|queue| queue.url() == queue_url)
        else {
            // An operator has redriven it.
            return Ok(());
        };
        if self.dead_lettered.contains(message_id) || self.newer.contains(body) {
            return Ok(());
        }
        let event = Event::decode(body.as_bytes());
        let event = event.with_context(|| format!("poison is acknowledged: {body}"))?;
        let marker = |consumer: &str| self.row(IDEMPOTENCY, &format!("{consumer}{}", event.id));
        let (order, event_type) = (event.body.order_id().as_str(), event.body.event_type());
        let (held, status) = (self.status(RESERVATIONS, order), self.status(ORDERS, order));
        let is_settled = match (queue, event_type) {
            (Queue::Product, EventType::OrderCreated) => {
                marker(PRODUCT_MARKERS).is_some() || !held.is_empty()
            }
            (Queue::Product, EventType::OrderCancelled) => {
                marker(PRODUCT_MARKERS).is_some()
                    || matches!(held, "released" | "rejected" | "cancelled")
            }
            (Queue::Order, EventType::StockReserved) => {
                marker(ORDER_MARKERS).is_some()
                    || matches!(status, "confirmed" | "shipped" | "cancelled")
            }
            (Queue::Order, EventType::StockRejected) => {
                marker(ORDER_MARKERS).is_some() || matches!(status, "rejected" | "cancelled")
            }
            (Queue::Notification | Queue::NotificationPriority, _)
                if queue.event_types().contains(&event_type.as_str()) =>
            {
                const AGE_DAYS_MAX: i64 = 7;
                let now = i64::try_from(aws.now().as_secs())?;
                let age = now - event.timestamp.timestamp().as_second();
                marker(MAIL_MARKERS).is_some_and(|row| text(row, "state") == "done")
                    || age > AGE_DAYS_MAX * 24 * 60 * 60
            }
            (Queue::Analytics, _) if queue.event_types().contains(&event_type.as_str()) => {
                marker(ANALYTICS_MARKERS).is_some()
            }
            _ => true,
        };
        let consumer = match queue {
            Queue::Product => PRODUCT_MARKERS,
            Queue::Order => ORDER_MARKERS,
            Queue::Notification | Queue::NotificationPriority => MAIL_MARKERS,
            Queue::Analytics => ANALYTICS_MARKERS,
            // The one has no events, and nobody pays here.
            Queue::Feedback | Queue::Payment => return Ok(()),
        };
        let events = marker(consumer).and_then(|row| row.get("events")?["L"].as_array());
        for named in events.into_iter().flatten() {
            let id = named["M"]["id"]["S"].as_str().context("a marker names its events")?;
            self.check_on_its_way(order, id)
                .with_context(|| format!("{event_type} {} is acknowledged", event.id))?;
        }
        ensure!(
            is_settled,
            "{event_type} {} is acknowledged by {queue:?} without its effect: order {status:?}, reservation {held:?}",
            event.id
        );
        Ok(())
    }

    fn check_dlqs(&self, aws: &SimulatedAws) -> Result<()> {
        // SQS has some characters only as JSON escapes.
        let read = |body: &str| {
            serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))
        };
        let mut missing: Vec<&Poison> = self.poison.iter().collect();
        for queue in Queue::OF_EVENTS {
            let url = queue.dlq_url();
            let attributes = aws.message_attributes(&url);
            for (body, attributes) in aws.bodies(&url).iter().zip(attributes) {
                let reason = attributes.get("failure_reason").map_or("", String::as_str);
                let is_it = |poison: &Poison| {
                    poison.queue == queue
                        && poison.reason == reason
                        && read(&poison.body) == read(body)
                };
                let is_given_up = || {
                    let event = Event::decode(body.as_bytes());
                    let is_known = |event: Event| self.is_mail_given_up(&event.id.to_string());
                    reason == "mail_outcome_unknown" && event.is_ok_and(is_known)
                };
                ensure!(
                    self.poison.iter().any(is_it) || is_given_up(),
                    "a dead letter of {queue:?}: {attributes:?} {body}"
                );
                missing.retain(|poison| !is_it(poison));
            }
        }
        ensure!(missing.is_empty(), "poison that is on no DLQ: {missing:?}");
        Ok(())
    }
}

/// Whether an order stands for the publication of its `OrderCreated`.
fn stands_for_event(order: &Item) -> bool {
    text(order, "pending_shard").starts_with(UNPUBLISHED)
}

fn stock_delta(change: &Change) -> Result<i64> {
    let stock = |row: &Option<Item>| -> Result<i64> {
        let Some(stock) = row.as_ref().and_then(|row| row["stock"]["N"].as_str()) else {
            return Ok(0);
        };
        Ok(stock.parse()?)
    };
    Ok(stock(&change.after)? - stock(&change.before)?)
}

/// Stock changes by reservations and by recorded changes, which add up, and never below 0.
fn check_stock(change: &Change, all: &[Change]) -> Result<()> {
    let Some(after) = &change.after else { bail!("a product is gone") };
    let stock = after["stock"]["N"].as_str().unwrap_or_default();
    ensure!(!stock.starts_with('-'), "a stock of {stock}");
    let mut explained = 0;
    for other in all {
        if let Some(after) = other.after_in(RESERVATIONS) {
            let taken = lines(after)?.get(&change.key).copied().unwrap_or_default();
            explained += match (&other.before, text(after, "status")) {
                (None, "reserved") => -taken,
                (Some(_), "released") => taken,
                _ => 0,
            };
        }
        if let Some(after) = other.after_in(STOCK_CHANGES)
            && text(after, "product_id") == change.key
        {
            explained += after["delta"]["N"].as_str().unwrap_or_default().parse::<i64>()?;
        }
    }
    let delta = stock_delta(change)?;
    ensure!(delta == explained, "stock changes by {delta}, and {explained} of it is accounted for");
    Ok(())
}

/// An effect is reported by an event of this type in the same step.
fn reported(order: &str, event_type: EventType, all: &[Change]) -> Result<()> {
    for change in all.iter().filter(|change| change.is_new(EVENT_LOG, order)) {
        if event_of(change.after.as_ref().context("a row")?)?.body.event_type() == event_type {
            return Ok(());
        }
    }
    bail!("an effect without the event that reports it, {event_type}")
}

/// A marker, or a request's key: written once, together with what it stands for.
fn check_marker(change: &Change, all: &[Change]) -> Result<()> {
    let Some(after) = &change.after else { bail!("a marker is gone") };
    let has = |table: &str| all.iter().any(|change| change.table == table);
    if change.key.starts_with("mails#") {
        // Nothing is the first stage.
        let before = change.before.as_ref().map_or(Ok(0), |row| number(row, "stage"))?;
        let after = number(after, "stage")?;
        ensure!(after >= before, "the mails of an order go back");
        ensure!(after > 0, "the first stage of an order's mails is written");
        return Ok(());
    }
    ensure!(change.before.is_none(), "a marker is changed to {after:?}");
    let effect = match change.key.split('#').next() {
        Some("product-consumer") => RESERVATIONS,
        Some("order-consumer" | "order-api") => ORDERS,
        Some("product-api") => PRODUCTS,
        Some("analytics-consumer") => ANALYTICS,
        _ => bail!("a marker of nobody"),
    };
    ensure!(has(effect), "a marker without its effect in {effect}");
    if matches!(effect, RESERVATIONS | ORDERS) {
        let prefix = change.key.split_once('#').map_or("", |(consumer, _)| consumer);
        let markers = all.iter().filter(|change| change.is_new(IDEMPOTENCY, prefix)).count();
        let effects = all.iter().filter(|change| change.table == effect).count();
        ensure!(markers == effects, "{markers} markers of {prefix} with {effects} effects");
    }
    if let Some(answer) = after.get("answer").and_then(|answer| answer["S"].as_str())
        && effect == ORDERS
    {
        let answer: Value = serde_json::from_str(answer).unwrap_or_else(|_| json!({}));
        let id = answer["id"].as_str().unwrap_or_default();
        let is_its = |change: &Change| change.table == ORDERS && change.key == id;
        ensure!(all.iter().any(is_its), "a key with the answer of another order");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_keeps_messages_for_eighteen_days() {
        assert_eq!(retention_seconds(), 18 * 24 * 60 * 60);
    }
}
