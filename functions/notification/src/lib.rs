//! The Lambda function behind the queue `notification`: mails the customer.
//!
//! In: the order events, those of orders with high priority by a queue of their own, where there is one. Out: one mail
//! each. A mail cannot be in a transaction, so it is guarded by a lease:
//! claimed, sent, and then marked. A crash between sending and marking repeats a mail, never loses one; two
//! deliveries of one event at the same time send one mail. A send without an answer keeps its lease and is repeated at
//! most twice; a mail that has been overtaken by a later one of its order says so. A provider that fails is left alone for a while, and
//! a limit of mails a second is kept; both by each execution environment for itself.

pub mod feedback;
mod mail;
mod mail_limit;
mod progress;
mod rate;
mod sender;
pub mod suppression;

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use events::{Body, Email, Event};
use exactly_once::{
    Clock, Effect, EffectError, EffectKey, Failure, Handled, IdempotentError, Ids, Inbox, Message,
};
use jiff::SignedDuration;
use mail::Mail;
use mail_limit::MailLimit;
use messaging::{
    ConsumerConfig, EventConsumer,
    breaker::{self, Breaker},
};
use progress::{MailProgress, stage};
use rate::Rate;
use sender::{Mode, SendError, Sender};
use settings::Environment;
use suppression::SuppressedAddresses;
use tokio::time::Instant;

const CONSUMER: &str = "notification-consumer";
/// Minimum time that an invocation has left when a mail is begun: one attempt of the provider's client.
const SENDING_TIME_MIN: Duration = Duration::from_secs(3);
/// Maximum number of attempts at one mail of which it is unknown whether they sent it: a customer gets it at most this
/// often because of lost answers.
const UNKNOWN_ATTEMPTS_MAX: u32 = 3;

/// The settings of notification-consumer.
pub struct NotificationConfig {
    consumer: ConsumerConfig,
    /// The sender of mails, or `None` in console mode.
    from: Option<Email>,
    configuration_set: String,
    mails_per_second: NonZeroU32,
    age_max_days: u16,
    suppressed_table: String,
    mails_per_address_day: Option<NonZeroU32>,
}

impl NotificationConfig {
    /// Reads them.
    pub fn read(environment: &mut Environment) -> Option<Self> {
        let consumer = ConsumerConfig::read_with_priority(environment);
        let from = match environment.value("MAIL_MODE") {
            Some(Mode::Ses) => environment.value("MAIL_FROM").map(Some),
            Some(Mode::Console) => Some(None),
            None => None,
        };
        let configuration_set = environment.text("MAIL_CONFIGURATION_SET");
        let suppressed_table = environment.text("SUPPRESSED_TABLE");
        let mails_per_second = environment.value("MAILS_PER_SECOND");
        let mails_per_address_day = environment.value("MAILS_PER_ADDRESS_DAY");
        let age_max_days = environment.value("MAIL_MAX_AGE_DAYS");
        // An event must not outlive its marker: a replay would mail it again.
        let marker_days = exactly_once::inbox::MARKER_TTL.as_secs() / SECONDS_PER_DAY;
        if age_max_days.is_some_and(|days: u16| u64::from(days) >= marker_days) {
            return environment.complain(format!(
                "MAIL_MAX_AGE_DAYS must be less than {marker_days}, the days that a marker is kept"
            ));
        }
        Some(Self {
            consumer: consumer?,
            from: from?,
            configuration_set: configuration_set?,
            suppressed_table: suppressed_table?,
            mails_per_address_day: NonZeroU32::new(mails_per_address_day?),
            mails_per_second: mails_per_second?,
            age_max_days: age_max_days?,
        })
    }

    /// The consumer of the queue `notification` and, where there is one, of `notification-priority`; and its handler.
    #[must_use]
    pub fn consumer(self, aws: &SdkConfig, ids: &Ids) -> (EventConsumer, Notifier) {
        let inbox = self.consumer.inbox(aws, ids, CONSUMER);
        let dynamodb = aws_sdk_dynamodb::Client::new(aws);
        let notifier = Notifier {
            inbox: inbox.unknown_attempts_max(UNKNOWN_ATTEMPTS_MAX),
            progress: MailProgress::new(dynamodb.clone(), self.consumer.idempotency_table()),
            limit: MailLimit::new(
                dynamodb.clone(),
                self.consumer.idempotency_table(),
                self.mails_per_address_day,
            ),
            suppressed: SuppressedAddresses::new(dynamodb, self.suppressed_table),
            sender: match self.from {
                Some(from) => Sender::ses(aws, from, self.configuration_set),
                None => Sender::Console,
            },
            breaker: Mutex::default(),
            rate: Mutex::new(Rate::share_of(self.mails_per_second, self.consumer.queue_count())),
            age_max: SignedDuration::from_hours(24 * i64::from(self.age_max_days)),
            clock: aws.time_source().into(),
        };
        (self.consumer.event_consumer(aws, ids, CONSUMER), notifier)
    }
}

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Mails customers, within the limits of one execution environment.
pub struct Notifier {
    inbox: Inbox,
    progress: MailProgress,
    limit: MailLimit,
    suppressed: SuppressedAddresses,
    sender: Sender,
    breaker: Mutex<Breaker>,
    rate: Mutex<Rate>,
    age_max: SignedDuration,
    clock: Clock,
}

