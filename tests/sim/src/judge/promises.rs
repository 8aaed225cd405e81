//! What people were promised, and what a restart has to find.

use std::collections::{BTreeMap, BTreeSet};

use kube_lite::model::view::NodeStatus;
use kube_lite::model::{ApiError, NodeId, WorkloadId, WorkloadSpec};
use kube_lite::roles::scheduler::message::{Moment, Reply, RolloutCall, UserCall};
use kube_lite::roles::scheduler::state::{Node, Rollout, RolloutState, State};
use serde_json::Value;

use super::{Judge, View};
use crate::scheduler::Scheduler;

/// What was promised to people, as the calls say that were taken.
#[derive(Debug, Default)]
pub struct Promises {
    /// With everything decided so far.
    decided: Book,
    /// With everything that is on the disk.
    durable: Book,
    /// What is on the disk, as the core had it when it was written.
    image: Option<State>,
}

#[derive(Clone, Debug, Default)]
struct Book {
    workloads: BTreeMap<WorkloadId, Option<Wanted>>,
    /// `(schedulable, draining)`; `None`: removed.
    nodes: BTreeMap<NodeId, Option<(bool, bool)>>,
    /// Calls that are in here.
    ops: BTreeSet<u64>,
}

/// A workload as people want it.
#[derive(Clone, Debug)]
struct Wanted {
    spec: WorkloadSpec,
    replicas: u32,
    revision: u64,
    /// The last word about its rollout was to pause it.
    paused: bool,
}

impl Judge {
    /// A call was decided on, and was not refused.
    pub fn promise(&mut self, op: u64, call: &UserCall, reply: &Reply, after: &State) {
        let book = &mut self.promises.decided;
        book.ops.insert(op);
        match call {
            UserCall::Deploy(spec) => {
                let before = book.workloads.get(&spec.name).and_then(Option::as_ref);
                let replicas = spec.replicas.or(before.map(|w| w.replicas)).unwrap_or(1);
                let revision = match reply {
                    Reply::Deployed(done) => done.revision,
                    _ => 0,
                };
                let same = before.is_some_and(|w| w.revision == revision);
                let paused = same && before.is_some_and(|w| w.paused);
                let mut spec = spec.as_ref().clone();
                // Whoever deploys a file again does not ask for another restart.
                let known = after.workloads.get(&spec.name);
                let template = known.and_then(|known| known.template(revision));
                let restarted = template.and_then(|template| template.restarted_at.clone());
                spec.restarted_at = spec.restarted_at.or(restarted);
                let wanted = Wanted { spec, replicas, revision, paused };
                book.workloads.insert(wanted.spec.name.clone(), Some(wanted));
            }
            UserCall::Scale { id, replicas } => {
                if let Some(Some(wanted)) = book.workloads.get_mut(id) {
                    wanted.replicas = *replicas;
                }
            }
            UserCall::Delete(id) => drop(book.workloads.insert(id.clone(), None)),
            UserCall::RemoveNode(id) => drop(book.nodes.insert(id.clone(), None)),
            UserCall::SetSchedulable { id, schedulable } => {
                let draining = match book.nodes.get(id) {
                    Some(Some((_, draining))) => *draining && !schedulable,
                    _ => false,
                };
                book.nodes.insert(id.clone(), Some((*schedulable, draining)));
            }
            UserCall::Drain(id) => drop(book.nodes.insert(id.clone(), Some((false, true)))),
            UserCall::Rollout { id, step } => {
                let Some(Some(wanted)) = book.workloads.get_mut(id) else { return };
                if let Reply::Deployed(done) = reply {
                    let spec = after.workloads.get(id).map(|w| w.spec.as_ref().clone());
                    if done.revision != wanted.revision {
                        wanted.revision = done.revision;
                        wanted.paused = false;
                    }
                    if let Some(spec) = spec {
                        wanted.spec = spec;
                    }
                }
                match step {
                    RolloutCall::Pause => wanted.paused = true,
                    RolloutCall::Resume | RolloutCall::Abort => wanted.paused = false,
                    RolloutCall::Start { .. } | RolloutCall::Undo { .. } | RolloutCall::Restart => {
                    }
                }
            }
        }
    }

