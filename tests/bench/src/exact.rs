//! What each function calls, and what DynamoDB bills for it: the same on any machine.
//!
//! In: binaries. Out: [`Scenario`]s. Guarantee: each scenario is what one invocation does, or a sum of invocations, with
//! nothing going wrong.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    path::Path,
};

use anyhow::{Result, ensure};
use sim::shop::Queue;
use simulated_aws::Units;

use crate::{
    calls::{count_by_operation, sequential_depth},
    endpoint::{Delays, Pace},
    lambda::Environment,
    shop::{Function, Measured, Shop, body_of, order_request},
};

const EMAIL: &str = "customer@example.com";

/// The name of the scenario of an order's whole life.
pub const WHOLE_ORDER: &str = "the whole of a confirmed order of one line";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scenario {
    pub name: String,
    pub invocations: usize,
    /// Number of calls by operation.
    pub calls: BTreeMap<String, usize>,
    /// Of one invocation only.
    pub depth: Option<Depth>,
    /// Units by table, and by index as `table/index/name`.
    pub units: BTreeMap<String, Units>,
}

/// Number of calls of the longest chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    pub in_all: usize,
    /// Of calls that begin before the function has answered.
    pub until_answer: usize,
}

impl Scenario {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    fn of(name: &str, measured: &Measured) -> Self {
        let mut scenario = Self::named(name);
        scenario.add(measured);
        let mut until_answer = measured.calls.clone();
        until_answer.retain(|call| call.begun < measured.invocation.answered);
        scenario.depth = Some(Depth {
            in_all: sequential_depth(&measured.calls),
            until_answer: sequential_depth(&until_answer),
        });
        scenario
    }

    fn add(&mut self, measured: &Measured) {
        self.invocations += 1;
        for (operation, count) in count_by_operation(&measured.calls) {
            *self.calls.entry(operation.to_owned()).or_default() += count;
        }
        for (resource, units) in &measured.units {
            *self.units.entry(resource.clone()).or_default() += *units;
        }
    }

    /// Units of all tables and indexes.
    #[must_use]
    pub fn units_in_all(&self) -> Units {
        let mut total = Units::default();
        self.units.values().for_each(|used| total += *used);
        total
    }
}

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.iter().map(|(name, count)| format!("{name} {count}"));
        let written = self.units.iter().filter(|(_, used)| used.writes > 0);
        let written = written.map(|(name, used)| format!("{name} {}", used.writes));
        let read = self.units.iter().filter(|(_, used)| used.half_reads > 0);
        let read = read.map(|(name, used)| format!("{name} {}", used.reads()));
        let total = self.units_in_all();
        writeln!(f, "{}", self.name)?;
        writeln!(f, "  calls     {}", listed(self.calls.values().sum::<usize>(), calls))?;
        if let Some(Depth { in_all, until_answer }) = self.depth {
            writeln!(f, "  in a row  {in_all}, {until_answer} of them until the answer")?;
        }
        writeln!(f, "  written   {}", listed(total.writes, written))?;
        writeln!(f, "  read      {}", listed(total.reads(), read))
    }
}

/// A sum and what it is of.
fn listed(sum: impl Display, of: impl Iterator<Item = String>) -> String {
    let of: Vec<_> = of.collect();
    if of.is_empty() { sum.to_string() } else { format!("{sum}: {}", of.join(", ")) }
}

/// The functions, each in an environment of its own.
struct Environments {
    order_api: Environment,
    product_consumer: Environment,
    order_consumer: Environment,
    notification: Environment,
    analytics: Environment,
}

impl Environments {
    fn all(&self) -> [&Environment; 5] {
        [
            &self.order_api,
            &self.product_consumer,
            &self.order_consumer,
            &self.notification,
            &self.analytics,
        ]
    }
}

/// Plays all scenarios.
///
/// # Errors
/// A function has not been built, or does not do its work.
pub async fn measure_all(binaries: &Path) -> Result<Vec<Scenario>> {
    let mut shop = Shop::deploy(binaries, Delays::NONE).await?;
    let mut product_api = shop.start(Function::ProductApi).await?;
    let mut environments = Environments {
        order_api: shop.start(Function::OrderApi).await?,
        product_consumer: shop.start(Function::Consumer(Queue::Product)).await?,
        order_consumer: shop.start(Function::Consumer(Queue::Order)).await?,
        notification: shop.start(Function::Consumer(Queue::Notification)).await?,
        analytics: shop.start(Function::Consumer(Queue::Analytics)).await?,
    };
    let mut products = Vec::new();
    for _ in 0..10 {
        products.push(shop.add_product(&mut product_api).await?);
    }
    let processes = environments.all().map(Environment::process_id);
    shop.endpoint.set_pace(Pace::Rounds(processes.to_vec()));
    let mut scenarios = one_order(&shop, &mut environments, &products[0]).await?;
    scenarios.extend(one_keyed_order(&shop, &mut environments, &products[0]).await?);
    scenarios.extend(ten_orders(&shop, &mut environments, &products).await?);
    let mut same = Vec::new();
    same.resize(10, products[0].clone());
    place_orders(&shop, &mut environments, &same).await?;
    let batch = shop.receive(Queue::Product, 10)?;
    let measured = shop.deliver(&mut environments.product_consumer, &batch).await?;
    scenarios.push(Scenario::of("ten OrderCreated of one product at product-consumer", &measured));
    Ok(scenarios)
}

