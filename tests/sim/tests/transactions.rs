//! The model of the saga is compared with the services: every transaction about an order is one that the model has, and the
//! other way round.

use anyhow::Result;
use model::{Saga, Scenario};

const ORDERS: usize = 20;
/// Together they have all that the model has: a seed by itself may reject nothing, or ship nothing.
const SEEDS: u64 = 12;

#[test]
fn the_services_write_what_the_model_writes_and_nothing_else() -> Result<()> {
    let modelled = Saga::new(Scenario::new(&[3], &[&[2]], 1)).transactions();
    // Which no seed may come to: a customer seldom waits for the relay.
    let mut written = sim::transactions_of_late_cancellation()?;
    for seed in 1..=SEEDS {
        written.extend(sim::transactions(seed, ORDERS)?);
    }
    let unknown: Vec<_> = written.difference(&modelled).collect();
    assert!(unknown.is_empty(), "the model does not have {unknown:#?}");
    let unseen: Vec<_> = modelled.difference(&written).collect();
    assert!(unseen.is_empty(), "no service has written {unseen:#?}");
    Ok(())
}