    /// A node was removed by a person, and what was on it is forgotten.
    pub fn forget_node(&mut self, node: &NodeId, after: &State) {
        if !after.nodes.contains_key(node) {
            self.view.awaited.remove(node);
            self.view.contact.remove(node);
            self.view.steady.remove(node);
            self.view.told.retain(|_, told| told.node != *node);
            let orders = &self.orders;
            self.view.ordered.retain(|id| orders.get(id).is_none_or(|(at, _)| at != node));
        }
    }

    /// Everything that was decided so far is on the disk, or needs not be.
    pub fn persisted(&mut self, scheduler: &Scheduler) {
        let Some(state) = scheduler.state() else { return };
        self.promises.image = Some(state.clone());
        if self.promises.decided.ops.len() != self.promises.durable.ops.len() {
            self.promises.durable = self.promises.decided.clone();
        }
    }

    /// The disk has refused: what was decided since has not happened.
    ///
    /// Who was heard was heard all the same, by what is left, and so was the time.
    pub fn rolled_back(&mut self, left: &State, heard: &[(NodeId, u64)], now: u64) {
        self.promises.decided = self.promises.durable.clone();
        let Some(before) = self.view_before.take() else { return };
        let (slept, stepped_at) = (self.view.slept - before.slept, self.view.stepped_at);
        self.view = View { stepped_at, ..before };
        self.view.sleep(slept, stepped_at);
        for (node, incarnation) in heard {
            let is_it = |n: &Node| n.incarnation == *incarnation && n.status == NodeStatus::Alive;
            if left.nodes.get(node).is_some_and(|known| is_it(known)) {
                self.view.contact.insert(node.clone(), now);
            }
        }
    }

    /// A batch begins, which the disk may refuse.
    pub fn may_roll_back(&mut self, refuses: bool) {
        self.view_before = refuses.then(|| self.view.clone());
    }

    /// The process is gone, and with it what was not on the disk.
    pub fn scheduler_died(&mut self) {
        self.promises.decided = self.promises.durable.clone();
        self.view = View::default();
    }

    /// A person is about to be told that it is done: then it has to be durable.
    pub fn acknowledges(&mut self, op: u64, reply: &Result<Reply, ApiError>) {
        if reply.is_ok() && !self.promises.durable.ops.contains(&op) {
            let text = format!("call {op} is acknowledged and not on the disk");
            self.object("4 durable", text);
        }
    }

    /// DESIGN 7.4: after a restart everything is as it was when the last batch was
    /// written: workloads, revisions, rollouts, replicas and what they have
    /// finished, nodes and what was said about them. And so is what people were
    /// promised, by what they said rather than by what the core had made of it.
    pub fn recovered(&mut self, found: &State, moment: Moment, records: &BTreeMap<String, Value>) {
        if let Some(before) = self.promises.image.clone()
            && let Some(text) = differs(&before, found)
        {
            self.object("4 durable", format!("after the restart {text}"));
        }
        if let Some(text) = self.promises.durable.broken_by(found) {
            self.object("4 durable", format!("after the restart {text}"));
        }
        self.view.stepped_at = moment.now;
        self.view.recovered = found.workloads.keys().cloned().collect();
        self.view.contact = found.nodes.keys().map(|id| (id.clone(), moment.now)).collect();
        self.view.awaited = records
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("node/")?, value)))
            .filter(|(_, value)| value["wasAlive"] == Value::Bool(true))
            .map(|(id, _)| id.into())
            .collect();
    }

    /// What people want of a workload, by what is on the disk.
    pub fn wants(&self, name: &WorkloadId) -> Option<u32> {
        self.promises.durable.workloads.get(name)?.as_ref().map(|wanted| wanted.replicas)
    }

    /// Whether what people were promised is what the scheduler has.
    pub fn check_promises(&mut self, state: &State) {
        if let Some(text) = self.promises.decided.broken_by(state) {
            self.object("4 promised", text);
        }
    }
}

