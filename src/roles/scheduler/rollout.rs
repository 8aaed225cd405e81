//! Change without downtime: which revision each replica is to have, and when
//! what it had may go.
//!
//! A rollout is not a task with its progress in memory: it is recomputed from
//! what is, in the same pass as everything else. It only assigns revisions to
//! replicas, a few at a time, and lets go of instances whose replacement is
//! ready; starting is [`super::reconcile`]'s. An abort is the same with the old
//! revision as the goal, and a drain the same with another node as the goal.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use imbl::{OrdSet, Vector};

use super::core::{Core, Deadline};
use super::message::Millis;
use super::state::{Instance, Revision, Rollout, RolloutState, Word, Workload};
use crate::model::wire::DockerState;
use crate::model::{ApiError, Health, Template, WorkloadId};
use crate::planted::{Fault, planted};

impl Core {
    /// Makes `template` what is wanted. Returns its revision.
    pub(super) fn begin_rollout(
        &mut self,
        name: &WorkloadId,
        template: Template,
        by: &str,
        why: &str,
    ) -> u64 {
        let Some(known) = self.state.workloads.get(name).cloned() else { return 0 };
        let old = known.revisions.iter().find(|(_, r)| *r.template == template).map(|(n, _)| *n);
        let to = old.unwrap_or_else(|| self.next_revision(known.last_revision));
        // A change of a change goes from what was last everywhere, too.
        let from = if to == known.head() { known.revision } else { known.head() };
        let (now, wall) = (self.state.now, self.state.wall);
        let kept = self.timing.revisions_kept;
        let open = known.rollout.as_ref().filter(|rollout| rollout.is_open());
        let overtaken = open.is_some() && known.revision != known.head();
        // A person's pause holds for what is asked for meanwhile, except to go back.
        let held =
            open.is_some_and(|rollout| rollout.state == RolloutState::Paused) && to != known.head();
        self.edit_workload(name, |workload| {
            let before = workload.revisions.get_mut(&known.revision);
            if let Some(revision) = before.filter(|_| overtaken) {
                let outcome = format!("overtaken by revision {to} before it was everywhere");
                Arc::make_mut(revision).outcome = Some(outcome);
            }
            workload.last_revision = workload.last_revision.max(to);
            match workload.revisions.get_mut(&to) {
                Some(revision) => {
                    let revision = Arc::make_mut(revision);
                    revision.outcome = None;
                    let (by, why) = (by.to_owned(), why.to_owned());
                    revision.again = Some(Word { at: wall, by, why });
                }
                None => {
                    let revision = Revision {
                        template: template.clone().into(),
                        at: wall,
                        by: by.to_owned(),
                        why: why.to_owned(),
                        again: None,
                        outcome: None,
                    };
                    workload.revisions.insert(to, Arc::new(revision));
                }
            }
            let state = if held { RolloutState::Paused } else { RolloutState::Rolling };
            workload.rollout =
                Some(Rollout { from, to, state, why: None, since: now, since_wall: wall });
        });
        self.aim_at(name, to);
        let live = self.live_revisions(name);
        self.edit_workload(name, |workload| prune(workload, kept, &live));
        self.record_workload(name);
        self.note_workload(
            name,
            "RolloutStarted",
            format!("{by} rolls {name} from revision {from} to {to}: {why}"),
        );
        to
    }

    /// From now on `revision` is what every replica is to have.
    fn aim_at(&mut self, name: &WorkloadId, revision: u64) {
        self.edit_workload(name, |workload| {
            workload.revision = revision;
            if let Some(template) = workload.template(revision).cloned() {
                let spec = workload.spec.as_ref().clone().with_template(template);
                workload.spec = Arc::new(spec);
            }
            workload.outdated = workload
                .replicas
                .iter()
                .filter(|(_, replica)| replica.revision != revision)
                .map(|(number, _)| *number)
                .collect();
        });
        if let Some(workload) = self.state.workloads.get(name) {
            let all = workload.replicas.keys().map(|number| (name.clone(), *number));
            self.agenda.replicas.extend(all);
        }
    }

