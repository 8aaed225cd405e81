//! Who moves when: the steps in which replicas change their revision or their
//! node, and the bounds that hold meanwhile.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use super::core::Core;
use super::placement::Placer;
use super::state::{Instance, Replica, Rollout, RolloutState, StopCause, Workload};
use crate::model::{Extent, Health, NodeId, Phase, Reason, Strategy, WorkloadId};

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
    /// Assigns the wanted revision to more replicas: at once to those that have
    /// nothing to lose or still have an instance of it, to the others as many at a
    /// time as the bounds allow, those that are not ready first.
    pub(super) fn move_replicas(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let moves = workload.rollout.as_ref().is_some_and(Rollout::moves);
        if workload.outdated.is_empty() || !moves || self.state.is_recovering(&workload) {
            return;
        }
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let at_once = (bounds.surge + bounds.unavailable).max(1) as usize;
        let mut to_move = Vec::new();
        let mut in_waves = Vec::new();
        for number in &workload.outdated {
            let Some(replica) = workload.replicas.get(number) else { continue };
            let nothing_to_lose =
                replica.done.is_none() && self.live_in(replica).all(|i| is_expendable(&i));
            let has_wanted = self.live_in(replica).any(|i| i.revision == workload.revision);
            if nothing_to_lose || has_wanted || workload.transit.contains(number) {
                to_move.push(*number);
            } else {
                let ready = replica.done.is_some() || self.live_in(replica).any(|i| i.ready);
                in_waves.push((ready, *number));
            }
        }
        let moving = to_move.iter().filter(|&number| !workload.transit.contains(number)).count();
        // What finds no room is on its way for ever and must not hold up the others.
        let under_way = workload.transit.len().saturating_sub(self.homeless(&workload)) + moving;
        let free = at_once.saturating_sub(under_way);
        in_waves.sort_unstable();
        to_move.extend(in_waves.into_iter().take(free).map(|(_, number)| number));
        for number in &to_move {
            self.move_replica(name, *number, workload.revision);
        }
        if !to_move.is_empty() {
            self.record_workload(name);
        }
    }

    fn move_replica(&mut self, name: &WorkloadId, number: u32, revision: u64) {
        let goes_back = self.state.workloads.get(name).and_then(|w| w.rollout.as_ref());
        let goes_back = goes_back.is_some_and(|r| r.state == RolloutState::Aborting);
        self.edit_workload(name, |workload| {
            workload.outdated.remove(&number);
            workload.transit.insert(number);
        });
        self.edit_replica(name, number, |replica| {
            replica.revision = revision;
            if replica.done.as_ref().is_none_or(|done| done.revision != revision) {
                let before = std::mem::replace(&mut replica.done_before, replica.done.take());
                // What an abort leads back to had finished, and does not run twice.
                if goes_back && before.as_ref().is_some_and(|done| done.revision == revision) {
                    replica.done = before;
                }
            }
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
            let replaced = replica.done.is_some() || current.iter().any(|i| i.ready);
            for old in outgoing {
                let drained = old.revision == replica.revision;
                if workload.is_frozen() && !drained {
                    continue;
                }
                let may_lack = match replaced {
                    true => Some(bounds.unavailable),
                    false if self.is_making_room(&workload, replica, &current, &old) => {
                        Some(bounds.unavailable_in_place())
                    }
                    false => None,
                };
                let enough = may_lack.is_some_and(|may_lack| {
                    !old.ready || self.has_more_ready_than(&workload, may_lack)
                });
                if enough || is_expendable(&old) {
                    let cause = if drained { StopCause::Drained } else { StopCause::Replaced };
                    self.stop_instance(&old.id, cause);
                }
            }
        }
    }

    /// Whether a replacement waits for nothing but the place of `old`: prepared on
    /// its node, or, where there may be no surge and that node takes nothing new,
    /// with room elsewhere.
    fn is_making_room(
        &self,
        workload: &Workload,
        replica: &Replica,
        current: &[Arc<Instance>],
        old: &Instance,
    ) -> bool {
        if current.iter().any(|i| i.after.as_ref() == Some(&old.id) && is_prepared(i)) {
            return true;
        }
        let surge = Bounds::of(&workload.spec.strategy, workload.desired()).surge;
        if !current.is_empty() || surge > 0 || self.hosts_in_place(&old.node) {
            return false;
        }
        let wants = workload.asked_ports(replica.revision);
        Placer::new(&self.state, &workload.spec.name).place(&self.state, &wants, None).is_ok()
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
        let resting = workload.resting.iter().filter(|n| self.is_bare(workload, **n)).count();
        (self.homeless(workload) + resting) as u32
    }

    /// Replicas that have nothing because there is no room for them.
    fn homeless(&self, workload: &Workload) -> usize {
        let no_room = workload.held.as_ref().is_some_and(|why| {
            matches!(why.reason, Reason::NoRoom | Reason::PortTaken | Reason::NoNodes)
        });
        if !no_room {
            return 0;
        }
        workload.missing.iter().filter(|n| self.is_bare(workload, **n)).count()
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
        if !self.hosts_in_place(&outgoing.node) {
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
