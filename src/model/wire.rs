//! What agents and the scheduler say to each other.
//!
//! Numbers that only identify (`incarnation`) are kept below 2^53, so that any
//! JSON reader sees them exactly.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    ApiError, ClusterId, ContainerInstance, DaemonId, InstanceId, NodeId, PublishedPort, Template,
    WorkloadId,
};

/// `POST /register`: an agent introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// The name it claims.
    pub node_id: NodeId,
    /// Secret of its data directory: the same key is the same machine.
    pub key: String,
    /// Random per agent start, below 2^53.
    pub incarnation: u64,
    /// `host:port` where it wants to be reached; else the address the scheduler
    /// sees it come from, with `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// The port it listens on.
    pub port: u16,
    /// Its Docker daemon and how that is.
    pub docker: DockerStatus,
    /// Version of the agent, for display.
    #[serde(default)]
    pub version: String,
}

/// Answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterResponse {
    /// The cluster it now belongs to.
    pub cluster: ClusterId,
    /// The scheduler's epoch.
    pub epoch: u64,
    /// `host:port` under which it was noted; ports are published on its host part.
    pub address: String,
}

/// How the agent's Docker daemon is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerStatus {
    /// Whether it answers.
    pub state: DockerState,
    /// For how long it has been in this state, milliseconds.
    #[serde(default)]
    pub for_ms: u64,
    /// Which daemon it is; unknown until it has answered once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonId>,
    /// What it said, when it is not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether a Docker daemon answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DockerState {
    /// It answers.
    Ok,
    /// It accepts connections and does not answer.
    Hung,
    /// Nobody listens at its socket, or it has not been reached yet; or a word of
    /// a newer agent's that this build does not know: not able, in any case.
    #[default]
    #[serde(other)]
    Away,
}

/// `POST /heartbeat`: a full snapshot of what the agent has, orders in flight
/// included, or what has changed since an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRequest {
    /// Who reports.
    pub node_id: NodeId,
    /// Of which life of the agent.
    pub incarnation: u64,
    /// The epoch it registered under.
    pub epoch: u64,
    /// Grows with each snapshot of this incarnation.
    pub seq: u64,
    /// Built from a complete Docker listing since this incarnation began; only
    /// then does absence mean gone.
    pub synced: bool,
    /// Its Docker daemon.
    pub docker: DockerStatus,
    /// But for ages, and but for what `containers` and `gone` name, everything is as
    /// it was in the report of this number, which was taken in. Then `synced` is false, so
    /// that nobody could take it for a snapshot. Only for those who take such reports;
    /// of an agent of a former release, both name nothing: a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<u64>,
    /// Everything it has, or what is not as it was.
    pub containers: Vec<ContainerInstance>,
    /// What it has no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<InstanceId>,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatResponse {
    /// The scheduler's epoch.
    pub epoch: u64,
    /// The largest `seq` it has taken in. A report of what has changed that is not
    /// among them is to be followed by the full snapshot.
    pub seq: u64,
    /// It takes reports that nothing has changed.
    #[serde(default)]
    pub digests: bool,
    /// It takes reports of what has changed.
    #[serde(default)]
    pub changes: bool,
}

/// Who an order is for and who gives it. If one of the four is not current at
/// the agent, it answers 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of the agent the scheduler knows.
    pub incarnation: u64,
    /// The life of the scheduler.
    pub epoch: u64,
}

/// `POST /run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRequest {
    /// Fence.
    pub fence: Fence,
    /// What to run.
    pub order: RunOrder,
}

/// Everything an agent needs to run one instance, with nothing left to choose.
/// Kept whole in the container's `kube-lite.order` label, so that a restarted
/// agent needs no scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunOrder {
    /// Version of this record.
    #[serde(default = "order_version")]
    pub v: u32,
    /// The instance's id and the container's name.
    pub id: InstanceId,
    /// The instance it follows in its replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<InstanceId>,
    /// The instance that has to be gone before this one is launched: they need the
    /// same place, a host port for instance. The image is pulled before. The agent
    /// sees it go if it is on the same node; for any other the order is repeated
    /// without this, which is the only thing a repeat may leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<InstanceId>,
    /// The workload.
    pub workload: WorkloadId,
    /// The revision of its template.
    pub revision: u64,
    /// The replica it fills.
    pub replica: u32,
    /// How often that replica had been restarted before.
    #[serde(default)]
    pub restarts: u32,
    /// The replica's back-off step: failures in a row so far.
    #[serde(default)]
    pub backoff_step: u32,
    /// What to run. Host ports are those to bind: 0 means Docker picks.
    pub template: Arc<Template>,
}

