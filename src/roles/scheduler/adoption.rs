//! Adoption: what agents report and nobody here has ordered, after a restart or
//! because an agent went on by itself, becomes known again.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::Core;
use super::intake::seen;
use super::state::{Delivery, Instance, Share, Stop, StopCause};
use crate::model::{ContainerInstance, Phase, WorkloadId};
use crate::planted::{Fault, planted};

impl Core {
    /// A container with our labels that nobody here knows: found after a
    /// restart, or a successor that its agent started by itself. Whether it may
    /// stay is decided when its workload is looked at.
    pub(super) fn adopt(&mut self, report: ContainerInstance) {
        let id = report.id.clone();
        let now = self.state.now;
        let stop_at_once = match self.state.workloads.get(&report.workload_id) {
            None if planted(Fault::LeftoversStay) => None,
            None => Some(StopCause::Deleted),
            Some(w) if !w.revisions.contains_key(&report.revision) => {
                Some(StopCause::UnknownRevision)
            }
            Some(_) => None,
        };
        if stop_at_once.is_some() {
            self.keep_number(&report.workload_id, report.revision);
        }
        let incarnation = self.state.nodes.get(&report.node_id).map_or(0, |n| n.incarnation);
        let asked = report.asked_ports.clone();
        let runs = report.phase == Phase::Running;
        let stop = match stop_at_once {
            Some(cause) => Some((cause, Delivery::Due(0))),
            None if report.stopping && !report.phase.is_final() => {
                Some((StopCause::AlreadyStopping, Delivery::Accepted { incarnation, seq: 0 }))
            }
            None => None,
        };
        let instance = Instance {
            id: id.clone(),
            workload: report.workload_id.clone(),
            replica: report.replica,
            revision: report.revision,
            node: report.node_id.clone(),
            replaces: report.replaces.clone(),
            after: report.after.clone(),
            restarts: report.restarts,
            step: report.backoff_step,
            binds_asked_ports: !report.asked_ports.is_empty(),
            holds_ports: false,
            since: now.saturating_sub(report.running_for_ms.unwrap_or(0)),
            run: Delivery::Confirmed,
            stop: stop
                .map(|(cause, delivery)| Stop { cause, since: now, drain_ms: 0, delivery }.into()),
            seen: Some(seen(report, now)),
            ready: false,
            proven_in: None,
            // It may have been ready for long before it was found.
            last_ready: runs.then_some(now),
            share: Share::default(),
        };
        let over = instance.is_over();
        let message = match stop_at_once {
            Some(cause) => format!("{id} was found and is removed: {}", cause.because()),
            None => format!("{id} was found on {} and adopted", instance.node),
        };
        self.note_instance(&instance, "InstanceAdopted", message);
        let (workload, number) = (instance.workload.clone(), instance.replica);
        self.insert_instance(instance.clone());
        self.claim_asked_ports(&id, &asked);
        if stop_at_once.is_some() {
            self.agenda.orders.insert(id);
            return;
        }
        if over {
            // While others may still report the successor, nothing follows from it.
            let recovering =
                self.state.workloads.get(&workload).is_some_and(|w| self.state.is_recovering(w));
            if !recovering {
                self.adopted_over(&instance);
            }
            return;
        }
        if instance.phase() < Phase::Created && self.is_taken_by_another(&workload, number) {
            // An order that was withdrawn, and taken all the same: its turn is over.
            self.stop_instance(&id, StopCause::Excess);
        }
        self.edit_replica(&workload, number, |replica| {
            replica.instances.push(id.clone());
            replica.unaccounted = false;
            // Its agent may have restarted it by itself meanwhile.
            replica.restarts = replica.restarts.max(instance.restarts);
            replica.step = replica.step.max(instance.step);
            if replica.pin.as_ref().is_some_and(|pin| *pin != instance.node) {
                replica.pin = None;
            }
        });
    }

    /// Whether a replica has a live instance, as far as can be told by now.
    fn is_taken_by_another(&self, name: &WorkloadId, number: u32) -> bool {
        let Some(workload) = self.state.workloads.get(name) else { return false };
        let replica = workload.replicas.get(&number);
        !self.state.is_recovering(workload)
            && replica.is_some_and(|replica| self.live_in(replica).next().is_some())
    }

    /// All nodes have reported: what was found dead is judged now, in the order
    /// in which it lived.
    pub(super) fn judge_adopted_ends(&mut self) {
        let mut over: Vec<_> = self
            .state
            .instances
            .values()
            .filter(|i| i.is_over() && i.stop.is_none())
            .cloned()
            .collect();
        over.sort_by_key(|i| (i.restarts, i.since));
        for instance in over {
            let old = self.state.workloads.get(&instance.workload);
            if old.is_some_and(|w| w.born_epoch != self.state.epoch) {
                self.adopted_over(&instance);
            }
        }
    }

    /// An adopted instance that has already ended: if its replica has not moved
    /// on since, this is news, and judged like any end.
    pub(super) fn adopted_over(&mut self, instance: &Instance) {
        let Some(workload) = self.state.workloads.get(&instance.workload) else { return };
        let Some(replica) = workload.replicas.get(&instance.replica) else { return };
        let known = replica.last_failure.as_ref().is_some_and(|f| f.instance == instance.id);
        let is_left = ![replica.revision, workload.head()].contains(&instance.revision);
        let moved_on = known
            || is_left
            || replica.done.is_some()
            || replica.restarts > instance.restarts
            || !replica.instances.is_empty();
        if !moved_on {
            self.judge_end(instance);
        }
    }
}
