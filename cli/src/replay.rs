//! `orderflow replay`: a part of the event log, delivered once more to one queue.
//!
//! In: a queue and a range of time, or one order. Out: the events that the queue's subscription would have been
//! given, on the queue, with the bytes and attributes that they were published with, each order's in time order.
//! Guarantees: past the topic, so no other queue sees them; consumers stay exactly-once, because an event that has
//! had its effect is known by its id or by what it changed; a mail is not sent again, because the mailer
//! remembers for 30 days and passes over what is older than 14. A replay that breaks off can be run again.

use std::collections::BTreeMap;

use delivery::batching::batches;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    error::CliError,
    filter::Filter,
    log::{self, Logged},
    output::table,
    send::{self, Message},
    stack::{Queue, Stack},
};

/// Maximum number of events of one replay: it sorts them in memory, at about 2 KB each. A longer range is
/// replayed in parts.
pub(crate) const EVENTS_MAX: usize = 500_000;

#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    pub queue: String,
    /// From this moment on.
    pub from: Timestamp,
    /// Until before this one.
    pub to: Timestamp,
    pub order: Option<String>,
    pub events: BTreeMap<String, u64>,
    /// Those in the range that the queue's filter keeps out.
    pub filtered_out: u64,
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
        filtered_out: 0,
        sent: 0,
        failed: Vec::new(),
        selected: Vec::new(),
    };
    log::pages(stack, order.as_deref(), |page| {
        bar.inc(page.len() as u64);
        for event in page {
            if event.timestamp < from || event.timestamp >= to {
                continue;
            }
            if !filter.passes(&event.attributes).map_err(CliError::NotDone)? {
                plan.filtered_out += 1;
                continue;
            }
            *plan.events.entry(event.event_type.clone()).or_default() += 1;
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
    log::in_time_order(&mut plan.selected);
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

/// What the queue's subscription is given.
async fn filter(stack: &Stack, queue: &Queue) -> Result<Filter, CliError> {
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

    pub(crate) fn text(&self) -> String {
        let of = self.order.as_ref().map(|order| format!(" of order {order}")).unwrap_or_default();
        let rows = self.events.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
        let failed: String = self.failed.iter().map(|why| format!("\n  {why}")).collect();
        format!(
            "Events{of} from {:.3} until {:.3} for the queue {}:\n{}\n{} kept out by its filter; {} sent{failed}",
            self.from,
            self.to,
            self.queue,
            if self.events.is_empty() {
                " none".to_owned()
            } else {
                table(&["type", ">events"], rows)
            },
            self.filtered_out,
            self.sent,
        )
    }
}
