//! The scheduler's whole picture of the cluster: what is desired, what was
//! seen, and the indexes that make looking at a change cheap.
//!
//! Maps are persistent (structure-sharing): cloning the state to publish it to
//! readers costs the same with ten instances as with a million. Everything is
//! ordered, and every order ends in an id, so equal inputs give equal outputs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

mod container_id;
mod instance;
mod workload;

use std::sync::Arc;

pub use self::container_id::ContainerId;
pub use self::instance::{Delivery, Instance, Remark, Seen, Stop, StopCause};
pub use self::workload::{
    Done, Failure, Past, Replica, Revision, Rollout, RolloutState, Word, Workload,
};
use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};

use super::message::Millis;
use crate::model::view::{EventView, NodeStatus};
use crate::model::wire::{DockerState, DockerStatus};
use crate::model::{ClusterId, DaemonId, InstanceId, NodeId, Protocol, RestartPolicy, WorkloadId};
use crate::planted::{Fault, planted};

/// The published picture. Cheap to clone. In JSON it is a part of a recording
/// ([`super::recording`]); what is durable has a form of its own ([`super::durable`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// Which life of its scheduler.
    pub epoch: u64,
    /// Monotonic time of the last step.
    pub now: Millis,
    /// Wall time of the last step, Unix milliseconds.
    pub wall: u64,
    /// For how long this process did not run, as far as it noticed, milliseconds.
    pub slept: Millis,
    /// What is wanted.
    pub workloads: OrdMap<WorkloadId, Arc<Workload>>,
    /// The last revision number of every name that was ever deleted: numbers
    /// are never reused, so a forgotten container can never pass for a new one.
    pub tombstones: OrdMap<WorkloadId, u64>,
    /// New revisions of all names have larger numbers than this: those up to it may
    /// have been given out in a time that a restored backup does not know.
    pub revisions_above: u64,
    /// The machines.
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    /// Every container that is known of or was ordered.
    pub instances: OrdMap<InstanceId, Arc<Instance>>,
    /// Instances by workload name, and their sums. Outlives the workload while
    /// its containers are leaving.
    pub cohorts: OrdMap<WorkloadId, Cohort>,
    /// Who holds which host port that was asked for by number. Two may, when one
    /// of them is out of sight.
    pub host_ports: OrdSet<(DaemonId, u16, Protocol, InstanceId)>,
    /// Nodes that were alive before the scheduler restarted and have neither
    /// reported nor been silent long enough since.
    pub awaited: OrdSet<NodeId>,
    /// Set while so many nodes are dead at once that nothing is replaced.
    pub mass_loss: Option<MassLoss>,
    /// What happened, newest last.
    pub ring: Vector<Arc<EventView>>,
    /// The sequence number of the next event.
    pub next_event: u64,
}

/// The instances of one workload name, with their sums.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cohort {
    /// All of them, dead ones included.
    pub ids: OrdSet<InstanceId>,
    /// Those whose ill health asks for a restart.
    pub ailing: OrdSet<InstanceId>,
    /// Live instances per node, for spreading.
    pub per_node: OrdMap<NodeId, u32>,
    /// Sums over them.
    pub tally: Tally,
}

/// Sums over instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Pending, coming up or running, on a node that is not lost, not stopping.
    pub effective: u32,
    /// Being stopped and not known gone.
    pub stopping: u32,
    /// Effective and running.
    pub running: u32,
    /// Effective and ready.
    pub ready: u32,
    /// Prepared, to start when what they follow is gone; not effective until then.
    pub waiting: u32,
}

impl Tally {
    /// Effective + being stopped: what bounds new starts.
    pub fn occupied(&self) -> u32 {
        self.effective + self.stopping
    }
}

/// What one instance adds to the sums; kept in it, so that a change can be
/// taken out as exactly as it was put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Counts as effective.
    pub effective: bool,
    /// Counts as stopping.
    pub stopping: bool,
    /// Counts as running.
    pub running: bool,
    /// Counts as ready.
    pub ready: bool,
    /// Asks for a restart.
    pub ailing: bool,
    /// Takes a place on its node.
    pub placed: bool,
    /// Counts as waiting.
    pub waiting: bool,
}

/// A machine with an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// The secret of its data directory.
    pub key: String,
    /// `host:port` of its agent.
    pub address: String,
    /// The life of its agent; 0: not registered in this epoch.
    pub incarnation: u64,
    /// Incarnations before this one, newest last, so that a late message of an
    /// older one is told apart from a newer one. Bounded.
    pub former: Vector<u64>,
    /// The largest snapshot number taken in of this incarnation.
    pub seq: u64,
    /// Whether a synced snapshot of this incarnation was taken in.
    pub synced: bool,
    /// The last report that named an instance, if all it said was taken in as it was
    /// said and it was complete: what follows may say only what is not as it was then.
    #[serde(default)]
    pub known_in: Option<u64>,
    /// Those of its instances that its last complete report did not list.
    #[serde(default)]
    pub unlisted: OrdSet<InstanceId>,
    /// Whether it is heard.
    pub status: NodeStatus,
    /// When it was last heard.
    pub heard_at: Millis,
    /// Whether it was heard at all in this epoch.
    pub heard: bool,
    /// Since when it has been in this status.
    pub status_since: Millis,
    /// Since when it was alive, when it last was; 0: since before the scheduler
    /// started.
    pub alive_from: Millis,
    /// May get new instances.
    pub schedulable: bool,
    /// What runs on it is to move elsewhere.
    pub draining: bool,
    /// Its instances are not counted: it is dead, or its Docker has not
    /// answered for long, or it has not reported since.
    pub lost: bool,
    /// Its Docker as of `heard_at`.
    pub docker: DockerStatus,
    /// Since when its Docker has been in that state.
    pub docker_since: Millis,
    /// Orders in a row that it did not answer.
    pub unanswered: u32,
    /// When the first of them was given up.
    pub unanswered_from: Millis,
    /// When the last of them was given up.
    pub unanswered_at: Millis,
    /// It is heard, but so many orders went unanswered that it cannot be reached:
    /// a wrong `--advertise`, or a firewall.
    pub unreachable: bool,
    /// Until then its Docker daemon is the last choice: something could not be
    /// started there for lack of room, or Docker never got to it.
    pub short_until: Millis,
    /// The version of its agent.
    pub version: String,
    /// The instances on it.
    pub instances: OrdSet<InstanceId>,
    /// Those of them that take a place.
    pub placed: u32,
}

