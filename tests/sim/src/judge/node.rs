//! What is watched at agents and in Docker.

use std::collections::BTreeSet;

use kube_lite::model::wire::{Fence, HeartbeatRequest, OrderAccepted, labels};
use kube_lite::model::{ApiError, InstanceId, Phase};
use kube_lite::roles::agent::message::{ContainerState, DockerAction, Launch};

use super::Judge;
use crate::docker::Container;
use crate::scheduler::CLUSTER;
use crate::world::World;

impl Judge {
    /// An order reaches an agent.
    pub fn order_reaches(
        &mut self,
        machine: usize,
        ticket: u64,
        fence: Fence,
        id: &InstanceId,
        replaces: Option<&InstanceId>,
        runs: bool,
    ) {
        let entry = (fence, id.clone(), runs, replaces.cloned());
        self.reaching.insert((machine, ticket), entry);
    }

    /// An agent's process is new: no order is on its way through it.
    pub fn agent_is_new(&mut self, machine: usize) {
        self.reaching.retain(|(at, _), _| *at != machine);
    }
}

impl World {
    /// An agent takes only orders that are meant for it, in its present life, by
    /// the scheduler it is registered with, in that one's present life.
    pub fn judge_answer(
        &mut self,
        machine: usize,
        ticket: u64,
        reply: &Result<OrderAccepted, ApiError>,
    ) {
        let Some((fence, id, runs, replaces)) = self.judge.reaching.remove(&(machine, ticket))
        else {
            return;
        };
        let Ok(accepted) = reply else { return };
        let here = &mut self.machines[machine];
        let Some(process) = &mut here.agent else { return };
        let current = fence.node == here.node
            && fence.incarnation == process.incarnation
            && process.core.epoch() == Some(fence.epoch)
            && fence.cluster.as_str() == CLUSTER;
        if runs {
            if !process.record.acknowledged_over.contains(&accepted.id) {
                process.record.owed.insert(accepted.id.clone());
            }
            process.record.replaced.extend(replaces);
        } else {
            process.record.stopped.insert(id.clone());
            process.record.owed.remove(&id);
        }
        if !current {
            let text = format!(
                "the agent of {}, incarnation {}, epoch {:?}, takes an order for {id} fenced with \
                 {fence:?}",
                here.node,
                process.incarnation,
                process.core.epoch()
            );
            self.judge.object("fence", text);
        }
    }

    /// What an agent has accepted is in every report until its end was told and
    /// taken in, or it was ordered to stop, or something has taken its place. What a
    /// report does not name is as it was in the one that it refers to.
    pub fn judge_heartbeat(&mut self, machine: usize, beat: &HeartbeatRequest) {
        let here = &mut self.machines[machine];
        let Some(process) = &mut here.agent else { return };
        let record = &mut process.record;
        let mut listed = match beat.same_as {
            None => BTreeSet::new(),
            Some(base) => {
                record.reports = record.reports.split_off(&base);
                record.reports.get(&base).cloned().unwrap_or_default()
            }
        };
        listed.retain(|id| !beat.gone.contains(id));
        listed.extend(beat.containers.iter().map(|told| told.id.clone()));
        if !process.core.instance_ids().eq(&listed) {
            let is: Vec<_> = process.core.instance_ids().collect();
            let text = format!("report {beat:?} comes to {listed:?}, and there are {is:?}");
            self.judge.object("orders", text);
        }
        record.reports.insert(beat.seq, listed.clone());
        let mut owed = record.owed.clone();
        owed.retain(|id| !listed.contains(id));
        let before = std::mem::replace(&mut record.listed, listed);
        for told in &beat.containers {
            if told.phase.is_final() {
                record.told_over.entry(told.id.clone()).or_insert(beat.seq);
            }
            record.replaced.extend(told.replaces.clone());
        }
        for gone in before.difference(&record.listed) {
            record.forgotten.insert(gone.clone());
        }
        let followed = |id: &InstanceId| {
            record.replaced.contains(id)
                || record.listed.iter().any(|other| {
                    other.as_str().strip_prefix(id.as_str()).is_some_and(|n| n.starts_with("-a"))
                })
        };
        let (done, vanished): (Vec<_>, Vec<_>) = owed.into_iter().partition(followed);
        // Once something has taken its place, nobody asks for it any more.
        record.owed.retain(|id| !done.contains(id));
        if !vanished.is_empty() {
            let text = format!(
                "report {} of {} does not list {vanished:?}, which it has accepted",
                beat.seq, here.node
            );
            self.judge.object("orders", text);
        }
    }

