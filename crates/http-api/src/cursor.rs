//! Where a page of a list ends. A cursor is opaque to clients and checked like any other input.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

/// Where a page ends, in the terms of the table: written and read as base64 of JSON.
pub trait Cursor: Serialize + DeserializeOwned {
    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a cursor has text keys and values only");
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }

    /// What a client sent, or `None` if it is no cursor.
    #[must_use]
    fn decode(text: &str) -> Option<Self> {
        let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        serde_json::from_slice(&json).ok()
    }
}
