//! `orderflow replay`: a part of the event log, delivered once more to one queue.
//!
//! In: a queue and a range of time, or one order. Out: the events that the queue's subscription would have been
//! given, on the queue, with the bytes and attributes that they were published with, each order's in time order.
//! Guarantees: past the topic, so no other queue sees them; consumers stay exactly-once, because an event that has
//! had its effect is known by its id or by what it changed; a mail is not sent again, because the mailer
//! remembers for 30 days and passes over what is older than 14. A replay that breaks off can be run again. A new order for whose
//! event the relay still has to care is left out: that it arrives at one queue would be taken for its publication.

use std::collections::{BTreeMap, BTreeSet};

use exactly_once::batching::batches;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    filter::Filter,
    log::{self, Logged},
    output::{counted, table},
    send::{self, Message},
    stack::{Queue, Stack},
};

/// Maximum number of events of one replay: it sorts them in memory, at about 2 KB each. A longer range is
/// replayed in parts.
pub(crate) const EVENTS_MAX: usize = 500_000;

/// Maximum number of orders that are named before the question.
const ORDERS_NAMED_MAX: u64 = 5;

/// What is to be replayed.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    pub queue: String,
    /// From this moment on.
    pub from: Timestamp,
    /// Until before this one.
    pub to: Timestamp,
    pub order: Option<String>,
    pub events: BTreeMap<String, u64>,
    /// Number of orders that they are about.
    pub orders: u64,
    /// Those in the range that the queue's filter keeps out.
    pub filtered_out: u64,
    /// Those that are not published yet, which the relay does.
    pub left_to_relay: u64,
    pub sent: u64,
    /// Why some were not.
    pub failed: Vec<String>,
    #[serde(skip)]
    selected: Vec<Logged>,
}

pub(crate) async fn plan(
    stack: &Stack,
    queue: &Queue,
    [from, to]: [Timestamp; 2],
    order: Option<String>,
    bar: &ProgressBar,
) -> Result<Plan, CliError> {
    let filter = filter(stack, queue).await?;
    let mut plan = Plan {
        queue: queue.name.clone(),
        from,
        to,
        order: order.clone(),
        events: BTreeMap::new(),
        orders: 0,
        filtered_out: 0,
        left_to_relay: 0,
        sent: 0,
        failed: Vec::new(),
        selected: Vec::new(),
    };
    let mut read = 0;
    log::pages(stack, order.as_deref(), |page| {
        bar.inc(page.len() as u64);
        read += page.len();
        for event in page {
            if event.timestamp < from || event.timestamp >= to {
                continue;
            }
            if !filter.passes(&event.attributes).map_err(CliError::NotDone)? {
                plan.filtered_out += 1;
                continue;
            }
            plan.selected.push(event);
        }
        if plan.selected.len() > EVENTS_MAX {
            return Err(CliError::NotDone(format!(
                "more than {EVENTS_MAX} events: replay the range in parts, by --from and --to"
            )));
        }
        Ok(())
    })
    .await?;
    if let (0, Some(order)) = (read, &order) {
        return Err(CliError::NotFound(format!("no order {order:?} in stack {}", stack.name)));
    }
    log::in_time_order(&mut plan.selected);
    log::note_unpublished(stack, &mut plan.selected).await?;
    plan.leave_to_relay();
    plan.orders = plan.orders().len() as u64;
    Ok(plan)
}

pub(crate) async fn run(
    stack: &Stack,
    queue: &Queue,
    plan: &mut Plan,
    bar: &ProgressBar,
) -> Result<(), CliError> {
    let mut messages = Vec::with_capacity(plan.selected.len());
    for event in &plan.selected {
        let mut message = Message { body: event.body.clone(), ..Message::default() };
        for (name, value) in &event.attributes {
            message.attributes.insert(name.clone(), send::text_attribute(value));
        }
        messages.push(message);
    }
    bar.set_length(messages.len() as u64);
    let mut first = 0;
    for batch in batches(&messages, Message::bytes) {
        let fates = send::send(stack, &queue.url, batch).await.map_err(|error| {
            CliError::NotDone(format!(
                "{error}. {} events were sent before; run it again: what was delivered twice is taken once",
                plan.sent
            ))
        })?;
        for (event, fate) in plan.selected[first..].iter().zip(fates) {
            match fate {
                Ok(()) => plan.sent += 1,
                Err(why) => plan.failed.push(format!("{}: {why}", event.event_id)),
            }
        }
        first += batch.len();
        bar.inc(batch.len() as u64);
    }
    Ok(())
}

/// Sends one event of an order to a queue again.
///
/// # Errors
/// There is none of that type, or the queue does not take it.
pub(crate) async fn send_event_again(
    stack: &Stack,
    queue: &Queue,
    order: &str,
    event_type: &str,
) -> Result<(), CliError> {
    let (always, bar) = ([Timestamp::MIN, Timestamp::MAX], ProgressBar::hidden());
    let mut plan = plan(stack, queue, always, Some(order.to_owned()), &bar).await?;
    plan.selected.retain(|event| event.event_type == event_type);
    if plan.is_empty() {
        return Err(CliError::NotFound(format!("no {event_type} of order {order:?}")));
    }
    run(stack, queue, &mut plan, &bar).await?;
    match plan.failed.pop() {
        None => Ok(()),
        Some(why) => Err(CliError::NotDone(format!("the queue did not take it: {why}"))),
    }
}

