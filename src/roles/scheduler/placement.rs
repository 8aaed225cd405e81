//! Where a new instance goes. Not where there was no room a moment ago, if there is
//! anywhere else. Spreads: fewest replicas of the same workload on
//! the node and on its Docker daemon, then fewest instances, then by name.
//! Every refusal is counted and can be shown.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use super::state::{Node, State};
use crate::model::view::NodeStatus;
use crate::model::wire::DockerState;
use crate::model::{DaemonId, InstanceId, NodeId, Protocol, WorkloadId};

/// How good a node is; the smallest is taken. The order of the fields is the
/// policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    lately_short: bool,
    same_workload_on_node: u32,
    same_workload_on_daemon: u32,
    instances_on_node: u32,
    id: NodeId,
}

/// Why a node was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It is dead, or not heard since the scheduler started.
    NotAlive,
    /// It has registered and not yet said what it has.
    NotReported,
    /// Its Docker does not answer.
    NoDocker,
    /// It is heard, but does not answer orders.
    Unreachable,
    /// It was cordoned.
    Cordoned,
    /// It is being drained.
    Draining,
    /// A host port that was asked for is taken on its Docker daemon.
    PortTaken(u16),
}

/// Why all nodes were refused, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// How many nodes there are.
    pub total: usize,
    counts: BTreeMap<Refusal, usize>,
    /// Who has a port that was asked for: one of ours.
    holders: BTreeMap<u16, InstanceId>,
}

impl Refusals {
    fn count(&mut self, refusal: Refusal) {
        *self.counts.entry(refusal).or_insert(0) += 1;
    }

