//! `orderflow logs`: what all functions have logged about one order, in the order of time.
//!
//! In: an order and a span. Out: the lines of the functions' log groups that name the order or its correlation id, without what
//! Lambda itself logs. Guarantees: bounded in lines and in time; what was not read is said. A log group that is not there yet has
//! logged nothing.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    error::CliError,
    log,
    log_events::{self, Wanted},
    output::{plain, table},
    stack::Stack,
};

/// Maximum number of lines that are read of one function.
const LINES_MAX: usize = 5_000;
/// For how long the log groups are read: CloudWatch Logs may answer many pages without a line.
const READ_TIME: Duration = Duration::from_secs(30);
/// Number of log groups that are read at the same time.
const GROUPS_AT_ONCE: usize = 4;
/// What Lambda itself logs about an invocation.
const PLATFORM_LINES: [&str; 6] = [
    "START RequestId",
    "END RequestId",
    "REPORT RequestId",
    "INIT_START",
    "INIT_REPORT",
    "EXTENSION\t",
];
/// Fields of a line, and of its span, that stand in columns of their own, or are the same in each line.
const OWN_COLUMNS: [&str; 8] = [
    "timestamp",
    "level",
    "message",
    "correlation_id",
    "traceparent",
    "order_id",
    "consumer",
    "name",
];

/// What was logged about an order.
#[derive(Debug, Serialize)]
pub(crate) struct OrderLogs {
    pub order_id: String,
    pub correlation_ids: BTreeSet<String>,
    pub lines: Vec<LogLine>,
    /// The functions of which not all was read.
    pub cut: Vec<String>,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct LogLine {
    pub at: Timestamp,
    pub function: String,
    /// The very line, as JSON if it is that, or else as a text.
    pub line: Box<RawValue>,
    #[serde(skip)]
    text: String,
}

impl LogLine {
    fn new(at: Timestamp, function: &str, text: &str) -> Option<Self> {
        let is_json = serde_json::from_str::<Value>(text).is_ok_and(|json| json.is_object());
        let line = if is_json { text.to_owned() } else { serde_json::to_string(text).ok()? };
        let line = RawValue::from_string(line).ok()?;
        Some(Self { at, function: function.to_owned(), line, text: text.to_owned() })
    }
}

/// What the functions have logged about an order since a moment.
///
/// # Errors
/// There is no such order, or CloudWatch Logs does not answer.
pub(crate) async fn of_order(
    stack: &Stack,
    order: &str,
    since: Timestamp,
) -> Result<OrderLogs, CliError> {
    let events = log::of_order(stack, order).await?;
    let correlation_ids: BTreeSet<String> =
        events.into_iter().filter_map(|event| event.correlation_id).collect();
    // order-api's lines have the correlation id alone; a quotation mark cannot be looked for.
    let terms = correlation_ids.iter().map(String::as_str).chain([order]);
    let terms: Vec<&str> = terms.filter(|term| !term.contains('"')).collect();
    let deadline = Instant::now() + READ_TIME;
    let groups = stream::iter(stack.functions())
        .map(async |function| read_group(stack, function, &terms, since, deadline).await);
    let read: Vec<Group> = groups.buffered(GROUPS_AT_ONCE).try_collect().await?;
    let cut =
        read.iter().filter(|group| group.is_cut).map(|group| group.function.clone()).collect();
    let mut lines: Vec<LogLine> = read.into_iter().flat_map(|group| group.lines).collect();
    lines.sort_by_key(|line| line.at);
    Ok(OrderLogs { order_id: order.to_owned(), correlation_ids, lines, cut })
}

struct Group {
    function: String,
    lines: Vec<LogLine>,
    is_cut: bool,
}

/// The lines of one function that have one of these terms.
async fn read_group(
    stack: &Stack,
    function: &str,
    terms: &[&str],
    since: Timestamp,
    deadline: Instant,
) -> Result<Group, CliError> {
    let prefix = format!("{}-", stack.name);
    let name = function.strip_prefix(&prefix).unwrap_or(function);
    let mut group = Group { function: name.to_owned(), lines: Vec::new(), is_cut: false };
    // A line may have several of the terms, and is one line all the same.
    let mut seen = BTreeSet::new();
    // By one term after the other: "any of these" is something that emulators do not know.
    for term in terms {
        let (pattern, from_ms) = (format!("\"{term}\""), since.as_millisecond());
        let wanted = Wanted { function, pattern: &pattern, from_ms, deadline };
        let is_whole = log_events::read(stack, wanted, |events| {
            for event in events {
                let at = event.timestamp.and_then(|at| Timestamp::from_millisecond(at).ok());
                let (Some(at), Some(message)) = (at, event.message) else { continue };
                let stream = event.log_stream_name.unwrap_or_default();
                for line in lines_of(&message, terms) {
                    if seen.insert((at, stream.clone(), line.to_owned())) {
                        group.lines.extend(LogLine::new(at, name, line));
                    }
                }
            }
            group.lines.len() < LINES_MAX
        })
        .await?;
        if !is_whole {
            group.is_cut = true;
            break;
        }
    }
    Ok(group)
}

/// The lines of a log event that have one of these terms, without what Lambda itself logs. On AWS an event is one line.
fn lines_of<'a>(message: &'a str, terms: &[&str]) -> impl Iterator<Item = &'a str> {
    let is_wanted = move |line: &&str| {
        let is_platform = PLATFORM_LINES.iter().any(|begin| line.starts_with(begin));
        !is_platform && terms.iter().any(|term| line.contains(term))
    };
    let lines: Vec<&str> = message.lines().map(str::trim).filter(is_wanted).collect();
    lines.into_iter()
}

