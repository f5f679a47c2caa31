//! The event log, read by an operator.
//!
//! In: an order, or nothing for all orders. Out: the stored events, page by page, each with the bytes and the
//! attributes with which it was published. What the table holds that is no event is passed over and counted. An event has no
//! place in the outbox while its order stands for its publication: [`note_unpublished`] asks the orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use exactly_once::outbox::STUCK;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{error::CliError, stack::Stack};

/// What is said of an event that somebody has yet to publish.
pub(crate) const PENDING: &str = "pending";

/// An item of the event log.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// One event as the log keeps it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Logged {
    pub order_id: String,
    /// Its idempotency key.
    pub event_id: String,
    pub event_type: String,
    pub timestamp: Timestamp,
    /// What it shares with all that one request has caused, logs included.
    pub correlation_id: Option<String>,
    /// `published`, `pending` or `stuck`.
    pub outbox: &'static str,
    /// What it says, in the very text, in which money has its two digits.
    pub event: Box<RawValue>,
    /// Why an order was rejected or cancelled, if the event says so.
    #[serde(skip)]
    pub reason: Option<String>,
    /// Which service publishes it.
    #[serde(skip)]
    pub source: String,
    /// Its bytes.
    #[serde(skip)]
    pub body: String,
    /// What it was published with.
    #[serde(skip)]
    pub attributes: BTreeMap<String, String>,
}

/// Hands over the log of an order, or of all, page by page.
///
/// # Errors
/// The log does not answer, or `work` fails.
pub(crate) async fn pages(
    stack: &Stack,
    order: Option<&str>,
    mut work: impl FnMut(Vec<Logged>) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let table = stack.output("EventLogTable")?;
    let mut start: Option<Item> = None;
    loop {
        let (items, next) = match order {
            Some(order) => {
                let page = stack
                    .dynamodb
                    .query()
                    .table_name(table)
                    .key_condition_expression("order_id = :order")
                    .expression_attribute_values(":order", AttributeValue::S(order.to_owned()))
                    .consistent_read(true)
                    .set_exclusive_start_key(start)
                    .send()
                    .await?;
                (page.items, page.last_evaluated_key)
            }
            None => {
                let scan = stack.dynamodb.scan().table_name(table).consistent_read(true);
                let page = scan.set_exclusive_start_key(start).send().await?;
                (page.items, page.last_evaluated_key)
            }
        };
        work(items.unwrap_or_default().iter().filter_map(logged).collect())?;
        start = next;
        if start.is_none() {
            return Ok(());
        }
    }
}

/// One item of the event log, whatever is in it.
///
/// # Errors
/// The log does not answer.
pub(crate) async fn item(
    stack: &Stack,
    order: &str,
    event: &str,
) -> Result<Option<Item>, CliError> {
    // A query, because an operator has the right to that already.
    let page = stack
        .dynamodb
        .query()
        .table_name(stack.output("EventLogTable")?)
        .key_condition_expression("order_id = :order AND event_id = :event")
        .expression_attribute_values(":order", AttributeValue::S(order.to_owned()))
        .expression_attribute_values(":event", AttributeValue::S(event.to_owned()))
        .consistent_read(true)
        .send()
        .await?;
    Ok(page.items.unwrap_or_default().pop())
}

/// The log of one order, in the order in which its events were made.
///
/// # Errors
/// The log does not answer, or knows no such order.
pub(crate) async fn of_order(stack: &Stack, order: &str) -> Result<Vec<Logged>, CliError> {
    let mut all = Vec::new();
    pages(stack, Some(order), |page| {
        all.extend(page);
        Ok(())
    })
    .await?;
    if all.is_empty() {
        return Err(CliError::NotFound(format!("no order {order:?} in stack {}", stack.name)));
    }
    in_time_order(&mut all);
    note_unpublished(stack, &mut all).await?;
    Ok(all)
}

