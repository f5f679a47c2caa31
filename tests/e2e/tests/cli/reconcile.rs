//! `orderflow reconcile`.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::{Stack, expect_status};
use serde_json::Value;

/// What the report says of a product.
async fn problems(stack: &Stack, id: &str) -> Result<Vec<String>> {
    // It ends with 1 if there is any difference, and other tests leave some.
    let ran = stack.run(&["reconcile", "--output", "json"]).await?;
    assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout)?;
    let differences = report["differences"].as_array().context("differences")?;
    let of_it = differences.iter().filter(|one| one["id"] == id);
    Ok(of_it.filter_map(|one| one["problem"].as_str().map(str::to_owned)).collect())
}

#[tokio::test]
async fn stock_is_computed_from_the_start_and_a_change_that_nobody_recorded_is_found() -> Result<()>
{
    let stack = Stack::load().await?;
    let product = stack.api.product("Reconciled", "1", 10).await?;
    expect_status(&stack.api.restock(&product, 5).await?, 200)?;
    let order = stack.api.order("reconciled@example.com", &[(&product, 4)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    assert_eq!(problems(&stack, &product).await?, Vec::<String>::new());
    // As somebody would who writes to the table by hand.
    stack
        .dynamodb
        .update_item()
        .table_name(stack.setting("PRODUCTS_TABLE"))
        .key("product_id", AttributeValue::S(product.clone()))
        .update_expression("SET stock = :stock")
        .expression_attribute_values(":stock", AttributeValue::N("12".into()))
        .send()
        .await?;
    let found = problems(&stack, &product).await?;
    assert_eq!(found, ["the stock is 12, but 15 recorded less 4 reserved is 11"]);
    let text = stack.run(&["reconcile"]).await?;
    assert!(text.code == 1 && text.stdout.contains(&product), "{text:?}");
    Ok(())
}
