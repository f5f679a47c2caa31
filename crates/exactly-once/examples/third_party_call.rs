//! `idempotent` around a call of a third party, which takes an idempotency key: a charge.
//!
//! Neither guard is enough alone. The lease keeps two attempts from calling at the same time, returns the first answer to
//! every repetition, and bounds what happens while the outcome is unknown. The third party's key makes the one repetition
//! that a lease cannot prevent, after a crash between the call and its record, the same charge.

use std::time::Duration;

use exactly_once::{Consumer, EffectError, EffectKey, Failure, Handled, Inbox, Message};
use serde::Deserialize;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Charge {
    charge_id: String,
    minor_units: u64,
}

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let env = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let aws = aws_config::load_from_env().await;
    let (dynamodb, sqs) = (aws_sdk_dynamodb::Client::new(&aws), aws_sdk_sqs::Client::new(&aws));
    let inbox = Inbox::new(dynamodb, env("IDEMPOTENCY_TABLE"), "charges");
    let consumer = Consumer::new("charges", sqs, env("QUEUE_URL"), env("DLQ_URL"));
    let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).build()?;
    let url = env("CHARGES_URL");
    let handle = async |message: Message| {
        let charge: Charge = message.json()?;
        let call = async || {
            let body = serde_json::json!({ "minor_units": charge.minor_units });
            let request = http.post(&url).header("idempotency-key", &charge.charge_id).json(&body);
            // Without an answer nobody knows whether there was a charge.
            let answer = request.send().await.map_err(|e| EffectError::Unknown(e.into()))?;
            match answer.status().as_u16() {
                200..=299 => answer.text().await.map_err(|e| EffectError::Unknown(e.into())),
                400..=499 => Err(Failure::poison("refused", answer.status()).into()),
                _ => Err(EffectError::Unknown(answer.status().to_string().into())),
            }
        };
        let key = EffectKey::new(&charge.charge_id).payload(&message.body);
        let receipt = inbox.idempotent(key, message.lease(), call).await?.into_result();
        println!("{} {receipt}", charge.charge_id);
        Ok(Handled::Done)
    };
    consumer.serve(handle).await
}
