//! The tables.

use serde_json::{Value, json};

use crate::read::{TABLE, Template};

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

/// The stack may go; what the shop has agreed with its customers may not. Empty tables of a first deployment that
/// failed may.
#[test]
fn every_table_but_that_of_idempotency_outlives_the_stack() {
    let template = Template::read();
    for (name, _) in template.all(TABLE) {
        let (deleted, replaced) = match name {
            "IdempotencyTable" => ("Delete", "Delete"),
            // A replaced table was there before: CloudFormation knows no RetainExceptOnCreate for it.
            _ => ("RetainExceptOnCreate", "Retain"),
        };
        let resource = &template.0["Resources"][name];
        assert_eq!(resource["DeletionPolicy"], deleted, "DeletionPolicy of {name}");
        assert_eq!(resource["UpdateReplacePolicy"], replaced, "UpdateReplacePolicy of {name}");
    }
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
