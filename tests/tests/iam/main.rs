//! Whether the functions' roles are enough, and no more than that. It needs a stack whose emulator asks IAM
//! before each call: one that was started with `--server-env AUTH=true`.

mod enough;
mod refused;
