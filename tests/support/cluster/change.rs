//! What must hold of each step while workloads change: which revision is started
//! where and how many at a time, what may be stopped, when a rollout must end and
//! when it may not. Counted here anew, with a memory of its own; of the core only
//! the state that people can see is used.

use super::*;
use kube_lite::model::Template;
use kube_lite::model::view::NodeStatus;
use kube_lite::roles::scheduler::state::{
    Instance, Node, Replica, Rollout, RolloutState, Workload,
};

/// A deadline that has passed for this long and was not acted upon was forgotten.
const DEADLINE_SLACK_MS: u64 = 15_000;

/// What was seen of rollouts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Revisions of which one instance was ready or has finished.
    proven: BTreeSet<(WorkloadId, u64)>,
    /// Images that some Docker has, or an agent has prepared.
    images: BTreeSet<String>,
    /// Revisions of which an instance ended, did not start or was ill.
    faulty: BTreeSet<(WorkloadId, u64)>,
    /// Instances that another one was ordered to follow.
    followed: BTreeSet<InstanceId>,
    /// Instances that were ready.
    was_ready: BTreeSet<InstanceId>,
    /// Per place, the revisions it has had since the rollout under way began;
    /// `None`: it began while the scheduler did not know yet what there is.
    had: BTreeMap<(WorkloadId, u32), Option<BTreeSet<u64>>>,
    /// Places whose move to what is paused now was begun before the pause.
    begun: BTreeSet<(WorkloadId, u32)>,
    /// Places that have finished in the revision that is the head.
    finished: BTreeSet<(WorkloadId, u32, u64)>,
    /// The rollout as it was after the step before, and since when its clock runs.
    rollouts: BTreeMap<WorkloadId, (Rollout, u64)>,
    /// The widest bounds since the rollout under way began.
    budget: BTreeMap<WorkloadId, u32>,
}

fn at_once(workload: &Workload) -> u32 {
    let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
    (bounds.surge + bounds.unavailable).max(1)
}

/// Runs or comes up, is not being stopped and not out of sight.
fn is_effective(state: &State, instance: &Instance) -> bool {
    !instance.is_over() && instance.stop.is_none() && !state.is_lost(instance)
}

fn effective<'a>(
    state: &'a State,
    replica: &'a Replica,
) -> impl Iterator<Item = &'a Instance> + 'a {
    let known = replica.instances.iter().filter_map(|id| state.instances.get(id));
    known.map(AsRef::as_ref).filter(|i| is_effective(state, i))
}

/// Of the revision its place is to have, and where it may stay.
fn is_wanted(state: &State, workload: &Workload, replica: &Replica, instance: &Instance) -> bool {
    let draining = state.nodes.get(&instance.node).is_some_and(|node| node.draining);
    let once = workload.restart_policy(instance.revision) == RestartPolicy::Never;
    instance.revision == replica.revision && (once || !draining)
}

fn has_image(instance: &Instance) -> bool {
    let prepared = |seen: &kube_lite::roles::scheduler::state::Seen| {
        seen.phase >= Phase::Created || seen.reason == Some(Reason::Prepared)
    };
    instance.seen.as_ref().is_some_and(prepared)
}

/// Whether an agent answers and can carry out orders.
fn is_able(node: &Node) -> bool {
    node.status == NodeStatus::Alive
        && node.incarnation != 0
        && node.synced
        && !node.lost
        && !node.unreachable
        && node.docker.state == DockerState::Ok
}

fn takes_new(node: &Node) -> bool {
    is_able(node) && node.schedulable && !node.draining
}

/// Whether nobody but `except` has or will have one of these host ports there.
fn ports_free(state: &State, node: &Node, ports: &[u16], except: &[&InstanceId]) -> bool {
    let binds = |instance: &Instance, port: u16| {
        let seen = instance.seen.iter().flat_map(|seen| &seen.ports);
        let workload = state.workloads.get(&instance.workload);
        let template = workload.and_then(|w| w.template(instance.revision));
        let mut asked = template.iter().flat_map(|t| &t.ports);
        // Whose workload is not known any more, its ports are not known either.
        (workload.is_some() && seen.map(|p| p.host_port).any(|bound| bound == port))
            || asked.any(|p| p.host_port == port && (p.fixed || instance.binds_asked_ports))
    };
    ports.is_empty()
        || !state.instances.values().any(|i| {
            !i.is_over()
                && !except.contains(&&i.id)
                && !state.is_lost(i)
                && state.nodes.get(&i.node).is_some_and(|n| n.daemon() == node.daemon())
                && ports.iter().any(|port| binds(i, *port))
        })
}

