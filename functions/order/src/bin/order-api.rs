//! The Lambda function behind /orders, and behind everything that has no route.

use exactly_once::Ids;
use http_api::{CorsOrigin, unrouted};
use order::wiring::OrderApiConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let (config, cors) = settings::read(|environment| {
        let cors = environment.value::<CorsOrigin>("CORS_ORIGIN");
        Some((OrderApiConfig::read(environment)?, cors?))
    })?;
    let (aws, ids) = (settings::aws().await, Ids::default());
    let unrouted = unrouted(config.absent_paths());
    let routes = config.routes(&aws, &ids);
    http_api::serve_and_finish(routes, unrouted, cors, aws.time_source().into(), ids).await
}
