//! The order service: what was ordered, and what became of it.
//!
//! In: HTTP calls (order-api), and what the product and the payment service reply (order-consumer). Out: the
//! events of orders. Guarantees: an order that was answered with 201 is
//! stored together with its event, so it is carried on whatever happens next; its status only ever moves
//! forward, and each transition has one event.

pub mod awaiting_payment;
pub mod client_limit;
pub mod dynamodb;
pub mod http;
pub mod openapi;
pub mod order_index;
pub mod order_token;
mod outcomes;
pub mod rules;
pub mod stripe_amount;
pub mod tags;
pub mod wiring;
