//! What becomes of each message of a batch, with real queues and a handler of the test's own.
//!
//! The test is its own consumer here: it receives a batch, has it handled, and deletes what was acknowledged,
//! as Lambda's mapping does. Each test has a queue and a DLQ of its own.

use std::{
    collections::HashMap,
    future::{Future, pending},
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::types::{Message as SqsMessage, MessageSystemAttributeName, QueueAttributeName};
use e2e::{Seconds, Stack, eventually};
use exactly_once::{Answers, Backoff, Consumer, Failure, Handled, Message};
use futures::future::try_join_all;
use serde_json::{Value, json};
use uuid::Uuid;

const RECEIVES_MAX: u32 = 3;
/// The queue's own visibility timeout: longer than a test waits, so what comes back was brought back.
const HIDDEN: u64 = 120;
const WAIT: u64 = 30;

/// A consumer with queues of its own.
struct Bench {
    stack: Stack,
    queue_url: String,
    dlq_url: String,
    backoff: Backoff,
    consumer: Consumer,
}

impl Bench {
    async fn new(schedule: &str) -> Result<Self> {
        Self::with_queues(schedule, "", &[], RECEIVES_MAX).await
    }

    /// With a queue that gives nothing up by itself, as the template's.
    async fn patient(schedule: &str) -> Result<Self> {
        Self::with_queues(schedule, "", &[], 200).await
    }

    /// With FIFO queues.
    async fn fifo(schedule: &str) -> Result<Self> {
        let fifo = [
            (QueueAttributeName::FifoQueue, "true".to_owned()),
            (QueueAttributeName::ContentBasedDeduplication, "false".to_owned()),
        ];
        Self::with_queues(schedule, ".fifo", &fifo, RECEIVES_MAX).await
    }

    async fn with_queues(
        schedule: &str,
        suffix: &str,
        kind: &[(QueueAttributeName, String)],
        receives_max: u32,
    ) -> Result<Self> {
        let stack = Stack::load().await?;
        let name = format!("batch-{}", Uuid::new_v4());
        let dlq_url = queue(&stack, &format!("{name}-dlq{suffix}"), kind).await?;
        let arn = stack
            .sqs
            .get_queue_attributes()
            .queue_url(&dlq_url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await?;
        let arn = arn.attributes().and_then(|all| all.get(&QueueAttributeName::QueueArn));
        let redrive = json!({
            "deadLetterTargetArn": arn.context("a queue has an ARN")?,
            "maxReceiveCount": receives_max,
        });
        let attributes = [
            (QueueAttributeName::RedrivePolicy, redrive.to_string()),
            (QueueAttributeName::VisibilityTimeout, HIDDEN.to_string()),
        ];
        let attributes = [&attributes[..], kind].concat();
        let queue_url = queue(&stack, &format!("{name}{suffix}"), &attributes).await?;
        let backoff: Backoff = schedule.parse()?;
        let consumer = Consumer::new("bench", stack.sqs.clone(), &queue_url, &dlq_url)
            .backoff(backoff.clone());
        Ok(Self { stack, queue_url, dlq_url, backoff, consumer })
    }

    /// The same consumer, which calls this SQS.
    fn consumer_of(&self, sqs: aws_sdk_sqs::Client) -> Consumer {
        Consumer::new("bench", sqs, &self.queue_url, &self.dlq_url).backoff(self.backoff.clone())
    }

    async fn send(&self, bodies: &[&str]) -> Result<()> {
        let sends = bodies.iter().map(|body| self.stack.send(&self.queue_url, body));
        try_join_all(sends).await.map(drop)
    }

    /// Sends messages of groups to a FIFO queue, one after the other.
    async fn send_in_groups(&self, messages: &[(&str, &str)]) -> Result<()> {
        for (group, body) in messages {
            let send = self.stack.sqs.send_message().queue_url(&self.queue_url);
            let send = send.message_group_id(*group).message_deduplication_id(*body);
            send.message_body(*body).send().await?;
        }
        Ok(())
    }

    /// What is on the queue now.
    async fn receive(&self) -> Result<Vec<SqsMessage>> {
        let answer = self
            .stack
            .sqs
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// This number of messages as one batch.
    async fn batch(&self, count: usize) -> Result<Vec<SqsMessage>> {
        let received = Mutex::new(Vec::new());
        eventually(&format!("{count} messages"), WAIT.secs(), async || {
            let more = self.receive().await?;
            let mut received = received.lock().expect("nothing panics with it");
            received.extend(more);
            Ok((received.len() >= count).then(|| std::mem::take(&mut *received)))
        })
        .await
    }

    /// Has a batch handled and deletes what was acknowledged; the bodies that were not.
    async fn handle<F>(
        &self,
        batch: &[SqsMessage],
        time: Duration,
        handler: impl Fn(Message) -> F,
    ) -> Result<Vec<String>>
    where
        F: Future<Output = Result<Handled, Failure>>,
    {
        let answer = self.consumer.run(lambda_event(batch)?, deadline_in(time)?, handler).await;
        self.delete_taken(batch, &answer).await
    }

    /// As [`Bench::handle`], with a handler of the whole batch.
    async fn handle_batch<F>(
        &self,
        batch: &[SqsMessage],
        time: Duration,
        handler: impl Fn(Vec<Message>, Answers) -> F,
    ) -> Result<Vec<String>>
    where
        F: Future<Output = ()>,
    {
        let event = lambda_event(batch)?;
        let answer = self.consumer.run_batch(event, deadline_in(time)?, handler).await;
        self.delete_taken(batch, &answer).await
    }

    /// Deletes what was acknowledged; the bodies that were not.
    async fn delete_taken(
        &self,
        batch: &[SqsMessage],
        answer: &SqsBatchResponse,
    ) -> Result<Vec<String>> {
        let failed = |message: &SqsMessage| {
            let mut failures = answer.batch_item_failures.iter();
            failures.any(|failure| Some(failure.item_identifier.as_str()) == message.message_id())
        };
        let (failed, taken): (Vec<_>, Vec<_>) = batch.iter().partition(|message| failed(message));
        try_join_all(taken.into_iter().map(|message| {
            let delete = self.stack.sqs.delete_message().queue_url(&self.queue_url);
            delete.set_receipt_handle(message.receipt_handle.clone()).send()
        }))
        .await?;
        let mut failed: Vec<_> = failed.into_iter().filter_map(|m| m.body.clone()).collect();
        failed.sort();
        Ok(failed)
    }

    /// Receives and handles again and again, as long as there is anything on the queue.
    async fn work_off<F>(&self, handler: impl Fn(Message) -> F) -> Result<()>
    where
        F: Future<Output = Result<Handled, Failure>>,
    {
        eventually("the queue to be empty", (2 * WAIT).secs(), async || {
            let batch = self.receive().await?;
            self.handle(&batch, 10.secs(), &handler).await?;
            let left = self.stack.messages(&self.queue_url).await?;
            Ok((left == 0).then_some(()))
        })
        .await
    }

    async fn dead(&self) -> Result<u64> {
        self.stack.messages(&self.dlq_url).await
    }

    async fn end(self) -> Result<()> {
        for url in [&self.queue_url, &self.dlq_url] {
            self.stack.sqs.delete_queue().queue_url(url).send().await?;
        }
        Ok(())
    }
}

/// The deadline of an invocation that has this time.
fn deadline_in(time: Duration) -> Result<u64> {
    let deadline = (SystemTime::now() + time).duration_since(UNIX_EPOCH)?.as_millis();
    Ok(u64::try_from(deadline)?)
}

async fn queue(
    stack: &Stack,
    name: &str,
    attributes: &[(QueueAttributeName, String)],
) -> Result<String> {
    let mut create = stack.sqs.create_queue().queue_name(name);
    for (key, value) in attributes {
        create = create.attributes(key.clone(), value);
    }
    create.send().await?.queue_url.context("a queue has a URL")
}

/// Messages in the form in which Lambda hands them to a function.
fn lambda_event(batch: &[SqsMessage]) -> Result<SqsEvent> {
    let records: Vec<Value> = batch
        .iter()
        .map(|message| {
            let attributes = message.attributes().into_iter().flatten();
            let attributes: HashMap<_, _> =
                attributes.map(|(name, value)| (name.as_str(), value)).collect();
            json!({
                "messageId": message.message_id(),
                "receiptHandle": message.receipt_handle(),
                "body": message.body(),
                "attributes": attributes,
                "messageAttributes": {},
            })
        })
        .collect();
    Ok(serde_json::from_value(json!({ "Records": records }))?)
}

/// How often, and when last, each body was handled.
#[derive(Default)]
struct Calls(Mutex<HashMap<String, Vec<Instant>>>);

impl Calls {
    /// Notes a call; how many of this body there were before.
    fn note(&self, body: &str) -> usize {
        let mut calls = self.0.lock().expect("nothing panics with it");
        let times = calls.entry(body.to_owned()).or_default();
        times.push(Instant::now());
        times.len() - 1
    }

    fn times(&self, body: &str) -> Vec<Instant> {
        self.0.lock().expect("nothing panics with it").get(body).cloned().unwrap_or_default()
    }

    fn of(&self, body: &str) -> usize {
        self.times(body).len()
    }
}

#[tokio::test]
async fn each_message_of_a_mixed_batch_has_its_own_outcome_and_the_good_ones_never_come_again()
-> Result<()> {
    let bench = Bench::new("1").await?;
    let bodies =
        ["good 1", "transient", "duplicate", "poison", "good 2", "panic", "duplicate", "good 3"];
    bench.send(&bodies).await?;
    let (calls, effects) = (Calls::default(), Calls::default());
    let handler = async |message: Message| {
        let body = message.body.as_str();
        let before = calls.note(body);
        match body {
            "transient" if before == 0 => return Err(Failure::transient("not now")),
            "panic" if before == 0 => panic!("on purpose"),
            "poison" => return Err(Failure::poison("schema", "poison of the test's")),
            "duplicate" if before > 0 => return Ok(Handled::Duplicate),
            _ => {}
        }
        effects.note(body);
        Ok(Handled::Done)
    };
    let batch = bench.batch(bodies.len()).await?;
    let failed = bench.handle(&batch, 10.secs(), &handler).await?;
    assert_eq!(failed, ["panic", "transient"]);
    assert_eq!(bench.dead().await?, 1, "poison is moved before it is acknowledged");

    bench.work_off(&handler).await?;
    for (body, called, effect) in [
        ("good 1", 1, 1),
        ("good 2", 1, 1),
        ("good 3", 1, 1),
        ("duplicate", 2, 1),
        ("transient", 2, 1),
        ("panic", 2, 1),
        ("poison", 1, 0),
    ] {
        assert_eq!((calls.of(body), effects.of(body)), (called, effect), "{body}");
    }
    assert_eq!(bench.dead().await?, 1, "only the poison");
    let letter = bench.stack.message_with(&bench.dlq_url, "poison").await?;
    let reason = letter.message_attributes().and_then(|all| all.get("failure_reason"));
    assert_eq!(reason.and_then(|reason| reason.string_value()), Some("schema"));
    bench.end().await
}

#[tokio::test]
async fn a_transient_failure_that_heals_succeeds_without_touching_the_dlq() -> Result<()> {
    let bench = Bench::new("1").await?;
    bench.send(&["heals"]).await?;
    let calls = Calls::default();
    let handler = async |message: Message| {
        let before = calls.note(&message.body);
        if before + 1 < RECEIVES_MAX as usize {
            return Err(Failure::transient("not yet"));
        }
        Ok(Handled::Done)
    };
    bench.work_off(handler).await?;
    assert_eq!(calls.of("heals"), RECEIVES_MAX as usize, "the last attempt counts too");
    assert_eq!(bench.dead().await?, 0);
    bench.end().await
}

#[tokio::test]
async fn a_transient_failure_that_does_not_heal_ends_in_the_dlq_after_its_attempts() -> Result<()> {
    let bench = Bench::new("1").await?;
    bench.send(&["never heals"]).await?;
    let calls = Calls::default();
    let handler = async |message: Message| {
        calls.note(&message.body);
        Err(Failure::transient("not today"))
    };
    bench.work_off(handler).await?;
    assert_eq!(calls.of("never heals"), RECEIVES_MAX as usize);
    assert_eq!(bench.dead().await?, 1);
    let letter = bench.stack.message_with(&bench.dlq_url, "never heals").await?;
    assert!(letter.message_attributes().is_none_or(HashMap::is_empty), "SQS moved it, as it was");
    bench.end().await
}

/// The schedule in force is the visibility: without the change, a message would be gone for HIDDEN seconds.
#[tokio::test]
async fn a_failed_message_stays_away_longer_each_time() -> Result<()> {
    let bench = Bench::new("2,6").await?;
    bench.send(&["scheduled", "known when"]).await?;
    let calls = Calls::default();
    let handler = async |message: Message| match (message.body.as_str(), calls.note(&message.body))
    {
        (_, 2) | ("known when", 1) => Ok(Handled::Done),
        ("known when", _) => Err(Failure::retry_in(4.secs(), "a lease is held")),
        _ => Err(Failure::transient("not now")),
    };
    bench.work_off(handler).await?;
    let scheduled = calls.times("scheduled");
    let [first, second, third] = scheduled[..] else {
        anyhow::bail!("handled {} times", scheduled.len());
    };
    assert!(second - first >= 1.secs(), "the half of 2 s at least: {:?}", second - first);
    assert!(third - second >= 3.secs(), "the half of 6 s at least: {:?}", third - second);
    let known = calls.times("known when");
    assert!(known[1] - known[0] >= 4.secs(), "the handler knew better: {:?}", known[1] - known[0]);
    bench.end().await
}

#[tokio::test]
async fn an_sqs_that_does_not_answer_uses_up_no_invocation() -> Result<()> {
    let mut bench = Bench::new("1").await?;
    // More than are in work at a time, so that some wait for those that SQS holds up.
    let bodies: Vec<String> = (0..15).map(|number| format!("m{number:02}")).collect();
    bench.send(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let batch = bench.batch(bodies.len()).await?;

    // Takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let config = bench.stack.sqs.config().to_builder().endpoint_url(endpoint).build();
    bench.consumer = bench.consumer_of(aws_sdk_sqs::Client::from_conf(config));
    let (begun, time) = (Instant::now(), 3.secs());
    let poison = async |_| Err(Failure::poison("bad", "it is"));
    let failed = bench.handle(&batch, time, poison).await?;
    assert!(begun.elapsed() < time, "it would have timed out: {:?}", begun.elapsed());
    assert_eq!(failed, bodies, "nothing is lost");
    bench.end().await
}

#[tokio::test]
async fn near_the_deadline_messages_are_given_back_unbegun_and_the_invocation_ends_in_time()
-> Result<()> {
    /// How many messages are in work at a time, and how many more there are.
    const AT_ONCE: usize = 10;
    const MORE: usize = 5;
    let bench = Bench::new("1").await?;
    let bodies: Vec<String> = (0..AT_ONCE + MORE).map(|number| format!("m{number:02}")).collect();
    bench.send(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let batch = bench.batch(bodies.len()).await?;

    let calls = Calls::default();
    let none = |message: Message| {
        calls.note(&message.body);
        pending()
    };
    let failed = bench.handle(&batch, 1.secs(), none).await?;
    assert_eq!(failed, bodies, "one second is too little to begin anything");
    assert!(bodies.iter().all(|body| calls.of(body) == 0));

    let (begun, time) = (Instant::now(), 3.secs());
    let standstill = |message: Message| {
        calls.note(&message.body);
        pending()
    };
    let failed = bench.handle(&batch, time, standstill).await?;
    assert!(begun.elapsed() < time, "it would have timed out: {:?}", begun.elapsed());
    assert_eq!(failed, bodies, "nothing is lost");
    let called: usize = bodies.iter().map(|body| calls.of(body)).sum();
    assert_eq!(called, AT_ONCE, "the rest waited until there was no time left");
    bench.end().await
}

#[tokio::test]
async fn a_batch_handler_answers_message_by_message_and_what_it_leaves_out_comes_again()
-> Result<()> {
    let bench = Bench::new("1").await?;
    let bodies = ["answered", "poison", "left out"];
    bench.send(&bodies).await?;
    let calls = Calls::default();
    let handler = async |messages: Vec<Message>, answers: Answers| {
        for message in &messages {
            let before = calls.note(&message.body);
            match message.body.as_str() {
                "left out" if before == 0 => {}
                "poison" => answers.set(message, Err(Failure::poison("bad", "it is"))),
                _ => answers.set(message, Ok(Handled::Done)),
            }
        }
        assert!(messages.len() < 3, "on purpose: what was answered stays answered");
    };
    let batch = bench.batch(bodies.len()).await?;
    assert_eq!(bench.handle_batch(&batch, 10.secs(), &handler).await?, ["left out"]);
    assert_eq!(bench.dead().await?, 1);
    eventually("the queue to be empty", WAIT.secs(), async || {
        let batch = bench.receive().await?;
        bench.handle_batch(&batch, 10.secs(), &handler).await?;
        Ok((bench.stack.messages(&bench.queue_url).await? == 0).then_some(()))
    })
    .await?;
    assert_eq!((calls.of("answered"), calls.of("left out")), (1, 2));
    bench.end().await
}

#[tokio::test]
async fn a_batch_handler_that_stands_still_loses_nothing() -> Result<()> {
    let bench = Bench::new("1").await?;
    bench.send(&["a", "b"]).await?;
    let batch = bench.batch(2).await?;
    let (begun, time) = (Instant::now(), 3.secs());
    let standstill = async |messages: Vec<Message>, answers: Answers| {
        let a = messages.iter().find(|message| message.body == "a");
        a.into_iter().for_each(|a| answers.set(a, Ok(Handled::Done)));
        pending().await
    };
    assert_eq!(bench.handle_batch(&batch, time, standstill).await?, ["b"]);
    assert!(begun.elapsed() < time, "it would have timed out: {:?}", begun.elapsed());
    bench.end().await
}

const OF_TWO_GROUPS: [(&str, &str); 6] =
    [("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("a", "a3"), ("b", "b3")];

/// The order of a group survives a failure; the other group is not held up by it.
#[tokio::test]
async fn in_a_fifo_queue_a_failure_holds_up_the_rest_of_its_group_and_no_other() -> Result<()> {
    let bench = Bench::fifo("1").await?;
    bench.send_in_groups(&OF_TWO_GROUPS).await?;
    let (calls, done) = (Calls::default(), Mutex::new(Vec::new()));
    let handler = async |message: Message| {
        if calls.note(&message.body) == 0 && message.body == "a2" {
            return Err(Failure::transient("not now"));
        }
        done.lock().expect("nothing panics with it").push(message.body);
        Ok(Handled::Done)
    };
    let batch = bench.batch(OF_TWO_GROUPS.len()).await?;
    assert_eq!(bench.handle(&batch, 10.secs(), &handler).await?, ["a2", "a3"]);
    assert_eq!(calls.of("a3"), 0, "it was not begun");
    assert_eq!((calls.of("b1"), calls.of("b2"), calls.of("b3")), (1, 1, 1));
    bench.work_off(&handler).await?;
    let done = done.into_inner()?;
    let of_group = |group: &str| -> Vec<String> {
        done.iter().filter(|body| body.starts_with(group)).cloned().collect()
    };
    assert_eq!(of_group("a"), ["a1", "a2", "a3"]);
    assert_eq!(of_group("b"), ["b1", "b2", "b3"]);
    bench.end().await
}

#[tokio::test]
async fn in_a_fifo_queue_a_batch_handler_gets_one_message_of_each_group_at_a_time() -> Result<()> {
    let bench = Bench::fifo("1").await?;
    bench.send_in_groups(&OF_TWO_GROUPS).await?;
    let rounds = Mutex::new(Vec::new());
    let handler = async |messages: Vec<Message>, answers: Answers| {
        let mut bodies: Vec<_> = messages.iter().map(|message| message.body.clone()).collect();
        bodies.sort();
        rounds.lock().expect("nothing panics with it").push(bodies);
        for message in &messages {
            answers.set(
                message,
                match message.body.as_str() {
                    "a2" => Err(Failure::transient("not now")),
                    _ => Ok(Handled::Done),
                },
            );
        }
    };
    let batch = bench.batch(OF_TWO_GROUPS.len()).await?;
    assert_eq!(bench.handle_batch(&batch, 10.secs(), &handler).await?, ["a2", "a3"]);
    assert_eq!(rounds.into_inner()?, [vec!["a1", "b1"], vec!["a2", "b2"], vec!["b3"]]);
    bench.end().await
}

#[tokio::test]
async fn in_a_fifo_queue_poison_goes_to_the_dlq_with_its_group_and_its_group_goes_on() -> Result<()>
{
    let bench = Bench::fifo("1").await?;
    bench.send_in_groups(&OF_TWO_GROUPS).await?;
    let handler = async |message: Message| match message.body.as_str() {
        "a1" => Err(Failure::poison("bad", "it is")),
        _ => Ok(Handled::Done),
    };
    let batch = bench.batch(OF_TWO_GROUPS.len()).await?;
    assert!(bench.handle(&batch, 10.secs(), &handler).await?.is_empty());
    let letter = bench.stack.message_with(&bench.dlq_url, "a1").await?;
    let system = letter.attributes().context("attributes")?;
    assert_eq!(system[&MessageSystemAttributeName::MessageGroupId], "a");
    let original = batch.iter().find(|message| message.body() == Some("a1"));
    let original = original.and_then(|message| message.message_id()).context("the message")?;
    assert_eq!(system[&MessageSystemAttributeName::MessageDeduplicationId], original);
    bench.end().await
}

/// A message whose move to the DLQ fails is kept, not deleted with a log line.
/// <https://github.com/aws-powertools/powertools-lambda-java/issues/729>
#[tokio::test]
async fn powertools_java_729_a_message_whose_dlq_does_not_take_it_is_kept() -> Result<()> {
    let mut bench = Bench::new("1").await?;
    bench.send(&["poison"]).await?;
    let batch = bench.batch(1).await?;
    let gone = format!("{}-gone", bench.dlq_url);
    let taking = bench.consumer.clone();
    bench.consumer = Consumer::new("bench", bench.stack.sqs.clone(), &bench.queue_url, gone);
    let poison = async |_| Err(Failure::poison("bad", "it is"));
    assert_eq!(bench.handle(&batch, 10.secs(), poison).await?, ["poison"]);
    bench.consumer = taking;
    assert_eq!(bench.dead().await?, 0);
    bench.end().await
}

/// Permanent failures go to the DLQ at once, not after all their receives.
/// <https://github.com/aws-powertools/powertools-lambda-typescript/issues/4478>
/// <https://github.com/aws-powertools/powertools-lambda-java/issues/428>
#[tokio::test]
async fn powertools_typescript_4478_and_java_428_a_permanent_failure_goes_to_the_dlq_at_once()
-> Result<()> {
    let bench = Bench::new("1").await?;
    bench.send(&["not JSON"]).await?;
    let batch = bench.batch(1).await?;
    let handler = async |message: Message| message.json::<u64>().map(|_| Handled::Done);
    assert!(bench.handle(&batch, 10.secs(), handler).await?.is_empty(), "it is acknowledged");
    let letter = bench.stack.message_with(&bench.dlq_url, "not JSON").await?;
    let attributes = letter.message_attributes().context("attributes")?;
    assert_eq!(attributes["failure_reason"].string_value(), Some("undecodable"));
    bench.end().await
}

/// While Lambda throttles a function, its messages are received and given back without anybody having seen them.
#[tokio::test]
async fn receives_that_no_function_has_seen_bring_no_message_to_the_dlq() -> Result<()> {
    let mut bench = Bench::patient("1").await?;
    bench.send(&["throttled"]).await?;
    for _ in 0..30 {
        let batch = bench.batch(1).await?;
        let unseen = bench.stack.sqs.change_message_visibility().queue_url(&bench.queue_url);
        let unseen = unseen.set_receipt_handle(batch[0].receipt_handle.clone());
        unseen.visibility_timeout(0).send().await?;
    }
    let calls = Calls::default();
    let fails_once = async |message: Message| match calls.note(&message.body) {
        0 => Err(Failure::transient("not now")),
        _ => Ok(Handled::Done),
    };
    bench.work_off(fails_once).await?;
    assert_eq!((calls.of("throttled"), bench.dead().await?), (2, 0));

    // What a consumer gives up is what has kept failing for too long, with its last error.
    bench.consumer = bench.consumer.clone().give_up_after(2.secs());
    bench.send(&["hopeless"]).await?;
    let fails = async |message: Message| {
        calls.note(&message.body);
        Err(Failure::transient("not today"))
    };
    bench.work_off(fails).await?;
    let letter = bench.stack.message_with(&bench.dlq_url, "hopeless").await?;
    let attributes = letter.message_attributes().context("attributes")?;
    assert_eq!(attributes["failure_reason"].string_value(), Some("retries_exhausted"));
    assert_eq!(attributes["failure_detail"].string_value(), Some("not today"));
    let attempts = calls.of("hopeless");
    assert!(attempts >= 2, "{attempts}");
    assert_eq!(attributes["attempts"].string_value(), Some(attempts.to_string().as_str()));
    bench.end().await
}

/// During a rolling deployment a newer event meets an older consumer.
#[tokio::test]
async fn an_event_of_a_type_that_only_the_next_deployment_knows_waits_for_it() -> Result<()> {
    let bench = Bench::patient("1").await?;
    let sample = include_str!("../../../../events/samples/OrderCreated.json");
    let newer = sample.replace("OrderCreated", "OrderTeleported");
    bench.send(&[&newer, &sample.replace("\"1.0\"", "\"2.0\"")]).await?;
    let variables = [
        ("QUEUE_URL", &*bench.queue_url),
        ("DLQ_URL", &bench.dlq_url),
        ("IDEMPOTENCY_TABLE", "none"),
        ("RETRY_SCHEDULE", "1"),
        ("GIVE_UP_AFTER_SECONDS", "7200"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let config = settings::read_from(variables, messaging::ConsumerConfig::read)?;
    let old = config.event_consumer(&bench.stack.aws, &exactly_once::Ids::default(), "old");
    let batch = bench.batch(2).await?;
    let takes_none = async |_, _, _| Ok(Handled::Done);
    let answer = old.run(lambda_event(&batch)?, deadline_in(10.secs())?, takes_none).await;
    assert_eq!(answer.batch_item_failures.len(), 2, "both wait");
    assert_eq!(bench.dead().await?, 0);

    let calls = Calls::default();
    bench
        .work_off(async |message: Message| {
            calls.note(&message.body);
            Ok(Handled::Done)
        })
        .await?;
    assert_eq!((calls.of(&newer), bench.dead().await?), (1, 0), "the next deployment takes them");
    bench.end().await
}
