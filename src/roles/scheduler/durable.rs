//! What outlives the scheduler: which records there are, and how the state is
//! read back from them.
//!
//! Desired state is durable, observation is not: after a restart agents tell
//! what is. Only what a replica has learned (its restarts, its back-off, that it
//! is done) is written down too, since the container that taught it may be gone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod restored;
mod sense;

pub use self::restored::after_restore;
use self::restored::{RESTORED, Restored};
use super::core::{Core, Deadline};
use super::message::{Millis, Moment, Record};
use super::state::{Done, Failure, Node, Past, Replica, Revision, Rollout, State, Workload};
use crate::model::view::NodeStatus;
use crate::model::wall::rfc3339;
use crate::model::wire::DockerStatus;
use crate::model::{ClusterId, DaemonId, InstanceId, NodeId, Timing, WorkloadId, WorkloadSpec};
use crate::planted::{Fault, planted};

/// The format of the records; grows when an old build could not read a new one.
pub const FORMAT: u32 = 1;
/// Key of the [`Meta`] record.
pub const META: &str = "meta";

/// Which cluster this is and how often its scheduler has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// The format of all records.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// Starts of its scheduler so far.
    pub epoch: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadRecord {
    spec: WorkloadSpec,
    revision: u64,
    last_revision: u64,
    revisions: BTreeMap<u64, Revision>,
    /// Numbers of its replicas as inclusive ranges.
    replicas: Vec<(u32, u32)>,
    /// Revisions that were completely rolled out; the current one where missing.
    #[serde(default)]
    heads: Vec<u64>,
    #[serde(default)]
    rollout: Option<Rollout>,
    /// Numbers of replicas of another revision than the current one, by revision.
    #[serde(default)]
    outdated: BTreeMap<u64, Vec<(u32, u32)>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeRecord {
    key: String,
    address: String,
    schedulable: bool,
    #[serde(default)]
    draining: bool,
    was_alive: bool,
    #[serde(default)]
    daemon: Option<DaemonId>,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaRecord {
    restarts: u32,
    step: u32,
    #[serde(default)]
    not_before_wall: Option<u64>,
    #[serde(default)]
    done: Option<Done>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done_before: Option<Done>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    arrived: bool,
    #[serde(default)]
    last_failure: Option<Failure>,
    #[serde(default)]
    pin: Option<NodeId>,
    #[serde(default)]
    follows: Option<InstanceId>,
}

/// Why stored records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Not written by this program, or damaged.
    #[error("the stored record {key:?} cannot be read")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It is no damage of the disk, and yet nothing that any build writes.
    #[error("the stored record {key:?} makes no sense: {what}")]
    Nonsense {
        /// Its key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a newer build.
    #[error(
        "the state was written in format {found}, this build reads up to {known}; use a newer \
         kube-lite"
    )]
    TooNew {
        /// The format found.
        found: u32,
        /// The newest format this build reads.
        known: u32,
    },
}

/// A record that sets `key`.
pub fn put<T: Serialize>(key: String, value: &T) -> Record {
    // All record types are plain data with string keys: this cannot fail.
    Record { key, value: Some(serde_json::to_value(value).unwrap_or(Value::Null)) }
}

fn remove(key: String) -> Record {
    Record { key, value: None }
}

fn workload_key(name: &WorkloadId) -> String {
    format!("workload/{name}")
}

fn replica_key(name: &WorkloadId, number: u32) -> String {
    format!("replica/{name}/{number}")
}

impl Core {
    /// Writes down a workload, or that there is none any more.
    pub(super) fn record_workload(&mut self, name: &WorkloadId) {
        let record = match self.state.workloads.get(name) {
            Some(workload) => put(
                workload_key(name),
                &WorkloadRecord {
                    spec: workload.spec.as_ref().clone(),
                    revision: workload.revision,
                    last_revision: workload.last_revision,
                    revisions: workload
                        .revisions
                        .iter()
                        .map(|(number, revision)| (*number, revision.as_ref().clone()))
                        .collect(),
                    replicas: ranges(workload.replicas.keys().copied()),
                    heads: workload.heads.iter().copied().collect(),
                    rollout: workload.rollout.clone(),
                    outdated: outdated(workload),
                },
            ),
            None => remove(workload_key(name)),
        };
        self.out.records.push(record);
        let tombstone = format!("tombstone/{name}");
        self.out.records.push(match self.state.tombstones.get(name) {
            Some(last) => put(tombstone, last),
            None => remove(tombstone),
        });
    }

