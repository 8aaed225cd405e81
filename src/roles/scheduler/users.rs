//! What people ask for: deploy, scale, delete. Each changes what is desired and
//! nothing else; closing the gap is [`super::reconcile`]'s.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::core::Core;
use super::message::{Noted, Reply, RolloutCall, UserCall};
use super::rollout::first_heads;
use super::state::{Replica, Revision, StopCause, Workload};
use crate::model::validate::{port_warnings, validate};
use crate::model::view::DeployResponse;
use crate::model::wall::rfc3339;
use crate::model::{ApiError, InstanceId, NodeId, WorkloadId, WorkloadSpec};
use crate::planted::{Fault, planted};

impl Core {
    pub(super) fn user(&mut self, by: String, call: UserCall) -> Result<Reply, ApiError> {
        match call {
            UserCall::Deploy(spec) => self.deploy(by, *spec).map(Reply::Deployed),
            UserCall::Scale { id, replicas } => self.scale(&by, &id, replicas).map(Reply::Done),
            UserCall::Delete(id) => {
                self.delete(&by, &id).map(|()| Reply::Done(Noted::changed(true)))
            }
            UserCall::RemoveNode(id) => self.remove_node(&by, &id).map(Reply::Done),
            UserCall::SetSchedulable { id, schedulable } => {
                self.set_schedulable(&by, &id, schedulable).map(Reply::Done)
            }
            UserCall::Drain(id) => self.drain(&by, &id).map(Reply::Done),
            UserCall::Rollout { id, step } => self.rollout(&by, &id, step).map(Reply::Deployed),
        }
    }

    fn deploy(&mut self, by: String, mut spec: WorkloadSpec) -> Result<DeployResponse, ApiError> {
        let name = spec.name.clone();
        spec.id = None;
        match self.state.workloads.get(&name).cloned() {
            None => self.create(by, spec),
            Some(known) => self.change(by, &known, spec),
        }
    }

    fn create(&mut self, by: String, mut spec: WorkloadSpec) -> Result<DeployResponse, ApiError> {
        let name = spec.name.clone();
        let desired = *spec.replicas.get_or_insert(1);
        let before = self.state.tombstones.get(&name).copied();
        let revision = self.next_revision(before.unwrap_or(0));
        let mut revisions = OrdMap::new();
        let first = Revision {
            template: spec.template().into(),
            at: self.state.wall,
            by: by.clone(),
            why: "created".to_owned(),
            again: None,
            outcome: None,
        };
        revisions.insert(revision, Arc::new(first));
        let warnings = port_warnings(&spec, desired);
        let workload = Workload {
            spec: Arc::new(spec),
            revision,
            revisions,
            last_revision: revision,
            heads: first_heads(revision),
            rollout: None,
            outdated: OrdSet::new(),
            transit: OrdSet::new(),
            // What is leaving under this name counts, and may not have been heard of.
            born_epoch: if before.is_none() { self.state.epoch } else { 0 },
            replicas: OrdMap::new(),
            missing: OrdSet::new(),
            resting: OrdSet::new(),
            done: OrdSet::new(),
            healing: None,
            held: None,
        };
        self.state.workloads.insert(name.clone(), Arc::new(workload));
        self.state.tombstones.remove(&name);
        self.note_workload(
            &name,
            "WorkloadCreated",
            format!("{by} created {name} with {desired} replica(s), revision {revision}"),
        );
        self.resize(&name, desired);
        self.record_workload(&name);
        Ok(DeployResponse { id: name, revision, warnings, unchanged: false })
    }

    fn change(
        &mut self,
        by: String,
        known: &Workload,
        mut spec: WorkloadSpec,
    ) -> Result<DeployResponse, ApiError> {
        let name = spec.name.clone();
        let desired = *spec.replicas.get_or_insert(known.desired());
        // Whoever deploys a file again does not ask for another restart.
        spec.restarted_at = spec.restarted_at.or_else(|| known.spec.restarted_at.clone());
        let changed = changed_fields(&known.spec, &spec);
        let mut warnings = port_warnings(&spec, desired);
        let template = spec.template();
        // How it is run changes at once, what it is made of by a rollout.
        let spec = spec.with_template(known.spec.template());
        let unchanged = changed.is_empty() && *known.spec == spec;
        if *known.spec != spec {
            let before = known.desired();
            self.edit_workload(&name, |workload| workload.spec = Arc::new(spec));
            let message = if before == desired {
                format!("{by} changed how {name} is run (minReadySeconds or strategy)")
            } else {
                format!("{by} scaled {name} from {before} to {desired}")
            };
            self.note_workload(&name, "WorkloadChanged", message);
            self.resize(&name, desired);
            self.recount_all(&name);
            self.record_workload(&name);
        }
        let revision = match changed.is_empty() {
            true => known.revision,
            false => {
                let why = format!("changed {}", changed.join(", "));
                self.begin_rollout(&name, template, &by, &why)
            }
        };
        if !changed.is_empty() && self.known_workload(&name)?.is_frozen() {
            warnings.push(format!(
                "the rollout of {name} is paused, so revision {revision} waits; `kube-lite ctl \
                 rollout resume {name}` lets it go on"
            ));
        }
        Ok(DeployResponse { id: name, revision, warnings, unchanged })
    }

