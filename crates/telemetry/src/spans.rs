//! Spans of OpenTelemetry, sent to a collector.
//!
//! In: the spans `request`, `batch`, `message` and `publish` of `tracing`, each with the `traceparent` that its events are published
//! with. Out: OTLP over HTTP to `OTEL_EXPORTER_OTLP_ENDPOINT`, named by the conventions of
//! <https://opentelemetry.io/docs/specs/semconv/messaging/> and <https://opentelemetry.io/docs/specs/semconv/http/>. Guarantees: ids are those
//! of the events, never new ones, so that what was stored and published later joins its trace; nothing is sent of a trace whose caller
//! does not sample it; a collector that is slow or gone takes [`FLUSH_TIMEOUT`] of an invocation and fails none.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use exactly_once::{Clock, Ids};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter, SpanLinks},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{
    Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    layer::Context,
    registry::LookupSpan,
};

/// How long an invocation waits for the collector before its environment may be frozen.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(50);
/// Maximum number of spans that wait for a collector: what is older goes, because what happens now is looked for.
const SPANS_MAX: usize = 2_048;

/// The spans that are sent, by their names in `tracing`.
const KINDS: [(&str, SpanKind); 4] = [
    ("request", SpanKind::Server),
    ("batch", SpanKind::Client),
    ("message", SpanKind::Consumer),
    ("publish", SpanKind::Producer),
];

/// The field with the parent's `traceparent`, which is recorded if a collector is named.
pub(crate) const PARENT: &str = "parent";
const HTTP_STATUS: &str = "http.response.status_code";

/// What a field is called by the conventions.
const ATTRIBUTES: [(&str, &str); 11] = [
    ("method", "http.request.method"),
    ("route", "http.route"),
    ("status", HTTP_STATUS),
    ("consumer", "messaging.consumer.group.name"),
    ("topic", "messaging.destination.name"),
    ("messages", "messaging.batch.message_count"),
    ("message_id", "messaging.message.id"),
    ("correlation_id", "messaging.message.conversation_id"),
    ("event_id", "orderflow.event.id"),
    ("event_type", "orderflow.event.type"),
    ("order_id", "orderflow.order.id"),
];

static SPANS: OnceLock<Spans> = OnceLock::new();

/// Where spans are recorded, if a collector is named.
pub(crate) fn layer<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let endpoint =
        std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|url| !url.is_empty())?;
    let spans = Spans::new(&endpoint)?;
    let spans = SPANS.get_or_init(|| spans).clone();
    let filter = filter_fn(|metadata| match metadata.is_span() {
        true => KINDS.iter().any(|(name, _)| *name == metadata.name()),
        false => *metadata.level() <= Level::WARN,
    });
    Some(SpanLayer { spans }.with_filter(filter.with_max_level_hint(LevelFilter::DEBUG)))
}

/// Whether a collector is named: then spans have to know their parents.
#[must_use]
pub fn is_recording() -> bool {
    SPANS.get().is_some()
}

/// Sends what was recorded, or leaves it for the next time if the collector takes longer than an invocation waits.
pub async fn flush() {
    if let Some(spans) = SPANS.get() {
        spans.flush().await;
    }
}

/// Waits for Lambda to end the environment, which it announces where an extension is registered, and sends what is left.
/// <https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown>
pub fn flush_at_the_end() {
    if !is_recording() {
        return;
    }
    tokio::spawn(async {
        let Ok(mut signal) = signal(SignalKind::terminate()) else { return };
        signal.recv().await;
        flush().await;
        std::process::exit(0);
    });
}

/// The spans that have ended, and their way to the collector.
#[derive(Debug, Clone)]
struct Spans {
    ended: Arc<Mutex<Vec<SpanData>>>,
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
}

