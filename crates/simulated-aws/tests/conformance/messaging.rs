//! SQS, SNS and SES: the calls that the functions, the library and `orderflow` make, and the refusals that they know.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_ses::types::{Body, Content, Destination};
use aws_sdk_sns::types::{MessageAttributeValue as PublishedAttribute, PublishBatchRequestEntry};
use aws_sdk_sqs::{
    error::ProvideErrorMetadata,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry,
    },
};
use serde_json::{Value, json};
use simulated_aws::{Faults, MailSettings, QueueSettings, SimulatedAws, SubscriptionSettings};

/// What became of each call, by a name for it.
type Outcomes = BTreeMap<String, String>;

/// A named difference.
struct Difference {
    call: &'static str,
    /// On this emulator.
    emulator: &'static str,
    /// The emulator's outcome.
    outcome: &'static str,
    /// What AWS does, as the simulation has it.
    rule: &'static str,
    /// Who decides it.
    page: &'static str,
}

/// The outcomes in which the simulation follows AWS's page and the emulator does not.
const DIFFERENCES: &[Difference] = &[
    Difference {
        call: "an unknown attribute",
        emulator: "ministack",
        outcome: "{}",
        rule: "An attribute that does not exist is InvalidAttributeName.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html",
    },
    Difference {
        call: "delete again",
        emulator: "ministack",
        outcome: "refused: ReceiptHandleIsInvalid",
        rule: "A delete by an old receipt handle succeeds.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html",
    },
    Difference {
        call: "hide for twelve hours and a second",
        emulator: "ministack",
        outcome: "ok",
        rule: "Twelve hours is the maximum.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html",
    },
    Difference {
        call: "hide what is deleted",
        emulator: "ministack",
        outcome: "refused: ReceiptHandleIsInvalid",
        rule: "Refused by both; the page names no code for a handle that was valid.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html",
    },
    Difference {
        call: "hide what is visible",
        emulator: "ministack",
        outcome: "ok",
        rule: "A message that is not in flight is MessageNotInflight.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html",
    },
    Difference {
        call: "receive for 21 s",
        emulator: "ministack",
        outcome: "ok",
        rule: "Twenty seconds is the maximum.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html",
    },
    Difference {
        call: "send an empty attribute",
        emulator: "ministack",
        outcome: "ok",
        rule: "Name, type and value must not be empty.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_MessageAttributeValue.html",
    },
    Difference {
        call: "send eleven attributes",
        emulator: "ministack",
        outcome: "ok",
        rule: "Ten attributes is the maximum.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html",
    },
    Difference {
        call: "send with a deduplication id",
        emulator: "ministack",
        outcome: "ok",
        rule: "The parameter applies to FIFO queues only.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html",
    },
    Difference {
        call: "send with a delay of 901 s",
        emulator: "ministack",
        outcome: "ok",
        rule: "Fifteen minutes is the maximum.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html",
    },
    Difference {
        call: "start a move task",
        emulator: "ministack",
        outcome: "refused: InvalidAction",
        rule: "The call exists.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html",
    },
    Difference {
        call: "start a move task from no queue",
        emulator: "ministack",
        outcome: "refused: InvalidAction",
        rule: "The call exists.",
        page: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html",
    },
    Difference {
        call: "publish a batch that is too long",
        emulator: "ministack",
        outcome: r#"took {"1", "2"}, failed {}"#,
        rule: "256 KB is the maximum of a batch.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html",
    },
    Difference {
        call: "publish a batch with a bad entry",
        emulator: "ministack",
        outcome: r#"took {"bad", "good"}, failed {}"#,
        rule: "A message must not be empty; each entry has its own outcome.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html",
    },
    Difference {
        call: "publish an empty attribute",
        emulator: "ministack",
        outcome: "ok",
        rule: "Name, type and value must not be empty.",
        page: "https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html",
    },
    Difference {
        call: "publish an empty batch",
        emulator: "ministack",
        outcome: "refused: InvalidParameterException",
        rule: "A batch without entries is EmptyBatchRequest.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html",
    },
    Difference {
        call: "publish an entry with a bad id",
        emulator: "ministack",
        outcome: r#"took {"a b"}, failed {}"#,
        rule: "An id has letters, digits, hyphens and underscores.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_PublishBatchRequestEntry.html",
    },
    Difference {
        call: "publish nothing",
        emulator: "ministack",
        outcome: "ok",
        rule: "A message must not be empty.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_Publish.html",
    },
    Difference {
        call: "publish on nonsense",
        emulator: "ministack",
        outcome: "refused: NotFound",
        rule: "What is no ARN is InvalidParameter.",
        page: "https://docs.aws.amazon.com/sns/latest/api/API_Publish.html",
    },
    Difference {
        call: "receive raw",
        emulator: "ministack",
        outcome: r#"{"a with 1 attributes", "eleven with 11 attributes"}"#,
        rule: "Raw delivery discards a message with more than ten attributes.",
        page: "https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html",
    },
];