/// As people read it.
pub(crate) fn text(logs: &OrderLogs) -> String {
    let cut = match logs.cut.as_slice() {
        [] => String::new(),
        cut => format!(
            "\nNot all was read of {}: at most {LINES_MAX} lines of each function, within {} s; narrow it by --since",
            cut.join(", "),
            READ_TIME.as_secs()
        ),
    };
    if logs.lines.is_empty() {
        return format!(
            "Nothing was logged about the order in this time; --since reaches further back.{cut}"
        );
    }
    let rows = logs.lines.iter().map(|line| {
        let json: Value = serde_json::from_str(line.line.get()).unwrap_or_default();
        let (level, said) = match json.as_object() {
            None => (String::new(), line.text.clone()),
            Some(fields) => {
                let text =
                    |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let mut said = fields.get("message").map(text).unwrap_or_default();
                let span = fields.get("span").and_then(Value::as_object);
                let others = fields.iter().filter(|(name, _)| *name != "span");
                for (name, value) in others.chain(span.into_iter().flatten()) {
                    if !OWN_COLUMNS.contains(&name.as_str()) {
                        said.push_str(&format!("  {name}={}", text(value)));
                    }
                }
                (fields.get("level").map(text).unwrap_or_default(), said)
            }
        };
        vec![format!("{:.3}", line.at), line.function.clone(), level, plain(&said)]
    });
    format!("{}{cut}", table(&["when", "function", "level", "said"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(lines: Vec<LogLine>, cut: Vec<String>) -> OrderLogs {
        OrderLogs { order_id: "o1".into(), correlation_ids: BTreeSet::new(), lines, cut }
    }

    #[test]
    fn only_lines_about_the_order_are_kept_and_none_of_lambdas_own() {
        let message = "START RequestId: o1\n{\"order_id\":\"o1\"}\n{\"order_id\":\"o2\"}\nREPORT RequestId: o1\n{\"correlation_id\":\"c1\"}\n";
        let kept: Vec<&str> = lines_of(message, &["o1", "c1"]).collect();
        assert_eq!(kept, [r#"{"order_id":"o1"}"#, r#"{"correlation_id":"c1"}"#]);
    }

    #[test]
    fn a_json_line_is_a_sentence_with_its_fields_and_stays_json_for_scripts() {
        let line = r#"{"timestamp":"x","level":"INFO","message":"message handled","order_id":"o1","outcome":"Done"}"#;
        let line = LogLine::new(Timestamp::UNIX_EPOCH, "order-consumer", line).expect("a line");
        let plain =
            LogLine::new(Timestamp::UNIX_EPOCH, "order-api", "no JSON of o1").expect("a line");
        let logs = logs(vec![line, plain], Vec::new());
        let json = serde_json::to_value(&logs).expect("JSON");
        assert_eq!(json["lines"][0]["line"]["outcome"], "Done");
        assert_eq!(json["lines"][1]["line"], "no JSON of o1");
        let text = text(&logs);
        assert!(text.contains("INFO") && text.contains("message handled"), "{text}");
        assert!(text.contains("outcome=Done") && text.contains("no JSON of o1"), "{text}");
    }

    #[test]
    fn what_was_not_read_is_named() {
        let said = text(&logs(Vec::new(), vec!["relay".into()]));
        assert!(said.contains("Not all was read of relay: at most 5000 lines"), "{said}");
    }
}
