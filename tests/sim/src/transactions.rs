//! What the services write about an order, in the words of the model: `tests/model` promises what it promises of those
//! writes and conditions only, so a condition that a store drops must not go unnoticed.
//!
//! In: the writes of a transaction, as the SDK sends them. Out: each with its condition in words, as `model::tables::Write`
//! writes them. A write or condition that the model does not know is a text that it does not have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::shop::{EVENT_LOG, IDEMPOTENCY, ORDERS, PRODUCTS, RESERVATIONS, UNPUBLISHED};

/// A write of a transaction: its kind, and what it writes.
type Write<'a> = (&'a str, &'a Value);

/// The writes of a transaction in words, those of each order that it is about; none if it is about no order: administrators
/// change products. Keys of requests are left out, as in the model. Of stock, which orders of one transaction may share,
/// each of them has what it takes.
pub(crate) fn describe(writes: &[Write<'_>]) -> Vec<BTreeSet<String>> {
    let is_of = |write: &Value, table: &str| write["TableName"] == table;
    if !writes.iter().any(|(_, write)| is_of(write, ORDERS) || is_of(write, RESERVATIONS)) {
        return Vec::new();
    }
    let (shared, own): (Vec<&Write<'_>>, Vec<_>) =
        writes.iter().partition(|(_, write)| is_of(write, PRODUCTS));
    let mut members: Vec<Vec<&Write<'_>>> = Vec::new();
    for write in own {
        let is_marker = is_of(write.1, IDEMPOTENCY) && write.1["Item"]["state"]["S"] == "done";
        match members.last_mut() {
            // The transaction of a consumer begins with its marker.
            Some(member) if !is_marker => member.push(write),
            _ => members.push(vec![write]),
        }
    }
    let takes_stock = |member: &[&Write<'_>]| {
        member.iter().any(|(kind, write)| {
            is_of(write, RESERVATIONS)
                && (*kind == "Update" || write["Item"]["status"]["S"] == "reserved")
        })
    };
    let in_words = |member: Vec<&Write<'_>>| {
        let shared = if takes_stock(&member) { &shared[..] } else { &[] };
        member
            .iter()
            .chain(shared)
            .filter_map(|(kind, write)| describe_write(kind, write))
            .collect()
    };
    members.into_iter().map(in_words).collect()
}

/// `None` if it is the key of a request.
fn describe_write(kind: &str, write: &Value) -> Option<String> {
    let table = write["TableName"].as_str().unwrap_or_default();
    let condition = write["ConditionExpression"].as_str().unwrap_or_default();
    let value = |name: &str| {
        let value = &write["ExpressionAttributeValues"][name];
        value["S"].as_str().or(value["N"].as_str()).unwrap_or_default()
    };
    let item = |name: &str| write["Item"][name]["S"].as_str().unwrap_or_default();
    let known = match (kind, table, condition) {
        ("Put", IDEMPOTENCY, "attribute_not_exists(#key)") if !item("answer").is_empty() => {
            return None;
        }
        ("Put", IDEMPOTENCY, "attribute_not_exists(#key)") if item("state") == "done" => {
            match write["Item"]["events"]["L"].as_array().map(Vec::len) {
                None => "the marker, if there is none".to_owned(),
                Some(1) => "the marker, which names its event, if there is none".to_owned(),
                Some(events) => {
                    format!("a marker of {events} events, which the model does not know")
                }
            }
        }
        ("Put", ORDERS, "attribute_not_exists(order_id)")
            if item("status") == "pending"
                && item("pending_shard").starts_with(UNPUBLISHED)
                && !item("created_event_id").is_empty() =>
        {
            "the order, which stands for its event, if there is none".to_owned()
        }
        ("Update", ORDERS, "#status = :from") => {
            let (from, to) = (value(":from"), value(":to"));
            format!("the order from {from} to {to}, if it is {from}")
        }
        ("Put", RESERVATIONS, "attribute_not_exists(order_id)") => {
            format!("the reservation {}, if there is none", item("status"))
        }
        ("Update", RESERVATIONS, "#status = :reserved")
            if (value(":reserved"), value(":released")) == ("reserved", "released") =>
        {
            "the reservation from reserved to released, if it is reserved".to_owned()
        }
        ("Update", PRODUCTS, "attribute_exists(product_id) AND stock >= :least")
            if value(":delta") == format!("-{}", value(":least")) =>
        {
            "stock is taken, if there is enough".to_owned()
        }
        ("Update", PRODUCTS, "attribute_exists(product_id)")
            if !value(":delta").starts_with('-') =>
        {
            "stock is given back, if there is such a product".to_owned()
        }
        ("Put", EVENT_LOG, "") => {
            let event_type = &write["Item"]["attributes"]["M"]["event_type"]["S"];
            let is_pending = !item("outbox_shard").is_empty();
            let place = if is_pending { ", in the outbox" } else { "" };
            format!("the event {}{place}", event_type.as_str().unwrap_or_default())
        }
        // Of which event it is, the step is asked.
        ("Update", EVENT_LOG, "")
            if write["UpdateExpression"] == "SET outbox_shard = :shard, pending_since = :since" =>
        {
            "OrderCreated is put in the outbox".to_owned()
        }
        _ => format!("{kind} {table} {condition:?}, which the model does not know"),
    };
    Some(known)
}
