//! The topic, its queues, and what catches their failures.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    functions::all_mappings,
    read::{FUNCTION, QUEUE, TOPIC, Template, list, target},
};

const DAY: u64 = 24 * 60 * 60;
const POLICY: &str = "AWS::SQS::QueuePolicy";
const SUBSCRIPTION: &str = "AWS::SNS::Subscription";

/// What notification-consumer is given, by either of its queues.
const MAILED: &[&str] = &[
    "OrderCreated",
    "OrderAwaitingPayment",
    "OrderPaymentReminder",
    "OrderExpired",
    "OrderConfirmed",
    "OrderRejected",
    "OrderCancelled",
    "OrderShipped",
];

/// What each queue of the design is for.
const TAKES: [(&str, &[&str]); 7] = [
    ("ProductQueue", &["OrderCreated", "OrderCancelled", "OrderExpired"]),
    ("OrderQueue", &["StockReserved", "StockRejected", "PaymentSucceeded", "PaymentCancelled"]),
    ("NotificationQueue", MAILED),
    ("NotificationPriorityQueue", MAILED),
    ("PaymentQueue", &["OrderAwaitingPayment", "OrderCancelled", "OrderPaymentOverdue"]),
    (
        "AnalyticsQueue",
        &[
            "OrderCreated",
            "OrderAwaitingPayment",
            "OrderConfirmed",
            "OrderRejected",
            "OrderCancelled",
            "OrderShipped",
            "OrderExpired",
        ],
    ),
    (
        "PushQueue",
        &[
            "OrderAwaitingPayment",
            "OrderConfirmed",
            "OrderRejected",
            "OrderCancelled",
            "OrderShipped",
            "OrderExpired",
        ],
    ),
];

/// The dead-letter queue of each queue that has one.
fn dlqs(template: &Template) -> BTreeMap<&str, &str> {
    let queues = template.all(QUEUE);
    let pairs =
        queues.map(|(name, queue)| (name, target(&queue["RedrivePolicy"]["deadLetterTargetArn"])));
    pairs.filter(|(_, dlq)| !dlq.is_empty()).collect()
}

fn seconds(queue: &Value, property: &str) -> u64 {
    queue[property].as_u64().unwrap_or_default()
}

#[test]
fn every_queue_has_a_dlq_of_its_own_after_the_designed_number_of_tries() {
    let template = Template::read();
    let dlqs = dlqs(&template);
    assert!(dlqs.len() >= TAKES.len(), "this test has lost sight of the queues");
    for (name, queue) in template.all(QUEUE) {
        let served = dlqs.values().filter(|dlq| **dlq == name).count();
        let Some(dlq) = dlqs.get(name) else {
            assert_eq!(served, 1, "{name} has no DLQ, and is itself the DLQ of so many queues");
            continue;
        };
        assert_eq!(served, 0, "{name} is a DLQ with a DLQ");
        assert!(template.one(QUEUE, dlq).is_object(), "{dlq} is not there");
        // An hour in which Lambda throttles the consumer is a receive each visibility timeout, seen by no function: none
        // of its messages may reach the DLQ by that.
        let visibility = queue["VisibilityTimeout"].as_u64().expect("a visibility timeout");
        let receives = template.value(&queue["RedrivePolicy"]["maxReceiveCount"]).as_u64();
        assert!(receives.is_some_and(|receives| receives > 2 * 3600 / visibility), "{name}");
    }
}

#[test]
fn a_dlq_takes_only_what_its_queue_gives_up() {
    let template = Template::read();
    for (name, dlq) in dlqs(&template) {
        let queue_name =
            template.one(QUEUE, name)["QueueName"]["Fn::Sub"].as_str().unwrap_or_default();
        let arn = format!(
            "arn:${{AWS::Partition}}:sqs:${{AWS::Region}}:${{AWS::AccountId}}:{queue_name}"
        );
        let allowed =
            json!({ "redrivePermission": "byQueue", "sourceQueueArns": [{ "Fn::Sub": arn }] });
        assert_eq!(template.one(QUEUE, dlq)["RedriveAllowPolicy"], allowed, "{dlq}");
    }
}

