//! What a shell completes: commands, options, and the names of the stack's queues.
//!
//! In: a shell's question (`COMPLETE=bash orderflow …`, which the script of `orderflow completions` asks), and the stack that the
//! environment names. Out: words. Guarantees: a question takes no longer than [`ANSWER_TIMEOUT`], and one that the stack does not
//! answer is answered with the names that the template gives.

use std::time::Duration;

use clap::Parser;
use clap_complete::{
    CompletionCandidate, Shell,
    env::{CompleteEnv, Shells},
};

use crate::{args, args::Arguments, error::CliError, stack::Stack};

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// How long a person waits for Tab.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The queues of infra/template.yaml; `payment` is there only where orders are paid.
const TEMPLATE_QUEUES: [&str; 6] =
    ["product", "order", "notification", "feedback", "payment", "analytics"];

/// Answers and ends the process, if it is a shell that asks.
pub(crate) fn complete() {
    CompleteEnv::with_factory(args::command).var(VARIABLE).complete();
}

/// What makes a shell ask.
///
/// # Errors
/// The shell is none that is asked so.
pub(crate) fn script(shell: Shell) -> Result<String, CliError> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let shells = Shells::builtins();
    let completer = shells
        .completer(&name)
        .ok_or_else(|| CliError::NotDone(format!("there are no completions for {name}")))?;
    completer
        .write_registration(VARIABLE, "orderflow", "orderflow", "orderflow", &mut script)
        .map_err(CliError::local("writing the completions"))?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The names of the stack's queues.
pub(crate) fn queues() -> Vec<CompletionCandidate> {
    let names = names_of_stack();
    names
        .unwrap_or_else(|| TEMPLATE_QUEUES.map(str::to_owned).to_vec())
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Those, and the word for all of them.
pub(crate) fn queues_or_all() -> Vec<CompletionCandidate> {
    let mut names = queues();
    names.push(CompletionCandidate::new("all"));
    names
}

fn names_of_stack() -> Option<Vec<String>> {
    // What is typed so far may be no command line yet: the environment names the stack.
    let access = Arguments::try_parse_from(["orderflow", "status"]).ok()?.access;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let found = runtime
        .block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, Stack::find(&access)).await });
    Some(found.ok()?.ok()?.queues.into_iter().map(|queue| queue.name).collect())
}
