//! Why a command failed, as one sentence that says what to do.
//!
//! In: what the AWS SDK or a rule of ours says. Out: a [`CliError`], whose text goes after `error: ` and whose
//! kind decides the exit code. Guarantee: a cause that people meet often (no stack, no credentials, no answer)
//! is named as such and not by the SDK's chain of errors, which stays available as the source.

use std::{error::Error, fmt::Debug};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use delivery::{CallError, ErrorChain, TableError, error::BoxError};

/// A command that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// A rule of ours, or the state of things, forbids it.
    #[error("{0}")]
    NotDone(String),
    #[error(
        "AWS does not answer ({}). Check the network; for a local stack check that it runs (`make up`) and \
         that --endpoint-url or AWS_ENDPOINT_URL has its address", innermost(source.as_ref())
    )]
    NoAnswer {
        #[source]
        source: BoxError,
    },
    #[error("{}", explain_refusal(code, message))]
    Refused {
        code: String,
        message: String,
        #[source]
        source: BoxError,
    },
    #[error("{}", ErrorChain(.0))]
    Table(#[source] TableError),
    /// Something of this machine failed.
    #[error("{action} failed: {source}")]
    Local {
        /// What was to be done.
        action: &'static str,
        #[source]
        source: BoxError,
    },
}

impl CliError {
    /// A failure of something on this machine, for `map_err`.
    pub(crate) fn local<E: Into<BoxError>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Local { action, source: error.into() }
    }

    /// What the shell gets to know.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::NotDone(_)
            | Self::NoAnswer { .. }
            | Self::Refused { .. }
            | Self::Table(_)
            | Self::Local { .. } => 1,
        }
    }
}

impl<E, R> From<SdkError<E, R>> for CliError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    fn from(error: SdkError<E, R>) -> Self {
        let code = error.code().map(str::to_owned);
        let message = error.message().unwrap_or("no message").to_owned();
        from_call(code, message, error.into())
    }
}

impl From<TableError> for CliError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Call(CallError { code, source, .. }) => {
                let message = innermost(source.as_ref());
                from_call(code, message, source)
            }
            other => Self::Table(other),
        }
    }
}

/// An error without a code of the service is one without its answer.
fn from_call(code: Option<String>, message: String, source: BoxError) -> CliError {
    match code {
        Some(code) => CliError::Refused { code, message, source },
        None => CliError::NoAnswer { source },
    }
}

/// The innermost cause: the only one of the SDK's chain that helps (refused, unknown host, timed out).
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What a service's refusal means to the person at the keyboard.
fn explain_refusal(code: &str, message: &str) -> String {
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
        assert_eq!(CliError::NotDone("x".into()).exit_code(), 1);
        assert_eq!(CliError::NotFound("x".into()).exit_code(), 3);
    }

    #[test]
    fn expired_credentials_are_named_as_such() {
        assert!(explain_refusal("ExpiredToken", "old").contains("sign in again"));
        assert_eq!(explain_refusal("Odd", "thing"), "Odd: thing");
    }
}
