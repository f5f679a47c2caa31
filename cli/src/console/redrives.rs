//! What became of the letters that this console has sent to their queues again.
//!
//! In: redriven letters. Out: the last redrives, each with what is known of it by now. Guarantees: each is watched to its end,
//! whether a page is open or not, and for a bounded time; memory is bounded.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::dead_list::DeadLetters;
use crate::{
    redriven::{self, Became},
    select::DeadLetter,
    stack::{Queue, Stack},
};

/// For how long letters are watched: a message that fails is tried again for longer, and is said to be on its way until then.
const WATCH_TIME: Duration = Duration::from_secs(120);
/// Maximum number of redrives that are kept.
const KEPT_MAX: usize = 5;

/// One redrive of one queue.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Redrive {
    pub at: Timestamp,
    pub queue: String,
    pub letters: usize,
    /// As a sentence; `None` while they are watched.
    pub became: Option<String>,
}

/// The last of them, the newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redrives {
    kept: Arc<Mutex<VecDeque<Redrive>>>,
}

impl Redrives {
    pub(crate) fn all(&self) -> Vec<Redrive> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Looks what becomes of letters that were redriven just now. Nobody waits for it.
    pub(crate) fn watch(
        &self,
        stack: Stack,
        queue: Queue,
        letters: Vec<DeadLetter>,
        dead: DeadLetters,
    ) {
        let at = Timestamp::now();
        let (name, count) = (queue.name.clone(), letters.len());
        self.note(Redrive { at, queue: name.clone(), letters: count, became: None });
        let redrives = self.clone();
        tokio::spawn(async move {
            // By the console's one list, so that listings do not hide letters from each other.
            let list_dead = || {
                let (dead, stack, queue) = (dead.clone(), stack.clone(), queue.name.clone());
                async move {
                    let mut all = dead.refresh(&stack).await?.listing.letters;
                    all.retain(|letter| letter.queue == queue);
                    Ok(all)
                }
            };
            let became = redriven::watch(&stack, &queue, &letters, WATCH_TIME, list_dead).await;
            let became = Some(became.map_or_else(
                |error| format!("not known: {error}"),
                |became: Became| became.text(),
            ));
            redrives.note(Redrive { at, queue: name, letters: count, became });
        });
    }

    /// Keeps it, in the place of what was known of it before.
    fn note(&self, redrive: Redrive) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |one: &&mut Redrive| one.at == redrive.at && one.queue == redrive.queue;
        match kept.iter_mut().find(same) {
            Some(known) => *known = redrive,
            // What was displaced while it was watched is not shown any more.
            None if redrive.became.is_some() => {}
            None => {
                kept.push_front(redrive);
                kept.truncate(KEPT_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_redrive_takes_its_place_and_only_the_last_ones_are_kept() {
        let redrive = |second: i64, became: Option<&str>| Redrive {
            at: Timestamp::from_second(second).expect("a moment"),
            queue: "product".into(),
            letters: 2,
            became: became.map(str::to_owned),
        };
        let redrives = Redrives::default();
        for second in 0..=5 {
            redrives.note(redrive(second, None));
        }
        redrives.note(redrive(3, Some("2 handled")));
        redrives.note(redrive(0, Some("displaced")));
        let all = redrives.all();
        let known: Vec<(i64, Option<&str>)> =
            all.iter().map(|one| (one.at.as_second(), one.became.as_deref())).collect();
        assert_eq!(known, [(5, None), (4, None), (3, Some("2 handled")), (2, None), (1, None)]);
    }
}
