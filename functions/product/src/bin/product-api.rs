//! The Lambda function behind /products: wiring only.

use aws_sdk_dynamodb::Client;
use delivery::Requests;
use events::Currency;
use product::{
    http::{Shop, routes},
    dynamodb::Products,
};
use settings::Environment;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let table = environment.text("PRODUCTS_TABLE");
    let currency = environment.value("CURRENCY", Currency::default());
    let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
    environment.check()?;
    let client = Client::new(&settings::aws().await);
    // For ever: stock has no guard of its own, and a late repetition would change it again.
    let requests = Requests::new(client.clone(), idempotency_table, "product-api", None);
    let shop = Shop { products: Products { client, table }, currency, requests };
    http_api::serve(routes(shop), axum::Router::new()).await
}
