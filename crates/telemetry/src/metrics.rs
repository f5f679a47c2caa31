//! Metrics in CloudWatch's embedded metric format: a log line that CloudWatch turns into metrics.
//!
//! In: names with their values, and the moment that they are of. Out: one line on stdout, where a value is one number or a
//! list of them. Guarantees: the unit follows from the name (`_ms` milliseconds, `_seconds` seconds, else a count); the one
//! dimension is the function's name; a line has at most as many values as CloudWatch takes. What there is stands in
//! docs/telemetry.md.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{fmt::Write as _, io::Write as _, sync::LazyLock};

use jiff::Timestamp;

const NAMESPACE: &str = "Orderflow";
/// The dimension of every metric. The function's name has the stack's in it, so stacks of one account do not mix; another
/// dimension would be another metric to pay for.
const DIMENSION: &str = "function";
/// Values of one metric in a line, at most.
const VALUES_MAX: usize = 100;

/// The function's name; outside Lambda, as in a simulation, there is none, and nobody reads metrics.
static FUNCTION: LazyLock<Option<String>> =
    LazyLock::new(|| std::env::var("AWS_LAMBDA_FUNCTION_NAME").ok());

/// Adds to metrics of this function, as of this moment. Counts of zero are left out, and a call with nothing else writes nothing.
pub fn count(counts: &[(&str, u64)], now: Timestamp) {
    report(counts, &[], now);
}

/// As [`count`], with metrics of many values beside it, each of which is one observation. Those without any are left out.
pub fn report(counts: &[(&str, u64)], observed: &[(&str, &[u64])], now: Timestamp) {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(name, count)| (*name, std::slice::from_ref(count)));
    let observed = observed.iter().filter(|(_, values)| !values.is_empty()).copied();
    write(counts.chain(observed), now);
}

/// Reports the values at this moment: zeros too, so that an alarm can end.
pub fn gauge(values: &[(&str, u64)], now: Timestamp) {
    write(values.iter().map(|(name, value)| (*name, std::slice::from_ref(value))), now);
}

fn write<'a>(values: impl Iterator<Item = (&'a str, &'a [u64])> + Clone, now: Timestamp) {
    let Some(function) = &*FUNCTION else { return };
    if values.clone().next().is_none() {
        return;
    }
    let line = line(now.as_millisecond(), function, values);
    // Nobody is there to hear of a closed stdout.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn unit(name: &str) -> &'static str {
    match name.rsplit('_').next() {
        Some("ms") => "Milliseconds",
        Some("seconds") => "Seconds",
        _ => "Count",
    }
}

fn line<'a>(
    now_ms: i64,
    function: &str,
    values: impl Iterator<Item = (&'a str, &'a [u64])> + Clone,
) -> String {
    let mut metrics = String::new();
    let mut members = String::new();
    for (name, values) in values {
        let comma = if metrics.is_empty() { "" } else { "," };
        let _ = write!(metrics, r#"{comma}{{"Name":"{name}","Unit":"{}"}}"#, unit(name));
        let _ = match values {
            [value] => write!(members, r#","{name}":{value}"#),
            values => {
                write!(members, r#","{name}":{:?}"#, &values[..values.len().min(VALUES_MAX)])
            }
        };
    }
    // Lambda's names of functions, and our own of metrics, need no escape.
    format!(
        r#"{{"_aws":{{"Timestamp":{now_ms},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}","Dimensions":[["{DIMENSION}"]],"Metrics":[{metrics}]}}]}},"{DIMENSION}":"{function}"{members}}}
"#
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn written(values: &[(&str, &[u64])]) -> Value {
        let line = line(1_700_000_000_000, "shop-relay", values.iter().copied());
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
        serde_json::from_str(&line).expect("JSON")
    }

    #[test]
    fn a_count_is_one_line_that_cloudwatch_reads_as_a_metric() {
        let line = written(&[("done", &[3])]);
        assert_eq!(line["function"], "shop-relay");
        assert_eq!(line["done"], 3);
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_000_i64);
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metrics["Namespace"], "Orderflow");
        assert_eq!(metrics["Dimensions"], json!([["function"]]));
        assert_eq!(metrics["Metrics"], json!([{ "Name": "done", "Unit": "Count" }]));
    }

    #[test]
    fn the_unit_of_a_metric_follows_from_its_name() {
        let line = written(&[("event_age_ms", &[3, 4]), ("oldest_seconds", &[5]), ("terms", &[6])]);
        assert_eq!(line["event_age_ms"], json!([3, 4]));
        let metrics = &line["_aws"]["CloudWatchMetrics"][0]["Metrics"];
        let units: Vec<_> = (0..3).map(|at| metrics[at]["Unit"].clone()).collect();
        assert_eq!(units, ["Milliseconds", "Seconds", "Count"]);
    }

    /// The schema is the specification's, in emf.schema.json.
    #[test]
    fn every_line_is_valid_by_cloudwatchs_own_schema_and_has_what_it_declares() {
        let schema = serde_json::from_str(include_str!("emf.schema.json")).expect("JSON");
        let schema = jsonschema::validator_for(&schema).expect("a schema");
        let many: Vec<u64> = (0..250).collect();
        for values in [
            &[("done", &[3][..])][..],
            &[("retried", &[u64::MAX]), ("event_age_ms", &[1, 2, 3]), ("batch_ms", &[9])],
            &[("event_age_ms", &many)],
        ] {
            let line = written(values);
            assert!(schema.is_valid(&line), "{line}");
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            let metrics = directive["Metrics"].as_array().expect("a list");
            assert!(metrics.len() <= 100, "{line}");
            for metric in metrics {
                let value = &line[metric["Name"].as_str().expect("a name")];
                let count = value.as_array().map_or(1, Vec::len);
                assert!((value.is_u64() || value.is_array()) && count <= 100, "{line}");
            }
            for dimension in directive["Dimensions"][0].as_array().expect("a list") {
                assert!(line[dimension.as_str().expect("a name")].is_string(), "{line}");
            }
        }
        assert!(!schema.is_valid(&json!({ "done": 3 })), "the schema refuses nothing");
    }
}
