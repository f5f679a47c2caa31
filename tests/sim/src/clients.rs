//! Those who call the API: through API Gateway, again and again until there is an answer that decides.
//!
//! In: calls as API Gateway passes them on. Out: the answer below 500. Guarantee: a client does not see why it had to try again:
//! a function that is throttled, has timed out or has died is one that did not answer.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/handle-errors-in-lambda-integration.html>

use std::{rc::Rc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use exactly_once::Clock;
use futures::future::LocalBoxFuture;
use http_api::{AfterAnswer, CorsOrigin, DeferredWork};
use lambda_http::Context as Invocation;
use order::wiring::OrderApiConfig;
use payment::wiring::PaymentApiConfig;
use product::wiring::ProductApiConfig;
use serde_json::{Value, json};
use simulated_aws::Environment;
use tokio::sync::Mutex;

use crate::{
    lambda::{Environments, Function, Lambda, TIMEOUT},
    shop::Queue,
};

/// Maximum number of times that a client tries one call.
const TRIES_MAX: usize = 400;
/// How long a client waits before it tries again.
const PAUSE_MS: std::ops::Range<u64> = 500..3000;

/// A call as API Gateway passes it on.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub method: &'a str,
    /// The route's path, with `{id}` for the id.
    pub route: &'a str,
    pub id: Option<&'a str>,
    pub key: Option<&'a str>,
    pub prefer: Option<&'a str>,
    pub order_token: Option<&'a str>,
    pub stripe_signature: Option<&'a str>,
    pub query: Vec<(&'a str, &'a str)>,
    pub body: Value,
}

impl<'a> Call<'a> {
    pub(crate) fn get(route: &'a str) -> Self {
        Self {
            method: "GET",
            route,
            id: None,
            key: None,
            prefer: None,
            order_token: None,
            stripe_signature: None,
            query: Vec::new(),
            body: Value::Null,
        }
    }

    pub(crate) fn post(route: &'a str, body: Value) -> Self {
        Self { method: "POST", body, ..Self::get(route) }
    }

    pub(crate) fn id(self, id: &'a str) -> Self {
        Self { id: Some(id), ..self }
    }

    pub(crate) fn key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    /// With the token that `POST /orders` answered.
    pub(crate) fn order_token(self, order_token: &'a str) -> Self {
        Self { order_token: Some(order_token), ..self }
    }

    fn function(&self) -> Function {
        match self.route {
            "/orders/{id}/payment" | "/payments/webhook" => Function::PaymentApi,
            route if route.starts_with("/products") => Function::ProductApi,
            _ => Function::OrderApi,
        }
    }

    /// The event that the function is invoked with.
    fn event(&self) -> Value {
        let path =
            self.id.map_or_else(|| self.route.to_owned(), |id| self.route.replace("{id}", id));
        let mut headers = json!({ "content-type": "application/json" });
        if let Some(key) = self.key {
            headers["idempotency-key"] = json!(key);
        }
        if let Some(prefer) = self.prefer {
            headers["prefer"] = json!(prefer);
        }
        if let Some(order_token) = self.order_token {
            headers["order-token"] = json!(order_token);
        }
        if let Some(signature) = self.stripe_signature {
            headers["stripe-signature"] = json!(signature);
        }
        let one = |(name, value): &(&str, &str)| ((*name).to_owned(), json!(value));
        let many = |(name, value): &(&str, &str)| ((*name).to_owned(), json!([value]));
        let query: serde_json::Map<_, _> = self.query.iter().map(one).collect();
        let queries: serde_json::Map<_, _> = self.query.iter().map(many).collect();
        json!({
            "resource": self.route, "path": path, "httpMethod": self.method, "headers": headers,
            "multiValueHeaders": {}, "queryStringParameters": query,
            "multiValueQueryStringParameters": queries,
            "isBase64Encoded": false, "body": self.body.to_string(),
            "requestContext": { "resourcePath": self.route, "httpMethod": self.method },
        })
    }
}

/// The functions behind the API.
pub(crate) struct Api {
    lambda: Lambda,
    orders: Environments<Served>,
    products: Environments<Served>,
    payments: Environments<Served>,
}

/// A function in its environment.
struct Served {
    app: Router,
    clock: Clock,
    /// What is finished after each answer, if the function has an extension.
    work: Option<Rc<Mutex<DeferredWork>>>,
}

impl Served {
    /// What goes on after an answer.
    fn finish(&self, deadline_ms: u64) -> Option<LocalBoxFuture<'static, ()>> {
        let (work, clock) = (self.work.clone()?, self.clock.clone());
        Some(Box::pin(async move {
            work.lock().await.finish(deadline_ms, &clock).await;
        }))
    }
}