struct Stack {
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
    ses: aws_sdk_ses::Client,
    /// `None` on an emulator.
    simulation: Option<SimulatedAws>,
    outcomes: Outcomes,
}

fn outcome<T, E: ProvideErrorMetadata>(result: Result<T, E>, read: impl Fn(T) -> String) -> String {
    match result {
        Ok(answer) => read(answer),
        Err(error) => format!("refused: {}", error.code().unwrap_or("no code")),
    }
}

fn ok<T>(_: T) -> String {
    "ok".to_owned()
}

/// The failed entries of a batch, and the others.
fn entries<'a>(
    successful: impl Iterator<Item = &'a str>,
    failed: impl Iterator<Item = (&'a str, &'a str, bool)>,
) -> String {
    let successful: BTreeSet<_> = successful.collect();
    let failed: BTreeSet<_> = failed.collect();
    format!("took {successful:?}, failed {failed:?}")
}

fn attribute(value: &str) -> MessageAttributeValue {
    let attribute = MessageAttributeValue::builder().data_type("String").string_value(value);
    attribute.build().expect("an attribute")
}

fn published_attribute(value: &str) -> PublishedAttribute {
    let attribute = PublishedAttribute::builder().data_type("String").string_value(value);
    attribute.build().expect("an attribute")
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    let entry = SendMessageBatchRequestEntry::builder().id(id).message_body(body);
    entry.build().expect("an entry")
}

fn published_entry(id: &str, message: &str) -> PublishBatchRequestEntry {
    PublishBatchRequestEntry::builder().id(id).message(message).build().expect("an entry")
}

impl Stack {
    fn new(config: &SdkConfig, simulation: Option<SimulatedAws>) -> Self {
        // Retries hide what the first answer was.
        let retries = aws_config::retry::RetryConfig::disabled();
        let config = config.to_builder().retry_config(retries).build();
        Self {
            sqs: aws_sdk_sqs::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
            ses: aws_sdk_ses::Client::new(&config),
            simulation,
            outcomes: Outcomes::new(),
        }
    }

    fn note(&mut self, call: &str, outcome: impl Into<String>) {
        let before = self.outcomes.insert(call.to_owned(), outcome.into());
        assert!(before.is_none(), "two calls are named {call}");
    }

    /// A new queue; its URL and ARN.
    async fn queue(&self, name: &str, settings: QueueSettings) -> (String, String) {
        let name = match name.strip_suffix(".fifo") {
            Some(name) => format!("conformance-{name}.fifo"),
            None => format!("conformance-{name}"),
        };
        let url = match &self.simulation {
            Some(aws) => aws.create_queue(&name, settings),
            None => self.create_queue(&name, settings).await,
        };
        let call = self.sqs.get_queue_attributes().queue_url(&url);
        let answer = call.attribute_names(QueueAttributeName::QueueArn).send().await;
        let attributes = answer.expect("attributes").attributes.expect("attributes");
        (url, attributes[&QueueAttributeName::QueueArn].clone())
    }

