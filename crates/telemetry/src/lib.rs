//! What a function tells its operators: JSON log lines, metrics in CloudWatch's embedded format, and the
//! trace that one request leaves through all services.
//!
//! In: events of the `tracing` crate, counts, and the `traceparent` of a caller. Out: one JSON object a
//! line on stdout, where Lambda takes logs and metrics from. Guarantees: no line is written in two parts,
//! and a malformed `traceparent` starts a new trace instead of failing a request.

mod logs;
mod metrics;
mod spans;
mod trace;

pub use logs::init;
pub use metrics::{count, gauge, report};
pub use spans::{flush, flush_at_the_end, is_recording};
pub use trace::{Trace, child};
