//! Many customers at once: what is there is sold to the last piece and no further, soon, and without transactions that only
//! stand in each other's way. `ORDERFLOW_SALE_ORDERS` is the number of customers: 10,000 in `make bench`.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use sim::{Sale, SaleReport, sell};

/// As many as a plain `cargo test` has time for.
const ORDERS_DEFAULT: usize = 1_000;
/// Maximum time from the first order to the last that is settled.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

fn orders() -> Result<usize> {
    match env::var("ORDERFLOW_SALE_ORDERS") {
        Ok(text) => text.parse().with_context(|| format!("ORDERFLOW_SALE_ORDERS={text}")),
        Err(_) => Ok(ORDERS_DEFAULT),
    }
}

fn play(sale: Sale) -> Result<SaleReport> {
    let began = std::time::Instant::now();
    let report = sell(1, sale)?;
    println!("{sale:?} came to {report:?}, played in {:.1?}", began.elapsed());
    Ok(report)
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>: a product bears 1,000 write units a
/// second, of which each order by itself would take two.
#[test]
fn a_flash_sale_sells_every_piece_once_and_settles_soon() -> Result<()> {
    const PIECES: usize = 500;
    const ORDERS_A_SECOND: f64 = 1_000.0;
    let orders = orders()?;
    let within = Duration::from_secs_f64(orders as f64 / ORDERS_A_SECOND);
    let report = play(Sale { orders, within, products: 1, pieces: PIECES as u64 })?;
    assert_eq!(report.statuses.get("confirmed"), Some(&PIECES), "{report:?}");
    assert_eq!(report.statuses.get("rejected"), Some(&(orders - PIECES)), "{report:?}");
    assert_eq!((report.left, report.dead_letters), (0, 0), "{report:?}");
    assert!(report.settled_after <= SETTLED_WITHIN, "{report:?}");
    // Nothing is written for those who come too late. Of 10,000 orders this is 0.05 conflicts each.
    assert!(report.conflicts <= PIECES as u64, "more than one conflict a piece: {report:?}");
    Ok(())
}

#[test]
fn orders_of_a_thousand_products_are_all_confirmed() -> Result<()> {
    const PRODUCTS: usize = 1_000;
    const ORDERS_A_SECOND: f64 = 2_000.0;
    let orders = orders()?;
    let within = Duration::from_secs_f64(orders as f64 / ORDERS_A_SECOND);
    let pieces = orders.div_ceil(PRODUCTS) as u64;
    let report = play(Sale { orders, within, products: PRODUCTS, pieces })?;
    assert_eq!(report.statuses.get("confirmed"), Some(&orders), "{report:?}");
    assert_eq!(report.dead_letters, 0, "{report:?}");
    Ok(())
}
