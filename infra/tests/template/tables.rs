//! The tables.

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

/// The stack may go; what the shop has agreed with its customers may not.
#[test]
fn every_table_but_that_of_idempotency_outlives_the_stack() {
    let template = Template::read();
    for (name, _) in template.all(TABLE) {
        let wanted = if name == "IdempotencyTable" { "Delete" } else { "Retain" };
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            assert_eq!(template.0["Resources"][name][policy], wanted, "{policy} of {name}");
        }
    }
}
