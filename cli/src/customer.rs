//! `orderflow customer`: what the shop knows of a person, and how it forgets who the person was.
//!
//! In: an address. Out: everything that is stored under it, or what was changed. Guarantees: an address is found whatever
//! the case of its letters, in the orders, the event log, the answers that are kept for repeated requests, and the suppressed
//! addresses: no other table has any. Erasing replaces the person and not the order, so that the books stay as they are; it
//! changes nothing while an order is pending, whose events would carry the address on; it can be repeated until nothing is left.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{error::ProvideErrorMetadata, types::AttributeValue};
use events::Email;
use exactly_once::Item;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    error::CliError,
    log::{self, Logged},
    order::{self, OrderView},
    output::counted,
    stack::Stack,
    suppressed::{self, Suppressed},
};

/// How often what is found is replaced, and then looked for again: an order that is cancelled meanwhile writes an event.
const ROUNDS_MAX: usize = 3;
/// What no command can change.
const OUT_OF_REACH: [&str; 4] = [
    "backups of the tables (point-in-time recovery keeps 35 days)",
    "messages that are on a queue or its DLQ: `orderflow dlq list --show-email` shows them, `orderflow dlq drop --no-copy` deletes them",
    "mails that were sent",
    "exports that somebody made",
];

/// What is stored of a customer.
#[derive(Debug, Serialize)]
pub(crate) struct Export {
    email: Email,
    orders: Vec<OrderView>,
    events: Vec<Logged>,
    /// What is answered if a request for an order is repeated.
    answers: Vec<Box<RawValue>>,
    suppressed: Option<Suppressed>,
}

/// Where a customer's address is stored.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Orders by id, with their status and the address as it was typed.
    orders: BTreeMap<String, Typed>,
    /// The events' keys with the bodies that they have.
    events: Vec<(EventLocation, Typed)>,
    /// The keys of stored answers with what they say.
    answers: Vec<(String, Typed)>,
    suppressed: Option<Suppressed>,
}

#[derive(Debug, Clone)]
struct EventLocation {
    order_id: String,
    event_id: String,
}

/// A text that has the address in it, and the address as it is typed there.
#[derive(Debug, Clone)]
struct Typed {
    /// Of an order its status, of what is JSON all of it.
    text: String,
    email: Email,
}

/// What was replaced.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Erased {
    orders: usize,
    events: usize,
    answers: usize,
    suppressed: bool,
    out_of_reach: Vec<&'static str>,
}

/// All that is stored of a customer.
///
/// # Errors
/// A table or order-api does not answer.
pub(crate) async fn export(stack: &Stack, email: &Email) -> Result<Export, CliError> {
    let found = find(stack, email).await?;
    let mut export = Export {
        email: email.clone(),
        orders: Vec::new(),
        events: Vec::new(),
        answers: Vec::new(),
        suppressed: found.suppressed,
    };
    for id in found.orders.keys() {
        export.orders.push(order::show(stack, id, order::Email::Full).await?);
        export.events.extend(log::of_order(stack, id).await?);
    }
    let answers = found.answers.into_iter().map(|(_, answer)| RawValue::from_string(answer.text));
    export.answers = answers.collect::<Result<_, _>>().map_err(CliError::local("reading"))?;
    Ok(export)
}

