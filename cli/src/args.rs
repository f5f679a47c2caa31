//! The command line: every command, option and word of help.

use std::path::PathBuf;

use clap::{Arg, Args, CommandFactory, Parser, Subcommand};
use clap_complete::{ArgValueCandidates, Shell};
use jiff::SignedDuration;

use ::analytics::rules::Day;
use events::Name;
use order::rules::Status;
use payment::rules::PaymentStatus;

use crate::{
    completions,
    log_level::LogLevel,
    outbox::EVENTS_DEFAULT,
    output::Form,
    pagination::{ENTRIES_DEFAULT, ENTRIES_MAX},
    select::{Selection, not_empty},
    stack::Access,
    when::{When, span, when},
};

/// What stands below the list of options in the long help.
const MANUAL: &str = "\
Environment:
  AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, … mean what they mean to the AWS CLI.
  ORDERFLOW_STACK_NAME is the default of --stack. NO_COLOR switches colours off.

Exit status:
  0  done
  1  not done: the sentence on stderr says why
  2  the command line is wrong
  3  there is no such stack, queue, dead letter, order or event
  4  some dead letters are held by another listing; within 30 s they are to be had again
  5  `status --check` found what somebody should look at
  130 (or 128 and the number of another signal)  interrupted

Examples:
  orderflow status --watch
  orderflow dlq list --reason schema
  orderflow dlq redrive product --type OrderCreated --older-than 2h
  orderflow order list --late
  orderflow order history 0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11
  orderflow logs --order 0198c9a4-7a52-7c4e-9f0e-3a1f6c2b7d11 --since 2h
  orderflow replay --queue notification --from 2h --to now --dry-run
  orderflow pause product && orderflow resume product
  orderflow outbox list
  echo 'source <(orderflow completions bash)' >> ~/.bashrc

On the stack that `make up` runs:
  set -a; . .local/stack.env; set +a; orderflow status";

/// What stands below the help of each command.
const COMMON_OPTIONS: &str = "\
`orderflow --help` has the options of every command: --stack, --region, --profile, --endpoint-url, --output, --show-email, --yes.";

/// The command line, where the options of every command are in the help of `orderflow` alone.
pub(crate) fn command() -> clap::Command {
    let command = Arguments::command();
    let common: Vec<Arg> = command.get_arguments().filter(|a| a.is_global_set()).cloned().collect();
    hide_in_subcommands(command, &common)
}

fn hide_in_subcommands(mut command: clap::Command, common: &[Arg]) -> clap::Command {
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |subcommand| {
            let help = match subcommand.get_after_help() {
                Some(own) => format!("{own}\n\n{COMMON_OPTIONS}"),
                None => COMMON_OPTIONS.to_owned(),
            };
            // clap gives a subcommand the global options that it does not have already.
            let hidden =
                common.iter().cloned().map(|a| a.hide_short_help(true).hide_long_help(true));
            hide_in_subcommands(subcommand.args(hidden).after_help(help), common)
        });
    }
    command
}

/// Operates an Orderflow stack, on AWS or on an emulator.
#[derive(Debug, Parser)]
#[command(name = "orderflow", version, after_long_help = MANUAL, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub access: Access,
    /// The form of the answer
    #[arg(long, short, global = true, value_enum, default_value = "text", value_name = "FORM")]
    pub output: Form,
    /// Show the addresses of customers in full, which are masked otherwise
    #[arg(long, global = true)]
    pub show_email: bool,
    /// Do it without asking
    #[arg(long, short, global = true)]
    pub yes: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show where the flow stands: queues, dead letters, consumers, outbox, late orders
    Status {
        /// Show it again and again
        #[arg(long, short)]
        watch: bool,
        /// Seconds between two looks
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..), requires = "watch")]
        interval: u64,
        /// For monitoring: end with 5 if somebody should look at something, which stderr says
        #[arg(long, conflicts_with = "watch")]
        check: bool,
    },
    /// Look at dead letters, send them to their queue again, or throw them away
    #[command(subcommand)]
    Dlq(Dlq),
    /// List orders; look at one, cancel it, or publish its last event again
    #[command(subcommand, alias = "orders")]
    Order(Order),
    /// Look at payments, or give one back, where orders are paid
    #[command(subcommand, alias = "payments")]
    Payment(PaymentCommand),
    /// Look at the products and their stock
    #[command(subcommand, alias = "products")]
    Product(ProductCommand),
    /// Look at units and revenue by day
    #[command(subcommand)]
    Analytics(AnalyticsCommand),
    /// Look at the mails of which nobody knows whether they were sent
    #[command(subcommand, alias = "mails")]
    Mail(MailCommand),
    /// Print what all functions have logged about an order, in the order of time
    #[command(after_help = "\
