//! What administrators, or programs of theirs, note about an order: tags such as `suspicious`.
//!
//! In: a list of texts. Out: a set of them. Guarantees: few and short, so that an order's item stays small; no tag is written in two
//! ways. A tag changes nothing of what becomes of an order, and a customer never sees it.

use std::{borrow::Cow, collections::BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Maximum number of tags of an order.
pub const TAGS_MAX: usize = 10;
/// Maximum length of a tag, in bytes, each of which is a character.
pub const TAG_BYTES_MAX: usize = 32;

/// The tags of an order, in the order of the alphabet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Tags(BTreeSet<String>);

impl Tags {
    pub const EXPECTED: &'static str =
        "must be a list of at most 10 tags, each of 1 to 32 lower-case letters, digits and hyphens";

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Tags {
    type Error = &'static str;

    fn try_from(tags: Vec<String>) -> Result<Self, Self::Error> {
        let tags: BTreeSet<String> = tags.into_iter().collect();
        let are_fine = tags.len() <= TAGS_MAX && tags.iter().all(|tag| is_tag(tag));
        if are_fine { Ok(Self(tags)) } else { Err(Self::EXPECTED) }
    }
}

fn is_tag(text: &str) -> bool {
    (1..=TAG_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

impl JsonSchema for Tags {
    fn schema_name() -> Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let tag = format!("^[a-z0-9-]{{1,{TAG_BYTES_MAX}}}$");
        json_schema!({
            "description": "What was noted about the order. One that comes twice is there once.",
            "type": "array",
            "maxItems": TAGS_MAX,
            "items": { "type": "string", "pattern": tag },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Result<Tags, &'static str> {
        texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn tags_are_few_short_and_written_in_one_way() {
        let fine = tags(&["suspicious", "a-1", "suspicious"]).expect("tags");
        assert_eq!(fine.iter().collect::<Vec<_>>(), ["a-1", "suspicious"]);
        assert!(tags(&[]).is_ok_and(|tags| tags.is_empty()));
        let long = "x".repeat(TAG_BYTES_MAX + 1);
        for bad in ["", "Suspicious", "a b", "ä", "a_b", long.as_str()] {
            assert_eq!(tags(&[bad]), Err(Tags::EXPECTED), "{bad}");
        }
        let numbers: Vec<String> = (0..=TAGS_MAX).map(|number| number.to_string()).collect();
        assert!(Tags::try_from(numbers[1..].to_vec()).is_ok());
        assert!(Tags::try_from(numbers).is_err());
    }

    #[test]
    fn what_is_said_of_tags_are_their_limits() {
        for limit in [TAGS_MAX, TAG_BYTES_MAX] {
            assert!(Tags::EXPECTED.contains(&format!(" {limit} ")), "{limit}");
        }
    }
}
