//! What is shared with Stripe: the account's key and the secrets of its webhooks, from Secrets Manager.
//!
//! In: the ARN of a secret, a JSON object `{"api_key": "sk_…", "webhook_secrets": ["whsec_…"]}`. Out: what it says, not older than five
//! minutes, so that a replaced key needs no deployment. Guarantee: it is neither in the environment nor in a log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use exactly_once::CallError;
use serde::Deserialize;
use tokio::time::Instant;

use crate::{stripe::ApiKey, webhook::WebhookSecrets};

/// For how long a secret is used before it is read again.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// What the secret says.
#[derive(Debug)]
pub struct Secrets {
    pub api_key: ApiKey,
    pub webhooks: WebhookSecrets,
}

/// Why there are no secrets.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager did not give them.
    #[error(transparent)]
    Call(#[from] CallError),
    /// They are not what they should be; nothing of them is said.
    #[error(
        "the secret must be a JSON object with an api_key, which begins with sk_ or rk_, and a list of webhook_secrets"
    )]
    Malformed,
}

impl SecretsError {
    /// Whether trying again helps nobody before somebody acts: there is no such secret, or it may not be read, or not be used.
    /// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html#API_GetSecretValue_Errors>
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Malformed => true,
            Self::Call(error) => matches!(
                error.code.as_deref(),
                Some("ResourceNotFoundException" | "AccessDeniedException" | "DecryptionFailure")
            ),
        }
    }
}

/// The secret, read again now and then.
#[derive(Debug)]
pub struct StripeSecrets {
    client: Client,
    arn: String,
    last: Mutex<Option<(Instant, Arc<Secrets>)>>,
}

impl StripeSecrets {
    #[must_use]
    pub fn new(aws: &SdkConfig, arn: impl Into<String>) -> Self {
        Self { client: Client::new(aws), arn: arn.into(), last: Mutex::default() }
    }

    /// What it says.
    ///
    /// # Errors
    /// See [`SecretsError`].
    pub async fn get(&self) -> Result<Arc<Secrets>, SecretsError> {
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some((read_at, secrets)) if now.duration_since(read_at) < FRESH => return Ok(secrets),
            _ => {}
        }
        let answer = self.client.get_secret_value().secret_id(&self.arn).send().await;
        let answer = answer.map_err(CallError::of("GetSecretValue"))?;
        let secrets = parse(answer.secret_string().unwrap_or_default());
        let secrets = Arc::new(secrets.ok_or(SecretsError::Malformed)?);
        let read = Some((now, Arc::clone(&secrets)));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(secrets)
    }
}

fn parse(text: &str) -> Option<Secrets> {
    #[derive(Deserialize)]
    struct Wire {
        api_key: String,
        webhook_secrets: Vec<String>,
    }
    let Wire { api_key, webhook_secrets } = serde_json::from_str(text).ok()?;
    let webhooks = WebhookSecrets::new(webhook_secrets.iter().map(String::as_str));
    Some(Secrets { api_key: ApiKey::new(&api_key)?, webhooks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_it_should_be_or_none() {
        let good = r#"{"api_key":"sk_test_abc","webhook_secrets":["whsec_one","whsec_two"]}"#;
        let secrets = parse(good).expect("secrets");
        let printed = format!("{secrets:?}");
        assert!(!printed.contains("abc") && !printed.contains("whsec"), "{printed}");
        for wrong in [
            "",
            "sk_test_abc",
            "{}",
            r#"{"api_key":"sk_test_abc"}"#,
            r#"{"api_key":"pk_test_abc","webhook_secrets":["whsec_one"]}"#,
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
