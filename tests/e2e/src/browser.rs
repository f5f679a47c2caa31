//! A real browser, driven by the Chrome DevTools Protocol (<https://chromedevtools.github.io/devtools-protocol/>).
//!
//! In: commands. Out: what the page has. The protocol goes over two pipes, so that there is no port and no
//! WebSocket: messages are JSON, each ended by a zero byte. Guarantee: the browser and its profile are gone when
//! this is dropped.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

const BROWSER: &str = "/usr/bin/chromium";
/// Maximum time that one command takes, on a machine that is busy.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// One browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    input: ChildStdin,
    answers: Receiver<Value>,
    profile: PathBuf,
    session: Option<String>,
    id: u64,
}

impl Browser {
    /// Starts it with a new profile.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start() -> Result<Self> {
        ensure!(Path::new(BROWSER).is_file(), "{BROWSER} is missing: apt-get install chromium");
        let profile = std::env::temp_dir().join(format!("orderflow-{}", uuid::Uuid::new_v4()));
        // The browser wants its pipes as descriptors 3 and 4, which only a shell can arrange without unsafe code.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 0</dev/null 1>&2"#, BROWSER])
            .args(["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let input = process.stdin.take().context("stdin")?;
        let output = BufReader::new(process.stdout.take().context("stdout")?);
        let (send, answers) = channel();
        // Read elsewhere, so that waiting for an answer can have an end.
        std::thread::spawn(move || {
            for message in output.split(0) {
                let json = message.ok().and_then(|text| serde_json::from_slice(&text).ok());
                if json.is_none_or(|json| send.send(json).is_err()) {
                    return;
                }
            }
        });
        let mut browser = Self { process, input, answers, profile, session: None, id: 0 };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser.call("Page.enable", json!({}))?;
        Ok(browser)
    }

    /// Gives a command and waits for its answer.
    ///
    /// # Errors
    /// The browser refuses it, or does not answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.id += 1;
        let mut message = json!({ "id": self.id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(message.to_string().as_bytes())?;
        self.input.write_all(&[0])?;
        self.input.flush()?;
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self
                .answers
                .recv_timeout(left)
                .with_context(|| format!("the browser does not answer {method}"))?;
            if answer["id"] != self.id {
                continue; // An event, which nobody here waits for.
            }
            ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
            return Ok(answer["result"].clone());
        }
    }

    /// Opens an address.
    ///
    /// # Errors
    /// The address does not answer.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let answer = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(answer["errorText"].is_null(), "{url}: {}", answer["errorText"]);
        Ok(())
    }

    /// The value of an expression on the page.
    ///
    /// # Errors
    /// It throws.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters)?;
        ensure!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression on the page is true.
    ///
    /// # Errors
    /// It does not become true.
    pub async fn until(&mut self, expression: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        // While a page loads there may be nothing to evaluate it on.
        while self.value(expression).ok() != Some(true.into()) {
            if Instant::now() > deadline {
                let page = self.value("document.body.innerText").unwrap_or_default();
                bail!("waited in vain for {expression}; the page says: {page}");
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Clicks in the middle of an element, as a mouse does.
    ///
    /// # Errors
    /// There is no such element.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let at = self.value(&format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()",
            json!(selector)
        ))?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event)?;
        }
        Ok(())
    }

    /// Gives the page a size in pixels.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn resize(&mut self, width: u64, height: u64) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        Ok(())
    }

    /// Gives the page a colour scheme, and nothing that moves.
    ///
    /// # Errors
    /// The browser does not answer.
    pub fn scheme(&mut self, scheme: &str) -> Result<()> {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        Ok(())
    }

    /// Takes a picture of the whole page in a colour scheme and at a width in pixels.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn picture(&mut self, scheme: &str, width: u64, file: &Path) -> Result<()> {
        self.resize(width, 800)?;
        self.scheme(scheme)?;
        self.value("scrollTo(0, 0)")?;
        tokio::time::sleep(LOOK_PAUSE).await;
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", whole)?;
        let bytes = BASE64_STANDARD.decode(answer["data"].as_str().context("a picture")?)?;
        std::fs::write(file, bytes)?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.session = None;
        let _ = self.call("Browser.close", json!({}));
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_PAUSE);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
