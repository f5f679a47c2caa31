//! What becomes of a message and of the events that it has caused, when its process dies or SNS or the event log is away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use exactly_once::{
    CausedEvents, Commit, Decided, Failure, Handled, Inbox, Outbox, Outgoing, commit,
};
use simulated_aws::{Call, Faults, Index, Service, SimulatedAws, Step, Table};
use tokio::time::Instant;
use uuid::Uuid;

const EVENT_LOG: &str = "event log";
const MARKERS: &str = "markers";

struct World {
    aws: SimulatedAws,
    outbox: Outbox,
    caused: CausedEvents,
    dynamodb: Client,
    /// The operations that were carried out, in their order.
    calls: Arc<Mutex<Vec<String>>>,
}

async fn world() -> World {
    fastrand::seed(1);
    let aws = SimulatedAws::new(1, Faults::default());
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let outbox = Index {
        name: "outbox".to_owned(),
        keys: ["outbox_shard".to_owned(), "pending_since".to_owned()],
    };
    aws.create_table(Table {
        name: EVENT_LOG.to_owned(),
        keys: names(&["stream", "event_id"]),
        indexes: vec![outbox],
    });
    aws.project_keys_only(EVENT_LOG, "outbox");
    let keys = names(&["key"]);
    aws.create_table(Table { name: MARKERS.to_owned(), keys, indexes: Vec::new() });
    let topic_arn = aws.create_topic("orders");
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = calls.clone();
    aws.set_observer(move |_, step| {
        let Step::CarriedOut { call, .. } = step else { return };
        let operation = match call {
            Call::DynamoDb(operation, _) => operation.clone(),
            Call::Sns(_) => "PublishBatch".to_owned(),
            _ => return,
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    });
    // A service that is away does not answer.
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(5)).build();
    let loader = simulated_aws::loader().timeout_config(timeouts);
    let config = aws.environment().config(&loader.load().await);
    let dynamodb = Client::new(&config);
    let sns = aws_sdk_sns::Client::new(&config);
    let outbox = Outbox::new(dynamodb.clone(), sns, EVENT_LOG, topic_arn);
    let inbox = Inbox::new(dynamodb.clone(), MARKERS, "consumer");
    let caused = CausedEvents::new(inbox, outbox.clone());
    World { aws, outbox, caused, dynamodb, calls }
}

impl World {
    /// The effect of a message, which causes one event; not more than its transaction.
    async fn commit(&self, message: &str) -> Vec<Outgoing> {
        self.commit_with(message, "{}").await
    }

    async fn commit_with(&self, message: &str, body: &str) -> Vec<Outgoing> {
        let events = vec![Outgoing {
            stream: "stream".to_owned(),
            id: Uuid::from_u128(message.len() as u128),
            body: body.to_owned(),
            attributes: BTreeMap::new(),
        }];
        let mut writes = vec![self.caused.marker::<()>(message, &events)];
        writes.extend(self.caused.store(&events));
        assert_eq!(commit(&self.dynamodb, &writes).await.expect("stored"), Commit::Done);
        self.take_calls();
        events
    }

    async fn publish(
        &self,
        message: &str,
        handled: Handled,
        events: Vec<Outgoing>,
    ) -> Result<Handled, Failure> {
        let decided = Decided { key: message.to_owned(), result: Ok(handled), events };
        self.caused.publish(vec![decided]).await.remove(0)
    }

