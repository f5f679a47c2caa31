//! What comes before an answer of the API, and what comes after it.
//!
//! In: whether an environment goes on after an answer. Out: the calls on either side of it, and what became of the order's event.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use exactly_once::Ids;
use serde_json::{Value, json};
use simulated_aws::{Call as AwsCall, Faults, Service, SimulatedAws, Step};
use tokio::task::spawn_local;

use crate::{
    clients::{Api, Call},
    in_virtual_time,
    invariants::Invariants,
    lambda::{Harshness, Lambda},
    shop::{self, Queue},
};

/// How long after an answer its environment has been frozen, or has ended its work.
const AFTER: Duration = Duration::from_secs(5);
/// The relay's interval, twice, and how old an event has to be for it.
const RELAY_MAX: Duration = Duration::from_secs(200);

/// The calls to AWS around the answer to a new order, each by its operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerCalls {
    /// Those that the customer waits for.
    pub before: Vec<String>,
    /// Those that follow, until the environment is invoked again.
    pub after: Vec<String>,
    /// Those of the next invocation, which reads an order.
    pub next: Vec<String>,
    /// Those that the customer waits for when the request is repeated under its key.
    pub repeated: Vec<String>,
}

/// A shop with one product, and the calls that have been made.
struct Shop {
    aws: SimulatedAws,
    lambda: Lambda,
    api: Rc<Api>,
    product: String,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Shop {
    async fn open(has_extensions: bool) -> Result<Self> {
        let aws = SimulatedAws::new(1, Faults::default());
        shop::deploy(&aws);
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = calls.clone();
        aws.set_observer(move |_, step| {
            let Step::CarriedOut { call, .. } = step else { return };
            let name = match call {
                AwsCall::DynamoDb(operation, _) => operation.clone(),
                AwsCall::Sns(_) => "PublishBatch".to_owned(),
                _ => return,
            };
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        });
        let config = settings::aws_with(simulated_aws::loader()).await;
        let harshness = Harshness {
            concurrency: 1000,
            is_reserved: false,
            stalls: 0,
            has_unruly_schedule: false,
            has_extensions,
        };
        let lambda = Lambda::new(&aws, &config, &Ids::seeded(1), harshness);
        let api = Rc::new(Api::new(&lambda));
        let product = api.product("Lamp", 10).await?;
        Ok(Self { aws, lambda, api, product, calls })
    }

    /// One with an order whose environment has died between its answer and the publication of its event.
    async fn with_unpublished_order() -> Result<Self> {
        let shop = Self::open(true).await?;
        shop.order().await?;
        // What is to follow the answer has not left the environment.
        shop.aws.set_faults(Faults { kill_before: 1000, ..Faults::default() });
        tokio::time::sleep(AFTER).await;
        shop.aws.set_faults(Faults::default());
        Ok(shop)
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn order(&self) -> Result<Value> {
        let items = json!([{ "product_id": self.product, "quantity": 1 }]);
        let body = json!({ "customer_email": "a@example.com", "items": items });
        let (status, answer) = self.api.insist(&Call::post("/orders", body).key("key")).await?;
        ensure!(status == 201, "{status} {answer}");
        Ok(answer)
    }

    /// Number of events that are on the queue `product`.
    fn published_events(&self) -> usize {
        self.aws.bodies(&Queue::Product.url()).len()
    }
}

/// The calls around the answer to a new order.
///
/// # Errors
/// An answer was not the expected one.
pub fn answer_calls(has_extensions: bool) -> Result<AnswerCalls> {
    in_virtual_time(1, async {
        let shop = Shop::open(has_extensions).await?;
        shop.calls();
        let first = shop.order().await?;
        let before = shop.calls();
        tokio::time::sleep(AFTER).await;
        let after = shop.calls();
        let id = first["id"].as_str().context("an id")?;
        let (status, _) = shop.api.insist(&Call::get("/orders/{id}").id(id)).await?;
        ensure!(status == 200, "{status}");
        let next = shop.calls();
        ensure!(shop.order().await? == first, "a repetition has another answer");
        let repeated = shop.calls();
        ensure!(shop.published_events() == 1, "the event is not published once");
        Ok(AnswerCalls { before, after, next, repeated })
    })
}

/// Has the environment die between its answer and the publication of the order's event; the number of published events then, and
/// that of them when the relay has had its time.
///
/// # Errors
/// The order was not accepted.
pub fn published_after_death() -> Result<[usize; 2]> {
    in_virtual_time(1, async {
        let shop = Shop::with_unpublished_order().await?;
        let published = shop.published_events();
        spawn_local(shop.lambda.clone().schedule_relay());
        tokio::time::sleep(RELAY_MAX).await;
        Ok([published, shop.published_events()])
    })
}

/// Has the relay find an order's event unpublished when neither SNS takes it nor the outbox's table; the number of published events
/// then, and that of them when both are there again.
///
/// # Errors
/// The order was not accepted.
pub fn published_after_nothing_took_it() -> Result<[usize; 2]> {
    in_virtual_time(1, async {
        let shop = Shop::with_unpublished_order().await?;
        shop.aws.set_away(Service::Sns, true);
        // Of the tables only the outbox's is away: the order could be noted as published.
        shop.aws.set_observer(|aws, step| {
            if let Step::Begun { call: AwsCall::DynamoDb(operation, body), .. } = step
                && operation == "UpdateItem"
            {
                aws.set_away(Service::DynamoDb, body["TableName"] == shop::EVENT_LOG);
            }
        });
        spawn_local(shop.lambda.clone().schedule_relay());
        tokio::time::sleep(RELAY_MAX).await;
        let published = shop.published_events();
        shop.aws.set_observer(|_, _| ());
        shop.aws.set_away(Service::DynamoDb, false);
        shop.aws.set_away(Service::Sns, false);
        tokio::time::sleep(RELAY_MAX).await;
        Ok([published, shop.published_events()])
    })
}

/// The kinds of transactions of an order that is cancelled after the relay has published its event.
///
/// # Errors
/// An answer was not the expected one, or a promise was broken.
pub fn transactions_of_late_cancellation() -> Result<BTreeSet<BTreeSet<String>>> {
    in_virtual_time(1, async {
        let shop = Shop::open(false).await?;
        let invariants = Invariants::watch(&shop.aws);
        let order = shop.order().await?;
        spawn_local(shop.lambda.clone().schedule_relay());
        tokio::time::sleep(RELAY_MAX).await;
        let id = order["id"].as_str().context("an id")?;
        let cancel = Call::post("/admin/orders/{id}/cancel", json!({})).id(id);
        let (status, answer) = shop.api.insist(&cancel).await?;
        ensure!(status == 200, "{status} {answer}");
        invariants.verdict()?;
        Ok(invariants.transactions())
    })
}
