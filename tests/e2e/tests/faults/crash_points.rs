//! Every call that a function makes, broken in every way.
//!
//! The calls are not listed here: each scenario is played once undisturbed while the proxy notes them, and then
//! once for each call and each way to break it. A point passes if its fault has struck and the order has still
//! ended in the one right state: status, stock, one event of each kind, each counted once, no mail lost.

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    Queue, Seconds, Stack,
    api::order_body,
    eventually,
    faults::{Call, Fault, Kind},
};
use futures::{StreamExt, stream};
use serde_json::json;

const STOCK: u64 = 10;
/// Number of points that are tried side by side.
const CONCURRENCY: usize = 24;
/// A point that was not tried, because its function had been killed before, is played again at most this number of times.
const ROUNDS_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Confirmed,
    Rejected,
    CancelledAfterwards,
    Shipped,
    /// Cancelled before product-consumer has seen it created: its first event is left to the relay.
    CancelledFirst,
    /// Its first event is left to the relay.
    Relayed,
    /// SES says of a mail that its address does not exist.
    Bounced,
}

impl Scenario {
    const ALL: [Self; 7] = [
        Self::Confirmed,
        Self::Rejected,
        Self::CancelledAfterwards,
        Self::Shipped,
        // Before the next one, in which the relay makes some of its calls only if it is faster than the customer.
        Self::Relayed,
        Self::CancelledFirst,
        Self::Bounced,
    ];

    /// Faults that the scenario itself consists of.
    fn given(self) -> Vec<Fault> {
        match self {
            Self::CancelledFirst | Self::Relayed => {
                let call =
                    Call { function: "order-api".into(), operation: "PublishBatch".into(), nth: 0 };
                vec![Fault { call, kind: Kind::Fail }]
            }
            _ => Vec::new(),
        }
    }

    fn quantity(self) -> u64 {
        if self == Self::Rejected { STOCK + 1 } else { 3 }
    }

    fn ends(self) -> Ending {
        match self {
            Self::Confirmed | Self::Relayed | Self::Bounced => Ending {
                status: "confirmed",
                stock: STOCK - 3,
                events: &[&["OrderConfirmed", "OrderCreated", "StockReserved"]],
                mails: &["Created Successfully", "Confirmed"],
            },
            Self::Rejected => Ending {
                status: "rejected",
                stock: STOCK,
                events: &[&["OrderCreated", "OrderRejected", "StockRejected"]],
                mails: &["Created Successfully", "Rejected"],
            },
            Self::CancelledAfterwards => Ending {
                status: "cancelled",
                stock: STOCK,
                events: &[CANCELLED_AFTERWARDS],
                mails: &["Created Successfully", "Confirmed", "Cancelled"],
            },
            Self::Shipped => Ending {
                status: "shipped",
                stock: STOCK - 3,
                events: &[&["OrderConfirmed", "OrderCreated", "OrderShipped", "StockReserved"]],
                mails: &["Created Successfully", "Confirmed", "Shipped"],
            },
            Self::CancelledFirst => Ending {
                status: "cancelled",
                stock: STOCK,
                // On a slow machine the relay may be faster than the customer, and stock is taken and given back.
                events: &[
                    &["OrderCancelled", "OrderCreated"],
                    &["OrderCancelled", "OrderCreated", "StockReleased", "StockReserved"],
                    CANCELLED_AFTERWARDS,
                ],
                mails: &["Created Successfully", "Cancelled"],
            },
        }
    }
}

const CANCELLED_AFTERWARDS: &[&str] =
    &["OrderCancelled", "OrderConfirmed", "OrderCreated", "StockReleased", "StockReserved"];

struct Ending {
    status: &'static str,
    stock: u64,
    /// The events that there are; of several such sets one.
    events: &'static [&'static [&'static str]],
    mails: &'static [&'static str],
}

