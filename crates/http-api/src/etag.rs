//! Entity tags (RFC 9110, section 8.8.3): `If-None-Match` spares an answer, `If-Match` a lost update.

use http::{HeaderMap, header};

use crate::Problem;

/// Maximum number of tags of an `If-Match` that count: each is a part of a condition.
const TAGS_MAX: usize = 10;

/// What an `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever there is.
    Any,
    /// One of these tags, without their quotes.
    OneOf(Vec<String>),
}

/// The precondition of a change, if the client sent one. Tags are compared strongly: a weak one is none of ours.
///
/// # Errors
/// The header has no form that such a header has.
pub fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>, Problem> {
    let Some(tags) = tags(headers, header::IF_MATCH) else { return Ok(None) };
    let tags = tags.ok_or_else(|| {
        Problem::unreadable(
            "If-Match must be the ETag of an earlier answer, with its quotes, or *.",
        )
    })?;
    if tags.iter().any(|tag| matches!(tag, Tag::Any)) {
        return Ok(Some(IfMatch::Any));
    }
    let strong = tags.into_iter().filter_map(|tag| match tag {
        Tag::Strong(tag) => Some(tag),
        Tag::Weak(_) | Tag::Any => None,
    });
    Ok(Some(IfMatch::OneOf(strong.take(TAGS_MAX).collect())))
}

/// Whether the client has what it asks for: `If-None-Match` has this tag. What cannot be read matches nothing.
#[must_use]
pub fn has_current(headers: &HeaderMap, current: &str) -> bool {
    let tags = tags(headers, header::IF_NONE_MATCH).flatten().unwrap_or_default();
    tags.iter().any(|tag| match tag {
        Tag::Any => true,
        Tag::Strong(tag) | Tag::Weak(tag) => tag == current,
    })
}

enum Tag {
    Any,
    Strong(String),
    Weak(String),
}

/// The tags of a header: `None` if it is absent, `Some(None)` if it cannot be read.
fn tags(headers: &HeaderMap, name: header::HeaderName) -> Option<Option<Vec<Tag>>> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let mut tags = Vec::new();
    for value in values {
        let Ok(text) = value.to_str() else { return Some(None) };
        match read(text) {
            Some(read) => tags.extend(read),
            None => return Some(None),
        }
    }
    Some(Some(tags))
}

/// A tag may have a comma within its quotes.
fn read(text: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut rest = text.trim();
    loop {
        let (tag, after) = if let Some(after) = rest.strip_prefix('*') {
            (Tag::Any, after)
        } else {
            let (is_weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
            (if is_weak { Tag::Weak(tag.to_owned()) } else { Tag::Strong(tag.to_owned()) }, after)
        };
        tags.push(tag);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(tags);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn a_change_is_bound_to_strong_tags_only() {
        let one_of = |tags: &[&str]| {
            Some(IfMatch::OneOf(tags.iter().map(|tag| (*tag).to_owned()).collect()))
        };
        for (value, wanted) in [
            ("\"3.17\"", one_of(&["3.17"])),
            ("\"a,b\" , W/\"3.17\",\"\"", one_of(&["a,b", ""])),
            ("W/\"3.17\"", one_of(&[])),
            ("*", Some(IfMatch::Any)),
        ] {
            let read = if_match(&headers(header::IF_MATCH, value));
            assert_eq!(read.ok(), Some(wanted), "{value}");
        }
        assert_eq!(if_match(&HeaderMap::new()).ok(), Some(None));
        for value in ["", "3.17", "\"3.17", "\"a\" \"b\"", "\"a\",", "w/\"a\""] {
            assert!(if_match(&headers(header::IF_MATCH, value)).is_err(), "{value}");
        }
    }

    #[test]
    fn an_answer_is_spared_whoever_has_it() {
        for (value, wanted) in [
            ("\"3.17\"", true),
            ("\"1.1\", W/\"3.17\"", true),
            ("*", true),
            ("\"3.18\"", false),
            ("3.17", false),
            ("", false),
        ] {
            let has = has_current(&headers(header::IF_NONE_MATCH, value), "3.17");
            assert_eq!(has, wanted, "{value}");
        }
        assert!(!has_current(&HeaderMap::new(), "3.17"));
    }
}