    async fn create_queue(&self, name: &str, settings: QueueSettings) -> String {
        let mut attributes = HashMap::from([
            (
                QueueAttributeName::VisibilityTimeout,
                settings.visibility_timeout.as_secs().to_string(),
            ),
            (QueueAttributeName::MessageRetentionPeriod, settings.retention.as_secs().to_string()),
            (QueueAttributeName::DelaySeconds, settings.delay.as_secs().to_string()),
        ]);
        if let Some((dlq_url, receives_max)) = settings.redrive {
            let call = self.sqs.get_queue_attributes().queue_url(dlq_url);
            let answer = call.attribute_names(QueueAttributeName::QueueArn).send().await;
            let arns = answer.expect("attributes").attributes.expect("attributes");
            let arn = &arns[&QueueAttributeName::QueueArn];
            let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": receives_max });
            attributes.insert(QueueAttributeName::RedrivePolicy, policy.to_string());
        }
        if name.ends_with(".fifo") {
            attributes.insert(QueueAttributeName::FifoQueue, "true".into());
            let is_by_content = settings.is_deduplicated_by_content.to_string();
            attributes.insert(QueueAttributeName::ContentBasedDeduplication, is_by_content);
        }
        let call = self.sqs.create_queue().queue_name(name).set_attributes(Some(attributes));
        call.send().await.expect("a queue").queue_url.expect("a URL")
    }

    /// Lets a time pass in which messages become visible, and late counts right.
    async fn wait(&self, emulator: Duration, simulation: Duration) {
        let time = if self.simulation.is_some() { simulation } else { emulator };
        tokio::time::sleep(time).await;
    }

    /// Receives until there are so many messages, or a few times nothing.
    async fn receive(&self, url: &str, number: usize) -> Vec<Message> {
        let mut all = Vec::new();
        for _ in 0..6 {
            let call = self.sqs.receive_message().queue_url(url).wait_time_seconds(1);
            let call = call
                .max_number_of_messages(10)
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All);
            let answer = call.send().await.expect("an answer");
            all.extend(answer.messages.unwrap_or_default());
            if all.len() >= number {
                break;
            }
        }
        all
    }

    async fn bodies(&self, url: &str, number: usize) -> String {
        let messages = self.receive(url, number).await;
        let mut bodies: Vec<&str> = messages.iter().filter_map(Message::body).collect();
        bodies.sort_unstable();
        format!("{bodies:?}")
    }

    async fn send(&self, url: &str, body: &str) {
        self.sqs.send_message().queue_url(url).message_body(body).send().await.expect("sent");
    }
}

fn shown(message: &Message) -> String {
    let attributes = message.message_attributes.iter().flatten();
    let own: BTreeMap<&str, &str> = attributes
        .filter_map(|(name, value)| Some((name.as_str(), value.string_value()?)))
        .collect();
    let system: BTreeSet<&str> =
        message.attributes.iter().flatten().map(|(name, _)| name.as_str()).collect();
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    let count = message.attributes.iter().flatten().find(|(name, _)| **name == count);
    let body = message.body().unwrap_or_default();
    format!("{body} {own:?} {system:?} received {:?}", count.map(|(_, count)| count))
}

fn handle(message: &Message) -> String {
    message.receipt_handle().unwrap_or_default().to_owned()
}

/// What dead-letter sending, `orderflow` and the tests send.
async fn play_sends(at: &mut Stack) {
    let (url, _) = at.queue("sends", QueueSettings::default()).await;
    let call = || at.sqs.send_message().queue_url(&url);
    let ten = |call: aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder| {
        (0..10).fold(call, |call, n| call.message_attributes(format!("name{n}"), attribute("a")))
    };
    let large = "a".repeat(1024 * 1024);
    let calls = [
        ("send", call().message_body("a")),
        (
            "send with an attribute",
            call().message_body("b").message_attributes("name", attribute("value")),
        ),
        ("send an empty body", call().message_body("")),
        ("send a control character", call().message_body("a\u{1}")),
        ("send U+FFFF", call().message_body("a\u{ffff}")),
        ("send all planes", call().message_body("\t\r\n ж\u{1f600}\u{fffd}")),
        ("send ten attributes", ten(call().message_body("c"))),
        (
            "send eleven attributes",
            ten(call().message_body("c")).message_attributes("more", attribute("a")),
        ),
        (
            "send an empty attribute",
            call().message_body("c").message_attributes("name", attribute("")),
        ),
        ("send one mebibyte", call().message_body(large.clone())),
        ("send more than a mebibyte", call().message_body(format!("{large}a"))),
        ("send with a delay of 901 s", call().message_body("c").delay_seconds(901)),
        ("send with a group", call().message_body("c").message_group_id("group")),
        ("send with a deduplication id", call().message_body("c").message_deduplication_id("id")),
    ];
    for (name, call) in calls {
        let sent = outcome(call.send().await, ok);
        at.note(name, sent);
    }
    let call = at.sqs.send_message().queue_url(format!("{url}-none")).message_body("a");
    let sent = outcome(call.send().await, ok);
    at.note("send to no queue", sent);
}

