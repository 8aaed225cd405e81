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
use super::state::{Instance, Replica, Revision, Rollout, RolloutState, StopCause, Workload};
use crate::model::{ApiError, Extent, Health, Phase, Reason, Strategy, Template, WorkloadId};

/// How far a workload may stray from its count while it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Instances more than desired.
    pub surge: u32,
    /// Ready instances fewer than desired.
    pub unavailable: u32,
    /// Whether `unavailable` was asked for; else it is 0, but 1 where a surge is
    /// impossible.
    pub explicit: bool,
}

impl Bounds {
    /// The bounds for this many replicas. Shares round up for the surge and down
    /// for what may be missing; if that leaves nothing to move with, one may be
    /// missing.
    pub fn of(strategy: &Strategy, desired: u32) -> Self {
        let surge = match strategy.max_surge {
            Extent::Count(count) => count,
            Extent::Percent(percent) => (desired * u32::from(percent)).div_ceil(100),
        };
        let (unavailable, explicit) = match strategy.max_unavailable {
            None => (0, false),
            Some(Extent::Count(count)) => (count, true),
            Some(Extent::Percent(percent)) => (desired * u32::from(percent) / 100, true),
        };
        let stuck = surge == 0 && unavailable == 0;
        Self { surge, unavailable: if stuck { 1 } else { unavailable }, explicit }
    }

