//! What carries out the core's [`DockerAction`]s and [`Probe`]s: Docker, or what
//! stands in for it. The actions and their outcomes are the whole boundary.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tokio::sync::mpsc;

use super::docker::{DockerHandle, DockerRuntime};
use super::health;
use super::message::{DockerAction, Input, Probe};
use super::simulated::{SimulatedHandle, SimulatedRuntime};
use crate::http::Outflow;
use crate::model::{ApiError, NodeId};

/// Where outcomes and observations go: the inbox of the task that owns the core.
/// Sending waits while that is full and fails only once the agent has ended.
pub type Report = mpsc::Sender<Input>;

/// Which runtime an agent uses; shared by all agents of one process.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// A Docker daemon.
    Docker(DockerHandle),
    /// Nothing runs, everything is pretended.
    Simulated(SimulatedHandle),
}

impl Runtime {
    /// The part of it that one agent sees.
    pub fn for_node(&self, node: NodeId) -> Arc<NodeRuntime> {
        Arc::new(match self {
            Runtime::Docker(handle) => NodeRuntime::Docker(handle.for_node(node)),
            Runtime::Simulated(handle) => NodeRuntime::Simulated(handle.for_node(node)),
        })
    }
}

/// The part of a runtime that one agent sees.
#[derive(Debug)]
pub enum NodeRuntime {
    /// A Docker daemon.
    Docker(DockerRuntime),
    /// Nothing runs, everything is pretended.
    Simulated(SimulatedRuntime),
}

/// What to show of a container's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// As lines of JSON that say which stream wrote them and when.
    pub lines: bool,
}

impl NodeRuntime {
    /// Said before an action is handed to a task of its own.
    pub fn expect(&self, action: &DockerAction) {
        match (self, action) {
            (NodeRuntime::Docker(docker), DockerAction::Pull { image }) => {
                docker.expect_pull(image);
            }
            (NodeRuntime::Docker(_), _) => {}
            (NodeRuntime::Simulated(docker), action) => docker.expect(action),
        }
    }

    /// Reports how the runtime is and what happens to this node's containers,
    /// for as long as somebody listens.
    pub async fn watch(&self, report: &Report) {
        match self {
            NodeRuntime::Docker(docker) => docker.watch(report).await,
            NodeRuntime::Simulated(docker) => docker.watch(report).await,
        }
    }

    /// Carries out one action and reports its outcome.
    pub async fn carry_out(&self, action: DockerAction, report: &Report) {
        match self {
            NodeRuntime::Docker(docker) => docker.carry_out(action, report).await,
            NodeRuntime::Simulated(docker) => docker.carry_out(action, report).await,
        }
    }

    /// Sends one health probe.
    ///
    /// # Errors
    /// In one sentence why it failed.
    pub async fn probe(&self, probe: &Probe) -> Result<(), String> {
        match self {
            NodeRuntime::Docker(_) => health::probe(probe).await,
            NodeRuntime::Simulated(docker) => docker.probe(probe),
        }
    }

    /// Sends a container's log until it ends or nobody reads any more.
    ///
    /// # Errors
    /// When there is no log to begin with.
    pub async fn logs(&self, container_id: &str, query: LogQuery) -> Result<LogSource, ApiError> {
        match self {
            NodeRuntime::Docker(docker) => docker.logs(container_id, query).await,
            NodeRuntime::Simulated(docker) => docker.logs(container_id, query),
        }
    }
}

/// A log that has begun to flow.
pub struct LogSource(Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>);

impl std::fmt::Debug for LogSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSource")
    }
}

impl LogSource {
    /// A log that comes in these pieces; an error ends it although it goes on.
    pub fn new(pieces: impl Stream<Item = Result<Bytes, String>> + Send + 'static) -> Self {
        Self(pieces.boxed())
    }

    /// The next bytes, or why there are no more although the log goes on.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        self.0.next().await
    }
}

/// A line of a log as it is told.
#[derive(Debug, Serialize)]
pub struct LogLine<'a> {
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// When it was written, RFC 3339.
    pub at: &'a str,
    /// The line, without its end.
    pub line: &'a str,
}

impl LogLine<'_> {
    /// Adds it as a line of JSON.
    pub fn write(&self, into: &mut Vec<u8>) {
        into.extend(serde_json::to_vec(self).unwrap_or_default());
        into.push(b'\n');
    }
}

/// Sends a log to its reader until either ends.
pub async fn pour(mut log: LogSource, into: Outflow) {
    loop {
        let piece = tokio::select! {
            () = into.reader_left() => return,
            piece = log.next() => piece,
        };
        match piece {
            Some(Ok(bytes)) => {
                if into.send(bytes).await.is_err() {
                    return;
                }
            }
            Some(Err(_)) => return into.break_off().await,
            None => return,
        }
    }
}