impl Node {
    /// The daemon whose ports it uses; a stand-in of its own while unknown.
    pub fn daemon(&self) -> DaemonId {
        self.docker.daemon.clone().unwrap_or_else(|| format!("node:{}", self.id).as_str().into())
    }

    /// Whether a report of what has changed since report `base` can be taken in: all that
    /// was said up to then is known, and nothing was said since.
    pub fn takes_changes_since(&self, base: u64) -> bool {
        self.known_in == Some(base) && self.status == NodeStatus::Alive && self.synced && !self.lost
    }

    /// Whether a new instance could be started on it now, schedulable or not.
    pub fn able(&self) -> bool {
        self.status == NodeStatus::Alive
            && self.incarnation != 0
            && self.synced
            && !self.lost
            && !self.unreachable
            && self.docker.state == DockerState::Ok
    }
}

/// The mass-loss guard: so many nodes died at once that it is more likely the
/// network than the machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MassLoss {
    /// Since when.
    pub since: Millis,
    /// The nodes that were alive a minute before.
    pub members: OrdSet<NodeId>,
    /// Since when half of them have been heard again. The others get as long as
    /// silence takes to count: a network that heals brings them back within
    /// seconds, and replacing them just then would be for nothing.
    pub half_back_since: Option<Millis>,
}

impl State {
    /// An empty cluster.
    pub fn new(cluster: ClusterId, epoch: u64) -> Self {
        Self {
            cluster,
            epoch,
            now: 0,
            wall: 0,
            slept: 0,
            workloads: OrdMap::new(),
            tombstones: OrdMap::new(),
            revisions_above: 0,
            nodes: OrdMap::new(),
            instances: OrdMap::new(),
            cohorts: OrdMap::new(),
            host_ports: OrdSet::new(),
            awaited: OrdSet::new(),
            mass_loss: None,
            ring: Vector::new(),
            next_event: 1,
        }
    }

    /// The sums of a workload name.
    pub fn tally(&self, workload: &WorkloadId) -> Tally {
        self.cohorts.get(workload).map(|c| c.tally).unwrap_or_default()
    }

    /// Whether an instance's node is lost (or gone).
    pub fn is_lost(&self, instance: &Instance) -> bool {
        self.nodes.get(&instance.node).is_none_or(|node| node.lost)
    }

    /// Whether an instance is what its replica is to have: of its revision, and
    /// not on a node that is being drained. Under `never` nothing is moved.
    pub fn is_current(&self, workload: &Workload, replica: &Replica, instance: &Instance) -> bool {
        let moves_off = self.nodes.get(&instance.node).is_some_and(|node| node.draining)
            && workload.restart_policy(instance.revision) != RestartPolicy::Never;
        let right = instance.revision == replica.revision || planted(Fault::RevisionIgnored);
        right && !moves_off
    }

    /// Whether an instance waits for another one to be gone before it is
    /// launched: until then it takes no place.
    pub fn waits_for_predecessor(&self, instance: &Instance) -> bool {
        instance.stop.is_none()
            && instance.phase() < crate::model::Phase::Created
            && instance
                .after
                .as_ref()
                .is_some_and(|id| self.instances.get(id).is_some_and(|before| !before.is_over()))
    }

    /// Whether decisions about `workload` must wait until every node that was
    /// alive before the scheduler's restart has reported or died.
    pub fn is_recovering(&self, workload: &Workload) -> bool {
        workload.born_epoch != self.epoch && !self.awaited.is_empty()
    }

    /// Whether an instance is being stopped for ill health.
    pub fn is_ill_stop(&self, instance: &Instance) -> bool {
        let cause = instance.stop.as_ref().map(|stop| stop.cause);
        matches!(cause, Some(StopCause::IllHealth | StopCause::AlreadyStopping))
    }

    /// Who holds this host port and can be seen to. What is on a lost node may
    /// be long gone: Docker, not this map, then says whether the port is free.
    pub fn port_holders(
        &self,
        daemon: &DaemonId,
        port: u16,
        protocol: Protocol,
    ) -> impl Iterator<Item = &Instance> {
        let wanted = (daemon.clone(), port, protocol);
        let first = (daemon.clone(), port, protocol, InstanceId::from(""));
        self.host_ports
            .range(first..)
            .take_while(move |(d, p, of, _)| (d, *p, *of) == (&wanted.0, wanted.1, wanted.2))
            .filter_map(|(.., holder)| self.instances.get(holder))
            .map(Arc::as_ref)
            .filter(|holder| !self.is_lost(holder))
    }
}
