//! What is watched in each step of the scheduler.

use std::collections::{BTreeMap, BTreeSet};

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::{DockerState, RunOrder};
use kube_lite::model::{Health, InstanceId, NodeId, Phase, WorkloadId};
use kube_lite::roles::scheduler::message::{
    Input, Moment, Order, OrderBody, Reply, Step, Ticket, UserCall,
};
use kube_lite::roles::scheduler::state::{Instance, Replica, State, StopCause, Workload};
use kube_lite::roles::scheduler::waves::Bounds;

use super::{Judge, Steady, Told};
use crate::clock::Time;
use crate::scheduler::Caller;
use crate::world::{Event, Packet, World};

/// Complete snapshots further apart than this have a gap between them.
pub(super) const GAP_MS: u64 = 6_000;

/// What was seen of an input before it was taken in.
#[derive(Debug)]
pub struct Watched {
    ticket: Option<Ticket>,
    hears: Option<(NodeId, u64)>,
    takes: bool,
    complete: bool,
    op: Option<(u64, UserCall)>,
}

impl Judge {
    /// The scheduler is about to take an input.
    pub fn scheduler_hears(
        &mut self,
        before: &State,
        moment: Moment,
        input: &Input,
        waiting: &BTreeMap<Ticket, Caller>,
    ) -> Watched {
        let mut watched =
            Watched { ticket: None, hears: None, takes: false, complete: false, op: None };
        // A gap that it slept through itself is held against nobody.
        let gap = moment.now.saturating_sub(self.view.stepped_at);
        if gap > 2_500 {
            self.view.sleep(gap, moment.now);
        }
        self.view.stepped_at = moment.now.max(self.view.stepped_at);
        match input {
            Input::Register { ticket, request, .. } => {
                watched.ticket = Some(*ticket);
                watched.hears = Some((request.node_id.clone(), request.incarnation));
            }
            Input::Heartbeat { request, .. } => {
                let current = before.nodes.get(&request.node_id).filter(|node| {
                    node.incarnation == request.incarnation && request.epoch == before.epoch
                });
                let Some(node) = current else { return watched };
                // What refers to another report than the last one tells that it lives.
                let usable = request.same_as.is_none_or(|base| node.takes_changes_since(base));
                watched.takes = request.seq > node.seq && usable;
                watched.complete = (request.synced || request.same_as.is_some())
                    && request.docker.state == DockerState::Ok;
                let again = (request.seq == node.seq || !usable && request.seq > node.seq)
                    && node.status == NodeStatus::Alive;
                if watched.takes || again {
                    watched.hears = Some((request.node_id.clone(), request.incarnation));
                }
                if watched.takes {
                    if watched.complete {
                        // What it has listed before and does not any more is gone.
                        let of = &request.node_id;
                        let ordered = &mut self.view.ordered;
                        self.view.told.retain(|id, told| {
                            let is_meant = request.same_as.is_none() || request.gone.contains(id);
                            if told.node == *of && is_meant {
                                ordered.remove(id);
                            }
                            told.node != *of || !is_meant
                        });
                    }
                    for told in request.containers.iter().filter(|c| c.node_id == request.node_id) {
                        let (phase, health) = (told.phase, told.health);
                        let node = told.node_id.clone();
                        self.view.told.insert(told.id.clone(), Told { node, phase, health });
                    }
                }
            }
            Input::User { ticket, call, .. } => {
                watched.ticket = Some(*ticket);
                if let Some(Caller::Person { op }) = waiting.get(ticket) {
                    watched.op = Some((*op, call.clone()));
                }
            }
            Input::Tick | Input::Answered { .. } => {}
        }
        watched
    }

    fn note_contact(&mut self, watched: &Watched, step: &Step, moment: Moment, now: Time) {
        let Some((node, _)) = &watched.hears else { return };
        if let Some(ticket) = watched.ticket {
            let taken = step.replies.iter().any(|(to, reply)| *to == ticket && reply.is_ok());
            if taken {
                self.view.contact.insert(node.clone(), moment.now);
            }
            return;
        }
        self.view.contact.insert(node.clone(), moment.now);
        if !watched.takes {
            return;
        }
        if !watched.complete {
            self.view.steady.remove(node);
            return;
        }
        self.view.awaited.remove(node);
        let steady =
            self.view.steady.entry(node.clone()).or_insert(Steady { since: now, last: now });
        if now - steady.last > GAP_MS {
            steady.since = now;
        }
        steady.last = now;
    }
}

