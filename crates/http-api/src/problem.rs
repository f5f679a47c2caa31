//! The one place where outcomes become HTTP errors (problem+json, RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use exactly_once::{ErrorChain, TableError};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// The type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json; charset=utf-8";

/// One field that is wrong, and why. The sentence completes "`field` …" or stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as `items[0].quantity`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// An error answer. Its `type` is stable: clients branch on it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    allow: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:orderflow:problem:{kind}"),
            title,
            status,
            detail: detail.into(),
            errors: Vec::new(),
            allow: None,
        }
    }

    /// 400: the request as a whole cannot be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unreadable", "The request cannot be read", detail)
    }

    /// 400: these fields are wrong.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail =
            format!("{} of the request's fields cannot be taken; see errors.", errors.len());
        let problem = Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-fields",
            "Some fields are not valid",
            detail,
        );
        Self { errors, ..problem }
    }

    /// 403: the order is somebody else's, as far as this call shows.
    #[must_use]
    pub fn wrong_order_token(was_given: bool) -> Self {
        let detail = if was_given {
            "The header Order-Token is not this order's: send the order_token that POST /orders answered."
        } else {
            "Send the order_token that POST /orders answered, as the header Order-Token."
        };
        Self::new(StatusCode::FORBIDDEN, "order-token", "This needs the order's token", detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 405: the path is right, the method is not. `allow` lists those that are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The path does not take this method",
            format!("This path takes {allow}."),
        );
        Self { allow: Some(allow), ..problem }
    }

    /// 409: the state of things forbids it. `kind` tells one refusal from another.
    pub fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, "The present state does not allow this", detail)
    }

    /// 413: the body is too large.
    #[must_use]
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The body is too large",
            format!("A body may have {limit_bytes} bytes."),
        )
    }

    /// 422: the Idempotency-Key belongs to another request.
    #[must_use]
    pub fn key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "The Idempotency-Key belongs to another request",
            "This key came with another path or body before; use a new key for a new request.",
        )
    }

    /// 500: our fault, because of an error that should not be. Logged here, once.
    pub fn unexpected(error: impl std::error::Error + 'static) -> Self {
        tracing::error!(error = %ErrorChain(&error), "the request could not be answered");
        Self::internal()
    }

    /// 500: our fault. What happened is in the log, under the correlation id.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong on our side",
            "Quote the x-correlation-id header of this answer when you report it.",
        )
    }

    /// 400: a call that is not safe to repeat came without an Idempotency-Key.
    #[must_use]
    pub fn idempotency_key_required() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "idempotency-key-required",
            "An Idempotency-Key is missing",
            "This call adds to a number, so it must not be carried out twice: send the header Idempotency-Key with a \
             value of your own for each change, such as a UUID, and the same value when you repeat it.",
        )
    }

    /// 503: whether the request was carried out is not known.
    #[must_use]
    pub fn outcome_unknown() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "outcome-unknown",
            "It is not known whether the request was carried out",
            "Repeat it only if it had an Idempotency-Key: with the same key it is carried out once. Without one, look \
             first whether it was carried out.",
        )
    }

    /// 503: it may work in a moment.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Try again in a moment", detail)
    }
}

impl From<TableError> for Problem {
    /// 503 if another try can help; 500 if it cannot. Logged here, once.
    fn from(error: TableError) -> Self {
        let chain = ErrorChain(&error);
        if error.is_permanent() {
            tracing::error!(error = %chain, "a table cannot be read or written, and no retry can help");
            return Self::internal();
        }
        tracing::error!(error = %chain, "a table could not be read or written");
        Self::unavailable("The tables did not answer; try again.")
    }
}

impl Problem {
    /// The answer to a request that was to change something: 503 `outcome-unknown` if it may have been carried out.
    pub fn of_write(error: TableError) -> Self {
        if !error.is_outcome_unknown() {
            return error.into();
        }
        tracing::error!(error = %ErrorChain(&error), "the outcome of a write is unknown");
        Self::outcome_unknown()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let json = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
