//! The scheduler's whole picture of the cluster: what is desired, what was
//! seen, and the indexes that make looking at a change cheap.
//!
//! Maps are persistent (structure-sharing): cloning the state to publish it to
//! readers costs the same with ten instances as with a million. Everything is
//! ordered, and every order ends in an id, so equal inputs give equal outputs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};

use super::message::Millis;
use crate::model::view::{EventView, NodeStatus};
use crate::model::wire::{DockerState, DockerStatus};
use crate::model::{
    ClusterId, DaemonId, Health, InstanceId, NodeId, Phase, Protocol, PublishedPort, Reason,
    RestartPolicy, Template, Why, WorkloadId, WorkloadSpec,
};
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

/// A workload and the places it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// What the user wants; `replicas` is always filled in.
    pub spec: Arc<WorkloadSpec>,
    /// The revision of its template.
    pub revision: u64,
    /// Revisions by number.
    pub revisions: OrdMap<u64, Arc<Revision>>,
    /// The largest number ever given out.
    pub last_revision: u64,
    /// Revisions that were completely rolled out, the latest last; never empty.
    /// Its last is the head: what an abort goes back to.
    pub heads: Vector<u64>,
    /// The rollout under way, or how the last one ended.
    #[serde(with = "super::recording::whole_rollout")]
    pub rollout: Option<Rollout>,
    /// Replicas that are still of another revision than the one wanted.
    pub outdated: OrdSet<u32>,
    /// Replicas on their way: of the wanted revision or to another node, and not
    /// there yet or with what they replace not yet gone.
    pub transit: OrdSet<u32>,
    /// The epoch it was created in: a workload of this epoch has nothing to
    /// recover and need not wait for anybody. 0 if its name was used before, for
    /// what was made under it may still be leaving.
    pub born_epoch: u64,
    /// Its places. There are exactly `desired` of them; numbers may have gaps.
    pub replicas: OrdMap<u32, Replica>,
    /// Replicas without an effective instance that may be started now.
    pub missing: OrdSet<u32>,
    /// Replicas without an effective instance that must wait.
    pub resting: OrdSet<u32>,
    /// Replicas that finished.
    pub done: OrdSet<u32>,
    /// The replica that is being restarted for ill health, if any: one at a
    /// time per workload.
    pub healing: Option<u32>,
    /// Why `missing` replicas are not started.
    pub held: Option<Why>,
}

impl Workload {
    /// How many replicas are wanted.
    pub fn desired(&self) -> u32 {
        self.replicas.len() as u32
    }

    /// The template of a revision that is still known.
    pub fn template(&self, revision: u64) -> Option<&Template> {
        self.revisions.get(&revision).map(|r| &r.template)
    }

    /// The revision that was last completely rolled out.
    pub fn head(&self) -> u64 {
        self.heads.last().copied().unwrap_or(self.revision)
    }

    /// Whether a person has frozen its rollout.
    pub fn is_frozen(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Paused)
    }

    /// The restart policy of a revision; that of the current one for unknown ones.
    pub fn restart_policy(&self, revision: u64) -> RestartPolicy {
        self.template(revision).map_or(self.spec.restart_policy, |t| t.restart_policy)
    }
}

/// A change from one revision to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The revision it came from.
    pub from: u64,
    /// The revision it goes to.
    pub to: u64,
    /// How far it is.
    pub state: RolloutState,
    /// Why it was aborted.
    #[serde(default)]
    pub why: Option<String>,
    /// Since when its deadlines count: its start, or when it was last resumed.
    #[serde(skip)]
    pub since: Millis,
    /// The same in Unix milliseconds, so that a restart of the scheduler does not
    /// put it off.
    #[serde(default)]
    pub since_wall: u64,
}

impl Rollout {
    /// Whether it still has something to do.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, RolloutState::Done | RolloutState::Aborted)
    }

    /// Whether it may move replicas now.
    pub fn moves(&self) -> bool {
        matches!(self.state, RolloutState::Rolling | RolloutState::Aborting)
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RolloutState {
    /// Waves go on.
    Rolling,
    /// Frozen by a person; healing goes on.
    Paused,
    /// On the way back to where it came from.
    Aborting,
    /// All are new and the old are gone.
    Done,
    /// Everything is as before.
    Aborted,
}

impl RolloutState {
    /// The same words as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutState::Rolling => "rolling",
            RolloutState::Paused => "paused",
            RolloutState::Aborting => "aborting",
            RolloutState::Done => "done",
            RolloutState::Aborted => "aborted",
        }
    }
}

