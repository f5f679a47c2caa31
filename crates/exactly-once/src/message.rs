//! One message of a queue, as a handler sees it, and what a handler says of it.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::SqsMessage;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tracing::Span;

use crate::{
    Clock, TableError,
    error::{BoxError, ErrorChain},
    inbox::LEASE_MARGIN,
    transaction::CommitError,
};

/// The reason of a message that was given up, unless its failure has one of its own.
pub const RETRIES_EXHAUSTED: &str = "retries_exhausted";
/// The reason of a message whose body cannot be decoded.
pub const UNDECODABLE: &str = "undecodable";

/// One message, as the handler sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Message {
    /// Its id on the queue.
    pub message_id: String,
    /// The number of this delivery: 1 is the first.
    pub deliveries: u32,
    /// The body as it came.
    pub body: String,
    /// The attributes that are texts.
    pub attributes: BTreeMap<String, String>,
    /// Its message group, or `None` if it has none.
    pub group_id: Option<String>,
    /// When it was received first, or `None` if SQS does not say.
    pub first_received: Option<Timestamp>,
    /// When the handler has to have ended.
    pub deadline: Timestamp,
    /// The span in which the message's outcome is logged: what is recorded in it stands in that line.
    pub span: Span,
    pub(crate) clock: Clock,
}

impl Message {
    pub(crate) fn read(message: &SqsMessage, deadline: Timestamp, clock: &Clock) -> Self {
        let attributes = message.message_attributes.iter();
        let system = |name: &str| message.attributes.get(name);
        let number = |name: &str| system(name)?.parse::<i64>().ok();
        Self {
            message_id: message.message_id.clone().unwrap_or_default(),
            deliveries: number("ApproximateReceiveCount")
                .and_then(|count| count.try_into().ok())
                .unwrap_or(1),
            first_received: number("ApproximateFirstReceiveTimestamp")
                .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            group_id: system("MessageGroupId").cloned(),
            body: message.body.clone().unwrap_or_default(),
            attributes: attributes
                .filter_map(|(name, value)| Some((name.clone(), value.string_value.clone()?)))
                .collect(),
            deadline,
            span: Span::none(),
            clock: clock.clone(),
        }
    }

    /// How long the handler still has.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.clock.time_until(self.deadline)
    }

    /// The lease for an effect that may take all the time that the handler still has, for
    /// [`Inbox::idempotent`](crate::Inbox::idempotent): what the effect has not answered shortly before the deadline
    /// is unknown, and is recorded as that.
    #[must_use]
    pub fn lease(&self) -> Duration {
        let left = self.time_left().saturating_sub(RECORD_TIME);
        if left.is_zero() { Duration::ZERO } else { left + LEASE_MARGIN }
    }

    /// The body as JSON of this type.
    ///
    /// # Errors
    /// It is none: poison, with the reason [`UNDECODABLE`] and what is wrong.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.decode(|body| serde_json::from_str(body))
    }

    /// What this function makes of the body.
    ///
    /// # Errors
    /// The function refuses the body: poison, with the reason [`UNDECODABLE`] and the function's error.
    pub fn decode<T, E: Into<BoxError>>(
        &self,
        decode: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        decode(&self.body).map_err(|error| {
            let error = error.into();
            Failure::poison(UNDECODABLE, ErrorChain(error.as_ref()))
        })
    }
}

/// How long before the handler's deadline an effect is given up, to record its outcome.
const RECORD_TIME: Duration = Duration::from_millis(500);

/// What became of a message that needs no further delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Handled {
    /// It had its effect now.
    Done,
    /// It had its effect before, or the state has moved past it.
    Duplicate,
    /// This consumer has no use for it.
    Ignored,
}

/// Why a message could not be handled, and whether another try can help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Another try can help: a throttle, a time-out, a conflict, a service that is down.
    #[error("failed, for now")]
    #[non_exhaustive]
    Transient {
        /// What happened, for the log.
        #[source]
        error: BoxError,
        /// When to try again, if that is known better than by the schedule.
        retry_in: Option<Duration>,
        /// The stable code with which the message goes to the DLQ if no try has helped.
        reason: Cow<'static, str>,
    },
    /// No try can help: the message itself is wrong.
    #[error("{reason}: {detail}")]
    #[non_exhaustive]
    Poison {
        /// A stable code, by which an operator selects.
        reason: Cow<'static, str>,
        /// A sentence that says what is wrong.
        detail: String,
    },
}

impl Failure {
    /// A failure that passes with time.
    pub fn transient(error: impl Into<BoxError>) -> Self {
        Self::transient_because(RETRIES_EXHAUSTED, error)
    }

    /// The failure of one of several messages that share an error, such as that of a transaction of them all.
    #[must_use]
    pub fn shared(error: &Arc<TableError>) -> Self {
        if error.is_permanent() {
            Self::poison(permanent_reason(error), ErrorChain(error))
        } else {
            Self::transient(error.clone())
        }
    }

    /// A failure that may pass with time, and has a reason of its own if it does not: such as an event of a type that
    /// only the next deployment of this consumer knows.
    pub fn transient_because(
        reason: impl Into<Cow<'static, str>>,
        error: impl Into<BoxError>,
    ) -> Self {
        Self::Transient { error: error.into(), retry_in: None, reason: reason.into() }
    }

    /// A failure of which it is known when it will have passed.
    pub fn retry_in(retry_in: Duration, error: impl Into<BoxError>) -> Self {
        let (error, reason) = (error.into(), RETRIES_EXHAUSTED.into());
        Self::Transient { error, retry_in: Some(retry_in), reason }
    }

    /// A message that no retry can save.
    pub fn poison(reason: impl Into<Cow<'static, str>>, detail: impl fmt::Display) -> Self {
        Self::Poison { reason: reason.into(), detail: detail.to_string() }
    }
}

impl From<TableError> for Failure {
    /// What is wrong in itself is poison: an operator repairs it and redrives the message.
    fn from(error: TableError) -> Self {
        if !error.is_permanent() {
            return Self::transient(error);
        }
        Self::poison(permanent_reason(&error), ErrorChain(&error))
    }
}

fn permanent_reason(error: &TableError) -> &'static str {
    match error {
        TableError::CorruptItem { .. } => "corrupt_item",
        _ => "invalid_transaction",
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        TableError::from(error).into()
    }
}
