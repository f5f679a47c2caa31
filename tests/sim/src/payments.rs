//! Orders that are paid by Stripe, under faults: by seed.
//!
//! In: a seed. Out: how the orders ended, or which promise was broken. Customers pay at once, late, with a card that is declined, by a bank
//! that takes its time, or not at all; they cancel, before and after they have paid; webhooks are lost, late and doubled; AWS and Stripe fail
//! when orders are placed and when they expire. Checked at each step: an order has one payment, is confirmed only when it is paid, and expires only
//! when it can be paid no more. Checked at the end, for each order: money that was taken and kept is the total of one that
//! is confirmed or shipped; who has no goods has no charge, or his money back; what has ended without goods can be paid no more; stock is what
//! is left; each event that there can be one of is there once.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use exactly_once::Ids;
use ring::hmac;
use serde_json::{Value, json};
use simulated_aws::{Call as AwsCall, Faults, Moment, Service, SimulatedAws, Step};
use tokio::task::{JoinHandle, spawn_local};

use crate::{
    Tasks,
    books::{number, text},
    clients::{Api, Call},
    ended, in_virtual_time,
    lambda::{Harshness, Lambda},
    shop::{self, EVENT_LOG, ORDERS, PAYMENTS, PRODUCTS, Queue, RESERVATIONS},
    stripe::{Card, Stripe, WEBHOOK_SECRET},
};

const MINUTE: Duration = Duration::from_secs(60);
const STOCK: u64 = 1000;
/// How long a customer has to pay, in minutes: the template's default.
const RESERVATION_MINUTES: u64 = 30;
/// How long a run may take altogether.
const RUN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// When everything has to be settled at the latest: 30 minutes to pay, a bank that takes 20 more, and a message that waits for it by its
/// schedule.
const SETTLED_AFTER: Duration = Duration::from_secs(2 * 60 * 60);
/// How often it is looked whether everything is settled.
const LOOK: Duration = Duration::from_secs(5);
/// Of ten webhooks, those that are lost.
const WEBHOOKS_LOST: u64 = 1;
/// How often Stripe tries a webhook again, in seconds after the one before.
const WEBHOOK_PAUSES: [u64; 6] = [5, 60, 300, 900, 1800, 3600];

/// How the orders of a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaymentReport {
    /// Number of orders by status.
    pub orders: BTreeMap<String, usize>,
    /// Payments that were given back.
    pub refunds: usize,
    /// Attempts at calls.
    pub calls: u64,
    /// The digest of all calls: the same for the same seed.
    pub trace: u64,
}

/// Plays one seed.
///
/// # Errors
/// A promise was broken; it says which.
pub fn play_payments(seed: u64, orders: usize, faults: Faults) -> Result<PaymentReport> {
    record_payments(seed, orders, faults, false).0
}

/// Plays one seed, and keeps what happened.
pub fn record_payments(
    seed: u64,
    orders: usize,
    faults: Faults,
    keeps_story: bool,
) -> (Result<PaymentReport>, Vec<Moment>) {
    in_virtual_time(seed, async {
        let aws = SimulatedAws::new(seed, Faults::default());
        if keeps_story {
            aws.keep_story();
        }
        let run = tokio::time::timeout(RUN_MAX, run(&aws, seed, orders, faults)).await;
        let result = run.unwrap_or_else(|_| bail!("not at its end within {RUN_MAX:?}"));
        (result, aws.story())
    })
}

