//! The Lambda function behind /orders, and behind everything that has no route: wiring only.

use aws_sdk_dynamodb::Client;
use delivery::{Outbox, Requests, inbox::MARKER_TTL};
use events::Currency;
use order::{
    http::{Desk, routes, unrouted},
    dynamodb::{Offers, Orders},
};
use settings::Environment;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let table = environment.text("ORDERS_TABLE");
    let products_table = environment.text("PRODUCTS_TABLE");
    let event_log_table = environment.text("EVENT_LOG_TABLE");
    let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
    let topic_arn = environment.text("TOPIC_ARN");
    let currency = environment.value("CURRENCY", Currency::default());
    environment.check()?;
    let aws = settings::aws().await;
    let client = Client::new(&aws);
    let outbox = Outbox {
        dynamodb: client.clone(),
        sns: aws_sdk_sns::Client::new(&aws),
        table: event_log_table,
        stream_key: "order_id",
        topic_arn,
    };
    // An order has no guard of its own, but thirty days are longer than any client tries again.
    let requests = Requests::new(client.clone(), idempotency_table, "order-api", Some(MARKER_TTL));
    let desk = Desk {
        orders: Orders { client: client.clone(), table, outbox },
        offers: Offers { client, table: products_table },
        currency,
        requests,
    };
    http_api::serve(routes(desk), unrouted()).await
}