fn asked(workload: &Workload, revision: u64) -> Vec<u16> {
    let ports =
        workload.template(revision).iter().flat_map(|t| t.ports.clone()).collect::<Vec<_>>();
    let single = workload.desired() == 1;
    let asked = ports.iter().filter(|p| p.host_port != 0 && (p.fixed || single));
    asked.map(|p| p.host_port).collect()
}

/// Whether some node takes an instance for this place besides what there is.
fn has_room(state: &State, workload: &Workload, replica: &Replica, except: &[&InstanceId]) -> bool {
    let ports = asked(workload, replica.revision);
    let pinned = replica.pin.as_ref();
    state.nodes.values().any(|node| {
        let stays = pinned == Some(&node.id) && is_able(node) && !node.draining;
        (stays || takes_new(node)) && ports_free(state, node, &ports, except)
    })
}

/// Whether a place has nothing and gets nothing for now, whatever anybody does:
/// its back-off, no room anywhere, out of sight.
fn is_helpless(state: &State, workload: &Workload, number: u32, replica: &Replica) -> bool {
    if effective(state, replica).next().is_some() || replica.done.is_some() {
        return false;
    }
    let waits_for_node = replica.pin.as_ref().and_then(|id| state.nodes.get(id));
    let waits_for_node = waits_for_node.is_some_and(|n| !n.lost && !n.draining && !is_able(n));
    let mut known = replica.instances.iter().filter_map(|id| state.instances.get(id));
    let out_of_sight = workload.resting.contains(&number) && known.any(|i| state.is_lost(i));
    replica.not_before.is_some_and(|at| at > state.now)
        || waits_for_node
        || out_of_sight
        || !has_room(state, workload, replica, &[])
}

impl World {
    /// Takes in what a step has changed; before it is judged.
    pub(super) fn remember(&mut self) {
        let now = self.now;
        let memory = &mut self.memory;
        let state = &self.core.state;
        for container in self.docker.values() {
            if !container.ghost {
                memory.images.insert(container.order.template.image.clone());
            }
            let taken = container.reason == Some(Reason::PortTaken);
            if (!container.is_live() && !taken) || container.ill {
                let of = (container.order.workload.clone(), container.order.revision);
                memory.faulty.insert(of);
            }
        }
        for queued in self.agents.values().flat_map(|a| a.queue.values()).filter(|q| q.prepared) {
            memory.images.insert(queued.order.template.image.clone());
        }
        for instance in state.instances.values().filter(|i| i.share.ready) {
            memory.proven.insert((instance.workload.clone(), instance.revision));
            memory.was_ready.insert(instance.id.clone());
        }
        let exists = |name: &WorkloadId, number: &u32| {
            state.workloads.get(name).is_some_and(|w| w.replicas.contains_key(number))
        };
        memory.had.retain(|(name, number), _| exists(name, number));
        memory.begun.retain(|(name, number)| exists(name, number));
        memory.finished.retain(|(name, number, revision)| {
            exists(name, number) && state.workloads[name].head() == *revision
        });
        for (name, workload) in &state.workloads {
            for number in &workload.done {
                let Some(done) = &workload.replicas[number].done else { continue };
                memory.proven.insert((name.clone(), done.revision));
                if done.exit_code.is_some() && done.revision == workload.head() {
                    memory.finished.insert((name.clone(), *number, done.revision));
                }
            }
            let Some(rollout) = &workload.rollout else { continue };
            let known = memory.rollouts.get(name);
            let is_new = known.is_none_or(|(old, _)| {
                old.to != rollout.to
                    || (!old.is_open() && rollout.is_open())
                    || (old.state == RolloutState::Aborting
                        && rollout.state == RolloutState::Rolling)
            });
            let ticks_on = known.is_some_and(|(old, _)| old.state == rollout.state);
            let since = known.filter(|_| ticks_on && !is_new).map_or(now, |(_, since)| *since);
            if is_new {
                memory.budget.remove(name);
                memory.begun.retain(|(of, _)| of != name);
                for (number, replica) in &workload.replicas {
                    let had = effective(state, replica).map(|i| i.revision).collect();
                    let had = (!state.is_recovering(workload)).then_some(had);
                    memory.had.insert((name.clone(), *number), had);
                }
            }
            let was_rolling = known.is_some_and(|(old, _)| old.state == RolloutState::Rolling);
            if was_rolling && !is_new && rollout.state == RolloutState::Paused {
                let begun = workload.replicas.iter().filter(|(_, r)| r.revision == rollout.to);
                memory.begun.extend(begun.map(|(number, _)| (name.clone(), *number)));
            }
            let budget = memory.budget.entry(name.clone()).or_default();
            *budget = at_once(workload).max(*budget);
            memory.rollouts.insert(name.clone(), (rollout.clone(), since));
        }
    }

