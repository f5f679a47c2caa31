//! What each consumer did with each event of an order, and when, by the idempotency markers.
//!
//! In: an order's events. Out: for each its consumers with what their markers say. A consumer's marker has the key
//! `CONSUMER#EVENT_ID`, so that all of an order's are read by their keys. Which consumers take an event, the filters of their
//! subscriptions say; where those cannot be read, only what was done is known. Guarantee: no marker is said as such, and never as
//! "not done": a consumer may also have found nothing to do, and a marker is kept for 30 days.

use std::collections::HashMap;

use ::analytics::dynamodb::marker_owner;
use exactly_once::{
    Item,
    inbox::MARKER_TTL,
    table::{batch_get_all, text},
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    analytics,
    error::CliError,
    filter::Filter,
    log::{self, Logged},
    replay,
    stack::{Queue, Stack},
};

/// The consumer that counts anew under another generation.
const ANALYTICS: &str = "analytics-consumer";

/// What a consumer has done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Handling {
    /// It had its effect.
    Done,
    /// Its effect is under way.
    InProgress,
    /// Whether it had its effect is unknown: a call had no answer, or its process died.
    Unknown,
    /// It did not have its effect, and is tried again.
    GivenBack,
    /// There is no marker: it waits, had nothing to do, is dead, or was handled longer than 30 days ago.
    NoMarker,
}

impl Handling {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::InProgress => "in progress",
            Self::Unknown => "outcome unknown",
            Self::GivenBack => "to be tried again",
            Self::NoMarker => "no marker",
        }
    }
}

/// What one consumer has done with one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Handled {
    pub consumer: String,
    pub state: Handling,
    /// When it was begun, of what is done under a lease, such as a mail.
    pub claimed_at: Option<Timestamp>,
    /// When it was done. Of a marker that is older than the attribute, the second.
    pub done_at: Option<Timestamp>,
    /// Number of attempts without an answer.
    pub unknown_attempts: u32,
    /// The ids of the events that came with it.
    pub caused: Vec<String>,
}

impl Handled {
    fn absent(consumer: &str) -> Self {
        Self {
            consumer: consumer.to_owned(),
            state: Handling::NoMarker,
            claimed_at: None,
            done_at: None,
            unknown_attempts: 0,
            caused: Vec::new(),
        }
    }

    fn read(consumer: &str, marker: &Item, now: Timestamp) -> Self {
        let number = |name: &str| marker.get(name)?.as_n().ok()?.parse::<i64>().ok();
        let moment = |name: &str| Timestamp::from_millisecond(number(name)?).ok();
        let by_expiry = || {
            let ttl = SignedDuration::try_from(MARKER_TTL).ok()?;
            Timestamp::from_second(number("expires_at")?).ok()?.checked_sub(ttl).ok()
        };
        let is_done =
            marker.get("state").and_then(|state| state.as_s().ok()).is_some_and(|s| s == "done");
        let unknown_attempts = number("unknown_attempts").and_then(|n| u32::try_from(n).ok());
        let leased_until = number("leased_until").unwrap_or_default();
        let state = match (is_done, leased_until) {
            (true, _) => Handling::Done,
            (false, until) if until > now.as_millisecond() && unknown_attempts.is_none() => {
                Handling::InProgress
            }
            (false, 0) if unknown_attempts.is_none() => Handling::GivenBack,
            (false, _) => Handling::Unknown,
        };
        let claimed_at = moment("claimed_at").or_else(|| if is_done { None } else { by_expiry() });
        Self {
            consumer: consumer.to_owned(),
            state,
            claimed_at,
            done_at: is_done.then(|| moment("done_at").or_else(by_expiry)).flatten(),
            unknown_attempts: unknown_attempts.unwrap_or_default(),
            caused: caused(marker),
        }
    }

    /// The last that is known of it.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.done_at.or(self.claimed_at)
    }

    /// What it did, as people read it.
    pub(crate) fn text(&self) -> String {
        match self.unknown_attempts {
            0 => self.state.as_str().to_owned(),
            1 => format!("{}, 1 attempt without an answer", self.state.as_str()),
            count => format!("{}, {count} attempts without an answer", self.state.as_str()),
        }
    }
}

/// The ids of the events that a marker names.
fn caused(marker: &Item) -> Vec<String> {
    let named = marker.get("events").and_then(|events| events.as_l().ok());
    let id = |event: &aws_sdk_dynamodb::types::AttributeValue| {
        event.as_m().ok()?.get("id")?.as_s().ok().cloned()
    };
    named.into_iter().flatten().filter_map(id).collect()
}

/// An event with what its consumers have done.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HandledEvent {
    #[serde(flatten)]
    pub event: Logged,
    pub consumers: Vec<Handled>,
}

