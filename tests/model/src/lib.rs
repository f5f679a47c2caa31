//! The saga of an order as a model that is checked exhaustively.
//!
//! In: a [`Scenario`], which is some stock and a few orders. Out, from a model checker: every state that these
//! orders can come to, whatever is delivered twice, late or out of order, whatever process is lost where,
//! and whenever the customer cancels; and whether each of them keeps what [`properties`] promise.
//!
//! What is decided, and what a cancelled transaction means, is decided by the functions that the services
//! themselves call: `order::rules`, `product::rules` and `exactly_once::transaction::interpret_cancellation`. What is modelled
//! is what surrounds them:
//!
//! - [`tables`]: rows, conditions and transactions, and how DynamoDB reports a transaction that it cancels.
//! - [`saga`]: what the services do in which order, the queues, and everything that goes wrong.
//!
//! Orders are not paid there. How one is paid, expires and is refunded is a model of its own ([`payment`]), which begins where stock is taken.
//!
//! How few states cover so much: a message is not counted. It waits or it was acknowledged, it may be
//! received any number of times, also by several processes at a time, and it may come back at any moment.
//! So duplicates and losses need no bound, and the space is finite all the same. Bounded are the orders, and
//! how many processes act on what they have read at the same moment.
//!
//! Left out: events that neither product-consumer nor order-consumer takes. They are stored in the same
//! transactions and published in the same way, and nothing here depends on when.

pub mod payment;
pub mod properties;
pub mod saga;
pub mod tables;

pub use saga::{Saga, Seen};
pub use tables::{Condition, Scenario};
