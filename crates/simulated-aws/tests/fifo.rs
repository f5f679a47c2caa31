//! FIFO queues by AWS's pages, and the library's consumer on them: order is kept and a failed message holds up its group
//! alone, whatever is delivered again.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{Message, MessageSystemAttributeName},
};
use exactly_once::{Consumer, Failure, Handled, Message as Delivered};
use serde_json::json;
use simulated_aws::{Environment, Faults, QueueSettings, SimulatedAws, loader};
use tokio::time::sleep;

const SEEDS: std::ops::Range<u64> = 0..30;
const GROUPS: [&str; 3] = ["a", "b", "c"];
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of polls of a run: an invocation that dies after a dead letter was sent begins the time of its message anew, and
/// of thirty seeds some have two of those in a row.
const POLLS_MAX: usize = 20_000;

struct Setting {
    aws: SimulatedAws,
    environment: Environment,
    sqs: Client,
    url: String,
    dlq: String,
}

impl Setting {
    async fn new(seed: u64, settings: QueueSettings) -> Self {
        // The consumer's jitter follows it.
        fastrand::seed(seed);
        let aws = SimulatedAws::new(seed, Faults::default());
        let environment = aws.environment();
        let sqs = Client::new(&environment.config(&loader().load().await));
        let dlq = aws.create_queue("dlq.fifo", QueueSettings::default());
        let redrive = settings.redrive.map(|(_, receives_max)| (dlq.clone(), receives_max));
        let visibility_timeout = VISIBILITY_TIMEOUT;
        let settings = QueueSettings { redrive, visibility_timeout, ..settings };
        let url = aws.create_queue("queue.fifo", settings);
        Self { aws, environment, sqs, url, dlq }
    }

    async fn plain(seed: u64) -> Self {
        Self::new(seed, QueueSettings::default()).await
    }

    /// Sends a body to a group under its own text as deduplication id.
    async fn send(&self, group: &str, body: &str) {
        let call = self.sqs.send_message().queue_url(&self.url).message_body(body);
        let call = call.message_group_id(group).message_deduplication_id(body);
        call.send().await.expect("sent");
    }

    /// Sends `a1`, `b1`, `c1`, `a2`, … to three groups.
    async fn send_to_groups(&self, number: u32) {
        for place in 1..=number {
            for group in GROUPS {
                self.send(group, &format!("{group}{place}")).await;
            }
        }
    }

    async fn receive(&self) -> Vec<Message> {
        let call = self.sqs.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let call = call.wait_time_seconds(1);
        let call = call.message_system_attribute_names(MessageSystemAttributeName::All);
        call.send().await.expect("received").messages.unwrap_or_default()
    }

    async fn delete(&self, message: &Message) -> Option<String> {
        let handle = message.receipt_handle().expect("a handle");
        let call = self.sqs.delete_message().queue_url(&self.url).receipt_handle(handle);
        code(call.send().await)
    }

    fn consumer(&self) -> Consumer {
        let consumer = Consumer::new("consumer", self.sqs.clone(), &self.url, &self.dlq);
        consumer.backoff("5".parse().expect("a schedule"))
    }

    /// What a mapping receives, and the deadline of the invocation.
    fn batch(&self) -> (SqsEvent, u64) {
        let records: Vec<_> =
            self.aws.receive(&self.url, 10).into_iter().map(|one| one.record).collect();
        let event = serde_json::from_value(json!({ "Records": records })).expect("an event");
        (event, self.environment.now_ms() + 10_000)
    }

    /// Deletes what was not answered as failed, as a mapping does.
    fn acknowledge(&self, batch: &SqsEvent, failed: &BTreeSet<String>) {
        for record in &batch.records {
            if !failed.contains(record.message_id.as_deref().unwrap_or_default()) {
                self.aws.delete(&self.url, record.receipt_handle.as_deref().unwrap_or_default());
            }
        }
    }

