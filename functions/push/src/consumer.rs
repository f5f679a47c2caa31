//! push-consumer: tells whoever watches an order that its status has changed.
//!
//! In: the events of orders that change their status; and, of each new connection, a message ten seconds later. Out: a message
//! on each connection that watches the order; a silent connection is closed. Guarantees: each change is sent to each
//! connection at least once, or the connection is gone; one that fails holds up none of the others.
//!
//! There is no marker: the effect is a message with a version, which a client that has it drops. A lease could only lose
//! one, and a redelivery costs as many calls as it would.

use events::Event;
use exactly_once::{Clock, Failure, Handled};
use futures::future::join_all;
use messaging::Received;

use crate::{
    connections::{ConnectionState, Connections},
    gateway::{Delivery, Gateway},
    protocol::{Kind, SilenceCheck, Update},
};

/// Handles the messages of the queue `push`.
#[derive(Debug)]
pub struct PushConsumer {
    pub(crate) connections: Connections,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Clock,
}

impl PushConsumer {
    /// Handles one message.
    ///
    /// # Errors
    /// A connection was not reached, and is tried again with the message.
    pub async fn handle(&self, received: Received<SilenceCheck>) -> Result<Handled, Failure> {
        match received {
            Received::Event(event) => self.push(&event).await,
            Received::Other(SilenceCheck { close_if_silent }) => {
                self.close_if_silent(&close_if_silent).await
            }
        }
    }

    async fn push(&self, event: &Event) -> Result<Handled, Failure> {
        let Some(update) = Update::of(event) else { return Ok(Handled::Ignored) };
        let watchers = self.connections.watchers(&update.order_id, self.clock.now()).await?;
        if watchers.is_empty() {
            return Ok(Handled::Ignored);
        }
        let text = update.to_json(Kind::Change);
        let posts = watchers.iter().map(|id| async { self.gateway.post(id, &text).await });
        let results = join_all(posts).await;
        let sent = results.iter().filter(|result| matches!(result, Ok(Delivery::Sent))).count();
        let gone: Vec<_> = watchers
            .iter()
            .zip(&results)
            .filter(|(_, result)| matches!(result, Ok(Delivery::Gone)))
            .map(|(id, _)| id)
            .collect();
        for id in &gone {
            self.connections.remove(id).await?;
            // Also if its own item has gone already.
            self.connections.remove_watcher(update.order_id.as_str(), id).await?;
        }
        let now = self.clock.now();
        telemetry::count(
            &[("updates_sent", sent as u64), ("connections_gone", gone.len() as u64)],
            now,
        );
        // All were tried: those that have it drop it when it comes again.
        match results.into_iter().find_map(Result::err) {
            Some(error) => Err(Failure::transient(error)),
            None => Ok(Handled::Done),
        }
    }

    async fn close_if_silent(&self, connection_id: &str) -> Result<Handled, Failure> {
        match self.connections.state(connection_id).await? {
            ConnectionState::Unknown | ConnectionState::Watches(_) => Ok(Handled::Ignored),
            ConnectionState::Silent => {
                self.gateway.close(connection_id).await.map_err(Failure::transient)?;
                self.connections.remove(connection_id).await?;
                telemetry::count(&[("connections_silent", 1)], self.clock.now());
                Ok(Handled::Done)
            }
        }
    }
}