    /// Something of the new revision went wrong: back to where it came from,
    /// unless a person has frozen it, or this is the way back.
    pub(super) fn fail_rollout(&mut self, instance: &Instance, why: &str) {
        let Some(workload) = self.state.workloads.get(&instance.workload) else { return };
        let head = workload.head();
        let at_fault = workload.rollout.as_ref().is_some_and(|rollout| {
            rollout.state == RolloutState::Rolling
                && rollout.to == instance.revision
                && rollout.to != head
        });
        if at_fault && !planted(Fault::RolloutNeverAborts) {
            let name = instance.workload.clone();
            self.begin_abort(&name, format!("{}: {why}", instance.id));
            // Those that still have what they had keep it, whatever came of the new.
            self.move_replicas(&name);
        }
    }

    /// Makes the head the goal again.
    pub(super) fn begin_abort(&mut self, name: &WorkloadId, why: String) {
        let Some(known) = self.state.workloads.get(name).cloned() else { return };
        let head = known.head();
        let (from, to) = (known.revision, head);
        let (now, wall) = (self.state.now, self.state.wall);
        self.edit_workload(name, |workload| {
            if let Some(revision) = workload.revisions.get_mut(&from) {
                Arc::make_mut(revision).outcome = Some(format!("aborted: {why}"));
            }
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = RolloutState::Aborting;
                rollout.why = Some(why.clone());
                rollout.since = now;
                rollout.since_wall = wall;
            }
        });
        self.aim_at(name, to);
        self.record_workload(name);
        self.note_workload(
            name,
            "RolloutAborting",
            format!("the rollout of {name} to revision {from} is aborted, back to {to}: {why}"),
        );
    }

    /// Freezes a rollout: no waves, no deadlines, no aborts.
    pub(super) fn pause_rollout(&mut self, by: &str, name: &WorkloadId) -> Result<(), ApiError> {
        match self.open_rollout(name)?.state {
            RolloutState::Paused => return Ok(()),
            RolloutState::Aborting => {
                return Err(ApiError::conflict(format!(
                    "the rollout of {name} is being aborted, which cannot be paused"
                )));
            }
            _ => self.set_rollout(name, RolloutState::Paused),
        }
        self.note_workload(name, "RolloutPaused", format!("{by} paused the rollout of {name}"));
        Ok(())
    }

    /// Lets a frozen rollout go on; its deadlines start anew.
    pub(super) fn resume_rollout(&mut self, by: &str, name: &WorkloadId) -> Result<(), ApiError> {
        if self.open_rollout(name)?.state != RolloutState::Paused {
            return Ok(());
        }
        self.set_rollout(name, RolloutState::Rolling);
        self.note_workload(name, "RolloutResumed", format!("{by} resumed the rollout of {name}"));
        if let Some(workload) = self.state.workloads.get(name) {
            let all = workload.replicas.keys().map(|number| (name.clone(), *number));
            self.agenda.replicas.extend(all);
        }
        Ok(())
    }

    /// A person wants it back.
    pub(super) fn abort_rollout(&mut self, by: &str, name: &WorkloadId) -> Result<(), ApiError> {
        let rollout = self.open_rollout(name)?;
        let head = self.known_workload(name)?.head();
        if rollout.to == head {
            return Err(ApiError::conflict(format!(
                "the rollout of {name} goes back to revision {head}, which was the last to be \
                 everywhere; there is nothing to abort"
            )));
        }
        if rollout.state != RolloutState::Aborting {
            self.begin_abort(name, format!("{by} asked for it"));
        }
        Ok(())
    }

    /// Back to an earlier revision: the given one, else, while a rollout is under
    /// way, the one it came from, else the one before the head.
    pub(super) fn undo_rollout(
        &mut self,
        by: &str,
        name: &WorkloadId,
        to: Option<u64>,
    ) -> Result<u64, ApiError> {
        let workload = self.known_workload(name)?;
        let state = workload.rollout.as_ref().map(|rollout| rollout.state);
        if to.is_none() && state == Some(RolloutState::Aborting) {
            // It is being undone already, only not by this word.
            return Ok(workload.revision);
        }
        let under_way = workload.revision != workload.head();
        let before = workload.heads.iter().rev().nth(usize::from(!under_way)).copied();
        let Some(to) = to.or(before) else {
            let others: Vec<String> = workload
                .revisions
                .keys()
                .filter(|number| **number != workload.revision)
                .map(u64::to_string)
                .collect();
            return Err(ApiError::conflict(match others.as_slice() {
                [] => format!(
                    "{name} has only ever had revision {}; there is nothing to go back to",
                    workload.revision
                ),
                _ => format!(
                    "no revision of {name} but {} was ever everywhere, so there is none to go back \
                     to by itself; say which to roll to: --to {}",
                    workload.revision,
                    others.join(" or --to ")
                ),
            }));
        };
        let Some(template) = workload.template(to).cloned() else {
            let kept: Vec<String> = workload.revisions.keys().map(u64::to_string).collect();
            return Err(ApiError::not_found(format!(
                "revision {to} of {name} is not kept; kept are: {}",
                kept.join(", ")
            )));
        };
        if to == workload.revision {
            return Ok(to);
        }
        Ok(self.begin_rollout(name, template, by, &format!("undo to revision {to}")))
    }

    fn open_rollout(&self, name: &WorkloadId) -> Result<Rollout, ApiError> {
        let workload = self.known_workload(name)?;
        workload
            .rollout
            .clone()
            .filter(Rollout::is_open)
            .ok_or_else(|| ApiError::conflict(format!("no rollout of {name} is under way")))
    }

    fn set_rollout(&mut self, name: &WorkloadId, state: RolloutState) {
        let (now, wall) = (self.state.now, self.state.wall);
        self.edit_workload(name, |workload| {
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = state;
                rollout.since = now;
                rollout.since_wall = wall;
            }
        });
        self.record_workload(name);
    }

    /// Done when all are new and the old are gone.
    pub(super) fn finish_rollout(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name) else { return };
        let Some(rollout) = workload.rollout.as_ref().filter(|r| r.moves()) else { return };
        if !workload.outdated.is_empty() || !workload.transit.is_empty() {
            return;
        }
        let aborted = rollout.state == RolloutState::Aborting;
        let (state, revision) =
            (if aborted { RolloutState::Aborted } else { RolloutState::Done }, workload.revision);
        let message = match aborted {
            true => {
                format!("the rollout of {name} was aborted; all are of revision {revision} again")
            }
            false => format!("{name} is completely of revision {revision}"),
        };
        let kept = self.timing.revisions_kept;
        let live = self.live_revisions(name);
        self.edit_workload(name, |workload| {
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = state;
            }
            if !aborted {
                workload.heads.retain(|head| *head != revision);
                workload.heads.push_back(revision);
            }
            prune(workload, kept, &live);
        });
        self.record_workload(name);
        self.note_workload(name, if aborted { "RolloutAborted" } else { "RolloutDone" }, message);
    }

    /// Files a replica under transit or not, and holds what comes up in it to the
    /// rollout's deadline.
    pub(super) fn follow_transit(
        &mut self,
        name: &WorkloadId,
        number: u32,
        current: &[Arc<Instance>],
    ) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let Some(replica) = workload.replicas.get(&number) else { return };
        let is_open = workload.rollout.as_ref().is_some_and(Rollout::is_open);
        let there = replica.done.is_some() || current.iter().any(|i| i.ready);
        let arriving = is_open && replica.revision == workload.revision && !there;
        let leaving = replica
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| !i.is_over() && !self.state.is_lost(i))
            .any(|i| !self.state.is_current(&workload, replica, i));
        let in_transit = arriving || leaving;
        if in_transit != workload.transit.contains(&number) {
            self.edit_workload(name, |workload| {
                if in_transit {
                    workload.transit.insert(number);
                } else {
                    workload.transit.remove(&number);
                }
            });
        }
        if arriving {
            self.hold_to_deadline(&workload, number, current);
        } else if is_open && there && !replica.arrived && replica.revision == workload.revision {
            self.edit_replica(name, number, |replica| replica.arrived = true);
            self.record_replica(name, number);
        }
    }

    fn hold_to_deadline(&mut self, workload: &Workload, number: u32, current: &[Arc<Instance>]) {
        let Some(rollout) = workload.rollout.as_ref() else { return };
        if rollout.state != RolloutState::Rolling {
            return;
        }
        let seconds = workload.spec.strategy.progress_deadline_seconds;
        let arrived = workload.replicas.get(&number).is_some_and(|replica| replica.arrived);
        for instance in current.iter().filter(|i| i.revision == rollout.to) {
            if let Some(again) = self.out_of_sight(instance) {
                self.look_at_replica_at(again, &workload.spec.name, number);
                continue;
            }
            if instance.health() == Health::Unhealthy {
                self.fail_rollout(instance, "is unhealthy");
                return;
            }
            let Some(running) = instance.seen.as_ref().and_then(|s| s.running_since) else {
                continue;
            };
            // One that was ready may be so again: an agent that has just started
            // probes anew.
            let was_ready = instance.last_ready.filter(|_| arrived).unwrap_or(0);
            let from = running.max(rollout.since).max(was_ready);
            let at: Millis = from + u64::from(seconds) * 1000;
            if at <= self.state.now {
                self.fail_rollout(instance, &format!("was not ready {seconds} s after it ran"));
                return;
            }
            let name = workload.spec.name.clone();
            self.agenda.deadlines.insert((at, Deadline::Replica(name, number)));
        }
    }
}

