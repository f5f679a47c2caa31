//! A consumer of a FIFO queue: the account's bookings in their order. It differs from any other consumer by its queue
//! alone, whose URL ends with `.fifo`: after a failure the rest of the message group is given back unbegun.

use exactly_once::{Consumer, Failure, Handled, Message};

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let env = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let aws = aws_config::load_from_env().await;
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let consumer = Consumer::new("bookings", sqs, env("QUEUE_URL"), env("DLQ_URL"));
    consumer
        .serve(async |message: Message| {
            let account = message.group_id.as_deref();
            let account = account.ok_or_else(|| Failure::poison("no_account", "no group id"))?;
            let minor_units: i64 = message.json()?;
            println!("{account} {minor_units:+}");
            Ok(Handled::Done)
        })
        .await
}
