//! Bad input: a 4xx that says what is wrong, never a 5xx, and nothing stored.

use anyhow::{Context, Result};
use e2e::{Answer, Stack};
use serde_json::json;

/// A refusal is a problem with a detail, and names the field if one is to blame.
fn assert_refused(answer: &Answer, status: u16, field: &str, sent: &str) -> Result<()> {
    let sent: String = sent.chars().take(120).collect();
    assert_eq!(answer.status, status, "{sent}: {}", answer.text);
    let content_type = answer.headers.get("content-type").context("a content type")?.to_str()?;
    assert!(content_type.starts_with("application/problem+json"), "{sent}: {content_type}");
    assert_eq!(answer.json["status"], status, "{sent}");
    assert!(answer.json["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{sent}");
    if !field.is_empty() {
        let errors = answer.json["errors"].as_array().context("errors")?;
        assert!(errors.iter().any(|error| error["field"] == field), "{sent}: {}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_order_is_refused_with_its_reason_and_not_stored() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Wanted", "1", 1000).await?;
    let email = "bad-order@example.com";
    let of =
        |items: serde_json::Value| json!({ "customer_email": email, "items": items }).to_string();
    let quantity = |quantity: &str| {
        of(json!([{ "product_id": product, "quantity": "Q" }])).replace(r#""Q""#, quantity)
    };
    let lines =
        |count: usize| of(json!(vec![json!({ "product_id": product, "quantity": 1 }); count]));
    let line = json!([{ "product_id": product, "quantity": 1 }]);
    let to = |email: &str| json!({ "customer_email": email, "items": line }).to_string();
    let cases: Vec<(u16, &str, String)> = vec![
        (400, "", "".into()),
        (400, "", "{".into()),
        (400, "", "not json".into()),
        (400, "", "[]".into()),
        (400, "", "null".into()),
        (400, "", "\"text\"".into()),
        (400, "", "[".repeat(10_000)),
        (400, "customer_email", "{}".into()),
        (400, "items", "{}".into()),
        (400, "customer_email", json!({ "items": line }).to_string()),
        (400, "items", json!({ "customer_email": email }).to_string()),
        (400, "items", of(json!([]))),
        (400, "items", of(json!({}))),
        (400, "items", of(json!(null))),
        (400, "items", of(json!("text"))),
        (400, "items", lines(51)),
        (400, "items[0]", of(json!([7]))),
        (400, "items[0].product_id", of(json!([{ "quantity": 1 }]))),
        (400, "items[0].quantity", of(json!([{ "product_id": product }]))),
        (400, "items[0].product_id", of(json!([{ "product_id": 7, "quantity": 1 }]))),
        (400, "items[0].product_id", of(json!([{ "product_id": "no-such", "quantity": 1 }]))),
        (400, "items[0].product_id", of(json!([{ "product_id": "a b", "quantity": 1 }]))),
        (400, "items[0].product_id", of(json!([{ "product_id": "x".repeat(65), "quantity": 1 }]))),
        (400, "items[0].quantity", quantity("0")),
        (400, "items[0].quantity", quantity("-1")),
        (400, "items[0].quantity", quantity("1.5")),
        (400, "items[0].quantity", quantity("1000000000000")),
        (400, "items[0].quantity", quantity("1e400")),
        (400, "items[0].quantity", quantity("1001")),
        (400, "items[0].quantity", quantity("\"1\"")),
        (400, "items[0].quantity", quantity("null")),
        (400, "items[0].quantity", quantity("[1]")),
        (400, "customer_email", to("")),
        (400, "customer_email", to("nobody")),
        (400, "customer_email", to("a@b@example.com")),
        (400, "customer_email", to("a@b!c.com")),
        (400, "customer_email", to("a@x_y.co")),
        (400, "customer_email", to("a@x.c")),
        (400, "customer_email", to("a@1.2.3.4")),
        (400, "customer_email", to("a@example.com\r\nBcc: b@example.com")),
        (400, "customer_email", to("a\u{0}@example.com")),
        (400, "customer_email", to(&format!("{}@example.com", "x".repeat(250)))),
        (400, "customer_email", json!({ "customer_email": 7, "items": line }).to_string()),
        // Fields that another call takes.
        (400, "stock", json!({ "customer_email": email, "items": line, "stock": 1 }).to_string()),
        (
            400,
            "items[0].price",
            of(json!([{ "product_id": product, "quantity": 1, "price": 0.01 }])),
        ),
        (
            400,
            "product_id",
            json!({ "customer_email": email, "items": line, "product_id": product }).to_string(),
        ),
        (413, "", to(&"x".repeat(256 * 1024))),
        (413, "", to(&"x".repeat(3_000_000))),
    ];
    for (status, field, body) in cases {
        let answer = stack.api.call("POST", "/orders", body.clone()).await?;
        assert_refused(&answer, status, field, &body)?;
    }
    assert_eq!(stack.orders_of(email).await?, 0);
    assert_eq!(stack.api.stock(&product).await?, 1000);
    Ok(())
}

#[tokio::test]
async fn every_bad_field_of_an_order_is_named_at_once() -> Result<()> {
    let stack = Stack::load().await?;
    let body =
        r#"{"customer_email":"x","items":[{"quantity":0},{"product_id":"p","quantity":"1"}]}"#;
    let answer = stack.api.call("POST", "/orders", body).await?;
    let errors = answer.json["errors"].as_array().context("errors")?;
    let fields: Vec<_> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
    assert_eq!(
        fields,
        ["customer_email", "items[0].product_id", "items[0].quantity", "items[1].quantity"]
    );
    Ok(())
}

/// A key is there for repetitions: it is no second reader of the body, with a mind of its own.
#[tokio::test]
async fn a_key_changes_nothing_about_which_bodies_are_valid() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Keyed or not", "1", 1000).await?;
    let body = |unknown: &str| {
        format!(
            r#"{{"customer_email":"keyed@example.com","items":[{{"product_id":"{product}","quantity":1}}],"unknown":{unknown}}}"#
        )
    };
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let large = "x".repeat(300_000);
    for (status, body) in [
        (201, body("1e400")),
        (201, body(&deep)),
        (201, body(r#""\ud800""#)),
        (413, body(&format!("\"{large}\""))),
        (413, large),
        (400, body("01")),
        (400, "[]".into()),
        (400, String::new()),
    ] {
        let key = uuid::Uuid::new_v4().to_string();
        let sent: String = body.chars().take(150).collect();
        let without = stack.api.call("POST", "/orders", body.clone()).await?;
        let keyed = [("idempotency-key", key.as_str())];
        let with = stack.api.call_with("POST", "/orders", body.clone(), &keyed).await?;
        assert_eq!((without.status, with.status), (status, status), "{sent}: {}", with.text);
        assert_eq!(without.json["type"], with.json["type"], "{sent}");
    }
    for key in ["a b", &"x".repeat(256)] {
        let keyed = [("idempotency-key", key)];
        let answer = stack.api.call_with("POST", "/orders", body("1"), &keyed).await?;
        assert_refused(&answer, 400, "", key)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_product_is_refused_with_its_reason_and_not_stored() -> Result<()> {
    let stack = Stack::load().await?;
    let name = format!("Never stored {}", uuid::Uuid::new_v4());
    let price = |price: &str| format!(r#"{{"name":"{name}","price":{price}}}"#);
    let stock = |stock: &str| format!(r#"{{"name":"{name}","price":1,"stock":{stock}}}"#);
    let named = |name: &str| json!({ "name": name, "price": 1 }).to_string();
    let cases: Vec<(&str, String)> = vec![
        ("", "".into()),
        ("", "{".into()),
        ("", "[]".into()),
        ("name", "{}".into()),
        ("price", "{}".into()),
        ("price", price("-1")),
        ("price", price("-0.01")),
        ("price", price("1.005")),
        ("price", price("10.999")),
        ("price", price("\"10\"")),
        ("price", price("null")),
        ("price", price("true")),
        ("price", price("1e30")),
        ("price", price("1e-3")),
        ("price", price("10000000.01")),
        ("stock", stock("-1")),
        ("stock", stock("1.5")),
        ("stock", stock("\"1\"")),
        ("stock", stock("1000000001")),
        ("stock", stock("99999999999999999999")),
        ("name", named("")),
        ("name", named("   ")),
        ("name", named(&"x".repeat(201))),
        ("name", named("a\u{0}b")),
        ("name", named("a\nb")),
        ("name", named("a\u{fffe}b")),
        ("name", named("a\u{ffff}b")),
        ("delta", format!(r#"{{"name":"{name}","price":1,"delta":1}}"#)),
        ("name", r#"{"name":7,"price":1}"#.into()),
        ("category", format!(r#"{{"name":"{name}","price":1,"category":"a\u0007"}}"#)),
        ("currency", format!(r#"{{"name":"{name}","price":1,"currency":"EUR"}}"#)),
    ];
    for (field, body) in cases {
        let answer = stack.api.admin("POST", "/products", body.clone()).await?;
        assert_refused(&answer, 400, field, &body)?;
    }
    let mut path = "/products?limit=100".to_owned();
    loop {
        let answer = stack.api.call("GET", &path, "").await?;
        assert!(!answer.text.contains(&name), "{}", answer.text);
        let Some(cursor) = answer.json["next_cursor"].as_str() else { break };
        path = format!("/products?limit=100&cursor={cursor}");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_change_of_a_product_is_refused_and_changes_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let id = api.product("Steady", "1", 1).await?;
    let (path, stock) = (format!("/products/{id}"), format!("/products/{id}/stock"));
    let before = api.call("GET", &path, "").await?.text;
    let cases = [
        ("PATCH", &path, "", "{}"),
        ("PATCH", &path, "", "["),
        ("PATCH", &path, "price", r#"{"price":-1}"#),
        ("PATCH", &path, "price", r#"{"price":1.234,"name":"x"}"#),
        ("PATCH", &path, "name", r#"{"name":""}"#),
        ("PATCH", &path, "category", r#"{"category":7}"#),
        ("PATCH", &path, "stock", r#"{"price":2,"stock":7}"#),
        ("PATCH", &path, "name", r#"{"name":null}"#),
        ("POST", &stock, "stock", r#"{"delta":1,"stock":7}"#),
        ("POST", &stock, "delta", "{}"),
        ("POST", &stock, "delta", r#"{"delta":0}"#),
        ("POST", &stock, "delta", r#"{"delta":1.5}"#),
        ("POST", &stock, "delta", r#"{"delta":"1"}"#),
        ("POST", &stock, "delta", r#"{"delta":1000000000000}"#),
        ("POST", &stock, "delta", r#"{"delta":-9223372036854775808}"#),
    ];
    for (method, path, field, body) in cases {
        let key = [("idempotency-key", "refused")];
        let answer = api.admin_with(method, path, body, &key).await?;
        assert_refused(&answer, 400, field, body)?;
    }
    assert_eq!(api.call("GET", &path, "").await?.text, before);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_a_404_and_a_wrong_method_a_405() -> Result<()> {
    let stack = Stack::load().await?;
    let cases = [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/orders/no-such", 404),
        ("GET", "/orders/%00", 404),
        ("GET", "/orders/%D0%B6", 404),
        ("GET", "/orders/a%2Fb", 404),
        ("GET", "/products/no-such", 404),
        ("DELETE", "/orders", 405),
        ("PUT", "/orders/x", 405),
        ("DELETE", "/products/x", 405),
        ("PATCH", "/products", 405),
        ("OPTIONS", "/nowhere", 404),
        ("OPTIONS", "/orders", 405),
        ("OPTIONS", "/orders/x/ship", 405),
    ];
    for (method, path, status) in cases {
        let answer = stack.api.call(method, path, "").await?;
        assert_refused(&answer, status, "", &format!("{method} {path}"))?;
        if status == 405 {
            assert!(answer.headers.contains_key("allow"), "{method} {path}");
        }
        // This stack lets no page of another origin call.
        let cors = answer.headers.contains_key("access-control-allow-origin");
        assert!(!cors, "{method} {path}");
    }
    for (method, path, body) in [
        ("PATCH", "/products/no-such", r#"{"price":1}"#),
        ("POST", "/products/no-such/stock", r#"{"delta":1}"#),
    ] {
        let key = [("idempotency-key", "nowhere")];
        let answer = stack.api.admin_with(method, path, body, &key).await?;
        assert_refused(&answer, 404, "", path)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() -> Result<()> {
    let stack = Stack::load().await?;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=zzz", "cursor"),
        ("cursor=e30", "cursor"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = stack.api.call("GET", &format!("/products?{query}"), "").await?;
        assert_refused(&answer, 400, field, query)?;
    }
    let answer = stack.api.admin("GET", "/orders?limit=0&cursor=!!", "").await?;
    let errors = answer.json["errors"].as_array().context("errors")?;
    let fields: Vec<_> = errors.iter().filter_map(|error| error["field"].as_str()).collect();
    assert_eq!(fields, ["customer_email", "limit", "cursor"]);
    Ok(())
}
