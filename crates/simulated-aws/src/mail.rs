//! SES: takes mails, keeps them.

use crate::{SimulatedAws, wire::Answer};

/// A mail that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMail {
    /// The first address.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
}

#[derive(Debug, Default)]
pub(crate) struct Mail {
    sent: Vec<SentMail>,
}

impl SimulatedAws {
    /// The mails that were accepted, in their order.
    #[must_use]
    pub fn mails(&self) -> Vec<SentMail> {
        self.lock().mail.sent.clone()
    }
}

pub(crate) fn serve(aws: &SimulatedAws, form: &[(String, String)]) -> Answer {
    let field = |wanted: &str| {
        let field = form.iter().find(|(name, _)| name == wanted);
        field.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    if field("Action") != "SendEmail" {
        return Answer::xml_error(501, "NotImplemented", &field("Action"));
    }
    let mut state = aws.lock();
    state.mail.sent.push(SentMail {
        to: field("Destination.ToAddresses.member.1"),
        subject: field("Message.Subject.Data"),
        text: field("Message.Body.Text.Data"),
    });
    Answer::ok(format!(
        "<SendEmailResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><SendEmailResult>\
         <MessageId>{}</MessageId></SendEmailResult></SendEmailResponse>",
        state.mail.sent.len()
    ))
}
