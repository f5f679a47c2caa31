//! Counts in CloudWatch's embedded metric format: a log line that CloudWatch turns into metrics.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "Orderflow";

/// Adds to metrics of this function, as of this moment. Counts of zero are left out, and a call with nothing else writes nothing.
pub fn count(counts: &[(&str, u64)], now: Timestamp) {
    let counts: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).copied().collect();
    if !counts.is_empty() {
        write(&counts, now);
    }
}

/// Reports the values at this moment: zeros too, so that an alarm can end.
pub fn gauge(values: &[(&str, u64)], now: Timestamp) {
    write(values, now);
}

fn write(values: &[(&str, u64)], now: Timestamp) {
    // The name has the stack's in it: stacks of one account do not mix.
    // Outside Lambda, as in a simulation, nobody reads them.
    let Ok(function) = std::env::var("AWS_LAMBDA_FUNCTION_NAME") else { return };
    // Nobody is there to hear of a closed stdout.
    let _ = writeln!(std::io::stdout().lock(), "{}", line(now.as_millisecond(), &function, values));
}

fn line(now_ms: i64, function: &str, counts: &[(&str, u64)]) -> String {
    let metrics: Vec<Value> =
        counts.iter().map(|(name, _)| json!({ "Name": name, "Unit": "Count" })).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".into(),
        json!({
            "Timestamp": now_ms,
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["function"]],
                "Metrics": metrics,
            }],
        }),
    );
    line.insert("function".into(), json!(function));
    for (name, count) in counts {
        line.insert((*name).into(), json!(count));
    }
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_one_line_that_cloudwatch_reads_as_a_metric() {
        let line = line(1_700_000_000_000, "shop-relay", &[("done", 3)]);
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["function"], "shop-relay");
        assert_eq!(line["done"], 3);
        let metrics = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(metrics["Dimensions"], json!([["function"]]));
        assert_eq!(metrics["Metrics"], json!([{ "Name": "done", "Unit": "Count" }]));
    }
}
