//! An outbox in an HTTP handler: a guest book, each entry of which is announced on an SNS topic.
//!
//! The entry and its event are stored in one transaction; then the event is published. If the process dies in between, or
//! SNS does not answer, the event stays pending, and a function on a timer publishes it: `outbox.sweep(age, deadline)`.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use exactly_once::{
    Commit, ErrorChain, Ids, Outbox, Outgoing, Role, TransactionWrite, commit, table::text,
};
use serde::Deserialize;

#[derive(Clone)]
struct GuestBook {
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
    outbox: Outbox,
    ids: Ids,
}

#[derive(Deserialize)]
struct Entry {
    guest: String,
}

async fn sign(State(book): State<GuestBook>, Json(Entry { guest }): Json<Entry>) -> StatusCode {
    let id = book.ids.random();
    let put = Put::builder().table_name(&book.table).item("entry_id", text(id));
    let Ok(put) = put.item("guest", text(&guest)).build() else {
        return StatusCode::INTERNAL_SERVER_ERROR;
    };
    let put = TransactWriteItem::builder().put(put).build();
    let body = serde_json::json!({ "type": "GuestSigned", "id": id, "guest": guest }).to_string();
    let attributes = BTreeMap::from([("event_type".to_owned(), "GuestSigned".to_owned())]);
    let events = [Outgoing { stream: id.to_string(), id, body, attributes }];
    let mut writes = vec![TransactionWrite::<()>::new(Role::Unconditional, put)];
    writes.extend(book.outbox.append(&events));
    match commit(&book.dynamodb, &writes).await {
        Ok(Commit::Done) => {
            // Returns within two seconds whatever SNS does; what is left is the sweep's.
            book.outbox.publish(&events).await;
            StatusCode::CREATED
        }
        Ok(_) => StatusCode::CONFLICT,
        Err(error) => {
            eprintln!("{}", ErrorChain(&error));
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    let env = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let aws = aws_config::load_from_env().await;
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let sns = aws_sdk_sns::Client::new(&aws);
    let outbox = Outbox::new(dynamodb.clone(), sns, env("EVENT_LOG_TABLE"), env("TOPIC_ARN"));
    let (table, ids) = (env("GUEST_BOOK_TABLE"), Ids::default());
    let book = GuestBook { dynamodb, table, outbox, ids };
    lambda_http::run(Router::new().route("/entries", post(sign)).with_state(book)).await
}
