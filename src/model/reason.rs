//! Reasons: why something is not running and ready. One machine word and one
//! human sentence, for every instance, replica and workload that is short of
//! what was asked for.

use serde::{Deserialize, Serialize};

use super::{InstanceId, NodeId};

/// The machine word of a reason. Unknown words from a newer peer become
/// [`Reason::Other`] rather than an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Ordered, the agent has not confirmed it yet.
    Ordered,
    /// The agent has noted the order and waits for its turn.
    Queued,
    /// Everything is there; it is launched when what it follows is gone.
    Prepared,
    /// The image is being pulled.
    Pulling,
    /// The container is being created and started.
    Starting,
    /// Runs, but its health probe has not succeeded yet.
    HealthStarting,
    /// Runs and is healthy, but not yet for `minReadySeconds`.
    MinReady,
    /// Its health probe failed `failureThreshold` times in a row.
    Unhealthy,
    /// Being stopped.
    Stopping,
    /// Exited with code 0.
    Completed,
    /// Exited with another code.
    Error,
    /// Ended after the kernel had killed a process of it: its memory limit, or no
    /// memory on the node.
    OutOfMemory,
    /// The container disappeared without an exit code.
    Removed,
    /// There is no such image.
    ImageNotFound,
    /// The registry refused access to the image.
    ImageDenied,
    /// The image could not be pulled, for another reason.
    PullFailed,
    /// The host port is taken.
    PortTaken,
    /// Docker could not create the container.
    CreateFailed,
    /// Docker could not start the container.
    StartFailed,
    /// The node's agent does not allow it: its own command line does not name the
    /// directory that would be mounted, or one for files of variables.
    NotAllowed,
    /// A file or directory of the node that it needs is not there, or of no use.
    NotOnNode,
    /// The agent refused the order.
    Refused,
    /// Waits before the next attempt.
    BackOff,
    /// No node is registered.
    NoNodes,
    /// No node can take it; the message counts the refusals.
    NoRoom,
    /// Its node is dead.
    NodeLost,
    /// Docker on its node does not answer.
    DockerUnavailable,
    /// The scheduler has just started and waits for nodes to report.
    Recovering,
    /// So many nodes died at once that nothing is replaced for now.
    MassNodeLoss,
    /// Waits for excess or stopping instances to go first.
    WaitingForStops,
    /// A person has frozen the rollout.
    Paused,
    /// A reason this build does not know.
    #[serde(other)]
    Other,
}

impl Reason {
    /// Whether trying again leads to the same unless a person changes something.
    pub fn is_final(self) -> bool {
        use Reason::{ImageDenied, ImageNotFound, NotAllowed, NotOnNode};
        matches!(self, ImageNotFound | ImageDenied | NotAllowed | NotOnNode)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

/// A reason with its sentence, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The machine word.
    pub reason: Reason,
    /// One sentence for people.
    pub message: String,
    /// The replica it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<u32>,
    /// The instance it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// When it is expected to change by itself, milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

impl Why {
    /// A reason about nothing in particular.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            replica: None,
            instance_id: None,
            node_id: None,
            for_ms: None,
        }
    }
}
