//! docs/runbook.md as a list of commands, each with the output that the page shows of it.
//!
//! In: the page; what a command has printed. Out: the commands of a section in their order; whether an output is the one that the page shows.
//! Guarantees: what differs from run to run (ids, moments, ages, file names, spaces between columns) is no difference, and all else is; the page is
//! written only with `UPDATE_RUNBOOK`, and then only the outputs that differ.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

/// Set, it has the page's outputs written anew.
pub(crate) const UPDATE: &str = "UPDATE_RUNBOOK";
/// What stands for any number of lines of an output that the page does not show.
const CUT: &str = "…";
/// Maximum number of lines that are written of an output; all above are cut.
const OUTPUT_LINES_MAX: usize = 13;
/// What comes before the first section.
pub(crate) const FIRST: &str = "Runbook";
const FENCE: &str = "```console";
const FENCE_END: &str = "```";
const PROMPT: &str = "$ orderflow ";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbook.md")
}

/// One command of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Without `orderflow`.
    pub command: String,
    /// What the page shows of its output.
    pub shown: Vec<String>,
    /// Where that begins in the page, counted in lines from 0.
    begin: usize,
}

/// The page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    lines: Vec<String>,
}

impl Page {
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string(path()).context("docs/runbook.md")?;
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The names of its sections.
    pub(crate) fn sections(&self) -> BTreeSet<&str> {
        self.lines.iter().filter_map(|line| heading(line)).collect()
    }

    /// The commands of a section, in their order.
    pub(crate) fn steps(&self, section: &str) -> Result<Vec<Step>> {
        ensure!(self.sections().contains(section), "the runbook has no section {section}");
        let (mut here, mut in_console) = ("", false);
        let mut steps: Vec<Step> = Vec::new();
        for (number, line) in self.lines.iter().enumerate() {
            match (in_console, line.as_str()) {
                (true, FENCE_END) => in_console = false,
                (true, line) if here == section => match line.strip_prefix(PROMPT) {
                    Some(command) => {
                        let (command, begin) = (command.to_owned(), number + 1);
                        steps.push(Step { command, shown: Vec::new(), begin });
                    }
                    None => {
                        let step = steps.last_mut().context("an output without its command")?;
                        step.shown.push(line.to_owned());
                    }
                },
                (false, FENCE) => in_console = true,
                (false, line) => here = heading(line).unwrap_or(here),
                (true, _) => {}
            }
        }
        Ok(steps)
    }

    /// Shows this output of a step of a section.
    fn show(&mut self, section: &str, index: usize, output: &[String]) -> Result<()> {
        let steps = self.steps(section)?;
        let step = steps.get(index).with_context(|| format!("no step {index} of {section}"))?;
        let mut output = output.to_vec();
        if output.len() > OUTPUT_LINES_MAX {
            output.truncate(OUTPUT_LINES_MAX - 1);
            output.push(CUT.to_owned());
        }
        self.lines.splice(step.begin..step.begin + step.shown.len(), output);
        Ok(())
    }

    fn write(&self) -> Result<()> {
        Ok(fs::write(path(), self.lines.join("\n") + "\n")?)
    }
}

fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("## ").or_else(|| line.strip_prefix("# "))
}

/// Compares what a step has printed with what the page shows, or has the page show it.
///
/// # Errors
/// It is something else.
pub(crate) fn check(section: &str, index: usize, step: &Step, printed: &str) -> Result<()> {
    let printed: Vec<String> = printed.lines().map(|line| line.trim_end().to_owned()).collect();
    if is_shown(&step.command, &step.shown, &printed) {
        return Ok(());
    }
    if std::env::var_os(UPDATE).is_some() {
        // Read again: another step may have moved its lines.
        let mut page = Page::read()?;
        page.show(section, index, &printed)?;
        return page.write();
    }
    let lines = |lines: &[String]| {
        lines.iter().map(|line| format!("  {}\n", normal(&step.command, line))).collect::<String>()
    };
    anyhow::bail!(
        "`orderflow {}` of the section {section} prints something else than docs/runbook.md shows; \
         `{UPDATE}=1 make runbook` writes it anew.\nThe page, normalized:\n{}The command, normalized:\n{}The command:\n{}",
        step.command,
        lines(&step.shown),
        lines(&printed),
        printed.join("\n"),
    )
}

/// Whether lines are those that the page shows, where a line `…` stands for any number of others.
fn is_shown(command: &str, shown: &[String], printed: &[String]) -> bool {
    match shown {
        [] => printed.is_empty(),
        [cut, rest @ ..] if cut == CUT => {
            (0..=printed.len()).any(|from| is_shown(command, rest, &printed[from..]))
        }
        [line, rest @ ..] => printed.split_first().is_some_and(|(first, others)| {
            normal(command, line) == normal(command, first) && is_shown(command, rest, others)
        }),
    }
}

/// What stands at the ends of a token without being a part of it.
const PUNCTUATION: [char; 2] = ['.', ':'];

/// A line with a word instead of each thing that differs from run to run.
fn normal(command: &str, line: &str) -> String {
    let mut normal = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_of_token(c) != is_of_token(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if is_of_token(first) {
            let token = run.trim_matches(PUNCTUATION);
            let (before, behind) = run.split_once(token).unwrap_or(("", ""));
            // An emulator without metrics does not know the age of the oldest message.
            let is_no_age = command.starts_with("status") && token == "-";
            let word = if is_no_age { Some("AGE") } else { kind(token, is_count(command, after)) };
            normal.extend([before, word.unwrap_or(token), behind]);
        } else {
            normal.push_str(run);
        }
        rest = after;
    }
    let words = normal.split_whitespace().collect::<Vec<_>>().join(" ");
    ["order", "product", "time"].iter().fold(words, |words, noun| {
        words.replace(&format!("COUNT {noun}s"), &format!("COUNT {noun}"))
    })
}

