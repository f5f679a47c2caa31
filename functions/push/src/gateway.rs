//! API Gateway's end of the connections.
//!
//! In: a connection's id, and what is to be sent on it. Out: whether it is there still. Guarantees: one attempt, bounded in
//! time, so that a connection that takes nothing does not hold up the others; a connection that is gone is an outcome and no
//! error. <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html>

use std::time::Duration;

use aws_config::{SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_apigatewaymanagement::{Client, config, primitives::Blob};
use exactly_once::CallError;

/// Maximum time of one call, in which API Gateway hands on a message of some hundred bytes.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections of one stage of the WebSocket API.
#[derive(Debug, Clone)]
pub struct Gateway {
    client: Client,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// API Gateway has sent it.
    Sent,
    /// The connection is closed (410).
    Gone,
}

impl Gateway {
    /// By the address of the stage, such as `https://abc123.execute-api.eu-west-1.amazonaws.com/v1`.
    #[must_use]
    pub fn new(aws: &SdkConfig, endpoint: &str) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).build();
        let config = config::Builder::from(aws)
            .endpoint_url(endpoint)
            // Another attempt is the message's next delivery, or the client's next connection.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self { client: Client::from_conf(config) }
    }

    /// Sends a text on a connection.
    ///
    /// # Errors
    /// It may or may not have been sent.
    pub async fn post(&self, connection_id: &str, text: &str) -> Result<Delivery, CallError> {
        let call = self.client.post_to_connection().connection_id(connection_id);
        match call.data(Blob::new(text.as_bytes())).send().await {
            Ok(_) => Ok(Delivery::Sent),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_gone_exception()) => {
                Ok(Delivery::Gone)
            }
            Err(error) => Err(CallError::of("PostToConnection")(error)),
        }
    }

    /// Closes a connection, unless it is closed.
    ///
    /// # Errors
    /// It may be open still.
    pub async fn close(&self, connection_id: &str) -> Result<(), CallError> {
        match self.client.delete_connection().connection_id(connection_id).send().await {
            Err(error) if !error.as_service_error().is_some_and(|e| e.is_gone_exception()) => {
                Err(CallError::of("DeleteConnection")(error))
            }
            _ => Ok(()),
        }
    }
}
