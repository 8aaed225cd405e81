//! One container's one life, as intended and as seen.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::super::message::Millis;
use super::{ContainerId, Share};
use crate::model::{Health, InstanceId, NodeId, Phase, PublishedPort, Reason, WorkloadId};

/// One container's one life, as intended and as seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id and name.
    pub id: InstanceId,
    /// Its workload.
    pub workload: WorkloadId,
    /// Its replica.
    pub replica: u32,
    /// Its revision.
    pub revision: u64,
    /// Its node.
    pub node: NodeId,
    /// The instance it follows.
    pub replaces: Option<InstanceId>,
    /// The instance that has to be gone before it is launched: it needs its host
    /// port, or there may be no more at a time.
    pub after: Option<InstanceId>,
    /// Restarts of its replica when it was ordered.
    pub restarts: u32,
    /// Failures in a row of its replica when it was ordered.
    pub step: u32,
    /// Whether it binds the host ports its template asks for without insisting,
    /// or any that Docker picks. Fixed ones are always bound.
    pub binds_asked_ports: bool,
    /// Whether it was noted as the holder of host ports.
    pub holds_ports: bool,
    /// When it was ordered or adopted.
    pub since: Millis,
    /// How far the order to run it has come.
    pub run: Delivery,
    /// The order to stop it, if given.
    pub stop: Option<Box<Stop>>,
    /// What its agent last said; `None`: nothing yet.
    pub seen: Option<Seen>,
    /// Ready: running, healthy if it has a probe, for `minReadySeconds`.
    pub ready: bool,
    /// When the healthy spell began in which it was found ready. Through it, it
    /// stays ready, whatever `minReadySeconds` becomes.
    pub proven_in: Option<Millis>,
    /// When it was last ready, as far as known, if it is not now: it may be so
    /// again any moment.
    pub last_ready: Option<Millis>,
    /// What it adds to the sums.
    pub share: Share,
}

impl Instance {
    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.seen.as_ref().map_or(Phase::Pending, |seen| seen.phase)
    }

    /// Whether its life is over.
    pub fn is_over(&self) -> bool {
        self.phase().is_final()
    }

    /// What its probe says.
    pub fn health(&self) -> Health {
        self.seen.as_ref().map_or(Health::Unknown, |seen| seen.health)
    }
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// To be sent, not before this time.
    Due(Millis),
    /// Sent to this incarnation, no answer yet; it may or may not be noted.
    Sent {
        /// The agent's life it was sent to.
        incarnation: u64,
        /// When the answer is overdue.
        overdue_at: Millis,
    },
    /// Noted by this incarnation; in every snapshot after `seq`.
    Accepted {
        /// The agent's life that noted it.
        incarnation: u64,
        /// The last snapshot without it.
        seq: u64,
    },
    /// Seen in a snapshot.
    Confirmed,
}

/// The order to stop an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Why.
    pub cause: StopCause,
    /// When it was decided.
    pub since: Millis,
    /// Milliseconds to go on serving before SIGTERM.
    pub drain_ms: u64,
    /// How far it has come.
    pub delivery: Delivery,
}

/// Why an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StopCause {
    /// Its workload was deleted, or is not known.
    Deleted,
    /// Fewer replicas are wanted.
    ScaledDown,
    /// Its replica has a better one.
    Excess,
    /// Its revision is not known any more.
    UnknownRevision,
    /// Its probe has failed for too long.
    IllHealth,
    /// Another revision has taken its place.
    Replaced,
    /// Its node is being drained, and it runs elsewhere now.
    Drained,
    /// A former life of the scheduler ordered it; why is not known any more.
    AlreadyStopping,
    /// Its life was over, and its container runs, or may: somebody has started it
    /// again, or its agent has forgotten that it could not be started.
    Revived,
}

impl StopCause {
    /// Completes "stopping X because …".
    pub fn because(self) -> &'static str {
        match self {
            StopCause::Deleted => "its workload was deleted",
            StopCause::ScaledDown => "fewer replicas are wanted",
            StopCause::Excess => "its replica has another instance that is kept",
            StopCause::UnknownRevision => "its revision is not known any more",
            StopCause::IllHealth => "its health probe has failed for too long",
            StopCause::Replaced => "another revision takes its place",
            StopCause::Drained => "its node is being drained",
            StopCause::AlreadyStopping => "it was asked to before the scheduler restarted",
            StopCause::Revived => "its life was over, and an instance has only one",
        }
    }
}

/// What an agent said of an instance. Most run and are well: what is said of the others
/// is kept apart, as [`Remark`], whose fields are read and written as if they were its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Docker's id.
    pub container_id: ContainerId,
    /// How far it has come.
    pub phase: Phase,
    /// What the probe says.
    pub health: Health,
    /// The container's address.
    pub ip: Option<IpAddr>,
    /// Published ports.
    pub ports: SmallVec<[PublishedPort; 2]>,
    /// Wall time of its start, Unix milliseconds, for display.
    pub started_wall: Option<u64>,
    /// Since when it has been running.
    pub running_since: Option<Millis>,
    /// Since when it has been healthy.
    pub healthy_since: Option<Millis>,
    /// Unhealthy for so long that it is to be restarted.
    pub restart_due: bool,
    /// Already being stopped, says the agent.
    pub stopping: bool,
    /// Made by [`Remark::boxed`]: none says the same as one that says nothing.
    pub remark: Option<Box<Remark>>,
}

/// What is said of an instance that is over, or not running and ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Exit code, once exited.
    pub exit_code: Option<i64>,
    /// Why it is not running and ready, by the agent.
    pub reason: Option<Reason>,
    /// The same in one sentence.
    pub message: Option<String>,
    /// How long it ran, once over, milliseconds.
    pub ran_for_ms: Option<u64>,
}

/// Nothing to remark.
static NO_REMARK: Remark =
    Remark { exit_code: None, reason: None, message: None, ran_for_ms: None };

impl Remark {
    /// As it is kept: not at all, if it says nothing.
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != NO_REMARK).then(|| self.into())
    }
}

impl Deref for Seen {
    type Target = Remark;

    fn deref(&self) -> &Remark {
        self.remark.as_deref().unwrap_or(&NO_REMARK)
    }
}

impl DerefMut for Seen {
    fn deref_mut(&mut self) -> &mut Remark {
        self.remark.get_or_insert_default()
    }
}
