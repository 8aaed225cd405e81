//! The scheduler's decisions as one synchronous function:
//! [`Core::step`] takes a moment and what happened, and returns what to write,
//! what to order, whom to answer. It reads no clock, draws no random numbers
//! and waits for nothing.
//!
//! A step takes its input in ([`super::registry`], [`super::intake`],
//! [`super::users`], [`super::orders`]), which changes the state and leaves
//! marks on what was touched; then [`Core::settle`] looks at the marked replicas
//! and workloads and at nothing else ([`super::reconcile`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{Input, Millis, Moment, Reply, Step, Ticket};
use super::state::{Instance, Node, Replica, Share, State, Workload};
use super::traffic::Traffic;
use crate::model::view::NodeStatus;
use crate::model::{
    ApiError, DaemonId, Draws, Health, InstanceId, NodeId, Phase, Timing, WorkloadId,
};
use crate::planted::{Fault, planted};

/// The cluster, and what is still to be looked at. In JSON, between two steps, it
/// is a checkpoint of a recording: all that the next steps depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Core {
    /// What readers get to see.
    pub state: State,
    /// Every constant.
    pub timing: Timing,
    /// What is to be looked at, now or later.
    pub(super) agenda: Agenda,
    /// What this step has decided so far.
    #[serde(skip)]
    pub(super) out: Output,
    /// Random draws of this step.
    #[serde(skip)]
    pub(super) draws: Draws,
    /// Replicas and workloads looked at since the start, for the benchmark that
    /// shows that cost follows change.
    pub visits: u64,
    /// Where the slow resync goes on.
    resync_cursor: Option<(WorkloadId, Option<u32>)>,
    resync_at: Millis,
    /// When this process last went on after it had not run for a while: what arrives
    /// then may have been said long before.
    pub(super) resumed_at: Millis,
}

/// A [`Step`] in the making; cloned with the core, empty between steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    pub records: Vec<super::message::Record>,
    pub orders: Vec<super::message::Order>,
    pub replies: Vec<(Ticket, Result<Reply, ApiError>)>,
    pub events: Vec<crate::model::view::EventView>,
}

/// Marks on what was touched, and deadlines.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Agenda {
    /// Replicas whose instances changed.
    pub replicas: BTreeSet<(WorkloadId, u32)>,
    /// Workloads in which there may be something to start or stop.
    pub workloads: BTreeSet<WorkloadId>,
    /// Orders to be sent.
    pub orders: BTreeSet<InstanceId>,
    /// Which orders are under way.
    #[serde(default)]
    pub traffic: Traffic,
    /// Workloads with replicas that found no room.
    pub starved: BTreeSet<WorkloadId>,
    /// When to look at what again.
    pub deadlines: BTreeSet<(Millis, Deadline)>,
    /// The one deadline of each node in there.
    nodes: BTreeMap<NodeId, Millis>,
}

impl Agenda {
    /// Looks at a node at this time, or before if that was already planned: each
    /// look plans the next one. One deadline per node, however often it is heard.
    pub fn node_at(&mut self, id: &NodeId, at: Millis) {
        match self.nodes.get(id) {
            Some(planned) if *planned <= at => return,
            Some(planned) => {
                self.deadlines.remove(&(*planned, Deadline::Node(id.clone())));
            }
            None => {}
        }
        self.nodes.insert(id.clone(), at);
        self.deadlines.insert((at, Deadline::Node(id.clone())));
    }
}

/// What a deadline is about. A deadline decides nothing: when it is due, its
/// subject is looked at as if it had just changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Deadline {
    /// A node may have been silent for too long, or its Docker.
    Node(NodeId),
    /// A replica's wait is over.
    Replica(WorkloadId, u32),
    /// An instance may be ready now.
    Instance(InstanceId),
    /// An order is to be sent again.
    Order(InstanceId),
    /// Mass node loss has lasted long enough.
    MassLoss,
}

impl Core {
    /// A core over this state; everything in it is looked at in the first step.
    pub fn new(state: State, timing: Timing) -> Self {
        let mut core = Self {
            resync_at: state.now + timing.resync_ms,
            state,
            timing,
            agenda: Agenda::default(),
            out: Output::default(),
            draws: Draws::default(),
            visits: 0,
            resync_cursor: None,
            resumed_at: 0,
        };
        core.look_at_everything();
        core
    }

