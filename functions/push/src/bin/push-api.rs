//! The Lambda function behind the WebSocket API: connections come, watch an order, and go.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use push::{websocket::WebSocketEvent, wiring::PushApiConfig};

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(PushApiConfig::read)?;
    let api = config.api(&settings::aws().await);
    lambda_runtime::run(service_fn(async |event: LambdaEvent<WebSocketEvent>| {
        Ok::<_, Error>(api.handle(event.payload).await)
    }))
    .await
}
