//! How many orders one client may place in an hour, if there is a limit.
//!
//! In: the network that a request comes from. Out: whether its order is admitted, and if not, after how long the next one is.
//! Guarantees: counted by one conditional update of one item an hour and client, so that no number of environments lets one
//! more pass; a client that cannot be counted is not served. What is stored of an address is its HMAC, and for one hour.
//!
//! An hour begins when the clock's does: within sixty minutes across its end, twice as many can pass.

use std::{num::NonZeroU32, time::Duration};

use aws_sdk_dynamodb::Client;
use exactly_once::{
    Clock, TableError,
    table::{is_applied, number, text},
};
use http_api::ClientNetwork;
use jiff::Timestamp;

use crate::order_token::OrderTokens;

const WINDOW_SECONDS: i64 = 60 * 60;
/// What is signed besides the network, so that it passes for no order's token.
const PURPOSE: &str = "orderflow client 1 ";

/// Whether an order is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is.
    Admitted,
    /// Its client has had all orders of this hour.
    Refused {
        /// Until the next hour begins.
        retry_after: Duration,
    },
}

/// Counts the orders of each client, in the table of idempotency keys.
#[derive(Debug, Clone)]
pub struct ClientLimit {
    client: Client,
    table: String,
    signer: OrderTokens,
    orders_per_hour: Option<NonZeroU32>,
    clock: Clock,
}

impl ClientLimit {
    /// Without `orders_per_hour` everything is admitted, and nothing is counted.
    #[must_use]
    pub fn new(
        client: Client,
        table: impl Into<String>,
        signer: OrderTokens,
        orders_per_hour: Option<NonZeroU32>,
    ) -> Self {
        let clock = client.config().time_source().into();
        Self { client, table: table.into(), signer, orders_per_hour, clock }
    }

    /// Counts an order of this client. A request that came without the gateway has no network and no limit.
    ///
    /// # Errors
    /// The table did not answer.
    pub async fn admit(&self, network: Option<ClientNetwork>) -> Result<Admission, TableError> {
        let (Some(max), Some(network)) = (self.orders_per_hour, network) else {
            return Ok(Admission::Admitted);
        };
        let now = self.clock.now();
        let (window, end) = window_of(now);
        let client = self.signer.sign(&format!("{PURPOSE}{network}"));
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", text(format!("order-api-client#{client}#{window}")))
            .update_expression("SET expires_at = :end ADD orders :one")
            .condition_expression("attribute_not_exists(orders) OR orders < :max")
            .expression_attribute_values(":end", number(end.as_second()))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":max", number(max.get()))
            .send()
            .await;
        Ok(match is_applied(sent, "UpdateItem client's orders")? {
            true => Admission::Admitted,
            false => Admission::Refused {
                retry_after: Duration::try_from(end.duration_since(now)).unwrap_or_default(),
            },
        })
    }
}

/// The number of the hour that a moment is in, and its end.
fn window_of(now: Timestamp) -> (i64, Timestamp) {
    let window = now.as_second().div_euclid(WINDOW_SECONDS);
    let end = Timestamp::from_second((window + 1) * WINDOW_SECONDS);
    (window, end.unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_an_hour_of_the_clock() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let (window, end) = window_of(at("2026-01-01T10:00:00Z"));
        assert_eq!(end, at("2026-01-01T11:00:00Z"));
        assert_eq!(window_of(at("2026-01-01T10:59:59.999Z")), (window, end));
        assert_eq!(window_of(end).0, window + 1);
    }
}