/// Notes as pending the new orders' events for whose publication their orders still stand.
///
/// # Errors
/// The orders' table does not answer.
pub(crate) async fn note_unpublished(stack: &Stack, events: &mut [Logged]) -> Result<(), CliError> {
    let created = events.iter().filter(|event| event.event_type == "OrderCreated");
    let orders: BTreeSet<&String> = created.map(|event| &event.order_id).collect();
    let orders = orders.into_iter().map(|order| AttributeValue::S(order.clone()));
    let unpublished = stack.pending_orders()?.unpublished_events(orders).await?;
    let unpublished: BTreeSet<String> =
        unpublished.into_iter().map(|event| event.id.to_string()).collect();
    for event in events.iter_mut().filter(|event| unpublished.contains(&event.event_id)) {
        event.outbox = PENDING;
    }
    Ok(())
}

/// Sorts by when it happened; what happened in the same millisecond by id, which grows with time.
pub(crate) fn in_time_order(events: &mut [Logged]) {
    events.sort_by(|a, b| (a.timestamp, &a.event_id).cmp(&(b.timestamp, &b.event_id)));
}

fn logged(item: &Item) -> Option<Logged> {
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    let body = text("body")?;
    let event: Value = serde_json::from_str(&body).ok()?;
    let attributes = item.get("attributes")?.as_m().ok()?.iter();
    Some(Logged {
        order_id: text("order_id")?,
        event_id: text("event_id")?,
        event_type: event["event_type"].as_str()?.to_owned(),
        timestamp: event["timestamp"].as_str()?.parse().ok()?,
        correlation_id: event["correlation_id"].as_str().map(str::to_owned),
        outbox: outbox_state(item),
        source: event["source"].as_str().unwrap_or_default().to_owned(),
        attributes: attributes
            .filter_map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone())))
            .collect(),
        reason: event["data"]["reason"].as_str().map(str::to_owned),
        event: RawValue::from_string(body.clone()).ok()?,
        body,
    })
}

#[cfg(test)]
impl Logged {
    /// An event of order-service.
    pub(crate) fn of_test(event_id: &str, event_type: &str, timestamp: Timestamp) -> Self {
        Self {
            order_id: "o1".into(),
            event_id: event_id.into(),
            event_type: event_type.into(),
            timestamp,
            correlation_id: Some("c1".into()),
            outbox: "published",
            event: RawValue::from_string("{}".into()).expect("JSON"),
            reason: None,
            source: "order-service".into(),
            body: "{}".into(),
            attributes: BTreeMap::new(),
        }
    }
}

/// `published`, `pending` or `stuck`.
pub(crate) fn outbox_state(item: &Item) -> &'static str {
    match item.get("outbox_shard").and_then(|shard| shard.as_s().ok()).map(String::as_str) {
        None => "published",
        Some(STUCK) => "stuck",
        Some(_) => PENDING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(shard: Option<&str>) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let body =
            r#"{"event_type":"OrderCreated","timestamp":"2025-11-20T12:00:00.000Z","price":25.00}"#;
        let mut item = Item::from([
            ("order_id".to_owned(), text("o1")),
            ("event_id".to_owned(), text("e1")),
            ("body".to_owned(), text(body)),
            ("attributes".to_owned(), AttributeValue::M(HashMap::from([("a".into(), text("b"))]))),
        ]);
        item.extend(shard.map(|shard| ("outbox_shard".to_owned(), text(shard))));
        item
    }

    #[test]
    fn an_event_is_published_pending_or_stuck() {
        for (shard, outbox) in [(None, "published"), (Some("3"), "pending"), (Some(STUCK), "stuck")]
        {
            assert_eq!(logged(&item(shard)).map(|event| event.outbox), Some(outbox));
        }
    }

    #[test]
    fn money_keeps_its_two_digits() {
        let json = serde_json::to_string(&logged(&item(None)).expect("an event")).expect("JSON");
        assert!(json.contains("25.00"), "{json}");
    }

    #[test]
    fn what_is_no_event_is_passed_over() {
        let mut odd = item(None);
        odd.remove("body");
        assert!(logged(&odd).is_none());
    }
}
