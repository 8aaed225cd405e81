//! Close the gap: what each replica and workload lacks or has too much of.
//! Starting is in [`super::starting`], what may go in a change in
//! [`super::rollout`].
//!
//! Only replicas and workloads that were marked are looked at. Each look is at
//! what *is*; a mark carries no data, so one too many changes nothing.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::core::{Core, Deadline};
use super::state::{Delivery, Instance, Replica, Stop, StopCause, Workload};
use super::waves::is_prepared;
use crate::model::{Health, InstanceId, Reason, RestartPolicy, Why, WorkloadId};
use crate::planted::{Fault, planted};

/// Where a replica without an effective instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Filled,
    Done,
    Resting,
    Missing,
}

impl Core {
    /// Looks at everything that was marked until nothing is.
    pub(super) fn settle(&mut self) {
        // Each round acts on what the round before has touched; starts and stops
        // are bounded by what is desired, so this ends. The limit is a guard
        // against a mistake in here becoming an endless loop.
        const ROUNDS: usize = 64;
        for _ in 0..ROUNDS {
            let replicas = std::mem::take(&mut self.agenda.replicas);
            let mut touched: BTreeSet<WorkloadId> = std::mem::take(&mut self.agenda.workloads);
            if replicas.is_empty() && touched.is_empty() {
                return;
            }
            for (name, number) in replicas {
                self.visits += 1;
                self.look_at_replica(&name, number);
                touched.insert(name);
            }
            for name in touched {
                self.visits += 1;
                self.look_at_workload(&name);
            }
        }
        tracing::error!("reconciling did not settle in {ROUNDS} rounds; going on at the next step");
    }

