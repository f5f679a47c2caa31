//! Switching consumers off and on, and starting functions anew.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_lambda::{
    operation::get_function_configuration::GetFunctionConfigurationOutput,
    types::{Environment, LastUpdateStatus, State},
};
use aws_sdk_sqs::types::QueueAttributeName;

use crate::{
    ALIAS, Queue, Stack,
    wait::{Seconds, eventually},
};

/// What a process is started with, and nothing reads.
const STARTED: &str = "STARTED";

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

    /// The configuration that invocations of a function have.
    ///
    /// # Errors
    /// Lambda did not answer.
    pub async fn configuration(&self, name: &str) -> Result<GetFunctionConfigurationOutput> {
        let alias = self.lambda.get_alias().function_name(name).name(ALIAS).send().await?;
        // By its number: LocalStack knows a function's configuration by no alias.
        let call = self.lambda.get_function_configuration().function_name(name);
        Ok(call.set_qualifier(alias.function_version).send().await?)
    }

    /// Has a function's next invocation find a new process, which knows nothing that an earlier one has read.
    ///
    /// # Errors
    /// The function does not change.
    pub async fn restart(&self, function: &str) -> Result<()> {
        // A version of what was published already would be that one again.
        let now = uuid::Uuid::new_v4().to_string();
        self.change_variables(function, |variables| {
            variables.insert(STARTED.to_owned(), now);
        })
        .await
    }

    /// Has the next invocation of a function find other variables.
    ///
    /// # Errors
    /// The function does not change.
    pub async fn change_variables(
        &self,
        function: &str,
        change: impl FnOnce(&mut HashMap<String, String>),
    ) -> Result<()> {
        let name = self.setting(&format!("{function}_FUNCTION"));
        let configuration =
            self.lambda.get_function_configuration().function_name(name).send().await?;
        let variables = configuration.environment().and_then(|all| all.variables());
        let mut variables = variables.cloned().context("the function's variables")?;
        change(&mut variables);
        let environment = Environment::builder().set_variables(Some(variables)).build();
        let update = self.lambda.update_function_configuration().function_name(name);
        update.environment(environment).send().await?;
        self.wait_until_settled(name, "$LATEST").await?;
        let version = self.lambda.publish_version().function_name(name).send().await?.version;
        let version = version.context("a version")?;
        self.wait_until_settled(name, &version).await?;
        let alias = self.lambda.update_alias().function_name(name).name(ALIAS);
        alias.function_version(version).send().await?;
        Ok(())
    }

    async fn wait_until_settled(&self, name: &str, qualifier: &str) -> Result<()> {
        eventually(&format!("{name}:{qualifier} to be updated"), 60.secs(), async || {
            let call = self.lambda.get_function_configuration().function_name(name);
            let now = call.qualifier(qualifier).send().await?;
            let is_updated = now.last_update_status() != Some(&LastUpdateStatus::InProgress);
            Ok((is_updated && now.state() != Some(&State::Pending)).then_some(()))
        })
        .await
    }

    async fn switch(&self, queue: Queue, on: bool) -> Result<()> {
        let arn = QueueAttributeName::QueueArn;
        let call = self.sqs.get_queue_attributes().queue_url(self.queue(queue));
        let attributes = call.attribute_names(arn.clone()).send().await?.attributes;
        let arn = attributes.and_then(|mut all| all.remove(&arn)).context("the queue's ARN")?;
        let list = self.lambda.list_event_source_mappings().event_source_arn(&arn);
        let mappings = list.send().await?;
        let mapping = mappings.event_source_mappings().first();
        let uuid = mapping.and_then(|mapping| mapping.uuid()).context("the queue's mapping")?;
        self.lambda.update_event_source_mapping().uuid(uuid).enabled(on).send().await?;
        let wanted = if on { "Enabled" } else { "Disabled" };
        eventually(&format!("the mapping of {arn} to be {wanted}"), 60.secs(), async || {
            let mapping = self.lambda.get_event_source_mapping().uuid(uuid).send().await?;
            Ok((mapping.state() == Some(wanted)).then_some(()))
        })
        .await
    }
}
