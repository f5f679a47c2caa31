//! Orders to the fault proxy that stands between the functions and the emulator.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ALIAS, Stack};

/// What the proxy does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Every attempt fails before it is carried out.
    Fail,
    /// Every attempt is carried out, and its answer breaks off.
    Lose,
    /// Every attempt is carried out, and answered after four seconds.
    Slow,
    /// The calling process is killed before the call is carried out.
    KillBefore,
    /// The call is carried out, then the calling process is killed.
    KillAfter,
    /// A transaction is cancelled with mixed reasons, once, and not carried out.
    Cancel,
    /// A batch is answered with success, once, although none of its entries was carried out.
    Partial,
    /// No attempt is carried out or answered.
    Hang,
    /// The connection of every attempt is closed before it is carried out, without a word.
    Reset,
    /// The mail provider sends nothing, because the sender is not verified.
    NotVerified,
}

/// One call of a function that had to do with a key: its function (the end of its name), operation and number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// Which function, such as `order-api`.
    pub function: String,
    /// Which operation, such as `TransactWriteItems`.
    pub operation: String,
    /// Which of its calls of this operation, from 0.
    pub nth: usize,
}

/// A fault of one call that has to do with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    pub kind: Kind,
}

impl Stack {
    /// Lets the proxy strike these calls of the order that `key` belongs to.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn arm(&self, key: &str, faults: &[Fault]) -> Result<()> {
        let faults: Vec<Value> = faults
            .iter()
            .map(|Fault { call: Call { function, operation, nth }, kind }| {
                json!({ "key": key, "function": function, "operation": operation, "nth": nth, "kind": kind })
            })
            .collect();
        self.proxy("POST", "__faults", Some(json!(faults))).await.map(drop)
    }

    /// How often the faults of a key have struck, one by one.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn struck(&self, key: &str) -> Result<Vec<u64>> {
        let faults = self.proxy("GET", "__faults", None).await?;
        let faults = faults.as_array().context("a list of faults")?;
        let of_key = faults.iter().filter(|fault| fault["key"] == key);
        Ok(of_key.filter_map(|fault| fault["struck"].as_u64()).collect())
    }

    /// Lets the proxy note the calls of the order that `key` belongs to.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn record(&self, key: &str) -> Result<()> {
        self.proxy("POST", &format!("__calls/{key}"), None).await.map(drop)
    }

    /// The noted calls.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn calls(&self, key: &str) -> Result<Vec<Call>> {
        let calls = self.proxy("GET", &format!("__calls/{key}"), None).await?;
        let mut calls: Vec<Call> = serde_json::from_value(calls)?;
        let stack = format!("{}-", self.setting("STACK_NAME"));
        calls.retain(|call| call.function.starts_with(&stack));
        for call in &mut calls {
            call.function = call.function.trim_start_matches(&stack).to_owned();
        }
        Ok(calls)
    }

    /// Fails every call to a service (`sns`, `ses`, `sqs`, `dynamodb`), or none.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn down(&self, service: Option<&str>) -> Result<()> {
        self.proxy("POST", "__down", Some(json!({ "service": service }))).await.map(drop)
    }

    /// Number of a thousand calls that fail, lose their answer or kill their process.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn chaos(&self, seed: u64, [fail, lose, kill]: [u64; 3]) -> Result<()> {
        let chaos = json!({ "seed": seed, "fail_permille": fail, "lose_permille": lose, "kill_permille": kill });
        self.proxy("POST", "__chaos", Some(chaos)).await.map(drop)
    }

    /// How many calls [`Stack::chaos`] has struck, by kind.
    ///
    /// # Errors
    /// The stack has no proxy.
    pub async fn chaos_struck(&self) -> Result<Value> {
        self.proxy("GET", "__chaos", None).await
    }

    async fn proxy(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let (proxy, emulator) = (self.setting("AWS_ENDPOINT_URL"), self.setting("EMULATOR_URL"));
        ensure!(
            proxy != emulator,
            "this stack has no fault proxy: deploy it with --via target/debug/fault-proxy"
        );
        let mut request = self.http.request(method.parse()?, format!("{proxy}/{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?.error_for_status()?.text().await?;
        Ok(if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer)? })
    }

    /// Lets the relay sweep once, now, and returns its report, or `None` if the sweep failed.
    ///
    /// # Errors
    /// The relay could not be invoked.
    pub async fn sweep(&self) -> Result<Option<Value>> {
        let call = self.lambda.invoke().function_name(self.setting("RELAY_FUNCTION"));
        let answer = call.qualifier(ALIAS).send().await?;
        if answer.function_error().is_some() {
            return Ok(None);
        }
        let payload = answer.payload().map(|payload| serde_json::from_slice(payload.as_ref()));
        Ok(payload.transpose()?)
    }

    /// Gives the queues this visibility timeout, so that what a killed process held comes back soon.
    ///
    /// # Errors
    /// SQS did not answer.
    pub async fn set_visibility_timeouts(&self, visibility_seconds: u32) -> Result<()> {
        let queues = crate::Queue::ALL.map(|queue| self.queue(queue));
        for queue_url in queues.into_iter().chain([self.setting("FEEDBACK_QUEUE_URL")]) {
            self.sqs
                .set_queue_attributes()
                .queue_url(queue_url)
                .attributes(
                    aws_sdk_sqs::types::QueueAttributeName::VisibilityTimeout,
                    visibility_seconds.to_string(),
                )
                .send()
                .await?;
        }
        Ok(())
    }
}
