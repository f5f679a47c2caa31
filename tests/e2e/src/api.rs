//! The API as its clients see it: a customer's calls, and an administrator's signed ones.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    expect_status,
    wait::{Seconds, eventually},
};

/// How long an answer to a call with a raw path may take.
const RAW_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    region: String,
    admin: Credentials,
    /// The tokens of the orders that were placed by these tests, as a customer's browser keeps them.
    order_tokens: Arc<Mutex<HashMap<String, String>>>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Answer {
    /// The `id` of what was made or shown.
    ///
    /// # Errors
    /// There is none.
    pub fn id(&self) -> Result<String> {
        Ok(self.json["id"].as_str().with_context(|| format!("no id in {}", self.text))?.to_owned())
    }
}

impl Api {
    pub(crate) fn new(
        http: reqwest::Client,
        url: String,
        region: String,
        admin: Credentials,
    ) -> Self {
        Self { http, url, region, admin, order_tokens: Arc::default() }
    }

    /// The same API, where [`Api::admin`] signs as somebody else.
    #[must_use]
    pub fn signing_as(&self, admin: Credentials) -> Self {
        Self { admin, ..self.clone() }
    }

    /// A customer's call.
    ///
    /// # Errors
    /// No answer came.
    pub async fn call(&self, method: &str, path: &str, body: impl Into<String>) -> Result<Answer> {
        self.call_with(method, path, body, &[]).await
    }

