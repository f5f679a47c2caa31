//! `dlq redrive --wait`, and the console after a redrive: what became of the letters that were sent to their queue again.
//!
//! In: the letters, and for how long to wait. Out: how many were handled, how many died again, why and after how many attempts, and of how many
//! nobody knows yet. What was handled is known by its consumer's marker of the event, or, for want of one, by the letter's having left the queue for good;
//! what died again, by its being in the DLQ with the same body. Guarantee: reads only.

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
    output::counted,
    queue_attributes,
    select::DeadLetter,
    stack::{Queue, Stack},
};

/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(2);

/// What became of redriven letters.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Became {
    pub handled: u64,
    /// By the reason.
    pub died_again: BTreeMap<String, DiedAgain>,
    /// Neither, when the time was over: they are tried again for a while.
    pub unknown: u64,
}

/// How many died again for one reason, and after how many attempts, as far as their consumer says so.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DiedAgain {
    pub letters: u64,
    pub attempts_min: Option<u32>,
    pub attempts_max: Option<u32>,
}

impl DiedAgain {
    fn add(&mut self, attempts: Option<u32>) {
        self.letters += 1;
        self.attempts_min = self.attempts_min.into_iter().chain(attempts).min();
        self.attempts_max = self.attempts_max.max(attempts);
    }

    /// ` after 2 attempts`, or nothing if nobody knows.
    fn after(&self) -> String {
        match (self.attempts_min, self.attempts_max) {
            (Some(min), Some(max)) if min < max => format!(" after {min} to {max} attempts"),
            (Some(attempts), _) => format!(" after {}", counted(attempts.into(), "attempt")),
            (None, _) => String::new(),
        }
    }
}

impl Became {
    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let mut parts = vec![format!("{} handled", self.handled)];
        let died = self.died_again.iter();
        parts.extend(died.map(|(reason, died)| {
            format!("{} died again: {reason}{}", died.letters, died.after())
        }));
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
        let is_drained = queue_attributes::read(stack, &queue.url).await?.is_empty();
        let handled = markers(stack, queue, &open).await?;
        let dead = if queue_attributes::read(stack, &queue.dlq_url).await?.is_empty() {
            Vec::new()
        } else {
            list_dead().await?
        };
        open.retain(|letter| match fate(letter, &dead, &handled, is_drained) {
            Fate::Handled => {
                became.handled += 1;
                false
            }
            Fate::Dead { reason, attempts } => {
                became.died_again.entry(reason).or_default().add(attempts);
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
    Dead { reason: String, attempts: Option<u32> },
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
        return Fate::Dead { reason: again.reason.clone(), attempts: again.attempts };
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
        let again = DeadLetter { attempts: Some(2), ..letter("a") };
        let dead = Fate::Dead { reason: "schema".into(), attempts: Some(2) };
        assert_eq!(fate(&letter("a"), &[letter("b"), again], &handled, true), dead);
    }

    #[test]
    fn what_became_of_them_is_one_sentence() {
        let became = |attempts: &[Option<u32>]| {
            let mut died = DiedAgain::default();
            attempts.iter().for_each(|attempts| died.add(*attempts));
            let died_again = [("schema".to_owned(), died)].into();
            Became { handled: 3, died_again, unknown: 0 }.text()
        };
        assert_eq!(became(&[Some(2)]), "3 handled, 1 died again: schema after 2 attempts");
        assert_eq!(became(&[Some(1), Some(1)]), "3 handled, 2 died again: schema after 1 attempt");
        let differ = became(&[Some(3), None, Some(5), Some(2)]);
        assert_eq!(differ, "3 handled, 4 died again: schema after 2 to 5 attempts");
        assert_eq!(became(&[None]), "3 handled, 1 died again: schema", "SQS moved it");
        let waiting = Became { unknown: 2, ..Became::default() };
        assert_eq!(waiting.text(), "0 handled, 2 still on the way");
    }
}
