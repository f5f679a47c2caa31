//! A deployed stack, found through its CloudFormation outputs.
//!
//! In: the usual AWS settings and a stack name. Out: clients, and the names of queues, tables and functions.
//! Guarantee: a missing region, missing credentials and a missing stack are each distinguished, before any
//! command has begun. A consumer is whatever has the outputs `<Name>QueueUrl`, `<Name>DlqUrl` and
//! `<Name>ConsumerFunction`: a new one needs no change here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, profile::ProfileFileCredentialsProvider,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use axum::http::Uri;
use clap::{Args, error::ErrorKind};
use exactly_once::{ErrorChain, Outbox};
use messaging::PARTITION_KEY;
use order::dynamodb::PendingOrders;

use crate::{error::CliError, held::HeldLetters, select::not_empty};

/// An endpoint that does not take a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one call waits for AWS, with its repetition: a person does not wait for longer without a word. Only a
/// call that waits for a function has a longer timeout of its own.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of attempts of one call: one that was lost on its way is repeated once.
const ATTEMPTS_MAX: u32 = 2;

/// What every function is invoked by: its alias, which points to the version that is in force.
pub(crate) const ALIAS: &str = "live";

/// Which stack, and how to get at it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which stack")]
pub(crate) struct Access {
    /// The CloudFormation stack
    #[arg(
        long,
        global = true,
        env = "ORDERFLOW_STACK_NAME",
        default_value = "orderflow",
        value_name = "NAME",
        value_parser = not_empty
    )]
    pub stack: String,
    /// Where AWS is, for an emulator [env: AWS_ENDPOINT_URL]
    #[arg(long, global = true, value_name = "URL", value_parser = not_empty)]
    pub endpoint_url: Option<String>,
    /// The AWS region [env: AWS_REGION]
    #[arg(long, global = true, value_parser = not_empty)]
    pub region: Option<String>,
    /// The profile of the AWS configuration files [env: AWS_PROFILE]
    #[arg(long, global = true, value_parser = not_empty)]
    pub profile: Option<String>,
}

/// A queue with its DLQ and its consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queue {
    /// `product`, `order`, `notification`.
    pub name: String,
    pub url: String,
    pub dlq_url: String,
    /// The function that is given its messages.
    pub consumer: String,
    /// The function's name without the stack's, by which its markers are kept. One consumer may have several queues.
    pub consumer_name: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub name: String,
    outputs: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
    /// Its queues, by name.
    pub queues: Vec<Queue>,
    pub sqs: aws_sdk_sqs::Client,
    pub sns: aws_sdk_sns::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    pub logs: aws_sdk_cloudwatchlogs::Client,
    /// What this process has received of DLQs.
    pub held: HeldLetters,
}