    /// Writes down what a replica has learned, or that it is gone or knows nothing
    /// that would be missed.
    pub(super) fn record_replica(&mut self, name: &WorkloadId, number: u32) {
        let key = replica_key(name, number);
        let replica = self.state.workloads.get(name).and_then(|w| w.replicas.get(&number));
        let learned = replica.is_some_and(has_learned);
        let record = match replica {
            None => remove(key),
            Some(replica) if !learned && !replica.recorded => return,
            Some(_) if !learned => remove(key),
            Some(replica) => {
                let wall = self.state.wall;
                let not_before_wall =
                    replica.not_before.map(|at| wall + at.saturating_sub(self.state.now));
                put(
                    key,
                    &ReplicaRecord {
                        restarts: replica.restarts,
                        step: replica.step,
                        not_before_wall,
                        done: replica.done.as_deref().cloned(),
                        done_before: replica.done_before.as_deref().cloned(),
                        arrived: replica.arrived,
                        last_failure: replica.last_failure.as_deref().cloned(),
                        pin: replica.pin.clone(),
                        follows: replica.follows.clone(),
                    },
                )
            }
        };
        self.out.records.push(record);
        if let Some(slot) = self.state.workloads.get_mut(name)
            && let Some(replica) = Arc::make_mut(slot).replicas.get_mut(&number)
        {
            replica.recorded = learned;
        }
    }

    /// Removes a replica's record, if it has one.
    pub(super) fn forget_replica_record(
        &mut self,
        name: &WorkloadId,
        number: u32,
        workload: &Workload,
    ) {
        if workload.replicas.get(&number).is_some_and(|replica| replica.recorded) {
            self.out.records.push(remove(replica_key(name, number)));
        }
    }

    /// Writes down a node, or that there is none any more.
    pub(super) fn record_node(&mut self, id: &NodeId) {
        let key = format!("node/{id}");
        let record = match self.state.nodes.get(id) {
            None => remove(key),
            Some(node) => put(
                key,
                &NodeRecord {
                    key: node.key.clone(),
                    address: node.address.clone(),
                    schedulable: node.schedulable,
                    draining: node.draining,
                    was_alive: node.status != NodeStatus::Dead,
                    daemon: node.docker.daemon.clone(),
                    version: node.version.clone(),
                },
            ),
        };
        self.out.records.push(record);
    }

