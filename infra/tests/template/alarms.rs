//! What an operator is alarmed by, and how it reaches him.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    functions::all_mappings,
    metrics::Metric,
    parameters::takes,
    read::{FUNCTION, TABLE, TOPIC, Template, list, target},
};

const ALARM: &str = "AWS::CloudWatch::Alarm";

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
    for (name, _) in template.all(FUNCTION) {
        for mapping in all_mappings(&template, name) {
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

/// The metrics that an alarm is on: one, or those of a calculation.
fn metrics_of(alarm: &Value) -> Vec<Metric> {
    if alarm["Metrics"].is_null() {
        return vec![Metric::of_alarm(alarm)];
    }
    let metrics = list(&alarm["Metrics"]).into_iter().map(|one| match &one["Fn::If"] {
        Value::Null => one,
        choice => &choice[1],
    });
    metrics
        .filter(|one| !one["MetricStat"].is_null())
        .map(|one| Metric::of_alarm(&one["MetricStat"]["Metric"]))
        .collect()
}

#[test]
fn every_alarm_is_on_metrics_that_exist() {
    let template = Template::read();
    for (name, alarm) in alarms(&template) {
        let metrics = metrics_of(alarm);
        assert!(!metrics.is_empty(), "{name}");
        // AWS's own limit for an alarm.
        assert!(metrics.len() <= 10, "{name} is on {} metrics", metrics.len());
        for metric in metrics {
            metric.check(&template, name);
        }
    }
}

/// One that nobody watches would be found when something else is looked for.
#[test]
fn every_queue_function_and_table_has_its_alarms() {
    let template = Template::read();
    let watched: Vec<Metric> =
        alarms(&template).into_iter().flat_map(|(_, alarm)| metrics_of(alarm)).collect();
    let is_watched = |metric: &str, values: &[Value]| {
        watched.iter().any(|one| {
            one.name == metric && one.dimensions.iter().any(|(_, value)| values.contains(value))
        })
    };
    for (name, function) in template.all(FUNCTION) {
        let called = [function["FunctionName"].clone()];
        for metric in ["Errors", "Throttles"] {
            assert!(is_watched(metric, &called), "{metric} of {name}");
        }
        for mapping in all_mappings(&template, name) {
            let queue = target(&mapping["Queue"]);
            let of_queue = [json!({ "Fn::GetAtt": format!("{queue}.QueueName") })];
            assert!(is_watched("ApproximateNumberOfMessagesVisible", &of_queue), "{queue}");
            assert!(is_watched("retried", &called), "{name}");
        }
    }
    for (name, _) in template.all(TABLE) {
        for metric in ["ReadThrottleEvents", "WriteThrottleEvents"] {
            assert!(is_watched(metric, &[json!({ "Ref": name })]), "{metric} of {name}");
        }
    }
    let thresholds: BTreeMap<&str, u64> = alarms(&template)
        .into_iter()
        .filter_map(|(name, alarm)| Some((name, alarm["Threshold"].as_u64()?)))
        .collect();
    for (name, wanted) in [
        ("OrderBacklogAlarm", 1_000),
        ("OrderLagAlarm", 60_000),
        ("OrderErrorsAlarm", 5),
        ("OutboxOldAlarm", 3 * 60),
    ] {
        assert_eq!(thresholds[name], wanted, "{name}");
    }
}

/// No data is what a silent relay looks like.
#[test]
fn a_relay_that_does_not_run_raises_an_alarm() {
    let template = Template::read();
    let alarm = template.one(ALARM, "RelaySilentAlarm");
    assert_eq!(alarm["TreatMissingData"], "breaching");
    assert_eq!(alarm["Statistic"], "SampleCount");
    assert_eq!(alarm["ComparisonOperator"], "LessThanThreshold");
}