async fn play_send_batches(at: &mut Stack) {
    let (url, _) = at.queue("batches", QueueSettings::default()).await;
    let half = "a".repeat(600 * 1024);
    let batches: [(&str, Vec<_>); 7] = [
        ("send a batch", vec![entry("1", "a"), entry("2", "b")]),
        ("send an empty batch", Vec::new()),
        ("send eleven entries", (0..11).map(|id| entry(&id.to_string(), "a")).collect()),
        ("send two entries of one id", vec![entry("1", "a"), entry("1", "b")]),
        ("send an entry with a bad id", vec![entry("a b", "a")]),
        ("send a batch that is too long", vec![entry("1", &half), entry("2", &half)]),
        ("send a batch with a bad entry", vec![entry("good", "c"), entry("bad", "\u{ffff}")]),
    ];
    for (name, batch) in batches {
        let call = at.sqs.send_message_batch().queue_url(&url).set_entries(Some(batch));
        let sent = outcome(call.send().await, |answer| {
            entries(
                answer.successful().iter().map(|one| one.id()),
                answer.failed().iter().map(|one| (one.id(), one.code(), one.sender_fault())),
            )
        });
        at.note(name, sent);
    }
    let bodies = at.bodies(&url, 3).await;
    at.note("receive what the batches brought", bodies);
}

/// What consumers and `orderflow` do with what they have received.
async fn play_receives(at: &mut Stack) {
    let (url, _) = at.queue("receives", QueueSettings::default()).await;
    let call = at.sqs.send_message().queue_url(&url).message_body("a");
    let call = call.message_attributes("b", attribute("2")).message_attributes("a", attribute("1"));
    call.send().await.expect("sent");
    let first = at.receive(&url, 1).await.remove(0);
    at.note("receive", shown(&first));
    for (name, max, wait) in [("receive eleven", 11, 1), ("receive for 21 s", 1, 21)] {
        let call = at.sqs.receive_message().queue_url(&url).max_number_of_messages(max);
        let received = outcome(call.wait_time_seconds(wait).send().await, ok);
        at.note(name, received);
    }
    let hide = async |handle: String, seconds| {
        let call = at.sqs.change_message_visibility().queue_url(&url).receipt_handle(handle);
        outcome(call.visibility_timeout(seconds).send().await, ok)
    };
    let hidden = [
        ("hide for twelve hours and a second", hide(handle(&first), 43_201).await),
        ("hide by nonsense", hide("nonsense".to_owned(), 1).await),
        ("hide for no time", hide(handle(&first), 0).await),
        ("hide what is visible", hide(handle(&first), 10).await),
    ];
    for (name, hidden) in hidden {
        at.note(name, hidden);
    }
    at.wait(Duration::from_secs(11), Duration::from_secs(11)).await;
    let again = at.receive(&url, 1).await;
    at.note("receive again", again.first().map(shown).unwrap_or_default());
    let last = again.first().map(handle).unwrap_or_default();
    let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id("1");
    let entry = entry.receipt_handle(&last).visibility_timeout(30).build().expect("an entry");
    let call = at.sqs.change_message_visibility_batch().queue_url(&url).entries(entry);
    let changed = outcome(call.send().await, |answer| {
        entries(
            answer.successful().iter().map(|one| one.id()),
            answer.failed().iter().map(|one| (one.id(), one.code(), one.sender_fault())),
        )
    });
    at.note("hide a batch", changed);
    for name in ["delete", "delete again"] {
        let call = at.sqs.delete_message().queue_url(&url).receipt_handle(&last);
        let deleted = outcome(call.send().await, ok);
        at.note(name, deleted);
    }
    let call = at.sqs.change_message_visibility().queue_url(&url).receipt_handle(&last);
    let hidden = outcome(call.visibility_timeout(10).send().await, ok);
    at.note("hide what is deleted", hidden);
    let call = at.sqs.delete_message().queue_url(&url).receipt_handle("nonsense");
    let deleted = outcome(call.send().await, ok);
    at.note("delete by nonsense", deleted);
    at.send(&url, "b").await;
    let received = at.receive(&url, 1).await.remove(0);
    let entry = |id: &str, handle: &str| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle);
        entry.build().expect("an entry")
    };
    let call = at.sqs.delete_message_batch().queue_url(&url);
    let call = call.entries(entry("good", &handle(&received))).entries(entry("bad", "nonsense"));
    let deleted = outcome(call.send().await, |answer| {
        entries(
            answer.successful().iter().map(|one| one.id()),
            answer.failed().iter().map(|one| (one.id(), one.code(), one.sender_fault())),
        )
    });
    at.note("delete a batch with a bad entry", deleted);
}

