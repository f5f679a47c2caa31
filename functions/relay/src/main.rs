//! The Lambda function that runs each minute and publishes what was left unpublished.

use exactly_once::{ErrorChain, Ids};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use relay::RelayConfig;
use serde_json::Value;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let relay = settings::read(RelayConfig::read)?.relay(&settings::aws().await, &Ids::default());
    lambda_runtime::run(service_fn(async |tick: LambdaEvent<Value>| {
        let report = relay.sweep(tick.context.deadline).await;
        telemetry::flush().await;
        report.map_err(|error| ErrorChain(&error).to_string())
    }))
    .await
}
