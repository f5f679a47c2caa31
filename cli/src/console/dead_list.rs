//! The console's one list of dead letters, shared by all its pages.
//!
//! In: what the status counts, and requests of pages to look again. Out: the last listing with its age. Guarantees:
//! there is one listing at a time, however many pages there are, so that they do not hide the letters from each
//! other; a listing goes on when the page that asked for it is closed, so that it gives its letters back; after one
//! that failed, or that another listing disturbed, the list is made again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    dlq::{self, Listing},
    error::CliError,
    select::Selection,
    stack::Stack,
};

/// How long after a listing that another one disturbed it is made again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// What a page shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DeadList {
    /// The letters.
    #[serde(flatten)]
    pub listing: Listing,
    /// When they were looked at.
    pub at: Timestamp,
    /// When that began.
    #[serde(skip)]
    begun: Instant,
}

/// The list, and what it was made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeadLetters {
    current: Arc<Mutex<Current>>,
    /// Whoever receives from DLQs has this.
    receiving: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Current {
    list: Option<DeadList>,
    /// The counts of the status for which the list was made, or is being made; `None` if it has to be made again.
    counts: Option<Vec<u64>>,
    /// When the status last asked for a listing.
    requested: Option<Instant>,
}

impl Current {
    /// Whether the list is to be made for these counts.
    fn is_outdated(&self, counts: &[u64]) -> bool {
        let disturbed = self.list.as_ref().is_some_and(|list| list.listing.held_elsewhere > 0);
        let rested = self.requested.is_none_or(|requested| requested.elapsed() >= RETRY_PAUSE);
        self.counts.as_deref() != Some(counts) || (disturbed && rested)
    }
}

impl DeadLetters {
    /// When the list was made.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.with(|current| current.list.as_ref().map(|list| list.at))
    }

    /// Has the list made again if the status counts other dead letters than when it was made. Nobody waits for it.
    pub(crate) fn follow(&self, stack: &Stack, counts: Vec<u64>) {
        let outdated = self.with(|current| {
            let outdated = current.is_outdated(&counts);
            current.counts = Some(counts);
            if outdated {
                current.requested = Some(Instant::now());
            }
            outdated
        });
        if outdated {
            let (letters, stack) = (self.clone(), stack.clone());
            tokio::spawn(async move { letters.refresh(&stack).await.map(drop) });
        }
    }

    /// The list as it is, or, if there is none yet, once it is made.
    pub(crate) async fn get(&self, stack: &Stack) -> Result<DeadList, CliError> {
        if let Some(list) = self.with(|current| current.list.clone()) {
            return Ok(list);
        }
        // Perhaps the first one is being made.
        drop(self.reserve().await);
        match self.with(|current| current.list.clone()) {
            Some(list) => Ok(list),
            None => self.refresh(stack).await,
        }
    }

    /// A list that was begun after this call. Pages that ask while a listing is under way share the next one.
    pub(crate) async fn refresh(&self, stack: &Stack) -> Result<DeadList, CliError> {
        let (letters, stack, asked) = (self.clone(), stack.clone(), Instant::now());
        let listing = tokio::spawn(async move {
            let receiving = letters.receiving.lock().await;
            let shared = |list: &DeadList| list.begun > asked;
            if let Some(list) = letters.with(|current| current.list.clone().filter(shared)) {
                return Ok(list);
            }
            let begun = Instant::now();
            let made = dlq::list_all(&stack, &stack.queues(None)?, &Selection::default()).await;
            let made = letters.with(|current| match made {
                Ok(listing) => {
                    let list = DeadList { listing, at: Timestamp::now(), begun };
                    current.list = Some(list.clone());
                    Ok(list)
                }
                Err(error) => {
                    current.counts = None;
                    Err(error)
                }
            });
            drop(receiving);
            made
        });
        listing.await.map_err(CliError::local("listing dead letters"))?
    }

    /// Keeps listings away as long as the guard is there.
    pub(crate) async fn reserve(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.receiving).lock_owned().await
    }

    fn with<T>(&self, work: impl FnOnce(&mut Current) -> T) -> T {
        work(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(held_elsewhere: u64) -> Current {
        let listing = Listing { held_elsewhere, ..Listing::default() };
        let now = Instant::now();
        let list = DeadList { listing, at: Timestamp::UNIX_EPOCH, begun: now };
        Current { list: Some(list), counts: Some(vec![1, 0]), requested: Some(now) }
    }

    #[test]
    fn the_list_is_made_again_when_a_count_changes_and_after_a_failure() {
        assert!(Current::default().is_outdated(&[0, 0]), "it was never made");
        assert!(!made(0).is_outdated(&[1, 0]));
        assert!(made(0).is_outdated(&[0, 0]));
        let failed = Current { counts: None, ..made(0) };
        assert!(failed.is_outdated(&[1, 0]));
    }

    #[test]
    fn a_list_that_another_listing_disturbed_is_made_again_after_a_pause() {
        assert!(!made(3).is_outdated(&[1, 0]), "not at once: they disturb each other");
        let rested = Current { requested: Instant::now().checked_sub(RETRY_PAUSE), ..made(3) };
        assert!(rested.is_outdated(&[1, 0]));
    }
}
