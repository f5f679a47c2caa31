//! The library `exactly-once` as a stranger meets it: its README, its template, nothing of Orderflow.

mod outside;
mod permissions;
