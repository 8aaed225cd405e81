//! Taking the scheduler's orders: fences, repeats, and what must not come back.
//!
//! An accepted order is in every snapshot from then on. Repeating one is always
//! safe: the same order gets the same answer, another one of the same id is
//! refused, and what was stopped stays stopped however late its start arrives.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};

use super::autonomy::is_own_successor;
use super::core::AgentCore;
use super::instance::{Instance, Leaving};
use super::message::Input;
use crate::model::wire::{Fence, OrderAccepted, RunOrder, RunRequest, StopRequest};
use crate::model::{ApiError, ClusterId, InstanceId};
use crate::planted::{Fault, planted};

/// The longest id that is taken; Docker itself has no limit.
const LONGEST_ID: usize = 128;

/// What is remembered of an id that must not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grave {
    /// Its life is over.
    Gone,
    /// It was to stop before this agent ever saw it. If it turns up after all,
    /// that is what happens to it.
    StopOnSight {
        /// How long it may go on serving.
        drain_ms: u64,
        /// Why.
        why: String,
    },
}

/// Ids that must not come back; the oldest are dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Tombstones {
    stones: BTreeMap<InstanceId, Tombstone>,
    by_age: BTreeSet<(u64, InstanceId)>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Tombstone {
    /// Since which step.
    pub(super) step: u64,
    /// The snapshot that its stop was answered with.
    seq: u64,
    /// What is remembered.
    pub(super) grave: Grave,
}

impl Tombstones {
    fn put(&mut self, id: &InstanceId, stone: Tombstone, most: usize) {
        let step = stone.step;
        if let Some(before) = self.stones.insert(id.clone(), stone) {
            self.by_age.remove(&(before.step, id.clone()));
        }
        self.by_age.insert((step, id.clone()));
        while self.stones.len() > most.max(1) {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            self.stones.remove(&oldest);
        }
    }

    /// What is remembered of this id.
    pub(super) fn get(&self, id: &InstanceId) -> Option<&Tombstone> {
        self.stones.get(id)
    }

    /// Whether this id must not come back.
    pub(super) fn has(&self, id: &InstanceId) -> bool {
        self.stones.contains_key(id)
    }
}

impl AgentCore {
    /// `POST /run`.
    pub(super) fn accept_run(&mut self, request: RunRequest) -> Result<OrderAccepted, ApiError> {
        self.check_fence(&request.fence)?;
        let order = request.order;
        check_id(&order.id)?;
        if self.is_closing() {
            return Err(ApiError::unavailable("ShuttingDown", "this agent is ending", 5));
        }
        if let Some(known) = self.instances.get(&order.id) {
            if !is_same(&known.order, &order) {
                return Err(ApiError::conflict(format!(
                    "{} is known here with other contents; an id means one order for ever",
                    order.id
                )));
            }
            if matches!(known.leaving, Some(Leaving::Ordered { .. })) {
                return Err(stopped(&order.id));
            }
            let seq = known.accepted_seq;
            if order.after.is_none() {
                self.release(&order.id);
            }
            return Ok(self.accepted(order.id, seq));
        }
        if self.tombstones.has(&order.id) {
            return Err(stopped(&order.id));
        }
        if let Some(replaced) = &order.replaces {
            let stays = |id: &InstanceId| {
                !matches!(self.instances[id].leaving, Some(Leaving::Ordered { .. }))
            };
            if let Some(successor) = self.own_successor(replaced).filter(stays) {
                let seq = self.instances[&successor].accepted_seq;
                return Ok(self.accepted(successor, seq));
            }
            self.superseded(&replaced.clone());
        }
        let (id, seq) = (order.id.clone(), self.contact.seq);
        self.instances.insert(id.clone(), Instance::ordered(order, seq, self.now()));
        self.minor_news();
        self.advance(&id);
        Ok(self.accepted(id, seq))
    }

    /// What an instance was to follow is gone, says the scheduler.
    fn release(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.order.after.is_some() {
            instance.order.after = None;
            self.advance(id);
        }
    }

    /// `POST /stop/{id}`.
    pub(super) fn accept_stop(
        &mut self,
        id: &InstanceId,
        request: StopRequest,
    ) -> Result<OrderAccepted, ApiError> {
        self.check_fence(&request.fence)?;
        check_id(id)?;
        let seq = self.contact.seq;
        let successor = self.own_successor(id).filter(|_| planted(Fault::StopTakesSuccessor));
        let id = successor.as_ref().unwrap_or(id);
        let Some(instance) = self.instances.get(id) else {
            let known = self.tombstones.get(id).map(|stone| stone.seq);
            if known.is_none() {
                let StopRequest { drain_ms, why, .. } = request;
                self.bury(id, seq, Grave::StopOnSight { drain_ms, why });
            }
            return Ok(self.accepted(id.clone(), known.unwrap_or(seq)));
        };
        let grace_seconds = instance.order.template.stop_grace_period_seconds;
        let answer = match &instance.leaving {
            Some(Leaving::Ordered { seq, .. }) => *seq,
            _ => seq,
        };
        self.leave(id, request.drain_ms, grace_seconds, request.why);
        Ok(self.accepted(id.clone(), answer))
    }

