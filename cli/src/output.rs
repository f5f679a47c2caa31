//! What a command says on stdout: tables for people, JSON for scripts.
//!
//! Guarantee: with `--output json` stdout is one JSON document (of `--watch`: one a line) and nothing else. A
//! reader that goes away early, such as `head`, ends the command quietly.

use std::io::{ErrorKind, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets::NOTHING};
use serde::Serialize;

use crate::error::CliError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables and sentences, for people.
    Text,
    /// JSON, for scripts.
    Json,
}

impl Output {
    /// Says it in this form; the text is made only if it is wanted.
    ///
    /// # Errors
    /// Stdout does not take it.
    pub(crate) fn say<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self {
            Self::Text => print(&text(value)),
            Self::Json => {
                print(&serde_json::to_string_pretty(value).map_err(CliError::local("printing"))?)
            }
        }
    }

    /// Says it as one of many: JSON on one line, text over the last on a terminal.
    ///
    /// # Errors
    /// Stdout does not take it.
    pub(crate) fn say_again<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self {
            Self::Json => {
                print(&serde_json::to_string(value).map_err(CliError::local("printing"))?)
            }
            Self::Text if std::io::stdout().is_terminal() => {
                // Home, and clear what is below: unlike a clear of all it does not flicker.
                print(&format!("\x1b[H\x1b[J{}", text(value)))
            }
            Self::Text => print(&text(value)),
        }
    }
}

/// Prints a line or several.
///
/// # Errors
/// Stdout does not take it.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(CliError::local("printing")),
    }
}

/// A table without lines. A heading that begins with `>` is of a column of numbers.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let right = |heading: &str| heading.starts_with('>');
    table.set_header(headings.iter().map(|heading| {
        let cell = Cell::new(heading.trim_start_matches('>').to_uppercase());
        if right(heading) { cell.set_alignment(CellAlignment::Right) } else { cell }
    }));
    for row in rows {
        table.add_row(row.into_iter().enumerate().map(|(column, text)| {
            let cell = Cell::new(plain(&text));
            let numbers = headings.get(column).is_some_and(|heading| right(heading));
            if numbers { cell.set_alignment(CellAlignment::Right) } else { cell }
        }));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Without control characters: what a stranger sent must not move the cursor of whoever looks at it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_numbers_to_the_right_and_has_no_trailing_blanks() {
        let text = table(&["queue", ">waiting"], [vec!["order".into(), "7".into()]]);
        assert_eq!(text, " QUEUE  WAITING\n order        7");
    }

    #[test]
    fn a_dead_letter_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
