//! The functions in front of the endpoint: which binary is run with which variables, and events handed from one to the next
//! as SNS and SQS do.
//!
//! In: where the binaries are. Out: environments, answers, and what an invocation called and used. Guarantee: a function is
//! known by its binary, its variables and its events only.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sim::shop::{self, Queue};
use simulated_aws::{SimulatedAws, Units};

use crate::{
    calls::RecordedCall,
    endpoint::{AwsEndpoint, Delays},
    lambda::{Environment, Invocation},
};

/// The functions, by their binaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    OrderApi,
    ProductApi,
    Consumer(Queue),
}

impl Function {
    #[must_use]
    pub fn binary(self) -> &'static str {
        match self {
            Self::OrderApi => "order-api",
            Self::ProductApi => "product-api",
            Self::Consumer(Queue::Product) => "product-consumer",
            Self::Consumer(Queue::Order) => "order-consumer",
            Self::Consumer(Queue::Notification | Queue::NotificationPriority) => {
                "notification-consumer"
            }
            Self::Consumer(Queue::Feedback) => "notification-feedback-consumer",
            Self::Consumer(Queue::Payment) => "payment-consumer",
            Self::Consumer(Queue::Analytics) => "analytics-consumer",
        }
    }
}

/// A shop that is deployed: tables, queues, subscriptions and an endpoint.
#[derive(Debug)]
pub struct Shop {
    pub endpoint: AwsEndpoint,
    binaries: PathBuf,
}

/// What an invocation called and used, from its event to the moment when its environment was idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub invocation: Invocation,
    pub calls: Vec<RecordedCall>,
    /// Units by table, and by index as `table/index/name`.
    pub units: BTreeMap<String, Units>,
}

impl Shop {
    /// # Errors
    /// No port is free.
    pub async fn deploy(binaries: &Path, delays: Delays) -> Result<Self> {
        let endpoint = AwsEndpoint::start(new_aws()?, delays).await?;
        Ok(Self { endpoint, binaries: binaries.to_owned() })
    }

    #[must_use]
    pub fn aws(&self) -> SimulatedAws {
        self.endpoint.aws()
    }

    /// Starts a function in an environment of its own.
    ///
    /// # Errors
    /// It has not been built, or it fails.
    pub async fn start(&self, function: Function) -> Result<Environment> {
        Environment::start(self.command(function)).await.with_context(|| format!("{function:?}"))
    }

    /// How a function is run: with all of its variables but the address of the Runtime API.
    #[must_use]
    pub fn command(&self, function: Function) -> Command {
        let mut command = Command::new(self.binaries.join(function.binary()));
        command.env_clear().envs(variables(function, &self.endpoint.url())).stdin(Stdio::null());
        command.stdout(Stdio::null());
        command
    }

    /// Invokes a function, and says what it called and used.
    ///
    /// # Errors
    /// The function does not answer.
    pub async fn measure(&self, environment: &mut Environment, event: &Value) -> Result<Measured> {
        drop(self.endpoint.take_calls());
        let before = self.aws().units().by_resource;
        let invocation = environment.invoke(event.to_string()).await?;
        let calls = self.endpoint.take_calls();
        let mut units = self.aws().units().by_resource;
        for (resource, used) in &mut units {
            let before = before.get(resource).copied().unwrap_or_default();
            used.writes -= before.writes;
            used.half_reads -= before.half_reads;
        }
        units.retain(|_, used| *used != Units::default());
        Ok(Measured { invocation, calls, units })
    }

    /// Receives messages of a queue, as the event source mapping does.
    ///
    /// # Errors
    /// There are not so many.
    pub fn receive(&self, queue: Queue, count: usize) -> Result<Batch> {
        let mut received = Vec::new();
        // A receive returns any number of messages.
        while received.len() < count {
            let more = self.aws().receive(&queue.url(), count - received.len());
            if more.is_empty() {
                break;
            }
            received.extend(more);
        }
        ensure!(received.len() == count, "{} of {count} messages on {queue:?}", received.len());
        let handles = received.iter().map(|one| one.receipt_handle.clone()).collect();
        let records: Vec<_> = received.into_iter().map(|one| one.record).collect();
        Ok(Batch { queue, event: json!({ "Records": records }), handles })
    }