    /// A person's word about a rollout.
    fn rollout(
        &mut self,
        by: &str,
        name: &WorkloadId,
        step: RolloutCall,
    ) -> Result<DeployResponse, ApiError> {
        let before = self.known_workload(name)?;
        match step {
            RolloutCall::Start { image, max_surge, max_unavailable } => {
                let known = self.known_workload(name)?;
                let mut spec = known.spec.as_ref().clone();
                spec.image = image;
                if let Some(surge) = max_surge {
                    spec.strategy.max_surge = surge;
                }
                if max_unavailable.is_some() {
                    spec.strategy.max_unavailable = max_unavailable;
                }
                validate(&spec)?;
                return self.change(by.to_owned(), &known, spec);
            }
            RolloutCall::Pause => self.pause_rollout(by, name)?,
            RolloutCall::Resume => self.resume_rollout(by, name)?,
            RolloutCall::Abort => self.abort_rollout(by, name)?,
            RolloutCall::Undo { to } => {
                self.undo_rollout(by, name, to)?;
            }
            RolloutCall::Restart => {
                let mut template = self.known_workload(name)?.spec.template();
                template.restarted_at = Some(rfc3339(self.state.wall));
                self.begin_rollout(name, template, by, "restarted");
            }
        }
        let after = self.known_workload(name)?;
        let unchanged = (before.revision, &before.rollout) == (after.revision, &after.rollout);
        let revision = after.revision;
        Ok(DeployResponse { id: name.clone(), revision, warnings: Vec::new(), unchanged })
    }

    fn scale(&mut self, by: &str, name: &WorkloadId, replicas: u32) -> Result<Noted, ApiError> {
        let known = self.known_workload(name)?;
        let before = known.desired();
        if before != replicas {
            self.note_workload(
                name,
                "WorkloadScaled",
                format!("{by} scaled {name} from {before} to {replicas}"),
            );
            self.resize(name, replicas);
            if !planted(Fault::ScaleNotWritten) {
                self.record_workload(name);
            }
        }
        Ok(Noted::changed(before != replicas))
    }

    /// Gives a workload as many places as are wanted.
    fn resize(&mut self, name: &WorkloadId, desired: u32) {
        let Some(known) = self.state.workloads.get(name).cloned() else { return };
        let before = known.desired();
        if desired > before {
            let free: Vec<u32> = (0..)
                .filter(|number| !known.replicas.contains_key(number))
                .take((desired - before) as usize)
                .collect();
            for number in &free {
                self.agenda.replicas.insert((name.clone(), *number));
            }
            let revision = self.revision_to_grow_by(&known);
            self.edit_workload(name, |workload| {
                for number in free {
                    workload.replicas.insert(number, Replica::of(revision));
                    if revision != workload.revision {
                        workload.outdated.insert(number);
                    }
                }
            });
        } else if desired < before {
            self.give_up_replicas(name, &known, (before - desired) as usize, desired);
        }
        self.edit_workload(name, |workload| {
            Arc::make_mut(&mut workload.spec).replicas = Some(desired);
        });
    }

    /// A new revision that has not shown yet that it works, or that a person has
    /// paused, is not the one to grow by; and it is the one to shrink by.
    fn revision_to_grow_by(&self, workload: &Workload) -> u64 {
        match self.may_grow_by_new(workload) {
            true => workload.revision,
            false => workload.head(),
        }
    }

