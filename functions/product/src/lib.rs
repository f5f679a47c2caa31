//! The product service: what can be sold, and how much of it there is.
//!
//! In: HTTP calls (product-api) and the events OrderCreated, OrderCancelled and OrderExpired (product-consumer). Out: the
//! events StockReserved, StockRejected and StockReleased. Guarantees: stock is never below zero; an order
//! takes all of its lines or none, once; what a cancelled order has taken comes back, once.

pub mod dynamodb;
pub mod http;
pub mod openapi;
pub mod rules;
pub mod wiring;