    /// Hands a batch to its consumer, and deletes it.
    ///
    /// # Errors
    /// The consumer gives a message back.
    pub async fn deliver(&self, consumer: &mut Environment, batch: &Batch) -> Result<Measured> {
        let measured = self.measure(consumer, &batch.event).await?;
        let answer: Value = serde_json::from_str(&measured.invocation.answer)?;
        let failures = answer["batchItemFailures"].as_array().context("the answer of a batch")?;
        ensure!(failures.is_empty(), "given back: {answer}");
        for handle in &batch.handles {
            self.aws().delete(&batch.queue.url(), handle);
        }
        Ok(measured)
    }

    /// Deletes what is on a queue.
    pub fn drain(&self, queue: Queue) {
        loop {
            let received = self.aws().receive(&queue.url(), 10);
            if received.is_empty() {
                return;
            }
            received.iter().for_each(|one| self.aws().delete(&queue.url(), &one.receipt_handle));
        }
    }

    /// Makes a product; its id.
    ///
    /// # Errors
    /// The function refuses it.
    pub async fn add_product(&self, product_api: &mut Environment) -> Result<String> {
        let body =
            json!({ "name": "Lamp", "price": 20.50, "stock": 1_000_000, "category": "home" });
        let invocation = product_api.invoke(request("/products", None, &body).to_string()).await?;
        let product = body_of(&invocation, 201)?;
        Ok(product["id"].as_str().context("an id")?.to_owned())
    }
}

/// What Lambda and the template set.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
#[must_use]
pub fn variables(function: Function, endpoint_url: &str) -> HashMap<String, String> {
    let queue = match function {
        Function::Consumer(queue) => queue,
        Function::OrderApi | Function::ProductApi => Queue::Order,
    };
    let mut variables = shop::variables(queue, shop::SHARDS_DEFAULT);
    let of_lambda = [
        ("AWS_ENDPOINT_URL", endpoint_url),
        ("AWS_REGION", "us-east-1"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_LAMBDA_FUNCTION_NAME", function.binary()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "1"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("_HANDLER", "bootstrap"),
        // A rate of mails that no measurement reaches.
        ("MAILS_PER_SECOND", "1000000"),
        // No order goes before another.
        ("PRIORITY_TOTAL", "9999999"),
    ];
    variables.extend(of_lambda.map(|(name, value)| (name.to_owned(), value.to_owned())));
    variables
}

/// An AWS with the shop's tables, queues and subscriptions.
///
/// # Errors
/// The machine's clock is before 1970.
pub fn new_aws() -> Result<SimulatedAws> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let aws = SimulatedAws::prompt(now.as_secs());
    shop::deploy(&aws);
    Ok(aws)
}

/// Messages of a queue, as its consumer gets them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub queue: Queue,
    pub event: Value,
    handles: Vec<String>,
}

/// An order of one line, as API Gateway passes it on.
#[must_use]
pub fn order_request(product_id: &str, email: &str, idempotency_key: Option<&str>) -> Value {
    let body = json!({
        "customer_email": email,
        "items": [{ "product_id": product_id, "quantity": 2 }],
    });
    request("/orders", idempotency_key, &body)
}

/// A POST as API Gateway passes it on.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>
fn request(route: &str, idempotency_key: Option<&str>, body: &Value) -> Value {
    let mut headers = json!({ "content-type": "application/json" });
    if let Some(key) = idempotency_key {
        headers["idempotency-key"] = json!(key);
    }
    json!({
        "resource": route, "path": route, "httpMethod": "POST", "headers": headers,
        "multiValueHeaders": {}, "queryStringParameters": {}, "multiValueQueryStringParameters": {},
        "isBase64Encoded": false, "body": body.to_string(),
        "requestContext": { "resourcePath": route, "httpMethod": "POST" },
    })
}

/// The body of an API's answer, which has to have this status.
///
/// # Errors
/// It has another.
pub fn body_of(invocation: &Invocation, status: u16) -> Result<Value> {
    let answer: Value = serde_json::from_str(&invocation.answer)?;
    if answer["statusCode"] != status {
        bail!("not a {status}: {answer}");
    }
    Ok(serde_json::from_str(answer["body"].as_str().unwrap_or_default())?)
}
