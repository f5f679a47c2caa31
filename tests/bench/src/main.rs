//! `make bench`: measures the release binaries and the peers, and writes what it has found into docs/benchmarks.
//!
//! In: `ROUNDS` (5), `LONG=1` for a hundred thousand invocations of each function, `BIN_DIR` (target/release). Out: the measured part of
//! docs/benchmarks.md, and charts. Guarantee: nothing is written unless everything was measured.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bench::{
    cost::{Compute, of_million_orders},
    exact::{WHOLE_ORDER, measure_all},
    load::Work,
    process::machine,
    report::{Results, charts, markdown, replaced},
    shop::Function,
    statistics::quantile,
    subject::{Program, Programs, SUBJECTS},
    timed::{Bench, Timed, measure},
};
use sim::shop::Queue;

const ROUNDS_DEFAULT: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let programs = Programs::built_in(&root);
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    let rounds = match env::var("ROUNDS") {
        Ok(rounds) => rounds.parse().context("ROUNDS")?,
        Err(_) => ROUNDS_DEFAULT,
    };
    let is_long = env::var("LONG").is_ok_and(|long| !long.is_empty());

    let scenarios = measure_all(&programs.binaries).await?;
    let artefacts = artefacts(&programs, &folder)?;
    let log = folder.join("log");
    let mut bench = Bench::prepare(&programs, &folder, &log).await?;
    let (timed, throughput) = measure(&mut bench, rounds).await?;
    let mut endurance = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| is_long && is_enduring(subject.work)) {
        eprintln!("100,000 invocations: {}", subject.name());
        endurance.push((subject.name(), bench.endurance(subject).await?));
    }
    let order = scenarios.iter().find(|scenario| scenario.name == WHOLE_ORDER);
    let bill = of_million_orders(order.context("the whole order")?, compute(&timed)?);
    let machine = machine();
    let results =
        Results { machine, rounds, scenarios, timed, throughput, artefacts, bill, endurance };
    write(&root, &results)
}

/// The functions, each with its ordinary work.
fn is_enduring(work: Work) -> bool {
    matches!(work, Work::Order | Work::SettleOrder | Work::Mail | Work::ReserveStock(1))
}

/// What Lambda does for an order: a request, three events, and two of them mailed.
fn compute(timed: &[Timed]) -> Result<Compute> {
    let consumer = |queue| Program::Rust(Function::Consumer(queue));
    let mut compute = Compute { invocations: 0.0, billed_ms: 0.0, log_bytes: 0.0 };
    for (program, work, times) in [
        (Program::Rust(Function::OrderApi), Work::Order, 1.0),
        (consumer(Queue::Product), Work::ReserveStock(1), 1.0),
        (consumer(Queue::Order), Work::SettleOrder, 1.0),
        (consumer(Queue::Notification), Work::Mail, 2.0),
    ] {
        let mut subjects = SUBJECTS.iter().zip(timed);
        let found = subjects.find(|(one, _)| one.program == program && one.work == work);
        let (_, timed) = found.with_context(|| format!("{work:?} is measured"))?;
        let billed = quantile(&timed.billed_p50, 0.5).context("a round")?;
        compute.invocations += times;
        compute.billed_ms += times * billed;
        compute.log_bytes += times * timed.log_bytes;
    }
    Ok(compute)
}

/// What is uploaded of each program. The SDKs of Python are a part of Lambda's runtime; JavaScript's is bundled.
fn artefacts(programs: &Programs, folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut sizes = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| is_enduring(subject.work)) {
        let Program::Rust(function) = subject.program else { continue };
        let binary = programs.binaries.join(function.binary());
        let stripped = folder.join("bootstrap");
        run(Command::new("strip").arg("-o").arg(&stripped).arg(binary))?;
        sizes.push((function.binary().to_owned(), zipped(folder, &[stripped])?));
    }
    let python = programs.peers.join("python");
    let packages =
        fs::read_dir(python.join("venv/lib"))?.next().context("a version of Python")??;
    let packages = packages.path().join("site-packages");
    let of_python = ["aws_lambda_powertools", "jmespath", "typing_extensions.py"];
    let mut files = of_python.map(|name| packages.join(name)).to_vec();
    files.push(python.join("shop.py"));
    sizes.push(("Python, without the SDK".to_owned(), zipped(folder, &files)?));
    sizes.push((
        "Node.js, a bundle".to_owned(),
        zipped(folder, &[programs.peers.join("node/shop.cjs")])?,
    ));
    Ok(sizes)
}

fn zipped(folder: &Path, files: &[PathBuf]) -> Result<u64> {
    let archive = folder.join("artefact.zip");
    run(Command::new("python3").args(["-m", "zipfile", "-c"]).arg(&archive).args(files))?;
    Ok(fs::metadata(archive)?.len())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn write(root: &Path, results: &Results) -> Result<()> {
    let page = root.join("docs/benchmarks.md");
    let text = fs::read_to_string(&page)?;
    let text = replaced(&text, &markdown(results)).context("a place for what is measured")?;
    let folder = root.join("docs/benchmarks");
    fs::create_dir_all(&folder)?;
    for (name, svg) in charts(results) {
        fs::write(folder.join(name), svg)?;
    }
    fs::write(page, text)?;
    Ok(())
}