impl Spans {
    /// `None` if no exporter can be made for this address: that keeps no function from starting.
    fn new(endpoint: &str) -> Option<Self> {
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(SdkHttp(
                Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build(),
            ))
            .with_endpoint(url)
            .build();
        let mut exporter = match exporter {
            Ok(exporter) => exporter,
            Err(error) => {
                eprintln!("no spans are sent to {endpoint}: {error}");
                return None;
            }
        };
        let service =
            std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "orderflow".into());
        let resource = Resource::builder_empty().with_service_name(service.clone());
        let resource = resource.with_attribute(KeyValue::new("faas.name", service));
        exporter.set_resource(&resource.build());
        Some(Self { ended: Arc::default(), exporter: Arc::new(exporter) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SpanData>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, span: SpanData) {
        let mut ended = self.lock();
        if ended.len() == SPANS_MAX {
            ended.remove(0);
        }
        ended.push(span);
    }

    async fn flush(&self) {
        let ended = std::mem::take(&mut *self.lock());
        if ended.is_empty() {
            return;
        }
        let sent = tokio::time::timeout(FLUSH_TIMEOUT, self.exporter.export(ended.clone())).await;
        if !matches!(sent, Ok(Ok(()))) {
            // Not logged: each invocation would say so, and what is missing shows where spans are looked at.
            let mut waiting = self.lock();
            let newer = std::mem::replace(&mut *waiting, ended);
            waiting.extend(newer);
            let too_many = waiting.len().saturating_sub(SPANS_MAX);
            waiting.drain(..too_many);
        }
    }
}

/// The SDK's own HTTP connector, which every function has.
#[derive(Debug)]
struct SdkHttp(Connector);

#[async_trait]
impl HttpClient for SdkHttp {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = HttpRequest::try_from(request.map(SdkBody::from))?;
        let answer = self.0.call(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().bytes().map(Bytes::copy_from_slice).unwrap_or_default();
        Ok(Response::builder().status(status).body(body)?)
    }
}

/// Turns spans of `tracing` into spans of OpenTelemetry.
#[derive(Debug)]
struct SpanLayer {
    spans: Spans,
}

/// A span that has not ended.
#[derive(Debug)]
struct Draft {
    kind: SpanKind,
    begun: SystemTime,
    fields: Fields,
    /// When its answer was there: what is deferred until after it is no part of it.
    answered: Option<SystemTime>,
    links: Vec<Link>,
}

#[derive(Debug, Default)]
struct Fields {
    /// What its events are published with: its own id.
    traceparent: Option<SpanContext>,
    /// Its parent's: what came with the request or the message.
    parent: Option<SpanContext>,
    attributes: Vec<KeyValue>,
    failure: Option<String>,
}

impl Fields {
    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let attribute = self.attributes.iter().find(|one| one.key.as_str() == name)?;
        match &attribute.value {
            Value::String(text) => Some(Cow::Borrowed(text.as_str())),
            other => Some(other.as_str()),
        }
    }

    fn http_status(&self) -> Option<i64> {
        let status = self.attributes.iter().find(|one| one.key.as_str() == HTTP_STATUS)?;
        if let Value::I64(status) = status.value { Some(status) } else { None }
    }

