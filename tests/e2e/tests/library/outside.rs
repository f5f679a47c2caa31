//! A consumer in an empty folder outside the workspace, made of what the library's README says, as a Lambda function.
//!
//! The test is Lambda here: it serves the runtime API to the function's process, gives it one invocation, and reads the
//! answer. <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use axum::{
    Json, Router,
    extract::{Path as PathPart, State},
    response::IntoResponse,
    routing::{get, post},
};
use e2e::{Seconds, Stack, eventually};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/exactly-once");
/// How long the function's invocation may take.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(6);

/// The first code block of this language in the README.
fn block(readme: &str, language: &str) -> Result<String> {
    let (_, after) = readme.split_once(&format!("```{language}\n")).context("a block")?;
    let (block, _) = after.split_once("```").context("its end")?;
    Ok(block.to_owned())
}

/// Follows the README in a new folder, and builds what is there then; the program.
fn build() -> Result<PathBuf> {
    let readme = fs::read_to_string(Path::new(LIBRARY).join("README.md"))?;
    let target = Path::new(LIBRARY).join("../../target");
    let folder = std::env::temp_dir().join(format!("outside-{}", Uuid::new_v4()));
    fs::create_dir_all(folder.join("src"))?;
    let dependencies = block(&readme, "toml")?
        .replace("version = \"0.1\"", &format!("path = {:?}", Path::new(LIBRARY).canonicalize()?));
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n{dependencies}\n\
         [profile.dev]\ndebug = false\n\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    // The versions that are here already.
    fs::copy(Path::new(LIBRARY).join("../../Cargo.lock"), folder.join("Cargo.lock"))?;
    let decoded = "let sale: Sale = message.json()?;";
    let program = block(&readme, "rust,no_run")?;
    ensure!(program.contains(decoded), "the README's consumer decodes in another way");
    // What no README shows: a handler that fails in the ways in which handlers fail.
    let misbehaving = format!(
        "{decoded}
        if sale.product == \"panic\" {{ panic!(\"on purpose\") }}
        if sale.product == \"slow\" {{ std::future::pending::<()>().await }}"
    );
    fs::write(folder.join("src/main.rs"), program.replace(decoded, &misbehaving))?;
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet"])
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", target.join("outside"))
        .status()?;
    ensure!(built.success(), "what the README says does not build: {}", folder.display());
    fs::remove_dir_all(&folder)?;
    Ok(target.join("outside/debug/outside"))
}

/// One invocation on its way to the function, and its answer.
#[derive(Debug, Default)]
struct Invocation {
    event: Mutex<Option<Value>>,
    answer: Mutex<Option<Value>>,
}

