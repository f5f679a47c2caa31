//! `orderflow`: the operator's command.
//!
//! In: a command line and the usual AWS settings. Out: tables or JSON on stdout, one sentence on stderr if it
//! failed, and an exit code (0 done, 1 not done, 2 wrong command line, 3 no such thing). This file is wiring: each
//! command has its module, and what can be decided without AWS is pure and tested there.

mod args;
mod console;
mod consumer;
mod dlq;
mod error;
mod filter;
mod log;
mod order;
mod output;
mod replay;
mod select;
mod send;
mod stack;
mod status;
mod when;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::{
    args::{Arguments, Change, Command, Consumers, Dlq, Order, Replay},
    error::CliError,
    output::{Output, print},
    select::DeadLetter,
    stack::Stack,
    status::Status,
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        // clap prints its errors itself, with the usage.
        Err(CliError::Usage(error)) => error.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), CliError> {
    let Arguments { access, output, yes, command } = arguments;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "orderflow", &mut script);
        return print(&String::from_utf8_lossy(&script));
    }
    if let Command::Dlq(Dlq::Redrive(change) | Dlq::Drop(change)) = &command {
        require_selection(change)?;
    }
    let stack = Stack::find(&access).await?;
    match command {
        Command::Status { watch: false, .. } => {
            output.say(&Status::of(&stack).await?, Status::text)
        }
        Command::Status { watch: true, interval } => loop {
            output.say_again(&Status::of(&stack).await?, Status::text)?;
            tokio::time::sleep(Duration::from_secs(interval)).await;
        },
        Command::Dlq(command) => dlq(&stack, command, output, yes).await,
        Command::Order(command) => order(&stack, command, output, yes).await,
        Command::Replay(replay) => run_replay(&stack, replay, output).await,
        Command::Pause(consumers) => switch_consumers(&stack, &consumers, output, false).await,
        Command::Resume(consumers) => switch_consumers(&stack, &consumers, output, true).await,
        Command::Console { port } => console::serve(stack, port, output).await,
        Command::Completions { .. } => Ok(()),
    }
}

async fn dlq(stack: &Stack, command: Dlq, output: Output, yes: bool) -> Result<(), CliError> {
    match command {
        Dlq::List { queue, selection } => {
            let queues = stack.queues(queue.as_deref())?;
            let letters = dlq::list_all(stack, &queues, &selection).await?;
            output.say(&letters, |letters| dlq::summary(letters))
        }
        Dlq::Show { queue, selection } => {
            let queue = stack.queue(&queue)?;
            let letters = dlq::list(stack, queue, &selection).await?;
            require_some(&letters, &queue.name)?;
            output.say(&letters, |letters| dlq::in_full(letters))
        }
        Dlq::Redrive(change) => {
            let Some(letters) =
                select_letters(stack, &change, output, yes, "Send", "to its queue again").await?
            else {
                return Ok(());
            };
            let queue = stack.queue(&change.queue)?;
            let bar = bar("redriving");
            let done = if change.all && change.selection.is_everything() {
                dlq::redrive_all(stack, queue, &bar).await?
            } else {
                bar.set_length(letters.len() as u64);
                dlq::redrive(stack, queue, &letters, &bar).await?
            };
            bar.finish_and_clear();
            report(output, "sent to its queue again", done)
        }
        Dlq::Drop(change) => {
            let Some(letters) =
                select_letters(stack, &change, output, yes, "Delete", "for good").await?
            else {
                return Ok(());
            };
            let bar = bar("deleting");
            bar.set_length(letters.len() as u64);
            let done = dlq::drop(stack, stack.queue(&change.queue)?, &letters, &bar).await?;
            bar.finish_and_clear();
            report(output, "deleted", done)
        }
    }
}

/// Refuses a command that names neither dead letters nor all of them: what is changed is never all by omission.
fn require_selection(change: &Change) -> Result<(), CliError> {
    if change.all != change.selection.is_everything() {
        // As clap says what it finds by itself: this is about the command line too.
        let message = "say which dead letters (--reason, --type, --order, --older-than, --newer-than, --id), or \
                       --all of them, not both";
        let kind = ErrorKind::MissingRequiredArgument;
        return Err(Arguments::command().error(kind, message).into());
    }
    Ok(())
}