    /// A customer's call with headers.
    ///
    /// # Errors
    /// No answer came.
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: impl Into<String>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.url);
        let answer = answer(self.request(method, &url, body.into(), headers)?).await?;
        if let (Some(id), Some(token)) =
            (answer.json["id"].as_str(), answer.json["order_token"].as_str())
        {
            let mut tokens = self.order_tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.insert(id.to_owned(), token.to_owned());
        }
        Ok(answer)
    }

    /// The token with which an order was answered, if it was placed here.
    #[must_use]
    pub fn order_token(&self, order: &str) -> Option<String> {
        let tokens = self.order_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(order).cloned()
    }

    /// Cancels an order as its customer does: with its token.
    ///
    /// # Errors
    /// No answer came, or the order was not placed here.
    pub async fn cancel(&self, order: &str) -> Result<Answer> {
        let token = self.order_token(order).with_context(|| format!("no token of {order}"))?;
        let path = format!("/orders/{order}/cancel");
        self.call_with("POST", &path, "", &[("order-token", &token)]).await
    }

    /// A customer's call with this path byte by byte: every library for URLs would make another of a backslash or a dot. Returns
    /// the status.
    ///
    /// # Errors
    /// No answer came.
    pub async fn call_with_raw_path(&self, method: &str, path: &str) -> Result<u16> {
        let url = self.url.strip_prefix("http://").context("an API without TLS")?;
        let (authority, base) = url.split_once('/').unwrap_or((url, ""));
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        let request = format!(
            "{method} {base}{path} HTTP/1.1\r\nhost: {authority}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let authority = authority.to_owned();
        tokio::task::spawn_blocking(move || {
            let mut connection = TcpStream::connect(authority)?;
            connection.set_read_timeout(Some(RAW_ANSWER_TIMEOUT))?;
            connection.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer)?;
            let answer = String::from_utf8_lossy(&answer);
            let status =
                answer.split(' ').nth(1).with_context(|| format!("no status: {answer}"))?;
            Ok(status.parse()?)
        })
        .await?
    }

    /// An administrator's call: signed with AWS Signature Version 4.
    ///
    /// # Errors
    /// No answer came.
    pub async fn admin(&self, method: &str, path: &str, body: impl Into<String>) -> Result<Answer> {
        self.admin_with(method, path, body, &[]).await
    }

    /// An administrator's call with headers.
    ///
    /// # Errors
    /// No answer came.
    pub async fn admin_with(
        &self,
        method: &str,
        path: &str,
        body: impl Into<String>,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let (url, body) = (format!("{}{path}", self.url), body.into());
        let identity: Identity = self.admin.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signed = headers.iter().copied();
        let signable =
            SignableRequest::new(method, &url, signed, SignableBody::Bytes(body.as_bytes()))?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        let mut request = self.request(method, &url, body, headers)?;
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        answer(request).await
    }

    fn request(
        &self,
        method: &str,
        url: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::RequestBuilder> {
        let request = self
            .http
            .request(method.parse::<Method>()?, url)
            .header("content-type", "application/json")
            .body(body);
        Ok(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
    }

    /// A new product; its id.
    ///
    /// # Errors
    /// It was not made.
    pub async fn product(&self, name: &str, price: &str, stock: u64) -> Result<String> {
        let body = format!(r#"{{"name":{},"price":{price},"stock":{stock}}}"#, json!(name));
        let answer = self.admin("POST", "/products", body).await?;
        expect_status(&answer, 201)?;
        answer.id()
    }

    /// Changes the stock of a product, under a new idempotency key.
    ///
    /// # Errors
    /// The API did not answer.
    pub async fn restock(&self, product: &str, delta: i64) -> Result<Answer> {
        let key = uuid::Uuid::new_v4().to_string();
        let (path, body) =
            (format!("/products/{product}/stock"), format!(r#"{{"delta":{delta}}}"#));
        self.admin_with("POST", &path, body, &[("idempotency-key", &key)]).await
    }

    /// Follows the `Location` of an answer to a call of `path`, as a client resolves it (RFC 3986, section 5).
    ///
    /// # Errors
    /// There is none, or nothing is there.
    pub async fn follow(&self, path: &str, answer: &Answer) -> Result<Answer> {
        let called = reqwest::Url::parse(&format!("{}{path}", self.url))?;
        let location = answer.headers.get("location").context("no Location")?.to_str()?;
        let answer = self::answer(self.http.get(called.join(location)?)).await?;
        expect_status(&answer, 200)?;
        Ok(answer)
    }

    /// The stock of a product.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn stock(&self, product: &str) -> Result<u64> {
        let answer = self.call("GET", &format!("/products/{product}"), "").await?;
        expect_status(&answer, 200)?;
        answer.json["stock"].as_u64().ok_or_else(|| anyhow!("no stock in {}", answer.text))
    }

    /// Waits until the stock of a product is this.
    ///
    /// # Errors
    /// It does not become so.
    pub async fn wait_for_stock(&self, product: &str, stock: u64) -> Result<()> {
        eventually(&format!("the stock of {product} to become {stock}"), 60.secs(), async || {
            Ok((self.stock(product).await? == stock).then_some(()))
        })
        .await
    }

    /// The types of an order's events, in the order in which they were made.
    ///
    /// # Errors
    /// They could not be read.
    pub async fn reported_events(&self, order: &str) -> Result<Vec<String>> {
        let answer = self.admin("GET", &format!("/orders/{order}/events"), "").await?;
        expect_status(&answer, 200)?;
        let events = answer.json["events"].as_array().context("events")?;
        Ok(events.iter().filter_map(|e| e["event_type"].as_str()).map(str::to_owned).collect())
    }

    /// A new order of these products and quantities; its id.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn order(&self, customer_email: &str, lines: &[(&str, u64)]) -> Result<String> {
        let answer = self.call("POST", "/orders", order_body(customer_email, lines)).await?;
        expect_status(&answer, 201)?;
        answer.id()
    }

    /// The status of an order.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn status(&self, order: &str) -> Result<String> {
        let answer = self.call("GET", &format!("/orders/{order}"), "").await?;
        expect_status(&answer, 200)?;
        Ok(answer.json["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an order is no longer pending, and says what it is.
    ///
    /// # Errors
    /// It stays pending.
    pub async fn wait_until_settled(&self, order: &str) -> Result<String> {
        eventually(&format!("order {order} to settle"), 90.secs(), async || {
            let status = self.status(order).await?;
            Ok((status != "pending").then_some(status))
        })
        .await
    }
}

/// The body of an order of these products and quantities.
#[must_use]
pub fn order_body(customer_email: &str, lines: &[(&str, u64)]) -> String {
    let items: Vec<Value> = lines
        .iter()
        .map(|(product, quantity)| json!({ "product_id": product, "quantity": quantity }))
        .collect();
    json!({ "customer_email": customer_email, "items": items }).to_string()
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let json = serde_json::from_str(&text).unwrap_or_default();
    Ok(Answer { status, headers, text, json })
}
