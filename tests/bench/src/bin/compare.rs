//! Measures the same functions as several builds have them, in interleaved rounds: what a setting, a compiler or a change is worth.
//!
//!     target/debug/compare target/release ../other/target/release
//!
//! In: folders of binaries, `ROUNDS` (5); target/release besides. Out: a table of medians and spreads, a row for each folder and work.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bench::{
    load::Work,
    subject::{Programs, SUBJECTS, Subject},
    timed::{Bench, Timed, text},
};

const ROUNDS_DEFAULT: usize = 5;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let of_checkout = Programs::built_in(&root);
    let build = |folder| Programs { binaries: PathBuf::from(folder), ..of_checkout.clone() };
    let builds: Vec<Programs> = env::args_os().skip(1).map(build).collect();
    ensure!(!builds.is_empty(), "name the folders of the binaries that are to be compared");
    let rounds = match env::var("ROUNDS") {
        Ok(rounds) => rounds.parse().context("ROUNDS")?,
        Err(_) => ROUNDS_DEFAULT,
    };
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    let log = folder.join("log");
    let subjects: Vec<&Subject> = SUBJECTS.iter().filter(|one| is_compared(one)).collect();
    let mut timed = vec![vec![Timed::default(); subjects.len()]; builds.len()];
    // All of them do the same work: it is recorded once, from this checkout's build.
    let mut bench = Bench::prepare(&of_checkout, &folder, &log).await?;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (build, timed) in builds.iter().zip(&mut timed) {
            bench.programs = build;
            for (subject, timed) in subjects.iter().zip(timed) {
                bench.round(subject, timed).await?;
            }
        }
    }
    println!(
        "| build | work | first answer, own, ms | first answer, TLS, ms | CPU, ms | peak memory, MiB |\n|---|---|---|---|---|---|"
    );
    for (build, timed) in builds.iter().zip(&timed) {
        for (subject, timed) in subjects.iter().zip(timed) {
            let (first, cpu) = (text(&timed.first_own, 1), text(&timed.cpu, 2));
            let encrypted = text(&timed.first_answer_tls, 0);
            let memory = text(&timed.peak_memory_mib, 1);
            let build = build.binaries.display();
            println!("| {build} | {} | {first} | {encrypted} | {cpu} | {memory} |", subject.name());
        }
    }
    Ok(())
}

/// Those that settings are chosen by: a customer waits for the one, the other is a busy queue's.
fn is_compared(subject: &Subject) -> bool {
    subject.is_ours() && matches!(subject.work, Work::KeyedOrder | Work::ReserveStock(10))
}
