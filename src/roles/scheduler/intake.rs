//! Heartbeats: what agents report is taken in and compared with what was
//! ordered. Observation only; what follows from it is decided in
//! [`super::reconcile`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdSet;

use super::core::{Core, Deadline};
use super::credible::credible;
use super::registry::superseded;
use super::replica::{Ending, Verdict, judge};
use super::state::{Delivery, Done, Failure, Instance, Node, Remark, Seen, StopCause};
use crate::model::error::shown;
use crate::model::view::NodeStatus;
use crate::model::wall::unix_ms;
use crate::model::wire::{DockerState, HeartbeatRequest, HeartbeatResponse};
use crate::model::{ApiError, ContainerInstance, Health, InstanceId, NodeId, Phase, Reason};
use crate::planted::{Fault, planted};

impl Core {
    /// Takes a snapshot in.
    ///
    /// # Errors
    /// 422 when the node, its incarnation or its epoch is not known: the agent
    /// registers again. 409 when a newer agent has taken over the node.
    pub(super) fn heartbeat(
        &mut self,
        request: HeartbeatRequest,
    ) -> Result<HeartbeatResponse, ApiError> {
        let unknown = |what: String| {
            Err(ApiError::unprocessable("RegisterAgain", format!("{what}; register again")))
        };
        let known = self.state.nodes.get(&request.node_id).cloned();
        // Under an epoch that nobody of this life of the scheduler has told it.
        let foreign = known.as_ref().is_some_and(|node| {
            node.incarnation != request.incarnation && !node.former.contains(&request.incarnation)
        });
        if request.epoch > self.state.epoch || (request.epoch == self.state.epoch && foreign) {
            self.outgrow(request.epoch);
        }
        let Some(node) = known else {
            return unknown(format!("node {} is not known", request.node_id));
        };
        if node.former.contains(&request.incarnation) && !node.may_be_a_ghost(request.incarnation) {
            return Err(superseded(&node));
        }
        if request.epoch != self.state.epoch {
            return unknown(format!(
                "epoch {} is not current, this is {}",
                request.epoch, self.state.epoch
            ));
        }
        if request.incarnation != node.incarnation {
            return unknown(format!("this life of node {} is not known", node.id));
        }
        if let Some(base) = request.same_as {
            self.take_changes(&node, base, request);
        } else if request.seq > node.seq || planted(Fault::OldNewsCounts) {
            self.take_snapshot(&node.id, request);
        } else if request.seq == node.seq && node.status == NodeStatus::Alive {
            // The last one said again: proof of life, no news. One that a later
            // one has overtaken on the way is not even that.
            let now = self.state.now;
            self.edit_node(&node.id, |node| node.heard_at = now);
        }
        let seq = self.state.nodes.get(&node.id).map_or(0, |n| n.seq);
        Ok(HeartbeatResponse { epoch: self.state.epoch, seq, digests: true, changes: true })
    }

    /// What is not as it was in an earlier report, mostly nothing. If that is the last
    /// one that said something, and all it said was taken in, it comes to the same as a
    /// full snapshot; otherwise it is not taken in, and everything is sent.
    fn take_changes(&mut self, node: &Node, base: u64, request: HeartbeatRequest) {
        let HeartbeatRequest { incarnation, seq, docker, containers, gone, .. } = request;
        let usable =
            node.takes_changes_since(base) && docker.state == DockerState::Ok && seq > node.seq;
        if !usable {
            if seq >= node.seq && node.status == NodeStatus::Alive {
                // Proof of life, no news.
                let now = self.state.now;
                self.edit_node(&node.id, |node| node.heard_at = now);
            }
            return;
        }
        self.node_heard(&node.id, docker, seq, true);
        let says_something = !(containers.is_empty() && gone.is_empty());
        let mut listed = self.listed(&node.id, containers);
        // Beside what is gone, what was ordered and is in none of its reports yet.
        let mut told: BTreeSet<InstanceId> = gone.into_iter().collect();
        told.extend(node.unlisted.iter().cloned());
        told.extend(listed.keys().filter(|id| node.instances.contains(*id)).cloned());
        let mut taken = true;
        for id in &told {
            match listed.remove(id) {
                Some(report) => taken &= self.take_listed(&node.id, report),
                None => self.take_missing(&node.id, id, incarnation, seq, true),
            }
        }
        for report in listed.into_values() {
            taken &= self.take_listed(&node.id, report);
        }
        if says_something {
            self.edit_node(&node.id, |node| node.known_in = taken.then_some(seq));
        }
        self.node_answered_for(&node.id);
    }

