//! The stack's tables, from outside.

use std::collections::HashMap;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use exactly_once::Outbox;

use crate::Stack;

pub type Item = HashMap<String, AttributeValue>;

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
