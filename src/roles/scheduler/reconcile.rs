//! Close the gap: the one place where instances are started and stopped.
//!
//! Only replicas and workloads that were marked are looked at. Each look is at
//! what *is*; a mark carries no data, so one too many changes nothing.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeSet;
use std::sync::Arc;

use super::core::{Core, Deadline};
use super::placement::{Placer, Refusals};
use super::rollout::Bounds;
use super::state::{Delivery, Instance, Replica, Share, Stop, StopCause, Workload};
use crate::model::wire::DockerState;
use crate::model::{Health, InstanceId, NodeId, Protocol, Reason, RestartPolicy, Why, WorkloadId};

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
        let followers: Vec<InstanceId> =
            self.live_in(replica).filter(|i| i.after.is_some()).map(|i| i.id.clone()).collect();
        for id in &followers {
            self.recount_if_changed(id);
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
        let of_it = |i: &&Arc<Instance>| i.revision == replica.revision;
        if let Some(lost) = live().filter(of_it).find(|i| self.state.is_lost(i)) {
            let replaced = workload.restart_policy(lost.revision) != RestartPolicy::Never;
            if !replaced || guard {
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
        let cohort = self.state.cohorts.get(name);
        let best = effective.iter().min_by_key(|i| KeepRank {
            not_ready: !i.ready,
            not_running: !i.share.running,
            crowd: cohort.and_then(|c| c.per_node.get(&i.node)).copied().unwrap_or(0),
            since: i.since,
            id: i.id.clone(),
        });
        let Some(best) = best.map(|i| i.id.clone()) else { return };
        for instance in effective {
            if instance.id != best {
                self.stop_instance(&instance.id, StopCause::Excess);
            }
        }
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
        self.advance_rollout(name);
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        self.start_missing(name, &workload);
    }

    /// Instances that belong to no replica: those of replicas scaled away while
    /// nothing might be stopped, and adopted ones whose replica is gone.
    fn stop_strays(&mut self, name: &WorkloadId, workload: &Workload) {
        let Some(cohort) = self.state.cohorts.get(name) else { return };
        let filled = workload.replicas.len()
            - workload.missing.len()
            - workload.resting.len()
            - workload.done.len();
        if cohort.tally.effective as usize <= filled {
            return;
        }
        let strays: Vec<InstanceId> = cohort
            .ids
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| i.share.effective)
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

    fn start_missing(&mut self, name: &WorkloadId, workload: &Workload) {
        if workload.missing.is_empty() {
            self.hold(name, None);
            return;
        }
        let bound = workload.desired() - workload.done.len() as u32;
        let surge = Bounds::of(&workload.spec.strategy, workload.desired()).surge;
        let mut placer: Option<Placer> = None;
        let mut held = None;
        for number in self.missing_in_order(workload) {
            let Some(replica) = workload.replicas.get(&number) else { continue };
            if self.live_in(replica).any(|i| self.state.is_current(workload, replica, &i)) {
                // It was filed as missing before its revision was decided anew.
                continue;
            }
            let tally = self.state.tally(name);
            // What has something to replace may surge; what is simply missing may not.
            let replaces = self.live_in(replica).next().is_some();
            if replaces && workload.is_frozen() {
                continue;
            }
            if tally.occupied() >= bound + if replaces { surge } else { 0 } {
                if replaces && self.start_in_place(name, workload, number, false).is_ok_and(|s| s) {
                    continue;
                }
                held = Some(Why::new(
                    Reason::WaitingForStops,
                    match tally.stopping {
                        0 => "the wave before must be ready first".to_owned(),
                        count => format!("{count} instance(s) must be gone first"),
                    },
                ));
                break;
            }
            let placer = placer.get_or_insert_with(|| Placer::new(&self.state, name));
            if let Some(why) = self.waits_for_its_node(replica) {
                held = Some(why);
                self.agenda.starved.insert(name.clone());
                continue;
            }
            let wants = workload.asked_ports(replica.revision);
            match placer.place(&self.state, &wants, replica.pin.as_ref()) {
                Ok(node) => self.start_instance(name, workload, number, node, &wants, None),
                Err(refusals) => {
                    let mut why = no_room(&refusals);
                    if why.reason == Reason::PortTaken {
                        match self.start_in_place(name, workload, number, true) {
                            Ok(true) => continue,
                            Ok(false) => {}
                            Err(reason) => why.message = format!("{}; {reason}", why.message),
                        }
                    }
                    held = Some(why);
                    self.agenda.starved.insert(name.clone());
                    break;
                }
            }
        }
        self.hold(name, held);
    }

    /// Missing replicas: those that have nothing at all before those that only
    /// move on.
    fn missing_in_order(&self, workload: &Workload) -> Vec<u32> {
        if workload.transit.is_empty() {
            return workload.missing.iter().copied().collect();
        }
        let has_something = |number: &u32| {
            workload.replicas.get(number).is_some_and(|r| self.live_in(r).next().is_some())
        };
        let (moving, bare): (Vec<u32>, Vec<u32>) =
            workload.missing.iter().copied().partition(has_something);
        bare.into_iter().chain(moving).collect()
    }

    /// Starts a replacement on the node of what it replaces, to be launched when
    /// that is gone. Says whether it did; an error is why it may not.
    fn start_in_place(
        &mut self,
        name: &WorkloadId,
        workload: &Workload,
        number: u32,
        surge_is_impossible: bool,
    ) -> Result<bool, String> {
        let Some(replica) = workload.replicas.get(&number) else { return Ok(false) };
        let Some(old) = self.place_in_place(workload, replica, surge_is_impossible)? else {
            return Ok(false);
        };
        let wants = workload.asked_ports(replica.revision);
        self.note_instance(
            &old,
            "ReplacedInPlace",
            format!(
                "there is no room beside {} on {}: its replacement is prepared there and takes its \
                 place, so one replica less is ready for a moment",
                old.id, old.node
            ),
        );
        let node = old.node.clone();
        self.start_instance(name, workload, number, node, &wants, Some(old.id.clone()));
        Ok(true)
    }

    /// A crash restart stays on its node: when that is not able just now but not
    /// lost either, it is waited for.
    fn waits_for_its_node(&self, replica: &Replica) -> Option<Why> {
        let node = replica.pin.as_ref().and_then(|id| self.state.nodes.get(id))?;
        if node.lost || node.able() || node.draining {
            return None;
        }
        let (reason, what) = match node.docker.state {
            DockerState::Ok if node.unreachable => (Reason::NoRoom, "does not answer orders"),
            DockerState::Ok => (Reason::NoRoom, "has not reported yet"),
            _ => (Reason::DockerUnavailable, "has a Docker that does not answer"),
        };
        let mut why =
            Why::new(reason, format!("to be restarted on {}, where it ran, which {what}", node.id));
        why.node_id = Some(node.id.clone());
        Some(why)
    }

    /// Notes why missing replicas are not started; says each reason once, not
    /// each change of its wording.
    fn hold(&mut self, name: &WorkloadId, why: Option<Why>) {
        let Some(workload) = self.state.workloads.get(name) else { return };
        if workload.held == why {
            return;
        }
        let is_news = workload.held.as_ref().map(|w| w.reason) != why.as_ref().map(|w| w.reason);
        if let Some(slot) = self.state.workloads.get_mut(name) {
            Arc::make_mut(slot).held = why.clone();
        }
        if let Some(why) = why.filter(|why| is_news && why.reason != Reason::WaitingForStops) {
            self.note_workload(name, "ReplicasWaiting", format!("{name} waits: {}", why.message));
        }
    }

    fn start_instance(
        &mut self,
        name: &WorkloadId,
        workload: &Workload,
        number: u32,
        node: NodeId,
        wants: &[(u16, Protocol)],
        after: Option<InstanceId>,
    ) {
        let Some(replica) = workload.replicas.get(&number) else { return };
        let id = loop {
            let id = InstanceId::new(name, replica.revision, self.draws.next());
            if !self.state.instances.contains_key(&id) {
                break id;
            }
        };
        let why = match (&replica.follows, &replica.last_failure) {
            (Some(old), Some(failure)) if failure.instance == *old => {
                format!("replacing {old}, which {}", failure.message)
            }
            _ => self.why_missing(workload, number, replica),
        };
        let instance = Instance {
            id: id.clone(),
            workload: name.clone(),
            replica: number,
            revision: replica.revision,
            node: node.clone(),
            replaces: replica.follows.clone(),
            after,
            restarts: replica.restarts,
            step: replica.step,
            binds_asked_ports: workload.desired() == 1,
            holds_ports: !wants.is_empty(),
            since: self.state.now,
            run: Delivery::Due(0),
            stop: None,
            seen: None,
            ready: false,
            share: Share::default(),
        };
        self.note_instance(
            &instance,
            "InstanceOrdered",
            format!("starting {id} on {node} as replica {number}: {why}"),
        );
        if !wants.is_empty()
            && let Some(daemon) = self.state.nodes.get(&node).map(|n| n.daemon())
        {
            for (port, protocol) in wants {
                self.state.host_ports.insert((daemon.clone(), *port, *protocol, id.clone()));
            }
        }
        self.insert_instance(instance);
        self.edit_replica(name, number, |replica| {
            replica.instances.push_back(id.clone());
            replica.not_before = None;
            replica.unaccounted = false;
            // Where it ran before means nothing any more once it has moved.
            if replica.pin.as_ref().is_some_and(|pin| *pin != node) {
                replica.pin = None;
            }
        });
        self.agenda.orders.insert(id);
    }

    fn why_missing(&self, workload: &Workload, number: u32, replica: &Replica) -> String {
        let mut known = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        match known.rfind(|i| !i.is_over()) {
            Some(old) if self.state.is_lost(old) => {
                format!("replacing {}, whose node is lost", old.id)
            }
            Some(old) if old.revision != replica.revision => {
                format!("moving on from {} to revision {}", old.id, replica.revision)
            }
            Some(old) if !self.state.is_current(workload, replica, old) => {
                format!("moving {} off {}, which is being drained", old.id, old.node)
            }
            Some(old) => format!("replacing {}", old.id),
            None => format!("replica {number} had none"),
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
        let drain = self
            .state
            .workloads
            .get(&instance.workload)
            .map_or(0, |w| u64::from(w.spec.strategy.drain_seconds) * 1000);
        let was_endpoint = instance.share.ready;
        let verb = if instance.is_over() { "removing" } else { "stopping" };
        self.note_instance(
            &instance,
            "InstanceStopping",
            format!("{verb} {id} on {}: {}", instance.node, cause.because()),
        );
        let now = self.state.now;
        self.touch(id, |instance| {
            instance.stop = Some(Stop {
                cause,
                since: now,
                drain_ms: if was_endpoint { drain } else { 0 },
                delivery: Delivery::Due(0),
            });
        });
        self.agenda.orders.insert(id.clone());
    }

    /// Whose host ports an adopted instance binds, by what Docker says.
    pub(super) fn claim_asked_ports(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        let Some(workload) = self.state.workloads.get(&instance.workload) else { return };
        let Some(template) = workload.template(instance.revision) else { return };
        let Some(daemon) = self.state.nodes.get(&instance.node).map(|n| n.daemon()) else { return };
        let bound = instance.seen.as_ref().map(|s| s.ports.clone()).unwrap_or_default();
        let held: Vec<_> = template
            .ports
            .iter()
            .filter(|asked| asked.host_port != 0)
            .filter(|asked| {
                asked.fixed
                    || bound
                        .iter()
                        .any(|b| b.host_port == asked.host_port && b.protocol == asked.protocol)
            })
            .map(|asked| (daemon.clone(), asked.host_port, asked.protocol, id.clone()))
            .collect();
        if held.is_empty() || instance.is_over() {
            return;
        }
        self.state.host_ports.extend(held);
        if let Some(slot) = self.state.instances.get_mut(id) {
            Arc::make_mut(slot).holds_ports = true;
        }
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
    crowd: u32,
    since: u64,
    id: InstanceId,
}

impl Workload {
    /// The host ports an instance started now has to get by number: those that
    /// are fixed, and those asked for by a single replica.
    pub(super) fn asked_ports(&self, revision: u64) -> Vec<(u16, Protocol)> {
        let single = self.desired() == 1;
        self.template(revision)
            .map_or(&self.spec.ports, |template| &template.ports)
            .iter()
            .filter(|port| port.host_port != 0 && (port.fixed || single))
            .map(|port| (port.host_port, port.protocol))
            .collect()
    }
}

fn no_room(refusals: &Refusals) -> Why {
    if refusals.total == 0 {
        return Why::new(
            Reason::NoNodes,
            "no node is registered; start an agent with `kube-lite agent --scheduler URL`",
        );
    }
    let reason = if refusals.only_ports() { Reason::PortTaken } else { Reason::NoRoom };
    Why::new(reason, refusals.to_string())
}
