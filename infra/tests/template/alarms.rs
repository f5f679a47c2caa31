//! What an operator is alarmed by, and how it reaches him.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    functions::{binary, mappings},
    parameters::takes,
    read::{FUNCTION, QUEUE, TOPIC, Template, list, target},
};

const ALARM: &str = "AWS::CloudWatch::Alarm";
const SQS_METRICS: [&str; 2] =
    ["ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"];

/// All alarms; there have to be some.
fn alarms(template: &Template) -> Vec<(&str, &Value)> {
    let alarms: Vec<_> = template.all(ALARM).collect();
    assert!(alarms.len() >= 8, "this test has lost sight of the alarms");
    alarms
}

#[test]
fn every_alarm_says_to_the_alarm_topic_when_it_begins_and_when_it_ends() {
    let template = Template::read();
    for (name, alarm) in alarms(&template) {
        for actions in ["AlarmActions", "OKActions"] {
            assert_eq!(alarm[actions], json!([{ "Ref": "AlarmTopic" }]), "{actions} of {name}");
        }
        assert!(alarm["ActionsEnabled"].is_null(), "{name}");
        // The topic lets in what is called so.
        let called = alarm["AlarmName"]["Fn::Sub"].as_str().unwrap_or_default();
        assert!(called.starts_with("${AWS::StackName}-"), "{name}");
    }
}

/// Who is woken by an alarm reads its description, and there where to go on.
#[test]
fn every_alarm_points_to_its_section_of_the_runbook_and_every_section_is_of_an_alarm() {
    let template = Template::read();
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbook.md");
    let runbook = fs::read_to_string(runbook).expect("docs/runbook.md");
    let sections: BTreeMap<&str, &str> =
        runbook.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let mut names = BTreeSet::new();
    for (_, alarm) in alarms(&template) {
        let called = alarm["AlarmName"]["Fn::Sub"].as_str().unwrap_or_default();
        let name = called.trim_start_matches("${AWS::StackName}-");
        names.insert(name);
        let description = alarm["AlarmDescription"].as_str().unwrap_or_default();
        assert!(
            description.ends_with(&format!(" docs/runbook.md#{name}")),
            "{name}: {description}"
        );
        let section = sections.get(name).unwrap_or_else(|| panic!("the runbook has no {name}"));
        let section = without_consoles(section).to_lowercase();
        for part in ["for customers:", "look", "do", "never", "over"] {
            assert!(section.contains(part), "{name} does not say {part:?}");
        }
    }
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), names);
}

/// A section without what commands print, which says nothing of what to do.
fn without_consoles(section: &str) -> String {
    let parts = section.split("```");
    parts.step_by(2).collect()
}

/// CloudWatch may not use the key alias/aws/sns, whose policy cannot be changed.
#[test]
fn cloudwatch_can_publish_to_the_alarm_topic_and_nobody_else_is_let_in() {
    let template = Template::read();
    assert!(template.one(TOPIC, "AlarmTopic").is_object());
    assert!(template.one(TOPIC, "AlarmTopic")["KmsMasterKeyId"].is_null());
    let policy = template.one("AWS::SNS::TopicPolicy", "AlarmTopicPolicy");
    assert_eq!(policy["Topics"], json!([{ "Ref": "AlarmTopic" }]));
    let alarms = "arn:${AWS::Partition}:cloudwatch:${AWS::Region}:${AWS::AccountId}:alarm:${AWS::StackName}-*";
    let allowed = json!([{
        "Effect": "Allow",
        "Principal": { "Service": "cloudwatch.amazonaws.com" },
        "Action": "sns:Publish",
        "Resource": { "Ref": "AlarmTopic" },
        "Condition": { "ArnLike": { "aws:SourceArn": { "Fn::Sub": alarms } } },
    }]);
    assert_eq!(policy["PolicyDocument"]["Statement"], allowed);
}

#[test]
fn alarms_are_mailed_to_whom_the_deployment_names_and_to_nobody_without_a_name() {
    let template = Template::read();
    let subscription = &template.0["Resources"]["AlarmSubscription"];
    assert_eq!(subscription["Condition"], "AlarmByEmail");
    let wanted = json!({
        "TopicArn": { "Ref": "AlarmTopic" },
        "Protocol": "email",
        "Endpoint": { "Ref": "AlarmEmail" },
    });
    assert_eq!(subscription["Properties"], wanted);
    let named = json!({ "Fn::Not": [{ "Fn::Equals": [{ "Ref": "AlarmEmail" }, ""] }] });
    assert_eq!(template.0["Conditions"]["AlarmByEmail"], named);
    let parameter = &template.0["Parameters"]["AlarmEmail"];
    assert_eq!(parameter["Default"], "");
    assert!(takes(parameter, "operator@example.com"));
    for bad in ["operator", "@example.com", "a@b", "a b@example.com", "a@b@example.com"] {
        assert!(!takes(parameter, bad), "{bad}");
    }
}