async fn play_attributes_and_redrive(at: &mut Stack) {
    let (dlq, dlq_arn) = at.queue("dlq", QueueSettings::default()).await;
    let settings = QueueSettings {
        visibility_timeout: Duration::from_secs(1),
        redrive: Some((dlq.clone(), 1)),
        ..QueueSettings::default()
    };
    let (url, _) = at.queue("redrive", settings).await;
    for body in ["a", "b"] {
        at.send(&url, body).await;
    }
    at.wait(Duration::ZERO, Duration::from_secs(61)).await;
    let counts = async |url: &str, names: &[QueueAttributeName]| {
        let call = at.sqs.get_queue_attributes().queue_url(url);
        let call = call.set_attribute_names(Some(names.to_vec()));
        outcome(call.send().await, |answer| {
            let attributes = answer.attributes.unwrap_or_default();
            let sorted: BTreeMap<_, _> =
                attributes.iter().map(|(name, value)| (name.as_str(), value)).collect();
            format!("{sorted:?}")
        })
    };
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        QueueAttributeName::VisibilityTimeout,
        QueueAttributeName::MessageRetentionPeriod,
    ];
    let settled = counts(&url, &names).await;
    let unknown = counts(&url, &["Colour".into()]).await;
    let call = at.sqs.get_queue_attributes().queue_url(&url);
    let answer = call.attribute_names(QueueAttributeName::RedrivePolicy).send().await;
    let policy = answer.expect("attributes").attributes.unwrap_or_default();
    let policy = policy.get(&QueueAttributeName::RedrivePolicy).cloned().unwrap_or_default();
    let policy: Value = serde_json::from_str(&policy).expect("a policy");
    at.note("counts and settings", settled);
    at.note("an unknown attribute", unknown);
    let receives_max = &policy["maxReceiveCount"];
    let is_dlq = policy["deadLetterTargetArn"] == *dlq_arn;
    at.note("the redrive policy", format!("{receives_max} to the DLQ: {is_dlq}"));
    let received = at.bodies(&url, 2).await;
    at.note("receive once", received);
    at.wait(Duration::from_secs(2), Duration::from_secs(2)).await;
    let again = at.bodies(&url, 1).await;
    at.note("receive once too often", again);
    let dead = at.receive(&dlq, 2).await;
    let dead: BTreeSet<String> = dead.iter().map(shown).collect();
    at.note("receive dead letters", format!("{dead:?}"));
    at.wait(Duration::from_secs(31), Duration::from_secs(31)).await;
    let start = at.sqs.start_message_move_task().source_arn(&dlq_arn).send().await;
    let started = outcome(start, ok);
    at.note("start a move task", started);
    let call = at.sqs.start_message_move_task().source_arn(format!("{dlq_arn}-none"));
    let started = outcome(call.send().await, ok);
    at.note("start a move task from no queue", started);
}

