//! The simulation against an emulator: the same calls to both, by the same client, and the same answers.
//!
//! In: `ORDERFLOW_STACK` names the settings of a running emulator. Out: every difference that is not a known one, with both
//! answers. Guarantee: a known difference that is gone fails, too.

mod calls;
mod cases;
mod dynamodb;
