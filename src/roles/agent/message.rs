//! What goes into the agent's core and what comes out: plain values that can be
//! stored, replayed and compared.
//!
//! Every [`Action`] that has an outcome gets exactly one [`Input`] back, however
//! long it took and however it ended; that is the contract between the core and
//! the shells that carry its actions out.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::limits::{DEFAULT_LOG_FILES, DEFAULT_LOG_SIZE, DEFAULT_PIDS};
use crate::model::wire::{
    HeartbeatRequest, HeartbeatResponse, OrderAccepted, RegisterRequest, RegisterResponse,
    RunRequest, StopRequest,
};
use crate::model::{ApiError, ClusterId, DaemonId, InstanceId, NodeId, PublishedPort, Reason};
use crate::model::{LogLimits, Mount, Protocol, Resources, WorkloadId};

/// Milliseconds since the agent started, from a monotonic clock.
pub type Millis = u64;

/// Names the waiting caller of a reply; given by the driver, meaningless inside.
pub type Ticket = u64;

/// When a step happens; everything in it that is not in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Monotonic; decides.
    pub now_ms: Millis,
    /// Unix milliseconds; for display, and to learn the age of what ran before.
    pub wall_ms: u64,
    /// A random draw; jitter is derived from it.
    pub draw: u64,
}

/// One thing that happened, as the core is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// Time has passed: a deadline.
    Tick,
    /// Outcome of [`Action::Register`].
    Registered(Result<Registration, CallError>),
    /// Outcome of [`Action::Heartbeat`].
    Beat {
        /// The snapshot's number.
        seq: u64,
        /// What the scheduler said.
        outcome: Result<HeartbeatResponse, CallError>,
    },
    /// The scheduler orders an instance to run.
    Run {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The order.
        request: Box<RunRequest>,
    },
    /// The scheduler orders an instance to stop.
    Stop {
        /// Who waits for the answer.
        ticket: Ticket,
        /// The instance.
        id: InstanceId,
        /// The order.
        request: StopRequest,
    },
    /// How Docker is now.
    Docker(DockerReport),
    /// One of our containers changed, as Docker's event stream says.
    Event(ContainerEvent),
    /// Outcome of [`DockerAction::List`]: all our containers, or why not.
    Listed {
        /// The number of the action.
        number: u64,
        /// Complete, or it is an error.
        outcome: Result<Vec<Observed>, String>,
    },
    /// Outcome of [`DockerAction::CheckImage`].
    ImageChecked {
        /// The image.
        image: String,
        /// Whether it is on the node.
        outcome: Result<bool, String>,
    },
    /// A pull made progress. Not an outcome.
    PullProgress {
        /// The image.
        image: String,
    },
    /// Outcome of [`DockerAction::Pull`].
    Pulled {
        /// The image.
        image: String,
        /// Pulled to the end, or why not.
        outcome: Result<(), PullError>,
    },
    /// Outcome of [`DockerAction::Launch`].
    Launched {
        /// The instance.
        id: InstanceId,
        /// What came of it.
        outcome: LaunchOutcome,
    },
    /// Outcome of [`DockerAction::Stop`]. Success: the process has ended, or the
    /// container is gone.
    Stopped {
        /// The container.
        container_id: String,
        /// Ended, or why not.
        outcome: Result<(), String>,
    },
    /// Outcome of [`DockerAction::Remove`]. Success: there is no such container.
    Removed {
        /// The container.
        container_id: String,
        /// Gone, or why not.
        outcome: Result<(), String>,
    },
    /// Outcome of [`Action::Probe`].
    Probed {
        /// The instance.
        id: InstanceId,
        /// The container that was probed.
        container_id: String,
        /// Passed, or in one sentence why not.
        outcome: Result<(), String>,
    },
    /// The agent is to end.
    Shutdown {
        /// Stop and remove this node's containers first (`dev`); otherwise they
        /// run on.
        stop_containers: bool,
    },
}

/// A registration that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// What the scheduler answered.
    pub response: RegisterResponse,
    /// The one address that ports are published on: `response.address`, resolved.
    pub bind_ip: IpAddr,
}

/// Why a call to the scheduler did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallError {
    /// It answered, but not with a 2xx.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        message: String,
    },
    /// It did not answer.
    Unreachable(String),
}

/// How a Docker daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DockerReport {
    /// It answers, and its events are subscribed to from here on. Said at the
    /// first contact and whenever events may have been missed.
    Ok {
        /// Which daemon it is.
        daemon: DaemonId,
    },
    /// Nobody listens at its socket.
    Away(String),
    /// It accepts connections and does not answer.
    Hung(String),
}

/// What Docker's event stream says about one of our containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    /// The container.
    pub container_id: String,
    /// The cluster, from its label.
    pub cluster: ClusterId,
    /// The instance, from its label.
    pub id: InstanceId,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of events that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was made.
    Create,
    /// Its process was started.
    Start,
    /// Its process ended.
    Die {
        /// With this code.
        exit_code: i64,
    },
    /// A process in it was killed for want of memory.
    Oom,
    /// It was removed.
    Destroy,
}

/// A container of ours, as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Its name, without the slash.
    pub name: String,
    /// The image it was made from.
    pub image: String,
    /// Its labels that start with `kube-lite.`.
    pub labels: BTreeMap<String, String>,
    /// Its state.
    pub facts: Facts,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Docker's id.
    pub container_id: String,
    /// How far it has come.
    pub state: ContainerState,
    /// With what its process ended, if it has.
    pub exit_code: Option<i64>,
    /// It was killed for want of memory.
    pub oom_killed: bool,
    /// Unix milliseconds of its start.
    pub started_at_ms: Option<u64>,
    /// Unix milliseconds of its end.
    pub finished_at_ms: Option<u64>,
    /// Its own address, while running.
    pub ip: Option<String>,
    /// Where its ports are published, while running.
    pub ports: Vec<PublishedPort>,
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, never started.
    #[default]
    Created,
    /// Its process runs (or is paused).
    Running,
    /// Its process has ended.
    Ended,
    /// It is no more.
    Gone,
}

