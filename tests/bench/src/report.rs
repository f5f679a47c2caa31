//! The measured part of docs/benchmarks.md, and its charts.
//!
//! In: what was measured. Out: Markdown and SVG. Guarantee: pure; nothing in it names the machine but for its processor.

use std::{collections::BTreeMap, fmt::Write};

use crate::{
    chart::{Bar, bars},
    cost::Item,
    exact::Scenario,
    prices,
    statistics::Figure,
    subject::{SUBJECTS, Subject},
    timed::{Endurance, SIDE_BY_SIDE, Throughput, Timed, text},
};

/// What stands around the measured part.
pub const BEGIN: &str = "<!-- measured: begin -->";
pub const END: &str = "<!-- measured: end -->";

/// All that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    pub machine: String,
    pub rounds: usize,
    pub scenarios: Vec<Scenario>,
    /// In the order of the subjects.
    pub timed: Vec<Timed>,
    pub throughput: BTreeMap<&'static str, Throughput>,
    /// What is uploaded, and its size in bytes.
    pub artefacts: Vec<(String, u64)>,
    pub bill: Vec<Item>,
    /// Of a long run only.
    pub endurance: Vec<(String, Endurance)>,
}

/// A page with its measured part replaced, or `None` if it has no place for one.
#[must_use]
pub fn replaced(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{measured}{END}{after}"))
}

/// The measured part.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut page = format!(
        "Measured on {}, in {} round(s): a figure is the median of the rounds' figures, with the least and the greatest of them.\n",
        results.machine, results.rounds
    );
    page += "\n### Calls and units today\n\n```\n";
    results.scenarios.iter().for_each(|scenario| page += &scenario.to_string());
    page += "```\n\n### Start\n\n\
        Milliseconds from the process's start, its files in the page cache; the first answer has AWS's delays in it, \
        and in \"own\" the time in which a call was under way at AWS is left out.\n\n\
        ![From start to first answer](benchmarks/start.svg)\n\n";
    table(
        &mut page,
        &["", "ready", "first answer", "own", "ready, TLS", "first answer, TLS"],
        rows(results, |timed| {
            let Timed { ready, first_answer, first_own, ready_tls, first_answer_tls, .. } = timed;
            let digits = [
                (ready, 1),
                (first_answer, 0),
                (first_own, 1),
                (ready_tls, 1),
                (first_answer_tls, 0),
            ];
            digits.map(|(rounds, digits)| text(rounds, digits)).to_vec()
        }),
    );
    page += "\n### Warm\n\n\
        Milliseconds. Own time: from event to answer, without the time in which a call was under way at AWS. Billed: from event to idle, AWS's delays \
        included. CPU: user and system, without delays.\n\n\
        ![Own time](benchmarks/own-time.svg)\n\n![CPU time](benchmarks/cpu.svg)\n\n";
    table(
        &mut page,
        &["", "own, p50", "own, p99", "CPU", "billed, p50", "calls", "in a row"],
        rows(results, |timed| {
            vec![
                text(&timed.own_p50, 2),
                text(&timed.own_p99, 2),
                text(&timed.cpu, 2),
                text(&timed.billed_p50, 0),
                timed.calls.to_string(),
                timed.depth.to_string(),
            ]
        }),
    );
    page += "\n### Memory and size\n\n![Peak memory](benchmarks/memory.svg)\n\n";
    table(
        &mut page,
        &["", "peak memory, MiB", "log of an invocation, bytes"],
        rows(results, |timed| {
            vec![text(&timed.peak_memory_mib, 1), format!("{:.0}", timed.log_bytes)]
        }),
    );
    page += "\n";
    #[allow(clippy::cast_precision_loss, reason = "sizes of files")]
    let sizes = results.artefacts.iter().map(|(name, bytes)| {
        vec![name.clone(), format!("{:.2}", *bytes as f64 / (1024.0 * 1024.0))]
    });
    table(&mut page, &["what is uploaded", "zipped, MiB"], sizes.collect());
    page += "\n### Events a second\n\n\
        `OrderCreated` that reserve stock, in batches of ten, with AWS's delays; environments, AWS and the harness share the machine.\n\n";
    let side_by_side = format!("{SIDE_BY_SIDE} environments");
    let rates = results.throughput.iter().map(|(language, measured)| {
        vec![(*language).to_owned(), text(&measured.one, 0), text(&measured.side_by_side, 0)]
    });
    table(&mut page, &["", "one environment", &side_by_side], rates.collect());
    write_bill(&mut page, &results.bill);
    write_endurance(&mut page, &results.endurance);
    write_goals(&mut page, results);
    page
}

