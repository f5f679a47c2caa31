//! The Lambda function behind the queue `feedback`: what SES says of mails becomes a list of addresses not to be mailed.

use lambda_runtime::Error;
use notification::suppression::FeedbackConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let config = settings::read(FeedbackConfig::read)?;
    let (consumer, handler) = config.consumer(&settings::aws().await);
    consumer.serve(async |message| handler.handle(message).await).await
}