    /// Whether a place has had this revision since its rollout began.
    fn has_had(&self, name: &WorkloadId, number: u32, revision: u64) -> bool {
        match self.memory.had.get(&(name.clone(), number)) {
            Some(Some(had)) => had.contains(&revision),
            Some(None) => true,
            None => false,
        }
    }

    /// What may be started, where, in which revision, and how many of them.
    pub(super) fn check_births(&mut self, before: &State, born: &[InstanceId]) {
        for id in born {
            let instance = self.core.state.instances[id].clone();
            if instance.seen.is_none() {
                self.check_birth(before, &instance);
            }
        }
        for id in born {
            let instance = &self.core.state.instances[id];
            self.memory.followed.extend(instance.replaces.clone());
            let place = (instance.workload.clone(), instance.replica);
            if let Some(had) = self.memory.had.entry(place).or_insert_with(|| Some(BTreeSet::new()))
            {
                had.insert(instance.revision);
            }
        }
    }

    fn check_birth(&self, before: &State, born: &Instance) {
        let state = &self.core.state;
        let (id, name, number, revision) = (&born.id, &born.workload, born.replica, born.revision);
        let workload = &state.workloads[name];
        let replica = &workload.replicas[&number];
        let story = || self.story();

        // Where.
        let node = &state.nodes[&born.node];
        assert!(is_able(node) && !node.draining, "{id} is started on {node:?}\n{}", story());
        let home = born.replaces.as_ref().and_then(|old| self.ran_on.get(old));
        let stays = home == Some(&born.node);
        assert!(node.schedulable || stays, "{id} is started on a cordoned node\n{}", story());
        let ports = asked(workload, revision);
        let except: Vec<&InstanceId> =
            [Some(id), born.after.as_ref()].into_iter().flatten().collect();
        let is_free = |node: &Node| ports_free(state, node, &ports, &except);
        assert!(is_free(node), "{id} needs a host port that is taken\n{}", story());
        if let Some(home) = home.and_then(|node| state.nodes.get(node))
            && born.replaces.as_ref().is_some_and(|old| {
                // The first that follows it; that may have been withdrawn since.
                !self.memory.followed.contains(old) && self.ran.contains(&(old.clone(), revision))
            })
        {
            let could_stay = is_able(home) && !home.draining && is_free(home);
            assert!(stays || !could_stay, "{id} is not restarted where it ran\n{}", story());
        }

        // When.
        let was = before.workloads.get(name).and_then(|w| w.replicas.get(&number));
        let rests = was.is_some_and(|r| {
            r.revision == revision && r.not_before.is_some_and(|at| at > state.now)
        });
        assert!(!rests, "{id} is started before its time\n{}", story());

        // Which revision.
        let (head, goal) = (workload.head(), workload.rollout.as_ref().map(|r| (r.state, r.to)));
        let may_be = match goal {
            Some((RolloutState::Rolling, to)) => {
                revision == to || revision == head || self.has_had(name, number, revision)
            }
            Some((RolloutState::Paused, to)) => {
                revision != to
                    || to == head
                    || self.has_had(name, number, to)
                    || self.memory.begun.contains(&(name.clone(), number))
            }
            Some((RolloutState::Aborting, _)) => revision == head,
            _ => revision == workload.revision,
        };
        assert!(may_be, "{id} is of a revision that is not its turn: {goal:?}\n{}", story());
        assert!(
            !self.memory.finished.contains(&(name.clone(), number, revision)),
            "{id} runs again what has finished\n{}",
            story()
        );
        let beside = effective(state, replica)
            .filter(|i| i.after.as_ref() != Some(id))
            .find(|i| i.id != *id && is_wanted(state, workload, replica, i));
        assert!(beside.is_none(), "{id} is started beside {beside:?}\n{}", story());

        // How many that have yet to show that they work.
        if let Some((RolloutState::Rolling | RolloutState::Paused, to)) = goal
            && revision == to
            && to != head
            && !self.memory.proven.contains(&(name.clone(), to))
            && !self.has_had(name, number, to)
        {
            let all = state.instances.values().filter(|i| i.workload == *name && i.revision == to);
            let count = all.filter(|i| is_effective(state, i)).count();
            let most = self.memory.budget.get(name).copied().unwrap_or(1);
            // Where nothing else lives, there is nothing to keep from it.
            let alone = !state
                .instances
                .values()
                .any(|i| i.workload == *name && i.revision != to && is_effective(state, i));
            assert!(
                alone || count <= most as usize,
                "{id} is one too many of a revision that has yet to show that it works: {count}, \
                 at most {most}\n{}",
                story()
            );
        }

        // In whose place.
        let Some(old) = &born.after else { return };
        let outgoing = state.instances.get(old);
        assert!(
            outgoing.is_some_and(|o| (&o.workload, o.replica) == (name, number)),
            "{id} takes the place of a stranger, {old}\n{}",
            story()
        );
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let beside = has_room(state, workload, replica, &[id]);
        let mut may = if bounds.surge == 0 || !beside {
            bounds.unavailable_in_place()
        } else {
            bounds.unavailable
        };
        if outgoing.is_some_and(|o| !o.ready) {
            may = may.max(1);
        }
        let waiting = workload
            .transit
            .iter()
            .filter_map(|number| workload.replicas.get(number))
            .flat_map(|r| effective(state, r).filter(|i| is_wanted(state, workload, r, i)))
            .filter(|i| i.after.is_some() && !i.ready);
        let waiting = waiting.count();
        assert!(
            waiting <= may as usize,
            "{id} takes the place of {old}: {waiting} at once, {may} may; a surge is {}\n{}",
            if beside { "possible" } else { "impossible" },
            story()
        );
    }