    /// The core as it was left, in a new epoch. Until every node that was alive
    /// has reported or been silent for long enough, nothing that existed before
    /// is started or stopped.
    ///
    /// # Errors
    /// When a record cannot be read or was written by a newer build.
    pub fn recover(
        meta: &Meta,
        records: &BTreeMap<String, Value>,
        timing: Timing,
        moment: Moment,
    ) -> Result<Self, RecoverError> {
        meta.check()?;
        let mut state = State::new(meta.cluster.clone(), meta.epoch);
        state.now = moment.now;
        state.wall = moment.wall;
        // Sequence numbers go on growing over restarts, so that a follower's
        // `since` of the epoch before is never mistaken for one of this.
        state.next_event = meta.epoch.saturating_sub(1).saturating_mul(1_000_000_000) + 1;
        for (key, value) in records {
            let parts: Vec<&str> = key.split('/').collect();
            match parts.as_slice() {
                ["workload", name] => {
                    let record: WorkloadRecord = read(key, value)?;
                    sensible(key, sense::workload(name, &record))?;
                    state.workloads.insert((*name).into(), Arc::new(workload_of(record, moment)));
                }
                ["tombstone", name] => {
                    let last = read(key, value)?;
                    sensible(key, sense::revision(last))?;
                    state.tombstones.insert((*name).into(), last);
                }
                ["node", id] => {
                    let record: NodeRecord = read(key, value)?;
                    sensible(key, sense::node(id, &record))?;
                    let node = node_of((*id).into(), record, moment.now);
                    let waits = !planted(Fault::RecoversAtOnce);
                    if node.status == NodeStatus::Unknown && waits {
                        state.awaited.insert(node.id.clone());
                    }
                    state.nodes.insert(node.id.clone(), Arc::new(node));
                }
                [RESTORED] => {
                    let Restored { revisions_above } = read(key, value)?;
                    sensible(key, sense::revision(revisions_above))?;
                    state.revisions_above = revisions_above;
                }
                // Replicas come after their workloads, in the second pass;
                // what a newer build added is left alone.
                _ => {}
            }
        }
        let mut waits = Vec::new();
        for (key, value) in records {
            let parts: Vec<&str> = key.split('/').collect();
            let ["replica", name, number] = parts.as_slice() else { continue };
            let record: ReplicaRecord = read(key, value)?;
            sensible(key, sense::replica(&record))?;
            let (Ok(number), Some(slot)) =
                (number.parse::<u32>(), state.workloads.get_mut(&WorkloadId::from(*name)))
            else {
                continue;
            };
            if let Some(replica) = Arc::make_mut(slot).replicas.get_mut(&number) {
                *replica = replica_of(replica.revision, record, moment, &timing);
                if let Some(at) = replica.not_before {
                    waits.push((at, Deadline::Replica(WorkloadId::from(*name), number)));
                }
            }
        }
        let mut core = Core::new(state, timing);
        core.agenda.deadlines.extend(waits);
        let awaited = core.state.awaited.len();
        core.note(
            "SchedulerStarted",
            format!(
                "scheduler started, epoch {}: {} workload(s), {} node(s), waiting for {awaited} of \
                 them to report",
                meta.epoch,
                core.state.workloads.len(),
                core.state.nodes.len(),
            ),
        );
        Ok(core)
    }

    /// The disk has refused what the last steps wanted to write: nothing of them
    /// has happened, and the state is again what it was before. Whoever was heard
    /// in them was heard all the same; a node must not die for the disk's sake.
    pub fn roll_back(&mut self, mut before: State, heard: &[(NodeId, u64)], now: Millis) {
        let (visits, resumed_at) = (self.visits, self.resumed_at);
        let stepped_at = self.state.now;
        let slept = self.state.slept - before.slept;
        // Time has passed, and this process ran meanwhile.
        before.now = stepped_at;
        before.slept = self.state.slept;
        *self = Self::new(before, self.timing.clone());
        (self.visits, self.resumed_at) = (visits, resumed_at);
        if slept > 0 {
            self.forgive_silence(slept, stepped_at);
        }
        for (id, incarnation) in heard {
            let of_this_life = |node: &Arc<Node>| {
                node.incarnation == *incarnation && node.status == NodeStatus::Alive
            };
            if self.state.nodes.get(id).is_some_and(of_this_life) {
                self.edit_node(id, |node| node.heard_at = node.heard_at.max(now));
            }
        }
    }
}

impl Meta {
    /// The first record, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer build.
    pub fn of(records: &BTreeMap<String, Value>) -> Result<Option<Self>, RecoverError> {
        let Some(value) = records.get(META) else { return Ok(None) };
        // Of a newer format, no more than its number may be as it is here.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = read(META, value)?;
        if format > FORMAT {
            return Err(RecoverError::TooNew { found: format, known: FORMAT });
        }
        let meta: Self = read(META, value)?;
        meta.check()?;
        Ok(Some(meta))
    }

    fn check(&self) -> Result<(), RecoverError> {
        if self.format > FORMAT {
            return Err(RecoverError::TooNew { found: self.format, known: FORMAT });
        }
        sensible(META, sense::meta(self))
    }
}

fn sensible(key: &str, verdict: Result<(), String>) -> Result<(), RecoverError> {
    verdict.map_err(|what| RecoverError::Nonsense { key: key.to_owned(), what })
}

fn read<T: serde::de::DeserializeOwned>(key: &str, value: &Value) -> Result<T, RecoverError> {
    serde_json::from_value(value.clone())
        .map_err(|source| RecoverError::Unreadable { key: key.to_owned(), source })
}

