//! Reads a JSON object field by field and keeps every complaint, so that a client can put all of them right
//! at once. Each field is read from its own text: an exact amount stays exact.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{FieldError, Problem};

/// The largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The fields of one object that are still to be read, and what was wrong with those that were.
#[derive(Debug)]
pub struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
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
        let json: &RawValue = serde_json::from_slice(body)
            .map_err(|error| Problem::unreadable(format!("The body is not JSON: {error}.")))?;
        let values = object(json).ok_or_else(|| {
            Problem::unreadable("The body is JSON, but not an object; send {\"field\": value, …}.")
        })?;
        Ok(Self { values, at: String::new(), errors: Vec::new() })
    }

    /// Whether the field is there and not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|raw| raw.get() != "null")
    }

    /// A field that must be there, or `None` if it is missing or wrong; then [`Fields::finish`] says so.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if !self.values.contains_key(name) {
            self.complain(name, "is missing");
            return None;
        }
        self.read(name)
    }

    /// A field that may be absent or null, which is `None`, as is a wrong one.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if self.has(name) { self.read(name) } else { None }
    }

    /// A list of objects, each read by `read`, with `min` to `max` entries.
    pub fn list<T>(
        &mut self,
        name: &str,
        (min, max): (usize, usize),
        mut read: impl FnMut(&mut Fields<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(raw) = self.values.get(name).copied() else {
            self.complain(name, "is missing");
            return None;
        };
        let Ok(entries) = serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) else {
            self.complain(name, "must be a list of objects");
            return None;
        };
        if !(min..=max).contains(&entries.len()) {
            self.complain(name, format!("must have {min} to {max} entries, not {}", entries.len()));
            return None;
        }
        let mut list = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let at = format!("{}{name}[{index}]", self.at);
            let Some(values) = object(entry) else {
                self.errors.push(FieldError { field: at, message: "must be an object".into() });
                continue;
            };
            let mut fields = Fields { values, at: format!("{at}."), errors: Vec::new() };
            list.extend(read(&mut fields));
            self.errors.append(&mut fields.errors);
        }
        Some(list)
    }

    pub fn complain(&mut self, name: &str, message: impl Into<String>) {
        self.errors
            .push(FieldError { field: format!("{}{name}", self.at), message: message.into() });
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every complaint there was.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = *self.values.get(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                let message = error.to_string();
                // The position is one within the field, of which the client knows nothing.
                let message = message.rsplit_once(" at line ").map_or(&*message, |(why, _)| why);
                self.complain(name, message);
                None
            }
        }
    }
}

fn object(json: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
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
        fields.required::<u32>("a");
        fields.required::<u32>("b");
        fields.list("items", (1, 10), |item| item.required::<u32>("n"));
        let errors = errors(fields);
        let places: Vec<&str> = errors.iter().map(|error| error.0.as_str()).collect();
        assert_eq!(places, ["a", "b", "items[1].n", "items[2]", "items[3].n"]);
        assert_eq!(errors[0].1, r#"invalid type: string "x", expected u32"#);
        assert_eq!(errors[1].1, "is missing");
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
