//! The last hour as charts: what each queue and consumer did, minute by minute.
//!
//! In: CloudWatch's metrics, and the status, which is looked at again and again while the console runs. Out: charts of numbers with
//! their moments. Guarantees: a chart says where it is from; what CloudWatch does not have (an emulator's queues) is drawn from the
//! console's own samples, which begin when it starts; a minute without a value is a gap, never a zero that nobody measured.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    error::CliError,
    stack::Stack,
    status::{METRICS_PAUSE, QueueStatus, Status},
};

/// How far back charts go.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
const PERIOD_SECONDS: i32 = 60;
/// How often the console looks at the status for its charts, with no page open too.
pub(crate) const SAMPLE_PAUSE: Duration = Duration::from_secs(10);
/// Maximum number of samples that are kept: an hour of them.
const SAMPLES_MAX: usize = 360;

/// What a queue does, by SQS's own metrics.
const QUEUE_LINES: [Measured; 3] = [
    Measured { line: "in", metric: "NumberOfMessagesSent", statistic: "Sum" },
    Measured { line: "done", metric: "NumberOfMessagesDeleted", statistic: "Sum" },
    Measured {
        line: "waiting",
        metric: "ApproximateNumberOfMessagesVisible",
        statistic: "Maximum",
    },
];
/// What a consumer does, by the metrics that it writes.
const CONSUMER_LINES: [Measured; 4] = [
    Measured { line: "handled", metric: "done", statistic: "Sum" },
    Measured { line: "duplicate", metric: "duplicate", statistic: "Sum" },
    Measured { line: "retried", metric: "retried", statistic: "Sum" },
    Measured { line: "dead-lettered", metric: "dead_lettered", statistic: "Sum" },
];

#[derive(Debug, Clone, Copy)]
struct Measured {
    line: &'static str,
    metric: &'static str,
    statistic: &'static str,
}

/// Some lines over the same moments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Chart {
    pub title: String,
    pub unit: &'static str,
    pub source: Source,
    /// Seconds since 1970.
    pub times: Vec<i64>,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    CloudWatch,
    Console,
}

/// A value for each moment; null where there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub name: &'static str,
    pub values: Vec<Option<f64>>,
}

/// What the charts are drawn from.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    samples: Mutex<VecDeque<Sample>>,
    /// What CloudWatch said last, and when.
    metrics: tokio::sync::Mutex<Option<(Instant, Vec<Chart>)>>,
}

/// What the status counted at one moment.
#[derive(Debug, Clone)]
struct Sample {
    at: Timestamp,
    queues: BTreeMap<String, QueueSample>,
    orders_pending: u64,
    outbox_pending: u64,
}

#[derive(Debug, Clone, Copy)]
struct QueueSample {
    waiting: u64,
    in_flight: u64,
    dead: u64,
}

impl Rates {
    /// Looks at the status for ever. What cannot be had now is a gap.
    pub(crate) async fn sample(&self, stack: &Stack) {
        loop {
            if let Ok(status) = Status::without_metrics(stack).await {
                self.add(&status);
            }
            tokio::time::sleep(SAMPLE_PAUSE).await;
        }
    }

    fn add(&self, status: &Status) {
        let queue = |queue: &QueueStatus| {
            let waiting = queue.waiting + queue.delayed;
            (
                queue.name.clone(),
                QueueSample { waiting, in_flight: queue.in_flight, dead: queue.dead },
            )
        };
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample {
            at: status.at,
            queues: status.queues.iter().map(queue).collect(),
            orders_pending: status.orders.pending,
            outbox_pending: status.outbox.pending,
        });
        while samples.len() > SAMPLES_MAX {
            samples.pop_front();
        }
    }

    /// All charts, the flow's own first.
    ///
    /// # Errors
    /// CloudWatch refuses to answer; that it knows nothing is none.
    pub(crate) async fn charts(&self, stack: &Stack) -> Result<Vec<Chart>, CliError> {
        let measured = self.measured(stack).await?;
        let samples: Vec<Sample> = {
            let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.iter().cloned().collect()
        };
        let mut charts = vec![sampled_flow(&samples)];
        for queue in &stack.queues {
            let title = queue_title(&queue.name);
            let of_queue = measured.iter().find(|chart| chart.title == title);
            charts.push(of_queue.cloned().unwrap_or_else(|| sampled_queue(&samples, &queue.name)));
        }
        charts.extend(
            measured
                .into_iter()
                .filter(|chart| !charts.iter().any(|c| c.title == chart.title))
                .collect::<Vec<_>>(),
        );
        Ok(charts)
    }

    async fn measured(&self, stack: &Stack) -> Result<Vec<Chart>, CliError> {
        let mut last = self.metrics.lock().await;
        if let Some((_, charts)) = last.as_ref().filter(|(at, _)| at.elapsed() < METRICS_PAUSE) {
            return Ok(charts.clone());
        }
        let charts = measured(stack, Timestamp::now()).await?;
        *last = Some((Instant::now(), charts.clone()));
        Ok(charts)
    }
}

fn queue_title(queue: &str) -> String {
    format!("Queue {queue}")
}

fn sampled_flow(samples: &[Sample]) -> Chart {
    sampled(
        "Orders and outbox".to_owned(),
        "orders, events",
        samples,
        [
            ("orders pending", &|sample: &Sample| Some(sample.orders_pending)),
            ("events to publish", &|sample| Some(sample.outbox_pending)),
        ],
    )
}

fn sampled_queue(samples: &[Sample], queue: &str) -> Chart {
    sampled(
        queue_title(queue),
        "messages",
        samples,
        [
            ("waiting", &|sample: &Sample| sample.queues.get(queue).map(|one| one.waiting)),
            ("in flight", &|sample| sample.queues.get(queue).map(|one| one.in_flight)),
            ("dead", &|sample| sample.queues.get(queue).map(|one| one.dead)),
        ],
    )
}