impl Stack {
    /// Finds it.
    ///
    /// # Errors
    /// What is missing, and how to give it.
    pub(crate) async fn find(access: &Access) -> Result<Self, CliError> {
        // Looked at before the SDK does, which passes over a variable that it cannot read and would go to AWS.
        let of_environment = std::env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty());
        if let Some(url) = access.endpoint_url.clone().or(of_environment) {
            require_http_url(&url)?;
        }
        let aws = load_aws(access).await;
        let Some(region) = aws.region().map(ToString::to_string) else {
            let why = "no AWS region: set --region or AWS_REGION";
            return Err(CliError::NotDone(why.into()));
        };
        require_credentials(&aws, access).await?;
        let place = match aws.endpoint_url() {
            Some(url) => format!("at {url} ({region})"),
            None => format!("in {region}"),
        };
        let (outputs, parameters) =
            describe(&aws_sdk_cloudformation::Client::new(&aws), &access.stack, &place).await?;
        let queues = queues(&outputs, &access.stack);
        if queues.is_empty() || !outputs.contains_key("EventLogTable") {
            return Err(CliError::NotFound(format!(
                "the stack {} {place} is not an Orderflow: its outputs name no queues and no event log",
                access.stack
            )));
        }
        Ok(Self {
            name: access.stack.clone(),
            queues,
            outputs,
            parameters,
            sqs: aws_sdk_sqs::Client::new(&aws),
            sns: aws_sdk_sns::Client::new(&aws),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            lambda: aws_sdk_lambda::Client::new(&aws),
            cloudwatch: aws_sdk_cloudwatch::Client::new(&aws),
            logs: aws_sdk_cloudwatchlogs::Client::new(&aws),
            held: HeldLetters::default(),
        })
    }

    /// One output.
    ///
    /// # Errors
    /// The stack is older than this command.
    pub(crate) fn output(&self, name: &str) -> Result<&str, CliError> {
        self.outputs.get(name).map(String::as_str).ok_or_else(|| {
            CliError::NotDone(format!(
                "the stack {} has no output {name}: deploy it again",
                self.name
            ))
        })
    }

    /// One parameter with which the stack was deployed.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// What Lambda calls a function, by its name without the stack's.
    ///
    /// # Errors
    /// Which functions there are.
    pub(crate) fn function(&self, name: &str) -> Result<&str, CliError> {
        let prefix = format!("{}-", self.name);
        let outputs = self.outputs.iter().filter(|(output, _)| output.ends_with("Function"));
        let functions: BTreeSet<(&str, &str)> =
            outputs.map(|(_, full)| (full.trim_start_matches(&prefix), full.as_str())).collect();
        let found = functions.iter().find(|(short, full)| name == *short || name == *full);
        found.map(|(_, full)| *full).ok_or_else(|| {
            let names: Vec<&str> = functions.iter().map(|(short, _)| *short).collect();
            CliError::NotFound(format!("no function {name:?}: there are {}", names.join(", ")))
        })
    }

    /// A queue by its name.
    ///
    /// # Errors
    /// Which queues there are.
    pub(crate) fn queue(&self, name: &str) -> Result<&Queue, CliError> {
        self.queues.iter().find(|queue| queue.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.queues.iter().map(|queue| queue.name.as_str()).collect();
            CliError::NotFound(format!("no queue {name:?}: there are {}", names.join(", ")))
        })
    }

    /// The queue of this name, or all of them.
    ///
    /// # Errors
    /// Which queues there are.
    pub(crate) fn queues(&self, name: Option<&str>) -> Result<Vec<&Queue>, CliError> {
        name.map_or_else(|| Ok(self.queues.iter().collect()), |name| Ok(vec![self.queue(name)?]))
    }

    /// The names of all its functions.
    pub(crate) fn functions(&self) -> BTreeSet<&str> {
        let functions = self.outputs.iter().filter(|(name, _)| name.ends_with("Function"));
        functions.map(|(_, function)| function.as_str()).collect()
    }

    /// Its consumers, each by the first of its queues.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = &Queue> {
        let first = |queue: &&Queue| {
            self.queues.iter().find(|one| one.consumer == queue.consumer) == Some(*queue)
        };
        self.queues.iter().filter(first)
    }

    /// The event log as the functions see it.
    ///
    /// # Errors
    /// The stack is older than this command.
    pub(crate) fn outbox(&self) -> Result<Outbox, CliError> {
        let (table, topic_arn) = (self.output("EventLogTable")?, self.output("TopicArn")?);
        Ok(Outbox::new(self.dynamodb.clone(), self.sns.clone(), table, topic_arn)
            .partition_key(PARTITION_KEY))
    }

    /// The orders that are not settled.
    ///
    /// # Errors
    /// The stack is older than this command.
    pub(crate) fn pending_orders(&self) -> Result<PendingOrders, CliError> {
        Ok(PendingOrders::new(self.dynamodb.clone(), self.output("OrdersTable")?))
    }
}

/// The AWS configuration that the command line and the environment ask for.
async fn load_aws(access: &Access) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(settings::http_client())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts(OPERATION_TIMEOUT));
    if let Some(profile) = &access.profile {
        // A profile that was asked for goes before credentials that happen to be in the environment.
        let of_profile = ProfileFileCredentialsProvider::builder().profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(of_profile);
    }
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(url) = &access.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    loader.load().await
}

/// The timeouts of a call that ends within `operation`.
pub(crate) fn timeouts(operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(operation).build()
}

/// Fails if no connection could be made to this, whatever listens.
fn require_http_url(url: &str) -> Result<(), CliError> {
    let uri = url.parse::<Uri>().ok();
    let is_http = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
    });
    if is_http {
        return Ok(());
    }
    let message = format!(
        "{url:?} is no endpoint: --endpoint-url or AWS_ENDPOINT_URL has to be like http://127.0.0.1:4566"
    );
    Err(CliError::usage(ErrorKind::ValueValidation, message))
}

