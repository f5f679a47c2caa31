//! The Lambda function behind the queue `order`.

use exactly_once::Ids;
use lambda_runtime::Error;
use order::wiring::OrderConsumerConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(OrderConsumerConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await, &Ids::default());
    let together = async |received, answers| handler.handle_together(received, answers).await;
    let alone = async |event, trace, _| handler.handle(event, trace).await;
    consumer.serve_together(together, alone).await
}
