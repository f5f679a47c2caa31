//! Which dead letters a command is about.
//!
//! In: dead letters and a [`Selection`]. Out: those that it names. Pure: the present moment is passed in.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::when::span;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeadLetter {
    pub queue: String,
    /// As SQS calls it; another after each move.
    pub message_id: String,
    /// As SQS called it on its queue, if its consumer said so.
    pub original_message_id: Option<String>,
    /// A stable code.
    pub reason: String,
    /// What is wrong with it, if its consumer said so.
    pub detail: Option<String>,
    /// What the event is, if that can be read.
    pub event_type: Option<String>,
    /// Which order it is about, if that can be read.
    pub order_id: Option<String>,
    /// Its event, if that can be read.
    pub event_id: Option<String>,
    /// When it died, as far as that is known: see `since_is`.
    pub since: Timestamp,
    /// What `since` is.
    pub since_is: Since,
    /// When it failed for the first time, if its consumer said so.
    pub first_failed_at: Option<Timestamp>,
    /// How often its consumer was given it until it died, if it said so.
    pub attempts: Option<u32>,
    /// How often it was received from the DLQ, listing included.
    pub receives: u32,
    pub attributes: std::collections::BTreeMap<String, String>,
    pub body: String,
}

/// What is known of the moment at which a letter died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Since {
    /// Its consumer sent it to the DLQ at that moment.
    FailedAt,
    /// It was sent to its queue then, and died at some later moment: SQS moved it and does not say when.
    Sent,
}

/// Which of them. What is not said does not narrow.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(crate) struct Selection {
    /// Whose failure_reason is this, such as schema or retries_exhausted
    #[arg(long, value_name = "CODE", value_parser = not_empty)]
    pub reason: Option<String>,
    /// Whose event_type is this
    #[arg(long = "type", value_name = "TYPE", value_parser = not_empty)]
    pub event_type: Option<String>,
    /// Which are about this order
    #[arg(long, value_name = "ID", value_parser = not_empty)]
    pub order: Option<String>,
    /// Which died longer ago, such as 2h or 3d; one that SQS moved counts from when it was sent
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub older_than: Option<SignedDuration>,
    /// Which died more recently
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub newer_than: Option<SignedDuration>,
    /// Whose message id, in the DLQ or before, begins so; repeatable
    #[arg(long, value_name = "PREFIX", value_parser = not_empty)]
    pub id: Vec<String>,
}

impl Selection {
    /// Whether nothing narrows it.
    pub(crate) fn is_everything(&self) -> bool {
        self.reason.is_none()
            && self.event_type.is_none()
            && self.order.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
            && self.id.is_empty()
    }

    /// Whether a dead letter is among them.
    pub(crate) fn takes(&self, letter: &DeadLetter, now: Timestamp) -> bool {
        let age = now.duration_since(letter.since);
        let is = |wanted: &Option<String>, there: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == there
        };
        is(&self.reason, Some(&letter.reason))
            && is(&self.event_type, letter.event_type.as_ref())
            && is(&self.order, letter.order_id.as_ref())
            && self.older_than.is_none_or(|span| age > span)
            && self.newer_than.is_none_or(|span| age < span)
            && (self.id.is_empty() || self.id.iter().any(|prefix| has_id(letter, prefix)))
    }
}

fn has_id(letter: &DeadLetter, prefix: &str) -> bool {
    let original = letter.original_message_id.as_deref();
    letter.message_id.starts_with(prefix) || original.is_some_and(|id| id.starts_with(prefix))
}

/// Reads a text that selects something. An empty one would select everything, or nothing: mostly it is a variable
/// of a script that is not set.
///
/// # Errors
/// It is empty.
pub(crate) fn not_empty(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty: perhaps a variable is not set");
    }
    Ok(text.to_owned())
}

/// What of an event can be read, even of one that breaks the contract.
pub(crate) fn glimpse(body: &str) -> [Option<String>; 3] {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    [text(&json["event_type"]), text(&json["data"]["order_id"]), text(&json["event_id"])]
}

#[cfg(test)]
impl DeadLetter {
    /// A letter for tests, that died two hours before the noon of its day.
    pub(crate) fn of_reason(reason: &str) -> Self {
        Self {
            queue: "product".into(),
            message_id: "abc-1".into(),
            original_message_id: Some("first-1".into()),
            reason: reason.into(),
            detail: None,
            event_type: Some("OrderCreated".into()),
            order_id: Some("o1".into()),
            event_id: None,
            since: "2025-11-20T10:00:00Z".parse().expect("a moment"),
            since_is: Since::FailedAt,
            first_failed_at: None,
            attempts: None,
            receives: 1,
            attributes: Default::default(),
            body: "{}".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2025-11-20T12:00:00Z".parse().expect("a moment")
    }

    fn taken(change: impl FnOnce(&mut Selection)) -> bool {
        let mut selection = Selection::default();
        change(&mut selection);
        selection.takes(&DeadLetter::of_reason("schema"), now())
    }

    #[test]
    fn a_selection_that_says_nothing_takes_everything() {
        assert!(Selection::default().is_everything());
        assert!(taken(|_| ()));
    }

    #[test]
    fn every_part_of_a_selection_narrows_it() {
        assert!(taken(|s| s.reason = Some("schema".into())));
        assert!(!taken(|s| s.reason = Some("not_json".into())));
        assert!(taken(|s| s.event_type = Some("OrderCreated".into())));
        assert!(!taken(|s| s.event_type = Some("OrderCancelled".into())));
        assert!(taken(|s| s.order = Some("o1".into())));
        assert!(!taken(|s| s.order = Some("o2".into())));
        assert!(taken(|s| s.older_than = Some(SignedDuration::from_hours(1))));
        assert!(!taken(|s| s.older_than = Some(SignedDuration::from_hours(3))));
        assert!(taken(|s| s.newer_than = Some(SignedDuration::from_hours(3))));
        assert!(!taken(|s| s.newer_than = Some(SignedDuration::from_hours(1))));
        assert!(taken(|s| s.id = vec!["x".into(), "abc".into()]));
        assert!(taken(|s| s.id = vec!["first".into()]), "the id before it died is known too");
        assert!(!taken(|s| s.id = vec!["x".into()]));
    }

    #[test]
    fn a_selector_is_never_empty() {
        for text in ["", " ", "\t"] {
            assert!(not_empty(text).is_err(), "{text:?}");
        }
        assert_eq!(not_empty("abc").as_deref(), Ok("abc"));
    }

    #[test]
    fn parts_of_a_selection_all_have_to_hold() {
        assert!(!taken(|s| {
            s.reason = Some("schema".into());
            s.order = Some("o2".into());
        }));
    }

    #[test]
    fn what_is_no_event_gives_no_glimpse() {
        assert_eq!(glimpse("not json"), [None, None, None]);
        let [event_type, order, id] =
            glimpse(r#"{"event_type":"Odd","data":{"order_id":"o"},"event_id":7}"#);
        assert_eq!((event_type.as_deref(), order.as_deref(), id), (Some("Odd"), Some("o"), None));
    }
}