Asks the log groups of all functions for lines with the order's id or its correlation id, without what Lambda itself logs. At most 5,000 \
lines of each function, and for 30 s; what was not read is said.")]
    Logs {
        /// The order's id
        #[arg(long, value_name = "ID", value_parser = not_empty)]
        order: String,
        /// From this moment on, such as 2h (ago), 2025-11-20 or 2025-11-20T10:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = when, default_value = "1h")]
        since: When,
    },
    /// Look at the events that are stored and not published
    #[command(subcommand)]
    Outbox(Outbox),
    /// Look at the addresses that are not mailed any more, or have one mailed again
    #[command(subcommand)]
    Suppressed(SuppressedCommand),
    /// Export what the shop knows of a customer, or forget who it was
    #[command(subcommand)]
    Customer(Customer),
    /// Deliver a part of the event log to one queue again, as its filter allows; asks first
    #[command(after_help = "\
The events go to this queue only, with the bytes and attributes that they were published with. Consumers take \
each event once, and nobody is mailed again: mails are remembered for 30 days, and no event older than 14 days \
is mailed about.")]
    Replay(Replay),
    /// Compare orders, reservations, stock and event log, and list every difference
    #[command(after_help = "\
Reads five tables as a whole: on a large shop it takes a while and costs their read units. An order that changed within \
the last five minutes is under way, and not compared. Ends with 1 if there is a difference.")]
    Reconcile,
    /// Stop giving a consumer messages; they wait on its queue; asks first
    Pause(Consumers),
    /// Give a consumer messages again
    Resume(Consumers),
    /// Have one function log more or less, or as it was deployed; its next invocations are cold starts
    #[command(after_help = "\
Only the variable LOG_LEVEL changes. It lasts until a deployment changes the function, or `--reset`. At debug and trace a function logs what its \
libraries do: more bytes to pay for.")]
    LogLevel {
        /// Such as order-api, order-consumer, relay
        #[arg(value_parser = not_empty)]
        function: String,
        /// From here on
        #[arg(value_enum, required_unless_present = "reset")]
        level: Option<LogLevel>,
        /// The level with which the stack was deployed
        #[arg(long, conflicts_with = "level")]
        reset: bool,
    },
    /// Serve a web page on this machine: status, switches, dead letters, lists, one order's time line
    Console {
        /// The port; 0 is any free one
        #[arg(long, default_value_t = 0)]
        port: u16,
    },
    /// Print what makes a shell complete this command
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// A line for each dead letter
    #[command(after_help = LISTING)]
    List {
        /// Of this queue only
        #[arg(value_parser = not_empty, add = ArgValueCandidates::new(completions::queues))]
        queue: Option<String>,
        #[command(flatten)]
        selection: Selection,
    },
    /// All of each dead letter: reason, attributes, body
    #[command(after_help = LISTING)]
    Show {
        /// Of this queue
        #[arg(value_parser = not_empty, add = ArgValueCandidates::new(completions::queues))]
        queue: String,
        #[command(flatten)]
        selection: Selection,
    },
    /// Send dead letters to their queue again; shows which and asks first
    #[command(after_help = "\
