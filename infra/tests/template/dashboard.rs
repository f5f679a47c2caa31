//! What an operator looks at: the dashboard, saved queries, the API's access logs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    metrics::Metric,
    read::{FUNCTION, QUEUE, Template, list, target, within},
};

/// The dashboard's body, whose `${…}` are left as they are.
fn dashboard(template: &Template) -> Value {
    let dashboard = template.one("AWS::CloudWatch::Dashboard", "Dashboard");
    let body = dashboard["DashboardBody"]["Fn::Sub"].as_str().expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("the dashboard is no JSON: {error}"))
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    let template = Template::read();
    let dashboard = dashboard(&template);
    let mut used = BTreeSet::new();
    for widget in list(&dashboard["widgets"]) {
        let title = widget["properties"]["title"].as_str().expect("a title");
        for metric in list(&widget["properties"]["metrics"]) {
            let metric = metric.as_array().expect("a metric");
            let texts: Vec<&str> = metric.iter().filter_map(Value::as_str).collect();
            let [namespace, name, dimensions @ ..] = &texts[..] else { panic!("{title}") };
            let (pairs, rest) = dimensions.as_chunks::<2>();
            assert!(rest.is_empty(), "{title}: {texts:?}");
            let value = |value: &str| {
                if value.contains("${") { json!({ "Fn::Sub": value }) } else { json!(value) }
            };
            let dimensions = pairs.iter().map(|[name, text]| ((*name).to_owned(), value(text)));
            let (namespace, name) = ((*namespace).to_owned(), (*name).to_owned());
            used.insert(name.clone());
            Metric { namespace, name, dimensions: dimensions.collect() }.check(&template, title);
        }
    }
    // Rates, lag, depth, errors, cold starts, and what is paid for.
    for wanted in [
        "orders_placed",
        "orders_confirmed",
        "order_settled_ms",
        "event_age_ms",
        "ApproximateNumberOfMessagesVisible",
        "retried",
        "Errors",
        "cold_starts",
        "Duration",
        "ConsumedWriteCapacityUnits",
        "IncomingBytes",
    ] {
        assert!(used.contains(wanted), "{wanted} is not on the dashboard");
    }
}

#[test]
fn every_queue_and_every_dlq_is_on_the_dashboard() {
    let template = Template::read();
    let dashboard = dashboard(&template);
    let texts: BTreeSet<&str> = within(&dashboard).into_iter().filter_map(Value::as_str).collect();
    for (name, queue) in template.all(QUEUE) {
        let called = queue["QueueName"]["Fn::Sub"].as_str().expect("a name");
        assert!(texts.contains(called), "{name} is not on the dashboard");
    }
}

#[test]
fn no_widget_of_the_dashboard_covers_another() {
    let dashboard = dashboard(&Template::read());
    let mut cells = BTreeSet::new();
    for widget in list(&dashboard["widgets"]) {
        let number = |name: &str| widget[name].as_u64().expect("a number");
        let (x, y, width, height) = (number("x"), number("y"), number("width"), number("height"));
        assert!(x + width <= 24, "{widget} is wider than the page");
        for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(cells.insert(cell), "{widget} covers another");
        }
    }
}

#[test]
fn every_saved_query_reads_the_logs_of_every_function() {
    let template = Template::read();
    let groups: BTreeSet<&str> = template
        .all(FUNCTION)
        .map(|(_, function)| target(&function["LoggingConfig"]["LogGroup"]))
        .collect();
    let mut called = BTreeSet::new();
    for (name, query) in template.all("AWS::Logs::QueryDefinition") {
        let named = within(&query["LogGroupNames"]).into_iter().map(target);
        let named: BTreeSet<&str> =
            named.filter(|name| !name.is_empty() && *name != "AWS::NoValue").collect();
        assert_eq!(named, groups, "{name}");
        let text = query["QueryString"].as_str().expect("a query");
        for line in text.lines().skip(1) {
            assert!(line.starts_with("| "), "{name}: {line}");
        }
        called.insert(query["Name"]["Fn::Sub"].as_str().expect("a name"));
    }
    let wanted = ["cold-starts", "errors", "slowest-invocations", "story-of-an-order"];
    let wanted: BTreeSet<String> =
        wanted.map(|name| format!("${{AWS::StackName}}/{name}")).into_iter().collect();
    assert_eq!(called, wanted.iter().map(String::as_str).collect());
}

/// The path has the ids of orders in it, a query may have a customer's address, and an address of the network is a person's.
#[test]
fn the_apis_access_logs_are_json_without_personal_data() {
    let template = Template::read();
    let setting = &template.one("AWS::Serverless::Api", "Api")["AccessLogSetting"]["Fn::If"][1];
    assert_eq!(setting["DestinationArn"], json!({ "Fn::GetAtt": "ApiLogs.Arn" }));
    let format = setting["Format"].as_str().expect("a format");
    assert!(!format.contains('\n'), "API Gateway wants one line");
    let format: Value = serde_json::from_str(format).expect("JSON");
    let fields = format.as_object().expect("an object");
    for (name, value) in fields {
        let variable = value.as_str().expect("a text");
        assert!(variable.starts_with("$context."), "{name}");
        for personal in ["path", "query", "identity", "authorizer", "domainName", "override"] {
            let is_route = variable == "$context.resourcePath";
            assert!(is_route || !variable.to_lowercase().contains(personal), "{name}: {variable}");
        }
    }
    for wanted in ["request_id", "function_request_id", "route", "status", "latency_ms"] {
        assert!(fields.contains_key(wanted), "{wanted} is missing");
    }
    let logs = template.one("AWS::Logs::LogGroup", "ApiLogs");
    assert_eq!(logs["RetentionInDays"], json!({ "Ref": "RetentionDays" }));
}

/// MiniStack refuses a template with saved queries, or with alarms that calculate, in it.
#[test]
fn what_an_emulator_refuses_is_there_under_the_condition_alone() {
    let template = Template::read();
    let resources = template.0["Resources"].as_object().expect("resources");
    for (name, resource) in resources {
        let kind = resource["Type"].as_str().unwrap_or_default();
        let is_refused = match kind {
            "AWS::CloudWatch::Dashboard"
            | "AWS::Logs::QueryDefinition"
            | "AWS::ApiGateway::Account" => true,
            "AWS::CloudWatch::Alarm" => !resource["Properties"]["Metrics"].is_null(),
            _ => false,
        };
        if is_refused {
            let condition = resource["Condition"].as_str().unwrap_or_default();
            assert!(condition.starts_with("FullObservability"), "{name}: {condition:?}");
        }
    }
    let full = json!({ "Fn::Equals": [{ "Ref": "Observability" }, "full"] });
    assert_eq!(template.0["Conditions"]["FullObservability"], full);
    assert_eq!(template.0["Parameters"]["Observability"]["Default"], "full");
}
