//! The Lambda function behind /products: wiring only.

use aws_sdk_dynamodb::Client;
use events::Currency;
use product::{
    http::{Shop, routes},
    store::Products,
};
use settings::Environment;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let mut environment = Environment::default();
    let table = environment.text("PRODUCTS_TABLE");
    let currency = environment.value("CURRENCY", Currency::default());
    environment.check()?;
    let client = Client::new(&settings::aws().await);
    let shop = Shop { products: Products { client, table }, currency };
    http_api::serve(routes(shop), axum::Router::new()).await
}
