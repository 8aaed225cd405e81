//! Delivery of orders: made from what is intended, sent until answered,
//! repeated with the same id. Retrying is always safe.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use smallvec::SmallVec;

use super::core::{Core, Deadline};
use super::message::{Order, OrderAnswer, OrderBody, OrderKind};
use super::state::{ContainerId, Delivery, Instance, Remark, Seen};
use crate::model::view::NodeStatus;
use crate::model::wire::{Fence, RunOrder, order_version};
use crate::model::{ApiError, InstanceId, NodeId, Phase, PortMapping, Reason};
use crate::planted::{Fault, planted};

impl Core {
    /// Sends what is due. Orders for nodes that cannot be reached wait for them:
    /// registering marks them again.
    pub(super) fn send_orders(&mut self) {
        while self.agenda.traffic.has_room()
            && let Some(id) = self.agenda.orders.pop_first()
        {
            self.send_order(&id);
        }
    }

    fn send_order(&mut self, id: &InstanceId) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        let Some(node) = self.state.nodes.get(&instance.node).cloned() else { return };
        if node.incarnation == 0 || node.status != NodeStatus::Alive {
            return;
        }
        let now = self.state.now;
        let delivery = match &instance.stop {
            Some(stop) => stop.delivery,
            None => instance.run,
        };
        let due = match delivery {
            Delivery::Due(at) => at,
            Delivery::Sent { overdue_at, incarnation } => {
                if incarnation != node.incarnation && instance.stop.is_none() {
                    // The former life may have noted it; the first snapshot of
                    // this one tells.
                    return;
                }
                overdue_at
            }
            Delivery::Accepted { .. } | Delivery::Confirmed => return,
        };
        if due > now {
            self.agenda.deadlines.insert((due, Deadline::Order(id.clone())));
            return;
        }
        let kind = if instance.stop.is_some() { OrderKind::Stop } else { OrderKind::Run };
        if !self.agenda.traffic.lets_go(&node.id, id, kind) {
            return;
        }
        let body = match &instance.stop {
            Some(stop) => OrderBody::Stop {
                id: id.clone(),
                drain_ms: stop.drain_ms,
                why: stop.cause.because().to_owned(),
            },
            None => match self.run_order(&instance) {
                Some(order) => OrderBody::Run(Box::new(order)),
                None => {
                    let again = self.agenda.traffic.answered(&node.id, id, kind);
                    self.agenda.orders.extend(again);
                    return;
                }
            },
        };
        let overdue_at = now + self.timing.order_timeout_ms + self.timing.order_retry_ms;
        let sent = Delivery::Sent { incarnation: node.incarnation, overdue_at };
        self.set_delivery(id, instance.stop.is_some(), sent);
        self.agenda.deadlines.insert((overdue_at, Deadline::Order(id.clone())));
        self.out.orders.push(Order {
            address: node.address.clone(),
            fence: Fence {
                cluster: self.state.cluster.clone(),
                node: node.id.clone(),
                incarnation: node.incarnation,
                epoch: self.state.epoch,
            },
            body,
        });
    }

    /// The order for an instance, the same each time it is asked for; only what it
    /// is to follow is left out once that is gone.
    fn run_order(&self, instance: &Instance) -> Option<RunOrder> {
        let workload = self.state.workloads.get(&instance.workload)?;
        let mut template = Arc::clone(&workload.revisions.get(&instance.revision)?.template);
        let is_left = |port: &PortMapping| port.host_port != 0 && !port.fixed;
        if !instance.binds_asked_ports && template.ports.iter().any(is_left) {
            let ports = Arc::make_mut(&mut template).ports.iter_mut();
            ports.filter(|port| is_left(port)).for_each(|port| port.host_port = 0);
        }
        Some(RunOrder {
            v: order_version(),
            id: instance.id.clone(),
            replaces: instance.replaces.clone(),
            after: instance.after.clone().filter(|_| self.state.waits_for_predecessor(instance)),
            workload: instance.workload.clone(),
            revision: instance.revision,
            replica: instance.replica,
            restarts: instance.restarts,
            backoff_step: instance.step,
            template,
        })
    }

    fn set_delivery(&mut self, id: &InstanceId, is_stop: bool, delivery: Delivery) {
        self.touch(id, |instance| match &mut instance.stop {
            Some(stop) if is_stop => stop.delivery = delivery,
            _ if is_stop => {}
            // A snapshot may have confirmed it before its answer came.
            _ if instance.run != Delivery::Confirmed => instance.run = delivery,
            _ => {}
        });
    }

    /// An order was answered, or was not.
    pub(super) fn order_answered(
        &mut self,
        node: &NodeId,
        id: &InstanceId,
        kind: OrderKind,
        incarnation: u64,
        answer: OrderAnswer,
    ) {
        let again = self.agenda.traffic.answered(node, id, kind);
        self.agenda.orders.extend(again);
        if self.state.nodes.get(node).is_some_and(|n| n.incarnation == incarnation) {
            self.note_reachable(node, !matches!(answer, OrderAnswer::Unanswered(_)));
        }
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        if instance.node != *node {
            return;
        }
        let is_stop = kind == OrderKind::Stop;
        let delivery = match (&instance.stop, is_stop) {
            (Some(stop), true) => stop.delivery,
            (None, true) => return,
            (_, false) => instance.run,
        };
        let Delivery::Sent { incarnation: sent_to, .. } = delivery else { return };
        if sent_to != incarnation {
            return;
        }
        let retry = Delivery::Due(self.state.now + self.timing.order_retry_ms);
        match answer {
            OrderAnswer::Accepted(accepted) if accepted.id != *id && !is_stop => {
                self.answered_by_successor(&instance, &accepted.id);
            }
            OrderAnswer::Accepted(accepted) => {
                // What it says to an order that it knew is in its next report at the
                // earliest.
                let heard = self.state.nodes.get(node).map_or(0, |node| node.seq);
                let seq = accepted.seq.max(heard);
                let noted = Delivery::Accepted { incarnation: accepted.incarnation, seq };
                self.set_delivery(id, is_stop, noted);
            }
            OrderAnswer::Unanswered(_) if !is_stop && planted(Fault::RetryMakesNewId) => {
                self.withdraw(id, "it was not answered");
            }
            OrderAnswer::Unanswered(_) => {
                self.set_delivery(id, is_stop, retry);
                self.agenda.orders.insert(id.clone());
            }
            OrderAnswer::Refused(error) => self.order_refused(&instance, is_stop, error, retry),
        }
    }

    /// The agent, cut off for a while, had already started a successor by
    /// itself; the snapshot that lists it makes it known.
    fn answered_by_successor(&mut self, instance: &Instance, successor: &InstanceId) {
        self.note_instance(
            instance,
            "InstanceWithdrawn",
            format!("{} was not needed: {successor} already runs in its place", instance.id),
        );
        let (name, number) = (instance.workload.clone(), instance.replica);
        let id = instance.id.clone();
        if let Some(known) = self.state.instances.get(successor).cloned() {
            self.forget_instance(&id);
            // It was found while this order was on its way to take over from an earlier
            // one: whatever comes next takes over from it.
            self.edit_replica(&name, number, |r| r.follows = Some(successor.clone()));
            if known.is_over() && known.stop.is_none() {
                self.adopted_over(&known);
            }
            return;
        }
        // Nothing is started in its place before the snapshot arrives.
        self.forget_instance(&id);
        let at = self.state.now + self.timing.heartbeat_ms;
        self.edit_replica(&name, number, |replica| replica.not_before = Some(at));
        self.look_at_replica_at(at, &name, number);
    }

    fn order_refused(
        &mut self,
        instance: &Instance,
        is_stop: bool,
        error: ApiError,
        retry: Delivery,
    ) {
        let id = &instance.id;
        if !is_stop && error.reason == "Stopped" && instance.stop.is_some() {
            // Its stop has overtaken it, and tells when it is gone.
            return;
        }
        let final_word = matches!(error.reason.as_str(), "Stopped" | "Conflict")
            || (error.status == 400 || error.status == 413 || error.status == 422);
        if is_stop || !final_word {
            // A stale fence ends with the next registration, busy with time.
            self.set_delivery(id, is_stop, retry);
            self.agenda.orders.insert(id.clone());
            return;
        }
        self.note_instance(
            instance,
            "OrderRefused",
            format!("node {} refused to run {id}: {}", instance.node, error.error),
        );
        if error.reason == "Stopped" {
            self.forget_instance(id);
            return;
        }
        let message = format!("its node refused the order: {}", error.error);
        self.fail_start(instance, Reason::Refused, message);
    }

    /// A start came to nothing on the way: a failure of its replica like any
    /// other, with nothing left behind.
    pub(super) fn fail_start(&mut self, instance: &Instance, reason: Reason, message: String) {
        let mut failed = instance.clone();
        failed.seen = Some(Seen {
            container_id: ContainerId::none(),
            phase: Phase::Failed,
            health: crate::model::Health::Unknown,
            ip: None,
            ports: SmallVec::new(),
            started_wall: None,
            running_since: None,
            healthy_since: None,
            restart_due: false,
            stopping: false,
            remark: Remark { reason: Some(reason), message: Some(message), ..Remark::default() }
                .boxed(),
        });
        self.touch(&instance.id, |i| i.seen = failed.seen.clone());
        self.instance_ended(&failed);
        self.forget_instance(&instance.id);
    }
}