    fn set(&mut self, field: &Field, value: Value) {
        let Some((_, name)) = ATTRIBUTES.iter().find(|(of, _)| *of == field.name()) else { return };
        self.attributes.retain(|one| one.key.as_str() != *name);
        self.attributes.push(KeyValue::new(*name, value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "traceparent" => self.traceparent = span_context(value),
            PARENT => self.parent = span_context(value),
            "outcome" | "error" => self.failure = Some(value.to_owned()),
            _ => self.set(field, value.to_owned().into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, i64::try_from(value).unwrap_or(i64::MAX).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The span that a `traceparent` names (<https://www.w3.org/TR/trace-context/#traceparent-header>).
fn span_context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let name = attributes.metadata().name();
        let Some((_, kind)) = KINDS.iter().find(|(of, _)| *of == name) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let (kind, begun) = (kind.clone(), now());
        let draft = Draft { kind, begun, fields, answered: None, links: Vec::new() };
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(draft);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(draft) = span.extensions_mut().get_mut::<Draft>() {
            values.record(&mut draft.fields);
            if draft.fields.http_status().is_some() {
                draft.answered = Some(now());
            }
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else { return };
        let mut of_event = Fields::default();
        event.record(&mut of_event);
        if let Some(draft) = span.extensions_mut().get_mut::<Draft>() {
            draft.fields.failure = of_event.failure.or(Some("failed".to_owned()));
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(draft) = span.extensions_mut().remove::<Draft>() else { return };
        let Some(data) = span_data(span.name(), draft) else { return };
        // A batch is of many traces: it is linked with each.
        if data.span_kind == SpanKind::Consumer
            && let Some(batch) = span.parent()
            && let Some(batch) = batch.extensions_mut().get_mut::<Draft>()
        {
            batch.links.push(Link::with_context(data.span_context.clone()));
        }
        self.spans.add(data);
    }
}

/// `None` if it is not sampled.
fn span_data(name: &str, draft: Draft) -> Option<SpanData> {
    let Draft { kind, begun, mut fields, answered, links } = draft;
    let ids = || {
        let ids = Ids::default();
        let span = SpanId::from_bytes(ids.random().as_u64_pair().0.to_be_bytes());
        (TraceId::from_bytes(ids.random().into_bytes()), span)
    };
    let (context, parent) = match (&fields.traceparent, &fields.parent) {
        (Some(own), parent) => {
            (own.clone(), parent.clone().filter(|p| p.trace_id() == own.trace_id()))
        }
        // A publication is a span of its own, within the trace of its event.
        (None, Some(parent)) => {
            let (_, span) = ids();
            let (trace, flags) = (parent.trace_id(), parent.trace_flags());
            (
                SpanContext::new(trace, span, flags, false, TraceState::default()),
                Some(parent.clone()),
            )
        }
        // A batch is of no trace, and is worth a look if one of its messages is.
        (None, None) if links.is_empty() => return None,
        (None, None) => {
            let (trace, span) = ids();
            let context =
                SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default());
            (context, None)
        }
    };
    if !context.is_sampled() {
        return None;
    }
    let text = |name| fields.text(name).unwrap_or_default();
    let title = match name {
        "request" => format!("{} {}", text("http.request.method"), text("http.route")),
        "batch" => format!("receive {}", text("messaging.consumer.group.name")),
        "message" => format!("process {}", text("messaging.consumer.group.name")),
        _ => format!("send {}", text("messaging.destination.name")),
    };
    let operation = title.split(' ').next().unwrap_or_default().to_owned();
    if kind != SpanKind::Server {
        let system = if kind == SpanKind::Producer { "aws.sns" } else { "aws_sqs" };
        fields.attributes.push(KeyValue::new("messaging.system", system));
        fields.attributes.push(KeyValue::new("messaging.operation.type", operation.clone()));
        fields.attributes.push(KeyValue::new("messaging.operation.name", operation));
    }
    if let Some(status) = fields.http_status().filter(|status| *status >= 500) {
        fields.failure = Some(status.to_string());
    }
    let mut span_links = SpanLinks::default();
    span_links.links = links;
    Some(SpanData {
        span_context: context,
        parent_span_id: parent.as_ref().map_or(SpanId::INVALID, SpanContext::span_id),
        parent_span_is_remote: parent.is_some(),
        span_kind: kind,
        name: title.into(),
        start_time: begun,
        end_time: answered.unwrap_or_else(now),
        attributes: fields.attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: span_links,
        status: fields.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder("orderflow").build(),
    })
}

/// For people: nothing is decided by it.
fn now() -> SystemTime {
    Clock::default().now().into()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::time::Instant;
    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";

    fn recorded(work: impl FnOnce()) -> Vec<SpanData> {
        let spans = Spans::new("http://127.0.0.1:1").expect("an exporter");
        let subscriber = registry().with(SpanLayer { spans: spans.clone() });
        tracing::subscriber::with_default(subscriber, work);
        let ended = spans.lock();
        ended.clone()
    }

    #[test]
    fn a_message_has_the_id_that_its_events_are_published_with_and_its_batch_is_linked() {
        let spans = recorded(|| {
            let batch = tracing::debug_span!("batch", consumer = "product", messages = 1);
            let _batch = batch.enter();
            let message = tracing::info_span!(
                "message",
                consumer = "product",
                traceparent = OWN,
                parent = PARENT
            );
            let _message = message.enter();
            tracing::warn!(outcome = "Retried", "message failed");
        });
        let [message, batch] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!(message.name, "process product");
        assert_eq!(message.span_context.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(message.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(message.status, Status::error("Retried"));
        assert_eq!(batch.name, "receive product");
        assert_eq!(batch.links.links[0].span_context, message.span_context);
        assert_ne!(batch.span_context.trace_id(), message.span_context.trace_id());
    }

    #[test]
    fn a_publication_is_a_span_in_the_trace_of_its_event_and_a_foreign_parent_is_none() {
        let spans = recorded(|| {
            drop(tracing::debug_span!("publish", topic = "orders", parent = OWN));
            let elsewhere = "00-11111111111111111111111111111111-b7ad6b7169203331-01";
            drop(tracing::info_span!("message", traceparent = OWN, parent = elsewhere));
        });
        assert_eq!(spans[0].name, "send orders");
        assert_eq!(spans[0].parent_span_id.to_string(), "00f067aa0ba902b7");
        assert_ne!(spans[0].span_context.span_id(), spans[0].parent_span_id);
        assert_eq!(spans[1].parent_span_id, SpanId::INVALID);
    }

    #[test]
    fn a_trace_that_its_caller_does_not_sample_is_not_sent() {
        let spans = recorded(|| {
            drop(tracing::info_span!("message", traceparent = OWN.replace("-01", "-00")));
            drop(tracing::info_span!("batch", consumer = "product", messages = 1));
        });
        assert!(spans.is_empty(), "{spans:?}");
    }

    #[tokio::test]
    async fn a_collector_that_does_not_answer_takes_fifty_milliseconds_and_no_span() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
        let spans = Spans::new(&endpoint).expect("an exporter");
        let subscriber = registry().with(SpanLayer { spans: spans.clone() });
        tracing::subscriber::with_default(subscriber, || {
            drop(tracing::info_span!("message", traceparent = OWN));
        });
        let begun = Instant::now();
        spans.flush().await;
        let took = begun.elapsed();
        assert!(took >= FLUSH_TIMEOUT && took < FLUSH_TIMEOUT * 10, "{took:?}");
        assert_eq!(spans.lock().len(), 1, "it is for the next time");
    }
}
