//! The simulation against an emulator: the same calls to both, by the same clients, and the same answers.
//!
//! In: `ORDERFLOW_STACK` names the settings of a running emulator (`stack.py with` brings one). Out: every difference that is
//! not a known one, with both answers. Guarantee: a known difference that is gone fails, too. Where they differ, AWS's page
//! decides, and the difference is named with it.

mod calls;
mod cases;
mod dynamodb;
mod messaging;
