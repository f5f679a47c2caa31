//! `make profile`: where the instructions of a start and of an invocation go.
//!
//! In: the release binaries (`BIN_DIR`, target/release), and valgrind on the path. Out: a table of the functions' ordinary work, with the
//! instructions of a start and of an invocation, and who has spent those of an invocation, crate by crate. Guarantee: counted, not
//! timed, so that a busy machine gives the same figures. An invocation is the difference of two runs, divided by the invocations that one
//! has more.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use bench::{
    endpoint::{AwsEndpoint, Delays},
    lambda::Environment,
    load::Load,
    subject::{Programs, SUBJECTS, Subject},
};

/// Number of invocations of the first run: the process has met everything once then.
const INVOCATIONS_FIRST: u64 = 5;
/// Number of invocations that the second run has more.
const INVOCATIONS_MORE: u64 = 50;
/// Number of crates that are named of a function.
const CRATES_NAMED_MAX: usize = 12;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let programs = Programs::built_in(&root);
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let mut load = Load::record(&programs.binaries).await?;
    println!("| work | instructions until its first event | of an invocation |\n|---|---|---|");
    let mut crates = String::new();
    for subject in SUBJECTS.iter().filter(|subject| subject.is_ours()) {
        let out = folder.join("callgrind.out");
        let nothing = run(&programs, &mut load, subject, 0, &out).await?;
        let few = run(&programs, &mut load, subject, INVOCATIONS_FIRST, &out).await?;
        let many = INVOCATIONS_FIRST + INVOCATIONS_MORE;
        let many = run(&programs, &mut load, subject, many, &out).await?;
        let of_invocation = (total(&many) - total(&few)) / INVOCATIONS_MORE;
        println!(
            "| {} | {} | {} |",
            subject.name(),
            millions(total(&nothing)),
            millions(of_invocation)
        );
        crates += &by_crate(&subject.name(), &few, &many);
    }
    println!("{crates}");
    Ok(())
}

/// Has one environment do this number of invocations under callgrind; the instructions of each crate.
async fn run(
    programs: &Programs,
    load: &mut Load,
    subject: &Subject,
    invocations: u64,
    out: &Path,
) -> Result<BTreeMap<String, u64>> {
    let endpoint = AwsEndpoint::start(load.new_aws().await?, Delays::NONE).await?;
    let command = programs.command(subject.program, &endpoint.url(), None, None)?;
    let mut environment = Environment::start(under_callgrind(&command, out)).await?;
    for _ in 0..invocations {
        let event = load.event(subject.work, &endpoint.aws()).await?;
        environment.invoke(event).await?;
    }
    environment.terminate()?;
    let annotated = Command::new("callgrind_annotate")
        .args(["--threshold=100", "--show-percs=no"])
        .arg(out)
        .output()
        .context("callgrind_annotate")?;
    ensure!(annotated.status.success(), "{}", String::from_utf8_lossy(&annotated.stderr));
    Ok(instructions(&String::from_utf8_lossy(&annotated.stdout)))
}

fn under_callgrind(command: &Command, out: &Path) -> Command {
    let mut wrapped = Command::new("valgrind");
    wrapped.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display()));
    wrapped.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    wrapped
}

/// The instructions of each crate, by the lines of callgrind_annotate: `1,234  file:function [object]`.
fn instructions(annotated: &str) -> BTreeMap<String, u64> {
    let mut crates = BTreeMap::new();
    for line in annotated.lines() {
        let Some((count, place)) = line.trim_start().split_once(' ') else { continue };
        let Ok(count) = count.replace(',', "").parse::<u64>() else { continue };
        let Some((_, function)) = place.trim_start().split_once(':') else { continue };
        *crates.entry(crate_of(function)).or_default() += count;
    }
    crates
}

/// The crate of a function, or the library for one of C.
fn crate_of(function: &str) -> String {
    let (name, object) = function.rsplit_once(" [").unwrap_or((function, ""));
    let name = name.trim_start_matches(['<', '&', '*', '(']).trim_start_matches("dyn ");
    match name.split_once("::") {
        Some((of, _)) if of.chars().all(|char| char.is_ascii_alphanumeric() || char == '_') => {
            of.to_owned()
        }
        _ if name.contains("alloc") || name.contains("free") => "malloc".to_owned(),
        _ if name.contains("mem") => "memory copies".to_owned(),
        _ => Path::new(object.trim_end_matches(']'))
            .file_name()
            .map_or_else(|| "other".to_owned(), |file| file.to_string_lossy().into_owned()),
    }
}

fn total(crates: &BTreeMap<String, u64>) -> u64 {
    crates.values().sum()
}

/// Who has spent the instructions of an invocation.
fn by_crate(name: &str, few: &BTreeMap<String, u64>, many: &BTreeMap<String, u64>) -> String {
    let spent = |(name, count): (&String, &u64)| {
        let before = few.get(name).copied().unwrap_or_default();
        (count.saturating_sub(before) / INVOCATIONS_MORE, name.clone())
    };
    let mut spent: Vec<_> = many.iter().map(spent).collect();
    spent.sort_unstable_by(|a, b| b.cmp(a));
    let all: u64 = spent.iter().map(|(count, _)| count).sum();
    let parts = spent
        .iter()
        .take(CRATES_NAMED_MAX)
        .map(|(count, name)| format!("{name} {} %", (100 * count + all / 2) / all.max(1)));
    format!("\n{name}: {}", parts.collect::<Vec<_>>().join(", "))
}

fn millions(count: u64) -> String {
    format!("{}.{:02} million", count / 1_000_000, count % 1_000_000 / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_counted_by_the_crate_of_their_function() {
        let lines = "Ir\n1,200  ???:aws_smithy_http::encode [/bin/order-api]\n\
                     300  ???:<aws_smithy_http::Part as core::fmt::Display>::fmt [/bin/order-api]\n\
                     50  ./malloc.c:_int_malloc [/lib/libc.so.6]\n7  ???:SHA256_Update [/bin/order-api]\n";
        let expected = [("aws_smithy_http", 1500), ("malloc", 50), ("order-api", 7)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(instructions(lines), expected.into());
    }
}
