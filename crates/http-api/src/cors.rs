//! Calls by pages of another origin (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! In: the one origin that may call, or all, or none; a request and its answer. Out: the answer to a preflight, and the headers
//! on every other answer. Guarantee: never with credentials: no cookie opens anything here.

use std::str::FromStr;

use axum::response::{IntoResponse, Response};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    },
};

/// What a page may read of an answer, besides what it always may.
pub const EXPOSED_HEADERS: &str = "Location, ETag, Retry-After, X-Correlation-Id";
/// What a page may send: the headers of the API, and those of an administrator's signature.
const ALLOWED_HEADERS: &str = "Content-Type, Idempotency-Key, Order-Token, Prefer, If-Match, If-None-Match, \
    X-Correlation-Id, Traceparent, Authorization, X-Amz-Date, X-Amz-Security-Token, X-Amz-Content-Sha256";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PATCH";
/// How long a browser remembers a preflight, in seconds: as long as Chromium does at most.
const MAX_AGE_SECONDS: &str = "7200";

/// Who may call from a page: an origin, `*` or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsOrigin(Option<HeaderValue>);

/// Why a text is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be none, * or an origin like https://shop.example.com, without a path")]
pub struct NoOrigin;

impl CorsOrigin {
    /// Nobody.
    pub const NONE: Self = Self(None);

    /// Lets the page read an answer, whatever it is.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        let Some(origin) = &self.0 else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }

    /// The answer to a preflight, whatever its path: what there is on it, the call itself finds out.
    pub(crate) fn preflight(&self, method: &Method) -> Option<Response> {
        if *method != Method::OPTIONS || self.0.is_none() {
            return None;
        }
        let headers = [
            (ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS),
        ];
        Some((StatusCode::NO_CONTENT, headers).into_response())
    }
}

impl FromStr for CorsOrigin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => return Ok(Self::NONE),
            "*" => return Ok(Self(Some(HeaderValue::from_static("*")))),
            _ => {}
        }
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_host = |host: &str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
        };
        // A browser sends it in lower case, and compares it as text.
        let is_origin = host.is_some_and(is_host) && text == text.to_ascii_lowercase();
        if !is_origin {
            return Err(NoOrigin);
        }
        HeaderValue::from_str(text).map(|origin| Self(Some(origin))).map_err(|_| NoOrigin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_never_send_as_an_origin_is_refused() {
        for origin in
            ["none", "*", "https://shop.example.com", "http://localhost:8080", "http://[::1]:80"]
        {
            assert!(origin.parse::<CorsOrigin>().is_ok(), "{origin}");
        }
        for origin in [
            "",
            "null",
            "shop.example.com",
            "https://",
            "https://shop.example.com/",
            "https://Shop.example.com",
            "https://a.example.com,https://b.example.com",
            "https://*.example.com",
            "ftp://shop.example.com",
        ] {
            assert_eq!(origin.parse::<CorsOrigin>(), Err(NoOrigin), "{origin}");
        }
    }
}
