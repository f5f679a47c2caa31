//! The API's description is served, and what is negotiated before a call is carried out.

use anyhow::{Context, Result, ensure};
use e2e::{Stack, expect_status};
use serde_json::Value;

#[tokio::test]
async fn the_description_is_served_as_it_is_committed() -> Result<()> {
    let stack = Stack::load().await?;
    let served = stack.api.call("GET", "/openapi.json", "").await?;
    expect_status(&served, 200)?;
    let committed: Value = serde_json::from_str(include_str!("../../../../docs/openapi.json"))?;
    ensure!(served.json == committed, "another document is served");
    Ok(())
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let id = api.product("Headed", "1", 1).await?;
    for path in
        ["/openapi.json", "/products", &format!("/products/{id}"), "/products/no-such", "/nowhere"]
    {
        let (get, head) = (api.call("GET", path, "").await?, api.call("HEAD", path, "").await?);
        ensure!(head.status == get.status, "{path}: {} and {}", get.status, head.status);
        ensure!(head.text.is_empty(), "{path}: {}", head.text);
        ensure!(head.headers.get("etag") == get.headers.get("etag"), "{path}");
        ensure!(head.headers.get("content-type") == get.headers.get("content-type"), "{path}");
    }
    expect_status(&api.admin("HEAD", "/admin/products", "").await?, 200)
}

#[tokio::test]
async fn a_form_is_no_body_and_html_is_no_answer() -> Result<()> {
    let stack = Stack::load().await?;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = reqwest::Client::new()
        .post(format!("{}/orders", stack.setting("API_URL")))
        .header(form[0].0, form[0].1)
        .body("customer_email=a%40example.com")
        .send()
        .await?;
    ensure!(answer.status() == 415, "{}", answer.status());
    let problem: Value = serde_json::from_str(&answer.text().await?)?;
    ensure!(problem["type"] == "urn:orderflow:problem:unsupported-media-type", "{problem}");
    let html = stack.api.call_with("GET", "/products", "", &[("accept", "text/html")]).await?;
    expect_status(&html, 406)?;
    let kind = html.headers.get("content-type").context("a type")?.to_str()?;
    ensure!(kind.starts_with("application/problem+json"), "{kind}");
    Ok(())
}

#[tokio::test]
async fn a_shop_whose_orders_are_not_paid_has_no_paths_of_payments() -> Result<()> {
    let stack = Stack::load().await?;
    for (method, path) in [("GET", "/orders/x/payment"), ("POST", "/payments/webhook")] {
        let answer = stack.api.call(method, path, "").await?;
        expect_status(&answer, 404)?;
        ensure!(!answer.text.contains("webhook"), "{}", answer.text);
    }
    Ok(())
}
