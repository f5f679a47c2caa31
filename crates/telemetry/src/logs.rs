//! JSON log lines on stdout: one flat object each, with the same fields in every function.
//!
//! In: events of the `tracing` crate, and the spans that they are in. Out: `timestamp`, `level`, `message`, `service`, `function`,
//! `cold_start`, then what the spans have recorded, the outermost first (`request_id` from the Lambda runtime's), then
//! the event's own fields. Guarantees: a line is written by one call; each name stands in it once, with the innermost value;
//! a level that hides an event hides no span, so an error is logged with the ids of its request or message at any level.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
};

use exactly_once::Clock;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::spans;

/// The span in which lambda_runtime handles an invocation.
const INVOCATION_SPAN: &str = "Lambda runtime invoke";
/// The field with the W3C trace context, of which lines have the trace's id.
const TRACEPARENT: &str = "traceparent";
/// How lambda_runtime calls Lambda's request id.
const INVOCATION_REQUEST_ID: &str = "requestId";

/// Starts logging at `LOG_LEVEL` (`info` where it is unset; the syntax is that of `Targets`: `debug`, or `info,http_api=debug`).
/// `service` is the function's name without the stack's. Call it once, first in `main`.
pub fn init(service: &str) {
    let level = std::env::var("LOG_LEVEL").unwrap_or_default();
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let write = |line: &str| {
        // Nobody is there to hear of a closed stdout.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    };
    let lines = JsonLines::new(service, &function, Clock::default(), write);
    let lines = lines.with_filter(EventLevel::read(&level));
    Registry::default().with(lines).with(spans::layer()).init();
}

/// Lets events through by their level, and all spans of the functions' own.
struct EventLevel(Targets);

impl EventLevel {
    fn read(level: &str) -> Self {
        // `Targets` takes a word that is no level for a target, of which it would log everything and of others nothing.
        let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
        let is_readable = level.split(',').all(|part| match part.split_once('=') {
            Some((target, level)) => !target.is_empty() && is_level(level),
            None => is_level(part),
        });
        // A level that nobody can read must not keep a function from starting.
        let targets = level.parse().ok().filter(|_| is_readable);
        Self(targets.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
    }

    fn is_let_through(&self, metadata: &Metadata<'_>) -> bool {
        (metadata.is_span() && *metadata.level() <= Level::INFO)
            || self.0.would_enable(metadata.target(), metadata.level())
    }
}

impl<S> Filter<S> for EventLevel {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.is_let_through(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_let_through(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0).max(Some(LevelFilter::INFO))
    }
}

/// Writes each event as a line.
struct JsonLines<W> {
    /// `service` and `function`, as they stand in each line.
    origin: String,
    clock: Clock,
    /// Invocations that have begun in this environment.
    invocations: AtomicU32,
    write: W,
}

impl<W> JsonLines<W> {
    fn new(service: &str, function: &str, clock: Clock, write: W) -> Self {
        let mut origin = Fields::default();
        origin.set("service", json(service));
        origin.set("function", json(function));
        let mut text = String::new();
        origin.append_to(&mut text);
        Self { origin: text, clock, invocations: AtomicU32::new(0), write }
    }
}

/// Names and values, these as JSON.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    /// Each with a comma before it.
    fn append_to(&self, line: &mut String) {
        for (name, value) in &self.0 {
            // Names are Rust's: they need no escape.
            let _ = write!(line, r#","{name}":{value}"#);
        }
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "null".to_owned())
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == TRACEPARENT {
            // The rest of it is nothing to look for.
            self.set("trace_id", json(value.split('-').nth(1).unwrap_or_default()));
            return;
        }
        if field.name() == spans::PARENT {
            // A span's, for a collector.
            return;
        }
        self.set(field.name(), json(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), json(&format!("{value:?}")));
    }
}

/// What the runtime's span says of an invocation: its request id alone.
#[derive(Default)]
struct InvocationFields(Fields);

impl Visit for InvocationFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == INVOCATION_REQUEST_ID {
            self.0.set("request_id", json(value));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let fields = if attributes.metadata().name() == INVOCATION_SPAN {
            if self.invocations.fetch_add(1, Ordering::Relaxed) == 0 {
                crate::count(&[("cold_starts", 1)], self.clock.now());
            }
            let mut fields = InvocationFields::default();
            attributes.record(&mut fields);
            fields.0
        } else {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            fields
        };
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = String::with_capacity(LINE_BYTES_USUAL);
        let _ = write!(
            line,
            r#"{{"timestamp":"{:.3}","level":"{}""#,
            self.clock.now(),
            event.metadata().level()
        );
        if let Some(at) = own.0.iter().position(|(name, _)| *name == "message") {
            let (_, message) = own.0.remove(at);
            let _ = write!(line, r#","message":{message}"#);
        }
        line.push_str(&self.origin);
        // The first invocation, and what was before it.
        let is_cold = self.invocations.load(Ordering::Relaxed) <= 1;
        let _ = write!(line, r#","cold_start":{is_cold}"#);
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let mut inherited = Fields::default();
        for span in spans {
            if let Some(fields) = span.extensions().get::<Fields>() {
                for (name, value) in &fields.0 {
                    if !own.0.iter().any(|(own, _)| own == name) {
                        inherited.set(name, value.clone());
                    }
                }
            }
        }
        inherited.append_to(&mut line);
        own.append_to(&mut line);
        line.push_str("}\n");
        (self.write)(&line);
    }
}

/// What most lines fit into.
const LINE_BYTES_USUAL: usize = 512;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::field::Empty;

    use super::*;

    /// What is logged at this level while `log` runs.
    fn logged(level: &str, log: impl FnOnce()) -> Vec<Value> {
        let lines = Arc::new(Mutex::new(String::new()));
        let written = lines.clone();
        let write = move |line: &str| written.lock().expect("no panic").push_str(line);
        let layer = JsonLines::new("order-api", "shop-order-api", Clock::default(), write);
        let subscriber = Registry::default().with(layer.with_filter(EventLevel::read(level)));
        tracing::subscriber::with_default(subscriber, log);
        let lines = lines.lock().expect("no panic");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn invocation(request_id: &str) -> tracing::Span {
        tracing::info_span!("Lambda runtime invoke", requestId = request_id, xrayTraceId = "Root=1")
    }

    #[test]
    fn a_line_has_its_function_its_invocation_and_what_its_spans_have_recorded() {
        let lines = logged("", || {
            invocation("6d7b5bb9-8d12-4b0a-9d0e-3b2f6c1a0f11").in_scope(|| {
                let span = tracing::info_span!(
                    "message",
                    order_id = Empty,
                    traceparent = Empty,
                    deliveries = 1
                );
                span.record("order_id", "b4");
                let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
                span.record("traceparent", traceparent);
                span.in_scope(|| tracing::info!(outcome = ?Some(1), "message \"handled\""));
            });
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let mut line = line.clone();
        let timestamp = line["timestamp"].take();
        let timestamp = timestamp.as_str().expect("a text");
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
        let wanted = json!({
            "timestamp": null,
            "level": "INFO",
            "message": "message \"handled\"",
            "service": "order-api",
            "function": "shop-order-api",
            "cold_start": true,
            "request_id": "6d7b5bb9-8d12-4b0a-9d0e-3b2f6c1a0f11",
            "order_id": "b4",
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "deliveries": 1,
            "outcome": "Some(1)",
        });
        assert_eq!(line, wanted);
    }

    #[test]
    fn only_the_first_invocation_of_an_environment_is_a_cold_start() {
        let lines = logged("", || {
            tracing::info!("before");
            for id in ["one", "two", "three"] {
                invocation(id).in_scope(|| tracing::info!("answered"));
            }
        });
        let cold: Vec<_> = lines.iter().map(|line| line["cold_start"].clone()).collect();
        assert_eq!(cold, [true, true, false, false]);
    }

    #[test]
    fn an_error_is_logged_with_its_ids_whatever_the_level() {
        for level in ["error", "warn", "http_api=error"] {
            let lines = logged(level, || {
                let span = tracing::info_span!("request", correlation_id = "c1");
                span.in_scope(|| {
                    tracing::info!("hidden");
                    tracing::error!(target: "http_api", "shown");
                });
            });
            assert_eq!(lines.len(), 1, "{level}: {lines:?}");
            assert_eq!(lines[0]["correlation_id"], "c1", "{level}");
        }
    }

    #[test]
    fn a_level_that_nobody_can_read_is_info() {
        for level in ["", "loud", "=,="] {
            let lines = logged(level, || {
                tracing::info!("shown");
                tracing::debug!("hidden");
            });
            assert_eq!(lines.len(), 1, "{level:?}: {lines:?}");
        }
    }

    #[test]
    fn a_name_stands_in_a_line_once_with_its_innermost_value() {
        let lines = logged("info", || {
            let outer = tracing::info_span!("outer", order_id = "1", reason = "a");
            let inner = tracing::info_span!(parent: &outer, "inner", order_id = "2");
            inner.in_scope(|| tracing::info!(reason = "b", "x"));
        });
        assert_eq!((&lines[0]["order_id"], &lines[0]["reason"]), (&json!("2"), &json!("b")));
    }

    /// The runtime's own layer names the span and its field: this test notices if another version does otherwise.
    #[test]
    fn the_lambda_runtime_names_its_span_and_request_id_as_this_module_reads_them() {
        use lambda_runtime::layers::trace::request_span;
        let mut context = lambda_runtime::Context::default();
        context.request_id = "r1".to_owned();
        let lines = logged("error", || {
            request_span(&context).in_scope(|| tracing::error!("x"));
        });
        assert_eq!(lines[0]["request_id"], "r1");
    }
}
