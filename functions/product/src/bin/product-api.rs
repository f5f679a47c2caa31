//! The Lambda function behind /products: wiring only.

use aws_sdk_dynamodb::Client;
use delivery::IdempotencyKeys;
use events::Currency;
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
    let client = Client::new(&settings::aws().await);
    let api = ProductApi {
        products: Products::new(client.clone(), config.products_table),
        stock_changes: StockChanges::new(config.stock_changes_table),
        currency: config.currency,
        // For ever: stock has no guard of its own, and a late repetition would change it again.
        idempotency_keys: IdempotencyKeys::new(
            client,
            config.idempotency_table,
            "product-api",
            None,
        ),
    };
    http_api::serve(routes(api), axum::Router::new()).await
}
