//! The Lambda function behind /orders, and behind everything that has no route: wiring only.

use aws_sdk_dynamodb::Client;
use events::Currency;
use exactly_once::{IdempotencyKeys, Ids, Shards};
use http_api::unrouted;
use messaging::{EventFactory, OutboxConfig};
use order::{
    dynamodb::{Catalog, Orders},
    http::{OrderApi, routes},
};
use settings::Environment;

struct Config {
    orders_table: String,
    products_table: String,
    idempotency_table: String,
    outbox: OutboxConfig,
    currency: Currency,
    pending_shards: Shards,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
        let orders_table = environment.text("ORDERS_TABLE");
        let products_table = environment.text("PRODUCTS_TABLE");
        let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
        let outbox = OutboxConfig::read(environment);
        let currency = environment.value("CURRENCY");
        let pending_shards = environment.value("PENDING_SHARDS");
        Some(Self {
            orders_table: orders_table?,
            products_table: products_table?,
            idempotency_table: idempotency_table?,
            outbox: outbox?,
            currency: currency?,
            pending_shards: pending_shards?,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let config = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let (client, ids) = (Client::new(&aws), Ids::default());
    let event_factory = EventFactory::new(&aws, ids.clone());
    let outbox = config.outbox.outbox(&aws);
    let api = OrderApi {
        orders: Orders::new(client.clone(), config.orders_table, outbox, event_factory)
            .pending_shards(config.pending_shards),
        catalog: Catalog::new(client.clone(), config.products_table),
        currency: config.currency,
        // An order has no guard of its own, but thirty days are longer than any client tries again.
        idempotency_keys: IdempotencyKeys::new(client, config.idempotency_table, "order-api"),
    };
    http_api::serve(routes(api), unrouted(), aws.time_source().into(), ids).await
}
