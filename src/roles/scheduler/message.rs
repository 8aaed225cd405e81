//! What goes into the scheduler's core and what comes out: plain values that
//! can be stored, replayed and compared.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::view::{DeployResponse, EventView};
use crate::model::wire::{
    Fence, HeartbeatRequest, HeartbeatResponse, OrderAccepted, RegisterRequest, RegisterResponse,
};
pub use crate::model::wire::{OrderBody, OrderKind};
use crate::model::{ApiError, Extent, InstanceId, NodeId, WorkloadId, WorkloadSpec};

/// Milliseconds since the driver started, from a monotonic clock.
pub type Millis = u64;

/// Where and when a step happens; everything in it that is not in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Monotonic; decides.
    pub now: Millis,
    /// Unix milliseconds; for display and for what must outlive the process.
    pub wall: u64,
    /// A random draw; ids and jitter are derived from it.
    pub draw: u64,
}

/// Names the waiting caller of a reply; given by the driver, meaningless inside.
pub type Ticket = u64;

/// One thing that happened, as the core is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Input {
    /// Time has passed: a deadline, the sweep, or the resync.
    Tick,
    /// An agent registers; `peer` is where the connection came from.
    Register {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Where the connection came from.
        peer: IpAddr,
        /// What it said.
        request: RegisterRequest,
    },
    /// An agent reports.
    Heartbeat {
        /// Who waits for the answer.
        ticket: Ticket,
        /// What it said.
        request: HeartbeatRequest,
    },
    /// A person asks for something.
    User {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Who it is, for the history.
        by: String,
        /// What is asked.
        call: UserCall,
    },
    /// An order to an agent was answered, or could not be delivered.
    Answered {
        /// The node it was for.
        node: NodeId,
        /// The instance it was about.
        id: InstanceId,
        /// Which order.
        kind: OrderKind,
        /// The incarnation it was fenced with.
        incarnation: u64,
        /// What came of it.
        answer: OrderAnswer,
    },
}

/// Which agents report in these inputs, and in which life.
pub fn heard<'a>(inputs: impl IntoIterator<Item = &'a Input>) -> Vec<(NodeId, u64)> {
    let of = |input: &Input| match input {
        Input::Heartbeat { request, .. } => Some((request.node_id.clone(), request.incarnation)),
        _ => None,
    };
    inputs.into_iter().filter_map(of).collect()
}

/// What people can ask for. Already validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserCall {
    /// Create or change a workload.
    Deploy(Box<WorkloadSpec>),
    /// Change the number of replicas.
    Scale {
        /// The workload.
        id: WorkloadId,
        /// The new number.
        replicas: u32,
    },
    /// Delete a workload and all its containers.
    Delete(WorkloadId),
    /// Forget a node for good.
    RemoveNode(NodeId),
    /// Allow or forbid new instances on a node.
    SetSchedulable {
        /// The node.
        id: NodeId,
        /// Whether it may get new instances.
        schedulable: bool,
    },
    /// Move everything off a node, and keep new instances off it.
    Drain(NodeId),
    /// Change a workload to another template, or say how that goes on.
    Rollout {
        /// The workload.
        id: WorkloadId,
        /// What is to happen.
        step: RolloutCall,
    },
}

/// What people can say about a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutCall {
    /// Roll to another image.
    Start {
        /// The image.
        image: String,
        /// Another `maxSurge` from now on.
        max_surge: Option<Extent>,
        /// Another `maxUnavailable` from now on.
        max_unavailable: Option<Extent>,
    },
    /// Freeze it.
    Pause,
    /// Let it go on.
    Resume,
    /// Go back to where it came from.
    Abort,
    /// Go back to an earlier revision.
    Undo {
        /// Which; else the one before.
        to: Option<u64>,
    },
    /// Roll to new instances of the same.
    Restart,
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Registered.
    Registered(RegisterResponse),
    /// Heartbeat taken in.
    Beat(HeartbeatResponse),
    /// Deployed, durable.
    Deployed(DeployResponse),
    /// Done, durable.
    Done(Noted),
}

/// What there is to say of something that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// It was so already.
    pub unchanged: bool,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

impl Noted {
    /// Nothing but whether there was anything to do.
    pub fn changed(changed: bool) -> Self {
        Self { unchanged: !changed, warnings: Vec::new() }
    }
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderAnswer {
    /// 202.
    Accepted(OrderAccepted),
    /// Another status; the agent did not note the order.
    Refused(#[serde(with = "super::recording::with_status")] ApiError),
    /// No answer: it may or may not have been noted.
    Unanswered(String),
}

/// An order to carry out: deliver this to that agent and report the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// `host:port` of the agent.
    pub address: String,
    /// Who it is for and who gives it.
    pub fence: Fence,
    /// What to do.
    pub body: OrderBody,
}

/// What one step decided. The shell writes `records` first, in one batch, and
/// only then releases the rest.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Changes of durable state.
    pub records: Vec<Record>,
    /// Orders to deliver.
    pub orders: Vec<Order>,
    /// Answers to callers.
    pub replies: Vec<(Ticket, Result<Reply, ApiError>)>,
    /// What happened and why; already in the ring of the state.
    pub events: Vec<EventView>,
}

/// One change of durable state: a key and its new value, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `meta`, `workload/NAME`, `node/ID`, `replica/NAME/N` …
    pub key: String,
    /// JSON; `None` removes the key.
    pub value: Option<serde_json::Value>,
}