With --all, SQS moves the whole DLQ by itself (StartMessageMoveTask) where the endpoint can; a selection is moved \
message by message, and its letters leave the DLQ only when their queue has taken them. A consumer takes a redriven \
event once, even if it comes twice. With --wait the command says what became of them.")]
    Redrive {
        #[command(flatten)]
        change: Change,
        /// Wait up to this long, such as 60s, and say how many were handled, and how many died again, why and after how many attempts
        #[arg(long, value_name = "SPAN", value_parser = span)]
        wait: Option<SignedDuration>,
    },
    /// Delete dead letters, and keep a copy in a file; shows which and asks first
    #[command(after_help = "\
The copy is a file of the directory in which the command runs, readable by you alone: it holds what the letters hold, addresses of customers \
included. `orderflow dlq send FILE` brings them back, edited if need be.")]
    Drop(DropChange),
    /// Send what was dropped to its queue, from the copy that was kept; asks first
    Send {
        /// The copy
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DropChange {
    #[command(flatten)]
    pub change: Change,
    /// Where the copy is kept; a file that is not there yet
    #[arg(long, value_name = "FILE", conflicts_with = "no_copy")]
    pub copy: Option<PathBuf>,
    /// Keep no copy: what is deleted is gone
    #[arg(long)]
    pub no_copy: bool,
}

const LISTING: &str = "\
SQS cannot show a message without handing it out: a listing hides the messages while it runs and raises their receive \
count, which on a DLQ nothing depends on.";

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Of this queue
    #[arg(value_parser = not_empty, add = ArgValueCandidates::new(completions::queues))]
    pub queue: String,
    #[command(flatten)]
    pub selection: Selection,
    /// Everything that is in the DLQ
    #[arg(long)]
    pub all: bool,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Which page of a list.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// Maximum number of lines
    #[arg(long, value_name = "NUMBER", default_value_t = ENTRIES_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=i64::from(ENTRIES_MAX)))]
    pub limit: u16,
    /// Go on from here, as the page before says
    #[arg(long, value_name = "CURSOR", value_parser = not_empty)]
    pub from: Option<String>,
}

/// What a list says that may have to scan a table.
const SCANS: &str = "\
a scan, in no order, reads at most 20,000 items of the table and for 10 s, which costs read units, and says how far it has come; --from \
goes on.";

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// A line for each order: all, or those of a status, of a customer, or that are late
    #[command(after_help = format!("\
