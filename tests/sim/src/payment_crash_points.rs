//! Every call that is made for an order that is paid, Stripe's included, broken in every way.
//!
//! In: a [`PaymentScenario`]. Out: how many calls there are and how many points were played, or the first one after which the order did
//! not end in the one right state. The calls are not listed here: a scenario is played once undisturbed, and then, by the same seed, once for
//! each of its calls and each [`Fault`] of it. A query that finds nothing concerns no order and is not broken: the relay makes many.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use simulated_aws::{Call as AwsCall, Fault, Faults, Moment, SimulatedAws, Step};
use tokio::task::JoinHandle;

use crate::{
    RUN_MAX,
    books::text,
    clients::{Api, Call},
    in_virtual_time,
    lambda::Harshness,
    payments::{Customer, Shop, check, open, settled},
    shop::{ORDERS, SUPPRESSED},
    stripe::{Card, Stripe},
};

/// The ways to break a call of Stripe's.
const FAULTS_OF_STRIPE: &[Fault] =
    &[Fault::Fail, Fault::Lose, Fault::Hang, Fault::KillBefore, Fault::KillAfter];
/// The ways to break one of AWS's. The other two differ only in what the SDK makes of them, and each seed has them.
const FAULTS_OF_AWS: &[Fault] = &[Fault::Fail, Fault::KillBefore, Fault::KillAfter];
/// How long the customer has to pay, in minutes: the fewest sweeps of the relay.
const RESERVATION_MINUTES: u64 = 4;
/// What webhooks there are when all of ten are lost.
const ALL_LOST: u64 = 10;
/// How often a customer looks at the order.
const LOOK: Duration = Duration::from_secs(1);

/// What happens to the payment of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentScenario {
    Paid,
    /// The first card is declined.
    Declined,
    /// Nobody pays.
    Expired,
    /// Cancelled before it is paid.
    CancelledUnpaid,
    /// Cancelled as soon as it is paid.
    CancelledWhilePaid,
    /// Cancelled when it is confirmed.
    CancelledPaid,
    /// Paid, and no webhook says so.
    Unheard,
    /// The bank decides after the time to pay is over.
    Slow,
}

impl PaymentScenario {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Paid,
        Self::Declined,
        Self::Expired,
        Self::CancelledUnpaid,
        Self::CancelledWhilePaid,
        Self::CancelledPaid,
        Self::Unheard,
        Self::Slow,
    ];

    /// The status in which its order ends.
    fn ends_as(self) -> &'static str {
        match self {
            Self::Paid | Self::Declined | Self::Unheard | Self::Slow => "confirmed",
            Self::Expired => "expired",
            Self::CancelledUnpaid | Self::CancelledWhilePaid | Self::CancelledPaid => "cancelled",
        }
    }

    /// Does what its customer does. `can_pay` is called when there is something to pay with.
    async fn act(self, customer: &Customer, product: &str, can_pay: impl FnOnce()) -> Result<()> {
        let Customer { api, stripe, .. } = customer;
        let (id, token) = customer.place(product, 2).await?;
        let secret = customer.client_secret(&id, &token).await?.context("nothing to pay with")?;
        can_pay();
        match self {
            Self::Paid | Self::Unheard => pay(stripe, &secret, Card::Good)?,
            Self::Declined => {
                pay(stripe, &secret, Card::Declined)?;
                tokio::time::sleep(Duration::from_secs(30)).await;
                pay(stripe, &secret, Card::Good)?;
            }
            Self::Expired => {}
            Self::CancelledUnpaid => customer.cancel(&id, &token).await?,
            Self::CancelledWhilePaid => {
                pay(stripe, &secret, Card::Good)?;
                customer.cancel(&id, &token).await?;
            }
            Self::CancelledPaid => {
                pay(stripe, &secret, Card::Good)?;
                wait_until_confirmed(api, &id).await?;
                customer.cancel(&id, &token).await?;
            }
            Self::Slow => {
                pay(stripe, &secret, Card::Slow)?;
                tokio::time::sleep(Duration::from_secs(2 * 60 * RESERVATION_MINUTES)).await;
                stripe.decide(&secret, true);
            }
        }
        Ok(())
    }
}

fn pay(stripe: &Stripe, secret: &str, card: Card) -> Result<()> {
    ensure!(stripe.pay(secret, card), "the payment was not open");
    Ok(())
}

async fn wait_until_confirmed(api: &Api, id: &str) -> Result<()> {
    loop {
        let (_, order) = api.insist(&Call::get("/orders/{id}").id(id)).await?;
        match order["status"].as_str() {
            Some("confirmed") => return Ok(()),
            Some("pending" | "awaiting_payment") => tokio::time::sleep(LOOK).await,
            _ => bail!("{order}"),
        }
    }
}

