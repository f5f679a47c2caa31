//! The analytics of ten thousand orders, counted as their events come, and anew from the event log into an empty table.

use anyhow::Result;
use sim::count_anew;

const ORDERS: usize = 10_000;

#[test]
fn counted_anew_from_the_event_log_the_analytics_are_what_they_were() -> Result<()> {
    let began = std::time::Instant::now();
    let rebuilt = count_anew(1, ORDERS)?;
    println!("{ORDERS} orders came to {rebuilt:?}, played in {:.1?}", began.elapsed());
    assert!(rebuilt.events > 2 * ORDERS, "{rebuilt:?}");
    assert!(rebuilt.units > 2 * i64::try_from(ORDERS)?, "{rebuilt:?}");
    Ok(())
}
