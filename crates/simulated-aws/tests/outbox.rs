//! What the outbox of the library does in calls, and what becomes of events whose clearing fails in part.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use exactly_once::{Commit, Outbox, Outgoing, commit};
use serde_json::Value;
use simulated_aws::{Call, Faults, Index, Service, SimulatedAws, Step, Table};
use tokio::time::Instant;
use uuid::Uuid;

const EVENT_LOG: &str = "event log";

struct World {
    aws: SimulatedAws,
    outbox: Outbox,
    dynamodb: aws_sdk_dynamodb::Client,
    /// The number of entries or statements of each call that was carried out, in their order.
    calls: Arc<Mutex<Vec<(String, usize)>>>,
}

async fn world() -> World {
    fastrand::seed(1);
    let aws = SimulatedAws::new(1, Faults::default());
    aws.create_table(Table {
        name: EVENT_LOG.to_owned(),
        keys: vec!["stream".to_owned(), "event_id".to_owned()],
        indexes: vec![Index {
            name: "outbox".to_owned(),
            keys: ["outbox_shard".to_owned(), "pending_since".to_owned()],
        }],
    });
    aws.project_keys_only(EVENT_LOG, "outbox");
    let topic_arn = aws.create_topic("orders");
    let calls: Arc<Mutex<Vec<(String, usize)>>> = Arc::default();
    let seen = calls.clone();
    aws.set_observer(move |_, step| {
        let Step::CarriedOut { call, .. } = step else { return };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match call {
            Call::DynamoDb(operation, body) if operation == "BatchExecuteStatement" => {
                let statements = body["Statements"].as_array().map_or(0, Vec::len);
                seen.push((operation.clone(), statements));
            }
            Call::Sns(form) => {
                let entries = form.iter().filter(|(name, _)| name.ends_with(".Message")).count();
                seen.push(("PublishBatch".to_owned(), entries));
            }
            _ => {}
        }
    });
    let config = aws.environment().config(&simulated_aws::loader().load().await);
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let sns = aws_sdk_sns::Client::new(&config);
    let outbox = Outbox::new(dynamodb.clone(), sns, EVENT_LOG, topic_arn);
    World { aws, outbox, dynamodb, calls }
}

impl World {
    /// Events that are stored as pending.
    async fn append(&self, events: usize) -> Vec<Outgoing> {
        let event = |number: usize| Outgoing {
            stream: format!("stream {}", number % 3),
            id: Uuid::from_u128(1 + number as u128),
            body: "{}".to_owned(),
            attributes: BTreeMap::new(),
        };
        let events: Vec<_> = (0..events).map(event).collect();
        let writes = self.outbox.append::<()>(&events);
        for writes in writes.chunks(50) {
            assert_eq!(commit(&self.dynamodb, writes).await.expect("stored"), Commit::Done);
        }
        events
    }

    fn pending(&self) -> usize {
        let items = self.aws.items(EVENT_LOG).into_iter();
        items.filter(|item| item.contains_key("outbox_shard")).count()
    }

    fn calls(&self, operation: &str) -> Vec<usize> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|(name, _)| name == operation).map(|(_, entries)| *entries).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn any_number_of_events_is_published_in_tens_and_cleared_in_twenty_fives() {
    let world = world().await;
    let events = world.append(60).await;
    assert_eq!(world.outbox.publish(&events).await, 60);
    assert_eq!(world.calls("PublishBatch"), [10; 6]);
    assert_eq!(world.calls("BatchExecuteStatement").iter().sum::<usize>(), 60);
    assert_eq!(world.calls("BatchExecuteStatement").len(), 3);
    assert_eq!(world.pending(), 0);
    for item in world.aws.items(EVENT_LOG) {
        assert!(!item.contains_key("pending_since"), "in the outbox by half: {item:?}");
        assert!(item.contains_key("body"), "{item:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_fails_by_itself_is_tried_again_and_what_fails_again_stays_pending() {
    let world = world().await;
    let events = world.append(25).await;
    let sent = world.outbox.send(&events).await;
    world.aws.set_faults(Faults { partial: 500, ..Faults::default() });
    let cleared = world.outbox.clear(sent).await;
    let left = world.pending();
    assert_eq!(cleared + left, 25);
    assert!((1..13).contains(&left), "{left} of 25 failed in each of three attempts");
    // Only what failed is tried again.
    let calls = world.calls("BatchExecuteStatement");
    assert!(
        calls[0] == 25 && calls[1] < 25 && calls[2] < calls[1] && calls.len() == 3,
        "{calls:?}"
    );
    world.aws.set_faults(Faults::default());
    let deadline = Instant::now() + Duration::from_secs(30);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let swept = world.outbox.sweep(Duration::from_secs(1), deadline).await.expect("it answers");
    assert_eq!((swept.published, swept.left), (left, 0));
    assert_eq!(world.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_cleared_that_sns_has_not_accepted() {
    let world = world().await;
    let events = world.append(3).await;
    world.aws.set_away(Service::Sns, true);
    assert_eq!(world.outbox.publish(&events).await, 0);
    assert_eq!(world.pending(), 3);
    assert_eq!(world.calls("BatchExecuteStatement"), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn clearing_an_event_that_the_log_does_not_have_makes_no_item_and_clears_the_others() {
    let world = world().await;
    let mut events = world.append(2).await;
    events.push(Outgoing { id: Uuid::from_u128(77), ..events[0].clone() });
    assert_eq!(world.outbox.publish(&events).await, 2);
    assert_eq!(world.pending(), 0);
    assert_eq!(world.aws.items(EVENT_LOG).len(), 2);
    // It is no use to try that again.
    assert_eq!(world.calls("BatchExecuteStatement"), [3]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_sns_refuses_for_good_is_set_aside_and_holds_up_no_other() {
    let world = world().await;
    let mut events = world.append(2).await;
    // Larger than SNS takes, whoever asks.
    let large =
        Outgoing { body: "x".repeat(300 * 1024), id: Uuid::from_u128(9), ..events[0].clone() };
    let write = world.outbox.append::<()>(std::slice::from_ref(&large));
    assert_eq!(commit(&world.dynamodb, &write).await.expect("stored"), Commit::Done);
    events.push(large);
    assert_eq!(world.outbox.publish(&events).await, 2);
    let stuck: Vec<Value> = world
        .aws
        .items(EVENT_LOG)
        .into_iter()
        .filter_map(|item| item.get("outbox_shard").cloned())
        .collect();
    assert_eq!(stuck, [serde_json::json!({ "S": "stuck" })]);
}
