//! `orderflow console` in a real browser, and against requests that no page of its own would make.
//!
//! With `ORDERFLOW_PICTURES=<directory>` the first test leaves its screenshots there: docs/ has them from a run.

mod browser;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context, Result};
use e2e::{Queue, Seconds, Stack, eventually};
use serde_json::{Value, json};

use browser::Browser;

/// A running console; ends with the test.
struct Console {
    process: Child,
    url: String,
    base: String,
    token: String,
}

impl Console {
    fn start(stack: &Stack) -> Result<Self> {
        let mut process =
            stack.command(&["console", "--output", "json"])?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let mut said = String::new();
        let url = loop {
            said += &lines.next().context("the console says its address")??;
            if let Ok(json) = serde_json::from_str::<Value>(&said) {
                break json["url"].as_str().context("a URL")?.to_owned();
            }
        };
        let (base, token) = url.split_once("/#token=").context("a token")?;
        let (base, token) = (base.to_owned(), token.to_owned());
        Ok(Self { process, url, base, token })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A paused product queue with one order on it, one settled order, and one dead letter of an order.
async fn something_to_see(stack: &Stack) -> Result<(String, String)> {
    let lamp = stack.api.product("Table lamp", "1250", 20).await?;
    let settled = stack.api.order("anna@example.com", &[(&lamp, 2)]).await?;
    assert_eq!(stack.api.wait_until_settled(&settled).await?, "confirmed");
    let order = uuid::Uuid::new_v4().to_string();
    // What a newer producer might send: this consumer does not know the type yet.
    let body = json!({
        "event_type": "OrderReturned", "event_version": "1.0",
        "data": { "order_id": order, "note": "<img src=x onerror=document.title='pwned'>" },
    });
    stack.send(stack.queue(Queue::Product), &body.to_string()).await?;
    eventually("the dead letter", 60.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? > 0).then_some(()))
    })
    .await?;
    stack.pause(Queue::Product).await?;
    stack.api.order("anna@example.com", &[(&lamp, 1)]).await?;
    Ok((settled, order))
}

#[tokio::test]
async fn the_page_shows_counts_a_dead_letter_with_its_reason_and_a_time_line_and_redrives()
-> Result<()> {
    let stack = Stack::load().await?;
    let (settled, poisoned) = something_to_see(&stack).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;

    // The flow, from what is really there.
    let label = "document.getElementById('flow').getAttribute('aria-label')";
    browser.until(&format!("{label}.includes('product: 1 waiting')"), 30.secs()).await?;
    let flow = browser.value(label)?;
    let flow = flow.as_str().context("a label")?;
    assert!(flow.contains("1 dead, consumer off"), "{flow}");
    assert!(flow.contains("orders: 1 pending"), "{flow}");
    assert_eq!(browser.value("location.hash")?, "", "the token is out of the address bar");

    // The dead letter, with its reason, as text.
    let row = format!(
        "[...document.querySelectorAll('#dead tr')].find(r => r.innerText.includes('{poisoned}'))"
    );
    browser.until(&format!("{row} !== undefined"), 30.secs()).await?;
    let text = browser.value(&format!("{row}.innerText"))?;
    let text = text.as_str().context("a row")?;
    assert!(text.contains("unknown_type") && text.contains("OrderReturned"), "{text}");

    // One order's time line.
    browser.value(&format!("document.getElementById('order-id').value = '{settled}'"))?;
    browser.click("#find button").context("the time line's button")?;
    let line = "[...document.querySelectorAll('.line strong')].map(e => e.textContent).join()";
    let wanted = "OrderCreated,StockReserved,OrderConfirmed";
    browser.until(&format!("{line} === '{wanted}'"), 30.secs()).await?;

    // What the queues do: a minute where the emulator has metrics, or else between two looks.
    let said = "document.getElementById('flow').textContent";
    browser.until(&format!("/steady|a minute/.test({said})"), 30.secs()).await?;

    if let Some(directory) = std::env::var_os("ORDERFLOW_PICTURES").map(PathBuf::from) {
        browser.picture("light", &directory.join("console-light.png")).await?;
        browser.picture("dark", &directory.join("console-dark.png")).await?;
    }

    // Redrive: the consumer is paused, so the letter waits on its queue now.
    browser.click("#dead [data-redrive]")?;
    browser.until(&format!("{row} === undefined"), 60.secs()).await?;
    browser.until(&format!("{label}.includes('product: 2 waiting')"), 30.secs()).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Product)).await?, 0);

    // Resume by the page: the order settles, and the letter, which is still poison, is dead again.
    browser.click("#switch-product")?;
    browser.until(&format!("{label}.includes('1 dead, consumer on')"), 60.secs()).await?;
    browser.until(&format!("{row} !== undefined"), 30.secs()).await?;
    assert_eq!(browser.value("document.title")?, "Orderflow console", "no markup of a message ran");
    stack.json(&["dlq", "drop", "product", "--order", &poisoned, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_page_without_its_token_shows_nothing_of_the_stack() -> Result<()> {
    let stack = Stack::load().await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.base)?;
    browser
        .until("document.getElementById('trouble').innerText.includes('token')", 30.secs())
        .await?;
    assert_eq!(browser.value("document.getElementById('stack').textContent")?, "");
    Ok(())
}

/// A page of another origin cannot read, and cannot do anything either.
#[tokio::test]
async fn another_origin_gets_nothing_from_the_console() -> Result<()> {
    let stack = Stack::load().await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    // A second console is a real page of another origin: same host, another port.
    let other = Console::start(&stack)?;
    browser.open(&other.base)?;
    browser.until("document.readyState === 'complete'", 30.secs()).await?;
    let call = format!(
        "fetch('{}/api/status', {{ headers: {{ 'x-orderflow-token': '{}' }} }}).then(() => 'read', () => 'refused')",
        console.base, console.token
    );
    assert_eq!(browser.value(&call)?, "refused");

    let http = reqwest::Client::builder().no_proxy().build()?;
    let status = format!("{}/api/status", console.base);
    let token = ("x-orderflow-token", console.token.as_str());
    let with = async |headers: &[(&str, &str)]| -> Result<u16> {
        let request = headers
            .iter()
            .fold(http.get(&status), |request, (name, value)| request.header(*name, *value));
        Ok(request.send().await?.status().as_u16())
    };
    assert_eq!(with(&[token]).await?, 200);
    assert_eq!(with(&[]).await?, 403);
    assert_eq!(with(&[("x-orderflow-token", "wrong")]).await?, 403);
    assert_eq!(with(&[token, ("host", "evil.example")]).await?, 403);
    assert_eq!(with(&[token, ("origin", "http://evil.example")]).await?, 403);
    assert_eq!(with(&[token, ("origin", console.base.as_str())]).await?, 200);
    let redrive = format!("{}/api/queues/product/redrive", console.base);
    let form = http.post(redrive).header("origin", "null").body("ids=all").send().await?;
    assert_eq!(form.status(), 403);
    let page = http.get(&console.base).send().await?;
    let policy = page.headers().get("content-security-policy").context("a policy")?;
    assert!(policy.to_str()?.starts_with("default-src 'none'"), "{policy:?}");
    Ok(())
}
