//! What holds in the long run, looked at now and then.

use std::collections::BTreeSet;

use kube_lite::model::{InstanceId, NodeId};
use kube_lite::roles::scheduler::views::Snapshot;

use crate::clock::Time;
use crate::world::World;

/// Whatever a node has in it that stays unknown for so long, although complete
/// snapshots came all the while, is nobody's.
const KNOWN_WITHIN_MS: u64 = 40_000;
/// An order that is not confirmed for so long, although complete snapshots came
/// all the while, is pending for ever.
const CONFIRMED_WITHIN_MS: u64 = 90_000;

impl super::Judge {
    /// Since when complete snapshots of a node have come without a gap, if they
    /// still do.
    fn steady_since(&self, node: &NodeId, now: Time) -> Option<Time> {
        let steady = self.view.steady.get(node)?;
        (steady.last + super::scheduler::GAP_MS >= now).then_some(steady.since)
    }
}

impl World {
    /// A round.
    pub fn judge_round(&mut self) {
        let Some(state) = self.scheduler.state().cloned() else { return };
        self.judge.check_promises(&state);
        self.judge_reasons();
        self.judge_orphans();
        self.judge_pending();
        self.judge_endpoints();
    }

    /// DESIGN 7.6: whatever does not run has a reason.
    fn judge_reasons(&mut self) {
        let decides = self.scheduler.process.as_ref().is_some_and(|process| process.decides);
        let Some(state) = self.scheduler.state().filter(|_| decides) else { return };
        let snapshot = Snapshot { state: state.clone(), now: state.now };
        let mut objections = Vec::new();
        for (name, workload) in &state.workloads {
            let reasons = snapshot.reasons(name, workload);
            let there = state.tally(name).ready + workload.done.len() as u32;
            if there < workload.desired() && reasons.is_empty() {
                objections.push(format!(
                    "{name} has {there} of {} and no reason: missing {:?}, resting {:?}",
                    workload.desired(),
                    workload.missing,
                    workload.resting
                ));
            }
            objections.extend(
                reasons
                    .iter()
                    .filter(|why| why.message.is_empty())
                    .map(|why| format!("{name}: a reason without a sentence: {why:?}")),
            );
        }
        for (id, instance) in &state.instances {
            if !instance.ready && snapshot.why(instance).is_none() {
                objections.push(format!("{id} is not ready and nobody says why: {instance:?}"));
            }
        }
        for text in objections {
            self.judge.object("6 reason", text);
        }
    }

    /// DESIGN 7.5: what carries our labels on a node that reports completely
    /// belongs to a known instance; what is nobody's is known as that to its
    /// agent, or was not there for long.
    fn judge_orphans(&mut self) {
        let Some(state) = self.scheduler.state() else { return };
        let now = self.now;
        let mut objections = Vec::new();
        for machine in &self.machines {
            let steady = self.judge.steady_since(&machine.node, now);
            let Some(process) = &machine.agent else { continue };
            let Some(node) = state.nodes.get(&machine.node) else { continue };
            if steady.is_none_or(|since| since + KNOWN_WITHIN_MS > now)
                || node.incarnation != process.incarnation
                || self.daemons[machine.daemon].fails.any()
            {
                continue;
            }
            for container in self.daemons[machine.daemon].containers.values() {
                let settled = container.changed_at + KNOWN_WITHIN_MS <= now;
                if container.node == machine.node
                    && settled
                    && !state.instances.contains_key(&container.instance)
                {
                    objections.push(format!(
                        "{} on {} is known to nobody; its agent says {:?}",
                        container.instance,
                        machine.node,
                        process.core.find(container.instance.as_str()).map(|told| told.phase)
                    ));
                }
            }
        }
        for text in objections {
            self.judge.object("5 orphan", text);
        }
    }

    /// DESIGN 7.6: pending always ends.
    fn judge_pending(&mut self) {
        let Some(state) = self.scheduler.state() else { return };
        let now = self.now;
        let mut objections = Vec::new();
        for (id, instance) in &state.instances {
            let unconfirmed = instance.seen.is_none()
                && state.now.saturating_sub(instance.since) > CONFIRMED_WITHIN_MS;
            let steady = self.judge.steady_since(&instance.node, now);
            if unconfirmed && steady.is_some_and(|since| since + CONFIRMED_WITHIN_MS <= now) {
                objections.push(format!("{id} is pending for ever: {instance:?}"));
            }
        }
        for text in objections {
            self.judge.object("6 pending", text);
        }
    }

    /// Readers are sent only to what is ready and not being stopped, each once,
    /// and see nothing that is not durable.
    fn judge_endpoints(&mut self) {
        let Some(process) = &self.scheduler.process else { return };
        let published = &process.published;
        let snapshot = Snapshot { state: published.clone(), now: published.now };
        let mut objections = Vec::new();
        for name in published.workloads.keys() {
            let Some(view) = snapshot.discover(name.as_str()) else { continue };
            let mut seen: BTreeSet<(InstanceId, u16)> = BTreeSet::new();
            for endpoint in view.endpoints {
                let fresh = seen.insert((endpoint.instance_id.clone(), endpoint.container_port));
                let fits = published.instances.get(&endpoint.instance_id).is_some_and(|instance| {
                    instance.stop.is_none() && !instance.is_over() && instance.workload == *name
                });
                if !fresh || !fits {
                    objections.push(format!("{name} is served by {endpoint:?}"));
                }
            }
        }
        for text in objections {
            self.judge.object("2 discover", text);
        }
    }
}
