//! An administrator notes something about an order; its customer does not see it.

use anyhow::Result;
use e2e::{Capability, Stack, expect_status};
use serde_json::{Value, json};

#[tokio::test]
async fn an_order_has_the_tags_that_it_was_given_last_and_its_customer_does_not_see_them()
-> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Tagged", "10", 5).await?;
    let order = api.order("tagged@example.com", &[(&product, 1)]).await?;
    let (tags, admin) = (format!("/orders/{order}/tags"), format!("/admin/orders/{order}"));
    let put = async |body: Value| api.admin("PUT", &tags, body.to_string()).await;

    let first = put(json!({ "tags": ["suspicious", "call", "call"] })).await?;
    expect_status(&first, 200)?;
    assert_eq!(first.json, json!({ "tags": ["call", "suspicious"] }));
    // What becomes of the order leaves them as they are.
    assert_eq!(api.wait_until_settled(&order).await?, "confirmed");
    let seen = api.admin("GET", &admin, "").await?;
    assert_eq!(seen.json["tags"], json!(["call", "suspicious"]));
    let listed = api.admin("GET", "/orders?customer_email=tagged@example.com", "").await?;
    assert_eq!(listed.json["orders"][0]["tags"], json!(["call", "suspicious"]));

    let token = api.order_token(&order).unwrap_or_default();
    let headers = [("order-token", token.as_str())];
    let of_customer = api.call_with("GET", &format!("/orders/{order}"), "", &headers).await?;
    assert_eq!(of_customer.json["customer_email"], "tagged@example.com");
    for answer in [of_customer, api.call("GET", &format!("/orders/{order}"), "").await?] {
        assert_eq!(answer.json.get("tags"), None, "{}", answer.json);
    }
    let cancelled = api.cancel(&order).await?;
    expect_status(&cancelled, 200)?;
    assert_eq!(cancelled.json.get("tags"), None, "{}", cancelled.json);

    expect_status(&put(json!({ "tags": [] })).await?, 200)?;
    assert_eq!(api.admin("GET", &admin, "").await?.json["tags"], json!([]));
    Ok(())
}

#[tokio::test]
async fn what_is_no_list_of_tags_is_refused_and_tags_of_no_order_are_kept_nowhere() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Not tagged", "10", 5).await?;
    let order = api.order("not-tagged@example.com", &[(&product, 1)]).await?;
    for body in
        [json!({}), json!({ "tags": "a" }), json!({ "tags": ["A"] }), json!({ "tags": [1] })]
    {
        let answer = api.admin("PUT", &format!("/orders/{order}/tags"), body.to_string()).await?;
        expect_status(&answer, 400)?;
        assert_eq!(answer.json["errors"][0]["field"], "tags", "{}", answer.json);
    }
    let tags = json!({ "tags": ["a"] }).to_string();
    let absent = uuid::Uuid::new_v4().to_string();
    let answer = api.admin("PUT", &format!("/orders/{absent}/tags"), tags.clone()).await?;
    expect_status(&answer, 404)?;
    assert_eq!(stack.item("ORDERS_TABLE", "order_id", &absent).await?, None);
    if stack.can(Capability::RefusesUnsignedCalls) {
        let answer = api.call("PUT", &format!("/orders/{order}/tags"), tags).await?;
        expect_status(&answer, 403)?;
    }
    Ok(())
}
