//! The library's leases where a process stands still, as Lambda's do between and, rarely, within invocations.

use std::{cell::Cell, time::Duration};

use aws_sdk_dynamodb::Client;
use exactly_once::{EffectError, IdempotentError, Inbox};
use simulated_aws::{Faults, SimulatedAws, Table, loader};
use tokio::time::sleep;

const LEASE: Duration = Duration::from_secs(10);

/// Somebody else may have the lease by then, and have had the effect.
#[tokio::test(start_paused = true)]
async fn an_effect_does_not_go_on_when_its_process_has_stood_still_beyond_its_lease() {
    let aws = SimulatedAws::new(1, Faults::default());
    aws.create_table(Table {
        name: "inbox".to_owned(),
        keys: vec!["key".to_owned()],
        indexes: Vec::new(),
    });
    let environment = aws.environment();
    let client = Client::new(&environment.config(&loader().load().await));
    let inbox = Inbox::new(client, "inbox", "consumer");
    let has_gone_on = Cell::new(false);
    let effect = async || {
        sleep(Duration::from_secs(2)).await;
        has_gone_on.set(true);
        Ok::<(), EffectError>(())
    };
    let stall = async {
        sleep(Duration::from_secs(1)).await;
        environment.freeze();
        sleep(2 * LEASE).await;
        environment.thaw();
    };
    let work = environment.run(inbox.idempotent("mail", LEASE, effect));
    let (ended, ()) = tokio::join!(work, stall);
    assert!(!has_gone_on.get(), "the effect went on");
    assert!(matches!(ended, Err(IdempotentError::Unknown { .. })), "{ended:?}");
}
