//! The Lambda function behind the queue `notification`: mails the customer.
//!
//! In: the order events. Out: one mail each. A mail cannot be in a transaction, so it is guarded by a lease:
//! claimed, sent, and then marked. A crash between sending and marking repeats a mail, never loses one; two
//! deliveries of one event at the same time send one mail. A send without an answer keeps its lease and is repeated at
//! most [`UNKNOWN_ATTEMPTS_MAX`] - 1 times; a mail that has been overtaken by a later one of its order says so. A provider that fails is left alone for a while, and
//! a limit of mails a second is kept; both by each execution environment for itself.

mod breaker;
mod mail;
mod progress;
mod rate;
mod sender;

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use breaker::Breaker;
use delivery::{Claim, Failure, Handled, Inbox, Incoming, error::BoxError};
use events::{Email, Event};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::Error;
use mail::Mail;
use messaging::ConsumerConfig;
use progress::{MailProgress, stage};
use rate::Rate;
use sender::{Mode, NoAnswerInTime, SendError, Sender};
use settings::Environment;
use tokio::time::Instant;
use uuid::Uuid;

const NAME: &str = "notification-consumer";
/// How long a lease outlives the attempt that holds it: the clocks of two machines may differ.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// Minimum time that an invocation has left when a mail is begun: one attempt of the provider's client.
const SENDING_TIME_MIN: Duration = Duration::from_secs(3);
/// Maximum number of attempts at one mail of which it is unknown whether they sent it: a customer gets it at most this
/// often because of lost answers.
const UNKNOWN_ATTEMPTS_MAX: u32 = 3;
/// How long before the invocation's deadline a call to the provider is given up, to give the lease back.
const RELEASE_TIME: Duration = Duration::from_millis(500);

struct Config {
    consumer: ConsumerConfig,
    /// The sender of mails, or `None` in console mode.
    from: Option<Email>,
    mails_per_second: NonZeroU32,
    age_max_days: u16,
}

impl Config {
    fn read(environment: &mut Environment) -> Option<Self> {
        let consumer = ConsumerConfig::read(environment);
        let from = match environment.value("MAIL_MODE") {
            Some(Mode::Ses) => environment.value("MAIL_FROM").map(Some),
            Some(Mode::Console) => Some(None),
            None => None,
        };
        let mails_per_second = environment.value("MAILS_PER_SECOND");
        let age_max_days = environment.value("MAIL_MAX_AGE_DAYS");
        // An event must not outlive its marker: a replay would mail it again.
        let marker_days = delivery::inbox::MARKER_TTL.as_secs() / SECONDS_PER_DAY;
        if age_max_days.is_some_and(|days: u16| u64::from(days) >= marker_days) {
            return environment.complain(format!(
                "MAIL_MAX_AGE_DAYS must be less than {marker_days}, the days that a marker is kept"
            ));
        }
        Some(Self {
            consumer: consumer?,
            from: from?,
            mails_per_second: mails_per_second?,
            age_max_days: age_max_days?,
        })
    }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

struct Notifier {
    inbox: Inbox,
    progress: MailProgress,
    sender: Sender,
    breaker: Mutex<Breaker>,
    rate: Mutex<Rate>,
    age_max: SignedDuration,
}

/// Neither is ever left half-changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    telemetry::init();
    let config = settings::read(Config::read)?;
    let aws = settings::aws().await;
    let notifier = Notifier {
        inbox: config.consumer.inbox(&aws, NAME),
        progress: MailProgress::new(
            aws_sdk_dynamodb::Client::new(&aws),
            config.consumer.idempotency_table(),
        ),
        sender: match config.from {
            Some(from) => Sender::ses(&aws, from),
            None => Sender::Console,
        },
        breaker: Mutex::default(),
        rate: Mutex::new(Rate::share_of(config.mails_per_second)),
        age_max: SignedDuration::from_hours(24 * i64::from(config.age_max_days)),
    };
    let handle = async |event, _, message| notifier.handle(event, message).await;
    config.consumer.serve(&aws, NAME, handle).await
}

/// Another attempt holds the lease of this mail.
#[derive(Debug, thiserror::Error)]
#[error("another attempt holds the lease until {until}")]
struct LeaseHeld {
    until: Timestamp,
}

/// There was no time left for a mail at the permitted rate.
#[derive(Debug, thiserror::Error)]
#[error("no time left for a mail at this rate")]
struct NoTimeLeft;

/// The mail provider is left alone. The message waits by the schedule, and not just until the provider is called
/// again: each return costs one of its attempts, and those have to outlast an outage of hours.
#[derive(Debug, thiserror::Error)]
#[error("the mail provider is left alone for another {} s", remaining.as_secs())]
struct BreakerOpen {
    remaining: Duration,
}

