//! `orderflow console` in a real browser, and against requests that no page of its own would make.
//!
//! The tests run one at a time: each leaves an empty DLQ.
//! With `ORDERFLOW_PICTURES=<directory>` the first test leaves its screenshots there: docs/ has them from a run.

mod analytics;
mod cors;
mod lists;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::QueueAttributeName;
use e2e::{Queue, Seconds, Stack, browser::Browser, eventually};
use serde_json::{Value, json};

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

impl Console {
    fn signal(&self, name: &str) -> Result<()> {
        let kill = format!("kill -{name} {}", self.process.id());
        ensure!(std::process::Command::new("sh").args(["-c", &kill]).status()?.success());
        Ok(())
    }

    /// Ends it as Ctrl-C does: a listing that is under way gives its letters back, so that the command line has them all.
    fn end(mut self) -> Result<()> {
        self.signal("INT")?;
        let ended = self.process.wait()?;
        ensure!(ended.code() == Some(0), "Ctrl-C is how it ends, and it ended with {ended}");
        Ok(())
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
        // A minute of samples, so that there is something to see.
        browser.until("charts[0].times.length >= 6", 90.secs()).await?;
        for (scheme, width, name) in
            [("light", 1120, "light"), ("dark", 1120, "dark"), ("light", 390, "narrow")]
        {
            browser.picture(scheme, width, &directory.join(format!("console-{name}.png"))).await?;
        }
    }

    // Redrive: the consumer is paused, so the letter waits on its queue now.
    browser.click("#dead [data-redrive]")?;
    browser.until(&format!("{row} === undefined"), 60.secs()).await?;
    // The relay publishes the order's event again each minute, as long as product-consumer has not taken it.
    browser.until(&format!("/product: ([2-9]) waiting/.test({label})"), 30.secs()).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Product)).await?, 0);

    // Resume by the page: the order settles, and the letter, which is still poison, is dead again.
    browser.click("#switch-product")?;
    browser.until(&format!("{label}.includes('1 dead, consumer on')"), 60.secs()).await?;
    browser.until(&format!("{row} !== undefined"), 30.secs()).await?;
    let became = "document.getElementById('redrives').innerText";
    // How often it is tried in ten seconds is not the same each time.
    let died_again =
        "1 letter of product redriven: 0 handled, 1 died again: unknown_type after \\d+ attempts";
    browser.until(&format!("/{died_again}/.test({became})"), 60.secs()).await?;
    assert_eq!(browser.value("document.title")?, "Orderflow console", "no markup of a message ran");
    console.end()?;
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

/// Puts a letter on the DLQ of the product queue; its order.
async fn dead_letter(stack: &Stack) -> Result<String> {
    let order = uuid::Uuid::new_v4().to_string();
    let body = json!({ "event_type": "OrderReturned", "data": { "order_id": order } });
    stack.send(stack.dlq(Queue::Product), &body.to_string()).await?;
    Ok(order)
}

fn row_of(order: &str) -> String {
    format!("[...document.querySelectorAll('#dead tr')].find(r => r.innerText.includes('{order}'))")
}

/// Waits until no letter of the product queue's DLQ is received and not given back.
async fn nothing_in_flight(stack: &Stack, limit: std::time::Duration) -> Result<()> {
    eventually("every letter to be given back", limit, async || {
        let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let call = stack.sqs.get_queue_attributes().queue_url(stack.dlq(Queue::Product));
        let answer = call.attribute_names(name.clone()).send().await?;
        let attributes = answer.attributes.unwrap_or_default();
        Ok(attributes.get(&name).is_some_and(|count| count == "0").then_some(()))
    })
    .await
}

