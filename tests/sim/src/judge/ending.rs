//! How everything ends (DESIGN 7.7): trouble stops, and what is wanted is reached
//! in bounded time; then nothing happens any more.

use std::collections::{BTreeMap, BTreeSet};

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::DockerState;
use kube_lite::model::{InstanceId, NodeId, PullPolicy, RestartPolicy, WorkloadId};
use kube_lite::roles::agent::message::ContainerState;
use kube_lite::roles::scheduler::message::{RolloutCall, UserCall};
use kube_lite::roles::scheduler::state::{Replica, RolloutState, State, Workload};
use kube_lite::roles::scheduler::views::Snapshot;

use crate::image::{Fate, Health, Life, behaviour, fate};
use crate::tell;
use crate::world::{Event, World};

/// What is wanted has to be reached within this long.
const REACHED_WITHIN_MS: u64 = 15 * 60_000;
/// Looking whether it is.
const LOOK_EVERY_MS: u64 = 1_000;
/// From then on, leftovers are cleared away for at most this long.
const CLEARED_WITHIN_MS: u64 = 20_000;
/// Then nothing happens for this long.
const QUIET_MS: u64 = 150_000;

impl World {
    /// Trouble ends, and people make up their minds to want what can be had.
    pub fn end(&mut self) {
        self.mend_everything();
        self.users.at_home = true;
        self.run_until(self.now + 12_000);
        self.tidy_up();
        let until = self.now + REACHED_WITHIN_MS;
        while self.judge.is_content() {
            self.run_until(self.now + LOOK_EVERY_MS);
            self.start_again_what_gave_way();
            let Some(lacks) = self.lacks() else { break };
            if self.now > until {
                let text = format!("after {} min: {lacks}", REACHED_WITHIN_MS / 60_000);
                self.judge.object("7 reached", text);
            }
        }
        if !self.judge.is_content() {
            return;
        }
        tell!(self, "end", "everything is as wanted");
        self.run_until(self.now + CLEARED_WITHIN_MS);
        let before = self.judge.deeds;
        tell!(self, "end", "nothing may happen any more");
        self.run_until(self.now + QUIET_MS);
        if !self.judge.is_content() {
            return;
        }
        if self.judge.deeds != before {
            let text = format!("deeds went from {before:?} to {:?}", self.judge.deeds);
            self.judge.object("7 quiet", text);
        }
        if let Some(lacks) = self.lacks() {
            self.judge.object("7 quiet", lacks);
        }
        self.judge_round();
    }

    /// Says how everything stands, for whoever has to find out why.
    pub fn tell_all(&mut self) {
        let Some(state) = self.scheduler.state().cloned() else { return };
        let snapshot = Snapshot { now: state.now, state };
        for name in snapshot.state.workloads.keys() {
            let Some(workload) = snapshot.state.workloads.get(name) else { continue };
            tell!(self, "stands", "{name}: {:?}", snapshot.workload(name.as_str()));
            tell!(
                self,
                "stands",
                "{name}: revision {}, heads {:?}, missing {:?}, resting {:?}, done {:?}, outdated \
                 {:?}, transit {:?}, held {:?}",
                workload.revision,
                workload.heads,
                workload.missing,
                workload.resting,
                workload.done,
                workload.outdated,
                workload.transit,
                workload.held.as_ref().map(|why| &why.message)
            );
            for (number, replica) in &workload.replicas {
                tell!(self, "stands", "{name}/{number}: {replica:?}");
            }
        }
        for instance in snapshot.state.instances.values() {
            tell!(self, "stands", "{instance:?}");
        }
        for machine in 0..self.machines.len() {
            let Some(process) = &self.machines[machine].agent else { continue };
            let (told, name) = (process.core.snapshot(), self.name_of(machine));
            for has in told.containers {
                let (phase, after, why) = (has.phase, has.after, has.message);
                tell!(self, name, "has {} {phase:?}, after {after:?}, {why:?}", has.id);
            }
        }
    }

    /// A person starts agents again that had to give way to a copy.
    fn start_again_what_gave_way(&mut self) {
        for machine in 0..self.machines.len() {
            if self.machines[machine].superseded && !self.machines[machine].destroyed {
                self.machines[machine].superseded = false;
                self.plan(1, Event::AgentStarts { machine });
            }
        }
    }

