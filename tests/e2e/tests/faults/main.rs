//! What the system does when calls fail, answers are lost and processes die. Needs a stack with the fault proxy,
//! for itself: run with `--test-threads=1`.

mod crash_points;
mod mails;
mod reads;
mod sns;