    fn pending(&self) -> usize {
        let items = self.aws.items(EVENT_LOG).into_iter();
        items.filter(|item| item.contains_key("outbox_shard")).count()
    }

    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_message_causes_needs_one_call_and_no_place_in_the_outbox() {
    let world = world().await;
    let events = world.commit("m").await;
    let result = world.publish("m", Handled::Done, events).await;
    assert_eq!(result.expect("done"), Handled::Done);
    assert_eq!(world.take_calls(), ["PublishBatch"]);
    assert_eq!(world.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_publishes_what_its_first_delivery_has_died_before_publishing() {
    let world = world().await;
    world.commit("m").await;
    let result = world.publish("m", Handled::Duplicate, Vec::new()).await;
    assert_eq!(result.expect("done"), Handled::Duplicate);
    assert_eq!(world.take_calls(), ["GetItem", "BatchGetItem", "PublishBatch"]);
    assert_eq!(world.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_without_a_marker_has_caused_nothing() {
    let world = world().await;
    let result = world.publish("m", Handled::Duplicate, Vec::new()).await;
    assert_eq!(result.expect("done"), Handled::Duplicate);
    assert_eq!(world.take_calls(), ["GetItem"]);
}

#[tokio::test(start_paused = true)]
async fn what_sns_does_not_take_gets_a_place_in_the_outbox_and_its_message_is_done() {
    let world = world().await;
    let events = world.commit("m").await;
    world.aws.set_away(Service::Sns, true);
    let result = world.publish("m", Handled::Done, events).await;
    assert_eq!(result.expect("done"), Handled::Done);
    assert_eq!(world.pending(), 1);
    world.aws.set_away(Service::Sns, false);
    world.take_calls();
    // A second delivery leaves it to the sweep.
    let result = world.publish("m", Handled::Duplicate, Vec::new()).await;
    assert_eq!(result.expect("done"), Handled::Duplicate);
    assert_eq!(world.take_calls(), ["GetItem", "BatchGetItem"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    let swept = world.outbox.sweep(Duration::from_secs(1), deadline).await.expect("it answers");
    assert_eq!((swept.published, world.pending()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_is_tried_again_while_neither_sns_nor_the_event_log_takes_its_events() {
    let world = world().await;
    let events = world.commit("m").await;
    world.aws.set_away(Service::Sns, true);
    world.aws.set_away(Service::DynamoDb, true);
    let failure = world.publish("m", Handled::Done, events).await.expect_err("not published");
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    // The marker cannot be read either.
    let failure = world.publish("m", Handled::Duplicate, Vec::new()).await.expect_err("unknown");
    assert!(matches!(failure, Failure::Transient { .. }), "{failure:?}");
    world.aws.set_away(Service::Sns, false);
    world.aws.set_away(Service::DynamoDb, false);
    world.take_calls();
    let result = world.publish("m", Handled::Duplicate, Vec::new()).await;
    assert_eq!(result.expect("done"), Handled::Duplicate);
    assert_eq!(world.take_calls(), ["GetItem", "BatchGetItem", "PublishBatch"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_sns_refuses_for_good_is_set_aside_and_its_message_is_done() {
    let world = world().await;
    // Larger than SNS takes.
    let events = world.commit_with("m", &"x".repeat(300 * 1024)).await;
    let result = world.publish("m", Handled::Done, events).await;
    assert_eq!(result.expect("done"), Handled::Done);
    let event = &world.aws.items(EVENT_LOG)[0];
    assert_eq!(event["outbox_shard"]["S"], "stuck");
    assert!(event.contains_key("pending_since"), "the index of the outbox has it");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_message_that_cannot_be_read_is_set_aside() {
    let world = world().await;
    world.commit("m").await;
    let spoil = world.dynamodb.put_item().table_name(EVENT_LOG);
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let spoil = spoil.item("stream", text("stream"));
    let spoil = spoil.item("event_id", text(&Uuid::from_u128(1).to_string()));
    spoil.send().await.expect("it answers");
    let result = world.publish("m", Handled::Duplicate, Vec::new()).await;
    assert_eq!(result.expect("done"), Handled::Duplicate);
    assert_eq!(world.aws.items(EVENT_LOG)[0]["outbox_shard"]["S"], "stuck");
}

#[tokio::test(start_paused = true)]
async fn events_of_several_messages_are_published_in_one_call() {
    let world = world().await;
    let mut decided = Vec::new();
    for message in ["m", "mm", "mmm"] {
        let events = world.commit(message).await;
        decided.push(Decided { key: message.to_owned(), result: Ok(Handled::Done), events });
    }
    let results = world.caused.publish(decided).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Handled::Done))), "{results:?}");
    assert_eq!(world.take_calls(), ["PublishBatch"]);
}
