//! The consumer of the queue `payment`: begins payments, and ends them.
//!
//! In: OrderAwaitingPayment, OrderCancelled, OrderPaymentOverdue. Out: calls of Stripe, and PaymentRequested, PaymentSucceeded,
//! PaymentCancelled or PaymentRefunded. Guarantees: an order has one PaymentIntent; what is written before a call says enough to find out
//! what came of it; a payment ends paid, or so that it can never be paid; the money of a cancelled order is given back once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_config::SdkConfig;
use events::{Body, Event};
use exactly_once::{
    CausedEvents, Clock, Commit, Decided, ErrorChain, Failure, Handled, Ids, Outbox, Outgoing,
    TableError,
};
use jiff::Timestamp;
use messaging::{
    EventFactory,
    breaker::{self, Breaker},
};
use order::stripe_amount::StripeAmount;
use telemetry::Trace;
use tokio::time::Instant;

use crate::{
    outcomes,
    payments::{Payment, PaymentsTable},
    rules::{
        Ending, EndingStep, KeyedRequest, KeyedStep, Observed, PaymentStatus, conclude, end,
        observe,
    },
    secrets::{Secrets, SecretsError, StripeSecrets},
    stripe::{NewIntent, PaymentIntent, Refund, RefundStatus, Stripe, StripeError},
};

/// Maximum number of tries of one message in one delivery: a payment that moves meanwhile is decided again.
const ATTEMPTS_MAX: usize = 5;

/// Begins and ends payments, once a message by the markers of its inbox.
pub struct PaymentConsumer {
    pub(crate) payments: PaymentsTable,
    pub(crate) caused: CausedEvents,
    pub(crate) outbox: Outbox,
    pub(crate) event_factory: EventFactory,
    pub(crate) account: StripeAccount,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
}

/// The shop's account at Stripe. Its key is read when it is needed, and calls are not made while Stripe keeps failing.
pub struct StripeAccount {
    pub(crate) aws: SdkConfig,
    pub(crate) endpoint: String,
    pub(crate) secrets: StripeSecrets,
    pub(crate) breaker: Mutex<Breaker>,
}

/// Stripe is left alone.
#[derive(Debug, thiserror::Error)]
#[error("Stripe is left alone for another {0} s")]
struct BreakerOpen(u64);

impl StripeAccount {
    /// Stripe's API with the present key.
    ///
    /// # Errors
    /// Stripe is left alone for a while, or there is no key.
    pub async fn stripe(&self) -> Result<Stripe, Failure> {
        let secrets = self.read_secrets().await;
        let secrets =
            secrets.map_err(|error| Failure::transient_because("stripe_secret", error))?;
        self.lock()
            .admit(Instant::now())
            .map_err(|remaining| Failure::transient(BreakerOpen(remaining.as_secs())))?;
        Ok(Stripe::new(&self.aws, &self.endpoint, &secrets.api_key))
    }

    /// What is shared with Stripe.
    ///
    /// # Errors
    /// See [`SecretsError`].
    pub(crate) async fn read_secrets(&self) -> Result<Arc<Secrets>, SecretsError> {
        let secrets = self.secrets.get().await;
        if secrets.as_ref().is_err_and(SecretsError::is_permanent) {
            self.note_configuration();
        }
        secrets
    }

    /// Counts that no call can succeed before somebody acts: an alarm is on it.
    fn note_configuration(&self) {
        let now = Clock::from(self.aws.time_source()).now();
        telemetry::count(&[("payments_configuration", 1)], now);
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        // It is never left half-changed, so a panic elsewhere does not matter.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a call has ended, and says what its error means for a message.
    ///
    /// # Errors
    /// The call's.
    pub(crate) fn note<T>(
        &self,
        result: Result<T, StripeError>,
    ) -> Result<Result<T, StripeError>, Failure> {
        match result {
            Ok(_)
            | Err(StripeError::Refused { .. } | StripeError::StateChanged | StripeError::Missing) =>
            {
                self.lock().record_success();
                Ok(result)
            }
            Err(error @ StripeError::Configuration(_)) => {
                self.note_configuration();
                Err(Failure::transient_because("stripe_configuration", error))
            }
            Err(error) => {
                if self.lock().record_failure(Instant::now()) {
                    let seconds = breaker::PAUSE.as_secs();
                    let now = Clock::from(self.aws.time_source()).now();
                    telemetry::count(&[("stripe_breaker_opened", 1)], now);
                    tracing::error!(seconds, "Stripe keeps failing and is left alone");
                }
                match error {
                    StripeError::Failed(_) => Ok(Err(error)),
                    error => Err(Failure::transient_because("stripe_unavailable", error)),
                }
            }
        }
    }
}

/// An event, as it came.
#[derive(Debug, Clone, Copy)]
struct Received<'a> {
    event: &'a Event,
    order: &'a events::Order,
    trace: &'a Trace,
}

