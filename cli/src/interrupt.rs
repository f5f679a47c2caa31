//! Waiting for the signal that ends the command: Ctrl-C, a closed terminal, `kill`.

/// The signal's number, once it has come.
#[cfg(unix)]
pub(crate) async fn interrupted() -> u8 {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    async fn next(kind: SignalKind) -> u8 {
        match signal(kind).as_mut().map(Signal::recv) {
            Ok(received) => {
                received.await;
                u8::try_from(kind.as_raw_value()).unwrap_or_default()
            }
            // Without a handler the signal ends the process by itself.
            Err(_) => std::future::pending().await,
        }
    }
    tokio::select! {
        signal = next(SignalKind::interrupt()) => signal,
        signal = next(SignalKind::terminate()) => signal,
        signal = next(SignalKind::hangup()) => signal,
    }
}

/// The same where there is only Ctrl-C.
#[cfg(not(unix))]
pub(crate) async fn interrupted() -> u8 {
    const SIGINT: u8 = 2;
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    SIGINT
}
