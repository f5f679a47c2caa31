//! `orderflow order`: one order, its history, its cancellation, and the republication of its last event.
//!
//! In: an order's id. Out: what order-api says of it, or its part of the event log. `show` and `cancel` invoke the
//! function order-api as API Gateway would: so the rules that hold are those that are deployed, an operator needs
//! the right to invoke it and none on its tables, and it is the same on AWS and on an emulator.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_lambda::{config, primitives::Blob};
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::{
    error::CliError,
    log,
    marker::HandledEvent,
    outbox,
    output::{cut, plain, table},
    payment::OrderPayment,
    stack::{ALIAS, Stack, timeouts},
};

/// order-api works for up to 10 s, and its environment may have to be started first.
const ORDER_API_TIMEOUT: Duration = Duration::from_secs(20);
/// The relay works for up to 55 s.
const RELAY_TIMEOUT: Duration = Duration::from_secs(65);
/// If the stack does not say for how long an event has to be pending before the relay publishes it.
const RELAY_AGE_SECONDS_DEFAULT: i64 = 60;
/// Maximum length of a reason in a table, in characters; `--output json` has all of it.
const REASON_CHARACTERS_MAX: usize = 60;

/// An order as order-api gives it.
#[derive(Debug)]
pub(crate) struct OrderView {
    /// The very text, in which money has its two digits.
    json: Box<RawValue>,
    fields: Value,
}

impl Serialize for OrderView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl OrderView {
    fn read(json: &str) -> Option<Self> {
        let fields = serde_json::from_str(json).ok()?;
        Some(Self { json: RawValue::from_string(json.to_owned()).ok()?, fields })
    }

    /// With what is known of its payment, where orders are paid. The rest stays the very text.
    pub(crate) fn with_payment(self, payment: Option<&OrderPayment>) -> Result<Self, CliError> {
        let Some(payment) = payment else { return Ok(self) };
        let payment = serde_json::to_string(payment).map_err(CliError::local("reading"))?;
        let order = self.json.get().trim_end().trim_end_matches('}');
        let json = RawValue::from_string(format!("{order},\"payment\":{payment}}}"));
        Ok(Self { json: json.map_err(CliError::local("reading"))?, ..self })
    }

    /// When it was placed, as order-api says it.
    pub(crate) fn placed_at(&self) -> Option<Timestamp> {
        self.fields["created_at"].as_str()?.parse().ok()
    }

    /// Its status, as order-api names it.
    pub(crate) fn status(&self) -> &str {
        self.fields["status"].as_str().unwrap_or_default()
    }

    /// Whether nothing is left to be cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.status() == "cancelled"
    }
}

/// What an order is. Its customer's address comes masked, unless it is asked for.
pub(crate) async fn show(stack: &Stack, id: &str, email: Email) -> Result<OrderView, CliError> {
    let route = match email {
        Email::Masked => "/orders/{id}",
        Email::Full => "/admin/orders/{id}",
    };
    call(stack, "GET", route, id).await
}

/// How an order's customer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Email {
    /// So that a screen, a log or a ticket shows nobody who it is.
    Masked,
    Full,
}

/// Cancels an order by the deployed rules.
pub(crate) async fn cancel(stack: &Stack, id: &str) -> Result<OrderView, CliError> {
    call(stack, "POST", "/admin/orders/{id}/cancel", id).await?;
    // What order-api answers has the address in full.
    show(stack, id, Email::Masked).await
}

/// What was made pending again.
#[derive(Debug, Serialize)]
pub(crate) struct Republished {
    pub order_id: String,
    /// Its event.
    pub event_id: String,
    /// What that says, if it can be read.
    pub event_type: Option<String>,
    /// What the relay did, if it was run at once.
    pub relay: Option<Value>,
}

/// Makes an event pending again, so that the relay publishes it once more; with `now` runs the relay. It is the
/// event that is named, or else the order's last.
pub(crate) async fn republish(
    stack: &Stack,
    order: Option<&str>,
    event: Option<&str>,
    now: bool,
) -> Result<Republished, CliError> {
    let (order_id, event_id, event_type) = match (order, event) {
        (Some(order), None) => {
            let last = log::of_order(stack, order).await?.pop();
            let last = last.ok_or_else(|| no_order(stack, order))?;
            (last.order_id, last.event_id, Some(last.event_type))
        }
        (order, event) => {
            let found = outbox::find(stack, order, event.unwrap_or_default()).await?;
            (found.order_id, found.event_id, found.event_type)
        }
    };
    let id: Uuid = event_id.parse().map_err(CliError::local("reading the event's id"))?;
    let since = Timestamp::now() - relay_age(stack) - SignedDuration::from_secs(1);
    if !stack.outbox()?.republish(&order_id, id, since).await? {
        return Err(CliError::NotFound(format!("no event {event_id} of order {order_id:?}")));
    }
    let relay = if now {
        let relay = stack.output("RelayFunction")?;
        Some(invoke(stack, relay, &json!({}), RELAY_TIMEOUT).await?)
    } else {
        None
    };
    Ok(Republished { order_id, event_id, event_type, relay })
}

