//! Live updates over WebSockets, against a stack with `LiveUpdates=on` and `Payments=stripe` in which IAM is enforced: what the roles
//! allow is enough. Times are printed by `--nocapture`.

mod protocol;
mod pushed;
mod roles;

use anyhow::Result;
use e2e::{Capability, Stack};

/// The stack, if its emulator has WebSocket APIs.
async fn live_stack() -> Result<Option<Stack>> {
    let stack = Stack::load().await?;
    Ok(stack.can(Capability::HasWebSocketApis).then_some(stack))
}