impl World {
    /// The scheduler has taken a step.
    pub fn judge_step(
        &mut self,
        before: &State,
        moment: Moment,
        watched: Watched,
        step: &Step,
        changed: bool,
    ) {
        let now = self.now;
        self.judge.note_contact(&watched, step, moment, now);
        self.judge.deeds.records += step.records.len() as u64;
        self.judge.deeds.orders += step.orders.len() as u64;
        let Some(after) = self.scheduler.state().cloned() else { return };
        if let Some((op, call)) = watched.op {
            let reply = step.replies.iter().find(|(to, _)| Some(*to) == watched.ticket);
            if let Some((_, Ok(reply))) = reply {
                self.judge.promise(op, &call, reply, &after);
            }
            if let UserCall::RemoveNode(node) = &call {
                self.judge.forget_node(node, &after);
            }
        }
        if step.replies.iter().any(|(_, reply)| matches!(reply, Ok(Reply::Registered(_)))) {
            self.judge.view.steady.retain(|node, _| {
                let life = |state: &State| state.nodes.get(node).map(|node| node.incarnation);
                life(before) == life(&after)
            });
        }
        self.judge_silence(before, &after, moment);
        if changed {
            self.judge_births(before, &after);
            self.judge_stops(before, &after);
        }
        for order in &step.orders {
            self.judge_order(&after, order);
        }
    }

    /// A node is dead when, and only when, it was silent for nine seconds during
    /// which the scheduler was awake. Lost without being dead is only one whose
    /// Docker is in trouble.
    fn judge_silence(&mut self, before: &State, after: &State, moment: Moment) {
        let dead_after = self.timing.dead_after_ms;
        let slack = 2 * self.timing.sweep_ms;
        for (id, node) in &after.nodes {
            let was = before.nodes.get(id);
            let contact = self.judge.view.contact.get(id).copied().unwrap_or(0);
            let silent = moment.now.saturating_sub(contact);
            let dead = node.status == NodeStatus::Dead;
            let newly_dead = dead && was.is_some_and(|was| was.status != NodeStatus::Dead);
            if newly_dead && silent < dead_after {
                let text = format!("{id} was heard {silent} ms ago and is declared dead");
                self.judge.object("6 alive", text);
            }
            if !dead && silent > dead_after + slack {
                let text = format!("{id} was not heard for {silent} ms and is {:?}", node.status);
                self.judge.object("6 dead", text);
            }
            let newly_lost = node.lost && was.is_some_and(|was| !was.lost);
            if newly_lost && !dead && node.docker.state == DockerState::Ok {
                let text = format!("{id} is alive with a working Docker and taken for lost");
                self.judge.object("6 alive", text);
            }
            if newly_lost || (dead && was.is_none()) {
                self.judge.view.awaited.remove(id);
                self.judge.view.told.retain(|_, told| told.node != *id);
                let of = |id: &InstanceId| before.instances.get(id).map(|i| i.node.clone());
                self.judge.view.ordered.retain(|one| of(one).as_ref() != Some(id));
            }
        }
    }

    // ---- 1: starting ----

    /// DESIGN 7.1, by the truth: what is ordered now, and what the scheduler was
    /// told of or has ordered itself and what really runs or is about to, are
    /// together no more than desired and the surge while it changes. Not counted:
    /// what is on a node that is lost, what has finished, and what waits for the
    /// place of another one.
    ///
    /// And DESIGN 6: after a restart nothing is started of what was there before
    /// while a node that was alive has neither reported nor died.
    fn judge_births(&mut self, before: &State, after: &State) {
        let mut starts: BTreeMap<WorkloadId, BTreeSet<InstanceId>> = BTreeMap::new();
        for (id, instance) in &after.instances {
            if instance.seen.is_some() || before.instances.contains_key(id) {
                continue;
            }
            let known = |id| after.instances.get(id).is_some_and(|i| !i.is_over());
            if !instance.after.as_ref().is_some_and(known) {
                starts.entry(instance.workload.clone()).or_default().insert(id.clone());
            }
        }
        for (name, born) in starts {
            let Some(workload) = after.workloads.get(&name) else {
                let text = format!("starts {born:?} of {name}, which nobody wants");
                self.judge.object("1 starts", text);
                continue;
            };
            if self.judge.view.recovered.contains(&name)
                && before.workloads.get(&name).is_some_and(|w| w.born_epoch != after.epoch)
                && !self.judge.view.awaited.is_empty()
            {
                let awaited = &self.judge.view.awaited;
                let text = format!("starts {born:?} while {awaited:?} have not reported");
                self.judge.object("6 recovery", text);
            }
            let changes = changes(before, &name) || changes(after, &name);
            let surge = match changes {
                true => Bounds::of(&workload.spec.strategy, workload.desired()).surge,
                false => 0,
            };
            // What had finished may count again, or not any more, from this step on.
            let done = before.workloads.get(&name).map_or(0, |before| before.done.len());
            let done = done.min(workload.done.len());
            let bound = workload.desired() as usize - done + surge as usize;
            let there = self.occupied(after, &name, &born);
            if there.len() + born.len() > bound {
                let text = format!(
                    "{name}: starts {born:?} while {there:?} are there; {} wanted, {} done, surge \
                     {surge}",
                    workload.desired(),
                    done
                );
                self.judge.object("1 starts", text);
            }
        }
    }