/// A multiple of a peer's median, or of its own, that is to be reached.
#[derive(Debug, Clone, PartialEq)]
struct Goal {
    what: String,
    times: Option<f64>,
    at_least: f64,
}

const ORDER: &str = "POST /orders with a key";
const BATCH: &str = "10 OrderCreated, stock";

/// How many times less than its peers the functions take, by medians, and how many times more a batch is worth.
fn goals(results: &Results) -> Vec<Goal> {
    let median = |name: &str, figures: fn(&Timed) -> &Vec<f64>| {
        let mut subjects = SUBJECTS.iter().zip(&results.timed);
        let (_, timed) = subjects.find(|(subject, _)| subject.name() == name)?;
        Some(Figure::of(figures(timed))?.median)
    };
    let less = |what: &str, peer: &str, work: &str, figures: fn(&Timed) -> &Vec<f64>, at_least| {
        let peers = median(&format!("{peer}: {work}"), figures);
        let ours = median(&format!("Rust: {work}"), figures);
        Goal {
            what: format!("{what}, {work}: less than {peer}"),
            times: peers.zip(ours).map(|(peers, ours)| peers / ours),
            at_least,
        }
    };
    let first_answer: fn(&Timed) -> &Vec<f64> = |timed| &timed.first_answer;
    let first_own: fn(&Timed) -> &Vec<f64> = |timed| &timed.first_own;
    let cpu: fn(&Timed) -> &Vec<f64> = |timed| &timed.cpu;
    let memory: fn(&Timed) -> &Vec<f64> = |timed| &timed.peak_memory_mib;
    let in_batches =
        results.throughput.get("Rust").and_then(|rate| Some(Figure::of(&rate.one)?.median));
    let one_by_one = median("Rust: 1 OrderCreated, stock", |timed| &timed.billed_p50);
    vec![
        less("first answer without AWS's time", "Python", ORDER, first_own, 20.0),
        less("first answer without AWS's time", "Node.js", ORDER, first_own, 15.0),
        less("first answer with AWS's delays", "Python", ORDER, first_answer, 20.0),
        less("first answer with AWS's delays", "Node.js", ORDER, first_answer, 15.0),
        less("CPU", "Python", ORDER, cpu, 6.0),
        less("CPU", "Node.js", ORDER, cpu, 6.0),
        less("CPU", "Python", BATCH, cpu, 25.0),
        less("CPU", "Node.js", BATCH, cpu, 15.0),
        less("peak memory", "Python", ORDER, memory, 5.0),
        less("peak memory", "Python", BATCH, memory, 5.0),
        Goal {
            what: "events a second of one environment, in batches of ten: more than one by one"
                .to_owned(),
            times: in_batches.zip(one_by_one).map(|(rate, billed)| rate * billed / 1000.0),
            at_least: 6.0,
        },
    ]
}

fn write_goals(page: &mut String, results: &Results) {
    page.push_str("\n### Goals\n\nMedians, as above.\n\n");
    let rows = goals(results).into_iter().map(|Goal { what, times, at_least }| {
        let is_met = times.is_some_and(|times| times >= at_least);
        let times =
            times.map_or_else(|| "not measured".to_owned(), |times| format!("{times:.1} times"));
        let met = if is_met { "met" } else { "missed" };
        vec![what, times, format!("{at_least:.0} times"), met.to_owned()]
    });
    let mut rows: Vec<_> = rows.collect();
    // Of the functions only: what peers upload has a comma in its name.
    let zips = results.artefacts.iter().filter(|(name, _)| !name.contains(','));
    if let Some(bytes) = zips.map(|(_, bytes)| *bytes).max() {
        #[allow(clippy::cast_precision_loss, reason = "the size of a file")]
        let megabytes = bytes as f64 / 1e6;
        let met = if megabytes <= 4.0 { "met" } else { "missed" };
        let size = format!("{megabytes:.2} MB");
        rows.push(vec!["largest zip".to_owned(), size, "4 MB".to_owned(), met.to_owned()]);
    }
    table(page, &["", "measured", "goal", ""], rows);
}