    /// What can never come to rest is deleted or replaced, what cannot fit is
    /// scaled down, what is paused goes on, and nodes take instances again.
    fn tidy_up(&mut self) {
        let Some(state) = self.scheduler.state().cloned() else { return };
        let uncordons = self.rng.chance(700);
        let fixed = state.workloads.values().any(|w| asks_for_ports(w));
        let usable = state.nodes.values().any(|n| n.schedulable && n.status == NodeStatus::Alive);
        if uncordons || fixed || !usable {
            for id in state.nodes.keys() {
                let id = id.clone();
                self.insist(&UserCall::SetSchedulable { id, schedulable: true });
            }
        }
        let removes = self.rng.chance(700);
        for machine in 0..self.machines.len() {
            let here = &self.machines[machine];
            let id = here.node.clone();
            let stands_in = self.machines.iter().any(|m| m.node == id && !m.destroyed);
            if self.machines[machine].destroyed && !stands_in && removes {
                self.insist(&UserCall::RemoveNode(id));
            }
        }
        let daemons: BTreeSet<usize> =
            self.machines.iter().filter(|m| !m.destroyed).map(|m| m.daemon).collect();
        // What may not be pulled is loaded by hand.
        for revision in state.workloads.values().flat_map(|workload| workload.revisions.values()) {
            if revision.template.pull_policy == PullPolicy::Never {
                for daemon in &mut self.daemons {
                    daemon.images.insert(revision.template.image.clone());
                }
            }
        }
        for (name, workload) in &state.workloads {
            let known = || self.scheduler.state().is_some_and(|s| s.workloads.contains_key(name));
            if !known() {
                continue;
            }
            if is_hopeless(workload) {
                let replaces = self.rng.chance(500);
                let mut spec = workload.spec.as_ref().clone();
                spec.image = "good:1".to_owned();
                spec.restart_policy = RestartPolicy::Always;
                spec.pull_policy = PullPolicy::IfNotPresent;
                if replaces {
                    self.insist(&UserCall::Deploy(Box::new(spec)));
                } else {
                    self.insist(&UserCall::Delete(name.clone()));
                    continue;
                }
            }
            // With an explicit 0 it waits for ever where a surge is impossible.
            let spec = self.scheduler.state().and_then(|state| state.workloads.get(name));
            if let Some(spec) = spec.map(|workload| workload.spec.clone())
                && spec.strategy.max_unavailable.is_some()
                && asks_for_ports(workload)
            {
                let mut spec = spec.as_ref().clone();
                spec.strategy.max_unavailable = None;
                self.insist(&UserCall::Deploy(Box::new(spec)));
            }
            let resume = UserCall::Rollout { id: name.clone(), step: RolloutCall::Resume };
            self.insist(&resume);
            let most = daemons.len() as u32;
            let desired = self
                .scheduler
                .state()
                .and_then(|state| state.workloads.get(name))
                .map_or(0, |workload| workload.desired());
            if has_fixed_ports(workload) && desired > most {
                self.insist(&UserCall::Scale { id: name.clone(), replicas: most });
            }
        }
    }

    /// What is not yet as it is to be in the end, if anything.
    pub fn lacks(&self) -> Option<String> {
        let process = self.scheduler.process.as_ref()?;
        let state = &process.core.state;
        if !state.awaited.is_empty() || state.mass_loss.is_some() {
            return Some(format!("{:?} are awaited, {:?}", state.awaited, state.mass_loss));
        }
        let lack = self.lacks_in_nodes(state).or_else(|| self.lacks_in_instances(state));
        if lack.is_some() {
            return lack;
        }
        let live = self.live();
        for (name, workload) in &state.workloads {
            let ids = live.get(name).cloned().unwrap_or_default();
            if let Some(lack) = self.lacks_in(state, name, workload, &ids) {
                return Some(lack);
            }
        }
        None
    }

    fn lacks_in_nodes(&self, state: &State) -> Option<String> {
        for machine in self.machines.iter().filter(|machine| !machine.destroyed) {
            let id = &machine.node;
            let Some(agent) = &machine.agent else { return Some(format!("{id} has no agent")) };
            let Some(node) = state.nodes.get(id) else { return Some(format!("{id} is unknown")) };
            let well = node.status == NodeStatus::Alive
                && node.incarnation == agent.incarnation
                && node.synced
                && !node.lost
                && !node.unreachable
                && node.docker.state == DockerState::Ok;
            if !well {
                return Some(format!("{node:?} is not well"));
            }
            if !agent.core.is_settled() {
                let told = agent.core.snapshot().containers;
                let unsettled: Vec<_> = told
                    .iter()
                    .filter(|t| t.reason.is_some())
                    .map(|t| (&t.id, &t.message))
                    .collect();
                return Some(format!("the agent of {id} has something to do: {unsettled:?}"));
            }
        }
        None
    }

