//! The Lambda function behind the queue `product`: wiring only.

use aws_sdk_dynamodb::Client;
use exactly_once::Ids;
use lambda_runtime::Error;
use messaging::{ConsumerConfig, EventFactory, OutboxConfig};
use product::dynamodb::{ProductConsumer, Products};
use settings::Environment;

const NAME: &str = "product-consumer";

struct Config {
    products_table: String,
    reservations_table: String,
    outbox: OutboxConfig,
    consumer: ConsumerConfig,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
        let products_table = environment.text("PRODUCTS_TABLE");
        let reservations_table = environment.text("RESERVATIONS_TABLE");
        let outbox = OutboxConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        Some(Self {
            products_table: products_table?,
            reservations_table: reservations_table?,
            outbox: outbox?,
            consumer: consumer?,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let ids = Ids::default();
    let product_consumer = ProductConsumer {
        products: Products::new(Client::new(&aws), config.products_table),
        reservations_table: config.reservations_table,
        inbox: config.consumer.inbox(&aws, &ids, NAME),
        outbox: config.outbox.outbox(&aws),
        event_factory: EventFactory::new(&aws, ids.clone()),
    };
    let handle = async |event, trace, _| product_consumer.handle(event, trace).await;
    config.consumer.serve(&aws, &ids, NAME, handle).await
}