    fn take_snapshot(&mut self, node: &NodeId, request: HeartbeatRequest) {
        let HeartbeatRequest { incarnation, seq, synced, docker, containers, .. } = request;
        let looked = synced || planted(Fault::AbsenceBeforeSynced);
        let complete = looked && docker.state == DockerState::Ok;
        let mut listed = self.listed(node, containers);
        let expected: Vec<InstanceId> = self
            .state
            .nodes
            .get(node)
            .map(|n| n.instances.iter().cloned().collect())
            .unwrap_or_default();
        // The node counts again before its instances are looked at, so that a
        // returned one is judged by what it is now.
        self.node_heard(node, docker, seq, synced);
        let mut taken = complete;
        for id in &expected {
            match listed.remove(id) {
                Some(report) => taken &= self.take_listed(node, report),
                None => self.take_missing(node, id, incarnation, seq, complete),
            }
        }
        for report in listed.into_values() {
            taken &= self.take_listed(node, report);
        }
        self.edit_node(node, |node| node.known_in = taken.then_some(seq));
        if complete {
            self.node_answered_for(node);
        }
    }

    /// What a node says of its own, as far as it can be.
    fn listed(
        &mut self,
        node: &NodeId,
        containers: Vec<ContainerInstance>,
    ) -> BTreeMap<InstanceId, ContainerInstance> {
        let mut listed = BTreeMap::new();
        let mut nonsense: Vec<InstanceId> = Vec::new();
        for report in containers.into_iter().filter(|report| report.node_id == *node) {
            let id = report.id.clone();
            match credible(report) {
                Some(report) => drop(listed.insert(id, report)),
                None => nonsense.push(id),
            }
        }
        if let Some(first) = nonsense.first() {
            let message = format!(
                "node {node} reports {} instance(s) that cannot be, such as {}; ignored",
                nonsense.len(),
                shown(first.as_str())
            );
            self.note_node(node, "NonsenseReported", message);
        }
        listed
    }

    /// One that the node lists. Returns whether it is known as it was told.
    fn take_listed(&mut self, node: &NodeId, report: ContainerInstance) -> bool {
        let Some(known) = self.state.instances.get(&report.id) else {
            self.adopt(report);
            return true;
        };
        // The same id on two nodes can only be a copy of a disk; the one that was ordered
        // here is not this one.
        if known.node != *node {
            let message = format!(
                "node {node} reports {}, which belongs to node {}; ignored",
                report.id, known.node
            );
            self.note_node(node, "ForeignInstance", message);
            return false;
        }
        let id = report.id.clone();
        self.edit_unlisted(node, |unlisted| unlisted.remove(&id).is_some());
        self.take_report(&id, report)
    }

    /// One that the node does not list.
    fn take_missing(
        &mut self,
        node: &NodeId,
        id: &InstanceId,
        incarnation: u64,
        seq: u64,
        complete: bool,
    ) {
        if self.state.instances.get(id).is_none_or(|known| known.node != *node) {
            return;
        }
        self.take_absence(id, incarnation, seq, complete);
        if complete && self.state.instances.contains_key(id) {
            self.edit_unlisted(node, |unlisted| unlisted.insert(id.clone()).is_none());
        }
    }

    /// Notes which of a node's instances it did not list, if `change` has to: most
    /// reports change nothing about it.
    fn edit_unlisted(&mut self, node: &NodeId, change: impl Fn(&mut OrdSet<InstanceId>) -> bool) {
        let Some(slot) = self.state.nodes.get_mut(node) else { return };
        let mut unlisted = slot.unlisted.clone();
        if change(&mut unlisted) {
            Arc::make_mut(slot).unlisted = unlisted;
        }
    }