impl Notifier {
    async fn handle(&self, event: Event, message: Incoming) -> Result<Handled, Failure> {
        let Some(mail) = mail::mail(&event) else { return Ok(Handled::Ignored) };
        let now = Timestamp::now();
        if now.duration_since(event.timestamp.timestamp()) > self.age_max {
            return Ok(Handled::Ignored);
        }
        // Asked before the event is claimed, which would be for nothing.
        if let Some(remaining) = lock(&self.breaker).open_for(Instant::now()) {
            return Err(Failure::transient(BreakerOpen { remaining }));
        }
        let owner = Uuid::new_v4();
        let lease = message.time_left() + LEASE_MARGIN;
        match self.inbox.claim(event.id, owner, now, lease).await? {
            Claim::Done => Ok(Handled::Duplicate),
            Claim::Held(until) => {
                let wait = until.duration_since(Timestamp::now()).try_into().unwrap_or_default();
                Err(Failure::retry_in(wait, LeaseHeld { until }))
            }
            Claim::Mine { unknown_attempts } if unknown_attempts >= UNKNOWN_ATTEMPTS_MAX => {
                // Given back, so that an operator who redrives the message has it sent once more.
                self.inbox.release(event.id, owner).await?;
                let detail = format!(
                    "{unknown_attempts} attempts had no answer; the mail may have been sent"
                );
                Err(Failure::poison("mail_outcome_unknown", detail))
            }
            Claim::Mine { unknown_attempts } => {
                let order = event.body.order_id();
                let is_latest =
                    self.progress.advance(order, stage(event.body.event_type()), now).await?;
                let mail = if is_latest { mail } else { mail.overtaken() };
                match self.send(&mail, &message).await {
                    // Marked after sending: a crash between repeats a mail, never loses one.
                    Ok(()) => match self.inbox.complete(event.id, owner).await? {
                        true => Ok(Handled::Done),
                        false => Ok(Handled::Duplicate),
                    },
                    Err(NotSent::Unknown(error)) => {
                        let attempts = unknown_attempts + 1;
                        self.inbox.record_unknown(event.id, owner, attempts).await?;
                        Err(Failure::retry_in(message.time_left() + LEASE_MARGIN, error))
                    }
                    Err(NotSent::Failed(failure)) => {
                        self.inbox.release(event.id, owner).await?;
                        Err(failure)
                    }
                }
            }
        }
    }

    /// Sends a mail when its turn has come, unless the provider is to be left alone.
    async fn send(&self, mail: &Mail, message: &Incoming) -> Result<(), NotSent> {
        let patience = message.time_left().checked_sub(SENDING_TIME_MIN);
        let slot = patience.and_then(|patience| lock(&self.rate).slot(Instant::now(), patience));
        let Some(wait) = slot else {
            return Err(NotSent::Failed(Failure::transient(NoTimeLeft)));
        };
        tokio::time::sleep(wait).await;
        lock(&self.breaker)
            .admit(Instant::now())
            .map_err(|remaining| NotSent::Failed(Failure::transient(BreakerOpen { remaining })))?;
        let limit = message.time_left().saturating_sub(RELEASE_TIME);
        let sent = tokio::time::timeout(limit, self.sender.send(mail)).await;
        let sent = sent.unwrap_or_else(|_| Err(SendError::Unknown(NoAnswerInTime.into())));
        let error = match sent {
            Ok(()) => {
                lock(&self.breaker).record_success();
                return Ok(());
            }
            Err(SendError::Refused(why)) => {
                // This mail is at fault; the provider has answered.
                lock(&self.breaker).record_success();
                return Err(NotSent::Failed(Failure::poison("address_refused", why)));
            }
            Err(error) => error,
        };
        if lock(&self.breaker).record_failure(Instant::now()) {
            let seconds = breaker::PAUSE.as_secs();
            tracing::error!(seconds, "the mail provider keeps failing and is left alone");
        }
        Err(match error {
            SendError::Unknown(_) => NotSent::Unknown(error.into()),
            SendError::Configuration(_) => {
                // It is every mail's fault or none's: an alarm watches this count.
                telemetry::count(&[("mail_configuration_failed", 1)]);
                NotSent::Failed(Failure::transient(error))
            }
            SendError::Failed(_) | SendError::Print(_) | SendError::Refused(_) => {
                NotSent::Failed(Failure::transient(error))
            }
        })
    }
}

/// Why a mail was not sent, or may not have been.
#[derive(Debug)]
enum NotSent {
    /// It was not sent: the lease can be given back.
    Failed(Failure),
    /// It may have been sent: the lease is kept.
    Unknown(BoxError),
}
