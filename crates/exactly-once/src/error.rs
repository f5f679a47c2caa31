//! Errors that keep what they know: which call failed, the service's error code, and the chain of causes.
//!
//! In: the SDK's errors. Out: a [`CallError`] for any AWS call, and an [`ErrorChain`] that prints causes. Guarantee:
//! what is printed holds no request, response or item, so that a log line has nothing personal in it.

use std::{any::Any, borrow::Cow, error::Error, fmt, io};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Any error, kept as the source of another.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An AWS call failed. Whether it took effect is unknown, unless its code says so.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed")]
pub struct CallError {
    /// Which call of what, such as `GetItem orders`.
    pub operation: Cow<'static, str>,
    /// The service's error code, or `None` if no answer of the service was read.
    pub code: Option<String>,
    /// The SDK's error.
    #[source]
    pub source: BoxError,
}

impl CallError {
    /// Turns the SDK's error of this operation into a [`CallError`], for `map_err`.
    pub fn of<E, R>(operation: impl Into<Cow<'static, str>>) -> impl FnOnce(SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        move |error| {
            let code = error.code().map(str::to_owned);
            Self { operation: operation.into(), code, source: error.into() }
        }
    }
}

/// Prints an error with all its causes: `outer: cause: cause of the cause`.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Whether the connection was refused: then the request never left, and what it asked for was not done.
#[must_use]
pub fn is_connection_refused(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a panic that was caught said.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_the_operation_and_every_cause() {
        let error = CallError {
            operation: "GetItem orders".into(),
            code: None,
            source: std::io::Error::other("connection refused").into(),
        };
        assert_eq!(ErrorChain(&error).to_string(), "GetItem orders failed: connection refused");
    }

    #[test]
    fn a_refused_connection_is_recognised_below_other_errors_and_a_broken_one_is_not_taken_for_it()
    {
        let failed = |kind: io::ErrorKind| CallError {
            operation: "SendEmail".into(),
            code: None,
            source: io::Error::from(kind).into(),
        };
        assert!(is_connection_refused(&failed(io::ErrorKind::ConnectionRefused)));
        assert!(!is_connection_refused(&failed(io::ErrorKind::ConnectionReset)));
    }
}