    /// Takes away the places that are missed least and stops what is in them.
    fn give_up_replicas(
        &mut self,
        name: &WorkloadId,
        known: &Workload,
        count: usize,
        desired: u32,
    ) {
        let asked: Vec<(u16, crate::model::Protocol)> = known
            .spec
            .ports
            .iter()
            .filter(|port| port.host_port != 0)
            .map(|port| (port.host_port, port.protocol))
            .collect();
        let to_grow_by = self.revision_to_grow_by(known);
        let ranked: Vec<GiveUpRank> = known
            .replicas
            .iter()
            .map(|(number, replica)| {
                self.rank(name, *number, replica, desired == 1, &asked, to_grow_by)
            })
            .collect();
        for number in chosen(ranked, count) {
            let instances: Vec<InstanceId> = known
                .replicas
                .get(&number)
                .map(|r| r.instances.iter().cloned().collect())
                .unwrap_or_default();
            self.edit_workload(name, |workload| {
                workload.replicas.remove(&number);
                workload.missing.remove(&number);
                workload.resting.remove(&number);
                workload.done.remove(&number);
                workload.outdated.remove(&number);
                workload.transit.remove(&number);
            });
            self.record_replica(name, number);
            for id in instances {
                self.stop_instance(&id, StopCause::ScaledDown);
            }
        }
    }

    fn rank(
        &self,
        name: &WorkloadId,
        number: u32,
        replica: &Replica,
        to_one: bool,
        asked: &[(u16, crate::model::Protocol)],
        to_grow_by: u64,
    ) -> GiveUpRank {
        let best = replica
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| i.share.effective)
            .max_by_key(|i| (i.ready, i.share.running));
        let crowd = best
            .and_then(|i| self.state.cohorts.get(name)?.per_node.get(&i.node).copied())
            .unwrap_or(0);
        let holds_asked_port = to_one
            && best.and_then(|i| i.seen.as_ref()).is_some_and(|seen| {
                seen.ports.iter().any(|p| asked.contains(&(p.host_port, p.protocol)))
            });
        let stage = match best {
            _ if replica.done.is_some() => Stage::Done,
            None => Stage::Waiting,
            Some(i) if !i.share.running => Stage::Pending,
            Some(i) if !i.ready => Stage::NotReady,
            Some(_) => Stage::Ready,
        };
        GiveUpRank {
            stage,
            holds_asked_port,
            to_grow_by: best.is_some_and(|i| i.revision == to_grow_by),
            emptier_node: Reverse(crowd),
            older: Reverse(best.map_or(0, |i| i.since)),
            number: Reverse(number),
            node: best.map(|i| i.node.clone()),
        }
    }

    fn delete(&mut self, by: &str, name: &WorkloadId) -> Result<(), ApiError> {
        let known = self.known_workload(name)?;
        self.note_workload(name, "WorkloadDeleted", format!("{by} deleted {name}"));
        self.state.tombstones.insert(name.clone(), known.last_revision);
        for number in known.replicas.keys() {
            self.forget_replica_record(name, *number, &known);
        }
        let ids: Vec<InstanceId> = self
            .state
            .cohorts
            .get(name)
            .map(|c| c.ids.iter().cloned().collect())
            .unwrap_or_default();
        for id in &ids {
            self.stop_instance(id, StopCause::Deleted);
        }
        self.state.workloads.remove(name);
        self.agenda.starved.remove(name);
        self.record_workload(name);
        if !self.state.cohorts.contains_key(name) {
            self.note_workload_gone(name);
        }
        Ok(())
    }

    /// The readiness of all its instances may have changed.
    fn recount_all(&mut self, name: &WorkloadId) {
        let ids: Vec<InstanceId> = self
            .state
            .cohorts
            .get(name)
            .map(|c| c.ids.iter().cloned().collect())
            .unwrap_or_default();
        for id in &ids {
            self.touch(id, |_| {});
        }
    }

    pub(super) fn known_workload(&self, name: &WorkloadId) -> Result<Arc<Workload>, ApiError> {
        self.state
            .workloads
            .get(name)
            .cloned()
            .ok_or_else(|| self.state.no_such_workload(name.as_str()))
    }
}

impl super::state::State {
    /// 404 with what there is instead.
    pub(super) fn no_such_workload(&self, name: &str) -> ApiError {
        let known: Vec<&str> = self.workloads.keys().take(10).map(WorkloadId::as_str).collect();
        let leaving = self.cohorts.contains_key(name);
        let also = if known.is_empty() {
            "there are none; create one with `kube-lite ctl deploy -f FILE`".to_owned()
        } else {
            format!("known are: {}", known.join(", "))
        };
        let what = if leaving {
            format!("workload {name:?} was deleted, its last containers are being stopped")
        } else {
            format!("there is no workload {name:?}")
        };
        ApiError::not_found(format!("{what}; {also}"))
    }
}

