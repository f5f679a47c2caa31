//! The events that a message causes: published before the message is acknowledged, so that they need no place in the outbox.
//!
//! In: what a handler has decided about a message, and the events that its transaction has stored. Out: what becomes of the
//! message, once that is safe. An event that has a place in the outbox costs that place, its removal and the index of both; a
//! message that is not acknowledged before its events are published is as good a promise, and costs nothing.
//!
//! Guarantees: a message ends well only if each event that it has caused was accepted by SNS or is in the outbox. If the process
//! dies in between, the message comes back, meets its marker, which names the events, and publishes them again; so consumers may
//! get them twice, and know them by their own markers. If neither SNS nor the event log answers, the message is tried again.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;

use crate::{
    Failure, Handled, Inbox, Item, Outbox, Outgoing, TableError, TransactionWrite,
    outbox::EventKey, table::text,
};

/// The attribute of a marker that names the events that its transaction has stored.
const EVENTS: &str = "events";

/// The events that the messages of one consumer cause, by its markers and its event log.
#[derive(Debug, Clone)]
pub struct CausedEvents {
    inbox: Inbox,
    outbox: Outbox,
}

/// What a handler has decided about a message.
#[derive(Debug)]
pub struct Decided {
    /// The key of its marker, such as its event's id.
    pub key: String,
    /// What became of it.
    pub result: Result<Handled, Failure>,
    /// The events that its transaction has stored.
    pub events: Vec<Outgoing>,
}

/// The events of a message are not published, and have no place in the outbox.
#[derive(Debug, thiserror::Error)]
#[error("{0} events of the message were neither published nor put in the outbox")]
struct NotPublished(usize);

impl CausedEvents {
    /// With the markers of this consumer, and this event log and topic.
    #[must_use]
    pub fn new(inbox: Inbox, outbox: Outbox) -> Self {
        Self { inbox, outbox }
    }

    /// The write that lets a message have its effect once ([`Inbox::marker`]), and names the events that come with it.
    #[must_use]
    pub fn marker<Tag>(
        &self,
        key: impl fmt::Display,
        events: &[Outgoing],
    ) -> TransactionWrite<Tag> {
        let named = events.iter().map(|event| {
            let name = [("stream", text(&event.stream)), ("id", text(event.id))];
            AttributeValue::M(name.map(|(name, value)| (name.to_owned(), value)).into())
        });
        let named: Vec<AttributeValue> = named.collect();
        let named = (!named.is_empty()).then(|| (EVENTS, AttributeValue::L(named)));
        self.inbox.marker_with(key, named)
    }

    /// The writes that store the events, for the transaction of their marker.
    #[must_use]
    pub fn store<Tag>(&self, events: &[Outgoing]) -> Vec<TransactionWrite<Tag>> {
        self.outbox.store(events)
    }

    /// Publishes what messages have caused, all together, and says what becomes of each message then. Of a duplicate, the
    /// events are published that its first delivery has stored: it may not have come to it.
    pub async fn publish(&self, decided: Vec<Decided>) -> Vec<Result<Handled, Failure>> {
        let events: Vec<Outgoing> = decided.iter().flat_map(|one| one.events.clone()).collect();
        let left = self.outbox.publish_or_enqueue(&events).await;
        let results = decided.into_iter().map(async |one| match one.result {
            Ok(Handled::Done) => {
                let is_left = |event: &&Outgoing| left.iter().any(|key| key.id == event.id);
                is_published(one.events.iter().filter(is_left).count()).map(|()| Handled::Done)
            }
            Ok(Handled::Duplicate) => {
                self.publish_again(&one.key).await.map(|()| Handled::Duplicate)
            }
            result => result,
        });
        join_all(results).await
    }

    async fn publish_again(&self, key: &str) -> Result<(), Failure> {
        // What refused the transaction need not have been the marker: then the effect, and its events, are another's.
        let Some(marker) = self.inbox.find_marker(key).await? else { return Ok(()) };
        let events = named_events(&marker).map_err(Failure::from)?;
        if events.is_empty() {
            return Ok(());
        }
        is_published(self.outbox.publish_stored(&events).await?.len())
    }
}

fn is_published(left: usize) -> Result<(), Failure> {
    match left {
        0 => Ok(()),
        left => Err(Failure::transient_because("not_published", NotPublished(left))),
    }
}

/// The events that a marker names.
fn named_events(marker: &Item) -> Result<Vec<EventKey>, TableError> {
    let Some(named) = marker.get(EVENTS) else { return Ok(Vec::new()) };
    let key = |named: &AttributeValue| {
        let field = |name: &str| named.as_m().ok()?.get(name)?.as_s().ok();
        Some(EventKey { stream: field("stream")?.clone(), id: field("id")?.parse().ok()? })
    };
    let keys = named.as_l().ok().and_then(|named| named.iter().map(key).collect());
    keys.ok_or("a marker names its events by stream and id").map_err(TableError::corrupt("markers"))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn named(stream: &str, id: &str) -> AttributeValue {
        let name = [("stream", text(stream)), ("id", text(id))];
        AttributeValue::M(name.map(|(name, value)| (name.to_owned(), value)).into())
    }

    #[test]
    fn a_marker_says_which_events_came_with_it() {
        let id = Uuid::from_u128(7);
        let marker = |events| Item::from([(EVENTS.to_owned(), AttributeValue::L(events))]);
        let known = named_events(&marker(vec![named("o1", &id.to_string())]));
        assert_eq!(known.expect("a marker"), [EventKey { stream: "o1".into(), id }]);
        assert!(named_events(&marker(vec![named("o1", "no id")])).is_err());
        // Of a transaction that stored none, or that put them in the outbox.
        assert!(named_events(&Item::new()).expect("a marker").is_empty());
    }
}