async fn play_fifo(at: &mut Stack) {
    let (url, _) = at.queue("groups.fifo", QueueSettings::default()).await;
    let call = || at.sqs.send_message().queue_url(&url).message_body("x");
    let calls = [
        ("send without a group", call().message_deduplication_id("x")),
        ("send without a deduplication id", call().message_group_id("x")),
        (
            "send to a FIFO queue with a delay",
            call().message_group_id("x").message_deduplication_id("x").delay_seconds(1),
        ),
    ];
    for (name, call) in calls {
        let sent = outcome(call.send().await, ok);
        at.note(name, sent);
    }
    let mut ids = Vec::new();
    for (group, body) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("a", "a1")] {
        let call = at.sqs.send_message().queue_url(&url).message_body(body);
        let call = call.message_group_id(group).message_deduplication_id(body);
        ids.push(call.send().await.expect("sent").message_id);
    }
    at.note("send a duplicate", format!("the id of the first: {}", ids[0] == ids[3]));
    let mut order = Vec::new();
    for _ in 0..6 {
        let batch = at.receive(&url, 1).await;
        for message in batch {
            let call = at.sqs.delete_message().queue_url(&url).receipt_handle(handle(&message));
            call.send().await.expect("deleted");
            order.push(message.body.unwrap_or_default());
        }
        if order.len() == 3 {
            break;
        }
    }
    let of_a: Vec<&String> = order.iter().filter(|body| body.starts_with('a')).collect();
    at.note("receive in order", format!("{of_a:?} of {}", order.len()));
    for body in ["c1", "c2"] {
        let call = at.sqs.send_message().queue_url(&url).message_body(body);
        let call = call.message_group_id("c").message_deduplication_id(body);
        call.send().await.expect("sent");
    }
    let call = at.sqs.receive_message().queue_url(&url).wait_time_seconds(1);
    let first = call.send().await.expect("received").messages.unwrap_or_default();
    at.note("receive one of a group", first[0].body().unwrap_or_default());
    let blocked = at.bodies(&url, 1).await;
    at.note("receive of a group in flight", blocked);
    let settings = QueueSettings { is_deduplicated_by_content: true, ..QueueSettings::default() };
    let (url, _) = at.queue("content.fifo", settings).await;
    for body in ["a", "a", "b"] {
        let call = at.sqs.send_message().queue_url(&url).message_body(body);
        call.message_group_id(body).send().await.expect("sent");
    }
    let bodies = at.bodies(&url, 2).await;
    at.note("send duplicates by content", bodies);
}

