//! The Lambda function behind the queue `payment`.

use exactly_once::Ids;
use lambda_runtime::Error;
use payment::wiring::PaymentConsumerConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(PaymentConsumerConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await, &Ids::default());
    consumer.serve(async |event, trace, _| handler.handle(event, trace).await).await
}
