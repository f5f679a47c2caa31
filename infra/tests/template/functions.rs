//! Every function, and what feeds it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    parameters::takes,
    read::{FUNCTION, QUEUE, Template, target},
};

const LOG_GROUP: &str = "AWS::Logs::LogGroup";
/// What a consumer is given besides by its own queue.
const PRIORITY_QUEUE: &str = "NotificationPriorityQueue";
const MAPPING: &str = "AWS::Lambda::EventSourceMapping";

/// The name of a function's folder of code, which is that of its binary.
pub(crate) fn binary(function: &Value) -> &str {
    let code = function["CodeUri"].as_str().expect("a CodeUri");
    code.trim_start_matches("../target/lambda/").trim_end_matches('/')
}

/// What SAM has a function called by: nothing, where a WebSocket API calls it.
pub(crate) fn events(function: &Value) -> impl Iterator<Item = &Value> {
    function["Events"].as_object().into_iter().flat_map(|events| events.values())
}

/// The queues that a function is fed from, as the properties of SAM's mappings.
pub(crate) fn mappings(function: &Value) -> impl Iterator<Item = &Value> {
    events(function).filter(|event| event["Type"] == "SQS").map(|event| &event["Properties"])
}

/// The same, with those mappings that are resources of their own, as SAM would have them.
pub(crate) fn all_mappings(template: &Template, name: &str) -> Vec<Value> {
    let of_sam = mappings(template.one(FUNCTION, name)).cloned();
    // By its ARN: LocalStack resolves references before SAM has made the alias.
    let alias = format!(
        "arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:${{AWS::StackName}}-{}:live",
        binary(template.one(FUNCTION, name))
    );
    let written = template.all(MAPPING).map(|(_, mapping)| mapping);
    let written = written.filter(|mapping| mapping["FunctionName"]["Fn::Sub"] == alias);
    let as_sam = written.map(|mapping| {
        let mut mapping = mapping.clone();
        mapping["Queue"] = mapping["EventSourceArn"].take();
        mapping
    });
    of_sam.chain(as_sam).collect()
}

#[test]
fn every_function_is_called_after_its_binary() {
    let template = Template::read();
    assert!(template.all(FUNCTION).count() >= 5, "this test has lost sight of the functions");
    for (name, function) in template.all(FUNCTION) {
        let wanted = format!("${{AWS::StackName}}-{}", binary(function));
        assert_eq!(function["FunctionName"]["Fn::Sub"], wanted, "{name}");
    }
}

#[test]
fn every_function_has_a_log_group_with_retention() {
    let template = Template::read();
    let mut groups = BTreeSet::new();
    for (name, function) in template.all(FUNCTION) {
        let group = target(&function["LoggingConfig"]["LogGroup"]);
        assert!(groups.insert(group), "{name} shares {group}");
        let group = template.one(LOG_GROUP, group);
        // The name that `aws logs tail` and the console look for.
        let wanted = format!("/aws/lambda/${{AWS::StackName}}-{}", binary(function));
        assert_eq!(group["LogGroupName"]["Fn::Sub"], wanted, "{name}");
        let days = template.value(&group["RetentionInDays"]).as_u64();
        assert!(days.is_some_and(|days| days > 0), "{name} keeps its logs for ever");
    }
}

#[test]
fn every_consumer_reports_single_failures_and_has_a_maximum_of_concurrency() {
    let template = Template::read();
    let mut consumers = 0;
    for (name, function) in template.all(FUNCTION) {
        for mapping in all_mappings(&template, name) {
            consumers += 1;
            let reports = json!(["ReportBatchItemFailures"]);
            assert_eq!(mapping["FunctionResponseTypes"], reports, "{name}");
            let maximum = template.value(&mapping["ScalingConfig"]["MaximumConcurrency"]).as_u64();
            assert!(maximum.is_some_and(|maximum| (2..=1000).contains(&maximum)), "{name}");
            assert_eq!(function["Timeout"], 10, "{name}");
        }
    }
    assert!(consumers >= 3, "this test has lost sight of the mappings");
}

/// It tells SQS by its URL when to try again, and puts poison on the DLQ itself.
#[test]
fn a_consumer_knows_the_queue_that_feeds_it_and_that_queues_dlq() {
    let template = Template::read();
    for (name, function) in template.all(FUNCTION) {
        let variables = &function["Environment"]["Variables"];
        for mapping in all_mappings(&template, name) {
            let queue = target(&mapping["Queue"]);
            let redrive = &template.one(QUEUE, queue)["RedrivePolicy"];
            let dlq = target(&redrive["deadLetterTargetArn"]);
            if queue == PRIORITY_QUEUE {
                let if_there =
                    |name| json!({ "Fn::If": ["PriorityQueueExists", { "Ref": name }, "none"] });
                assert_eq!(variables["PRIORITY_QUEUE_URL"], if_there(queue));
                assert_eq!(variables["PRIORITY_DLQ_URL"], if_there(dlq));
            } else {
                assert_eq!(target(&variables["QUEUE_URL"]), queue, "{name}");
                assert_eq!(target(&variables["DLQ_URL"]), dlq, "{name}");
            }
        }
    }
}

