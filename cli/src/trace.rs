//! `orderflow order trace`: one order from its request to its last mail as a waterfall, by what is stored.
//!
//! In: when the order was placed, and its events with what their consumers did. Out: a [`Trace`]: a step for each event and each
//! effect, with when it began and ended. Pure; no tracing backend is asked. What is not stored is not in it: when a consumer
//! received a message, and how often in vain. So a consumer's step begins when its event was made, and holds the way over the topic
//! and the queue too; only what is done under a lease, such as a mail, says apart for how long it has waited.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    marker::{Handled, HandledEvent, Handling},
    output::{plain, table},
};

/// Width of the bars, in characters.
const BAR_WIDTH: usize = 40;

/// One order's way through the services.
#[derive(Debug, Serialize)]
pub(crate) struct Trace {
    pub order_id: String,
    pub correlation_id: Option<String>,
    pub status: String,
    /// When the order was placed: the steps count from here.
    pub began_at: Timestamp,
    /// How long it took until the last that is known.
    pub took_ms: i64,
    pub steps: Vec<Step>,
}

/// One step, in milliseconds since the order was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub from_ms: i64,
    /// When work on it was begun, if that is known: until then it waited.
    pub claimed_ms: Option<i64>,
    /// Null of what has not ended.
    pub to_ms: Option<i64>,
    pub service: String,
    pub did: String,
    pub event_id: String,
}

impl Trace {
    /// Of an order, its status, when it was placed, and its events, oldest first.
    pub(crate) fn of(
        (order_id, status): (&str, &str),
        placed_at: Option<Timestamp>,
        events: &[HandledEvent],
    ) -> Option<Self> {
        let first = &events.first()?.event;
        let began_at = placed_at.map_or(first.timestamp, |placed| placed.min(first.timestamp));
        let ms =
            |at: Timestamp| at.duration_since(began_at).as_millis().try_into().unwrap_or(i64::MAX);
        // Which consumer made which event of which.
        let makers: HashMap<&str, (&HandledEvent, &Handled)> = events
            .iter()
            .flat_map(|event| event.consumers.iter().map(move |handled| (event, handled)))
            .flat_map(|(event, handled)| {
                handled.caused.iter().map(move |id| (id.as_str(), (event, handled)))
            })
            .collect();
        let mut steps = Vec::new();
        for one in events {
            let event = &one.event;
            let made = ms(event.timestamp);
            let step = match makers.get(event.event_id.as_str()) {
                Some((cause, handled)) => Step {
                    from_ms: ms(cause.event.timestamp),
                    claimed_ms: handled.claimed_at.map(ms),
                    to_ms: Some(made),
                    service: handled.consumer.clone(),
                    did: format!("{} → {}", cause.event.event_type, event.event_type),
                    event_id: event.event_id.clone(),
                },
                None => Step {
                    from_ms: if event.event_id == first.event_id { 0 } else { made },
                    claimed_ms: None,
                    to_ms: Some(made),
                    service: event.source.clone(),
                    did: event.event_type.clone(),
                    event_id: event.event_id.clone(),
                },
            };
            steps.push(step);
            // What has caused an event is that event's step.
            let others = one
                .consumers
                .iter()
                .filter(|handled| handled.state != Handling::NoMarker && handled.caused.is_empty());
            steps.extend(others.map(|handled| Step {
                from_ms: made,
                claimed_ms: handled.claimed_at.map(ms),
                to_ms: handled.done_at.map(ms),
                service: handled.consumer.clone(),
                did: format!("{}: {}", event.event_type, handled.text()),
                event_id: event.event_id.clone(),
            }));
        }
        steps.sort_by_key(|step| (step.from_ms, step.to_ms.unwrap_or(i64::MAX)));
        let last = |step: &Step| step.to_ms.or(step.claimed_ms).unwrap_or(step.from_ms);
        Some(Self {
            order_id: order_id.to_owned(),
            correlation_id: first.correlation_id.clone(),
            status: status.to_owned(),
            began_at,
            took_ms: steps.iter().map(last).max().unwrap_or_default(),
            steps,
        })
    }

    /// As people read it: a line for each step, with a bar.
    pub(crate) fn text(&self) -> String {
        let rows = self.steps.iter().map(|step| {
            let took =
                step.to_ms.map(|to| format!("{} ms", to.saturating_sub(step.from_ms).max(0)));
            vec![
                format!("+{} ms", step.from_ms),
                took.unwrap_or_else(|| "not ended".to_owned()),
                bar(step, self.took_ms),
                step.service.clone(),
                plain(&step.did),
            ]
        });
        format!(
            "order           {} ({})\nplaced          {:.3}\ncorrelation id  {}\ntook            {} ms until the last that is known\n\n{}\n\n\
             █ from its event to its effect, the way over topic and queue included   ░ waiting for a mail's turn, where that is known",
            plain(&self.order_id),
            self.status,
            self.began_at,
            plain(self.correlation_id.as_deref().unwrap_or("-")),
            self.took_ms,
            table(&[">after", ">took", "", "service", "did"], rows),
        )
    }
}

