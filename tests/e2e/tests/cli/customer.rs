//! `orderflow customer`.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Answer, Item, Stack, api::order_body, expect_status};
use serde_json::Value;

const TABLES: [&str; 6] = [
    "ORDERS_TABLE",
    "EVENT_LOG_TABLE",
    "IDEMPOTENCY_TABLE",
    "SUPPRESSED_TABLE",
    "PRODUCTS_TABLE",
    "RESERVATIONS_TABLE",
];

/// Places an order under a key, twice.
async fn order(stack: &Stack, product: &str, email: &str, key: &str) -> Result<Answer> {
    let body = order_body(email, &[(product, 2)]);
    let answer = stack.api.call_with("POST", "/orders", body, &[("idempotency-key", key)]).await?;
    expect_status(&answer, 201)?;
    Ok(answer)
}

/// The tables in which a text is found, whatever the case of its letters.
async fn tables_with(stack: &Stack, text: &str) -> Result<Vec<&'static str>> {
    let is_in = |items: &[Item]| format!("{items:?}").to_lowercase().contains(text);
    let mut found = Vec::new();
    for table in TABLES {
        if is_in(&stack.items(table).await?) {
            found.push(table);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_customer_is_exported_and_then_forgotten_and_the_books_stay() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Bought by somebody", "10.50", 10).await?;
    let key = uuid::Uuid::new_v4().to_string();
    let email = format!("jane-{key}@example.com");
    let first = order(&stack, &product, &email, &key).await?;
    // The same person, who types in capitals today.
    let second = order(&stack, &product, &email.to_uppercase(), &format!("{key}-2")).await?;
    let stranger = order(&stack, &product, "stranger@example.com", &format!("{key}-3")).await?;
    for placed in [&first, &second, &stranger] {
        assert_eq!(stack.api.wait_until_settled(&placed.id()?).await?, "confirmed");
    }
    stack.wait_until_drained(e2e::Queue::Notification).await?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let suppress = stack.dynamodb.put_item().table_name(stack.setting("SUPPRESSED_TABLE"));
    suppress.item("email", text(&email)).item("reason", text("bounce")).send().await?;

    let export = stack.json(&["customer", "export", &email]).await?;
    let count = |what: &str| export[what].as_array().map_or(0, Vec::len);
    assert_eq!((count("orders"), count("events"), count("answers")), (2, 6, 2), "{export}");
    assert_eq!(export["suppressed"]["reason"], "bounce");
    assert!(export.to_string().contains(&email) && !export.to_string().contains("stranger"));

    let unasked = stack.run(&["customer", "erase", &email]).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    let found = ["ORDERS_TABLE", "EVENT_LOG_TABLE", "IDEMPOTENCY_TABLE", "SUPPRESSED_TABLE"];
    assert_eq!(tables_with(&stack, &email).await?, found, "nothing is done unasked");

    let erased = stack.json(&["customer", "erase", &email, "--yes"]).await?;
    // StockReserved says nothing of a customer.
    assert_eq!((&erased["orders"], &erased["events"]), (&2.into(), &4.into()), "{erased}");
    assert_eq!((&erased["answers"], &erased["suppressed"]), (&2.into(), &true.into()), "{erased}");
    assert!(erased["out_of_reach"].to_string().contains("point-in-time"), "{erased}");
    assert_eq!(tables_with(&stack, &email).await?, Vec::<&str>::new());
    let again = stack.run(&["customer", "erase", &email, "--yes"]).await?;
    assert!(again.code == 0 && again.stdout.contains("Nothing is stored"), "{again:?}");

    // The order stands: its lines, its price, its token; a repetition is answered, and is no new order.
    let path = format!("/admin/orders/{}", first.id()?);
    let order_now = stack.api.admin("GET", &path, "").await?;
    assert_eq!(order_now.json["customer_email"], "erased@orderflow.invalid");
    for field in ["items", "total_price", "created_at"] {
        assert_eq!(order_now.json[field], first.json[field], "{field}");
    }
    let repeated = order(&stack, &product, &email, &key).await?;
    assert_eq!(
        (repeated.id()?, &repeated.json["order_token"]),
        (first.id()?, &first.json["order_token"])
    );
    assert!(
        repeated.text.contains("21.00") && !repeated.text.contains(&email),
        "{}",
        repeated.text
    );
    assert_eq!(stack.api.stock(&product).await?, 4);
    let strangers = format!("/admin/orders/{}", stranger.id()?);
    let strangers = stack.api.admin("GET", &strangers, "").await?;
    assert_eq!(strangers.json["customer_email"], "stranger@example.com");
    let report: Value = stack.json(&["reconcile"]).await?;
    let differences = report["differences"].as_array().context("differences")?;
    let ids = [first.id()?, second.id()?];
    assert!(
        !differences.iter().any(|one| ids.iter().any(|id| one["id"] == id.as_str())),
        "{report}"
    );

    // What happens to the order from now on mails nobody, and is no failure.
    let before = stack.all_mails().await?.len();
    expect_status(
        &stack.api.admin("POST", &format!("/orders/{}/ship", first.id()?), "").await?,
        200,
    )?;
    stack.event(&first.id()?, "OrderShipped").await?;
    stack.wait_until_drained(e2e::Queue::Notification).await?;
    assert_eq!(stack.all_mails().await?.len(), before);
    Ok(())
}

#[tokio::test]
async fn nobody_is_forgotten_while_an_order_is_under_way() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Not yet decided", "1", 10).await?;
    stack.pause(e2e::Queue::Product).await?;
    let key = uuid::Uuid::new_v4().to_string();
    let email = format!("waiting-{key}@example.com");
    let placed = order(&stack, &product, &email, &key).await?;
    let refused = stack.run(&["customer", "erase", &email, "--yes"]).await?;
    assert!(refused.code == 1 && refused.stderr.contains(&placed.id()?), "{refused:?}");
    assert_eq!(
        tables_with(&stack, &email).await?,
        ["ORDERS_TABLE", "EVENT_LOG_TABLE", "IDEMPOTENCY_TABLE"]
    );
    stack.resume(e2e::Queue::Product).await?;
    assert_eq!(stack.api.wait_until_settled(&placed.id()?).await?, "confirmed");
    stack.json(&["customer", "erase", &email, "--yes"]).await?;
    assert_eq!(tables_with(&stack, &email).await?, Vec::<&str>::new());
    Ok(())
}