type Read<'a> = &'a dyn Fn(&Sample) -> Option<u64>;

fn sampled<const LINES: usize>(
    title: String,
    unit: &'static str,
    samples: &[Sample],
    lines: [(&'static str, Read); LINES],
) -> Chart {
    let line = |(name, read): (&'static str, Read)| Line {
        name,
        values: samples.iter().map(|sample| read(sample).map(|count| count as f64)).collect(),
    };
    Chart {
        title,
        unit,
        source: Source::Console,
        times: samples.iter().map(|sample| sample.at.as_second()).collect(),
        lines: lines.into_iter().map(line).collect(),
    }
}

/// A chart that CloudWatch is asked for.
struct Wanted {
    title: String,
    unit: &'static str,
    namespace: &'static str,
    dimension: (&'static str, String),
    lines: &'static [Measured],
}

fn wanted(stack: &Stack) -> Vec<Wanted> {
    let queues = stack.queues.iter().map(|queue| Wanted {
        title: queue_title(&queue.name),
        unit: "messages a minute",
        namespace: "AWS/SQS",
        dimension: ("QueueName", queue.url.rsplit('/').next().unwrap_or_default().to_owned()),
        lines: &QUEUE_LINES,
    });
    let consumers = stack.queues.iter().map(|queue| Wanted {
        title: format!("{}-consumer", queue.name),
        unit: "messages a minute",
        namespace: "Orderflow",
        dimension: ("function", queue.consumer.clone()),
        lines: &CONSUMER_LINES,
    });
    queues.chain(consumers).collect()
}

/// Those charts of which CloudWatch has something.
async fn measured(stack: &Stack, now: Timestamp) -> Result<Vec<Chart>, CliError> {
    let from = (now - WINDOW).as_second() / i64::from(PERIOD_SECONDS) * i64::from(PERIOD_SECONDS);
    let wanted = wanted(stack);
    let queries = wanted.iter().enumerate().flat_map(|(chart, one)| {
        one.lines.iter().enumerate().map(move |(line, measured)| {
            let (name, value) = &one.dimension;
            let dimension = Dimension::builder().name(*name).value(value).build();
            let metric = Metric::builder().namespace(one.namespace).metric_name(measured.metric);
            let stat = MetricStat::builder()
                .metric(metric.dimensions(dimension).build())
                .period(PERIOD_SECONDS)
                .stat(measured.statistic)
                .build();
            MetricDataQuery::builder().id(format!("c{chart}l{line}")).metric_stat(stat).build()
        })
    });
    let call = stack.cloudwatch.get_metric_data().set_metric_data_queries(Some(queries.collect()));
    let call = call.start_time(aws_sdk_cloudwatch::primitives::DateTime::from_secs(from));
    let call = call.end_time(aws_sdk_cloudwatch::primitives::DateTime::from_secs(now.as_second()));
    let results = call.send().await?.metric_data_results.unwrap_or_default();
    let minutes = ((now.as_second() - from) / i64::from(PERIOD_SECONDS)) as usize + 1;
    let chart = |(index, one): (usize, Wanted)| {
        let line = |(line, measured): (usize, &Measured)| {
            let id = format!("c{index}l{line}");
            let result = results.iter().find(|result| result.id.as_deref() == Some(&id));
            Line { name: measured.line, values: by_minute(result, from, minutes) }
        };
        let lines: Vec<Line> = one.lines.iter().enumerate().map(line).collect();
        lines.iter().any(|line| line.values.iter().any(Option::is_some)).then(|| Chart {
            title: one.title,
            unit: one.unit,
            source: Source::CloudWatch,
            times: (0..minutes as i64).map(|m| from + m * i64::from(PERIOD_SECONDS)).collect(),
            lines,
        })
    };
    Ok(wanted.into_iter().enumerate().filter_map(chart).collect())
}

/// The values of a metric in the minutes since `from`.
fn by_minute(result: Option<&MetricDataResult>, from: i64, minutes: usize) -> Vec<Option<f64>> {
    let mut values = vec![None; minutes];
    let result = result.iter().flat_map(|r| r.timestamps().iter().zip(r.values()));
    for (at, value) in result {
        let minute = usize::try_from((at.secs() - from) / i64::from(PERIOD_SECONDS)).ok();
        if let Some(place) = minute.and_then(|minute| values.get_mut(minute)) {
            *place = Some(*value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudwatch::primitives::DateTime;

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
            .build();
        let values = by_minute(Some(&result), 1_080, 4);
        assert_eq!(values, [Some(3.0), None, Some(7.0), None]);
        assert_eq!(by_minute(None, 0, 2), [None, None]);
    }

    #[test]
    fn a_queue_that_was_not_there_in_a_sample_is_a_gap_and_an_hour_is_kept() {
        let sample = |second: i64, product: Option<u64>| Sample {
            at: Timestamp::from_second(second).expect("a moment"),
            queues: product
                .map(|waiting| {
                    ("product".to_owned(), QueueSample { waiting, in_flight: 1, dead: 2 })
                })
                .into_iter()
                .collect(),
            orders_pending: 4,
            outbox_pending: 5,
        };
        let chart = sampled_queue(&[sample(10, Some(3)), sample(20, None)], "product");
        assert_eq!(chart.times, [10, 20]);
        assert_eq!(chart.lines[0], Line { name: "waiting", values: vec![Some(3.0), None] });
        assert_eq!(chart.lines[2].values, [Some(2.0), None]);
        let kept = SAMPLES_MAX as u64 * SAMPLE_PAUSE.as_secs();
        assert_eq!(kept, WINDOW.unsigned_abs().as_secs());
    }
}
