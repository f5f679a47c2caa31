//! The Lambda function behind /products: wiring only.

use aws_sdk_dynamodb::Client;
use events::Currency;
use exactly_once::{IdempotencyKeys, Ids};
use product::{
    dynamodb::{Products, StockChanges},
    http::{ProductApi, routes},
};
use settings::Environment;

struct Config {
    products_table: String,
    idempotency_table: String,
    stock_changes_table: String,
    currency: Currency,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
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
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let config = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let (client, ids) = (Client::new(&aws), Ids::default());
    let api = ProductApi {
        products: Products::new(client.clone(), config.products_table),
        stock_changes: StockChanges::new(
            config.stock_changes_table,
            aws.time_source().into(),
            ids.clone(),
        ),
        currency: config.currency,
        ids: ids.clone(),
        // For ever: stock has no guard of its own, and a late repetition would change it again.
        idempotency_keys: IdempotencyKeys::new(client, config.idempotency_table, "product-api")
            .keep_for_ever(),
    };
    http_api::serve(routes(api), axum::Router::new(), aws.time_source().into(), ids).await
}
