//! Taking in a complete listing: what runs is adopted by its labels, what
//! vanished has failed, and what belongs to nobody goes.
//!
//! A listing is older than what was learned while it was being made. Whatever
//! was touched after it was asked for, it says nothing about.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeSet;

use super::core::AgentCore;
use super::instance::Instance;
use super::launch::order_of;
use super::message::{ContainerState, Facts, Observed};
use super::orders::{Grave, Tombstone};
use crate::model::wire::RunOrder;
use crate::model::{InstanceId, Phase};

impl AgentCore {
    /// Compares what is known with listing `number`.
    pub(super) fn reconcile(&mut self, number: u64, observed: Vec<Observed>) {
        let mut seen = BTreeSet::new();
        for container in observed {
            seen.insert(container.facts.container_id.clone());
            self.take_observed(number, container);
        }
        let unseen: Vec<InstanceId> = self
            .instances
            .iter()
            .filter(|(_, instance)| is_missing(instance, number, &seen))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &unseen {
            if self.instances[id].present_container().is_some() {
                self.vanished(id);
            } else {
                self.launch_had_no_effect(id);
            }
        }
        self.strays.retain(|container_id, stray| stray.is_busy() || seen.contains(container_id));
        if self.instances.values().any(|instance| instance.unsure) {
            self.docker.list_wanted = true;
        }
        if !self.synced {
            self.synced = true;
            self.news();
            self.advance_all();
        }
    }

    fn take_observed(&mut self, number: u64, container: Observed) {
        let Observed { labels, image, facts, .. } = container;
        let Some(order) = order_of(&labels, &image) else {
            return self.remove_stray(facts.container_id);
        };
        let id = order.id.clone();
        let stone = self.tombstones.get(&id).filter(|_| !self.instances.contains_key(&id));
        if let Some(Tombstone { step, grave: Grave::Gone, .. }) = stone {
            if *step <= number {
                self.remove_stray(facts.container_id);
            }
            return;
        }
        match self.instances.get(&id) {
            Some(known) if known.is_changing() => {}
            Some(known)
                if known.present_container().is_some_and(|own| own != facts.container_id) =>
            {
                // A second container with the labels of a known one.
                self.remove_stray(facts.container_id);
            }
            Some(known) if known.touched > number => {}
            Some(known) if known.has_container(&facts.container_id) => self.refresh(&id, &facts),
            // The launch that got no answer did make it after all.
            Some(known) if !known.phase.is_final() => self.refresh(&id, &facts),
            Some(_) => self.remove_stray(facts.container_id),
            None => {
                self.saw_image(&image);
                self.adopt(order, &facts);
            }
        }
    }

    /// A container from before this agent's life, or made behind its back.
    fn adopt(&mut self, order: RunOrder, facts: &Facts) {
        let id = order.id.clone();
        let instance = Instance::ordered(order, self.contact.seq, self.now());
        let grace_seconds = instance.order.template.stop_grace_period_seconds;
        self.instances.insert(id.clone(), instance);
        // Nothing follows from it before it is known whether it may stay.
        self.note_facts(&id, facts);
        if let Some(death) = self.instances.get_mut(&id).and_then(|dead| dead.death.as_mut()) {
            death.found = true;
        }
        self.news();
        if let Some(stone) = self.tombstones.get(&id)
            && let Grave::StopOnSight { drain_ms, why } = stone.grave.clone()
        {
            self.leave(&id, drain_ms, grace_seconds, why);
        }
        if self.is_closing() {
            self.leave_at_the_end(&id);
        }
        self.advance(&id);
    }

    /// What the listing says about a container of `id`.
    fn refresh(&mut self, id: &InstanceId, facts: &Facts) {
        self.note_facts(id, facts);
        self.advance(id);
    }

    fn note_facts(&mut self, id: &InstanceId, facts: &Facts) {
        if facts.state == ContainerState::Gone {
            return;
        }
        self.leave_image(id);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.adopted |= instance.phase < Phase::Running;
            if instance.unsure && instance.leaving.is_some() {
                instance.clear_trouble();
            }
        }
        self.take_facts(id, facts);
    }
}

/// Whether `instance` should have been in listing `number`, and was not.
fn is_missing(instance: &Instance, number: u64, seen: &BTreeSet<String>) -> bool {
    if instance.is_changing() || instance.touched > number {
        return false;
    }
    match instance.present_container() {
        Some(container_id) => !seen.contains(container_id),
        None => instance.unsure,
    }
}
