//! The library's consumer with a handler of whole batches: what that leaves unanswered is handled message by message, so that
//! a message which makes it panic is nobody's fault but its own.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use aws_sdk_sqs::Client;
use exactly_once::{Answers, Consumer, Failure, Handled, Message};
use serde_json::json;
use simulated_aws::{Environment, Faults, QueueSettings, SimulatedAws, loader};

const INVOCATION_MS: u64 = 10_000;

struct Setting {
    aws: SimulatedAws,
    environment: Environment,
    consumer: Consumer,
    url: String,
    dlq: String,
}

impl Setting {
    /// A queue with these messages.
    async fn with(bodies: &[&str]) -> Self {
        let aws = SimulatedAws::new(1, Faults::default());
        let environment = aws.environment();
        let sqs = Client::new(&environment.config(&loader().load().await));
        let dlq = aws.create_queue("dlq", QueueSettings::default());
        let url = aws.create_queue("queue", QueueSettings::default());
        for body in bodies {
            sqs.send_message().queue_url(&url).message_body(*body).send().await.expect("sent");
        }
        let consumer = Consumer::new("consumer", sqs, &url, &dlq);
        Self { aws, environment, consumer, url, dlq }
    }

    /// Receives until as many messages have come as were sent, and the deadline of the invocation.
    async fn batch(&self, messages: usize) -> (SqsEvent, u64) {
        let mut records = Vec::new();
        while records.len() < messages {
            self.aws.message_visible(&self.url).await;
            records.extend(self.aws.receive(&self.url, 10).into_iter().map(|one| one.record));
        }
        let event = serde_json::from_value(json!({ "Records": records })).expect("an event");
        (event, self.environment.now_ms() + INVOCATION_MS)
    }

    /// The bodies of a batch that are to be delivered again.
    fn given_back(&self, batch: &SqsEvent, answer: &SqsBatchResponse) -> Vec<String> {
        let failed = answer.batch_item_failures.iter().map(|failure| &failure.item_identifier);
        let bodies: BTreeMap<_, _> =
            batch.records.iter().map(|one| (one.message_id.clone(), one.body.clone())).collect();
        let body = |id: &String| bodies[&Some(id.clone())].clone().expect("a body");
        let mut given_back: Vec<String> = failed.map(body).collect();
        given_back.sort();
        given_back
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_batch_handler_leaves_is_handled_message_by_message() {
    let setting = Setting::with(&["a", "b", "c"]).await;
    let (batch, deadline_ms) = setting.batch(3).await;
    let alone_with = RefCell::new(Vec::new());
    let together = async |messages: Vec<Message>, answers: Answers| {
        for message in messages.iter().filter(|message| message.body != "b") {
            answers.set(message, Ok(Handled::Done));
        }
    };
    let alone = async |message: Message| {
        alone_with.borrow_mut().push(message.body);
        Ok(Handled::Done)
    };
    let answer = setting.consumer.run_together(batch.clone(), deadline_ms, together, alone).await;
    assert_eq!(setting.given_back(&batch, &answer), Vec::<String>::new());
    assert_eq!(*alone_with.borrow(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_makes_the_batch_handler_panic_costs_the_others_nothing() {
    let setting = Setting::with(&["a", "panic", "poison"]).await;
    let (batch, deadline_ms) = setting.batch(3).await;
    let together = async |messages: Vec<Message>, answers: Answers| {
        for message in &messages {
            assert!(message.body != "panic", "the batch handler panics");
            answers.set(message, Ok(Handled::Duplicate));
        }
    };
    let alone = async |message: Message| match message.body.as_str() {
        "panic" => panic!("so does the other"),
        "poison" => Err(Failure::poison("poison", "as it says")),
        _ => Ok(Handled::Done),
    };
    let answer = setting.consumer.run_together(batch.clone(), deadline_ms, together, alone).await;
    let given_back = setting.given_back(&batch, &answer);
    assert!(given_back.contains(&"panic".to_owned()), "{given_back:?}");
    assert!(!given_back.contains(&"a".to_owned()), "{given_back:?}");
    // Whether the poison was answered before the panic depends on the order of the batch.
    let dead = setting.aws.bodies(&setting.dlq);
    assert!(dead.is_empty() || dead == ["poison"], "{dead:?}");
}

/// The time of the invocation is that of all its phases: a batch handler that stands still leaves none for the other.
#[tokio::test(start_paused = true)]
async fn a_batch_handler_that_stands_still_gives_everything_back_in_time() {
    let setting = Setting::with(&["a", "b"]).await;
    let (batch, deadline_ms) = setting.batch(2).await;
    let together = async |_, _| std::future::pending().await;
    let alone = async |_| Ok(Handled::Done);
    let begun = tokio::time::Instant::now();
    let answer = setting.consumer.run_together(batch.clone(), deadline_ms, together, alone).await;
    assert_eq!(setting.given_back(&batch, &answer), ["a", "b"]);
    assert!(begun.elapsed() < Duration::from_millis(INVOCATION_MS), "{:?}", begun.elapsed());
}
