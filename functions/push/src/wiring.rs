//! What the functions are made of: their settings, and handlers made of these, an AWS configuration and a source of ids.
//! Nothing else of the environment comes in.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use exactly_once::Ids;
use messaging::{ConsumerConfig, EventConsumer};
use order::{order_token::OrderTokens, wiring::read_order_tokens};
use settings::Environment;

use crate::{
    connections::Connections,
    consumer::PushConsumer,
    gateway::Gateway,
    websocket::{OrderStates, PushApi, SilenceChecks},
};

const CONSUMER: &str = "push-consumer";

/// The settings of push-api.
#[derive(Debug)]
pub struct PushApiConfig {
    connections_table: String,
    orders_table: String,
    connections_endpoint: String,
    push_queue_url: String,
    order_tokens: OrderTokens,
}

impl PushApiConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let connections_table = environment.text("CONNECTIONS_TABLE");
        let orders_table = environment.text("ORDERS_TABLE");
        let connections_endpoint = environment.text("CONNECTIONS_ENDPOINT");
        let push_queue_url = environment.text("PUSH_QUEUE_URL");
        let order_tokens = read_order_tokens(environment);
        Some(Self {
            connections_table: connections_table?,
            orders_table: orders_table?,
            connections_endpoint: connections_endpoint?,
            push_queue_url: push_queue_url?,
            order_tokens: order_tokens?,
        })
    }

    /// The handler of the WebSocket API.
    #[must_use]
    pub fn api(self, aws: &SdkConfig) -> PushApi {
        let client = Client::new(aws);
        PushApi {
            connections: Connections::new(client.clone(), self.connections_table),
            gateway: Gateway::new(aws, &self.connections_endpoint),
            orders: OrderStates { client, table: self.orders_table },
            order_tokens: self.order_tokens,
            checks: SilenceChecks {
                sqs: aws_sdk_sqs::Client::new(aws),
                queue_url: self.push_queue_url,
            },
            clock: aws.time_source().into(),
        }
    }
}

/// The settings of push-consumer.
#[derive(Debug)]
pub struct PushConsumerConfig {
    connections_table: String,
    connections_endpoint: String,
    consumer: ConsumerConfig,
}

impl PushConsumerConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let connections_table = environment.text("CONNECTIONS_TABLE");
        let connections_endpoint = environment.text("CONNECTIONS_ENDPOINT");
        let consumer = ConsumerConfig::read(environment);
        Some(Self {
            connections_table: connections_table?,
            connections_endpoint: connections_endpoint?,
            consumer: consumer?,
        })
    }

    /// The consumer of the queue `push`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, PushConsumer) {
        let handler = PushConsumer {
            connections: Connections::new(Client::new(aws), self.connections_table),
            gateway: Gateway::new(aws, &self.connections_endpoint),
            clock: aws.time_source().into(),
        };
        (self.consumer.event_consumer(aws, ids, CONSUMER), handler)
    }
}
