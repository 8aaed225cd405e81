//! What readers get to see.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::wire::DockerStatus;
use super::{ContainerInstance, Extent, Health, InstanceId, NodeId, Why, WorkloadId, WorkloadSpec};

/// Answer to `POST /deploy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeployResponse {
    /// The workload.
    pub id: WorkloadId,
    /// The revision that is now wanted.
    pub revision: u64,
    /// What the user should know, e.g. that a host port was not honoured.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// All of it was wanted already: nothing is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// Answer to a scale, a delete, and to what is done about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangeResponse {
    /// The workload or node.
    pub id: String,
    /// What happens now, in one sentence.
    pub message: String,
    /// What the user should know, e.g. what may go on running on a removed node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// It was so already: nothing is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
}

/// Body of `POST /workloads/{id}/rollout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRequest {
    /// The image to roll to.
    pub image: String,
    /// Another `maxSurge` from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Extent>,
    /// Another `maxUnavailable` from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Extent>,
}

/// Body of `POST /workloads/{id}/rollout/undo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoRequest {
    /// The revision to go back to; else the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Body of `PUT /workloads/{id}/scale`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleRequest {
    /// How many replicas are wanted.
    pub replicas: u32,
}

/// A workload as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    /// What is wanted.
    pub spec: WorkloadSpec,
    /// The revision of its template.
    pub revision: u64,
    /// Replicas wanted.
    pub desired: u32,
    /// Instances that run, ready or not.
    pub running: u32,
    /// Instances that are ready and not stopping.
    pub ready: u32,
    /// Instances ordered or coming up.
    pub pending: u32,
    /// Replicas that wait, each with its reason in `reasons`.
    pub waiting: u32,
    /// Replicas that finished.
    pub done: u32,
    /// Instances being stopped.
    #[serde(default)]
    pub stopping: u32,
    /// Restarts of all replicas together.
    #[serde(default)]
    pub restarts: u64,
    /// Why it is short of its count; empty when it is not.
    pub reasons: Vec<Why>,
    /// A rollout in progress or the last one; `null` if there was none.
    pub rollout: Option<RolloutView>,
}

impl WorkloadView {
    /// The same for those who may not see the values of its environment: the names stay.
    #[must_use]
    pub fn without_values(mut self) -> Self {
        self.spec.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
        self
    }
}

/// In the place of a value that is not for its reader.
pub const HIDDEN: &str = "(hidden)";

/// A rollout as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutView {
    /// The revision it came from.
    pub from: u64,
    /// The revision it goes to.
    pub to: u64,
    /// `rolling`, `paused`, `aborting`, `done` or `aborted`.
    pub state: String,
    /// Instances of the new revision that are ready.
    pub updated: u32,
    /// Replicas in all.
    pub total: u32,
    /// Why it was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

/// One revision in a workload's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// Its number.
    pub revision: u64,
    /// When it was first deployed, RFC 3339.
    pub at: String,
    /// By whom.
    pub by: String,
    /// Why: what was asked.
    pub why: String,
    /// When it was last asked for again, by whom and why: by an undo, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<AgainView>,
    /// Whether it is the one wanted now.
    pub current: bool,
    /// Whether it is the last that was completely rolled out.
    #[serde(default)]
    pub head: bool,
    /// How its rollout ended, if not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What it is made of.
    pub template: super::Template,
}

impl RevisionView {
    /// The same for those who may not see the values of its environment.
    #[must_use]
    pub fn without_values(mut self) -> Self {
        self.template.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
        self
    }
}

/// An earlier revision was asked for once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgainView {
    /// When, RFC 3339.
    pub at: String,
    /// By whom.
    pub by: String,
    /// Why: what was asked.
    pub why: String,
}

