//! The last hour as charts: what became of orders, and what each queue and consumer did, minute by minute.
//!
//! In: CloudWatch's metrics, and the status, which is looked at again and again while the console runs. Out: charts of numbers with
//! their moments. Guarantees: a chart says where it is from; what CloudWatch does not have (an emulator's) is read from the functions'
//! log lines, or drawn from the console's own samples, which begin when it starts; a minute without a value is a gap, never a zero
//! that nobody measured.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::logged_metrics::LoggedMetrics;
use crate::{
    error::CliError,
    metrics::{MetricId, MetricOwner, Minutes, Statistic, of_cloudwatch},
    stack::Stack,
    status::{METRICS_PAUSE, QueueStatus, Status},
};

/// How far back charts go.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// How often the console looks at the status for its charts, with no page open too.
pub(crate) const SAMPLE_PAUSE: Duration = Duration::from_secs(10);
/// Maximum number of samples that are kept: an hour of them.
const SAMPLES_MAX: usize = 360;

/// A line of a chart: its name, and the metric that it shows.
type Measured = (&'static str, &'static str, Statistic);

/// What a queue does, by SQS's own metrics.
const QUEUE_LINES: [Measured; 3] = [
    ("in", "NumberOfMessagesSent", Statistic::Sum),
    ("done", "NumberOfMessagesDeleted", Statistic::Sum),
    ("waiting", "ApproximateNumberOfMessagesVisible", Statistic::Maximum),
];
/// What a consumer does, by the metrics that it writes.
const CONSUMER_LINES: [Measured; 4] = [
    ("handled", "done", Statistic::Sum),
    ("duplicate", "duplicate", Statistic::Sum),
    ("retried", "retried", Statistic::Sum),
    ("dead-lettered", "dead_lettered", Statistic::Sum),
];
/// What became of orders, by the function that says so.
const OUTCOME_LINES: [(&str, Measured); 7] = [
    ("order-api", ("placed", "orders_placed", Statistic::Sum)),
    ("order-consumer", ("to be paid", "orders_awaiting_payment", Statistic::Sum)),
    ("order-consumer", ("confirmed", "orders_confirmed", Statistic::Sum)),
    ("order-consumer", ("rejected", "orders_rejected", Statistic::Sum)),
    ("order-api", ("cancelled", "orders_cancelled", Statistic::Sum)),
    ("order-consumer", ("expired", "orders_expired", Statistic::Sum)),
    ("order-api", ("shipped", "orders_shipped", Statistic::Sum)),
];
const SETTLED_LINES: [(&str, Measured); 2] = [
    ("order-consumer", ("p50", "order_settled_ms", Statistic::P50)),
    ("order-consumer", ("p99", "order_settled_ms", Statistic::P99)),
];

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
    /// The metrics in the functions' log lines, of which CloudWatch has made none.
    Logs,
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
    metrics: tokio::sync::Mutex<Metrics>,
}

