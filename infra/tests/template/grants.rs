//! Who may do what.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::read::{FUNCTION, Template, list, target, within};

const ROLE: &str = "AWS::IAM::Role";
/// API Gateway's, for the logs of all APIs of the account: it refuses one that may do less than AWS's own policy.
const API_LOGS_ROLE: &str = "ApiLogsRole";
const BACKUP_ROLE: &str = "BackupRole";
/// Roles that services of AWS have, and no function.
const OF_SERVICES: [&str; 2] = [API_LOGS_ROLE, BACKUP_ROLE];

/// Where a `*` in a resource is right, because AWS has nothing finer: the action and why.
const NOTHING_FINER: [(&str, &str); 2] = [
    (
        "ses:SendEmail",
        "what SES checks is the identity that was verified, which may be an address or its domain, and in its \
         sandbox the recipient too, and that identity's default configuration set; the sender is pinned by a condition",
    ),
    (
        MANAGE_CONNECTIONS,
        "API Gateway makes the ids of connections as they come; the API, the stage and the method are pinned",
    ),
];
const MANAGE_CONNECTIONS: &str = "execute-api:ManageConnections";

/// Every statement of every policy, wherever it stands.
fn statements(template: &Template) -> Vec<&Value> {
    within(&template.0).into_iter().filter(|value| value["Effect"].is_string()).collect()
}

/// A text, or the text that `Fn::Sub` fills in.
fn text(value: &Value) -> &str {
    value.as_str().or(value["Fn::Sub"].as_str()).unwrap_or_default()
}

#[test]
fn no_policy_allows_an_action_with_a_wildcard_in_it() {
    let template = Template::read();
    let statements = statements(&template);
    assert!(statements.len() > 20, "this test has lost sight of the statements");
    for statement in statements {
        let actions = list(&statement["Action"]);
        assert!(!actions.is_empty(), "names no actions: {statement}");
        for action in actions {
            assert!(!text(action).contains(['*', '?']) && !text(action).is_empty(), "{statement}");
        }
        // These say what is not meant, and so everything else.
        for negation in ["NotAction", "NotResource", "NotPrincipal"] {
            assert!(statement[negation].is_null(), "{statement}");
        }
    }
}

#[test]
fn no_policy_has_a_wildcard_resource_where_aws_has_a_finer_one() {
    let template = Template::read();
    let mut unused: BTreeSet<&str> = NOTHING_FINER.iter().map(|(action, _)| *action).collect();
    for statement in statements(&template) {
        // In whatever functions the texts stand.
        let texts = within(&statement["Resource"]).into_iter().filter_map(Value::as_str);
        if texts.into_iter().any(|text| text.contains(['*', '?'])) {
            for action in list(&statement["Action"]) {
                let known = NOTHING_FINER.iter().any(|(known, _)| action == known);
                assert!(known, "{action} has finer resources: {statement}");
                unused.remove(text(action));
            }
            let is_narrowed = statement["Condition"].is_object()
                || statement["Action"] == MANAGE_CONNECTIONS
                    && list(&statement["Resource"]).into_iter().all(is_of_connections);
            assert!(is_narrowed, "nothing narrows it: {statement}");
        }
    }
    assert!(unused.is_empty(), "exceptions that nothing needs: {unused:?}");
}

/// Whether a resource is the connections of the one stage, and one way to call them.
fn is_of_connections(resource: &Value) -> bool {
    ["POST", "DELETE"].iter().any(|method| {
        let of_stage = json!({ "Fn::Join": ["", [
            { "Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:" },
            { "Ref": "LiveUpdatesApi" },
            format!("/v1/{method}/@connections/*"),
        ]] });
        *resource == of_stage
    })
}

#[test]
fn no_policy_is_for_everybody() {
    let template = Template::read();
    for statement in statements(&template).into_iter().filter(|one| one["Effect"] != "Deny") {
        let principals = within(&statement["Principal"]);
        assert!(!principals.into_iter().any(|p| text(p).contains('*')), "{statement}");
    }
}

