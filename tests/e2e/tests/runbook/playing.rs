//! A section of the runbook that is played: its alarm is raised, its commands are run in their order, and its alarm is over.
//!
//! In: a stack that a test breaks, and the section's name, which is its alarm's. Out: a failure if the alarm's metric does not pass the threshold with
//! which the alarm is deployed, if a command fails or prints something else than the page shows, if a command is left out, or if the metric is not at
//! rest at the end. The metrics of SQS, which MiniStack does not make, are taken from where SQS takes them: the number of a queue's messages, and the
//! age of its oldest. The alarms on the rate of errors, which MiniStack refuses, are calculated here as in the template.

use std::{io::Read, sync::OnceLock};

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudwatch::types::{Dimension, MetricAlarm, Statistic};
use aws_sdk_sqs::types::MessageSystemAttributeName;
use e2e::{Seconds, Stack, alarms::is_beyond_threshold, eventually};
use jiff::Timestamp;

use crate::page::{self, Page, Step};

/// The section of an alarm whose metric SNS alone makes: its commands are played without it.
const OF_SNS: &str = "sns-delivery";
/// The names of the alarms on the rate of errors end so.
const OF_ERRORS: &str = "-errors";
/// More than this percentage of a consumer's messages have failed.
const FAILED_PERCENT_MAX: f64 = 5.0;
/// Below, one of a few is no rate.
const RATE_MESSAGES_MIN: f64 = 20.0;

/// What says whether an alarm is raised.
enum Watched {
    /// Nothing that there is here.
    Nothing,
    Alarm(Box<MetricAlarm>),
    /// Of how many of its messages this function fails at.
    FailedPercent {
        function: String,
    },
}

/// See the module.
pub(crate) struct Playing<'a> {
    stack: &'a Stack,
    section: &'static str,
    steps: Vec<Step>,
    next: usize,
    watched: Watched,
    /// What was emitted before is none of this.
    since: Timestamp,
    /// When the oldest message was sent, in milliseconds since 1970. It is read once, since SQS counts each look as a try.
    oldest_sent_ms: OnceLock<i64>,
}

impl<'a> Playing<'a> {
    /// Begins with a stack on which the alarm is over.
    ///
    /// # Errors
    /// It is not, or there is no such section or alarm.
    pub(crate) async fn begin(stack: &'a Stack, section: &'static str) -> Result<Self> {
        let steps = Page::read()?.steps(section)?;
        let watched = match section.strip_suffix(OF_ERRORS) {
            _ if [page::FIRST, OF_SNS].contains(&section) => Watched::Nothing,
            Some(consumer) => {
                let function = format!("{}_CONSUMER_FUNCTION", consumer.to_uppercase());
                Watched::FailedPercent { function: stack.setting(&function).to_owned() }
            }
            None => Watched::Alarm(Box::new(stack.alarm(section).await?)),
        };
        let (since, oldest_sent_ms) = (Timestamp::now(), OnceLock::new());
        let playing = Self { stack, section, steps, next: 0, watched, since, oldest_sent_ms };
        ensure!(!playing.is_raised().await?, "{section} is raised before anything was broken");
        Ok(playing)
    }

    /// Waits until the alarm's metric is beyond the deployed threshold.
    pub(crate) async fn wait_until_raised(&self) -> Result<()> {
        eventually(&format!("{} to be raised", self.section), 150.secs(), async || {
            Ok(self.is_raised().await?.then_some(()))
        })
        .await
    }

