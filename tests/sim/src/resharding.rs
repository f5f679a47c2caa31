//! The number of shards is changed while events and orders are pending: every reader finds what was written under another number.
//!
//! Tests only. SNS is away while orders are placed and every other is cancelled, so that the events of the cancelled ones stay in
//! the outbox, and nothing consumes them, so that the others stay pending and stand for theirs. The seeds do the same with faults, and with environments that still have the number before.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use aws_config::SdkConfig;
use exactly_once::{Ids, Outbox};
use jiff::Timestamp;
use messaging::OutboxConfig;
use order::dynamodb::PendingOrders;
use serde_json::json;
use simulated_aws::{Environment, Faults, Service, SimulatedAws};
use tokio::task::LocalSet;

use crate::{
    Plan,
    books::Item,
    clients::{Api, Call},
    lambda::Lambda,
    shop::{self, EVENT_LOG, ORDERS, Queue, UNPUBLISHED},
};

/// Number of orders that are placed under each number of shards.
const ORDERS_EACH: usize = 20;
/// Longer than an event has to be pending before the relay publishes it.
const RELAY_AGE: Duration = Duration::from_secs(90);

struct Shop {
    aws: SimulatedAws,
    lambda: Lambda,
    api: Api,
}

impl Shop {
    async fn open() -> Self {
        let aws = SimulatedAws::new(1, Faults::default());
        // This is about which partitions are read, and not about how late they are.
        aws.be_kind();
        shop::deploy(&aws);
        let config = settings::aws_with(simulated_aws::loader()).await;
        let lambda = Lambda::new(&aws, &config, &Ids::seeded(1), Plan::of(1).harshness);
        let api = Api::new(&lambda);
        Self { aws, lambda, api }
    }

    fn set_shards(&self, shards: u64) {
        self.lambda.set_shards(shards);
        self.api.deploy();
    }

    /// Places an order; its id.
    async fn order(&self, product: &str) -> Result<String> {
        let body = json!({
            "customer_email": "customer@example.com",
            "items": [{ "product_id": product, "quantity": 1 }],
        });
        let (status, answer) = self.api.insist(&Call::post("/orders", body)).await?;
        ensure!(status == 201, "{answer}");
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }

    async fn cancel(&self, order: &str) -> Result<()> {
        let call = Call::post("/admin/orders/{id}/cancel", json!({})).id(order);
        let (status, answer) = self.api.insist(&call).await?;
        ensure!(status == 200, "{answer}");
        Ok(())
    }

    fn environment(&self) -> (Environment, SdkConfig) {
        let environment = self.aws.environment();
        let config = environment.config(&self.lambda.config);
        (environment, config)
    }

    fn outbox(&self, config: &SdkConfig) -> Result<Outbox> {
        let variables = self.lambda.variables(Queue::Order);
        Ok(settings::read_from(variables, OutboxConfig::read)?.outbox(config))
    }

    /// The values that the items of a table have under this name.
    fn partitions(&self, table: &str, name: &str) -> Vec<String> {
        let value = |item: Item| Some(item.get(name)?["S"].as_str()?.to_owned());
        self.aws.items(table).into_iter().filter_map(value).collect()
    }
}

fn run(test: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    fastrand::seed(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    LocalSet::new().block_on(&runtime, test())
}

#[test]
fn what_is_pending_is_found_and_published_whatever_the_number_of_shards_was_and_is() -> Result<()> {
    run(async || {
        let shop = Shop::open().await;
        let product = shop.api.product("Product", 1000).await?;
        shop.aws.set_away(Service::Sns, true);
        let written = [16, 1, 5];
        for shards in written {
            shop.set_shards(shards);
            for _ in 0..ORDERS_EACH {
                shop.order(&product).await?;
                shop.cancel(&shop.order(&product).await?).await?;
            }
        }
        let placed = written.len() * ORDERS_EACH;
        // Of a cancelled order, its creation and its cancellation.
        let events = placed * 2;
        for (table, name, count) in
            [(EVENT_LOG, "outbox_shard", events), (ORDERS, "pending_shard", placed)]
        {
            let partitions = shop.partitions(table, name);
            assert_eq!(partitions.len(), count, "{table}");
            // Or the test would show nothing about the highest ones.
            let number = |shard: &str| shard.trim_start_matches(UNPUBLISHED).len();
            assert!(partitions.iter().any(|shard| number(shard) > 1), "{table}: {partitions:?}");
        }
        for shards in [16, 5, 1] {
            shop.set_shards(shards);
            let (_environment, config) = shop.environment();
            let outbox = shop.outbox(&config)?;
            assert_eq!(outbox.backlog().await?.pending, events as u64, "{shards} shards");
            assert_eq!(outbox.list_pending(events * 2).await?.len(), events, "{shards} shards");
            let orders = PendingOrders::new(aws_sdk_dynamodb::Client::new(&config), ORDERS);
            assert_eq!(orders.count().await?, placed as u64, "{shards} shards");
            let oldest = orders.oldest_placed_before(Timestamp::MAX, 200).await?;
            assert_eq!(oldest.len(), placed, "{shards} shards");
        }
        shop.aws.set_away(Service::Sns, false);
        tokio::time::sleep(RELAY_AGE).await;
        shop.lambda.run_relay().await?;
        assert_eq!(shop.partitions(EVENT_LOG, "outbox_shard"), Vec::<String>::new());
        // Each pending order's event was published, and the order stands for it no more.
        let partitions = shop.partitions(ORDERS, "pending_shard");
        assert_eq!(partitions.len(), placed);
        assert!(!partitions.iter().any(|shard| shard.starts_with(UNPUBLISHED)), "{partitions:?}");
        let messages: BTreeSet<_> = shop.aws.bodies(&Queue::Product.url()).into_iter().collect();
        assert_eq!(messages.len(), placed + events);
        Ok(())
    })
}
