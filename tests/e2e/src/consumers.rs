//! Switching consumers off and on, and starting functions anew.

use anyhow::{Context, Result};
use aws_sdk_lambda::types::LastUpdateStatus;

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

    /// Has a function's next invocation find a new process, which knows nothing that an earlier one has read.
    ///
    /// # Errors
    /// The function does not change.
    pub async fn restart(&self, function: &str) -> Result<()> {
        let name = self.setting(&format!("{function}_FUNCTION"));
        let configuration =
            self.lambda.get_function_configuration().function_name(name).send().await?;
        // The same as before: any change of what a process is started with ends those that run.
        let change = self.lambda.update_function_configuration().function_name(name);
        change.set_timeout(configuration.timeout()).send().await?;
        eventually(&format!("{name} to be updated"), 60.secs(), async || {
            let now = self.lambda.get_function_configuration().function_name(name).send().await?;
            Ok((now.last_update_status() == Some(&LastUpdateStatus::Successful)).then_some(()))
        })
        .await
    }

    async fn switch(&self, queue: Queue, on: bool) -> Result<()> {
        let function = self.setting(&format!("{}_CONSUMER_FUNCTION", queue.name()));
        let mappings =
            self.lambda.list_event_source_mappings().function_name(function).send().await?;
        // A consumer may have two queues.
        let name = self.queue(queue).rsplit('/').next();
        let mut mappings = mappings.event_source_mappings().iter();
        let mapping = mappings.find(|mapping| {
            mapping.event_source_arn().and_then(|arn| arn.rsplit(':').next()) == name
        });
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
