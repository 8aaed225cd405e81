//! `GET /stream`: everything, and then what changes, as server-sent events.
//!
//! A reader works on published snapshots in a task of its own. What happens
//! while it waits, or while it is slow, becomes one message: it costs the
//! scheduler nothing, and memory only for what differs from what it saw last.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Call, shown_to};
use crate::http::reply::EVENT_STREAM;
use crate::http::{Outflow, Reply, Request};
use crate::identity::access::may_see_values;
use crate::model::ApiError;
use crate::roles::scheduler::changes::Scope;
use crate::roles::scheduler::driver::SchedulerHandle;
use crate::roles::scheduler::views::Snapshot;

/// Messages to one reader are at least so far apart.
const PACE: Duration = Duration::from_millis(100);
/// When nothing changes, a reader is told at least this often.
const BEAT: Duration = Duration::from_secs(3);
/// Instances told to one reader; where there are more, no page shows them all.
const INSTANCES: usize = 20_000;
/// Readers at a time: each costs a comparison per message.
const WATCHERS: usize = 64;
/// The largest number that any JSON reader sees exactly.
const LARGEST: u64 = 1 << 53;

/// Bounds how many read at a time.
#[derive(Clone, Debug)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Watchers {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS)))
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let text = format!("{WATCHERS} pages are watching already; close one, or wait.");
            ApiError::unavailable("TooManyWatchers", text, 5)
        })
    }
}

/// Starts a stream, after the event that the reader saw last if it says so.
pub(super) fn stream(
    handle: &SchedulerHandle,
    watchers: &Watchers,
    request: &Request<Call>,
) -> Result<Reply, ApiError> {
    // A browser that reconnects by itself sends the header; a page that does, the query.
    let header = request.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let since = match header.and_then(|id| id.parse().ok()) {
        Some(seq) => Some(seq),
        None => request.query.number("since", LARGEST)?,
    };
    let permit = watchers.admit()?;
    let (out, reply) = Reply::live_stream(EVENT_STREAM);
    let values = may_see_values(&request.caller.identity);
    let watcher = Watcher { handle: handle.clone(), out, values, _permit: permit };
    tokio::spawn(watcher.run(since));
    Ok(reply)
}

/// Somebody who looks.
struct Watcher {
    handle: SchedulerHandle,
    out: Outflow,
    /// Whether the values of environments are for this reader.
    values: bool,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    async fn run(self, since: Option<u64>) {
        let values = self.values;
        let mut published = self.handle.snapshots();
        published.mark_unchanged();
        let mut seen = self.handle.snapshot();
        let scope = Scope::of(&seen, INSTANCES);
        let first = {
            let (snapshot, scope) = (seen.clone(), scope.clone());
            made(move || {
                let mut all = snapshot.cluster(&scope, since);
                all.workloads = shown_to(values, all.workloads);
                message("state", &snapshot, &all)
            })
            .await
        };
        if self.send(first).await.is_none() {
            return;
        }
        let mut sent_at = Instant::now();
        loop {
            // Also while nothing changes, so that a page knows it is not cut off.
            let news = tokio::select! {
                news = timeout(BEAT, published.changed()) => news,
                () = self.out.reader_left() => return,
            };
            if matches!(news, Ok(Err(_))) {
                return;
            }
            tokio::select! {
                () = sleep_until(sent_at + PACE) => {}
                () = self.out.reader_left() => return,
            }
            published.mark_unchanged();
            let now = self.handle.snapshot();
            let quiet = sent_at.elapsed() >= BEAT;
            let text = {
                let (now, scope) = (now.clone(), scope.clone());
                made(move || {
                    let mut changes = now.changes_since(&seen, &scope);
                    changes.workloads = shown_to(values, changes.workloads);
                    (quiet || !changes.is_empty()).then(|| message("changes", &now, &changes))
                })
                .await
            };
            seen = now;
            if let Some(Some(text)) = text {
                if self.send(Some(text)).await.is_none() {
                    return;
                }
                sent_at = Instant::now();
            }
        }
    }

    async fn send(&self, text: Option<Vec<u8>>) -> Option<()> {
        self.out.send(text?).await.ok()
    }
}

/// Comparing and writing may take a while: not in a thread that heartbeats need.
async fn made<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(make).await.ok()
}

/// One message; its id is the last event it takes account of.
fn message<T: Serialize>(name: &str, snapshot: &Snapshot, value: &T) -> Vec<u8> {
    let id = snapshot.state.next_event.saturating_sub(1);
    let mut text = format!("id: {id}\nevent: {name}\ndata: ").into_bytes();
    // JSON on one line: line ends inside strings are escaped.
    if let Err(error) = serde_json::to_writer(&mut text, value) {
        tracing::error!("a message of the stream cannot be written: {error}");
    }
    text.extend_from_slice(b"\n\n");
    text
}
