//! Metrics of a stack, minute by minute, as CloudWatch has them.
//!
//! In: which metrics, and a span. Out: for each of them a value a minute. Guarantees: a minute that CloudWatch has nothing of is
//! absent, never a zero that nobody measured; metrics that it does not know are absent in every minute, not an error.

use std::collections::HashMap;

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat},
};
use jiff::Timestamp;

use crate::{error::CliError, stack::Stack};

pub(crate) const MINUTE_SECONDS: i64 = 60;

/// One metric of one queue or function, and what is made of the values that it has in a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetricId {
    /// Whose it is.
    pub of: MetricOwner,
    pub name: &'static str,
    pub statistic: Statistic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MetricOwner {
    /// By its URL: one of SQS's own.
    Queue(String),
    /// By its name: one that the function itself writes (docs/telemetry.md).
    Function(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Sum,
    Maximum,
    P50,
    P99,
}

/// The minutes of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Minutes {
    /// When the first begins, in seconds since 1970.
    pub from: i64,
    pub count: usize,
}

impl Minutes {
    /// The minute of `from`, that of `to`, and those between.
    pub(crate) fn between(from: Timestamp, to: Timestamp) -> Self {
        let minute = |at: Timestamp| at.as_second().div_euclid(MINUTE_SECONDS);
        let count = usize::try_from(minute(to) - minute(from) + 1).unwrap_or_default();
        Self { from: minute(from) * MINUTE_SECONDS, count }
    }

    /// When each begins, in seconds since 1970.
    pub(crate) fn starts(self) -> Vec<i64> {
        (0..self.count as i64).map(|minute| self.from + minute * MINUTE_SECONDS).collect()
    }

    /// Which of them this moment is in.
    pub(crate) fn place(self, second: i64) -> Option<usize> {
        let place = usize::try_from((second - self.from).div_euclid(MINUTE_SECONDS)).ok();
        place.filter(|place| *place < self.count)
    }
}

/// The values of each metric, in the order of `metrics`.
///
/// # Errors
/// CloudWatch does not answer.
pub(crate) async fn of_cloudwatch(
    stack: &Stack,
    metrics: &[MetricId],
    minutes: Minutes,
) -> Result<Vec<Vec<Option<f64>>>, CliError> {
    let queries = metrics.iter().enumerate().map(|(index, metric)| {
        let (namespace, dimension, value) = match &metric.of {
            MetricOwner::Queue(url) => {
                ("AWS/SQS", "QueueName", url.rsplit('/').next().unwrap_or_default())
            }
            MetricOwner::Function(name) => ("Orderflow", "function", name.as_str()),
        };
        let dimension = Dimension::builder().name(dimension).value(value).build();
        let named = Metric::builder().namespace(namespace).metric_name(metric.name);
        let stat = MetricStat::builder()
            .metric(named.dimensions(dimension).build())
            .period(MINUTE_SECONDS as i32)
            .stat(metric.statistic.as_str());
        MetricDataQuery::builder().id(format!("m{index}")).metric_stat(stat.build()).build()
    });
    let end = minutes.from + minutes.count as i64 * MINUTE_SECONDS;
    let answer = stack
        .cloudwatch
        .get_metric_data()
        .set_metric_data_queries(Some(queries.collect()))
        .start_time(DateTime::from_secs(minutes.from))
        .end_time(DateTime::from_secs(end))
        .send()
        .await?;
    let results: HashMap<String, MetricDataResult> = answer
        .metric_data_results
        .unwrap_or_default()
        .into_iter()
        .filter_map(|result| Some((result.id.clone()?, result)))
        .collect();
    let values = |index: usize| by_minute(results.get(&format!("m{index}")), minutes);
    Ok((0..metrics.len()).map(values).collect())
}

fn by_minute(result: Option<&MetricDataResult>, minutes: Minutes) -> Vec<Option<f64>> {
    let mut values = vec![None; minutes.count];
    for (at, value) in result.iter().flat_map(|r| r.timestamps().iter().zip(r.values())) {
        if let Some(place) = minutes.place(at.secs()) {
            values[place] = Some(*value);
        }
    }
    values
}

impl Statistic {
    /// As CloudWatch calls it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Maximum => "Maximum",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }

    /// Of values that somebody else has; `None` without any. Percentiles are by the nearest rank.
    pub(crate) fn of(self, values: &mut [f64]) -> Option<f64> {
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1);
        match self {
            Self::Sum => (!values.is_empty()).then(|| values.iter().sum()),
            Self::Maximum => values.last().copied(),
            Self::P50 => rank(50).copied(),
            Self::P99 => rank(99).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_that_cloudwatch_has_nothing_of_is_a_gap() {
        let result = MetricDataResult::builder()
            .timestamps(DateTime::from_secs(1_200))
            .values(7.0)
            .timestamps(DateTime::from_secs(1_080))
            .values(3.0)
            // Outside of what was asked for.
            .timestamps(DateTime::from_secs(9_000))
            .values(1.0)
            .timestamps(DateTime::from_secs(1_079))
            .values(1.0)
            .build();
        let minutes = Minutes { from: 1_080, count: 4 };
        assert_eq!(by_minute(Some(&result), minutes), [Some(3.0), None, Some(7.0), None]);
        assert_eq!(by_minute(None, Minutes { from: 0, count: 2 }), [None, None]);
    }

    #[test]
    fn a_span_has_the_minutes_of_its_ends() {
        let at = |second| Timestamp::from_second(second).expect("a moment");
        let minutes = Minutes::between(at(119), at(240));
        assert_eq!(minutes, Minutes { from: 60, count: 4 });
        assert_eq!(minutes.starts(), [60, 120, 180, 240]);
        assert_eq!([minutes.place(299), minutes.place(300)], [Some(3), None]);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let of = |statistic: Statistic, values: &[f64]| statistic.of(&mut values.to_vec());
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(of(Statistic::P50, &hundred), Some(50.0));
        assert_eq!(of(Statistic::P99, &hundred), Some(99.0));
        assert_eq!(of(Statistic::P99, &[7.0]), Some(7.0));
        assert_eq!(of(Statistic::Sum, &hundred), Some(5_050.0));
        assert_eq!(of(Statistic::Maximum, &[3.0, 9.0, 4.0]), Some(9.0));
        for statistic in [Statistic::Sum, Statistic::Maximum, Statistic::P50, Statistic::P99] {
            assert_eq!(of(statistic, &[]), None);
        }
    }
}
