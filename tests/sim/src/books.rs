//! What has to be true at the end of a run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use simulated_aws::SimulatedAws;

use crate::{
    invariants::Invariants,
    shop::{EVENT_LOG, ORDERS, PRODUCTS, Queue, RESERVATIONS},
};

pub(crate) type Item = BTreeMap<String, Value>;

pub(crate) fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item.get(name).and_then(|value| value["S"].as_str()).unwrap_or_default()
}

pub(crate) fn number(item: &Item, name: &str) -> Result<u64> {
    let number = item.get(name).and_then(|value| value["N"].as_str());
    Ok(number.with_context(|| format!("no {name} in {item:?}"))?.parse()?)
}

/// Whether nothing is left to do: no message, no pending event, no pending order.
pub(crate) fn is_settled(aws: &SimulatedAws) -> bool {
    Queue::OF_EVENTS.iter().all(|queue| aws.is_empty(&queue.url()))
        && !aws.items(EVENT_LOG).iter().any(|event| event.contains_key("outbox_shard"))
        && !aws.items(ORDERS).iter().any(|order| text(order, "status") == "pending")
}

/// What is left to do.
pub(crate) fn unsettled(aws: &SimulatedAws) -> String {
    let messages: usize = Queue::OF_EVENTS.iter().map(|queue| aws.bodies(&queue.url()).len()).sum();
    let events = aws.items(EVENT_LOG);
    let events = events.iter().filter(|event| event.contains_key("outbox_shard")).count();
    let orders = aws.items(ORDERS);
    let orders = orders.iter().filter(|order| text(order, "status") == "pending").count();
    format!("{messages} messages, {events} unpublished events, {orders} pending orders")
}

/// Checks the books; the number of rejected and of cancelled orders. `stock` is what administrators have given each product.
pub(crate) fn check(
    aws: &SimulatedAws,
    products: &[String],
    stock: &BTreeMap<String, i64>,
    placed: &[String],
    invariants: &Invariants,
) -> Result<(usize, usize)> {
    let orders = aws.items(ORDERS);
    let stored: BTreeSet<&str> = orders.iter().map(|order| text(order, "order_id")).collect();
    let accepted: BTreeSet<&str> = placed.iter().map(String::as_str).collect();
    ensure!(
        stored == accepted,
        "orders were lost or made twice: {stored:?}, answered {accepted:?}"
    );
    let reservations = aws.items(RESERVATIONS);
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    for order in &orders {
        let (id, status) = (text(order, "order_id"), text(order, "status"));
        ensure!(
            !order.contains_key("pending_shard"),
            "{id} is {status}, and in the index of pending orders"
        );
        let reservation =
            reservations.iter().find(|reservation| text(reservation, "order_id") == id);
        let reservation =
            reservation.with_context(|| format!("no reservation of {id}, {status}"))?;
        let held = text(reservation, "status");
        let fits = match status {
            "confirmed" | "shipped" => held == "reserved",
            "rejected" => held == "rejected",
            "cancelled" => matches!(held, "released" | "cancelled" | "rejected"),
            _ => false,
        };
        ensure!(fits, "{id} is {status}, and its reservation {held}");
        if held == "reserved" {
            for line in reservation["items"]["L"].as_array().into_iter().flatten() {
                let line: Item = serde_json::from_value(line["M"].clone())?;
                let product =
                    products.iter().find(|product| **product == text(&line, "product_id"));
                *taken.entry(product.context("a known product")?).or_default() +=
                    number(&line, "quantity")?;
            }
        }
        check_history(aws, id, status)?;
    }
    for product in aws.items(PRODUCTS) {
        let id = text(&product, "product_id");
        let (left, taken) =
            (number(&product, "stock")?, taken.get(id).copied().unwrap_or_default());
        let stock = *stock.get(id).with_context(|| format!("nobody has made {id}"))?;
        ensure!(
            i64::try_from(left + taken)? == stock,
            "{id}: {left} left and {taken} taken of {stock}"
        );
    }
    check_mails(aws, invariants)?;
    let count =
        |status: &str| orders.iter().filter(|order| text(order, "status") == status).count();
    Ok((count("rejected"), count("cancelled")))
}

fn event_types(aws: &SimulatedAws, order: &str) -> Result<Vec<String>> {
    let events = aws.items(EVENT_LOG).into_iter().filter(|event| text(event, "order_id") == order);
    let types = events.map(|event| {
        let body: Value = serde_json::from_str(text(&event, "body"))?;
        Ok(body["event_type"].as_str().context("a type")?.to_owned())
    });
    let mut types: Vec<String> = types.collect::<Result<_>>()?;
    types.sort();
    Ok(types)
}

/// Each event at most once, and those that the status stands for.
fn check_history(aws: &SimulatedAws, order: &str, status: &str) -> Result<()> {
    let types = event_types(aws, order)?;
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let is_legal = match (status, &types[..]) {
        ("confirmed", ["OrderConfirmed", "OrderCreated", "StockReserved"]) => true,
        ("rejected", ["OrderCreated", "OrderRejected", "StockRejected"]) => true,
        ("shipped", ["OrderConfirmed", "OrderCreated", "OrderShipped", "StockReserved"]) => true,
        ("cancelled", rest) => matches!(
            rest,
            // Before stock was decided; after it was taken; after the confirmation; although it was short.
            ["OrderCancelled", "OrderCreated"]
                | ["OrderCancelled", "OrderCreated", "StockReleased", "StockReserved"]
                | [
                    "OrderCancelled",
                    "OrderConfirmed",
                    "OrderCreated",
                    "StockReleased",
                    "StockReserved"
                ]
                | ["OrderCancelled", "OrderCreated", "StockRejected"]
        ),
        _ => false,
    };
    ensure!(is_legal, "{order} is {status} with the events {types:?}");
    Ok(())
}

/// Every event that calls for a mail has one. That none is repeated without need is seen as they leave.
fn check_mails(aws: &SimulatedAws, invariants: &Invariants) -> Result<()> {
    let sent: BTreeSet<String> = aws.mails().into_iter().map(|mail| mail.subject).collect();
    for event in aws.items(EVENT_LOG) {
        let body: Value = serde_json::from_str(text(&event, "body"))?;
        let outcome = match body["event_type"].as_str() {
            Some("OrderCreated") => "Created Successfully",
            Some("OrderConfirmed") => "Confirmed",
            Some("OrderRejected") => "Rejected",
            Some("OrderCancelled") => "Cancelled",
            Some("OrderShipped") => "Shipped",
            Some(_) => continue,
            None => bail!("an event without a type: {body}"),
        };
        let subject = format!("Order #{} {outcome}", text(&event, "order_id"));
        let is_given_up = || invariants.is_mail_given_up(text(&event, "event_id"));
        ensure!(sent.contains(&subject) || is_given_up(), "no mail {subject:?}");
    }
    Ok(())
}
