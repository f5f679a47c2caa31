//! The Lambda function behind /analytics.

use analytics::wiring::AnalyticsApiConfig;
use axum::Router;
use exactly_once::Ids;
use http_api::CorsOrigin;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init(env!("CARGO_BIN_NAME"));
    let (config, cors) = settings::read(|environment| {
        let cors = environment.value::<CorsOrigin>("CORS_ORIGIN");
        Some((AnalyticsApiConfig::read(environment)?, cors?))
    })?;
    let (aws, ids) = (settings::aws().await, Ids::default());
    let routes = config.routes(&aws);
    http_api::serve(routes, Router::new(), cors, aws.time_source().into(), ids).await
}