impl Api {
    pub(crate) fn new(lambda: &Lambda) -> Self {
        Self {
            lambda: lambda.clone(),
            orders: Environments::default(),
            products: Environments::default(),
            payments: Environments::default(),
        }
    }

    /// Ends the environments, as a deployment does.
    pub(crate) fn deploy(&self) {
        self.orders.end();
        self.products.end();
        self.payments.end();
    }

    /// Makes a function in an environment.
    fn start(&self, function: Function, environment: &Environment) -> Result<Served> {
        let config = &environment.config(&self.lambda.config);
        let (variables, ids) = (self.lambda.variables(Queue::Order), &self.lambda.ids);
        let (routes, is_registered) = match function {
            Function::ProductApi => {
                (settings::read_from(variables, ProductApiConfig::read)?.routes(config, ids), false)
            }
            Function::PaymentApi => {
                (settings::read_from(variables, PaymentApiConfig::read)?.routes(config, ids), false)
            }
            _ => {
                let read = settings::read_from(variables, OrderApiConfig::read)?;
                (read.routes(config, ids), self.lambda.has_extensions())
            }
        };
        let clock: Clock = config.time_source().into();
        let (after_answer, work) = AfterAnswer::new(is_registered);
        let unrouted = http_api::unrouted(&[]);
        let (cors, ids) = (CorsOrigin::NONE, ids.clone());
        let app = http_api::app(routes, unrouted, cors, clock.clone(), ids, after_answer);
        if is_registered {
            return Ok(Served { app, clock, work: Some(Rc::new(Mutex::new(work))) });
        }
        // Nobody waits for it: it goes on while the environment does something else.
        let environment = environment.clone();
        tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                () = environment.died() => {}
                () = environment.run(work.run()) => {}
            }
        });
        Ok(Served { app, clock, work: None })
    }

    /// Calls once; `None` if the function was throttled, died or timed out, which a client sees as a 429, 502 or 504.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Option<(u16, Value)>> {
        let function = call.function();
        let environments = match function {
            Function::ProductApi => &self.products,
            Function::PaymentApi => &self.payments,
            _ => &self.orders,
        };
        let mut request = lambda_http::request::from_str(&call.event().to_string())?;
        let work = async |served: Rc<Served>, deadline_ms| {
            let mut invocation = Invocation::default();
            invocation.deadline = deadline_ms;
            request.extensions_mut().insert(invocation);
            let answer = tower::ServiceExt::oneshot(served.app.clone(), request).await?;
            let status = answer.status().as_u16();
            let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
            anyhow::Ok((status, serde_json::from_slice::<Value>(&body)?))
        };
        let start = |environment: &Environment| self.start(function, environment);
        let finish = |served: Rc<Served>, deadline_ms| served.finish(deadline_ms);
        let lambda = &self.lambda;
        let invoked =
            lambda.invoke_and_finish(function, environments, TIMEOUT, start, work, finish).await?;
        let answer = invoked.and_then(|invoked| invoked.answer).transpose()?;
        self.lambda.aws.note(|| {
            let path = call.id.map_or(call.route.to_owned(), |id| call.route.replace("{id}", id));
            let what = answer.as_ref().map(|(status, body)| format!("{status} {body}"));
            let what = what.unwrap_or_else(|| "no answer".to_owned());
            let key = call.key.unwrap_or("no key");
            format!("{} {path} ({key}) {} -> {what}", call.method, call.body)
        });
        Ok(answer)
    }

    /// Calls until there is an answer below 500.
    pub(crate) async fn insist(&self, call: &Call<'_>) -> Result<(u16, Value)> {
        for _ in 0..TRIES_MAX {
            match self.call(call).await? {
                Some((status, answer)) if status < 500 => return Ok((status, answer)),
                Some((500, answer)) => bail!("a 500 for {call:?}: {answer}"),
                _ => {
                    let pause = Duration::from_millis(self.lambda.aws.draw(PAUSE_MS));
                    tokio::time::sleep(pause).await;
                }
            }
        }
        bail!("no answer to {call:?} in {TRIES_MAX} tries")
    }

    /// A new product; its id.
    pub(crate) async fn product(&self, name: &str, stock: u64) -> Result<String> {
        let body = json!({ "name": name, "price": 10, "stock": stock });
        let (status, answer) = self.insist(&Call::post("/products", body)).await?;
        ensure!(status == 201, "{answer}");
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }
}