/// Neither is ever left half-changed, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Handles one event of the queue `notification`.
    ///
    /// # Errors
    /// No mail was sent, or it is unknown whether one was.
    pub async fn handle(&self, event: Event, message: Message) -> Result<Handled, Failure> {
        let Some(mail) = mail::mail(&event) else { return Ok(Handled::Ignored) };
        let now = self.clock.now();
        if now.duration_since(event.timestamp.timestamp()) > self.age_max {
            return Ok(Handled::Ignored);
        }
        if mail.to.is_erased() {
            return Ok(Handled::Ignored);
        }
        // Its orders stand; what SES said of the address, or its owner, forbids the mail.
        if self.suppressed.contains(&mail.to).await? {
            telemetry::count(&[("mails_suppressed", 1)], now);
            tracing::warn!("the address is suppressed: no mail is sent");
            return Ok(Handled::Ignored);
        }
        // Asked before the event is claimed, which would be for nothing.
        if let Some(remaining) = lock(&self.breaker).open_for(Instant::now()) {
            return Err(Failure::transient(BreakerOpen { remaining }));
        }
        let send = async || {
            let order = event.body.order_id();
            let stage = stage(event.body.event_type());
            let is_latest =
                self.progress.advance(order, stage, now).await.map_err(Failure::from)?;
            // Reminded is only who has not paid yet.
            let is_reminder = matches!(event.body, Body::OrderPaymentReminder(_));
            if is_reminder && !is_latest {
                return Ok(());
            }
            let mail = if is_latest { mail } else { mail.overtaken() };
            if !self.limit.admit(&mail.to, event.id, now).await.map_err(Failure::from)? {
                // The event counts as mailed: tomorrow nobody wants yesterday's mails at once.
                telemetry::count(&[("mails_limited", 1)], now);
                tracing::warn!("the address has had its mails of today: no mail is sent");
                return Ok(());
            }
            self.send(&mail, &message).await
        };
        // An operator who redrives a message of which too many sends were unknown has it sent once more.
        let key = EffectKey::from(event.id).subject(event.body.order_id().as_str());
        match self.inbox.idempotent(key, message.lease(), send).await {
            Ok(Effect::Duplicate(())) => Ok(Handled::Duplicate),
            Ok(_) => Ok(Handled::Done),
            Err(error @ IdempotentError::UnknownTooOften { .. }) => {
                Err(Failure::poison("mail_outcome_unknown", error))
            }
            Err(error) => {
                if matches!(error, IdempotentError::Unknown { .. }) {
                    self.record_failure();
                }
                Err(error.into())
            }
        }
    }

    fn record_failure(&self) {
        if lock(&self.breaker).record_failure(Instant::now()) {
            let seconds = breaker::PAUSE.as_secs();
            telemetry::count(&[("mail_breaker_opened", 1)], self.clock.now());
            tracing::error!(seconds, "the mail provider keeps failing and is left alone");
        }
    }

    /// Sends a mail when its turn has come, unless the provider is to be left alone.
    async fn send(&self, mail: &Mail, message: &Message) -> Result<(), EffectError> {
        let patience = message.time_left().checked_sub(SENDING_TIME_MIN);
        let slot = patience.and_then(|patience| lock(&self.rate).slot(Instant::now(), patience));
        let Some(wait) = slot else {
            return Err(EffectError::NotDone(Failure::transient(NoTimeLeft)));
        };
        tokio::time::sleep(wait).await;
        lock(&self.breaker).admit(Instant::now()).map_err(|remaining| {
            EffectError::NotDone(Failure::transient(BreakerOpen { remaining }))
        })?;
        let error = match self.sender.send(mail).await {
            Ok(()) => {
                lock(&self.breaker).record_success();
                telemetry::count(&[("mails_sent", 1)], self.clock.now());
                return Ok(());
            }
            Err(SendError::Refused(why)) => {
                // This mail is at fault; the provider has answered.
                lock(&self.breaker).record_success();
                telemetry::count(&[("mails_refused", 1)], self.clock.now());
                return Err(EffectError::NotDone(Failure::poison("address_refused", why)));
            }
            Err(error @ SendError::Unknown(_)) => return Err(EffectError::Unknown(error.into())),
            Err(error) => error,
        };
        self.record_failure();
        if let SendError::Configuration(_) = error {
            // It is every mail's fault or none's: an alarm watches this count.
            telemetry::count(&[("mail_configuration_failed", 1)], self.clock.now());
        }
        Err(EffectError::NotDone(Failure::transient(error)))
    }
}
