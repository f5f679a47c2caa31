//! `orderflow suppressed`: the addresses that are not mailed any more, because they bounced or their owner complained.
//!
//! In: a stack, and for a removal an address. Out: what the table says of it. Guarantee: what is removed is shown, so that it
//! can be put back by hand.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use events::Email;
use serde::Serialize;

use crate::{
    error::CliError,
    output::{plain, table},
    stack::Stack,
};

/// An address that is not mailed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Suppressed {
    pub email: String,
    /// `bounce` or `complaint`.
    pub reason: String,
    pub suppressed_at: String,
    /// The mail's id at SES.
    pub mail_id: String,
}

impl Suppressed {
    /// What cannot be read is empty: an operator is to see that it is there.
    fn read(item: &HashMap<String, AttributeValue>) -> Self {
        let field = |name: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
        };
        Self {
            email: field("email"),
            reason: field("reason"),
            suppressed_at: field("suppressed_at"),
            mail_id: field("mail_id"),
        }
    }
}

/// All of them, by when they were suppressed.
pub(crate) async fn list(stack: &Stack) -> Result<Vec<Suppressed>, CliError> {
    let name = stack.output("SuppressedTable")?;
    let (mut found, mut start) = (Vec::new(), None);
    loop {
        let scan = stack.dynamodb.scan().table_name(name).set_exclusive_start_key(start);
        let page = scan.send().await?;
        found.extend(page.items.unwrap_or_default().iter().map(Suppressed::read));
        start = page.last_evaluated_key;
        if start.is_none() {
            found.sort_by(|one, other| one.suppressed_at.cmp(&other.suppressed_at));
            return Ok(found);
        }
    }
}

/// One of them.
pub(crate) async fn get(stack: &Stack, address: &Email) -> Result<Option<Suppressed>, CliError> {
    let found = stack
        .dynamodb
        .get_item()
        .table_name(stack.output("SuppressedTable")?)
        .key("email", AttributeValue::S(address.mailbox()))
        .consistent_read(true)
        .send()
        .await?;
    Ok(found.item.map(|item| Suppressed::read(&item)))
}

/// Has an address mailed again.
pub(crate) async fn remove(stack: &Stack, address: &Email) -> Result<Suppressed, CliError> {
    let deleted = stack
        .dynamodb
        .delete_item()
        .table_name(stack.output("SuppressedTable")?)
        .key("email", AttributeValue::S(address.mailbox()))
        .return_values(ReturnValue::AllOld)
        .send()
        .await?;
    let removed = deleted.attributes.filter(|item| !item.is_empty());
    let removed = removed.map(|item| Suppressed::read(&item));
    removed.ok_or_else(|| CliError::NotFound(format!("{address} is not suppressed")))
}

pub(crate) fn text(all: &[Suppressed]) -> String {
    let rows = all.iter().map(|one| {
        let Suppressed { email, reason, suppressed_at, mail_id } = one;
        [suppressed_at, reason, email, mail_id].map(|field| plain(field)).to_vec()
    });
    table(&["since", "reason", "address", "mail at SES"], rows)
}