    /// How many may be missing where a surge is impossible.
    pub fn unavailable_in_place(self) -> u32 {
        if self.explicit { self.unavailable } else { self.unavailable.max(1) }
    }
}

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
        let old = known.revisions.iter().find(|(_, r)| r.template == template).map(|(n, _)| *n);
        let to = old.unwrap_or(known.last_revision + 1);
        let from = known.revision;
        let (now, wall) = (self.state.now, self.state.wall);
        self.edit_workload(name, |workload| {
            workload.last_revision = workload.last_revision.max(to);
            match workload.revisions.get_mut(&to) {
                Some(revision) => {
                    let revision = Arc::make_mut(revision);
                    revision.outcome = None;
                    why.clone_into(&mut revision.why);
                    by.clone_into(&mut revision.by);
                }
                None => {
                    let revision = Revision {
                        template: template.clone(),
                        at: wall,
                        by: by.to_owned(),
                        why: why.to_owned(),
                        outcome: None,
                    };
                    workload.revisions.insert(to, Arc::new(revision));
                }
            }
            let state = RolloutState::Rolling;
            workload.rollout = Some(Rollout { from, to, state, why: None, since: now });
        });
        self.aim_at(name, to);
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
        self.record_workload(name);
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
        if at_fault {
            let name = instance.workload.clone();
            self.begin_abort(&name, format!("{} {why}", instance.id));
        }
    }

    /// Makes the head the goal again.
    pub(super) fn begin_abort(&mut self, name: &WorkloadId, why: String) {
        let Some(known) = self.state.workloads.get(name).cloned() else { return };
        let head = known.head();
        let (from, to) = (known.revision, head);
        let now = self.state.now;
        self.edit_workload(name, |workload| {
            if let Some(revision) = workload.revisions.get_mut(&from) {
                Arc::make_mut(revision).outcome = Some(format!("aborted: {why}"));
            }
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = RolloutState::Aborting;
                rollout.why = Some(why.clone());
                rollout.since = now;
            }
        });
        self.aim_at(name, to);
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
        if self.open_rollout(name)?.state != RolloutState::Aborting {
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
        let under_way = workload.revision != workload.head();
        let before = workload.heads.iter().rev().nth(usize::from(!under_way)).copied();
        let Some(to) = to.or(before) else {
            return Err(ApiError::conflict(format!(
                "{name} has only ever had revision {}; there is nothing to go back to",
                workload.revision
            )));
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
        let now = self.state.now;
        self.edit_workload(name, |workload| {
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = state;
                rollout.since = now;
            }
        });
        self.record_workload(name);
    }

    /// The rollout's and the drain's part of looking at a workload.
    pub(super) fn advance_rollout(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        if !workload.is_frozen() {
            self.move_replicas(name, &workload);
            self.let_go(name, &workload);
        }
        self.finish_rollout(name);
    }

    /// Assigns the wanted revision to more replicas: at once to those that have
    /// nothing ready to lose or still have an instance of it, to the others as
    /// many at a time as the bounds allow.
    fn move_replicas(&mut self, name: &WorkloadId, workload: &Workload) {
        if workload.outdated.is_empty() || !workload.rollout.as_ref().is_some_and(Rollout::moves) {
            return;
        }
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let at_once = (bounds.surge + bounds.unavailable).max(1) as usize;
        let mut under_way = workload.transit.len();
        for number in &workload.outdated {
            let Some(replica) = workload.replicas.get(number) else { continue };
            let nothing_to_lose = replica.done.is_none() && self.live_in(replica).all(|i| !i.ready);
            let has_wanted = self.live_in(replica).any(|i| i.revision == workload.revision);
            if !nothing_to_lose && !has_wanted {
                if under_way >= at_once {
                    continue;
                }
                under_way += 1;
            }
            self.move_replica(name, *number, workload.revision);
        }
    }

    fn move_replica(&mut self, name: &WorkloadId, number: u32, revision: u64) {
        self.edit_workload(name, |workload| {
            workload.outdated.remove(&number);
            workload.transit.insert(number);
        });
        self.edit_replica(name, number, |replica| {
            replica.revision = revision;
            if replica.done.as_ref().is_some_and(|done| done.revision != revision) {
                replica.done = None;
            }
            // Another template has a try of its own.
            replica.step = 0;
            replica.not_before = None;
            replica.last_failure = None;
            replica.pin = None;
            replica.follows = None;
        });
        self.record_replica(name, number);
        self.record_workload(name);
    }

    /// Lets go of instances that are not what their replica is to have: those
    /// that are not ready at once, the others when their replacement is ready, or,
    /// where it needs their place, once its image is on the node and as many as
    /// desired less `maxUnavailable` remain ready.
    fn let_go(&mut self, name: &WorkloadId, workload: &Workload) {
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        for number in &workload.transit {
            let Some(workload) = self.state.workloads.get(name).cloned() else { return };
            let Some(replica) = workload.replicas.get(number) else { continue };
            let (current, outgoing): (Vec<_>, Vec<_>) =
                self.live_in(replica).partition(|i| self.state.is_current(&workload, replica, i));
            let replaced = replica.done.is_some() || current.iter().any(|i| i.ready);
            for old in outgoing {
                let in_place =
                    current.iter().any(|i| i.after.as_ref() == Some(&old.id) && is_prepared(i));
                let tally = self.state.tally(name);
                let enough = tally.ready + workload.done.len() as u32
                    > workload.desired().saturating_sub(bounds.unavailable_in_place());
                if !old.ready || replaced || (in_place && enough) {
                    let cause = match old.revision == replica.revision {
                        true => StopCause::Drained,
                        false => StopCause::Replaced,
                    };
                    self.stop_instance(&old.id, cause);
                }
            }
        }
    }

    /// Done when all are new and the old are gone.
    fn finish_rollout(&mut self, name: &WorkloadId) {
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
        self.edit_workload(name, |workload| {
            if let Some(rollout) = &mut workload.rollout {
                rollout.state = state;
            }
            if !aborted {
                workload.heads.retain(|head| *head != revision);
                workload.heads.push_back(revision);
            }
            prune(workload, kept);
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
        }
    }

    fn hold_to_deadline(&mut self, workload: &Workload, number: u32, current: &[Arc<Instance>]) {
        let Some(rollout) = workload.rollout.as_ref() else { return };
        if rollout.state != RolloutState::Rolling {
            return;
        }
        let seconds = workload.spec.strategy.progress_deadline_seconds;
        for instance in current.iter().filter(|i| i.revision == rollout.to) {
            if instance.health() == Health::Unhealthy {
                self.fail_rollout(instance, "is unhealthy");
                return;
            }
            let Some(running) = instance.seen.as_ref().and_then(|s| s.running_since) else {
                continue;
            };
            let at: Millis = running.max(rollout.since) + u64::from(seconds) * 1000;
            if at <= self.state.now {
                self.fail_rollout(instance, &format!("was not ready {seconds} s after it ran"));
                return;
            }
            let name = workload.spec.name.clone();
            self.agenda.deadlines.insert((at, Deadline::Replica(name, number)));
        }
    }

    /// Instances of a replica that run or come up and are not being stopped.
    pub(super) fn live_in<'a>(
        &'a self,
        replica: &'a Replica,
    ) -> impl Iterator<Item = Arc<Instance>> + 'a {
        replica
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| !i.is_over() && i.stop.is_none() && !self.state.is_lost(i))
            .cloned()
    }

    /// The instance in whose place a replacement may be started where a surge is
    /// impossible: on the same node, launched when it is gone. One at a time per
    /// workload, or as many as may be missing.
    pub(super) fn place_in_place(
        &self,
        workload: &Workload,
        replica: &Replica,
        surge_is_impossible: bool,
    ) -> Result<Option<Arc<Instance>>, String> {
        let Some(outgoing) =
            self.live_in(replica).find(|i| !self.state.is_current(workload, replica, i))
        else {
            return Ok(None);
        };
        let node = self.state.nodes.get(&outgoing.node);
        if !node.is_some_and(|n| n.able() && n.schedulable && !n.draining) {
            return Ok(None);
        }
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let may = match surge_is_impossible || bounds.surge == 0 {
            true => bounds.unavailable_in_place(),
            false => bounds.unavailable,
        };
        if may == 0 {
            return Err(format!(
                "a surge is impossible here and maxUnavailable is 0: {} keeps its place",
                outgoing.id
            ));
        }
        let waiting = workload
            .transit
            .iter()
            .filter_map(|number| workload.replicas.get(number))
            .flat_map(|r| self.live_in(r))
            .filter(|i| i.after.is_some() && !i.ready)
            .count();
        Ok((waiting < may as usize).then_some(outgoing))
    }
}