    /// Takes one input in and decides.
    pub fn step(&mut self, moment: Moment, input: Input) -> Step {
        self.draws = Draws::new(moment.draw);
        self.notice_own_pause(moment.now);
        self.state.now = self.state.now.max(moment.now);
        self.state.wall = moment.wall;
        match input {
            Input::Tick => {}
            Input::Register { ticket, peer, request } => {
                let reply = self.register(peer, request).map(Reply::Registered);
                self.reply(ticket, reply);
            }
            Input::Heartbeat { ticket, request } => {
                let reply = self.heartbeat(request).map(Reply::Beat);
                self.reply(ticket, reply);
            }
            Input::User { ticket, by, call } => {
                let reply = self.user(by, call);
                self.reply(ticket, reply);
            }
            Input::Answered { node, id, kind, incarnation, answer } => {
                self.order_answered(&node, &id, kind, incarnation, answer);
            }
        }
        self.meet_deadlines();
        self.settle();
        self.send_orders();
        let Output { records, orders, replies, events } = std::mem::take(&mut self.out);
        Step { records, orders, replies, events }
    }

    /// When the next step is due at the latest, if nothing happens before.
    pub fn wake_at(&self) -> Millis {
        let resync = self.resync_at;
        self.agenda.deadlines.first().map_or(resync, |(at, _)| resync.min(*at))
    }

    /// How many deadlines are noted, for the test that shows they do not pile up.
    pub fn deadlines(&self) -> usize {
        self.agenda.deadlines.len()
    }