#[tokio::test]
async fn letters_are_grouped_by_reason_opened_and_redriven_or_dropped_together() -> Result<()> {
    const POISON: usize = 60;
    let stack = Stack::load().await?;
    let order = dead_letter(&stack).await?;
    for n in 0..POISON {
        stack.send(stack.queue(Queue::Product), &format!("poison {n}")).await?;
    }
    eventually("the dead letters", 90.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? == POISON as u64 + 1).then_some(()))
    })
    .await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let groups = "document.getElementById('dead-groups').innerText";
    browser.until(&format!("{groups}.includes('product: not_json ({POISON})')"), 60.secs()).await?;
    // A page of them, then the rest.
    let rows = "document.querySelectorAll('#dead [data-letter]').length";
    browser.until(&format!("{rows} === 50"), 10.secs()).await?;
    browser.click("#more")?;
    browser.until(&format!("{rows} === {}", POISON + 1), 10.secs()).await?;

    // One reason's letters; one of them, with all that it holds.
    browser.click("[data-group='product: not_json']")?;
    browser.until(&format!("{rows} === 50"), 10.secs()).await?;
    assert_eq!(browser.value(&row_of(&order))?, Value::Null, "another reason's letter is left out");
    browser.click("#dead [data-open]")?;
    browser
        .until("document.querySelector('td.letter pre').innerText.startsWith('poison ')", 10.secs())
        .await?;
    let opened = browser.value("document.querySelector('td.letter').innerText")?;
    let opened = opened.as_str().context("a letter")?;
    assert!(opened.contains("failure_reason") && opened.contains("attempts\n1"), "{opened}");

    // All of them are dropped, after a question, and their copy brings them back.
    browser.click("#drop-all")?;
    browser.until("document.getElementById('question').open", 10.secs()).await?;
    let question = browser.value("document.getElementById('question-text').textContent")?;
    assert!(
        question.as_str().is_some_and(|text| text.contains("Delete 60 letters?")),
        "{question}"
    );
    browser.click("#question-yes")?;
    let said = "document.getElementById('dead-said').textContent";
    browser.until(&format!("{said}.includes('60 letters of product dropped')"), 60.secs()).await?;
    browser.until(&format!("{rows} === 1"), 30.secs()).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Product)).await?, 1);
    let copy = browser.value(&format!("/copy is in (.*)\\.$/.exec({said})[1]"))?;
    let sent = stack.json(&["dlq", "send", copy.as_str().context("a file")?, "--yes"]).await?;
    assert_eq!(sent["sent"], POISON);
    stack.wait_until_drained(Queue::Product).await?;
    console.end()?;
    stack.json(&["dlq", "drop", "product", "--all", "--no-copy", "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn two_pages_share_one_list_which_follows_what_others_do() -> Result<()> {
    let stack = Stack::load().await?;
    let order = dead_letter(&stack).await?;
    let console = Console::start(&stack)?;
    let mut pages = [Browser::start()?, Browser::start()?];
    let row = row_of(&order);
    for page in &mut pages {
        page.open(&console.url)?;
    }
    for page in &mut pages {
        page.until(&format!("{row} !== undefined"), 30.secs()).await?;
        let age = "/Looked at \\d+ s ago/.test(document.getElementById('dead-age').textContent)";
        page.until(age, 10.secs()).await?;
    }
    // Again at once: the page that is loaded anew has the list that is there.
    let page = &mut pages[1];
    page.open(&console.base)?;
    page.until(&format!("{row} !== undefined"), 10.secs()).await?;

    // The command line drops it.
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    for page in &mut pages {
        page.until(&format!("{row} === undefined"), 30.secs()).await?;
        page.until(
            "document.getElementById('dead').innerText.includes('No dead letters')",
            30.secs(),
        )
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_another_listing_holds_is_named_and_comes_when_it_is_given_back() -> Result<()> {
    let stack = Stack::load().await?;
    let order = dead_letter(&stack).await?;
    let dlq = stack.dlq(Queue::Product);
    let receive = stack.sqs.receive_message().queue_url(dlq).visibility_timeout(120);
    let held = receive.wait_time_seconds(5).send().await?;
    let receipt = held.messages().first().context("the letter")?.receipt_handle.clone();

    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let said = "document.getElementById('dead').innerText";
    browser.until(&format!("{said}.includes('1 is held by another listing')"), 30.secs()).await?;
    let give_back = stack.sqs.change_message_visibility().queue_url(dlq).visibility_timeout(0);
    give_back.set_receipt_handle(receipt).send().await?;
    browser.until(&format!("{} !== undefined", row_of(&order)), 30.secs()).await?;
    console.end()?;
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn pausing_asks_and_the_page_shows_for_how_long_a_consumer_has_been_off() -> Result<()> {
    let stack = Stack::load().await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let flow = "document.getElementById('flow').textContent";
    browser.until("document.getElementById('switch-product') !== null", 30.secs()).await?;
    let asked = "document.getElementById('question').open";
    browser.click("#switch-product")?;
    browser.until(&format!("{asked} === true"), 10.secs()).await?;
    browser.click("#question-no")?;
    browser.until(&format!("{asked} === false"), 10.secs()).await?;
    let status = stack.json(&["status"]).await?;
    let queues = status["queues"].as_array().context("queues")?;
    let product = queues.iter().find(|queue| queue["name"] == "product").context("a queue")?;
    assert_eq!(product["consumer"], "on");

    browser.click("#switch-product")?;
    browser.until(&format!("{asked} === true"), 10.secs()).await?;
    browser.click("#question-yes")?;
    browser.until(&format!("/product-consumeroff for \\d+ s/.test({flow})"), 60.secs()).await?;
    stack.json(&["resume", "product"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_focus_stays_where_it_is_when_the_page_is_brought_up_to_date() -> Result<()> {
    let stack = Stack::load().await?;
    let order = dead_letter(&stack).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    browser.until(&format!("{} !== undefined", row_of(&order)), 30.secs()).await?;
    for (selector, changed) in [
        ("#dead [data-redrive]", "letters[0].detail = 'another'; renderDead()"),
        (
            "#switch-product",
            "showFlow({ ...before, queues: before.queues.map(q => ({ ...q, consumer: 'off' })) })",
        ),
    ] {
        browser.value(&format!("(window.old = document.querySelector('{selector}')).focus()"))?;
        browser.value(changed)?;
        // Made anew, and has the focus again.
        browser.until("!window.old.isConnected", 30.secs()).await?;
        let focused = "document.activeElement !== document.body && document.activeElement.dataset.key === window.old.dataset.key";
        assert_eq!(browser.value(focused)?, true, "{selector}");
    }
    // What says the same is not made anew: a button that goes away between press and release is not clicked. An age in it may be another
    // one at first.
    let kept = "(() => { const old = document.querySelector('#dead [data-open]'); \
                drawnLetters.clear(); renderDead(); return old.isConnected; })()";
    browser.until(kept, 30.secs()).await?;
    console.end()?;
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn each_queue_has_a_chart_of_the_last_hour_that_says_where_it_is_from() -> Result<()> {
    let stack = Stack::load().await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let queue = "document.querySelector('[data-chart=\"Queue product\"]')";
    browser.until(&format!("{queue} !== null"), 30.secs()).await?;
    let text = browser.value(&format!("{queue}.innerText"))?;
    let text = text.as_str().context("a chart")?;
    assert!(text.contains("from CloudWatch") || text.contains("counted by this console"), "{text}");
    let painted = format!("{queue}.querySelector('canvas').width > 100");
    assert_eq!(browser.value(&painted)?, true, "it is drawn");
    // The console's own samples go on, with their newest value as text.
    let pending = "document.querySelector('[data-chart=\"Orders and outbox\"]').innerText";
    browser.until(&format!("/orders pending \\d+/.test({pending})"), 30.secs()).await?;
    browser.until("charts[0].times.length >= 2", 60.secs()).await?;
    Ok(())
}

#[tokio::test]
async fn orders_are_charted_by_outcome_and_by_the_time_until_they_are_settled() -> Result<()> {
    let stack = Stack::load().await?;
    let lamp = stack.api.product("Charted", "1250", 1).await?;
    for outcome in ["confirmed", "rejected"] {
        let order = stack.api.order("charted@example.com", &[(&lamp, 1)]).await?;
        assert_eq!(stack.api.wait_until_settled(&order).await?, outcome);
    }
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let chart =
        |title: &str| format!("document.querySelector('[data-chart=\"{title}\"]')?.innerText");
    let (outcomes, settled) =
        (chart("Orders by outcome"), chart("From order to confirmation or rejection"));
    for line in ["placed", "confirmed", "rejected"] {
        browser.until(&format!("/{line} [1-9]/.test({outcomes})"), 60.secs()).await?;
    }
    browser.until(&format!("/p50 [1-9]\\d*/.test({settled})"), 30.secs()).await?;
    browser.until(&format!("/p99 [1-9]\\d*/.test({settled})"), 30.secs()).await?;
    // Of the same orders, the longest time is no shorter than that of half of them.
    let values = "charts.find(c => c.title.startsWith('From order')).lines.map(l => l.values.findLast(v => v !== null))";
    assert_eq!(browser.value(&format!("{values}[0] <= {values}[1]"))?, true);
    let consumer = chart("product-consumer");
    browser.until(&format!("/handled [1-9]/.test({consumer})"), 30.secs()).await?;
    Ok(())
}

#[tokio::test]
async fn a_link_to_an_order_opens_its_time_line_and_stays_in_the_address_bar() -> Result<()> {
    let stack = Stack::load().await?;
    let lamp = stack.api.product("Table lamp", "1250", 20).await?;
    let order = stack.api.order("anna@example.com", &[(&lamp, 2)]).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&format!("{}&order={order}", console.url))?;
    let line = "document.querySelector('.line strong')?.textContent === 'OrderCreated'";
    browser.until(line, 30.secs()).await?;
    assert_eq!(browser.value("location.hash")?, format!("#order={order}"));
    // The link without the token, in a page that has it already.
    browser.value("document.getElementById('order').replaceChildren()")?;
    browser.open(&format!("{}/#order={order}", console.base))?;
    browser.value("location.reload()")?;
    browser.until(line, 30.secs()).await?;
    Ok(())
}

/// The rules of WCAG 2.2, A and AA, and axe's own best practices (<https://github.com/dequelabs/axe-core>).
#[tokio::test]
async fn axe_finds_nothing_that_keeps_a_keyboard_or_a_screen_reader_out() -> Result<()> {
    const AXE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../contract/node/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(AXE)
        .context("axe-core is missing: `make console-test` installs it")?;
    let stack = Stack::load().await?;
    let (settled, poisoned) = something_to_see(&stack).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    browser.until(&format!("{} !== undefined", row_of(&poisoned)), 30.secs()).await?;
    browser.until("document.querySelector('.chart canvas') !== null", 30.secs()).await?;
    browser.value(&format!("showOrder('{settled}')"))?;
    browser.until("document.querySelector('.line') !== null", 30.secs()).await?;
    browser.value(&format!("openLetter({}.dataset.letter)", row_of(&poisoned)))?;
    browser.value(&axe)?;
    for (scheme, width) in [("light", 1120), ("dark", 1120), ("light", 390)] {
        browser.scheme(scheme)?;
        browser.resize(width, 800)?;
        let run = "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' ')))";
        assert_eq!(browser.value(run)?, json!([]), "{scheme}, {width} pixels wide");
    }
    stack.resume(Queue::Product).await?;
    console.end()?;
    eventually("the poison to be dead", 60.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? == 1).then_some(()))
    })
    .await?;
    stack.json(&["dlq", "drop", "product", "--order", &poisoned, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn on_a_narrow_screen_nothing_overflows_and_every_button_can_be_pressed() -> Result<()> {
    const WIDTH: u64 = 390;
    let stack = Stack::load().await?;
    let (settled, poisoned) = something_to_see(&stack).await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.resize(WIDTH, 844)?;
    browser.open(&console.url)?;
    browser.until(&format!("{} !== undefined", row_of(&poisoned)), 30.secs()).await?;
    browser.value(&format!("showOrder('{settled}')"))?;
    browser.until("document.querySelector('.line') !== null", 30.secs()).await?;
    assert_eq!(browser.value("document.scrollingElement.scrollWidth")?, WIDTH);
    let unreachable =
        "[...document.querySelectorAll('button')].filter(b => b.checkVisibility()).filter(b => {
        b.scrollIntoView({ block: 'center' });
        const r = b.getBoundingClientRect();
        const hit = document.elementFromPoint(r.left + r.width / 2, r.top + r.height / 2);
        return r.left < 0 || r.right > innerWidth || !b.contains(hit);
    }).map(b => b.textContent)";
    assert_eq!(browser.value(unreachable)?, json!([]));
    let buttons = browser.value("document.querySelectorAll('button').length")?;
    assert!(buttons.as_u64() >= Some(7), "{buttons}: the letter's, the switches', the form's");

    // And is: the redrive, by a click where it is seen.
    browser.value(
        "document.querySelector('#dead [data-redrive]').scrollIntoView({ block: 'center' })",
    )?;
    browser.click("#dead [data-redrive]")?;
    browser.until(&format!("{} === undefined", row_of(&poisoned)), 60.secs()).await?;
    stack.resume(Queue::Product).await?;
    eventually("the poison to be dead again", 60.secs(), async || {
        Ok((stack.messages(stack.dlq(Queue::Product)).await? == 1).then_some(()))
    })
    .await?;
    console.end()?;
    stack.json(&["dlq", "drop", "product", "--order", &poisoned, "--yes"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_light_goes_out_when_no_answer_comes_and_on_again_when_one_does() -> Result<()> {
    let stack = Stack::load().await?;
    let console = Console::start(&stack)?;
    let mut browser = Browser::start()?;
    browser.open(&console.url)?;
    let live = "document.getElementById('live')";
    let on = format!("{live}.className === '' && {live}.textContent.startsWith('as of')");
    let off =
        format!("{live}.className === 'off' && {live}.textContent.startsWith('not up to date')");
    browser.until(&on, 30.secs()).await?;
    console.signal("STOP")?;
    browser.until(&off, 12.secs()).await?;
    let opacity = "getComputedStyle(document.getElementById('flow')).opacity";
    assert_eq!(browser.value(opacity)?, "0.4", "old numbers do not look current");
    console.signal("CONT")?;
    browser.until(&on, 30.secs()).await?;
    Ok(())
}

#[tokio::test]
async fn a_closed_connection_and_the_end_of_the_console_give_the_letters_back() -> Result<()> {
    let stack = Stack::load().await?;
    let order = dead_letter(&stack).await?;
    let console = Console::start(&stack)?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let list = || {
        let call = http.post(format!("{}/api/dead", console.base));
        call.header("x-orderflow-token", &console.token)
    };
    // The caller goes away while the listing holds the letter.
    let gone = list().timeout(std::time::Duration::from_millis(400)).send().await;
    assert!(gone.is_err_and(|error| error.is_timeout()));
    nothing_in_flight(&stack, 10.secs()).await?;
    assert_eq!(stack.messages(stack.dlq(Queue::Product)).await?, 1);

    let listing = tokio::spawn(list().send());
    eventually("the listing to hold the letter", 10.secs(), async || {
        Ok(nothing_in_flight(&stack, 0.secs()).await.is_err().then_some(()))
    })
    .await?;
    console.end()?;
    nothing_in_flight(&stack, 5.secs()).await?;
    listing.abort();
    stack.json(&["dlq", "drop", "product", "--order", &order, "--yes"]).await?;
    Ok(())
}
