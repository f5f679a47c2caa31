//! examples/storefront in a real browser, served beside a stack whose API lets in pages of that origin alone (`--storefront`).
//!
//! With `ORDERFLOW_PICTURES=<directory>` the first test leaves its screenshots there: docs/ has them from a run.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use e2e::{Capability, Seconds, Stack, browser::Browser, expect_status};
use serde_json::json;

const EMAIL: &str = "anna@example.com";

/// The page with its products on it.
async fn open_shop(stack: &Stack, product: &str) -> Result<Browser> {
    let mut browser = Browser::start()?;
    browser.open(&format!("{}/", stack.setting("STOREFRONT_URL")))?;
    browser.until(&shown(product), 30.secs()).await?;
    Ok(browser)
}

fn shown(product: &str) -> String {
    format!("document.querySelector('[data-product=\"{product}\"]') !== null")
}

/// Has a field of a form say this, as typing would.
fn fill(browser: &mut Browser, selector: &str, text: &str) -> Result<()> {
    browser.click(selector)?;
    browser.call("Input.insertText", json!({ "text": text }))?;
    Ok(())
}

/// Puts two pieces of a product into the basket and orders them; the id of the order.
async fn place_order(browser: &mut Browser, product: &str) -> Result<String> {
    for _ in 0..2 {
        browser.click(&format!("[data-product=\"{product}\"] button"))?;
    }
    fill(browser, "#email", EMAIL)?;
    browser.click("#place")?;
    browser.until("!document.getElementById('order').hidden", 30.secs()).await?;
    let id = browser.value("document.getElementById('order-id').textContent")?;
    Ok(id.as_str().context("an id")?.to_owned())
}

async fn until_step(browser: &mut Browser, step: &str) -> Result<()> {
    let current = "document.querySelector('#steps [aria-current]')?.textContent";
    browser.until(&format!("{current} === '{step}'"), 60.secs()).await
}

fn text(browser: &mut Browser, selector: &str) -> Result<String> {
    let text = browser.value(&format!("document.querySelector({}).innerText", json!(selector)))?;
    Ok(text.as_str().context("a text")?.to_owned())
}

async fn take_pictures(browser: &mut Browser, name: &str) -> Result<()> {
    let Some(directory) = std::env::var_os("ORDERFLOW_PICTURES") else { return Ok(()) };
    let directory = PathBuf::from(directory);
    for (scheme, width, file) in
        [("light", 1100, "light"), ("dark", 1100, "dark"), ("light", 390, "narrow")]
    {
        let file = directory.join(format!("{name}-{file}.png"));
        browser.picture(scheme, width, &file).await?;
    }
    browser.resize(1100, 800)?;
    browser.scheme("light")
}

#[tokio::test]
async fn an_order_is_placed_paid_and_shipped_and_the_page_follows_it_live() -> Result<()> {
    let stack = Stack::load().await?;
    if !stack.can(Capability::HasWebSocketApis) {
        return Ok(());
    }
    let lamp = stack.api.product("Table lamp", "1250", 20).await?;
    stack.api.product("Reading chair", "4990.50", 5).await?;
    stack.api.product("Wool blanket", "890", 0).await?;
    let mut browser = open_shop(&stack, &lamp).await?;
    let order = place_order(&mut browser, &lamp).await?;
    until_step(&mut browser, "To be paid").await?;
    assert_eq!(text(&mut browser, "#link")?, "live");
    browser.until("!document.getElementById('payment').hidden", 30.secs()).await?;
    assert!(text(&mut browser, "#due")?.contains("2,500"), "{}", text(&mut browser, "#due")?);
    browser.click("#pay")?;
    until_step(&mut browser, "Confirmed").await?;
    take_pictures(&mut browser, "storefront").await?;
    // Whoever comes back, or reloads, goes on with the order, without its token in the address.
    browser.call("Page.reload", json!({}))?;
    until_step(&mut browser, "Confirmed").await?;
    assert_eq!(browser.value("location.search + location.hash")?, "");
    expect_status(&stack.api.admin("POST", &format!("/orders/{order}/ship"), "").await?, 200)?;
    until_step(&mut browser, "Shipped").await?;
    browser
        .until("document.getElementById('link').textContent === 'at its end'", 10.secs())
        .await?;
    assert_eq!(browser.value("document.getElementById('cancel').hidden")?, true);
    // To the address that the customer has typed.
    let shown = stack.api.admin("GET", &format!("/admin/orders/{order}"), "").await?;
    assert_eq!(shown.json["customer_email"], EMAIL);
    Ok(())
}

