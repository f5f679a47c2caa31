//! The operator's command against a stack, one test at a time: several of them pause consumers.

mod analytics;
mod commands;
mod customer;
mod dead_letters;
mod lists;
mod log_level;
mod orders;
mod reconcile;
mod replay;
mod suppressed;
mod timeline;

use serde_json::Value;

/// What a status says of the queue `product`.
fn product_queue(status: &Value) -> &Value {
    let mut queues = status["queues"].as_array().into_iter().flatten();
    queues.find(|queue| queue["name"] == "product").unwrap_or(&Value::Null)
}
