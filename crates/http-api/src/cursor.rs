//! Paging: how many, and where to go on. A cursor is opaque to clients and checked like any other input.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{FieldError, Problem};

/// Number of entries of a page where the client does not say.
pub const PAGE_DEFAULT: i32 = 50;
/// Maximum number of entries of a page.
pub const PAGE_MAX: i32 = 100;

/// The query of a paged call, as it comes.
#[derive(Debug, Default, Deserialize)]
pub struct Page {
    limit: Option<String>,
    cursor: Option<String>,
}

/// Where a page ends, in the terms of the table: written and read as base64 of JSON.
pub trait Cursor: Serialize + DeserializeOwned {
    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a cursor has text keys and values only");
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }
}

impl Page {
    #[must_use]
    pub fn new(limit: Option<String>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    /// The number of entries and the cursor to go on from.
    ///
    /// # Errors
    /// Which of the two is wrong.
    pub fn read<C: Cursor>(&self) -> Result<(i32, Option<C>), Problem> {
        let mut errors = Vec::new();
        let limit = match self.limit.as_deref().map(str::parse) {
            None => PAGE_DEFAULT,
            Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
            Some(_) => {
                let message = format!("must be a whole number from 1 to {PAGE_MAX}");
                errors.push(FieldError { field: "limit".into(), message });
                PAGE_DEFAULT
            }
        };
        let decoded = self.cursor.as_deref().map(|text| {
            let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
            serde_json::from_slice(&json).ok()
        });
        if matches!(decoded, Some(None)) {
            let message = "must be the next_cursor of an earlier page".to_owned();
            errors.push(FieldError { field: "cursor".into(), message });
        }
        if errors.is_empty() {
            Ok((limit, decoded.flatten()))
        } else {
            Err(Problem::invalid(errors))
        }
    }
}
