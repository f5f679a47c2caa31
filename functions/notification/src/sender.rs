//! Sends a mail, or prints it: the two ways that a deployment can choose from.

use std::{fmt::Write as _, io::Write as _, str::FromStr, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_ses::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    error::ProvideErrorMetadata,
    types::{Body, Content, Destination, Message},
};
use events::Email;
use exactly_once::{
    CallError,
    error::{BoxError, is_connection_refused},
};

use crate::mail::Mail;

/// How mails leave (`MAIL_MODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Through Amazon SES.
    Ses,
    /// On stdout: for a stack on one's own machine.
    Console,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ses" => Ok(Self::Ses),
            "console" => Ok(Self::Console),
            _ => Err("must be ses or console"),
        }
    }
}

/// Why a mail was not sent, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The provider refuses this mail for good, because of its address or its content.
    #[error("the mail was refused: {0}")]
    Refused(String),
    /// The account, the sender or the configuration set is not in order: no mail can be sent until somebody acts.
    #[error("the mail provider is not configured for this sender")]
    Configuration(#[source] CallError),
    /// The provider answered that it did not send the mail: later it may.
    #[error("the mail provider failed")]
    Failed(#[source] CallError),
    /// The mail could not be printed.
    #[error("the mail could not be printed")]
    Print(#[source] std::io::Error),
    /// No answer came: the mail may have been sent.
    #[error("it is unknown whether the mail was sent")]
    Unknown(#[source] BoxError),
}

/// What an answer of SES other than success means.
/// <https://docs.aws.amazon.com/ses/latest/APIReference/API_SendEmail.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Mail,
    Configuration,
    Passing,
}

fn interpret_refusal(code: &str, message: &str) -> Refusal {
    match code {
        // Of a sender or, in the sandbox, of a recipient that is not verified: ours to put right.
        "MessageRejected" if message.contains("not verified") => Refusal::Configuration,
        "MessageRejected" | "InvalidParameterValue" => Refusal::Mail,
        "AccountSendingPausedException"
        | "MailFromDomainNotVerifiedException"
        | "ConfigurationSetDoesNotExist"
        | "ConfigurationSetDoesNotExistException"
        | "ConfigurationSetSendingPausedException"
        | "AccessDenied"
        | "AccessDeniedException" => Refusal::Configuration,
        _ => Refusal::Passing,
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Sender {
    Ses {
        /// The client, which must not repeat a call by itself.
        client: Client,
        /// The verified address that mails come from.
        from: Email,
        /// By which SES says where it reports bounces and complaints.
        configuration_set: String,
    },
    Console,
}

/// How long a connection to the provider may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Sender {
    /// Mails from this address through SES.
    ///
    /// The client makes one attempt, for which it has all the time that its caller gives it: a repetition of a slow
    /// send would be a second mail.
    pub(crate) fn ses(aws: &SdkConfig, from: Email, configuration_set: String) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .disable_operation_timeout()
            .disable_operation_attempt_timeout()
            .build();
        let config = aws_sdk_ses::config::Builder::from(aws)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self::Ses { client: Client::from_conf(config), from, configuration_set }
    }

    /// Sends one mail.
    ///
    /// # Errors
    /// [`SendError`] says whether another try can help.
    pub(crate) async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        match self {
            Self::Console => {
                // In one piece: mails of one batch must not mix their lines.
                std::io::stdout()
                    .lock()
                    .write_all(printed(mail).as_bytes())
                    .map_err(SendError::Print)
            }
            Self::Ses { client, from, configuration_set } => {
                send(client, (from, configuration_set), mail).await
            }
        }
    }
}

async fn send(
    client: &Client,
    (from, configuration_set): (&Email, &str),
    mail: &Mail,
) -> Result<(), SendError> {
    let content = |text: &str| {
        Content::builder().charset("UTF-8").data(text).build().expect("a content has data")
    };
    let message = Message::builder()
        .subject(content(&mail.subject))
        .body(Body::builder().text(content(&mail.text)).build())
        .build();
    let sent = client
        .send_email()
        .source(from.as_str())
        .destination(Destination::builder().to_addresses(mail.to.as_str()).build())
        .message(message)
        .configuration_set_name(configuration_set)
        .send()
        .await;
    let Err(error) = sent else { return Ok(()) };
    let Some(code) = error.code() else {
        // A refusal without a code, such as a gateway's 503, is an answer all the same.
        let is_answered = error.raw_response().is_some_and(|raw| raw.status().as_u16() >= 400);
        return Err(if is_answered || is_connection_refused(&error) {
            SendError::Failed(CallError::of("SendEmail")(error))
        } else {
            SendError::Unknown(error.into())
        });
    };
    let message = error.message().unwrap_or("no reason given").to_owned();
    Err(match interpret_refusal(code, &message) {
        Refusal::Mail => SendError::Refused(message),
        Refusal::Configuration => SendError::Configuration(CallError::of("SendEmail")(error)),
        Refusal::Passing => SendError::Failed(CallError::of("SendEmail")(error)),
    })
}

fn printed(mail: &Mail) -> String {
    let mut printed = String::from("📧 EMAIL NOTIFICATION (Console Mode)\n");
    let _ = writeln!(printed, "To: {}", mail.to);
    let _ = writeln!(printed, "Subject: {}", mail.subject);
    let lines = mail.text.lines().filter(|line| !line.is_empty());
    lines.for_each(|line| _ = writeln!(printed, "{line}"));
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_that_is_refused_differs_from_an_account_that_is_not_in_order() {
        for (code, message, refusal) in [
            ("InvalidParameterValue", "Missing final '@domain'", Refusal::Mail),
            ("MessageRejected", "Address blacklisted.", Refusal::Mail),
            (
                "MessageRejected",
                "Email address is not verified. The following identities failed the check",
                Refusal::Configuration,
            ),
            ("AccountSendingPausedException", "", Refusal::Configuration),
            ("MailFromDomainNotVerifiedException", "", Refusal::Configuration),
            ("ConfigurationSetDoesNotExist", "", Refusal::Configuration),
            ("ConfigurationSetSendingPausedException", "", Refusal::Configuration),
            ("Throttling", "Maximum sending rate exceeded.", Refusal::Passing),
            ("ServiceUnavailable", "", Refusal::Passing),
        ] {
            assert_eq!(interpret_refusal(code, message), refusal, "{code}: {message}");
        }
    }

    #[test]
    fn the_console_shows_the_mail_as_it_would_be_sent() {
        let mail = Mail {
            to: "test@example.com".parse().expect("an address"),
            subject: "Order #1 Created Successfully".into(),
            text: "Thank you.\n\nOrder ID: 1".into(),
        };
        assert_eq!(
            printed(&mail),
            "📧 EMAIL NOTIFICATION (Console Mode)\nTo: test@example.com\n\
             Subject: Order #1 Created Successfully\nThank you.\nOrder ID: 1\n"
        );
    }
}
