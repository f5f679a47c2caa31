//! A request takes effect once, and its repetition gets the first answer again.
//!
//! In: a client's key and the fingerprint of its request. Out: a step for the transaction of the effect, which
//! stores the answer with it, so that there is no moment in which only one of them exists; and the judgement
//! of a key that was there before.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::DisplayErrorContext,
    types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem},
};
use jiff::Timestamp;

use crate::{Item, Role, Step, inbox::InboxError};

/// The request keys of one function.
#[derive(Debug, Clone)]
pub struct Requests {
    client: Client,
    table: String,
    function: &'static str,
    ttl: Option<Duration>,
}

/// What a key that was there before means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repeated {
    /// The same request: this was its answer.
    Same(String),
    /// Another request came with this key.
    Other,
}

impl Requests {
    /// The keys of `function` in `table`. Without `ttl` a key is kept for ever: right where the effect has no
    /// guard of its own and a late repetition would have it again.
    #[must_use]
    pub fn new(
        client: Client,
        table: impl Into<String>,
        function: &'static str,
        ttl: Option<Duration>,
    ) -> Self {
        Self { client, table: table.into(), function, ttl }
    }

    /// The step that lets a key be used once. If it fails, its item goes to [`judge`].
    #[must_use]
    pub fn step(&self, key: &str, fingerprint: &str, answer: &str, now: Timestamp) -> Step {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let mut put = Put::builder()
            .table_name(&self.table)
            .item("key", self.key(key))
            .item("fingerprint", text(fingerprint))
            .item("answer", text(answer));
        if let Some(ttl) = self.ttl {
            let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            let expires_at = now.as_second().saturating_add(ttl);
            put = put.item("expires_at", AttributeValue::N(expires_at.to_string()));
        }
        let put = put
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "key")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("a put has a table and an item");
        Step::new(Role::Guard, TransactWriteItem::builder().put(put).build())
    }

    /// Whether a key was used before.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn find(&self, key: &str, fingerprint: &str) -> Result<Option<Repeated>, InboxError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("key", self.key(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| InboxError::new(DisplayErrorContext(error)))?;
        Ok(answer.item.map(|item| judge(&item, fingerprint)))
    }

    fn key(&self, key: &str) -> AttributeValue {
        AttributeValue::S(format!("{}#{key}", self.function))
    }
}

/// What a stored key means for a request with this fingerprint.
#[must_use]
pub fn judge(item: &Item, fingerprint: &str) -> Repeated {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    match (text("fingerprint"), text("answer")) {
        (Some(first), Some(answer)) if first == fingerprint => Repeated::Same(answer.clone()),
        _ => Repeated::Other,
    }
}
