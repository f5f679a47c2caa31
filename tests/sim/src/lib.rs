//! The shop's production functions in a simulated AWS, in virtual time, by a seed.
//!
//! In: a seed. Out: what was ordered and how it ended, or which promise was broken. The functions are the production ones,
//! made by their own wiring; what is simulated is AWS (`simulated-aws`), API Gateway and Lambda around them, and the
//! people: customers, administrators, an operator.
//!
//! A run: products are made; customers order and cancel while faults strike; then the faults stop, and everything has to
//! settle within [`SETTLING_MAX`]. Checked at each step: `invariants`; at the end: the books (`books`). What a seed does stands in its [`Plan`].

mod analytics;
mod answers;
mod books;
mod clients;
mod customers;
mod explain;
mod feedback;
mod hostile;
mod invariants;
mod lambda;
mod live_updates;
mod operator;
mod payment_crash_points;
mod payments;
mod plan;
#[cfg(test)]
mod resharding;
mod sale;
pub mod shop;
mod stripe;
mod transactions;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use exactly_once::Ids;
use simulated_aws::{Faults, Moment, SimulatedAws};
use tokio::{
    task::{JoinHandle, LocalSet, spawn_local},
    time::Instant,
};

use clients::Api;
use customers::{Administered, Customer};
use hostile::Poison;
use invariants::Invariants;
use lambda::{Function, Lambda};
use operator::{Operator, Stranger};
use plan::ORDERING;
use shop::{Queue, STOCK_CHANGES};

pub use analytics::{Rebuilt, count_anew};
pub use answers::{
    AnswerCalls, answer_calls, published_after_death, published_after_nothing_took_it,
    transactions_of_late_cancellation,
};
pub use explain::explain;
pub use feedback::{ANGRY, FINE, FULL, FeedbackReport, GONE, POISON, suppress_addresses};
pub use lambda::Harshness;
pub use live_updates::{LiveReport, follow_orders};
pub use payment_crash_points::{CrashPoints, PaymentScenario, play_payment_crash_points};
pub use payments::{PaymentReport, expire_beside_unreadable_order, play_payments, record_payments};
pub use plan::{Kind, Outage, Plan};
pub use sale::{Sale, SaleReport, sell};

/// For how long after the last fault something may be unsettled: twice the longest pause of the backoff schedule (15 minutes), and
/// the relay's minute.
pub const SETTLING_MAX: Duration = Duration::from_secs(31 * 60);
/// How long a run may take altogether, so that one in which everybody waits for somebody ends.
const RUN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked whether everything is settled.
const LOOK: Duration = Duration::from_secs(5);
/// Products of which there is too little for all orders.
const SCARCE_PRODUCTS: usize = 3;
const SCARCE_STOCK: u64 = 20;
/// The highest stock that a product may have: of one product there is so much, and what is cancelled comes back all the same.
const FULL_STOCK: u64 = 1_000_000_000;
/// Numbers of shards that are deployed one after the other: the most that there may be, the fewest, and some.
const RESHARDINGS: [u64; 3] = [16, 1, 5];
/// Number of changes that an administrator makes of a product.
const CHANGES: u64 = 5;

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
    /// Invocations that were throttled.
    pub throttled: u64,
    /// Attempts at AWS calls.
    pub calls: u64,
    /// How long it took from the end of the faults until everything was settled.
    pub settled_after: Duration,
    /// The digest of all calls: the same for the same seed.
    pub trace: u64,
}

/// Plays one seed.
///
/// # Errors
/// A promise was broken; it says which.
pub fn play(seed: u64, orders: usize) -> Result<Report> {
    play_plan(seed, orders, Plan::of(seed))
}

/// Plays one seed by another plan than its own.
///
/// # Errors
/// A promise was broken; it says which.
pub fn play_plan(seed: u64, orders: usize, plan: Plan) -> Result<Report> {
    record(seed, orders, plan, false).result
}

