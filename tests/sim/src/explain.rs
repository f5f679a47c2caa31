//! Why a seed fails: the fewest kinds of faults with which it does, and what happened to the order concerned.
//!
//! In: a seed that has failed. Out: a text for whoever mends it. Nothing of it costs a run that succeeds.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::Value;
use simulated_aws::{Moment, SimulatedAws};

use crate::{
    Kind, Plan, Recorded,
    lambda::{BEGINS, ENDS},
    record,
    shop::{ORDERS, Queue},
};

/// Maximum length of a call, and of its answer, in a line of the story, in characters.
const PART_CHARACTERS_MAX: usize = 320;
/// What stands between a call and its answer.
const ARROW: &str = " -> ";
/// Maximum number of lines of the story.
const LINES_MAX: usize = 400;
/// Length of an order's id.
const ID_CHARACTERS: usize = 36;

/// Says why a seed fails, and with how little.
#[must_use]
pub fn explain(seed: u64, orders: usize) -> String {
    explain_plan(seed, orders, Plan::of(seed))
}

fn explain_plan(seed: u64, orders: usize, mut plan: Plan) -> String {
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
    let Recorded { result, story, unsettled, .. } = record(seed, orders, plan, true);
    let Err(error) = result else {
        return format!(
            "seed {seed} fails in one run and succeeds in another: something is left to chance\n"
        );
    };
    let why = format!("{error:#}");
    let order = first_subject_named(&why, &story).or_else(|| unsettled.first().cloned());
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
    let queues = Queue::OF_EVENTS.into_iter().flat_map(|queue| aws.bodies(&queue.url()));
    let queued = queues.collect::<Vec<_>>();
    let pending = aws.items(ORDERS).into_iter().filter(|order| order.contains_key("pending_shard"));
    let pending = pending.filter_map(|order| Some(order["order_id"]["S"].as_str()?.to_owned()));
    queued.iter().filter_map(id_in).chain(pending).collect()
}

/// The first id in a text of which the story has something to say: of an order, or of a product.
fn first_subject_named(text: &str, story: &[Moment]) -> Option<String> {
    let ids = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let mut ids = ids.filter(|word| word.len() == ID_CHARACTERS);
    let is_known = |id: &&str| {
        let names = ["order_id", "product_id"].map(|name| format!("\"{name}\":\"{id}\""));
        story.iter().any(|moment| names.iter().any(|name| moment.what.contains(name)))
    };
    ids.find(is_known).map(str::to_owned)
}

/// The beginning and the end of a text.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= PART_CHARACTERS_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(PART_CHARACTERS_MAX * 2 / 3).collect();
    let tail: String = text.chars().skip(length - PART_CHARACTERS_MAX / 3).collect();
    format!("{head} … {tail}")
}

fn story_of(order: &str, story: &[Moment]) -> String {
    let mut text = String::new();
    let names_order = |moment: &&Moment| moment.what.contains(order);
    let environments: BTreeSet<u64> =
        story.iter().filter(names_order).map(|moment| moment.environment).collect();
    let concerns_order = |moment: &&Moment| {
        names_order(moment)
            || match moment.environment {
                // What concerns everybody: a service that is away, a paused queue.
                0 => !moment.what.contains('{'),
                number => {
                    let is_of_life = moment.what.starts_with(BEGINS) || moment.what == ENDS;
                    is_of_life && environments.contains(&number)
                }
            }
    };
    let of_order = story.iter().filter(concerns_order);
    for Moment { at, environment, what } in of_order.take(LINES_MAX) {
        let environment = match environment {
            0 => String::new(),
            number => format!("environment {number}: "),
        };
        // What was answered must not be cut off with what was asked.
        let parts: Vec<String> = what.splitn(2, ARROW).map(shortened).collect();
        let what = parts.join(ARROW);
        let _ = writeln!(text, "{:>9.3} s  {environment}{what}", at.as_secs_f64());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_run_that_fails_in_any_case_is_explained_without_any_fault() {
        // An event that nobody understands is there for longer than anybody waits.
        let plan = Plan { settling_max: Duration::ZERO, has_unknown_version: true, ..Plan::of(1) };
        let text = explain_plan(1, 3, plan);
        assert!(text.contains("with no more than []: not settled"), "{text}");
    }

    #[test]
    fn the_story_of_an_order_has_what_was_called_and_answered() {
        let Recorded { story, .. } = record(1, 3, Plan::of(1), true);
        let of_order = "\"order_id\":\"";
        let (_, order) =
            story.iter().find_map(|it| it.what.split_once(of_order)).expect("an order");
        let text = story_of(&order[..ID_CHARACTERS], &story);
        for part in ["TransactWriteItems", "PublishBatch", "SendEmail", "-> 201"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
