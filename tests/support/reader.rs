//! Whoever reads the stream of changes, as a page does: everything at first,
//! then only what it is told.

use std::collections::BTreeMap;
use std::fmt::Debug;

use kube_lite::model::view::{ChangesView, ClusterView, NodeView, WorkloadView};
use kube_lite::model::wire::DockerStatus;
use kube_lite::model::{ContainerInstance, InstanceId, NodeId, WorkloadId};
use kube_lite::roles::scheduler::changes::Scope;
use kube_lite::roles::scheduler::views::Snapshot;

/// What a reader has been told.
#[derive(Debug)]
struct Picture {
    nodes: BTreeMap<NodeId, NodeView>,
    workloads: BTreeMap<WorkloadId, WorkloadView>,
    instances: BTreeMap<InstanceId, ContainerInstance>,
    /// The last event.
    last: u64,
}

impl Picture {
    fn of(view: ClusterView, last: u64) -> Self {
        Self {
            nodes: view.nodes.into_iter().map(|node| (node.id.clone(), ageless(node))).collect(),
            workloads: view.workloads.into_iter().map(named).collect(),
            instances: view.instances.into_iter().map(|one| (one.id.clone(), young(one))).collect(),
            last,
        }
    }

    fn apply(&mut self, changes: ChangesView) {
        for id in &changes.nodes_gone {
            assert!(self.nodes.remove(id).is_some(), "{id} was never told of");
        }
        for name in &changes.workloads_gone {
            assert!(self.workloads.remove(name).is_some(), "{name} was never told of");
        }
        for id in &changes.instances_gone {
            assert!(self.instances.remove(id).is_some(), "{id} was never told of");
        }
        let nodes = changes.nodes.into_iter().map(|node| (node.id.clone(), ageless(node)));
        self.nodes.extend(nodes);
        self.workloads.extend(changes.workloads.into_iter().map(named));
        let instances = changes.instances.into_iter().map(|one| (one.id.clone(), young(one)));
        self.instances.extend(instances);
        for event in &changes.events {
            if !changes.events_missed {
                assert_eq!(event.seq, self.last + 1, "each event once, in order");
            }
            assert!(event.seq > self.last, "{} after {}", event.seq, self.last);
            self.last = event.seq;
        }
    }
}

fn named(view: WorkloadView) -> (WorkloadId, WorkloadView) {
    (view.spec.name.clone(), view)
}

/// How long ago is only told at first: a page counts on by itself.
fn ageless(node: NodeView) -> NodeView {
    let docker = DockerStatus { for_ms: 0, ..node.docker };
    let message = node.message.as_deref().map(timeless);
    NodeView { last_heartbeat_seconds_ago: None, docker, message, ..node }
}

/// A sentence without the seconds in it: a workload is told anew when they pass,
/// what is in it not.
fn timeless(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for at in 1..words.len() {
        if words[at].trim_end_matches([',', ';']) == "s" {
            words[at - 1] = "some";
        }
    }
    words.join(" ")
}

fn young(one: ContainerInstance) -> ContainerInstance {
    let mark = |age: Option<u64>| age.map(|_| 0);
    ContainerInstance {
        running_for_ms: mark(one.running_for_ms),
        healthy_for_ms: mark(one.healthy_for_ms),
        message: one.message.as_deref().map(timeless),
        ..one
    }
}

/// What was told is what is.
fn same<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    told: &BTreeMap<K, V>,
    is: &BTreeMap<K, V>,
) {
    for id in told.keys().chain(is.keys()) {
        assert_eq!(told.get(id), is.get(id), "{what} {id:?}: told, and what is");
    }
}

/// Somebody who reads.
#[derive(Debug)]
pub struct Reader {
    seen: Snapshot,
    scope: Scope,
    picture: Picture,
}

fn picture_of(snapshot: &Snapshot, scope: &Scope) -> Picture {
    Picture::of(snapshot.cluster(scope, None), snapshot.state.next_event.saturating_sub(1))
}

impl Reader {
    /// Begins with everything, or with at most so many instances.
    pub fn start(snapshot: Snapshot, most: usize) -> Self {
        let scope = Scope::of(&snapshot, most);
        let picture = picture_of(&snapshot, &scope);
        assert!(picture.instances.len() <= most, "{} told", picture.instances.len());
        Self { seen: snapshot, scope, picture }
    }

    /// Is told what has changed, and knows what it would if it asked anew.
    pub fn follow(&mut self, snapshot: Snapshot) {
        if snapshot.state.epoch != self.seen.state.epoch {
            // Another life of the scheduler: its stream broke off.
            *self = Self::start(snapshot, usize::MAX);
            return;
        }
        self.picture.apply(snapshot.changes_since(&self.seen, &self.scope));
        let anew = picture_of(&snapshot, &self.scope);
        assert_eq!(self.picture.last, anew.last, "the last event");
        same("node", &self.picture.nodes, &anew.nodes);
        same("instance", &self.picture.instances, &anew.instances);
        same("workload", &self.picture.workloads, &anew.workloads);
        let still = snapshot.changes_since(&snapshot, &self.scope);
        assert_eq!(still, ChangesView::default(), "nothing has changed since just now");
        self.seen = snapshot;
    }
}
