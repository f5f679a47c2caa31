//! Whether a contract may follow another: what was right before has to stay right.
//!
//! In: two descriptions, the older one first. Out: a sentence for each thing that a client or a consumer could rely on and that is
//! no longer so. Guarantee: what cannot be shown to be compatible is named, so that somebody looks.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// What a newer OpenAPI document breaks for clients of the older one.
#[must_use]
pub fn broken_calls(old: &Value, new: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, methods) in object(&old["paths"]) {
        for (method, was) in object(methods).filter(|(method, _)| *method != "parameters") {
            let call = format!("{} {path}", method.to_uppercase());
            let is = &new["paths"][path][method];
            if is.is_null() {
                broken.push(format!("{call} is gone"));
                continue;
            }
            compare_access(&call, was, is, &mut broken);
            compare_requests(&call, (old, was), (new, is), &mut broken);
            compare_answers(&call, (old, was), (new, is), &mut broken);
        }
    }
    broken
}

/// What a newer schema of an event breaks: for consumers that know the older one, and for those that know the newer one and read
/// events that were stored before.
#[must_use]
pub fn broken_events(event_type: &str, old: &Value, new: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let (older, newer) = (Schema { root: old, at: old }, Schema { root: new, at: new });
    compare(
        &format!("{event_type}, for consumers that know it as it was"),
        newer,
        older,
        Older::Reads,
        &mut broken,
    );
    compare(&format!("{event_type}, for stored events"), older, newer, Older::Writes, &mut broken);
    broken.dedup();
    broken
}

fn compare_access(call: &str, was: &Value, is: &Value, broken: &mut Vec<String>) {
    let is_open = |call: &Value| call["security"].as_array().is_none_or(Vec::is_empty);
    if is_open(was) && !is_open(is) {
        broken.push(format!("{call} wants a signature now"));
    }
}

fn compare_requests(
    call: &str,
    (old, was): (&Value, &Value),
    (new, is): (&Value, &Value),
    broken: &mut Vec<String>,
) {
    let (before, after) = (parameters(old, was), parameters(new, is));
    for parameter in &before {
        let name = parameter["name"].as_str().unwrap_or_default();
        let Some(now) = after.iter().find(|one| one["name"] == parameter["name"]) else {
            broken.push(format!("{call}: the parameter {name} is gone"));
            continue;
        };
        let (written, read) = (
            Schema { root: old, at: &parameter["schema"] },
            Schema { root: new, at: &now["schema"] },
        );
        compare(&format!("{call}: the parameter {name}"), written, read, Older::Writes, broken);
    }
    for parameter in after.iter().filter(|one| one["required"] == true) {
        let name = parameter["name"].as_str().unwrap_or_default();
        let was_required =
            before.iter().any(|one| one["name"] == parameter["name"] && one["required"] == true);
        if !was_required {
            broken.push(format!("{call}: the parameter {name} is required now"));
        }
    }
    let body = |call: &Value| call["requestBody"]["content"]["application/json"]["schema"].clone();
    let (before, after) = (body(was), body(is));
    if before.is_null() != after.is_null() {
        broken.push(format!("{call}: whether there is a body has changed"));
    } else if !before.is_null() {
        let (written, read) = (Schema { root: old, at: &before }, Schema { root: new, at: &after });
        compare(&format!("{call}: the body"), written, read, Older::Writes, broken);
    }
}

/// The parameters of a call, those of its path's among them left out: they are one for all.
fn parameters<'a>(document: &'a Value, call: &'a Value) -> Vec<&'a Value> {
    let all = call["parameters"].as_array().into_iter().flatten();
    all.map(|parameter| Schema { root: document, at: parameter }.resolved().at).collect()
}

fn compare_answers(
    call: &str,
    (old, was): (&Value, &Value),
    (new, is): (&Value, &Value),
    broken: &mut Vec<String>,
) {
    for (status, answer) in object(&was["responses"]).filter(|(status, _)| status.starts_with('2'))
    {
        let now = &is["responses"][status];
        if now.is_null() {
            broken.push(format!("{call}: is not answered with {status} any more"));
            continue;
        }
        for (header, _) in object(&answer["headers"]) {
            if now["headers"][header].is_null() {
                broken.push(format!("{call}: the header {header} of {status} is gone"));
            }
        }
        let body = |answer: &Value| answer["content"]["application/json"]["schema"].clone();
        let (before, after) = (body(answer), body(now));
        if before.is_null() != after.is_null() {
            broken.push(format!("{call}: whether {status} has a body has changed"));
        } else if !before.is_null() {
            let (written, read) =
                (Schema { root: new, at: &after }, Schema { root: old, at: &before });
            compare(&format!("{call}: the answer {status}"), written, read, Older::Reads, broken);
        }
    }
}

/// Which of the two sides is the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Older {
    Reads,
    Writes,
}

