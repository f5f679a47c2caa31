//! Whether the functions' roles are enough, and no more than that. It needs a stack whose emulator asks IAM
//! before each call: one that was started with `--server-env AUTH=true`.

mod enough;
mod refused;

use anyhow::Result;
use e2e::{Capability, Stack};

/// The stack, if its emulator can refuse anything.
async fn enforcing() -> Result<Option<Stack>> {
    let stack = Stack::load().await?;
    Ok(stack.can(Capability::EnforcesIam).then_some(stack))
}
