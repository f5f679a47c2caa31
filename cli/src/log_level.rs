//! `orderflow log-level`: how much one function logs.
//!
//! In: a function and a level, or that of the deployment. Out: the function's variable `LOG_LEVEL` is changed, and the change is in force
//! when the command ends. Guarantees: all other variables stay as they are, also if somebody changes one meanwhile: then nothing
//! is changed here. Lambda begins new environments, so the next invocations are cold starts; no message and no request is lost.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_sdk_lambda::{
    operation::get_function_configuration::GetFunctionConfigurationOutput,
    types::{Environment, LastUpdateStatus},
};
use clap::ValueEnum;
use serde::Serialize;

use crate::{error::CliError, stack::Stack};

/// The variable that telemetry reads.
const VARIABLE: &str = "LOG_LEVEL";
/// AWS takes a few seconds.
const UPDATE_WAIT: Duration = Duration::from_secs(120);
const UPDATE_PAUSE: Duration = Duration::from_millis(300);

/// As the template's parameter `LogLevel` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    function: String,
    before: String,
    level: String,
}

impl Changed {
    pub(crate) fn text(&self) -> String {
        let Self { function, before, level } = self;
        if before == level {
            format!("{function} logs at {level} already")
        } else {
            format!("{function} logs at {level} now, no more at {before}")
        }
    }
}

/// Sets the level of a function, or that with which the stack was deployed if none is given.
pub(crate) async fn change(
    stack: &Stack,
    function: &str,
    level: Option<LogLevel>,
) -> Result<Changed, CliError> {
    let name = stack.function(function)?;
    let level = match level {
        Some(level) => level.as_str(),
        None => stack.parameter("LogLevel").unwrap_or(LogLevel::Info.as_str()),
    };
    let configuration = settled(stack, name).await?;
    let (before, variables) = with_level(&configuration, level)?;
    let changed = Changed { function: function.to_owned(), before, level: level.to_owned() };
    if changed.before == level {
        return Ok(changed);
    }
    let update = stack.lambda.update_function_configuration().function_name(name);
    update
        .environment(Environment::builder().set_variables(Some(variables)).build())
        // Refused if somebody has changed the function since it was read.
        .set_revision_id(configuration.revision_id)
        .send()
        .await?;
    settled(stack, name).await?;
    Ok(changed)
}

/// The level so far, and all variables with the new one.
fn with_level(
    configuration: &GetFunctionConfigurationOutput,
    level: &str,
) -> Result<(String, HashMap<String, String>), CliError> {
    let environment = configuration.environment();
    // Who may not decrypt them is shown none, and would write none.
    if let Some(error) = environment.and_then(|environment| environment.error()) {
        let why = error.message().unwrap_or_default();
        return Err(CliError::NotDone(format!("the function's variables cannot be read: {why}")));
    }
    let variables = environment.and_then(|environment| environment.variables());
    let Some(mut variables) = variables.cloned().filter(|variables| !variables.is_empty()) else {
        return Err(CliError::NotDone("the function has no variables: deploy it again".into()));
    };
    let before = variables.insert(VARIABLE.to_owned(), level.to_owned());
    Ok((before.unwrap_or_else(|| LogLevel::Info.as_str().to_owned()), variables))
}

/// The configuration of a function once no change of it is under way.
async fn settled(stack: &Stack, name: &str) -> Result<GetFunctionConfigurationOutput, CliError> {
    let begun = Instant::now();
    loop {
        let call = stack.lambda.get_function_configuration().function_name(name);
        let configuration = call.send().await?;
        match configuration.last_update_status() {
            Some(LastUpdateStatus::Failed) => {
                let why = configuration.last_update_status_reason().unwrap_or_default();
                return Err(CliError::NotDone(format!("Lambda could not change {name}: {why}")));
            }
            Some(LastUpdateStatus::InProgress) if begun.elapsed() < UPDATE_WAIT => {
                tokio::time::sleep(UPDATE_PAUSE).await;
            }
            Some(LastUpdateStatus::InProgress) => {
                let seconds = UPDATE_WAIT.as_secs();
                let why = format!("the change of {name} has not ended within {seconds} s");
                return Err(CliError::NotDone(why));
            }
            _ => return Ok(configuration),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::{EnvironmentError, EnvironmentResponse};

    use super::*;

    fn configuration(environment: EnvironmentResponse) -> GetFunctionConfigurationOutput {
        GetFunctionConfigurationOutput::builder().environment(environment).build()
    }

    #[test]
    fn every_other_variable_stays_as_it_is() {
        let environment = EnvironmentResponse::builder()
            .variables("ORDERS_TABLE", "orders")
            .variables("LOG_LEVEL", "warn")
            .build();
        let (before, variables) =
            with_level(&configuration(environment), "debug").expect("variables");
        assert_eq!(before, "warn");
        let wanted = [("ORDERS_TABLE", "orders"), ("LOG_LEVEL", "debug")];
        assert_eq!(variables, wanted.map(|(name, value)| (name.into(), value.into())).into());
    }

    #[test]
    fn variables_that_cannot_be_read_are_not_written_over() {
        let error = EnvironmentError::builder().message("AccessDenied").build();
        let unreadable = EnvironmentResponse::builder().error(error).build();
        let empty = EnvironmentResponse::builder().build();
        for environment in [unreadable, empty] {
            assert!(with_level(&configuration(environment), "debug").is_err());
        }
    }
}
