//! What an order's token opens, and what stays shut without it.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Answer, Capability, Item, Stack, api::order_body, expect_status};

async fn place(stack: &Stack, email: &str, key: Option<&str>) -> Result<Answer> {
    let product = stack.api.product("Tokened", "10", 10).await?;
    let body = order_body(email, &[(&product, 1)]);
    let keyed: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    let answer = stack.api.call_with("POST", "/orders", body.clone(), &keyed).await?;
    expect_status(&answer, 201)?;
    if key.is_some() {
        let again = stack.api.call_with("POST", "/orders", body, &keyed).await?;
        assert_eq!((again.status, &again.text), (201, &answer.text), "a repetition");
    }
    Ok(answer)
}

fn token_of(answer: &Answer) -> Result<&str> {
    answer.json["order_token"].as_str().context("a token")
}

#[tokio::test]
async fn an_order_is_cancelled_with_its_token_and_with_no_other() -> Result<()> {
    let stack = Stack::load().await?;
    let answer = place(&stack, "tokened@example.com", None).await?;
    let (id, token) = (answer.id()?, token_of(&answer)?);
    let other = place(&stack, "other@example.com", None).await?;
    let longer = format!("{token}A");
    let path = format!("/orders/{id}/cancel");
    for wrong in [None, Some(token_of(&other)?), Some(&longer), Some("guessed"), Some("")] {
        let headers: Vec<_> = wrong.map(|token| ("order-token", token)).into_iter().collect();
        let refused = stack.api.call_with("POST", &path, "", &headers).await?;
        expect_status(&refused, 403)?;
        assert_eq!(refused.json["type"], "urn:orderflow:problem:order-token", "{wrong:?}");
    }
    assert_ne!(stack.api.status(&id).await?, "cancelled");
    // Whoever guesses ids does not learn which there are.
    expect_status(&stack.api.call("POST", "/orders/no-such/cancel", "").await?, 403)?;
    let headers = [("order-token", token)];
    let cancelled = stack.api.call_with("POST", &path, "", &headers).await?;
    expect_status(&cancelled, 200)?;
    assert_eq!(cancelled.json["status"], "cancelled");
    assert_eq!(cancelled.json["customer_email"], "tokened@example.com");
    Ok(())
}

#[tokio::test]
async fn who_knows_an_orders_id_alone_does_not_see_whose_it_is() -> Result<()> {
    let stack = Stack::load().await?;
    let answer = place(&stack, "private.person@mail.example.com", None).await?;
    let path = format!("/orders/{}", answer.id()?);
    let masked = stack.api.call("GET", &path, "").await?;
    expect_status(&masked, 200)?;
    assert_eq!(masked.json["customer_email"], "p***@m***.com");
    assert!(!masked.text.contains("order_token"), "{}", masked.text);
    let headers = [("order-token", token_of(&answer)?)];
    let full = stack.api.call_with("GET", &path, "", &headers).await?;
    expect_status(&full, 200)?;
    assert_eq!(full.json["customer_email"], "private.person@mail.example.com");
    // It says what is wrong, rather than showing another address.
    let wrong = stack.api.call_with("GET", &path, "", &[("order-token", "guessed")]).await?;
    expect_status(&wrong, 403)
}

fn has_text(value: &AttributeValue, wanted: &str) -> bool {
    match value {
        AttributeValue::S(text) => text.contains(wanted),
        AttributeValue::L(list) => list.iter().any(|value| has_text(value, wanted)),
        AttributeValue::M(map) => map.values().any(|value| has_text(value, wanted)),
        _ => false,
    }
}

#[tokio::test]
async fn a_repetition_is_answered_with_the_same_token_and_no_table_has_it() -> Result<()> {
    let stack = Stack::load().await?;
    let key = uuid::Uuid::new_v4().to_string();
    let answer = place(&stack, "repeated-token@example.com", Some(&key)).await?;
    let (id, token) = (answer.id()?, token_of(&answer)?);
    let (mut with_id, mut with_token) = (0, 0);
    for table in ["ORDERS_TABLE", "EVENT_LOG_TABLE", "IDEMPOTENCY_TABLE"] {
        let items: Vec<Item> = stack.items(table).await?;
        let with = |wanted: &str| {
            items.iter().filter(|item| item.values().any(|value| has_text(value, wanted))).count()
        };
        with_id += with(&id);
        with_token += with(token);
    }
    assert!(with_id >= 3, "the order, its event and its answer: {with_id}");
    assert_eq!(with_token, 0);
    Ok(())
}

#[tokio::test]
async fn an_administrator_reads_and_cancels_an_order_by_signature() -> Result<()> {
    let stack = Stack::load().await?;
    let answer = place(&stack, "administered@example.com", None).await?;
    let path = format!("/admin/orders/{}", answer.id()?);
    if stack.can(Capability::RefusesUnsignedCalls) {
        let headers = [("order-token", token_of(&answer)?)];
        for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/cancel"))] {
            let unsigned = stack.api.call_with(method, &path, "", &headers).await?;
            expect_status(&unsigned, 403)?;
        }
    }
    let read = stack.api.admin("GET", &path, "").await?;
    expect_status(&read, 200)?;
    assert_eq!(read.json["customer_email"], "administered@example.com");
    let cancelled = stack.api.admin("POST", &format!("{path}/cancel"), "").await?;
    expect_status(&cancelled, 200)?;
    assert_eq!(cancelled.json["status"], "cancelled");
    Ok(())
}
