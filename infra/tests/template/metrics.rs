//! Which metrics there are: those that functions emit, by their code, and those of AWS that are used.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    functions::{binary, mappings},
    read::{FUNCTION, Template, list},
};

/// AWS's own metrics that alarms and the dashboard are on, and the dimensions of each.
const OF_AWS: [(&str, &[&str], &[&str]); 7] = [
    (
        "AWS/SQS",
        &["ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"],
        &["QueueName"],
    ),
    ("AWS/SNS", &["NumberOfMessagesPublished", "NumberOfNotificationsFailed"], &["TopicName"]),
    ("AWS/ApiGateway", &["Count", "4XXError", "5XXError"], &["ApiName", "Stage"]),
    // Of a method only where its settings have MetricsEnabled.
    ("AWS/ApiGateway", &["Latency"], &["ApiName", "Stage", "Method", "Resource"]),
    ("AWS/Lambda", &["Errors", "Throttles", "Invocations", "Duration"], &["FunctionName"]),
    (
        "AWS/DynamoDB",
        &[
            "ReadThrottleEvents",
            "WriteThrottleEvents",
            "ConsumedReadCapacityUnits",
            "ConsumedWriteCapacityUnits",
        ],
        &["TableName"],
    ),
    ("AWS/Logs", &["IncomingBytes"], &["LogGroupName"]),
];

/// One metric that somebody looks at.
#[derive(Debug, Clone)]
pub(crate) struct Metric {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Their names, and values as the template writes them.
    pub(crate) dimensions: Vec<(String, Value)>,
}

impl Metric {
    /// As an alarm writes it, itself or in a calculation.
    pub(crate) fn of_alarm(fields: &Value) -> Self {
        let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let dimensions = list(&fields["Dimensions"]).into_iter();
        Self {
            namespace: text("Namespace"),
            name: text("MetricName"),
            dimensions: dimensions
                .map(|one| {
                    (one["Name"].as_str().unwrap_or_default().to_owned(), one["Value"].clone())
                })
                .collect(),
        }
    }

    /// That it exists: functions emit it, or AWS has it, for a resource that the template has.
    pub(crate) fn check(&self, template: &Template, who: &str) {
        let names: Vec<&str> = self.dimensions.iter().map(|(name, _)| name.as_str()).collect();
        if self.namespace == "Orderflow" {
            let [(_, function)] = &self.dimensions[..] else { panic!("{who} is on {self:?}") };
            assert_eq!(names, ["function"], "{who}");
            let emitted = emitted(template);
            let names = emitted.get(&function.to_string());
            let names = names.unwrap_or_else(|| panic!("{who} is on no function: {self:?}"));
            assert!(names.contains(&self.name), "{who} is on {}, of {names:?}", self.name);
            return;
        }
        let known = OF_AWS.iter().any(|(namespace, metrics, dimensions)| {
            self.namespace == *namespace && metrics.contains(&&*self.name) && names == *dimensions
        });
        assert!(known, "{who} is on {self:?}");
        for (name, value) in &self.dimensions {
            let is_there = match name.as_str() {
                "QueueName" => called(template, "AWS::SQS::Queue", "QueueName", value),
                "TopicName" => called(template, "AWS::SNS::Topic", "TopicName", value),
                "TableName" => called(template, "AWS::DynamoDB::Table", "TableName", value),
                "FunctionName" => called(template, FUNCTION, "FunctionName", value),
                "LogGroupName" => called(template, "AWS::Logs::LogGroup", "LogGroupName", value),
                "ApiName" => {
                    let api = template.one("AWS::Serverless::Api", "Api");
                    api["Name"] == *value || *value == json!({ "Fn::Sub": "${AWS::StackName}" })
                }
                _ => !value.is_null(),
            };
            assert!(is_there, "{who} is on no {name} of the template: {value}");
        }
    }
}

/// Whether a resource of this type is called so: by the name that it is given, or by a reference to it.
fn called(template: &Template, kind: &str, property: &str, value: &Value) -> bool {
    template.all(kind).any(|(name, properties)| {
        let references = [
            json!({ "Ref": name }),
            json!({ "Fn::GetAtt": format!("{name}.{property}") }),
            json!({ "Fn::Sub": format!("${{{name}}}") }),
            json!({ "Fn::Sub": format!("${{{name}.{property}}}") }),
        ];
        properties[property] == *value || references.contains(value)
    })
}

/// The Rust files below a folder.
pub(crate) fn sources(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(path.to_str().expect("text")));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).expect("text"));
        }
    }
    found
}

/// The metrics that a source emits: the names in its calls of `telemetry::count`, `gauge` and `report`.
fn emitted_by(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // However it is broken into lines.
    let source: String = source.split_whitespace().collect();
    for call in ["::count(&[(", "::gauge(&[(", "::report(&[("] {
        for after in source.split(call).skip(1) {
            let end = after.find("now").expect("the moment is the last argument");
            let arguments = format!("({}", &after[..end]);
            let quoted =
                arguments.split("(\"").skip(1).filter_map(|quoted| quoted.split('"').next());
            names.extend(quoted.map(str::to_owned));
        }
    }
    names
}

fn emitted_in(folder: &str) -> BTreeSet<String> {
    sources(folder).iter().flat_map(|source| emitted_by(source)).collect()
}

/// The metrics of each function, by what it is called on AWS.
pub(crate) fn emitted(template: &Template) -> BTreeMap<String, BTreeSet<String>> {
    let of_all = emitted_in("../crates/telemetry/src");
    let by_messaging = emitted_in("../crates/messaging/src");
    let (of_outbox, of_consumers): (BTreeSet<String>, BTreeSet<String>) =
        by_messaging.into_iter().partition(|name| name.starts_with("events_"));
    for (of, names, least) in
        [("all", &of_all, 1), ("outboxes", &of_outbox, 2), ("consumers", &of_consumers, 6)]
    {
        assert!(names.len() >= least, "this test has lost sight of the metrics of {of}: {names:?}");
    }
    let mut by_function = BTreeMap::new();
    for (_, function) in template.all(FUNCTION) {
        // A package is called as the first word of its binaries.
        let package = binary(function).split('-').next().unwrap_or_default();
        let folder = format!("../functions/{package}/src");
        let mut names = emitted_in(&folder);
        names.extend(of_all.iter().cloned());
        if mappings(function).next().is_some() {
            names.extend(of_consumers.iter().cloned());
        }
        if sources(&folder).iter().any(|source| source.contains("OutboxConfig")) {
            names.extend(of_outbox.iter().cloned());
        }
        by_function.insert(function["FunctionName"].to_string(), names);
    }
    by_function
}

/// As telemetry's `unit` has it.
fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("ms") => "Milliseconds",
        Some("seconds") => "Seconds",
        _ => "Count",
    }
}

#[test]
fn the_table_of_metrics_has_every_metric_of_the_code_with_its_unit_and_no_other() {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/telemetry.md");
    let text = fs::read_to_string(text).expect("docs/telemetry.md");
    let section = text.split("\n## Metrics\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut documented = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        assert!(documented.insert(name, cells[2]).is_none(), "{name} stands there twice");
        assert!(cells[4].len() > 10, "{name} is not explained");
    }
    let emitted: BTreeSet<String> = emitted(&Template::read()).into_values().flatten().collect();
    let names: BTreeSet<String> = documented.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(names, emitted);
    for (name, documented) in documented {
        assert_eq!(documented, unit(name), "{name}");
    }
}
