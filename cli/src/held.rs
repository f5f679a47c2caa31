//! The dead letters that this process has received: SQS hides them from everybody else until they are given back.
//!
//! In: receipt handles, as letters are received. Out: the letters, visible again. Guarantee: whatever ends the
//! command (its end, an error, Ctrl-C, a closed connection of the console), what it still holds is given back by one
//! call of [`HeldLetters::give_back`], also what a receive that is under way brings. Only a process that is killed
//! leaves letters hidden until their visibility timeout ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_sqs::{
    Client,
    types::{ChangeMessageVisibilityBatchRequestEntry, Message},
};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::{dlq::LISTING_VISIBILITY_TIMEOUT_SECONDS, send::ENTRIES_MAX, stack::OPERATION_TIMEOUT};

/// The letters by their receipt handles.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldLetters {
    letters: Arc<Mutex<HashMap<String, Hold>>>,
    /// Read by each receive that is under way.
    receiving: Arc<RwLock<()>>,
}

#[derive(Debug)]
struct Hold {
    dlq_url: String,
    until: Instant,
}

impl HeldLetters {
    /// Says that a receive is under way, until the guard is dropped.
    pub(crate) async fn receiving(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.receiving).read_owned().await
    }

    /// Notes what has been received.
    pub(crate) fn note(&self, dlq_url: &str, messages: &[Message]) {
        let seconds = u64::try_from(LISTING_VISIBILITY_TIMEOUT_SECONDS).unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut letters = self.lock();
        for receipt in messages.iter().filter_map(Message::receipt_handle) {
            letters.insert(receipt.to_owned(), Hold { dlq_url: dlq_url.to_owned(), until });
        }
    }

    /// Forgets a letter that is deleted or given back.
    pub(crate) fn forget(&self, receipt: &str) {
        self.lock().remove(receipt);
    }

    /// Makes everything that is held visible again. What SQS does not take comes back when its time is up.
    pub(crate) async fn give_back(&self, sqs: &Client) {
        // Waits for the receives that are under way, because what they bring would be hidden too.
        let none_receiving = tokio::time::timeout(OPERATION_TIMEOUT, self.receiving.write()).await;
        let mut by_queue: HashMap<String, Vec<String>> = HashMap::new();
        for (receipt, hold) in self.lock().drain() {
            // One whose time is up may be in somebody else's hands by now.
            if hold.until > Instant::now() {
                by_queue.entry(hold.dlq_url).or_default().push(receipt);
            }
        }
        for (dlq_url, receipts) in by_queue {
            make_visible(sqs, &dlq_url, receipts).await;
        }
        drop(none_receiving);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Hold>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes messages visible at once. If that fails they come back when their time is up.
pub(crate) async fn make_visible(sqs: &Client, dlq_url: &str, receipts: Vec<String>) {
    for batch in receipts.chunks(ENTRIES_MAX) {
        let entries = batch.iter().enumerate().filter_map(|(index, receipt)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .build()
                .ok()
        });
        let call = sqs.change_message_visibility_batch().queue_url(dlq_url);
        let _ = call.set_entries(Some(entries.collect())).send().await;
    }
}
