//! Heartbeats that tell what has changed since an earlier one that the scheduler
//! has taken in; mostly that is nothing. Everything is told after a registration, when
//! the scheduler asks for it by not taking such a report in, while Docker does not
//! answer, and now and then.
//!
//! Whether an instance has changed is told by a fingerprint of all that is said
//! about it but ages. Only those that somebody has taken to change them are described
//! anew ([`super::roster`]), and those that are not up: about them also other things say
//! something, as Docker or a pull.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::core::AgentCore;
use super::message::Millis;
use crate::model::wire::{HeartbeatRequest, HeartbeatResponse};
use crate::model::{ContainerInstance, InstanceId, Phase};

/// What the scheduler is known to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The last report that it has taken in and that named an instance: its number.
    base: Option<u64>,
    /// When everything is to be told again, whatever is known.
    whole_by: Millis,
    /// It takes reports of what has changed, and not only that nothing has.
    takes_changes: bool,
    /// What was told in the base, or after it, and is gone.
    gone: BTreeSet<InstanceId>,
    /// The report that was not answered yet.
    under_way: Option<UnderWay>,
}

/// A report on its way.
#[derive(Clone, Debug)]
struct UnderWay {
    /// It refers to an earlier one.
    refers: bool,
    /// What is to be referred to if it is taken in.
    base: Option<u64>,
    /// The fingerprints of what it lists.
    listed: Vec<(InstanceId, u64)>,
    /// What it calls gone; or all that was, if it tells everything.
    gone: BTreeSet<InstanceId>,
}

/// What was told of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// Its fingerprint as of the base; `None`: it may not be known.
    fingerprint: Option<u64>,
    /// It may have changed since it was last described.
    pub(super) marked: bool,
}

impl AgentCore {
    /// The next heartbeat.
    pub(super) fn report(&mut self) -> HeartbeatRequest {
        let may_refer = self.synced && self.docker_ok() && self.now() < self.told.whole_by;
        match self.told.base.filter(|_| may_refer) {
            Some(base) => self.report_since(base),
            None => self.report_whole(),
        }
    }

    fn report_since(&mut self, base: u64) -> HeartbeatRequest {
        let (containers, listed) = self.changed();
        let nothing = containers.is_empty() && self.told.gone.is_empty();
        if !nothing && !self.told.takes_changes {
            return self.report_whole();
        }
        let gone = &self.told.gone;
        let gone: BTreeSet<InstanceId> =
            gone.iter().filter(|id| !self.instances.contains_key(*id)).cloned().collect();
        let next = if nothing { base } else { self.contact.seq };
        self.told.under_way =
            Some(UnderWay { refers: true, base: Some(next), listed, gone: gone.clone() });
        HeartbeatRequest {
            same_as: Some(base),
            synced: false,
            containers,
            gone: gone.into_iter().collect(),
            ..self.head()
        }
    }

    fn report_whole(&mut self) -> HeartbeatRequest {
        let mut snapshot = self.snapshot();
        let complete = self.synced && self.docker_ok();
        let now = self.now();
        let listed = snapshot.containers.iter_mut();
        let listed = listed.map(|told| (told.id.clone(), fingerprint(told, now))).collect();
        for told in &snapshot.containers {
            if let Some(instance) = self.instances.get_mut_unmarked(&told.id) {
                instance.report.marked = false;
            }
        }
        // Not all agents at the same time.
        let period = self.timing.whole_report_ms;
        self.told.whole_by = now + period - self.draw() % (period / 4).max(1);
        self.told.under_way = Some(UnderWay {
            refers: false,
            base: complete.then_some(self.contact.seq),
            listed,
            gone: self.told.gone.clone(),
        });
        snapshot
    }

    /// What is not as it was in the base, with its fingerprints.
    fn changed(&mut self) -> (Vec<ContainerInstance>, Vec<(InstanceId, u64)>) {
        let now = self.now();
        let (mut containers, mut listed, mut same) = (Vec::new(), Vec::new(), Vec::new());
        for (id, instance) in &*self.instances {
            let Reported { fingerprint: before, marked } = instance.report;
            if before.is_some() && !marked && instance.phase >= Phase::Running {
                continue;
            }
            let mut told = self.describe(instance);
            let print = fingerprint(&mut told, now);
            if before == Some(print) {
                same.push(id.clone());
            } else {
                listed.push((id.clone(), print));
                containers.push(told);
            }
        }
        for id in listed.iter().map(|(id, _)| id).chain(&same) {
            if let Some(instance) = self.instances.get_mut_unmarked(id) {
                instance.report.marked = false;
            }
        }
        (containers, listed)
    }

    /// The scheduler has answered heartbeat `seq`. Returns whether it has taken it in.
    /// If not, it wants to know everything, at once.
    pub(super) fn report_answered(&mut self, seq: u64, response: &HeartbeatResponse) -> bool {
        let taken_in = response.seq >= seq;
        let Some(under_way) = self.told.under_way.take() else { return taken_in };
        self.told.takes_changes = response.changes;
        if !taken_in {
            self.told.base = None;
            if under_way.refers {
                self.contact.beat_at = self.now();
            }
            return false;
        }
        self.told.base = under_way.base.filter(|_| response.digests);
        for (id, print) in under_way.listed {
            if let Some(instance) = self.instances.get_mut_unmarked(&id) {
                instance.report.fingerprint = Some(print);
            }
        }
        self.told.gone.retain(|id| !under_way.gone.contains(id));
        true
    }

    /// Whether the report was taken in is not known: it is told again.
    pub(super) fn report_unanswered(&mut self) {
        let Some(under_way) = self.told.under_way.take() else { return };
        for (id, _) in under_way.listed {
            self.instances.get_mut(&id);
        }
    }

    /// Whoever is registered with anew knows nothing.
    pub(super) fn forget_reports(&mut self) {
        self.told = Told::default();
        self.instances.forget_reports();
    }

    /// An instance is no more.
    pub(super) fn report_gone(&mut self, id: &InstanceId) {
        self.told.gone.insert(id.clone());
        if self.told.gone.len() > self.timing.tombstones_kept {
            // Nobody has listened for long.
            self.told.base = None;
            self.told.gone.clear();
            if let Some(under_way) = &mut self.told.under_way {
                under_way.base = None;
            }
        }
    }
}

/// Of all that is said about an instance, which is left as it is. Ages count as what
/// they count from.
fn fingerprint(told: &mut ContainerInstance, now: Millis) -> u64 {
    let mut hasher = DefaultHasher::new();
    let ages = (told.running_for_ms, told.healthy_for_ms);
    if told.phase == Phase::Running {
        let since = |age: Option<u64>| age.map(|age| now.wrapping_sub(age));
        (told.running_for_ms, told.healthy_for_ms) = (since(ages.0), since(ages.1));
    }
    told.hash(&mut hasher);
    (told.running_for_ms, told.healthy_for_ms) = ages;
    hasher.finish()
}
