//! `dlq redrive --wait`, and the console after a redrive: what became of the letters that were sent to their queue again.
//!
//! In: the letters, and for how long to wait. Out: how many were handled, how many died again and why, and of how many nobody knows yet. What was
//! handled is known by its consumer's marker of the event, or, for want of one, by the letter's having left the queue for good; what died again, by its
//! being in the DLQ with the same body. Guarantee: reads only.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::types::AttributeValue;
use exactly_once::{Item, table::batch_get};
use serde::Serialize;

use crate::{
    error::CliError,
    marker,
    select::DeadLetter,
    stack::{Queue, Stack},
    status::counts,
};

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(2);

/// What became of redriven letters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Became {
    pub handled: u64,
    /// By the reason.
    pub died_again: BTreeMap<String, u64>,
    /// Neither, when the time was over: they are tried again for a while.
    pub unknown: u64,
}

impl Became {
    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let mut parts = vec![format!("{} handled", self.handled)];
        let died = self.died_again.iter();
        parts.extend(died.map(|(reason, count)| format!("{count} died again: {reason}")));
        if self.unknown > 0 {
            parts.push(format!("{} still on the way", self.unknown));
        }
        parts.join(", ")
    }
}

/// Waits until it is known of each letter, or the time is over. `list_dead` lists the queue's dead letters as they are then.
///
/// # Errors
/// AWS does not answer.
pub(crate) async fn watch<D>(
    stack: &Stack,
    queue: &Queue,
    letters: &[DeadLetter],
    limit: Duration,
    list_dead: impl Fn() -> D,
) -> Result<Became, CliError>
where
    D: Future<Output = Result<Vec<DeadLetter>, CliError>>,
{
    let begun = Instant::now();
    let mut open: Vec<&DeadLetter> = letters.iter().collect();
    let mut became = Became::default();
    loop {
        tokio::time::sleep(PAUSE).await;
        // In this order: a letter is on its queue until it is handled, or dead.
        let is_drained = counts(stack, &queue.url).await?.iter().all(|count| *count == 0);
        let handled = markers(stack, queue, &open).await?;
        let dead = if counts(stack, &queue.dlq_url).await?.iter().any(|count| *count > 0) {
            list_dead().await?
        } else {
            Vec::new()
        };
        open.retain(|letter| match fate(letter, &dead, &handled, is_drained) {
            Fate::Handled => {
                became.handled += 1;
                false
            }
            Fate::Dead(reason) => {
                *became.died_again.entry(reason).or_default() += 1;
                false
            }
            Fate::Unknown => true,
        });
        if open.is_empty() || begun.elapsed() >= limit {
            became.unknown = open.len() as u64;
            return Ok(became);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Handled,
    Dead(String),
    Unknown,
}

fn fate(
    letter: &DeadLetter,
    dead: &[DeadLetter],
    handled: &HashSet<String>,
    is_drained: bool,
) -> Fate {
    // First: an event that was handled may have died once more as a copy, which somebody should see.
    if let Some(again) = dead.iter().find(|one| one.body == letter.body) {
        return Fate::Dead(again.reason.clone());
    }
    let has_marker = letter.event_id.as_ref().is_some_and(|id| handled.contains(id));
    if has_marker || is_drained { Fate::Handled } else { Fate::Unknown }
}

/// The events of these letters that their consumer has a marker of.
async fn markers(
    stack: &Stack,
    queue: &Queue,
    letters: &[&DeadLetter],
) -> Result<HashSet<String>, CliError> {
    const OPERATION: &str = "BatchGetItem markers";
    let prefix = marker::key(stack, &queue.consumer_name, "");
    let ids: HashSet<&str> =
        letters.iter().filter_map(|letter| letter.event_id.as_deref()).collect();
    let key = |id: &str| Item::from([("key".into(), AttributeValue::S(format!("{prefix}{id}")))]);
    let keys: Vec<Item> = ids.into_iter().map(key).collect();
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let table = stack.output("IdempotencyTable")?;
    let read = batch_get(&stack.dynamodb, table, keys, OPERATION).await?;
    let done = read.items.iter().filter(|item| {
        item.get("state").and_then(|state| state.as_s().ok()).is_some_and(|state| state == "done")
    });
    let id = |item: &Item| item.get("key")?.as_s().ok()?.strip_prefix(&prefix).map(str::to_owned);
    Ok(done.filter_map(id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_handled_dead_again_or_on_its_way() {
        let letter = |id: &str| DeadLetter {
            event_id: Some(id.to_owned()),
            body: format!("{{\"event_id\":\"{id}\"}}"),
            ..DeadLetter::of_reason("schema")
        };
        let (none, handled) = (HashSet::new(), HashSet::from(["a".to_owned()]));
        assert_eq!(fate(&letter("a"), &[], &handled, false), Fate::Handled);
        assert_eq!(fate(&letter("b"), &[], &handled, false), Fate::Unknown);
        assert_eq!(fate(&letter("b"), &[letter("a")], &none, true), Fate::Handled);
        let dead = Fate::Dead("schema".into());
        assert_eq!(fate(&letter("a"), &[letter("b"), letter("a")], &handled, true), dead);
    }

    #[test]
    fn what_became_of_them_is_one_sentence() {
        let died_again = [("schema".to_owned(), 1)].into();
        let became = Became { handled: 3, died_again, unknown: 0 };
        assert_eq!(became.text(), "3 handled, 1 died again: schema");
        let waiting = Became { unknown: 2, ..Became::default() };
        assert_eq!(waiting.text(), "0 handled, 2 still on the way");
    }
}
