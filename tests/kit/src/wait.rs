//! Bounded waits on conditions. A test that waits for nothing in particular
//! tests nothing in particular.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// For what takes a moment, on a machine that is busy with other tests.
pub const SHORT: Duration = Duration::from_secs(30);
/// For what involves deadlines, back-offs and dead nodes.
pub const LONG: Duration = Duration::from_secs(120);

/// Asks again and again until `condition` is `Ok`, and returns what it holds.
///
/// # Panics
/// After `limit`, with what was waited for and the last `Err`.
pub async fn until<T, E, F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    loop {
        let last = match condition().await {
            Ok(value) => return value,
            Err(last) => last,
        };
        assert!(
            began.elapsed() < limit,
            "waited {:.1} s in vain for: {what}\n  last seen: {last}",
            began.elapsed().as_secs_f64()
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Watches for `period` that `condition` never fails.
///
/// # Panics
/// When it does, with what it said.
pub async fn stays<E, F>(what: &str, period: Duration, mut condition: impl FnMut() -> F)
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let began = Instant::now();
    while began.elapsed() < period {
        if let Err(broken) = condition().await {
            panic!("{what} held for only {:.1} s: {broken}", began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