/// Plays one seed; the kinds of transactions that its orders had, each as its writes and their conditions in the words of
/// the model.
///
/// # Errors
/// A promise was broken; it says which.
pub fn transactions(seed: u64, orders: usize) -> Result<BTreeSet<BTreeSet<String>>> {
    let recorded = record(seed, orders, Plan::of(seed), false);
    recorded.result.map(|_| recorded.transactions)
}

/// A run that has ended.
pub(crate) struct Recorded {
    pub result: Result<Report>,
    /// The kinds of transactions that its orders had.
    pub transactions: BTreeSet<BTreeSet<String>>,
    /// What happened, if that was to be kept.
    pub story: Vec<Moment>,
    /// The orders that something is left to do for.
    pub unsettled: Vec<String>,
}

pub(crate) fn record(seed: u64, orders: usize, plan: Plan, keeps_story: bool) -> Recorded {
    in_virtual_time(seed, async {
        let aws = SimulatedAws::new(seed, Faults::default());
        if keeps_story {
            aws.keep_story();
        }
        let invariants = Invariants::watch(&aws);
        let run = run(&aws, &invariants, seed, orders, plan);
        let result = tokio::time::timeout(RUN_MAX, run).await;
        let result = result.unwrap_or_else(|_| bail!("the run did not end within {RUN_MAX:?}"));
        // What broke first says more than how it ended.
        let result = invariants.verdict().and(result);
        let unsettled = if result.is_err() { explain::unsettled_orders(&aws) } else { Vec::new() };
        let transactions = invariants.transactions();
        Recorded { result, transactions, story: aws.story(), unsettled }
    })
}

/// Does some work in virtual time, in which chance follows the seed.
fn in_virtual_time<T>(seed: u64, work: impl Future<Output = T>) -> T {
    // Before the first client: retry jitter and tokens follow it.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and files");
    runtime.block_on(LocalSet::new().run_until(work))
}

/// The tasks of a run that end by themselves.
type Tasks<T> = Vec<JoinHandle<Result<T>>>;

async fn ended<T>(tasks: Tasks<T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await??);
    }
    Ok(all)
}

/// What has to be on the DLQs at the end, and what newer consumers have to have.
#[derive(Default)]
struct Strangers {
    /// Bodies that break the contract, and why.
    poison: BTreeMap<String, &'static str>,
    /// Events that the newer consumers of these queues have to have taken.
    newer: Vec<(Queue, String)>,
}