    /// Remembers that `id` must not come back.
    pub(super) fn bury(&mut self, id: &InstanceId, seq: u64, grave: Grave) {
        if planted(Fault::TombstoneForgotten) {
            return;
        }
        let stone = Tombstone { step: self.steps, seq, grave };
        self.tombstones.put(id, stone, self.timing.tombstones_kept);
    }

    /// Everything goes when the agent ends with its containers: soon.
    pub(super) fn leave_at_the_end(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        let longest = u32::try_from(self.timing.shutdown_grace_ms / 1_000).unwrap_or(u32::MAX);
        let grace = instance.order.template.stop_grace_period_seconds.min(longest);
        self.leave(id, 0, grace, "the agent is ending".to_owned());
    }

    /// An instance is to go. Said again, it can only go sooner.
    pub(super) fn leave(
        &mut self,
        id: &InstanceId,
        drain_ms: u64,
        grace_seconds: u32,
        why: String,
    ) {
        let (now, seq) = (self.now(), self.contact.seq);
        let Some(instance) = self.instances.get_mut(id) else { return };
        match &mut instance.leaving {
            Some(Leaving::Ordered { drain_until, grace_seconds: grace, .. }) => {
                *drain_until = (*drain_until).min(now.saturating_add(drain_ms));
                *grace = (*grace).min(grace_seconds);
            }
            leaving => {
                let drain_until = now.saturating_add(drain_ms);
                *leaving = Some(Leaving::Ordered { drain_until, grace_seconds, why, seq });
                instance.clear_trouble();
                self.crashed.remove(id);
                self.leave_image(id);
                self.news();
            }
        }
        self.advance(id);
    }

    /// The scheduler's word counts only if it means this very agent, and only
    /// while the agent knows itself registered.
    fn check_fence(&self, fence: &Fence) -> Result<(), ApiError> {
        let refuse = |what: &str| Err(ApiError::new(409, "StaleOrder", what));
        if fence.node != self.identity.node {
            return refuse(&format!("this is node {}, not {}", self.identity.node, fence.node));
        }
        let meant = fence.incarnation == self.identity.incarnation;
        if !meant && !planted(Fault::NoIncarnationCheck) {
            return refuse("this agent has been restarted since; it is another incarnation");
        }
        let Some(epoch) = self.contact.epoch else {
            let text = "this agent is not registered; it takes no orders until it is";
            return Err(ApiError::new(409, "NotRegistered", text));
        };
        if self.cluster() != Some(&fence.cluster) {
            let own = self.cluster().map_or("none", ClusterId::as_str);
            return refuse(&format!("this agent belongs to cluster {own}, not {}", fence.cluster));
        }
        if fence.epoch != epoch && !planted(Fault::NoEpochCheck) {
            return refuse(&format!("the epoch here is {epoch}, the order's is {}", fence.epoch));
        }
        Ok(())
    }

    fn accepted(&self, id: InstanceId, seq: u64) -> OrderAccepted {
        OrderAccepted { incarnation: self.identity.incarnation, seq, id }
    }

    /// The last of the successors this agent gave `replaced` by itself, if any.
    fn own_successor(&self, replaced: &InstanceId) -> Option<InstanceId> {
        let mut last = None;
        // Bounded, because labels can be made to say that two follow each other.
        for _ in 0..self.instances.len() {
            let of = last.as_ref().unwrap_or(replaced);
            let next = self.instances.values().find_map(|instance| {
                let follows = instance.order.replaces.as_ref() == Some(of);
                (follows && is_own_successor(&instance.order)).then(|| instance.order.id.clone())
            });
            if next.is_none() {
                break;
            }
            last = next;
        }
        last
    }

    /// Nothing is taken any more, and nobody is left waiting.
    pub(super) fn refuse_when_ended(&mut self, input: Input) {
        let (Input::Run { ticket, .. } | Input::Stop { ticket, .. }) = input else { return };
        let refusal = ApiError::unavailable("ShuttingDown", "this agent has ended", 5);
        self.out.replies.push((ticket, Err(refusal)));
    }
}

/// Whether two orders ask for the same. What to follow may be gone by the second.
fn is_same(first: &RunOrder, second: &RunOrder) -> bool {
    let whatever = |order: &RunOrder| RunOrder { after: None, ..order.clone() };
    first == second || whatever(first) == whatever(second)
}

fn stopped(id: &InstanceId) -> ApiError {
    ApiError::new(409, "Stopped", format!("{id} was here and is stopped; it does not come back"))
}

fn check_id(id: &InstanceId) -> Result<(), ApiError> {
    let text = id.as_str();
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    if text.len() <= LONGEST_ID
        && bytes.iter().copied().all(good)
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
    {
        return Ok(());
    }
    Err(ApiError::invalid_field(
        "order.id",
        format!("an instance id is 1 to {LONGEST_ID} of a-z, 0-9 and '-', not {text:?}"),
    ))
}
