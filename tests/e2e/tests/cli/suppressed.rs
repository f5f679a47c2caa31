//! `orderflow suppressed`.

use anyhow::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::Stack;

#[tokio::test]
async fn a_suppressed_address_is_listed_and_mailed_again_when_somebody_says_so() -> Result<()> {
    let stack = Stack::load().await?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let suppress = stack.dynamodb.put_item().table_name(stack.setting("SUPPRESSED_TABLE"));
    let suppress = suppress.item("email", text("gone@example.com")).item("reason", text("bounce"));
    suppress.item("suppressed_at", text("2026-01-01T00:00:00.000Z")).send().await?;
    let listed = stack.json(&["suppressed", "list", "--show-email"]).await?;
    let is_listed = |listed: &serde_json::Value| {
        listed
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["email"] == "gone@example.com"))
    };
    assert!(is_listed(&listed), "{listed}");
    let shown = stack.run(&["suppressed", "list"]).await?.stdout;
    assert!(shown.contains("bounce") && shown.contains("g***@e***.com"), "{shown}");
    let unasked = stack.run(&["suppressed", "remove", "gone@example.com"]).await?;
    assert!(unasked.code == 1 && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert!(is_listed(&stack.json(&["suppressed", "list", "--show-email"]).await?));
    // Whatever the case of its letters.
    let removed = stack.json(&["suppressed", "remove", "Gone@Example.com", "--yes"]).await?;
    assert_eq!(removed["reason"], "bounce");
    assert!(!is_listed(&stack.json(&["suppressed", "list", "--show-email"]).await?));
    let again = stack.run(&["suppressed", "remove", "gone@example.com", "--yes"]).await?;
    assert_eq!(again.code, 3, "{again:?}");
    Ok(())
}
