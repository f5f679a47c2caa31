//! Why a seed fails: the fewest kinds of faults with which it does, and what happened to the order concerned.
//!
//! In: a seed that has failed. Out: a text for whoever mends it. Nothing of it costs a run that succeeds.

use std::fmt::Write as _;

use serde_json::Value;
use simulated_aws::{Moment, SimulatedAws};

use crate::{
    Kind, Plan, Recorded, record,
    shop::{ORDERS, Queue},
};

/// Maximum length of a line of the story, in characters.
const LINE_CHARACTERS_MAX: usize = 600;
/// Maximum number of lines of the story.
const LINES_MAX: usize = 400;
/// Length of an order's id.
const ID_CHARACTERS: usize = 36;

/// Says why a seed fails, and with how little.
#[must_use]
pub fn explain(seed: u64, orders: usize) -> String {
    let mut plan = Plan::of(seed);
    let mut needed = Vec::new();
    for kind in Kind::ALL {
        let less = plan.clone().without(kind);
        if less == plan {
            continue;
        }
        if record(seed, orders, less.clone(), false).result.is_err() {
            plan = less;
        } else {
            needed.push(kind);
        }
    }
    let Recorded { result, story, unsettled } = record(seed, orders, plan, true);
    let Err(error) = result else {
        return format!(
            "seed {seed} fails in one run and succeeds in another: something is left to chance\n"
        );
    };
    let why = format!("{error:#}");
    let order = first_order_named(&why, &story).or_else(|| unsettled.first().cloned());
    let mut text = format!("seed {seed} fails with no more than {needed:?}: {why}\n");
    if let Some(order) = order {
        let _ = writeln!(text, "the story of {order}:");
        text += &story_of(&order, &story);
    }
    text
}

/// The orders that something is left to do for.
pub(crate) fn unsettled_orders(aws: &SimulatedAws) -> Vec<String> {
    let id_in = |body: &String| {
        let body: Value = serde_json::from_str(body).ok()?;
        Some(body["data"]["order_id"].as_str()?.to_owned())
    };
    let queues = Queue::ALL.into_iter().flat_map(|queue| aws.bodies(&queue.url()));
    let queued = queues.collect::<Vec<_>>();
    let pending = aws.items(ORDERS).into_iter().filter(|order| order.contains_key("pending_shard"));
    let pending = pending.filter_map(|order| Some(order["order_id"]["S"].as_str()?.to_owned()));
    queued.iter().filter_map(id_in).chain(pending).collect()
}

/// The first id of an order in a text.
fn first_order_named(text: &str, story: &[Moment]) -> Option<String> {
    let ids = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let mut ids = ids.filter(|word| word.len() == ID_CHARACTERS);
    let is_order = |id: &&str| {
        let placed = format!("\"id\":\"{id}\",\"status\"");
        story.iter().any(|moment| moment.what.contains(&placed))
    };
    ids.find(is_order).map(str::to_owned)
}

fn story_of(order: &str, story: &[Moment]) -> String {
    let mut text = String::new();
    let of_order = story.iter().filter(|moment| {
        moment.what.contains(order) || (moment.environment == 0 && !moment.what.contains("=>"))
    });
    for Moment { at, environment, what } in of_order.take(LINES_MAX) {
        let environment = match environment {
            0 => String::new(),
            number => format!("environment {number}: "),
        };
        let what: String = what.chars().take(LINE_CHARACTERS_MAX).collect();
        let _ = writeln!(text, "{:>9.3} s  {environment}{what}", at.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_of_an_order_has_what_was_called_and_answered() {
        let Recorded { story, .. } = record(1, 3, Plan::of(1), true);
        let placed = story.iter().find_map(|moment| first_order_named(&moment.what, &story));
        let text = story_of(&placed.expect("an order"), &story);
        for part in ["TransactWriteItems", "PublishBatch", "SendEmail", "=> 201"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
