//! The deployed alarms, and what functions emit for them.
//!
//! In: an alarm's name; the functions' logs. Out: the values of the alarm's own metric, found by its namespace, name and
//! dimension as CloudWatch finds them, and whether the alarm's threshold is passed by one.

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudwatch::types::{ComparisonOperator, MetricAlarm};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::Stack;

impl Stack {
    /// A deployed alarm, by its name without the stack's.
    ///
    /// # Errors
    /// It is not there.
    pub async fn alarm(&self, name: &str) -> Result<MetricAlarm> {
        let name = format!("{}-{name}", self.setting("STACK_NAME"));
        let answer = self.cloudwatch.describe_alarms().alarm_names(&name).send().await?;
        answer.metric_alarms().first().cloned().with_context(|| format!("no alarm {name}"))
    }

    /// The values that an alarm's function has emitted for it since then, the oldest first.
    ///
    /// # Errors
    /// The alarm is not on one function's metric; the logs could not be read.
    pub async fn emitted(&self, alarm: &MetricAlarm, since: Timestamp) -> Result<Vec<f64>> {
        let [dimension] = alarm.dimensions() else {
            anyhow::bail!("dimensions {:?}", alarm.dimensions())
        };
        let (label, function) =
            (dimension.name().unwrap_or_default(), dimension.value().unwrap_or_default());
        let metric = alarm.metric_name().context("a metric")?;
        let mut values = Vec::new();
        for line in self.log_lines(function, since).await? {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let is_of_alarm = |directive: &Value| {
                let names = directive["Metrics"].as_array().into_iter().flatten();
                directive["Namespace"].as_str() == alarm.namespace()
                    && directive["Dimensions"] == json!([[label]])
                    && names.into_iter().any(|one| one["Name"] == metric)
            };
            let mut directives = line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten();
            if line[label] == function && directives.any(is_of_alarm) {
                let many = line[metric]
                    .as_array()
                    .map_or(std::slice::from_ref(&line[metric]), Vec::as_slice);
                for value in many {
                    values.push(value.as_f64().context("a metric's value is a number")?);
                }
            }
        }
        Ok(values)
    }

    /// What a function has logged since then.
    async fn log_lines(&self, function: &str, since: Timestamp) -> Result<Vec<String>> {
        let mut events = Vec::new();
        let mut token = Value::Null;
        loop {
            let mut query = json!({
                "logGroupName": format!("/aws/lambda/{function}"),
                "startTime": since.as_millisecond(),
            });
            if !token.is_null() {
                query["nextToken"] = token;
            }
            let answer = self
                .http
                .post(self.setting("EMULATOR_URL"))
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", "Logs_20140328.FilterLogEvents")
                // Emulators read the region from the scope, and check no signature of the tests' own calls.
                .header("authorization", self.unsigned_scope("logs"))
                .body(query.to_string())
                .send()
                .await?;
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "the log of {function}: {status} {text}");
            let page: Value = serde_json::from_str(&text)?;
            for event in page["events"].as_array().into_iter().flatten() {
                let message = event["message"].as_str().unwrap_or_default();
                let at = event["timestamp"].as_i64().unwrap_or_default();
                events.extend(message.lines().map(|line| (at, line.to_owned())));
            }
            token = page["nextToken"].clone();
            if token.is_null() {
                break;
            }
        }
        events.sort_by_key(|(at, _)| *at);
        Ok(events.into_iter().map(|(_, line)| line).collect())
    }

    /// For a call that no SDK of the tests makes.
    pub(crate) fn unsigned_scope(&self, service: &str) -> String {
        let (key, region) = (self.setting("AWS_ACCESS_KEY_ID"), self.setting("AWS_REGION"));
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none"
        )
    }
}

/// Whether a value is beyond an alarm's threshold.
#[must_use]
pub fn is_beyond_threshold(alarm: &MetricAlarm, value: f64) -> bool {
    alarm.comparison_operator() == Some(&ComparisonOperator::GreaterThanThreshold)
        && alarm.threshold().is_some_and(|threshold| value > threshold)
}
