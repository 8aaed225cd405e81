//! The real thing: a Docker daemon, reached over its API.
//!
//! One [`DockerHandle`] per daemon and process holds what belongs to the daemon
//! and not to a node: the connection, its version, how many containers start at a
//! time, the pulls in flight, the event stream. Each agent has a
//! [`DockerRuntime`] of its own on top. Every call has a time-out: a daemon that
//! is absent, gone or hung makes outcomes, never a hang.

mod allowed;
pub mod connect;
mod launch;
mod list;
mod logs;
mod progress;
mod pull;
mod trouble;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, StopContainerOptionsBuilder};
use tokio::sync::Semaphore;

use super::message::{DockerAction, Facts, Input};
use super::runtime::Report;
use crate::model::wire::labels;
use crate::model::{ClusterId, NodeId, Timing};
pub use allowed::{Allowed, variables};
pub use connect::Endpoint;
use progress::Reached;
use pull::Pulls;
use trouble::{Trouble, within};
use watch::Watch;

/// Containers created and started at a time, per daemon. More does not make
/// Docker faster: it serialises most of a start itself.
const STARTS_AT_A_TIME: usize = 4;
/// Looking something up takes milliseconds; a loaded daemon gets this long.
const LOOK: Duration = Duration::from_secs(15);
/// Listing everything.
const LIST: Duration = Duration::from_secs(30);
/// Creating, starting or removing one container.
const CHANGE: Duration = Duration::from_secs(60);

/// One Docker daemon, shared by all agents of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DockerHandle {
    daemon: Arc<Daemon>,
    allowed: Arc<Allowed>,
}

/// What belongs to the daemon and not to a node.
#[derive(Debug)]
struct Daemon {
    endpoint: Endpoint,
    timing: Timing,
    /// The last connection whose version was agreed on.
    client: Mutex<Option<Docker>>,
    starts: Semaphore,
    pulls: Pulls,
    reached: Mutex<Reached>,
    watch: Watch,
    /// Warnings of Docker's that were passed on; once each is enough.
    warned: Mutex<BTreeSet<String>>,
}

impl DockerHandle {
    /// The daemon at `endpoint`. Nothing is asked of it yet.
    pub fn new(endpoint: Endpoint, timing: Timing) -> Self {
        Self {
            daemon: Arc::new(Daemon {
                endpoint,
                timing,
                client: Mutex::new(None),
                starts: Semaphore::new(STARTS_AT_A_TIME),
                pulls: Pulls::default(),
                reached: Mutex::new(Reached::default()),
                watch: Watch::new(),
                warned: Mutex::default(),
            }),
            allowed: Arc::default(),
        }
    }

    /// The same, showing this of the machine to containers.
    pub fn allowing(self, allowed: Allowed) -> Self {
        Self { allowed: Arc::new(allowed), ..self }
    }

    /// The part of it that one agent sees.
    pub fn for_node(&self, node: NodeId) -> DockerRuntime {
        DockerRuntime {
            daemon: self.daemon.clone(),
            allowed: self.allowed.clone(),
            node,
            pulling: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Removes every container of `cluster`, whatever its node: what an earlier
    /// sandbox left behind. Returns how many there were.
    ///
    /// # Errors
    /// When Docker does not answer, or a container could not be removed.
    pub async fn remove_cluster(&self, cluster: &ClusterId) -> anyhow::Result<usize> {
        let client = self.daemon.client().await?;
        let of_cluster = [format!("{}={cluster}", labels::CLUSTER)];
        let ids = within(LIST, list::ids(&client, &of_cluster)).await?;
        for id in &ids {
            remove(&client, id).await?;
        }
        Ok(ids.len())
    }
}

/// A Docker daemon as one agent sees it.
#[derive(Debug)]
pub struct DockerRuntime {
    daemon: Arc<Daemon>,
    allowed: Arc<Allowed>,
    node: NodeId,
    /// How to end this agent's part in a pull.
    pulling: Mutex<BTreeMap<String, pull::Part>>,
    /// What inspecting a container in this state said; spares one call per
    /// container and listing.
    seen: Mutex<BTreeMap<String, (String, Facts)>>,
}

impl DockerRuntime {
    /// Reports how Docker is and what happens to this node's containers.
    pub async fn watch(&self, report: &Report) {
        self.daemon.follow(&self.node, report).await;
    }

    /// Carries out one action and reports its outcome.
    pub async fn carry_out(&self, action: DockerAction, report: &Report) {
        let outcome = match action {
            DockerAction::CheckImage { image } => {
                let outcome = self.has_image(&image).await.map_err(|trouble| trouble.to_string());
                Input::ImageChecked { image, outcome }
            }
            DockerAction::Pull { image } => {
                let outcome = self.pull(&image, report).await;
                Input::Pulled { image, outcome }
            }
            DockerAction::CancelPull { image } => return self.cancel_pull(&image),
            DockerAction::Launch(launch) => {
                let outcome = self.launch(&launch).await;
                Input::Launched { id: launch.id, outcome }
            }
            DockerAction::Stop { container_id, grace_seconds } => {
                let outcome = self.stop(&container_id, grace_seconds).await;
                let outcome = outcome.map_err(|trouble| trouble.to_string());
                Input::Stopped { container_id, outcome }
            }
            DockerAction::Remove { container_id } => {
                let outcome = self.remove(&container_id).await;
                let outcome = outcome.map_err(|trouble| trouble.to_string());
                Input::Removed { container_id, outcome }
            }
            DockerAction::List { number, cluster, node } => {
                let outcome = self.list(&cluster, &node).await;
                Input::Listed { number, outcome: outcome.map_err(|trouble| trouble.to_string()) }
            }
        };
        // An error means that the agent has ended.
        let _ = report.send(outcome).await;
    }

    async fn has_image(&self, image: &str) -> Result<bool, Trouble> {
        let client = self.daemon.client().await?;
        match within(LOOK, client.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(trouble) if trouble.is_not_found() => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    async fn stop(&self, container_id: &str, grace_seconds: u32) -> Result<(), Trouble> {
        let client = self.daemon.client().await?;
        let grace = i32::try_from(grace_seconds).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(grace).build();
        let limit = Duration::from_secs(grace_seconds.into()) + CHANGE / 2;
        gone_is_fine(within(limit, client.stop_container(container_id, Some(options))).await)
    }

    async fn remove(&self, container_id: &str) -> Result<(), Trouble> {
        let client = self.daemon.client().await?;
        remove(&client, container_id).await
    }
}

/// Removes a container with its volumes, killing it if need be.
async fn remove(client: &Docker, container_id: &str) -> Result<(), Trouble> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    gone_is_fine(within(CHANGE, client.remove_container(container_id, Some(options))).await)
}

fn gone_is_fine(outcome: Result<(), Trouble>) -> Result<(), Trouble> {
    match outcome {
        Err(trouble) if trouble.is_not_found() => Ok(()),
        other => other,
    }
}

/// Locks what is only ever held for a moment, never across an await. A panic
/// elsewhere leaves nothing half done in there.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
