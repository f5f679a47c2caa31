//! The cases of DynamoDB in the simulation and in an emulator.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType,
    },
};
use serde_json::Value;
use simulated_aws::{Faults, SimulatedAws};

use crate::{
    calls::call,
    cases::{IndexOf, TABLES, cases, create_tables},
};

/// A case in which an emulator does not answer as the simulation does, and the page of AWS that decides.
struct KnownDifference {
    emulator: &'static str,
    case: &'static str,
    /// What the emulator says instead.
    says: &'static str,
    page: &'static str,
}

/// A case in which MiniStack takes what DynamoDB refuses.
const fn ministack(case: &'static str, says: &'static str, page: &'static str) -> KnownDifference {
    KnownDifference { emulator: "ministack", case, says, page }
}

/// A case in which DynamoDB Local, which LocalStack runs, is not as DynamoDB.
const fn localstack(case: &'static str, says: &'static str, page: &'static str) -> KnownDifference {
    KnownDifference { emulator: "localstack", case, says, page }
}

const UPDATES: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html";
const CONDITIONS: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.OperatorsAndFunctions.html";
const KEY_CONDITIONS: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.KeyConditionExpressions.html";
const INDEXES: &str = "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html";
const QUERIES: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html";
const TRANSACTIONS: &str =
    "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html";

const KNOWN_DIFFERENCES: &[KnownDifference] = &[
    ministack("paths that overlap", "yes", UPDATES),
    ministack("an attribute twice", "yes", UPDATES),
    ministack("a clause twice", "yes", UPDATES),
    ministack("a sum with a text", "yes", UPDATES),
    ministack("what is compared with itself", "yes", CONDITIONS),
    ministack("an order of booleans", "that the condition failed", CONDITIONS),
    ministack("a query with OR", "yes", KEY_CONDITIONS),
    ministack("a query that excludes", "yes", KEY_CONDITIONS),
    ministack(
        "a write of a transaction that is invalid by itself",
        "cancelled, with a reason",
        TRANSACTIONS,
    ),
    // Items with the same sort key are in no order.
    localstack("the sweep goes on behind a key", "the same in another order", INDEXES),
    localstack("no such index", "ResourceNotFoundException", QUERIES),
    localstack(
        "a write of a transaction that is invalid for its item",
        "ValidationException, and no reasons",
        TRANSACTIONS,
    ),
];

/// What the simulation answers, kind as it then is.
fn simulated() -> Vec<Value> {
    fastrand::seed(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let aws = SimulatedAws::new(1, Faults::default());
        aws.be_kind();
        create_tables(&aws);
        let config = simulated_aws::loader().load().await;
        let client = Client::new(&aws.environment().config(&config));
        let mut answers = Vec::new();
        for case in cases() {
            answers.push(call(&client, case.operation, &case.request).await);
            // So that no partition throttles.
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
        answers
    })
}

/// The settings of the stack that runs.
fn settings() -> BTreeMap<String, String> {
    let path = env::var_os("ORDERFLOW_STACK").map(PathBuf::from);
    let path = path.expect("ORDERFLOW_STACK names the settings of a running stack");
    let text = fs::read_to_string(path).expect("the settings can be read");
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn create_table(client: &Client, name: &str, keys: &[&str], indexes: &[IndexOf]) {
    // It may be left from an earlier run.
    let _ = client.delete_table().table_name(name).send().await;
    let schema = |keys: &[&str]| -> Vec<KeySchemaElement> {
        let types = [KeyType::Hash, KeyType::Range];
        let keys = keys.iter().zip(types).map(|(key, kind)| {
            KeySchemaElement::builder().attribute_name(*key).key_type(kind).build().expect("a key")
        });
        keys.collect()
    };
    let mut names: Vec<&str> = keys.to_vec();
    names.extend(indexes.iter().flat_map(|(_, keys, _)| keys));
    names.sort_unstable();
    names.dedup();
    let mut create = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(schema(keys)));
    for name in names {
        let attribute = AttributeDefinition::builder().attribute_name(name);
        let attribute = attribute.attribute_type(ScalarAttributeType::S);
        create = create.attribute_definitions(attribute.build().expect("an attribute"));
    }
    for (name, keys, is_keys_only) in indexes {
        let kind = if *is_keys_only { ProjectionType::KeysOnly } else { ProjectionType::All };
        let index = GlobalSecondaryIndex::builder()
            .index_name(*name)
            .set_key_schema(Some(schema(keys)))
            .projection(Projection::builder().projection_type(kind).build());
        create = create.global_secondary_indexes(index.build().expect("an index"));
    }
    create.send().await.expect("the table is made");
}

/// What the emulator of the stack answers, and its name.
fn emulated() -> (String, Vec<Value>) {
    let settings = settings();
    let setting = |name: &str| settings.get(name).cloned();
    let endpoint = setting("EMULATOR_URL").or_else(|| setting("AWS_ENDPOINT_URL"));
    let (key, secret) = (setting("AWS_ACCESS_KEY_ID"), setting("AWS_SECRET_ACCESS_KEY"));
    let emulator = setting("EMULATOR").expect("the stack names its emulator");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answers = runtime.expect("a runtime").block_on(async {
        let credentials =
            Credentials::new(key.expect("a key"), secret.expect("a secret"), None, None, "stack");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(endpoint.expect("an endpoint"))
            .region(Region::new(setting("AWS_REGION").expect("a region")))
            .credentials_provider(credentials)
            .load()
            .await;
        let client = Client::new(&config);
        for (name, keys, indexes) in TABLES {
            create_table(&client, name, keys, indexes).await;
        }
        let mut answers = Vec::new();
        for case in cases() {
            answers.push(call(&client, case.operation, &case.request).await);
        }
        for (name, ..) in TABLES {
            client.delete_table().table_name(name).send().await.expect("the table is deleted");
        }
        answers
    });
    (emulator, answers)
}

fn short(answer: &Value) -> String {
    let text = answer.to_string();
    text.chars().take(400).collect()
}

#[test]
fn the_simulation_answers_as_the_emulator_does_but_for_known_differences() {
    let simulated = simulated();
    let (emulator, emulated) = emulated();
    let known = |name: &str| {
        KNOWN_DIFFERENCES.iter().find(|known| known.emulator == emulator && known.case == name)
    };
    let mut failures = Vec::new();
    let mut differences = 0;
    for ((case, simulated), emulated) in cases().iter().zip(&simulated).zip(&emulated) {
        match (known(case.name), simulated == emulated) {
            (None, true) => {}
            (Some(known), false) => {
                differences += 1;
                println!(
                    "{}: {emulator} says {}; decided by {}",
                    case.name, known.says, known.page
                );
            }
            (None, false) => failures.push(format!(
                "{}\n  simulation: {}\n  {emulator}: {}",
                case.name,
                short(simulated),
                short(emulated)
            )),
            (Some(_), true) => failures.push(format!("{}: no longer differs", case.name)),
        }
    }
    println!("{} calls, {differences} known differences from {emulator}", simulated.len());
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}