/// For how long an event has to be pending before the relay publishes it. One that is to be published again counts
/// as pending for just as long, so that it is not taken for one that has been waiting for hours.
fn relay_age(stack: &Stack) -> SignedDuration {
    let seconds = stack.parameter("RelayAgeSeconds").and_then(|seconds| seconds.parse().ok());
    SignedDuration::from_secs(seconds.unwrap_or(RELAY_AGE_SECONDS_DEFAULT))
}

fn no_order(stack: &Stack, id: &str) -> CliError {
    CliError::NotFound(format!("no order {id:?} in stack {}", stack.name))
}

/// Calls order-api as the gateway would, and reads its answer.
async fn call(
    stack: &Stack,
    method: &str,
    resource: &str,
    id: &str,
) -> Result<OrderView, CliError> {
    let (function, request) = (stack.output("OrderApiFunction")?, request(method, resource, id));
    let answer = invoke(stack, function, &request, ORDER_API_TIMEOUT).await?;
    let text = answer["body"].as_str().unwrap_or_default();
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let said = || body["detail"].as_str().or(body["title"].as_str()).unwrap_or("no reason given");
    match answer["statusCode"].as_u64() {
        Some(200..300) => OrderView::read(text)
            .ok_or_else(|| CliError::NotDone(format!("order-api's answer is no JSON: {text}"))),
        Some(404) => Err(no_order(stack, id)),
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

async fn invoke(
    stack: &Stack,
    function: &str,
    payload: &Value,
    timeout: Duration,
) -> Result<Value, CliError> {
    let answer = stack
        .lambda
        .invoke()
        .function_name(function)
        .qualifier(ALIAS)
        .payload(Blob::new(payload.to_string()))
        .customize()
        .config_override(config::Config::builder().timeout_config(timeouts(timeout)))
        .send()
        .await?;
    let text = answer.payload.map(Blob::into_inner).unwrap_or_default();
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    if let Some(kind) = answer.function_error {
        return Err(CliError::NotDone(format!("{function} failed ({kind}): {value}")));
    }
    Ok(value)
}

/// An order as people read it.
pub(crate) fn text(order: &OrderView) -> String {
    let order = &order.fields;
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

/// A line for each event, and below it one for each consumer that is given it.
pub(crate) fn history_text(events: &[HandledEvent]) -> String {
    let first = events.first().map(|one| one.event.timestamp);
    let after = |at: Timestamp| {
        first.map_or_else(String::new, |first| {
            format!("+{:.1}s", at.duration_since(first).as_secs_f64())
        })
    };
    let rows = events.iter().flat_map(|one| {
        let event = &one.event;
        let own = vec![
            format!("{:.3}", event.timestamp),
            after(event.timestamp),
            event.event_type.clone(),
            event.outbox.to_owned(),
            event.event_id.clone(),
            cut(event.reason.as_deref().unwrap_or_default(), REASON_CHARACTERS_MAX),
        ];
        let consumers = one.consumers.iter().map(|handled| {
            vec![
                handled.at().map_or_else(String::new, |at| format!("{at:.3}")),
                handled.at().map_or_else(String::new, after),
                format!("  {}", handled.consumer),
                handled.text(),
                String::new(),
                String::new(),
            ]
        });
        std::iter::once(own).chain(consumers).collect::<Vec<_>>()
    });
    let table = table(&["when", "after", "event", "state", "event id", "reason"], rows);
    let ids: BTreeSet<&str> =
        events.iter().filter_map(|one| one.event.correlation_id.as_deref()).collect();
    let ids: Vec<String> = ids.into_iter().map(plain).collect();
    format!("correlation id  {}\n\n{table}", ids.join(", "))
}

pub(crate) fn republished_text(republished: &Republished) -> String {
    let Republished { order_id, event_id, event_type, relay } = republished;
    let when = match relay {
        None => "the relay, which runs each minute, publishes it again".to_owned(),
        Some(report) => format!("the relay ran: {report}"),
    };
    let what = event_type.as_deref().unwrap_or("event");
    format!("{what} {event_id} of order {order_id} is pending again; {when}")
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
        let order = r#"{
            "id": "o1", "status": "rejected", "reason": "out of stock", "currency": "UAH",
            "customer_email": "a@example.com", "created_at": "x", "updated_at": "y", "total_price": 20.50,
            "items": [{ "product_name": "Lamp", "quantity": 2, "unit_price": 10.25, "line_total": 20.50 }]
        }"#;
        let order = OrderView::read(order).expect("an order");
        let json = serde_json::to_string(&order).expect("JSON");
        assert!(json.contains(r#""total_price": 20.50"#), "money keeps its digits: {json}");
        let text = text(&order);
        assert!(text.contains("rejected (out of stock)"), "{text}");
        assert!(text.contains("20.50 UAH") && text.contains("Lamp"), "{text}");
    }
}
