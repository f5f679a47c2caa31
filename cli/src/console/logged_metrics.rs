//! The metrics that functions write, read out of their log lines: for an endpoint whose CloudWatch does not make metrics of them.
//!
//! In: log lines in the embedded metric format (crates/telemetry). Out: the values of each metric in each minute. Guarantees: a
//! minute that may still grow is read again and replaces what was known of it, so that nothing counts twice; memory is bounded by
//! the hour that charts show, and what was not read for want of time is a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::{
    error::CliError,
    log_events::{self, Wanted},
    metrics::{MINUTE_SECONDS, MetricId, MetricOwner, Minutes},
    stack::Stack,
};

/// For how long after its end a minute's lines may still come.
const LATE_SECONDS: i64 = 60;
/// How often the log groups are read at most.
const READ_PAUSE: Duration = Duration::from_secs(10);
/// For how long they are read.
const READ_TIME: Duration = Duration::from_secs(4);
/// Number of log groups that are read at the same time.
const GROUPS_AT_ONCE: usize = 4;

/// What is known of the last hour.
#[derive(Debug, Default)]
pub(crate) struct LoggedMetrics {
    read_at: Option<Instant>,
    functions: BTreeMap<String, FunctionMetrics>,
}

/// The values of a function's metrics, by the second in which a minute begins, and by name.
#[derive(Debug, Default)]
struct FunctionMetrics {
    minutes: BTreeMap<i64, BTreeMap<String, Vec<f64>>>,
}

impl LoggedMetrics {
    /// Reads what the functions of these metrics have logged since the last time.
    ///
    /// # Errors
    /// CloudWatch Logs does not answer.
    pub(crate) async fn read(
        &mut self,
        stack: &Stack,
        metrics: &[MetricId],
        minutes: Minutes,
    ) -> Result<(), CliError> {
        if self.read_at.is_some_and(|at| at.elapsed() < READ_PAUSE) {
            return Ok(());
        }
        let deadline = Instant::now() + READ_TIME;
        let functions: BTreeSet<String> =
            metrics.iter().filter_map(function_of).map(str::to_owned).collect();
        let mut reads = Vec::new();
        for function in functions {
            let known = self.functions.get(&function);
            let from = known.map_or(minutes.from, |known| known.grows_from(minutes));
            reads.push(read_lines(stack, function, from, deadline));
        }
        let read: Vec<(String, i64, Vec<String>)> =
            stream::iter(reads).buffer_unordered(GROUPS_AT_ONCE).try_collect().await?;
        for (function, from, lines) in read {
            let known = self.functions.entry(function).or_default();
            known.minutes.retain(|minute, _| (minutes.from..from).contains(minute));
            lines.iter().for_each(|line| known.add(line, from));
        }
        self.read_at = Some(Instant::now());
        Ok(())
    }

    /// The values of a metric, by minute.
    pub(crate) fn values(&self, metric: &MetricId, minutes: Minutes) -> Vec<Option<f64>> {
        let known = function_of(metric).and_then(|function| self.functions.get(function));
        let value = |start: i64| {
            let values = known?.minutes.get(&start)?.get(metric.name)?;
            metric.statistic.of(&mut values.clone())
        };
        minutes.starts().into_iter().map(value).collect()
    }
}

fn function_of(metric: &MetricId) -> Option<&str> {
    match &metric.of {
        MetricOwner::Function(name) => Some(name),
        MetricOwner::Queue(_) => None,
    }
}

impl FunctionMetrics {
    /// When the first minute begins that may still grow, or that nothing is known of.
    fn grows_from(&self, minutes: Minutes) -> i64 {
        let newest = self.minutes.last_key_value().map_or(minutes.from, |(minute, _)| *minute);
        let late = (newest - LATE_SECONDS).div_euclid(MINUTE_SECONDS) * MINUTE_SECONDS;
        late.max(minutes.from)
    }

    /// Adds the values of a line, unless it is of a minute that was read before.
    fn add(&mut self, line: &str, from: i64) {
        let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return };
        let Some(at_ms) = fields.get("_aws").and_then(|aws| aws["Timestamp"].as_i64()) else {
            return;
        };
        let minute = at_ms.div_euclid(1_000 * MINUTE_SECONDS) * MINUTE_SECONDS;
        if minute < from {
            return;
        }
        let metrics = self.minutes.entry(minute).or_default();
        for (name, value) in fields {
            let values = metrics.entry(name).or_default();
            match value {
                Value::Array(many) => values.extend(many.iter().filter_map(Value::as_f64)),
                one => values.extend(one.as_f64()),
            }
        }
    }
}

/// The lines with metrics that a function has logged since a moment, as far as they can be read by the deadline; with both.
async fn read_lines(
    stack: &Stack,
    function: String,
    from: i64,
    deadline: Instant,
) -> Result<(String, i64, Vec<String>), CliError> {
    let (pattern, from_ms) = ("\"CloudWatchMetrics\"", from * 1_000);
    let wanted = Wanted { function: &function, pattern, from_ms, deadline };
    let mut lines = Vec::new();
    log_events::read(stack, wanted, |events| {
        for message in events.into_iter().filter_map(|event| event.message) {
            let is_metric = |line: &&str| line.contains(pattern);
            lines.extend(message.lines().filter(is_metric).map(str::to_owned));
        }
        true
    })
    .await?;
    Ok((function, from, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Statistic;

    fn line(at_ms: i64, fields: &str) -> String {
        format!(
            r#"{{"_aws":{{"Timestamp":{at_ms},"CloudWatchMetrics":[]}},"function":"f"{fields}}}"#
        )
    }

    #[test]
    fn values_of_a_minute_are_put_together_and_other_lines_are_none() {
        let mut known = FunctionMetrics::default();
        known.add(&line(60_500, r#","order_settled_ms":[30,10],"orders_confirmed":2"#), 0);
        known.add(&line(119_999, r#","order_settled_ms":20"#), 0);
        known.add(&line(120_000, r#","orders_confirmed":5"#), 0);
        known.add("no JSON", 0);
        known.add(r#"{"message":"order placed"}"#, 0);
        let logged = LoggedMetrics { read_at: None, functions: [("f".to_owned(), known)].into() };
        let values = |name, statistic| {
            let metric = MetricId { of: MetricOwner::Function("f".into()), name, statistic };
            logged.values(&metric, Minutes { from: 0, count: 3 })
        };
        assert_eq!(values("order_settled_ms", Statistic::P50), [None, Some(20.0), None]);
        assert_eq!(values("order_settled_ms", Statistic::P99), [None, Some(30.0), None]);
        assert_eq!(values("orders_confirmed", Statistic::Sum), [None, Some(2.0), Some(5.0)]);
    }

    #[test]
    fn a_minute_that_is_read_again_counts_once_and_an_older_one_stays() {
        let hour = Minutes { from: 0, count: 60 };
        let mut known = FunctionMetrics::default();
        assert_eq!(known.grows_from(hour), 0, "nothing is known yet");
        for at_ms in [70_000, 130_000, 190_000] {
            known.add(&line(at_ms, r#","done":1"#), 0);
        }
        let from = known.grows_from(hour);
        assert_eq!(from, 120, "the newest minute, and the one before it");
        known.minutes.retain(|minute, _| *minute < from);
        for at_ms in [70_000, 130_000, 190_000, 191_000] {
            known.add(&line(at_ms, r#","done":1"#), from);
        }
        let done: Vec<f64> = known.minutes.values().map(|m| m["done"].iter().sum()).collect();
        assert_eq!(done, [1.0, 1.0, 2.0]);
    }
}
