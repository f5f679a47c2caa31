//! Benchmarks of the functions' binaries, from outside: what they call, what that costs, and how long it takes.
//!
//! In: binaries. Out: exact counts of calls, of calls that follow each other and of billed units; times, CPU and memory.
//! Guarantees: a function is run as Lambda runs it, by the Runtime API and the Extensions API ([`lambda`]), against an AWS
//! endpoint on this machine ([`endpoint`]); nothing of its code is called.

pub mod calls;
pub mod chart;
pub mod cost;
pub mod endpoint;
pub mod exact;
mod http;
pub mod lambda;
pub mod load;
pub mod prices;
pub mod process;
pub mod report;
pub mod shop;
pub mod statistics;
pub mod subject;
pub mod timed;
pub mod tls;
