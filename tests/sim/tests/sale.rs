//! Many customers at once: what is there is sold to the last piece and no further, soon, and without transactions that only
//! stand in each other's way. `ORDERFLOW_SALE_ORDERS` is the number of customers: 10,000 in `make bench`.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use sim::{Sale, sell};

/// As many as a plain `cargo test` has time for.
const ORDERS_DEFAULT: usize = 1_000;
const PIECES: u64 = 500;
/// How many come in a second.
const ORDERS_A_SECOND: f64 = 1_000.0;

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>: 1,000 write units a second for one
/// product, of which each order by itself would take two.
#[test]
fn a_flash_sale_sells_every_piece_once_and_settles_soon() -> Result<()> {
    let orders = match env::var("ORDERFLOW_SALE_ORDERS") {
        Ok(text) => text.parse().with_context(|| format!("ORDERFLOW_SALE_ORDERS={text}"))?,
        Err(_) => ORDERS_DEFAULT,
    };
    let within = Duration::from_secs_f64(orders as f64 / ORDERS_A_SECOND);
    let began = std::time::Instant::now();
    let report = sell(1, Sale { orders, within, products: 1, pieces: PIECES })?;
    println!("{report:?}, played in {:.1?}", began.elapsed());
    let confirmed = usize::try_from(PIECES)?;
    assert_eq!(report.statuses.get("confirmed"), Some(&confirmed), "{report:?}");
    assert_eq!(report.statuses.get("rejected"), Some(&(orders - confirmed)), "{report:?}");
    assert_eq!((report.left, report.dead_letters), (0, 0), "{report:?}");
    assert!(report.settled_after <= Duration::from_secs(30), "{report:?}");
    assert!(report.conflicts * 5 < orders as u64, "0.2 conflicts an order: {report:?}");
    Ok(())
}