    /// Whether nothing but taken ports stands in the way.
    pub fn only_ports(&self) -> bool {
        self.counts.keys().any(|r| matches!(r, Refusal::PortTaken(_)))
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} node(s) can take it: ", self.total)?;
        let mut first = true;
        for (refusal, count) in &self.counts {
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            match refusal {
                Refusal::NotAlive => write!(f, "{count} not alive")?,
                Refusal::NotReported => write!(f, "{count} not reported yet")?,
                Refusal::NoDocker => write!(f, "{count} whose Docker does not answer")?,
                Refusal::Unreachable => {
                    write!(f, "{count} heard but not answering orders (is --advertise right?)")?;
                }
                Refusal::Cordoned => write!(f, "{count} cordoned")?,
                Refusal::Draining => write!(f, "{count} being drained")?,
                Refusal::PortTaken(port) => {
                    write!(f, "{count} on a Docker daemon where host port {port} is taken")?;
                    if let Some(holder) = self.holders.get(port) {
                        write!(f, " by {holder}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Places several instances of one workload in one pass.
pub struct Placer {
    workload: WorkloadId,
    /// An instance that will be gone: its ports count as free.
    in_place_of: Option<InstanceId>,
    /// All nodes by how good they are; not made for what goes back to its own.
    ranking: Option<Ranking>,
}

/// All nodes by how good they are for one workload. Scores only grow while it is
/// placed, so a heap whose top is checked again when taken is always right.
struct Ranking {
    heap: BinaryHeap<Reverse<Score>>,
    on_daemon: BTreeMap<DaemonId, u32>,
    /// Daemons that lately had no room, or that never got to it.
    short: BTreeSet<DaemonId>,
}

impl Ranking {
    fn new(state: &State, workload: &WorkloadId) -> Self {
        let mut on_daemon: BTreeMap<DaemonId, u32> = BTreeMap::new();
        if let Some(cohort) = state.cohorts.get(workload) {
            for (node, count) in &cohort.per_node {
                if let Some(node) = state.nodes.get(node) {
                    *on_daemon.entry(node.daemon()).or_insert(0) += count;
                }
            }
        }
        let lately = state.nodes.values().filter(|n| n.short_until > state.now);
        let short = lately.map(|n| n.daemon()).collect();
        let mut ranking = Self { heap: BinaryHeap::new(), on_daemon, short };
        let nodes = state.nodes.values().filter(|n| n.able() && n.schedulable && !n.draining);
        let scores = nodes.map(|n| Reverse(ranking.score(state, workload, n)));
        ranking.heap = scores.collect();
        ranking
    }

    fn score(&self, state: &State, workload: &WorkloadId, node: &Node) -> Score {
        let on_node = state.cohorts.get(workload).and_then(|c| c.per_node.get(&node.id));
        let daemon = node.daemon();
        Score {
            lately_short: self.short.contains(&daemon),
            same_workload_on_node: on_node.copied().unwrap_or(0),
            same_workload_on_daemon: self.on_daemon.get(&daemon).copied().unwrap_or(0),
            instances_on_node: node.placed,
            id: node.id.clone(),
        }
    }

    /// The best node that will do.
    fn best(
        &mut self,
        state: &State,
        workload: &WorkloadId,
        will_do: impl Fn(&Node) -> bool,
    ) -> Option<NodeId> {
        let mut passed_over = Vec::new();
        let mut found = None;
        while let Some(Reverse(score)) = self.heap.pop() {
            let Some(node) = state.nodes.get(&score.id) else { continue };
            let current = self.score(state, workload, node);
            if current > score {
                self.heap.push(Reverse(current));
                continue;
            }
            passed_over.push(Reverse(current));
            if will_do(node) {
                found = Some(node.id.clone());
                break;
            }
        }
        self.heap.extend(passed_over);
        found
    }
}

impl Placer {
    /// Places this workload's instances.
    pub fn new(workload: &WorkloadId) -> Self {
        Self { workload: workload.clone(), in_place_of: None, ranking: None }
    }

    /// The same for something that is started only once `id` is gone.
    pub fn in_place_of(self, id: &InstanceId) -> Self {
        Self { in_place_of: Some(id.clone()), ..self }
    }

    /// The best node on which these host ports are free. `pin` is taken if it is
    /// able, cordoned or not: a restart in place is nothing new there.
    pub fn place(
        &mut self,
        state: &State,
        ports: &[(u16, Protocol)],
        pin: Option<&NodeId>,
    ) -> Result<NodeId, Refusals> {
        if let Some(node) = pin.and_then(|id| state.nodes.get(id))
            && node.able()
            && !node.draining
            && self.taken_port(state, node, ports).is_none()
        {
            return Ok(self.taken(node));
        }
        let mut ranking = match self.ranking.take() {
            Some(ranking) => ranking,
            None => Ranking::new(state, &self.workload),
        };
        let is_free = |node: &Node| self.taken_port(state, node, ports).is_none();
        let found = ranking.best(state, &self.workload, is_free);
        self.ranking = Some(ranking);
        match found.and_then(|id| state.nodes.get(&id)) {
            Some(node) => Ok(self.taken(node)),
            None => Err(self.refusals(state, ports)),
        }
    }

    /// What is placed counts on its daemon at once; what was placed before there was
    /// a ranking is in the state by now.
    fn taken(&mut self, node: &Node) -> NodeId {
        if let Some(ranking) = &mut self.ranking {
            *ranking.on_daemon.entry(node.daemon()).or_insert(0) += 1;
        }
        node.id.clone()
    }

    /// The first of these ports that somebody has there, and who.
    fn taken_port(
        &self,
        state: &State,
        node: &Node,
        ports: &[(u16, Protocol)],
    ) -> Option<(u16, InstanceId)> {
        if ports.is_empty() {
            return None;
        }
        let daemon = node.daemon();
        ports.iter().find_map(|(port, protocol)| {
            let mut holders = state.port_holders(&daemon, *port, *protocol);
            let holder = holders.find(|holder| self.in_place_of.as_ref() != Some(&holder.id))?;
            Some((*port, holder.id.clone()))
        })
    }

    fn refusals(&self, state: &State, ports: &[(u16, Protocol)]) -> Refusals {
        let mut refusals = Refusals { total: state.nodes.len(), ..Refusals::default() };
        for node in state.nodes.values() {
            if let Some(refusal) = refusal(node) {
                refusals.count(refusal);
            } else if let Some((port, holder)) = self.taken_port(state, node, ports) {
                refusals.count(Refusal::PortTaken(port));
                refusals.holders.entry(port).or_insert(holder);
            }
        }
        refusals
    }
}

/// Why nothing new can go to this node, whatever it is.
pub fn refusal(node: &Node) -> Option<Refusal> {
    if node.status != NodeStatus::Alive || node.incarnation == 0 {
        Some(Refusal::NotAlive)
    } else if node.docker.state != DockerState::Ok {
        Some(Refusal::NoDocker)
    } else if !node.synced || node.lost {
        Some(Refusal::NotReported)
    } else if node.unreachable {
        Some(Refusal::Unreachable)
    } else if node.draining {
        Some(Refusal::Draining)
    } else if !node.schedulable {
        Some(Refusal::Cordoned)
    } else {
        None
    }
}
