//! The configuration of functions: environment variables and the AWS configuration.
//!
//! In: the environment. Out: typed settings, or one error that names everything that is missing or wrong,
//! so that a deployment is put right in one go. The AWS SDK follows `AWS_ENDPOINT_URL`, which is how the
//! same binary runs on AWS and on an emulator.

use std::{collections::HashMap, fmt::Display, str::FromStr, time::Duration};

use anyhow::bail;
use aws_config::{
    BehaviorVersion, ConfigLoader, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// Reads settings one by one and keeps every complaint, so that [`read`] can name all of them at once.
#[derive(Debug)]
pub struct Environment {
    variables: HashMap<String, String>,
    complaints: Vec<String>,
}

/// Reads a function's configuration: `config` reads each of its settings from the environment, all of them before it
/// returns `None` because one is missing.
///
/// # Errors
/// All complaints at once.
pub fn read<C>(config: impl FnOnce(&mut Environment) -> Option<C>) -> anyhow::Result<C> {
    // A variable that is no text can be no setting; it counts as missing.
    let variables = std::env::vars_os();
    let variables =
        variables.filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    read_from(variables.collect(), config)
}

/// As [`read`], from these variables instead of the process's.
///
/// # Errors
/// All complaints at once.
pub fn read_from<C>(
    variables: HashMap<String, String>,
    config: impl FnOnce(&mut Environment) -> Option<C>,
) -> anyhow::Result<C> {
    let mut environment = Environment { variables, complaints: Vec::new() };
    let config = config(&mut environment);
    match config {
        Some(config) if environment.complaints.is_empty() => Ok(config),
        _ => bail!("the environment is not complete: {}", environment.complaints.join("; ")),
    }
}

impl Environment {
    /// A text that must be there and not be empty. `None` if it is not: the complaint is kept.
    pub fn text(&mut self, name: &str) -> Option<String> {
        match self.variables.get(name) {
            Some(text) if !text.is_empty() => Some(text.clone()),
            Some(_) => self.complain(format!("{name} is empty")),
            None => self.complain(format!("{name} is not set")),
        }
    }

    /// A value that must be there and be readable as `T`. `None` if it is not: the complaint is kept.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        let text = self.text(name)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.complain(format!("{name}={text:?}: {error}")),
        }
    }

    /// Keeps a complaint of the caller's.
    pub fn complain<T>(&mut self, complaint: impl Into<String>) -> Option<T> {
        self.complaints.push(complaint.into());
        None
    }
}

/// Maximum time of one attempt of one AWS call: far more than any call here takes, far less than an invocation may.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time of one AWS call with all its attempts: a function's timeout is 10 s, and an answer must still be given.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS_MAX: u32 = 3;

/// The AWS configuration of every function.
pub async fn aws() -> SdkConfig {
    aws_with(aws_config::defaults(BehaviorVersion::latest()).http_client(http_client())).await
}

/// The SDK's own HTTP client, but with the cryptography of ring: AWS-LC gathers entropy before its first connection, for which a start waits
/// (decision 40).
#[must_use]
pub fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector =
            ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::Ring));
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    })
}

/// The AWS configuration of every function, of what this loader has besides.
pub async fn aws_with(loader: ConfigLoader) -> SdkConfig {
    loader
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(OPERATION_TIMEOUT)
                .build(),
        )
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .load()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_and_wrong_setting_is_named_at_once() {
        let error = read(|environment| {
            let missing = environment.text("ORDERFLOW_TEST_NO_SUCH");
            let wrong = environment.value::<u32>("PATH");
            Some((missing?, wrong?))
        });
        let error = error.expect_err("two settings are wrong").to_string();
        assert!(error.contains("ORDERFLOW_TEST_NO_SUCH") && error.contains("PATH="), "{error}");
    }
}
