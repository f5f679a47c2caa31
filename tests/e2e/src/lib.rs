//! What the end-to-end tests share: a deployed stack, its API as a client sees it, and waiting.
//!
//! In: a settings file of the form of `.local/stack.env`, named by `ORDERFLOW_STACK`; the tests know nothing
//! else of the stack. Out: what tests assert on. Guarantees: a wait names its subject and ends; a stack that
//! is not there is a failure that says so.

pub mod alarms;
pub mod api;
pub mod browser;
mod consumers;
pub mod faults;
pub mod feedback;
pub mod live;
pub mod localstripe;
mod mails;
mod orderflow;
pub mod payments;
mod queues;
mod roles;
mod tables;
mod wait;

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;

pub use api::{Answer, Api};
pub use orderflow::{Ran, bare_command, run_command};
pub use queues::{Queue, new_event};
pub use tables::{Amounts, Item};
pub use wait::{Seconds, eventually};

/// What every function is invoked by.
pub const ALIAS: &str = "live";

#[derive(Debug, Clone)]
pub struct Stack {
    settings: HashMap<String, String>,
    /// The API as clients see it.
    pub api: Api,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub sqs: aws_sdk_sqs::Client,
    pub sns: aws_sdk_sns::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    pub aws: SdkConfig,
    http: reqwest::Client,
    untested: PathBuf,
}

impl Stack {
    /// The stack that `ORDERFLOW_STACK` names; without it the one that `make up` runs.
    ///
    /// # Errors
    /// There is no such file, or it lacks something.
    pub async fn load() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let path = std::env::var_os("ORDERFLOW_STACK")
            .map_or_else(|| root.join(".local/stack.env"), PathBuf::from);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "no stack at {}: `make test` brings its own; or run `make up` and set ORDERFLOW_STACK",
                path.display()
            )
        })?;
        let settings: HashMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let get = |key: &str| {
            settings.get(key).cloned().with_context(|| format!("{} has no {key}", path.display()))
        };
        let endpoint = get("EMULATOR_URL").or_else(|_| get("AWS_ENDPOINT_URL"))?;
        let (key, secret) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
        let admin = Credentials::new(key, secret, None, None, "the stack's settings");
        let aws = aws(&endpoint, get("AWS_REGION")?, admin.clone()).await;
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            api: Api::new(http.clone(), get("API_URL")?, get("AWS_REGION")?, admin),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            sqs: aws_sdk_sqs::Client::new(&aws),
            sns: aws_sdk_sns::Client::new(&aws),
            lambda: aws_sdk_lambda::Client::new(&aws),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&aws),
            aws,
            settings,
            http,
            untested: path.with_file_name("not-tested.txt"),
        })
    }

    /// One line of the settings file.
    ///
    /// # Panics
    /// It is not there: the stack was deployed without what this test needs.
    #[must_use]
    pub fn setting(&self, key: &str) -> &str {
        self.settings.get(key).unwrap_or_else(|| panic!("the stack's settings have no {key}"))
    }

    /// Whether the stack's emulator can do what a test needs. If not, says so on stderr: the test ends early,
    /// and the run counts these lines.
    #[must_use]
    pub fn can(&self, capability: Capability) -> bool {
        let emulator = self.setting("EMULATOR");
        match capability.missing_in(emulator) {
            None => true,
            Some(reason) => {
                self.note_untested(&format!("NOT TESTED on {emulator}: {capability:?}: {reason}"));
                false
            }
        }
    }
}

impl Stack {
    /// Writes beside the settings file, from where `stack.py with` prints and counts it at the end of the run: the
    /// test runner keeps what a passing test prints to itself.
    fn note_untested(&self, line: &str) {
        eprintln!("{line}");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.untested);
        let written = file.and_then(|mut file| {
            std::io::Write::write_all(&mut file, format!("{line} ({test})\n").as_bytes())
        });
        written.expect("the folder of the settings file can be written to");
    }
}

/// What not every emulator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Refuses an unsigned call of a route with AWS_IAM.
    RefusesUnsignedCalls,
    /// Moves a whole DLQ by StartMessageMoveTask.
    MovesWholeDlqs,
    /// Has CloudWatch metrics of queues.
    HasQueueMetrics,
    /// Gives a consumer every body as it was sent, whatever it is.
    DeliversBodiesAsTheyAre,
    /// Refuses what no policy allows.
    EnforcesIam,
    /// Has WebSocket APIs, and CloudFormation's resources of them.
    HasWebSocketApis,
}

impl Capability {
    fn missing_in(self, emulator: &str) -> Option<&'static str> {
        match (self, emulator) {
            (Self::RefusesUnsignedCalls, "localstack" | "localstack-docker") => {
                Some("its free edition lets every call pass")
            }
            // In host mode that is fixed.
            (Self::DeliversBodiesAsTheyAre, "localstack-docker") => {
                Some("its event source mapping reads every body itself and fails on some for ever")
            }
            (Self::EnforcesIam, "localstack" | "localstack-docker") => {
                Some("its free edition asks no policy")
            }
            (Self::HasWebSocketApis, "localstack" | "localstack-docker") => {
                Some("its free edition has no API Gateway v2")
            }
            (Self::MovesWholeDlqs, "ministack") => Some("it has no StartMessageMoveTask"),
            (Self::HasQueueMetrics, "ministack") => Some("it has no metrics of SQS"),
            _ => None,
        }
    }
}

/// The AWS configuration of the tests themselves.
async fn aws(endpoint: &str, region: String, credentials: Credentials) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(region))
        .credentials_provider(credentials)
        .load()
        .await
}

/// Fails unless a call was answered with this status, and shows what it was answered with.
///
/// # Errors
/// The status is another.
pub fn expect_status(answer: &Answer, status: u16) -> Result<()> {
    if answer.status != status {
        bail!("wanted {status}, got {}: {}", answer.status, answer.text);
    }
    Ok(())
}
