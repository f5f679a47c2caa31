//! How long the pure parts take: reading an event, reading a request, placing an order, settling one.
//!
//! `cargo bench -p bench`. It builds everything once more, so that `make bench` does not run it.

use std::{collections::HashMap, error::Error, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use events::{Event, OrderId, ProductId};
use order::{
    http::parse_order_request,
    rules::{CatalogEntry, StockDecision, place, settle},
};
use serde_json::json;

const ORDER_CREATED: &[u8] = include_bytes!("../../../events/samples/OrderCreated.json");
const REQUEST: &[u8] = br#"{"customer_email":"customer@example.com","items":[
    {"product_id":"7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11","quantity":2}]}"#;

fn decisions(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let request = parse_order_request(REQUEST).map_err(|_| "the request is right")?;
    let entry: CatalogEntry = serde_json::from_value(json!({
        "product_id": "7d0e2a3c-53f1-4f0e-8f51-1c3a3f0f9a11", "name": "Desk lamp", "price": 2050, "currency": "UAH",
    }))?;
    let catalog: HashMap<ProductId, CatalogEntry> =
        HashMap::from([(entry.product_id.clone(), entry.clone())]);
    let now = "2025-11-20T10:35:00.123Z".parse()?;
    let order_id: OrderId = "3b241101-e2bb-4255-8caf-4136c566a962".parse()?;
    let new_order = || place(order_id.clone(), request.clone(), &catalog, &entry.currency, now);
    let order = new_order().map_err(|_| "the order is right")?;
    criterion.bench_function("decode an event", |bencher| {
        bencher.iter(|| Event::decode(black_box(ORDER_CREATED)));
    });
    criterion.bench_function("read a request", |bencher| {
        bencher.iter(|| parse_order_request(black_box(REQUEST)));
    });
    criterion.bench_function("place an order", |bencher| bencher.iter(&new_order));
    criterion.bench_function("settle an order", |bencher| {
        bencher.iter(|| settle(black_box(&order), StockDecision::Reserved));
    });
    Ok(())
}

fn all(criterion: &mut Criterion) {
    decisions(criterion).expect("samples that are right");
}

criterion_group!(benches, all);
criterion_main!(benches);
