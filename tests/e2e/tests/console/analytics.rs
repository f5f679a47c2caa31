//! The charts of units and revenue by day.

use anyhow::{Context, Result};
use e2e::{Seconds, Stack, browser::Browser, eventually};

use crate::Console;

#[tokio::test]
async fn units_and_revenue_by_day_are_drawn_and_say_what_today_came_to() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Drawn", "12.35", 20).await?;
    let order = stack.api.order("drawn@example.com", &[(&product, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&order).await?, "confirmed");
    let wanted = stack.reported_amounts(&order, &product).await?;
    eventually("the order to be counted", 60.secs(), async || {
        Ok((stack.counted_amounts(&product).await? == wanted).then_some(()))
    })
    .await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    for (title, today) in
        [("Units by day", r"confirmed \d+"), ("Revenue by day", r"confirmed \d+\.\d\d")]
    {
        let figure = format!("document.querySelector('[data-daily^=\"{title}\"]')");
        browser.until(&format!("{figure} !== null"), 30.secs()).await?;
        browser.until(&format!("/{today}/.test({figure}.innerText)"), 30.secs()).await?;
        let painted = format!("{figure}.querySelector('canvas').width > 100");
        assert_eq!(browser.value(&painted)?, true, "{title} is drawn");
        let label = browser.value(&format!("{figure}.querySelector('.plot').ariaLabel"))?;
        let label = label.as_str().context("a label")?;
        assert!(label.contains("today: ") && label.contains("confirmed"), "{label}");
    }
    assert_eq!(browser.value("dailyCharts.days.length")?, 14);
    // As the command says it: the sum of what all tests have ordered.
    let daily = stack.json(&["analytics", "daily"]).await?;
    let confirmed =
        daily.as_array().context("days")?.iter().filter(|one| one["status"] == "confirmed");
    let units: u64 = confirmed.filter_map(|one| one["units"].as_u64()).sum();
    let drawn = "dailyCharts.currencies[0].lines.find(l => l.status === 'confirmed').units.reduce((a, b) => a + b)";
    assert_eq!(browser.value(drawn)?, units);
    console.end()
}
