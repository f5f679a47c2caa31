//! What the functions are made of: their settings, and handlers made of these, an AWS configuration and a source of ids.
//! Nothing else of the environment comes in.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use axum::Router;
use exactly_once::Ids;
use messaging::{ConsumerConfig, EventConsumer};
use settings::Environment;

use crate::{
    dynamodb::{AnalyticsConsumer, AnalyticsTable, Generation, marker_owner},
    http::routes,
};

const CONSUMER: &str = "analytics-consumer";

/// The table, and whose rows of it are meant.
#[derive(Debug)]
struct TableConfig {
    table: String,
    generation: Generation,
}

impl TableConfig {
    fn read(environment: &mut Environment) -> Option<Self> {
        let table = environment.text("ANALYTICS_TABLE");
        let generation = environment.value("ANALYTICS_GENERATION");
        Some(Self { table: table?, generation: generation? })
    }

    fn table(self, aws: &SdkConfig) -> AnalyticsTable {
        AnalyticsTable::new(Client::new(aws), self.table, self.generation)
    }
}

/// The settings of analytics-api.
#[derive(Debug)]
pub struct AnalyticsApiConfig(TableConfig);

impl AnalyticsApiConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        TableConfig::read(environment).map(Self)
    }

    /// The routes of analytics-api.
    pub fn routes(self, aws: &SdkConfig) -> Router {
        routes(self.0.table(aws))
    }
}

/// The settings of analytics-consumer.
#[derive(Debug)]
pub struct AnalyticsConsumerConfig {
    table: TableConfig,
    consumer: ConsumerConfig,
}

impl AnalyticsConsumerConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let table = TableConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        Some(Self { table: table?, consumer: consumer? })
    }

    /// The consumer of the queue `analytics`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, AnalyticsConsumer) {
        let owner = marker_owner(CONSUMER, self.table.generation);
        // For ever: a sum has no guard of its own, and an old event that is replayed would be counted again.
        let inbox = self.consumer.inbox(aws, ids, &owner).keep_for_ever();
        let handler = AnalyticsConsumer::new(self.table.table(aws), inbox);
        (self.consumer.event_consumer(aws, ids, CONSUMER), handler)
    }
}