/// A node as shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub id: NodeId,
    /// `host:port` of its agent.
    pub address: String,
    /// Whether it is alive.
    pub status: NodeStatus,
    /// Whether it may get new instances.
    pub schedulable: bool,
    /// Whether what runs on it is moving elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Seconds since it was last heard; `null` if never in this epoch.
    pub last_heartbeat_seconds_ago: Option<f64>,
    /// Instances on it that are not over.
    pub instances: u32,
    /// Its Docker daemon.
    pub docker: DockerStatus,
    /// The version of its agent.
    pub version: String,
    /// Why it may not get new instances, or is not alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether a node is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeStatus {
    /// Known from before the scheduler's restart, not heard since.
    #[default]
    Unknown,
    /// Heard within 9 s.
    Alive,
    /// Silent for 9 s.
    Dead,
}

impl NodeStatus {
    /// The same words as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeStatus::Unknown => "unknown",
            NodeStatus::Alive => "alive",
            NodeStatus::Dead => "dead",
        }
    }
}

/// Answer to `GET /discover/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiscoverView {
    /// The workload.
    pub name: WorkloadId,
    /// One per ready instance and published port.
    pub endpoints: Vec<Endpoint>,
}

/// Where a ready instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The instance.
    pub instance_id: InstanceId,
    /// Where it runs.
    pub node_id: NodeId,
    /// `host:port`.
    pub address: String,
    /// The container's port behind it.
    pub container_port: u16,
    /// What the probe says; `unknown` while its node is not heard.
    pub health: Health,
}

/// One thing that happened, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Grows by one with each event of this epoch, unless it starts higher.
    pub seq: u64,
    /// When, RFC 3339, for display.
    pub at: String,
    /// The machine word, e.g. `InstanceOrdered`, `NodeDead`.
    pub kind: String,
    /// The workload it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadId>,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The instance it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// One sentence.
    pub message: String,
}

/// The story of a workload: `GET /workloads/{id}/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// The workload.
    pub id: WorkloadId,
    /// What is wanted, in one sentence.
    pub wanted: String,
    /// What is, in one sentence.
    pub is: String,
    /// Each replica's state, in replica order; long lists are cut and say so.
    pub replicas: Vec<ReplicaView>,
    /// What was decided lately and why, oldest first.
    pub decided: Vec<EventView>,
    /// What it is waiting for; empty when everything is as wanted.
    pub waiting_for: Vec<Why>,
    /// What to try next.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// One replica in [`ExplainView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    /// Its number.
    pub replica: u32,
    /// `filled`, `waiting`, `done` or `missing`.
    pub state: String,
    /// Times it was restarted.
    pub restarts: u32,
    /// In one sentence.
    pub message: String,
    /// The instances in it.
    pub instances: Vec<InstanceId>,
}

/// The first message of `GET /stream`: everything, as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// The cluster.
    pub cluster: String,
    /// Which life of its scheduler.
    pub epoch: u64,
    /// Version of the scheduler.
    pub version: String,
    /// All nodes.
    pub nodes: Vec<NodeView>,
    /// All workloads.
    pub workloads: Vec<WorkloadView>,
    /// The instances, the first so many by id where there are very many.
    pub instances: Vec<ContainerInstance>,
    /// How many instances there are in all.
    pub instances_total: u64,
    /// Whether `events` goes on where the reader said it was; else it is the latest.
    pub resumed: bool,
    /// What happened.
    pub events: Vec<Arc<EventView>>,
}

/// Every later message of `GET /stream`: what is not as it was in the one before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChangesView {
    /// Nodes that are new or differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeView>,
    /// Nodes that were removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes_gone: Vec<NodeId>,
    /// Nodes that were heard.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<NodeId>,
    /// Workloads that are new or differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadView>,
    /// Workloads that were deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads_gone: Vec<WorkloadId>,
    /// Instances that are new or differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<ContainerInstance>,
    /// Instances that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances_gone: Vec<InstanceId>,
    /// What happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Arc<EventView>>,
    /// The reader was so slow that events are missing before these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub events_missed: bool,
}

/// Answer to `GET /health` of either role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthView {
    /// `ok`, or what is wrong.
    pub status: String,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Version of the binary.
    pub version: String,
    /// What an operator should know although nothing is broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
