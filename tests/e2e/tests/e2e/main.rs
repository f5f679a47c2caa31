//! The behaviour of a deployed stack, seen from outside. The tests share the stack and run side by side: each
//! has products, customers and orders of its own.

mod analytics;
mod batch;
mod bounces;
mod concurrency;
mod description;
mod duplicates;
mod input;
mod journey;
mod lease;
mod order_token;
mod poison;
mod products;
mod saga;
mod tags;
