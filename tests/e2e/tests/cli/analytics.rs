//! `orderflow analytics daily`.

use anyhow::{Context, Result};
use e2e::{Amounts, Seconds, Stack, eventually};
use serde_json::Value;

/// What the command says of a product, by status.
fn of_product(daily: &Value, product: &str) -> Amounts {
    let rows = daily.as_array().into_iter().flatten().filter(|one| one["product_id"] == product);
    let row = |one: &Value| {
        let revenue = (one["revenue"].as_f64()? * 100.0).round() as u64;
        Some((one["status"].as_str()?.to_owned(), (one["units"].as_u64()?, revenue)))
    };
    rows.filter_map(row).collect()
}

#[tokio::test]
async fn the_days_are_shown_of_all_products_and_of_each() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("By day", "12.35", 20).await?;
    let order = stack.api.order("by-day@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let wanted = stack.reported_amounts(&order, &product).await?;
    eventually("the order to be shown", 60.secs(), async || {
        let daily = stack.json(&["analytics", "daily", "--products"]).await?;
        Ok((of_product(&daily, &product) == wanted).then_some(()))
    })
    .await?;
    let each = stack.json(&["analytics", "daily", "--products"]).await?;
    let all = stack.json(&["analytics", "daily"]).await?;
    let units = |daily: &Value, status: &str| -> u64 {
        let rows = daily.as_array().into_iter().flatten().filter(|one| one["status"] == status);
        rows.filter_map(|one| one["units"].as_u64()).sum()
    };
    assert_eq!(units(&all, "confirmed"), units(&each, "confirmed"));
    assert!(units(&all, "confirmed") >= 2, "{all}");
    let text = stack.run(&["analytics", "daily"]).await?.stdout;
    assert!(text.contains("UNITS") && text.contains("confirmed"), "{text}");
    let quiet = stack.run(&["analytics", "daily", "--to", "2001-01-01"]).await?;
    assert!(quiet.stdout.contains("Nothing is counted"), "{quiet:?}");
    // The history of the order names the consumer with its marker.
    let history = stack.json(&["order", "history", &order]).await?;
    let consumers = history[0]["consumers"].as_array().context("consumers")?;
    let counted = consumers.iter().find(|one| one["consumer"] == "analytics-consumer");
    assert_eq!(counted.map(|one| &one["state"]), Some(&"done".into()), "{history}");
    Ok(())
}

#[tokio::test]
async fn days_that_are_none_or_too_many_are_refused() -> Result<()> {
    let stack = Stack::load().await?;
    for (days, code) in [
        (&["--from", "yesterday"][..], 2),
        (&["--from", "2026-02-30"], 2),
        (&["--from", "2026-05-03", "--to", "2026-05-02"], 1),
        (&["--from", "2025-01-01", "--to", "2026-05-02"], 1),
    ] {
        let refused = stack.run(&[&["analytics", "daily"], days].concat()).await?;
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stderr.contains("day"), "{refused:?}");
    }
    Ok(())
}