async fn run(
    aws: &SimulatedAws,
    invariants: &Invariants,
    seed: u64,
    orders: usize,
    plan: Plan,
) -> Result<Report> {
    let ids = Ids::seeded(seed);
    let config = settings::aws_with(simulated_aws::loader()).await;
    shop::deploy(aws);
    let lambda = Lambda::new(aws, &config, &ids, plan.harshness);
    let api = Rc::new(Api::new(&lambda));
    let operator = Operator { lambda: lambda.clone() };
    let mut stock = BTreeMap::new();
    let mut products = Vec::new();
    for number in 0..=SCARCE_PRODUCTS {
        let pieces = if number < SCARCE_PRODUCTS { SCARCE_STOCK } else { FULL_STOCK };
        let product = api.product(&format!("Product {number}"), pieces).await?;
        stock.insert(product.clone(), i64::try_from(pieces)?);
        products.push(product);
    }
    let mut forever = vec![spawn_local(lambda.clone().schedule_relay())];
    forever.extend(Queue::OF_EVENTS.map(|queue| spawn_local(lambda.clone().map(queue))));

    aws.set_faults(plan.faults);
    aws.lag_indexes(plan.long_index_lags);
    lambda.stall(true);
    let begun = Instant::now();
    let begins_ms_max = if plan.is_burst { 1000 } else { ORDERING.as_millis() as u64 / 2 };
    let customers = (0..orders).map(|number| {
        let (aws, api, products) = (aws.clone(), api.clone(), products.clone());
        let customer = Customer { number, begins_ms_max, repeats: plan.has_repetitions };
        spawn_local(async move { customer.order(&aws, &api, &products).await })
    });
    let customers: Tasks<String> = customers.collect();
    let administrators = products.iter().filter(|_| plan.has_administrators).map(|product| {
        let (aws, api, product) = (aws.clone(), api.clone(), product.clone());
        spawn_local(async move { customers::administrate(&aws, &api, &product, CHANGES).await })
    });
    let administrators: Tasks<Administered> = administrators.collect();
    let strangers = Rc::new(RefCell::new(Strangers::default()));
    let others = spawn_others(&lambda, &api, &operator, &plan, &strangers, invariants);

    tokio::time::sleep_until(begun + ORDERING).await;
    aws.set_faults(Faults::default());
    lambda.stall(false);
    let placed = ended(customers).await?;
    let administered = ended(administrators).await?;
    ended(others).await?;
    let quiet = Instant::now();
    while !books::is_settled(aws) {
        let unsettled_for = quiet.elapsed();
        if unsettled_for > plan.settling_max {
            bail!("not settled after {unsettled_for:?}: {}", books::unsettled(aws));
        }
        // Sends that may all have arrived end there, for an operator to decide.
        for queue in [Queue::Notification, Queue::NotificationPriority] {
            operator.redrive(queue, MAIL_UNKNOWN).await?;
        }
        tokio::time::sleep(LOOK).await;
    }
    let settled_after = quiet.elapsed();
    for one in administered {
        let (product, added) = one.settle(&api).await?;
        *stock.entry(product).or_default() += added;
    }
    forever.iter().for_each(JoinHandle::abort);
    let strangers = strangers.borrow();
    check_strangers(&lambda, &strangers)?;
    check_stock_changes(aws, &stock)?;
    for (body, reason) in &strangers.poison {
        for queue in [Queue::Product, Queue::Notification, Queue::Analytics] {
            invariants.expect(Poison { queue, reason, body: body.clone() });
        }
    }
    let (rejected, cancelled) = books::check(aws, &products, &stock, &placed, invariants)?;
    invariants.check_end(aws)?;
    Ok(Report {
        orders: placed.len(),
        rejected,
        cancelled,
        mails: aws.mails().len(),
        throttled: lambda.throttled(),
        calls: aws.calls(),
        settled_after,
        trace: aws.trace(),
    })
}

/// The reason of a mail of which too many sends had no answer.
const MAIL_UNKNOWN: &str = "mail_outcome_unknown";

/// Everybody beside customers and administrators.
fn spawn_others(
    lambda: &Lambda,
    api: &Rc<Api>,
    operator: &Operator,
    plan: &Plan,
    strangers: &Rc<RefCell<Strangers>>,
    invariants: &Invariants,
) -> Tasks<()> {
    let mut tasks = Tasks::new();
    if plan.has_hostility {
        let (aws, invariants) = (lambda.aws.clone(), invariants.clone());
        tasks.push(spawn_local(async move {
            hostile::send(aws, |poison| invariants.expect(poison)).await;
            Ok(())
        }));
    }
    for outage in &plan.outages {
        let (aws, outage) = (lambda.aws.clone(), *outage);
        tasks.push(spawn_local(async move {
            tokio::time::sleep(outage.from).await;
            aws.set_away(outage.service, true);
            tokio::time::sleep(outage.until - outage.from).await;
            aws.set_away(outage.service, false);
            Ok(())
        }));
    }
    if plan.has_operator {
        let operator = operator.clone();
        tasks.push(spawn_local(async move { operator.act().await }));
    }
    if plan.has_poison {
        let (operator, strangers) = (operator.clone(), strangers.clone());
        tasks.push(spawn_local(async move {
            let (aws, ids) = (&operator.lambda.aws, &operator.lambda.ids);
            tokio::time::sleep(Duration::from_millis(aws.draw(0..30_000))).await;
            let poison = Stranger { aws, ids }.publish_poison().await?;
            strangers.borrow_mut().poison.insert(poison, "schema");
            tokio::time::sleep(Duration::from_millis(aws.draw(5000..60_000))).await;
            // It cannot help, and must do no harm.
            operator.redrive(Queue::Product, "schema").await
        }));
    }
    if plan.has_deployment {
        let (lambda, api, strangers) = (lambda.clone(), api.clone(), strangers.clone());
        let invariants = invariants.clone();
        tasks.push(spawn_local(async move {
            deploy_newer(&lambda, &api, &strangers, &invariants).await
        }));
    }
    if plan.has_resharding {
        let (lambda, api) = (lambda.clone(), api.clone());
        tasks.push(spawn_local(async move {
            for shards in RESHARDINGS {
                tokio::time::sleep(Duration::from_millis(lambda.aws.draw(0..35_000))).await;
                lambda.set_shards(shards);
                api.deploy();
            }
            Ok(())
        }));
    }
    if plan.has_unknown_version {
        let (lambda, strangers) = (lambda.clone(), strangers.clone());
        tasks.push(spawn_local(async move {
            let stranger = Stranger { aws: &lambda.aws, ids: &lambda.ids };
            let body = stranger.publish_next_version().await?;
            strangers.borrow_mut().poison.insert(body, "unsupported_version");
            Ok(())
        }));
    }
    if !plan.consumers_throttled_for.is_zero() {
        let (lambda, throttled_for) = (lambda.clone(), plan.consumers_throttled_for);
        tasks.push(spawn_local(async move {
            for queue in Queue::OF_EVENTS {
                lambda.reserve(Function::Consumer(queue.consumer()), 0);
            }
            tokio::time::sleep(throttled_for).await;
            for queue in Queue::OF_EVENTS {
                let function = Function::Consumer(queue.consumer());
                lambda.reserve(function, queue.reserved_concurrency());
            }
            Ok(())
        }));
    }
    tasks
}