    /// What Docker has and what the scheduler has are the same.
    fn lacks_in_instances(&self, state: &State) -> Option<String> {
        let mut dead: BTreeMap<(&WorkloadId, &NodeId), usize> = BTreeMap::new();
        for daemon in &self.daemons {
            for container in daemon.containers.values() {
                let id = &container.instance;
                let known = state.instances.get(id);
                if known.is_none_or(|known| known.stop.is_some()) {
                    return Some(format!("{id} is on {} and {known:?}", daemon.name));
                }
                if !state.workloads.contains_key(&container.workload) {
                    return Some(format!("{id} is left of {}", container.workload));
                }
                match container.state {
                    ContainerState::Running => {}
                    ContainerState::Ended => {
                        *dead.entry((&container.workload, &container.node)).or_default() += 1;
                    }
                    other => return Some(format!("{id} is {other:?}")),
                }
            }
        }
        if let Some((of, count)) = dead.iter().find(|(_, count)| **count > self.timing.dead_kept) {
            return Some(format!("{count} dead containers are kept of {of:?}"));
        }
        for (id, instance) in &state.instances {
            let there = self.daemons.iter().any(|d| d.named(id.as_str()).is_some());
            if !there && !instance.is_over() && !state.is_lost(instance) {
                return Some(format!("{id} is not there: {instance:?}"));
            }
        }
        None
    }

    /// Running containers by workload.
    fn live(&self) -> BTreeMap<WorkloadId, Vec<InstanceId>> {
        let mut live: BTreeMap<WorkloadId, Vec<InstanceId>> = BTreeMap::new();
        for container in self.daemons.iter().flat_map(|daemon| daemon.containers.values()) {
            if container.is_running() {
                let of = live.entry(container.workload.clone()).or_default();
                of.push(container.instance.clone());
            }
        }
        live
    }

    /// Each replica has what its template says: one container that runs and is
    /// well, or it has finished.
    fn lacks_in(
        &self,
        state: &State,
        name: &WorkloadId,
        workload: &Workload,
        live: &[InstanceId],
    ) -> Option<String> {
        if let Some(wanted) = self.judge.wants(name)
            && wanted != workload.desired()
        {
            return Some(format!("{name} has {} replicas, not {wanted}", workload.desired()));
        }
        let lost_once = |replica: &Replica| {
            let policy = workload.template(replica.revision).map(|t| t.restart_policy);
            policy == Some(RestartPolicy::Never)
                && replica.done.is_none()
                && replica
                    .instances
                    .iter()
                    .filter_map(|id| state.instances.get(id))
                    .any(|i| i.revision == replica.revision && state.is_lost(i) && !i.is_over())
        };
        let rollout = workload.rollout.as_ref().map(|rollout| rollout.state);
        let waits = workload.replicas.values().any(lost_once);
        if !waits && !matches!(rollout, None | Some(RolloutState::Done | RolloutState::Aborted)) {
            return Some(format!("the rollout of {name} is {rollout:?}"));
        }
        let mut accounted = 0;
        for (number, replica) in &workload.replicas {
            if replica.revision != workload.revision {
                return Some(format!("replica {number} of {name} is of another revision"));
            }
            let template = workload.template(replica.revision)?;
            if replica.done.is_some() {
                continue;
            }
            if lost_once(replica) {
                // What is well of another revision stays until that is back.
                accounted +=
                    replica.instances.iter().filter(|id| live.contains(*id)).count().min(1);
                continue;
            }
            if fate(template) == Fate::Finishes {
                return Some(format!("replica {number} of {name} has not finished: {replica:?}"));
            }
            let here: Vec<&InstanceId> =
                replica.instances.iter().filter(|id| live.contains(*id)).collect();
            let ready = here.iter().all(|id| state.instances.get(*id).is_some_and(|i| i.ready));
            if here.len() != 1 || !ready {
                return Some(format!("replica {number} of {name} has {here:?}, ready: {ready}"));
            }
            accounted += 1;
            let node = state.instances.get(here[0]).and_then(|i| state.nodes.get(&i.node));
            let leaves = node.is_some_and(|node| node.draining);
            if leaves && template.restart_policy != RestartPolicy::Never {
                return Some(format!("{} is on a drained node", here[0]));
            }
        }
        (accounted != live.len()).then(|| format!("{name} has {live:?} for {accounted} replicas"))
    }
}

fn asks_for_ports(workload: &Workload) -> bool {
    let mut ports = workload.revisions.values().flat_map(|revision| &revision.template.ports);
    ports.any(|port| port.host_port != 0)
}

fn has_fixed_ports(workload: &Workload) -> bool {
    let mut ports = workload.revisions.values().flat_map(|revision| &revision.template.ports);
    ports.any(|port| port.fixed)
}

/// Neither what it goes to nor what it comes from ever comes to rest, or nobody
/// can say which it will be.
fn is_hopeless(workload: &Workload) -> bool {
    let fate_of = |revision| workload.template(revision).map_or(Fate::NeverRests, fate);
    let goal = workload.template(workload.revision);
    let undecided = goal.is_some_and(|template| {
        let image = behaviour(&template.image);
        matches!(image.life, Life::Ends(_, 2..) | Life::EndsSomehow(_))
            || matches!(image.health, Health::BadAfter(_))
    });
    let open = workload.rollout.as_ref().is_some_and(|rollout| rollout.is_open());
    let back = if open { fate_of(workload.head()) } else { fate_of(workload.revision) };
    back == Fate::NeverRests || (undecided && fate_of(workload.revision) == Fate::NeverRests)
}
