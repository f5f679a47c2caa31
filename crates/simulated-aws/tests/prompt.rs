//! An AWS for measurements: in real time, at once, and asked by whoever has a socket.

use serde_json::json;
use simulated_aws::{Call, QueueSettings, Service, SimulatedAws, SubscriptionSettings, Table};

const NOW_SECONDS: u64 = 1_800_000_000;

fn dynamodb(operation: &str, body: &serde_json::Value) -> Call {
    let target = format!("DynamoDB_20120810.{operation}");
    Call::read(Some(&target), body.to_string().as_bytes())
}

#[tokio::test]
async fn a_prompt_aws_has_carried_out_transactions_and_deliveries_when_it_answers() {
    let aws = SimulatedAws::prompt(NOW_SECONDS);
    aws.create_table(Table { name: "t".to_owned(), keys: vec!["k".to_owned()], indexes: vec![] });
    let topic = aws.create_topic("topic");
    let queue = aws.create_queue("queue", QueueSettings::default());
    let settings = SubscriptionSettings { is_raw: true, ..SubscriptionSettings::default() };
    aws.subscribe(&topic, &queue, settings).expect("no filter");
    let begun = tokio::time::Instant::now();
    for number in 0..100 {
        let put = json!({ "TableName": "t", "Item": { "k": { "S": number.to_string() } } });
        let call = dynamodb("TransactWriteItems", &json!({ "TransactItems": [{ "Put": put }] }));
        assert_eq!(call.service(), Some(Service::DynamoDb));
        assert_eq!(aws.answer(&call).await.status, 200);
        let form = format!("Version=2010-03-31&Action=Publish&TopicArn={topic}&Message=m{number}");
        let call = Call::read(None, form.as_bytes());
        assert_eq!((call.service(), call.operation()), (Some(Service::Sns), "Publish"));
        assert_eq!(aws.answer(&call).await.status, 200);
        let received = aws.receive(&queue, 1);
        assert_eq!(received.len(), 1, "message {number} is there at once");
        let sent_ms = received[0].record["attributes"]["SentTimestamp"].as_str();
        assert!(sent_ms.is_some_and(|ms| ms.starts_with("1800000")), "{sent_ms:?}");
        aws.delete(&queue, &received[0].receipt_handle);
    }
    // A transaction takes 3 ms at least otherwise, and a delivery half a second and more.
    assert!(begun.elapsed().as_millis() < 2000, "{:?}", begun.elapsed());
    assert_eq!((aws.items("t").len(), aws.units().total.writes), (100, 200));
}

#[tokio::test]
async fn what_nobody_serves_is_refused() {
    let aws = SimulatedAws::prompt(NOW_SECONDS);
    for (target, body) in [(Some("Kinesis_20131202.PutRecord"), "{}"), (None, "Version=1")] {
        let call = Call::read(target, body.as_bytes());
        assert_eq!((call.service(), aws.answer(&call).await.status), (None, 501));
    }
}
