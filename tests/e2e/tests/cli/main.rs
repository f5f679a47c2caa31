//! The operator's command against a stack, one test at a time: several of them pause consumers.

mod commands;
mod customer;
mod dead_letters;
mod lists;
mod log_level;
mod orders;
mod reconcile;
mod replay;
mod suppressed;
mod timeline;
