//! What `commit` sends to DynamoDB, answer by answer: the answers are scripted, the requests are real.

use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    types::{AttributeValue, Put, TransactWriteItem},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use exactly_once::{Commit, CommitError, Role, TransactionWrite, commit};

const DONE: (u16, &str) = (200, "{}");
const IN_PROGRESS: (u16, &str) =
    (400, r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionInProgressException"}"#);
const CONFLICT: (u16, &str) = (
    400,
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "CancellationReasons":[{"Code":"TransactionConflict"}]}"#,
);

/// Gives scripted answers, the last of which repeats, and keeps the requests.
#[derive(Debug, Clone)]
struct Script {
    answers: Vec<(u16, &'static str)>,
    requests: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Script {
    fn new(answers: &[(u16, &'static str)]) -> Self {
        Self { answers: answers.to_vec(), requests: Arc::default() }
    }

    fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        Client::from_conf(
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("nowhere"))
                .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
                // What the SDK repeats by itself keeps its token anyway.
                .retry_config(RetryConfig::disabled())
                .http_client(http_client_fn(move |_, _| connector.clone()))
                .build(),
        )
    }

    fn tokens(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("no test panics with it");
        let token =
            |request: &serde_json::Value| request["ClientRequestToken"].as_str().map(str::to_owned);
        requests.iter().map(|request| token(request).expect("a token")).collect()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap_or_default();
        let mut requests = self.requests.lock().expect("no test panics with it");
        let (status, answer) = self.answers[requests.len().min(self.answers.len() - 1)];
        requests.push(serde_json::from_slice(body).expect("JSON"));
        let status = status.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(answer))))
    }
}

fn write() -> [TransactionWrite<()>; 1] {
    let put = Put::builder().table_name("t").item("k", AttributeValue::S("v".into())).build();
    let put = TransactWriteItem::builder().put(put.expect("a table and an item")).build();
    [TransactionWrite::new(Role::Unconditional, put)]
}

#[tokio::test]
async fn a_transaction_in_progress_is_asked_for_again_under_its_own_token() {
    let script = Script::new(&[IN_PROGRESS, IN_PROGRESS, DONE]);
    let committed = commit(&script.client(), &write()).await.expect("an answer");
    assert_eq!(committed, Commit::Done);
    let tokens = script.tokens();
    assert_eq!(tokens.len(), 3);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}

#[tokio::test]
async fn a_cancelled_transaction_is_tried_again_under_a_new_token() {
    let script = Script::new(&[CONFLICT, IN_PROGRESS, CONFLICT, DONE]);
    let committed = commit(&script.client(), &write()).await.expect("an answer");
    assert_eq!(committed, Commit::Done);
    let tokens = script.tokens();
    assert_ne!(tokens[0], tokens[1], "DynamoDB would answer the cancellation again");
    assert_eq!(tokens[1], tokens[2], "in progress is no cancellation");
    assert_ne!(tokens[2], tokens[3]);
}

#[tokio::test]
async fn a_transaction_that_stays_in_progress_has_an_unknown_outcome() {
    let script = Script::new(&[IN_PROGRESS]);
    let error = commit(&script.client(), &write()).await.expect_err("no outcome");
    assert!(matches!(error, CommitError::Unknown(_)), "{error:?}");
    let script = Script::new(&[CONFLICT]);
    let error = commit(&script.client(), &write()).await.expect_err("no outcome");
    assert!(matches!(error, CommitError::Busy), "{error:?}");
}
