//! Calling AWS as a function does: with its role.

use anyhow::{Context, Result};
use aws_config::{SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::Stack;

impl Stack {
    /// What clients are made from that may do what the role of a function may, and no more.
    ///
    /// # Errors
    /// The function is not there. That its role cannot be assumed shows with the first call.
    pub async fn with_role_of(&self, function: &str) -> Result<SdkConfig> {
        let function = self.setting(&format!("{function}_FUNCTION"));
        let configuration =
            self.lambda.get_function_configuration().function_name(function).send().await?;
        self.with_role(configuration.role().context("a function has a role")?).await
    }

    /// What clients are made from that may do what a role may, and no more.
    ///
    /// # Errors
    /// There are no credentials. That the role cannot be assumed shows with the first call.
    pub async fn with_role(&self, role: &str) -> Result<SdkConfig> {
        let provider = AssumeRoleProvider::builder(role)
            .session_name("tests")
            .configure(&self.aws)
            .build_from_provider(self.aws.credentials_provider().context("credentials")?)
            .await;
        Ok(self
            .aws
            .to_builder()
            .credentials_provider(SharedCredentialsProvider::new(provider))
            .build())
    }
}
