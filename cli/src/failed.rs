//! Why a command failed, as one sentence that says what to do.
//!
//! In: what the AWS SDK or a rule of ours says. Out: a [`Failed`], whose text goes after `error: ` and whose
//! kind decides the exit code. Guarantee: a cause that people meet often (no stack, no credentials, no answer)
//! is named as such and not by the SDK's chain of errors.

use std::fmt::Display;

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
};

/// A command that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failed {
    /// Anything that is not about a missing thing.
    pub fn other(why: impl Display) -> Self {
        Self::Other(why.to_string())
    }

    /// What the shell gets to know. clap itself exits with 2 for a wrong command line.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::NotFound(_) => 3,
        }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failed
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        Self::Other(match &error {
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
                no_answer(&error)
            }
            SdkError::TimeoutError(_) => no_answer(&error),
            SdkError::ServiceError(service) => {
                let (code, message) = (service.err().code(), service.err().message());
                refused(code.unwrap_or("no code"), message.unwrap_or("no message"))
            }
            _ => DisplayErrorContext(&error).to_string(),
        })
    }
}

fn no_answer(error: &dyn std::error::Error) -> String {
    // The innermost cause is the only one of the SDK's chain that helps: refused, unknown host, timed out.
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!(
        "AWS does not answer ({cause}). Check the network; for a local stack check that it runs (`make up`) and \
         that --endpoint-url or AWS_ENDPOINT_URL has its address"
    )
}

/// What a service's refusal means to the person at the keyboard.
fn refused(code: &str, message: &str) -> String {
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            format!("the AWS credentials have expired: sign in again ({message})")
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch" => {
            format!("AWS does not know these credentials: check --profile and --region ({message})")
        }
        "AccessDenied" | "AccessDeniedException" | "AuthorizationError" => {
            format!("these AWS credentials may not do that: {message}")
        }
        _ => format!("{code}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_an_exit_code_of_its_own() {
        assert_eq!(Failed::other("x").exit_code(), 1);
        assert_eq!(Failed::NotFound("x".into()).exit_code(), 3);
    }

    #[test]
    fn expired_credentials_are_named_as_such() {
        assert!(refused("ExpiredToken", "old").contains("sign in again"));
        assert_eq!(refused("Odd", "thing"), "Odd: thing");
    }
}