/// One call of one scenario, and the way to break it.
type Point = (Scenario, Fault);

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_call_changes_nothing_about_how_an_order_ends() -> Result<()> {
    let stack = Stack::load().await?;
    stack.set_visibility_timeouts(5).await?;
    let sweeping = tokio::spawn(sweep_for_ever(stack.clone()));
    let points = discover_points(&stack).await?;
    let tried = try_points(&stack, points).await;
    sweeping.abort();
    let wrong = report(&tried);
    ensure!(wrong == 0, "{wrong} of {} points went wrong", tried.len());
    for queue in Queue::ALL {
        ensure!(stack.messages(stack.dlq(queue)).await? == 0, "a message in the DLQ of {queue:?}");
    }
    Ok(())
}

/// Plays each scenario undisturbed, and makes a point of each call that a function makes and each way to break it.
async fn discover_points(stack: &Stack) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut seen = HashSet::new();
    for scenario in Scenario::ALL {
        let played = play(stack, scenario, &[]).await.with_context(|| format!("{scenario:?}"))?;
        let Played::Right(product) = played else { bail!("{scenario:?} did not go as it should") };
        for call in stack.calls(&product).await? {
            // In how many transactions an order's events are counted depends on when they come; the first is always there.
            if call.function == "analytics-consumer" && call.nth > 0 {
                continue;
            }
            // The tick's own query has to do with no order; it is broken in a test of its own.
            if scenario.given().iter().any(|given| given.call == call) || !seen.insert(call.clone())
            {
                continue;
            }
            let point = |kind: Kind| (scenario, Fault { call: call.clone(), kind });
            points.extend(kinds_of(stack, &call).into_iter().map(point));
        }
    }
    println!("{} calls, {} points", seen.len(), points.len());
    Ok(points)
}

/// The ways to break a call.
fn kinds_of(stack: &Stack, call: &Call) -> Vec<Kind> {
    let mut kinds = vec![Kind::KillBefore, Kind::KillAfter];
    // What comes over the wire is the same with every emulator, and the simulation breaks that too: only that a process
    // dies needs a real one, and LocalStack plays a point in several times MiniStack's time.
    if stack.setting("EMULATOR") != "ministack" {
        return kinds;
    }
    match call.operation.as_str() {
        "TransactWriteItems" => kinds.push(Kind::Cancel),
        "PublishBatch" | "BatchGetItem" | "BatchExecuteStatement" => kinds.push(Kind::Partial),
        _ => {}
    }
    // The first call of an operation stands for the others: the simulation breaks every one.
    if call.nth == 0 {
        kinds.extend([Kind::Lose, Kind::Reset, Kind::Hang]);
    }
    kinds
}

