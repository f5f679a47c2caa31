//! What each function calls and what that costs: a difference is a change that somebody has to want.
//!
//! It runs the binaries of the last `make build`, which a `cargo test` of this test alone does not make anew.

use anyhow::{Context, Result};
use bench::exact::measure_all;

/// For each scenario: its calls; how many of them follow each other, in all and until the answer; and the billed units, by
/// table and index. A failure prints all of it as it is now.
const EXPECTED: &str = "
POST /orders
  calls     3: BatchGetItem 1, PublishBatch 1, TransactWriteItems 1
  in a row  3, 2 of them until the answer
  written   6: event-log 2, orders 2, orders/index/by_customer_keys 1, orders/index/pending 1
  read      1: products 1
OrderCreated at product-consumer
  calls     2: PublishBatch 1, TransactWriteItems 1
  in a row  2, 2 of them until the answer
  written   8: event-log 2, idempotency 2, products 2, reservations 2
  read      0
OrderCreated at notification-consumer
  calls     5: GetItem 2, SendEmail 1, UpdateItem 2
  in a row  5, 5 of them until the answer
  written   2: idempotency 2
  read      2: idempotency 1, suppressed 1
StockReserved at order-consumer
  calls     3: BatchGetItem 1, PublishBatch 1, TransactWriteItems 1
  in a row  3, 3 of them until the answer
  written   7: event-log 2, idempotency 2, orders 2, orders/index/pending 1
  read      1: orders 1
OrderConfirmed at notification-consumer
  calls     5: GetItem 1, SendEmail 1, UpdateItem 3
  in a row  5, 5 of them until the answer
  written   3: idempotency 3
  read      1: suppressed 1
OrderCreated at analytics-consumer
  calls     1: TransactWriteItems 1
  in a row  1, 1 of them until the answer
  written   4: analytics 2, idempotency 2
  read      0
OrderConfirmed at analytics-consumer
  calls     1: TransactWriteItems 1
  in a row  1, 1 of them until the answer
  written   4: analytics 2, idempotency 2
  read      0
the whole of a confirmed order of one line
  calls     20: BatchGetItem 2, GetItem 3, PublishBatch 3, SendEmail 2, TransactWriteItems 5, UpdateItem 5
  written   34: analytics 4, event-log 6, idempotency 13, orders 4, orders/index/by_customer_keys 1, orders/index/pending 2, products 2, reservations 2
  read      5: idempotency 1, orders 1, products 1, suppressed 2
POST /orders with Idempotency-Key
  calls     3: BatchGetItem 1, PublishBatch 1, TransactWriteItems 1
  in a row  3, 2 of them until the answer
  written   8: event-log 2, idempotency 2, orders 2, orders/index/by_customer_keys 1, orders/index/pending 1
  read      2: idempotency 1, products 1
POST /orders with Idempotency-Key, again
  calls     1: BatchGetItem 1
  in a row  1, 1 of them until the answer
  written   0
  read      2: idempotency 1, products 1
ten OrderCreated of ten products at product-consumer
  calls     2: PublishBatch 1, TransactWriteItems 1
  in a row  2, 2 of them until the answer
  written   80: event-log 20, idempotency 20, products 20, reservations 20
  read      0
ten StockReserved at order-consumer
  calls     3: BatchGetItem 1, PublishBatch 1, TransactWriteItems 1
  in a row  3, 3 of them until the answer
  written   70: event-log 20, idempotency 20, orders 20, orders/index/pending 10
  read      10: orders 10
ten OrderCreated at analytics-consumer
  calls     1: TransactWriteItems 1
  in a row  1, 1 of them until the answer
  written   40: analytics 20, idempotency 20
  read      0
ten OrderConfirmed at analytics-consumer
  calls     1: TransactWriteItems 1
  in a row  1, 1 of them until the answer
  written   40: analytics 20, idempotency 20
  read      0
ten confirmed orders of one line, in batches
  calls     137: BatchGetItem 11, GetItem 30, PublishBatch 12, SendEmail 20, TransactWriteItems 14, UpdateItem 50
  written   340: analytics 40, event-log 60, idempotency 130, orders 40, orders/index/by_customer_keys 10, orders/index/pending 20, products 20, reservations 20
  read      50: idempotency 10, orders 10, products 10, suppressed 20
ten OrderCreated of one product at product-consumer
  calls     2: PublishBatch 1, TransactWriteItems 1
  in a row  2, 2 of them until the answer
  written   62: event-log 20, idempotency 20, products 2, reservations 20
  read      0
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_makes_the_calls_and_uses_the_units_that_are_written_down() -> Result<()> {
    // The dev build's binaries are beside the folder of this test.
    let test = std::env::current_exe()?;
    let binaries = test.parent().and_then(|deps| deps.parent()).context("target/debug")?;
    let report: String = measure_all(binaries).await?.iter().map(ToString::to_string).collect();
    let differences = differences(EXPECTED.trim(), report.trim());
    assert!(differences.is_empty(), "{}\n\nin all:\n{report}", differences.join("\n"));
    Ok(())
}

#[test]
fn a_difference_says_in_which_scenario_it_is() {
    let expected = "POST /orders\n  calls 4\n  read 1\nGET /orders\n  calls 1";
    let actual = "POST /orders\n  calls 3\n  read 1\nGET /orders\n  calls 1";
    assert_eq!(
        differences(expected, actual),
        ["- POST /orders:   calls 4", "+ POST /orders:   calls 3"]
    );
    assert!(differences(expected, expected).is_empty());
}

/// Lines that are only in one of them, each with the scenario that it belongs to.
fn differences(expected: &str, actual: &str) -> Vec<String> {
    let lines = |text: &str| {
        let mut scenario = String::new();
        let lines = text.lines().map(|line| {
            if !line.starts_with(' ') {
                line.clone_into(&mut scenario);
            }
            format!("{scenario}: {}", line.trim_end())
        });
        lines.collect::<Vec<_>>()
    };
    let (expected, actual) = (lines(expected), lines(actual));
    let gone = expected.iter().filter(|line| !actual.contains(line));
    let new = actual.iter().filter(|line| !expected.contains(line));
    gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect()
}
