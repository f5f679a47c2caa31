//! The Lambda function behind /orders, and behind everything that has no route.

use exactly_once::Ids;
use http_api::unrouted;
use order::wiring::OrderApiConfig;

// An environment handles one invocation at a time: more threads would only hand its work around.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    telemetry::init();
    let config = settings::read(OrderApiConfig::read)?;
    let (aws, ids) = (settings::aws().await, Ids::default());
    let routes = config.routes(&aws, &ids);
    http_api::serve_and_finish(routes, unrouted(), aws.time_source().into(), ids).await
}