    /// Marks everything: the first step after a start, or after a roll-back.
    pub fn look_at_everything(&mut self) {
        for (name, workload) in &self.state.workloads {
            self.agenda.workloads.insert(name.clone());
            for number in workload.replicas.keys() {
                self.agenda.replicas.insert((name.clone(), *number));
            }
        }
        for (id, instance) in &self.state.instances {
            self.agenda.orders.insert(id.clone());
            self.agenda.replicas.insert((instance.workload.clone(), instance.replica));
            self.agenda.deadlines.insert((self.state.now, Deadline::Instance(id.clone())));
        }
        for id in self.state.nodes.keys() {
            self.agenda.node_at(id, self.state.now);
        }
        if let Some(guard) = &self.state.mass_loss {
            let ends = guard.since + self.timing.mass_loss_hold_ms;
            self.agenda.deadlines.insert((ends, Deadline::MassLoss));
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: Result<Reply, ApiError>) {
        self.out.replies.push((ticket, reply));
    }

    /// Deadlines that are due turn into marks.
    fn meet_deadlines(&mut self) {
        let now = self.state.now;
        while let Some((at, _)) = self.agenda.deadlines.first() {
            if *at > now {
                break;
            }
            let Some((_, deadline)) = self.agenda.deadlines.pop_first() else { break };
            match deadline {
                Deadline::Node(id) => {
                    self.agenda.nodes.remove(&id);
                    self.look_at_node(&id);
                }
                Deadline::Replica(workload, number) => {
                    self.agenda.replicas.insert((workload, number));
                }
                Deadline::Instance(id) => self.touch(&id, |_| {}),
                Deadline::Order(id) => {
                    self.agenda.orders.insert(id);
                }
                Deadline::MassLoss => self.review_mass_loss(),
            }
        }
        if now >= self.resync_at {
            self.resync_at = now + self.timing.resync_ms;
            self.resync();
        }
    }

    /// Looks at a bounded slice of all workloads again, in turn: should a mark
    /// ever have been forgotten, it costs time and not correctness.
    fn resync(&mut self) {
        use std::ops::Bound::{Excluded, Unbounded};
        const WORKLOADS_PER_RESYNC: usize = 64;
        const REPLICAS_PER_RESYNC: usize = 4096;
        let mut budget = REPLICAS_PER_RESYNC;
        for _ in 0..WORKLOADS_PER_RESYNC {
            // In the middle of a large workload, or at the next one.
            let (next, after) = match self.resync_cursor.take() {
                Some((name, Some(number))) => {
                    (self.state.workloads.get_key_value(&name), Some(number))
                }
                Some((name, None)) => {
                    let rest = (Excluded(&name), Unbounded);
                    (self.state.workloads.range::<_, WorkloadId>(rest).next(), None)
                }
                None => (self.state.workloads.get_min().map(|(k, v)| (k, v)), None),
            };
            let Some((name, workload)) = next else { return };
            let from = after.map_or(Unbounded, Excluded);
            let mut last = None;
            for (number, _) in workload.replicas.range((from, Unbounded)).take(budget) {
                self.agenda.replicas.insert((name.clone(), *number));
                last = Some(*number);
                budget -= 1;
            }
            self.agenda.workloads.insert(name.clone());
            self.resync_cursor = Some((name.clone(), last.filter(|_| budget == 0)));
            if budget == 0 {
                return;
            }
        }
    }

    // ---- the few ways in which state changes, each keeping the sums right ----

    /// Changes an instance and brings its sums, its replica and its readiness
    /// up to date.
    pub(super) fn touch(&mut self, id: &InstanceId, change: impl FnOnce(&mut Instance)) {
        let Some(slot) = self.state.instances.get_mut(id) else { return };
        let instance = Arc::make_mut(slot);
        change(instance);
        self.recount(id);
    }

    /// Computes readiness and shares of an instance anew and moves the sums.
    fn recount(&mut self, id: &InstanceId) {
        let now = self.state.now;
        let Some(instance) = self.state.instances.get(id) else { return };
        let lost = self.state.is_lost(instance);
        let spell = ready_at(instance, 0);
        let min_ready_ms = match instance.ready && spell == instance.proven_in {
            true => 0,
            false => self.min_ready_ms(instance),
        };
        let ready_at = ready_at(instance, min_ready_ms);
        if let Some(at) = ready_at.filter(|at| *at > now) {
            self.agenda.deadlines.insert((at, Deadline::Instance(id.clone())));
        }
        let ready = ready_at.is_some_and(|at| at <= now);
        let waits = self.state.waits_for_predecessor(instance);
        let share = share(instance, ready, lost, waits);
        let proven_in = if ready { spell } else { None };
        if share == instance.share && ready == instance.ready && proven_in == instance.proven_in {
            self.mark_replica_of(id);
            return;
        }
        let became_ready = share.ready && !instance.share.ready;
        let old = instance.share;
        let (workload, node) = (instance.workload.clone(), instance.node.clone());
        if let Some(slot) = self.state.instances.get_mut(id) {
            let instance = Arc::make_mut(slot);
            instance.share = share;
            if instance.ready && !ready {
                instance.last_ready = Some(now);
            }
            instance.ready = ready;
            instance.proven_in = proven_in;
        }
        self.move_sums(id, &workload, &node, old, share);
        self.mark_replica_of(id);
        if became_ready {
            self.note_ready(id);
        }
    }

    /// How long an instance must have been healthy to be ready. One without a
    /// probe has to prove itself in a rollout, unless it was said for how long.
    fn min_ready_ms(&self, instance: &Instance) -> u64 {
        let Some(workload) = self.state.workloads.get(&instance.workload) else { return 0 };
        let given = u64::from(workload.spec.min_ready_seconds) * 1000;
        // Also one that an abort has overtaken has proved nothing yet.
        let arrives = workload.rollout.as_ref().is_some_and(|rollout| {
            rollout.is_open() && [workload.revision, rollout.to].contains(&instance.revision)
        });
        let probed = workload.template(instance.revision).is_none_or(|t| t.health_check.is_some());
        if given == 0 && arrives && !probed { self.timing.probeless_ready_ms } else { given }
    }

    /// Brings an instance's sums up to date, if something else has changed them.
    pub(super) fn recount_if_changed(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id) else { return };
        let waits = self.state.waits_for_predecessor(instance);
        let lost = self.state.is_lost(instance);
        if share(instance, instance.ready, lost, waits) != instance.share {
            self.recount(id);
        }
    }

