//! What every access to a DynamoDB table shares: attribute values, conditional writes as outcomes, reads in
//! batches, counts of index partitions, and an error that says whether another try can help.
//!
//! In: keys and answers of the SDK. Out: items, counts, or a [`TableError`]. Guarantee: what a throttled table leaves
//! out of a batch is asked for again, after a jittered pause, and never taken for a missing item.

use std::{borrow::Cow, collections::HashMap};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{AttributeValue, KeysAndAttributes, Select},
};

use crate::{
    CallError,
    backoff::jittered_exponential,
    error::BoxError,
    transaction::{CommitError, PAUSE_FIRST, PAUSE_MAX},
};

/// An item of a DynamoDB table.
pub type Item = HashMap<String, AttributeValue>;

/// Maximum number of keys in one BatchGetItem call.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
pub const BATCH_GET_KEYS_MAX: usize = 100;
/// Maximum number of BatchGetItem calls for one list of keys.
const BATCH_GET_ATTEMPTS_MAX: u32 = 5;

/// A table could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A transaction failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// DynamoDB kept leaving keys of a batch unprocessed: the table is throttled.
    #[error("{operation} left keys unprocessed in every attempt")]
    Unprocessed {
        /// Which call of what.
        operation: Cow<'static, str>,
    },
    /// Others kept changing what was to be changed.
    #[error("others kept changing {subject}")]
    Contended {
        /// What they changed.
        subject: Cow<'static, str>,
    },
    /// An item does not have the form in which it was written. Reading it again cannot help.
    #[error("an item of {table} cannot be read")]
    CorruptItem {
        /// Which table.
        table: String,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
}

impl TableError {
    /// An item that cannot be read, for `map_err`.
    pub fn corrupt<E: Into<BoxError>>(table: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::CorruptItem { table: table.to_owned(), source: error.into() }
    }

    /// Whether a write may have been carried out although it failed.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        const SERVER_FAULTS: [&str; 3] =
            ["InternalServerError", "InternalFailure", "ServiceUnavailable"];
        match self {
            Self::Commit(error) => matches!(error, CommitError::Unknown(_)),
            Self::Call(error) => {
                error.code.as_deref().is_none_or(|code| SERVER_FAULTS.contains(&code))
            }
            Self::Unprocessed { .. } | Self::Contended { .. } | Self::CorruptItem { .. } => false,
        }
    }

    /// Whether another try would fail in the same way, because the request or an item is wrong in itself.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::CorruptItem { .. } | Self::Commit(CommitError::Invalid(_)) => true,
            Self::Call(error) => error.code.as_deref() == Some("ValidationException"),
            Self::Commit(_) | Self::Unprocessed { .. } | Self::Contended { .. } => false,
        }
    }
}

/// A text attribute.
pub fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute.
pub fn number(number: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(number.into().to_string())
}

/// Whether a write with a condition was carried out; `false` if its condition failed.
///
/// # Errors
/// The call failed in another way.
pub fn is_applied<T, E, R>(
    sent: Result<T, SdkError<E, R>>,
    operation: impl Into<Cow<'static, str>>,
) -> Result<bool, TableError>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(error) => Err(CallError::of(operation)(error).into()),
    }
}

/// What a read of several keys came to.
#[derive(Debug, Default, PartialEq)]
pub struct BatchRead {
    /// The items that there are, in no order.
    pub items: Vec<Item>,
    /// Number of keys that a throttled table left unprocessed in every attempt.
    pub unprocessed: usize,
}

/// What a read of keys of several tables came to.
#[derive(Debug, Default, PartialEq)]
pub struct TablesRead {
    /// The items that there are by the name of their table, in no order.
    pub items: HashMap<String, Vec<Item>>,
    /// Number of keys, of whichever table, that were left unprocessed in every attempt.
    pub unprocessed: usize,
}

/// Reads the items of these keys consistently, asking again, after a jittered pause, for what is left out.
///
/// # Errors
/// A call failed.
pub async fn batch_get(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    operation: impl Into<Cow<'static, str>>,
) -> Result<BatchRead, TableError> {
    let keys = keys.into_iter().map(|key| (table, key)).collect();
    let mut read = batch_get_tables(client, keys, operation).await?;
    let items = read.items.remove(table).unwrap_or_default();
    Ok(BatchRead { items, unprocessed: read.unprocessed })
}

