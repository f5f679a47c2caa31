//! What the functions are made of: their settings, and handlers made of these, an AWS configuration and a source of ids.
//! Nothing else of the environment comes in.

use std::num::NonZeroU32;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use axum::Router;
use events::{Currency, Money};
use exactly_once::{IdempotencyKeys, Ids, Shards};
use jiff::SignedDuration;
use messaging::{ConsumerConfig, EventConsumer, EventFactory, OutboxConfig};
use settings::Environment;

use crate::{
    client_limit::ClientLimit,
    dynamodb::{Catalog, OrderConsumer, Orders},
    http::{OrderApi, routes},
    order_token::OrderTokens,
    rules::Payments,
};

const CONSUMER: &str = "order-consumer";

/// The settings of order-api.
#[derive(Debug)]
pub struct OrderApiConfig {
    orders_table: String,
    products_table: String,
    idempotency_table: String,
    outbox: OutboxConfig,
    currency: Currency,
    priority_total: Money,
    pending_shards: Shards,
    order_tokens: OrderTokens,
    orders_per_client_hour: Option<NonZeroU32>,
    payments: Payments,
}

impl OrderApiConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let orders_table = environment.text("ORDERS_TABLE");
        let products_table = environment.text("PRODUCTS_TABLE");
        let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
        let outbox = OutboxConfig::read(environment);
        let currency = environment.value("CURRENCY");
        let priority_total = environment.value("PRIORITY_TOTAL");
        let pending_shards = environment.value("PENDING_SHARDS");
        let order_tokens = read_order_tokens(environment);
        let orders_per_client_hour = environment.value("ORDERS_PER_CLIENT_HOUR");
        let payments = environment.value("PAYMENTS");
        Some(Self {
            orders_table: orders_table?,
            products_table: products_table?,
            idempotency_table: idempotency_table?,
            outbox: outbox?,
            currency: currency?,
            priority_total: priority_total?,
            pending_shards: pending_shards?,
            order_tokens: order_tokens?,
            orders_per_client_hour: NonZeroU32::new(orders_per_client_hour?),
            payments: payments?,
        })
    }

    /// The paths of the API that the stack does not have.
    #[must_use]
    pub fn absent_paths(&self) -> &'static [&'static str] {
        match self.payments {
            Payments::None => &["/orders/{id}/payment", "/payments/webhook"],
            Payments::Stripe => &[],
        }
    }

    /// The routes of order-api.
    pub fn routes(self, aws: &SdkConfig, ids: &Ids) -> Router {
        let client = Client::new(aws);
        let event_factory =
            EventFactory::new(aws, ids.clone()).priority_threshold(self.priority_total);
        let outbox = self.outbox.outbox(aws);
        routes(OrderApi {
            orders: Orders::new(client.clone(), self.orders_table, outbox, event_factory)
                .pending_shards(self.pending_shards),
            catalog: Catalog::new(client.clone(), self.products_table),
            currency: self.currency,
            payments: self.payments,
            client_limit: ClientLimit::new(
                client.clone(),
                self.idempotency_table.clone(),
                self.order_tokens.clone(),
                self.orders_per_client_hour,
            ),
            order_tokens: self.order_tokens,
            // An order has no guard of its own, but thirty days are longer than any client tries again.
            idempotency_keys: IdempotencyKeys::new(client, self.idempotency_table, "order-api"),
        })
    }
}

/// Reads the secrets of order tokens; not by [`Environment::value`], whose complaint shows the value.
pub fn read_order_tokens(environment: &mut Environment) -> Option<OrderTokens> {
    let current = environment.text("ORDER_TOKEN_SECRET");
    let previous = environment.text("ORDER_TOKEN_SECRET_PREVIOUS");
    match OrderTokens::new(&current?, &previous?) {
        Ok(tokens) => Some(tokens),
        Err(error) => environment
            .complain(format!("ORDER_TOKEN_SECRET or ORDER_TOKEN_SECRET_PREVIOUS: {error}")),
    }
}

/// The settings of order-consumer.
#[derive(Debug)]
pub struct OrderConsumerConfig {
    orders_table: String,
    outbox: OutboxConfig,
    consumer: ConsumerConfig,
    payments: Payments,
    priority_total: Money,
    pending_shards: Shards,
    reservation_minutes: u16,
}

impl OrderConsumerConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let orders_table = environment.text("ORDERS_TABLE");
        let outbox = OutboxConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        let payments = environment.value("PAYMENTS");
        let priority_total = environment.value("PRIORITY_TOTAL");
        let pending_shards = environment.value("PENDING_SHARDS");
        let reservation_minutes = environment.value("RESERVATION_MINUTES");
        Some(Self {
            orders_table: orders_table?,
            outbox: outbox?,
            consumer: consumer?,
            payments: payments?,
            priority_total: priority_total?,
            pending_shards: pending_shards?,
            reservation_minutes: reservation_minutes?,
        })
    }

    /// The consumer of the queue `order`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, OrderConsumer) {
        let event_factory =
            EventFactory::new(aws, ids.clone()).priority_threshold(self.priority_total);
        let outbox = self.outbox.outbox(aws);
        let orders = Orders::new(Client::new(aws), self.orders_table, outbox, event_factory)
            .pending_shards(self.pending_shards)
            .reservation_time(SignedDuration::from_mins(self.reservation_minutes.into()));
        let inbox = self.consumer.inbox(aws, ids, CONSUMER);
        let handler = OrderConsumer::new(orders, inbox, self.payments);
        (self.consumer.event_consumer(aws, ids, CONSUMER), handler)
    }
}
