//! Who hears what became of messages: for logs and metrics.
//!
//! In: outcomes. Out: whatever the observer makes of them; [`LogObserver`] logs one line for each message.

use std::{borrow::Cow, fmt, time::Duration};

use tracing::Span;

use crate::{
    Handled, Message,
    error::{BoxError, ErrorChain},
};

/// What became of one message.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is acknowledged.
    Handled(Handled),
    /// It will be delivered again.
    #[non_exhaustive]
    Retried {
        /// Why.
        error: BoxError,
        /// When, if SQS took the pause.
        retry_in: Duration,
    },
    /// It was moved to the DLQ.
    #[non_exhaustive]
    DeadLettered {
        /// The stable code of what is wrong with it.
        reason: Cow<'static, str>,
    },
    /// It was not begun, and will be delivered again: there was no time left, or an earlier message of its group in a
    /// FIFO queue failed.
    NotStarted,
}

impl Outcome {
    /// Whether the message stays on the queue.
    #[must_use]
    pub fn is_redelivered(&self) -> bool {
        matches!(self, Self::Retried { .. } | Self::NotStarted)
    }
}

/// Hears of every outcome: for logs and metrics. It must neither block nor panic.
pub trait Observer: fmt::Debug + Send + Sync {
    /// The span in which a message is handled and its outcome is reported.
    fn span(&self, consumer: &str, message: &Message) -> Span;

    /// One message has come to this, within its span.
    fn message_ended(&self, outcome: &Outcome);

    /// The whole batch has come to this.
    fn batch_ended(&self, outcomes: &[Outcome]);
}

/// Logs one line for each message by `tracing`, and counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogObserver;

impl Observer for LogObserver {
    fn span(&self, consumer: &str, message: &Message) -> Span {
        let Message { message_id, deliveries, .. } = message;
        tracing::info_span!("message", consumer, message_id, deliveries)
    }

    fn message_ended(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Handled(handled) => tracing::info!(outcome = ?handled, "message handled"),
            Outcome::Retried { error, retry_in } => tracing::warn!(
                outcome = "Retried",
                error = %ErrorChain(error.as_ref()),
                retry_in_seconds = retry_in.as_secs(),
                "message failed"
            ),
            Outcome::DeadLettered { reason } => tracing::error!(
                outcome = "DeadLettered",
                reason = reason.as_ref(),
                "message moved to the DLQ"
            ),
            Outcome::NotStarted => {
                tracing::warn!(outcome = "NotStarted", "message given back unbegun");
            }
        }
    }

    fn batch_ended(&self, _: &[Outcome]) {}
}
