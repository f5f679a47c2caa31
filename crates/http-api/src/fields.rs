//! Reads a JSON object field by field and keeps every complaint, so that a client can put all of them right
//! at once. Each field is read from its own text: an exact amount stays exact.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{error::Category, value::RawValue};

use crate::{FieldError, Problem, routes::call_that_takes};

/// The largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The fields of one object, which of them were asked for, and what was wrong with those.
///
/// What a field has to be is said by whoever asks for it, as the end of "`field` …": the texts of libraries speak of
/// types of which a client knows nothing.
#[derive(Debug)]
pub struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
    asked: BTreeSet<String>,
    at: String,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Begins to read a request's body.
    ///
    /// # Errors
    /// The body is too large or not a JSON object.
    pub fn of_body(body: &'a [u8]) -> Result<Self, Problem> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Problem::too_large(BODY_BYTES_MAX));
        }
        if body.is_empty() {
            return Err(Problem::unreadable("The body is empty; send a JSON object."));
        }
        let json: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
        if !json.get().starts_with('{') {
            return Err(Problem::unreadable(
                "The body is JSON, but not an object; send {\"field\": value, …}.",
            ));
        }
        let values = object(json).ok_or_else(|| {
            Problem::unreadable(
                "The name of a field of the body is no valid text; write half a surrogate pair with its other half.",
            )
        })?;
        Ok(Self::new(values, String::new()))
    }

    fn new(values: BTreeMap<String, &'a RawValue>, at: String) -> Self {
        Self { values, asked: BTreeSet::new(), at, errors: Vec::new() }
    }

    /// Whether the field is there, be it null or not.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Whether the field is there and not null. A field that is null counts as asked for.
    pub fn has(&mut self, name: &str) -> bool {
        let has = self.values.get(name).is_some_and(|raw| raw.get() != "null");
        if !has {
            self.asked.insert(name.to_owned());
        }
        has
    }

    /// A field that must be there, or `None` if it is missing or wrong; then [`Fields::finish`] says so.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if !self.contains(name) {
            self.complain(name, format!("is missing; it {expected}"));
            return None;
        }
        self.read(name, expected)
    }

    /// A field that may be absent or null, which is `None`, as is a wrong one.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if self.has(name) { self.read(name, expected) } else { None }
    }

    /// A field of a change: `None` if it is absent, and so to stay as it is, or wrong. It cannot be null.
    pub fn changed<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        if self.contains(name) { self.read(name, expected) } else { None }
    }

    /// A field of a change that null clears: `Some(None)`.
    pub fn changed_or_cleared<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Option<Option<T>> {
        if !self.contains(name) {
            None
        } else if self.has(name) {
            self.read(name, expected).map(Some)
        } else {
            Some(None)
        }
    }

    /// A list of objects, each read by `read`, with `min` to `max` entries.
    pub fn list<T>(
        &mut self,
        name: &str,
        (min, max): (usize, usize),
        mut read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.asked.insert(name.to_owned());
        let expected = format!("must be a list of {min} to {max} objects");
        let Some(raw) = self.values.get(name).copied() else {
            self.complain(name, format!("is missing; it {expected}"));
            return None;
        };
        let Ok(entries) = serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) else {
            self.complain(name, expected);
            return None;
        };
        if !(min..=max).contains(&entries.len()) {
            self.complain(name, format!("must have {min} to {max} entries, not {}", entries.len()));
        }
        let mut list = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let at = format!("{}{name}[{index}]", self.at);
            let Some(values) = object(entry) else {
                self.errors.push(FieldError { field: at, message: "must be an object".into() });
                continue;
            };
            let mut fields = Fields::new(values, format!("{at}."));
            list.extend(read(&mut fields));
            fields.complain_of_misplaced();
            self.errors.append(&mut fields.errors);
        }
        Some(list)
    }

    pub fn complain(&mut self, name: &str, message: impl Into<String>) {
        self.errors
            .push(FieldError { field: format!("{}{name}", self.at), message: message.into() });
    }

    /// Ends the reading. Fields that nobody asked for are ignored, unless another call takes them: who sends such a
    /// field expects it to have an effect.
    ///
    /// # Errors
    /// Every complaint there was.
    pub fn finish(mut self) -> Result<(), Problem> {
        self.complain_of_misplaced();
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }

    fn complain_of_misplaced(&mut self) {
        let names = self.values.keys().filter(|name| !self.asked.contains(*name));
        let misplaced: Vec<_> =
            names.filter_map(|name| Some((name.clone(), call_that_takes(name)?))).collect();
        for (name, call) in misplaced {
            self.complain(&name, format!("is not taken here: {call}"));
        }
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Option<T> {
        self.asked.insert(name.to_owned());
        let raw = *self.values.get(name)?;
        let value = serde_json::from_str(raw.get()).ok();
        if value.is_none() {
            self.complain(name, expected);
        }
        value
    }
}

/// Where a body is not JSON, in our own words.
fn not_json(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let what = if error.classify() == Category::Eof { "it ends too early" } else { "see RFC 8259" };
    Problem::unreadable(format!("The body is not JSON at line {line}, column {column}: {what}."))
}

