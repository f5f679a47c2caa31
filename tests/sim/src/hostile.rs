//! What nobody in the system sends: malformed messages, a decision that contradicts, replays, many deliveries at once.
//!
//! In: the simulated AWS, while customers order. Out: which of the messages have to end on which DLQ, and why; what is
//! replayed or old has to change nothing, which the invariants see to.

use std::collections::BTreeMap;

use events::{Event, EventType};
use jiff::SignedDuration;
use serde_json::json;
use simulated_aws::SimulatedAws;
use tokio::time::{Duration, sleep};

use crate::{
    operator::published,
    shop::{MAIL_MAX_AGE_DAYS, ORDERS, Queue},
};

/// A message that has to end on its queue's DLQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Poison {
    pub queue: Queue,
    pub reason: &'static str,
    pub body: String,
}

/// Number of times that something of this is sent.
const TIMES: u64 = 16;
/// Longest pause between two of them: all are sent while customers order.
const PAUSE_MS_MAX: u64 = 13_000;
/// Maximum number of deliveries of one event that are sent at once.
const AT_ONCE_MAX: u64 = 8;
/// Age until which an event is mailed.
const MAIL_MAX_AGE: SignedDuration = SignedDuration::from_hours(24 * MAIL_MAX_AGE_DAYS);
/// By how much an event that is too old for a mail is too old.
const TOO_OLD_BY: SignedDuration = SignedDuration::from_mins(1);

/// Sends it; each message that has to be dead-lettered goes to `expect` before.
pub(crate) async fn send(aws: SimulatedAws, expect: impl Fn(Poison)) {
    for time in 0..TIMES {
        sleep(Duration::from_millis(aws.draw(0..PAUSE_MS_MAX) / 2)).await;
        let number = aws.draw(0..1 << 40);
        let id = format!("0198c9a4-7a52-7c4e-9f0e-{number:012x}");
        match time % 4 {
            0 => {
                let poison = malformed(&aws, &id);
                expect(poison.clone());
                aws.send(&poison.queue.url(), &poison.body, &attributes("Malformed"));
            }
            1 => {
                if let Some(poison) = contradiction(&aws, &id) {
                    expect(poison.clone());
                    aws.send(&poison.queue.url(), &poison.body, &BTreeMap::new());
                }
            }
            2 => send_old_mail(&aws, &id),
            _ => replay(&aws),
        }
        replay(&aws);
    }
}

fn attributes(event_type: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("event_type".to_owned(), event_type.to_owned())])
}

fn malformed(aws: &SimulatedAws, id: &str) -> Poison {
    let all = Queue::OF_EVENTS;
    let queue = all[usize::try_from(aws.draw(0..all.len() as u64)).unwrap_or_default()];
    let stock = |data: serde_json::Value| {
        json!({
            "event_type": "StockReserved", "event_id": id, "event_version": "1.0",
            "timestamp": "2026-01-01T00:00:00.000Z", "source": "product-service",
            "correlation_id": id, "data": data,
        })
    };
    let unknown = stock(json!({
        "order_id": id, "items": [{ "product_id": id, "quantity": 1 }],
    }));
    let empty = stock(json!({ "order_id": id, "items": [] }));
    match aws.draw(0..6) {
        0 => Poison { queue, reason: "not_json", body: format!("no JSON {id}") },
        1 => Poison { queue, reason: "not_json", body: format!("{{\"event_id\":\"{id}\"") },
        2 => Poison { queue, reason: "schema", body: json!({ "event_id": id }).to_string() },
        3 => Poison { queue, reason: "schema", body: empty.to_string() },
        // SNS delivers a character that SQS's SendMessage refuses.
        4 => {
            let body = format!("{{\"event_id\":\"{id}\",\"name\":\"\u{fffe}\"}}");
            Poison { queue, reason: "schema", body }
        }
        _ => Poison { queue: Queue::Order, reason: "unknown_order", body: unknown.to_string() },
    }
}

/// A decision that takes stock for an order that was rejected: rejections are for good.
fn contradiction(aws: &SimulatedAws, id: &str) -> Option<Poison> {
    let orders = aws.items(ORDERS);
    let rejected: Vec<_> =
        orders.iter().filter(|order| order["status"]["S"] == "rejected").collect();
    let order = pick(aws, &rejected)?;
    let body = json!({
        "event_type": "StockReserved", "event_id": id, "event_version": "1.0",
        "timestamp": "2026-01-01T00:00:00.000Z", "source": "product-service", "correlation_id": id,
        "data": {
            "order_id": order["order_id"]["S"],
            "items": [{ "product_id": order["order_id"]["S"], "quantity": 1 }],
        },
    });
    Some(Poison { queue: Queue::Order, reason: "contradiction", body: body.to_string() })
}

fn pick<'a, T>(aws: &SimulatedAws, all: &'a [T]) -> Option<&'a T> {
    let place = aws.draw(0..all.len().max(1) as u64);
    all.get(usize::try_from(place).ok()?)
}

fn logged(aws: &SimulatedAws) -> Option<(Event, String)> {
    let events = published(aws);
    let body = &pick(aws, &events)?.body;
    Some((Event::decode(body.as_bytes()).ok()?, body.clone()))
}

/// An event that is a little too old for a mail, and new to every inbox.
fn send_old_mail(aws: &SimulatedAws, id: &str) {
    let Some((event, body)) = logged(aws) else { return };
    if event.body.event_type() != EventType::OrderCreated {
        return;
    }
    let old = event.timestamp.timestamp() - MAIL_MAX_AGE - TOO_OLD_BY;
    let body = body
        .replace(&event.id.to_string(), id)
        .replace(&format!("\"{}\"", event.timestamp), &format!("\"{old:.3}\""));
    aws.send(&Queue::Notification.url(), &body, &BTreeMap::new());
}

/// Several deliveries at once of an event that was published at any time before.
fn replay(aws: &SimulatedAws) {
    let Some((event, body)) = logged(aws) else { return };
    let event_type = event.body.event_type().as_str();
    for queue in
        Queue::OF_EVENTS.into_iter().filter(|queue| queue.event_types().contains(&event_type))
    {
        for _ in 0..aws.draw(1..AT_ONCE_MAX) {
            aws.send(&queue.url(), &body, &attributes(event_type));
        }
    }
}
