//! Times, CPU and memory of the subjects, in rounds: each round measures each subject once, so that what the machine does
//! besides meets all of them.
//!
//! In: programs and how many rounds. Out: [`Timed`] by subject. Guarantees: a round has a process of its own for each
//! measurement; times at AWS are taken out as they were, not as they were meant to be.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use crate::{
    calls::{sequential_depth, waiting_time},
    endpoint::{AwsEndpoint, Delays, Pace},
    lambda::{Environment, Invocation},
    load::{Load, Work},
    process::{cpu_time, memory_kib, peak_memory_kib},
    statistics::{Figure, quantile},
    subject::{Program, Programs, SUBJECTS, Subject},
    tls::Authority,
};

/// Number of invocations before those that are measured.
const WARM_UP: usize = 20;
/// How long a measurement of events a second takes.
const THROUGHPUT_TIME: Duration = Duration::from_secs(2);
/// Number of environments side by side.
pub const SIDE_BY_SIDE: usize = 10;

/// The rounds' figures of a subject. Times are in milliseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timed {
    /// From the process's start until it asks for its first event.
    pub ready: Vec<f64>,
    /// From its start until its first answer, with AWS's delays.
    pub first_answer: Vec<f64>,
    /// The same without the time in which a call was under way at AWS.
    pub first_own: Vec<f64>,
    pub ready_tls: Vec<f64>,
    pub first_answer_tls: Vec<f64>,
    /// From event to answer, without the time in which a call was under way at AWS.
    pub own_p50: Vec<f64>,
    pub own_p99: Vec<f64>,
    /// From event to the moment when the environment is idle, with AWS's delays: what Lambda bills.
    pub billed_p50: Vec<f64>,
    /// CPU time of an invocation.
    pub cpu: Vec<f64>,
    pub peak_memory_mib: Vec<f64>,
    pub calls: usize,
    pub depth: usize,
    /// Bytes that an invocation writes into its log.
    pub log_bytes: f64,
}

/// Events a second, by language, of one environment and of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Throughput {
    pub one: Vec<f64>,
    pub side_by_side: Vec<f64>,
}

/// What measuring needs.
#[derive(Debug)]
pub struct Bench<'a> {
    pub programs: &'a Programs,
    pub load: Load,
    pub endpoint: AwsEndpoint,
    pub encrypted: AwsEndpoint,
    pub authority: Authority,
    /// Where logs go while their size is measured.
    pub log: &'a Path,
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn as_number(count: u64) -> f64 {
    count as f64
}

impl<'a> Bench<'a> {
    /// # Errors
    /// The functions have not been built, or no port is free.
    pub async fn prepare(programs: &'a Programs, folder: &Path, log: &'a Path) -> Result<Self> {
        let load = Load::record(&programs.binaries).await?;
        let endpoint = AwsEndpoint::start(load.new_aws().await?, Delays::NONE).await?;
        let authority = Authority::create(&folder.join("authority.pem"))?;
        let encrypted = endpoint.with_tls(&authority).await?;
        Ok(Self { programs, load, endpoint, encrypted, authority, log })
    }

    async fn start(&self, program: Program, is_logged: bool) -> Result<Environment> {
        let log = is_logged.then_some(self.log);
        let url = self.endpoint.url();
        let command = self.programs.command(program, &url, None, log)?;
        Environment::start(command).await.with_context(|| format!("{program:?}"))
    }

    async fn invoke(&mut self, environment: &mut Environment, work: Work) -> Result<Invocation> {
        let event = self.load.event(work, &self.endpoint.aws()).await?;
        let invocation = environment.invoke(event).await?;
        check(work, &invocation)?;
        Ok(invocation)
    }

    /// A new AWS: none carries what was done before, and none was throttled, which would be measured, too.
    ///
    /// # Errors
    /// A partition was too busy.
    pub async fn renew(&mut self) -> Result<()> {
        let throttled = self.endpoint.aws().units().throttled_calls;
        ensure!(throttled == 0, "{throttled} calls were throttled");
        self.endpoint.replace_aws(self.load.new_aws().await?);
        drop(self.endpoint.take_calls());
        Ok(())
    }