    /// No node acts on another's word: what an agent has Docker do was ordered, of
    /// this very node, or follows from it.
    pub fn judge_docker_action(&mut self, machine: usize, action: &DockerAction) {
        match action {
            DockerAction::List { .. } | DockerAction::CheckImage { .. } => {}
            DockerAction::Pull { .. } | DockerAction::CancelPull { .. } => {
                self.judge.deeds.docker += 1;
            }
            DockerAction::Launch(launch) => {
                self.judge.deeds.docker += 1;
                self.judge_launch(machine, launch);
            }
            DockerAction::Stop { container_id, .. } | DockerAction::Remove { container_id } => {
                self.judge.deeds.docker += 1;
                self.judge_end(machine, container_id);
            }
        }
    }

    /// A launch is of an order that this node was given, with its contents, or of
    /// the successor of one; not of what this life of the agent was told to stop;
    /// and only one at a time for each id.
    fn judge_launch(&mut self, machine: usize, launch: &Launch) {
        let here = &mut self.machines[machine];
        let Some(process) = &mut here.agent else { return };
        let (id, node) = (&launch.id, here.node.clone());
        let first = process.record.launching.insert(id.clone());
        let stopped = process.record.stopped.contains(id);
        let label = |name: &str| launch.labels.get(name).map(String::as_str).unwrap_or_default();
        let ours = label(labels::NODE) == node.as_str() && label(labels::CLUSTER) == CLUSTER;
        let ordered = self.judge.origin(id).is_some_and(|(at, order)| {
            *at == node
                && order.template.image == launch.image
                && order.workload == launch.workload
                && label(labels::REPLICA) == order.replica.to_string()
                && label(labels::REVISION) == order.revision.to_string()
        });
        if !ours || !ordered {
            self.judge.object("5 word", format!("{node} launches {id}, which it was not ordered"));
        }
        if stopped {
            let text = format!("{node} launches {id}, which it was told to stop");
            self.judge.object("5 stopped", text);
        }
        if !first {
            let text = format!("{node} launches {id} while it launches it");
            self.judge.object("3 ids", text);
        }
    }

    /// What runs is stopped only if that was ordered; or a person has started it
    /// again after its end, or it is a second container of its id.
    fn judge_end(&mut self, machine: usize, container: &str) {
        let here = &self.machines[machine];
        let Some(container) = self.daemons[here.daemon].containers.get(container) else { return };
        let id = &container.instance;
        let second = self.judge.started.get(id).is_some_and(|first| *first != container.id);
        if container.state != ContainerState::Running
            || self.judge.stops.contains(id)
            || container.revived
            || second
        {
            return;
        }
        let text = format!("{} ends {id}, which runs and was not ordered to stop", here.node);
        self.judge.object("5 word", text);
    }

    /// DESIGN 7.3: an instance is one container, which is started once. Started
    /// again is one only by a person. A second container may be made only when
    /// somebody else has removed the first.
    pub fn judge_container_started(&mut self, daemon: usize, container: &Container) {
        let id = &container.instance;
        if container.run > 1 && !container.revived && !container.started_late {
            self.judge.object("3 once", format!("the container of {id} is started again"));
        }
        let first = self.judge.started.insert(id.clone(), container.id.clone());
        if let Some(first) = first
            && first != container.id
            && !self.judge.removed_by_others.contains(&first)
            && !self.machines.iter().any(|m| m.clone && m.node == container.node)
        {
            let text = format!("{id} was container {first} and is {} now", container.id);
            self.judge.object("3 once", text);
        }
        let at_home = self
            .machines
            .iter()
            .any(|machine| machine.daemon == daemon && machine.node == container.node);
        if !at_home {
            let text =
                format!("{id} of {} starts on {}", container.node, self.daemons[daemon].name);
            self.judge.object("5 word", text);
        }
    }

    /// Whether the agent of a machine has this instance and it is not over.
    pub fn agent_has(&self, machine: usize, id: &InstanceId) -> Option<Phase> {
        let process = self.machines[machine].agent.as_ref()?;
        process.core.find(id.as_str()).map(|told| told.phase)
    }
}
