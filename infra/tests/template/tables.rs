//! The tables.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::read::{TABLE, Template, list};

#[test]
fn every_table_is_on_demand_encrypted_and_can_be_restored_to_any_moment() {
    let template = Template::read();
    assert!(template.all(TABLE).count() >= 5, "this test has lost sight of the tables");
    for (name, table) in template.all(TABLE) {
        assert_eq!(table["BillingMode"], "PAY_PER_REQUEST", "{name}");
        assert_eq!(table["SSESpecification"]["SSEEnabled"], true, "{name}");
        let recovery = &table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"];
        assert_eq!(*recovery, true, "{name}");
    }
}

/// An index without a limit of its own would go on where its table stops; one that was forgotten is found here.
#[test]
fn every_table_and_index_has_the_maximum_throughput_that_is_asked_for_and_none_by_default() {
    let template = Template::read();
    let off = |parameter: &str| json!({ "Fn::Equals": [{ "Ref": parameter }, 0] });
    let conditions = &template.0["Conditions"];
    for (condition, parameter) in
        [("ReadUnitsLimited", "TableMaxReadUnits"), ("WriteUnitsLimited", "TableMaxWriteUnits")]
    {
        assert_eq!(template.0["Parameters"][parameter]["Default"], 0);
        assert_eq!(conditions[condition], json!({ "Fn::Not": [off(parameter)] }));
    }
    let either =
        ["ReadUnitsLimited", "WriteUnitsLimited"].map(|one| json!({ "Fn::Condition": one }));
    assert_eq!(conditions["UnitsLimited"], json!({ "Fn::Or": either }));
    let nothing = json!({ "Ref": "AWS::NoValue" });
    // Neither an empty object nor 0 is a maximum that DynamoDB takes.
    let maximum = json!({ "Fn::If": ["UnitsLimited", {
        "MaxReadRequestUnits": { "Fn::If": ["ReadUnitsLimited", { "Ref": "TableMaxReadUnits" }, nothing] },
        "MaxWriteRequestUnits": { "Fn::If": ["WriteUnitsLimited", { "Ref": "TableMaxWriteUnits" }, nothing] },
    }, nothing] });
    let mut indexes = 0;
    for (name, table) in template.all(TABLE) {
        assert_eq!(table["OnDemandThroughput"], maximum, "{name}");
        for index in list(&table["GlobalSecondaryIndexes"]) {
            indexes += 1;
            assert_eq!(index["OnDemandThroughput"], maximum, "{} of {name}", index["IndexName"]);
        }
    }
    assert!(indexes >= 4, "this test has lost sight of the indexes");
}

/// The stack may go; what the shop has agreed with its customers may not. Empty tables of a first deployment that
/// failed may.
#[test]
fn every_table_but_those_of_idempotency_and_of_connections_outlives_the_stack() {
    let template = Template::read();
    for (name, _) in template.all(TABLE) {
        let (deleted, replaced) = match name {
            "IdempotencyTable" | "ConnectionsTable" => ("Delete", "Delete"),
            // A replaced table was there before: CloudFormation knows no RetainExceptOnCreate for it.
            _ => ("RetainExceptOnCreate", "Retain"),
        };
        let resource = &template.0["Resources"][name];
        assert_eq!(resource["DeletionPolicy"], deleted, "DeletionPolicy of {name}");
        assert_eq!(resource["UpdateReplacePolicy"], replaced, "UpdateReplacePolicy of {name}");
    }
}

/// What is not in the selection would be missed when it is too late.
#[test]
fn every_table_that_outlives_the_stack_can_be_backed_up_and_the_backups_outlive_it_too() {
    let template = Template::read();
    let selection = template.one("AWS::Backup::BackupSelection", "BackupSelection");
    let selected = list(&selection["BackupSelection"]["Resources"]);
    let selected: BTreeSet<String> = selected.into_iter().map(ToString::to_string).collect();
    let tables: BTreeSet<String> = template
        .all(TABLE)
        .map(|(name, _)| (name, &template.0["Resources"][name]))
        .filter(|(_, resource)| resource["DeletionPolicy"] != "Delete")
        .map(|(name, resource)| {
            let table = json!({ "Fn::GetAtt": format!("{name}.Arn") });
            match &resource["Condition"] {
                Value::Null => table,
                condition => json!({ "Fn::If": [condition, table, { "Ref": "AWS::NoValue" }] }),
            }
        })
        .map(|table| table.to_string())
        .collect();
    assert_eq!(selected, tables);
    let off = json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "BackupDays" }, 0] }] });
    assert_eq!(template.0["Conditions"]["BackedUp"], off);
    assert_eq!(template.0["Parameters"]["BackupDays"]["Default"], 0);
    for name in ["BackupVault", "BackupPlan", "BackupSelection", "BackupRole"] {
        assert_eq!(template.0["Resources"][name]["Condition"], "BackedUp", "{name}");
    }
    assert_eq!(template.0["Resources"]["BackupVault"]["DeletionPolicy"], "Retain");
    let plan = template.one("AWS::Backup::BackupPlan", "BackupPlan");
    let rules = list(&plan["BackupPlan"]["BackupPlanRule"]);
    let [rule] = rules[..] else { panic!("one rule, and there are {}", rules.len()) };
    assert_eq!(rule["Lifecycle"], json!({ "DeleteAfterDays": { "Ref": "BackupDays" } }));
    assert_eq!(rule["TargetBackupVault"], json!({ "Ref": "BackupVault" }));
    let schedule = rule["ScheduleExpression"].as_str().expect("a schedule");
    assert!(schedule.ends_with(" * * ? *)"), "each day: {schedule}");
}

#[test]
fn a_table_that_outlives_the_stack_can_be_protected_from_deletion_and_no_other_is() {
    let template = Template::read();
    let protected = json!({ "Fn::If": ["Protected", true, false] });
    let condition = json!({ "Fn::Equals": [{ "Ref": "DeletionProtection" }, "true"] });
    assert_eq!(template.0["Conditions"]["Protected"], condition);
    for (name, table) in template.all(TABLE) {
        // A protected table would stop the deletion of the stack that it goes with.
        let outlives = template.0["Resources"][name]["DeletionPolicy"] != "Delete";
        let wanted = if outlives { &protected } else { &Value::Null };
        assert_eq!(&table["DeletionProtectionEnabled"], wanted, "{name}");
    }
    // Else the tables of a first deployment that fails could not be taken back.
    assert_eq!(template.0["Parameters"]["DeletionProtection"]["Default"], "false");
}
