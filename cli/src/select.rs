//! Which dead letters a command is about.
//!
//! In: dead letters and a [`Selection`]. Out: those that it names. Pure: the present moment is passed in.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::when::span;

/// The reason of a dead letter that its consumer did not send to the DLQ itself: SQS moved it after its last attempt.
pub(crate) const RETRIES_EXHAUSTED: &str = "retries_exhausted";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DeadLetter {
    pub queue: String,
    /// As SQS calls it; another after each move.
    pub message_id: String,
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
    /// When its consumer gave it up, or else when it was sent.
    pub since: Timestamp,
    /// How often it was received, listing included.
    pub receives: u32,
    pub attributes: std::collections::BTreeMap<String, String>,
    pub body: String,
}

/// Which of them. What is not said does not narrow.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which dead letters")]
pub(crate) struct Selection {
    /// Whose failure_reason is this, such as schema or retries_exhausted
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Whose event_type is this
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Which are about this order
    #[arg(long, value_name = "ID")]
    pub order: Option<String>,
    /// Which died longer ago, such as 2h or 3d
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub older_than: Option<SignedDuration>,
    /// Which died more recently
    #[arg(long, value_name = "SPAN", value_parser = span)]
    pub newer_than: Option<SignedDuration>,
    /// Whose message id begins so; repeatable
    #[arg(long, value_name = "PREFIX")]
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
            && (self.id.is_empty()
                || self.id.iter().any(|prefix| letter.message_id.starts_with(prefix)))
    }
}

/// What of an event can be read, even of one that breaks the contract.
pub(crate) fn glimpse(body: &str) -> [Option<String>; 3] {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    [text(&json["event_type"]), text(&json["data"]["order_id"]), text(&json["event_id"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2025-11-20T12:00:00Z".parse().expect("a moment")
    }

    fn letter() -> DeadLetter {
        DeadLetter {
            queue: "product".into(),
            message_id: "abc-1".into(),
            reason: "schema".into(),
            detail: None,
            event_type: Some("OrderCreated".into()),
            order_id: Some("o1".into()),
            event_id: None,
            since: now() - SignedDuration::from_hours(2),
            receives: 1,
            attributes: Default::default(),
            body: "{}".into(),
        }
    }

    fn taken(change: impl FnOnce(&mut Selection)) -> bool {
        let mut selection = Selection::default();
        change(&mut selection);
        selection.takes(&letter(), now())
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
        assert!(!taken(|s| s.id = vec!["x".into()]));
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
