//! `orderflow log-level`: how much one function logs.
//!
//! In: a function and a level, or that of the deployment. Out: the function's variable `LOG_LEVEL` is changed, published as a version, and the
//! alias that everything invokes points to that version when the command ends. Guarantees: all other variables and the code stay as they are,
//! also if somebody changes one meanwhile: then nothing is in force that was not before. Lambda begins new environments, so the next
//! invocations are cold starts; no message and no request is lost. A command that was interrupted is finished by the next one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aws_sdk_lambda::{
    operation::{
        get_alias::GetAliasOutput, get_function_configuration::GetFunctionConfigurationOutput,
    },
    types::{Environment, LastUpdateStatus, State},
};
use clap::ValueEnum;
use serde::Serialize;

use crate::{
    error::CliError,
    stack::{ALIAS, Stack},
};

/// The variable that telemetry reads.
const VARIABLE: &str = "LOG_LEVEL";
/// What a function is called whose next version is not published yet.
const LATEST: &str = "$LATEST";
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
    let alias = stack.lambda.get_alias().function_name(name).name(ALIAS).send().await?;
    if is_shared(&alias) {
        let why = format!("a deployment of {name} is under way: wait until it has ended");
        return Err(CliError::NotDone(why));
    }
    // By its number: LocalStack knows a function's configuration by no alias.
    let version = alias.function_version.as_deref().unwrap_or_default();
    let (in_force, latest) =
        (settled(stack, name, version).await?, settled(stack, name, LATEST).await?);
    let before = variables(&in_force)?.remove(VARIABLE);
    let before = before.unwrap_or_else(|| LogLevel::Info.as_str().to_owned());
    let changed = Changed { function: function.to_owned(), before, level: level.to_owned() };
    if changed.before == level {
        return Ok(changed);
    }
    if !is_alike(&in_force, &latest)? {
        return Err(CliError::NotDone(format!(
            "{name} has changed since its version {version}, which is in force: a new version would be more than \
             another log level. Deploy the stack first"
        )));
    }
    let mut wanted = variables(&latest)?;
    wanted.insert(VARIABLE.to_owned(), level.to_owned());
    let update = stack.lambda.update_function_configuration().function_name(name);
    update
        .environment(Environment::builder().set_variables(Some(wanted)).build())
        // Refused if somebody has changed the function since it was read.
        .set_revision_id(latest.revision_id)
        .send()
        .await?;
    let updated = settled(stack, name, LATEST).await?;
    let publish = stack.lambda.publish_version().function_name(name);
    let publish = publish.set_revision_id(updated.revision_id);
    let version = publish.set_code_sha256(updated.code_sha256).send().await?.version;
    settled(stack, name, version.as_deref().unwrap_or_default()).await?;
    let move_to = stack.lambda.update_alias().function_name(name).name(ALIAS);
    // Refused if somebody has moved it since it was read.
    let move_to = move_to.set_revision_id(alias.revision_id);
    move_to.set_function_version(version).send().await?;
    Ok(changed)
}

/// Whether two versions share the invocations, because a new one is tried with a few of them.
fn is_shared(alias: &GetAliasOutput) -> bool {
    let weights = alias.routing_config().and_then(|routing| routing.additional_version_weights());
    weights.is_some_and(|weights| !weights.is_empty())
}

/// Whether two versions of a function differ in their log level at most.
fn is_alike(
    one: &GetFunctionConfigurationOutput,
    other: &GetFunctionConfigurationOutput,
) -> Result<bool, CliError> {
    let (mut ones, mut others) = (variables(one)?, variables(other)?);
    ones.remove(VARIABLE);
    others.remove(VARIABLE);
    Ok(ones == others
        && one.code_sha256 == other.code_sha256
        && one.memory_size == other.memory_size
        && one.timeout == other.timeout)
}

