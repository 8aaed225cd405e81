//! Who moves when: the steps in which replicas change their revision or their
//! node, and the bounds that hold meanwhile.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use super::core::Core;
use super::placement::Placer;
use super::state::{Instance, Replica, Rollout, StopCause, Workload};
use crate::model::{Extent, Health, NodeId, Phase, Reason, RestartPolicy, Strategy, WorkloadId};
use crate::planted::{Fault, planted};

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

/// Whose turn comes first in a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Has no instance.
    Nothing,
    /// Has one that serves nobody.
    NotReady,
    /// Has one that may soon be ready again.
    Recovering,
    /// Has one that is ready, or has finished.
    Ready,
    /// Has one that cannot be stopped now: its node or its Docker does not answer.
    Stuck,
}

impl Core {
    /// Assigns the wanted revision to more replicas: at once to those that still
    /// have an instance of it and, once it has shown that it works, to those that
    /// serve nobody; to the others as many at a time as the bounds allow, those
    /// that serve nobody first.
    pub(super) fn move_replicas(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let moves = workload.rollout.as_ref().is_some_and(Rollout::moves);
        if workload.outdated.is_empty() || !moves || self.state.is_recovering(&workload) {
            return;
        }
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let at_once = (bounds.surge + bounds.unavailable).max(1) as usize;
        let proven = self.is_proven(&workload);
        if !proven && self.finds_no_room(&workload) {
            self.give_up_turns(name, &workload);
        }
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let mut to_move = Vec::new();
        let mut in_waves = Vec::new();
        for number in &workload.outdated {
            let Some(replica) = workload.replicas.get(number) else { continue };
            if self.live_in(replica).any(|i| i.revision == workload.revision) {
                to_move.push(*number);
                continue;
            }
            let turn = self.turn_of(replica);
            match turn {
                // What has crashed comes back as it was rather than not at all.
                Turn::Nothing if !self.would_find_room(&workload, replica) => {}
                Turn::Nothing | Turn::NotReady if proven => to_move.push(*number),
                // Those on their way, to elsewhere or to what is overtaken, need none
                // of the surge that they have not got already.
                _ => in_waves.push((turn, !workload.transit.contains(number), *number)),
            }
        }
        let free = at_once.saturating_sub(self.arriving(&workload, proven) + to_move.len());
        in_waves.sort_unstable();
        to_move.extend(in_waves.into_iter().take(free).map(|(.., number)| number));
        for number in &to_move {
            self.move_replica(name, *number, workload.revision);
        }
        if !to_move.is_empty() {
            self.record_workload(name);
        }
    }

    /// How many replicas have had their turn and are on their way to the wanted revision.
    fn arriving(&self, workload: &Workload, proven: bool) -> usize {
        let arriving = workload.transit.iter().filter(|&n| !workload.outdated.contains(n));
        // What finds no room is on its way for ever and must not hold up the others.
        let finished = |n: &u32| {
            workload.replicas.get(n).is_some_and(|replica| replica.has_finished(workload.head()))
        };
        let is_stuck = |n: &u32| {
            workload.missing.contains(n) && self.is_bare(workload, *n) && (proven || finished(n))
        };
        let arriving = match self.finds_no_room(workload) {
            true => arriving.filter(|&n| !is_stuck(n)).count(),
            false => arriving.count(),
        };
        let lost = workload.transit.iter().filter(|n| self.is_lost_for_good(workload, **n));
        arriving.saturating_sub(lost.count())
    }

    /// Replicas whose turn it was, that have lost what they had and find no room for
    /// the new: another's turn may show whether that works.
    fn give_up_turns(&mut self, name: &WorkloadId, workload: &Workload) {
        let head = workload.head();
        let stuck: Vec<u32> = workload
            .transit
            .iter()
            .filter(|&n| workload.missing.contains(n) && !workload.outdated.contains(n))
            .filter(|&n| self.is_bare(workload, *n))
            .filter_map(|n| Some((n, workload.replicas.get(n)?)))
            .filter(|(_, replica)| !self.would_find_room(workload, replica))
            // What had finished before has nothing to go back to.
            .filter(|(_, replica)| !replica.has_finished(head))
            .map(|(n, _)| *n)
            .collect();
        for number in &stuck {
            self.edit_workload(name, |workload| {
                workload.outdated.insert(*number);
                workload.transit.remove(number);
            });
            self.edit_replica(name, *number, |replica| replica.revision = head);
        }
        if !stuck.is_empty() {
            self.record_workload(name);
        }
    }

