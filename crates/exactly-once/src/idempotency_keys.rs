//! A request takes effect once, and its repetition gets the first answer again.
//!
//! In: a client's key, within the scope of its caller, and the fingerprint of its request. Out: a write for the transaction of the effect, which
//! stores the answer with it, so that there is no moment in which only one of them exists; and what a key that was
//! there before means.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure::AllOld, TransactWriteItem},
};

use crate::{
    CallError, Clock, Item, Role, TableError, TransactionWrite,
    inbox::MARKER_TTL,
    table::{number, text},
};

/// The idempotency keys of one function.
#[derive(Debug, Clone)]
pub struct IdempotencyKeys {
    client: Client,
    table: String,
    function: String,
    ttl: Option<Duration>,
    clock: Clock,
}

/// A client's key for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose key it is: callers of different scopes may use the same key for different requests.
    pub scope: String,
    /// The client's key.
    pub key: String,
    /// Of everything that the request says: tells a repetition from another request that reuses the key by mistake.
    pub fingerprint: String,
}

/// What a key that was there before means. Exhaustive on purpose: a caller has to tell all cases apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierRequest {
    /// It was the same request: this was its answer.
    Replayed(String),
    /// Another request came with this key.
    KeyReused,
}

impl IdempotencyKeys {
    /// The keys of `function` in `table`, kept for as long as markers are ([`MARKER_TTL`]). They go by the client's
    /// clock.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, function: impl Into<String>) -> Self {
        let clock = client.config().time_source().into();
        let (table, function) = (table.into(), function.into());
        Self { client, table, function, ttl: Some(MARKER_TTL), clock }
    }

    /// Keeps keys for ever: right where the effect has no guard of its own and a late repetition would have it again.
    #[must_use]
    pub fn keep_for_ever(self) -> Self {
        Self { ttl: None, ..self }
    }

    /// The write that lets a key be used once: a guard with this tag. If it fails, its item goes to
    /// [`interpret_key_item`].
    #[must_use]
    pub fn record<Tag>(&self, tag: Tag, key: &RequestKey, answer: &str) -> TransactionWrite<Tag> {
        let mut put = Put::builder()
            .table_name(&self.table)
            .item("key", self.key(key))
            .item("fingerprint", text(&key.fingerprint))
            .item("answer", text(answer));
        if let Some(ttl) = self.ttl {
            let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
            put = put.item("expires_at", number(self.clock.now().as_second().saturating_add(ttl)));
        }
        let put = put
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", "key")
            .return_values_on_condition_check_failure(AllOld)
            .build()
            .expect("a put has a table and an item");
        TransactionWrite::new(Role::Guard(tag), TransactWriteItem::builder().put(put).build())
    }

    /// Where a key is: the name of its table, and its item's key, for a read together with other items
    /// ([`crate::table::batch_get_tables`]). The item goes to [`interpret_key_item`].
    #[must_use]
    pub fn location(&self, key: &RequestKey) -> (&str, Item) {
        (&self.table, Item::from([("key".to_owned(), self.key(key))]))
    }

    /// The request that used this key before, or `None` if the key is new.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn find(&self, key: &RequestKey) -> Result<Option<EarlierRequest>, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("key", self.key(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem idempotency key"))?;
        Ok(answer.item.map(|item| interpret_key_item(&item, &key.fingerprint)))
    }

    fn key(&self, RequestKey { scope, key, .. }: &RequestKey) -> AttributeValue {
        text(format!("{}#{scope}#{key}", self.function))
    }
}

/// What a stored key means for a request with this fingerprint.
#[must_use]
pub fn interpret_key_item(item: &Item, fingerprint: &str) -> EarlierRequest {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    match (text("fingerprint"), text("answer")) {
        (Some(first), Some(answer)) if first == fingerprint => {
            EarlierRequest::Replayed(answer.clone())
        }
        _ => EarlierRequest::KeyReused,
    }
}