/// The same for who needs all of them.
///
/// # Errors
/// A call failed, or some keys were left unprocessed in every attempt.
pub async fn batch_get_all(
    client: &Client,
    table: &str,
    keys: Vec<Item>,
    operation: &'static str,
) -> Result<Vec<Item>, TableError> {
    let read = batch_get(client, table, keys, operation).await?;
    if read.unprocessed > 0 {
        return Err(TableError::Unprocessed { operation: operation.into() });
    }
    Ok(read.items)
}

/// As [`batch_get`], for keys of several tables, each with the name of its table.
///
/// # Errors
/// A call failed.
pub async fn batch_get_tables(
    client: &Client,
    keys: Vec<(&str, Item)>,
    operation: impl Into<Cow<'static, str>>,
) -> Result<TablesRead, TableError> {
    let (mut read, operation) = (TablesRead::default(), operation.into());
    for keys in keys.chunks(BATCH_GET_KEYS_MAX) {
        let mut unread: HashMap<String, Vec<Item>> = HashMap::new();
        for (table, key) in keys {
            unread.entry((*table).to_owned()).or_default().push(key.clone());
        }
        read.unprocessed += batch_get_chunk(client, unread, &operation, &mut read.items).await?;
    }
    Ok(read)
}

/// Reads as many keys as one call takes, and returns how many were left unprocessed.
async fn batch_get_chunk(
    client: &Client,
    mut unread: HashMap<String, Vec<Item>>,
    operation: &str,
    items: &mut HashMap<String, Vec<Item>>,
) -> Result<usize, TableError> {
    for attempt in 0..BATCH_GET_ATTEMPTS_MAX {
        if unread.is_empty() {
            break;
        }
        if attempt > 0 {
            let pause = jittered_exponential(attempt - 1, PAUSE_FIRST, PAUSE_MAX, fastrand::f64());
            tokio::time::sleep(pause).await;
        }
        let keys = unread.into_iter().map(|(table, keys)| {
            let keys = KeysAndAttributes::builder()
                .consistent_read(true)
                .set_keys(Some(keys))
                .build()
                .expect("a read has keys");
            (table, keys)
        });
        let answer = client
            .batch_get_item()
            .set_request_items(Some(keys.collect()))
            .send()
            .await
            .map_err(CallError::of(operation.to_owned()))?;
        for (table, more) in answer.responses.into_iter().flatten() {
            items.entry(table).or_default().extend(more);
        }
        let unprocessed = answer.unprocessed_keys.into_iter().flatten();
        unread = unprocessed.map(|(table, keys)| (table, keys.keys)).collect();
    }
    Ok(unread.values().map(Vec::len).sum())
}

/// Counts one partition of an index, over all its pages.
///
/// `before` is a sort key and a value: only items that sort before it are counted.
///
/// # Errors
/// A call failed.
pub async fn count_partition(
    client: &Client,
    (table, index): (&str, &str),
    (partition_key, partition): (&str, &str),
    before: Option<(&str, &str)>,
    operation: impl Into<Cow<'static, str>>,
) -> Result<u64, TableError> {
    let (mut count, operation) = (0, operation.into());
    let mut start = None;
    loop {
        let mut query = client
            .query()
            .table_name(table)
            .index_name(index)
            .expression_attribute_values(":partition", text(partition))
            .select(Select::Count)
            .set_exclusive_start_key(start);
        query = match before {
            None => query.key_condition_expression(format!("{partition_key} = :partition")),
            Some((sort_key, before)) => query
                .key_condition_expression(format!(
                    "{partition_key} = :partition AND {sort_key} < :before"
                ))
                .expression_attribute_values(":before", text(before)),
        };
        let page = query.send().await.map_err(CallError::of(operation.clone()))?;
        count += u64::try_from(page.count).unwrap_or_default();
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(count);
        }
    }
}