#[tokio::test]
async fn no_command_shows_an_address_unless_it_is_asked_for() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Bought in private", "1", 10).await?;
    let order = stack.api.order("private@example.com", &[(&product, 1)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let history = ["order", "history", &order, "--output", "json"];
    let masked = stack.run(&history).await?.stdout;
    assert!(
        masked.contains("p***@e***.com") && !masked.contains("private@example.com"),
        "{masked}"
    );
    let full = stack.run(&[&history[..], &["--show-email"]].concat()).await?.stdout;
    assert!(full.contains("private@example.com"), "{full}");
    let others: [&[&str]; 5] = [
        &["order", "list", "--customer", "private@example.com"],
        &["order", "list", "--status", "confirmed", "--limit", "1000", "--output", "json"],
        &["order", "trace", &order],
        &["logs", "--order", &order],
        &["mail", "unknown"],
    ];
    for command in others {
        let ran = stack.run(command).await?;
        assert!(ran.code == 0 && !ran.stdout.contains("private@example.com"), "{ran:?}");
    }
    // A dead letter that nobody can read, with an address in it.
    let body = format!("not json of {order}, for private@example.com");
    stack.send(stack.setting("PRODUCT_QUEUE_URL"), &body).await?;
    stack.message_with(stack.setting("PRODUCT_DLQ_URL"), &body).await?;
    let show = ["dlq", "show", "product", "--reason", "not_json"];
    let masked = stack.run(&show).await?;
    let is_masked = masked.stdout.contains("for p***@e***.com");
    assert!(is_masked && !masked.stdout.contains("private@example.com"), "{masked:?}");
    let full = stack.run(&[&show[..], &["--show-email"]].concat()).await?;
    assert!(full.stdout.contains(&body), "{full:?}");
    // What is redriven is what was sent.
    stack.run(&["dlq", "redrive", "product", "--reason", "not_json", "--yes"]).await?;
    stack.message_with(stack.setting("PRODUCT_DLQ_URL"), &body).await?;
    stack.run(&["dlq", "drop", "product", "--reason", "not_json", "--yes"]).await?;
    Ok(())
}