#[test]
fn every_queue_is_encrypted_and_says_how_long_it_keeps_messages() {
    let template = Template::read();
    let dlqs = dlqs(&template);
    for (name, queue) in template.all(QUEUE) {
        assert_eq!(queue["SqsManagedSseEnabled"], true, "{name}");
        // A DLQ counts from when a message was first sent, so it must keep it for longer than the queue.
        let wanted = if dlqs.contains_key(name) { 4 * DAY } else { 14 * DAY };
        assert_eq!(seconds(queue, "MessageRetentionPeriod"), wanted, "{name}");
    }
}

#[test]
fn every_queue_has_one_consumer_and_hides_messages_for_six_times_its_timeout() {
    let template = Template::read();
    for name in dlqs(&template).into_keys() {
        let is_given = |function: &str| {
            let mut mappings = all_mappings(&template, function).into_iter();
            mappings.any(|mapping| target(&mapping["Queue"]) == name)
        };
        let functions = template.all(FUNCTION).filter(|(function, _)| is_given(function));
        let consumers: Vec<_> = functions.map(|(_, function)| function).collect();
        assert_eq!(consumers.len(), 1, "consumers of {name}");
        let wanted = 6 * seconds(consumers[0], "Timeout");
        assert_eq!(seconds(template.one(QUEUE, name), "VisibilityTimeout"), wanted, "{name}");
    }
}

/// Where what is on a queue comes from.
fn topic_of(queue: &str) -> &'static str {
    if queue.starts_with("Feedback") { "MailFeedbackTopic" } else { "OrdersTopic" }
}

/// The topic sends to the DLQs too: it puts there what it could not deliver to the queue.
#[test]
fn only_the_topic_is_let_into_the_queues() {
    let template = Template::read();
    let mut without_policy: Vec<_> = template.all(QUEUE).map(|(name, _)| name).collect();
    for (name, policy) in template.all(POLICY) {
        let queues: Vec<_> = list(&policy["Queues"]).into_iter().map(target).collect();
        let [queue] = queues[..] else { panic!("{name} is for {queues:?}") };
        let allowed = json!([{
            "Effect": "Allow",
            "Principal": { "Service": "sns.amazonaws.com" },
            "Action": "sqs:SendMessage",
            "Resource": { "Fn::GetAtt": format!("{queue}.Arn") },
            "Condition": { "ArnEquals": { "aws:SourceArn": { "Ref": topic_of(queue) } } },
        }]);
        assert_eq!(policy["PolicyDocument"]["Statement"], allowed, "{name}");
        without_policy.retain(|name| *name != queue);
    }
    assert!(without_policy.is_empty(), "the topic cannot send to {without_policy:?}");
}

#[test]
fn each_subscription_is_raw_filtered_and_loses_nothing() {
    let template = Template::read();
    let dlqs = dlqs(&template);
    let mut subscribed = Vec::new();
    for (name, subscription) in template.all(SUBSCRIPTION) {
        if name == "AlarmSubscription" {
            continue;
        }
        let queue = target(&subscription["Endpoint"]);
        subscribed.push(queue);
        assert_eq!(target(&subscription["TopicArn"]), topic_of(queue), "{name}");
        assert_eq!(subscription["Protocol"], "sqs", "{name}");
        assert_eq!(subscription["RawMessageDelivery"], true, "{name}");
        let types = list(&subscription["FilterPolicy"]["event_type"]);
        // SES has its own way to say what it publishes.
        if topic_of(queue) == "OrdersTopic" {
            assert_eq!(subscription["FilterPolicyScope"], "MessageAttributes", "{name}");
            assert!(!types.is_empty(), "{name} takes everything");
        }
        for event_type in types {
            let schema =
                format!("../events/schemas/{}.json", event_type.as_str().unwrap_or_default());
            assert!(
                Path::new(&schema).is_file(),
                "{name} takes {event_type}, which does not exist"
            );
        }
        let dlq =
            json!({ "deadLetterTargetArn": { "Fn::GetAtt": format!("{}.Arn", dlqs[queue]) } });
        assert_eq!(subscription["RedrivePolicy"], dlq, "{name}");
        // Before the policies are there, SNS could deliver neither to the queue nor to the DLQ.
        let after: Vec<_> = list(&template.0["Resources"][name]["DependsOn"]);
        for (policy, properties) in template.all(POLICY) {
            let let_in = target(list(&properties["Queues"])[0]);
            if let_in == queue || let_in == dlqs[queue] {
                assert!(
                    after.iter().any(|name| *name == policy),
                    "{name} does not wait for {policy}"
                );
            }
        }
    }
    subscribed.sort_unstable();
    assert_eq!(subscribed, dlqs.into_keys().collect::<Vec<_>>());
}

