//! Being told to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Completes when the process is told to stop (SIGINT or SIGTERM).
///
/// # Errors
/// When the signals cannot be listened to.
pub async fn told_to_stop() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