    /// A known instance was listed. Returns whether it is known as it was told.
    fn take_report(&mut self, id: &InstanceId, report: ContainerInstance) -> bool {
        let Some(before) = self.state.instances.get(id).cloned() else { return false };
        let now = self.state.now;
        let mut seen = seen(report, now);
        if let Some(old) = &before.seen {
            if seen.phase < old.phase {
                // Phases only move forward.
                if old.phase.is_final() && !seen.phase.is_final() {
                    self.end_again(&before);
                }
                return false;
            }
            steady_since(&mut seen, old);
        }
        if before.seen.as_ref() == Some(&seen) && before.run == Delivery::Confirmed {
            return true;
        }
        let ended = seen.phase.is_final() && !before.is_over() && !planted(Fault::ExitIsSkipped);
        self.note_progress(&before, &seen);
        self.touch(id, |instance| {
            instance.seen = Some(seen);
            instance.run = Delivery::Confirmed;
        });
        let Some(after) = self.state.instances.get(id).cloned() else { return false };
        if after.share.running && !before.share.running && !after.holds_ports {
            self.claim_asked_ports(id, &[]);
        }
        let fell_ill = after.health() == Health::Unhealthy && before.health() != Health::Unhealthy;
        if fell_ill && after.stop.is_none() {
            self.fail_rollout(&after, "is unhealthy");
        }
        if ended {
            self.instance_ended(&after);
        }
        true
    }

    /// What was over has a container that runs or is about to.
    fn end_again(&mut self, instance: &Instance) {
        let workload = self.state.workloads.get(&instance.workload);
        if !workload.is_some_and(|workload| self.state.is_recovering(workload)) {
            self.stop_instance(&instance.id, StopCause::Revived);
        }
    }