impl Book {
    fn broken_by(&self, found: &State) -> Option<String> {
        for (name, wanted) in &self.workloads {
            let workload = found.workloads.get(name);
            let (wanted, workload) = match (wanted, workload) {
                (None, None) => continue,
                (None, Some(_)) => return Some(format!("{name}, which was deleted, is there")),
                (Some(_), None) => {
                    return Some(format!("{name}, which was deployed, is not there"));
                }
                (Some(wanted), Some(workload)) => (wanted, workload),
            };
            if workload.desired() != wanted.replicas {
                return Some(format!(
                    "{name} is to have {} replicas, {} were asked for",
                    workload.desired(),
                    wanted.replicas
                ));
            }
            let same_run = workload.spec.strategy == wanted.spec.strategy
                && workload.spec.min_ready_seconds == wanted.spec.min_ready_seconds;
            if !same_run {
                return Some(format!("{name} is not run as was asked for"));
            }
            let rollout = workload.rollout.as_ref();
            let state = rollout.map(|rollout| rollout.state);
            let aborted = matches!(state, Some(RolloutState::Aborting | RolloutState::Aborted))
                && rollout.is_some_and(|rollout| rollout.to == wanted.revision);
            if workload.revision != wanted.revision && !aborted {
                return Some(format!(
                    "{name} is to be revision {}, {} was asked for; its rollout is {rollout:?}",
                    workload.revision, wanted.revision
                ));
            }
            let asked = wanted.spec.template();
            let kept = workload.template(wanted.revision);
            if kept.is_some_and(|template| *template != asked) && !aborted {
                return Some(format!("revision {} of {name} is something else", wanted.revision));
            }
            if wanted.paused && state != Some(RolloutState::Paused) {
                return Some(format!("the rollout of {name} was paused and is {state:?}"));
            }
        }
        for (id, wanted) in &self.nodes {
            let Some((schedulable, draining)) = wanted else { continue };
            let Some(node) = found.nodes.get(id) else { continue };
            if (node.schedulable, node.draining) != (*schedulable, *draining) {
                return Some(format!(
                    "node {id} is schedulable: {}, draining: {}; it was said: {schedulable}, \
                     {draining}",
                    node.schedulable, node.draining
                ));
            }
        }
        None
    }
}

/// Where two states differ in what has to outlive the scheduler.
fn differs(before: &State, found: &State) -> Option<String> {
    let names = |state: &State| -> Vec<WorkloadId> { state.workloads.keys().cloned().collect() };
    if names(before) != names(found) {
        return Some(format!("workloads are {:?}, were {:?}", names(found), names(before)));
    }
    if before.tombstones != found.tombstones {
        return Some(format!(
            "tombstones are {:?}, were {:?}",
            found.tombstones, before.tombstones
        ));
    }
    for (name, was) in &before.workloads {
        let is = found.workloads.get(name)?;
        let ended = |rollout: &Option<Rollout>| {
            rollout.as_ref().map(|r| (r.from, r.to, r.state, r.why.clone()))
        };
        let checks = [
            ("spec", was.spec == is.spec),
            ("revision", was.revision == is.revision),
            ("last revision", was.last_revision == is.last_revision),
            ("history", was.revisions == is.revisions),
            ("heads", was.heads == is.heads),
            ("rollout", ended(&was.rollout) == ended(&is.rollout)),
            ("outdated replicas", was.outdated == is.outdated),
        ];
        for (what, same) in checks {
            if !same {
                return Some(format!("the {what} of {name} is not what it was"));
            }
        }
        let numbers: Vec<u32> = was.replicas.keys().copied().collect();
        if numbers != is.replicas.keys().copied().collect::<Vec<_>>() {
            return Some(format!("{name} has other replicas"));
        }
        for (number, was) in &was.replicas {
            let is = is.replicas.get(number)?;
            let same = was.revision == is.revision
                && was.done == is.done
                && was.done_before == is.done_before;
            if !same || is.restarts > was.restarts {
                return Some(format!("replica {number} of {name} is {is:?}, was {was:?}"));
            }
        }
    }
    let nodes = |state: &State| -> Vec<(NodeId, String, String, bool, bool)> {
        let nodes = state.nodes.values();
        nodes
            .map(|n| (n.id.clone(), n.key.clone(), n.address.clone(), n.schedulable, n.draining))
            .collect()
    };
    if nodes(before) != nodes(found) {
        return Some(format!("nodes are {:?}, were {:?}", nodes(found), nodes(before)));
    }
    None
}
