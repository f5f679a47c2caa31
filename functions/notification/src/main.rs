//! The Lambda function behind the queue `notification`: mails the customer.
//!
//! In: the order events. Out: one mail each. A mail cannot be in a transaction, so it is guarded by a lease:
//! claimed, sent, and then marked. A crash between sending and marking repeats a mail, never loses one; two
//! deliveries of one event at the same time send one mail.

mod mail;
mod sender;

use std::time::Duration;

use aws_lambda_events::event::sqs::SqsEvent;
use delivery::{Claim, Consumer, Failure, Handled, Inbox, Incoming};
use events::{Email, Event};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use sender::{Mode, SendError, Sender};
use settings::Environment;
use uuid::Uuid;

const NAME: &str = "notification-consumer";
/// A lease outlives the attempt that holds it by so much: the clocks of two machines may differ.
const LEASE_MARGIN: Duration = Duration::from_secs(2);

struct Mailing {
    inbox: Inbox,
    sender: Sender,
    age_max: SignedDuration,
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
        match self.sender.send(&mail).await {
            // Marked after sending: a crash between repeats a mail, never loses one.
            Ok(()) => match self.inbox.complete(event.id, owner).await {
                Ok(true) => Ok(Handled::Done),
                Ok(false) => Ok(Handled::Already),
                Err(error) => Err(Failure::transient(error)),
            },
            Err(error) => {
                self.inbox.release(event.id, owner).await.map_err(Failure::transient)?;
                Err(match error {
                    SendError::Refused(why) => Failure::poison("address_refused", why),
                    failed @ SendError::Failed(_) => Failure::transient(failed),
                })
            }
        }
    }
}
