//! Waiting for what happens some time later.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(100);

/// `30.secs()`.
pub trait Seconds {
    fn secs(self) -> Duration;
}

impl Seconds for u64 {
    fn secs(self) -> Duration {
        Duration::from_secs(self)
    }
}

/// Looks again and again until there is something to see, and returns it.
///
/// # Errors
/// It did not come to be within `limit`, or looking failed.
pub async fn eventually<T, F>(
    subject: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if begun.elapsed() > limit {
            bail!("waited {} s in vain for {subject}", limit.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