async fn run(
    aws: &SimulatedAws,
    seed: u64,
    orders: usize,
    faults: Faults,
) -> Result<PaymentReport> {
    let harshness = Harshness {
        concurrency: 30,
        is_reserved: false,
        stalls: 30,
        has_unruly_schedule: true,
        has_extensions: seed.is_multiple_of(2),
    };
    let Shop { lambda, api, stripe, product, mut forever } =
        open(aws, seed, harshness, RESERVATION_MINUTES, WEBHOOKS_LOST).await?;
    forever.push(spawn_local(strike(aws.clone(), lambda, faults)));

    let broken = watch(aws, &stripe);
    let customers: Tasks<()> = (0..orders)
        .map(|number| {
            let (aws, api, stripe) = (aws.clone(), api.clone(), stripe.clone());
            let customer = Customer { number, aws, api, stripe };
            let product = product.clone();
            spawn_local(async move { customer.order(&product).await })
        })
        .collect();
    ended(customers).await?;
    settled(aws).await?;
    forever.iter().for_each(JoinHandle::abort);
    // What broke first says more than how it ended.
    if let Some(broken) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bail!(broken);
    }
    let mut report = check(aws, &stripe, &product, orders)?;
    report.calls = aws.calls();
    report.trace = aws.trace();
    Ok(report)
}

/// Checks what has to be true at each step, whenever a transaction or a call of Stripe's has been carried out. Has the first thing that was not.
fn watch(aws: &SimulatedAws, stripe: &Stripe) -> Arc<Mutex<Option<String>>> {
    let broken: Arc<Mutex<Option<String>>> = Arc::default();
    let (first, stripe) = (broken.clone(), stripe.clone());
    aws.set_observer(move |aws, step| {
        let Step::CarriedOut { call, .. } = step else { return };
        if !matches!(call, AwsCall::External(_)) && call.operation() != "TransactWriteItems" {
            return;
        }
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = broken_promise(aws, &stripe);
        }
    });
    broken
}

/// A promise that is broken now: an order is confirmed only when it is paid, and expires only when it can be paid no more; it has one payment.
fn broken_promise(aws: &SimulatedAws, stripe: &Stripe) -> Option<String> {
    let intents = stripe.intents();
    aws.items(ORDERS).iter().find_map(|order| {
        let (id, status) = (text(order, "order_id"), text(order, "status"));
        let mine = intents.iter().filter(|intent| intent.order_id == id);
        let alive: Vec<&str> =
            mine.map(|intent| intent.status).filter(|status| *status != "canceled").collect();
        let is_kept = alive.len() <= 1
            && match status {
                "confirmed" | "shipped" => alive == ["succeeded"],
                "expired" => alive.is_empty(),
                _ => true,
            };
        (!is_kept).then(|| format!("at {:?} {id} is {status}: {alive:?}", aws.now()))
    })
}

/// A shop whose orders are paid, with all that goes on in it by itself.
pub(crate) struct Shop {
    pub lambda: Lambda,
    pub api: Rc<Api>,
    pub stripe: Stripe,
    pub product: String,
    pub forever: Vec<JoinHandle<()>>,
}

/// Opens one, whose customers have so many minutes to pay. Of ten webhooks so many are lost.
pub(crate) async fn open(
    aws: &SimulatedAws,
    seed: u64,
    harshness: Harshness,
    reservation_minutes: u64,
    webhooks_lost: u64,
) -> Result<Shop> {
    let stripe = Stripe::new(aws);
    shop::deploy(aws);
    shop::deploy_payments(aws);
    let config = settings::aws_with(simulated_aws::loader()).await;
    let lambda = Lambda::new(aws, &config, &Ids::seeded(seed), harshness);
    lambda.pay_by_stripe(reservation_minutes);
    let api = Rc::new(Api::new(&lambda));
    let product = api.product("Lamp", STOCK).await?;
    let mut forever = vec![spawn_local(lambda.clone().schedule_relay())];
    forever.extend(Queue::OF_EVENTS.map(|queue| spawn_local(lambda.clone().map(queue))));
    forever.push(spawn_local(lambda.clone().map(Queue::Payment)));
    let webhooks = deliver_webhooks(aws.clone(), api.clone(), stripe.clone(), webhooks_lost);
    forever.push(spawn_local(webhooks));
    Ok(Shop { lambda, api, stripe, product, forever })
}

