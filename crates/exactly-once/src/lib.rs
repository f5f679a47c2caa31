#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod backoff;
pub mod batch;
pub mod batching;
#[cfg(feature = "outbox")]
mod caused;
mod clock;
mod dead_letter;
pub mod error;
pub mod idempotency_keys;
pub mod inbox;
#[cfg(feature = "lambda")]
mod lambda;
mod message;
mod observer;
#[cfg(feature = "outbox")]
pub mod outbox;
pub mod shards;
pub mod table;
pub mod transaction;

pub use backoff::Backoff;
pub use batch::{Answers, Consumer};
#[cfg(feature = "outbox")]
pub use caused::{CausedEvents, Decided};
pub use clock::{Clock, Ids, invocation_deadline};
pub use dead_letter::is_failure_attribute;
pub use error::{CallError, ErrorChain, panic_message};
pub use idempotency_keys::{EarlierRequest, IdempotencyKeys, RequestKey};
pub use inbox::{Claim, Effect, EffectError, EffectKey, IdempotentError, Inbox};
pub use message::{Failure, Handled, Message, RETRIES_EXHAUSTED, UNDECODABLE};
pub use observer::{LogObserver, Observer, Outcome};
#[cfg(feature = "outbox")]
pub use outbox::{Outbox, Outgoing};
pub use shards::Shards;
pub use table::{Item, TableError};
pub use transaction::{
    Commit, CommitError, CommitTogether, Role, TransactionWrite, commit, commit_together,
};
