//! Without the scheduler: an agent whose heartbeats got no 2xx for
//! `autonomy_after_ms` restarts crashed instances by policy and back-off itself,
//! each as a successor `<old id>-aN`, and starts nothing else.
//!
//! Restarted is what crashed since contact was lost or shortly before. Whatever
//! is older, the scheduler has already judged; so it has what was found dead and was
//! told: while this agent was away, its place may have been filled on another node.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::AgentCore;
use super::instance::Instance;
use super::message::Millis;
use super::retention::is_old;
use crate::model::wire::RunOrder;
use crate::model::{InstanceId, Phase, RestartPolicy, Timing};
use crate::roles::scheduler::replica::backoff;

/// The successor of `old`: `web-r1-x7k2p` → `web-r1-x7k2p-a1` → `…-a2`.
pub(super) fn successor_id(old: &InstanceId) -> InstanceId {
    let (base, number) = split(old.as_str());
    format!("{base}-a{}", number.saturating_add(1)).into()
}

/// Whether an order was made by an agent on its own, rather than by the
/// scheduler. The scheduler's ids never end like that: their suffixes have no `a`.
pub(super) fn is_own_successor(order: &RunOrder) -> bool {
    let (base, number) = split(order.id.as_str());
    number > 0 && order.replaces.as_ref().is_some_and(|old| split(old.as_str()).0 == base)
}

/// The id that the scheduler gave, and how many successors later this one is.
fn split(id: &str) -> (&str, u64) {
    let number = id.rsplit_once("-a").and_then(|(base, digits)| Some((base, digits.parse().ok()?)));
    number.unwrap_or((id, 0))
}

/// Failures in a row, this one included: after a stable while it is the first.
fn failures(order: &RunOrder, ran_for_ms: Option<u64>, timing: &Timing) -> u32 {
    let stable = ran_for_ms.is_some_and(|ran| ran >= timing.stable_after_ms);
    if stable { 1 } else { order.backoff_step.saturating_add(1) }
}

/// Whether policy restarts what ended like that.
fn wants_restart(instance: &Instance) -> bool {
    let crashed = instance.running.is_some();
    // A failed start is the scheduler's business, unless the start was ours.
    let counts = crashed || is_own_successor(&instance.order);
    counts
        && match instance.order.template.restart_policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => instance.exit_code != Some(0),
            RestartPolicy::Never => false,
        }
}

impl AgentCore {
    /// `id` has just died: remember it for the case that nobody else restarts it.
    pub(super) fn consider_restart(&mut self, id: &InstanceId) {
        let draw = self.draw();
        let Some(instance) = self.instances.get(id) else { return };
        let Some(death) = &instance.death else { return };
        let old = is_old(death.at, self.now(), self.timing.stable_after_ms);
        if instance.leaving.is_some() || old || !wants_restart(instance) {
            return;
        }
        let failures = failures(&instance.order, death.ran_for_ms, &self.timing);
        let pause = backoff(failures - 1, &self.timing, draw);
        self.crashed.insert(id.clone(), self.now() + pause);
    }

    /// What the scheduler knew of, long before it fell silent or before this agent did, it
    /// has judged.
    pub(super) fn drop_old_crashes(&mut self) {
        let (now, limit) = (self.now(), self.timing.stable_after_ms);
        let instances = &self.instances;
        self.crashed.retain(|id, _| {
            let death = instances.get(id).and_then(|instance| instance.death.as_ref());
            death.is_some_and(|death| {
                let judged = death.found || is_old(death.at, now, limit);
                !(death.acknowledged && judged)
            })
        });
    }

    fn alone_from(&self) -> Millis {
        self.contact.heard_at.saturating_add(self.timing.autonomy_after_ms)
    }

    pub(super) fn autonomy_wake_at(&self) -> Option<Millis> {
        if !self.docker_ok() || !self.synced || self.is_closing() {
            return None;
        }
        let first = self.crashed.values().min()?;
        Some(self.alone_from().max(*first))
    }

    /// Restarts what is to be restarted, if nobody else is there to do it.
    pub(super) fn heal_alone(&mut self) {
        let now = self.now();
        if self.autonomy_wake_at().is_none_or(|at| at > now) {
            return;
        }
        let due: Vec<InstanceId> =
            self.crashed.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.crashed.remove(&id);
            self.succeed(&id);
        }
    }

    fn succeed(&mut self, id: &InstanceId) {
        let draw = self.draw();
        let Some(dead) = self.instances.get(id) else { return };
        if self.instances.values().any(|other| takes_its_place(other, &dead.order)) {
            return;
        }
        let ran_for_ms = dead.death.as_ref().and_then(|death| death.ran_for_ms);
        let mut order = (*dead.order).clone();
        order.replaces = Some(id.clone());
        // What the first of them followed made room long ago.
        order.after = None;
        order.backoff_step = failures(&order, ran_for_ms, &self.timing);
        order.restarts = order.restarts.saturating_add(1);
        order.id = successor_id(id);
        if dead.adopted {
            // A former life may have given the next numbers to what is gone by now.
            let (base, number) = split(id.as_str());
            order.id = format!("{base}-a{}", number + 1_000 + draw % 1_000_000).into();
        }
        while self.instances.contains_key(&order.id) || self.tombstones.has(&order.id) {
            order.id = successor_id(&order.id);
        }
        let successor = order.id.clone();
        let instance = Instance::ordered(order, self.contact.seq, self.now());
        self.instances.insert(successor.clone(), instance);
        self.unacknowledged.retain(|(_, _, other)| other != id);
        self.may_be_retired(id);
        self.news();
        self.advance(&successor);
    }
}

/// Whether `other` fills the replica of `order` already.
fn takes_its_place(other: &Instance, order: &RunOrder) -> bool {
    if other.order.replaces.as_ref() == Some(&order.id) {
        return true;
    }
    let alive = !matches!(other.phase, Phase::Exited | Phase::Failed);
    alive && other.order.workload == order.workload && other.order.replica == order.replica
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str, replaces: Option<&str>) -> RunOrder {
        serde_json::from_value(serde_json::json!({
            "id": id, "replaces": replaces, "workload": "web", "revision": 1, "replica": 0,
            "template": {"image": "x"},
        }))
        .unwrap()
    }

    #[test]
    fn successors_are_numbered() {
        let first = successor_id(&"web-a1-r1-x7k2p".into());
        assert_eq!(first.as_str(), "web-a1-r1-x7k2p-a1");
        assert_eq!(successor_id(&first).as_str(), "web-a1-r1-x7k2p-a2");
    }

    #[test]
    fn a_successor_of_our_own_is_told_from_the_schedulers() {
        for (id, replaces, own) in [
            ("web-r1-x-a1", Some("web-r1-x"), true),
            ("web-r1-x-a2", Some("web-r1-x-a1"), true),
            ("web-r1-x", Some("web-r1-y"), false),
            ("web-r1-x-a1", None, false),
            ("web-r1-x-a1", Some("web-r1-y"), false),
        ] {
            assert_eq!(is_own_successor(&order(id, replaces)), own, "{id} {replaces:?}");
        }
    }
}
