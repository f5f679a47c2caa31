//! The Lambda function behind the queue `push`.

use exactly_once::Ids;
use lambda_runtime::Error;
use push::{protocol::SilenceCheck, wiring::PushConsumerConfig};

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(PushConsumerConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await, &Ids::default());
    consumer.serve_mixed(SilenceCheck::read, async |received| handler.handle(received).await).await
}