/// Looks for a customer's address.
///
/// # Errors
/// A table does not answer.
pub(crate) async fn find(stack: &Stack, email: &Email) -> Result<Found, CliError> {
    let mut found = Found { suppressed: suppressed::get(stack, email).await?, ..Found::default() };
    let is_theirs = |typed: &Email| typed.mailbox() == email.mailbox();
    let in_json = |text: &str, pointer: &str| {
        let json: Value = serde_json::from_str(text).ok()?;
        let email: Email = json.pointer(pointer)?.as_str()?.parse().ok()?;
        is_theirs(&email).then(|| Typed { text: text.to_owned(), email })
    };
    scan(stack, ("OrdersTable", "order_id, customer_email, #field"), "status", |item| {
        let email = text(item, "customer_email").and_then(|email| email.parse().ok());
        let (Some(id), Some(status)) = (text(item, "order_id"), text(item, "status")) else {
            return;
        };
        if let Some(email) = email.filter(is_theirs) {
            found.orders.insert(id.to_owned(), Typed { text: status.to_owned(), email });
        }
    })
    .await?;
    scan(stack, ("EventLogTable", "order_id, event_id, #field"), "body", |item| {
        let body = text(item, "body").and_then(|body| in_json(body, "/data/customer_email"));
        let key = (text(item, "order_id"), text(item, "event_id"));
        if let (Some(body), (Some(order_id), Some(event_id))) = (body, key) {
            let (order_id, event_id) = (order_id.to_owned(), event_id.to_owned());
            found.events.push((EventLocation { order_id, event_id }, body));
        }
    })
    .await?;
    scan(stack, ("IdempotencyTable", "#field, answer"), "key", |item| {
        let answer = text(item, "answer").and_then(|answer| in_json(answer, "/customer_email"));
        if let (Some(answer), Some(key)) = (answer, text(item, "key")) {
            found.answers.push((key.to_owned(), answer));
        }
    })
    .await?;
    Ok(found)
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Reads a whole table; `field` is the name for which `#field` stands, because DynamoDB keeps the word for itself.
async fn scan(
    stack: &Stack,
    (output, fields): (&str, &str),
    field: &str,
    mut work: impl FnMut(&Item),
) -> Result<(), CliError> {
    let mut start = None;
    loop {
        let page = stack
            .dynamodb
            .scan()
            .table_name(stack.output(output)?)
            .consistent_read(true)
            .projection_expression(fields)
            .expression_attribute_names("#field", field)
            .set_exclusive_start_key(start)
            .send()
            .await?;
        page.items.unwrap_or_default().iter().for_each(&mut work);
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(());
        }
    }
}

impl Found {
    /// Whether nothing is stored under the address.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = self.orders.is_empty() && self.events.is_empty() && self.answers.is_empty();
        nothing && self.suppressed.is_none()
    }

    /// Where it is.
    pub(crate) fn text(&self) -> String {
        let suppressed =
            if self.suppressed.is_some() { ", and the suppressed address" } else { "" };
        format!(
            "{}, {}, {}{suppressed}",
            counted(self.orders.len() as u64, "order"),
            counted(self.events.len() as u64, "event"),
            counted(self.answers.len() as u64, "stored answer"),
        )
    }

    /// # Errors
    /// An order is still under way.
    fn require_settled(&self) -> Result<(), CliError> {
        let pending = self.orders.iter().find(|(_, order)| order.text == "pending");
        pending.map_or(Ok(()), |(id, _)| {
            Err(CliError::NotDone(format!(
                "order {id} is pending, and its next events would carry the address on: wait until it is settled, or cancel \
                 it; nothing was changed"
            )))
        })
    }
}

