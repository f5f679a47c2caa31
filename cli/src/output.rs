//! What a command says on stdout: tables for people, JSON for scripts.
//!
//! Guarantees: the e-mail addresses of customers are masked unless somebody asked for them. With `--output json` stdout is one JSON document (of `--watch`: one a line) and nothing else. A
//! reader that goes away early, such as `head`, ends the command quietly.

use std::{
    borrow::Cow,
    io::{ErrorKind, IsTerminal, Write},
};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

use crate::{error::CliError, masking::mask_emails};

/// How a command says something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub form: Form,
    /// With the addresses of customers in full, because somebody asked for them.
    pub shows_emails: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
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
        let said = match self.form {
            Form::Text => text(value),
            Form::Json => {
                serde_json::to_string_pretty(value).map_err(CliError::local("printing"))?
            }
        };
        print(&self.masked(&said))
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
        let said = match self.form {
            Form::Json => serde_json::to_string(value).map_err(CliError::local("printing"))?,
            // Home, and clear what is below: unlike a clear of all it does not flicker.
            Form::Text if std::io::stdout().is_terminal() => {
                format!("\x1b[H\x1b[J{}", text(value))
            }
            Form::Text => text(value),
        };
        print(&self.masked(&said))
    }

    /// A text as it may be shown.
    pub(crate) fn masked(self, text: &str) -> Cow<'_, str> {
        if self.shows_emails { text.into() } else { mask_emails(text).into() }
    }

    /// Says why there is nothing new to be shown: on a terminal below what was shown last, or else on stderr.
    ///
    /// # Errors
    /// Stdout does not take it.
    pub(crate) fn say_stale(self, why: &str, last: &str) -> Result<(), CliError> {
        if self.form == Form::Text && std::io::stdout().is_terminal() {
            return print(&format!("\x1b[H\x1b[J{last}\n\n{why}"));
        }
        eprintln!("{why}");
        Ok(())
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

/// A table without lines, on a terminal as wide as that. A heading that begins with `>` is of a column of numbers.
pub(crate) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let width = terminal_size_of(std::io::stdout()).map(|(Width(columns), _)| columns);
    table_within(width, headings, rows)
}

/// The same in at most `width` columns of text: cells that do not fit are continued on the next line.
fn table_within(
    width: Option<u16>,
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
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

/// At most this number of characters of a text; `…` says that there was more.
pub(crate) fn cut(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters_max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// `1 dead letter`, `2 dead letters`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Without control characters: what a stranger sent must not move the cursor of whoever looks at it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A JSON document with a line for each value. Its values stay as they were written: 25.00 is no 25.0.
pub(crate) fn indent(json: &str) -> String {
    let (mut text, mut depth, mut in_string, mut is_escaped) =
        (String::new(), 0_usize, false, false);
    let new_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    let mut characters = json.chars().filter(|c| !c.is_control()).peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if in_string => {
                in_string = is_escaped || character != '"';
                is_escaped = !is_escaped && character == '\\';
                text.push(character);
            }
            ' ' => {}
            '{' | '[' => {
                text.push(character);
                while characters.next_if_eq(&' ').is_some() {}
                if characters.peek().is_none_or(|next| !matches!(next, '}' | ']')) {
                    depth += 1;
                    new_line(&mut text, depth);
                }
            }
            '}' | ']' => {
                if !text.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut text, depth);
                }
                text.push(character);
            }
            ',' => {
                text.push(character);
                new_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            '"' => {
                in_string = true;
                text.push(character);
            }
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indented_document_keeps_its_values_as_they_were_written() {
        let json =
            r#"{"total":25.00,"empty":{},"none":[ ],"note":"a, \"b\": {c}","lines":[1,{"a":1e2}]}"#;
        let pretty = indent(json);
        assert_eq!(
            pretty,
            r#"{
  "total": 25.00,
  "empty": {},
  "none": [],
  "note": "a, \"b\": {c}",
  "lines": [
    1,
    {
      "a": 1e2
    }
  ]
}"#
        );
    }

    #[test]
    fn a_table_aligns_numbers_to_the_right_and_has_no_trailing_blanks() {
        let text = table(&["queue", ">waiting"], [vec!["order".into(), "7".into()]]);
        assert_eq!(text, " QUEUE  WAITING\n order        7");
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_loses_nothing() {
        let row = vec!["product".to_owned(), "data.items: ".to_owned() + &"missing ".repeat(30)];
        let text = table_within(Some(60), &["queue", "detail"], [row]);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        assert_eq!(text.matches("missing").count(), 30, "{text}");
    }

    #[test]
    fn what_is_cut_ends_with_an_ellipsis() {
        assert_eq!(cut("12345", 5), "12345");
        assert_eq!(cut("123456", 5), "1234…");
        assert_eq!(cut("äöüäöü", 4), "äöü…");
    }

    #[test]
    fn one_of_something_is_no_plural() {
        assert_eq!(counted(1, "dead letter"), "1 dead letter");
        assert_eq!(counted(0, "dead letter"), "0 dead letters");
    }

    #[test]
    fn a_dead_letter_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
