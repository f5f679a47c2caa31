//! What SQS and SNS do by AWS's pages, one rule a test, in virtual time and through the SDK's clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_sdk_sns::types::{MessageAttributeValue as PublishedAttribute, PublishBatchRequestEntry};
use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use serde_json::{Value, json};
use simulated_aws::{Faults, QueueSettings, SimulatedAws, SubscriptionSettings, loader};
use tokio::time::{Instant, sleep};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// As many as it takes for each outcome of a coin to be seen.
const SEEDS: std::ops::Range<u64> = 0..30;

struct Setting {
    aws: SimulatedAws,
    sqs: Client,
    sns: aws_sdk_sns::Client,
}

impl Setting {
    async fn new(seed: u64, faults: Faults) -> Self {
        let aws = SimulatedAws::new(seed, faults);
        let config = aws.environment().config(&loader().load().await);
        let sns = aws_sdk_sns::Client::new(&config);
        Self { aws, sqs: Client::new(&config), sns }
    }

    async fn without_faults() -> Self {
        Self::new(1, Faults::default()).await
    }

    fn queue(&self) -> String {
        self.aws.create_queue("queue", QueueSettings::default())
    }

    async fn send(&self, url: &str, body: &str) {
        self.sqs.send_message().queue_url(url).message_body(body).send().await.expect("sent");
    }

    /// Waits for messages for a second.
    async fn receive(&self, url: &str) -> Vec<Message> {
        let call = self.sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let call = call
            .wait_time_seconds(1)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        call.send().await.expect("received").messages.unwrap_or_default()
    }

    async fn receive_one(&self, url: &str) -> Message {
        self.receive(url).await.pop().expect("a message")
    }

    async fn hide(&self, url: &str, handle: &str, seconds: i32) -> Option<String> {
        let call = self.sqs.change_message_visibility().queue_url(url).receipt_handle(handle);
        code(call.visibility_timeout(seconds).send().await)
    }

    async fn delete(&self, url: &str, handle: &str) -> Option<String> {
        code(self.sqs.delete_message().queue_url(url).receipt_handle(handle).send().await)
    }

    async fn attribute(&self, url: &str, name: QueueAttributeName) -> String {
        let call = self.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone());
        let attributes = call.send().await.expect("attributes").attributes.unwrap_or_default();
        attributes[&name].clone()
    }

    async fn publish(&self, topic: &str, message: &str, attributes: &[(&str, &str)]) {
        let mut call = self.sns.publish().topic_arn(topic).message(message);
        for (name, value) in attributes {
            call = call.message_attributes(*name, published_attribute(value));
        }
        call.send().await.expect("published");
    }
}

fn code<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> Option<String> {
    result.err().map(|error| error.code().unwrap_or("no code").to_owned())
}

fn handle(message: &Message) -> &str {
    message.receipt_handle().expect("a receipt handle")
}

fn system(message: &Message, name: MessageSystemAttributeName) -> Option<&str> {
    message.attributes.as_ref()?.get(&name).map(String::as_str)
}

fn count(message: &Message) -> u32 {
    let count = system(message, MessageSystemAttributeName::ApproximateReceiveCount);
    count.expect("a count").parse().expect("a number")
}

fn published_attribute(value: &str) -> PublishedAttribute {
    let attribute = PublishedAttribute::builder().data_type("String").string_value(value);
    attribute.build().expect("an attribute")
}

fn attribute(value: &str) -> MessageAttributeValue {
    let attribute = MessageAttributeValue::builder().data_type("String").string_value(value);
    attribute.build().expect("an attribute")
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    let entry = SendMessageBatchRequestEntry::builder().id(id).message_body(body);
    entry.build().expect("an entry")
}

fn published_entry(id: &str, message: &str) -> PublishBatchRequestEntry {
    PublishBatchRequestEntry::builder().id(id).message(message).build().expect("an entry")
}

fn duplicates() -> Faults {
    Faults { duplicate: 1000, ..Faults::default() }
}

// ------------------------------------------------------------------------------------------------------ SQS

#[tokio::test(start_paused = true)]
async fn a_message_is_hidden_for_its_visibility_timeout_and_comes_back_with_a_higher_count() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    let first = at.receive_one(&url).await;
    assert!(at.receive(&url).await.is_empty(), "hidden");
    sleep(Duration::from_secs(30)).await;
    let second = at.receive_one(&url).await;
    assert_eq!((count(&first), count(&second)), (1, 2));
    assert_ne!(handle(&first), handle(&second));
    let name = MessageSystemAttributeName::ApproximateFirstReceiveTimestamp;
    assert_eq!(system(&first, name.clone()), system(&second, name));
}