Indexes have those that are late or pending, oldest first, those that await payment, and a customer's, newest first. All others no index \
has: {SCANS}"))]
    List {
        /// Only those of this status
        #[arg(long, value_parser = order_status, value_name = "STATUS", conflicts_with_all = ["customer", "late"])]
        status: Option<Status>,
        /// Only those of this customer; the address as it is written in the orders
        #[arg(long, value_name = "EMAIL", conflicts_with = "late")]
        customer: Option<events::Email>,
        /// Only those that are pending for longer than the stack allows
        #[arg(long)]
        late: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// What it is and where it stands
    Show {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
    /// Its events, oldest first, whether each is published, and what each consumer did with it and when
    #[command(after_help = "\
What a consumer did is what its marker says, which is kept for 30 days. Without a marker the event waits, the consumer had nothing to do, or \
it is dead.")]
    History {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
    /// Its way from the request to its last mail: a line with a bar for each step, in milliseconds
    #[command(after_help = "\
By what is stored: its event log and the consumers' markers, which are kept for 30 days. A step begins when its event was made, and holds \
the way over the topic and the queue.")]
    Trace {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
    /// Cancel it, if it is not shipped or rejected; asks first
    Cancel {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
    /// Publish its last event again, or the one that is named: for an order that got stuck
    Republish {
        /// The order's id; with --event it may be left out for an event that is stuck or pending
        #[arg(value_parser = not_empty, required_unless_present = "event")]
        id: Option<String>,
        /// This event instead of the order's last; `orderflow outbox list` names the stuck ones
        #[arg(long, value_name = "ID", value_parser = not_empty)]
        event: Option<String>,
        /// Run the relay at once instead of waiting for its minute
        #[arg(long)]
        now: bool,
    },
}

fn order_status(text: &str) -> Result<Status, String> {
    one_of(&Status::ALL, Status::as_str, text)
}

fn payment_status(text: &str) -> Result<PaymentStatus, String> {
    one_of(&PaymentStatus::ALL, PaymentStatus::as_str, text)
}

/// The value that is written so.
fn one_of<T: Copy>(all: &[T], written: fn(T) -> &'static str, text: &str) -> Result<T, String> {
    all.iter().copied().find(|one| written(*one) == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| written(*one)).collect();
        format!("there are {}", names.join(", "))
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum AnalyticsCommand {
    /// What came to each status on each day: pieces, and for how much they were ordered
    #[command(after_help = "\
A day is one of UTC, and the day of the event: an order that is placed on one day and confirmed on the next is pending there and confirmed \
here. At most 92 days.")]
    Daily {
        /// The first day, such as 2026-05-03; without it two weeks
        #[arg(long, value_name = "DAY")]
        from: Option<Day>,
        /// The last day; without it today
        #[arg(long, value_name = "DAY")]
        to: Option<Day>,
        /// Of each product, and not of all together
        #[arg(long)]
        products: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProductCommand {
    /// A line for each product with its stock: all, or those of a category, or of which there are few
    #[command(after_help = format!("\
An index has those of a category. For --stock-below, {SCANS}"))]
    List {
        /// Only those of this category
        #[arg(long, value_name = "NAME", conflicts_with = "stock_below")]
        category: Option<Name>,
        /// Only those of which there are fewer pieces than this
        #[arg(long, value_name = "PIECES")]
        stock_below: Option<u64>,
        #[command(flatten)]
        paging: Paging,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MailCommand {
    /// A line for each mail whose send had no answer, or whose process died under it
    #[command(after_help = format!("\
No index has them: {SCANS} What was tried too often is a dead letter: `orderflow dlq list notification --reason \
mail_outcome_unknown`."))]
    Unknown {
        #[command(flatten)]
        paging: Paging,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PaymentCommand {
    /// A line for each payment: all, those of a status, or those that are overdue
    #[command(after_help = format!("\
An index has those that are overdue: of orders that still await payment after their time to pay. For a status, {SCANS}"))]
    List {
        /// Only those of this status
        #[arg(long, value_parser = payment_status, value_name = "STATUS", conflicts_with = "overdue")]
        status: Option<PaymentStatus>,
        /// Only those that are overdue
        #[arg(long)]
        overdue: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Print it: its status, its ids at Stripe, and what was asked of Stripe last
    Show {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
    /// Give all of it back: cancel the order, or have its cancellation handled again; asks first
    #[command(after_help = "\
An order that is confirmed is cancelled, by which its payment is refunded; of one that was cancelled before, the cancellation is sent to \
payment-consumer again. Either way a payment is given back once. An order that is shipped cannot be cancelled: what is given back of that, \
give back at Stripe.")]
    Refund {
        /// The order's id
        #[arg(value_parser = not_empty)]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SuppressedCommand {
    /// A line for each address: since when, why, and by which mail
    List,
    /// Have an address mailed again; asks first
    Remove {
        /// The address
        email: events::Email,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Customer {
    /// Print it all as JSON: orders, their events, stored answers, and whether the address is suppressed
    #[command(after_help = READS_ALL)]
    Export {
        /// The customer's address
        email: events::Email,
    },
    /// Replace the address by one that is nobody's, wherever it is stored; asks first
    #[command(after_help = READS_ALL)]
    Erase {
        /// The customer's address
        email: events::Email,
    },
}

const READS_ALL: &str = "\
Reads three tables as a whole, because an address is found however its letters were typed: on a large shop it takes a while \
and costs their read units.";

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// A line for each stuck event: SNS refuses it for good, or it cannot be read
    List {
        /// Those too that are only waiting to be published
        #[arg(long)]
        pending: bool,
        /// Maximum number of each
        #[arg(long, value_name = "NUMBER", default_value_t = EVENTS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=i64::from(ENTRIES_MAX)))]
        limit: u16,
    },
    /// All of one event: state, attributes, body
    Show {
        /// The event's id
        #[arg(value_name = "EVENT", value_parser = not_empty)]
        event: String,
        /// Its order: needed for an event that is published
        #[arg(long, value_name = "ID", value_parser = not_empty)]
        order: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Where to: product, order, notification, analytics
    #[arg(long, value_name = "NAME", value_parser = not_empty, add = ArgValueCandidates::new(completions::queues))]
    pub queue: String,
    /// From this moment on, such as 2h (ago), 2025-11-20 or 2025-11-20T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = when, required_unless_present = "order")]
    pub from: Option<When>,
    /// Until before this moment
    #[arg(long, value_name = "WHEN", value_parser = when, default_value = "now")]
    pub to: When,
    /// Events of this order only
    #[arg(long, value_name = "ID", value_parser = not_empty)]
    pub order: Option<String>,
    /// Only show what would be sent
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Consumers {
    /// Of this queue; `all` of them
    #[arg(value_name = "QUEUE|all", value_parser = not_empty, add = ArgValueCandidates::new(completions::queues_or_all))]
    pub queue: String,
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_options_of_every_command_are_in_one_help_and_taken_everywhere() {
        let help = |words: &[&str]| {
            let words = [&["orderflow"], words, &["--help"]].concat();
            command().try_get_matches_from(words).expect_err("help").to_string()
        };
        assert!(help(&[]).contains("--endpoint-url <URL>"));
        for words in [&["status"][..], &["dlq"], &["dlq", "redrive"], &["order", "cancel"]] {
            let help = help(words);
            assert!(
                !help.contains("--endpoint-url <URL>") && help.contains("has the options"),
                "{help}"
            );
        }
        let typed = ["orderflow", "order", "show", "o1", "--stack", "shop", "-o", "json", "-y"];
        let matches = command().try_get_matches_from(typed).expect("a command line");
        let arguments = Arguments::from_arg_matches(&matches).expect("arguments");
        assert_eq!((arguments.access.stack.as_str(), arguments.yes), ("shop", true));
    }

    #[test]
    fn every_command_of_the_runbook_is_one() {
        let runbook = include_str!("../../docs/runbook.md");
        let commands: Vec<&str> = runbook
            .lines()
            .filter_map(|line| line.strip_prefix("$ "))
            .filter(|line| line.starts_with("orderflow "))
            .collect();
        assert!(commands.len() > 30, "this test has lost sight of the commands");
        // `make runbook` plays what stands behind a prompt, and its output is shown below it.
        let bare = runbook.lines().find(|line| line.starts_with("orderflow "));
        assert_eq!(bare, None, "a command of the runbook stands in a console block, behind `$ `");
        for line in commands {
            let parsed = command().try_get_matches_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.expect_err("refused"));
        }
    }

    #[test]
    fn an_empty_selector_is_refused_wherever_one_is_taken() {
        let empty: [&[&str]; 19] = [
            &["--stack", "", "status"],
            &["status", "--stack", ""],
            &["status", "--region", ""],
            &["status", "--endpoint-url", ""],
            &["dlq", "list", ""],
            &["dlq", "drop", "product", "--id", "", "--yes"],
            &["dlq", "drop", "product", "--id", "abc", "--id", "", "--yes"],
            &["dlq", "redrive", "product", "--order", " "],
            &["dlq", "redrive", "product", "--reason", ""],
            &["dlq", "redrive", "product", "--type", ""],
            &["replay", "--queue", "product", "--order", ""],
            &["order", "republish", "--event", ""],
            &["order", "cancel", ""],
            &["payment", "show", ""],
            &["payment", "refund", ""],
            &["order", "trace", ""],
            &["order", "list", "--from", ""],
            &["mail", "unknown", "--from", ""],
            &["logs", "--order", ""],
        ];
        for words in empty {
            let typed = [&["orderflow"], words].concat();
            let error = command().try_get_matches_from(typed).expect_err("refused").to_string();
            assert!(error.contains("it is empty"), "{words:?}: {error}");
        }
    }
}