/// The events of an order, oldest first, each with what its consumers have done.
///
/// # Errors
/// A table does not answer, or knows no such order.
pub(crate) async fn history(stack: &Stack, order: &str) -> Result<Vec<HandledEvent>, CliError> {
    let events = log::of_order(stack, order).await?;
    // The rights that a filter takes are none that a history needs.
    let filters = stack.queues.iter().map(async |queue| {
        let filter = replay::filter(stack, queue).await;
        (queue.consumer_name.as_str(), filter.ok())
    });
    let (filters, markers) = tokio::join!(join_all(filters), markers(stack, &events));
    let (markers, now) = (markers?, Timestamp::now());
    let handled = events.into_iter().map(|event| {
        let consumers = stack.consumers().filter_map(|Queue { consumer_name: name, .. }| {
            let marker = markers.get(&key(stack, name, &event.event_id));
            let filters = filters.iter().filter(|(consumer, _)| consumer == name);
            handled(name, filters.filter_map(|(_, filter)| filter.as_ref()), &event, marker, now)
        });
        HandledEvent { consumers: consumers.collect(), event }
    });
    Ok(handled.collect())
}

/// What a consumer has done with an event, or `None` if it is not given it.
fn handled<'a>(
    consumer: &str,
    mut filters: impl Iterator<Item = &'a Filter>,
    event: &Logged,
    marker: Option<&Item>,
    now: Timestamp,
) -> Option<Handled> {
    if let Some(marker) = marker {
        return Some(Handled::read(consumer, marker, now));
    }
    let is_given = filters.any(|filter| filter.passes(&event.attributes).unwrap_or(false));
    is_given.then(|| Handled::absent(consumer))
}

/// The key of a consumer's marker. Those of the analytics are of a generation.
pub(crate) fn key(stack: &Stack, consumer: &str, event_id: &str) -> String {
    let owner = match consumer {
        ANALYTICS => marker_owner(consumer, analytics::generation(stack)),
        _ => consumer.to_owned(),
    };
    format!("{owner}#{event_id}")
}

/// The markers that there are, by their keys.
async fn markers(stack: &Stack, events: &[Logged]) -> Result<HashMap<String, Item>, CliError> {
    const OPERATION: &str = "BatchGetItem markers";
    let keys = events.iter().flat_map(|event| {
        stack.consumers().map(|queue| {
            let key = key(stack, &queue.consumer_name, &event.event_id);
            Item::from([("key".to_owned(), text(key))])
        })
    });
    let table = stack.output("IdempotencyTable")?;
    let items = batch_get_all(&stack.dynamodb, table, keys.collect(), OPERATION).await?;
    let by_key = |item: Item| Some((item.get("key")?.as_s().ok()?.clone(), item));
    Ok(items.into_iter().filter_map(by_key).collect())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use exactly_once::table::number;

    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn read(fields: &[(&str, AttributeValue)]) -> Handled {
        let marker = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let now = Timestamp::from_millisecond(NOW_MS).expect("a moment");
        Handled::read("notification-consumer", &marker.collect(), now)
    }

    #[test]
    fn a_marker_says_when_its_effect_was_and_which_events_came_with_it() {
        let named = HashMap::from([("id".to_owned(), text("e2"))]);
        let handled = read(&[
            ("state", text("done")),
            ("done_at", number(NOW_MS - 5)),
            ("expires_at", number(1)),
            ("events", AttributeValue::L(vec![AttributeValue::M(named)])),
        ]);
        assert_eq!(handled.state, Handling::Done);
        assert_eq!(handled.done_at.map(|at| at.as_millisecond()), Some(NOW_MS - 5));
        assert_eq!(handled.caused, ["e2"]);
    }

    #[test]
    fn a_marker_that_is_older_than_the_attribute_says_the_second() {
        let ttl = i64::try_from(MARKER_TTL.as_secs()).expect("in range");
        let handled = read(&[("state", text("done")), ("expires_at", number(1_700_000_000 + ttl))]);
        assert_eq!(handled.done_at.map(|at| at.as_second()), Some(1_700_000_000));
    }

    #[test]
    fn a_lease_is_under_way_given_back_or_of_unknown_outcome() {
        let lease = |until: i64, unknown: Option<i64>| {
            let mut fields = vec![("state", text("in_progress")), ("leased_until", number(until))];
            fields.extend(unknown.map(|count| ("unknown_attempts", number(count))));
            read(&fields)
        };
        assert_eq!(lease(NOW_MS + 1, None).state, Handling::InProgress);
        assert_eq!(lease(0, None).state, Handling::GivenBack);
        assert_eq!(lease(NOW_MS - 1, None).state, Handling::Unknown, "its process has died");
        let unknown = lease(NOW_MS + 1, Some(2));
        assert_eq!(unknown.state, Handling::Unknown);
        assert_eq!(unknown.text(), "outcome unknown, 2 attempts without an answer");
    }
}
