//! The Lambda function behind the queue `order`: wiring only.

use aws_sdk_dynamodb::Client;
use exactly_once::Ids;
use lambda_runtime::Error;
use messaging::{ConsumerConfig, EventFactory, OutboxConfig};
use order::dynamodb::{OrderConsumer, Orders};
use settings::Environment;

const NAME: &str = "order-consumer";

struct Config {
    orders_table: String,
    outbox: OutboxConfig,
    consumer: ConsumerConfig,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
        let orders_table = environment.text("ORDERS_TABLE");
        let outbox = OutboxConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        Some(Self { orders_table: orders_table?, outbox: outbox?, consumer: consumer? })
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let Config { orders_table, outbox, consumer } = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let ids = Ids::default();
    let event_factory = EventFactory::new(&aws, ids.clone());
    let order_consumer = OrderConsumer {
        orders: Orders::new(Client::new(&aws), orders_table, outbox.outbox(&aws), event_factory),
        inbox: consumer.inbox(&aws, &ids, NAME),
    };
    let handle = async |event, trace, _| order_consumer.handle(event, trace).await;
    consumer.serve(&aws, &ids, NAME, handle).await
}