    /// By its own acts it never takes a workload below what may be missing (DESIGN
    /// 7.2), not counting places that nobody could help just now; and it never takes
    /// what is wanted.
    pub(super) fn check_stops(&self, before: &State) {
        let after = &self.core.state;
        for (id, old) in &after.instances {
            let Some(cause) = old.stop.as_ref().map(|stop| stop.cause) else { continue };
            let Some(was) = before.instances.get(id).filter(|i| i.stop.is_none()) else { continue };
            let Some(workload) = after.workloads.get(&old.workload) else { continue };
            let Some(replica) = workload.replicas.get(&old.replica) else { continue };
            let current: Vec<&Instance> = effective(after, replica)
                .filter(|i| i.id != *id && is_wanted(after, workload, replica, i))
                .collect();
            // Of several that are to go, one is kept until something follows it.
            let kept = || effective(after, replica).filter(|i| i.id != *id);
            let replaced = replica.done.is_some() || kept().any(|i| i.ready);
            if cause == StopCause::Excess && was.ready && old.ready {
                assert!(replaced, "{id} serves, and is stopped as excess\n{}", self.story());
            }
            if !matches!(cause, StopCause::Replaced | StopCause::Drained) {
                continue;
            }
            if cause == StopCause::Replaced {
                let story = || self.story();
                assert!(!workload.is_frozen(), "{id} is replaced during a pause\n{}", story());
                assert_ne!(old.revision, workload.revision, "{id} is what is wanted\n{}", story());
            }
            // What an overtaken rollout leaves counts as ready a little sooner: not before.
            if was.ready && old.ready {
                self.check_stop_of_ready(old, workload, &current, replaced);
            } else if old.phase() == Phase::Running {
                let possible = match cause {
                    StopCause::Drained => replaced || current.iter().any(|i| has_image(i)),
                    _ => {
                        workload.revision == workload.head()
                            || workload
                                .template(workload.revision)
                                .is_some_and(|t| self.memory.images.contains(&t.image))
                    }
                };
                assert!(
                    possible || kept().next().is_some(),
                    "{id} may yet serve and is stopped ({cause:?}) before it is known whether \
                     anything can take its place\n{}",
                    self.story()
                );
            }
        }
    }

