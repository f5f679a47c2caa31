//! What the functions are made of: their settings, and handlers made of these, an AWS configuration and a source of ids.
//! Nothing else of the environment comes in.

use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use axum::Router;
use exactly_once::{CausedEvents, Ids, Inbox};
use messaging::{ConsumerConfig, EventConsumer, EventFactory, OutboxConfig, breaker::Breaker};
use order::{order_token::OrderTokens, wiring::read_order_tokens};
use settings::Environment;

use crate::{
    consumer::{PaymentConsumer, StripeAccount},
    http::{PaymentApi, routes},
    payments::PaymentsTable,
    secrets::StripeSecrets,
};

const CONSUMER: &str = "payment-consumer";
/// By whose markers each event of Stripe's has its effect once.
const WEBHOOKS: &str = "payment-api";

/// Where Stripe is, and the secret that is shared with it.
#[derive(Debug)]
struct StripeConfig {
    secret_arn: String,
    endpoint: String,
}

impl StripeConfig {
    fn read(environment: &mut Environment) -> Option<Self> {
        let secret_arn = environment.text("STRIPE_SECRET_ARN");
        let endpoint = environment.text("STRIPE_ENDPOINT");
        Some(Self { secret_arn: secret_arn?, endpoint: endpoint? })
    }

    fn account(self, aws: &SdkConfig) -> StripeAccount {
        StripeAccount {
            secrets: StripeSecrets::new(aws, self.secret_arn),
            aws: aws.clone(),
            endpoint: self.endpoint,
            breaker: Mutex::new(Breaker::default()),
        }
    }
}

/// The settings of payment-consumer.
#[derive(Debug)]
pub struct PaymentConsumerConfig {
    payments_table: String,
    outbox: OutboxConfig,
    consumer: ConsumerConfig,
    stripe: StripeConfig,
}

impl PaymentConsumerConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let payments_table = environment.text("PAYMENTS_TABLE");
        let outbox = OutboxConfig::read(environment);
        let consumer = ConsumerConfig::read(environment);
        let stripe = StripeConfig::read(environment);
        Some(Self {
            payments_table: payments_table?,
            outbox: outbox?,
            consumer: consumer?,
            stripe: stripe?,
        })
    }

    /// The consumer of the queue `payment`, and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, PaymentConsumer) {
        let outbox = self.outbox.outbox(aws);
        let inbox = self.consumer.inbox(aws, ids, CONSUMER);
        let handler = PaymentConsumer {
            payments: PaymentsTable::new(Client::new(aws), self.payments_table),
            caused: CausedEvents::new(inbox, outbox.clone()),
            outbox,
            event_factory: EventFactory::new(aws, ids.clone()),
            account: self.stripe.account(aws),
            clock: aws.time_source().into(),
            ids: ids.clone(),
        };
        (self.consumer.event_consumer(aws, ids, CONSUMER), handler)
    }
}

/// The settings of payment-api.
#[derive(Debug)]
pub struct PaymentApiConfig {
    payments_table: String,
    idempotency_table: String,
    outbox: OutboxConfig,
    stripe: StripeConfig,
    order_tokens: OrderTokens,
}

impl PaymentApiConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let payments_table = environment.text("PAYMENTS_TABLE");
        let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
        let outbox = OutboxConfig::read(environment);
        let stripe = StripeConfig::read(environment);
        let order_tokens = read_order_tokens(environment);
        Some(Self {
            payments_table: payments_table?,
            idempotency_table: idempotency_table?,
            outbox: outbox?,
            stripe: stripe?,
            order_tokens: order_tokens?,
        })
    }

    /// The routes of payment-api.
    pub fn routes(self, aws: &SdkConfig, ids: &Ids) -> Router {
        let client = Client::new(aws);
        routes(Arc::new(PaymentApi {
            payments: PaymentsTable::new(client.clone(), self.payments_table),
            inbox: Inbox::new(client, self.idempotency_table, WEBHOOKS).ids(ids.clone()),
            outbox: self.outbox.outbox(aws),
            event_factory: EventFactory::new(aws, ids.clone()),
            account: self.stripe.account(aws),
            order_tokens: self.order_tokens,
            clock: aws.time_source().into(),
        }))
    }
}