fn write_bill(page: &mut String, bill: &[Item]) {
    let _ = write!(
        page,
        "\n### What a million orders cost\n\n\
         List prices of {}, as of {} (`tests/bench/src/prices.rs`), without free tiers: confirmed orders of one line, 256 MB on arm64, each message by \
         itself, which is the most expensive case; time as billed above, on this machine. SQS: each message is sent, received and \
         deleted; empty receives are not counted.\n\n![Cost](benchmarks/cost.svg)\n\n",
        prices::REGION,
        prices::AS_OF
    );
    let rows = bill.iter().map(|item| {
        let amount = format!("{} {}", significant(item.of_one_order), item.unit);
        vec![item.what.to_owned(), amount, format!("{:.2}", item.dollars)]
    });
    let total: f64 = bill.iter().map(|item| item.dollars).sum();
    let mails: f64 = bill.iter().filter(|item| item.what == "SES").map(|item| item.dollars).sum();
    let mut rows: Vec<_> = rows.collect();
    rows.push(vec!["in all".to_owned(), String::new(), format!("{total:.2}")]);
    rows.push(vec!["without the mails".to_owned(), String::new(), format!("{:.2}", total - mails)]);
    table(page, &["", "an order takes", "USD a million orders"], rows);
}

fn write_endurance(page: &mut String, endurance: &[(String, Endurance)]) {
    page.push_str("\n### A hundred thousand invocations\n\n");
    if endurance.is_empty() {
        page.push_str("Not run; `make bench LONG=1` does.\n");
        return;
    }
    page.push_str("One environment, without delays: the first ten thousand and the last.\n\n");
    let rows = endurance.iter().map(|(name, Endurance { first, last })| {
        vec![
            name.clone(),
            format!("{:.2} → {:.2}", first.cpu, last.cpu),
            format!("{:.2} → {:.2}", first.p50, last.p50),
            format!("{:.2} → {:.2}", first.p99, last.p99),
            format!("{:.1} → {:.1}", first.memory_mib, last.memory_mib),
        ]
    });
    table(page, &["", "CPU, ms", "p50, ms", "p99, ms", "memory, MiB"], rows.collect());
}

fn significant(value: f64) -> String {
    if value >= 1.0 || value == 0.0 { value.to_string() } else { format!("{value:.2e}") }
}

fn rows(results: &Results, cells: impl Fn(&Timed) -> Vec<String>) -> Vec<Vec<String>> {
    let subjects = SUBJECTS.iter().zip(&results.timed);
    subjects.map(|(subject, timed)| [vec![subject.name()], cells(timed)].concat()).collect()
}

fn table(page: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    let _ = writeln!(page, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
}

/// The charts, by the names of their files.
#[must_use]
pub fn charts(results: &Results) -> Vec<(&'static str, String)> {
    let chart = |title: &str, unit: &str, figures: fn(&Timed) -> &Vec<f64>| {
        let subjects = SUBJECTS.iter().zip(&results.timed);
        let found = subjects.filter_map(|(subject, timed)| bar(subject, figures(timed)));
        bars(title, unit, &found.collect::<Vec<_>>())
    };
    let bill = results.bill.iter().map(|item| Bar {
        label: item.what.to_owned(),
        group: "Rust",
        figure: Figure { median: item.dollars, least: item.dollars, greatest: item.dollars },
    });
    let bill: Vec<_> = bill.collect();
    vec![
        (
            "start.svg",
            chart("From the process's start to its first answer", "ms", |one| &one.first_answer),
        ),
        ("own-time.svg", chart("Own time of an invocation, p50", "ms", |one| &one.own_p50)),
        ("cpu.svg", chart("CPU time of an invocation", "ms", |one| &one.cpu)),
        ("memory.svg", chart("Peak memory", "MiB", |one| &one.peak_memory_mib)),
        ("cost.svg", bars("A million confirmed orders", "USD", &bill)),
    ]
}

fn bar(subject: &Subject, rounds: &[f64]) -> Option<Bar> {
    let (label, group) = (subject.name(), subject.program.language());
    Figure::of(rounds).map(|figure| Bar { label, group, figure })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_part_of_a_page_is_replaced() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let expected = format!("before\n{BEGIN}\nnew\n{END}\nafter\n");
        assert_eq!(replaced(&page, "new\n"), Some(expected));
        assert_eq!(replaced("nothing", "new"), None);
    }
}