/// All of it is there, or nothing; and the normal queue is spared only what the other is sure to be given.
#[test]
fn orders_with_high_priority_have_a_queue_of_their_own_only_where_that_is_asked_for() {
    let template = Template::read();
    let parameter = &template.0["Parameters"]["PriorityQueue"];
    assert_eq!(parameter["Default"], "off");
    assert_eq!(parameter["AllowedValues"], json!(["off", "starting", "on"]));
    let is = |value: &str| json!({ "Fn::Equals": [{ "Ref": "PriorityQueue" }, value] });
    let conditions = &template.0["Conditions"];
    assert_eq!(conditions["PriorityQueueExists"], json!({ "Fn::Not": [is("off")] }));
    assert_eq!(conditions["NormalQueueFiltered"], is("on"));
    // A function whose settings it cannot read would not start.
    let total = &template.0["Parameters"]["PriorityTotal"];
    for good in ["0", "10000", "99.9", "999999999.99"] {
        assert!(takes(total, good), "{good}");
    }
    for bad in ["", "-1", "1.234", "1e9", "1,000", "1234567890"] {
        assert!(!takes(total, bad), "{bad}");
    }
    let mut found = 0;
    for section in ["Resources", "Outputs"] {
        for (name, one) in template.0[section].as_object().expect(section) {
            let is_of_them = name.starts_with("NotificationPriority");
            found += usize::from(is_of_them);
            assert_eq!(one["Condition"] == "PriorityQueueExists", is_of_them, "{name}");
        }
    }
    // It is made after what its function's name does not refer to.
    let mapping = &template.0["Resources"]["NotificationPriorityMapping"];
    assert_eq!(mapping["DependsOn"], "NotificationConsumerAliaslive");
    assert_eq!(found, 12, "queues, policies, subscription, mapping, alarms and outputs");
    for name in ["OrderApi", "OrderConsumer", "Relay"] {
        let variables = &template.one(FUNCTION, name)["Environment"]["Variables"];
        assert_eq!(variables["PRIORITY_TOTAL"], json!({ "Ref": "PriorityTotal" }), "{name}");
    }
}

/// Without a share of its own a function can be left without any execution by whatever else runs in the account.
#[test]
fn every_function_can_have_a_share_of_the_accounts_executions_and_has_none_by_default() {
    let template = Template::read();
    let parameters = &template.0["Parameters"];
    let condition = json!({ "Fn::Equals": [{ "Ref": "ReserveConcurrency" }, "true"] });
    assert_eq!(template.0["Conditions"]["Reserved"], condition);
    // A new account has 10 executions in all: a share of them could not be deployed.
    assert_eq!(parameters["ReserveConcurrency"]["Default"], "false");
    let mut shares = 0;
    for (name, function) in template.all(FUNCTION) {
        let concurrency = mappings(function).next().map(|mapping| &mapping["ScalingConfig"]);
        let concurrency =
            concurrency.and_then(|config| config["MaximumConcurrency"]["Ref"].as_str());
        let parameter = concurrency.map_or_else(|| format!("{name}Reserve"), ToOwned::to_owned);
        let share =
            json!({ "Fn::If": ["Reserved", { "Ref": &parameter }, { "Ref": "AWS::NoValue" }] });
        assert_eq!(function["ReservedConcurrentExecutions"], share, "{name}");
        let number = |which: &str| parameters[&parameter][which].as_u64().expect("a number");
        shares += number("Default");
        assert!(number("MinValue") >= 1, "{name} would not run at all");
        // Lambda would receive messages for which it has no execution, and SQS count the receives.
        let used = all_mappings(&template, name);
        let used = used.iter().map(|mapping| &mapping["ScalingConfig"]["MaximumConcurrency"]);
        let fixed: u64 = used.clone().filter_map(Value::as_u64).sum();
        assert!(fixed <= number("MinValue"), "{name} uses {fixed}");
        let mut by_parameter = used.filter(|used| used.is_object());
        assert!(by_parameter.all(|used| used["Ref"] == *parameter), "{name}");
    }
    // Of the 1,000 of an account Lambda keeps 100 for functions without a share.
    assert!(shares <= 900, "{shares}");
}

