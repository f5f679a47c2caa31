//! The calls that our code makes, against the simulation and against the emulator that runs: where the outcomes differ,
//! AWS's page decides, and the difference is named.
//!
//! In: the settings file of a stack, named by `ORDERFLOW_STACK` (`stack.py with` brings one). Out: passes if the outcomes
//! are equal but for the named differences, and each of those is still there.

mod messaging;
