//! What needs the stack for itself, because it switches consumers off. Run with `--test-threads=1`.

mod alarms;
mod availability;
mod cors;
mod fanout;
mod limits;
mod priority;
mod traces;
