//! What carries out the core's [`DockerAction`]s: Docker, or later something
//! that stands in for it. The actions and their outcomes are the whole boundary.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::docker::{DockerHandle, DockerRuntime};
use super::message::{DockerAction, Input};
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
}

impl Runtime {
    /// The part of it that one agent sees.
    pub fn for_node(&self, node: NodeId) -> Arc<NodeRuntime> {
        Arc::new(match self {
            Runtime::Docker(handle) => NodeRuntime::Docker(handle.for_node(node)),
        })
    }
}

/// The part of a runtime that one agent sees.
#[derive(Debug)]
pub enum NodeRuntime {
    /// A Docker daemon.
    Docker(DockerRuntime),
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
        let NodeRuntime::Docker(docker) = self;
        if let DockerAction::Pull { image } = action {
            docker.expect_pull(image);
        }
    }

    /// Reports how the runtime is and what happens to this node's containers,
    /// for as long as somebody listens.
    pub async fn watch(&self, report: &Report) {
        match self {
            NodeRuntime::Docker(docker) => docker.watch(report).await,
        }
    }

    /// Carries out one action and reports its outcome.
    pub async fn carry_out(&self, action: DockerAction, report: &Report) {
        match self {
            NodeRuntime::Docker(docker) => docker.carry_out(action, report).await,
        }
    }

    /// Sends a container's log until it ends or nobody reads any more.
    ///
    /// # Errors
    /// When there is no log to begin with.
    pub async fn logs(&self, container_id: &str, query: LogQuery) -> Result<LogSource, ApiError> {
        match self {
            NodeRuntime::Docker(docker) => docker.logs(container_id, query).await,
        }
    }
}

/// A log that has begun to flow.
pub type LogSource = super::docker::LogStream;

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