/// No metric tells of a disabled mapping, but its queue gets older.
#[test]
fn a_consumer_that_was_paused_and_forgotten_raises_an_alarm() {
    let template = Template::read();
    let mut consumers = 0;
    for (name, function) in template.all(FUNCTION) {
        for mapping in mappings(function) {
            consumers += 1;
            let queue = target(&mapping["Queue"]);
            let of_queue = json!([
                { "Name": "QueueName", "Value": { "Fn::GetAtt": format!("{queue}.QueueName") } }
            ]);
            let alarm = alarms(&template).into_iter().map(|(_, alarm)| alarm).find(|alarm| {
                alarm["Dimensions"] == of_queue
                    && alarm["MetricName"] == "ApproximateAgeOfOldestMessage"
            });
            let alarm = alarm.unwrap_or_else(|| panic!("{name} can be paused unnoticed"));
            // The highest age of a minute. With an average or a sum the threshold would not be one of an age.
            let fields = [&alarm["Statistic"], &alarm["Period"], &alarm["EvaluationPeriods"]];
            assert_eq!(fields, [&json!("Maximum"), &json!(60), &json!(1)], "{name}");
            assert_eq!(alarm["ComparisonOperator"], "GreaterThanThreshold", "{name}");
            assert_eq!(alarm["Threshold"], json!({ "Ref": "OldestMessageMaxSeconds" }), "{name}");
        }
    }
    assert!(consumers >= 3, "this test has lost sight of the mappings");
}

/// SQS counts the age of a message until its third receive.
#[test]
fn a_message_that_is_being_retried_is_no_forgotten_one() {
    let template = Template::read();
    let schedule = &template.0["Parameters"]["RetrySchedule"]["Default"];
    let waits = schedule.as_str().expect("a schedule").split(',');
    let retried: u64 = waits.take(3).map(|wait| wait.parse::<u64>().expect("seconds")).sum();
    let maximum = &template.0["Parameters"]["OldestMessageMaxSeconds"]["Default"];
    assert!(maximum.as_u64().is_some_and(|maximum| maximum > retried), "{retried}");
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).expect("text"));
        }
    }
    found
}

/// The metrics that the code in a folder emits: the names in `telemetry::count(&[("name", …), …])` and `gauge`.
fn emitted_by(folder: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources(Path::new(folder)) {
        // However it is broken into lines.
        let source: String = source.split_whitespace().collect();
        for call in ["telemetry::count(&[", "telemetry::gauge(&["] {
            for after in source.split(call).skip(1) {
                let arguments = after.split("],").next().unwrap_or_default();
                let quoted = arguments.split("(\"").skip(1);
                names.extend(quoted.filter_map(|q| q.split('"').next()).map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn every_alarm_is_on_a_metric_that_exists() {
    let template = Template::read();
    let telemetry = sources(Path::new("../crates/telemetry/src")).concat();
    for emitted in [r#"const NAMESPACE: &str = "Orderflow";"#, r#""Dimensions": [["function"]]"#] {
        assert!(telemetry.contains(emitted), "telemetry has changed: {emitted}");
    }
    let by_consumers = emitted_by("../crates/messaging/src");
    let by_relay = emitted_by("../functions/relay/src");
    for (name, names) in [("consumers", &by_consumers), ("the relay", &by_relay)] {
        assert!(names.len() >= 4, "this test has lost sight of the metrics of {name}: {names:?}");
    }
    // By what a function is called on AWS.
    let mut by_function = BTreeMap::new();
    for (_, function) in template.all(FUNCTION) {
        let mut names = emitted_by_own(binary(function));
        if mappings(function).next().is_some() {
            names.extend(by_consumers.iter().cloned());
        }
        by_function.insert(function["FunctionName"].clone().to_string(), names);
    }
    for (name, alarm) in alarms(&template) {
        let dimensions = list(&alarm["Dimensions"]);
        let [dimension] = dimensions[..] else { panic!("{name} is on {dimensions:?}") };
        let metric = alarm["MetricName"].as_str().unwrap_or_default();
        match alarm["Namespace"].as_str() {
            Some("AWS/SQS") => {
                assert!(SQS_METRICS.contains(&metric), "{name} is on {metric}");
                assert_eq!(dimension["Name"], "QueueName", "{name}");
                let queue = target(&dimension["Value"]);
                assert!(template.one(QUEUE, queue).is_object(), "{name} is on {queue}");
                let of_name = json!({ "Fn::GetAtt": format!("{queue}.QueueName") });
                assert_eq!(dimension["Value"], of_name, "{name}");
            }
            Some("Orderflow") => {
                assert_eq!(dimension["Name"], "function", "{name}");
                let names = by_function.get(&dimension["Value"].to_string());
                let names = names.unwrap_or_else(|| panic!("{name} is on no function"));
                assert!(names.contains(metric), "{name} is on {metric}, of {names:?}");
            }
            other => panic!("{name} is on a metric of {other:?}"),
        }
    }
}

/// What a function emits by its own code; its package is called as the first word of its binary.
fn emitted_by_own(binary: &str) -> BTreeSet<String> {
    let package = binary.split('-').next().unwrap_or_default();
    emitted_by(&format!("../functions/{package}/src"))
}
