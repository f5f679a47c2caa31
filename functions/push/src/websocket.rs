//! push-api: what a client says on its connection, and that the connection comes and goes.
//!
//! In: API Gateway's events: a connection comes, goes, or brings a message. Out: items of the table of
//! connections, and answers on the connection. Guarantees: a connection watches from before the state is read with which it is
//! answered, so that no change falls between the two; what is refused is answered with why, and closed; what fails is closed,
//! for the client to come again.
//!
//! Answers are posted, and not returned: a returned one needs a route response on AWS, which MiniStack's CloudFormation does not
//! know. <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-route-response.html>

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use events::OrderId;
use exactly_once::{CallError, Clock, ErrorChain, TableError, table::text};
use order::{order_token::OrderTokens, rules::Status};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    connections::Connections,
    gateway::{Delivery, Gateway},
    protocol::{Kind, Refusal, Request, SilenceCheck, Update, WATCHERS_MAX, parse_request},
};

/// How long a connection may be open without having sent a `watch`. SQS holds the message back that ends it.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What API Gateway says, as far as it matters.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html>
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketEvent {
    request_context: RequestContext,
    body: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    event_type: EventType,
    connection_id: String,
}

/// What has happened on a connection. Not by the route: MiniStack takes a client's `{"action": "$disconnect"}` for that route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventType {
    Connect,
    Disconnect,
    Message,
}

impl EventType {
    /// As it stands in the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "$connect",
            Self::Disconnect => "$disconnect",
            Self::Message => "message",
        }
    }
}

/// The answer to API Gateway. Of `$connect` it decides whether there is a connection; of the others it says nothing to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketAnswer {
    status_code: u16,
}

/// The handler of the WebSocket API.
#[derive(Debug)]
pub struct PushApi {
    pub(crate) connections: Connections,
    pub(crate) gateway: Gateway,
    pub(crate) orders: OrderStates,
    pub(crate) order_tokens: OrderTokens,
    pub(crate) checks: SilenceChecks,
    pub(crate) clock: Clock,
}

/// What a message came to.
enum Answer {
    Watching(Update),
    Refused(Refusal),
}

/// Why a message was not answered.
#[derive(Debug, thiserror::Error)]
enum WebSocketError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl PushApi {
    /// Handles one event.
    pub async fn handle(&self, event: WebSocketEvent) -> WebSocketAnswer {
        let begun = Instant::now();
        let WebSocketEvent { request_context: RequestContext { event_type, connection_id }, body } =
            event;
        let route = event_type.as_str();
        let span = tracing::info_span!("connection", route, order_id = Empty, status = Empty);
        let handled = async {
            match event_type {
                EventType::Connect => self.connect(&connection_id).await,
                EventType::Disconnect => Ok(self.connections.remove(&connection_id).await?),
                EventType::Message => self.message(&connection_id, &body.unwrap_or_default()).await,
            }
        };
        let result = handled.instrument(span.clone()).await;
        let status_code = match &result {
            Ok(()) => 200,
            Err(_) => 500,
        };
        span.in_scope(|| {
            span.record("status", status_code);
            if let Err(error) = &result {
                tracing::error!(error = %ErrorChain(error), "the connection was not served");
            }
            let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(duration_ms, "connection served");
        });
        if result.is_err() && event_type == EventType::Message {
            // Open, it would wait for an answer that does not come.
            let _ = self.gateway.close(&connection_id).await;
        }
        WebSocketAnswer { status_code }
    }

    /// Nothing can be posted yet: the connection is there only when this is answered.
    async fn connect(&self, connection_id: &str) -> Result<(), WebSocketError> {
        let now = self.clock.now();
        self.connections.open(connection_id, now).await?;
        // Without it nobody would close the connection for two hours: then it is not opened.
        self.checks.schedule(connection_id).await?;
        telemetry::count(&[("connections_opened", 1)], now);
        Ok(())
    }

    async fn message(&self, connection_id: &str, body: &str) -> Result<(), WebSocketError> {
        let answer = match parse_request(body) {
            Ok(Request::Watch { order_id, order_token }) => {
                self.watch(connection_id, order_id, &order_token).await?
            }
            Err(refusal) => Answer::Refused(refusal),
        };
        match answer {
            Answer::Watching(update) => {
                if self.gateway.post(connection_id, &update.to_json(Kind::State)).await?
                    == Delivery::Gone
                {
                    self.connections.remove(connection_id).await?;
                }
            }
            Answer::Refused(refusal) => {
                telemetry::count(&[("watches_refused", 1)], self.clock.now());
                tracing::info!(reason = refusal.code(), "refused");
                // It says why; whether that arrives or not, the connection is closed.
                let _ = self.gateway.post(connection_id, &refusal.to_json()).await;
                self.gateway.close(connection_id).await?;
                self.connections.remove(connection_id).await?;
            }
        }
        Ok(())
    }

    async fn watch(
        &self,
        connection_id: &str,
        order_id: OrderId,
        order_token: &str,
    ) -> Result<Answer, WebSocketError> {
        if !self.order_tokens.is_token(&order_id, order_token) {
            return Ok(Answer::Refused(Refusal::WrongToken));
        }
        Span::current().record("order_id", order_id.as_str());
        let now = self.clock.now();
        let watchers = self.connections.watchers(&order_id, now).await?;
        let is_new = !watchers.iter().any(|watcher| watcher == connection_id);
        // Those that come at the same time may be one or two more: it is a bound of costs.
        if is_new && watchers.len() >= WATCHERS_MAX {
            return Ok(Answer::Refused(Refusal::TooManyWatchers));
        }
        if !self.connections.watch(connection_id, &order_id, now).await? {
            return Ok(Answer::Refused(Refusal::WatchesAnotherOrder));
        }
        // Only now: a change before this is read, a change after it is pushed.
        let update = self.orders.read(order_id).await?;
        Ok(update.map_or(Answer::Refused(Refusal::UnknownOrder), Answer::Watching))
    }
}

/// How far orders have come: of their items only that is read.
#[derive(Debug, Clone)]
pub(crate) struct OrderStates {
    pub(crate) client: Client,
    pub(crate) table: String,
}

impl OrderStates {
    /// The state of an order as the last write left it, or `None` if there is no such order.
    async fn read(&self, order_id: OrderId) -> Result<Option<Update>, TableError> {
        #[derive(Deserialize)]
        struct State {
            status: Status,
            reason: Option<String>,
        }
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("order_id", text(order_id.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem order"))?;
        let Some(item) = answer.item else { return Ok(None) };
        let State { status, reason } =
            serde_dynamo::from_item(item).map_err(TableError::corrupt(&self.table))?;
        Ok(Some(Update::new(order_id, status, reason)))
    }
}

/// Has new connections looked at when they should have sent a message.
#[derive(Debug, Clone)]
pub(crate) struct SilenceChecks {
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) queue_url: String,
}

impl SilenceChecks {
    async fn schedule(&self, connection_id: &str) -> Result<(), CallError> {
        let check = SilenceCheck { close_if_silent: connection_id.to_owned() };
        let delay = i32::try_from(SILENCE_MAX.as_secs()).expect("SQS holds back for 900 s at most");
        let send = self.sqs.send_message().queue_url(&self.queue_url).delay_seconds(delay);
        send.message_body(check.to_json())
            .send()
            .await
            .map_err(CallError::of("SendMessage silence check"))?;
        Ok(())
    }
}
