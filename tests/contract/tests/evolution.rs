//! A change of the contract breaks nobody: what is described now is compared with what was released last (docs/released), which
//! CONTRIBUTING.md says how to replace.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use contract::{broken_calls, broken_events, openapi};
use events::EventType;
use serde_json::{Value, json};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn released(name: &str) -> Result<Value> {
    let path = Path::new(ROOT).join("docs/released").join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn no_client_of_the_released_api_is_broken() -> Result<()> {
    let broken = broken_calls(&released("openapi.json")?, &openapi());
    ensure!(broken.is_empty(), "this would break clients:\n  {}", broken.join("\n  "));
    Ok(())
}

#[test]
fn no_consumer_of_the_released_events_is_broken() -> Result<()> {
    let folder = Path::new(ROOT).join("docs/released/events");
    let mut seen = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().ok().context("a name")?;
        let event_type = name.trim_end_matches(".json");
        let known: Result<EventType, _> = event_type.parse();
        let known = known.ok().with_context(|| format!("{event_type} is gone"))?;
        let new = serde_json::to_value(events::schema(known))?;
        let broken = broken_events(event_type, &released(&format!("events/{name}"))?, &new);
        ensure!(broken.is_empty(), "this would break consumers:\n  {}", broken.join("\n  "));
        seen += 1;
    }
    ensure!(seen >= 8, "this test has lost sight of the events");
    Ok(())
}

/// The document after a change at this place.
fn changed(document: &Value, pointer: &str, change: impl Fn(&mut Value)) -> Value {
    let mut changed = document.clone();
    change(changed.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")));
    changed
}

fn remove(name: &'static str) -> impl Fn(&mut Value) {
    move |object| {
        drop(object.as_object_mut().expect("an object").remove(name).expect("it is there"))
    }
}

fn set(value: Value) -> impl Fn(&mut Value) {
    move |place| *place = value.clone()
}

fn push(value: Value) -> impl Fn(&mut Value) {
    move |list| list.as_array_mut().expect("a list").push(value.clone())
}

#[test]
fn what_would_break_a_client_is_named() {
    let old = openapi();
    assert_eq!(broken_calls(&old, &old), [""; 0]);
    let schema = |name: &str| format!("/components/schemas/{name}");
    let cases = [
        (
            changed(&old, "/paths", remove("/orders/{id}/cancel")),
            "POST /orders/{id}/cancel is gone",
        ),
        (
            changed(&old, "/paths/~1products/get/security", set(json!([{ "iam": [] }]))),
            "GET /products wants a signature now",
        ),
        (
            changed(&old, &format!("{}/properties", schema("Product")), remove("category")),
            "category is gone",
        ),
        (
            changed(
                &old,
                &format!("{}/required", schema("Product")),
                set(json!(["id", "name", "price", "currency", "stock", "active"])),
            ),
            "category may be missing now",
        ),
        (
            changed(
                &old,
                &format!("{}/properties/stock/type", schema("Product")),
                set(json!("string")),
            ),
            "stock: was of the type integer, is string",
        ),
        (
            changed(&old, &format!("{}/required", schema("NewProduct")), push(json!("category"))),
            "category is required now",
        ),
        (
            changed(&old, &format!("{}/properties", schema("NewProduct")), remove("category")),
            "category is gone",
        ),
        (
            changed(
                &old,
                &format!("{}/properties/items/maxItems", schema("NewOrder")),
                set(json!(49)),
            ),
            "maxItems",
        ),
        (
            changed(&old, "/paths/~1orders~1{id}/get/responses", remove("200")),
            "not answered with 200",
        ),
        (
            changed(&old, "/paths/~1orders/post/responses/201/headers", remove("Location")),
            "header Location of 201 is gone",
        ),
        (
            changed(&old, "/paths/~1orders/post/parameters/1/required", set(json!(true))),
            "Idempotency-Key is required now",
        ),
        (
            changed(
                &old,
                &format!("{}/properties/delta/maximum", schema("StockChange")),
                set(json!(10)),
            ),
            "maximum",
        ),
    ];
    for (new, wanted) in cases {
        let broken = broken_calls(&old, &new);
        assert!(broken.iter().any(|one| one.contains(wanted)), "{wanted}: {broken:?}");
    }
}

#[test]
fn what_breaks_nobody_passes() {
    let old = openapi();
    let schema = |name: &str| format!("/components/schemas/{name}");
    let with =
        |name: &'static str, value: Value| move |object: &mut Value| object[name] = value.clone();
    for new in [
        changed(
            &old,
            &format!("{}/properties", schema("Product")),
            with("weight", json!({ "type": "number" })),
        ),
        changed(
            &old,
            &format!("{}/properties", schema("NewProduct")),
            with("weight", json!({ "type": "number" })),
        ),
        changed(&old, "/paths", with("/carts", json!({ "get": {} }))),
        changed(&old, &format!("{}/properties/items/maxItems", schema("NewOrder")), set(json!(60))),
        changed(&old, &format!("{}/x-extensible-enum", schema("Status")), push(json!("returned"))),
        changed(&old, "/paths/~1products/get/responses", with("418", json!({}))),
    ] {
        assert_eq!(broken_calls(&old, &new), [""; 0]);
    }
}

#[test]
fn what_would_break_a_consumer_is_named() {
    let old = serde_json::to_value(events::schema(EventType::StockRejected)).expect("JSON");
    assert_eq!(broken_events("StockRejected", &old, &old), [""; 0]);
    let short = "/$defs/ShortLine";
    for (new, wanted) in [
        (changed(&old, "/properties", remove("source")), "source is gone"),
        (changed(&old, &format!("{short}/properties"), remove("requested")), "requested is gone"),
        (
            changed(&old, &format!("{short}/required"), set(json!(["product_id"]))),
            "requested may be missing now",
        ),
        (
            changed(&old, &format!("{short}/required"), push(json!("available"))),
            "available is required now",
        ),
        (changed(&old, "/$defs/Quantity/maximum", set(json!(2000))), "maximum"),
        (changed(&old, "/$defs/Quantity/maximum", set(json!(500))), "maximum"),
        (
            changed(&old, "/properties/event_type", set(json!({ "const": "StockShort" }))),
            "event_type: has other values",
        ),
        (changed(&old, "/properties/event_version/pattern", set(json!("^2"))), "another pattern"),
    ] {
        let broken = broken_events("StockRejected", &old, &new);
        assert!(broken.iter().any(|one| one.contains(wanted)), "{wanted}: {broken:?}");
    }
    let weight = |object: &mut Value| object["weight"] = json!({ "type": "number" });
    let optional = changed(&old, &format!("{short}/properties"), weight);
    assert_eq!(broken_events("StockRejected", &old, &optional), [""; 0]);
}
