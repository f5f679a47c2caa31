//! `orderflow mail unknown`: the mails of which nobody knows whether they were sent.
//!
//! In: a page. Out: the leases of notification-consumer whose outcome is unknown: a send had no answer, or the process died under
//! it. No index has them, so that the table of markers is scanned, in no order, within the bounds of
//! [`pagination`](crate::pagination). A mail that was tried too often has no lease any more: it is a dead letter.

use std::collections::HashMap;

use exactly_once::{
    Item,
    inbox::MARKER_TTL,
    table::{batch_get_all, number, text as attribute},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    error::CliError,
    output::{plain, table},
    pagination::{Page, PageRequest, TableScan, scan},
    select::glimpse,
    stack::Stack,
    when::short,
};

/// What the keys of the mails' leases begin with.
const LEASES: &str = "notification-consumer#";
/// What is said below the list.
const DEAD: &str = "\nWhat was tried too often is a dead letter: `orderflow dlq list notification --reason mail_outcome_unknown`";

/// A mail whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct UnknownMail {
    /// About which it is.
    pub event_id: String,
    /// What that says, if the log has it.
    pub event_type: Option<String>,
    /// Null of a lease that is older than the attribute.
    pub order_id: Option<String>,
    /// When the last attempt was begun.
    pub since: Option<Timestamp>,
    /// Number of sends without an answer.
    pub unknown_attempts: u32,
    /// Nobody tries again before this moment.
    pub leased_until: Option<Timestamp>,
}

impl UnknownMail {
    fn read(item: &Item) -> Option<Self> {
        let text = |name: &str| item.get(name)?.as_s().ok();
        let number = |name: &str| item.get(name)?.as_n().ok()?.parse::<i64>().ok();
        let moment = |name: &str| Timestamp::from_millisecond(number(name)?).ok();
        // A lease that is older than the attribute says by its end when it was claimed.
        let by_expiry = || {
            let ttl = SignedDuration::try_from(MARKER_TTL).ok()?;
            Timestamp::from_second(number("expires_at")?).ok()?.checked_sub(ttl).ok()
        };
        Some(Self {
            event_id: text("key")?.strip_prefix(LEASES)?.to_owned(),
            event_type: None,
            order_id: text("subject").cloned(),
            since: moment("claimed_at").or_else(by_expiry),
            unknown_attempts: number("unknown_attempts")
                .and_then(|attempts| u32::try_from(attempts).ok())
                .unwrap_or_default(),
            leased_until: moment("leased_until").filter(|until| *until > Timestamp::UNIX_EPOCH),
        })
    }
}

/// A page of the mails whose outcome is unknown.
///
/// # Errors
/// A table does not answer.
pub(crate) async fn list_unknown(
    stack: &Stack,
    request: &PageRequest,
) -> Result<Page<UnknownMail>, CliError> {
    let name = stack.output("IdempotencyTable")?;
    let wanted = TableScan { table: name, key: "key", is_filtered: true };
    let now = Timestamp::now().as_millisecond();
    let page = scan(stack, wanted, request, |call| {
        call
            // A lease of 0 was given back: that mail was not sent. One that has not ended, without an unknown outcome, is being sent.
            .filter_expression(
                "begins_with(#key, :leases) AND #state = :in_progress AND \
                 (attribute_exists(unknown_attempts) OR leased_until BETWEEN :one AND :now)",
            )
            .projection_expression(
                "#key, subject, claimed_at, expires_at, unknown_attempts, leased_until",
            )
            .expression_attribute_names("#key", "key")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":leases", attribute(LEASES))
            .expression_attribute_values(":in_progress", attribute("in_progress"))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":now", number(now))
    });
    let page = page.await?;
    let mut items: Vec<UnknownMail> = page.items.iter().filter_map(UnknownMail::read).collect();
    note_types(stack, &mut items).await?;
    Ok(Page { items, read: page.read, next: page.next })
}

/// Notes what the events say that the mails are about.
async fn note_types(stack: &Stack, mails: &mut [UnknownMail]) -> Result<(), CliError> {
    const OPERATION: &str = "BatchGetItem events of mails";
    let key = |mail: &UnknownMail| {
        let order = attribute(mail.order_id.clone()?);
        Some(Item::from([
            ("order_id".to_owned(), order),
            ("event_id".to_owned(), attribute(&mail.event_id)),
        ]))
    };
    let keys: Vec<Item> = mails.iter().filter_map(key).collect();
    let items =
        batch_get_all(&stack.dynamodb, stack.output("EventLogTable")?, keys, OPERATION).await?;
    let event = |item: &Item| {
        let text = |name: &str| item.get(name)?.as_s().ok().cloned();
        let [event_type, ..] = glimpse(&text("body")?);
        Some((text("event_id")?, event_type?))
    };
    let types: HashMap<String, String> = items.iter().filter_map(event).collect();
    for mail in mails {
        mail.event_type = types.get(&mail.event_id).cloned();
    }
    Ok(())
}

/// As people read it.
pub(crate) fn text(page: &Page<UnknownMail>) -> String {
    if page.items.is_empty() {
        return format!("No mail whose outcome is unknown.{}{DEAD}", page.end_text());
    }
    let now = Timestamp::now();
    let known = |text: &Option<String>| plain(text.as_deref().unwrap_or("-"));
    let rows = page.items.iter().map(|mail| {
        let age = mail.since.map(|since| short(now.duration_since(since).as_secs()));
        let again = mail.leased_until.map_or_else(
            || "given back".to_owned(),
            |until| match until.duration_since(now).as_secs() {
                seconds @ 1.. => format!("in {}", short(seconds)),
                _ => "ended".to_owned(),
            },
        );
        vec![
            age.unwrap_or_else(|| "-".to_owned()),
            mail.unknown_attempts.to_string(),
            again,
            known(&mail.event_type),
            known(&mail.order_id),
            plain(&mail.event_id),
        ]
    });
    let headings = [">age", ">no answer", "lease", "event", "order", "event id"];
    format!("{}{}{DEAD}", table(&headings, rows), page.end_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_says_which_mail_of_which_order_has_had_no_answer_and_how_often() {
        let item = Item::from([
            ("key".to_owned(), attribute("notification-consumer#e1")),
            ("subject".to_owned(), attribute("o1")),
            ("claimed_at".to_owned(), number(1_800_000_000_123_i64)),
            ("unknown_attempts".to_owned(), number(2)),
            ("leased_until".to_owned(), number(1_800_000_030_123_i64)),
        ]);
        let mail = UnknownMail::read(&item).expect("a lease");
        assert_eq!((mail.event_id.as_str(), mail.order_id.as_deref()), ("e1", Some("o1")));
        assert_eq!(mail.since.map(|since| since.as_millisecond()), Some(1_800_000_000_123));
        let said = text(&Page { items: vec![mail], read: Some(1), next: None });
        assert!(said.contains("o1") && said.contains("mail_outcome_unknown"), "{said}");
    }

    #[test]
    fn a_lease_that_is_older_than_its_attributes_says_what_it_can() {
        let ttl = i64::try_from(MARKER_TTL.as_secs()).expect("in range");
        let item = Item::from([
            ("key".to_owned(), attribute("notification-consumer#e1")),
            ("expires_at".to_owned(), number(1_800_000_000 + ttl)),
            ("leased_until".to_owned(), number(0)),
        ]);
        let mail = UnknownMail::read(&item).expect("a lease");
        assert_eq!(mail.since.map(|since| since.as_second()), Some(1_800_000_000));
        assert_eq!((mail.order_id, mail.leased_until), (None, None));
    }
}