#[test]
fn each_service_is_sent_the_events_that_it_takes_and_no_others() {
    let template = Template::read();
    for (queue, types) in TAKES {
        let mut subscriptions = template.all(SUBSCRIPTION).map(|(_, properties)| properties);
        let subscription = subscriptions.find(|s| target(&s["Endpoint"]) == queue);
        let filter = subscription.map(|subscription| &subscription["FilterPolicy"]);
        let mut wanted = json!({ "event_type": types });
        match queue {
            // What is older than the attribute has none.
            "NotificationQueue" => {
                let normal = json!([{ "exists": false }, "normal"]);
                let all = json!({ "Ref": "AWS::NoValue" });
                wanted["priority"] = json!({ "Fn::If": ["NormalQueueFiltered", normal, all] });
            }
            "NotificationPriorityQueue" => wanted["priority"] = json!(["high"]),
            _ => {}
        }
        assert_eq!(filter, Some(&wanted), "{queue}");
    }
}

#[test]
fn every_dlq_raises_an_alarm_as_soon_as_something_is_on_it() {
    let template = Template::read();
    for dlq in dlqs(&template).into_values() {
        let on_it =
            json!([{ "Name": "QueueName", "Value": { "Fn::GetAtt": format!("{dlq}.QueueName") } }]);
        let mut alarms = template.all("AWS::CloudWatch::Alarm").map(|(_, alarm)| alarm);
        let alarm = alarms.find(|alarm| alarm["Dimensions"] == on_it).unwrap_or(&Value::Null);
        let metric = [&alarm["Namespace"], &alarm["MetricName"]];
        assert_eq!(metric, ["AWS/SQS", "ApproximateNumberOfMessagesVisible"], "{dlq}");
        let limit = [&alarm["ComparisonOperator"], &alarm["Threshold"]];
        assert_eq!(limit, [&json!("GreaterThanThreshold"), &json!(0)], "{dlq}");
    }
}

#[test]
fn every_topic_that_carries_events_is_encrypted() {
    let template = Template::read();
    // Those of alarms and of SES, which cannot be with this key, have tests of their own.
    let others = ["AlarmTopic", "MailFeedbackTopic"];
    for (name, topic) in template.all(TOPIC).filter(|(name, _)| !others.contains(name)) {
        assert_eq!(topic["KmsMasterKeyId"], "alias/aws/sns", "{name}");
    }
}

/// SES may not use the key alias/aws/sns, whose policy cannot be changed; and another account's SES is a stranger.
#[test]
fn ses_can_report_bounces_and_complaints_and_nobody_else_is_let_in() {
    let template = Template::read();
    assert!(template.one(TOPIC, "MailFeedbackTopic")["KmsMasterKeyId"].is_null());
    let policy = template.one("AWS::SNS::TopicPolicy", "MailFeedbackTopicPolicy");
    assert_eq!(policy["Topics"], json!([{ "Ref": "MailFeedbackTopic" }]));
    let set = "arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:configuration-set/${AWS::StackName}-mails";
    let allowed = json!([{
        "Effect": "Allow",
        "Principal": { "Service": "ses.amazonaws.com" },
        "Action": "sns:Publish",
        "Resource": { "Ref": "MailFeedbackTopic" },
        "Condition": {
            "StringEquals": { "aws:SourceAccount": { "Ref": "AWS::AccountId" } },
            "ArnEquals": { "aws:SourceArn": { "Fn::Sub": set } },
        },
    }]);
    assert_eq!(policy["PolicyDocument"]["Statement"], allowed);
    let called = &template.one("AWS::SES::ConfigurationSet", "MailConfigurationSet")["Name"];
    assert_eq!(*called, json!({ "Fn::Sub": "${AWS::StackName}-mails" }));
    let feedback = template.one("AWS::SES::ConfigurationSetEventDestination", "MailFeedback");
    let destination = &feedback["EventDestination"];
    assert_eq!(destination["MatchingEventTypes"], json!(["bounce", "complaint"]));
    assert_eq!(target(&destination["SnsDestination"]["TopicARN"]), "MailFeedbackTopic");
}
