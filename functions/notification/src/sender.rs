//! Sends a mail, or prints it: the two ways that a deployment can choose from.

use std::{fmt::Write as _, io::Write as _, str::FromStr};

use aws_sdk_ses::{
    Client,
    operation::send_email::SendEmailError,
    types::{Body, Content, Destination, Message},
};
use delivery::CallError;
use events::Email;

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

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// This mail is never going to be taken.
    #[error("the mail was refused: {0}")]
    Refused(String),
    /// Whether it was sent is unknown, or the provider is not in order: later it may be.
    #[error("the mail provider failed")]
    Call(#[source] CallError),
    #[error("the mail could not be printed")]
    Print(#[source] std::io::Error),
    /// Whether it was sent is unknown.
    #[error("the mail provider did not answer in time")]
    Timeout,
}

#[derive(Debug, Clone)]
pub(crate) enum Sender {
    Ses {
        client: Client,
        /// The verified address that mails come from.
        from: Email,
    },
    Console,
}

impl Sender {
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
            Self::Ses { client, from } => send(client, from, mail).await,
        }
    }
}

async fn send(client: &Client, from: &Email, mail: &Mail) -> Result<(), SendError> {
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
        .send()
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) => match error.as_service_error() {
            Some(SendEmailError::MessageRejected(rejected)) => {
                Err(SendError::Refused(rejected.message().unwrap_or("no reason given").to_owned()))
            }
            _ => Err(SendError::Call(CallError::of("SendEmail")(error))),
        },
    }
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
