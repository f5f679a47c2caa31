//! The one place where outcomes become HTTP errors (problem+json, RFC 9457).

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use exactly_once::{ErrorChain, TableError};
use http::{HeaderValue, StatusCode, header};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json; charset=utf-8";

/// One field that is wrong, and why. The sentence completes "`field` …" or stands for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// Where, as `items[0].quantity`.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Defines the types of problems: each with its status, its name in the URN, and its title.
macro_rules! problem_types {
    ($($name:ident $status:literal $slug:literal $title:literal,)+) => {
        /// What kind of problem an answer tells of. docs/problems.md has a section for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ProblemType {
            $(#[doc = $title] $name,)+
        }

        impl ProblemType {
            /// Every type there is, by status.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The last part of its URN.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self {
                    $(Self::$name => $slug,)+
                }
            }

            /// What it is in one line, the same for every problem of this type.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                }
            }

            /// The status of an answer of this type.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status: u16 = match self {
                    $(Self::$name => $status,)+
                };
                StatusCode::from_u16(status).expect("a status of three digits")
            }
        }
    };
}

problem_types! {
    Unreadable 400 "unreadable" "The request cannot be read",
    InvalidFields 400 "invalid-fields" "Some fields are not valid",
    IdempotencyKeyRequired 400 "idempotency-key-required" "An Idempotency-Key is missing",
    Refused 400 "refused" "The API gateway refused the request",
    Unsigned 403 "unsigned" "There is no such call, or it is for administrators",
    OrderToken 403 "order-token" "This needs the order's token",
    NotFound 404 "not-found" "There is no such thing",
    MethodNotAllowed 405 "method-not-allowed" "The path does not take this method",
    NotAcceptable 406 "not-acceptable" "The answer would be in a form that the request does not accept",
    OrderStatus 409 "order-status" "The present state does not allow this",
    StockOutOfRange 409 "stock-out-of-range" "The present state does not allow this",
    TotalChanged 409 "total-changed" "The order costs another amount than expected",
    PreconditionFailed 412 "precondition-failed" "It has been changed since it was read",
    TooLarge 413 "too-large" "The body is too large",
    UnsupportedMediaType 415 "unsupported-media-type" "The body is of a type that is not read",
    IdempotencyKeyReused 422 "idempotency-key-reused" "The Idempotency-Key belongs to another request",
    Throttled 429 "throttled" "Too many requests",
    Internal 500 "internal" "Something went wrong on our side",
    Unavailable 503 "unavailable" "Try again in a moment",
    OutcomeUnknown 503 "outcome-unknown" "It is not known whether the request was carried out",
}

impl ProblemType {
    /// As answers write it.
    #[must_use]
    pub fn urn(self) -> String {
        format!("urn:orderflow:problem:{}", self.slug())
    }
}

impl Serialize for ProblemType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.urn())
    }
}

/// Not an enumeration: there will be other types, which is no reason for a client to fail.
impl JsonSchema for ProblemType {
    fn schema_name() -> Cow<'static, str> {
        "ProblemType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let known: Vec<_> = Self::ALL.iter().map(|kind| kind.urn()).collect();
        json_schema!({
            "description": "What kind of problem it is: stable, for clients to branch on. Take one that you do not know by its status.",
            "type": "string",
            "pattern": "^urn:orderflow:problem:[a-z-]+$",
            "x-extensible-enum": known,
        })
    }
}