    /// A known instance was not listed. Absence means gone only in a complete
    /// snapshot, and only of what that snapshot had to contain.
    fn take_absence(&mut self, id: &InstanceId, incarnation: u64, seq: u64, complete: bool) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        if !complete {
            return;
        }
        // It has noted the stop and will never start it.
        let stop_is_noted = instance.stop.as_ref().is_some_and(|stop| {
            matches!(stop.delivery, Delivery::Accepted { incarnation: noted_by, seq: before }
                if noted_by == incarnation && seq > before)
        });
        let must_be_listed = stop_is_noted
            || match instance.run {
                Delivery::Confirmed => true,
                Delivery::Accepted { incarnation: noted_by, seq: before } => {
                    noted_by != incarnation || seq > before
                }
                // An order to a former life can no longer be taken by anybody.
                Delivery::Sent { incarnation: sent_to, .. } => sent_to != incarnation,
                Delivery::Due(_) => false,
            };
        if !must_be_listed {
            let sent = matches!(instance.run, Delivery::Sent { .. } | Delivery::Due(1..));
            let given_up_at = instance.since.max(self.resumed_at) + self.timing.unreachable_ms;
            let node = self.state.nodes.get(&instance.node);
            if sent
                && instance.stop.is_none()
                && given_up_at <= self.state.now
                && let Some(node) = node.filter(|node| node.unreachable)
            {
                let message = format!(
                    "node {} is heard but does not answer orders at {}",
                    node.id, node.address
                );
                self.fail_start(&instance, Reason::NodeLost, message);
            }
            return;
        }
        if instance.run != Delivery::Confirmed {
            if !planted(Fault::PendingNeverExpires) {
                self.withdraw(id, "the agent has no trace of the order");
            }
            return;
        }
        if instance.stop.is_some() {
            if !instance.is_over() {
                self.instance_ended(&instance);
            }
            self.note_instance(&instance, "InstanceGone", format!("{id} is gone"));
        } else if !instance.is_over() {
            self.touch(id, |instance| {
                if let Some(seen) = &mut instance.seen {
                    seen.phase = Phase::Failed;
                    seen.reason = Some(Reason::Removed);
                    seen.message = Some("the container was removed by somebody else".to_owned());
                }
            });
            if let Some(after) = self.state.instances.get(id).cloned() {
                self.note_instance(
                    &after,
                    "InstanceRemoved",
                    format!("the container of {id} was removed by somebody else"),
                );
                self.instance_ended(&after);
            }
        }
        self.forget_instance(id);
    }

    /// An instance has ended. If it was not asked to, or was stopped for ill
    /// health, its replica is judged; unless it is of a replica that is gone, and
    /// only the number was given out again.
    pub(super) fn instance_ended(&mut self, instance: &Instance) {
        let (id, name, number) = (&instance.id, &instance.workload, instance.replica);
        let replica = self.state.workloads.get(name).and_then(|w| w.replicas.get(&number));
        let is_member = replica.is_some_and(|r| r.instances.contains(id));
        self.detach(name, number, id);
        let counts_as_end = match instance.stop.as_ref().map(|stop| stop.cause) {
            None | Some(StopCause::IllHealth | StopCause::AlreadyStopping) => true,
            Some(_) => false,
        };
        if is_member && counts_as_end {
            self.judge_end(instance);
        }
    }

    /// What becomes of the replica of an instance that has ended.
    pub(super) fn judge_end(&mut self, instance: &Instance) {
        let (id, name, number) = (&instance.id, instance.workload.clone(), instance.replica);
        let cause = instance.stop.as_ref().map(|stop| stop.cause);
        let ill = cause == Some(StopCause::IllHealth);
        self.edit_replica(&name, number, |replica| replica.unaccounted = false);
        self.take_back_move(instance);
        let Some(workload) = self.state.workloads.get(&name).cloned() else { return };
        let Some(replica) = workload.replicas.get(&number) else { return };
        // One of another revision is on its way out: what follows it is known.
        let has_another = instance.revision != replica.revision
            || self.live_in(replica).any(|i| self.state.is_current(&workload, replica, &i));
        if has_another || replica.done.is_some() {
            return;
        }
        let seen = instance.seen.clone();
        if !ill && workload.healing == Some(number) {
            // What was restarted for ill health has ended again: others may be
            // restarted, or one crash loop would keep them all ill.
            self.edit_workload(&name, |w| w.healing = None);
        }
        let ending = if ill {
            Ending::IllHealth
        } else if cause == Some(StopCause::AlreadyStopping) {
            Ending::Vanished
        } else {
            Ending::of(
                instance.phase(),
                seen.as_ref().and_then(|s| s.exit_code),
                seen.as_ref().and_then(|s| s.reason),
            )
        };
        let ran_for_ms = seen.as_ref().map_or(0, |s| {
            s.ran_for_ms
                .or(s.running_since.map(|since| self.state.now.saturating_sub(since)))
                .unwrap_or(0)
        });
        let policy = workload.restart_policy(instance.revision);
        let draw = self.draws.draw();
        // Its agent may have restarted it by itself, and got further.
        let step = replica.step.max(instance.step);
        let verdict = judge(policy, ending, step, ran_for_ms, &self.timing, draw);
        let failure = failure_of(instance, ending, self.state.wall);
        let no_fault = matches!(ending, Ending::Exited(0)) && verdict == Verdict::Done
            || ending == Ending::Vanished
            || matches!(
                failure.reason,
                Reason::PortTaken | Reason::NoRoom | Reason::DockerUnavailable | Reason::NodeLost
            );
        if matches!(failure.reason, Reason::NoRoom | Reason::DockerUnavailable) {
            // The next one had better go elsewhere, for as long as a try may be put off.
            let until = self.state.now + self.timing.backoff_max_ms;
            self.edit_node(&instance.node, |node| node.short_until = until);
        }
        if !no_fault {
            self.fail_rollout(instance, &failure.message);
            let now_of = self.state.workloads.get(&name).and_then(|w| w.replicas.get(&number));
            if now_of.is_some_and(|replica| replica.revision != instance.revision) {
                // What becomes of it is the way back's business.
                return;
            }
        }
        match verdict {
            Verdict::Done => {
                let exit_code = seen.as_ref().and_then(|s| s.exit_code);
                self.edit_replica(&name, number, |replica| {
                    replica.done = Some(
                        Done { revision: instance.revision, exit_code, instance: id.clone() }
                            .into(),
                    );
                    replica.not_before = None;
                    replica.last_failure =
                        (ending != Ending::Exited(0)).then(|| failure.clone().into());
                });
                let message = format!(
                    "replica {number} of {name} is done ({}); its restart policy asks for no more",
                    failure.message
                );
                self.note_instance(instance, "ReplicaDone", message);
            }
            Verdict::Again { delay_ms, step, same_node } => {
                let not_before = self.state.now + delay_ms;
                self.edit_replica(&name, number, |replica| {
                    replica.step = step;
                    replica.restarts = replica.restarts.max(instance.restarts) + 1;
                    replica.not_before = (delay_ms > 0).then_some(not_before);
                    replica.pin = same_node.then(|| instance.node.clone());
                    replica.follows = Some(id.clone());
                    replica.last_failure = Some(failure.clone().into());
                });
                if delay_ms > 0 {
                    self.agenda
                        .deadlines
                        .insert((not_before, Deadline::Replica(name.clone(), number)));
                }
                let when = if delay_ms == 0 {
                    "restarting it at once".to_owned()
                } else {
                    format!("restarting it in {:.1} s", delay_ms as f64 / 1000.0)
                };
                let message = format!(
                    "replica {number} of {name} failed ({}), {step} in a row; {when}",
                    failure.message
                );
                self.note_instance(instance, "ReplicaRestarting", message);
            }
        }
        self.record_replica(&name, number);
    }
}

