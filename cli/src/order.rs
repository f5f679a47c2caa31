//! `orderflow order`: one order, its history, its cancellation, and the republication of its last event.
//!
//! In: an order's id. Out: what order-api says of it, or its part of the event log. `show` and `cancel` invoke the
//! function order-api as API Gateway would: so the rules that hold are those that are deployed, an operator needs
//! the right to invoke it and none on its tables, and it is the same on AWS and on an emulator.

use aws_sdk_lambda::primitives::Blob;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    error::CliError,
    log::{self, Logged},
    output::{plain, table},
    stack::Stack,
};

/// How long ago a republished event counts as pending: longer than any relay waits before it publishes.
const REPUBLISH_BACKDATE: SignedDuration = SignedDuration::from_hours(1);

pub(crate) async fn show(stack: &Stack, id: &str) -> Result<Value, CliError> {
    call(stack, "GET", "/orders/{id}", id).await
}

pub(crate) async fn cancel(stack: &Stack, id: &str) -> Result<Value, CliError> {
    call(stack, "POST", "/orders/{id}/cancel", id).await
}

/// What was made pending again.
#[derive(Debug, Serialize)]
pub(crate) struct Republished {
    pub order_id: String,
    pub event_id: String,
    pub event_type: String,
    /// What the relay did, if it was run at once.
    pub relay: Option<Value>,
}

/// Makes an order's last event pending again, so that the relay publishes it once more; with `now` runs the
/// relay.
pub(crate) async fn republish(stack: &Stack, id: &str, now: bool) -> Result<Republished, CliError> {
    let gone = || CliError::NotFound(format!("no order {id:?} in stack {}", stack.name));
    let last = log::of_order(stack, id).await?.pop().ok_or_else(gone)?;
    let event_id: Uuid =
        last.event_id.parse().map_err(CliError::local("reading the event's id"))?;
    let since = Timestamp::now() - REPUBLISH_BACKDATE;
    if !stack.outbox()?.republish(id, event_id, since).await? {
        return Err(gone());
    }
    let relay = if now {
        Some(invoke(stack, stack.output("RelayFunction")?, &json!({})).await?)
    } else {
        None
    };
    Ok(Republished {
        order_id: last.order_id,
        event_id: last.event_id,
        event_type: last.event_type,
        relay,
    })
}

/// Calls order-api as the gateway would, and reads its answer.
async fn call(stack: &Stack, method: &str, resource: &str, id: &str) -> Result<Value, CliError> {
    let answer =
        invoke(stack, stack.output("OrderApiFunction")?, &request(method, resource, id)).await?;
    let body: Value =
        answer["body"].as_str().and_then(|b| serde_json::from_str(b).ok()).unwrap_or_default();
    let said = || body["detail"].as_str().or(body["title"].as_str()).unwrap_or("no reason given");
    match answer["statusCode"].as_u64() {
        Some(200..300) => Ok(body),
        Some(404) => Err(CliError::NotFound(format!("no order {id:?} in stack {}", stack.name))),
        Some(status) => {
            Err(CliError::NotDone(format!("order-api answers {status}: {}", plain(said()))))
        }
        None => Err(CliError::NotDone(format!("order-api gives no HTTP answer: {answer}"))),
    }
}

/// A request as API Gateway hands it to a function (REST API, payload format 1.0).
fn request(method: &str, resource: &str, id: &str) -> Value {
    // The id is data, never a part of the path's structure.
    let safe: String = id
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => (b as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let path = resource.replace("{id}", &safe);
    json!({
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": {},
        "multiValueHeaders": {},
        "pathParameters": { "id": id },
        "requestContext": {
            "resourcePath": resource,
            "httpMethod": method,
            "path": path,
            "stage": "v1",
            "requestId": Uuid::new_v4().to_string(),
            "identity": {},
        },
        "body": null,
        "isBase64Encoded": false,
    })
}

async fn invoke(stack: &Stack, function: &str, payload: &Value) -> Result<Value, CliError> {
    let answer = stack
        .lambda
        .invoke()
        .function_name(function)
        .payload(Blob::new(payload.to_string()))
        .send()
        .await?;
    let text = answer.payload.map(Blob::into_inner).unwrap_or_default();
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    if let Some(kind) = answer.function_error {
        return Err(CliError::NotDone(format!("{function} failed ({kind}): {value}")));
    }
    Ok(value)
}

pub(crate) fn text(order: &Value) -> String {
    let field = |name: &str| plain(order[name].as_str().unwrap_or("-"));
    let currency = field("currency");
    let amount = |value: &Value| {
        value.as_f64().map_or_else(|| "-".to_owned(), |amount| format!("{amount:.2} {currency}"))
    };
    let empty = Vec::new();
    let items = order["items"].as_array().unwrap_or(&empty).iter().map(|line| {
        vec![
            line["product_name"].as_str().unwrap_or("-").to_owned(),
            line["quantity"].to_string(),
            amount(&line["unit_price"]),
            amount(&line["line_total"]),
        ]
    });
    let reason =
        order["reason"].as_str().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
    format!(
        "order     {}\nstatus    {}{reason}\ncustomer  {}\ncreated   {}\nupdated   {}\ntotal     {}\n\n{}",
        field("id"),
        field("status"),
        field("customer_email"),
        field("created_at"),
        field("updated_at"),
        amount(&order["total_price"]),
        table(&["product", ">quantity", ">price", ">line total"], items),
    )
}

pub(crate) fn history_text(events: &[Logged]) -> String {
    let first = events.first().map(|event| event.timestamp);
    let rows = events.iter().map(|event| {
        let after = first.map(|first| event.timestamp.duration_since(first).as_secs_f64());
        let reason = event.event["data"]["reason"].as_str().unwrap_or_default();
        vec![
            format!("{:.3}", event.timestamp),
            after.map_or_else(String::new, |after| format!("+{after:.1}s")),
            event.event_type.clone(),
            event.outbox.to_owned(),
            event.event_id.clone(),
            reason.chars().take(60).collect(),
        ]
    });
    table(&["when", ">after", "event", "outbox", "event id", "reason"], rows)
}

pub(crate) fn republished_text(republished: &Republished) -> String {
    let Republished { order_id, event_id, event_type, relay } = republished;
    let when = match relay {
        None => "the relay publishes it again within a minute".to_owned(),
        Some(report) => format!("the relay ran: {report}"),
    };
    format!("{event_type} {event_id} of order {order_id} is pending again; {when}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_change_which_call_is_made() {
        let request = request("GET", "/orders/{id}", "../products?x=1");
        assert_eq!(request["path"], "/orders/%2E%2E%2Fproducts%3Fx%3D1");
        assert_eq!(request["requestContext"]["resourcePath"], "/orders/{id}");
    }

    #[test]
    fn an_order_is_shown_with_its_lines_and_two_digits() {
        let order = json!({
            "id": "o1", "status": "rejected", "reason": "out of stock", "currency": "UAH",
            "customer_email": "a@example.com", "created_at": "x", "updated_at": "y", "total_price": 20.5,
            "items": [{ "product_name": "Lamp", "quantity": 2, "unit_price": 10.25, "line_total": 20.5 }],
        });
        let text = text(&order);
        assert!(text.contains("rejected (out of stock)"), "{text}");
        assert!(text.contains("20.50 UAH") && text.contains("Lamp"), "{text}");
    }
}
