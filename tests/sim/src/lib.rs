//! The shop's production functions in a simulated AWS, in virtual time, by a seed.
//!
//! In: a seed. Out: what was ordered and how it ended, or which promise was broken. The functions are the production ones,
//! made by their own wiring; what is simulated is AWS (`simulated-aws`), API Gateway and Lambda around them, and the
//! customers.
//!
//! A run: products are made; customers order and cancel while faults strike; then the faults stop, and everything has to
//! settle within [`SETTLING_MAX`]. Checked at each step: `invariants`; at the end: the books (`books`).

mod books;
mod clients;
mod hostile;
mod invariants;
mod lambda;
mod shop;

use std::{rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use exactly_once::Ids;
use serde_json::{Value, json};
use simulated_aws::{Faults, SimulatedAws};
use tokio::{task::LocalSet, time::Instant};

use clients::{Api, Call, Function};
use invariants::Invariants;
use shop::Queue;

/// For how long after the last fault something may be unsettled: longer than the longest pause of the backoff schedule and
/// the relay's minute together, several times.
pub const SETTLING_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// How long customers order, and faults strike.
const ORDERING: Duration = Duration::from_secs(120);
const PRODUCTS: usize = 3;
/// The stock of each product: too little for all orders.
const STOCK: u64 = 20;

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Orders that were answered with 201.
    pub orders: usize,
    /// Of them, those that were rejected.
    pub rejected: usize,
    /// Of them, those that were cancelled.
    pub cancelled: usize,
    /// Mails that were sent.
    pub mails: usize,
    /// Attempts at AWS calls.
    pub calls: u64,
    /// How long it took from the end of the faults until everything was settled.
    pub settled_after: Duration,
    /// The digest of all calls: the same for the same seed.
    pub trace: u64,
}

/// The faults of a seed: some runs have many of a kind, some few of all.
fn faults(aws: &SimulatedAws) -> Faults {
    let up_to = |permille: u64| aws.draw(0..permille + 1);
    Faults {
        fail: up_to(60),
        lose: up_to(40),
        slow: up_to(20),
        late: up_to(20),
        hang: up_to(20),
        kill_before: up_to(15),
        kill_after: up_to(15),
        partial: up_to(150),
        duplicate: up_to(200),
        mail: up_to(200),
    }
}

/// Plays one seed.
///
/// # Errors
/// A promise was broken; it says which.
pub fn play(seed: u64, orders: usize) -> Result<Report> {
    // Before the first client: retry jitter and tokens follow it.
    fastrand::seed(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(run(seed, orders)))
}

async fn run(seed: u64, orders: usize) -> Result<Report> {
    let aws = SimulatedAws::new(seed, Faults::default());
    let invariants = Invariants::watch(&aws);
    let report = run_in(&aws, &invariants, seed, orders).await;
    // What broke first says more than how it ended.
    invariants.verdict()?;
    report
}

async fn run_in(
    aws: &SimulatedAws,
    invariants: &Invariants,
    seed: u64,
    orders: usize,
) -> Result<Report> {
    let ids = Ids::seeded(seed);
    let config = settings::aws_with(simulated_aws::loader()).await;
    shop::deploy(aws);
    let api = Rc::new(Api::new(aws, &config, &ids));
    let mut products = Vec::new();
    for number in 0..PRODUCTS {
        products.push(api.product(&format!("Product {number}"), STOCK).await?);
    }
    let mut lambda =
        vec![tokio::task::spawn_local(lambda::schedule_relay(aws.clone(), config.clone()))];
    for queue in Queue::ALL {
        lambda.push(tokio::task::spawn_local(lambda::map(
            aws.clone(),
            config.clone(),
            ids.clone(),
            queue,
        )));
    }

    aws.set_faults(faults(aws));
    let begun = Instant::now();
    let expected = invariants.clone();
    let hostile = hostile::send(aws.clone(), move |poison| expected.expect(poison));
    let hostile = tokio::task::spawn_local(hostile);
    let customers = (0..orders).map(|number| {
        let (aws, api, products) = (aws.clone(), api.clone(), products.clone());
        tokio::task::spawn_local(async move { order(&aws, &api, &products, number).await })
    });
    let customers: Vec<_> = customers.collect();
    tokio::time::sleep_until(begun + ORDERING).await;
    aws.set_faults(Faults::default());
    let quiet = Instant::now();
    let mut placed = Vec::new();
    for customer in customers {
        placed.push(customer.await?.context("a customer")?);
    }
    hostile.await?;
    while !books::is_settled(aws) {
        if quiet.elapsed() > SETTLING_MAX {
            bail!("not settled after {SETTLING_MAX:?}: {}", books::unsettled(aws));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let settled_after = quiet.elapsed();
    lambda.iter().for_each(tokio::task::JoinHandle::abort);
    let (rejected, cancelled) = books::check(aws, &products, STOCK, &placed, invariants)?;
    invariants.check_end(aws)?;
    Ok(Report {
        orders: placed.len(),
        rejected,
        cancelled,
        mails: aws.mails().len(),
        calls: aws.calls(),
        settled_after,
        trace: aws.trace(),
    })
}

/// One customer: orders, and may cancel.
async fn order(
    aws: &SimulatedAws,
    api: &Api,
    products: &[String],
    number: usize,
) -> Result<String> {
    let ordering_ms = u64::try_from(ORDERING.as_millis())?;
    tokio::time::sleep(Duration::from_millis(aws.draw(0..ordering_ms / 2))).await;
    let lines = aws.draw(1..products.len() as u64 + 1);
    let items: Vec<Value> = products
        .iter()
        .take(usize::try_from(lines)?)
        .map(|product| json!({ "product_id": product, "quantity": aws.draw(1..4) }))
        .collect();
    let body = json!({ "customer_email": format!("customer{number}@example.com"), "items": items });
    let key = format!("order-{number}");
    let call = Call {
        function: Function::Order,
        method: "POST",
        route: "/orders",
        id: None,
        key: Some(&key),
        body,
    };
    let (status, answer) = api.insist(&call).await?;
    ensure!(status == 201, "an order was answered with {status}: {answer}");
    let id = answer["id"].as_str().context("an id")?.to_owned();
    if aws.draw(0..4) == 0 {
        tokio::time::sleep(Duration::from_millis(aws.draw(0..20_000))).await;
        let call = Call {
            function: Function::Order,
            method: "POST",
            route: "/orders/{id}/cancel",
            id: Some(&id),
            key: None,
            body: Value::Null,
        };
        let (status, answer) = api.insist(&call).await?;
        ensure!(matches!(status, 200 | 409), "a cancellation was answered with {status}: {answer}");
    }
    Ok(id)
}
