//! What a function is told from outside: environment variables and the AWS configuration.
//!
//! In: the environment. Out: typed settings, or one error that names everything that is missing or wrong,
//! so that a deployment is put right in one go. The AWS SDK follows `AWS_ENDPOINT_URL`, which is how the
//! same binary runs on AWS and on an emulator.

use std::{fmt::Display, str::FromStr, time::Duration};

use anyhow::bail;
use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};

/// Reads settings one by one and keeps every complaint for [`Environment::check`].
#[derive(Debug, Default)]
pub struct Environment {
    complaints: Vec<String>,
}

impl Environment {
    /// A text that must be there and not be empty.
    pub fn text(&mut self, name: &str) -> String {
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => text,
            Ok(_) => self.refuse(format!("{name} is empty")),
            Err(error) => self.refuse(format!("{name}: {error}")),
        }
    }

    /// Adds a complaint of the caller's.
    pub fn complain(&mut self, complaint: impl Into<String>) {
        self.complaints.push(complaint.into());
    }

    /// A value that must be there and be readable as `T`. `stand_in` takes its place until
    /// [`Environment::check`] has refused to start.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str, stand_in: T) -> T {
        let text = self.text(name);
        if text.is_empty() {
            return stand_in;
        }
        text.parse().unwrap_or_else(|error| {
            self.complain(format!("{name}={text:?}: {error}"));
            stand_in
        })
    }

    /// # Errors
    /// All complaints at once.
    pub fn check(self) -> anyhow::Result<()> {
        if !self.complaints.is_empty() {
            bail!("the environment is not complete: {}", self.complaints.join("; "));
        }
        Ok(())
    }

    fn refuse(&mut self, complaint: String) -> String {
        self.complain(complaint);
        String::new()
    }
}

/// One attempt of one AWS call: far more than any call here takes, far less than an invocation may.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// One AWS call with all its attempts: a function's timeout is 10 s, and an answer must still be given.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPTS_MAX: u32 = 3;

/// The AWS configuration of every function.
pub async fn aws() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
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
        let mut environment = Environment::default();
        environment.text("ORDERFLOW_TEST_NO_SUCH");
        environment.value::<u32>("PATH", 1);
        let error = environment.check().expect_err("two settings are wrong").to_string();
        assert!(error.contains("ORDERFLOW_TEST_NO_SUCH") && error.contains("PATH="), "{error}");
    }
}
