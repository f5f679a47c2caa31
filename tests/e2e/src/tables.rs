//! The stack's tables, from outside.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use exactly_once::Outbox;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;

use crate::Stack;

pub type Item = HashMap<String, AttributeValue>;
/// Units and revenue in minor units, by status.
pub type Amounts = BTreeMap<String, (u64, u64)>;

impl Stack {
    /// The event log as the functions have it, in the tests' own name.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        let (dynamodb, sns) = (self.dynamodb.clone(), self.sns.clone());
        let (table, topic_arn) = (self.setting("EVENT_LOG_TABLE"), self.setting("TOPIC_ARN"));
        Outbox::new(dynamodb, sns, table, topic_arn).partition_key("order_id")
    }

    /// An item by its one key.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn item(&self, table: &str, key: &str, value: &str) -> Result<Option<Item>> {
        let answer = self
            .dynamodb
            .get_item()
            .table_name(self.setting(table))
            .key(key, AttributeValue::S(value.to_owned()))
            .consistent_read(true)
            .send()
            .await?;
        Ok(answer.item)
    }

    /// All items of a table.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn items(&self, table: &str) -> Result<Vec<Item>> {
        let mut pages = self
            .dynamodb
            .scan()
            .table_name(self.setting(table))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut items = Vec::new();
        while let Some(item) = pages.next().await {
            items.push(item?);
        }
        Ok(items)
    }

    /// All events of an order, in the order in which they were made, as they were stored.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn log(&self, order: &str) -> Result<Vec<Item>> {
        let answer = self
            .dynamodb
            .query()
            .table_name(self.setting("EVENT_LOG_TABLE"))
            .key_condition_expression("order_id = :order")
            .expression_attribute_values(":order", AttributeValue::S(order.to_owned()))
            .consistent_read(true)
            .send()
            .await?;
        Ok(answer.items.unwrap_or_default())
    }

    /// The bytes of an order's one event of a type.
    ///
    /// # Errors
    /// There is none.
    pub async fn event(&self, order: &str, event_type: &str) -> Result<String> {
        let log = self.log(order).await?;
        let wanted = format!(r#""event_type":"{event_type}""#);
        let mut bodies = log.iter().filter_map(|item| item.get("body")?.as_s().ok());
        let body = bodies.find(|body| body.contains(&wanted));
        Ok(body.with_context(|| format!("order {order} has no {event_type}"))?.clone())
    }

    /// What the events of an order say of a product, by the status that each brings: units, and revenue in minor units.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn reported_amounts(&self, order: &str, product: &str) -> Result<Amounts> {
        let mut amounts = Amounts::new();
        for item in self.log(order).await? {
            let body = item.get("body").and_then(|body| body.as_s().ok()).context("a body")?;
            let event: Value = serde_json::from_str(body)?;
            let status = match event["event_type"].as_str() {
                Some("OrderCreated") => "pending",
                Some("OrderAwaitingPayment") => "awaiting_payment",
                Some("OrderConfirmed") => "confirmed",
                Some("OrderRejected") => "rejected",
                Some("OrderCancelled") => "cancelled",
                Some("OrderShipped") => "shipped",
                Some("OrderExpired") => "expired",
                _ => continue,
            };
            for line in event["data"]["items"].as_array().into_iter().flatten() {
                if line["product_id"] == product {
                    let units = line["quantity"].as_u64().context("a quantity")?;
                    let price = line["unit_price"].as_f64().context("a price")?;
                    let sum = amounts.entry(status.to_owned()).or_default();
                    *sum = (sum.0 + units, sum.1 + units * (price * 100.0).round() as u64);
                }
            }
        }
        Ok(amounts)
    }

    /// What is counted of a product, yesterday and today, by status: units, and revenue in minor units.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn counted_amounts(&self, product: &str) -> Result<Amounts> {
        let mut amounts = Amounts::new();
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let mut rows = Vec::new();
        for day in [today.saturating_sub(1.day()), today] {
            let text = |text: String| AttributeValue::S(text);
            let answer = self
                .dynamodb
                .query()
                .table_name(self.setting("ANALYTICS_TABLE"))
                .key_condition_expression("#day = :day AND begins_with(#row, :product)")
                .expression_attribute_names("#day", "day")
                .expression_attribute_names("#row", "row")
                .expression_attribute_values(":day", text(format!("1#{day}")))
                .expression_attribute_values(":product", text(format!("{product}#")))
                .consistent_read(true)
                .send()
                .await?;
            rows.extend(answer.items.unwrap_or_default());
        }
        for row in rows {
            let key = row["row"].as_s().ok().context("a row's key")?;
            let status = key.split('#').nth(1).context("a status")?;
            let number = |name: &str| -> Result<u64> {
                Ok(row[name].as_n().ok().context("a number")?.parse()?)
            };
            let sum = amounts.entry(status.to_owned()).or_default();
            *sum = (sum.0 + number("units")?, sum.1 + number("revenue")?);
        }
        Ok(amounts)
    }

    /// How many orders a customer has.
    ///
    /// # Errors
    /// DynamoDB did not answer.
    pub async fn orders_of(&self, customer_email: &str) -> Result<usize> {
        let answer = self
            .dynamodb
            .query()
            .table_name(self.setting("ORDERS_TABLE"))
            .index_name("by_customer_keys")
            .key_condition_expression("customer_email = :email")
            .expression_attribute_values(":email", AttributeValue::S(customer_email.to_owned()))
            .send()
            .await?;
        Ok(answer.items().len())
    }
}
