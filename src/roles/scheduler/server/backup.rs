//! `GET /backup`: all durable records at one point, while commits go on.

use std::time::{Duration, Instant};

use crate::http::reply::JSON_LINES;
use crate::http::{Outflow, Reply};
use crate::model::ApiError;
use crate::roles::scheduler::driver::SchedulerHandle;
use crate::roles::scheduler::store::Snapshot;
use crate::roles::scheduler::store::backup::{Head, Writer};

/// What is read at one point keeps its room in the file until it is read; nobody
/// may keep it for longer than this.
const LONGEST: Duration = Duration::from_secs(600);
/// Lines are sent in pieces of about this size.
const PIECE: usize = 16 * 1024;

pub(super) async fn backup(handle: &SchedulerHandle) -> Result<Reply, ApiError> {
    let store = handle.store();
    let opened = tokio::task::spawn_blocking(move || store.snapshot()).await;
    let snapshot = match opened {
        Ok(Ok(Some(snapshot))) => snapshot,
        Ok(Ok(None)) => {
            return Err(ApiError::conflict(
                "this scheduler keeps no state (--in-memory): there is nothing to back up",
            ));
        }
        Ok(Err(error)) => {
            return Err(ApiError::unavailable("StorageFailed", format!("{error:#}"), 5));
        }
        Err(error) => return Err(ApiError::unavailable("StorageFailed", error.to_string(), 5)),
    };
    let state = handle.snapshot().state;
    let head = Head::new(state.cluster.as_str(), jiff::Timestamp::now().to_string());
    let (out, reply) = Reply::stream(JSON_LINES);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let sending = Sending { out, runtime, began: Instant::now() };
        let Err(problem) = write(&snapshot, &head, &sending) else { return };
        tracing::warn!("a backup was broken off: {problem}");
        let Sending { out, runtime, .. } = sending;
        // Cut, so that nobody takes what there is for the whole.
        runtime.block_on(out.break_off());
    });
    Ok(reply)
}

/// The way to the reader, from a thread that may wait.
struct Sending {
    out: Outflow,
    runtime: tokio::runtime::Handle,
    began: Instant,
}

impl Sending {
    fn send(&self, bytes: Vec<u8>) -> Result<(), String> {
        if self.began.elapsed() > LONGEST {
            return Err(format!("it was read for longer than {} s", LONGEST.as_secs()));
        }
        self.runtime.block_on(self.out.send(bytes)).map_err(|gone| gone.to_string())
    }
}

fn write(snapshot: &Snapshot, head: &Head, sending: &Sending) -> Result<(), String> {
    let mut writer = Writer::default();
    let mut piece = writer.head(head);
    let mut problem = None;
    let read = snapshot.each(&mut |key, value| {
        let line = writer.record(key, value).map_err(|error| format!("{key}: {error}"));
        let sent = line.and_then(|line| {
            piece.extend(line);
            match piece.len() < PIECE {
                true => Ok(()),
                false => sending.send(std::mem::take(&mut piece)),
            }
        });
        problem = sent.err();
        problem.is_none()
    });
    if let Some(problem) = problem {
        return Err(problem);
    }
    read.map_err(|error| format!("{error:#}"))?;
    piece.extend(writer.end());
    sending.send(piece)
}
