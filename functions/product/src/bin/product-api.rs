//! The Lambda function behind /products.

use axum::Router;
use exactly_once::Ids;
use product::wiring::ProductApiConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let config = settings::read(ProductApiConfig::read)?;
    let (aws, ids) = (settings::aws().await, Ids::default());
    let routes = config.routes(&aws, &ids);
    http_api::serve(routes, Router::new(), aws.time_source().into(), ids).await
}
