//! One order is one trace: the functions of this stack send their spans to a collector within this test, which is deployed as
//! `TracesEndpoint`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use axum::{Router, body::Bytes, routing::post};
use e2e::{Queue, Seconds, Stack, api::order_body, eventually};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use serde_json::{Value, json};

/// OTLP's own port; `make e2e-alone` deploys it.
const COLLECTOR: &str = "127.0.0.1:4318";
const CALLER: &str = "b7ad6b7169203331";

/// Spans, with the service that each is of.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

impl Collector {
    async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(COLLECTOR).await.context(COLLECTOR)?;
        let collector = Self::default();
        let received = collector.clone();
        let route = post(move |body: Bytes| async move { received.receive(&body) });
        let app = Router::new().route("/v1/traces", route);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(collector)
    }

    fn receive(&self, body: &[u8]) {
        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
        for of_service in request.resource_spans {
            let attributes = of_service.resource.unwrap_or_default().attributes;
            let name = attributes.into_iter().find(|one| one.key == "service.name");
            let service = format!("{:?}", name.and_then(|name| name.value));
            let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(spans.map(|span| (service.clone(), span)));
        }
    }

    fn all(&self) -> Vec<(String, Span)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of a trace.
    fn of(&self, trace: &str) -> Vec<Span> {
        let all = self.all().into_iter().map(|(_, span)| span);
        all.filter(|span| hex(&span.trace_id) == trace).collect()
    }

    fn count(&self, trace: &str, name: &str) -> usize {
        self.of(trace).iter().filter(|span| span.name == name).count()
    }

    async fn wait_for(&self, trace: &str, name: &str, count: usize) -> Result<()> {
        eventually(&format!("{count} spans {name:?} of trace {trace}"), 60.secs(), async || {
            Ok((self.count(trace, name) >= count).then_some(()))
        })
        .await
        .with_context(|| {
            let names: Vec<String> = self.of(trace).into_iter().map(|span| span.name).collect();
            format!("there are {names:?}")
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(span: &'a Span, name: &str) -> Option<&'a str> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|one| one.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A trace that nothing else has.
fn new_trace() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[tokio::test]
async fn an_order_is_one_trace_relayed_and_redriven_events_included() -> Result<()> {
    let stack = Stack::load().await?;
    let collector = Collector::start().await?;
    let product = stack.api.product("Traced", "1", 5).await?;

    // From the request to the last mail.
    let trace = new_trace();
    let traceparent = format!("00-{trace}-{CALLER}-01");
    let body = order_body("traced@example.com", &[(&product, 1)]);
    let placed =
        stack.api.call_with("POST", "/orders", body, &[("traceparent", &traceparent)]).await?;
    let order = placed.id()?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    for (name, count) in [
        ("POST /orders", 1),
        ("process product-consumer", 1),
        ("process order-consumer", 1),
        ("process notification-consumer", 1),
    ] {
        collector.wait_for(&trace, name, count).await?;
    }
    let spans = collector.of(&trace);
    let ids: HashMap<String, &Span> = spans.iter().map(|span| (hex(&span.span_id), span)).collect();
    for span in &spans {
        let parent = hex(&span.parent_span_id);
        ensure!(parent == CALLER || ids.contains_key(&parent), "{} has no parent", span.name);
    }
    let server = spans.iter().find(|span| span.name == "POST /orders").context("the request")?;
    assert_eq!(server.kind(), SpanKind::Server);
    assert_eq!(hex(&server.parent_span_id), CALLER);
    let consumer =
        spans.iter().find(|span| span.name == "process product-consumer").context("product")?;
    assert_eq!(consumer.kind(), SpanKind::Consumer);
    assert_eq!(consumer.parent_span_id, server.span_id, "the request has made its event");
    assert_eq!(text(consumer, "messaging.system"), Some("aws_sqs"));
    assert_eq!(text(consumer, "orderflow.order.id"), Some(order.as_str()));

    // A batch is linked with the spans of its messages.
    let linked = eventually("the batch of that message", 30.secs(), async || {
        let batches =
            collector.all().into_iter().filter(|(_, span)| span.name == "receive product-consumer");
        let links = batches.flat_map(|(_, span)| span.links).map(|link| link.span_id);
        let links: BTreeSet<Vec<u8>> = links.collect();
        Ok(links.contains(&consumer.span_id).then_some(links))
    });
    ensure!(!linked.await?.is_empty());

    // The relay publishes the first event again: its publication and what it leads to join the trace.
    let sent = spans
        .iter()
        .find(|s| s.kind() == SpanKind::Producer)
        .context("a publication")?
        .name
        .clone();
    let before = collector.count(&trace, "process product-consumer");
    let publications = collector.count(&trace, &sent);
    let created: Value = serde_json::from_str(&stack.event(&order, "OrderCreated").await?)?;
    let created = created["event_id"].as_str().context("an id")?;
    stack.json(&["order", "republish", &order, "--event", created, "--now", "--yes"]).await?;
    collector.wait_for(&trace, &sent, publications + 1).await?;
    collector.wait_for(&trace, "process product-consumer", before + 1).await?;
    let relayed = collector.all().into_iter().filter(|(service, span)| {
        service.contains("-relay") && hex(&span.trace_id) == trace && span.name == sent
    });
    assert_eq!(relayed.count(), 1, "the relay's own");
    Ok(())
}

#[tokio::test]
async fn a_redriven_message_stays_in_its_trace() -> Result<()> {
    let stack = Stack::load().await?;
    let collector = Collector::start().await?;
    let trace = new_trace();
    let order = uuid::Uuid::new_v4();
    let body = json!({ "event_type": "OrderReturned", "event_version": "1.0", "data": { "order_id": order } });
    let attribute = aws_sdk_sqs::types::MessageAttributeValue::builder()
        .data_type("String")
        .string_value(format!("00-{trace}-{CALLER}-01"))
        .build()?;
    stack
        .sqs
        .send_message()
        .queue_url(stack.dlq(Queue::Product))
        .message_body(body.to_string())
        .message_attributes("traceparent", attribute)
        .send()
        .await?;
    let redriven = stack.json(&["dlq", "redrive", "product", "--all", "--yes"]).await?;
    assert_eq!(redriven[0]["done"], 1, "{redriven}");
    collector.wait_for(&trace, "process product-consumer", 1).await?;
    let spans = collector.of(&trace);
    ensure!(spans.iter().all(|span| hex(&span.parent_span_id) == CALLER));
    let failed = spans[0].status.clone().context("a status")?;
    ensure!(!failed.message.is_empty(), "what fails says why: {failed:?}");
    // It is tried again in its trace, until it is dead.
    eventually("the message to be dead again", 120.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? == 1).then_some(()))
    })
    .await?;
    stack.sqs.purge_queue().queue_url(stack.dlq(Queue::Product)).send().await?;
    Ok(())
}
