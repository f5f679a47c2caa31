//! A sale: many customers at once, at DynamoDB's documented limits, with nothing going wrong besides.
//!
//! In: how many customers order what within which time. Out: how it ended, how long that took, and what was in the way of what. The
//! functions, tables and queues are those of every other run; without its invariants, which would take most of the time.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use exactly_once::Ids;
use serde_json::json;
use simulated_aws::{Call as AwsCall, Faults, SimulatedAws, Step};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::Instant,
};

use crate::{
    RUN_MAX, Tasks,
    books::{Item, number, text},
    clients::{Api, Call},
    ended, in_virtual_time,
    lambda::{Harshness, Lambda},
    shop::{self, ORDERS, PRODUCTS, Queue},
};

/// How often it is looked whether everything is settled.
const LOOK: Duration = Duration::from_secs(1);

/// What is on sale, and who comes.
#[derive(Debug, Clone, Copy)]
pub struct Sale {
    /// Number of orders, of one piece each.
    pub orders: usize,
    /// The time within which they come, evenly spread by chance.
    pub within: Duration,
    /// Number of products that they are spread over.
    pub products: usize,
    /// Number of pieces of each.
    pub pieces: u64,
}

/// What came of a sale.
#[derive(Debug, Clone)]
pub struct SaleReport {
    /// Number of orders that have each status.
    pub statuses: BTreeMap<String, usize>,
    /// Pieces that are left of all products.
    pub left: u64,
    /// How long after the first order came the last was settled.
    pub settled_after: Duration,
    /// Number of transactions that another was in the way of.
    pub conflicts: u64,
    /// Number of messages on the DLQs.
    pub dead_letters: usize,
    /// Number of attempts at calls.
    pub calls: u64,
    /// Number of calls that DynamoDB throttled, wholly or in part.
    pub throttled_calls: u64,
    /// Number of write units.
    pub write_units: u64,
}

/// Plays a sale, until no order is pending any more.
///
/// # Errors
/// An order was refused, or something did not settle within a day.
pub fn sell(seed: u64, sale: Sale) -> Result<SaleReport> {
    in_virtual_time(seed, async {
        let run = tokio::time::timeout(RUN_MAX, run(seed, sale)).await;
        run.unwrap_or_else(|_| bail!("the sale did not end within {RUN_MAX:?}"))
    })
}

async fn run(seed: u64, sale: Sale) -> Result<SaleReport> {
    let aws = SimulatedAws::new(seed, Faults::default());
    let conflicts = Arc::new(AtomicU64::new(0));
    let counted = conflicts.clone();
    aws.set_observer(move |_, step| {
        if let Step::CarriedOut { call: AwsCall::DynamoDb(..), status: 400, answer, .. } = step
            && answer.contains("TransactionConflict")
        {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let config = settings::aws_with(simulated_aws::loader()).await;
    shop::deploy(&aws);
    let harshness = Harshness {
        concurrency: 1000,
        is_reserved: false,
        stalls: 0,
        has_unruly_schedule: false,
        has_extensions: true,
    };
    let lambda = Lambda::new(&aws, &config, &Ids::seeded(seed), harshness);
    let api = Rc::new(Api::new(&lambda));
    let mut products = Vec::new();
    for number in 0..sale.products {
        products.push(api.product(&format!("Product {number}"), sale.pieces).await?);
    }
    let products = Rc::new(products);
    let mut forever = vec![spawn_local(lambda.clone().schedule_relay())];
    forever.extend(Queue::OF_EVENTS.map(|queue| spawn_local(lambda.clone().map(queue))));
    let begun = Instant::now();
    let within_ms = u64::try_from(sale.within.as_millis())?;
    let customers = (0..sale.orders).map(|number| {
        let (aws, api, products) = (aws.clone(), api.clone(), products.clone());
        spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(aws.draw(0..within_ms))).await;
            let items = json!([{ "product_id": products[number % products.len()], "quantity": 1 }]);
            let email = format!("customer{number}@example.com");
            let body = json!({ "customer_email": email, "items": items });
            let (status, answer) = api.insist(&Call::post("/orders", body)).await?;
            ensure!(status == 201, "an order was answered with {status}: {answer}");
            Ok(())
        })
    });
    let customers: Tasks<()> = customers.collect();
    ended(customers).await?;
    while aws.items(ORDERS).iter().any(|order| text(order, "status") == "pending") {
        tokio::time::sleep(LOOK).await;
    }
    let settled_after = begun.elapsed();
    forever.iter().for_each(JoinHandle::abort);
    let mut statuses = BTreeMap::new();
    for order in aws.items(ORDERS) {
        *statuses.entry(text(&order, "status").to_owned()).or_default() += 1;
    }
    let stock = |product: &Item| number(product, "stock");
    let left: u64 = aws.items(PRODUCTS).iter().map(stock).sum::<Result<_>>()?;
    let units = aws.units();
    Ok(SaleReport {
        statuses,
        left,
        settled_after,
        conflicts: conflicts.load(Ordering::Relaxed),
        dead_letters: Queue::OF_EVENTS.iter().map(|queue| aws.bodies(&queue.dlq_url()).len()).sum(),
        calls: aws.calls(),
        throttled_calls: units.throttled_calls,
        write_units: units.total.writes,
    })
}