/// Fails, and says how to get them, if there are no credentials.
async fn require_credentials(aws: &SdkConfig, access: &Access) -> Result<(), CliError> {
    let credentials = match aws.credentials_provider() {
        Some(provider) => {
            provider.provide_credentials().await.map_err(|error| ErrorChain(&error).to_string())
        }
        None => Err("none".to_owned()),
    };
    credentials.map(drop).map_err(|why| {
        let of = access.profile.as_ref().map(|p| format!(" in profile {p}")).unwrap_or_default();
        CliError::NotDone(format!(
            "no AWS credentials{of}: sign in (`aws sso login`), choose a --profile, or set AWS_ACCESS_KEY_ID \
             and AWS_SECRET_ACCESS_KEY (an emulator takes any); {}",
            innermost(&why)
        ))
    })
}

type Named = BTreeMap<String, String>;

async fn describe(
    client: &aws_sdk_cloudformation::Client,
    name: &str,
    place: &str,
) -> Result<(Named, Named), CliError> {
    let absent = || {
        CliError::NotFound(format!(
            "no stack {name} {place}: deploy it (`make up` runs one on this machine), or name another by --stack"
        ))
    };
    let sent = client.describe_stacks().stack_name(name).send().await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) if error.message().is_some_and(|m| m.contains("does not exist")) => {
            return Err(absent());
        }
        Err(error) => return Err(error.into()),
    };
    let stack = answer.stacks.unwrap_or_default().into_iter().next().ok_or_else(absent)?;
    let outputs = stack.outputs.unwrap_or_default().into_iter();
    let parameters = stack.parameters.unwrap_or_default().into_iter();
    Ok((
        outputs.filter_map(|one| Some((one.output_key?, one.output_value?))).collect(),
        parameters.filter_map(|one| Some((one.parameter_key?, one.parameter_value?))).collect(),
    ))
}

fn queues(outputs: &Named, stack: &str) -> Vec<Queue> {
    let queue = |(key, url): (&String, &String)| {
        let name = key.strip_suffix("QueueUrl")?;
        let consumer = outputs.get(&format!("{name}ConsumerFunction"))?;
        Some(Queue {
            name: kebab_case(name),
            url: url.clone(),
            dlq_url: outputs.get(&format!("{name}DlqUrl"))?.clone(),
            consumer: consumer.clone(),
            consumer_name: consumer.trim_start_matches(&format!("{stack}-")).to_owned(),
        })
    };
    let mut queues: Vec<Queue> = outputs.iter().filter_map(queue).collect();
    queues.sort_by(|one, other| one.name.cmp(&other.name));
    queues
}

/// `notification-priority` of `NotificationPriority`.
fn kebab_case(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 1);
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The last part of the SDK's chain of causes, without its debug form.
fn innermost(chain: &str) -> &str {
    chain.split(" (").next().unwrap_or(chain).rsplit(": ").next().unwrap_or(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url() {
        for url in ["http://127.0.0.1:4566", "https://sqs.example.com/", "http://[::1]:4566"] {
            assert!(require_http_url(url).is_ok(), "{url}");
        }
        for url in
            ["notaurl", "127.0.0.1:4566", "localhost:4566", "ftp://a", "http://", "http:// a"]
        {
            let error = require_http_url(url).expect_err(url);
            assert_eq!(error.exit_code(), 2, "{url}");
        }
    }

    #[test]
    fn a_consumer_is_whatever_has_a_queue_a_dlq_and_a_function() {
        let outputs =
            ["ProductQueueUrl", "ProductDlqUrl", "ProductConsumerFunction", "OddQueueUrl"]
                .map(|key| (key.to_owned(), format!("its {key}")));
        let found = queues(&BTreeMap::from(outputs), "shop");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "product");
        assert_eq!(found[0].dlq_url, "its ProductDlqUrl");
    }

    #[test]
    fn two_queues_of_one_consumer_have_names_of_their_own_and_share_its_markers() {
        let outputs = ["Notification", "NotificationPriority"].into_iter().flat_map(|queue| {
            [
                (format!("{queue}QueueUrl"), format!("{queue} queue")),
                (format!("{queue}DlqUrl"), format!("{queue} DLQ")),
                (format!("{queue}ConsumerFunction"), "shop-notification-consumer".to_owned()),
            ]
        });
        let found = queues(&outputs.collect(), "shop");
        let names: Vec<_> = found.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["notification", "notification-priority"]);
        assert!(found.iter().all(|queue| queue.consumer_name == "notification-consumer"));
    }
}