    /// Runs the next command of the section, which has to be this one, and compares what it prints with the page. Each of `values` takes the place of
    /// a placeholder.
    pub(crate) async fn run(&mut self, command: &str, values: &[(&str, &str)]) -> Result<()> {
        let step = self.steps.get(self.next);
        let step = step.with_context(|| format!("{} has no further command", self.section))?;
        ensure!(step.command == command, "{} goes on with {:?}", self.section, step.command);
        let words = command.split_whitespace().map(|word| {
            values.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value)
        });
        // Who follows the page is asked, and says yes.
        let words: Vec<&str> = words.chain(["--yes"]).collect();
        let (code, printed) = run_as_on_a_terminal(self.stack.command(&words)?).await?;
        ensure!(code == Some(0), "{words:?} ended with {code:?}: {printed}");
        page::check(self.section, self.next, step, &printed)?;
        self.next += 1;
        Ok(())
    }

    /// What is emitted from now on is after the repair.
    pub(crate) fn note_repair(&mut self) {
        self.since = Timestamp::now();
    }

    /// Ends: all commands were run, and the metric is at rest.
    pub(crate) async fn end(self) -> Result<()> {
        let left: Vec<_> = self.steps[self.next..].iter().map(|step| &step.command).collect();
        ensure!(left.is_empty(), "{} was not played to its end: {left:?}", self.section);
        eventually(&format!("{} to be over", self.section), 180.secs(), async || {
            Ok((!self.is_raised().await?).then_some(()))
        })
        .await
    }

    async fn is_raised(&self) -> Result<bool> {
        match &self.watched {
            Watched::Nothing => Ok(false),
            Watched::Alarm(alarm) => Ok(is_beyond_threshold(alarm, self.metric(alarm).await?)),
            Watched::FailedPercent { function } => {
                Ok(self.failed_percent(function).await? > FAILED_PERCENT_MAX)
            }
        }
    }

    async fn failed_percent(&self, function: &str) -> Result<f64> {
        let (mut failed, mut all) = (0.0, 0.0);
        for name in ["retried", "dead_lettered", "done", "duplicate", "ignored"] {
            let dimension = Dimension::builder().name("function").value(function).build();
            let metric = MetricAlarm::builder().namespace("Orderflow").metric_name(name);
            let metric = metric.dimensions(dimension).build();
            let count: f64 = self.stack.emitted(&metric, self.since).await?.iter().sum();
            all += count;
            if ["retried", "dead_lettered"].contains(&name) {
                failed += count;
            }
        }
        Ok(if all >= RATE_MESSAGES_MIN { 100.0 * failed / all } else { 0.0 })
    }

    /// The alarm's metric, as CloudWatch would evaluate it.
    async fn metric(&self, alarm: &MetricAlarm) -> Result<f64> {
        let stack = self.stack;
        match (alarm.namespace(), alarm.metric_name()) {
            (Some("AWS/SQS"), Some("ApproximateNumberOfMessagesVisible")) => {
                Ok(stack.messages(&self.queue_of(alarm).await?).await? as f64)
            }
            (Some("AWS/SQS"), Some("ApproximateAgeOfOldestMessage")) => {
                self.oldest_age_seconds(&self.queue_of(alarm).await?).await
            }
            (Some("Orderflow"), Some(_)) if alarm.statistic() == Some(&Statistic::Sum) => {
                Ok(stack.emitted(alarm, self.since).await?.iter().sum())
            }
            (Some("Orderflow"), Some(_)) if alarm.extended_statistic() == Some("p90") => {
                let mut values = stack.emitted(alarm, self.since).await?;
                values.sort_by(f64::total_cmp);
                let rank = (values.len() * 9).div_ceil(10);
                Ok(rank.checked_sub(1).map_or(0.0, |place| values[place]))
            }
            // The relay's, of which the newest counts.
            (Some("Orderflow"), Some(metric)) => {
                let since = Timestamp::now();
                stack.sweep().await?.context("the sweep failed")?;
                eventually(&format!("{metric} of the sweep"), 30.secs(), async || {
                    Ok(stack.emitted(alarm, since).await?.last().copied())
                })
                .await
            }
            other => anyhow::bail!("nobody knows how to read {other:?}"),
        }
    }

    /// How long ago the oldest message of a queue was sent; 0 of an empty one. The messages stay where they are.
    async fn oldest_age_seconds(&self, queue_url: &str) -> Result<f64> {
        if self.stack.messages(queue_url).await? == 0 {
            return Ok(0.0);
        }
        let sent_ms = match self.oldest_sent_ms.get() {
            Some(sent_ms) => *sent_ms,
            None => {
                let message = self.stack.message_with(queue_url, "").await?;
                let attributes = message.attributes().context("a message's attributes")?;
                let sent = attributes.get(&MessageSystemAttributeName::SentTimestamp);
                let sent_ms = sent.context("when it was sent")?.parse()?;
                *self.oldest_sent_ms.get_or_init(|| sent_ms)
            }
        };
        Ok((Timestamp::now().as_millisecond() - sent_ms) as f64 / 1000.0)
    }

    async fn queue_of(&self, alarm: &MetricAlarm) -> Result<String> {
        let dimension = alarm.dimensions().first().and_then(|dimension| dimension.value());
        let name = dimension.context("a queue's name")?;
        let answer = self.stack.sqs.get_queue_url().queue_name(name).send().await?;
        Ok(answer.queue_url().context("the queue's URL")?.to_owned())
    }
}

/// Runs a command to its end; what it prints on stdout and stderr is in the order in which a person reads it.
async fn run_as_on_a_terminal(mut command: std::process::Command) -> Result<(Option<i32>, String)> {
    let ran = tokio::task::spawn_blocking(move || -> Result<_> {
        let (mut reader, writer) = std::io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // It holds the writing ends, without which there would be no end to read to.
        drop(command);
        let mut printed = String::new();
        reader.read_to_string(&mut printed)?;
        Ok((child.wait()?.code(), printed))
    });
    ran.await?
}