    /// Whether the wanted revision has shown that it works: it was everywhere once,
    /// or one instance of it is ready or has finished. Where nothing else lives,
    /// there is nothing to keep from it.
    fn is_proven(&self, workload: &Workload) -> bool {
        let wanted = workload.revision;
        let finished = |number: &u32| {
            let done = workload.replicas.get(number).and_then(|r| r.done.as_ref());
            done.is_some_and(|done| done.revision == wanted)
        };
        let lives = |i: &Instance| {
            i.revision != wanted && i.stop.is_none() && !i.is_over() && !self.state.is_lost(i)
        };
        wanted == workload.head()
            || self.instances_of(workload).any(|i| i.revision == wanted && i.share.ready)
            || workload.done.iter().any(finished)
            || workload.done.is_empty()
                && !self.state.is_recovering(workload)
                && !self.instances_of(workload).any(lives)
    }

    /// Whether places that are added get the wanted revision: not while it has
    /// yet to show that it works, nor against a person's pause.
    pub(super) fn may_grow_by_new(&self, workload: &Workload) -> bool {
        !workload.is_frozen() && self.is_proven(workload)
    }

    /// Whether an image of the wanted revision is known to exist: some node has it.
    fn image_is_known(&self, workload: &Workload) -> bool {
        workload.revision == workload.head()
            || self.instances_of(workload).any(|i| i.revision == workload.revision && has_image(i))
    }