/// Plays every point until its fault has struck, or [`ROUNDS_MAX`] times.
async fn try_points(stack: &Stack, mut points: Vec<Point>) -> Vec<(Point, Result<Played>)> {
    let mut tried = Vec::new();
    for round in 1..=ROUNDS_MAX {
        let outcomes: Vec<_> = stream::iter(std::mem::take(&mut points))
            .map(|(scenario, fault)| async move {
                let outcome = play(stack, scenario, std::slice::from_ref(&fault)).await;
                ((scenario, fault), outcome)
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        for (point, outcome) in outcomes {
            // Its function died by another point's fault before it came to this call: this one was not tried.
            if round < ROUNDS_MAX && matches!(outcome, Ok(Played::NotStruck)) {
                points.push(point);
            } else {
                tried.push((point, outcome));
            }
        }
        println!("round {round}: {} points have not struck yet", points.len());
        if points.is_empty() {
            break;
        }
    }
    tried
}

/// Prints the table of points, and returns how many went wrong.
fn report(tried: &[(Point, Result<Played>)]) -> usize {
    println!(
        "{:<20} {:<22} {:<18} {:>3}  {:<11} outcome",
        "scenario", "function", "call", "nth", "fault"
    );
    let mut wrong = 0;
    for ((scenario, Fault { call, kind }), outcome) in tried {
        let (scenario, kind) = (format!("{scenario:?}"), format!("{kind:?}"));
        let Call { function, operation, nth } = call;
        let outcome = match outcome {
            Ok(Played::Right(_)) => "right".to_owned(),
            Ok(Played::NotStruck) => {
                wrong += 1;
                "NOT TRIED: the call was never made".to_owned()
            }
            Err(error) => {
                wrong += 1;
                format!("WRONG: {error:#}")
            }
        };
        println!("{scenario:<20} {function:<22} {operation:<18} {nth:>3}  {kind:<11} {outcome}");
    }
    println!("{} points tried, {wrong} wrong", tried.len());
    wrong
}

/// The schedule is too slow for a test: here the relay sweeps all the time.
async fn sweep_for_ever(stack: Stack) {
    loop {
        // A sweep that is struck by a fault fails; the next one is what is tested.
        let _ = stack.sweep().await;
        tokio::time::sleep(1.secs()).await;
    }
}

/// What came of playing a scenario.
enum Played {
    /// Every fault has struck and the order has ended right. The product that it was played with.
    Right(String),
    /// The order has ended right, but a fault has not struck.
    NotStruck,
}

/// Plays a scenario with these faults and checks how it ends.
async fn play(stack: &Stack, scenario: Scenario, faults: &[Fault]) -> Result<Played> {
    let api = &stack.api;
    // Others may have just had the environment killed that this call is in.
    let product = eventually("a product", 60.secs(), async || {
        Ok(api.product(&format!("{scenario:?}"), "2.50", STOCK).await.ok())
    })
    .await?;
    stack.record(&product).await?;
    let mut all = scenario.given();
    all.extend_from_slice(faults);
    stack.arm(&product, &all).await?;
    let order = place(stack, &product, scenario.quantity()).await?;
    if scenario != Scenario::CancelledFirst {
        let settled = eventually(&format!("{order} to settle"), 120.secs(), async || {
            // Read past the API: what the test reads is no call of a function.
            let item = stack.item("ORDERS_TABLE", "order_id", &order).await?.context("no order")?;
            let status = item["status"].as_s().ok().context("no status")?;
            Ok((status != "pending").then(|| status.clone()))
        })
        .await?;
        let wanted = if scenario == Scenario::Rejected { "rejected" } else { "confirmed" };
        ensure!(settled == wanted, "settled as {settled}");
    }
    match scenario {
        Scenario::CancelledAfterwards | Scenario::CancelledFirst => {
            insist(stack, "POST", &format!("/admin/orders/{order}/cancel")).await?;
        }
        Scenario::Shipped => insist(stack, "POST", &format!("/orders/{order}/ship")).await?,
        Scenario::Bounced => publish_bounce(stack, &product).await?,
        Scenario::Confirmed | Scenario::Rejected | Scenario::Relayed => {}
    }
    let ended = eventually(&format!("{order} to end"), 120.secs(), async || {
        Ok(ends_as(stack, &product, &order, scenario).await.ok())
    })
    .await;
    if ended.is_err() {
        ends_as(stack, &product, &order, scenario).await?;
    }
    // The relay may have been faster than the function whose call is meant; that makes it all the same.
    let struck = eventually("the fault to strike", 20.secs(), async || {
        let struck = stack.struck(&product).await?;
        Ok(struck.iter().all(|count| *count > 0).then_some(()))
    })
    .await;
    if struck.is_err() {
        return Ok(Played::NotStruck);
    }
    eventually("the end after the fault", 60.secs(), async || {
        Ok(ends_as(stack, &product, &order, scenario).await.ok())
    })
    .await?;
    Ok(Played::Right(product))
}

/// Orders as a careful client does: with a key, again and again until there is an answer.
async fn place(stack: &Stack, product: &str, quantity: u64) -> Result<String> {
    // The product in the key and the address, so that the proxy knows even the first call as one of this order.
    let key = format!("key-{product}");
    let body = order_body(&format!("crash+{product}@example.com"), &[(product, quantity)]);
    eventually("an answer to the order", 120.secs(), async || {
        let keyed = [("idempotency-key", key.as_str())];
        let answer = stack.api.call_with("POST", "/orders", body.clone(), &keyed).await?;
        match answer.status {
            201 => Ok(Some(answer.id()?)),
            500.. => Ok(None),
            _ => bail!("{}", answer.text),
        }
    })
    .await
}

/// Calls until it is answered with 200.
async fn insist(stack: &Stack, method: &str, path: &str) -> Result<()> {
    eventually(path, 60.secs(), async || {
        let answer = stack.api.admin(method, path, "").await?;
        match answer.status {
            200 => Ok(Some(())),
            500.. => Ok(None),
            _ => bail!("{path}: {}", answer.text),
        }
    })
    .await
}

/// Fails with the first thing that is not as it should be in the end.
async fn ends_as(stack: &Stack, product: &str, order: &str, scenario: Scenario) -> Result<()> {
    let ending = scenario.ends();
    let item = stack.item("ORDERS_TABLE", "order_id", order).await?.context("no order")?;
    let status = item["status"].as_s().ok().context("no status")?;
    ensure!(status == ending.status, "status {status}, not {}", ending.status);
    let item = stack.item("PRODUCTS_TABLE", "product_id", product).await?.context("no product")?;
    let stock = item["stock"].as_n().ok().context("no stock")?;
    ensure!(*stock == ending.stock.to_string(), "stock {stock}, not {}", ending.stock);
    let log = stack.log(order).await?;
    ensure!(!log.iter().any(|event| event.contains_key("outbox_shard")), "an event is pending");
    let mut events: Vec<_> = log
        .iter()
        .filter_map(|event| event["attributes"].as_m().ok()?.get("event_type")?.as_s().ok())
        .map(String::as_str)
        .collect();
    events.sort_unstable();
    ensure!(
        ending.events.contains(&events.as_slice()),
        "events {events:?}, not {:?}",
        ending.events
    );
    let (reported, counted) =
        (stack.reported_amounts(order, product).await?, stack.counted_amounts(product).await?);
    ensure!(counted == reported, "counted {counted:?}, and reported {reported:?}");
    let mails = stack.mails(order).await?;
    for mail in ending.mails {
        let wanted = format!("Order #{order} {mail}");
        ensure!(mails.contains(&wanted), "no mail {mail:?}");
    }
    let has_happened = |mail: &String| {
        let outcome =
            mail.rsplit(' ').next().unwrap_or_default().replace("Successfully", "Created");
        events.contains(&format!("Order{outcome}").as_str())
    };
    ensure!(mails.iter().all(has_happened), "a mail of what has not happened: {mails:?}");
    if scenario == Scenario::Bounced {
        let address = bounced_address(product);
        let item = stack.item("SUPPRESSED_TABLE", "email", &address).await?;
        ensure!(item.is_some(), "{address} is not suppressed");
    }
    Ok(())
}

/// With the product in it, so that the proxy knows what is done with it as a call of this order.
fn bounced_address(product: &str) -> String {
    format!("gone+{product}@example.com")
}

async fn publish_bounce(stack: &Stack, product: &str) -> Result<()> {
    let recipients = json!([{ "emailAddress": bounced_address(product) }]);
    let bounce = json!({ "bounceType": "Permanent", "bouncedRecipients": recipients });
    let message = json!({ "eventType": "Bounce", "bounce": bounce, "mail": { "messageId": "m" } });
    let topic = stack.setting("MAIL_FEEDBACK_TOPIC_ARN");
    stack.sns.publish().topic_arn(topic).message(message.to_string()).send().await?;
    Ok(())
}