    /// Instances of a workload that run or are about to, as far as the scheduler
    /// can know.
    fn occupied(
        &self,
        after: &State,
        name: &WorkloadId,
        born: &BTreeSet<InstanceId>,
    ) -> BTreeSet<InstanceId> {
        let mut there = BTreeMap::new();
        for machine in &self.machines {
            let Some(process) = &machine.agent else { continue };
            let Some(node) = after.nodes.get(&machine.node) else { continue };
            // Somebody who has taken this machine's name speaks for it now.
            if node.lost || node.unreachable || node.incarnation != process.incarnation {
                continue;
            }
            for container in self.daemons[machine.daemon].containers.values() {
                let ours = container.node == machine.node && container.workload == *name;
                let lives = container.is_running() && !container.revived;
                if ours && lives && self.judge.knows(&container.instance) {
                    there.insert(container.instance.clone(), None);
                }
            }
            for id in process.core.instance_ids() {
                if there.contains_key(id) || !self.judge.knows(id) {
                    continue;
                }
                let Some(told) = process.core.find(id.as_str()) else { continue };
                let comes = told.phase < Phase::Running && !told.stopping;
                if told.workload_id == *name && comes && !self.waits(told.after.as_ref()) {
                    there.insert(id.clone(), told.after.clone());
                }
            }
        }
        let life = self.scheduler.process.as_ref().map(|process| process.life);
        for event in self.queue.iter() {
            let Event::Arrives(Packet::Order { life: of, order, .. }) = event else { continue };
            let OrderBody::Run(run) = &order.body else { continue };
            let fence = &order.fence;
            let node = after.nodes.get(&fence.node);
            let taken = self.machines.iter().filter_map(|m| m.agent.as_ref()).any(|process| {
                process.incarnation == fence.incarnation
                    && process.core.epoch() == Some(fence.epoch)
                    && !process.record.stopped.contains(&run.id)
                    && process.core.find(run.id.as_str()).is_none()
                    && !process.record.forgotten.contains(&run.id)
                    && !process.record.replaced.contains(&run.id)
            });
            if Some(*of) == life
                && run.workload == *name
                && taken
                && node.is_some_and(|node| {
                    !node.lost && !node.unreachable && node.incarnation == fence.incarnation
                })
                && self.judge.view.ordered.contains(&run.id)
                && !self.waits(run.after.as_ref())
            {
                there.insert(run.id.clone(), run.after.clone());
            }
        }
        let comes = |id: &InstanceId| there.contains_key(id);
        let counts = |(id, after): &(&InstanceId, &Option<InstanceId>)| {
            !born.contains(*id) && !after.as_ref().is_some_and(comes)
        };
        there.iter().filter(counts).map(|(id, _)| id.clone()).collect()
    }

    /// Whether the instance that another one waits for still runs, or may yet.
    fn waits(&self, after: Option<&InstanceId>) -> bool {
        let Some(id) = after else { return false };
        let comes = |machine| self.agent_has(machine, id).is_some_and(|phase| !phase.is_final());
        let containers = self.daemons.iter().flat_map(|daemon| daemon.containers.values());
        containers.filter(|c| c.instance == *id).any(|container| container.is_running())
            || (0..self.machines.len()).any(comes)
    }