#[derive(Debug, Default)]
struct Metrics {
    /// What CloudWatch said last, and when.
    last: Option<(Instant, Vec<Chart>)>,
    logged: LoggedMetrics,
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
        let sampled = stack.queues.iter().map(|queue| sampled_queue(&samples, &queue.name));
        let sampled = std::iter::once(sampled_flow(&samples)).chain(sampled);
        let has = |title: &str| measured.iter().any(|chart| chart.title == title);
        let mut charts: Vec<Chart> = sampled.filter(|chart| !has(&chart.title)).collect();
        charts.extend(measured);
        Ok(charts)
    }

    async fn measured(&self, stack: &Stack) -> Result<Vec<Chart>, CliError> {
        let mut metrics = self.metrics.lock().await;
        let Metrics { last, logged } = &mut *metrics;
        let now = Timestamp::now();
        let minutes = Minutes::between(now - WINDOW, now);
        let wanted = wanted(stack);
        let charts = match last {
            Some((at, charts)) if at.elapsed() < METRICS_PAUSE => charts.clone(),
            _ => {
                let charts = from_cloudwatch(stack, &wanted, minutes).await?;
                *last = Some((Instant::now(), charts.clone()));
                charts
            }
        };
        let has_metrics_of_functions = wanted
            .iter()
            .any(|one| !one.is_of_queue() && charts.iter().any(|c| c.title == one.title));
        if has_metrics_of_functions {
            return Ok(charts);
        }
        let of_functions: Vec<Wanted> = wanted.into_iter().filter(|w| !w.is_of_queue()).collect();
        let ids: Vec<MetricId> = of_functions.iter().flat_map(Wanted::ids).collect();
        logged.read(stack, &ids, minutes).await?;
        let values = ids.iter().map(|id| logged.values(id, minutes)).collect();
        Ok(drawn(of_functions, values, minutes, Source::Logs).chain(charts).collect())
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

/// A chart of metrics.
#[derive(Debug, Clone)]
struct Wanted {
    title: String,
    unit: &'static str,
    lines: Vec<(&'static str, MetricId)>,
}

impl Wanted {
    fn is_of_queue(&self) -> bool {
        self.lines.iter().any(|(_, id)| matches!(id.of, MetricOwner::Queue(_)))
    }

    fn ids(&self) -> impl Iterator<Item = MetricId> {
        self.lines.iter().map(|(_, id)| id.clone())
    }
}

/// All of them, what became of orders first.
fn wanted(stack: &Stack) -> Vec<Wanted> {
    let line = |of: MetricOwner, (line, name, statistic): Measured| {
        (line, MetricId { of, name, statistic })
    };
    let of_functions = |lines: &[(&str, Measured)]| {
        let line = |(function, measured): &(&str, Measured)| {
            line(MetricOwner::Function(format!("{}-{function}", stack.name)), *measured)
        };
        lines.iter().map(line).collect::<Vec<_>>()
    };
    let orders = [
        Wanted {
            title: "Orders by outcome".to_owned(),
            unit: "orders a minute",
            lines: of_functions(&OUTCOME_LINES),
        },
        Wanted {
            title: "From order to confirmation or rejection".to_owned(),
            unit: "milliseconds",
            lines: of_functions(&SETTLED_LINES),
        },
    ];
    let queues = stack.queues.iter().map(|queue| Wanted {
        title: queue_title(&queue.name),
        unit: "messages a minute",
        lines: QUEUE_LINES.map(|m| line(MetricOwner::Queue(queue.url.clone()), m)).to_vec(),
    });
    let consumers = stack.consumers().map(|queue| Wanted {
        title: queue.consumer_name.clone(),
        unit: "messages a minute",
        lines: CONSUMER_LINES
            .map(|m| line(MetricOwner::Function(queue.consumer.clone()), m))
            .to_vec(),
    });
    orders.into_iter().chain(queues).chain(consumers).collect()
}

async fn from_cloudwatch(
    stack: &Stack,
    wanted: &[Wanted],
    minutes: Minutes,
) -> Result<Vec<Chart>, CliError> {
    let ids: Vec<MetricId> = wanted.iter().flat_map(Wanted::ids).collect();
    let values = of_cloudwatch(stack, &ids, minutes).await?;
    Ok(drawn(wanted.to_vec(), values, minutes, Source::CloudWatch).collect())
}

/// Those charts of which there is anything. The values are in the order of the charts' lines.
fn drawn(
    wanted: Vec<Wanted>,
    values: Vec<Vec<Option<f64>>>,
    minutes: Minutes,
    source: Source,
) -> impl Iterator<Item = Chart> {
    let mut values = values.into_iter();
    wanted.into_iter().filter_map(move |one| {
        let values = values.by_ref();
        let lines: Vec<Line> =
            one.lines.iter().zip(values).map(|((name, _), values)| Line { name, values }).collect();
        let is_known = lines.iter().any(|line| line.values.iter().any(Option::is_some));
        let times = minutes.starts();
        is_known.then_some(Chart { title: one.title, unit: one.unit, source, times, lines })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_without_any_value_is_none_and_the_next_ones_values_are_its_own() {
        let id = || MetricId {
            of: MetricOwner::Function("f".into()),
            name: "done",
            statistic: Statistic::Sum,
        };
        let wanted = |title: &str, lines: &[&'static str]| Wanted {
            title: title.to_owned(),
            unit: "orders",
            lines: lines.iter().map(|line| (*line, id())).collect(),
        };
        let charts = vec![wanted("a", &["x", "y"]), wanted("b", &["x"]), wanted("c", &["x"])];
        let values = [None, None, Some(3.0), None].map(|value| vec![value]).to_vec();
        let minutes = Minutes { from: 60, count: 1 };
        let charts: Vec<Chart> = drawn(charts, values, minutes, Source::Logs).collect();
        assert_eq!(charts.len(), 1);
        assert_eq!((charts[0].title.as_str(), &charts[0].times), ("b", &vec![60]));
        assert_eq!(charts[0].lines, [Line { name: "x", values: vec![Some(3.0)] }]);
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
