//! Why a command failed, as one sentence that says what to do.
//!
//! In: what the AWS SDK or a rule of ours says. Out: a [`CliError`], whose text goes after `error: ` and whose
//! kind decides the exit code. Guarantee: a cause that people meet often (no stack, no credentials, no answer)
//! is named as such and not by the SDK's chain of errors, which stays available as the source.

use std::{error::Error, fmt::Display};

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ErrorMetadata, ProvideErrorMetadata, SdkError},
};
use clap::error::ErrorKind;
use exactly_once::{CallError, ErrorChain, TableError, error::BoxError};

use crate::{args, dlq::LISTING_VISIBILITY_TIMEOUT_SECONDS, stack::OPERATION_TIMEOUT};

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
    /// Some dead letters could not be looked at: somebody else has received them and not given them back.
    #[error(
        "{} held by another listing, to be had again within {LISTING_VISIBILITY_TIMEOUT_SECONDS} s",
        if *.count == 1 { "1 dead letter is".to_owned() } else { format!("{count} dead letters are") }
    )]
    HeldElsewhere {
        /// Number of letters.
        count: u64,
    },
    /// What `status --check` has found.
    #[error("{}", .problems.join("; "))]
    NeedsAttention {
        /// A sentence for each.
        problems: Vec<String>,
    },
    /// The person, or the system, has ended the command.
    #[error("interrupted; what was done before stays done")]
    Interrupted {
        /// The number of the signal.
        signal: u8,
    },
    /// No answer came from AWS.
    #[error(
        "AWS does not answer ({cause}). Check the network; for a local stack check that it runs (`make up`) and \
         that --endpoint-url or AWS_ENDPOINT_URL has its address"
    )]
    NoAnswer {
        /// Why not.
        cause: String,
        /// The SDK's error.
        #[source]
        source: BoxError,
    },
    /// An answer came that no service of AWS gives.
    #[error(
        "what answers (HTTP {status}) is not AWS. Check the address in --endpoint-url or AWS_ENDPOINT_URL, and \
         whether a proxy is in between"
    )]
    NotAws {
        /// The status of the answer.
        status: u16,
        /// The SDK's error.
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

    /// The command line, or a variable in its place, is wrong. It is said as clap says what it finds by itself.
    pub(crate) fn usage(kind: ErrorKind, message: impl Display) -> Self {
        args::command().error(kind, message).into()
    }

    /// What the shell gets to know.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::HeldElsewhere { .. } => 4,
            Self::NeedsAttention { .. } => 5,
            // As shells say it of a command that a signal has ended.
            Self::Interrupted { signal } => 128 + signal,
            Self::NotDone(_)
            | Self::NoAnswer { .. }
            | Self::NotAws { .. }
            | Self::Refused { .. }
            | Self::Table(_)
            | Self::Local { .. } => 1,
        }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for CliError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        if let (None, Some(answer)) = (error.code(), error.raw_response()) {
            return Self::NotAws { status: answer.status().as_u16(), source: error.into() };
        }
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
        None => CliError::NoAnswer { cause: explain_silence(source.as_ref()), source },
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

/// Why no answer came, without the SDK's words for it.
fn explain_silence(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // What the SDK has read of an answer without a code: its text is a dump of it.
        if error.is::<ErrorMetadata>() {
            return "what answers is not AWS".to_owned();
        }
        cause = error.source();
    }
    let cause = innermost(error);
    // The SDK's timeouts have no type that is public.
    if cause.contains("timeout") || cause.contains("timed out") {
        return format!("none came within {} s", OPERATION_TIMEOUT.as_secs());
    }
    cause
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
        assert_eq!(CliError::HeldElsewhere { count: 1 }.exit_code(), 4);
        assert_eq!(CliError::NeedsAttention { problems: Vec::new() }.exit_code(), 5);
        assert_eq!(CliError::Interrupted { signal: 2 }.exit_code(), 130);
    }

    #[test]
    fn held_letters_are_counted_and_come_back_within_a_stated_time() {
        let said = |count| CliError::HeldElsewhere { count }.to_string();
        assert_eq!(
            said(1),
            "1 dead letter is held by another listing, to be had again within 30 s"
        );
        assert!(said(12).starts_with("12 dead letters are held"));
    }

    #[test]
    fn an_answer_that_is_not_of_aws_is_no_dump() {
        let read = ErrorMetadata::builder().message("{<html>").build();
        assert_eq!(explain_silence(&read), "what answers is not AWS");
        let silence = explain_silence(&std::io::Error::other("operation timeout occurred"));
        assert_eq!(silence, "none came within 5 s");
        assert_eq!(explain_silence(&std::io::Error::other("refused")), "refused");
    }

    #[test]
    fn expired_credentials_are_named_as_such() {
        assert!(explain_refusal("ExpiredToken", "old").contains("sign in again"));
        assert_eq!(explain_refusal("Odd", "thing"), "Odd: thing");
    }
}