/// The letters that a change is about, shown and confirmed, or `None` if it was a dry run.
async fn select_letters(
    stack: &Stack,
    change: &Change,
    output: Output,
    yes: bool,
    verb: &str,
    how: &str,
) -> Result<Option<Vec<DeadLetter>>, CliError> {
    let queue = stack.queue(&change.queue)?;
    let letters = dlq::list(stack, queue, &change.selection).await?;
    if change.dry_run {
        output.say(&letters, |letters| dlq::summary(letters))?;
        return Ok(None);
    }
    require_some(&letters, &queue.name)?;
    let question = format!("{verb} {} dead letters of {} {how}?", letters.len(), queue.name);
    confirm(yes, &question, || dlq::summary(&letters))?;
    Ok(Some(letters))
}

fn require_some(letters: &[DeadLetter], queue: &str) -> Result<(), CliError> {
    if letters.is_empty() {
        return Err(CliError::NotFound(format!("no such dead letter of {queue}")));
    }
    Ok(())
}

fn report(output: Output, verb: &str, done: dlq::Done) -> Result<(), CliError> {
    let incomplete = done.failed.len();
    output.say(&[done], |done| dlq::outcome(verb, done))?;
    if incomplete > 0 {
        let why = "not all of it was done; what was not stays in the DLQ";
        return Err(CliError::NotDone(why.into()));
    }
    Ok(())
}

/// Asks on the terminal, after showing what it is about. Without one, only --yes is an answer.
fn confirm(yes: bool, question: &str, about: impl FnOnce() -> String) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::NotDone(format!(
            "{question} Nobody can be asked here: say --yes (or --dry-run to look first)"
        )));
    }
    eprint!("{}\n\n{question} [y/N] ", about());
    std::io::stderr().flush().map_err(CliError::local("asking"))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CliError::local("reading the answer"))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::NotDone("nothing was done".into())),
    }
}

async fn order(stack: &Stack, command: Order, output: Output, yes: bool) -> Result<(), CliError> {
    match command {
        Order::Show { id } => output.say(&order::show(stack, &id).await?, order::text),
        Order::History { id } => {
            output.say(&log::of_order(stack, &id).await?, |events| order::history_text(events))
        }
        Order::Cancel { id } => {
            let order = order::show(stack, &id).await?;
            confirm(yes, &format!("Cancel order {id}?"), || order::text(&order))?;
            output.say(&order::cancel(stack, &id).await?, order::text)
        }
        Order::Republish { id, now } => {
            output.say(&order::republish(stack, &id, now).await?, order::republished_text)
        }
    }
}

async fn run_replay(stack: &Stack, replay: Replay, output: Output) -> Result<(), CliError> {
    let now = Timestamp::now();
    // The range of an order alone is its whole history.
    let from = replay.from.map_or(Timestamp::UNIX_EPOCH, |from| from.from(now));
    let to = replay.to.from(now);
    if from >= to {
        return Err(CliError::NotDone(format!("nothing is between {from:.3} and {to:.3}")));
    }
    let queue = stack.queue(&replay.queue)?;
    let reading = bar("reading the event log");
    let mut plan = replay::plan(stack, queue, [from, to], replay.order, &reading).await?;
    reading.finish_and_clear();
    if !replay.dry_run && !plan.is_empty() {
        let sending = bar("replaying");
        replay::run(stack, queue, &mut plan, &sending).await?;
        sending.finish_and_clear();
    }
    output.say(&plan, replay::Plan::text)?;
    if !plan.failed.is_empty() {
        return Err(CliError::NotDone("the queue did not take every event".into()));
    }
    Ok(())
}

async fn switch_consumers(
    stack: &Stack,
    consumers: &Consumers,
    output: Output,
    on: bool,
) -> Result<(), CliError> {
    let name = Some(consumers.queue.as_str()).filter(|name| *name != "all");
    let queues = stack.queues(name)?;
    output.say(&consumer::switch(stack, &queues, on).await?, |all| consumer::text(all))
}

/// A progress bar on stderr; on no terminal it is silent.
fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar
}
