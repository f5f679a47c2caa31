//! What the functions are made of: their settings, and handlers made of these, an AWS configuration and a source of ids.
//! Nothing else of the environment comes in.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use axum::Router;
use events::Currency;
use exactly_once::{IdempotencyKeys, Ids};
use messaging::{ConsumerConfig, EventConsumer, EventFactory, OutboxConfig};
use settings::Environment;

use crate::{
    dynamodb::{ProductConsumer, Products, StockChanges},
    http::{ProductApi, routes},
};

const CONSUMER: &str = "product-consumer";

/// The settings of product-api.
#[derive(Debug)]
pub struct ProductApiConfig {
    products_table: String,
    idempotency_table: String,
    stock_changes_table: String,
    currency: Currency,
}

impl ProductApiConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let products_table = environment.text("PRODUCTS_TABLE");
        let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
        let stock_changes_table = environment.text("STOCK_CHANGES_TABLE");
        let currency = environment.value("CURRENCY");
        Some(Self {
            products_table: products_table?,
            idempotency_table: idempotency_table?,
            stock_changes_table: stock_changes_table?,
            currency: currency?,
        })
    }

    /// The routes of product-api.
    pub fn routes(self, aws: &SdkConfig, ids: &Ids) -> Router {
        let client = Client::new(aws);
        let clock = aws.time_source().into();
        routes(ProductApi {
            products: Products::new(client.clone(), self.products_table),
            stock_changes: StockChanges::new(self.stock_changes_table, clock, ids.clone()),
            currency: self.currency,
            ids: ids.clone(),
            // For ever: stock has no guard of its own, and a late repetition would change it again.
            idempotency_keys: IdempotencyKeys::new(client, self.idempotency_table, "product-api")
                .keep_for_ever(),
        })
    }
}

/// The settings of product-consumer.
#[derive(Debug)]
pub struct ProductConsumerConfig {
    products_table: String,
    reservations_table: String,
    outbox: OutboxConfig,
    consumer: ConsumerConfig,
}

impl ProductConsumerConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let products_table = environment.text("PRODUCTS_TABLE");
        let reservations_table = environment.text("RESERVATIONS_TABLE");
        let outbox = OutboxConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        Some(Self {
            products_table: products_table?,
            reservations_table: reservations_table?,
            outbox: outbox?,
            consumer: consumer?,
        })
    }

    /// The consumer of the queue `product`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, ProductConsumer) {
        let handler = ProductConsumer::new(
            Products::new(Client::new(aws), self.products_table),
            self.reservations_table,
            self.consumer.inbox(aws, ids, CONSUMER),
            self.outbox.outbox(aws),
            EventFactory::new(aws, ids.clone()),
        );
        (self.consumer.event_consumer(aws, ids, CONSUMER), handler)
    }
}
