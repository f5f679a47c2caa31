//! The Lambda function behind the queue `notification`.

use exactly_once::Ids;
use lambda_runtime::Error;
use notification::NotificationConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(NotificationConfig::read)?;
    let (consumer, notifier) = config.consumer(&settings::aws().await, &Ids::default());
    consumer.serve(async |event, _, message| notifier.handle(event, message).await).await
}
