//! Secrets Manager: gives what it was given.
//!
//! In: GetSecretValue. Out: a secret's text, or that there is none.

use serde_json::{Value, json};

use crate::{SimulatedAws, wire::Answer};

impl SimulatedAws {
    /// From now on, this secret has this text.
    pub fn put_secret(&self, arn: impl Into<String>, text: impl Into<String>) {
        self.lock().secrets.insert(arn.into(), text.into());
    }
}

/// Carries out a call.
pub(crate) fn serve(aws: &SimulatedAws, operation: &str, body: &Value) -> Answer {
    if operation != "GetSecretValue" {
        return Answer::json_error(501, "NotImplemented", operation);
    }
    let arn = body["SecretId"].as_str().unwrap_or_default();
    match aws.lock().secrets.get(arn) {
        Some(text) => Answer::ok(json!({ "ARN": arn, "SecretString": text })),
        None => {
            let why = "Secrets Manager can't find the specified secret.";
            Answer::json_error(400, "ResourceNotFoundException", why)
        }
    }
}
