//! What differs between two published states: what a live page has to be told.
//! Unchanged parts of the two are shared and are not even looked at.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::state::{Instance, Node, Workload};
use super::views::Snapshot;
use crate::model::view::{ChangesView, ClusterView, EventView, NodeView};
use crate::model::{ContainerInstance, InstanceId, WorkloadId};

/// Events told at first to those who do not say where they were.
const EVENTS_AT_FIRST: usize = 300;

/// What one reader is shown: all instances, or where there are very many, those
/// up to some id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    last: Option<InstanceId>,
}

impl Scope {
    /// The first `most` instances by id.
    pub fn of(snapshot: &Snapshot, most: usize) -> Self {
        let all = &snapshot.state.instances;
        let last = (all.len() > most).then(|| all.keys().nth(most.saturating_sub(1)).cloned());
        Self { last: last.flatten() }
    }

    fn holds(&self, id: &InstanceId) -> bool {
        self.last.as_ref().is_none_or(|last| id <= last)
    }
}

impl Snapshot {
    /// Everything in `scope`, and what happened after event `since`.
    pub fn cluster(&self, scope: &Scope, since: Option<u64>) -> ClusterView {
        let state = &self.state;
        let since = since.filter(|since| self.events(Some(*since), None).is_ok());
        let from = since.unwrap_or(state.next_event.saturating_sub(1 + EVENTS_AT_FIRST as u64));
        let events = self.events_from(from).0;
        let health = self.health();
        ClusterView {
            cluster: health.cluster.unwrap_or_default(),
            epoch: state.epoch,
            version: health.version,
            nodes: self.nodes(),
            workloads: self.workloads(),
            instances: state
                .instances
                .iter()
                .take_while(|(id, _)| scope.holds(id))
                .map(|(_, instance)| self.instance(instance))
                .collect(),
            instances_total: state.instances.len() as u64,
            resumed: since.is_some(),
            events,
        }
    }

    /// What is not as it was in `before`, of what is in `scope`.
    pub fn changes_since(&self, before: &Snapshot, scope: &Scope) -> ChangesView {
        let mut changes = ChangesView::default();
        // Seen at one and the same time, what only grows older has not changed.
        let was = Snapshot { state: before.state.clone(), now: self.now };
        let mut concerned: BTreeSet<WorkloadId> = BTreeSet::new();
        self.changed_nodes(&was, &mut changes);
        self.changed_instances(&was, scope, &mut concerned, &mut changes);
        self.changed_workloads(before, concerned, &mut changes);
        (changes.events, changes.events_missed) =
            self.events_from(before.state.next_event.saturating_sub(1));
        changes
    }

    fn changed_nodes(&self, was: &Snapshot, changes: &mut ChangesView) {
        for item in was.state.nodes.diff(&self.state.nodes) {
            match item {
                DiffItem::Add(_, node) => changes.nodes.push(self.node(node)),
                DiffItem::Remove(id, _) => changes.nodes_gone.push(id.clone()),
                DiffItem::Update { old: (id, old), new: (_, new) } => {
                    if old.heard_at != new.heard_at {
                        changes.heard.push(id.clone());
                    }
                    if without_age(was.node(old)) != without_age(self.node(new)) {
                        changes.nodes.push(self.node(new));
                    }
                }
            }
        }
    }

    fn changed_instances(
        &self,
        was: &Snapshot,
        scope: &Scope,
        concerned: &mut BTreeSet<WorkloadId>,
        changes: &mut ChangesView,
    ) {
        let mut both: BTreeMap<&InstanceId, (&Arc<Instance>, &Arc<Instance>)> = BTreeMap::new();
        for item in was.state.instances.diff(&self.state.instances) {
            match item {
                DiffItem::Add(id, instance) => {
                    concerned.insert(instance.workload.clone());
                    if scope.holds(id) {
                        changes.instances.push(self.instance(instance));
                    }
                }
                DiffItem::Remove(id, instance) => {
                    concerned.insert(instance.workload.clone());
                    if scope.holds(id) {
                        changes.instances_gone.push(id.clone());
                    }
                }
                DiffItem::Update { old: (_, old), new: (id, new) } => {
                    both.insert(id, (old, new));
                }
            }
        }
        // Whether an instance is lost is its node's affair, and what it is made of,
        // before it is, its workload's.
        let mut others: Vec<&InstanceId> = Vec::new();
        for item in was.state.nodes.diff(&self.state.nodes) {
            if let DiffItem::Update { old: (_, old), new: (_, node) } = item
                && standing(old) != standing(node)
            {
                others.extend(&node.instances);
            }
        }
        for item in was.state.workloads.diff(&self.state.workloads) {
            if let DiffItem::Remove(name, _) = item {
                others.extend(self.state.cohorts.get(name).iter().flat_map(|of| &of.ids));
            }
        }
        for id in others {
            if let (Some(old), Some(new)) =
                (was.state.instances.get(id), self.state.instances.get(id))
            {
                both.insert(id, (old, new));
            }
        }
        for (id, (old, new)) in both {
            concerned.insert(new.workload.clone());
            if scope.holds(id)
                && without_ages(was.instance(old)) != without_ages(self.instance(new))
            {
                changes.instances.push(self.instance(new));
            }
        }
    }

    /// Workloads are compared as they were seen: why one is short of its count
    /// is told with times that pass.
    fn changed_workloads(
        &self,
        before: &Snapshot,
        mut concerned: BTreeSet<WorkloadId>,
        changes: &mut ChangesView,
    ) {
        for item in before.state.workloads.diff(&self.state.workloads) {
            match item {
                DiffItem::Remove(name, _) => changes.workloads_gone.push(name.clone()),
                DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } => {
                    concerned.insert(name.clone());
                }
            }
        }
        // Those that may have a reason to tell.
        let unsettled = |(name, workload): &(&WorkloadId, &Arc<Workload>)| {
            let tally = self.state.tally(name);
            tally.ready + (workload.done.len() as u32) < workload.desired()
                || tally.ready < tally.effective
                || workload.held.is_some()
                || !workload.resting.is_empty()
        };
        concerned
            .extend(self.state.workloads.iter().filter(unsettled).map(|(name, _)| name.clone()));
        for name in concerned {
            let Some(workload) = self.state.workloads.get(&name) else { continue };
            let view = self.view(&name, workload);
            let old = before.state.workloads.get(&name).map(|old| before.view(&name, old));
            if old.as_ref() != Some(&view) {
                changes.workloads.push(view);
            }
        }
    }

    /// What is kept of the events after `since`, and whether some are not.
    fn events_from(&self, since: u64) -> (Vec<Arc<EventView>>, bool) {
        let first = self.state.ring.front().map_or(self.state.next_event, |event| event.seq);
        let kept = since.max(first.saturating_sub(1));
        (self.events(Some(kept), None).unwrap_or_default(), since < kept)
    }
}

impl ChangesView {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What of a node decides how its instances are seen.
fn standing(node: &Node) -> impl PartialEq + use<> {
    (node.lost, node.status, node.docker.state)
}

fn without_age(view: NodeView) -> NodeView {
    NodeView { last_heartbeat_seconds_ago: None, ..view }
}

fn without_ages(view: ContainerInstance) -> ContainerInstance {
    let mark = |age: Option<u64>| age.map(|_| 0);
    ContainerInstance {
        running_for_ms: mark(view.running_for_ms),
        healthy_for_ms: mark(view.healthy_for_ms),
        ..view
    }
}