async fn next(State(invocation): State<Arc<Invocation>>) -> impl IntoResponse {
    let event = invocation.event.lock().expect("nothing panics with it").take();
    let Some(event) = event else { std::future::pending().await };
    let headers = [
        ("lambda-runtime-aws-request-id", "one".to_owned()),
        ("lambda-runtime-deadline-ms", (Timestamp::now() + TIMEOUT).as_millisecond().to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:0:function:o".to_owned()),
    ];
    (headers, Json(event))
}

async fn answered(
    State(invocation): State<Arc<Invocation>>,
    PathPart((_, kind)): PathPart<(String, String)>,
    // The runtime says nothing of its answer's type.
    answer: String,
) {
    let answer = serde_json::from_str(&answer).unwrap_or_default();
    let answer = if kind == "response" { answer } else { json!({ "error": answer }) };
    *invocation.answer.lock().expect("nothing panics with it") = Some(answer);
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn table(stack: &Stack, name: &str, key: &str) -> Result<String> {
    let name = format!("{name}-{}", Uuid::new_v4());
    let attribute = AttributeDefinition::builder()
        .attribute_name(key)
        .attribute_type(ScalarAttributeType::S)
        .build()?;
    let key = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build()?;
    let create = stack.dynamodb.create_table().table_name(&name).key_schema(key);
    let create = create.attribute_definitions(attribute).billing_mode(BillingMode::PayPerRequest);
    create.send().await?;
    Ok(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_made_of_the_readme_handles_poison_a_duplicate_a_panic_and_a_slow_message()
-> Result<()> {
    let stack = Stack::load().await?;
    let program = tokio::task::spawn_blocking(build).await??;
    let queue = async |name: &str| -> Result<String> {
        let name = format!("{name}-{}", Uuid::new_v4());
        let created = stack.sqs.create_queue().queue_name(name).send().await?;
        created.queue_url.context("a queue has a URL")
    };
    let (queue_url, dlq_url) = (queue("sales").await?, queue("sales-dlq").await?);
    let idempotency = table(&stack, "idempotency", "key").await?;
    let sales = table(&stack, "sales", "product").await?;

    let sale = |id: &str, product: &str| {
        json!({ "sale_id": id, "product": product, "pieces": 2 }).to_string()
    };
    let bodies = [
        ("good", sale("1", "apple")),
        ("duplicate", sale("1", "apple")),
        ("poison", "{\"sale_id\":7}".to_owned()),
        ("panic", sale("2", "panic")),
        ("slow", sale("3", "slow")),
        ("good too", sale("4", "pear")),
    ];
    let records: Vec<Value> = bodies
        .iter()
        .map(|(name, body)| {
            json!({
                "messageId": name, "receiptHandle": name, "body": body, "messageAttributes": {},
                "attributes": { "ApproximateReceiveCount": "1" },
            })
        })
        .collect();
    let invocation = Arc::new(Invocation::default());
    *invocation.event.lock().expect("nothing panics with it") = Some(json!({ "Records": records }));
    let api = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
        .with_state(invocation.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async { axum::serve(listener, api).await });

    let environment = [
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "outside"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_ENDPOINT_URL", stack.setting("AWS_ENDPOINT_URL")),
        ("AWS_REGION", stack.setting("AWS_REGION")),
        ("AWS_ACCESS_KEY_ID", stack.setting("AWS_ACCESS_KEY_ID")),
        ("AWS_SECRET_ACCESS_KEY", stack.setting("AWS_SECRET_ACCESS_KEY")),
        ("QUEUE_URL", &queue_url),
        ("DLQ_URL", &dlq_url),
        ("IDEMPOTENCY_TABLE", &idempotency),
        ("SALES_TABLE", &sales),
    ];
    let _function = Process(Command::new(program).envs(environment).spawn()?);
    let answer = eventually("the function's answer", 30.secs(), async || {
        Ok(invocation.answer.lock().expect("nothing panics with it").clone())
    })
    .await?;

    let failures = answer["batchItemFailures"].as_array().context("a batch answer")?;
    let failed: BTreeSet<&str> =
        failures.iter().filter_map(|failure| failure["itemIdentifier"].as_str()).collect();
    assert_eq!(failed, BTreeSet::from(["panic", "slow"]), "{answer}");
    let letter = stack.message_with(&dlq_url, "sale_id").await?;
    let attributes = letter.message_attributes().context("attributes")?;
    assert_eq!(attributes["failure_reason"].string_value(), Some("undecodable"));
    assert_eq!(attributes["original_message_id"].string_value(), Some("poison"));
    for (product, pieces) in [("apple", Some("2")), ("pear", Some("2")), ("panic", None)] {
        let key = aws_sdk_dynamodb::types::AttributeValue::S(product.to_owned());
        let get = stack.dynamodb.get_item().table_name(&sales).key("product", key);
        let item = get.send().await?.item;
        let stored = item.as_ref().and_then(|item| item["pieces"].as_n().ok());
        assert_eq!(stored.map(String::as_str), pieces, "{product}");
    }
    for queue_url in [queue_url, dlq_url] {
        stack.sqs.delete_queue().queue_url(queue_url).send().await?;
    }
    for table in [idempotency, sales] {
        stack.dynamodb.delete_table().table_name(table).send().await?;
    }
    Ok(())
}
