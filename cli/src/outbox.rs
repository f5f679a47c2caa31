//! `orderflow outbox`: the events that are stored and not published, one by one.
//!
//! In: a stack, and for one event its id. Out: what the event log has of them. Guarantee: an item that is no readable
//! event is shown too, with what can be read of it, because that is just what an operator looks for here.

use exactly_once::outbox::UnpublishedKey;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    log::{self, Item},
    output::{plain, table},
    select::glimpse,
    stack::Stack,
    when::short,
};

/// Maximum number of events that are listed of each state, unless said otherwise.
pub(crate) const EVENTS_DEFAULT: u16 = 100;
/// Maximum number of unpublished events that are looked through for one whose order is not named.
const SEARCH_MAX: usize = 10_000;
/// Number of reads at the same time.
const READS_AT_ONCE: usize = 8;

/// One event of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OutboxEvent {
    /// Its order.
    pub order_id: String,
    /// Its id.
    pub event_id: String,
    /// `stuck`: SNS refuses it for good; `pending`: it is going to be published; `published`.
    pub outbox: &'static str,
    /// Since when it is one of these, of an event that is not published.
    pub pending_since: Option<Timestamp>,
    /// What happened, if that can be read.
    pub event_type: Option<String>,
    /// Its message attributes.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Its bytes, if there are any.
    pub body: Option<String>,
}

/// The stuck events, and with `pending` those too that are going to be published; oldest first.
///
/// # Errors
/// The event log does not answer.
pub(crate) async fn list(
    stack: &Stack,
    pending: bool,
    limit: u16,
) -> Result<Vec<OutboxEvent>, CliError> {
    let outbox = stack.outbox()?;
    let mut keys = outbox.list_stuck(limit.into()).await?;
    if pending {
        keys.extend(outbox.list_pending(limit.into()).await?);
    }
    read_all(stack, &keys).await
}

/// The events with these keys that are not published, in their order.
///
/// # Errors
/// The event log does not answer.
pub(crate) async fn read_all(
    stack: &Stack,
    keys: &[UnpublishedKey],
) -> Result<Vec<OutboxEvent>, CliError> {
    let reads: Vec<_> = keys.iter().map(|key| read(stack, &key.stream, &key.event_id)).collect();
    let events: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
    // The index lags a little: what was published meanwhile is none of them.
    let unpublished = |event: &OutboxEvent| event.outbox != "published";
    Ok(events.into_iter().flatten().filter(unpublished).collect())
}

/// One event. Without its order it has to be one that is not published: only of those there is an index.
pub(crate) async fn find(
    stack: &Stack,
    order: Option<&str>,
    event: &str,
) -> Result<OutboxEvent, CliError> {
    let order = match order {
        Some(order) => order.to_owned(),
        None => order_of(stack, event).await?,
    };
    read(stack, &order, event).await?.ok_or_else(|| {
        CliError::NotFound(format!("no event {event:?} of order {order:?} in stack {}", stack.name))
    })
}

async fn order_of(stack: &Stack, event: &str) -> Result<String, CliError> {
    let outbox = stack.outbox()?;
    let (stuck, pending) =
        tokio::try_join!(outbox.list_stuck(SEARCH_MAX), outbox.list_pending(SEARCH_MAX))?;
    let of_event = |key: &UnpublishedKey| key.event_id == event;
    stuck.into_iter().chain(pending).find(of_event).map(|key| key.stream).ok_or_else(|| {
        CliError::NotFound(format!(
            "no stuck or pending event {event:?} in stack {}; one that is published is found by its order's id too",
            stack.name
        ))
    })
}

async fn read(stack: &Stack, order: &str, event: &str) -> Result<Option<OutboxEvent>, CliError> {
    Ok(log::item(stack, order, event).await?.as_ref().and_then(outbox_event))
}

fn outbox_event(item: &Item) -> Option<OutboxEvent> {
    let text = |name: &str| item.get(name)?.as_s().ok().cloned();
    let body = text("body");
    let [event_type, ..] = glimpse(body.as_deref().unwrap_or_default());
    let attributes = item.get("attributes").and_then(|value| value.as_m().ok());
    Some(OutboxEvent {
        order_id: text("order_id")?,
        event_id: text("event_id")?,
        outbox: log::outbox_state(item),
        pending_since: text("pending_since").and_then(|since| since.parse().ok()),
        event_type,
        attributes: attributes
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let text = value.as_s().map_or("(no text)", String::as_str);
                (name.clone(), text.to_owned())
            })
            .collect(),
        body,
    })
}

/// A line each.
pub(crate) fn summary(events: &[OutboxEvent], limit: u16) -> String {
    if events.is_empty() {
        return "No stuck events.".to_owned();
    }
    let now = Timestamp::now();
    let rows = events.iter().map(|event| {
        let since = event.pending_since.map(|since| short(now.duration_since(since).as_secs()));
        vec![
            event.outbox.to_owned(),
            since.unwrap_or_else(|| "-".into()),
            event.event_type.clone().unwrap_or_else(|| "-".into()),
            event.order_id.clone(),
            event.event_id.clone(),
        ]
    });
    let table = table(&["outbox", ">age", "event", "order", "event id"], rows);
    let stuck = events.iter().filter(|event| event.outbox == "stuck").count();
    let of_many = stuck >= limit.into() || events.len() - stuck >= limit.into();
    let more = if of_many {
        format!("\nThe first {limit} of each; --limit reads more, `orderflow status` counts all.")
    } else {
        String::new()
    };
    format!("{table}{more}")
}

/// All of one.
pub(crate) fn in_full(event: &OutboxEvent) -> String {
    let mut lines = vec![
        format!("event id   {}", event.event_id),
        format!("order      {}", event.order_id),
        format!("event      {}", event.event_type.as_deref().unwrap_or("-")),
        format!("outbox     {}", event.outbox),
    ];
    lines.extend(event.pending_since.iter().map(|since| format!("since      {since:.3}")));
    let attributes = event.attributes.iter();
    lines.extend(attributes.map(|(name, value)| format!("attribute  {name} = {value}")));
    match &event.body {
        Some(body) => lines.push(format!("  {body}")),
        None => {
            lines.push("It has no body: it was not written by the shop's functions.".to_owned())
        }
    }
    lines.iter().map(|line| plain(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    #[test]
    fn an_item_that_is_no_readable_event_is_shown_with_what_there_is() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = Item::from([
            ("order_id".to_owned(), text("o1")),
            ("event_id".to_owned(), text("e1")),
            ("outbox_shard".to_owned(), text("stuck")),
        ]);
        let event = outbox_event(&item).expect("it has a key");
        assert_eq!((event.outbox, event.event_type.as_ref()), ("stuck", None));
        assert!(in_full(&event).contains("no body"));
        assert!(summary(&[event], EVENTS_DEFAULT).contains("e1"));
        assert_eq!(summary(&[], EVENTS_DEFAULT), "No stuck events.");
    }
}
