//! What is measured: a program and the work that it is given.
//!
//! In: where the functions' binaries and the peers are. Out: commands. Guarantee: all get the same variables, those that Lambda
//! and the template set.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sim::shop::Queue;

use crate::{
    load::Work,
    shop::{Function, variables},
    tls::Authority,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Rust(Function),
    /// A handler of `peers/python/shop.py`.
    Python(&'static str),
    /// A handler of `peers/node/shop.js`.
    Node(&'static str),
}

impl Program {
    #[must_use]
    pub fn language(self) -> &'static str {
        match self {
            Self::Rust(_) => "Rust",
            Self::Python(_) => "Python",
            Self::Node(_) => "Node.js",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    pub program: Program,
    pub work: Work,
    /// Number of invocations of a round whose times are measured.
    pub invocations: usize,
}

/// The functions, then the peers.
pub const SUBJECTS: [Subject; 10] = [
    Subject { program: Program::Rust(Function::OrderApi), work: Work::Order, invocations: 60 },
    Subject { program: Program::Rust(Function::OrderApi), work: Work::KeyedOrder, invocations: 60 },
    Subject {
        program: Program::Rust(Function::Consumer(Queue::Product)),
        work: Work::ReserveStock(1),
        invocations: 60,
    },
    Subject {
        program: Program::Rust(Function::Consumer(Queue::Product)),
        work: Work::ReserveStock(10),
        invocations: 60,
    },
    Subject {
        program: Program::Rust(Function::Consumer(Queue::Order)),
        work: Work::SettleOrder,
        invocations: 60,
    },
    Subject {
        program: Program::Rust(Function::Consumer(Queue::Notification)),
        work: Work::Mail,
        invocations: 60,
    },
    Subject { program: Program::Python("order"), work: Work::KeyedOrder, invocations: 60 },
    Subject { program: Program::Python("stock"), work: Work::ReserveStock(10), invocations: 15 },
    Subject { program: Program::Node("order"), work: Work::KeyedOrder, invocations: 60 },
    Subject { program: Program::Node("stock"), work: Work::ReserveStock(10), invocations: 60 },
];

impl Subject {
    #[must_use]
    pub fn name(&self) -> String {
        let work = match self.work {
            Work::Order => "POST /orders".to_owned(),
            Work::KeyedOrder => "POST /orders with a key".to_owned(),
            Work::ReserveStock(count) => format!("{count} OrderCreated, stock"),
            Work::SettleOrder => "1 StockReserved, order".to_owned(),
            Work::Mail => "1 OrderCreated, mail".to_owned(),
        };
        format!("{}: {work}", self.program.language())
    }

    /// Whether it is one of the functions.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.program, Program::Rust(_))
    }
}

/// Where Debian has all of them in one file.
const ROOT_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where the programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub binaries: PathBuf,
    pub peers: PathBuf,
}

impl Programs {
    /// The release binaries and the peers of this checkout; `BIN_DIR` says where other binaries are.
    #[must_use]
    pub fn built_in(root: &Path) -> Self {
        let binaries = match std::env::var_os("BIN_DIR") {
            Some(folder) if !folder.is_empty() => PathBuf::from(folder),
            _ => root.join("target/release"),
        };
        Self { binaries, peers: root.join(".cache/peers") }
    }

    /// The command that runs a program against this endpoint; what it prints goes to this file, or nowhere.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn command(
        &self,
        program: Program,
        endpoint_url: &str,
        authority: Option<&Authority>,
        log: Option<&Path>,
    ) -> std::io::Result<Command> {
        let function = match program {
            Program::Rust(function) => function,
            Program::Python("order") | Program::Node("order") => Function::OrderApi,
            Program::Python(_) | Program::Node(_) => Function::Consumer(Queue::Product),
        };
        let mut variables: HashMap<_, _> = variables(function, endpoint_url);
        if let Some(authority) = authority {
            let file = authority.file.display().to_string();
            for name in ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
                variables.insert(name.to_owned(), file.clone());
            }
        }
        // Lambda's image, Amazon Linux, has its root certificates in one file. Debian has each in a file of its own besides, and the
        // SDK would read them all twice.
        if authority.is_none() && Path::new(ROOT_CERTIFICATES).exists() {
            variables.insert("SSL_CERT_FILE".to_owned(), ROOT_CERTIFICATES.to_owned());
        }
        let mut command = match program {
            Program::Rust(function) => Command::new(self.binaries.join(function.binary())),
            Program::Python(handler) => {
                let folder = self.peers.join("python");
                let mut command = Command::new(folder.join("venv/bin/python"));
                command.args(["-m", "awslambdaric", &format!("shop.{handler}")]);
                variables.insert("LAMBDA_TASK_ROOT".to_owned(), folder.display().to_string());
                variables.insert("PYTHONPATH".to_owned(), folder.display().to_string());
                command.current_dir(folder);
                command
            }
            Program::Node(handler) => {
                let mut command = Command::new("node");
                command.args(["bootstrap.cjs", "./shop.cjs", handler]);
                command.current_dir(self.peers.join("node"));
                command
            }
        };
        command.env_clear().envs(variables).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdout(match log {
            Some(log) => Stdio::from(std::fs::File::create(log)?),
            None => Stdio::null(),
        });
        Ok(command)
    }
}
