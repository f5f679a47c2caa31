//! `Idempotency-Key`: a client that repeats a request under the same key gets the first answer again.
//!
//! In: the header, the caller's scope and the request. Out: a key with a fingerprint of the request, which tells a
//! repetition from another request that reuses the key by mistake.
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>

use delivery::RequestKey;
use http::{HeaderMap, HeaderName};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Problem;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_BYTES_MAX: usize = 255;

/// The key of a request, if the client sent one, within the scope of its caller.
///
/// # Errors
/// The key has a form that no key has, or the body is not JSON.
pub fn request_key(
    headers: &HeaderMap,
    scope: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Option<RequestKey>, Problem> {
    let Some(key) = headers.get(HEADER) else { return Ok(None) };
    let key = key.to_str().unwrap_or_default();
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(Problem::unreadable(format!(
            "The Idempotency-Key header must have 1 to {KEY_BYTES_MAX} visible ASCII characters."
        )));
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::unreadable(format!("The body is not JSON: {error}.")))?;
    let fingerprint = hex_digest(&[method, path, &canonical(&body)]);
    // A digest, because a scope may be personal.
    Ok(Some(RequestKey { scope: hex_digest(&[scope]), key: key.to_owned(), fingerprint }))
}

fn hex_digest(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// JSON with sorted fields, whatever order serde_json's map keeps.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(entries) => {
            format!("[{}]", entries.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
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
        ] {
            assert_ne!(first, fingerprint(path, body), "{path} {body}");
        }
    }

    #[test]
    fn a_key_has_bounds() {
        for key in ["", &"x".repeat(256)] {
            let headers = HeaderMap::from_iter([(HEADER, key.parse().expect("a header"))]);
            assert!(request_key(&headers, "s", "POST", "/", b"{}").is_err());
        }
        assert_eq!(request_key(&HeaderMap::new(), "s", "POST", "/", b"{").ok(), Some(None));
    }
}