    fn check_stop_of_ready(
        &self,
        old: &Instance,
        workload: &Workload,
        current: &[&Instance],
        replaced: bool,
    ) {
        let state = &self.core.state;
        let bounds = Bounds::of(&workload.spec.strategy, workload.desired());
        let is_prepared = |i: &&&Instance| {
            i.after.as_ref() == Some(&old.id) && i.phase() < Phase::Created && has_image(i)
        };
        let may_lack = if replaced {
            bounds.unavailable
        } else {
            assert!(
                current.iter().find(is_prepared).is_some(),
                "{} is stopped and nothing is ready or prepared to take its place\n{}",
                old.id,
                self.story()
            );
            bounds.unavailable_in_place()
        };
        let helpless = workload
            .replicas
            .iter()
            .filter(|(number, replica)| is_helpless(state, workload, **number, replica))
            .count();
        let ready = state.tally(&old.workload).ready as usize + workload.done.len();
        assert!(
            ready + helpless + may_lack as usize >= workload.desired() as usize,
            "{} is stopped, {ready} ready and {helpless} helpless remain of {}, {may_lack} may be \
             missing\n{}",
            old.id,
            workload.desired(),
            self.story()
        );
    }

    /// When a rollout ends: not without a fault, not in spite of one, not before
    /// all is as it is to be, and not later than its deadline.
    pub(super) fn check_turns(&self, before: &State, by_hand: bool) {
        let after = &self.core.state;
        for (name, workload) in &after.workloads {
            let Some(rollout) = &workload.rollout else { continue };
            let was = before.workloads.get(name).and_then(|w| w.rollout.as_ref());
            let was_open = was.is_some_and(Rollout::is_open);
            if was_open && !rollout.is_open() {
                self.check_ended(workload);
            }
            let was_rolling =
                was.is_some_and(|w| w.state == RolloutState::Rolling && w.to == rollout.to);
            let rolls = matches!(rollout.state, RolloutState::Rolling | RolloutState::Done);
            if was_rolling && rolls && rollout.to != before.workloads[name].head() {
                self.check_no_fault_overlooked(before, workload, rollout);
            }
            if was_rolling && !rolls && rollout.state != RolloutState::Paused && !by_hand {
                let late = |i: &&std::sync::Arc<Instance>| {
                    let ms = u64::from(workload.spec.strategy.progress_deadline_seconds) * 1000;
                    let running = i.seen.as_ref().and_then(|seen| seen.running_since);
                    i.revision == rollout.to && running.is_some_and(|at| at + ms <= after.now)
                };
                assert!(
                    self.memory.faulty.contains(&(name.clone(), rollout.to))
                        || before.instances.values().any(|i| late(&i)),
                    "{name} is aborted and nothing was wrong\n{}",
                    self.story()
                );
            }
            if rollout.state == RolloutState::Rolling && rollout.to != workload.head() {
                self.check_deadline(workload, rollout);
            }
        }
    }

    fn check_ended(&self, workload: &Workload) {
        let state = &self.core.state;
        let name = &workload.spec.name;
        for (number, replica) in &workload.replicas {
            let filled = replica.done.as_ref().is_some_and(|d| d.revision == workload.revision)
                || effective(state, replica).any(|i| i.ready && i.revision == workload.revision);
            assert!(filled, "{name}/{number} is not there at the end\n{}", self.story());
        }
        let left = state.instances.values().find(|i| {
            i.workload == *name
                && !i.is_over()
                && !state.is_lost(i)
                && i.revision != workload.revision
                && workload.replicas.get(&i.replica).is_some_and(|r| r.instances.contains(&i.id))
                && matches!(i.stop.as_ref().map(|s| s.cause), None | Some(StopCause::Replaced))
        });
        assert!(left.is_none(), "{name} has ended and {left:?} is still there\n{}", self.story());
    }