/// An error answer (RFC 9457). Its `type` is stable: clients branch on it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: ProblemType,
    /// What it is in one line, the same for every problem of this type.
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "as_number")]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    status: StatusCode,
    /// What is wrong this time, and what would be right.
    detail: String,
    /// Every field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// Of `total-changed`: what the order costs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>", range(min = 0))]
    total_price: Option<Box<RawValue>>,
    #[serde(skip)]
    allow: Option<&'static str>,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title(),
            status: kind.status(),
            detail: detail.into(),
            errors: Vec::new(),
            total_price: None,
            allow: None,
            retry_after: None,
        }
    }

    /// An answer of this type, as the API's description shows it.
    #[must_use]
    pub fn example(kind: ProblemType) -> Self {
        let errors = vec![FieldError {
            field: "items[0].quantity".into(),
            message: "must be a whole number from 1 to 1000".into(),
        }];
        match kind {
            ProblemType::InvalidFields => Self::invalid(errors),
            ProblemType::IdempotencyKeyRequired => Self::idempotency_key_required(),
            ProblemType::OrderToken => Self::wrong_order_token(false),
            ProblemType::MethodNotAllowed => Self::method_not_allowed("GET, HEAD, POST"),
            ProblemType::NotAcceptable => Self::not_acceptable(),
            ProblemType::TotalChanged => Self::total_changed("41.00", "UAH"),
            ProblemType::PreconditionFailed => Self::precondition_failed(),
            ProblemType::TooLarge => Self::too_large(crate::BODY_BYTES_MAX),
            ProblemType::UnsupportedMediaType => Self::unsupported_media_type(),
            ProblemType::IdempotencyKeyReused => Self::key_reused(),
            ProblemType::Internal => Self::internal(),
            ProblemType::OutcomeUnknown => Self::outcome_unknown(),
            ProblemType::Unreadable => Self::unreadable("The body is empty; send a JSON object."),
            ProblemType::NotFound => Self::not_found("There is no order \"x\"."),
            ProblemType::OrderStatus => {
                Self::new(kind, "The order is shipped; it cannot be cancelled.")
            }
            ProblemType::StockOutOfRange => Self::new(
                kind,
                "The stock is 5. A change by -7 would make it -2; a stock is from 0 to 1000000000.",
            ),
            ProblemType::Unavailable => Self::unavailable("The tables did not answer; try again."),
            ProblemType::Refused => Self::new(kind, "Bad Request"),
            ProblemType::Unsigned => Self::new(
                kind,
                "Either the path does not take this method, or the call is for administrators and is not signed. Sign \
                 the request with AWS Signature Version 4 (curl: --aws-sigv4 \"aws:amz:REGION:execute-api\").",
            ),
            ProblemType::Throttled => Self::throttled(Duration::from_secs(1)),
        }
    }

    /// 400: the request as a whole cannot be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Unreadable, detail)
    }

    /// 400: these fields are wrong.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail =
            format!("{} of the request's fields cannot be taken; see errors.", errors.len());
        let problem = Self::new(ProblemType::InvalidFields, detail);
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
        Self::new(ProblemType::OrderToken, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::NotFound, detail)
    }

    /// 405: the path is right, the method is not. `allow` lists those that are.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(ProblemType::MethodNotAllowed, format!("This path takes {allow}."));
        Self { allow: Some(allow), ..problem }
    }

    /// 406: there is no answer in a form that the client accepts.
    #[must_use]
    pub fn not_acceptable() -> Self {
        Self::new(
            ProblemType::NotAcceptable,
            "Answers are JSON: send Accept: application/json, or no Accept at all.",
        )
    }

    /// 409: the state of things forbids it. `kind` tells one refusal from another.
    pub fn conflict(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self::new(kind, detail)
    }

    /// 409: the order costs another amount than the client expected. `total` is a JSON number.
    #[must_use]
    pub fn total_changed(total: &str, currency: &str) -> Self {
        let detail = format!(
            "The order costs {total} {currency} now. Show it to the customer, then send it as expected_total."
        );
        let total_price = RawValue::from_string(total.to_owned()).ok();
        Self { total_price, ..Self::new(ProblemType::TotalChanged, detail) }
    }

    /// 412: somebody else was faster.
    #[must_use]
    pub fn precondition_failed() -> Self {
        Self::new(
            ProblemType::PreconditionFailed,
            "If-Match names another version than there is. Read it again, and decide again.",
        )
    }

    /// 415: the body is of another type than those that are read.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(
            ProblemType::UnsupportedMediaType,
            "Bodies are JSON in UTF-8: send Content-Type: application/json.",
        )
    }

    /// 413: the body is too large.
    #[must_use]
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(ProblemType::TooLarge, format!("A body may have {limit_bytes} bytes."))
    }

    /// 422: the Idempotency-Key belongs to another request.
    #[must_use]
    pub fn key_reused() -> Self {
        Self::new(
            ProblemType::IdempotencyKeyReused,
            "This key came with another path or body before; use a new key for a new request.",
        )
    }

    /// 429: this client has had as much as it may have until then.
    #[must_use]
    pub fn throttled(retry_after: Duration) -> Self {
        let problem = Self::new(
            ProblemType::Throttled,
            "More requests came than may. Try again after the seconds that the header Retry-After says.",
        );
        Self { retry_after: Some(retry_after), ..problem }
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
            ProblemType::Internal,
            "Quote the x-correlation-id header of this answer when you report it.",
        )
    }

    /// 400: a call that is not safe to repeat came without an Idempotency-Key.
    #[must_use]
    pub fn idempotency_key_required() -> Self {
        Self::new(
            ProblemType::IdempotencyKeyRequired,
            "This call adds to a number, so it must not be carried out twice: send the header Idempotency-Key with a \
             value of your own for each change, such as a UUID, and the same value when you repeat it.",
        )
    }

    /// 503: whether the request was carried out is not known.
    #[must_use]
    pub fn outcome_unknown() -> Self {
        Self::new(
            ProblemType::OutcomeUnknown,
            "Repeat it only if it had an Idempotency-Key: with the same key it is carried out once. Without one, look \
             first whether it was carried out.",
        )
    }

    /// 503: it may work in a moment.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Unavailable, detail)
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
        // In whole seconds, and never too early (RFC 9110, section 10.2.3).
        let seconds = match self.retry_after {
            Some(time) => Some(time.as_secs() + u64::from(time.subsec_nanos() > 0)),
            None if self.status == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            None => None,
        };
        if let Some(seconds) = seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}