fn workload_of(record: WorkloadRecord, moment: Moment) -> Workload {
    let mut replicas = OrdMap::new();
    for (first, last) in record.replicas {
        for number in first..=last {
            let replica = Replica { unaccounted: true, ..Replica::of(record.revision) };
            replicas.insert(number, replica);
        }
    }
    let mut outdated = OrdSet::new();
    for (revision, numbers) in record.outdated {
        for number in numbers.into_iter().flat_map(|(first, last)| first..=last) {
            if let Some(replica) = replicas.get_mut(&number) {
                replica.revision = revision;
                outdated.insert(number);
            }
        }
    }
    // The wall clock may have jumped back: then its deadlines begin now.
    let rollout = record.rollout.map(|rollout| {
        let age = moment.wall.saturating_sub(rollout.since_wall);
        Rollout { since: moment.now.saturating_sub(age), ..rollout }
    });
    let mut heads: Vector<u64> = record.heads.into();
    if heads.is_empty() {
        heads.push_back(record.revision);
    }
    Workload {
        spec: Arc::new(record.spec),
        revision: record.revision,
        revisions: record.revisions.into_iter().map(|(n, r)| (n, Arc::new(r))).collect(),
        last_revision: record.last_revision,
        heads,
        rollout,
        outdated,
        transit: OrdSet::new(),
        born_epoch: 0,
        replicas,
        missing: OrdSet::new(),
        resting: OrdSet::new(),
        done: OrdSet::new(),
        healing: None,
        held: None,
    }
}

fn node_of(id: NodeId, record: NodeRecord, now: u64) -> Node {
    Node {
        id,
        key: record.key,
        address: record.address,
        incarnation: 0,
        former: Vector::new(),
        seq: 0,
        synced: false,
        known_in: None,
        unlisted: OrdSet::new(),
        status: if record.was_alive { NodeStatus::Unknown } else { NodeStatus::Dead },
        heard_at: now,
        heard: false,
        status_since: now,
        alive_from: 0,
        schedulable: record.schedulable,
        draining: record.draining,
        lost: !record.was_alive,
        docker: DockerStatus { daemon: record.daemon, ..DockerStatus::default() },
        docker_since: now,
        unanswered: 0,
        unanswered_at: 0,
        unanswered_from: 0,
        unreachable: false,
        short_until: 0,
        version: record.version,
        instances: OrdSet::new(),
        placed: 0,
    }
}

/// Whether a replica knows anything that a new one would not.
fn has_learned(replica: &Replica) -> bool {
    replica.arrived || **replica != Past::default()
}

fn replica_of(revision: u64, record: ReplicaRecord, moment: Moment, timing: &Timing) -> Replica {
    // The wall clock may have jumped: a wait is never longer than the longest.
    let longest = timing.backoff_max_ms + timing.backoff_max_ms / 10;
    let not_before = record
        .not_before_wall
        .map(|wall| wall.saturating_sub(moment.wall).min(longest))
        .filter(|left| *left > 0)
        .map(|left| moment.now + left);
    let past = Past {
        restarts: record.restarts,
        step: record.step,
        not_before,
        done: record.done.filter(|_| !planted(Fault::DoneForgotten)).map(Box::new),
        done_before: record.done_before.map(Box::new),
        last_failure: record.last_failure.map(Box::new),
        pin: record.pin,
        follows: record.follows,
    };
    let place = Replica { arrived: record.arrived, recorded: true, ..Replica::of(revision) };
    Replica { unaccounted: true, ..place }.after(past)
}

/// Numbers of the replicas that are of another revision, by revision.
fn outdated(workload: &Workload) -> BTreeMap<u64, Vec<(u32, u32)>> {
    let mut by_revision: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for number in &workload.outdated {
        if let Some(replica) = workload.replicas.get(number) {
            by_revision.entry(replica.revision).or_default().push(*number);
        }
    }
    by_revision
        .into_iter()
        .map(|(revision, numbers)| (revision, ranges(numbers.into_iter())))
        .collect()
}

/// Sorted numbers as inclusive ranges.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

/// When a revision was made, for display.
pub fn made_at(revision: &Revision) -> String {
    rfc3339(revision.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_ranges() {
        assert_eq!(ranges([].into_iter()), []);
        assert_eq!(ranges([0, 1, 2, 5, 7, 8].into_iter()), [(0, 2), (5, 5), (7, 8)]);
    }
}
