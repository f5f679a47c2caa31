//! The Lambda function behind the queue `analytics`.

use analytics::wiring::AnalyticsConsumerConfig;
use exactly_once::Ids;
use lambda_runtime::Error;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(AnalyticsConsumerConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await, &Ids::default());
    let together = async |received, answers| handler.handle_together(received, answers).await;
    let alone = async |event, _, _| handler.handle(event).await;
    consumer.serve_together(together, alone).await
}