/// What came of a launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaunchOutcome {
    /// It was started; it may have ended since.
    Started(Facts),
    /// It could not be started.
    Failed {
        /// The machine word.
        reason: Reason,
        /// Docker's words in a sentence.
        message: String,
        /// A container that could not be removed again.
        left_over: Option<String>,
    },
    /// No answer in time: it may or may not have been created and started.
    Unknown(String),
}

/// Why a pull failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullError {
    /// It would fail again, here at least.
    Final {
        /// `ImageNotFound`, `ImageDenied` or `NoRoom`.
        reason: Reason,
        /// In one sentence.
        message: String,
    },
    /// It may succeed when tried again.
    Transient(String),
    /// It was cancelled.
    Cancelled,
}

/// What is to be done, with nothing left to choose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// `POST /register`.
    Register(Box<RegisterRequest>),
    /// `POST /heartbeat`.
    Heartbeat(Box<HeartbeatRequest>),
    /// Something Docker is to do.
    Docker(DockerAction),
    /// One probe.
    Probe(Probe),
    /// Keep this for the next start of the agent. No outcome.
    Remember(Remembered),
    /// Nothing more will be done: end. No outcome.
    Halt(Ending),
}

/// What Docker (or what stands in for it) is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DockerAction {
    /// Is this image on the node?
    CheckImage {
        /// The image.
        image: String,
    },
    /// Get this image from its registry.
    Pull {
        /// The image.
        image: String,
    },
    /// Nobody wants this pull any more: end it. No outcome of its own.
    CancelPull {
        /// The image.
        image: String,
    },
    /// Make and start a container.
    Launch(Box<Launch>),
    /// SIGTERM, wait, SIGKILL.
    Stop {
        /// The container.
        container_id: String,
        /// Seconds to wait in between.
        grace_seconds: u32,
    },
    /// Remove a container with its volumes, killing it if need be.
    Remove {
        /// The container.
        container_id: String,
    },
    /// List all containers of this node in this cluster.
    List {
        /// Names the answer.
        number: u64,
        /// The cluster.
        cluster: ClusterId,
        /// The node.
        node: NodeId,
    },
}

/// A container to make and start. Doing it twice is doing it once: the name is
/// the key, and an own container of that name is started rather than made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The instance, and the container's name.
    pub id: InstanceId,
    /// The workload, for messages.
    pub workload: WorkloadId,
    /// The image.
    pub image: String,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's default arguments when not empty.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Ports to expose and publish.
    pub ports: Vec<BoundPort>,
    /// What it may use.
    pub limits: Limits,
    /// What of the node it is to see, if the node allows it.
    pub mounts: Vec<Mount>,
    /// Files on the node with further variables, if the node allows them. What
    /// stands in them is read when it is launched, and is nowhere in here.
    pub env_from: Vec<String>,
    /// Seconds between SIGTERM and SIGKILL when somebody else stops it.
    pub stop_grace_period_seconds: u32,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, swap included; `None`: what there is.
    pub memory: Option<u64>,
    /// Thousandths of a CPU; `None`: what there is.
    pub milli_cpus: Option<u32>,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes of one file of its log.
    pub log_size: u64,
    /// So many files of its log are kept.
    pub log_files: u32,
}

impl Limits {
    /// What is asked for, and the defaults of the rest.
    pub fn of(resources: &Resources, logs: &LogLimits) -> Self {
        Self {
            memory: resources.memory.map(|size| size.0),
            milli_cpus: resources.cpus.map(|cpus| cpus.0),
            pids: resources.pids.unwrap_or(DEFAULT_PIDS),
            log_size: logs.max_size.unwrap_or(DEFAULT_LOG_SIZE).0,
            log_files: logs.max_files.unwrap_or(DEFAULT_LOG_FILES),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&Resources::default(), &LogLimits::default())
    }
}

/// A port to publish, on one explicit address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPort {
    /// The container's port.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: Protocol,
    /// The host's address.
    pub host_ip: IpAddr,
    /// The host's port; 0: Docker picks.
    pub host_port: u16,
}

/// One HTTP GET to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The instance.
    pub id: InstanceId,
    /// The container.
    pub container_id: String,
    /// The container's own address.
    pub ip: String,
    /// The container's port.
    pub port: u16,
    /// The path.
    pub path: String,
    /// Without an answer after this long it has failed.
    pub timeout_ms: u64,
}

/// What a restarted agent must know before it reaches the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    /// The cluster it belonged to.
    pub cluster: ClusterId,
    /// The address its ports were published on.
    pub bind_ip: IpAddr,
}

/// Why the agent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It was told to.
    Asked,
    /// It was told to stop its containers too, and these are still there.
    LeftOver(Vec<InstanceId>),
    /// Another agent has taken over this node; the scheduler's words.
    Superseded(String),
    /// It ended otherwise than its core decided.
    Failed(String),
}

/// What one step decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// What is to be done, in this order; each is started without waiting for
    /// the one before.
    pub actions: Vec<Action>,
    /// Answers to the scheduler's orders.
    pub replies: Vec<(Ticket, Result<OrderAccepted, ApiError>)>,
    /// When the core wants to be called again, if nothing happens before.
    pub wake_at: Option<Millis>,
}
