//! Heartbeats that say only that nothing has changed: most do. What a digest
//! refers to is a full snapshot that the scheduler has taken in; whether anything
//! has changed since is told by a fingerprint of all that a snapshot says but ages.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::core::AgentCore;
use super::message::{Input, Millis};
use crate::model::wire::{HeartbeatRequest, HeartbeatResponse};
use crate::model::{ContainerInstance, Phase};

/// What the scheduler is known to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Digest {
    /// Of what there is; `None` when that may have changed since it was made.
    fingerprint: Option<u64>,
    /// The last full snapshot that was taken in: its number and fingerprint.
    taken_in: Option<(u64, u64)>,
    /// The one on its way, if it could be referred to.
    under_way: Option<(u64, u64)>,
    /// What is on its way is a digest.
    is_digest: bool,
}

impl AgentCore {
    /// The next heartbeat: everything, or that nothing has changed.
    pub(super) fn report(&mut self) -> HeartbeatRequest {
        // What an image waits for is told with the time that is left.
        let known = self.digest.fingerprint.filter(|_| self.images.is_empty());
        let mut snapshot = None;
        let fingerprint = known.unwrap_or_else(|| {
            let made = snapshot.insert(self.snapshot());
            fingerprint(&mut made.containers, self.now())
        });
        self.digest.fingerprint = Some(fingerprint);
        let taken_in = self.digest.taken_in.filter(|(_, told)| *told == fingerprint);
        let base = taken_in.filter(|_| self.synced && self.docker_ok());
        self.digest.is_digest = base.is_some();
        self.digest.under_way = None;
        if let Some((seq, _)) = base {
            return HeartbeatRequest { same_as: Some(seq), synced: false, ..self.head() };
        }
        let snapshot = snapshot.unwrap_or_else(|| self.snapshot());
        // Of what is not up yet, the scheduler wants to hear more.
        let up = snapshot.containers.iter().all(|container| container.phase >= Phase::Running);
        self.digest.under_way = up.then_some((self.contact.seq, fingerprint));
        snapshot
    }

    /// The scheduler has answered heartbeat `seq`. Returns whether it wants to
    /// know everything.
    pub(super) fn digest_answered(&mut self, seq: u64, response: &HeartbeatResponse) -> bool {
        let taken_in = response.seq >= seq;
        let under_way = self.digest.under_way.take();
        if !(self.digest.is_digest && taken_in) {
            self.digest.taken_in = under_way.filter(|_| taken_in && response.digests);
        }
        self.digest.is_digest && !taken_in
    }

    /// Whoever is registered with anew knows nothing.
    pub(super) fn forget_digest(&mut self) {
        self.digest = Digest::default();
    }

    /// This may change what a snapshot says.
    pub(super) fn may_change(&mut self) {
        self.digest.fingerprint = None;
    }
}

/// Whether an input may change what a snapshot says, other than through a look at
/// an instance.
pub(super) fn is_news(input: &Input) -> bool {
    !matches!(input, Input::Tick | Input::Beat { outcome: Ok(_), .. })
}

/// Leaves the containers as they are; ages are hashed as what they count from.
fn fingerprint(containers: &mut [ContainerInstance], now: Millis) -> u64 {
    let mut hasher = DefaultHasher::new();
    containers.len().hash(&mut hasher);
    for container in containers {
        let ages = (container.running_for_ms, container.healthy_for_ms);
        if container.phase == Phase::Running {
            let since = |age: Option<u64>| age.map(|age| now.wrapping_sub(age));
            (container.running_for_ms, container.healthy_for_ms) = (since(ages.0), since(ages.1));
        }
        container.hash(&mut hasher);
        (container.running_for_ms, container.healthy_for_ms) = ages;
    }
    hasher.finish()
}