    /// Files a replica under filled, done, resting or missing, and thins it out
    /// if it has more than one effective instance.
    fn look_at_replica(&mut self, name: &WorkloadId, number: u32) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let Some(replica) = workload.replicas.get(&number) else {
            if workload.missing.contains(&number)
                || workload.resting.contains(&number)
                || workload.done.contains(&number)
            {
                self.file_replica(name, number, Place::Filled);
            }
            return;
        };
        let followers: Vec<InstanceId> = self
            .live_in(replica)
            .filter(|i| i.after.is_some() || is_prepared(i))
            .map(|i| i.id.clone())
            .collect();
        let recovering = self.state.is_recovering(&workload);
        for id in &followers {
            if !recovering {
                self.follow_nobody_lost(id);
            }
            self.recount_if_changed(id);
        }
        if !recovering {
            followers.iter().for_each(|id| self.release_if_free(id));
        }
        let (current, outgoing): (Vec<_>, Vec<_>) =
            self.live_in(replica).partition(|i| self.state.is_current(&workload, replica, i));
        if current.len() > 1 && !self.state.is_recovering(&workload) {
            self.thin_out(name, &current);
        }
        let live: Vec<_> = current.iter().chain(&outgoing).cloned().collect();
        let done = self.review_done(&workload, number, replica, &live);
        let place = match () {
            () if done => Place::Done,
            () if !current.is_empty() => Place::Filled,
            () => self.place_of(&workload, number, replica),
        };
        self.file_replica(name, number, place);
        self.follow_transit(name, number, &current);
        if workload.healing == Some(number) && self.is_healed(replica, &current, place) {
            self.edit_workload(name, |w| w.healing = None);
        }
    }

    /// What is lost does not count, so nobody waits for its end.
    fn follow_nobody_lost(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id) else { return };
        let before = instance.after.as_ref().and_then(|id| self.state.instances.get(id));
        if self.state.mass_loss.is_none() && before.is_some_and(|i| self.state.is_lost(i)) {
            self.touch(id, |instance| instance.after = None);
        }
    }

    /// Tells an agent to launch what it has prepared, once what that follows is
    /// gone; again with each report in which it still waits. On the same node the
    /// agent sees that by itself, mostly sooner.
    fn release_if_free(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id) else { return };
        let waits = self.state.waits_for_predecessor(instance);
        let heard = self.state.nodes.get(&instance.node).map_or(0, |node| node.seq);
        let is_told = match instance.run {
            Delivery::Confirmed => true,
            Delivery::Accepted { seq, .. } => heard > seq,
            Delivery::Due(_) | Delivery::Sent { .. } => false,
        };
        if !waits && is_told && is_prepared(instance) {
            let now = self.state.now;
            self.touch(id, |instance| instance.run = Delivery::Due(now));
            self.agenda.orders.insert(id.clone());
        }
    }

    /// Whether a replica is done. What still runs in it is excess, unless it was
    /// only presumed to have ended and turns out to be alive.
    fn review_done(
        &mut self,
        workload: &Workload,
        number: u32,
        replica: &Replica,
        effective: &[Arc<Instance>],
    ) -> bool {
        let Some(done) = &replica.done else { return false };
        let name = &workload.spec.name;
        if done.exit_code.is_none() && effective.iter().any(|i| i.id == done.instance) {
            self.edit_replica(name, number, |replica| replica.done = None);
            self.record_replica(name, number);
            return false;
        }
        if !self.state.is_recovering(workload) {
            for instance in effective {
                self.stop_instance(&instance.id, StopCause::Excess);
            }
        }
        true
    }

    /// Where a replica without an effective instance stands that is not done.
    fn place_of(&mut self, workload: &Workload, number: u32, replica: &Replica) -> Place {
        if let Some(at) = replica.not_before.filter(|at| *at > self.state.now) {
            self.look_at_replica_at(at, &workload.spec.name, number);
            return Place::Resting;
        }
        let live = || {
            replica
                .instances
                .iter()
                .filter_map(|id| self.state.instances.get(id))
                .filter(|i| !i.is_over())
        };
        // Being stopped for ill health: a failure like any other, so what follows
        // and when is known once it is gone.
        if live().any(|i| self.state.is_ill_stop(i) && !self.state.is_lost(i)) {
            return Place::Resting;
        }
        let guard = self.state.mass_loss.is_some();
        for lost in live().filter(|i| self.state.is_lost(i)) {
            let once = workload.restart_policy(lost.revision) == RestartPolicy::Never;
            // That it may run only once is said of its own revision.
            if guard || (once && lost.revision == replica.revision) {
                return Place::Resting;
            }
        }
        if replica.unaccounted && guard {
            return Place::Resting;
        }
        Place::Missing
    }

    fn file_replica(&mut self, name: &WorkloadId, number: u32, place: Place) {
        let Some(slot) = self.state.workloads.get(name) else { return };
        let is = |set: &imbl::OrdSet<u32>| set.contains(&number);
        let right = is(&slot.missing) == (place == Place::Missing)
            && is(&slot.resting) == (place == Place::Resting)
            && is(&slot.done) == (place == Place::Done);
        if right {
            return;
        }
        self.edit_workload(name, |workload| {
            workload.missing.remove(&number);
            workload.resting.remove(&number);
            workload.done.remove(&number);
            match place {
                Place::Missing => workload.missing.insert(number),
                Place::Resting => workload.resting.insert(number),
                Place::Done => workload.done.insert(number),
                Place::Filled => None,
            };
        });
    }

    /// A restart for ill health is over once its replica is well, is judged
    /// unwell again, or waits for something else than time.
    fn is_healed(&self, replica: &Replica, effective: &[Arc<Instance>], place: Place) -> bool {
        match place {
            Place::Done => true,
            Place::Resting => {
                let instances =
                    replica.instances.iter().filter_map(|i| self.state.instances.get(i));
                instances.filter(|i| !i.is_over()).any(|i| self.state.is_lost(i))
            }
            Place::Missing => false,
            Place::Filled => effective.iter().any(|i| i.ready || i.health() == Health::Unhealthy),
        }
    }

    /// Keeps the best of several instances in one replica: ready before not
    /// ready, off the most crowded node, the oldest, in that order.
    fn thin_out(&mut self, name: &WorkloadId, effective: &[Arc<Instance>]) {
        let Some(best) = self.best_of(name, effective) else { return };
        for instance in effective {
            if instance.id != best {
                self.stop_instance(&instance.id, StopCause::Excess);
            }
        }
    }

    /// Which of several instances is the one to keep.
    pub(super) fn best_of(
        &self,
        name: &WorkloadId,
        instances: &[Arc<Instance>],
    ) -> Option<InstanceId> {
        let cohort = self.state.cohorts.get(name);
        let best = instances.iter().min_by_key(|i| KeepRank {
            not_ready: i.ready == planted(Fault::KeepsTheWorse),
            not_running: !i.share.running,
            unseen: i.seen.is_none(),
            crowd: cohort.and_then(|c| c.per_node.get(&i.node)).copied().unwrap_or(0),
            since: i.since,
            id: i.id.clone(),
        });
        best.map(|i| i.id.clone())
    }

    /// Starts what is missing and restarts what is ill, within the bounds.
    fn look_at_workload(&mut self, name: &WorkloadId) {
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        if self.state.is_recovering(&workload) {
            let nodes: Vec<&str> = self.state.awaited.iter().take(5).map(|n| n.as_str()).collect();
            let message = format!(
                "the scheduler has just started and waits for {} known node(s) to report or be \
                 silent for {} s: {}",
                self.state.awaited.len(),
                self.timing.dead_after_ms / 1000,
                nodes.join(", ")
            );
            self.hold(
                name,
                (!workload.missing.is_empty()).then(|| Why::new(Reason::Recovering, message)),
            );
            return;
        }
        self.stop_strays(name, &workload);
        self.heal_one(name, &workload);
        self.move_replicas(name);
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        self.start_missing(name, &workload);
        // Only now it is known for whom there is no room.
        self.let_go(name);
        self.finish_rollout(name);
    }

    /// Instances that belong to no replica: those of replicas scaled away while
    /// nothing might be stopped, and adopted ones whose replica is gone.
    fn stop_strays(&mut self, name: &WorkloadId, workload: &Workload) {
        let Some(cohort) = self.state.cohorts.get(name) else { return };
        let filled = workload.replicas.len()
            - workload.missing.len()
            - workload.resting.len()
            - workload.done.len();
        if cohort.tally.effective as usize <= filled && cohort.tally.waiting == 0 {
            return;
        }
        let strays: Vec<InstanceId> = cohort
            .ids
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| i.share.effective || i.share.waiting)
            .filter(|i| {
                !workload.replicas.get(&i.replica).is_some_and(|r| r.instances.contains(&i.id))
            })
            .map(|i| i.id.clone())
            .collect();
        for id in strays {
            self.stop_instance(&id, StopCause::ScaledDown);
        }
    }

    /// One at a time per workload: restarting all that are unhealthy at once
    /// would turn a slow dependency into an outage.
    fn heal_one(&mut self, name: &WorkloadId, workload: &Workload) {
        if workload.healing.is_some_and(|number| workload.replicas.contains_key(&number)) {
            return;
        }
        let Some(cohort) = self.state.cohorts.get(name) else { return };
        let worst = cohort
            .ailing
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| workload.replicas.contains_key(&i.replica))
            .min_by_key(|i| (workload.replicas.get(&i.replica).map_or(0, |r| r.step), i.since));
        if let Some((id, number)) = worst.map(|i| (i.id.clone(), i.replica)) {
            self.edit_workload(name, |w| w.healing = Some(number));
            self.stop_instance(&id, StopCause::IllHealth);
        }
    }

    /// Decides that an instance goes. What nobody was told of yet is simply
    /// forgotten; everything else gets an order.
    pub(super) fn stop_instance(&mut self, id: &InstanceId, cause: StopCause) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        if instance.stop.is_some() {
            return;
        }
        // One that is due again was sent before, and may have been noted.
        if instance.run == Delivery::Due(0) && instance.seen.is_none() {
            self.withdraw(id, cause.because());
            return;
        }
        let verb = if instance.is_over() { "removing" } else { "stopping" };
        self.note_instance(
            &instance,
            "InstanceStopping",
            format!("{verb} {id} on {}: {}", instance.node, cause.because()),
        );
        let (now, drain_ms) = (self.state.now, self.drain_left(&instance));
        self.touch(id, |instance| {
            let stop = Stop { cause, since: now, drain_ms, delivery: Delivery::Due(0) };
            instance.stop = Some(stop.into());
        });
        self.agenda.orders.insert(id.clone());
    }

    /// For how long clients may still come by what they once heard of an
    /// instance: all of the drain delay if it is an endpoint, what is left of it
    /// if it has just ceased to be one.
    fn drain_left(&self, instance: &Instance) -> u64 {
        let workload = self.state.workloads.get(&instance.workload);
        let delay = workload.map_or(0, |w| u64::from(w.spec.strategy.drain_seconds) * 1000);
        let ceased = match instance.last_ready {
            _ if instance.is_over() => return 0,
            _ if instance.ready => return delay,
            Some(at) => self.state.now.saturating_sub(at),
            None => return 0,
        };
        delay.saturating_sub(ceased)
    }

    /// Looks at a replica again at this time.
    pub(super) fn look_at_replica_at(&mut self, at: u64, name: &WorkloadId, number: u32) {
        self.agenda.deadlines.insert((at, Deadline::Replica(name.clone(), number)));
    }
}

/// Which of several instances stays; the smallest does. The order of the fields
/// is the policy.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct KeepRank {
    not_ready: bool,
    not_running: bool,
    /// What is coming up stays, before what is only ordered.
    unseen: bool,
    crowd: u32,
    since: u64,
    id: InstanceId,
}
