//! What a million confirmed orders cost by list prices, item by item.
//!
//! In: exact counts of one order, and what Lambda bills for its invocations. Out: [`Item`]s. Guarantee: pure; what is assumed
//! stands in the item.

use sim::shop::Queue;

use crate::{exact::Scenario, prices};

/// Lambda's memory, as the template has it.
const MEMORY_GB: f64 = 0.25;
/// What Lambda itself logs of an invocation: START, END and REPORT. An estimate.
const PLATFORM_LOG_BYTES: f64 = 400.0;
const MILLION: f64 = 1e6;

/// One line of the bill of a million orders.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub what: &'static str,
    /// How much of it an order takes.
    pub of_one_order: f64,
    pub unit: &'static str,
    pub dollars: f64,
}

/// Lambda's part of an order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compute {
    pub invocations: f64,
    pub billed_ms: f64,
    pub log_bytes: f64,
}

/// The bill. Batches have one message, which is the most expensive case.
#[must_use]
pub fn of_million_orders(order: &Scenario, compute: Compute) -> Vec<Item> {
    #[allow(clippy::cast_precision_loss, reason = "counts of one order")]
    let calls = |operation: &str| order.calls.get(operation).copied().unwrap_or_default() as f64;
    #[allow(clippy::cast_precision_loss, reason = "units of one order")]
    let written = order.units_in_all().writes as f64;
    let read = order.units_in_all().reads();
    let published = calls("Publish") + calls("PublishBatch");
    let messages = messages_of_order();
    let gb_seconds = MEMORY_GB * compute.billed_ms / 1000.0;
    let logged = (compute.log_bytes + compute.invocations * PLATFORM_LOG_BYTES) / 1e9;
    let item = |what, of_one_order: f64, unit, price: f64| Item {
        what,
        of_one_order,
        unit,
        dollars: of_one_order * price,
    };
    vec![
        item("API Gateway", 1.0, "calls", prices::API_GATEWAY_CALLS),
        item("Lambda, requests", compute.invocations, "requests", prices::LAMBDA_REQUESTS),
        item("Lambda, time", gb_seconds, "GB-seconds", MILLION * prices::LAMBDA_GB_SECOND),
        item("DynamoDB, writes", written, "units", prices::DYNAMODB_WRITES),
        item("DynamoDB, reads", read, "units", prices::DYNAMODB_READS),
        item("SNS", published, "publishes", prices::SNS_PUBLISHES),
        // Sent by SNS, received and deleted by Lambda.
        item("SQS", 3.0 * messages, "requests", prices::SQS_REQUESTS),
        item("CloudWatch logs", logged, "GB", MILLION * prices::LOGS_GB),
        item("SES", calls("SendEmail"), "mails", prices::SES_MAILS),
    ]
}

/// Number of messages on queues that the three events of a confirmed order become.
fn messages_of_order() -> f64 {
    let events = ["OrderCreated", "StockReserved", "OrderConfirmed"];
    let takes =
        |queue: Queue| events.iter().filter(|event| queue.event_types().contains(event)).count();
    // An event is on one of a consumer's queues.
    let queues = Queue::OF_EVENTS.into_iter().filter(|queue| queue.consumer() == *queue);
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let messages = queues.map(takes).sum::<usize>() as f64;
    messages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_bill_of_an_order_is_the_sum_of_what_it_takes() {
        let order = Scenario {
            calls: BTreeMap::from([("PublishBatch".to_owned(), 3), ("SendEmail".to_owned(), 2)]),
            ..Scenario::default()
        };
        let compute = Compute { invocations: 5.0, billed_ms: 400.0, log_bytes: 0.0 };
        let bill = of_million_orders(&order, compute);
        let dollars =
            |wanted: &str| bill.iter().find(|item| item.what == wanted).map(|item| item.dollars);
        assert_eq!(dollars("SNS"), Some(1.5));
        assert_eq!(dollars("SES"), Some(200.0));
        assert_eq!(dollars("Lambda, requests"), Some(1.0));
        // Six messages, each sent, received and deleted.
        assert!((dollars("SQS").unwrap_or_default() - 7.2).abs() < 1e-9);
        // A tenth of a GB-second each.
        assert!((dollars("Lambda, time").unwrap_or_default() - 1.33334).abs() < 1e-9);
    }
}