#[test]
fn each_function_has_a_role_of_its_own() {
    let template = Template::read();
    let mut roles = BTreeSet::new();
    for (name, function) in template.all(FUNCTION) {
        let role = target(&function["Role"]);
        assert!(template.one(ROLE, role).is_object(), "{name} has no role of this template");
        assert!(roles.insert(role), "{name} shares {role}");
        // SAM would add these to a role that it makes itself.
        assert!(function["Policies"].is_null(), "{name}: its grants belong into {role}");
    }
    let all: BTreeSet<_> = template
        .all(ROLE)
        .map(|(name, _)| name)
        .filter(|name| !OF_SERVICES.contains(name))
        .collect();
    assert_eq!(all, roles, "roles that no function has");
}

#[test]
fn a_role_is_lambdas_alone_and_its_grants_are_in_sight() {
    let lambda = json!([{
        "Effect": "Allow",
        "Principal": { "Service": "lambda.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }]);
    let template = Template::read();
    for (name, role) in template.all(ROLE).filter(|(name, _)| !OF_SERVICES.contains(name)) {
        assert_eq!(role["AssumeRolePolicyDocument"]["Statement"], lambda, "{name}");
        assert!(role["ManagedPolicyArns"].is_null(), "{name}: AWS decides what these allow");
    }
    let resources = template.0["Resources"].as_object().expect("resources");
    for (name, resource) in resources {
        let kind = resource["Type"].as_str().unwrap_or_default();
        assert!(
            !kind.starts_with("AWS::IAM::") || kind == ROLE,
            "{name}: grants belong into roles"
        );
    }
}

/// No function has it: AWS Backup reads the tables by it.
#[test]
fn the_role_of_backups_is_aws_backups_alone_and_allows_what_aws_says_it_needs() {
    let template = Template::read();
    let role = template.one(ROLE, BACKUP_ROLE);
    let backup = json!([{
        "Effect": "Allow",
        "Principal": { "Service": "backup.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }]);
    assert_eq!(role["AssumeRolePolicyDocument"]["Statement"], backup);
    let policy =
        "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup";
    assert_eq!(role["ManagedPolicyArns"], json!([{ "Fn::Sub": policy }]));
    assert!(role["Policies"].is_null());
}

/// No function has it: it writes the access logs of every API of the account.
#[test]
fn the_role_of_the_apis_logs_is_api_gateways_alone_and_allows_what_aws_says_it_needs() {
    let template = Template::read();
    let role = template.one(ROLE, API_LOGS_ROLE);
    let api_gateway = json!([{
        "Effect": "Allow",
        "Principal": { "Service": "apigateway.amazonaws.com" },
        "Action": "sts:AssumeRole",
    }]);
    assert_eq!(role["AssumeRolePolicyDocument"]["Statement"], api_gateway);
    let policy =
        "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs";
    assert_eq!(role["ManagedPolicyArns"], json!([{ "Fn::Sub": policy }]));
    assert!(role["Policies"].is_null());
}

/// SES checks both for one call if the identity has a default configuration set.
#[test]
fn mails_may_be_sent_by_an_identity_that_has_a_default_configuration_set() {
    let template = Template::read();
    let mut statements = statements(&template).into_iter();
    let send = statements.find(|statement| statement["Action"] == "ses:SendEmail").expect("one");
    let ses = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}";
    let wanted = ["identity", "configuration-set"]
        .map(|kind| json!({ "Fn::Sub": format!("{ses}:{kind}/*") }));
    assert_eq!(send["Resource"], json!(wanted));
    let sender = json!({ "StringEquals": { "ses:FromAddress": { "Ref": "MailFrom" } } });
    assert_eq!(send["Condition"], sender);
}

/// Consumers believe what is on the topic. A right to publish to every topic is not one to publish to this one.
#[test]
fn nobody_but_the_functions_that_publish_events_may_publish_to_the_topic() {
    let template = Template::read();
    let publishes = |role: &Value| {
        let statements = within(role).into_iter().filter(|value| value["Effect"] == "Allow");
        let mut actions = statements.flat_map(|statement| list(&statement["Action"]));
        actions.any(|action| action == "sns:Publish")
    };
    let publishers: Vec<_> = template.all(ROLE).filter(|(_, role)| publishes(role)).collect();
    assert!(publishers.len() >= 4, "this test has lost sight of the publishers");
    let publishers: BTreeSet<_> =
        publishers.into_iter().map(|(name, _)| format!("{name}.Arn")).collect();
    let policy = template.one("AWS::SNS::TopicPolicy", "OrdersTopicPolicy");
    assert_eq!(policy["Topics"], json!([{ "Ref": "OrdersTopic" }]));
    let statements = list(&policy["PolicyDocument"]["Statement"]);
    let [statement] = statements[..] else { panic!("{statements:?}") };
    assert_eq!(statement["Effect"], "Deny");
    assert_eq!(statement["Principal"], "*");
    assert_eq!(statement["Action"], "sns:Publish");
    assert_eq!(statement["Resource"], json!({ "Ref": "OrdersTopic" }));
    // Of a function that has assumed its role this is the role; a caller that has none is refused by a negation, too.
    let condition = statement["Condition"].as_object().expect("a condition");
    assert_eq!(condition.len(), 1);
    let admitted = condition["ArnNotEquals"].as_object().expect("a negation");
    assert_eq!(admitted.len(), 1);
    let admitted = list(&admitted["aws:PrincipalArn"]).into_iter();
    // A role that is there under a condition is named under the same.
    let admitted = admitted.map(|role| match &role["Fn::If"] {
        Value::Null => role,
        choice => &choice[1],
    });
    let admitted: BTreeSet<_> =
        admitted.map(|role| role["Fn::GetAtt"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(admitted, publishers);
}

/// What Stripe takes for the shop itself: no other function may read it, and these may read no other secret.
#[test]
fn the_payment_service_may_read_the_one_secret_and_nobody_else_may() {
    let template = Template::read();
    let mut readers = BTreeSet::new();
    for (name, role) in template.all(ROLE) {
        let statements = within(role).into_iter().filter(|value| value["Effect"] == "Allow");
        for statement in statements {
            let mut actions = list(&statement["Action"]).into_iter();
            if actions.any(|action| text(action).starts_with("secretsmanager:")) {
                assert_eq!(statement["Action"], "secretsmanager:GetSecretValue", "{name}");
                assert_eq!(statement["Resource"], json!({ "Ref": "StripeSecretArn" }), "{name}");
                readers.insert(name);
            }
        }
    }
    assert_eq!(readers, BTreeSet::from(["PaymentApiRole", "PaymentConsumerRole"]));
}

/// An event that stays pending is published again and again; whoever could clear those of others could lose them. What consumers
/// cause has no place in the outbox, but for a success that payment-consumer finds: no message has caused it.
#[test]
fn who_puts_events_into_the_outbox_and_the_relay_may_clear_it_and_nobody_else_may() {
    let template = Template::read();
    let event_log = json!({ "Fn::GetAtt": "EventLogTable.Arn" });
    for (name, role) in template.all(ROLE) {
        let grants: Vec<_> =
            within(role).into_iter().filter(|value| value["Effect"] == "Allow").collect();
        let of = |wanted: &str| -> Vec<&Value> {
            let is_wanted = |grant: &&&Value| {
                list(&grant["Action"]).into_iter().any(|action| text(action).starts_with(wanted))
            };
            grants.iter().filter(is_wanted).map(|grant| &grant["Resource"]).collect()
        };
        let uses_outbox =
            matches!(name, "OrderApiRole" | "PaymentApiRole" | "PaymentConsumerRole" | "RelayRole");
        let clears = of("dynamodb:PartiQL");
        assert_eq!(clears, if uses_outbox { vec![&event_log] } else { Vec::new() }, "{name}");
        assert_eq!(clears, of("dynamodb:PartiQLUpdate"), "{name} reads, makes or deletes items");
    }
}
