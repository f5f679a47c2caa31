//! A read fails after a change has been committed.

use anyhow::Result;
use e2e::{
    Stack, expect_status,
    faults::{Call, Fault, Kind},
};

/// An answer that says "try again" would have a client apply the change twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_change_of_stock_is_answered_although_the_stock_cannot_be_read() -> Result<()> {
    let stack = Stack::load().await?;
    let product = stack.api.product("Unread stock", "1", 10).await?;
    let read = Call { function: "product-api".into(), operation: "GetItem".into(), nth: 0 };
    stack.arm(&product, &[Fault { call: read, kind: Kind::Fail }]).await?;
    let answer = stack.api.restock(&product, 5).await?;
    assert!(stack.struck(&product).await?[0] > 0, "the read failed");
    expect_status(&answer, 200)?;
    assert!(answer.json["stock"].is_null(), "{}", answer.json);
    assert_eq!(stack.api.stock(&product).await?, 15);
    Ok(())
}
