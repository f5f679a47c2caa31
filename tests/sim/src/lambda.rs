//! Lambda: event source mappings, execution environments that are used again, time-outs, and the relay's schedule.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>

use std::{cell::RefCell, rc::Rc, time::Duration};

use aws_config::SdkConfig;
use aws_lambda_events::event::sqs::SqsEvent;
use exactly_once::Ids;
use messaging::EventConsumer;
use notification::{NotificationConfig, Notifier};
use order::{dynamodb::OrderConsumer, wiring::OrderConsumerConfig};
use product::{dynamodb::ProductConsumer, wiring::ProductConsumerConfig};
use relay::RelayConfig;
use serde_json::json;
use simulated_aws::{Environment, Received, SimulatedAws};

use crate::shop::{Queue, variables};

/// The functions' time-out, as the template has it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The relay's.
const RELAY_TIMEOUT: Duration = Duration::from_secs(55);
const RELAY_INTERVAL: Duration = Duration::from_secs(60);
/// How often a mapping polls.
const POLL: Duration = Duration::from_millis(200);

/// A consumer in its environment.
enum Handler {
    Product(EventConsumer, ProductConsumer),
    Order(EventConsumer, OrderConsumer),
    Notification(EventConsumer, Notifier),
}

struct Consumer {
    environment: Environment,
    handler: Handler,
}

impl Consumer {
    fn start(
        aws: &SimulatedAws,
        config: &SdkConfig,
        ids: &Ids,
        queue: Queue,
    ) -> anyhow::Result<Self> {
        let environment = aws.environment();
        let config = environment.config(config);
        let variables = variables(queue);
        let handler = match queue {
            Queue::Product => {
                let read = settings::read_from(variables, ProductConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(&config, ids);
                Handler::Product(consumer, handler)
            }
            Queue::Order => {
                let read = settings::read_from(variables, OrderConsumerConfig::read)?;
                let (consumer, handler) = read.consumer(&config, ids);
                Handler::Order(consumer, handler)
            }
            Queue::Notification => {
                let read = settings::read_from(variables, NotificationConfig::read)?;
                let (consumer, handler) = read.consumer(&config, ids);
                Handler::Notification(consumer, handler)
            }
        };
        Ok(Self { environment, handler })
    }

    /// One invocation; the ids of the messages that are to come again, or `None` if it timed out or died.
    async fn invoke(&self, batch: SqsEvent) -> Option<Vec<String>> {
        let deadline_ms = self.environment.now_ms() + TIMEOUT.as_millis() as u64;
        let work = async {
            match &self.handler {
                Handler::Product(consumer, handler) => {
                    let handle = async |event, trace, _| handler.handle(event, trace).await;
                    consumer.run(batch, deadline_ms, handle).await
                }
                Handler::Order(consumer, handler) => {
                    let handle = async |event, trace, _| handler.handle(event, trace).await;
                    consumer.run(batch, deadline_ms, handle).await
                }
                Handler::Notification(consumer, notifier) => {
                    let handle = async |event, _, message| notifier.handle(event, message).await;
                    consumer.run(batch, deadline_ms, handle).await
                }
            }
        };
        tokio::select! {
            biased;
            () = self.environment.died() => None,
            answer = tokio::time::timeout(TIMEOUT, work) => {
                let Ok(answer) = answer else {
                    self.environment.note_timeout();
                    return None;
                };
                let failures = answer.batch_item_failures;
                Some(failures.into_iter().map(|failure| failure.item_identifier).collect())
            }
        }
    }
}

/// The environments of one function.
#[derive(Default)]
struct Environments {
    idle: Vec<Consumer>,
    busy: usize,
}

/// An event source mapping: polls its queue for as long as the simulation runs.
pub(crate) async fn map(aws: SimulatedAws, config: SdkConfig, ids: Ids, queue: Queue) {
    let environments = Rc::new(RefCell::new(Environments::default()));
    loop {
        tokio::time::sleep(POLL + Duration::from_millis(aws.draw(0..200))).await;
        if environments.borrow().busy >= queue.concurrency_max() {
            continue;
        }
        let batch = aws.receive(&queue.url(), queue.batch_size());
        if batch.is_empty() {
            continue;
        }
        environments.borrow_mut().busy += 1;
        let (aws, config, ids) = (aws.clone(), config.clone(), ids.clone());
        let environments = environments.clone();
        tokio::task::spawn_local(async move {
            let idle = environments.borrow_mut().idle.pop();
            let consumer = match idle {
                Some(consumer) => consumer,
                None => {
                    Consumer::start(&aws, &config, &ids, queue).expect("settings of the simulation")
                }
            };
            let is_alive = invoke(&aws, queue, &consumer, batch).await;
            let mut environments = environments.borrow_mut();
            environments.busy -= 1;
            if is_alive {
                environments.idle.push(consumer);
            }
        });
    }
}

/// Whether the environment lives on.
async fn invoke(
    aws: &SimulatedAws,
    queue: Queue,
    consumer: &Consumer,
    batch: Vec<Received>,
) -> bool {
    let records: Vec<_> = batch.iter().map(|received| &received.record).collect();
    let event = serde_json::from_value(json!({ "Records": records })).expect("an event");
    let Some(failed) = consumer.invoke(event).await else { return false };
    for Received { record, receipt_handle } in batch {
        if failed.iter().any(|id| record["messageId"] == **id) {
            let body = record["body"].as_str().unwrap_or_default();
            consumer.environment.note_given_back(&receipt_handle, body);
        } else {
            aws.delete(&queue.url(), &receipt_handle);
        }
    }
    true
}

/// The relay, once a minute.
pub(crate) async fn schedule_relay(aws: SimulatedAws, config: SdkConfig) {
    loop {
        tokio::time::sleep(RELAY_INTERVAL).await;
        let environment = aws.environment();
        let config = environment.config(&config);
        let read = settings::read_from(variables(Queue::Order), RelayConfig::read);
        let relay = read.expect("settings of the simulation").relay(&config);
        let deadline_ms = environment.now_ms() + RELAY_TIMEOUT.as_millis() as u64;
        tokio::select! {
            biased;
            () = environment.died() => {}
            // A sweep that failed is followed by the next.
            _ = tokio::time::timeout(RELAY_TIMEOUT, relay.sweep(deadline_ms)) => {}
        }
    }
}