    /// Measures one subject once.
    ///
    /// # Errors
    /// It does not do its work.
    pub async fn round(&mut self, subject: &Subject, timed: &mut Timed) -> Result<()> {
        self.renew().await?;
        self.endpoint.set_pace(Pace::Delayed(Delays::REGION));
        // Not measured: it has the kernel read the files.
        let mut environment = self.start(subject.program, false).await?;
        self.invoke(&mut environment, subject.work).await?;
        drop(environment);
        for is_encrypted in [false, true] {
            let (url, authority) = if is_encrypted {
                (self.encrypted.url(), Some(&self.authority))
            } else {
                (self.endpoint.url(), None)
            };
            let command = self.programs.command(subject.program, &url, authority, None)?;
            drop(self.endpoint.take_calls());
            let started = Instant::now();
            let mut environment = Environment::start(command).await?;
            let first = self.invoke(&mut environment, subject.work).await?;
            let (ready, first) = (environment.time_to_ready(), first.answered - started);
            if is_encrypted {
                timed.ready_tls.push(ms(ready));
                timed.first_answer_tls.push(ms(first));
            } else {
                let waited = waiting_time(&self.endpoint.take_calls(), started + first);
                timed.ready.push(ms(ready));
                timed.first_answer.push(ms(first));
                timed.first_own.push(ms(first.saturating_sub(waited)));
            }
        }
        self.warm(subject, timed).await?;
        self.cpu(subject, timed).await
    }

    /// The calls of one invocation, and how many of them follow each other.
    ///
    /// # Errors
    /// The program does not do its work.
    pub async fn count(&mut self, subject: &Subject, timed: &mut Timed) -> Result<()> {
        self.renew().await?;
        let mut environment = self.start(subject.program, false).await?;
        self.endpoint.set_pace(Pace::Rounds(vec![environment.process_id()]));
        self.invoke(&mut environment, subject.work).await?;
        let calls = self.endpoint.take_calls();
        (timed.calls, timed.depth) = (calls.len(), sequential_depth(&calls));
        Ok(())
    }

    /// Times with AWS's delays, and peak memory.
    async fn warm(&mut self, subject: &Subject, timed: &mut Timed) -> Result<()> {
        let mut environment = self.start(subject.program, true).await?;
        for _ in 0..WARM_UP.min(subject.invocations) {
            self.invoke(&mut environment, subject.work).await?;
        }
        let logged_before = std::fs::metadata(self.log)?.len();
        drop(self.endpoint.take_calls());
        let (mut own, mut billed) = (Vec::new(), Vec::new());
        for _ in 0..subject.invocations {
            let invocation = self.invoke(&mut environment, subject.work).await?;
            let calls = self.endpoint.take_calls();
            let time = invocation.answered - invocation.begun;
            own.push(ms(time.saturating_sub(waiting_time(&calls, invocation.answered))));
            billed.push(ms(invocation.idle - invocation.begun));
        }
        let logged = std::fs::metadata(self.log)?.len() - logged_before;
        timed.log_bytes = as_number(logged) / as_number(subject.invocations as u64);
        timed.own_p50.extend(quantile(&own, 0.5));
        timed.own_p99.extend(quantile(&own, 0.99));
        timed.billed_p50.extend(quantile(&billed, 0.5));
        let peak = peak_memory_kib(environment.process_id())?;
        timed.peak_memory_mib.push(as_number(peak) / 1024.0);
        Ok(())
    }

    /// CPU time without delays.
    async fn cpu(&mut self, subject: &Subject, timed: &mut Timed) -> Result<()> {
        self.endpoint.set_pace(Pace::Delayed(Delays::NONE));
        let mut environment = self.start(subject.program, false).await?;
        for _ in 0..WARM_UP {
            self.invoke(&mut environment, subject.work).await?;
        }
        let count = 5 * subject.invocations;
        let before = cpu_time(environment.process_id())?;
        for _ in 0..count {
            self.invoke(&mut environment, subject.work).await?;
        }
        let used = cpu_time(environment.process_id())? - before;
        timed.cpu.push(ms(used) / as_number(count as u64));
        drop(self.endpoint.take_calls());
        Ok(())
    }

    /// Events a second that reserve stock in batches of ten, with AWS's delays, of one environment and of several.
    ///
    /// # Errors
    /// The program does not do its work.
    pub async fn throughput(&mut self, program: Program, measured: &mut Throughput) -> Result<()> {
        for count in [1, SIDE_BY_SIDE] {
            self.renew().await?;
            self.endpoint.set_pace(Pace::Delayed(Delays::REGION));
            let mut environments = Vec::new();
            for _ in 0..count {
                let mut environment = self.start(program, false).await?;
                self.invoke(&mut environment, Work::ReserveStock(10)).await?;
                environments.push(environment);
            }
            let (mut running, begun) = (JoinSet::new(), Instant::now());
            let mut batches = 0_u32;
            // An environment gets its next batch as soon as it is idle.
            for mut environment in environments {
                let event = self.load.event(Work::ReserveStock(10), &self.endpoint.aws()).await?;
                running.spawn(async move {
                    let invocation = environment.invoke(event).await;
                    (environment, invocation)
                });
            }
            while let Some(ended) = running.join_next().await {
                let (mut environment, invocation) = ended?;
                check(Work::ReserveStock(10), &invocation?)?;
                batches += 1;
                if begun.elapsed() < THROUGHPUT_TIME {
                    let event =
                        self.load.event(Work::ReserveStock(10), &self.endpoint.aws()).await?;
                    running.spawn(async move {
                        let invocation = environment.invoke(event).await;
                        (environment, invocation)
                    });
                }
            }
            let rate = f64::from(10 * batches) / begun.elapsed().as_secs_f64();
            if count == 1 { measured.one.push(rate) } else { measured.side_by_side.push(rate) }
        }
        Ok(())
    }