/// A step as a part of the whole. What is shorter than a character has one all the same.
fn bar(step: &Step, whole_ms: i64) -> String {
    let column = |ms: i64| {
        let (ms, whole) = (ms.clamp(0, whole_ms.max(0)) as f64, whole_ms.max(1) as f64);
        ((ms / whole * BAR_WIDTH as f64).round() as usize).min(BAR_WIDTH - 1)
    };
    let from = column(step.from_ms);
    let to = column(step.to_ms.unwrap_or(whole_ms)).max(from);
    let claimed = step.claimed_ms.map_or(from, column).clamp(from, to);
    let work = if step.to_ms.is_some() { '█' } else { '▒' };
    let mut bar = String::new();
    bar.extend(std::iter::repeat_n('·', from));
    bar.extend(std::iter::repeat_n('░', claimed - from));
    bar.extend(std::iter::repeat_n(work, to - claimed + 1));
    bar.extend(std::iter::repeat_n('·', BAR_WIDTH - 1 - to));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Logged;

    fn event(id: &str, event_type: &str, ms: i64, consumers: Vec<Handled>) -> HandledEvent {
        HandledEvent { event: Logged::of_test(id, event_type, at(ms)), consumers }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).expect("a moment")
    }

    fn done(consumer: &str, claimed: Option<i64>, ms: i64, caused: &[&str]) -> Handled {
        Handled {
            consumer: consumer.into(),
            state: Handling::Done,
            claimed_at: claimed.map(at),
            done_at: Some(at(ms)),
            unknown_attempts: 0,
            caused: caused.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    fn confirmed() -> Trace {
        let mail = |claimed, ms| done("notification-consumer", Some(claimed), ms, &[]);
        let events = [
            event(
                "e1",
                "OrderCreated",
                10,
                vec![done("product-consumer", None, 200, &["e2"]), mail(100, 150)],
            ),
            event("e2", "StockReserved", 200, vec![done("order-consumer", None, 400, &["e3"])]),
            event("e3", "OrderConfirmed", 400, vec![mail(700, 800)]),
        ];
        Trace::of(("o1", "confirmed"), Some(at(0)), &events).expect("a trace")
    }

    #[test]
    fn a_trace_goes_from_the_request_to_the_last_mail_and_each_step_begins_with_its_cause() {
        let trace = confirmed();
        assert_eq!(trace.took_ms, 800);
        let steps: Vec<_> = trace
            .steps
            .iter()
            .map(|step| (step.from_ms, step.to_ms, step.service.as_str(), step.did.as_str()))
            .collect();
        assert_eq!(
            steps,
            [
                (0, Some(10), "order-service", "OrderCreated"),
                (10, Some(150), "notification-consumer", "OrderCreated: done"),
                (10, Some(200), "product-consumer", "OrderCreated → StockReserved"),
                (200, Some(400), "order-consumer", "StockReserved → OrderConfirmed"),
                (400, Some(800), "notification-consumer", "OrderConfirmed: done"),
            ]
        );
    }

    #[test]
    fn a_bar_stands_where_its_step_was_and_says_apart_for_how_long_a_mail_has_waited() {
        let trace = confirmed();
        let bars: Vec<String> = trace.steps.iter().map(|step| bar(step, trace.took_ms)).collect();
        assert!(bars.iter().all(|bar| bar.chars().count() == BAR_WIDTH), "{bars:?}");
        assert!(bars[0].starts_with('█') && bars[0].ends_with('·'), "{bars:?}");
        let mail = &bars[4];
        assert_eq!(mail.chars().filter(|c| *c == '░').count(), 15, "700 of 800 ms: {mail}");
        assert!(mail.starts_with('·') && mail.ends_with('█'), "{mail}");
        let text = trace.text();
        assert!(text.contains("+400 ms") && text.contains("400 ms"), "{text}");
    }

    #[test]
    fn a_mail_without_an_answer_has_not_ended() {
        let handled = Handled {
            state: Handling::Unknown,
            done_at: None,
            unknown_attempts: 1,
            ..done("notification-consumer", Some(50), 0, &[])
        };
        let events = [event("e1", "OrderCreated", 0, vec![handled])];
        let trace = Trace::of(("o1", "pending"), Some(at(0)), &events).expect("a trace");
        assert_eq!(trace.steps[1].to_ms, None);
        let text = trace.text();
        assert!(
            text.contains("not ended") && text.contains("1 attempt without an answer"),
            "{text}"
        );
    }

    #[test]
    fn an_event_that_no_marker_names_is_a_step_of_whoever_publishes_it() {
        let events = [
            event("e1", "OrderCreated", 0, Vec::new()),
            event("e2", "OrderCancelled", 90, Vec::new()),
        ];
        let trace = Trace::of(("o1", "cancelled"), None, &events).expect("a trace");
        assert_eq!((trace.steps[1].from_ms, trace.steps[1].to_ms), (90, Some(90)));
    }
}