/// What of the topic a queue is given.
///
/// # Errors
/// It has no subscription, SNS does not answer, or only SNS can apply the filter.
pub(crate) async fn filter(stack: &Stack, queue: &Queue) -> Result<Filter, CliError> {
    let topic = stack.output("TopicArn")?;
    let queue_name = queue.url.rsplit('/').next().unwrap_or_default();
    let mut next = None;
    let subscription = loop {
        let call = stack.sns.list_subscriptions_by_topic().topic_arn(topic).set_next_token(next);
        let page = call.send().await?;
        let found = page.subscriptions().iter().find(|subscription| {
            subscription.endpoint().and_then(|arn| arn.rsplit(':').next()) == Some(queue_name)
        });
        if let Some(arn) = found.and_then(|subscription| subscription.subscription_arn()) {
            break arn.to_owned();
        }
        next = page.next_token;
        if next.is_none() {
            return Err(CliError::NotFound(format!(
                "{} has no subscription to the topic",
                queue.name
            )));
        }
    };
    let answer =
        stack.sns.get_subscription_attributes().subscription_arn(subscription).send().await?;
    let attributes = answer.attributes.unwrap_or_default();
    let text = |name: &str| attributes.get(name).map(String::as_str);
    Filter::read(text("FilterPolicy"), text("FilterPolicyScope")).map_err(CliError::NotDone)
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.selected.is_empty()
    }

    /// Leaves out those new orders that are still to be published, and counts the others by their types.
    fn leave_to_relay(&mut self) {
        let selected = self.selected.len();
        self.selected
            .retain(|event| event.event_type != "OrderCreated" || event.outbox != log::PENDING);
        self.left_to_relay = (selected - self.selected.len()) as u64;
        for event in &self.selected {
            *self.events.entry(event.event_type.clone()).or_default() += 1;
        }
    }

    /// The orders that the events are about.
    fn orders(&self) -> BTreeSet<&str> {
        self.selected.iter().map(|event| event.order_id.as_str()).collect()
    }

    /// What is asked before it is done.
    pub(crate) fn question(&self) -> String {
        let (events, orders) = (self.selected.len() as u64, self.orders);
        let types = self.events.iter().map(|(name, count)| format!("{count} {name}"));
        format!(
            "Send {} ({}) of {} to the queue {} again?",
            counted(events, "event"),
            types.collect::<Vec<_>>().join(", "),
            counted(orders, "order"),
            self.queue
        )
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let of = match (&self.order, self.orders) {
            (Some(order), _) => format!(" of order {order}"),
            (None, 0) => String::new(),
            (None, orders @ 1..=ORDERS_NAMED_MAX) => {
                let names = self.orders().into_iter().collect::<Vec<_>>().join(", ");
                format!(" of {}: {names};", counted(orders, "order"))
            }
            (None, orders) => format!(" of {}", counted(orders, "order")),
        };
        let rows = self.events.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
        let failed: String = self.failed.iter().map(|why| format!("\n  {why}")).collect();
        format!(
            "Events{of} from {:.3} until {:.3} for the queue {}:\n{}\n{} kept out by its filter; {} left to the relay, which has not \
             published them yet; {} sent{failed}",
            self.from,
            self.to,
            self.queue,
            if self.events.is_empty() {
                " none".to_owned()
            } else {
                table(&["type", ">events"], rows)
            },
            self.filtered_out,
            self.left_to_relay,
            self.sent,
        )
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn plan() -> Plan {
        Plan {
            queue: "product".into(),
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::UNIX_EPOCH,
            order: None,
            events: BTreeMap::new(),
            orders: 0,
            filtered_out: 0,
            left_to_relay: 0,
            sent: 0,
            failed: Vec::new(),
            selected: Vec::new(),
        }
    }

    fn logged(event_type: &str, outbox: &'static str) -> Logged {
        let event =
            Logged::of_test(&format!("{event_type}-{outbox}"), event_type, Timestamp::UNIX_EPOCH);
        Logged { order_id: "order".into(), outbox, ..event }
    }

    #[test]
    fn the_question_says_how_many_events_of_which_types_and_of_how_many_orders() {
        let events = [("OrderCreated".to_owned(), 40), ("OrderCancelled".to_owned(), 1)].into();
        let question = Plan { events, orders: 1, ..plan() }.question();
        assert!(question.contains("(1 OrderCancelled, 40 OrderCreated) of 1 order "), "{question}");
    }

    #[test]
    fn a_new_order_that_is_not_published_yet_is_left_to_the_relay_and_nothing_else_is() {
        let mut plan = plan();
        plan.selected = vec![
            logged("OrderCreated", log::PENDING),
            logged("OrderCreated", "published"),
            logged("OrderCancelled", log::PENDING),
        ];
        plan.leave_to_relay();
        let ids: Vec<_> = plan.selected.iter().map(|event| &*event.event_id).collect();
        assert_eq!(ids, ["OrderCreated-published", "OrderCancelled-pending"]);
        assert_eq!(plan.left_to_relay, 1);
        assert_eq!(plan.events.values().sum::<u64>(), 2);
    }
}
