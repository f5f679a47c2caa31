//! The live updates as a client has them: a WebSocket, and what comes on it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::Stack;

/// One connection of a client.
#[derive(Debug)]
pub struct Live {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The version of the newest message that [`Live::statuses_until`] has taken.
    newest: u64,
}

/// What came on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    Message(Value),
    Closed,
}

impl Live {
    /// Opens one, which has said nothing yet.
    ///
    /// # Errors
    /// It is refused.
    pub async fn open(stack: &Stack) -> Result<Self> {
        let (socket, _) = connect_async(stack.setting("LIVE_UPDATES_URL")).await?;
        Ok(Self { socket, newest: 0 })
    }

    /// Opens one that watches an order which was placed here.
    ///
    /// # Errors
    /// It is refused.
    pub async fn watching(stack: &Stack, order: &str) -> Result<Self> {
        let mut live = Self::open(stack).await?;
        live.watch(order, &stack.api.order_token(order).context("the order's token")?).await?;
        Ok(live)
    }

    /// Asks to watch an order.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn watch(&mut self, order: &str, token: &str) -> Result<()> {
        let watch = json!({ "action": "watch", "order_id": order, "order_token": token });
        self.say(&watch.to_string()).await
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn say(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Message::text(text)).await?)
    }

    /// What comes next.
    ///
    /// # Errors
    /// Nothing does within `limit`.
    pub async fn next(&mut self, subject: &str, limit: Duration) -> Result<Arrival> {
        loop {
            let next = timeout(limit, self.socket.next()).await;
            let next = next.with_context(|| format!("waited {limit:?} in vain for {subject}"))?;
            match next {
                Some(Ok(Message::Text(text))) => {
                    return Ok(Arrival::Message(serde_json::from_str(&text)?));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(Arrival::Closed),
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// None comes within `limit`.
    pub async fn message(&mut self, subject: &str, limit: Duration) -> Result<Value> {
        match self.next(subject, limit).await? {
            Arrival::Message(message) => Ok(message),
            Arrival::Closed => bail!("the connection was closed, where there should be {subject}"),
        }
    }

    /// All statuses until one, each with its version, and none that is not newer than those before: what a client makes of messages that come at least once and in any
    /// order.
    ///
    /// # Errors
    /// It does not come within `limit`.
    pub async fn statuses_until(
        &mut self,
        last: &str,
        limit: Duration,
    ) -> Result<Vec<(u64, String)>> {
        let mut known: Vec<(u64, String)> = Vec::new();
        loop {
            let message = self.message(&format!("{last} after {known:?}"), limit).await?;
            let version = message["version"].as_u64().context("a version")?;
            let status = message["status"].as_str().context("a status")?.to_owned();
            if version <= self.newest {
                continue;
            }
            self.newest = version;
            known.push((version, status.clone()));
            if status == last {
                return Ok(known);
            }
        }
    }

    /// Goes without a word: the TCP connection alone ends.
    pub fn vanish(self) {
        drop(self);
    }
}
