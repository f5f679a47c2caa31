//! Switching consumers off and on.

use anyhow::{Context, Result};

use crate::{
    Queue, Stack,
    wait::{Seconds, eventually},
};

impl Stack {
    /// Stops a queue's consumer from being given messages, and waits until it is.
    ///
    /// # Errors
    /// The mapping does not change.
    pub async fn pause(&self, queue: Queue) -> Result<()> {
        self.switch(queue, false).await
    }

    /// Undoes [`Stack::pause`].
    ///
    /// # Errors
    /// The mapping does not change.
    pub async fn resume(&self, queue: Queue) -> Result<()> {
        self.switch(queue, true).await
    }

    async fn switch(&self, queue: Queue, on: bool) -> Result<()> {
        let function = self.setting(&format!("{}_CONSUMER_FUNCTION", queue.name()));
        let mappings =
            self.lambda.list_event_source_mappings().function_name(function).send().await?;
        let mapping = mappings.event_source_mappings().first();
        let uuid = mapping.and_then(|mapping| mapping.uuid()).context("the queue's mapping")?;
        self.lambda.update_event_source_mapping().uuid(uuid).enabled(on).send().await?;
        let wanted = if on { "Enabled" } else { "Disabled" };
        eventually(&format!("the mapping of {function} to be {wanted}"), 60.secs(), async || {
            let mapping = self.lambda.get_event_source_mapping().uuid(uuid).send().await?;
            Ok((mapping.state() == Some(wanted)).then_some(()))
        })
        .await
    }
}