    /// Takes `old` out of the sums and puts `new` in.
    fn move_sums(
        &mut self,
        id: &InstanceId,
        workload: &WorkloadId,
        node: &NodeId,
        old: Share,
        new: Share,
    ) {
        fn shift(sum: &mut u32, old: bool, new: bool) {
            match (old, new) {
                (false, true) => *sum += 1,
                (true, false) => *sum -= 1,
                _ => {}
            }
        }
        let cohort = self.state.cohorts.entry(workload.clone()).or_default();
        shift(&mut cohort.tally.effective, old.effective, new.effective);
        shift(&mut cohort.tally.stopping, old.stopping, new.stopping);
        shift(&mut cohort.tally.running, old.running, new.running);
        shift(&mut cohort.tally.ready, old.ready, new.ready);
        shift(&mut cohort.tally.waiting, old.waiting, new.waiting);
        if new.ailing {
            cohort.ailing.insert(id.clone());
        } else if old.ailing {
            cohort.ailing.remove(id);
        }
        if old.placed != new.placed {
            let here = cohort.per_node.entry(node.clone()).or_insert(0);
            shift(here, old.placed, new.placed);
            if *here == 0 {
                cohort.per_node.remove(node);
            }
            if let Some(slot) = self.state.nodes.get_mut(node) {
                shift(&mut Arc::make_mut(slot).placed, old.placed, new.placed);
            }
        }
        if !new.placed {
            self.release_ports(id);
        }
        self.agenda.workloads.insert(workload.clone());
    }

    /// Adds an instance: ordered just now, or adopted.
    pub(super) fn insert_instance(&mut self, instance: Instance) {
        let id = instance.id.clone();
        self.state.cohorts.entry(instance.workload.clone()).or_default().ids.insert(id.clone());
        if let Some(slot) = self.state.nodes.get_mut(&instance.node) {
            let node = Arc::make_mut(slot);
            node.instances.insert(id.clone());
            if instance.seen.is_none() {
                node.unlisted.insert(id.clone());
            }
        }
        self.state.instances.insert(id.clone(), Arc::new(instance));
        self.recount(&id);
    }

    /// Removes every trace of an instance: its container is known to be gone,
    /// or the order was never taken.
    pub(super) fn forget_instance(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        self.move_sums(id, &instance.workload, &instance.node, instance.share, Share::default());
        self.state.instances.remove(id);
        self.agenda.orders.remove(id);
        if let Some(slot) = self.state.nodes.get_mut(&instance.node) {
            let node = Arc::make_mut(slot);
            node.instances.remove(id);
            if node.unlisted.remove(id).is_none() {
                // Should its agent still have it, it has to say so.
                node.known_in = None;
            }
        }
        self.detach(&instance.workload, instance.replica, id);
        self.agenda.replicas.insert((instance.workload.clone(), instance.replica));
        let name = instance.workload.clone();
        if let Some(cohort) = self.state.cohorts.get_mut(&name) {
            cohort.ids.remove(id);
            if cohort.ids.is_empty() {
                self.state.cohorts.remove(&name);
                if !self.state.workloads.contains_key(&name) {
                    self.note_workload_gone(&name);
                }
            }
        }
    }

    /// Takes an instance out of its replica.
    pub(super) fn detach(&mut self, workload: &WorkloadId, number: u32, id: &InstanceId) {
        self.edit_replica(workload, number, |replica| replica.instances.retain(|i| i != id));
    }

    /// Changes a replica and marks it. Does nothing when it does not exist.
    pub(super) fn edit_replica(
        &mut self,
        workload: &WorkloadId,
        number: u32,
        change: impl FnOnce(&mut Replica),
    ) {
        if let Some(slot) = self.state.workloads.get_mut(workload) {
            if let Some(replica) = Arc::make_mut(slot).replicas.get_mut(&number) {
                change(replica);
                replica.tidy();
            }
            self.agenda.replicas.insert((workload.clone(), number));
        }
    }

    /// Changes a workload and marks it.
    pub(super) fn edit_workload(&mut self, name: &WorkloadId, change: impl FnOnce(&mut Workload)) {
        if let Some(slot) = self.state.workloads.get_mut(name) {
            change(Arc::make_mut(slot));
            self.agenda.workloads.insert(name.clone());
        }
    }

