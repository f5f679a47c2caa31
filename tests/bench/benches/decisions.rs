//! How long the pure parts take: reading an event, reading a request, placing an order, settling one.
//!
//! In: nothing. Out: nanoseconds of each, the median of rounds with the least and the greatest. `cargo bench -p bench` runs it; it
//! builds everything once more, so that `make bench` does not.

use std::{collections::HashMap, hint::black_box, time::Instant};

use anyhow::{Context, Result};
use bench::statistics::Figure;
use events::{Event, OrderId, ProductId};
use order::{
    http::parse_order_request,
    rules::{CatalogEntry, Payments, SagaReply, place, settle},
};
use serde_json::json;

const ORDER_CREATED: &[u8] = include_bytes!("../../../events/samples/OrderCreated.json");
const REQUEST: &[u8] = br#"{"customer_email":"customer@example.com","items":[
    {"product_id":"7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11","quantity":2}]}"#;
const ROUNDS: usize = 21;
/// Number of times that a round does what it measures.
const TIMES: u32 = 10_000;

fn main() -> Result<()> {
    let request = parse_order_request(REQUEST).ok().context("a right request")?;
    let entry: CatalogEntry = serde_json::from_value(json!({
        "product_id": "7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11",
        "name": "Lamp",
        "price": 2050,
        "currency": "UAH",
    }))?;
    let catalog: HashMap<ProductId, CatalogEntry> =
        HashMap::from([(entry.product_id.clone(), entry.clone())]);
    let order_id: OrderId = "3b241101-e2bb-4255-8caf-4136c566a962".parse()?;
    let now = "2025-11-20T10:35:00.123Z".parse()?;
    let new_order = || place(order_id.clone(), request.clone(), &catalog, &entry.currency, now);
    let order = new_order().ok().context("a right order")?;
    measure("read an event", || Event::decode(black_box(ORDER_CREATED)))?;
    measure("read a request", || parse_order_request(black_box(REQUEST)))?;
    measure("place an order", new_order)?;
    measure("settle an order", || {
        settle(black_box(&order), SagaReply::StockReserved, Payments::None)
    })
}

fn measure<T>(what: &str, work: impl Fn() -> T) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for _ in 0..TIMES {
            black_box(work());
        }
        rounds.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES));
    }
    let Figure { median, least, greatest } = Figure::of(&rounds).context("rounds")?;
    println!("{what}: {median:.0} ns ({least:.0}–{greatest:.0})");
    Ok(())
}