/// The fields of an object, or `None` if it is something else or one of its names is no text. Of a name that comes
/// twice, the last counts.
pub(crate) fn object(json: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    // Through a struct of its own, because a map would take a list of pairs for an object.
    #[derive(Deserialize)]
    struct Object<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);
    serde_json::from_str::<Object<'_>>(json.get()).ok().map(|object| object.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    fn errors(fields: Fields<'_>) -> Vec<(String, String)> {
        fields.errors.into_iter().map(|error| (error.field, error.message)).collect()
    }

    #[test]
    fn every_wrong_field_is_named_at_once_with_its_place() {
        let body = br#"{"a": "x", "items": [{"n": 1}, {"n": 1.5}, 7, {}]}"#;
        let mut fields = Fields::of_body(body).expect("an object");
        fields.required::<u32>("a", "must be a number");
        fields.required::<u32>("b", "must be a number");
        fields.list("items", (1, 10), |item| item.required::<u32>("n", "must be a number"));
        let errors = errors(fields);
        let places: Vec<&str> = errors.iter().map(|error| error.0.as_str()).collect();
        assert_eq!(places, ["a", "b", "items[1].n", "items[2]", "items[3].n"]);
        assert_eq!(errors[0].1, "must be a number");
        assert_eq!(errors[1].1, "is missing; it must be a number");
    }

    #[test]
    fn a_field_of_another_call_is_refused_by_name_and_one_of_no_call_is_ignored() {
        let body =
            br#"{"stock": 1, "delta": null, "items": [{"price": 1, "color": 1}], "color": 1e400}"#;
        let mut fields = Fields::of_body(body).expect("an object");
        fields.list("items", (1, 1), |_| Some(()));
        fields.complain_of_misplaced();
        let errors = errors(fields);
        let places: Vec<&str> = errors.iter().map(|error| error.0.as_str()).collect();
        assert_eq!(places, ["items[0].price", "delta", "stock"]);
        assert_eq!(errors[1].1, "is not taken here: POST /products/{id}/stock takes it");
    }

    #[test]
    fn a_change_tells_absent_from_null() {
        let mut fields = Fields::of_body(br#"{"a": null, "b": null, "c": 1}"#).expect("an object");
        assert_eq!(fields.changed_or_cleared::<u32>("a", "must be a number"), Some(None));
        assert_eq!(fields.changed_or_cleared::<u32>("c", "must be a number"), Some(Some(1)));
        assert_eq!(fields.changed_or_cleared::<u32>("d", "must be a number"), None);
        assert_eq!(fields.changed::<u32>("b", "must be a number"), None);
        assert_eq!(errors(fields), [("b".into(), "must be a number".into())]);
    }

    #[test]
    fn no_text_of_a_library_is_in_an_answer() {
        for body in [
            r#"{"a": "\ud800"}"#,
            r#"{"a": "\ud8"#,
            r#"{"a": "\ud8zz"}"#,
            r#"{"a": 01}"#,
            r#"{"a": 1e400}"#,
            r#"{"a": 99999999999999999999}"#,
            r#"{"a": {"b": 1}}"#,
            r#"{"a": [}"#,
            r#"{"a""#,
            r#"{"\ud800": 1}"#,
            "{\"a\": \"\n\"}",
            "nul",
            "{} {}",
        ] {
            let read = Fields::of_body(body.as_bytes()).and_then(|mut fields| {
                fields.required::<u32>("a", "must be a number");
                fields.finish()
            });
            let problem = format!("{:?}", read.expect_err(body));
            for library in
                ["expected", "u32", "invalid", "hex escape", "EOF", "trailing", "surrogate in"]
            {
                let problem = problem.replace("invalid-fields", "");
                assert!(!problem.contains(library), "{body}: {problem}");
            }
        }
    }

    #[test]
    fn a_list_has_bounds() {
        for (body, fine) in [
            (r#"{"l":[]}"#, false),
            (r#"{"l":[{}]}"#, true),
            (r#"{"l":[{},{},{}]}"#, false),
            (r#"{"l":{}}"#, false),
            ("{}", false),
        ] {
            let mut fields = Fields::of_body(body.as_bytes()).expect("an object");
            fields.list("l", (1, 2), |_| Some(()));
            assert_eq!(fields.finish().is_ok(), fine, "{body}");
        }
    }

    #[test]
    fn what_is_no_object_is_unreadable() {
        let deep = "[".repeat(100_000);
        for body in ["", "{", "[]", "[[\"a\",1]]", "1", "null", "\"{}\"", "{} {}", &deep] {
            let problem = Fields::of_body(body.as_bytes()).expect_err("no object");
            assert_eq!(problem.into_response().status(), 400, "{}", &body[..body.len().min(9)]);
        }
        let large = vec![b' '; BODY_BYTES_MAX + 1];
        let problem = Fields::of_body(&large).expect_err("too large");
        assert_eq!(problem.into_response().status(), 413);
    }
}