    /// Plays a consumer until its queue is empty. The handler is asked in what order messages come; an invocation in ten
    /// dies before it has answered.
    async fn play(
        &self,
        consumer: &Consumer,
        way: Way,
        handler: impl Fn(&Delivered) -> Result<Handled, Failure>,
    ) {
        for _ in 0..POLLS_MAX {
            sleep(Duration::from_millis(500)).await;
            if self.aws.bodies(&self.url).is_empty() {
                return;
            }
            let (batch, deadline_ms) = self.batch();
            let answer = match way {
                Way::OneByOne => {
                    let handle = async |message: Delivered| handler(&message);
                    consumer.run(batch.clone(), deadline_ms, handle).await
                }
                Way::ByBatch => {
                    let handle =
                        async |messages: Vec<Delivered>, answers: exactly_once::Answers| {
                            for message in messages {
                                answers.set(&message, handler(&message));
                            }
                        };
                    consumer.run_batch(batch.clone(), deadline_ms, handle).await
                }
            };
            if self.aws.draw(0..10) > 0 {
                let failed = answer.batch_item_failures.into_iter();
                self.acknowledge(&batch, &failed.map(|one| one.item_identifier).collect());
            }
        }
        panic!("still on the queue: {:?}", self.aws.bodies(&self.url));
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    OneByOne,
    ByBatch,
}

fn code<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> Option<String> {
    result.err().map(|error| error.code().unwrap_or("no code").to_owned())
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(Message::body).collect()
}

/// Whether messages of each group are its first ones, in order.
fn are_first_of_groups(bodies: &[&str]) -> bool {
    GROUPS.iter().all(|group| {
        let of_group = bodies.iter().filter(|body| body.starts_with(group));
        of_group.zip(1..).all(|(body, place)| **body == format!("{group}{place}"))
    })
}

fn transient() -> Failure {
    Failure::transient(std::io::Error::other("not yet"))
}

// ------------------------------------------------------------------------------------------------ the queue

#[tokio::test(start_paused = true)]
async fn a_receive_gives_the_first_messages_of_any_groups_in_order() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::plain(seed).await;
        at.send_to_groups(4).await;
        let received = at.receive().await;
        assert!(are_first_of_groups(&bodies(&received)), "{:?}", bodies(&received));
        seen.insert(bodies(&received).join(" "));
    }
    assert!(seen.len() > 5, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_group_is_given_out_while_one_of_its_messages_is_in_flight() {
    for seed in SEEDS {
        let at = Setting::plain(seed).await;
        at.send_to_groups(4).await;
        let first = at.receive().await;
        let second = at.receive().await;
        let group = |body: &&str| body[..1].to_owned();
        let [in_flight, other]: [BTreeSet<String>; 2] =
            [&first, &second].map(|received| bodies(received).iter().map(group).collect());
        assert!(in_flight.is_disjoint(&other), "{in_flight:?} {other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_message_lets_its_group_go_on_where_it_was() {
    let at = Setting::plain(1).await;
    at.send("a", "a1").await;
    at.send("a", "a2").await;
    let mut order = Vec::new();
    while order.len() < 2 {
        for message in at.receive().await {
            assert_eq!(at.delete(&message).await, None);
            order.push(message.body.expect("a body"));
        }
    }
    assert_eq!(order, ["a1", "a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_deduplication_id_is_taken_once_in_five_minutes_also_if_its_message_is_deleted() {
    let at = Setting::plain(1).await;
    let send = async || {
        let call = at.sqs.send_message().queue_url(&at.url).message_body("a");
        let sent = call.message_group_id("a").message_deduplication_id("id").send().await;
        sent.expect("sent").message_id.expect("an id")
    };
    let first = send().await;
    let received = at.receive().await;
    assert_eq!(at.delete(&received[0]).await, None);
    sleep(Duration::from_secs(290)).await;
    assert_eq!(send().await, first, "accepted, and not delivered");
    assert!(at.aws.bodies(&at.url).is_empty());
    sleep(Duration::from_secs(10)).await;
    assert_ne!(send().await, first);
    assert_eq!(at.aws.bodies(&at.url), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn by_content_a_body_is_taken_once_in_five_minutes() {
    let settings = QueueSettings { is_deduplicated_by_content: true, ..QueueSettings::default() };
    let at = Setting::new(1, settings).await;
    for body in ["a", "a", "b"] {
        let call = at.sqs.send_message().queue_url(&at.url).message_body(body);
        call.message_group_id("a").send().await.expect("sent");
    }
    assert_eq!(at.aws.bodies(&at.url), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_needs_a_group_and_a_deduplication_id_and_has_no_delay_of_its_own() {
    let at = Setting::plain(1).await;
    let call = at.sqs.send_message().queue_url(&at.url).message_body("a");
    let refused = code(call.clone().message_deduplication_id("id").send().await);
    assert_eq!(refused.as_deref(), Some("MissingParameter"));
    let in_group = call.message_group_id("a");
    let refused = code(in_group.clone().send().await);
    assert_eq!(refused.as_deref(), Some("InvalidParameterValue"));
    let delayed = in_group.message_deduplication_id("id").delay_seconds(1);
    assert_eq!(code(delayed.send().await).as_deref(), Some("InvalidParameterValue"));
    let standard = at.aws.create_queue("queue", QueueSettings::default());
    let call = at.sqs.send_message().queue_url(standard).message_body("a").message_group_id("a");
    assert_eq!(code(call.clone().send().await), None, "for fair queues");
    let refused = code(call.message_deduplication_id("id").send().await);
    assert_eq!(refused.as_deref(), Some("InvalidParameterValue"));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_handle_whose_time_is_up_is_refused() {
    let at = Setting::plain(1).await;
    at.send("a", "a1").await;
    let received = at.receive().await;
    sleep(VISIBILITY_TIMEOUT).await;
    assert_eq!(at.delete(&received[0]).await.as_deref(), Some("InvalidParameterValue"));
    assert_eq!(at.aws.bodies(&at.url), ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_received_too_often_makes_way_for_its_group() {
    let at = Setting::new(
        1,
        QueueSettings { redrive: Some((String::new(), 2)), ..QueueSettings::default() },
    )
    .await;
    at.send("a", "a1").await;
    for _ in 0..2 {
        assert_eq!(bodies(&at.receive().await), ["a1"]);
        sleep(VISIBILITY_TIMEOUT).await;
    }
    at.send("a", "a2").await;
    assert_eq!(bodies(&at.receive().await), ["a2"]);
    assert_eq!(at.aws.bodies(&at.dlq), ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_fifo_queue_is_as_old_as_its_death() {
    let day = Duration::from_secs(24 * 60 * 60);
    let at = Setting::new(
        1,
        QueueSettings { redrive: Some((String::new(), 1)), ..QueueSettings::default() },
    )
    .await;
    at.send("a", "a1").await;
    at.receive().await;
    sleep(day).await;
    assert!(at.receive().await.is_empty());
    sleep(4 * day - Duration::from_secs(10)).await;
    assert_eq!(at.aws.bodies(&at.dlq), ["a1"]);
    sleep(Duration::from_secs(20)).await;
    assert!(at.aws.bodies(&at.dlq).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fifo_queue_delivers_no_copies() {
    let at = Setting::plain(1).await;
    at.aws.set_faults(Faults { duplicate: 1000, ..Faults::default() });
    at.send("a", "a1").await;
    let received = at.receive().await;
    assert_eq!(at.delete(&received[0]).await, None);
    assert!(at.aws.bodies(&at.url).is_empty());
}

// ------------------------------------------------------------------------------------ the library's consumer

async fn fails_three_times(way: Way) {
    for seed in SEEDS {
        let at = Setting::plain(seed).await;
        at.send_to_groups(3).await;
        let log = RefCell::new(Vec::new());
        let failures = RefCell::new(0);
        at.play(&at.consumer(), way, |message| {
            if message.body == "a1" && *failures.borrow() < 3 {
                *failures.borrow_mut() += 1;
                return Err(transient());
            }
            log.borrow_mut().push((message.body.clone(), *failures.borrow()));
            Ok(Handled::Done)
        })
        .await;
        let log = log.into_inner();
        for (body, failures) in &log {
            assert!(!body.starts_with('a') || *failures == 3, "seed {seed}: {body} overtook a1");
        }
        let others = log.iter().filter(|(body, failures)| !body.starts_with('a') && *failures < 3);
        assert!(others.count() > 0, "seed {seed}: the other groups waited for a1: {log:?}");
        assert!(at.aws.bodies(&at.dlq).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_holds_up_its_group_and_no_other() {
    fails_three_times(Way::OneByOne).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_of_a_batch_holds_up_its_group_and_no_other() {
    fails_three_times(Way::ByBatch).await;
}

/// A third of the messages fail, a tenth of the invocations die: whatever is delivered again, no message is handled for
/// the first time before those that were sent before it to its group.
async fn keeps_order(way: Way) {
    let mut repeated = 0;
    for seed in SEEDS {
        let at = Setting::plain(seed).await;
        at.send_to_groups(8).await;
        let handled = RefCell::new(BTreeMap::<String, Vec<u32>>::new());
        at.play(&at.consumer(), way, |message| {
            if at.aws.draw(0..3) == 0 {
                return Err(transient());
            }
            let group = message.group_id.clone().expect("a group");
            let place = message.body[1..].parse().expect("a place");
            handled.borrow_mut().entry(group).or_default().push(place);
            Ok(Handled::Done)
        })
        .await;
        for (group, places) in handled.into_inner() {
            let mut done = 0;
            for place in &places {
                assert!(*place <= done + 1, "seed {seed}, {group}: {places:?}");
                repeated += u32::from(*place <= done);
                done = done.max(*place);
            }
            assert_eq!(done, 8, "seed {seed}, {group}: {places:?}");
        }
    }
    assert!(repeated > 0, "nothing was delivered again");
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_whatever_is_delivered_again() {
    keeps_order(Way::OneByOne).await;
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_in_batches_whatever_is_delivered_again() {
    keeps_order(Way::ByBatch).await;
}

#[tokio::test(start_paused = true)]
async fn poison_goes_to_the_fifo_dlq_and_its_group_goes_on() {
    let at = Setting::plain(1).await;
    at.send_to_groups(2).await;
    let handled = RefCell::new(BTreeSet::new());
    at.play(&at.consumer(), Way::OneByOne, |message| match message.body.as_str() {
        "a1" => Err(Failure::poison("schema", "no JSON")),
        _ => {
            handled.borrow_mut().insert(message.body.clone());
            Ok(Handled::Done)
        }
    })
    .await;
    let dead = at.aws.message_attributes(&at.dlq);
    assert_eq!(at.aws.bodies(&at.dlq), ["a1"]);
    assert_eq!(dead[0]["failure_reason"], "schema");
    assert_eq!(handled.into_inner().len(), 5);
}

/// What waits behind a message that keeps failing is received with it each time, so that its first receive is as long ago;
/// it was never tried, though.
#[tokio::test(start_paused = true)]
async fn a_message_that_waited_behind_another_has_retries_of_its_own() {
    for seed in SEEDS {
        let at = Setting::plain(seed).await;
        for body in ["a1", "a2"] {
            at.send("a", body).await;
        }
        let has_failed = RefCell::new(false);
        let consumer = at.consumer().give_up_after(Duration::from_secs(300));
        at.play(&consumer, Way::OneByOne, |message| {
            if message.body == "a2" && has_failed.replace(true) {
                return Ok(Handled::Done);
            }
            Err(transient())
        })
        .await;
        // An invocation that dies after the dead letter was sent sends it once more.
        let dead = at.aws.bodies(&at.dlq);
        let is_a1 = !dead.is_empty() && dead.iter().all(|body| body == "a1");
        assert!(is_a1, "seed {seed}: a2 fails once only, and dead are {dead:?}");
    }
}

/// SQS counts the twelve hours from the receive, and the pause is set some time after it.
#[tokio::test(start_paused = true)]
async fn the_longest_pause_of_the_library_is_one_that_sqs_takes() {
    let at = Setting::plain(1).await;
    at.send("a", "a1").await;
    let (batch, deadline_ms) = at.batch();
    let a_day = Duration::from_secs(24 * 60 * 60);
    let handle = async |_| {
        let error = std::io::Error::other("the provider is down for a day");
        Err(Failure::retry_in(a_day, error))
    };
    let answer = at.consumer().run(batch, deadline_ms, handle).await;
    assert_eq!(answer.batch_item_failures.len(), 1);
    sleep(2 * VISIBILITY_TIMEOUT).await;
    assert!(at.receive().await.is_empty(), "it is back after the queue's own timeout");
}
