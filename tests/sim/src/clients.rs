//! Those who call the API: through API Gateway, again and again until there is an answer that decides.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, bail};
use aws_config::SdkConfig;
use axum::{Router, response::Response};
use exactly_once::Ids;
use lambda_http::Context as Invocation;
use order::wiring::OrderApiConfig;
use product::wiring::ProductApiConfig;
use serde_json::{Value, json};
use simulated_aws::{Environment, SimulatedAws};

use crate::shop::{Queue, variables};

/// The time-out of the functions behind the API.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of times that a client tries one call.
const TRIES_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Order,
    Product,
}

/// A call as API Gateway passes it on.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub function: Function,
    pub method: &'a str,
    /// The route's path, with `{id}` for the id.
    pub route: &'a str,
    pub id: Option<&'a str>,
    pub key: Option<&'a str>,
    pub body: Value,
}

/// The functions behind the API, each in one environment for as long as that lives.
pub(crate) struct Api {
    aws: SimulatedAws,
    config: SdkConfig,
    ids: Ids,
    order: RefCell<Option<(Environment, Router)>>,
    product: RefCell<Option<(Environment, Router)>>,
}

impl Api {
    pub(crate) fn new(aws: &SimulatedAws, config: &SdkConfig, ids: &Ids) -> Self {
        Self {
            aws: aws.clone(),
            config: config.clone(),
            ids: ids.clone(),
            order: RefCell::default(),
            product: RefCell::default(),
        }
    }

    fn function(&self, function: Function) -> Result<(Environment, Router)> {
        let slot = match function {
            Function::Order => &self.order,
            Function::Product => &self.product,
        };
        let running = slot.borrow().clone();
        if let Some((environment, router)) =
            running.filter(|(environment, _)| !environment.is_dead())
        {
            return Ok((environment, router));
        }
        let environment = self.aws.environment();
        let config = environment.config(&self.config);
        let variables = variables(Queue::Order);
        let routes = match function {
            Function::Order => {
                settings::read_from(variables, OrderApiConfig::read)?.routes(&config, &self.ids)
            }
            Function::Product => {
                settings::read_from(variables, ProductApiConfig::read)?.routes(&config, &self.ids)
            }
        };
        let clock = config.time_source().into();
        let router = http_api::app(routes, http_api::unrouted(), clock, self.ids.clone());
        *slot.borrow_mut() = Some((environment.clone(), router.clone()));
        Ok((environment, router))
    }

    /// Calls once; `None` if the function died or timed out, which a client sees as a 502.
    async fn call(&self, call: &Call<'_>) -> Result<Option<(u16, Value)>> {
        let (environment, router) = self.function(call.function)?;
        let path =
            call.id.map_or_else(|| call.route.to_owned(), |id| call.route.replace("{id}", id));
        let mut headers = json!({ "content-type": "application/json" });
        if let Some(key) = call.key {
            headers["idempotency-key"] = json!(key);
        }
        let event = json!({
            "resource": call.route, "path": path, "httpMethod": call.method, "headers": headers,
            "multiValueHeaders": {}, "isBase64Encoded": false, "body": call.body.to_string(),
            "requestContext": { "resourcePath": call.route, "httpMethod": call.method },
        });
        let mut request = lambda_http::request::from_str(&event.to_string())?;
        let mut invocation = Invocation::default();
        invocation.deadline = environment.now_ms() + TIMEOUT.as_millis() as u64;
        request.extensions_mut().insert(invocation);
        let work = tower::ServiceExt::oneshot(router, request);
        let answer: Response = tokio::select! {
            biased;
            () = environment.died() => return Ok(None),
            answer = tokio::time::timeout(TIMEOUT, work) => match answer {
                Ok(answer) => answer?,
                Err(_) => return Ok(None),
            },
        };
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
        Ok(Some((status, serde_json::from_slice(&body)?)))
    }

    /// Calls until there is an answer below 500.
    pub(crate) async fn insist(&self, call: &Call<'_>) -> Result<(u16, Value)> {
        for _ in 0..TRIES_MAX {
            match self.call(call).await? {
                Some((status, answer)) if status < 500 => return Ok((status, answer)),
                Some((500, answer)) => bail!("a 500 for {call:?}: {answer}"),
                _ => tokio::time::sleep(Duration::from_millis(self.aws.draw(500..3000))).await,
            }
        }
        bail!("no answer to {call:?} in {TRIES_MAX} tries")
    }

    /// A new product; its id.
    pub(crate) async fn product(&self, name: &str, stock: u64) -> Result<String> {
        let body = json!({ "name": name, "price": 10, "stock": stock });
        let call = Call {
            function: Function::Product,
            method: "POST",
            route: "/products",
            id: None,
            key: None,
            body,
        };
        let (status, answer) = self.insist(&call).await?;
        anyhow::ensure!(status == 201, "{answer}");
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }
}