/// Whether its agent has everything it takes to launch it and waits for what it
/// follows to be gone.
fn is_prepared(instance: &Instance) -> bool {
    instance.phase() < Phase::Created
        && instance.seen.as_ref().is_some_and(|seen| seen.reason == Some(Reason::Prepared))
}

/// Drops the oldest revisions that nothing needs any more.
fn prune(workload: &mut Workload, kept: usize) {
    while workload.heads.len() > kept.max(1) {
        workload.heads.pop_front();
    }
    let mut needed: OrdSet<u64> = workload.heads.iter().copied().collect();
    needed.insert(workload.revision);
    needed.extend(workload.replicas.values().map(|r| r.revision));
    // Those that never became the head are kept for their story, as room allows.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(surge: Extent, unavailable: Option<Extent>, desired: u32) -> (u32, u32, u32) {
        let strategy =
            Strategy { max_surge: surge, max_unavailable: unavailable, ..Strategy::default() };
        let bounds = Bounds::of(&strategy, desired);
        (bounds.surge, bounds.unavailable, bounds.unavailable_in_place())
    }

    #[test]
    fn numbers_and_shares() {
        use Extent::{Count, Percent};
        assert_eq!(bounds(Count(1), None, 10), (1, 0, 1));
        assert_eq!(bounds(Count(1), Some(Count(0)), 10), (1, 0, 0));
        assert_eq!(bounds(Count(0), None, 10), (0, 1, 1));
        assert_eq!(bounds(Percent(25), Some(Percent(25)), 10), (3, 2, 2));
        assert_eq!(bounds(Percent(25), Some(Percent(25)), 1), (1, 0, 0));
        assert_eq!(bounds(Count(0), Some(Percent(25)), 3), (0, 1, 1));
        assert_eq!(bounds(Percent(100), None, 7), (7, 0, 1));
    }
}
