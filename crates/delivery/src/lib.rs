//! Exactly-once effects over at-least-once delivery, on DynamoDB, SNS and SQS.
//!
//! Five parts, which know nothing of what the messages are about:
//!
//! - [`transaction`]: commits a list of writes, each with its [`Role`], and says what a cancellation meant. Survives
//!   conflicts and throttling; never takes one refusal for another.
//! - [`inbox`]: an event takes effect once. Either its marker is written in the transaction of the effect,
//!   so that there is no moment in which only one of them exists; or, for an effect that no transaction can
//!   hold, a lease with an owner guards it, so that it is repeated at worst after a crash, and never lost.
//! - [`outbox`]: an event is stored in the transaction of the change that it reports, and published
//!   afterwards. A crash between leaves it pending, and a sweep publishes it: at least once, always.
//! - [`idempotency_keys`]: a client's request takes effect once, and its repetition gets the first answer again.
//! - [`batch`]: an SQS batch message by message, so that one bad message holds up no other.
//!
//! Together: outbox delivers at least once, inbox takes it once. What they share: [`table`] (reads and errors of
//! tables), [`batching`], [`backoff`] and [`error`].

#![warn(missing_docs)]

pub mod backoff;
pub mod batch;
pub mod batching;
pub mod error;
pub mod idempotency_keys;
pub mod inbox;
pub mod outbox;
pub mod shards;
pub mod table;
pub mod transaction;

pub use backoff::Backoff;
pub use batch::{
    Consumer, Failure, Handled, Incoming, LogObserver, Observer, Outcome, RETRIES_EXHAUSTED,
};
pub use error::{CallError, ErrorChain, panic_message};
pub use idempotency_keys::{EarlierRequest, IdempotencyKeys, RequestKey};
pub use inbox::{Claim, Inbox};
pub use outbox::{Outbox, Outgoing};
pub use shards::Shards;
pub use table::{Item, TableError};
pub use transaction::{Commit, CommitError, Role, TransactionWrite, commit};