    /// Changes a node. When that changes whether its instances count, they are
    /// all counted anew.
    pub(super) fn edit_node(&mut self, id: &NodeId, change: impl FnOnce(&mut Node)) {
        let Some(slot) = self.state.nodes.get_mut(id) else { return };
        let node = Arc::make_mut(slot);
        let (was_lost, was_able) = (node.lost, node.able() && node.schedulable);
        let used = node.daemon();
        change(node);
        let (is_lost, is_able) = (node.lost, node.able() && node.schedulable);
        let uses = node.daemon();
        if was_lost != is_lost {
            let instances = node.instances.clone();
            for instance in &instances {
                self.recount(instance);
            }
        }
        if used != uses {
            self.move_ports(id, &used, &uses);
        }
        // What waited for a lost node, or for a port held there, may go elsewhere.
        if (is_able && !was_able) || (is_lost && !was_lost) {
            self.capacity_grew();
        }
    }

    /// A node uses another daemon now, or one that calls itself otherwise since it was
    /// restarted: what the node's instances hold, they hold there.
    fn move_ports(&mut self, node: &NodeId, from: &DaemonId, to: &DaemonId) {
        let of_node = |id: &InstanceId| {
            self.state.instances.get(id).is_some_and(|instance| instance.node == *node)
        };
        let held = self.state.host_ports.iter();
        let held: Vec<_> =
            held.filter(|(daemon, .., id)| daemon == from && of_node(id)).cloned().collect();
        for key in held {
            self.state.host_ports.remove(&key);
            let (_, port, protocol, id) = key;
            self.state.host_ports.insert((to.clone(), port, protocol, id));
        }
    }

    /// Whoever found no room looks again.
    pub(super) fn capacity_grew(&mut self) {
        let starved = std::mem::take(&mut self.agenda.starved);
        self.agenda.workloads.extend(starved);
    }

    fn mark_replica_of(&mut self, id: &InstanceId) {
        if let Some(instance) = self.state.instances.get(id) {
            self.agenda.replicas.insert((instance.workload.clone(), instance.replica));
        }
    }

    fn release_ports(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        if !instance.holds_ports {
            return;
        }
        let held: Vec<_> =
            self.state.host_ports.iter().filter(|(.., holder)| holder == id).cloned().collect();
        for key in &held {
            self.state.host_ports.remove(key);
        }
        if !held.is_empty() {
            self.capacity_grew();
        }
    }

    /// A gap between two steps that is longer than the sweep can only mean that
    /// this process did not run (laptop asleep, virtual machine stopped). The
    /// nodes could not have been heard meanwhile, so it is not held against them.
    fn notice_own_pause(&mut self, now: Millis) {
        let gap = now.saturating_sub(self.state.now);
        let noticed = gap > self.timing.pause_gap_ms && !planted(Fault::OwnPauseNotNoticed);
        if self.state.now == 0 || !noticed {
            return;
        }
        self.state.slept += gap;
        self.forgive_silence(gap, now);
    }

    /// Nobody could be heard for so long, up to `now`.
    pub(super) fn forgive_silence(&mut self, gap: Millis, now: Millis) {
        let ids: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        for id in ids {
            if let Some(slot) = self.state.nodes.get_mut(&id)
                && slot.status != NodeStatus::Dead
            {
                let node = Arc::make_mut(slot);
                node.heard_at = (node.heard_at + gap).min(now);
                node.docker_since = (node.docker_since + gap).min(now);
            }
        }
        self.resumed_at = now;
        self.note_pause(gap);
    }
}

/// From when on a running, healthy instance is ready; `None` when it is not.
pub(super) fn ready_at(instance: &Instance, min_ready_ms: u64) -> Option<Millis> {
    let seen = instance.seen.as_ref()?;
    let well = seen.health == Health::Healthy || planted(Fault::ReadyWithoutProbe);
    if seen.phase != Phase::Running || !well {
        return None;
    }
    let since = seen.healthy_since.or(seen.running_since)?;
    Some(since + min_ready_ms)
}

/// What an instance adds to the sums.
fn share(instance: &Instance, ready: bool, lost: bool, waits: bool) -> Share {
    let over = instance.is_over();
    let counts = !over && !lost && !waits;
    let effective = counts && instance.stop.is_none();
    Share {
        effective,
        stopping: counts && instance.stop.is_some(),
        running: effective && instance.phase() == Phase::Running,
        ready: effective && ready,
        ailing: effective && instance.seen.as_ref().is_some_and(|seen| seen.restart_due),
        placed: !over,
        waiting: !over && !lost && waits,
    }
}
