//! The Lambda function behind the queue `notification`.

use exactly_once::Ids;
use lambda_runtime::Error;
use notification::NotificationConfig;

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = settings::read(NotificationConfig::read)?;
    let (consumer, notifier) = config.consumer(&settings::aws().await, &Ids::default());
    consumer.serve(async |event, _, message| notifier.handle(event, message).await).await
}