    // ---- 2: stopping ----

    /// DESIGN 7.2: a ready instance is stopped for a change or a drain only if as
    /// many as must be remain ready, not counting replicas that have nothing and
    /// that nobody could help just now. One is excess only if a ready one remains
    /// in its replica, or the replica is done. What is ready is what was last
    /// reported as running and healthy.
    fn judge_stops(&mut self, before: &State, after: &State) {
        let mut objections = Vec::new();
        for (id, instance) in &after.instances {
            if instance.share.ready {
                let said = self.judge.view.told.get(id).map(|told| (told.phase, told.health));
                if said != Some((Phase::Running, Health::Healthy)) {
                    objections.push(("2 ready", format!("{id} counts as ready, was {said:?}")));
                }
            }
            let Some(stop) = &instance.stop else { continue };
            if before.instances.get(id).is_none_or(|before| before.stop.is_some()) {
                continue;
            }
            let Some(workload) = after.workloads.get(&instance.workload) else { continue };
            let waits = workload.born_epoch != after.epoch && !self.judge.view.awaited.is_empty();
            let ours = !matches!(
                stop.cause,
                StopCause::Deleted
                    | StopCause::ScaledDown
                    | StopCause::UnknownRevision
                    | StopCause::AlreadyStopping
            );
            if waits && ours && self.judge.view.recovered.contains(&instance.workload) {
                let awaited = &self.judge.view.awaited;
                let text = format!("{id} is stopped while {awaited:?} have not reported");
                objections.push(("6 recovery", text));
            }
            // Ready before and after: that a rollout begins may change what it takes
            // to be ready, and what has just fallen ill is missed by nobody.
            if !instance.ready || !before.instances.get(id).is_some_and(|before| before.ready) {
                continue;
            }
            let problem = match stop.cause {
                StopCause::Replaced | StopCause::Drained => {
                    lacks(before, after, workload, instance)
                }
                StopCause::Excess => not_excess(before, after, workload, instance.replica),
                _ => None,
            };
            if let Some(problem) = problem {
                let text = format!("{id} is stopped ({:?}): {problem}", stop.cause);
                objections.push(("2 stops", text));
            }
        }
        for (invariant, text) in objections {
            self.judge.object(invariant, text);
        }
    }

    // ---- orders ----

    /// An order names its instance for ever: the same id is never ordered with
    /// other contents; only what it was to follow is left out once it need not wait any more. It goes to a living node in its present life, with the
    /// present epoch, and asks for no host port that another instance on that
    /// daemon holds, as far as was ever ordered, unless it is to follow that one.
    fn judge_order(&mut self, after: &State, order: &Order) {
        let fence = &order.fence;
        let node = after.nodes.get(&fence.node);
        let current = node.is_some_and(|node| {
            node.status == NodeStatus::Alive && node.incarnation == fence.incarnation
        });
        if !current || fence.epoch != after.epoch {
            let text = format!("{:?} is ordered with the fence {fence:?}", order.body);
            self.judge.object("orders", text);
        }
        let run = match &order.body {
            OrderBody::Stop { id, .. } => {
                self.judge.stops.insert(id.clone());
                return;
            }
            OrderBody::Run(run) => run,
        };
        let first = self.judge.view.ordered.insert(run.id.clone());
        let known = self.judge.orders.get(&run.id).cloned();
        match known {
            Some((at, contents)) if at != fence.node || !is_repeated(&contents, run) => {
                let text = format!("{} was {contents:?} on {at} and is {run:?} now", run.id);
                self.judge.object("3 ids", text);
            }
            Some(_) => {}
            None => {
                let entry = (fence.node.clone(), run.as_ref().clone());
                self.judge.orders.insert(run.id.clone(), entry);
            }
        }
        if !first {
            return;
        }
        let asked: Vec<u16> =
            run.template.ports.iter().map(|p| p.host_port).filter(|port| *port != 0).collect();
        let Some(daemon) = node.map(|node| node.daemon()).filter(|_| !asked.is_empty()) else {
            return;
        };
        for (id, other) in &after.instances {
            let here =
                after.nodes.get(&other.node).is_some_and(|n| !n.lost && n.daemon() == daemon);
            let same = *id == run.id || run.after.as_ref() == Some(id);
            if !here || same || other.is_over() {
                continue;
            }
            // Waiting for the same predecessor, or one behind the other.
            let Some((_, of)) = self.judge.origin(id) else { continue };
            let holds = of.template.ports.iter().any(|port| asked.contains(&port.host_port));
            if holds && of.after != run.after && of.after.as_ref() != Some(&run.id) {
                let text =
                    format!("{} asks for {asked:?} on {daemon}, which {id} was given", run.id);
                self.judge.object("3 ports", text);
            }
        }
    }
}