/// How little a replica is missed; the smallest goes first. The order of the
/// fields is the policy (DESIGN section 6, "Stopping"). In a rollout what is shrunk
/// by is what is not grown by, whatever that does to the spread: a new revision
/// that is not proven, or that a person holds back, must not be what is left.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GiveUpRank {
    stage: Stage,
    holds_asked_port: bool,
    /// While a rollout is under way: of the revision that more replicas would get.
    to_grow_by: bool,
    emptier_node: Reverse<u32>,
    older: Reverse<u64>,
    number: Reverse<u32>,
    node: Option<NodeId>,
}

/// The numbers of the `count` replicas that are missed least. Each one that goes
/// leaves its node less crowded, so that what stays is spread.
fn chosen(ranked: Vec<GiveUpRank>, count: usize) -> Vec<u32> {
    let mut gone_from: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut heap: BinaryHeap<Reverse<(GiveUpRank, u32)>> =
        ranked.into_iter().map(|rank| Reverse((rank, 0))).collect();
    let mut numbers = Vec::with_capacity(count);
    while numbers.len() < count
        && let Some(Reverse((mut rank, known_gone))) = heap.pop()
    {
        let gone = rank.node.as_ref().and_then(|node| gone_from.get(node)).copied().unwrap_or(0);
        if gone > known_gone {
            // Ranked when its node was more crowded; a rank only ever falls.
            rank.emptier_node.0 = rank.emptier_node.0.saturating_sub(gone - known_gone);
            heap.push(Reverse((rank, gone)));
            continue;
        }
        if let Some(node) = rank.node {
            *gone_from.entry(node).or_insert(0) += 1;
        }
        numbers.push(rank.number.0);
    }
    numbers
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Pending,
    NotReady,
    Ready,
    Done,
}

/// The fields of the template in which two specs differ, as people write them.
fn changed_fields(old: &WorkloadSpec, new: &WorkloadSpec) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut compare = |name, differs: bool| {
        if differs {
            changed.push(name);
        }
    };
    compare("image", old.image != new.image);
    compare("command", old.command != new.command);
    compare("args", old.args != new.args);
    compare("env", old.env != new.env);
    compare("ports", old.ports != new.ports);
    compare("restartPolicy", old.restart_policy != new.restart_policy);
    compare("healthCheck", old.health_check != new.health_check);
    compare("pullPolicy", old.pull_policy != new.pull_policy);
    compare(
        "stopGracePeriodSeconds",
        old.stop_grace_period_seconds != new.stop_grace_period_seconds,
    );
    compare("resources", old.resources != new.resources);
    compare("logs", old.logs != new.logs);
    compare("mounts", old.mounts != new.mounts);
    compare("envFrom", old.env_from != new.env_from);
    compare("restartedAt", old.restarted_at != new.restarted_at);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(nodes: &[(&str, u32)]) -> Vec<GiveUpRank> {
        let mut numbers = 0..;
        let mut all = Vec::new();
        for (node, count) in nodes {
            for number in numbers.by_ref().take(*count as usize) {
                all.push(GiveUpRank {
                    stage: Stage::Ready,
                    holds_asked_port: false,
                    to_grow_by: false,
                    emptier_node: Reverse(*count),
                    older: Reverse(0),
                    number: Reverse(number),
                    node: Some((*node).into()),
                });
            }
        }
        all
    }

    /// The same, ranking all that are left anew after each choice.
    fn one_by_one(nodes: &[(&str, u32)], count: usize) -> Vec<u32> {
        let mut left = ranks(nodes);
        let mut numbers = Vec::new();
        for _ in 0..count.min(left.len()) {
            let least = (0..left.len()).min_by(|a, b| left[*a].cmp(&left[*b])).unwrap();
            let gone = left.swap_remove(least);
            for rank in left.iter_mut().filter(|rank| rank.node == gone.node) {
                rank.emptier_node.0 -= 1;
            }
            numbers.push(gone.number.0);
        }
        numbers
    }

    #[test]
    fn what_stays_is_spread_however_many_go() {
        let clusters: [&[(&str, u32)]; 4] = [
            &[("a", 5), ("b", 4), ("c", 1)],
            &[("a", 1), ("b", 1), ("c", 6)],
            &[("a", 7), ("b", 7), ("c", 7), ("d", 2)],
            &[("a", 9)],
        ];
        for nodes in clusters {
            for count in 0..=25 {
                assert_eq!(
                    chosen(ranks(nodes), count),
                    one_by_one(nodes, count),
                    "{nodes:?} {count}"
                );
            }
        }
    }
}
