//! The table of connections: which there are, and who watches what.
//!
//! In: connections that come, watch and go. Out: those that watch an order. Guarantees: what a connection watches can be
//! found by the connection's id as consistently as by the order's, for which it has an item of its own beside those of orders;
//! all items have gone two hours after the connection can have been open, whatever was missed.

use std::time::Duration;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use events::OrderId;
use exactly_once::{
    CallError, TableError,
    table::{Item, is_applied, number, text},
};
use jiff::Timestamp;

/// How long a connection lives at most.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html>
const CONNECTION_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long after that its items are kept: clocks differ, and API Gateway may close it late.
const EXPIRY_MARGIN: Duration = Duration::from_secs(5 * 60);

/// The table.
#[derive(Debug, Clone)]
pub struct Connections {
    client: Client,
    table: String,
}

/// What a connection has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is gone.
    Unknown,
    /// It watches nothing yet.
    Silent,
    /// It watches this order.
    Watches(String),
}

impl Connections {
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Notes a new connection, which watches nothing.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn open(&self, connection_id: &str, now: Timestamp) -> Result<(), TableError> {
        let put = self.client.put_item().table_name(&self.table);
        put.set_item(Some(connection_key(connection_id)))
            .item("expires_at", expiry(now))
            .send()
            .await
            .map_err(CallError::of("PutItem connection"))?;
        Ok(())
    }

    /// Has a connection watch an order, from when this is answered on. `false` if it watches another one.
    ///
    /// # Errors
    /// The table did not answer: whether it watches is unknown, and asking again is harmless.
    pub async fn watch(
        &self,
        connection_id: &str,
        order_id: &OrderId,
        now: Timestamp,
    ) -> Result<bool, TableError> {
        // First what it is held to: it would be closed for being silent, and might watch two orders.
        let claimed = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(connection_key(connection_id)))
            .update_expression("SET watches = :order, expires_at = :expiry")
            .condition_expression("attribute_not_exists(watches) OR watches = :order")
            .expression_attribute_values(":order", text(order_id.as_str()))
            .expression_attribute_values(":expiry", expiry(now))
            .send()
            .await;
        if !is_applied(claimed, "UpdateItem connection")? {
            return Ok(false);
        }
        let put = self.client.put_item().table_name(&self.table);
        put.set_item(Some(watcher_key(order_id.as_str(), connection_id)))
            .item("expires_at", expiry(now))
            .send()
            .await
            .map_err(CallError::of("PutItem watcher"))?;
        Ok(true)
    }

    /// The connections that watch an order; of a list that is too long, its beginning. What has expired may be in the table
    /// for two days more, and is left out.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn watchers(
        &self,
        order_id: &OrderId,
        now: Timestamp,
    ) -> Result<Vec<String>, TableError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("order_id = :order")
            .expression_attribute_values(":order", text(order_id.as_str()))
            // One that has begun to watch before the event is among them for certain.
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("Query watchers"))?;
        let items = answer.items.unwrap_or_default().into_iter();
        Ok(items
            .filter(|item| !has_expired(item, now))
            .filter_map(|mut item| match item.remove("connection_id") {
                Some(AttributeValue::S(id)) => Some(id),
                _ => None,
            })
            .collect())
    }

    /// What a connection has done so far, as the last write left it.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn state(&self, connection_id: &str) -> Result<ConnectionState, TableError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(connection_key(connection_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(CallError::of("GetItem connection"))?;
        Ok(match answer.item {
            None => ConnectionState::Unknown,
            Some(item) => watched(&item)
                .map_or(ConnectionState::Silent, |order| ConnectionState::Watches(order.into())),
        })
    }

    /// Forgets a connection, and that it watches an order.
    ///
    /// # Errors
    /// The table did not answer: asking again is harmless.
    pub async fn remove(&self, connection_id: &str) -> Result<(), TableError> {
        // What it watches first: by the connection's own item that is found again if this ends half way.
        if let ConnectionState::Watches(order) = self.state(connection_id).await? {
            self.remove_watcher(&order, connection_id).await?;
        }
        let delete = self.client.delete_item().table_name(&self.table);
        delete
            .set_key(Some(connection_key(connection_id)))
            .send()
            .await
            .map_err(CallError::of("DeleteItem connection"))?;
        Ok(())
    }

    /// Forgets that a connection watches an order.
    ///
    /// # Errors
    /// The table did not answer: asking again is harmless.
    pub async fn remove_watcher(
        &self,
        order_id: &str,
        connection_id: &str,
    ) -> Result<(), TableError> {
        let delete = self.client.delete_item().table_name(&self.table);
        delete
            .set_key(Some(watcher_key(order_id, connection_id)))
            .send()
            .await
            .map_err(CallError::of("DeleteItem watcher"))?;
        Ok(())
    }
}

fn watched(item: &Item) -> Option<&str> {
    item.get("watches").and_then(|order| order.as_s().ok()).map(String::as_str)
}

fn has_expired(item: &Item, now: Timestamp) -> bool {
    let expires_at = item.get("expires_at").and_then(|at| at.as_n().ok()?.parse::<i64>().ok());
    expires_at.is_some_and(|at| at <= now.as_second())
}

fn watcher_key(order_id: &str, connection_id: &str) -> Item {
    Item::from([
        ("order_id".to_owned(), text(order_id)),
        ("connection_id".to_owned(), text(connection_id)),
    ])
}

/// Where a connection stands by itself. The `#` is in no order's id.
fn connection_key(connection_id: &str) -> Item {
    watcher_key(&format!("connection#{connection_id}"), connection_id)
}

fn expiry(now: Timestamp) -> AttributeValue {
    let life = CONNECTION_LIFE + EXPIRY_MARGIN;
    number(now.as_second().saturating_add(life.as_secs().cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_s_own_item_is_no_order_s() {
        let key = connection_key("L0SM9cOFvHcCIhw=");
        let place = key["order_id"].as_s().expect("a text");
        assert!(place.parse::<OrderId>().is_err(), "{place}");
    }

    #[test]
    fn items_outlive_the_longest_connection_and_no_more_than_that() {
        let opened = Timestamp::from_second(1_000_000).expect("a moment");
        assert_eq!(expiry(opened), number(1_000_000 + 2 * 3600 + 300));
    }
}
