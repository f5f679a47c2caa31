//! The description of the API in OpenAPI 3.1, made of the types that the handlers read and write.
//!
//! In: what each function says of its calls. Out: one document. Guarantees: what is true of every call (problems, headers,
//! HEAD beside GET) is said here once, and of no call twice.
//! <https://spec.openapis.org/oas/v3.1.1.html>

use std::collections::BTreeMap;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use crate::{BODY_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, Problem, ProblemType};

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Whom IAM lets invoke the API.
    Administrators,
}

/// A schema as the document refers to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A header or query parameter of a call.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    pub required: bool,
    pub description: String,
    pub schema: Value,
    pub example: Value,
}

/// An answer that is no problem.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub description: &'static str,
    /// `None`: it has no body.
    pub body: Option<(SchemaOf, Value)>,
    /// Names of [`HEADERS`].
    pub headers: &'static [&'static str],
}

/// One call.
#[derive(Debug, Clone)]
pub struct Operation {
    pub method: &'static str,
    pub path: &'static str,
    pub id: &'static str,
    pub summary: &'static str,
    pub description: String,
    pub access: Access,
    pub parameters: Vec<Parameter>,
    /// What the body is, and bodies that are taken, by name.
    pub body: Option<(SchemaOf, Vec<(&'static str, Value)>)>,
    pub answers: Vec<Answer>,
    /// Those that not every call has.
    pub problems: Vec<ProblemType>,
}

/// The headers of answers: name, what it says, example.
pub const HEADERS: [(&str, &str, &str); 8] = [
    ("Allow", "The methods that the path takes.", "GET, HEAD, POST"),
    ("Cache-Control", "Who may keep the answer, and for how long.", "no-store"),
    ("ETag", "The version of what the answer shows, for If-None-Match and If-Match.", "\"3.17\""),
    (
        "Location",
        "Where the new thing is, relative to the path of the request.",
        "orders/3b241101-e2bb-4255-8caf-4136c566a962",
    ),
    ("Preference-Applied", "For how many seconds the call was ready to wait.", "wait=8"),
    ("Retry-After", "After how many seconds another try can help.", "1"),
    (
        "X-Content-Type-Options",
        "The answer is what its Content-Type says, and nothing else.",
        "nosniff",
    ),
    (
        "X-Correlation-Id",
        "Ties together all that the request led to; quote it in a report.",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
    ),
];

/// A reference to the schema of this type.
#[must_use]
pub fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A reference to this schema, by its name.
pub fn named(generator: &mut SchemaGenerator, name: &str, schema: Schema) -> Schema {
    generator.definitions_mut().insert(name.to_owned(), schema.to_value());
    schemars::json_schema!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What a field is that may be null, which is as if it were absent.
#[must_use]
pub fn or_null(schema: &Schema) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// `limit` and `cursor`, which every list takes.
#[must_use]
pub fn page_parameters() -> Vec<Parameter> {
    page_parameters_of(PAGE_DEFAULT, PAGE_MAX)
}

/// The same of a list whose pages have other sizes.
#[must_use]
pub fn page_parameters_of(default: i32, max: i32) -> Vec<Parameter> {
    vec![
        Parameter {
            name: "limit",
            place: "query",
            required: false,
            description: format!("Maximum number of entries, {default} by default."),
            schema: json!({ "type": "integer", "minimum": 1, "maximum": max, "default": default }),
            example: json!(20),
        },
        Parameter {
            name: "cursor",
            place: "query",
            required: false,
            description: "Where the page begins: the `next_cursor` of the page before.".into(),
            schema: json!({ "type": "string" }),
            example: Value::Null,
        },
    ]
}

/// `Idempotency-Key`.
#[must_use]
pub fn idempotency_key(required: bool) -> Parameter {
    Parameter {
        name: "Idempotency-Key",
        place: "header",
        required,
        description: "A value of the client's own for each request, such as a UUID, and the same value when it is \
                      repeated: then it is carried out once, and answered as the first time."
            .into(),
        schema: json!({ "type": "string", "pattern": "^[!-~]{1,255}$" }),
        example: json!("5a6f1c1e-8a53-4a5e-9a0e-6f8f3b0c2d11"),
    }
}

/// `If-None-Match` or `If-Match`.
#[must_use]
pub fn precondition(name: &'static str, description: &str) -> Parameter {
    Parameter {
        name,
        place: "header",
        required: false,
        description: description.into(),
        schema: json!({ "type": "string" }),
        example: json!("\"3.17\""),
    }
}

/// The document with these calls.
#[must_use]
pub fn document(operations: &[Operation], description: &str) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.contract = Contract::Serialize;
    let mut generator = settings.into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_default();
        if operation.path.contains("{id}") {
            path.insert("parameters".into(), json!([{ "$ref": "#/components/parameters/Id" }]));
        }
        let described = describe(operation, &mut generator);
        if operation.method == "GET" {
            path.insert("head".into(), head(&described));
        }
        path.insert(operation.method.to_lowercase(), described);
    }
    let problem = generator.subschema_for::<Problem>();
    debug_assert!(problem.get("$ref").is_some());
    let examples: Map<_, _> = ProblemType::ALL
        .iter()
        .map(|kind| {
            let value = json!(Problem::example(*kind));
            (kind.slug().to_owned(), json!({ "summary": kind.title(), "value": value }))
        })
        .collect();
    let headers: Map<_, _> = HEADERS
        .into_iter()
        .map(|(name, description, example)| {
            let header = json!({ "description": description, "schema": { "type": "string" }, "example": example });
            (name.to_owned(), header)
        })
        .collect();
    // The gateway's own answers are problems, too, and some of them cannot say their status (RFC 9457, section 3.1.2).
    let problem = &mut generator.definitions_mut()["Problem"]["required"];
    problem.as_array_mut().into_iter().for_each(|names| names.retain(|name| name != "status"));
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Orderflow",
            "summary": "The order backend of a small online shop.",
            "description": description,
            "version": "1.0.0",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "servers": [{ "url": ".", "description": "The API that this document was read from." }],
        "security": [],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "examples": examples,
            "headers": headers,
            "parameters": {
                "Id": {
                    "name": "id", "in": "path", "required": true,
                    "description": "Which one. What cannot be an id is the id of nothing.",
                    "schema": { "type": "string", "minLength": 1 },
                    "example": "3b241101-e2bb-4255-8caf-4136c566a962",
                },
                "CorrelationId": {
                    "name": "X-Correlation-Id", "in": "header", "required": false,
                    "description": "Ties together all that the request leads to. Made up if it is absent, or not 1 to 128 visible ASCII characters.",
                    "schema": { "type": "string" },
                    "example": "0f8fad5b-d9cb-469f-a165-70867728950e",
                },
            },
            "securitySchemes": {
                "iam": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "x-amazon-apigateway-authtype": "awsSigv4",
                    "description": "AWS Signature Version 4 for the service `execute-api`, by whom IAM lets invoke the API (curl: `--aws-sigv4 \"aws:amz:REGION:execute-api\"`).",
                },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut parameters = vec![json!({ "$ref": "#/components/parameters/CorrelationId" })];
    for one in &operation.parameters {
        let mut parameter = json!({
            "name": one.name, "in": one.place, "required": one.required,
            "description": one.description, "schema": one.schema,
        });
        if !one.example.is_null() {
            parameter["example"] = one.example.clone();
        }
        parameters.push(parameter);
    }
    let mut responses = Map::new();
    for answer in &operation.answers {
        let names = ["X-Correlation-Id", "X-Content-Type-Options"];
        let names = answer.headers.iter().chain(names.iter());
        let mut response =
            json!({ "description": answer.description, "headers": header_references(names) });
        if let Some((schema, example)) = &answer.body {
            let schema = schema(generator);
            response["content"] =
                json!({ "application/json": { "schema": schema, "example": example } });
        }
        responses.insert(answer.status.to_string(), response);
    }
    for (status, kinds) in problems(operation) {
        responses.insert(status.to_string(), problem_response(&kinds));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.path.split('/').nth(1).unwrap_or_default()],
        "parameters": parameters,
        "responses": responses,
        "security": match operation.access {
            Access::Anyone => json!([]),
            Access::Administrators => json!([{ "iam": [] }]),
        },
    });
    if let Some((schema, examples)) = &operation.body {
        let schema = schema(generator);
        let examples: Map<_, _> = examples
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!({ "value": value })))
            .collect();
        described["requestBody"] = json!({
            "required": true,
            "description": format!("At most {BODY_BYTES_MAX} bytes."),
            "content": { "application/json": { "schema": schema, "examples": examples } },
        });
    }
    described
}

