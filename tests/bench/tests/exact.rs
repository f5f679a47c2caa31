//! What each function calls and what that costs: a difference is a change that somebody has to want.

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use bench::{
    calls::{RecordedCall, count_by_operation, sequential_depth},
    endpoint::Delays,
    lambda::Environment,
    shop::{COUNTING_DELAY, Function, Measured, Shop, body_of, order_request},
};
use sim::shop::Queue;
use simulated_aws::Units;

/// For each scenario: its calls; how many of them follow each other, in all and until the answer; and the billed units, by
/// table and index. A failure prints all of it as it is now.
const EXPECTED: &str = "
POST /orders
  calls     4: BatchGetItem 1, PublishBatch 1, TransactWriteItems 1, UpdateItem 1
  in a row  4, 4 of them until the answer
  written   9: event-log 3, event-log/index/outbox 2, orders 2, orders/index/by_customer 1, orders/index/pending 1
  read      1: products 1
OrderCreated at product-consumer
  calls     3: PublishBatch 1, TransactWriteItems 1, UpdateItem 1
  in a row  3, 3 of them until the answer
  written   11: event-log 3, event-log/index/outbox 2, idempotency 2, products 2, reservations 2
  read      0
OrderCreated at notification-consumer
  calls     4: SendEmail 1, UpdateItem 3
  in a row  4, 4 of them until the answer
  written   3: idempotency 3
  read      0
StockReserved at order-consumer
  calls     4: GetItem 1, PublishBatch 1, TransactWriteItems 1, UpdateItem 1
  in a row  4, 4 of them until the answer
  written   11: event-log 3, event-log/index/outbox 2, idempotency 2, orders 2, orders/index/by_customer 1, orders/index/pending 1
  read      1: orders 1
OrderConfirmed at notification-consumer
  calls     4: SendEmail 1, UpdateItem 3
  in a row  4, 4 of them until the answer
  written   3: idempotency 3
  read      0
the whole of a confirmed order of one line
  calls     19: BatchGetItem 1, GetItem 1, PublishBatch 3, SendEmail 2, TransactWriteItems 3, UpdateItem 9
  written   37: event-log 9, event-log/index/outbox 6, idempotency 10, orders 4, orders/index/by_customer 2, orders/index/pending 2, products 2, reservations 2
  read      2: orders 1, products 1
POST /orders with Idempotency-Key
  calls     5: BatchGetItem 1, GetItem 1, PublishBatch 1, TransactWriteItems 1, UpdateItem 1
  in a row  5, 5 of them until the answer
  written   11: event-log 3, event-log/index/outbox 2, idempotency 2, orders 2, orders/index/by_customer 1, orders/index/pending 1
  read      2: idempotency 1, products 1
POST /orders with Idempotency-Key, again
  calls     1: GetItem 1
  in a row  1, 1 of them until the answer
  written   0
  read      1: idempotency 1
ten OrderCreated of ten products at product-consumer
  calls     30: PublishBatch 10, TransactWriteItems 10, UpdateItem 10
  in a row  3, 3 of them until the answer
  written   110: event-log 30, event-log/index/outbox 20, idempotency 20, products 20, reservations 20
  read      0
ten StockReserved at order-consumer
  calls     40: GetItem 10, PublishBatch 10, TransactWriteItems 10, UpdateItem 10
  in a row  4, 4 of them until the answer
  written   110: event-log 30, event-log/index/outbox 20, idempotency 20, orders 20, orders/index/by_customer 10, orders/index/pending 10
  read      10: orders 10
ten confirmed orders of one line, in batches
  calls     190: BatchGetItem 10, GetItem 10, PublishBatch 30, SendEmail 20, TransactWriteItems 30, UpdateItem 90
  written   370: event-log 90, event-log/index/outbox 60, idempotency 100, orders 40, orders/index/by_customer 20, orders/index/pending 20, products 20, reservations 20
  read      20: orders 10, products 10
ten OrderCreated of one product at product-consumer
  calls     30: PublishBatch 10, TransactWriteItems 10, UpdateItem 10
  in a row  3, 3 of them until the answer
  written   110: event-log 30, event-log/index/outbox 20, idempotency 20, products 20, reservations 20
  read      0
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_function_makes_the_calls_and_uses_the_units_that_are_written_down() -> Result<()> {
    let report = measure_all().await?;
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

/// The dev build's binaries are beside the folder of this test.
fn binaries() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.parent().and_then(|deps| deps.parent()).context("target/debug")?.to_owned())
}