    fn instances_of<'a>(&'a self, workload: &Workload) -> impl Iterator<Item = &'a Instance> {
        let cohort = self.state.cohorts.get(&workload.spec.name);
        cohort
            .into_iter()
            .flat_map(|cohort| &cohort.ids)
            .filter_map(|id| self.state.instances.get(id))
            .map(Arc::as_ref)
    }

    fn turn_of(&self, replica: &Replica) -> Turn {
        if replica.done.is_some() {
            return Turn::Ready;
        }
        let mut live = self.live_in(replica).peekable();
        if live.peek().is_none() {
            return Turn::Nothing;
        }
        let live: Vec<_> = live.collect();
        let answers = |i: &Instance| self.state.nodes.get(&i.node).is_some_and(|n| n.able());
        match () {
            () if !live.iter().all(|i| answers(i)) => Turn::Stuck,
            () if live.iter().all(|i| is_expendable(i)) => Turn::NotReady,
            () if live.iter().any(|i| i.ready) => Turn::Ready,
            () => Turn::Recovering,
        }
    }

    /// Whether an instance of the wanted revision finds a node now, or one of the
    /// replica's own revision does not either.
    fn would_find_room(&self, workload: &Workload, replica: &Replica) -> bool {
        let finds = |revision: u64, pin: Option<&NodeId>| {
            let wants = workload.asked_ports(revision);
            let mut placer = Placer::new(&workload.spec.name);
            placer.place(&self.state, &wants, pin).is_ok()
        };
        // Nor is there a turn to take for one that has yet to show that it works.
        let may_wait = || self.is_proven(workload);
        finds(workload.revision, None)
            || (may_wait() && !finds(replica.revision, replica.pin.as_ref()))
    }

    /// What a replica had has ended, and nothing of the wanted revision was
    /// ordered for it yet: it is as if it had not been its turn.
    pub(super) fn take_back_move(&mut self, instance: &Instance) {
        let (name, number) = (&instance.workload, instance.replica);
        let Some(workload) = self.state.workloads.get(name) else { return };
        let Some(replica) = workload.replicas.get(&number) else { return };
        // Nobody goes back to what was aborted, nor to what was over before.
        let is_open = workload.rollout.as_ref().is_some_and(Rollout::is_open);
        let is_old = is_open
            && workload.revision != workload.head()
            && replica.revision == workload.revision
            && replica.revision != instance.revision
            && workload.revisions.contains_key(&instance.revision);
        if !is_old || self.live_in(replica).next().is_some() || replica.done.is_some() {
            return;
        }
        let revision = instance.revision;
        self.edit_workload(name, |workload| {
            workload.outdated.insert(number);
            workload.transit.remove(&number);
        });
        self.edit_replica(name, number, |replica| {
            replica.revision = revision;
            replica.step = replica.step.max(instance.step);
            replica.restarts = replica.restarts.max(instance.restarts);
        });
        self.record_workload(name);
    }

    fn move_replica(&mut self, name: &WorkloadId, number: u32, revision: u64) {
        let goes_back = self.state.workloads.get(name).is_some_and(|w| w.head() == revision);
        self.edit_workload(name, |workload| {
            workload.outdated.remove(&number);
            workload.transit.insert(number);
            // It rests no more; where it stands is seen in the next round.
            workload.resting.remove(&number);
        });
        self.edit_replica(name, number, |replica| {
            replica.turn_to(revision, goes_back);
            replica.arrived = false;
            // Another template has a try of its own.
            replica.step = 0;
            replica.not_before = None;
            replica.last_failure = None;
            replica.pin = None;
            replica.follows = None;
        });
        self.record_replica(name, number);
    }

    /// Lets go of instances that are not what their replica is to have: of those
    /// with nothing to lose at once; of the others when their replacement is ready
    /// or, where it needs their place, once its image is on the node, and only as
    /// long as enough others are ready.
    pub(super) fn let_go(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        for number in &workload.transit {
            let Some(workload) = self.state.workloads.get(name).cloned() else { return };
            let Some(replica) = workload.replicas.get(number) else { continue };
            let (current, outgoing): (Vec<_>, Vec<_>) =
                self.live_in(replica).partition(|i| self.state.is_current(&workload, replica, i));
            if self.is_overtaken(&workload, *number) {
                let live: Vec<_> = current.iter().chain(&outgoing).cloned().collect();
                self.settle_for_one(name, *number, &live);
                continue;
            }
            let replaced = replica.done.is_some() || current.iter().any(|i| i.ready);
            let image_is_known = self.image_is_known(&workload);
            // With nothing to follow yet, one is kept; another is only in its way.
            let best = self.best_of(name, &outgoing).filter(|_| current.is_empty());
            for old in outgoing {
                let drained = old.revision == replica.revision;
                if workload.is_frozen() && !drained {
                    continue;
                }
                let spare = best.as_ref().is_some_and(|best| *best != old.id);
                let may_lack = match replaced || spare {
                    true => Some(bounds.unavailable),
                    false if self.is_making_room(&current, &old) => {
                        Some(bounds.unavailable_in_place())
                    }
                    false => None,
                };
                let enough = may_lack.is_some_and(|may_lack| {
                    !old.ready || self.has_more_ready_than(&workload, may_lack)
                }) || (drained && planted(Fault::DrainsTooSoon))
                    || (!drained && planted(Fault::OldOutFirst));
                // What serves nobody waits for no successor, only for one to be possible.
                let possible = match drained {
                    true => current.iter().any(|i| has_image(i)),
                    false => image_is_known,
                };
                let possible = possible || spare;
                if enough || (possible && is_expendable(&old)) {
                    let cause = if drained { StopCause::Drained } else { StopCause::Replaced };
                    self.stop_instance(&old.id, cause);
                } else {
                    self.let_start_beside(&workload, &current, &old);
                }
            }
        }
    }

    /// What was to follow `old` starts beside it if that cannot go after all, and
    /// there is room by now.
    fn let_start_beside(&mut self, workload: &Workload, current: &[Arc<Instance>], old: &Instance) {
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let bound = workload.desired() - workload.done.len() as u32 + bounds.surge;
        if self.state.tally(&workload.spec.name).occupied() >= bound {
            return;
        }
        let Some(next) = current.iter().find(|i| i.after.as_ref() == Some(&old.id)) else { return };
        let Some(daemon) = self.state.nodes.get(&next.node).map(|node| node.daemon()) else {
            return;
        };
        let mut wants = workload.asked_ports(next.revision).into_iter();
        let is_free = wants.all(|(port, protocol)| {
            self.state.port_holders(&daemon, port, protocol).all(|holder| holder.id == next.id)
        });
        if is_free && is_prepared(next) {
            self.touch(&next.id, |instance| instance.after = None);
        }
    }

    /// Half-way to what nobody wants any more, a replica settles for the best of what it
    /// has until it is its turn: the others need the surge.
    fn settle_for_one(&mut self, name: &WorkloadId, number: u32, live: &[Arc<Instance>]) {
        let best = self.best_of(name, live);
        let Some(best) = live.iter().find(|i| Some(&i.id) == best.as_ref()) else { return };
        for one in live.iter().filter(|i| i.id != best.id) {
            let workload = self.state.workloads.get(name);
            let enough = |w: &Workload| {
                let bounds = Bounds::of(&w.spec.strategy, w.desired());
                best.ready && self.has_more_ready_than(w, bounds.unavailable)
            };
            if is_expendable(one) || workload.is_some_and(|w| enough(w.as_ref())) {
                self.stop_instance(&one.id, StopCause::Replaced);
            }
        }
        let revision = best.revision;
        let Some(workload) = self.state.workloads.get(name) else { return };
        let is_of_it = workload.replicas.get(&number).is_some_and(|r| r.revision == revision);
        if is_of_it || !workload.revisions.contains_key(&revision) {
            return;
        }
        self.edit_replica(name, number, |replica| {
            replica.revision = revision;
            replica.step = 0;
            (replica.pin, replica.follows) = (None, None);
        });
        self.record_workload(name);
        self.record_replica(name, number);
    }

    /// Whether a replica has a revision of its own and another one's instance, and is to
    /// have a third.
    pub(super) fn is_overtaken(&self, workload: &Workload, number: u32) -> bool {
        let Some(replica) = workload.replicas.get(&number) else { return false };
        workload.rollout.as_ref().is_some_and(Rollout::moves)
            && workload.outdated.contains(&number)
            && self.live_in(replica).any(|i| i.revision != replica.revision)
            && self.live_in(replica).all(|i| i.revision != workload.revision)
    }

    /// Whether a replacement waits for nothing but the place of `old`, which can be
    /// stopped now.
    fn is_making_room(&self, current: &[Arc<Instance>], old: &Instance) -> bool {
        let can_stop = self.state.nodes.get(&old.node).is_some_and(|node| node.able());
        can_stop && current.iter().any(|i| i.after.as_ref() == Some(&old.id) && is_prepared(i))
    }

    fn hosts_in_place(&self, node: &NodeId) -> bool {
        let node = self.state.nodes.get(node);
        node.is_some_and(|n| n.able() && n.schedulable && !n.draining)
    }

    /// Whether one ready instance can go and no more than `may_lack` replicas lack
    /// one then, not counting those that nobody could help now.
    fn has_more_ready_than(&self, workload: &Workload, may_lack: u32) -> bool {
        let ready = self.state.tally(&workload.spec.name).ready + workload.done.len() as u32;
        let least = workload.desired().saturating_sub(may_lack);
        ready > least || ready > least.saturating_sub(self.out_of_reach(workload))
    }

    /// Replicas that have nothing and get nothing for now: no room, back-off, lost
    /// for good. What is lost for the network's sake alone is expected back.
    fn out_of_reach(&self, workload: &Workload) -> u32 {
        if self.state.mass_loss.is_some() {
            return 0;
        }
        let homeless = workload.missing.iter().filter(|_| self.finds_no_room(workload));
        let bare = homeless.chain(&workload.resting).filter(|n| self.is_bare(workload, **n));
        bare.filter(|n| !self.is_being_taken(workload, **n)).count() as u32
    }

    /// Whether a replica has nothing because what served in it is just being taken away:
    /// that is no reason to take from another one, too.
    fn is_being_taken(&self, workload: &Workload, number: u32) -> bool {
        let Some(replica) = workload.replicas.get(&number) else { return false };
        let known = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        known.filter(|i| i.ready && !i.is_over() && !self.state.is_lost(i)).any(|i| {
            let cause = i.stop.as_ref().map(|stop| stop.cause);
            matches!(cause, Some(StopCause::Replaced | StopCause::Drained))
        })
    }

    fn finds_no_room(&self, workload: &Workload) -> bool {
        workload.held.as_ref().is_some_and(|why| {
            matches!(why.reason, Reason::NoRoom | Reason::PortTaken | Reason::NoNodes)
        })
    }

    /// Whether a replica waits for a lost node, because what it had there may run
    /// only once.
    pub(super) fn is_lost_for_good(&self, workload: &Workload, number: u32) -> bool {
        let Some(replica) = workload.replicas.get(&number) else { return false };
        let known = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        // That it may run only once is said of its own revision.
        let mut own = known.filter(|i| i.revision == replica.revision && !i.is_over());
        workload.resting.contains(&number)
            && workload.restart_policy(replica.revision) == RestartPolicy::Never
            && own.any(|i| self.state.is_lost(i))
    }

    fn is_bare(&self, workload: &Workload, number: u32) -> bool {
        workload.replicas.get(&number).is_some_and(|r| self.live_in(r).next().is_none())
    }

    /// Whether a person's pause holds this replica's move; a drain goes on, and so
    /// does what was begun before and has failed since.
    pub(super) fn is_frozen_in(&self, workload: &Workload, replica: &Replica) -> bool {
        workload.is_frozen()
            && replica.follows.is_none()
            && self.live_in(replica).all(|i| i.revision != replica.revision)
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
    /// impossible, and on which node: on the same one, or, if that takes nothing
    /// new, on another that has room once the first is gone. It is launched only
    /// then. One at a time per workload, or as many as may be missing.
    pub(super) fn place_in_place(
        &self,
        workload: &Workload,
        replica: &Replica,
        surge_is_impossible: bool,
    ) -> Result<Option<(Arc<Instance>, NodeId)>, String> {
        let Some(outgoing) =
            self.live_in(replica).find(|i| !self.state.is_current(workload, replica, i))
        else {
            return Ok(None);
        };
        // Two that follow the same one would both start when it goes.
        let mut others = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        let follows = |i: &&Arc<Instance>| i.after.as_ref() == Some(&outgoing.id);
        if others.any(|i| follows(&i) && !i.is_over() && !self.state.is_lost(i)) {
            return Ok(None);
        }
        let Some(node) = self.node_in_place(workload, replica, &outgoing) else {
            return Ok(None);
        };
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let may = match surge_is_impossible || bounds.surge == 0 {
            _ if is_expendable(&outgoing) => bounds.unavailable_in_place().max(1),
            true => bounds.unavailable_in_place(),
            false => bounds.unavailable,
        };
        if may == 0 {
            return Err(format!(
                "a surge is impossible here and maxUnavailable is 0: {} keeps its place",
                outgoing.id
            ));
        }
        // Those that this very pass has started count, too; not one that took a place
        // before and has never become ready: it is on its way to nothing any more.
        let arrives = |i: &&Instance| {
            let replica = workload.replicas.get(&i.replica);
            workload.transit.contains(&i.replica)
                && replica.is_some_and(|r| self.state.is_current(workload, r, i))
        };
        let waiting = self
            .instances_of(workload)
            .filter(|i| i.after.is_some() && i.stop.is_none())
            .filter(arrives)
            .filter(|i| !i.is_over() && !i.ready && !self.state.is_lost(i))
            .count();
        Ok((waiting < may as usize).then_some((outgoing, node)))
    }

    fn node_in_place(
        &self,
        workload: &Workload,
        replica: &Replica,
        outgoing: &Instance,
    ) -> Option<NodeId> {
        // What cannot be stopped makes no room.
        self.state.nodes.get(&outgoing.node).filter(|node| node.able())?;
        let here = self.hosts_in_place(&outgoing.node).then_some(&outgoing.node);
        let wants = workload.asked_ports(replica.revision);
        let placer = Placer::new(&workload.spec.name);
        placer.in_place_of(&outgoing.id).place(&self.state, &wants, here).ok()
    }
}

/// Whether its agent has everything it takes to launch it and waits for what it
/// follows to be gone.
pub(super) fn is_prepared(instance: &Instance) -> bool {
    instance.phase() < Phase::Created
        && instance.seen.as_ref().is_some_and(|seen| seen.reason == Some(Reason::Prepared))
}

/// Whether its image is on its node.
fn has_image(instance: &Instance) -> bool {
    instance.phase() >= Phase::Created && instance.phase() != Phase::Failed || is_prepared(instance)
}

/// Whether it serves nobody and is not about to do so again.
fn is_expendable(instance: &Instance) -> bool {
    let may_recover = instance.phase() == Phase::Running && instance.health() != Health::Unhealthy;
    let serves_again = may_recover && instance.last_ready.is_some();
    !instance.ready && !serves_again
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