/// Every problem that a call can be answered with, by status.
fn problems(operation: &Operation) -> BTreeMap<u16, Vec<ProblemType>> {
    use ProblemType::{
        IdempotencyKeyReused, Internal, InvalidFields, NotAcceptable, NotFound, OutcomeUnknown,
        Refused, Throttled, TooLarge, Unavailable, Unreadable, Unsigned, UnsupportedMediaType,
    };
    let mut kinds =
        vec![Unreadable, Refused, NotAcceptable, Throttled, Internal, Unavailable, NotFound];
    // The gateway answers so what it finds no method for, too.
    kinds.push(Unsigned);
    if operation.parameters.iter().any(|parameter| parameter.place == "query") {
        kinds.push(InvalidFields);
    }
    if operation.parameters.iter().any(|parameter| parameter.name == "Idempotency-Key") {
        kinds.push(IdempotencyKeyReused);
    }
    if operation.body.is_some() {
        kinds.extend([InvalidFields, UnsupportedMediaType]);
    }
    if operation.method != "GET" {
        kinds.extend([OutcomeUnknown, TooLarge]);
    }
    kinds.extend(&operation.problems);
    kinds.sort_unstable();
    kinds.dedup();
    let mut by_status: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status().as_u16()).or_default().push(kind);
    }
    by_status
}