/// What became of a PaymentIntent that is to be made.
enum Created {
    Made(Payment, PaymentIntent),
    /// Stripe will never take it.
    Refused(Payment, String),
    /// The payment was moved by another meanwhile.
    Moved,
}

impl PaymentConsumer {
    /// Handles one event of the queue `payment`.
    ///
    /// # Errors
    /// Nothing was done, or whether it was is unknown; another try finds out.
    pub async fn handle(&self, event: Event, trace: Trace) -> Result<Handled, Failure> {
        let received = |order| Received { event: &event, order, trace: &trace };
        let (handled, events) = match &event.body {
            Body::OrderAwaitingPayment(order) => self.request(received(order)).await?,
            Body::OrderCancelled(order) => {
                self.end(received(order), Ending::OrderCancelled).await?
            }
            Body::OrderPaymentOverdue(order) => self.end(received(order), Ending::TimeOver).await?,
            _ => return Ok(Handled::Ignored),
        };
        let decided = Decided { key: event.id.to_string(), result: Ok(handled), events };
        self.caused.publish(vec![decided]).await.remove(0)
    }

    /// Makes the PaymentIntent of an order.
    async fn request(&self, received: Received<'_>) -> Result<(Handled, Vec<Outgoing>), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let now = self.clock.now();
            let payment = match self.payments.get(&received.order.order_id).await? {
                Some(payment) if payment.status == PaymentStatus::Creating => payment,
                // It has its PaymentIntent, or must have none any more.
                Some(_) => return Ok((Handled::Duplicate, Vec::new())),
                None => {
                    let creation = KeyedRequest::new(received.event.id.to_string(), now);
                    let payment = Payment::begin(received.order, creation, now.into());
                    if !self.payments.put(&payment).await? {
                        continue;
                    }
                    payment
                }
            };
            let (next, body) = match self.create(payment).await? {
                Created::Made(payment, intent) => {
                    let payment = Payment { payment_id: Some(intent.id), ..payment };
                    let next = payment.moved(PaymentStatus::Open, now.into());
                    let body = Body::PaymentRequested(next.to_payload(None));
                    (next, body)
                }
                Created::Refused(payment, reason) => self.cancelled(payment, Some(reason)),
                Created::Moved => continue,
            };
            if let Some(recorded) = self.record(received, &next, Some(body)).await? {
                return Ok(recorded);
            }
        }
        Err(contended())
    }

    /// Ends the payment of an order.
    async fn end(
        &self,
        received: Received<'_>,
        ending: Ending,
    ) -> Result<(Handled, Vec<Outgoing>), Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let now = self.clock.now();
            let payment = self.payments.get(&received.order.order_id).await?;
            let step = end(payment.as_ref().map(|payment| payment.status), ending);
            let (next, body) = match (step, payment) {
                (EndingStep::Nothing, _) => return Ok((Handled::Duplicate, Vec::new())),
                (EndingStep::PutTombstone, _) | (_, None) => {
                    let next = Payment::never(received.order, now.into());
                    let is_awaited = ending == Ending::TimeOver;
                    let body = is_awaited.then(|| Body::PaymentCancelled(next.to_payload(None)));
                    (next, body)
                }
                (EndingStep::Refund, Some(payment)) => {
                    match self.refund(payment, received.event).await? {
                        Some((next, body)) => (next, Some(body)),
                        None => continue,
                    }
                }
                (EndingStep::FinishCreation | EndingStep::Cancel, Some(payment)) => {
                    let payment = if step == EndingStep::Cancel {
                        payment
                    } else {
                        match self.create(payment).await? {
                            Created::Made(payment, intent) => {
                                Payment { payment_id: Some(intent.id), ..payment }
                            }
                            Created::Refused(payment, reason) => {
                                let (next, body) = self.cancelled(payment, Some(reason));
                                match self.record(received, &next, Some(body)).await? {
                                    Some(recorded) => return Ok(recorded),
                                    None => continue,
                                }
                            }
                            Created::Moved => continue,
                        }
                    };
                    let observed = self.cancel(&payment).await?;
                    match (conclude(payment.status, observed), ending) {
                        (Some(PaymentStatus::Succeeded), Ending::OrderCancelled) => {
                            self.record_success(received, payment).await?;
                            // It is given back in the next round.
                            continue;
                        }
                        (Some(to), _) => {
                            let (next, body) = payment.concluded(to, None, now.into());
                            (next, Some(body))
                        }
                        // The relay asks again.
                        (None, Ending::TimeOver) => {
                            return Ok((Handled::Ignored, Vec::new()));
                        }
                        (None, Ending::OrderCancelled) => {
                            let error = "Stripe has not decided yet whether it is paid";
                            return Err(Failure::transient_because("payment_processing", error));
                        }
                    }
                }
            };
            if let Some(recorded) = self.record(received, &next, body).await? {
                return Ok(recorded);
            }
        }
        Err(contended())
    }

    fn cancelled(&self, payment: Payment, reason: Option<String>) -> (Payment, Body) {
        payment.concluded(PaymentStatus::Cancelled, reason, self.clock.now().into())
    }

    /// Makes a PaymentIntent, or finds the one that was made.
    async fn create(&self, payment: Payment) -> Result<Created, Failure> {
        let now = self.clock.now();
        let order_id = payment.order_id.clone();
        let Some(creation) = payment.creation.clone() else { return Ok(Created::Moved) };
        let amount = match StripeAmount::new(payment.amount, &payment.currency) {
            Ok(amount) => amount,
            Err(error) => return Ok(Created::Refused(payment, format!("the total {error}"))),
        };
        let stripe = self.account.stripe().await?;
        let (payment, creation) = match creation.next_step(now) {
            KeyedStep::Send => (payment, creation),
            KeyedStep::Find { since } => {
                let found = stripe.find_intent(order_id.as_str(), since).await;
                match self.account.note(found)?.map_err(Failure::from)? {
                    Some(intent) => return Ok(Created::Made(payment, intent)),
                    None => {
                        let noted = |key| Payment { creation: Some(key), ..payment };
                        match self.store_new_key(noted, now).await? {
                            Some(renewed) => renewed,
                            None => return Ok(Created::Moved),
                        }
                    }
                }
            }
        };
        let currency = payment.currency.as_str();
        let new = NewIntent { order_id: order_id.as_str(), amount, currency };
        let created = stripe.create_intent(&creation.key, new).await;
        match self.account.note(created)? {
            Ok(intent) => Ok(Created::Made(payment, intent)),
            Err(StripeError::Refused { code, message }) => {
                Ok(Created::Refused(payment, format!("{code}: {message}")))
            }
            Err(error @ StripeError::Failed(_)) => {
                let creation = Some(KeyedRequest { has_failed: true, ..creation });
                let payment = Payment { creation, ..payment }.noted(now.into());
                self.payments.put(&payment).await?;
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Stores another key for a request, of which Stripe's list knows nothing. `None` if the payment was moved by another meanwhile.
    async fn store_new_key(
        &self,
        noted: impl FnOnce(KeyedRequest) -> Payment,
        now: Timestamp,
    ) -> Result<Option<(Payment, KeyedRequest)>, Failure> {
        let request = KeyedRequest::new(self.ids.random().to_string(), now);
        let payment = noted(request.clone()).noted(now.into());
        Ok(self.payments.put(&payment).await?.then_some((payment, request)))
    }

    /// Sees to it that a PaymentIntent can never be paid, if it is not: what Stripe then says of it.
    async fn cancel(&self, payment: &Payment) -> Result<Observed, Failure> {
        let Some(id) = &payment.payment_id else { return Ok(Observed::Undecided) };
        let stripe = self.account.stripe().await?;
        let intent = match self.account.note(stripe.cancel_intent(id).await)? {
            Ok(intent) => intent,
            // It has moved on, or was cancelled by an attempt whose answer was lost.
            Err(StripeError::StateChanged | StripeError::Refused { .. }) => {
                self.account.note(stripe.get_intent(id).await)?.map_err(Failure::from)?
            }
            Err(error) => return Err(error.into()),
        };
        match observe(intent.status) {
            observed @ (Observed::Cancelled | Observed::Paid | Observed::Undecided) => Ok(observed),
            Observed::Unpaid => {
                let error = "Stripe has not cancelled what it could have";
                Err(Failure::transient_because("stripe_unavailable", error))
            }
        }
    }

    /// Gives the money back. `None` if the payment was moved by another meanwhile.
    async fn refund(
        &self,
        payment: Payment,
        event: &Event,
    ) -> Result<Option<(Payment, Body)>, Failure> {
        let now = self.clock.now();
        let payment = if payment.status == PaymentStatus::Succeeded {
            let refund = Some(KeyedRequest::new(event.id.to_string(), now));
            let payment = Payment { refund, ..payment }.moved(PaymentStatus::Refunding, now.into());
            if !self.payments.put(&payment).await? {
                return Ok(None);
            }
            payment
        } else {
            payment
        };
        let (Some(id), Some(request)) = (payment.payment_id.clone(), payment.refund.clone()) else {
            return Err(Failure::poison("payment_without_intent", payment.order_id));
        };
        let stripe = self.account.stripe().await?;
        let (payment, request) = match request.next_step(now) {
            KeyedStep::Send => (payment, request),
            KeyedStep::Find { .. } => match self.find_refund(&stripe, &id).await? {
                Some(refund) => return Ok(Some(refunded(payment, refund, now))),
                None => {
                    let noted = |key| Payment { refund: Some(key), ..payment };
                    match self.store_new_key(noted, now).await? {
                        Some(renewed) => renewed,
                        None => return Ok(None),
                    }
                }
            },
        };
        let refund = stripe.create_refund(&request.key, &id).await;
        let refund = match self.account.note(refund)? {
            Ok(refund) => refund,
            Err(error @ StripeError::Failed(_)) => {
                let refund = Some(KeyedRequest { has_failed: true, ..request });
                let payment = Payment { refund, ..payment }.noted(now.into());
                self.payments.put(&payment).await?;
                return Err(error.into());
            }
            // By an attempt whose answer was lost, or by hand.
            Err(error @ StripeError::StateChanged) => {
                self.find_refund(&stripe, &id).await?.ok_or_else(|| Failure::from(error))?
            }
            // There is not enough money in the account, say: that passes, and money must go back.
            Err(error) => {
                telemetry::count(&[("payments_refund_refused", 1)], now);
                return Err(Failure::transient_because("refund_refused", error));
            }
        };
        if !is_under_way(&refund) {
            return Err(Failure::poison("refund_failed", refund.id));
        }
        Ok(Some(refunded(payment, refund, now)))
    }

    async fn find_refund(&self, stripe: &Stripe, id: &str) -> Result<Option<Refund>, Failure> {
        let refunds = self.account.note(stripe.list_refunds(id).await)?.map_err(Failure::from)?;
        Ok(refunds.into_iter().find(is_under_way))
    }

    /// Records that a payment has succeeded whose order was cancelled, as the webhook would have.
    async fn record_success(
        &self,
        received: Received<'_>,
        payment: Payment,
    ) -> Result<(), Failure> {
        let now = self.clock.now().into();
        let (next, body) = payment.concluded(PaymentStatus::Succeeded, None, now);
        let event_type = body.event_type();
        let events = [self.outgoing(received, body)];
        let mut writes = vec![self.payments.write(&next)?];
        writes.extend(self.outbox.append(&events));
        if self.payments.commit(&writes).await? == Commit::Done {
            outcomes::count(event_type, self.clock.now());
            // What SNS does not take now is the relay's.
            self.outbox.publish(&events).await;
        }
        Ok(())
    }

    /// Moves a payment once for an event, with the event that reports it. `None` if it was moved by another meanwhile.
    async fn record(
        &self,
        received: Received<'_>,
        next: &Payment,
        body: Option<Body>,
    ) -> Result<Option<(Handled, Vec<Outgoing>)>, Failure> {
        let event_type = body.as_ref().map(Body::event_type);
        let events: Vec<Outgoing> =
            body.into_iter().map(|body| self.outgoing(received, body)).collect();
        let mut writes =
            vec![self.caused.marker(received.event.id, &events), self.payments.write(next)?];
        writes.extend(self.caused.store(&events));
        Ok(match self.payments.commit(&writes).await? {
            Commit::Done => {
                event_type.into_iter().for_each(|done| outcomes::count(done, self.clock.now()));
                Some((Handled::Done, events))
            }
            Commit::Duplicate => Some((Handled::Duplicate, Vec::new())),
            Commit::GuardFailed(..) | Commit::ConditionFailed(_) => None,
        })
    }

    fn outgoing(&self, received: Received<'_>, body: Body) -> Outgoing {
        let correlation_id = received.event.correlation_id.as_str();
        self.event_factory.outgoing(correlation_id, body, received.trace)
    }
}

fn refunded(payment: Payment, refund: Refund, now: Timestamp) -> (Payment, Body) {
    let payment = Payment { refund_id: Some(refund.id), ..payment };
    let next = payment.moved(PaymentStatus::Refunded, now.into());
    let body = Body::PaymentRefunded(next.to_payload(None));
    (next, body)
}

/// Whether the money comes back by it, as far as anybody knows.
fn is_under_way(refund: &Refund) -> bool {
    !matches!(refund.status, Some(RefundStatus::Failed | RefundStatus::Canceled))
}

fn contended() -> Failure {
    TableError::Contended { subject: "the payment".into() }.into()
}

impl From<StripeError> for Failure {
    fn from(error: StripeError) -> Self {
        match error {
            StripeError::Refused { .. } => Self::poison("stripe_refused", ErrorChain(&error)),
            StripeError::Configuration(_) => Self::transient_because("stripe_configuration", error),
            StripeError::StateChanged
            | StripeError::Missing
            | StripeError::NotDone(_)
            | StripeError::Failed(_)
            | StripeError::NoAnswer(_) => Self::transient_because("stripe_unavailable", error),
        }
    }
}
