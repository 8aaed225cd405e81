//! [`ContainerInstance`]: one container's one life, as reported and as shown.

use serde::{Deserialize, Serialize};

use super::{InstanceId, NodeId, Protocol, Reason, WorkloadId};

/// How far an instance has come. Only ever moves forward.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Ordered, not yet begun.
    #[default]
    Pending,
    /// Its image is being pulled.
    Pulling,
    /// Its container exists and is being started.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended; there is an exit code.
    Exited,
    /// It could not be started, or disappeared without an exit code.
    Failed,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Pulling, Self::Created, Self::Running, Self::Exited, Self::Failed];

    /// The same words as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Pulling => "pulling",
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Exited => "exited",
            Phase::Failed => "failed",
        }
    }

    /// Whether its life is over.
    pub fn is_final(self) -> bool {
        matches!(self, Phase::Exited | Phase::Failed)
    }
}

/// What the probe says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Not running yet, or its node is lost.
    #[default]
    Unknown,
    /// Runs, no probe has succeeded yet.
    Starting,
    /// Healthy; without a probe: running.
    Healthy,
    /// Failed `failureThreshold` probes in a row, or none succeeded in time.
    Unhealthy,
}

impl Health {
    /// The same words as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// A port of the container and where it is reached on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPort {
    /// The container's port.
    pub container_port: u16,
    /// The host's port.
    pub host_port: u16,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
}

/// One container's one life. Agents report it, the scheduler shows it.
///
/// Ages (`…ForMs`) are from a monotonic clock and travel as durations; wall
/// times (`startedAt`) are for display only and decide nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerInstance {
    /// Given by the scheduler; also the container's name.
    pub id: InstanceId,
    /// Docker's id; empty until created.
    #[serde(default)]
    pub container_id: String,
    /// The workload it belongs to.
    pub workload_id: WorkloadId,
    /// The replica it fills.
    pub replica: u32,
    /// The revision it was made from.
    pub revision: u64,
    /// Where it is.
    pub node_id: NodeId,
    /// The image it was made from.
    pub image: String,
    /// How far it has come.
    pub phase: Phase,
    /// What the probe says.
    #[serde(default)]
    pub health: Health,
    /// Running, healthy if it has a probe, for `minReadySeconds`. Decided by the
    /// scheduler; agents leave it false.
    #[serde(default)]
    pub ready: bool,
    /// Being stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopping: bool,
    /// Its node is dead or unable; computed by the scheduler, never stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// Exit code, once exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The container's own address, while running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Published ports, while running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PublishedPort>,
    /// Host ports that it was ordered to bind, until it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked_ports: Vec<PublishedPort>,
    /// How often its replica had been restarted when it was ordered.
    #[serde(default)]
    pub restarts: u32,
    /// Failures in a row of its replica when it was ordered.
    #[serde(default)]
    pub backoff_step: u32,
    /// Wall time of its start, RFC 3339, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Why it is not running and ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The instance it follows in its replica, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<InstanceId>,
    /// The instance that has to be gone before this one is launched, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<InstanceId>,
    /// How long it has been running (or, once over, had been), milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_for_ms: Option<u64>,
    /// How long it has been healthy without a break, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_for_ms: Option<u64>,
    /// Unhealthy for so many probes that it is to be restarted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_due: bool,
}