/// Whether a number of a command, with this after it, is the stack's: how many orders there are, what the relay found besides, for how many minutes an
/// order may be pending, and how often somebody has looked at a letter.
fn is_count(command: &str, after: &str) -> bool {
    command.starts_with("reconcile")
        || command.ends_with("--now")
        || [" minutes", " times", " time"].iter().any(|unit| after.starts_with(unit))
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.:/+".contains(c)
}

/// What a token is called if it differs from run to run.
fn kind(token: &str, is_count: bool) -> Option<&'static str> {
    let is_hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let are_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if token.contains('/') || token.ends_with(".json") {
        return Some("FILE");
    }
    if ["pi_", "re_", "ch_"].iter().any(|prefix| token.starts_with(prefix)) {
        return Some("STRIPE-ID");
    }
    // 2026-11-28T20:51:24Z, with or without a fraction.
    if token.ends_with('Z') && token.contains('T') && token.contains(':') {
        return Some("MOMENT");
    }
    // A UUID of five groups, and a traceparent of four.
    let groups: Vec<&str> = token.split('-').collect();
    if groups.len() >= 4 && token.len() > 30 && groups.iter().all(|group| is_hex(group)) {
        return Some("ID");
    }
    let span = token.trim_start_matches('+').replace('.', "");
    if span.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(are_digits) {
        return Some("AGE");
    }
    (is_count && are_digits(token)).then_some("COUNT")
}

#[test]
fn a_page_is_read_by_section_and_command_and_written_at_the_same_place() -> Result<()> {
    let text = "# Runbook\n\n```console\n$ orderflow status\nfine\n```\n\n## one\n\n```sh\nls\n```\n\n\
                ```console\n$ orderflow dlq list\na\nb\n$ orderflow reconcile\n```\n\n## two";
    let mut page = Page::of(text);
    assert_eq!(page.sections(), BTreeSet::from([FIRST, "one", "two"]));
    let commands = |page: &Page, section| -> Result<Vec<(String, usize)>> {
        let steps = page.steps(section)?;
        Ok(steps.into_iter().map(|step| (step.command, step.shown.len())).collect())
    };
    assert_eq!(commands(&page, FIRST)?, [("status".into(), 1)]);
    assert_eq!(commands(&page, "one")?, [("dlq list".into(), 2), ("reconcile".into(), 0)]);
    assert_eq!(commands(&page, "two")?, []);
    page.show("one", 1, &["done".into()])?;
    page.show("one", 0, &vec!["x".into(); OUTPUT_LINES_MAX + 1])?;
    assert_eq!(
        commands(&page, "one")?,
        [("dlq list".into(), OUTPUT_LINES_MAX), ("reconcile".into(), 1)]
    );
    assert_eq!(page.steps("one")?[0].shown.last().map(String::as_str), Some(CUT));
    assert_eq!(page.steps("one")?[1].shown, ["done"]);
    Ok(())
}

#[test]
fn only_what_differs_from_run_to_run_is_no_difference() {
    let is_shown = |command: &str, shown: &[&str], printed: &[&str]| {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        is_shown(command, &lines(shown), &lines(printed))
    };
    let (one, other) =
        ("3b241101-e2bb-4255-8caf-4136c566a962", "0199f0aa-0000-7000-8000-000000000001");
    for (shown, printed) in [
        (format!("product   {one}  ≤3s  schema"), format!("product {other} ≤12m schema")),
        (format!(r#""order_id": "{one}","#), format!(r#""order_id": "{other}","#)),
        ("at 2026-11-28T20:51:24Z".into(), "at 2027-01-01T00:00:00.123Z".into()),
        ("A copy is in a.json; bring".into(), "A copy is in b-1.json; bring".into()),
        ("open (pi_abc)".into(), "open (pi_xyz1)".into()),
        ("for longer than 15 minutes".into(), "for longer than 0 minutes".into()),
        ("StockReserved +0.1s".into(), "StockReserved +12m".into()),
        ("received 1 time".into(), "received 2 times".into()),
    ] {
        assert!(is_shown("dlq list", &[&shown], &[&printed]), "{shown} {printed}");
    }
    for (shown, printed) in [
        ("product: 1 deleted", "product: 2 deleted"),
        ("reason schema", "reason not_json"),
        ("o***@e***.com", "p***@e***.com"),
    ] {
        assert!(!is_shown("dlq list", &[shown], &[printed]), "{shown} {printed}");
    }
    assert!(is_shown("reconcile", &["12 orders"], &["1 order"]));
    assert!(is_shown("order republish ORDER --now", &[r#"{"stuck":0}"#], &[r#"{"stuck":1}"#]));
    assert!(!is_shown("status", &[r#"{"stuck":0}"#], &[r#"{"stuck":1}"#]));
    assert!(is_shown("status", &["a", CUT, "d"], &["a", "b", "c", "d"]));
    assert!(is_shown("status", &["a", CUT], &["a"]));
    assert!(!is_shown("status", &["a", CUT, "d"], &["a", "b", "c"]));
    assert!(!is_shown("status", &["a"], &["a", "b"]));
}
