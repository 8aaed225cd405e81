//! Planned maintenance: nodes that get nothing new, are emptied, or are removed
//! (DESIGN section 6).

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use super::core::Core;
use super::message::Noted;
use super::state::{Done, Node};
use crate::model::view::NodeStatus;
use crate::model::{ApiError, InstanceId, NodeId, RestartPolicy};

impl Core {
    /// Forgets a node and everything on it, in one step.
    pub(super) fn remove_node(&mut self, by: &str, id: &NodeId) -> Result<Noted, ApiError> {
        let node = self.known_node(id)?;
        if node.status == NodeStatus::Alive {
            return Err(ApiError::conflict(format!(
                "node {id} is alive; stop its agent first, then remove it once it is dead ({} s)",
                self.timing.dead_after_ms / 1000
            )));
        }
        if self.state.awaited.contains(id) {
            return Err(ApiError::conflict(format!(
                "the scheduler has just started and does not know yet whether node {id} is alive; \
                 ask again in {} s",
                self.timing.dead_after_ms / 1000
            )));
        }
        let left = self.may_run_on(&node);
        for instance in &node.instances {
            self.give_up_on(instance);
            self.forget_instance(instance);
        }
        self.state.nodes.remove(id);
        self.record_node(id);
        let also = left.as_ref().map(|left| format!("; {left}")).unwrap_or_default();
        self.note_node(id, "NodeRemoved", format!("{by} removed node {id}{also}"));
        self.node_answered_for(id);
        self.review_mass_loss();
        Ok(Noted { unchanged: false, warnings: left.into_iter().collect() })
    }

    /// What may go on running on a node of which nothing more is heard; `None` when
    /// it was heard to be empty.
    fn may_run_on(&self, node: &Node) -> Option<String> {
        const NAMED: usize = 5;
        let left: Vec<&str> = node
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|instance| !instance.is_over())
            .map(|instance| instance.id.as_str())
            .collect();
        let what = match left.as_slice() {
            [] if node.heard => return None,
            [] => "it was not heard what runs there, which".to_owned(),
            [only] => format!("{only}, which"),
            _ => {
                let named = left.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
                let more = if left.len() > NAMED { ", …" } else { "" };
                format!("{} instances ({named}{more}), which", left.len())
            }
        };
        let id = &node.id;
        Some(format!(
            "node {id} was not heard to be empty: {what} may run on there, beside what replaces it. \
             An agent that comes back there under this node id reports it, and it is counted again or \
             stopped; without one, stop it on that machine by hand: docker ps --filter \
             label=kube-lite.node={id}"
        ))
    }

    /// An instance whose node is removed for good: where the policy is never to
    /// run it again, that was its one run.
    fn give_up_on(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        let (name, number) = (&instance.workload, instance.replica);
        let Some(workload) = self.state.workloads.get(name).cloned() else { return };
        let Some(replica) = workload.replicas.get(&number) else { return };
        let alone = replica.instances.iter().all(|other| other == id);
        if instance.seen.is_none()
            || instance.is_over()
            || !replica.instances.contains(id)
            || !alone
            || workload.restart_policy(instance.revision) != RestartPolicy::Never
        {
            return;
        }
        let done = Done { revision: instance.revision, exit_code: None, instance: id.clone() };
        self.edit_replica(name, number, |replica| replica.done = Some(done));
        self.record_replica(name, number);
        let message = format!("replica {number} of {name} is done: its node was removed");
        self.note_instance(&instance, "ReplicaDone", message);
    }

    /// Allows or forbids new instances on a node.
    pub(super) fn set_schedulable(
        &mut self,
        by: &str,
        id: &NodeId,
        wanted: bool,
    ) -> Result<Noted, ApiError> {
        let node = self.known_node(id)?;
        let changes = node.schedulable != wanted || (wanted && node.draining);
        if changes {
            self.edit_node(id, |node| {
                node.schedulable = wanted;
                node.draining &= !wanted;
            });
            self.look_at_replicas_on(id);
            self.record_node(id);
            let (kind, message) = if wanted {
                ("NodeUncordoned", format!("{by} uncordoned node {id}: it may get new instances"))
            } else {
                (
                    "NodeCordoned",
                    format!("{by} cordoned node {id}: nothing new comes, what runs stays"),
                )
            };
            self.note_node(id, kind, message);
        }
        Ok(Noted::changed(changes))
    }

    /// Moves everything off a node: replacements are started elsewhere, and what
    /// they replace goes when they are ready. It gets nothing new meanwhile and
    /// afterwards, until it is uncordoned.
    pub(super) fn drain(&mut self, by: &str, id: &NodeId) -> Result<Noted, ApiError> {
        let node = self.known_node(id)?;
        let changes = !node.draining || node.schedulable;
        if changes {
            self.edit_node(id, |node| {
                node.schedulable = false;
                node.draining = true;
            });
            self.record_node(id);
            let message = format!(
                "{by} drains node {id}: {} instance(s) move elsewhere, nothing new comes",
                node.placed
            );
            self.note_node(id, "NodeDraining", message);
            self.look_at_replicas_on(id);
        }
        Ok(Noted::changed(changes))
    }

    fn look_at_replicas_on(&mut self, id: &NodeId) {
        let Some(node) = self.state.nodes.get(id) else { return };
        let replicas: Vec<_> = node
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .map(|i| (i.workload.clone(), i.replica))
            .collect();
        self.agenda.replicas.extend(replicas);
    }

    fn known_node(&self, id: &NodeId) -> Result<Arc<Node>, ApiError> {
        self.state.nodes.get(id).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.state.nodes.keys().take(10).map(NodeId::as_str).collect();
            ApiError::not_found(format!(
                "there is no node {:?}; known are: {}",
                id.as_str(),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            ))
        })
    }
}