/// Stripe takes 100 calls a second of an account, each of which takes it about half a second.
#[test]
fn payment_consumer_keeps_to_what_stripe_takes_by_default() {
    let template = Template::read();
    let mapping = mappings(template.one(FUNCTION, "PaymentConsumer")).next().expect("a queue");
    let calls = mapping["BatchSize"].as_u64().expect("a size");
    let maximum = template.value(&mapping["ScalingConfig"]["MaximumConcurrency"]);
    assert!(maximum.as_u64().is_some_and(|maximum| maximum * calls * 2 <= 100));
}

/// An outage of Stripe is as long as one of a mail provider; what a payment waits for must outlast it.
#[test]
fn an_outage_of_stripe_sends_no_payment_to_the_dlq() {
    let template = Template::read();
    let variables = |name: &str| &template.one(FUNCTION, name)["Environment"]["Variables"];
    let (payments, mails) = (variables("PaymentConsumer"), variables("NotificationConsumer"));
    assert_eq!(payments["GIVE_UP_AFTER_SECONDS"], mails["GIVE_UP_AFTER_SECONDS"]);
    let seconds = template.value(&payments["GIVE_UP_AFTER_SECONDS"]).as_u64();
    assert!(seconds.is_some_and(|seconds| seconds >= 6 * 3600));
}

/// Of an order's customer a function believes what the token says, whose secrets are the same everywhere.
#[test]
fn every_function_that_takes_order_tokens_has_the_same_secrets() {
    let template = Template::read();
    let variables = |name: &str| &template.one(FUNCTION, name)["Environment"]["Variables"];
    let orders = variables("OrderApi");
    for variable in ["ORDER_TOKEN_SECRET", "ORDER_TOKEN_SECRET_PREVIOUS"] {
        assert!(orders[variable].is_object());
        for function in ["PaymentApi", "PushApi"] {
            assert_eq!(variables(function)[variable], orders[variable], "{variable} of {function}");
        }
    }
}

/// One that expects payment beside one that does not would strand orders.
#[test]
fn every_function_of_orders_is_told_how_they_are_paid() {
    let template = Template::read();
    for name in ["OrderApi", "OrderConsumer", "Relay"] {
        let variables = &template.one(FUNCTION, name)["Environment"]["Variables"];
        assert_eq!(variables["PAYMENTS"], json!({ "Ref": "Payments" }), "{name}");
    }
}

/// The one would show what the other does not count into.
#[test]
fn the_analytics_that_are_counted_are_those_that_are_shown() {
    let template = Template::read();
    for name in ["AnalyticsApi", "AnalyticsConsumer"] {
        let variables = &template.one(FUNCTION, name)["Environment"]["Variables"];
        assert_eq!(variables["ANALYTICS_TABLE"], json!({ "Ref": "AnalyticsTable" }), "{name}");
        let generation = json!({ "Ref": "AnalyticsGeneration" });
        assert_eq!(variables["ANALYTICS_GENERATION"], generation, "{name}");
    }
}

/// What is begun in vain counts as an attempt.
#[test]
fn a_batch_of_mails_leaves_within_its_invocation_at_the_default_rate() {
    let template = Template::read();
    let consumer = template.one(FUNCTION, "NotificationConsumer");
    let mappings = all_mappings(&template, "NotificationConsumer");
    let [normal, priority] = &mappings[..] else { panic!("two queues: {mappings:?}") };
    let sizes = json!({ "Fn::If": ["PriorityQueueExists", 1, 3] });
    assert_eq!(normal["BatchSize"], sizes);
    assert_eq!(priority["BatchSize"], 1);
    let rate = template.0["Parameters"]["MailsPerSecond"]["Default"].as_u64().expect("a rate");
    let environments = normal["ScalingConfig"]["MaximumConcurrency"].as_u64().expect("a maximum");
    // The consumer begins no mail in the last 3 seconds.
    let seconds = consumer["Timeout"].as_u64().expect("a timeout") - 3;
    for (queues, mails) in [(1, 3), (2, 1)] {
        assert!(mails * environments * queues <= rate * seconds, "{mails} mails in {seconds} s");
    }
}

/// An account that is new to SES may send one mail a second; the consumer expects two environments for each of its queues.
#[test]
fn the_default_rate_of_mails_is_that_of_a_new_account() {
    let template = Template::read();
    assert_eq!(template.0["Parameters"]["MailsPerSecond"]["Default"], 1);
    for mapping in all_mappings(&template, "NotificationConsumer") {
        assert_eq!(mapping["ScalingConfig"]["MaximumConcurrency"], 2);
    }
}