/// A newer producer comes first, and after some minutes the consumers that understand it.
async fn deploy_newer(
    lambda: &Lambda,
    api: &Api,
    strangers: &RefCell<Strangers>,
    invariants: &Invariants,
) -> Result<()> {
    let aws = &lambda.aws;
    let stranger = Stranger { aws, ids: &lambda.ids };
    tokio::time::sleep(Duration::from_millis(aws.draw(0..20_000))).await;
    stranger.publish_next_minor_version().await?;
    let next_version = stranger.publish_next_version().await?;
    let queues = Queue::OF_EVENTS;
    let queue = queues[usize::try_from(aws.draw(0..queues.len() as u64))?];
    let unknown_type = stranger.send_unknown_type(queue).await?;
    for body in [&next_version, &unknown_type] {
        lambda.expect_newer(body);
        invariants.expect_newer(body);
    }
    tokio::time::sleep(Duration::from_millis(aws.draw(60_000..300_000))).await;
    lambda.deploy();
    api.deploy();
    strangers.borrow_mut().newer.extend([
        (Queue::Product, next_version.clone()),
        (Queue::Notification, next_version.clone()),
        (Queue::Analytics, next_version),
        (queue, unknown_type),
    ]);
    Ok(())
}

fn check_strangers(lambda: &Lambda, strangers: &Strangers) -> Result<()> {
    for (queue, body) in &strangers.newer {
        ensure!(
            lambda.has_newer_taken(*queue, body),
            "the newer consumer of {queue:?} was not given {body}"
        );
    }
    Ok(())
}

/// Each change of stock that was answered with 200 is recorded once, and no other.
fn check_stock_changes(aws: &SimulatedAws, stock: &BTreeMap<String, i64>) -> Result<()> {
    let mut recorded: BTreeMap<String, i64> = BTreeMap::new();
    for change in aws.items(STOCK_CHANGES) {
        let product = change["product_id"]["S"].as_str().context("a product")?;
        let delta: i64 = change["delta"]["N"].as_str().context("a delta")?.parse()?;
        *recorded.entry(product.to_owned()).or_default() += delta;
    }
    for (product, answered) in stock {
        let recorded = recorded.remove(product).unwrap_or_default();
        ensure!(
            recorded == *answered,
            "changes of the stock of {product}: {recorded} recorded, {answered} answered"
        );
    }
    ensure!(recorded.is_empty(), "changes of the stock of unknown products: {recorded:?}");
    Ok(())
}