impl Core {
    /// Revisions that something of is there.
    fn live_revisions(&self, name: &WorkloadId) -> OrdSet<u64> {
        let ids = self.state.cohorts.get(name).into_iter().flat_map(|cohort| &cohort.ids);
        let instances = ids.filter_map(|id| self.state.instances.get(id));
        instances.filter(|i| !i.is_over()).map(|i| i.revision).collect()
    }

    /// When to look again at an instance whose node has missed a heartbeat or
    /// whose Docker does not answer: what is known of it is old, and a node's
    /// death is not its fault.
    fn out_of_sight(&self, instance: &Instance) -> Option<Millis> {
        let node = self.state.nodes.get(&instance.node)?;
        let late_at = node.heard_at + self.timing.heartbeat_ms * 3 / 2;
        let silent = late_at <= self.state.now || node.docker.state != DockerState::Ok;
        silent.then_some(self.state.now + self.timing.sweep_ms)
    }
}

/// Drops the oldest revisions that nothing needs any more. Of those that never became
/// the head, the last is kept in any case: its story is the one that is asked for.
fn prune(workload: &mut Workload, kept: usize, live: &OrdSet<u64>) {
    let last = workload.revisions.keys().next_back();
    let failed = last.is_some_and(|last| !workload.heads.contains(last));
    while workload.heads.len() > kept.saturating_sub(usize::from(failed)).max(1) {
        workload.heads.pop_front();
    }
    let mut needed: OrdSet<u64> = workload.heads.iter().copied().collect();
    needed.insert(workload.revision);
    needed.extend(workload.replicas.values().map(|r| r.revision));
    // What still runs must be known after a restart, too.
    needed.extend(live.iter().copied().filter(|of| workload.revisions.contains_key(of)));
    let mut spare = kept.saturating_sub(needed.len());
    let mut keep = needed.clone();
    for number in workload.revisions.keys().rev() {
        if !keep.contains(number) && spare > 0 {
            keep.insert(*number);
            spare -= 1;
        }
    }
    workload.revisions = workload
        .revisions
        .iter()
        .filter(|(number, _)| keep.contains(*number))
        .map(|(number, revision)| (*number, revision.clone()))
        .collect();
}

/// The history of a workload that has only ever had one revision.
pub(super) fn first_heads(revision: u64) -> Vector<u64> {
    Vector::unit(revision)
}
