//! The Lambda function behind the queue `notification`: mails the customer.
//!
//! In: the order events. Out: one mail each. A mail cannot be in a transaction, so it is guarded by a lease:
//! claimed, sent, and then marked. A crash between sending and marking repeats a mail, never loses one; two
//! deliveries of one event at the same time send one mail. A provider that fails is left alone for a while, and
//! a limit of mails a second is kept; both by each execution environment for itself.

mod breaker;
mod mail;
mod rate;
mod sender;

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lambda_events::event::sqs::SqsEvent;
use breaker::Breaker;
use delivery::{Claim, Consumer, Failure, Handled, Inbox, Incoming};
use events::{Email, Event};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use mail::Mail;
use rate::Rate;
use sender::{Mode, SendError, Sender};
use settings::Environment;
use uuid::Uuid;

const NAME: &str = "notification-consumer";
/// A lease outlives the attempt that holds it by so much: the clocks of two machines may differ.
const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// Of an invocation so much must be left for a mail to be begun: one attempt of the provider's client.
const SENDING_TIME_MIN: Duration = Duration::from_secs(3);
/// So long before the invocation's deadline a call to the provider is given up, to give the lease back.
const RELEASE_TIME: Duration = Duration::from_millis(500);

struct Mailing {
    inbox: Inbox,
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
    let mut environment = Environment::default();
    let idempotency_table = environment.text("IDEMPOTENCY_TABLE");
    let queue_url = environment.text("QUEUE_URL");
    let dlq_url = environment.text("DLQ_URL");
    let backoff = environment.value("RETRY_SCHEDULE", delivery::batch::Backoff::default());
    let mode = environment.value("MAIL_MODE", Mode::Console);
    let from: Option<Email> = match mode {
        Mode::Console => None,
        Mode::Ses => environment.text("MAIL_FROM").parse().map_or_else(
            |error| {
                environment.complain(format!("MAIL_FROM {error}"));
                None
            },
            Some,
        ),
    };
    let mails_per_second = environment.value("MAILS_PER_SECOND", NonZeroU32::MIN);
    // An event must not outlive its marker: a replay would mail it again.
    let age_days = environment.value("MAIL_MAX_AGE_DAYS", 14_u16);
    if u64::from(age_days) * 86_400 >= delivery::inbox::MARKER_TTL.as_secs() {
        environment
            .complain("MAIL_MAX_AGE_DAYS must be less than 30, the days that a marker is kept");
    }
    environment.check()?;
    let aws = settings::aws().await;
    let mailing = Mailing {
        inbox: Inbox::new(aws_sdk_dynamodb::Client::new(&aws), idempotency_table, NAME),
        sender: match from {
            Some(from) => Sender::Ses { client: aws_sdk_ses::Client::new(&aws), from },
            None => Sender::Console,
        },
        breaker: Mutex::default(),
        rate: Mutex::new(Rate::per_second(mails_per_second)),
        age_max: SignedDuration::from_hours(24 * i64::from(age_days)),
    };
    let sqs = aws_sdk_sqs::Client::new(&aws);
    let consumer = Consumer { name: NAME, sqs, queue_url, dlq_url, backoff };
    lambda_runtime::run(service_fn(async |event: LambdaEvent<SqsEvent>| {
        let handle = |message| mailing.handle(message);
        Ok::<_, Error>(consumer.run(event.payload, event.context.deadline, handle).await)
    }))
    .await
}

impl Mailing {
    async fn handle(&self, message: Incoming) -> Result<Handled, Failure> {
        let event = Event::decode(message.body.as_bytes())
            .map_err(|error| Failure::poison(error.reason(), error))?;
        message.is_event(
            event.id,
            event.body.event_type().as_str(),
            event.body.order_id().as_str(),
        );
        let Some(mail) = mail::mail(&event) else { return Ok(Handled::Ignored) };
        let now = Timestamp::now();
        if now.duration_since(event.timestamp.timestamp()) > self.age_max {
            return Ok(Handled::Ignored);
        }
        // Asked before the event is claimed, which would be for nothing.
        if let Some(wait) = lock(&self.breaker).shut_for(Instant::now()) {
            return Err(left_alone(wait));
        }
        let owner = Uuid::new_v4();
        let lease = message.time_left() + LEASE_MARGIN;
        match self.inbox.claim(event.id, owner, now, lease).await.map_err(Failure::transient)? {
            Claim::Done => return Ok(Handled::Already),
            Claim::Held(until) => {
                let wait = until.duration_since(Timestamp::now()).try_into().unwrap_or_default();
                let error = "another attempt holds the lease".to_owned();
                return Err(Failure::Transient { error, retry_in: Some(wait) });
            }
            Claim::Mine => {}
        }
        match self.send(&mail, &message).await {
            // Marked after sending: a crash between repeats a mail, never loses one.
            Ok(()) => match self.inbox.complete(event.id, owner).await {
                Ok(true) => Ok(Handled::Done),
                Ok(false) => Ok(Handled::Already),
                Err(error) => Err(Failure::transient(error)),
            },
            Err(failure) => {
                self.inbox.release(event.id, owner).await.map_err(Failure::transient)?;
                Err(failure)
            }
        }
    }

    /// Sends a mail when its turn has come, unless the provider is to be left alone.
    async fn send(&self, mail: &Mail, message: &Incoming) -> Result<(), Failure> {
        let patience = message.time_left().checked_sub(SENDING_TIME_MIN);
        let slot = patience.and_then(|patience| lock(&self.rate).slot(Instant::now(), patience));
        let Some(wait) = slot else {
            return Err(Failure::transient("no time left for a mail at this rate"));
        };
        tokio::time::sleep(wait).await;
        lock(&self.breaker).admit(Instant::now()).map_err(left_alone)?;
        let limit = message.time_left().saturating_sub(RELEASE_TIME);
        let sent = tokio::time::timeout(limit, self.sender.send(mail)).await;
        let sent = sent.unwrap_or_else(|_| Err(SendError::Failed("no answer in time".into())));
        match sent {
            Ok(()) => {
                lock(&self.breaker).succeeded();
                Ok(())
            }
            Err(SendError::Refused(why)) => {
                // This mail is at fault; the provider has answered.
                lock(&self.breaker).succeeded();
                Err(Failure::poison("address_refused", why))
            }
            Err(failed @ SendError::Failed(_)) => {
                if lock(&self.breaker).failed(Instant::now()) {
                    let seconds = breaker::PAUSE.as_secs();
                    tracing::error!(seconds, "the mail provider keeps failing and is left alone");
                }
                Err(Failure::transient(failed))
            }
        }
    }
}

/// The message waits by the schedule, and not just until the provider is called again: each return costs one of
/// its attempts, and those have to outlast an outage of hours.
fn left_alone(wait: Duration) -> Failure {
    Failure::transient(format!("the mail provider is left alone for another {} s", wait.as_secs()))
}