    fn check_no_fault_overlooked(&self, before: &State, workload: &Workload, rollout: &Rollout) {
        let after = &self.core.state;
        let policy = workload.restart_policy(rollout.to);
        for (id, old) in &before.instances {
            if old.workload != workload.spec.name || old.revision != rollout.to {
                continue;
            }
            let Some(replica) = workload.replicas.get(&old.replica) else { continue };
            let Some(new) = after.instances.get(id).filter(|i| i.stop.is_none()) else { continue };
            let fell_ill = new.health() == Health::Unhealthy && old.health() != Health::Unhealthy;
            let seen = new.seen.as_ref();
            let ended = !old.is_over()
                && match seen.and_then(|s| s.exit_code) {
                    Some(0) => policy == RestartPolicy::Always,
                    Some(_) => true,
                    None => seen.and_then(|s| s.reason).is_some_and(|reason| {
                        matches!(reason, Reason::ImageNotFound | Reason::StartFailed)
                    }),
                };
            let counts = replica.revision == rollout.to
                && is_effective(before, old)
                && !effective(after, replica)
                    .any(|i| i.id != *id && is_wanted(after, workload, replica, i));
            assert!(
                !(counts && (fell_ill || (ended && new.is_over()))),
                "{id} of the new revision failed and the rollout goes on\n{}",
                self.story()
            );
        }
    }

    fn check_deadline(&self, workload: &Workload, rollout: &Rollout) {
        let state = &self.core.state;
        if state.is_recovering(workload) {
            return;
        }
        let Some((_, since)) = self.memory.rollouts.get(&workload.spec.name) else { return };
        let allowed = u64::from(workload.spec.strategy.progress_deadline_seconds) * 1000;
        for replica in workload.replicas.values() {
            for instance in effective(state, replica).filter(|i| i.revision == rollout.to) {
                let heard = state.nodes.get(&instance.node).is_some_and(|node| {
                    is_able(node) && node.heard_at + self.timing.heartbeat_ms >= state.now
                });
                let running = instance.seen.as_ref().and_then(|seen| seen.running_since);
                let Some(running) = running.filter(|_| heard && !instance.ready) else { continue };
                if self.memory.was_ready.contains(&instance.id)
                    || !is_wanted(state, workload, replica, instance)
                {
                    continue;
                }
                let running = (running + self.origin).saturating_sub(LONG_AGO_MS);
                let at = running.max(*since) + allowed;
                assert!(
                    self.now <= at + DEADLINE_SLACK_MS,
                    "{} should have been ready by {at} and the rollout goes on\n{}",
                    instance.id,
                    self.story()
                );
            }
        }
    }

    /// What has just become ready has run and been well for as long as it must.
    pub(super) fn check_ready(&self, before: &State) {
        let state = &self.core.state;
        for (id, instance) in state.instances.iter().filter(|(_, i)| i.share.ready) {
            if before.instances.get(id).is_none_or(|i| i.ready) {
                continue;
            }
            let Some(workload) = state.workloads.get(&instance.workload) else { continue };
            let Some(container) = self.docker.get(id).filter(|c| c.is_live() && !c.ill) else {
                continue;
            };
            let template: &Template = &container.order.template;
            let given = u64::from(workload.spec.min_ready_seconds) * 1000;
            // It may have been found ready before or after the rest of the step.
            let arrives = [before, state].into_iter().all(|state| {
                let workload = state.workloads.get(&instance.workload);
                workload.is_some_and(|w| {
                    let open = w.rollout.as_ref().filter(|r| r.is_open());
                    open.is_some_and(|r| [r.to, w.revision].contains(&instance.revision))
                })
            });
            let must = match given == 0 && arrives && template.health_check.is_none() {
                true => self.timing.probeless_ready_ms,
                false => given,
            };
            let well = self.now.saturating_sub(self.healthy_at(container));
            let since_agent = self.agents[&container.node].probes_from > container.started_at;
            assert!(
                since_agent || well >= must,
                "{id} is ready after {well} ms, not {must}\n{}",
                self.story()
            );
        }
    }
}