/// What the outbox publishes, and what the template subscribes.
async fn play_topics(at: &mut Stack) {
    let (raw, raw_arn) = at.queue("raw", QueueSettings::default()).await;
    let (enveloped, enveloped_arn) = at.queue("enveloped", QueueSettings::default()).await;
    let policy = json!({ "event_type": ["OrderCreated", "OrderCancelled"] });
    let topic = match &at.simulation {
        Some(aws) => {
            let topic = aws.create_topic("conformance");
            aws.create_topic("conformance-refusals");
            let filter_policy = Some(policy.clone());
            let settings = SubscriptionSettings { filter_policy, is_raw: true, dlq_url: None };
            aws.subscribe(&topic, &raw, settings).expect("subscribed");
            aws.subscribe(&topic, &enveloped, SubscriptionSettings::default()).expect("subscribed");
            topic
        }
        None => {
            let refusals = at.sns.create_topic().name("conformance-refusals").send();
            refusals.await.expect("a topic");
            let topic = at.sns.create_topic().name("conformance").send().await;
            let topic = topic.expect("a topic").topic_arn.expect("an ARN");
            let subscribe = || at.sns.subscribe().topic_arn(&topic).protocol("sqs");
            let call = subscribe().endpoint(raw_arn).attributes("RawMessageDelivery", "true");
            call.attributes("FilterPolicy", policy.to_string()).send().await.expect("subscribed");
            subscribe().endpoint(enveloped_arn).send().await.expect("subscribed");
            topic
        }
    };
    // Nobody is subscribed to it: what an emulator does not refuse changes nothing of what is received below.
    let refusals = format!("{topic}-refusals");
    let call = |message: &str| {
        let call = at.sns.publish().topic_arn(&topic).message(message);
        call.message_attributes("event_type", published_attribute("OrderCreated"))
    };
    let refused = |message: &str| at.sns.publish().topic_arn(&refusals).message(message);
    let eleven = (0..10).fold(call("eleven"), |call, n| {
        call.message_attributes(format!("n{n}"), published_attribute("a"))
    });
    let large = "a".repeat(256 * 1024);
    let calls = [
        ("publish", call("a")),
        ("publish what the filter leaves out", at.sns.publish().topic_arn(&topic).message("out")),
        ("publish eleven attributes", eleven),
        ("publish nothing", refused("")),
        ("publish too much", refused(&format!("{large}a"))),
        (
            "publish an empty attribute",
            refused("b").message_attributes("name", published_attribute("")),
        ),
        ("publish on no topic", at.sns.publish().topic_arn(format!("{topic}-none")).message("a")),
        ("publish on nonsense", at.sns.publish().topic_arn("nonsense").message("a")),
    ];
    for (name, call) in calls {
        let published = outcome(call.send().await, ok);
        at.note(name, published);
    }
    let half = "a".repeat(150 * 1024);
    let batches: [(&str, Vec<_>); 7] = [
        ("publish a batch", vec![published_entry("1", "c"), published_entry("2", "d")]),
        ("publish an empty batch", Vec::new()),
        (
            "publish eleven entries",
            (0..11).map(|id| published_entry(&id.to_string(), "a")).collect(),
        ),
        (
            "publish two entries of one id",
            vec![published_entry("1", "a"), published_entry("1", "b")],
        ),
        ("publish an entry with a bad id", vec![published_entry("a b", "a")]),
        (
            "publish a batch that is too long",
            vec![published_entry("1", &half), published_entry("2", &half)],
        ),
        (
            "publish a batch with a bad entry",
            vec![published_entry("good", "e"), published_entry("bad", "")],
        ),
    ];
    for (name, batch) in batches {
        let is_taken = name == "publish a batch";
        let call = at.sns.publish_batch().topic_arn(if is_taken { &topic } else { &refusals });
        let call = call.set_publish_batch_request_entries(Some(batch));
        let published = outcome(call.send().await, |answer| {
            entries(
                answer.successful().iter().filter_map(|one| one.id()),
                answer.failed().iter().map(|one| (one.id(), one.code(), one.sender_fault())),
            )
        });
        at.note(name, published);
    }
    let call = at.sns.publish_batch().topic_arn(format!("{topic}-none"));
    let call = call.publish_batch_request_entries(published_entry("1", "a"));
    let published = outcome(call.send().await, ok);
    at.note("publish a batch on no topic", published);
    at.wait(Duration::from_secs(1), Duration::from_secs(4)).await;
    let delivered = at.receive(&raw, 2).await;
    let delivered: BTreeSet<String> = delivered
        .iter()
        .map(|message| {
            let attributes = message.message_attributes.as_ref().map_or(0, HashMap::len);
            format!("{} with {attributes} attributes", message.body().unwrap_or_default())
        })
        .collect();
    at.note("receive raw", format!("{delivered:?}"));
    let delivered = at.receive(&enveloped, 5).await;
    let delivered: BTreeSet<String> = delivered
        .iter()
        .map(|message| {
            let body: Value = serde_json::from_str(message.body().unwrap_or_default())
                .expect("an envelope is JSON");
            let is_topic = body["TopicArn"] == *topic;
            let event_type = &body["MessageAttributes"]["event_type"]["Value"];
            let own = message.message_attributes.as_ref().map_or(0, HashMap::len);
            let (kind, inner) = (&body["Type"], &body["Message"]);
            format!("{kind} {inner} {event_type} topic {is_topic} own {own}")
        })
        .collect();
    at.note("receive enveloped", format!("{delivered:?}"));
    let list = at.sns.list_subscriptions_by_topic().topic_arn(&topic).send().await;
    let list = list.expect("a list");
    let found = list
        .subscriptions()
        .iter()
        .find(|one| one.endpoint().is_some_and(|endpoint| endpoint.ends_with("conformance-raw")));
    let arn = found.and_then(|one| one.subscription_arn()).unwrap_or_default();
    let call = at.sns.get_subscription_attributes().subscription_arn(arn).send().await;
    let attributes = call.expect("attributes").attributes.unwrap_or_default();
    let filter: Value = serde_json::from_str(&attributes["FilterPolicy"]).expect("JSON");
    at.note("the subscription", format!("{filter} raw {}", attributes["RawMessageDelivery"]));
}

