//! `orderflow`: the operator's command.
//!
//! In: a command line and the usual AWS settings. Out: tables or JSON on stdout, one sentence on stderr if it
//! failed, and an exit code (`args::MANUAL` lists them). This file is wiring: each command has its module, and what
//! can be decided without AWS is pure and tested there. Guarantee: however a command ends, the dead letters that it
//! holds are given back.

mod analytics;
mod args;
mod completions;
mod console;
mod consumer;
mod customer;
mod dlq;
mod dropped;
mod error;
mod filter;
mod function_logs;
mod held;
mod interrupt;
mod log;
mod log_events;
mod log_level;
mod mail;
mod marker;
mod masking;
mod metrics;
mod order;
mod order_list;
mod outbox;
mod output;
mod pagination;
mod payment;
mod payment_list;
mod product;
mod queue_attributes;
mod reconcile;
mod redriven;
mod replay;
mod select;
mod send;
mod stack;
mod status;
mod suppressed;
mod trace;
mod when;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use clap::{FromArgMatches, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::{
    args::{
        AnalyticsCommand, Arguments, Change, Command, Consumers, Customer, Dlq, DropChange,
        MailCommand, Order, Outbox, Paging, PaymentCommand, ProductCommand, Replay,
        SuppressedCommand,
    },
    dlq::Listing,
    dropped::{Dropped, Sent},
    error::CliError,
    interrupt::interrupted,
    masking::mask_emails,
    order::Email,
    output::{Form, Output, counted, print},
    pagination::PageRequest,
    payment::{OrderPayment, Refund},
    reconcile::Report,
    select::{DeadLetter, Selection},
    stack::{Queue, Stack},
    status::{QueueMetrics, Status},
    trace::Trace,
};

/// Maximum number of dead letters that are listed above a question, so that it stays on the screen.
const QUESTION_ROWS_MAX: usize = 20;

fn main() -> ExitCode {
    completions::complete();
    let ended = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let ended = runtime.block_on(run(parse()));
            // A thread that waits for a key is not waited for.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(CliError::local("starting")(error)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // clap prints its errors itself, with the usage.
        Err(CliError::Usage(error)) => error.exit(),
        Err(error) => {
            // No address is asked for here: whoever typed one knows it.
            eprintln!("error: {}", mask_emails(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn parse() -> Arguments {
    let matches = args::command().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn run(arguments: Arguments) -> Result<(), CliError> {
    let Arguments { access, output, show_email, yes, command } = arguments;
    let output = Output { form: output, shows_emails: show_email };
    if let Command::Completions { shell } = command {
        return print(&completions::script(shell)?);
    }
    if let Command::Dlq(Dlq::Redrive { change, .. } | Dlq::Drop(DropChange { change, .. })) =
        &command
    {
        require_selection(change)?;
    }
    // The console and a watch have no other end: for them a signal is none before its time.
    let ends_by_signal =
        matches!(command, Command::Console { .. } | Command::Status { watch: true, .. });
    let stack = Stack::find(&access).await?;
    let ended = tokio::select! {
        ended = carry_out(stack.clone(), command, output, yes) => ended,
        _ = interrupted(), if ends_by_signal => Ok(()),
        signal = interrupted(), if !ends_by_signal => Err(CliError::Interrupted { signal }),
    };
    tokio::select! {
        () = stack.held.give_back(&stack.sqs) => {}
        // A second signal: they come back when their time is up.
        _ = interrupted() => {}
    }
    ended
}

async fn carry_out(
    stack: Stack,
    command: Command,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
    match command {
        Command::Status { watch: false, check, .. } => {
            let status = Status::of(&stack, &QueueMetrics::default()).await?;
            output.say(&status, Status::text)?;
            if check { status.require_no_problem() } else { Ok(()) }
        }
        Command::Status { watch: true, interval, .. } => {
            status::watch(&stack, Duration::from_secs(interval), output).await
        }
        Command::Dlq(command) => dlq(&stack, command, output, yes).await,
        Command::Order(command) => order(&stack, command, output, yes).await,
        Command::Payment(command) => payment(&stack, command, output, yes).await,
        Command::Product(ProductCommand::List { category, stock_below, paging }) => {
            let selection = match (category, stock_below) {
                (Some(category), _) => product::Selection::Category(category),
                (None, Some(stock)) => product::Selection::StockBelow(stock),
                (None, None) => product::Selection::All,
            };
            let page = product::list(&stack, &selection, &paging.request()).await?;
            output.say(&page, product::text)
        }
        Command::Analytics(AnalyticsCommand::Daily { from, to, products }) => {
            let days = analytics::days(from, to, Timestamp::now())?;
            let daily = analytics::daily(&stack, days, products).await?;
            output.say(&daily, |daily| analytics::text(daily))
        }
        Command::Mail(MailCommand::Unknown { paging }) => {
            output.say(&mail::list_unknown(&stack, &paging.request()).await?, mail::text)
        }
        Command::Logs { order, since } => {
            let since = since.from(Timestamp::now());
            let reading = bar("reading the logs");
            let logs = function_logs::of_order(&stack, &order, since).await?;
            reading.finish_and_clear();
            output.say(&logs, function_logs::text)
        }
        Command::Outbox(command) => outbox(&stack, command, output).await,
        Command::Customer(command) => customer(&stack, command, output, yes).await,
        Command::Suppressed(command) => suppressed(&stack, command, output, yes).await,
        Command::Replay(replay) => run_replay(&stack, replay, output, yes).await,
        Command::Reconcile => {
            let report = reconcile::reconcile(&stack).await?;
            output.say(&report, Report::text)?;
            report.require_none()
        }
        Command::Pause(consumers) => pause(&stack, &consumers, output, yes).await,
        Command::Resume(consumers) => {
            let queues = consumers.queues(&stack)?;
            output.say(&consumer::switch(&stack, &queues, true).await?, |all| consumer::text(all))
        }
        Command::LogLevel { function, level, .. } => output
            .say(&log_level::change(&stack, &function, level).await?, log_level::Changed::text),
        Command::Console { port } => console::serve(stack, port, output).await,
        Command::Completions { .. } => Ok(()),
    }
}

async fn dlq(stack: &Stack, command: Dlq, output: Output, yes: bool) -> Result<(), CliError> {
    match command {
        Dlq::List { queue, selection } => {
            let queues = stack.queues(queue.as_deref())?;
            let listing = dlq::list_all(stack, &queues, &selection).await?;
            output.say(&listing.letters, |_| listing.text())?;
            listing.require_complete()
        }
        Dlq::Show { queue, selection } => {
            let queue = stack.queue(&queue)?;
            let listing = dlq::list(stack, queue, &selection).await?;
            listing.require_some(&queue.name)?;
            output.say(&listing.letters, |letters| dlq::in_full(letters))?;
            listing.require_complete()
        }
        Dlq::Redrive { change, wait } => {
            let question = ("Send", "to its queue again");
            let Some(listing) = select_letters(stack, &change, output, yes, question).await? else {
                return Ok(());
            };
            let queue = stack.queue(&change.queue)?;
            let bar = bar("redriving");
            let mut done = if change.all && change.selection.is_everything() {
                dlq::redrive_all(stack, queue, &bar).await?
            } else {
                bar.set_length(listing.letters.len() as u64);
                dlq::redrive(stack, queue, &listing.letters, &bar).await?
            };
            bar.finish_and_clear();
            if let Some(limit) = wait {
                let limit = Duration::try_from(limit).map_err(CliError::local("waiting"))?;
                let everything = Selection::default();
                let list_dead =
                    || async { Ok(dlq::list(stack, queue, &everything).await?.letters) };
                let letters = &listing.letters;
                done.became = Some(redriven::watch(stack, queue, letters, limit, list_dead).await?);
            }
            report(output, "sent to its queue again", done)?;
            listing.require_complete()
        }
        Dlq::Drop(DropChange { change, copy, no_copy }) => {
            let question = ("Delete", if no_copy { "for good" } else { "and keep a copy" });
            let Some(listing) = select_letters(stack, &change, output, yes, question).await? else {
                return Ok(());
            };
            if !no_copy {
                let file = dropped::keep(&listing.letters, &change.queue, copy)?;
                // Not on stdout, where JSON is.
                eprintln!("A copy is in {}; `orderflow dlq send` brings it back.", file.display());
            }
            let bar = bar("deleting");
            bar.set_length(listing.letters.len() as u64);
            let queue = stack.queue(&change.queue)?;
            let done = dlq::drop(stack, queue, &listing.letters, &bar).await?;
            bar.finish_and_clear();
            report(output, "deleted", done)?;
            listing.require_complete()
        }
        Dlq::Send { file } => {
            let dropped = Dropped::read(&file)?;
            confirm(output, yes, &dropped.question(), String::new).await?;
            let sent = dropped::send(stack, &dropped).await?;
            output.say(&sent, Sent::text)?;
            if !sent.failed.is_empty() {
                return Err(CliError::NotDone("not all of them were sent".into()));
            }
            Ok(())
        }
    }
}

/// Refuses a command that names neither dead letters nor all of them: what is changed is never all by omission.
fn require_selection(change: &Change) -> Result<(), CliError> {
    if change.all != change.selection.is_everything() {
        let message = "say which dead letters (--reason, --type, --order, --older-than, --newer-than, --id), or \
                       --all of them, not both";
        return Err(CliError::usage(ErrorKind::MissingRequiredArgument, message));
    }
    Ok(())
}

/// The letters that a change is about, shown and confirmed, or `None` if it was a dry run.
async fn select_letters(
    stack: &Stack,
    change: &Change,
    output: Output,
    yes: bool,
    (verb, how): (&str, &str),
) -> Result<Option<Listing>, CliError> {
    let queue = stack.queue(&change.queue)?;
    let listing = dlq::list(stack, queue, &change.selection).await?;
    if change.dry_run {
        output.say(&listing.letters, |_| listing.text())?;
        listing.require_complete()?;
        return Ok(None);
    }
    listing.require_some(&queue.name)?;
    let count = counted(listing.letters.len() as u64, "dead letter");
    let question = format!("{verb} {count} of {} {how}?", queue.name);
    confirm(output, yes, &question, || about_letters(&listing.letters)).await?;
    Ok(Some(listing))
}

/// The first of these letters, and how many others there are.
fn about_letters(letters: &[DeadLetter]) -> String {
    let (first, rest) = letters.split_at(letters.len().min(QUESTION_ROWS_MAX));
    let rest = match rest.len() {
        0 => String::new(),
        count => format!("\n… and {count} more; --dry-run shows all"),
    };
    format!("{}{rest}", dlq::summary(first))
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
async fn confirm(
    output: Output,
    yes: bool,
    question: &str,
    about: impl FnOnce() -> String,
) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::NotDone(format!(
            "{question} Nobody can be asked here: look first, then say --yes"
        )));
    }
    eprint!("{}\n\n{question} [y/N] ", output.masked(&about()));
    std::io::stderr().flush().map_err(CliError::local("asking"))?;
    // On a thread of its own, so that Ctrl-C is an answer too.
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = typed.await.map_err(CliError::local("reading the answer"))?;
    match answer.map_err(CliError::local("reading the answer"))?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::NotDone("nothing was done".into())),
    }
}

async fn order(stack: &Stack, command: Order, output: Output, yes: bool) -> Result<(), CliError> {
    match command {
        Order::Show { id } => {
            let email = if output.shows_emails { Email::Full } else { Email::Masked };
            let order = order::show(stack, &id, email).await?;
            let payment = OrderPayment::of(stack, &id).await;
            let line = payment.as_ref().map(OrderPayment::line).unwrap_or_default();
            let order = order.with_payment(payment.as_ref())?;
            output.say(&order, |order| format!("{line}{}", order::text(order)))
        }
        Order::List { status, customer, late, paging } => {
            let selection = match (status, customer) {
                (Some(status), _) => order_list::Selection::Status(status),
                (None, Some(email)) => order_list::Selection::Customer(email),
                (None, None) if late => order_list::Selection::Late,
                (None, None) => order_list::Selection::All,
            };
            let page = order_list::list(stack, &selection, &paging.request()).await?;
            output.say(&page, order_list::text)
        }
        Order::History { id } => {
            output.say(&marker::history(stack, &id).await?, |events| order::history_text(events))
        }
        Order::Trace { id } => {
            let shown = order::show(stack, &id, Email::Masked);
            let (order, events) = tokio::try_join!(shown, marker::history(stack, &id))?;
            let trace = Trace::of((&id, order.status()), order.placed_at(), &events);
            let trace =
                trace.ok_or_else(|| CliError::NotFound(format!("order {id:?} has no events")))?;
            output.say(&trace, Trace::text)
        }
        Order::Cancel { id } => {
            let order = order::show(stack, &id, Email::Masked).await?;
            if order.is_cancelled() {
                return output.say(&order, |order| {
                    format!("The order was cancelled before.\n\n{}", order::text(order))
                });
            }
            confirm(output, yes, &format!("Cancel order {id}?"), || order::text(&order)).await?;
            output.say(&order::cancel(stack, &id).await?, order::text)
        }
        Order::Republish { id, event, now } => {
            let republished = order::republish(stack, id.as_deref(), event.as_deref(), now).await?;
            output.say(&republished, order::republished_text)
        }
    }
}

async fn payment(
    stack: &Stack,
    command: PaymentCommand,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
    match command {
        PaymentCommand::List { status, overdue, paging } => {
            let selection = match status {
                Some(status) => payment_list::Selection::Status(status),
                None if overdue => payment_list::Selection::Overdue,
                None => payment_list::Selection::All,
            };
            let page = payment_list::list(stack, selection, &paging.request()).await?;
            output.say(&page, payment_list::text)
        }
        PaymentCommand::Show { id } => output.say(&payment::show(stack, &id).await?, payment::text),
        PaymentCommand::Refund { id } => {
            let payment = payment::show(stack, &id).await?;
            let order = order::show(stack, &id, Email::Masked).await?;
            let refund = Refund::of(payment.status, order.status())?;
            if refund == Refund::Done {
                return output.say(&payment, |payment| {
                    format!("It was given back before.\n\n{}", payment::text(payment))
                });
            }
            let about = || format!("{}\n\n{}", order::text(&order), payment::text(&payment));
            confirm(output, yes, &refund.question(&payment), about).await?;
            payment::refund(stack, &payment, refund).await?;
            output.say(&payment::show(stack, &id).await?, |payment| {
                format!(
                    "payment-consumer gives it back; `orderflow payment show {id}` says when it has.\n\n{}",
                    payment::text(payment)
                )
            })
        }
    }
}

async fn customer(
    stack: &Stack,
    command: Customer,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
    let reading = bar("reading the tables");
    match command {
        Customer::Export { email } => {
            let export = customer::export(stack, &email).await?;
            reading.finish_and_clear();
            // To ask for all of it is to ask for the address.
            Output { form: Form::Json, shows_emails: true }.say(&export, |_| String::new())
        }
        Customer::Erase { email } => {
            let found = customer::find(stack, &email).await?;
            reading.finish_and_clear();
            if !found.is_empty() {
                confirm(output, yes, "Replace the address for good?", || found.text()).await?;
            }
            output.say(&customer::erase(stack, &email, found).await?, customer::Erased::text)
        }
    }
}

async fn suppressed(
    stack: &Stack,
    command: SuppressedCommand,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
    match command {
        SuppressedCommand::List => {
            output.say(&suppressed::list(stack).await?, |all| suppressed::text(all))
        }
        SuppressedCommand::Remove { email } => {
            let about = || {
                "SES counts bounces and complaints, and stops an account that has too many."
                    .to_owned()
            };
            confirm(output, yes, &format!("Have {email} mailed again?"), about).await?;
            let removed = suppressed::remove(stack, &email).await?;
            output.say(&removed, |removed| format!("{} is mailed again", removed.email))
        }
    }
}

async fn outbox(stack: &Stack, command: Outbox, output: Output) -> Result<(), CliError> {
    match command {
        Outbox::List { pending, limit } => {
            let events = outbox::list(stack, pending, limit).await?;
            output.say(&events, |events| outbox::summary(events, limit))
        }
        Outbox::Show { event, order } => {
            output.say(&outbox::find(stack, order.as_deref(), &event).await?, outbox::in_full)
        }
    }
}

async fn run_replay(
    stack: &Stack,
    replay: Replay,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
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
        confirm(output, yes, &plan.question(), || plan.text()).await?;
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

async fn pause(
    stack: &Stack,
    consumers: &Consumers,
    output: Output,
    yes: bool,
) -> Result<(), CliError> {
    let queues = consumers.queues(stack)?;
    let on = consumer::not_off(stack, &queues).await?;
    if !on.is_empty() {
        let names: Vec<&str> = on.iter().map(|queue| queue.name.as_str()).collect();
        let question = format!("Stop giving messages to the consumer of {}?", names.join(", "));
        let about = "Its messages wait on the queue, which keeps each for four days, until `orderflow resume`.";
        confirm(output, yes, &question, || about.to_owned()).await?;
    }
    output.say(&consumer::switch(stack, &queues, false).await?, |all| consumer::text(all))
}

impl Paging {
    fn request(self) -> PageRequest {
        PageRequest::of_command(self.from, self.limit)
    }
}

impl Consumers {
    fn queues<'a>(&self, stack: &'a Stack) -> Result<Vec<&'a Queue>, CliError> {
        stack.queues(Some(self.queue.as_str()).filter(|name| *name != "all"))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_stays_on_the_screen_however_many_letters_it_is_about() {
        let letters = vec![DeadLetter::of_reason("schema"); 312];
        let text = about_letters(&letters);
        assert!(text.lines().count() <= QUESTION_ROWS_MAX + 2, "{text}");
        assert!(text.ends_with("… and 292 more; --dry-run shows all"), "{text}");
        assert!(!about_letters(&letters[..20]).contains("more"));
    }
}
