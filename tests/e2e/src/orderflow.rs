//! The operator's command, as a person or a script runs it.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Stack;

/// What a run of the command left.
#[derive(Debug, Clone)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Stack {
    /// The command with the AWS settings of this stack and nothing else of our environment.
    ///
    /// # Errors
    /// It has not been built.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = bare_command(arguments)?;
        let endpoint = self.settings.get("EMULATOR_URL").or(self.settings.get("AWS_ENDPOINT_URL"));
        // What the command keeps in files goes with the stack.
        let directory = self.untested.parent().context("the stack's directory")?;
        command
            .current_dir(directory)
            .env("AWS_ENDPOINT_URL", endpoint.context("the stack's endpoint")?)
            .env("AWS_REGION", self.setting("AWS_REGION"))
            .env("AWS_ACCESS_KEY_ID", self.setting("AWS_ACCESS_KEY_ID"))
            .env("AWS_SECRET_ACCESS_KEY", self.setting("AWS_SECRET_ACCESS_KEY"))
            .env("ORDERFLOW_STACK_NAME", self.setting("STACK_NAME"));
        Ok(command)
    }

    /// Runs the command to its end, without a terminal.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn run(&self, arguments: &[&str]) -> Result<Ran> {
        run_command(self.command(arguments)?).await
    }

    /// Runs the command, which has to succeed, and reads its JSON.
    ///
    /// # Errors
    /// It fails, or says something that is no JSON.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let ran = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        ensure!(ran.code == 0, "{arguments:?} ended with {}: {}", ran.code, ran.stderr);
        serde_json::from_str(&ran.stdout).with_context(|| format!("no JSON: {}", ran.stdout))
    }
}

/// The command with nothing of our environment: no profile, no credentials, no endpoint.
///
/// # Errors
/// It has not been built.
pub fn bare_command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", "/nonexistent")
        // Else the SDK looks for a machine of EC2's around us, for seconds.
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be run.
pub async fn run_command(mut command: Command) -> Result<Ran> {
    // Off the runtime's threads, so that a slow command does not hold up what the test does meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok(output.into())
}

/// `ORDERFLOW_BIN`, or what was built next to the tests.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("ORDERFLOW_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let directory = test.parent().and_then(|deps| deps.parent()).context("target/debug")?;
    let path = directory.join("orderflow");
    ensure!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    Ok(path)
}