#[tokio::test]
async fn an_order_is_cancelled_on_the_page() -> Result<()> {
    let stack = Stack::load().await?;
    let chair = stack.api.product("Chair", "40", 20).await?;
    let mut browser = open_shop(&stack, &chair).await?;
    let order = place_order(&mut browser, &chair).await?;
    until_step(&mut browser, "To be paid").await?;
    browser.click("#cancel")?;
    until_step(&mut browser, "Cancelled").await?;
    assert_eq!(stack.api.status(&order).await?, "cancelled");
    stack.api.wait_for_stock(&chair, 20).await?;
    browser.click("#again")?;
    browser.until("document.getElementById('order').hidden", 10.secs()).await?;
    Ok(())
}

/// What a network that lets no WebSocket pass, or a stack with `LiveUpdates=off`, looks like to the page.
#[tokio::test]
async fn without_a_websocket_the_page_asks_and_is_told_all_the_same() -> Result<()> {
    let stack = Stack::load().await?;
    let table = stack.api.product("Small table", "75", 20).await?;
    let mut browser = Browser::start()?;
    let dead = "window.WebSocket = class { constructor() { setTimeout(() => this.onclose()); } send() {} close() {} };";
    browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": dead }))?;
    browser.open(&format!("{}/", stack.setting("STOREFRONT_URL")))?;
    browser.until(&shown(&table), 30.secs()).await?;
    let order = place_order(&mut browser, &table).await?;
    until_step(&mut browser, "To be paid").await?;
    let asks = "document.getElementById('link').textContent === 'asking every few seconds'";
    browser.until(asks, 30.secs()).await?;
    expect_status(
        &stack.api.admin("POST", &format!("/admin/orders/{order}/cancel"), "").await?,
        200,
    )?;
    until_step(&mut browser, "Cancelled").await
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_call_the_api() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Bread bin", "10", 20).await?;
    // The same page from the same server, under a name that makes it another origin.
    let other = stack.setting("STOREFRONT_URL").replace("127.0.0.1", "localhost");
    ensure!(other != stack.setting("STOREFRONT_URL"), "the same origin");
    let mut browser = Browser::start()?;
    browser.open(&format!("{other}/"))?;
    let trouble =
        "document.getElementById('trouble').textContent === 'The shop cannot be reached.'";
    browser.until(trouble, 30.secs()).await?;
    assert_eq!(browser.value(&shown(&product))?, false);
    Ok(())
}

/// What a customer does wrong is said where it is read, and costs nothing that was typed.
#[tokio::test]
async fn an_order_that_is_refused_says_why_and_can_be_put_right() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Dear <b>thing</b>", "10", 20).await?;
    let mut browser = open_shop(&stack, &product).await?;
    let name = text(&mut browser, &format!("[data-product=\"{product}\"] strong"))?;
    assert_eq!(name, "Dear <b>thing</b>", "text, and no markup");
    browser.click(&format!("[data-product=\"{product}\"] button"))?;
    // The price has changed since the page has read it.
    let path = format!("/products/{product}");
    expect_status(&stack.api.admin("PATCH", &path, r#"{"price":11}"#).await?, 200)?;
    fill(&mut browser, "#email", EMAIL)?;
    browser.click("#place")?;
    browser.until("document.getElementById('wrong').textContent !== ''", 30.secs()).await?;
    let wrong = text(&mut browser, "#wrong")?;
    assert!(wrong.contains("11"), "{wrong}");
    assert_eq!(browser.value("document.getElementById('email').value")?, EMAIL);
    Ok(())
}

/// The rules of WCAG 2.2, A and AA, and axe's own best practices (<https://github.com/dequelabs/axe-core>).
#[tokio::test]
async fn axe_finds_nothing_that_keeps_a_keyboard_or_a_screen_reader_out() -> Result<()> {
    const AXE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../contract/node/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(AXE)
        .context("axe-core is missing: `make storefront-test` installs it")?;
    let stack = Stack::load().await?;
    let product = stack.api.product("Seen by axe", "10", 20).await?;
    let mut browser = open_shop(&stack, &product).await?;
    place_order(&mut browser, &product).await?;
    until_step(&mut browser, "To be paid").await?;
    browser.until("!document.getElementById('payment').hidden", 30.secs()).await?;
    browser.click(&format!("[data-product=\"{product}\"] button"))?;
    browser.value(&axe)?;
    for (scheme, width) in [("light", 1100), ("dark", 1100), ("light", 390), ("dark", 390)] {
        browser.resize(width, 800)?;
        browser.scheme(scheme)?;
        let run = "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' ')))";
        assert_eq!(browser.value(run)?, json!([]), "{scheme} at {width}");
        let overflow =
            "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(browser.value(overflow)?, false, "{scheme} at {width} scrolls sideways");
    }
    Ok(())
}