/// Replaces what was found, until nothing is found any more.
///
/// # Errors
/// An order is pending, or a table does not answer: what was replaced until then stays so, and the command can be repeated.
pub(crate) async fn erase(
    stack: &Stack,
    email: &Email,
    mut found: Found,
) -> Result<Erased, CliError> {
    found.require_settled()?;
    let mut erased = Erased { out_of_reach: OUT_OF_REACH.to_vec(), ..Erased::default() };
    for _ in 0..ROUNDS_MAX {
        if found.is_empty() {
            return Ok(erased);
        }
        // The orders last: by them an operator sees that something is left.
        for (key, body) in &found.events {
            let (order_id, event_id) = (key.order_id.as_str(), key.event_id.as_str());
            let key = [("order_id", order_id), ("event_id", event_id)];
            let change = ("body", &*body.text, &*body.without_email()?);
            erased.events += usize::from(replace(stack, "EventLogTable", &key, change).await?);
        }
        for (key, answer) in &found.answers {
            let change = ("answer", &*answer.text, &*answer.without_email()?);
            let key = [("key", key.as_str())];
            erased.answers += usize::from(replace(stack, "IdempotencyTable", &key, change).await?);
        }
        for (id, order) in &found.orders {
            let erased_email = Email::erased();
            let change = ("customer_email", order.email.as_str(), erased_email.as_str());
            let key = [("order_id", id.as_str())];
            erased.orders += usize::from(replace(stack, "OrdersTable", &key, change).await?);
        }
        if found.suppressed.take().is_some() {
            suppressed::remove(stack, email).await?;
            erased.suppressed = true;
        }
        found = find(stack, email).await?;
        found.require_settled()?;
    }
    if found.is_empty() {
        return Ok(erased);
    }
    Err(CliError::NotDone(format!("somebody keeps storing the address: {} left", found.text())))
}

impl Typed {
    /// The text with nobody's address in the place of the customer's. It is replaced as it is written, so that
    /// amounts of money keep their digits.
    fn without_email(&self) -> Result<String, CliError> {
        let quoted =
            |email: &Email| serde_json::to_string(email).map_err(CliError::local("erasing"));
        let replaced = self.text.replace(&quoted(&self.email)?, &quoted(&Email::erased())?);
        if replaced == self.text {
            return Err(CliError::NotDone(
                "the address is written with escapes that the shop's functions do not write: replace it by hand".into(),
            ));
        }
        Ok(replaced)
    }
}

/// Replaces the value of an attribute, unless somebody else has changed it.
async fn replace(
    stack: &Stack,
    output: &str,
    key: &[(&str, &str)],
    (attribute, from, to): (&str, &str, &str),
) -> Result<bool, CliError> {
    let value = |text: &str| AttributeValue::S(text.to_owned());
    let key = key.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
    let sent = stack
        .dynamodb
        .update_item()
        .table_name(stack.output(output)?)
        .set_key(Some(key))
        .update_expression("SET #attribute = :to")
        .condition_expression("#attribute = :from")
        .expression_attribute_names("#attribute", attribute)
        .expression_attribute_values(":from", value(from))
        .expression_attribute_values(":to", value(to))
        .send()
        .await;
    match sent {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Erased {
    pub(crate) fn text(&self) -> String {
        if self.orders + self.events + self.answers == 0 && !self.suppressed {
            return "Nothing is stored under this address.".to_owned();
        }
        let suppressed = if self.suppressed { ", the suppressed address" } else { "" };
        format!(
            "Replaced in {}, {}, {}{suppressed}.\nOut of reach: {}.",
            counted(self.orders as u64, "order"),
            counted(self.events as u64, "event"),
            counted(self.answers as u64, "stored answer"),
            self.out_of_reach.join("; "),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Typed {
        Typed { text: text.to_owned(), email: "Jane@example.com".parse().expect("an address") }
    }

    #[test]
    fn a_person_is_replaced_and_nothing_else_is() {
        let body =
            r#"{"data":{"customer_email":"Jane@example.com","total_price":20.50,"name":"jane"}}"#;
        let replaced = typed(body).without_email().expect("replaced");
        let expected = r#"{"data":{"customer_email":"erased@orderflow.invalid","total_price":20.50,"name":"jane"}}"#;
        assert_eq!(replaced, expected);
        assert!(typed("{}").without_email().is_err(), "what has not been replaced is no success");
    }

    #[test]
    fn nothing_is_erased_while_an_order_is_pending() {
        let mut found = Found::default();
        found.orders.insert("o1".into(), typed("confirmed"));
        assert!(found.require_settled().is_ok());
        found.orders.insert("o2".into(), typed("pending"));
        let error = found.require_settled().expect_err("pending").to_string();
        assert!(error.contains("order o2 is pending"), "{error}");
    }
}