/// Waits until nothing is left to do.
///
/// # Errors
/// Something still is after [`SETTLED_AFTER`].
pub(crate) async fn settled(aws: &SimulatedAws) -> Result<()> {
    let deadline = tokio::time::Instant::now() + SETTLED_AFTER;
    while !is_settled(aws) {
        if tokio::time::Instant::now() > deadline {
            bail!("not settled: {}", unsettled(aws));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Lets two orders of one partition expire, of which one cannot be read. Returns the status in which the other ends.
///
/// # Errors
/// It was not placed.
pub fn expire_beside_unreadable_order(seed: u64) -> Result<String> {
    const MINUTES: u64 = 2;
    in_virtual_time(seed, async {
        let aws = SimulatedAws::new(seed, Faults::default());
        let harshness = Harshness {
            concurrency: 30,
            is_reserved: false,
            stalls: 0,
            has_unruly_schedule: false,
            has_extensions: true,
        };
        let Shop { lambda, api, stripe, product, forever } =
            open(&aws, seed, harshness, MINUTES, 0).await?;
        lambda.set_shards(1);
        let mut ids = Vec::new();
        for number in 0..2 {
            let (aws, api, stripe) = (aws.clone(), api.clone(), stripe.clone());
            let customer = Customer { number, aws, api, stripe };
            let (id, token) = customer.place(&product, 1).await?;
            customer.client_secret(&id, &token).await?.context("nothing to pay with")?;
            ids.push(id);
        }
        let update = json!({
            "TableName": ORDERS,
            "Key": { "order_id": { "S": ids[0] } },
            "UpdateExpression": "SET #items = :items",
            "ExpressionAttributeNames": { "#items": "items" },
            "ExpressionAttributeValues": { ":items": { "S": "some" } },
        });
        let answer = aws.answer(&AwsCall::DynamoDb("UpdateItem".to_owned(), update)).await;
        ensure!(answer.status == 200, "{}", answer.body);
        let deadline = tokio::time::Instant::now() + SETTLED_AFTER;
        let status = || {
            let order = aws.item(ORDERS, &json!({ "order_id": { "S": ids[1] } }));
            order.map(|order| text(&order, "status").to_owned()).context("no order")
        };
        while is_open(&status()?) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        forever.iter().for_each(JoinHandle::abort);
        status()
    })
}

/// Faults while orders are placed and paid, while they expire, and a Stripe that is away for a while.
async fn strike(aws: SimulatedAws, lambda: Lambda, faults: Faults) {
    let windows = [(0, 4), (13, 17), (28, 36)];
    let away_from = Duration::from_secs(aws.draw(0..40 * 60));
    let away_for = Duration::from_secs(aws.draw(0..8 * 60));
    let outage = {
        let aws = aws.clone();
        async move {
            tokio::time::sleep(away_from).await;
            aws.set_away(Service::External, true);
            tokio::time::sleep(away_for).await;
            aws.set_away(Service::External, false);
        }
    };
    let strikes = async move {
        let begun = tokio::time::Instant::now();
        for (from, until) in windows {
            tokio::time::sleep_until(begun + from * MINUTE).await;
            aws.set_faults(faults);
            lambda.stall(true);
            tokio::time::sleep_until(begun + until * MINUTE).await;
            aws.set_faults(Faults::default());
            lambda.stall(false);
        }
    };
    tokio::join!(outage, strikes);
}

/// Stripe's webhooks: late, twice, in any order, lost, and again as long as they are refused.
async fn deliver_webhooks(aws: SimulatedAws, api: Rc<Api>, stripe: Stripe, lost: u64) {
    loop {
        for webhook in stripe.take_webhooks() {
            if aws.draw(0..10) < lost {
                aws.note(|| format!("a webhook is lost: {}", webhook.body));
                continue;
            }
            let copies = if aws.draw(0..5) == 0 { 2 } else { 1 };
            for _ in 0..copies {
                let (aws, api, webhook) = (aws.clone(), api.clone(), webhook.clone());
                spawn_local(async move {
                    let late = aws.draw(0..20_000);
                    tokio::time::sleep(Duration::from_millis(late)).await;
                    for pause in WEBHOOK_PAUSES {
                        let body = webhook.body.clone();
                        let seconds = i64::try_from(aws.now().as_secs()).unwrap_or_default();
                        let signature = sign(&body.to_string(), seconds);
                        let call = Call {
                            stripe_signature: Some(&signature),
                            ..Call::post("/payments/webhook", body)
                        };
                        match api.call(&call).await {
                            Ok(Some((200, _))) => return,
                            Ok(Some((status, answer))) if status < 500 => {
                                panic!("Stripe's own webhook was refused: {status} {answer}")
                            }
                            Ok(_) => tokio::time::sleep(Duration::from_secs(pause)).await,
                            Err(error) => panic!("{error:#}"),
                        }
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn sign(body: &str, seconds: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
    let tag = hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

pub(crate) struct Customer {
    pub number: usize,
    pub aws: SimulatedAws,
    pub api: Rc<Api>,
    pub stripe: Stripe,
}

impl Customer {
    async fn order(self, product: &str) -> Result<()> {
        self.wait(0..120).await;
        let (id, token) = self.place(product, self.aws.draw(1..4)).await?;
        let (id, token) = (&*id, &*token);
        match self.aws.draw(0..11) {
            0 => {}
            1 => {
                self.wait(0..60).await;
                self.cancel(id, token).await?;
            }
            2 => self.pay_slowly(id, token).await?,
            // About when the time is over.
            3 | 4 => {
                let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
                self.wait(26 * 60..34 * 60).await;
                self.stripe.pay(&secret, Card::Good);
            }
            5 => {
                let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
                self.stripe.pay(&secret, Card::Declined);
                self.wait(0..120).await;
                self.stripe.pay(&secret, Card::Good);
            }
            6 | 7 => {
                let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
                // Both at about the same time, and either first.
                let pay = async {
                    self.wait(0..6).await;
                    self.stripe.pay(&secret, Card::Good);
                };
                let cancel = async {
                    self.wait(0..6).await;
                    self.cancel(id, token).await
                };
                tokio::join!(pay, cancel).1?;
            }
            8 => {
                let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
                self.stripe.pay(&secret, Card::Good);
                self.wait(0..600).await;
                self.cancel(id, token).await?;
            }
            _ => {
                let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
                self.wait(0..600).await;
                self.stripe.pay(&secret, Card::Good);
                self.wait(0..600).await;
                let ship = Call::post("/orders/{id}/ship", Value::Null).id(id);
                let (status, answer) = self.api.insist(&ship).await?;
                ensure!(matches!(status, 200 | 409), "{status} {answer}");
            }
        }
        Ok(())
    }

    /// Places an order, and returns its id and its token.
    pub(crate) async fn place(&self, product: &str, quantity: u64) -> Result<(String, String)> {
        let email = format!("payer{}@example.com", self.number);
        let items = json!([{ "product_id": product, "quantity": quantity }]);
        let body = json!({ "customer_email": email, "items": items });
        let key = format!("paid-{}", self.number);
        let (status, answer) = self.api.insist(&Call::post("/orders", body).key(&key)).await?;
        ensure!(status == 201, "{status} {answer}");
        let field = |name: &str| answer[name].as_str().map(str::to_owned).context("a text");
        Ok((field("id")?, field("order_token")?))
    }

    async fn pay_slowly(&self, id: &str, token: &str) -> Result<()> {
        let Some(secret) = self.client_secret(id, token).await? else { return Ok(()) };
        self.wait(0..29 * 60).await;
        self.stripe.pay(&secret, Card::Slow);
        if self.aws.draw(0..3) == 0 {
            self.cancel(id, token).await?;
        }
        self.wait(60..20 * 60).await;
        self.stripe.decide(&secret, self.aws.draw(0..2) == 0);
        Ok(())
    }

    /// What the order is paid with, or `None` if it cannot be paid any more.
    pub(crate) async fn client_secret(&self, id: &str, token: &str) -> Result<Option<String>> {
        loop {
            let call = Call::get("/orders/{id}/payment").id(id).order_token(token);
            let (status, answer) = self.api.insist(&call).await?;
            match (status, answer["status"].as_str()) {
                (404, _) | (200, Some("creating")) => self.wait(1..5).await,
                (200, Some("open")) => {
                    let secret = answer["client_secret"].as_str().context("a secret")?;
                    return Ok(Some(secret.to_owned()));
                }
                (200, _) => return Ok(None),
                _ => bail!("{status} {answer}"),
            }
            let (_, order) = self.api.insist(&Call::get("/orders/{id}").id(id)).await?;
            if !is_open(order["status"].as_str().unwrap_or_default()) {
                return Ok(None);
            }
        }
    }

    pub(crate) async fn cancel(&self, id: &str, token: &str) -> Result<()> {
        let call = Call::post("/orders/{id}/cancel", Value::Null).id(id).order_token(token);
        let (status, answer) = self.api.insist(&call).await?;
        ensure!(matches!(status, 200 | 409), "{status} {answer}");
        Ok(())
    }

    async fn wait(&self, seconds: std::ops::Range<u64>) {
        let ms = self.aws.draw(seconds.start * 1000..seconds.end * 1000);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn queues() -> impl Iterator<Item = Queue> {
    Queue::OF_EVENTS.into_iter().chain([Queue::Payment])
}

/// Whether an order of this status is not decided yet.
fn is_open(status: &str) -> bool {
    matches!(status, "pending" | "awaiting_payment")
}

/// Whether nothing is left to do.
fn is_settled(aws: &SimulatedAws) -> bool {
    queues().all(|queue| aws.is_empty(&queue.url()))
        && !aws.items(EVENT_LOG).iter().any(|event| event.contains_key("outbox_shard"))
        && !aws.items(ORDERS).iter().any(|order| is_open(text(order, "status")))
}

fn unsettled(aws: &SimulatedAws) -> String {
    let open: Vec<String> = aws
        .items(ORDERS)
        .iter()
        .filter(|order| is_open(text(order, "status")))
        .map(|order| format!("{} {}", text(order, "order_id"), text(order, "status")))
        .collect();
    let messages: Vec<String> =
        queues().flat_map(|queue| aws.bodies(&queue.url())).take(3).collect();
    format!("orders {open:?}, messages {messages:?}")
}

pub(crate) fn check(
    aws: &SimulatedAws,
    stripe: &Stripe,
    product: &str,
    placed: usize,
) -> Result<PaymentReport> {
    let mut report = PaymentReport::default();
    let (intents, refunds) = (stripe.intents(), stripe.refunds());
    report.refunds = refunds.len();
    let orders = aws.items(ORDERS);
    ensure!(orders.len() == placed, "{} orders of {placed}", orders.len());
    let payments = aws.items(PAYMENTS);
    let reservations = aws.items(RESERVATIONS);
    let mut held = 0;
    for order in &orders {
        let (id, status) = (text(order, "order_id"), text(order, "status"));
        *report.orders.entry(status.to_owned()).or_default() += 1;
        // The relay counts what is in the index, and its alarm would never end.
        ensure!(!order.contains_key("payment_shard"), "{id} is {status}, and still in the index");
        let is_kept = matches!(status, "confirmed" | "shipped");
        let mine: Vec<_> = intents.iter().filter(|intent| intent.order_id == id).collect();
        let back = |intent: &str| refunds.iter().filter(|refund| refund.intent == intent).count();
        let paid: Vec<_> = mine.iter().filter(|intent| intent.status == "succeeded").collect();
        let what = || format!("{id} is {status}: {mine:?}");
        ensure!(
            mine.iter().filter(|intent| intent.status != "canceled").count() <= 1,
            "{}",
            what()
        );
        ensure!(paid.iter().all(|intent| back(&intent.id) <= 1), "refunded twice: {}", what());
        let kept: u64 = paid.iter().filter(|one| back(&one.id) == 0).map(|one| one.amount).sum();
        let total = number(order, "total")?;
        ensure!(kept == if is_kept { total } else { 0 }, "kept {kept} of {total}: {}", what());
        if is_kept {
            ensure!(paid.iter().all(|one| back(&one.id) == 0), "goods and money: {}", what());
        } else {
            // Neither now nor later.
            let can_be_paid =
                mine.iter().any(|one| !matches!(one.status, "canceled" | "succeeded"));
            ensure!(!can_be_paid, "it can still be paid: {}", what());
        }
        ensure!(status != "expired" || paid.is_empty(), "paid and expired: {}", what());
        let row = payments.iter().find(|payment| text(payment, "order_id") == id);
        let recorded = row.map_or("none", |row| text(row, "status"));
        let expected = match (paid.first(), is_kept) {
            (Some(_), true) => "succeeded",
            (Some(_), false) => "refunded",
            (None, _) => "cancelled",
        };
        ensure!(recorded == expected, "its payment is {recorded}: {}", what());
        let reservation = reservations.iter().find(|one| text(one, "order_id") == id);
        let reserved = reservation.map_or("none", |one| text(one, "status"));
        let fits = match status {
            "confirmed" | "shipped" => reserved == "reserved",
            "expired" => reserved == "released",
            "cancelled" => matches!(reserved, "released" | "cancelled"),
            _ => false,
        };
        ensure!(fits, "{id} is {status}, and its reservation {reserved}");
        if reserved == "reserved" {
            let lines = reservation.and_then(|one| one["items"]["L"].as_array());
            for line in lines.into_iter().flatten() {
                held += number(&serde_json::from_value(line["M"].clone())?, "quantity")?;
            }
        }
        check_events(aws, id, status, !paid.is_empty())?;
    }
    let left = aws.items(PRODUCTS);
    let left = left.iter().find(|one| text(one, "product_id") == product).context("the product")?;
    let left = number(left, "stock")?;
    ensure!(left + held == STOCK, "{left} left and {held} held of {STOCK}");
    for queue in queues() {
        let dead = aws.bodies(&queue.dlq_url());
        // A mail of which too many sends had no answer is an operator's.
        ensure!(dead.is_empty() || queue.consumer() == Queue::Notification, "on the DLQ: {dead:?}");
    }
    Ok(report)
}

/// Those that the order's status stands for, and each that there can be one of at most once.
fn check_events(aws: &SimulatedAws, id: &str, status: &str, is_paid: bool) -> Result<()> {
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for event in aws.items(EVENT_LOG).iter().filter(|event| text(event, "order_id") == id) {
        let body: Value = serde_json::from_str(text(event, "body"))?;
        *types.entry(body["event_type"].as_str().context("a type")?.to_owned()).or_default() += 1;
    }
    let what = || format!("{id} is {status}: {types:?}");
    for (event_type, count) in &types {
        let may_repeat = matches!(&**event_type, "OrderPaymentOverdue" | "PaymentFailed");
        ensure!(*count == 1 || may_repeat, "{}", what());
    }
    let has = |event_type: &str| types.contains_key(event_type);
    let wanted: BTreeSet<&str> = match (status, is_paid) {
        ("confirmed", _) => ["OrderConfirmed", "PaymentSucceeded"].into(),
        ("shipped", _) => ["OrderConfirmed", "PaymentSucceeded", "OrderShipped"].into(),
        ("expired", _) => ["OrderExpired", "PaymentCancelled", "StockReleased"].into(),
        ("cancelled", true) => ["OrderCancelled", "PaymentSucceeded", "PaymentRefunded"].into(),
        _ => ["OrderCancelled"].into(),
    };
    ensure!(wanted.iter().all(|one| has(one)), "{}", what());
    let never: &[&str] = match status {
        "confirmed" | "shipped" => &["PaymentRefunded", "PaymentCancelled", "OrderExpired"],
        "expired" => &["PaymentSucceeded", "OrderConfirmed", "PaymentRefunded"],
        _ => &["OrderExpired"],
    };
    ensure!(!never.iter().any(|one| has(one)), "{}", what());
    Ok(())
}