/// A schema within its document.
#[derive(Debug, Clone, Copy)]
struct Schema<'a> {
    root: &'a Value,
    at: &'a Value,
}

impl<'a> Schema<'a> {
    fn resolved(self) -> Self {
        let reference = self.at["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        match reference.and_then(|pointer| self.root.pointer(pointer)) {
            Some(at) => Self { at, ..self }.resolved(),
            None => self,
        }
    }

    fn at(self, key: &str) -> Self {
        Self { at: &self.at[key], ..self }
    }
}

/// Names what the one side writes and the other may not be able to read.
fn compare(
    at: &str,
    written: Schema<'_>,
    read: Schema<'_>,
    older: Older,
    broken: &mut Vec<String>,
) {
    let (written, read) = (written.resolved(), read.resolved());
    for key in ["anyOf", "oneOf"] {
        if let Some(alternatives) = written.at[key].as_array() {
            for alternative in alternatives {
                compare(at, Schema { at: alternative, ..written }, read, older, broken);
            }
            return;
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(alternatives) = read.at[key].as_array() {
            let tried = alternatives.iter().map(|alternative| {
                let mut broken = Vec::new();
                compare(at, written, Schema { at: alternative, ..read }, older, &mut broken);
                broken
            });
            // Of the alternatives, what the nearest one lacks is what to look at.
            broken.extend(tried.min_by_key(Vec::len).unwrap_or_default());
            return;
        }
    }
    compare_values(at, written.at, read.at, broken);
    compare_bounds(at, written.at, read.at, broken);
    let required = |schema: &Value| -> BTreeSet<String> {
        let names = schema["required"].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    for name in required(read.at).difference(&required(written.at)) {
        broken.push(match older {
            Older::Writes => format!("{at}: {name} is required now"),
            Older::Reads => format!("{at}: {name} may be missing now"),
        });
    }
    let (writes, reads) = (written.at("properties"), read.at("properties"));
    let (before, after) = match older {
        Older::Writes => (writes.at, reads.at),
        Older::Reads => (reads.at, writes.at),
    };
    for (name, _) in object(before) {
        if after[name].is_null() {
            broken.push(format!("{at}: {name} is gone"));
        } else {
            compare(&format!("{at}: {name}"), writes.at(name), reads.at(name), older, broken);
        }
    }
    for key in ["items", "additionalProperties"] {
        if written.at[key].is_object() && read.at[key].is_object() {
            compare(&format!("{at}: its {key}"), written.at(key), read.at(key), older, broken);
        }
    }
}

/// Compares what a single value has to be.
fn compare_values(at: &str, written: &Value, read: &Value, broken: &mut Vec<String>) {
    let types = |schema: &Value| -> BTreeSet<String> {
        let one = schema["type"].as_str().into_iter();
        let many = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
        one.chain(many).map(str::to_owned).collect()
    };
    let (writes, reads) = (types(written), types(read));
    let is_read =
        |one: &String| reads.contains(one) || (one == "integer" && reads.contains("number"));
    if !reads.is_empty()
        && (writes.is_empty() || !writes.iter().all(is_read))
        && !has_values(written)
    {
        broken.push(format!("{at}: was of the type {}, is {}", names(&reads), names(&writes)));
    }
    if has_values(read) {
        let (writes, reads) = (values(written), values(read));
        let more: Vec<_> = writes.iter().filter(|one| !reads.contains(one)).collect();
        if writes.is_empty() || !more.is_empty() {
            broken.push(format!("{at}: has other values: {more:?}"));
        }
    }
    for key in ["pattern", "format", "multipleOf", "allOf", "not"] {
        if !read[key].is_null() && read[key] != written[key] {
            broken.push(format!("{at}: another {key}"));
        }
    }
}

fn has_values(schema: &Value) -> bool {
    !schema["const"].is_null() || schema["enum"].is_array()
}

fn values(schema: &Value) -> Vec<&Value> {
    let one = Some(&schema["const"]).filter(|value| !value.is_null());
    one.into_iter().chain(schema["enum"].as_array().into_iter().flatten()).collect()
}

fn names(types: &BTreeSet<String>) -> String {
    if types.is_empty() {
        "anything".into()
    } else {
        types.iter().cloned().collect::<Vec<_>>().join(" or ")
    }
}

fn compare_bounds(at: &str, written: &Value, read: &Value, broken: &mut Vec<String>) {
    for (key, is_least) in [
        ("minimum", true),
        ("exclusiveMinimum", true),
        ("minLength", true),
        ("minItems", true),
        ("maximum", false),
        ("exclusiveMaximum", false),
        ("maxLength", false),
        ("maxItems", false),
    ] {
        let Some(bound) = read[key].as_f64() else { continue };
        let within = written[key]
            .as_f64()
            .is_some_and(|other| if is_least { other >= bound } else { other <= bound });
        if !within {
            broken
                .push(format!("{at}: {key} was or is {bound}, on the other side {}", written[key]));
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}
