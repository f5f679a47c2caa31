//! Reads a query parameter by parameter and keeps every complaint, as [`crate::Fields`] does with a body.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;

use crate::{Cursor, FieldError, Problem};

/// Number of entries of a page where the client does not say.
pub const PAGE_DEFAULT: i32 = 50;
/// Maximum number of entries of a page.
pub const PAGE_MAX: i32 = 100;

/// The parameters of a query, and what was wrong with those that were read.
#[derive(Debug)]
pub struct QueryFields {
    values: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl<S: Sync> FromRequestParts<S> for QueryFields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(values) = Query::try_from_uri(&parts.uri).map_err(|_| {
            Problem::unreadable("The query cannot be read; send ?name=value&name=value.")
        })?;
        Ok(Self { values, errors: Vec::new() })
    }
}

impl QueryFields {
    /// A parameter that must be there, or `None` if it is missing or wrong; then [`QueryFields::finish`] says so.
    pub fn required<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        if !self.values.iter().any(|(given, _)| given == name) {
            self.complain(name, format!("is missing; it {expected}"));
            return None;
        }
        self.optional(name, expected, parse)
    }

    /// A parameter that may be absent, which is `None`, as is a wrong one.
    pub fn optional<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let mut given = self.values.iter().filter(|(given, _)| given == name);
        let (_, value) = given.next()?;
        if given.next().is_some() {
            self.complain(name, "is given more than once; send it once");
            return None;
        }
        let value = parse(value);
        if value.is_none() {
            self.complain(name, expected);
        }
        value
    }

    /// `limit`, the number of entries of a page, and `cursor`, from which it goes on.
    pub fn page<C: Cursor>(&mut self) -> (i32, Option<C>) {
        self.page_of(PAGE_DEFAULT, PAGE_MAX)
    }

    /// The same of a list whose pages have other sizes.
    pub fn page_of<C: Cursor>(&mut self, default: i32, max: i32) -> (i32, Option<C>) {
        let expected = format!("must be a whole number from 1 to {max}");
        let in_range = |limit: &i32| (1..=max).contains(limit);
        let limit = self.optional("limit", &expected, |text| text.parse().ok().filter(in_range));
        let cursor =
            self.optional("cursor", "must be the next_cursor of an earlier page", C::decode);
        (limit.unwrap_or(default), cursor)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every complaint there was.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }

    /// Keeps a complaint of the caller's about a parameter.
    pub fn complain(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: name.to_owned(), message: message.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct After(u32);

    impl Cursor for After {}

    /// What is wrong with each parameter.
    async fn complaints(query: &str) -> Vec<(String, String)> {
        let uri = format!("http://host/path?{query}");
        let request = http::Request::get(uri).body(()).expect("a request");
        let (mut parts, ()) = request.into_parts();
        let mut query = QueryFields::from_request_parts(&mut parts, &()).await.expect("a query");
        query.required("name", "must be short", |text| (text.len() < 5).then(|| text.to_owned()));
        query.page::<After>();
        query.errors.into_iter().map(|error| (error.field, error.message)).collect()
    }

    #[tokio::test]
    async fn every_wrong_parameter_is_named_at_once() {
        assert_eq!(complaints("name=x&limit=100&cursor=MQ").await, []);
        let name = |message: &str| ("name".to_owned(), message.to_owned());
        let limit = ("limit".to_owned(), "must be a whole number from 1 to 100".to_owned());
        let cursor = ("cursor".to_owned(), "must be the next_cursor of an earlier page".to_owned());
        let missing = name("is missing; it must be short");
        assert_eq!(complaints("limit=0&cursor=!!").await, [missing, limit.clone(), cursor.clone()]);
        let long = name("must be short");
        assert_eq!(complaints("name=too+long&limit=&cursor=%FF").await, [long, limit, cursor]);
        let twice = name("is given more than once; send it once");
        assert_eq!(complaints("name=x&name=y").await, [twice]);
    }
}
