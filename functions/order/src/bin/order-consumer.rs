//! The Lambda function behind the queue `order`.

use exactly_once::Ids;
use lambda_runtime::Error;
use order::wiring::OrderConsumerConfig;

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = settings::read(OrderConsumerConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await, &Ids::default());
    let together = async |received, answers| handler.handle_together(received, answers).await;
    let alone = async |event, trace, _| handler.handle(event, trace).await;
    consumer.serve_together(together, alone).await
}
