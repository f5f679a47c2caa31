//! What the SDK makes of a partition that throttles.

use aws_config::retry::RetryConfig;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use simulated_aws::{Faults, SimulatedAws, Table};

#[tokio::test(start_paused = true)]
async fn the_sdk_tries_a_throttled_write_again_until_the_partition_has_rested() {
    fastrand::seed(1);
    // Three, which is the SDK's own, may be over before the second is.
    let attempts = RetryConfig::standard().with_max_attempts(6);
    let config = simulated_aws::loader().retry_config(attempts).load().await;
    let aws = SimulatedAws::new(1, Faults::default());
    aws.create_table(Table { name: "table".into(), keys: vec!["id".into()], indexes: Vec::new() });
    let client = Client::new(&aws.environment().config(&config));
    // 100 units each.
    let text = AttributeValue::S("x".repeat(100 * 1024 - 100));
    for _ in 0..11 {
        let put = client.put_item().table_name("table").item("id", AttributeValue::S("hot".into()));
        put.item("text", text.clone()).send().await.expect("it is written in the end");
    }
    assert!(aws.units().throttled_calls > 0);
    assert_eq!(aws.calls(), 11 + aws.units().throttled_calls);
    assert_eq!(aws.units().total.writes, 1100);
}
