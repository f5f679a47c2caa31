//! The analytics service: how many pieces, and for how much, came to which status on which day.
//!
//! In: the events of orders (analytics-consumer); an administrator's calls (analytics-api). Out: rows by day, product, status
//! and currency. Guarantees: each event is counted once, however often and in whatever order it comes; sums are whole numbers;
//! counted anew from the event log, under another generation, the rows are the same.

pub mod dynamodb;
pub mod http;
pub mod openapi;
pub mod rules;
pub mod wiring;
