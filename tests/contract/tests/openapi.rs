//! docs/openapi.json is what the code says, and says what is true. `UPDATE_CONTRACT=1 cargo test --workspace --test openapi` writes
//! it anew after a wanted change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use contract::{openapi, operations};
use serde_json::{Value, json};

#[test]
fn the_committed_description_is_that_of_the_code() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let wanted = format!("{}\n", serde_json::to_string_pretty(&openapi())?);
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        fs::write(&path, &wanted)?;
    }
    ensure!(
        fs::read_to_string(&path)? == wanted,
        "docs/openapi.json is not what the code says; after a wanted change: \
         UPDATE_CONTRACT=1 cargo test --workspace --test openapi"
    );
    Ok(())
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let mut described: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for operation in operations() {
        let methods = described.entry(operation.path).or_default();
        methods.insert(operation.method);
        if operation.method == "GET" {
            methods.insert("HEAD");
        }
    }
    let routes: BTreeMap<&str, BTreeSet<&str>> = http_api::ROUTES
        .into_iter()
        .map(|(path, methods)| (path, methods.split(", ").collect()))
        .collect();
    assert_eq!(described, routes);
}

/// A schema of the document, by itself.
fn validator(document: &Value, schema: &Value) -> Result<jsonschema::Validator> {
    let mut root = schema.clone();
    root["components"] = document["components"].clone();
    Ok(jsonschema::validator_for(&root)?)
}

#[test]
fn every_example_is_valid_by_its_schema() -> Result<()> {
    let document = openapi();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("methods")? {
            let bodies = operation["responses"].as_object().into_iter().flatten().map(|(_, r)| r);
            for body in bodies.chain([&operation["requestBody"]]) {
                for (kind, media) in body["content"].as_object().into_iter().flatten() {
                    let validator = validator(&document, &media["schema"])?;
                    let examples = media["examples"].as_object().into_iter().flatten();
                    for example in examples.map(|(_, example)| example) {
                        let at = example["$ref"].as_str().map(|at| at.trim_start_matches('#'));
                        let example = at.and_then(|at| document.pointer(at)).unwrap_or(example);
                        let errors: Vec<_> = validator
                            .iter_errors(&example["value"])
                            .map(|e| e.to_string())
                            .collect();
                        ensure!(errors.is_empty(), "{method} {path} {kind}: {errors:?}");
                        seen += 1;
                    }
                    if let Some(example) = media.get("example") {
                        let errors: Vec<_> =
                            validator.iter_errors(example).map(|e| e.to_string()).collect();
                        ensure!(errors.is_empty(), "{method} {path} {kind}: {errors:?}");
                        seen += 1;
                    }
                }
            }
        }
    }
    ensure!(seen > 50, "this test has lost sight of the examples: {seen}");
    Ok(())
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = openapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// Whether the reader of a call's body takes it.
fn is_taken(call: &str, body: &[u8]) -> bool {
    let id = || "a-product".parse().expect("an id");
    match call {
        "placeOrder" => order::http::parse_order_request(body).is_ok(),
        "tagOrder" => order::http::parse_tags(body).is_ok(),
        "createProduct" => {
            product::http::parse_new_product(body, id(), &events::Currency::default()).is_ok()
        }
        "changeProduct" => product::http::parse_product_change(body).is_ok(),
        "changeStock" => product::http::parse_stock_change(body).is_ok(),
        "receiveWebhook" => payment::webhook::parse_event(body).is_ok(),
        other => panic!("{other} has a body, and no reader here"),
    }
}

/// Values that are right here and wrong there.
fn odd_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(1000),
        json!(1001),
        json!(1.5),
        json!(10_000_000),
        json!(10_000_001),
        json!(1_000_000_000),
        json!(1_000_000_001),
        json!(-1_000_000_000),
        json!(-1_000_000_001),
        json!(1e300),
        json!(""),
        json!(" "),
        json!("x"),
        json!("a b"),
        json!("a@example.com"),
        json!("UAH"),
        json!("a\u{0}"),
        json!("x".repeat(64)),
        json!("x".repeat(65)),
        json!("x".repeat(201)),
        json!([]),
        json!([{}]),
        json!({}),
        json!([{ "product_id": "p", "quantity": 1 }]),
        json!([{ "product_id": "p", "quantity": 0 }]),
    ]
}

#[test]
fn the_description_and_the_reader_agree_on_every_odd_value_of_every_field_of_a_body() -> Result<()>
{
    let document = openapi();
    let mut seen = 0;
    for operation in operations() {
        let Some((_, examples)) = &operation.body else { continue };
        let path = &document["paths"][operation.path][operation.method.to_lowercase()];
        let schema = &path["requestBody"]["content"]["application/json"]["schema"];
        let validator = validator(&document, schema)?;
        let mut bodies: Vec<Value> = vec![json!({}), json!([]), json!(null), json!("x")];
        for (_, example) in examples {
            ensure!(is_taken(operation.id, example.to_string().as_bytes()), "{example}");
            for name in example.as_object().context("an object")?.keys() {
                let mut without = example.clone();
                without.as_object_mut().context("an object")?.remove(name);
                bodies.push(without);
                for value in odd_values() {
                    let mut body = example.clone();
                    body[name] = value;
                    bodies.push(body);
                }
            }
        }
        for body in bodies {
            let taken = is_taken(operation.id, body.to_string().as_bytes());
            ensure!(
                taken == validator.is_valid(&body),
                "{}: taken: {taken}, by the schema: {}: {body}",
                operation.id,
                validator.is_valid(&body)
            );
            seen += 1;
        }
    }
    ensure!(seen > 300, "this test has lost sight of the bodies: {seen}");
    Ok(())
}