impl RunOrder {
    /// The host ports it asks for by number.
    pub fn asked_ports(&self) -> Vec<PublishedPort> {
        let asked = self.template.ports.iter().filter(|port| port.host_port != 0);
        asked
            .map(|port| PublishedPort {
                container_port: port.container_port,
                host_port: port.host_port,
                protocol: port.protocol,
            })
            .collect()
    }
}

/// The version of [`RunOrder`] this build writes.
pub fn order_version() -> u32 {
    1
}

/// `POST /stop/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopRequest {
    /// Fence.
    pub fence: Fence,
    /// How long to go on serving before SIGTERM, milliseconds.
    #[serde(default)]
    pub drain_ms: u64,
    /// Why, for logs.
    #[serde(default)]
    pub why: String,
}

/// The two orders there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OrderKind {
    /// `POST /run`.
    Run,
    /// `POST /stop/{id}`.
    Stop,
}

/// What an order says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum OrderBody {
    /// Run this.
    Run(Box<RunOrder>),
    /// Stop this.
    Stop {
        /// The instance.
        id: InstanceId,
        /// How long to go on serving before SIGTERM, milliseconds.
        #[serde(default)]
        drain_ms: u64,
        /// Why, for logs.
        #[serde(default)]
        why: String,
    },
}

impl OrderBody {
    /// The instance it is about.
    pub fn id(&self) -> &InstanceId {
        match self {
            OrderBody::Run(order) => &order.id,
            OrderBody::Stop { id, .. } => id,
        }
    }

    /// Which of the two it is.
    pub fn kind(&self) -> OrderKind {
        match self {
            OrderBody::Run(_) => OrderKind::Run,
            OrderBody::Stop { .. } => OrderKind::Stop,
        }
    }

    /// About how many bytes it takes, rather more than less.
    pub fn size(&self) -> usize {
        match self {
            OrderBody::Run(order) => {
                let template = &order.template;
                let env = template.env.iter().map(|(name, value)| name.len() + value.len() + 8);
                let words =
                    template.command.iter().chain(&template.args).map(|word| word.len() + 8);
                let mounts = template.mounts.iter().map(|m| m.source.len() + m.target.len() + 48);
                let files = template.env_from.iter().map(|from| from.file.len() + 16);
                2048 + env.chain(words).chain(mounts).chain(files).sum::<usize>()
            }
            OrderBody::Stop { why, .. } => 512 + why.len(),
        }
    }
}

/// `POST /orders`: several at once, each of which is taken or refused by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrdersRequest {
    /// Fence of them all.
    pub fence: Fence,
    /// What to do.
    pub orders: Vec<OrderBody>,
}

/// What became of one of several orders; they are answered in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OrderOutcome {
    /// As by 202.
    Accepted(OrderAccepted),
    /// As by an answer of this status.
    Refused {
        /// The status.
        status: u16,
        /// Why.
        error: ApiError,
    },
}

/// 202 to an order: it is in every snapshot of this incarnation from this `seq` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderAccepted {
    /// The agent's incarnation.
    pub incarnation: u64,
    /// The last snapshot that does not know the order yet.
    pub seq: u64,
    /// The instance that answers for it: the order's own id, or the successor
    /// that the agent had already started for what the order replaces.
    pub id: InstanceId,
}

/// The labels on our containers. Only containers that carry them are ever
/// touched or shown.
pub mod labels {
    /// Version of this set of labels.
    pub const SCHEMA: &str = "kube-lite.schema";
    /// The value of [`SCHEMA`] this build writes and reads.
    pub const SCHEMA_VERSION: &str = "1";
    /// The cluster, so that two sandboxes on one daemon leave each other alone.
    pub const CLUSTER: &str = "kube-lite.cluster";
    /// The node.
    pub const NODE: &str = "kube-lite.node";
    /// The workload.
    pub const WORKLOAD: &str = "kube-lite.workload";
    /// The revision.
    pub const REVISION: &str = "kube-lite.revision";
    /// The replica.
    pub const REPLICA: &str = "kube-lite.replica";
    /// The instance.
    pub const INSTANCE: &str = "kube-lite.instance";
    /// The instance it follows.
    pub const REPLACES: &str = "kube-lite.replaces";
    /// Restarts of the replica before.
    pub const RESTARTS: &str = "kube-lite.restarts";
    /// The whole order, JSON.
    pub const ORDER: &str = "kube-lite.order";
}
