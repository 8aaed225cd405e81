//! What must hold after each step, by the made-up Docker's truth.

use super::*;

impl World {
    /// Per workload: what Docker really has or is about to have, on nodes that
    /// the scheduler counts, whatever the scheduler believes to be there.
    pub(super) fn occupied_in_truth(
        &self,
        state: &State,
    ) -> BTreeMap<WorkloadId, BTreeSet<InstanceId>> {
        let mut occupied: BTreeMap<WorkloadId, BTreeSet<InstanceId>> = BTreeMap::new();
        let counted = |node: &NodeId, id: &InstanceId| {
            state
                .nodes
                .get(node)
                .is_some_and(|n| !n.lost && (n.synced || state.instances.contains_key(id)))
        };
        for (id, container) in &self.docker {
            if container.is_live() && counted(&container.node, id) {
                let of = occupied.entry(container.order.workload.clone()).or_default();
                of.insert(id.clone());
            }
        }
        for agent in self.agents.values() {
            for (id, queued) in &agent.queue {
                if counted(&agent.id, id) && !self.waits(&queued.order.after) {
                    let of = occupied.entry(queued.order.workload.clone()).or_default();
                    of.insert(id.clone());
                }
            }
        }
        for order in self.runs_on_the_way() {
            if let OrderBody::Run(run) = &order.body
                && counted(&order.fence.node, &run.id)
                && !self.waits(&run.after)
            {
                let of = occupied.entry(run.workload.clone()).or_default();
                of.insert(run.id.clone());
            }
        }
        occupied
    }

    /// Orders to run something that an agent would take when they arrive.
    fn runs_on_the_way(&self) -> impl Iterator<Item = &Order> {
        self.packets.values().filter_map(|packet| match packet {
            Packet::Order { life, order } if *life == self.life => {
                let OrderBody::Run(run) = &order.body else { return None };
                let agent = self.agents.get(&order.fence.node)?;
                let takes = agent.up
                    && agent.incarnation == order.fence.incarnation
                    && !agent.stops.contains(&run.id)
                    && !agent.noted.contains_key(&run.id);
                takes.then_some(order)
            }
            _ => None,
        })
    }

    /// Whether what an order is to follow is still there, or about to be.
    fn waits(&self, after: &Option<InstanceId>) -> bool {
        let Some(before) = after else { return false };
        let is_run = |order: &Order| matches!(&order.body, OrderBody::Run(r) if r.id == *before);
        self.docker.get(before).is_some_and(Container::is_live)
            || self.agents.values().any(|agent| agent.queue.contains_key(before))
            || self.runs_on_the_way().any(is_run)
    }

    /// Nothing is started while as much as is wanted is there, and the surge while
    /// it changes (DESIGN 7.1).
    pub(super) fn check_starts(
        &self,
        before: &State,
        born: &[InstanceId],
        occupied: &BTreeMap<WorkloadId, BTreeSet<InstanceId>>,
    ) {
        let mut starts: BTreeMap<&WorkloadId, BTreeSet<InstanceId>> = BTreeMap::new();
        for id in born {
            let instance = &self.core.state.instances[id];
            let there = |id| {
                let mut known = [before, &self.core.state].into_iter();
                known.any(|state| state.instances.get(id).is_some_and(|i| !i.is_over()))
            };
            let takes_over = instance.after.as_ref().is_some_and(there);
            if instance.seen.is_none() && !takes_over {
                starts.entry(&instance.workload).or_default().insert(id.clone());
            }
        }
        // Found lost in this very step, with what was on its way there.
        let lost_now = |id: &InstanceId| {
            let known = before.instances.get(id).map(|i| &i.node);
            known
                .or_else(|| self.docker.get(id).map(|c| &c.node))
                .is_some_and(|node| self.core.state.nodes.get(node).is_none_or(|n| n.lost))
        };
        for (name, starts) in starts {
            let workload = &self.core.state.workloads[name];
            let changes = |state: &State| {
                state.workloads.get(name).is_some_and(|w| {
                    !w.transit.is_empty() || w.rollout.as_ref().is_some_and(|r| r.is_open())
                })
            };
            let surge = match changes(before) || changes(&self.core.state) {
                true => Bounds::of(&workload.spec.strategy, workload.desired()).surge,
                false => 0,
            };
            let bound = workload.desired() as usize - workload.done.len() + surge as usize;
            let there: Vec<&InstanceId> =
                occupied.get(name).into_iter().flatten().filter(|id| !lost_now(id)).collect();
            assert!(
                there.len() + starts.len() <= bound,
                "{name}: starts {starts:?} while {there:?} are there, wanted {bound}\n{}",
                self.story()
            );
        }
    }