#[tokio::test(start_paused = true)]
async fn a_receive_counts_whether_or_not_a_function_has_seen_it() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    // The mapping polls, and Lambda throttles the function: nobody answers for the batch.
    assert_eq!(at.aws.receive(&url, 10).len(), 1);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(count(&at.receive_one(&url).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_received_too_often_goes_to_the_dlq_and_says_from_where() {
    let at = Setting::without_faults().await;
    let dlq = at.aws.create_queue("dlq", QueueSettings::default());
    let redrive = Some((dlq.clone(), 2));
    let url = at.aws.create_queue("queue", QueueSettings { redrive, ..QueueSettings::default() });
    at.send(&url, "a").await;
    for _ in 0..2 {
        at.receive_one(&url).await;
        sleep(Duration::from_secs(31)).await;
    }
    assert_eq!(at.aws.bodies(&url), ["a"], "it goes at the receive that would be one too many");
    assert!(at.receive(&url).await.is_empty());
    let dead = at.receive_one(&dlq).await;
    let source = system(&dead, MessageSystemAttributeName::DeadLetterQueueSourceArn);
    assert_eq!(source, Some("arn:aws:sqs:simulated:0:queue"));
    assert_eq!(count(&dead), 3, "counted across all queues");
}

#[tokio::test(start_paused = true)]
async fn a_message_is_gone_after_the_retention_period_also_while_it_is_hidden() {
    let at = Setting::without_faults().await;
    let retention = Duration::from_secs(60);
    let url = at.aws.create_queue("queue", QueueSettings { retention, ..QueueSettings::default() });
    at.send(&url, "a").await;
    sleep(Duration::from_secs(50)).await;
    let received = at.receive_one(&url).await;
    assert_eq!(at.hide(&url, handle(&received), 3600).await, None);
    sleep(Duration::from_secs(10)).await;
    assert!(at.aws.bodies(&url).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_standard_queue_is_as_old_as_its_message() {
    let at = Setting::without_faults().await;
    let retention = 4 * DAY;
    let dlq = at.aws.create_queue("dlq", QueueSettings { retention, ..QueueSettings::default() });
    let redrive = Some((dlq.clone(), 1));
    let settings = QueueSettings { retention, redrive, ..QueueSettings::default() };
    let url = at.aws.create_queue("queue", settings);
    at.send(&url, "a").await;
    at.receive_one(&url).await;
    sleep(DAY).await;
    assert!(at.receive(&url).await.is_empty());
    sleep(3 * DAY - Duration::from_secs(10)).await;
    assert_eq!(at.aws.bodies(&dlq), ["a"]);
    sleep(Duration::from_secs(10)).await;
    assert!(at.aws.bodies(&dlq).is_empty(), "four days after it was sent, three after it died");
}

#[tokio::test(start_paused = true)]
async fn a_character_that_xml_does_not_know_is_refused_in_body_and_attributes() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    for refused in ["\u{0}", "a\u{b}", "\u{fffe}", "\u{ffff}"] {
        let call = at.sqs.send_message().queue_url(&url).message_body(refused);
        assert_eq!(
            code(call.send().await).as_deref(),
            Some("InvalidMessageContents"),
            "{refused:?}"
        );
        let call = at.sqs.send_message().queue_url(&url).message_body("a");
        let call = call.message_attributes("name", attribute(refused));
        assert!(call.send().await.is_err(), "{refused:?} in an attribute");
    }
    at.send(&url, "\t\r\n ж\u{1f600}\u{fffd}").await;
}

#[tokio::test(start_paused = true)]
async fn ten_attributes_are_taken_and_eleven_are_refused() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    for (number, refusal) in [(10, None), (11, Some("InvalidParameterValue"))] {
        let mut call = at.sqs.send_message().queue_url(&url).message_body("a");
        for place in 0..number {
            call = call.message_attributes(format!("name{place}"), attribute("value"));
        }
        assert_eq!(code(call.send().await).as_deref(), refusal, "{number}");
    }
    assert_eq!(at.receive_one(&url).await.message_attributes.expect("attributes").len(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_attribute_without_a_value_or_with_a_reserved_name_is_refused() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    for (name, value) in [("name", ""), ("AWS.name", "a"), (".name", "a"), ("na me", "a")] {
        let call = at.sqs.send_message().queue_url(&url).message_body("a");
        let call = call.message_attributes(name, attribute(value));
        assert_eq!(code(call.send().await).as_deref(), Some("InvalidParameterValue"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_may_have_one_mebibyte_attributes_included() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, &"a".repeat(1024 * 1024)).await;
    let call = at.sqs.send_message().queue_url(&url).message_body("a".repeat(1024 * 1024));
    let call = call.message_attributes("name", attribute("value"));
    assert_eq!(code(call.send().await).as_deref(), Some("InvalidParameterValue"));
    let call = at.sqs.send_message().queue_url(&url).message_body("");
    assert_eq!(code(call.send().await).as_deref(), Some("MissingParameter"));
}

#[tokio::test(start_paused = true)]
async fn nothing_hides_a_message_for_more_than_twelve_hours_from_its_receive() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    let received = at.receive_one(&url).await;
    let refused = Some("InvalidParameterValue".to_owned());
    assert_eq!(at.hide(&url, handle(&received), 43_201).await, refused);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(at.hide(&url, handle(&received), 43_195).await, refused);
    assert_eq!(at.hide(&url, handle(&received), 43_180).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_visible_or_gone_cannot_be_hidden() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    let received = at.receive_one(&url).await;
    assert_eq!(at.hide(&url, handle(&received), 0).await, None);
    let not_in_flight = "AWS.SimpleQueueService.MessageNotInflight".to_owned();
    assert_eq!(at.hide(&url, handle(&received), 30).await, Some(not_in_flight));
    assert_eq!(at.delete(&url, handle(&received)).await, None);
    let gone = at.hide(&url, handle(&received), 30).await;
    assert_eq!(gone.as_deref(), Some("InvalidParameterValue"));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_comes_after_its_delay() {
    let at = Setting::without_faults().await;
    let delay = Duration::from_secs(10);
    let url = at.aws.create_queue("queue", QueueSettings { delay, ..QueueSettings::default() });
    at.send(&url, "by the queue").await;
    let call = at.sqs.send_message().queue_url(&url).message_body("by itself");
    call.clone().delay_seconds(20).send().await.expect("sent");
    assert_eq!(
        code(call.delay_seconds(901).send().await).as_deref(),
        Some("InvalidParameterValue")
    );
    assert!(at.receive(&url).await.is_empty());
    sleep(Duration::from_secs(9)).await;
    assert_eq!(at.receive_one(&url).await.body(), Some("by the queue"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(at.receive_one(&url).await.body(), Some("by itself"));
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_until_a_message_comes_or_its_time_is_up() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    let wait = async |seconds| {
        let call = at.sqs.receive_message().queue_url(&url).wait_time_seconds(seconds);
        call.send().await.map(|answer| answer.messages.unwrap_or_default().len())
    };
    let begun = Instant::now();
    let (received, ()) = tokio::join!(wait(20), async {
        sleep(Duration::from_secs(5)).await;
        at.send(&url, "a").await;
    });
    assert_eq!(received.expect("received"), 1);
    assert_eq!(begun.elapsed().as_secs(), 5);
    let begun = Instant::now();
    assert_eq!(wait(20).await.expect("received"), 0);
    assert_eq!(begun.elapsed().as_secs(), 20);
    assert_eq!(code(wait(21).await).as_deref(), Some("InvalidParameterValue"));
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_does_not_wait_may_come_back_empty() {
    let mut numbers = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::new(seed, Faults::default()).await;
        let url = at.queue();
        at.send(&url, "a").await;
        let answer = at.sqs.receive_message().queue_url(&url).send().await.expect("received");
        numbers.insert(answer.messages.unwrap_or_default().len());
    }
    assert_eq!(numbers, BTreeSet::from([0, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_receive_gives_any_messages_in_any_order_and_ten_at_most() {
    let mut orders = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::new(seed, Faults::default()).await;
        let url = at.queue();
        for body in 0..12 {
            at.send(&url, &body.to_string()).await;
        }
        let bodies: Vec<String> =
            at.receive(&url).await.into_iter().filter_map(|message| message.body).collect();
        assert!((1..=10).contains(&bodies.len()));
        numbers.insert(bodies.len());
        orders.insert(bodies);
    }
    assert!(numbers.len() > 3 && orders.len() > 25, "{numbers:?} {orders:?}");
    let at = Setting::without_faults().await;
    for max in [0, 11] {
        let call = at.sqs.receive_message().queue_url(at.queue()).max_number_of_messages(max);
        assert_eq!(code(call.send().await).as_deref(), Some("InvalidParameterValue"), "{max}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_has_the_attributes_that_were_asked_for() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    let call = at.sqs.send_message().queue_url(&url).message_body("a");
    let call = call.message_attributes("one", attribute("1"));
    call.message_attributes("two", attribute("2")).send().await.expect("sent");
    for (asked, got) in [("All", 2), (".*", 2), ("one", 1), ("o.*", 1), ("three", 0)] {
        let call = at.sqs.receive_message().queue_url(&url).wait_time_seconds(1);
        let call = call.visibility_timeout(0).message_attribute_names(asked);
        let messages = call.send().await.expect("received").messages.unwrap_or_default();
        let attributes = messages[0].message_attributes.clone().unwrap_or_default();
        assert_eq!(attributes.len(), got, "{asked}");
        assert!(messages[0].attributes.is_none(), "no system attributes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_receipt_handle_is_accepted_and_may_delete_nothing() {
    let mut left = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::new(seed, Faults::default()).await;
        let url = at.queue();
        at.send(&url, "a").await;
        let first = at.receive_one(&url).await;
        sleep(Duration::from_secs(30)).await;
        at.receive_one(&url).await;
        assert_eq!(at.delete(&url, handle(&first)).await, None);
        left.insert(at.aws.bodies(&url).len());
    }
    assert_eq!(left, BTreeSet::from([0, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_handle_of_another_queue_is_refused() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    let other = at.aws.create_queue("other", QueueSettings::default());
    at.send(&url, "a").await;
    let received = at.receive_one(&url).await;
    for handle in [handle(&received), "nonsense"] {
        let refused = at.delete(&other, handle).await;
        assert_eq!(refused.as_deref(), Some("ReceiptHandleIsInvalid"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_message_may_come_once_more_and_then_is_gone() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    at.aws.set_faults(duplicates());
    let first = at.receive_one(&url).await;
    assert_eq!(at.delete(&url, handle(&first)).await, None);
    sleep(Duration::from_secs(30)).await;
    let second = at.receive_one(&url).await;
    assert_eq!((second.message_id, count(&first)), (first.message_id.clone(), 1));
    assert_eq!(at.delete(&url, second.receipt_handle.as_deref().expect("a handle")).await, None);
    assert!(at.aws.bodies(&url).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_may_be_delivered_twice_but_not_twice_in_one_receive() {
    let mut ids = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::new(seed, duplicates()).await;
        let url = at.queue();
        at.send(&url, "a").await;
        let mut received = BTreeMap::<String, u32>::new();
        for _ in 0..2 {
            let batch = at.receive(&url).await;
            let distinct: BTreeSet<_> = batch.iter().map(|message| &message.message_id).collect();
            assert_eq!(distinct.len(), batch.len());
            for message in batch {
                *received.entry(message.message_id.expect("an id")).or_default() += 1;
            }
        }
        assert_eq!(received.values().sum::<u32>(), 2);
        ids.insert(received.len());
    }
    assert_eq!(ids, BTreeSet::from([1, 2]), "the copies share their id, or do not");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_refused_as_a_whole_for_its_entries_number_ids_or_size() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    let many = |number: usize| (0..number).map(|id| entry(&id.to_string(), "a")).collect();
    let half = "a".repeat(600 * 1024);
    let batches: [(&str, Vec<_>); 5] = [
        ("EmptyBatchRequest", Vec::new()),
        ("TooManyEntriesInBatchRequest", many(11)),
        ("BatchEntryIdsNotDistinct", vec![entry("1", "a"), entry("1", "b")]),
        ("InvalidBatchEntryId", vec![entry("a b", "a")]),
        ("BatchRequestTooLong", vec![entry("1", &half), entry("2", &half)]),
    ];
    for (refusal, entries) in batches {
        let call = at.sqs.send_message_batch().queue_url(&url).set_entries(Some(entries));
        let refused = code(call.send().await).expect("refused");
        assert_eq!(refused, format!("AWS.SimpleQueueService.{refusal}"));
    }
    assert!(at.aws.bodies(&url).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_refused_keeps_no_other_from_being_sent() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    let entries = vec![entry("good", "a"), entry("bad", "\u{0}")];
    let call = at.sqs.send_message_batch().queue_url(&url).set_entries(Some(entries));
    let answer = call.send().await.expect("an answer");
    assert_eq!(answer.successful()[0].id(), "good");
    let failed = &answer.failed()[0];
    assert_eq!(
        (failed.id(), failed.code(), failed.sender_fault()),
        ("bad", "InvalidMessageContents", true)
    );
    assert_eq!(at.aws.bodies(&url), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn entries_of_any_batch_fail_by_themselves() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    let received = at.receive_one(&url).await;
    at.aws.set_faults(Faults { partial: 1000, ..Faults::default() });
    let send = at.sqs.send_message_batch().queue_url(&url).entries(entry("1", "b"));
    let sent = send.send().await.expect("an answer");
    assert_eq!(
        (sent.failed()[0].code(), sent.failed()[0].sender_fault()),
        ("InternalError", false)
    );
    let entry = DeleteMessageBatchRequestEntry::builder().id("1").receipt_handle(handle(&received));
    let delete = at.sqs.delete_message_batch().queue_url(&url).entries(entry.build().expect("one"));
    assert_eq!(delete.send().await.expect("an answer").failed().len(), 1);
    let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id("1");
    let entry = entry.receipt_handle(handle(&received)).visibility_timeout(0).build();
    let change = at.sqs.change_message_visibility_batch().queue_url(&url);
    let change = change.entries(entry.expect("one")).send().await.expect("an answer");
    assert_eq!(change.failed().len(), 1);
    assert_eq!(at.aws.bodies(&url), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn counts_may_be_late_for_a_minute_and_are_right_after_it() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let at = Setting::new(seed, Faults::default()).await;
        let url = at.queue();
        sleep(Duration::from_secs(120)).await;
        at.send(&url, "a").await;
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        seen.insert(at.attribute(&url, name.clone()).await);
        sleep(Duration::from_secs(61)).await;
        assert_eq!(at.attribute(&url, name).await, "1");
    }
    assert_eq!(seen, BTreeSet::from(["0".to_owned(), "1".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_hidden_message_is_counted_as_such_and_as_visible_when_its_time_is_up() {
    let at = Setting::without_faults().await;
    let url = at.queue();
    at.send(&url, "a").await;
    let received = at.receive_one(&url).await;
    assert_eq!(at.hide(&url, handle(&received), 100).await, None);
    sleep(Duration::from_secs(61)).await;
    let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    assert_eq!(at.attribute(&url, name.clone()).await, "1");
    sleep(Duration::from_secs(40)).await;
    assert_eq!(at.attribute(&url, name).await, "0");
}

#[tokio::test(start_paused = true)]
async fn a_queue_says_how_it_is_set_and_refuses_an_attribute_that_it_does_not_know() {
    let at = Setting::without_faults().await;
    let dlq = at.aws.create_queue("dlq", QueueSettings::default());
    let redrive = Some((dlq, 5));
    let url = at.aws.create_queue("queue", QueueSettings { redrive, ..QueueSettings::default() });
    let policy = at.attribute(&url, QueueAttributeName::RedrivePolicy).await;
    let policy: Value = serde_json::from_str(&policy).expect("a policy");
    let expected = json!({
        "deadLetterTargetArn": "arn:aws:sqs:simulated:0:dlq", "maxReceiveCount": 5,
    });
    assert_eq!(policy, expected);
    assert_eq!(at.attribute(&url, QueueAttributeName::VisibilityTimeout).await, "30");
    let call = at.sqs.get_queue_attributes().queue_url(&url).attribute_names("Colour".into());
    assert_eq!(code(call.send().await).as_deref(), Some("InvalidAttributeName"));
}

#[tokio::test(start_paused = true)]
async fn a_move_task_makes_new_messages_of_dead_letters_after_a_while() {
    let at = Setting::without_faults().await;
    let dlq = at.aws.create_queue("dlq", QueueSettings::default());
    let redrive = Some((dlq.clone(), 1));
    let url = at.aws.create_queue("queue", QueueSettings { redrive, ..QueueSettings::default() });
    at.send(&url, "a").await;
    let dead = at.receive_one(&url).await;
    sleep(Duration::from_secs(31)).await;
    assert!(at.receive(&url).await.is_empty());
    let source = "arn:aws:sqs:simulated:0:dlq";
    let start = at.sqs.start_message_move_task().source_arn(source);
    start.clone().send().await.expect("started");
    let again = code(start.send().await);
    assert_eq!(again.as_deref(), Some("AWS.SimpleQueueService.UnsupportedOperation"));
    let status = async || {
        let call = at.sqs.list_message_move_tasks().source_arn(source);
        let task = call.send().await.expect("tasks").results()[0].clone();
        (task.status.expect("a status"), task.approximate_number_of_messages_moved)
    };
    assert_eq!(status().await, ("RUNNING".to_owned(), 0));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(status().await, ("COMPLETED".to_owned(), 1));
    let moved = at.receive_one(&url).await;
    assert_eq!((moved.body(), count(&moved)), (Some("a"), 1));
    assert_ne!(moved.message_id, dead.message_id);
}

#[tokio::test(start_paused = true)]
async fn a_move_task_needs_a_dlq_that_exists() {
    let at = Setting::without_faults().await;
    at.queue();
    let start = async |arn: &str| {
        code(at.sqs.start_message_move_task().source_arn(arn).send().await).expect("refused")
    };
    assert_eq!(start("arn:aws:sqs:simulated:0:queue").await, "InvalidParameterValue");
    assert_eq!(start("arn:aws:sqs:simulated:0:none").await, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_not_there_and_a_call_that_is_not_simulated_are_refused() {
    let at = Setting::without_faults().await;
    let call = at.sqs.send_message().queue_url("http://simulated.invalid/0/none").message_body("a");
    let refused = code(call.send().await);
    assert_eq!(refused.as_deref(), Some("AWS.SimpleQueueService.NonExistentQueue"));
    let purge = at.sqs.purge_queue().queue_url(at.queue()).send().await;
    assert_eq!(code(purge).as_deref(), Some("NotImplemented"));
}

// ------------------------------------------------------------------------------------------------------ SNS

/// A topic to which a queue is subscribed.
fn subscribed(at: &Setting, settings: SubscriptionSettings) -> (String, String) {
    let (topic, url) = (at.aws.create_topic("topic"), at.queue());
    at.aws.subscribe(&topic, &url, settings).expect("a subscription");
    (topic, url)
}

fn raw() -> SubscriptionSettings {
    SubscriptionSettings { is_raw: true, ..SubscriptionSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_queue_gets_what_its_filter_takes_within_seconds() {
    let at = Setting::without_faults().await;
    let filter_policy = Some(json!({
        "type": ["created", { "prefix": "can" }], "tenant": [{ "exists": true }],
    }));
    let (topic, url) = subscribed(&at, SubscriptionSettings { filter_policy, ..raw() });
    at.publish(&topic, "1", &[("type", "created"), ("tenant", "a")]).await;
    at.publish(&topic, "2", &[("type", "cancelled"), ("tenant", "a")]).await;
    at.publish(&topic, "3", &[("type", "shipped"), ("tenant", "a")]).await;
    at.publish(&topic, "4", &[("type", "created")]).await;
    at.publish(&topic, "5", &[]).await;
    let mut bodies = at.aws.bodies(&url);
    bodies.sort();
    assert_eq!(bodies, ["1", "2"]);
    sleep(Duration::from_secs(3)).await;
    let received = at.receive_one(&url).await;
    assert!(received.message_attributes.expect("attributes").contains_key("tenant"));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_is_not_simulated_is_no_subscription() {
    let at = Setting::without_faults().await;
    let topic = at.aws.create_topic("topic");
    for policy in [
        json!({ "price": [{ "numeric": ["=", 1] }] }),
        json!({ "a": "b" }),
        json!({ "a": [1] }),
        json!([]),
    ] {
        let filter_policy = Some(policy.clone());
        let settings = SubscriptionSettings { filter_policy, ..raw() };
        assert!(at.aws.subscribe(&topic, &at.queue(), settings).is_err(), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_raw_delivery_a_message_comes_in_an_envelope_with_its_attributes() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, SubscriptionSettings::default());
    at.publish(&topic, "a", &[("type", "created")]).await;
    let body = at.aws.bodies(&url).pop().expect("a message");
    let envelope: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(envelope["Type"], "Notification");
    assert_eq!(envelope["Message"], "a");
    assert_eq!(envelope["TopicArn"], *topic);
    assert_eq!(envelope["MessageAttributes"]["type"]["Value"], "created");
    assert!(envelope["Timestamp"].as_str().expect("a time").starts_with("2026-01-01T00:00:"));
    assert!(at.aws.message_attributes(&url)[0].is_empty());
}

#[tokio::test(start_paused = true)]
async fn raw_delivery_discards_a_message_with_more_than_ten_attributes() {
    let at = Setting::without_faults().await;
    let dlq_url = at.aws.create_queue("dlq", QueueSettings::default());
    let settings = SubscriptionSettings { dlq_url: Some(dlq_url.clone()), ..raw() };
    let (topic, url) = subscribed(&at, settings);
    let enveloped = at.aws.create_queue("enveloped", QueueSettings::default());
    at.aws.subscribe(&topic, &enveloped, SubscriptionSettings::default()).expect("subscribed");
    let names: Vec<String> = (0..11).map(|place| format!("name{place}")).collect();
    let attributes: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "a")).collect();
    at.publish(&topic, "eleven", &attributes).await;
    at.publish(&topic, "ten", &attributes[..10]).await;
    assert_eq!(at.aws.bodies(&url), ["ten"]);
    assert_eq!(at.aws.bodies(&enveloped).len(), 2);
    assert!(at.aws.bodies(&dlq_url).is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_a_queue_fails_sns_keeps_trying_and_delivers_when_it_is_back() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, raw());
    at.aws.fail_deliveries(&url, true);
    at.publish(&topic, "a", &[]).await;
    sleep(22 * DAY).await;
    assert!(at.aws.bodies(&url).is_empty());
    at.aws.fail_deliveries(&url, false);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(at.receive_one(&url).await.body(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn after_23_days_sns_gives_up_and_the_subscriptions_dlq_has_the_message() {
    let at = Setting::without_faults().await;
    let dlq_url = at.aws.create_queue("dlq", QueueSettings::default());
    let (topic, url) =
        subscribed(&at, SubscriptionSettings { dlq_url: Some(dlq_url.clone()), ..raw() });
    at.aws.fail_deliveries(&url, true);
    at.publish(&topic, "a", &[("type", "created")]).await;
    sleep(23 * DAY).await;
    assert_eq!(at.aws.bodies(&dlq_url), ["a"]);
    assert_eq!(at.aws.message_attributes(&dlq_url)[0]["type"], "created");
}

#[tokio::test(start_paused = true)]
async fn what_a_queue_can_never_take_goes_to_the_subscriptions_dlq_at_once() {
    let at = Setting::without_faults().await;
    let dlq_url = at.aws.create_queue("dlq", QueueSettings::default());
    let (topic, url) =
        subscribed(&at, SubscriptionSettings { dlq_url: Some(dlq_url.clone()), ..raw() });
    let message_bytes_max = 1024;
    let settings = QueueSettings { message_bytes_max, ..QueueSettings::default() };
    at.aws.create_queue("queue", settings);
    at.publish(&topic, &"a".repeat(1025), &[]).await;
    at.aws.delete_queue(&url);
    at.publish(&topic, "b", &[]).await;
    assert_eq!(at.aws.bodies(&dlq_url).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_make_a_delivery_late_but_lose_nothing() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, raw());
    at.publish(&topic, "at once", &[]).await;
    for _ in 0..20 {
        // Only from the second on: the call itself is not to fail.
        let config = at.aws.environment().config(&loader().load().await);
        let sns = aws_sdk_sns::Client::new(&config);
        let publish = sns.publish().topic_arn(&topic).message("late").send();
        let faults = async {
            sleep(Duration::from_micros(1)).await;
            at.aws.set_faults(Faults { fail: 900, ..Faults::default() });
        };
        let (published, ()) = tokio::join!(publish, faults);
        published.expect("published");
        at.aws.set_faults(Faults::default());
    }
    assert_eq!(at.aws.bodies(&url).len(), 21);
    sleep(Duration::from_secs(4)).await;
    let mut within_seconds = 0;
    loop {
        match at.receive(&url).await.len() {
            0 => break,
            received => within_seconds += received,
        }
    }
    assert!((1..21).contains(&within_seconds), "{within_seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_published_message_may_arrive_twice() {
    let at = Setting::new(1, duplicates()).await;
    let (topic, url) = subscribed(&at, raw());
    at.publish(&topic, "a", &[]).await;
    assert_eq!(at.aws.bodies(&url), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_there_is_not_found_and_what_is_no_topic_is_invalid() {
    let at = Setting::without_faults().await;
    for (arn, refusal) in [
        ("arn:aws:sns:simulated:0:none", "NotFound"),
        ("topic", "InvalidParameter"),
        ("arn:aws:sqs:simulated:0:topic", "InvalidParameter"),
    ] {
        let refused = at.sns.publish().topic_arn(arn).message("a").send().await;
        let error = refused.expect_err("refused");
        assert_eq!(error.code(), Some(refusal), "{arn}");
        let batch = at.sns.publish_batch().topic_arn(arn);
        let batch = batch.publish_batch_request_entries(published_entry("1", "a"));
        assert_eq!(code(batch.send().await).as_deref(), Some(refusal), "{arn}");
    }
}

#[tokio::test(start_paused = true)]
async fn sns_takes_256_kib_attributes_included_and_no_empty_message() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, raw());
    at.publish(&topic, &"a".repeat(256 * 1024), &[]).await;
    let publish = at.sns.publish().topic_arn(&topic);
    let long = publish.clone().message("a".repeat(256 * 1024));
    let long = long.message_attributes("name", published_attribute("value"));
    assert_eq!(code(long.send().await).as_deref(), Some("InvalidParameter"));
    let empty = publish.clone().message("");
    assert_eq!(code(empty.send().await).as_deref(), Some("InvalidParameter"));
    let valueless = publish.message("a").message_attributes("name", published_attribute(""));
    assert_eq!(code(valueless.send().await).as_deref(), Some("ParameterValueInvalid"));
    assert_eq!(at.aws.bodies(&url).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_published_batch_is_refused_as_a_whole_for_its_entries_number_ids_or_size() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, raw());
    let half = "a".repeat(150 * 1024);
    let many = (0..11).map(|id| published_entry(&id.to_string(), "a")).collect();
    let batches: [(&str, Vec<_>); 5] = [
        ("EmptyBatchRequest", Vec::new()),
        ("TooManyEntriesInBatchRequest", many),
        ("BatchEntryIdsNotDistinct", vec![published_entry("1", "a"), published_entry("1", "b")]),
        ("InvalidBatchEntryId", vec![published_entry("a b", "a")]),
        ("BatchRequestTooLong", vec![published_entry("1", &half), published_entry("2", &half)]),
    ];
    for (refusal, entries) in batches {
        let call = at.sns.publish_batch().topic_arn(&topic);
        let call = call.set_publish_batch_request_entries(Some(entries));
        assert_eq!(code(call.send().await).as_deref(), Some(refusal));
    }
    assert!(at.aws.bodies(&url).is_empty());
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_published_batch_fail_by_themselves() {
    let at = Setting::without_faults().await;
    let (topic, url) = subscribed(&at, raw());
    let publish = async || {
        let call = at.sns.publish_batch().topic_arn(&topic);
        let call = call.publish_batch_request_entries(published_entry("good", "a"));
        let call = call.publish_batch_request_entries(published_entry("bad", ""));
        call.send().await.expect("an answer")
    };
    let answer = publish().await;
    assert_eq!(answer.successful()[0].id(), Some("good"));
    let failed = &answer.failed()[0];
    assert_eq!(
        (failed.id(), failed.code(), failed.sender_fault()),
        ("bad", "InvalidParameter", true)
    );
    at.aws.set_faults(Faults { partial: 1000, ..Faults::default() });
    let answer = publish().await;
    let codes: Vec<_> =
        answer.failed().iter().map(|one| (one.code(), one.sender_fault())).collect();
    assert_eq!(codes, [("InternalError", false); 2]);
    assert_eq!(at.aws.bodies(&url), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_lists_its_subscriptions_with_their_filters() {
    let at = Setting::without_faults().await;
    let policy = json!({ "type": ["created"] });
    let settings = SubscriptionSettings { filter_policy: Some(policy.clone()), ..raw() };
    let (topic, _) = subscribed(&at, settings);
    let list = at.sns.list_subscriptions_by_topic().topic_arn(&topic).send().await;
    let subscription = list.expect("a list").subscriptions()[0].clone();
    assert_eq!(subscription.endpoint(), Some("arn:aws:sqs:simulated:0:queue"));
    let arn = subscription.subscription_arn().expect("an ARN");
    let call = at.sns.get_subscription_attributes().subscription_arn(arn).send().await;
    let attributes = call.expect("attributes").attributes.unwrap_or_default();
    assert_eq!(attributes["RawMessageDelivery"], "true");
    assert_eq!(serde_json::from_str::<Value>(&attributes["FilterPolicy"]).expect("JSON"), policy);
}