fn problem_response(kinds: &[ProblemType]) -> Value {
    let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.slug())).collect();
    let examples: Map<_, _> = kinds
        .iter()
        .map(|kind| {
            let reference = format!("#/components/examples/{}", kind.slug());
            (kind.slug().to_owned(), json!({ "$ref": reference }))
        })
        .collect();
    let mut headers = vec!["X-Content-Type-Options"];
    match kinds[0].status().as_u16() {
        405 => headers.push("Allow"),
        429 | 503 => headers.push("Retry-After"),
        _ => {}
    }
    json!({
        "description": format!("A problem of type {}; see docs/problems.md.", names.join(" or ")),
        "headers": header_references(&headers),
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": examples,
        } },
    })
}

fn header_references<'a>(names: impl IntoIterator<Item = &'a &'a str>) -> Map<String, Value> {
    let reference = |name: &&str| json!({ "$ref": format!("#/components/headers/{name}") });
    names.into_iter().map(|name| ((*name).to_owned(), reference(name))).collect()
}

/// HEAD of what GET is described by: the same without bodies.
fn head(get: &Value) -> Value {
    let mut head = get.clone();
    let id = get["operationId"].as_str().unwrap_or_default();
    head["operationId"] = json!(format!("{id}Head"));
    head["summary"] = json!(format!("The headers of {id}"));
    head["description"] = json!("Answers as GET does, without a body.");
    for response in head["responses"].as_object_mut().into_iter().flatten() {
        if let Some(response) = response.1.as_object_mut() {
            response.remove("content");
        }
    }
    head
}
