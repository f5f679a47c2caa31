//! Products as an administrator keeps them and a customer sees them.

use std::time::Instant;

use anyhow::{Context, Result};
use e2e::{Capability, Stack, expect_status};

#[tokio::test]
async fn a_product_is_made_shown_and_changed() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let body = r#"{"name":"Lamp","price":12.5,"stock":3,"category":"light"}"#;
    let made = api.admin("POST", "/products", body).await?;
    expect_status(&made, 201)?;
    let id = made.id()?;
    assert_eq!(stack.api.follow("/products", &made).await?.json["id"], id.as_str());
    let wanted = format!(
        r#"{{"id":"{id}","name":"Lamp","price":12.50,"currency":"UAH","stock":3,"category":"light","active":true}}"#
    );
    assert_eq!(made.text, wanted);
    let path = format!("/products/{id}");
    assert_eq!(api.call("GET", &path, "").await?.text, wanted);
    let changed = api.admin("PATCH", &path, r#"{"price":13,"category":"lamps"}"#).await?;
    expect_status(&changed, 200)?;
    let wanted = wanted.replace("12.50", "13.00").replace(r#""light""#, r#""lamps""#);
    assert_eq!(changed.text, wanted);
    assert_eq!(api.call("GET", &path, "").await?.text, wanted);
    let cleared = api.admin("PATCH", &path, r#"{"category":null}"#).await?;
    expect_status(&cleared, 200)?;
    let wanted = wanted.replace(r#""lamps""#, "null");
    assert_eq!(cleared.text, wanted);
    assert_eq!(api.call("GET", &path, "").await?.text, wanted);
    let item = stack.item("PRODUCTS_TABLE", "product_id", &id).await?.context("the product")?;
    assert!(!item.contains_key("category"));
    assert_eq!(item["version"].as_n().map(String::as_str), Ok("3"));
    assert_eq!(item["price"].as_n().map(String::as_str), Ok("1300"));
    Ok(())
}

#[tokio::test]
async fn stock_is_added_to_and_never_falls_below_zero() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let id = api.product("Bookcase", "1", 5).await?;
    for (delta, status, stock) in
        [(20, 200, 25), (-25, 200, 0), (-1, 409, 0), (1_000_000_000, 200, 1_000_000_000)]
    {
        let answer = api.restock(&id, delta).await?;
        expect_status(&answer, status)?;
        assert_eq!(api.stock(&id).await?, stock, "after {delta}");
        if status == 200 {
            assert_eq!(answer.json["stock"], stock);
        }
    }
    let item = stack.item("PRODUCTS_TABLE", "product_id", &id).await?.context("the product")?;
    assert_eq!(item["version"].as_n().map(String::as_str), Ok("1"), "stock is no new version");
    Ok(())
}

#[tokio::test]
async fn concurrent_changes_of_stock_all_count() -> Result<()> {
    let stack = Stack::load().await?;
    let id = stack.api.product("Busy shelf", "1", 0).await?;
    let adds = (0..50).map(|_| stack.api.restock(&id, 3));
    for answer in futures::future::try_join_all(adds).await? {
        expect_status(&answer, 200)?;
    }
    assert_eq!(stack.api.stock(&id).await?, 150);
    Ok(())
}

#[tokio::test]
async fn a_change_of_stock_without_a_key_is_refused_and_changes_nothing() -> Result<()> {
    let stack = Stack::load().await?;
    let id = stack.api.product("Unkeyed", "1", 5).await?;
    let path = format!("/products/{id}/stock");
    let answer = stack.api.admin("POST", &path, r#"{"delta":3}"#).await?;
    expect_status(&answer, 400)?;
    assert_eq!(answer.json["type"], "urn:orderflow:problem:idempotency-key-required");
    assert_eq!(stack.api.stock(&id).await?, 5);
    Ok(())
}

#[tokio::test]
async fn thirty_administrators_change_one_product_at_once_and_all_are_answered() -> Result<()> {
    let stack = Stack::load().await?;
    let id = stack.api.product("Contended", "1", 5).await?;
    let path = format!("/products/{id}");
    let begun = Instant::now();
    let changes = (1..=30).map(|n| stack.api.admin("PATCH", &path, format!(r#"{{"price":{n}}}"#)));
    for answer in futures::future::try_join_all(changes).await? {
        expect_status(&answer, 200)?;
    }
    println!("thirty changes of one product took {:?}", begun.elapsed());
    let item = stack.item("PRODUCTS_TABLE", "product_id", &id).await?.context("the product")?;
    assert_eq!(item["version"].as_n().map(String::as_str), Ok("31"), "each change is one version");
    Ok(())
}

#[tokio::test]
async fn all_products_are_found_page_by_page() -> Result<()> {
    let stack = Stack::load().await?;
    let mut missing = Vec::new();
    for n in 0..5 {
        missing.push(stack.api.product(&format!("Paged {n}"), "1", 0).await?);
    }
    let mut path = "/products?limit=3".to_owned();
    loop {
        let answer = stack.api.call("GET", &path, "").await?;
        expect_status(&answer, 200)?;
        let page = answer.json["products"].as_array().context("products")?;
        assert!(page.len() <= 3);
        missing.retain(|id| !page.iter().any(|product| product["id"] == id.as_str()));
        match answer.json["next_cursor"].as_str() {
            Some(cursor) => path = format!("/products?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert!(missing.is_empty(), "on no page: {missing:?}");
    Ok(())
}

#[tokio::test]
async fn an_administrators_call_must_be_signed() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::RefusesUnsignedCalls) {
        return Ok(());
    }
    for (method, path) in [
        ("POST", "/products"),
        ("PATCH", "/products/x"),
        ("POST", "/products/x/stock"),
        // No administrator's, but the gateway does not tell a method that it does not know from an unsigned call.
        ("TRACE", "/orders"),
    ] {
        let answer = stack.api.call(method, path, "{}").await?;
        expect_status(&answer, 403)?;
        for cause in ["does not take this method", "Sign the request"] {
            assert!(answer.text.contains(cause), "{}", answer.text);
        }
        for (header, value) in
            [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        {
            assert!(answer.headers.get(header).is_some_and(|v| v == value), "{method} {path}");
        }
    }
    Ok(())
}

/// What the gateway finds no route for reaches order-api by a catch-all that asks for no signature.
#[tokio::test]
async fn a_disguised_path_reaches_no_protected_call() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Disguised", "1", 1).await?;
    let order = stack.api.order("disguised@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    for (method, path) in [
        ("POST", format!("/orders/{order}%2Fship")),
        ("POST", format!("/orders%2F{order}%2Fship")),
        ("POST", format!("/orders//{order}/ship")),
        ("GET", format!("/orders/{order}%2Fevents")),
        ("POST", format!("/products/{product}%2Fstock")),
    ] {
        let answer = stack.api.call(method, &path, r#"{"delta":5}"#).await?;
        assert!(matches!(answer.status, 403..=405), "{path}: {} {}", answer.status, answer.text);
    }
    assert_eq!(stack.api.status(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 0);
    Ok(())
}

/// The functions read a path as a URL, in which `\` is a `/`, what begins with a `#` is left out, and dots are resolved.
#[tokio::test]
async fn a_raw_path_reaches_no_protected_call() -> Result<()> {
    let stack = Stack::load().await?;
    // A gateway that resolves dots itself finds the protected route, and has to refuse the call there.
    if !stack.can(Capability::RefusesUnsignedCalls) {
        return Ok(());
    }
    let product = stack.api.product("Raw", "1", 1).await?;
    let order = stack.api.order("raw@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    for (method, path) in [
        ("GET", format!(r"/orders/{order}\events")),
        ("GET", format!("/orders/{order}/events#")),
        ("GET", format!("/orders/./{order}/events")),
        ("GET", format!("/orders/{order}%5Cevents")),
        ("POST", format!(r"/orders/{order}\ship")),
        ("POST", format!("/orders/{order}/ship#")),
        ("POST", format!("/orders/{order}/./ship")),
        ("POST", format!("/orders/{order}/ship%23")),
        ("POST", format!(r"/products/{product}\stock")),
    ] {
        let status = stack.api.call_with_raw_path(method, &path).await?;
        assert!(matches!(status, 400 | 403..=405), "{method} {path}: {status}");
    }
    assert_eq!(stack.api.status(&order).await?, "confirmed");
    assert_eq!(stack.api.stock(&product).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_reader_who_has_a_product_as_it_is_gets_no_body_and_a_writer_who_was_overtaken_is_told()
-> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let id = api.product("Tagged", "1", 5).await?;
    let path = format!("/products/{id}");
    let tag = |answer: &e2e::Answer| -> Result<String> {
        Ok(answer.headers.get("etag").context("an ETag")?.to_str()?.to_owned())
    };
    let first = tag(&api.call("GET", &path, "").await?)?;
    assert_eq!(first, "\"1.5\"");
    let again = api.call_with("GET", &path, "", &[("if-none-match", &first)]).await?;
    expect_status(&again, 304)?;
    assert_eq!((again.text.as_str(), tag(&again)?), ("", first.clone()));
    // A change of stock is seen by readers, and in no writer's way.
    expect_status(&api.restock(&id, 2).await?, 200)?;
    let seen = api.call_with("GET", &path, "", &[("if-none-match", &first)]).await?;
    expect_status(&seen, 200)?;
    let bound = |tag: &str| [("if-match", tag.to_owned())];
    let change = async |body: &str, tag: &str| {
        let headers = bound(tag);
        let headers: Vec<_> = headers.iter().map(|(name, tag)| (*name, tag.as_str())).collect();
        api.admin_with("PATCH", &path, body, &headers).await
    };
    let changed = change(r#"{"price":2}"#, &first).await?;
    expect_status(&changed, 200)?;
    assert_eq!(tag(&changed)?, "\"2.7\"");
    let overtaken = change(r#"{"price":3}"#, &first).await?;
    expect_status(&overtaken, 412)?;
    assert_eq!(overtaken.json["type"], "urn:orderflow:problem:precondition-failed");
    assert_eq!(api.call("GET", &path, "").await?.json["price"], 2.0);
    expect_status(&change(r#"{"price":3}"#, "\"9.9\", \"2.0\"").await?, 200)?;
    expect_status(&change(r#"{"price":4}"#, "*").await?, 200)?;
    expect_status(&change(r#"{"price":4}"#, "4.7").await?, 400)?;
    expect_status(&change(r#"{"price":4}"#, "W/\"4.7\"").await?, 412)?;
    let stock = format!("{path}/stock");
    for (tag, key, status, left) in
        [("\"1.7\"", "old", 412, 7), ("\"4.7\"", "new", 200, 8), ("\"4.7\"", "new", 200, 8)]
    {
        let key = format!("{key}-{id}");
        let headers = [("idempotency-key", key.as_str()), ("if-match", tag)];
        let answer = api.admin_with("POST", &stock, r#"{"delta":1}"#, &headers).await?;
        expect_status(&answer, status)?;
        assert_eq!(api.stock(&id).await?, left);
    }
    Ok(())
}

#[tokio::test]
async fn a_product_that_is_withdrawn_cannot_be_ordered_and_only_administrators_see_it() -> Result<()>
{
    let stack = Stack::load().await?;
    let api = &stack.api;
    let category = format!("c-{}", uuid::Uuid::new_v4());
    let mut ids = Vec::new();
    for number in 0..5 {
        let body = format!(r#"{{"name":"N{number}","price":1,"stock":9,"category":"{category}"}}"#);
        ids.push(api.admin("POST", "/products", body).await?.id()?);
    }
    ids.sort();
    let withdrawn = ids.remove(1);
    let path = format!("/products/{withdrawn}");
    expect_status(&api.admin("PATCH", &path, r#"{"active":false}"#).await?, 200)?;
    expect_status(&api.call("GET", &path, "").await?, 404)?;
    let shown = api.admin("GET", &format!("/admin/products/{withdrawn}"), "").await?;
    expect_status(&shown, 200)?;
    assert_eq!(shown.json["active"], false);
    let order = format!(
        r#"{{"customer_email":"a@example.com","items":[{{"product_id":"{}","quantity":1}},{{"product_id":"{withdrawn}","quantity":1}}]}}"#,
        ids[0]
    );
    let refused = api.call("POST", "/orders", order.clone()).await?;
    expect_status(&refused, 400)?;
    assert_eq!(refused.json["errors"][0]["field"], "items[1].product_id");
    // Each page is full, or the last: with two a page, the four that are sold are two pages.
    let mut pages: Vec<Vec<String>> = Vec::new();
    let first = format!("/products?category={category}&limit=2");
    let mut next = Some(first.clone());
    while let Some(path) = next {
        let page = api.call("GET", &path, "").await?;
        expect_status(&page, 200)?;
        let products = page.json["products"].as_array().context("products")?;
        pages.push(
            products.iter().map(|p| p["id"].as_str().unwrap_or_default().to_owned()).collect(),
        );
        next = page.json["next_cursor"].as_str().map(|cursor| format!("{first}&cursor={cursor}"));
    }
    assert_eq!(pages, [&ids[..2], &ids[2..]]);
    let all = api.admin("GET", &format!("/admin/products?category={category}"), "").await?;
    assert_eq!(all.json["products"].as_array().map(Vec::len), Some(5));
    expect_status(&api.admin("PATCH", &path, r#"{"active":true}"#).await?, 200)?;
    expect_status(&api.call("POST", "/orders", order).await?, 201)?;
    Ok(())
}

#[tokio::test]
async fn an_order_that_costs_another_amount_than_expected_is_not_placed() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let id = api.product("Dearer", "20.50", 5).await?;
    let order = |total: &str| {
        format!(
            r#"{{"customer_email":"a@example.com","product_id":"{id}","quantity":2,"expected_total":{total}}}"#
        )
    };
    let key = format!("total-{id}");
    let headers = [("idempotency-key", key.as_str())];
    let placed = api.call_with("POST", "/orders", order("41.00"), &headers).await?;
    expect_status(&placed, 201)?;
    expect_status(&api.admin("PATCH", &format!("/products/{id}"), r#"{"price":21}"#).await?, 200)?;
    let refused = api.call("POST", "/orders", order("41.00")).await?;
    expect_status(&refused, 409)?;
    assert_eq!(refused.json["type"], "urn:orderflow:problem:total-changed");
    assert!(refused.text.contains(r#""total_price":42.00"#), "{}", refused.text);
    // A repetition is answered as the first time, whatever has changed since.
    let again = api.call_with("POST", "/orders", order("41.00"), &headers).await?;
    assert_eq!((again.status, again.text), (placed.status, placed.text));
    expect_status(&api.call("POST", "/orders", order("42")).await?, 201)?;
    Ok(())
}