/// What an instance's end looks like to a person.
fn failure_of(instance: &Instance, ending: Ending, wall: u64) -> Failure {
    let said = instance.seen.as_ref();
    let reason = said.and_then(|s| s.reason);
    let (reason, message) = match ending {
        Ending::Exited(0) => (Reason::Completed, "exited with code 0".to_owned()),
        // Of this the agent knows more than the exit code says.
        Ending::Exited(_) if reason == Some(Reason::OutOfMemory) => (
            Reason::OutOfMemory,
            said.and_then(|s| s.message.clone())
                .unwrap_or_else(|| "killed for want of memory".to_owned()),
        ),
        Ending::Exited(code) => (Reason::Error, exit_sentence(code)),
        Ending::Vanished if instance.stop.is_some() => {
            (Reason::Stopping, "was stopped before the scheduler restarted".to_owned())
        }
        Ending::Vanished => {
            (Reason::Removed, "its container was removed by somebody else".to_owned())
        }
        Ending::IllHealth => (Reason::Unhealthy, "its health probe failed for too long".to_owned()),
        Ending::NeverStarted => (
            reason.unwrap_or(Reason::StartFailed),
            said.and_then(|s| s.message.clone())
                .unwrap_or_else(|| "it could not be started".to_owned()),
        ),
    };
    Failure { instance: instance.id.clone(), reason, message, at: wall }
}

/// An exit code in words: codes above 128 are signals by convention.
fn exit_sentence(code: i64) -> String {
    let signal = match code {
        130 => " (SIGINT)",
        134 => " (SIGABRT)",
        137 => " (SIGKILL: killed by hand, or out of memory)",
        139 => " (SIGSEGV)",
        143 => " (SIGTERM)",
        125 => " (Docker could not run it)",
        126 => " (its command cannot be executed)",
        127 => " (its command was not found)",
        _ => "",
    };
    format!("exited with code {code}{signal}")
}

/// A report as kept, its ages turned into times.
pub(super) fn seen(report: ContainerInstance, now: u64) -> Seen {
    let since = |age: Option<u64>| age.map(|ms| now.saturating_sub(ms));
    let over = report.phase.is_final();
    Seen {
        container_id: report.container_id.into(),
        phase: report.phase,
        health: report.health,
        ip: report.ip.and_then(|ip| ip.parse().ok()),
        ports: report.ports.into(),
        started_wall: report.started_at.as_deref().and_then(unix_ms),
        running_since: if over { None } else { since(report.running_for_ms) },
        healthy_since: if report.health == Health::Healthy {
            since(report.healthy_for_ms)
        } else {
            None
        },
        restart_due: report.restart_due,
        stopping: report.stopping,
        remark: Remark {
            exit_code: report.exit_code,
            reason: report.reason,
            message: report.message,
            ran_for_ms: report.running_for_ms.filter(|_| over),
        }
        .boxed(),
    }
}

/// Ages measured twice differ by the time on the way. A report that was late
/// makes everything look younger: by how much is told by the time since which the
/// container runs, for that never changes. What is left is noise; as long as
/// nothing happened in between, the first reading stands, so that an unchanged
/// instance stays equal to itself.
fn steady_since(seen: &mut Seen, old: &Seen) {
    const NOISE_MS: u64 = 2_000;
    if seen.container_id != old.container_id {
        return;
    }
    if let (Some(new), Some(first)) = (seen.running_since, old.running_since) {
        let late = new.saturating_sub(first);
        seen.running_since = Some(if new + NOISE_MS < first { new } else { first });
        seen.healthy_since = seen.healthy_since.map(|since| since.saturating_sub(late));
    }
    if let (Some(new), Some(first)) = (seen.healthy_since, old.healthy_since)
        && old.health == seen.health
        && new.abs_diff(first) <= NOISE_MS
    {
        seen.healthy_since = Some(first);
    }
    if seen.phase == old.phase && old.ran_for_ms.is_some() {
        seen.ran_for_ms = old.ran_for_ms;
    }
}