    /// Many invocations in one environment, without delays: what the first and the last of them take, and what memory the
    /// process has then.
    ///
    /// # Errors
    /// The program does not do its work.
    pub async fn endurance(&mut self, subject: &Subject) -> Result<Endurance> {
        const INVOCATIONS: usize = 100_000;
        const PART: usize = 10_000;
        /// Number of invocations after which AWS is made anew.
        const OF_ONE_AWS: usize = 2_000;
        self.renew().await?;
        self.endpoint.set_pace(Pace::Delayed(Delays::NONE));
        let mut environment = self.start(subject.program, false).await?;
        let mut parts = Vec::new();
        for part in 0..INVOCATIONS / PART {
            let process = environment.process_id();
            let cpu_before = cpu_time(process)?;
            let mut times = Vec::new();
            for place in 0..PART {
                if place % OF_ONE_AWS == 0 {
                    self.renew().await?;
                }
                let invocation = self.invoke(&mut environment, subject.work).await?;
                times.push(ms(invocation.answered - invocation.begun));
            }
            drop(self.endpoint.take_calls());
            if part == 0 || part + 1 == INVOCATIONS / PART {
                let cpu = ms(cpu_time(process)? - cpu_before) / as_number(PART as u64);
                parts.push(Part {
                    cpu,
                    p50: quantile(&times, 0.5).context("times")?,
                    p99: quantile(&times, 0.99).context("times")?,
                    memory_mib: as_number(memory_kib(process)?) / 1024.0,
                });
            }
        }
        let [first, last] = parts.try_into().ok().context("two parts")?;
        Ok(Endurance { first, last })
    }
}

/// Of an environment that has handled 100,000 invocations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Endurance {
    pub first: Part,
    pub last: Part,
}

/// Ten thousand invocations. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    pub cpu: f64,
    pub p50: f64,
    pub p99: f64,
    /// Memory after the last of them.
    pub memory_mib: f64,
}

/// An answer that is none of work that was done would be a measurement of nothing.
fn check(work: Work, invocation: &Invocation) -> Result<()> {
    let answer: serde_json::Value = serde_json::from_str(&invocation.answer)?;
    let is_done = match work {
        Work::Order | Work::KeyedOrder => answer["statusCode"] == 201,
        Work::ReserveStock(_) | Work::SettleOrder | Work::Mail => {
            answer["batchItemFailures"].as_array().is_some_and(Vec::is_empty)
        }
    };
    ensure!(is_done, "{work:?} is not done: {answer}");
    Ok(())
}

/// All subjects, round by round.
///
/// # Errors
/// One of them does not do its work.
pub async fn measure(
    bench: &mut Bench<'_>,
    rounds: usize,
) -> Result<(Vec<Timed>, BTreeMap<&'static str, Throughput>)> {
    let mut timed = vec![Timed::default(); SUBJECTS.len()];
    let mut throughput: BTreeMap<&str, Throughput> = BTreeMap::new();
    for (subject, timed) in SUBJECTS.iter().zip(&mut timed) {
        bench.count(subject, timed).await.with_context(|| subject.name())?;
    }
    for round in 1..=rounds {
        for (subject, timed) in SUBJECTS.iter().zip(&mut timed) {
            eprintln!("round {round} of {rounds}: {}", subject.name());
            bench.round(subject, timed).await.with_context(|| subject.name())?;
        }
        for subject in SUBJECTS.iter().filter(|one| one.work == Work::ReserveStock(10)) {
            let measured = throughput.entry(subject.program.language()).or_default();
            bench.throughput(subject.program, measured).await.with_context(|| subject.name())?;
        }
    }
    Ok((timed, throughput))
}

/// A figure of rounds as it stands in a table.
#[must_use]
pub fn text(rounds: &[f64], digits: usize) -> String {
    Figure::of(rounds).map_or_else(
        || "–".to_owned(),
        |Figure { median, least, greatest }| {
            format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
        },
    )
}