    /// What must hold after each step.
    pub fn check(&self) {
        check_books(&self.core.state);
        let snapshot = self.snapshot();
        for (name, _) in &self.core.state.workloads {
            let view = self.view(name.as_str());
            let _ = snapshot.explain(name.as_str());
            if view.ready + view.done < view.desired {
                assert!(!view.reasons.is_empty(), "{name}: no reason\n{view:#?}\n{}", self.story());
            }
            for why in &view.reasons {
                assert!(!why.message.is_empty());
            }
        }
        let mut bound: BTreeSet<(&DaemonId, u16)> = BTreeSet::new();
        for container in self.docker.values().filter(|c| c.is_live()) {
            for port in &container.ports {
                let fresh = bound.insert((&container.daemon, port.host_port));
                assert!(fresh || port.host_port >= 32_768, "host port {port:?} twice");
            }
        }
    }

    /// The last things that happened, for a failed assertion.
    pub fn story(&self) -> String {
        let from = self.log.len().saturating_sub(40);
        let views: Vec<String> =
            self.snapshot().workloads().iter().map(|view| format!("{view:?}")).collect();
        let nodes: Vec<String> =
            self.snapshot().nodes().iter().map(|view| format!("{view:?}")).collect();
        format!(
            "at {}\n{}\n{}\n{}\n{:#?}",
            self.now,
            self.log[from..].join("\n"),
            views.join("\n"),
            nodes.join("\n"),
            self.core.state.instances.values().collect::<Vec<_>>()
        )
    }
}

/// The sums and indexes of a state are what counting everything gives.
pub fn check_books(state: &State) {
    let mut tallies: BTreeMap<WorkloadId, Tally> = BTreeMap::new();
    let mut placed: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut per_node: BTreeMap<(WorkloadId, NodeId), u32> = BTreeMap::new();
    for (id, instance) in &state.instances {
        assert_eq!(*id, instance.id);
        let tally = tallies.entry(instance.workload.clone()).or_default();
        let live = !instance.is_over();
        let counts = live && !state.is_lost(instance);
        let waits = state.waits_for_predecessor(instance);
        let effective = counts && instance.stop.is_none() && !waits;
        let share = Share {
            effective,
            stopping: counts && instance.stop.is_some(),
            running: effective && instance.phase() == Phase::Running,
            ready: instance.share.ready,
            ailing: instance.share.ailing,
            placed: live,
            waiting: counts && waits,
        };
        assert_eq!(instance.share, share, "share of {id}");
        assert!(!instance.share.ready || effective);
        tally.effective += u32::from(share.effective);
        tally.stopping += u32::from(share.stopping);
        tally.running += u32::from(share.running);
        tally.ready += u32::from(share.ready);
        tally.waiting += u32::from(share.waiting);
        if live {
            *placed.entry(instance.node.clone()).or_default() += 1;
            let here = (instance.workload.clone(), instance.node.clone());
            *per_node.entry(here).or_default() += 1;
        }
        assert!(state.cohorts.get(&instance.workload).is_some_and(|c| c.ids.contains(id)));
        let node = state.nodes.get(&instance.node);
        assert!(node.is_some_and(|n| n.instances.contains(id)), "{id} is on no node");
    }
    for (name, cohort) in &state.cohorts {
        assert_eq!(cohort.tally, tallies.remove(name).unwrap_or_default(), "sums of {name}");
        assert!(!cohort.ids.is_empty(), "cohort of {name} is empty");
        for id in &cohort.ids {
            assert!(state.instances.contains_key(id));
        }
        for id in &cohort.ailing {
            assert!(state.instances.get(id).is_some_and(|i| i.share.ailing), "{id} does not ail");
        }
        for (node, count) in &cohort.per_node {
            assert_eq!(per_node.remove(&(name.clone(), node.clone())), Some(*count));
        }
    }
    assert!(per_node.is_empty(), "not in per_node: {per_node:?}");
    for node in state.nodes.values() {
        assert_eq!(node.placed, placed.remove(&node.id).unwrap_or(0), "placed on {}", node.id);
        for id in &node.instances {
            assert!(state.instances.get(id).is_some_and(|i| i.node == node.id));
        }
    }
    for (.., holder) in &state.host_ports {
        assert!(state.instances.get(holder).is_some_and(|i| !i.is_over()), "{holder} holds a port");
    }
    for (name, workload) in &state.workloads {
        for (number, replica) in &workload.replicas {
            let filled = replica
                .instances
                .iter()
                .filter_map(|id| state.instances.get(id))
                .filter(|i| !i.is_over() && i.stop.is_none() && !state.is_lost(i))
                .any(|i| state.is_current(workload, replica, i));
            let places = usize::from(workload.missing.contains(number))
                + usize::from(workload.resting.contains(number))
                + usize::from(workload.done.contains(number));
            let expected = usize::from(!filled || replica.done.is_some());
            assert_eq!(places, expected, "{name}/{number} is filed wrongly: {replica:?}");
            for id in &replica.instances {
                assert!(state.instances.contains_key(id), "{name}/{number} has a ghost {id}");
            }
        }
        let sets = [&workload.missing, &workload.resting, &workload.done];
        for set in sets.into_iter().chain([&workload.outdated, &workload.transit]) {
            assert!(set.iter().all(|n| workload.replicas.contains_key(n)), "{name}: stale place");
        }
    }
}
