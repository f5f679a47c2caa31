//! Whether `tables.yaml` says what the code calls, no more and no less.

use std::collections::BTreeSet;

use yaml_serde::Value;

/// How a call of each action stands in the code.
const CALLS: [(&str, &str); 11] = [
    ("Put::builder()", "dynamodb:PutItem"),
    (".update_item()", "dynamodb:UpdateItem"),
    (".delete_item()", "dynamodb:DeleteItem"),
    (".get_item()", "dynamodb:GetItem"),
    (".query()", "dynamodb:Query"),
    ("count_partition(", "dynamodb:Query"),
    ("batch_get(", "dynamodb:BatchGetItem"),
    // https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
    (".batch_execute_statement()", "dynamodb:PartiQLUpdate"),
    (".publish_batch()", "sns:Publish"),
    (".change_message_visibility()", "sqs:ChangeMessageVisibility"),
    (".send_message()", "sqs:SendMessage"),
];

fn template() -> Value {
    yaml_serde::from_str(include_str!("../tables.yaml")).expect("YAML")
}

fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["PolicyDocument"]["Statement"].as_sequence().expect("statements");
    let actions = statements.iter().flat_map(|statement| match &statement["Action"] {
        Value::Sequence(actions) => actions.clone(),
        action => vec![action.clone()],
    });
    actions.map(|action| action.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn every_policy_permits_what_its_part_of_the_library_calls_and_nothing_else() {
    let parts = [
        ("inbox", include_str!("../src/inbox.rs")),
        ("idempotency_keys", include_str!("../src/idempotency_keys.rs")),
        ("outbox", include_str!("../src/outbox.rs")),
        ("batch", include_str!("../src/batch.rs")),
    ];
    let template = template();
    let policies = &template["Resources"]["FunctionRole"]["Properties"]["Policies"];
    let policies = policies.as_sequence().expect("policies");
    for (part, source) in parts {
        let policy = policies.iter().find(|policy| policy["PolicyName"] == part);
        let policy = policy.unwrap_or_else(|| panic!("no policy for {part}"));
        let called = CALLS.iter().filter(|(call, _)| source.contains(call));
        let called: BTreeSet<String> = called.map(|(_, action)| (*action).to_owned()).collect();
        assert_eq!(actions(policy), called, "{part}");
    }
}

#[test]
fn the_tables_have_the_keys_that_the_code_writes() {
    let template = template();
    let outbox = include_str!("../src/outbox.rs");
    let event_log = &template["Resources"]["EventLogTable"]["Properties"];
    let names = |key_schema: &Value| -> Vec<String> {
        let keys = key_schema.as_sequence().expect("keys").iter();
        keys.map(|key| key["AttributeName"].as_str().expect("a name").to_owned()).collect()
    };
    for (constant, name) in ["PARTITION_KEY", "SORT_KEY"].iter().zip(names(&event_log["KeySchema"]))
    {
        assert!(outbox.contains(&format!("const {constant}: &str = \"{name}\";")), "{name}");
    }
    let index = &event_log["GlobalSecondaryIndexes"][0];
    let name = index["IndexName"].as_str().expect("a name");
    assert!(outbox.contains(&format!("const INDEX: &str = \"{name}\";")), "{name}");
    for attribute in names(&index["KeySchema"]) {
        assert!(outbox.contains(&format!(".item(\"{attribute}\"")), "{attribute}");
    }
    let idempotency = &template["Resources"]["IdempotencyTable"]["Properties"];
    assert_eq!(names(&idempotency["KeySchema"]), ["key"]);
    let ttl = idempotency["TimeToLiveSpecification"]["AttributeName"].as_str().expect("a name");
    for source in [include_str!("../src/inbox.rs"), include_str!("../src/idempotency_keys.rs")] {
        assert!(source.contains(&format!("\"{ttl}\"")) && source.contains("\"key\""));
    }
}