async fn measure_all() -> Result<String> {
    let shop = Shop::deploy(&binaries()?, Delays::all(COUNTING_DELAY)).await?;
    let mut product_api = shop.start(Function::ProductApi).await?;
    let mut order_api = shop.start(Function::OrderApi).await?;
    let mut product_consumer = shop.start(Function::Consumer(Queue::Product)).await?;
    let mut order_consumer = shop.start(Function::Consumer(Queue::Order)).await?;
    let mut notification = shop.start(Function::Consumer(Queue::Notification)).await?;
    let mut products = Vec::new();
    for _ in 0..10 {
        products.push(shop.add_product(&mut product_api).await?);
    }
    let mut report = String::new();

    // One order, from its request to its last mail.
    let mut whole = Sum::default();
    let measured = shop.measure(&mut order_api, &order_request(&products[0], None)).await?;
    body_of(&measured.invocation, 201)?;
    write(&mut report, "POST /orders", &measured)?;
    whole.add(measured);
    for (queue, what, consumer) in [
        (Queue::Product, "OrderCreated at product-consumer", &mut product_consumer),
        (Queue::Notification, "OrderCreated at notification-consumer", &mut notification),
        (Queue::Order, "StockReserved at order-consumer", &mut order_consumer),
    ] {
        let measured = shop.deliver(consumer, &shop.receive(queue, 1)?).await?;
        write(&mut report, what, &measured)?;
        whole.add(measured);
    }
    let measured = shop.deliver(&mut notification, &shop.receive(Queue::Notification, 1)?).await?;
    write(&mut report, "OrderConfirmed at notification-consumer", &measured)?;
    whole.add(measured);
    for queue in Queue::ALL {
        assert!(shop.aws.is_empty(&queue.url()), "all of the order's events are delivered");
    }
    writeln!(report, "the whole of a confirmed order of one line")?;
    write_calls(&mut report, &whole.calls)?;
    write_units(&mut report, &whole.units)?;

    let keyed = order_request(&products[0], Some("a-key-of-the-client-0001"));
    let measured = shop.measure(&mut order_api, &keyed).await?;
    body_of(&measured.invocation, 201)?;
    write(&mut report, "POST /orders with Idempotency-Key", &measured)?;
    let measured = shop.measure(&mut order_api, &keyed).await?;
    body_of(&measured.invocation, 201)?;
    write(&mut report, "POST /orders with Idempotency-Key, again", &measured)?;

    for queue in Queue::ALL {
        shop.drain(queue);
    }
    let mut ten = Sum::default();
    for product in &products {
        let measured = shop.measure(&mut order_api, &order_request(product, None)).await?;
        body_of(&measured.invocation, 201)?;
        ten.add(measured);
    }
    let batch = shop.receive(Queue::Product, 10)?;
    let measured = shop.deliver(&mut product_consumer, &batch).await?;
    write(&mut report, "ten OrderCreated of ten products at product-consumer", &measured)?;
    ten.add(measured);
    ten.add_all(deliver_mails(&shop, &mut notification, 10).await?);
    let batch = shop.receive(Queue::Order, 10)?;
    let measured = shop.deliver(&mut order_consumer, &batch).await?;
    write(&mut report, "ten StockReserved at order-consumer", &measured)?;
    ten.add(measured);
    ten.add_all(deliver_mails(&shop, &mut notification, 10).await?);
    writeln!(report, "ten confirmed orders of one line, in batches")?;
    write_calls(&mut report, &ten.calls)?;
    write_units(&mut report, &ten.units)?;

    for _ in 0..10 {
        let request = order_request(&products[0], None).to_string();
        body_of(&order_api.invoke(request).await?, 201)?;
    }
    let batch = shop.receive(Queue::Product, 10)?;
    let measured = shop.deliver(&mut product_consumer, &batch).await?;
    write(&mut report, "ten OrderCreated of one product at product-consumer", &measured)?;
    Ok(report)
}

/// Delivers so many messages to notification-consumer, in batches as large as its mapping's.
async fn deliver_mails(
    shop: &Shop,
    notification: &mut Environment,
    count: usize,
) -> Result<Vec<Measured>> {
    let (mut left, mut delivered) = (count, Vec::new());
    while left > 0 {
        let size = left.min(Queue::Notification.batch_size());
        let batch = shop.receive(Queue::Notification, size)?;
        delivered.push(shop.deliver(notification, &batch).await?);
        left -= size;
    }
    Ok(delivered)
}

#[derive(Debug, Default)]
struct Sum {
    calls: Vec<RecordedCall>,
    units: BTreeMap<String, Units>,
}

impl Sum {
    fn add_all(&mut self, measured: Vec<Measured>) {
        measured.into_iter().for_each(|one| self.add(one));
    }

    fn add(&mut self, measured: Measured) {
        self.calls.extend(measured.calls);
        for (resource, units) in measured.units {
            *self.units.entry(resource).or_default() += units;
        }
    }
}

fn write(report: &mut String, what: &str, measured: &Measured) -> Result<()> {
    let Measured { invocation, calls, units } = measured;
    let until_answer: Vec<_> =
        calls.iter().filter(|call| call.begun < invocation.answered).cloned().collect();
    let (depth, depth_until_answer) = (sequential_depth(calls), sequential_depth(&until_answer));
    writeln!(report, "{what}")?;
    write_calls(report, calls)?;
    writeln!(report, "  in a row  {depth}, {depth_until_answer} of them until the answer")?;
    write_units(report, units)
}

fn write_calls(report: &mut String, calls: &[RecordedCall]) -> Result<()> {
    let counts = count_by_operation(calls);
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    writeln!(report, "  calls     {}: {}", calls.len(), counts.join(", "))?;
    Ok(())
}

fn write_units(report: &mut String, units: &BTreeMap<String, Units>) -> Result<()> {
    let mut total = Units::default();
    units.values().for_each(|used| total += *used);
    let written = units.iter().filter(|(_, used)| used.writes > 0);
    let written: Vec<_> = written.map(|(name, used)| format!("{name} {}", used.writes)).collect();
    let read = units.iter().filter(|(_, used)| used.half_reads > 0);
    let read: Vec<_> = read.map(|(name, used)| format!("{name} {}", used.reads())).collect();
    writeln!(report, "  written   {}", listed(total.writes, &written))?;
    writeln!(report, "  read      {}", listed(total.reads(), &read))?;
    Ok(())
}

/// A sum and what it is of.
fn listed(sum: impl Display, of: &[String]) -> String {
    if of.is_empty() { sum.to_string() } else { format!("{sum}: {}", of.join(", ")) }
}
