//! `Idempotency-Key`: a client that repeats a request under the same key gets the first answer again.
//!
//! In: the header, the scope of the caller and the request. Out: a key with a fingerprint of the request, which tells a repetition
//! from another request that reuses the key by mistake. Whether the body is valid is not judged here: a key changes
//! nothing about that.
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>

use exactly_once::RequestKey;
use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::{
    Problem,
    fields::{BODY_BYTES_MAX, object},
};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;
/// Depth down to which a body is compared by its values. What is nested deeper counts as it is written, so that no body
/// is too deep for a key; it is the depth to which serde_json reads by itself.
const DEPTH_MAX: usize = 128;

/// The key of a request, if the client sent one, within the scope of its caller.
///
/// # Errors
/// The key has a form that no key has.
pub fn request_key(
    headers: &HeaderMap,
    scope: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Option<RequestKey>, Problem> {
    let Some(key) = headers.get(HEADER) else { return Ok(None) };
    let key = key.to_str().unwrap_or_default();
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Problem::unreadable(format!(
            "The Idempotency-Key header must have 1 to {KEY_BYTES_MAX} visible ASCII characters."
        )));
    }
    let body = canonical_body(body);
    let fingerprint = hex_digest(&[method.as_bytes(), path.as_bytes(), &body]);
    // A digest, because a scope may be personal.
    let scope = hex_digest(&[scope.as_bytes()]);
    Ok(Some(RequestKey { scope, key: key.to_owned(), fingerprint }))
}

fn hex_digest(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A body without what does not count: JSON with sorted fields and without white space. What is no JSON stays as it is.
fn canonical_body(body: &[u8]) -> Vec<u8> {
    // A body that is too large is refused whoever sends it, so it is not worth the work.
    if body.len() > BODY_BYTES_MAX {
        return body.to_vec();
    }
    let Ok(json) = serde_json::from_slice::<&RawValue>(body) else { return body.to_vec() };
    let mut canonical = String::with_capacity(body.len());
    write_canonical(json, 0, &mut canonical);
    canonical.into_bytes()
}

/// Numbers are kept as they are written: parsed, `1e400` would be none, and two amounts could become one.
fn write_canonical(json: &RawValue, depth: usize, canonical: &mut String) {
    let text = json.get();
    if depth < DEPTH_MAX && text.starts_with('{') {
        if let Some(fields) = object(json) {
            canonical.push('{');
            for (name, value) in fields {
                write_text(&name, canonical);
                canonical.push(':');
                write_canonical(value, depth + 1, canonical);
                canonical.push(',');
            }
            canonical.push('}');
            return;
        }
    } else if depth < DEPTH_MAX && text.starts_with('[') {
        if let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(text) {
            canonical.push('[');
            for entry in entries {
                write_canonical(entry, depth + 1, canonical);
                canonical.push(',');
            }
            canonical.push(']');
            return;
        }
    } else if text.starts_with('"') {
        // The same text may be written with escapes or without.
        if let Ok(text) = serde_json::from_str::<String>(text) {
            write_text(&text, canonical);
            return;
        }
    }
    canonical.push_str(text);
}

fn write_text(text: &str, canonical: &mut String) {
    canonical.push_str(&serde_json::to_string(text).expect("a text always has a JSON form"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(path: &str, body: &str) -> String {
        let headers = HeaderMap::from_iter([(HEADER, "k".parse().expect("a header"))]);
        let key = request_key(&headers, "s", "POST", path, body.as_bytes());
        key.ok().flatten().expect("a key").fingerprint
    }

    #[test]
    fn only_what_the_request_says_counts() {
        let first = fingerprint("/a", r#"{"a":1,"b":{"c":[1,2],"d":null}}"#);
        assert_eq!(first, fingerprint("/a", r#"{ "b": {"d":null, "c":[1, 2]}, "a": 1 }"#));
        for (path, body) in [
            ("/b", r#"{"a":1,"b":{"c":[1,2],"d":null}}"#),
            ("/a", r#"{"a":2,"b":{"c":[1,2],"d":null}}"#),
            ("/a", r#"{"a":1,"b":{"c":[2,1],"d":null}}"#),
            ("/a", r#"{"a":1,"b":{"c":[1,2]}}"#),
            ("/a", r#"{"a":1.0000000000000000001,"b":{"c":[1,2],"d":null}}"#),
            ("/a", r#"{"a":1,"b":{"c":[12],"d":null}}"#),
            ("/a", r#"{"a":1,"b":{"c":[1,2],"d":"null"}}"#),
        ] {
            assert_ne!(first, fingerprint(path, body), "{path} {body}");
        }
    }

    #[test]
    fn a_key_changes_nothing_about_which_bodies_are_valid() {
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep_object = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
        for value in ["1e400", "-1e99999", r#""\ud800""#, &deep(127), &deep(100_000), &deep_object]
        {
            let body = format!(r#"{{"a":1,"unknown":{value}}}"#);
            assert!(crate::Fields::of_body(body.as_bytes()).is_ok(), "without a key");
            let spaced = format!(r#"{{ "unknown" : {value}, "a": 1 }}"#);
            assert_eq!(fingerprint("/", &body), fingerprint("/", &spaced));
            assert_ne!(
                fingerprint("/", &body),
                fingerprint("/", &body.replace("\"a\":1", "\"a\":2"))
            );
        }
        // Not valid, which is said by whoever reads them.
        for body in ["", "{", "{\"a\"", "nul", "{} {}", &" ".repeat(300_000), "\u{0}"] {
            assert!(crate::Fields::of_body(body.as_bytes()).is_err());
            assert_eq!(fingerprint("/", body).len(), 64);
        }
    }

    #[test]
    fn the_same_text_is_the_same_however_it_is_escaped() {
        assert_eq!(fingerprint("/", r#"{"a":"\u0062"}"#), fingerprint("/", r#"{"\u0061":"b"}"#));
        assert_ne!(fingerprint("/", r#"{"a":"b"}"#), fingerprint("/", r#"{"a":"\u0022b\u0022"}"#));
    }

    #[test]
    fn a_key_has_bounds() {
        let of = |key: &[u8]| {
            let key = http::HeaderValue::from_bytes(key).expect("a header");
            request_key(&HeaderMap::from_iter([(HEADER, key)]), "s", "POST", "/", b"{}")
        };
        for key in [&b"!"[..], b"~", b"a-1_\"b\"", &[b'x'; 255]] {
            assert!(of(key).is_ok(), "{}", key.escape_ascii());
        }
        for key in [&b""[..], b" ", b"a b", b"a\tb", b"\xd0\xb6", &[b'x'; 256]] {
            assert!(of(key).is_err(), "{}", key.escape_ascii());
        }
        assert_eq!(request_key(&HeaderMap::new(), "s", "POST", "/", b"{").ok(), Some(None));
    }
}
