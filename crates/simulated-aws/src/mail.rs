//! SES: takes mails and keeps them, or refuses them.
//!
//! In: SendEmail, and the account's settings. Out: mails, refusals with AWS's codes. Guarantees: a mail that was refused was
//! not sent; one that was accepted is kept, also if its sender never hears of it.
//!
//! Source of the refusals: <https://docs.aws.amazon.com/ses/latest/APIReference/API_SendEmail.html> and
//! <https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html>.

use std::collections::{BTreeSet, VecDeque};

use crate::{SimulatedAws, sns::escape, wire::Answer};

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

/// What state an account is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailSettings {
    /// The addresses and domains that are verified: of senders, and in the sandbox of recipients too. All if `None`.
    pub verified: Option<BTreeSet<String>>,
    /// Whether mails go to verified addresses only.
    /// <https://docs.aws.amazon.com/ses/latest/dg/request-production-access.html>
    pub is_sandbox: bool,
    /// Maximum number of mails in a second; any number if `None`.
    /// <https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas-errors.html>
    pub sends_per_second_max: Option<usize>,
    /// Whether somebody, or AWS, has paused the account.
    pub is_sending_paused: bool,
    /// Whether the DNS record of the domain that mails come from is missing.
    /// <https://docs.aws.amazon.com/ses/latest/dg/mail-from.html>
    pub is_mail_from_domain_broken: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Mail {
    settings: MailSettings,
    sent: Vec<SentMail>,
    /// When the mails of the last second were accepted.
    recent_ms: VecDeque<u64>,
}

struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn throttled() -> Self {
        Self::new("Throttling", "Maximum sending rate exceeded.")
    }

    fn paused() -> Self {
        let why = "Email sending is disabled for the entire Amazon SES account.";
        Self::new("AccountSendingPausedException", why)
    }

    fn mail_from_domain() -> Self {
        let why = "The MX record required to use the specified MAIL FROM domain could not be read.";
        Self::new("MailFromDomainNotVerifiedException", why)
    }

    fn unverified(addresses: &str) -> Self {
        let why = "Email address is not verified. The following identities failed the check in region SIMULATED";
        Self::new("MessageRejected", format!("{why}: {addresses}"))
    }
}

impl SimulatedAws {
    /// The mails that were accepted, in their order.
    #[must_use]
    pub fn mails(&self) -> Vec<SentMail> {
        self.lock().mail.sent.clone()
    }

    /// From now on, the account is in this state.
    pub fn set_mail_settings(&self, settings: MailSettings) {
        self.lock().mail.settings = settings;
    }
}

impl Mail {
    /// Whether the account is in order for this mail.
    fn check(&mut self, from: &str, to: &str, now_ms: u64) -> Result<(), Refusal> {
        let settings = &self.settings;
        if settings.is_sending_paused {
            return Err(Refusal::paused());
        }
        for address in [from, to] {
            if let Some(why) = malformation(address) {
                return Err(Refusal::new("InvalidParameterValue", why));
            }
        }
        let is_verified = |address: &str| {
            settings.verified.as_ref().is_none_or(|verified| {
                let domain = address.rsplit('@').next().unwrap_or_default();
                verified.contains(address) || verified.contains(domain)
            })
        };
        let checked = if settings.is_sandbox { vec![from, to] } else { vec![from] };
        let unverified: Vec<&str> =
            checked.into_iter().filter(|address| !is_verified(address)).collect();
        if !unverified.is_empty() {
            return Err(Refusal::unverified(&unverified.join(", ")));
        }
        if settings.is_mail_from_domain_broken {
            return Err(Refusal::mail_from_domain());
        }
        while self.recent_ms.front().is_some_and(|sent_ms| now_ms >= sent_ms + 1000) {
            self.recent_ms.pop_front();
        }
        if settings.sends_per_second_max.is_some_and(|max| self.recent_ms.len() >= max) {
            return Err(Refusal::throttled());
        }
        self.recent_ms.push_back(now_ms);
        Ok(())
    }
}

/// What is wrong with an address, or `None` if SES takes it. It speaks no SMTPUTF8: the part before the `@` is ASCII, and a
/// domain is written in Punycode.
fn malformation(address: &str) -> Option<&'static str> {
    let address = match address.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or(rest),
        None => address,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Some("Missing final '@domain'");
    };
    let is_domain = !domain.is_empty()
        && domain.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    if domain.is_empty() {
        Some("Missing final '@domain'")
    } else if !is_domain {
        Some("Domain contains illegal character")
    } else if local.is_empty() {
        Some("Missing local name")
    } else if !local.is_ascii() {
        Some("Local address contains non-ASCII characters")
    } else if local.chars().any(|c| c.is_ascii_control() || c == ' ') {
        Some("Local address contains control or whitespace")
    } else {
        None
    }
}

/// The one configuration set that there is.
const CONFIGURATION_SET: &str = "simulated";

/// Carries out a call.
pub(crate) fn serve(aws: &SimulatedAws, form: &[(String, String)]) -> Answer {
    let given = |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let field = |wanted: &str| given(wanted).cloned().unwrap_or_default();
    let unknown = ["Cc", "Bcc"].map(|kind| format!("Destination.{kind}Addresses.member.1"));
    let is_unknown = field("Action") != "SendEmail"
        || given("Destination.ToAddresses.member.2").is_some()
        || given("Message.Body.Html.Data").is_some()
        || unknown.iter().any(|name| given(name).is_some());
    if is_unknown {
        let what = "one text to one address by SendEmail is all that is simulated";
        return Answer::xml_error(501, "NotImplemented", what);
    }
    let now_ms = aws.now_ms();
    let mut state = aws.lock();
    let state = &mut *state;
    let (from, to) = (field("Source"), field("Destination.ToAddresses.member.1"));
    let refused = if given("ConfigurationSetName").is_some_and(|name| name != CONFIGURATION_SET) {
        let why = "Configuration set does not exist.";
        Err(Refusal::new("ConfigurationSetDoesNotExist", why))
    } else if state.random.u64(0..1000) < state.faults.mail {
        Err(match state.random.u8(0..4) {
            0 => Refusal::paused(),
            1 => Refusal::mail_from_domain(),
            2 => Refusal::unverified(&from),
            _ => Refusal::throttled(),
        })
    } else {
        state.mail.check(&from, &to, now_ms)
    };
    if let Err(Refusal { code, message }) = refused {
        return Answer::xml_error(400, code, &escape(&message));
    }
    state.mail.sent.push(SentMail {
        to,
        subject: field("Message.Subject.Data"),
        text: field("Message.Body.Text.Data"),
    });
    Answer::ok(format!(
        "<SendEmailResponse xmlns=\"http://ses.amazonaws.com/doc/2010-12-01/\"><SendEmailResult>\
         <MessageId>{}</MessageId></SendEmailResult></SendEmailResponse>",
        state.mail.sent.len()
    ))
}
