//! JSON log lines on stdout.

use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::spans;

/// Starts logging at `LOG_LEVEL` (`info` where it is unset; the syntax is that of `EnvFilter`). Call it once,
/// first in `main`.
pub fn init() {
    let level = std::env::var("LOG_LEVEL").unwrap_or_default();
    // A level that nobody can read must not keep a function from starting.
    let filter = EnvFilter::try_new(&level)
        .ok()
        .filter(|_| !level.is_empty())
        .unwrap_or_else(|| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_target(false)
        .with_filter(filter);
    tracing_subscriber::registry().with(lines).with(spans::layer()).init();
}