/// One order, from its request to its last mail.
async fn one_order(
    shop: &Shop,
    environments: &mut Environments,
    product: &str,
) -> Result<Vec<Scenario>> {
    let Environments { order_api, product_consumer, order_consumer, notification, analytics } =
        environments;
    let mut whole = Scenario::named(WHOLE_ORDER);
    let measured = shop.measure(order_api, &order_request(product, EMAIL, None)).await?;
    body_of(&measured.invocation, 201)?;
    whole.add(&measured);
    let mut scenarios = vec![Scenario::of("POST /orders", &measured)];
    for (queue, name, consumer) in [
        (Queue::Product, "OrderCreated at product-consumer", product_consumer),
        (Queue::Notification, "OrderCreated at notification-consumer", &mut *notification),
        (Queue::Order, "StockReserved at order-consumer", order_consumer),
    ] {
        let measured = shop.deliver(consumer, &shop.receive(queue, 1)?).await?;
        whole.add(&measured);
        scenarios.push(Scenario::of(name, &measured));
    }
    let measured = shop.deliver(notification, &shop.receive(Queue::Notification, 1)?).await?;
    whole.add(&measured);
    scenarios.push(Scenario::of("OrderConfirmed at notification-consumer", &measured));
    for name in ["OrderCreated at analytics-consumer", "OrderConfirmed at analytics-consumer"] {
        let measured = shop.deliver(analytics, &shop.receive(Queue::Analytics, 1)?).await?;
        whole.add(&measured);
        scenarios.push(Scenario::of(name, &measured));
    }
    for queue in Queue::OF_EVENTS {
        ensure!(shop.aws().is_empty(&queue.url()), "an event of the order is left on {queue:?}");
    }
    scenarios.push(whole);
    Ok(scenarios)
}

async fn one_keyed_order(
    shop: &Shop,
    environments: &mut Environments,
    product: &str,
) -> Result<Vec<Scenario>> {
    let request = order_request(product, EMAIL, Some("a-key-of-the-client-0001"));
    let mut scenarios = Vec::new();
    for name in ["POST /orders with Idempotency-Key", "POST /orders with Idempotency-Key, again"] {
        let measured = shop.measure(&mut environments.order_api, &request).await?;
        body_of(&measured.invocation, 201)?;
        scenarios.push(Scenario::of(name, &measured));
    }
    Queue::OF_EVENTS.into_iter().for_each(|queue| shop.drain(queue));
    Ok(scenarios)
}

/// Ten orders of ten products, their events in batches as large as the mappings have them.
async fn ten_orders(
    shop: &Shop,
    environments: &mut Environments,
    products: &[String],
) -> Result<Vec<Scenario>> {
    let mut whole = Scenario::named("ten confirmed orders of one line, in batches");
    for measured in place_orders(shop, environments, products).await? {
        whole.add(&measured);
    }
    let Environments { product_consumer, order_consumer, notification, analytics, .. } =
        environments;
    let mut scenarios = Vec::new();
    for (queue, name, consumer) in [
        (Queue::Product, "ten OrderCreated of ten products at product-consumer", product_consumer),
        (Queue::Order, "ten StockReserved at order-consumer", order_consumer),
    ] {
        let measured = shop.deliver(consumer, &shop.receive(queue, 10)?).await?;
        whole.add(&measured);
        scenarios.push(Scenario::of(name, &measured));
        // Of what was published before, and of what this has published.
        let mut left = 10;
        while left > 0 {
            let size = left.min(Queue::Notification.batch_size());
            let batch = shop.receive(Queue::Notification, size)?;
            whole.add(&shop.deliver(notification, &batch).await?);
            left -= size;
        }
    }
    for name in
        ["ten OrderCreated at analytics-consumer", "ten OrderConfirmed at analytics-consumer"]
    {
        let measured = shop.deliver(analytics, &shop.receive(Queue::Analytics, 10)?).await?;
        whole.add(&measured);
        scenarios.push(Scenario::of(name, &measured));
    }
    scenarios.push(whole);
    Ok(scenarios)
}

async fn place_orders(
    shop: &Shop,
    environments: &mut Environments,
    products: &[String],
) -> Result<Vec<Measured>> {
    let mut placed = Vec::new();
    for product in products {
        let request = order_request(product, EMAIL, None);
        let measured = shop.measure(&mut environments.order_api, &request).await?;
        body_of(&measured.invocation, 201)?;
        placed.push(measured);
    }
    Ok(placed)
}