/// The variables of a function.
fn variables(
    configuration: &GetFunctionConfigurationOutput,
) -> Result<HashMap<String, String>, CliError> {
    let environment = configuration.environment();
    // Who may not decrypt them is shown none, and would write none.
    if let Some(error) = environment.and_then(|environment| environment.error()) {
        let why = error.message().unwrap_or_default();
        return Err(CliError::NotDone(format!("the function's variables cannot be read: {why}")));
    }
    let variables = environment.and_then(|environment| environment.variables());
    variables
        .cloned()
        .filter(|variables| !variables.is_empty())
        .ok_or_else(|| CliError::NotDone("the function has no variables: deploy it again".into()))
}

/// The configuration of a function, or of one of its versions, once no change of it is under way.
async fn settled(
    stack: &Stack,
    name: &str,
    qualifier: &str,
) -> Result<GetFunctionConfigurationOutput, CliError> {
    let begun = Instant::now();
    loop {
        let call = stack.lambda.get_function_configuration().function_name(name);
        let configuration = call.qualifier(qualifier).send().await?;
        if configuration.last_update_status() == Some(&LastUpdateStatus::Failed) {
            let why = configuration.last_update_status_reason().unwrap_or_default();
            return Err(CliError::NotDone(format!("Lambda could not change {name}: {why}")));
        }
        let is_under_way = configuration.last_update_status()
            == Some(&LastUpdateStatus::InProgress)
            || configuration.state() == Some(&State::Pending);
        if !is_under_way {
            return Ok(configuration);
        }
        if begun.elapsed() > UPDATE_WAIT {
            let seconds = UPDATE_WAIT.as_secs();
            let why = format!("the change of {name} has not ended within {seconds} s");
            return Err(CliError::NotDone(why));
        }
        tokio::time::sleep(UPDATE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_lambda::types::{AliasRoutingConfiguration, EnvironmentError, EnvironmentResponse};

    use super::*;

    fn configuration(variables: &[(&str, &str)]) -> GetFunctionConfigurationOutput {
        let environment =
            variables.iter().fold(EnvironmentResponse::builder(), |all, (name, value)| {
                all.variables(*name, *value)
            });
        GetFunctionConfigurationOutput::builder()
            .environment(environment.build())
            .code_sha256("code")
            .build()
    }

    #[test]
    fn versions_that_differ_in_their_log_level_are_alike_and_others_are_not() {
        let alike = |one, other| is_alike(one, other).expect("variables");
        let in_force = configuration(&[("ORDERS_TABLE", "orders"), ("LOG_LEVEL", "info")]);
        let other_level = configuration(&[("ORDERS_TABLE", "orders"), ("LOG_LEVEL", "debug")]);
        let other_table = configuration(&[("ORDERS_TABLE", "others"), ("LOG_LEVEL", "info")]);
        let mut other_code = in_force.clone();
        other_code.code_sha256 = Some("other code".into());
        assert!(alike(&in_force, &in_force));
        assert!(alike(&in_force, &other_level));
        assert!(!alike(&in_force, &other_table));
        assert!(!alike(&in_force, &other_code));
    }

    #[test]
    fn an_alias_is_shared_while_a_new_version_has_some_of_the_invocations() {
        let shared = |routing: Option<AliasRoutingConfiguration>| {
            is_shared(&GetAliasOutput::builder().set_routing_config(routing).build())
        };
        let routing = AliasRoutingConfiguration::builder();
        assert!(!shared(None));
        assert!(!shared(Some(routing.clone().build())));
        assert!(shared(Some(routing.additional_version_weights("2", 0.1).build())));
    }

    #[test]
    fn variables_that_cannot_be_read_are_not_written_over() {
        let error = EnvironmentError::builder().message("AccessDenied").build();
        let unreadable = EnvironmentResponse::builder().error(error).build();
        let empty = EnvironmentResponse::builder().build();
        for environment in [unreadable, empty] {
            let configuration = GetFunctionConfigurationOutput::builder().environment(environment);
            assert!(variables(&configuration.build()).is_err());
        }
    }
}