/// What notification-consumer sends.
async fn play_mails(at: &mut Stack) {
    const FROM: &str = "shop@example.com";
    match &at.simulation {
        Some(aws) => aws.set_mail_settings(MailSettings {
            verified: Some(BTreeSet::from([FROM.to_owned()])),
            ..MailSettings::default()
        }),
        None => {
            let call = at.ses.verify_email_identity().email_address(FROM);
            call.send().await.expect("verified");
        }
    }
    let content =
        |text: &str| Content::builder().charset("UTF-8").data(text).build().expect("a content");
    for (name, from, to) in [
        ("mail", FROM, "a@example.com"),
        ("mail from an unverified sender", "other@example.org", "a@example.com"),
        ("mail to no domain", FROM, "a"),
        ("mail to a local part that is not ASCII", FROM, "ж@example.com"),
    ] {
        let message = aws_sdk_ses::types::Message::builder()
            .subject(content("subject"))
            .body(Body::builder().text(content("text")).build())
            .build();
        let to = Destination::builder().to_addresses(to).build();
        let call = at.ses.send_email().source(from).destination(to).message(message);
        let sent = outcome(call.send().await, ok);
        at.note(name, sent);
    }
}

async fn play(mut at: Stack) -> Outcomes {
    play_sends(&mut at).await;
    play_send_batches(&mut at).await;
    play_receives(&mut at).await;
    play_attributes_and_redrive(&mut at).await;
    play_fifo(&mut at).await;
    play_topics(&mut at).await;
    play_mails(&mut at).await;
    at.outcomes
}

/// On a thread of its own, because its clock is not the machine's.
fn simulate() -> Outcomes {
    let simulation = async {
        fastrand::seed(1);
        let aws = SimulatedAws::new(1, Faults::default());
        let config = aws.environment().config(&simulated_aws::loader().load().await);
        play(Stack::new(&config, Some(aws))).await
    };
    let run = move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(simulation)
    };
    std::thread::spawn(run).join().expect("the simulation")
}

async fn emulate(settings: &HashMap<String, String>) -> Outcomes {
    let credentials = Credentials::new(
        &settings["AWS_ACCESS_KEY_ID"],
        &settings["AWS_SECRET_ACCESS_KEY"],
        None,
        None,
        "the stack's settings",
    );
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(&settings["EMULATOR_URL"])
        .region(Region::new(settings["AWS_REGION"].clone()))
        .credentials_provider(credentials)
        .load()
        .await;
    play(Stack::new(&config, None)).await
}

fn settings() -> HashMap<String, String> {
    let path =
        std::env::var_os("ORDERFLOW_STACK").expect("ORDERFLOW_STACK names a stack's settings");
    let text = std::fs::read_to_string(path).expect("the stack's settings");
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn messaging_and_mail_answer_as_the_emulator_does_but_for_the_named_differences() {
    let settings = settings();
    let kind = settings["EMULATOR"].as_str();
    let (simulated, emulated) = (simulate(), emulate(&settings).await);
    let mut complaints = Vec::new();
    for (call, simulated) in &simulated {
        let emulated = &emulated[call];
        let named = DIFFERENCES.iter().find(|one| one.call == call && one.emulator == kind);
        match named {
            Some(one) if one.outcome == emulated && simulated != emulated => {
                let (rule, page) = (one.rule, one.page);
                println!("{call}: {simulated}; {kind}: {emulated}. {rule} <{page}>");
            }
            Some(_) => complaints.push(format!(
                "{call}: named as a difference that is not there\n  simulation: {simulated}\n  {kind}: {emulated}"
            )),
            None if simulated != emulated => complaints
                .push(format!("{call}\n  simulation: {simulated}\n  {kind}: {emulated}")),
            None => {}
        }
    }
    println!("{} calls compared", simulated.len());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