/// One distinct template of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// What its instances are made of.
    pub template: Template,
    /// When it was first asked for, Unix milliseconds.
    pub at: u64,
    /// By whom.
    pub by: String,
    /// With what.
    pub why: String,
    /// When, by whom and with what it was last asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Word>,
    /// How its last rollout ended, if not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What somebody asked for, for the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// When, Unix milliseconds.
    pub at: u64,
    /// Who.
    pub by: String,
    /// With what.
    pub why: String,
}

/// One of a workload's places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The revision it is to have: during a rollout some have moved on already.
    pub revision: u64,
    /// Instances in it that are not over. Usually one; two during a rollout, a
    /// drain, or while a node that was lost returns.
    pub instances: Vector<InstanceId>,
    /// How often it was restarted.
    pub restarts: u32,
    /// Failures in a row.
    pub step: u32,
    /// Not to be started before.
    pub not_before: Option<Millis>,
    /// It finished.
    pub done: Option<Done>,
    /// It had finished in the revision before: that counts again if the rollout
    /// is aborted.
    pub done_before: Option<Done>,
    /// In the rollout under way, its instance of the wanted revision was ready.
    pub arrived: bool,
    /// Something of it is on disk.
    pub recorded: bool,
    /// Its last failure.
    pub last_failure: Option<Failure>,
    /// A crash is restarted where it happened.
    pub pin: Option<NodeId>,
    /// The instance that the next one follows.
    pub follows: Option<InstanceId>,
    /// Read back after a restart, and nothing was heard of its instance yet: it
    /// may well run on a node that is out of sight.
    pub unaccounted: bool,
}

impl Replica {
    /// A place of its own, with nothing in it.
    pub fn of(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Gives it another revision. What has finished counts for its own revision only;
    /// where this goes back to what it had before, that does not run twice.
    pub(super) fn turn_to(&mut self, revision: u64, goes_back: bool) {
        self.revision = revision;
        if self.done.as_ref().is_some_and(|done| done.revision == revision) {
            return;
        }
        let left = self.done.take();
        if goes_back && self.has_finished(revision) {
            self.done = self.done_before.take();
        } else if left.is_some() {
            self.done_before = left;
        }
    }

    /// Whether it had finished before, when it was of `revision`.
    pub(super) fn has_finished(&self, revision: u64) -> bool {
        self.done_before.as_ref().is_some_and(|done| done.revision == revision)
    }
}

/// How a replica finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Of which revision: done counts per revision.
    pub revision: u64,
    /// With which exit code; none if it disappeared.
    pub exit_code: Option<i64>,
    /// Which instance it was.
    pub instance: InstanceId,
}

/// A failure of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Which instance it was.
    pub instance: InstanceId,
    /// The machine word.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
    /// When, Unix milliseconds, for display.
    pub at: u64,
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
    /// The last full snapshot, if it was complete and left nothing open: all that
    /// is known to be here was in it, and runs or is over. A digest may refer to it.
    pub settled_in: Option<u64>,
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
    pub stop: Option<Stop>,
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

/// What an agent said of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Docker's id.
    pub container_id: String,
    /// How far it has come.
    pub phase: Phase,
    /// What the probe says.
    pub health: Health,
    /// Exit code, once exited.
    pub exit_code: Option<i64>,
    /// The container's address.
    pub ip: Option<String>,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Wall time of its start, for display.
    pub started_at: Option<String>,
    /// Why it is not running and ready, by the agent.
    pub reason: Option<Reason>,
    /// The same in one sentence.
    pub message: Option<String>,
    /// Since when it has been running.
    pub running_since: Option<Millis>,
    /// How long it ran, once over, milliseconds.
    pub ran_for_ms: Option<u64>,
    /// Since when it has been healthy.
    pub healthy_since: Option<Millis>,
    /// Unhealthy for so long that it is to be restarted.
    pub restart_due: bool,
    /// Already being stopped, says the agent.
    pub stopping: bool,
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
