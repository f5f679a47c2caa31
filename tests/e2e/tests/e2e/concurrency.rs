//! Many orders for few goods.

use std::collections::HashMap;

use anyhow::Result;
use e2e::Stack;
use futures::{StreamExt, TryStreamExt, stream};

/// Number of customers at a time: each call in flight is a process of its own, and two cores start few a second.
const CUSTOMERS: usize = 25;

#[tokio::test]
async fn of_a_hundred_concurrent_orders_for_thirty_pieces_thirty_are_confirmed() -> Result<()> {
    let stack = Stack::load().await?;
    let api = &stack.api;
    let product = api.product("Thirty", "9.99", 30).await?;
    let lines = [(product.as_str(), 1)];
    let orders: Vec<String> = stream::iter(0..100)
        .map(|_| api.order("hundred@example.com", &lines))
        .buffered(CUSTOMERS)
        .try_collect()
        .await?;
    let settled = wait_until_all_settled(&stack, &orders).await?;
    let count = |wanted: &str| settled.iter().filter(|status| *status == wanted).count();
    assert_eq!((count("confirmed"), count("rejected")), (30, 70));
    assert_eq!(api.stock(&product).await?, 0);
    Ok(())
}

async fn wait_until_all_settled(stack: &Stack, orders: &[String]) -> Result<Vec<String>> {
    let settled = stream::iter(orders).map(|order| stack.api.wait_until_settled(order));
    settled.buffered(CUSTOMERS).try_collect().await
}

#[tokio::test]
async fn no_line_of_a_rejected_order_is_taken() -> Result<()> {
    const STOCKS: [u64; 4] = [20, 25, 30, 12];
    let stack = Stack::load().await?;
    let api = &stack.api;
    let mut products = Vec::new();
    for (n, stock) in STOCKS.into_iter().enumerate() {
        products.push(api.product(&format!("Shared {n}"), "5", stock).await?);
    }
    // Each order leaves out one product and takes different quantities of the others.
    let wanted: Vec<Vec<(&str, u64)>> = (0..40)
        .map(|order| {
            let lines = products.iter().enumerate().filter(|(n, _)| *n != order % STOCKS.len());
            lines.map(|(n, product)| (product.as_str(), 1 + ((order + n) % 3) as u64)).collect()
        })
        .collect();
    let orders: Vec<String> = stream::iter(&wanted)
        .map(|lines| api.order("shared@example.com", lines))
        .buffered(CUSTOMERS)
        .try_collect()
        .await?;
    let settled = wait_until_all_settled(&stack, &orders).await?;
    let mut taken: HashMap<&str, u64> = HashMap::new();
    for (status, lines) in settled.iter().zip(&wanted) {
        if status == "confirmed" {
            lines
                .iter()
                .for_each(|(product, quantity)| *taken.entry(product).or_default() += quantity);
        }
    }
    assert!(settled.iter().any(|status| status == "confirmed"));
    assert!(settled.iter().any(|status| status == "rejected"));
    for (product, stock) in products.iter().zip(STOCKS) {
        let taken = taken.get(product.as_str()).copied().unwrap_or_default();
        assert_eq!(api.stock(product).await?, stock - taken, "{product}");
    }
    Ok(())
}
