//! What SES says of mails: who is mailed no more, whatever happens to the consumer that hears of it.
//!
//! In: a seed, and what goes wrong until the feedback of all mails has been handled. Out: whose addresses are suppressed, and what is mailed after
//! that. The messages are those of SES's documentation.
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-examples.html>

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use exactly_once::Ids;
use serde_json::{Value, json};
use simulated_aws::{Faults, SimulatedAws};
use tokio::task::{JoinHandle, spawn_local};

use crate::{
    RUN_MAX, SETTLING_MAX,
    books::text,
    clients::{Api, Call},
    in_virtual_time,
    lambda::{Harshness, Lambda},
    shop::{self, ORDERS, Queue, SUPPRESSED},
};

/// A customer whose mails arrive.
pub const FINE: &str = "fine@example.com";
/// One whose address is none any more.
pub const GONE: &str = "gone@example.com";
/// One who calls mails spam.
pub const ANGRY: &str = "angry@example.com";
/// One whose mailbox is full for now.
pub const FULL: &str = "full@example.com";

/// How often it is looked which mails SES has accepted.
const LOOK: Duration = Duration::from_secs(1);
/// How long SES may take to say what became of a mail.
const SAID_AFTER_MS: std::ops::Range<u64> = 1000..60_000;
/// How long something goes wrong.
const FAULTS_TIME: Duration = Duration::from_secs(15 * 60);

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedbackReport {
    /// Why each of the suppressed addresses is one.
    pub suppressed: BTreeMap<String, String>,
    /// Number of mails of later orders that SES was given, by address. Each of these orders is confirmed.
    pub later_mails: BTreeMap<String, usize>,
    /// What is on the DLQ of the feedback, perhaps more than once.
    pub dead_letters: BTreeSet<String>,
}

/// Has orders mailed of which SES says this and that, under these faults, and then orders that are mailed without any.
///
/// # Errors
/// An order was refused, or something did not settle.
pub fn suppress_addresses(seed: u64, faults: Faults) -> Result<FeedbackReport> {
    in_virtual_time(seed, async {
        let run = tokio::time::timeout(RUN_MAX, run(seed, faults)).await;
        run.unwrap_or_else(|_| bail!("not at its end within {RUN_MAX:?}"))
    })
}

async fn run(seed: u64, faults: Faults) -> Result<FeedbackReport> {
    let aws = SimulatedAws::new(seed, Faults::default());
    shop::deploy(&aws);
    let config = settings::aws_with(simulated_aws::loader()).await;
    let harshness = Harshness {
        concurrency: 20,
        is_reserved: false,
        stalls: 50,
        has_unruly_schedule: true,
        has_extensions: seed.is_multiple_of(2),
    };
    let lambda = Lambda::new(&aws, &config, &Ids::seeded(seed), harshness);
    let api = Rc::new(Api::new(&lambda));
    let product = api.product("Lamp", 100).await?;
    let mut forever = vec![spawn_local(lambda.clone().schedule_relay())];
    forever.extend(Queue::ALL.map(|queue| spawn_local(lambda.clone().map(queue))));
    forever.push(spawn_local(publish_feedback(aws.clone())));

    aws.set_faults(faults);
    lambda.stall(true);
    aws.send(&Queue::Feedback.url(), POISON, &BTreeMap::new());
    order_for_each(&api, &product, "first").await?;
    tokio::time::sleep(FAULTS_TIME).await;
    aws.set_faults(Faults::default());
    lambda.stall(false);
    tokio::time::sleep(SETTLING_MAX).await;

    let mailed_before = aws.mails().len();
    let ids = order_for_each(&api, &product, "later").await?;
    tokio::time::sleep(SETTLING_MAX).await;
    forever.iter().for_each(JoinHandle::abort);

    for order in aws.items(ORDERS) {
        let is_later = ids.contains(text(&order, "order_id"));
        ensure!(!is_later || text(&order, "status") == "confirmed", "{order:?}");
    }
    let mut report = FeedbackReport::default();
    for item in aws.items(SUPPRESSED) {
        report.suppressed.insert(text(&item, "email").to_owned(), text(&item, "reason").to_owned());
    }
    for mail in aws.mails().split_off(mailed_before) {
        *report.later_mails.entry(mail.to).or_default() += 1;
    }
    report.dead_letters = aws.bodies(&Queue::Feedback.dlq_url()).into_iter().collect();
    Ok(report)
}

/// What is none of SES's.
pub const POISON: &str = r#"{"eventType":"Bounce"}"#;

/// Their ids.
async fn order_for_each(api: &Rc<Api>, product: &str, key: &str) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for email in [FINE, GONE, ANGRY, FULL] {
        let items = json!([{ "product_id": product, "quantity": 1 }]);
        let body = json!({ "customer_email": email, "items": items });
        let key = format!("{key}-{email}");
        let (status, answer) = api.insist(&Call::post("/orders", body).key(&key)).await?;
        ensure!(status == 201, "{status} {answer}");
        ids.extend(answer["id"].as_str().map(str::to_owned));
    }
    Ok(ids)
}

/// SES, by its configuration set: a message about each mail that did not just arrive.
async fn publish_feedback(aws: SimulatedAws) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let mails = aws.mails();
        for (number, mail) in mails.iter().enumerate().skip(seen) {
            let Some(message) = feedback(number, &mail.to) else { continue };
            let said_after = Duration::from_millis(aws.draw(SAID_AFTER_MS));
            let aws = aws.clone();
            spawn_local(async move {
                tokio::time::sleep(said_after).await;
                aws.send(&Queue::Feedback.url(), &message.to_string(), &BTreeMap::new());
            });
        }
        seen = mails.len();
    }
}

fn feedback(number: usize, address: &str) -> Option<Value> {
    let mail = json!({ "messageId": format!("mail-{number}"), "destination": [address] });
    let bounce = |bounce_type: &str| json!({ "bounceType": bounce_type, "bouncedRecipients": [{ "emailAddress": address }] });
    match address {
        GONE => Some(json!({ "eventType": "Bounce", "bounce": bounce("Permanent"), "mail": mail })),
        FULL => Some(json!({ "eventType": "Bounce", "bounce": bounce("Transient"), "mail": mail })),
        ANGRY => {
            let complaint = json!({ "complainedRecipients": [{ "emailAddress": address }] });
            Some(json!({ "eventType": "Complaint", "complaint": complaint, "mail": mail }))
        }
        _ => None,
    }
}
