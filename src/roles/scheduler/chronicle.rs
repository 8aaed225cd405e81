//! What happened and why: every decision leaves one sentence in a bounded ring
//! that readers can follow.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use super::core::Core;
use super::state::{Instance, Seen};
use crate::model::view::EventView;
use crate::model::wall::rfc3339;
use crate::model::{Health, InstanceId, NodeId, Phase, Reason, WorkloadId};

impl Core {
    /// Something about the cluster as a whole.
    pub(super) fn note(&mut self, kind: &str, message: String) {
        self.append(kind, None, None, None, message);
    }

    /// Something about a node.
    pub(super) fn note_node(&mut self, node: &NodeId, kind: &str, message: String) {
        self.append(kind, None, Some(node.clone()), None, message);
    }

    /// Something about a workload.
    pub(super) fn note_workload(&mut self, workload: &WorkloadId, kind: &str, message: String) {
        self.append(kind, Some(workload.clone()), None, None, message);
    }

    /// Something about an instance.
    pub(super) fn note_instance(&mut self, instance: &Instance, kind: &str, message: String) {
        self.append(
            kind,
            Some(instance.workload.clone()),
            Some(instance.node.clone()),
            Some(instance.id.clone()),
            message,
        );
    }

    /// The last container of a deleted workload is gone.
    pub(super) fn note_workload_gone(&mut self, name: &WorkloadId) {
        self.note_workload(name, "WorkloadGone", format!("all containers of {name} are gone"));
    }

    /// The scheduler itself did not run for a while.
    pub(super) fn note_pause(&mut self, gap_ms: u64) {
        self.note(
            "SchedulerPaused",
            format!(
                "the scheduler itself did not run for {:.1} s; no node is held to account for it",
                gap_ms as f64 / 1000.0
            ),
        );
    }

    /// An instance became ready.
    pub(super) fn note_ready(&mut self, id: &InstanceId) {
        if let Some(instance) = self.state.instances.get(id).cloned() {
            let message = format!("{id} on {} is ready", instance.node);
            self.note_instance(&instance, "InstanceReady", message);
        }
    }

    /// What a report changed, in words.
    pub(super) fn note_progress(&mut self, before: &Instance, new: &Seen) {
        let (id, node, old) = (&before.id, &before.node, before.seen.as_ref());
        let old_phase = old.map(|s| s.phase);
        if old_phase != Some(new.phase) {
            let (kind, message) = match new.phase {
                Phase::Pending => ("InstanceQueued", format!("{node} has noted {id}")),
                Phase::Pulling => {
                    ("InstancePulling", format!("{node} is pulling the image of {id}"))
                }
                Phase::Created => ("InstanceCreated", format!("{id} was created on {node}")),
                Phase::Running => ("InstanceRunning", format!("{id} runs on {node}")),
                Phase::Exited => (
                    "InstanceExited",
                    format!("{id} on {node} exited with code {}", new.exit_code.unwrap_or(-1)),
                ),
                Phase::Failed => (
                    "InstanceFailed",
                    format!(
                        "{id} on {node} failed: {}",
                        new.message.as_deref().unwrap_or("no reason given")
                    ),
                ),
            };
            self.note_instance(before, kind, message);
        }
        if new.reason != old.and_then(|s| s.reason) && new.reason == Some(Reason::PullFailed) {
            let said = new.message.as_deref().unwrap_or("it will be tried again");
            let message = format!("the image of {id} was not pulled on {node}: {said}");
            self.note_instance(before, "InstancePullFailed", message);
        }
        let was = old.map_or(Health::Unknown, |s| s.health);
        if was != new.health && new.health == Health::Unhealthy {
            let said = new.message.as_deref().unwrap_or("its probe fails");
            let message = format!("{id} on {node} is unhealthy: {said}");
            self.note_instance(before, "InstanceUnhealthy", message);
        }
        if was == Health::Unhealthy && new.health == Health::Healthy {
            let message = format!("{id} on {node} is healthy again");
            self.note_instance(before, "InstanceHealthy", message);
        }
    }

    fn append(
        &mut self,
        kind: &str,
        workload: Option<WorkloadId>,
        node: Option<NodeId>,
        instance: Option<InstanceId>,
        message: String,
    ) {
        let event = EventView {
            seq: self.state.next_event,
            at: rfc3339(self.state.wall),
            kind: kind.to_owned(),
            workload,
            node,
            instance,
            message,
        };
        self.state.next_event += 1;
        self.state.ring.push_back(Arc::new(event.clone()));
        while self.state.ring.len() > self.timing.events_kept {
            self.state.ring.pop_front();
        }
        self.out.events.push(event);
    }
}