/// What was played.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrashPoints {
    /// Number of calls by operation, Stripe's by their paths, of the first seed.
    pub calls: BTreeMap<String, usize>,
    /// Number of points: a call and a way to break it.
    pub points: usize,
}

/// Plays a scenario once for each point: by the first seed all of them, by the others those of Stripe's calls.
///
/// # Errors
/// After one of them the order did not end right; it says which.
pub fn play_payment_crash_points(scenario: PaymentScenario, seeds: &[u64]) -> Result<CrashPoints> {
    let mut played = CrashPoints::default();
    for (place, &seed) in seeds.iter().enumerate() {
        let Played { result, mut calls, .. } = play(scenario, seed, None, false);
        result.with_context(|| format!("{scenario:?}, seed {seed}, undisturbed"))?;
        if place > 0 {
            calls.retain(|_, operation| is_of_stripe(operation));
        }
        for (&attempt, operation) in &calls {
            for &fault in if is_of_stripe(operation) { FAULTS_OF_STRIPE } else { FAULTS_OF_AWS } {
                played.points += 1;
                let point = Some((attempt, fault));
                let Err(error) = play(scenario, seed, point, false).result else { continue };
                for Moment { at, environment, what } in play(scenario, seed, point, true).story {
                    println!("{:>9.3} {environment:>4} {what}", at.as_secs_f64());
                }
                let what =
                    format!("{scenario:?}, seed {seed}: {fault:?} of {attempt}, {operation}");
                return Err(error.context(what));
            }
        }
        if place == 0 {
            for operation in calls.into_values() {
                *played.calls.entry(operation).or_default() += 1;
            }
        }
    }
    Ok(played)
}

fn is_of_stripe(operation: &str) -> bool {
    operation.starts_with("/v1/")
}

/// A scenario that was played.
struct Played {
    result: Result<()>,
    /// The calls that were made for the order, by the numbers of their attempts.
    calls: BTreeMap<u64, String>,
    story: Vec<Moment>,
}

fn play(
    scenario: PaymentScenario,
    seed: u64,
    point: Option<(u64, Fault)>,
    keeps_story: bool,
) -> Played {
    in_virtual_time(seed, async {
        let aws = SimulatedAws::new(seed, Faults::default());
        if keeps_story {
            aws.keep_story();
        }
        let calls: Arc<Mutex<BTreeMap<u64, String>>> = Arc::default();
        let run = tokio::time::timeout(RUN_MAX, run(&aws, scenario, seed, point, calls.clone()));
        let result = run.await;
        let result = result.unwrap_or_else(|_| bail!("not at its end within {RUN_MAX:?}"));
        let calls = std::mem::take(&mut *calls.lock().unwrap_or_else(PoisonError::into_inner));
        Played { result, calls, story: aws.story() }
    })
}

async fn run(
    aws: &SimulatedAws,
    scenario: PaymentScenario,
    seed: u64,
    point: Option<(u64, Fault)>,
    calls: Arc<Mutex<BTreeMap<u64, String>>>,
) -> Result<()> {
    let harshness = Harshness {
        concurrency: 100,
        is_reserved: false,
        stalls: 0,
        has_unruly_schedule: false,
        has_extensions: true,
    };
    let lost = if scenario == PaymentScenario::Unheard { ALL_LOST } else { 0 };
    let Shop { api, stripe, product, forever, .. } =
        open(aws, seed, harshness, RESERVATION_MINUTES, lost).await?;
    let noted = calls.clone();
    aws.set_observer(move |_, step| {
        if let Step::CarriedOut { attempt, call, answer, .. } = step
            && !answer.contains(r#""Count":0"#)
            && !is_for_mails(call)
        {
            let operation = call.operation().split('?').next().unwrap_or_default().to_owned();
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(*attempt, operation);
        }
    });
    if let Some((attempt, fault)) = point {
        aws.plan_fault(attempt, fault);
    }
    let api = Rc::clone(&api);
    let customer = Customer { number: 0, aws: aws.clone(), api, stripe: stripe.clone() };
    let forget_calls = || {
        if scenario != PaymentScenario::Paid {
            calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    };
    scenario.act(&customer, &product, forget_calls).await?;
    settled(aws).await?;
    forever.iter().for_each(JoinHandle::abort);
    let orders = aws.items(ORDERS);
    let order = orders.first().context("an order")?;
    let (status, expected) = (text(order, "status"), scenario.ends_as());
    ensure!(status == expected, "the order is {status}, not {expected}");
    check(aws, &stripe, &product, 1).map(drop)
}

fn is_for_mails(call: &AwsCall) -> bool {
    match call {
        AwsCall::Ses(_) => true,
        AwsCall::DynamoDb(_, body) => {
            let body = body.to_string();
            body.contains("notification-consumer") || body.contains(SUPPRESSED)
        }
        _ => false,
    }
}