/// Whether a workload is changing: the surge may be used.
fn changes(state: &State, name: &WorkloadId) -> bool {
    state.workloads.get(name).is_some_and(|workload| {
        !workload.transit.is_empty() || workload.rollout.as_ref().is_some_and(|r| r.is_open())
    })
}

fn is_effective(state: &State, id: &InstanceId) -> bool {
    state.instances.get(id).is_some_and(|i| !i.is_over() && i.stop.is_none() && !state.is_lost(i))
}

/// Whether an order says again what it said first.
fn is_repeated(first: &RunOrder, again: &RunOrder) -> bool {
    let after = again.after.as_ref().and(first.after.clone());
    *again == RunOrder { after, ..first.clone() }
}

/// Too few remain ready.
fn lacks(before: &State, after: &State, workload: &Workload, stopped: &Instance) -> Option<String> {
    let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
    let ready_in = |number: u32| {
        workload.replicas.get(&number).is_some_and(|replica| {
            replica.done.is_some()
                || replica.instances.iter().any(|id| {
                    is_effective(after, id) && after.instances.get(id).is_some_and(|i| i.ready)
                })
        })
    };
    // In place: what needs its room is there, and waits for nothing but that. It
    // lacks in what else is let go in the same step, too.
    let is_news = |id: &InstanceId| before.instances.get(id).is_none_or(|i| i.stop.is_none());
    let stops = |i: &Instance| i.stop.is_some() && is_news(&i.id);
    let is_followed = workload
        .replicas
        .values()
        .flat_map(|replica| &replica.instances)
        .filter_map(|id| after.instances.get(id))
        .filter(|i| is_effective(after, &i.id))
        .filter_map(|i| after.instances.get(i.after.as_ref()?))
        .any(|i| stops(i));
    let may_lack = match ready_in(stopped.replica) && !is_followed {
        true => bounds.unavailable,
        false => bounds.unavailable_in_place(),
    };
    // It had nothing before this step, or nothing of that is left after it.
    let had = before.workloads.get(&workload.spec.name);
    let has_nothing = |(number, replica): &(&u32, &Replica)| {
        let had = had.and_then(|workload| workload.replicas.get(*number));
        let keeps = |had: &Replica| {
            let stays = |id: &&InstanceId| is_effective(before, id) && is_effective(after, id);
            had.instances.iter().filter(|id| replica.instances.contains(id)).any(|id| stays(&id))
        };
        // What the scheduler itself takes away, in this step or before, excuses nothing.
        let taken = |id: &InstanceId| {
            after.instances.get(id).is_some_and(|i| {
                let cause = i.stop.as_ref().map(|stop| stop.cause);
                let moves = matches!(cause, Some(StopCause::Replaced | StopCause::Drained));
                moves && i.ready && !i.is_over() && !after.is_lost(i)
            })
        };
        replica.done.is_none() && !had.is_some_and(keeps) && !replica.instances.iter().any(taken)
    };
    let helpless = workload.replicas.iter().filter(has_nothing).count();
    let ready = after.tally(&workload.spec.name).ready as usize + workload.done.len();
    (ready + helpless + (may_lack as usize) < workload.desired() as usize).then(|| {
        format!(
            "{ready} ready and {helpless} helpless remain of {}, {may_lack} may be missing",
            workload.desired()
        )
    })
}

fn not_excess(before: &State, after: &State, workload: &Workload, number: u32) -> Option<String> {
    let replica = workload.replicas.get(&number)?;
    let had = before.workloads.get(&workload.spec.name).and_then(|w| w.replicas.get(&number));
    // It may move on in the very step in which what is excess to its end goes.
    let remains = replica.done.is_some()
        || had.is_some_and(|had| had.done.is_some())
        || replica
            .instances
            .iter()
            .any(|id| is_effective(after, id) && after.instances.get(id).is_some_and(|i| i.ready));
    (!remains).then(|| "no ready one remains in its replica".to_owned())
}
