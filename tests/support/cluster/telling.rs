//! How the made-up agents tell only what has changed, as the real ones do.

use super::*;

/// What an agent has told, to refer to it later.
#[derive(Clone, Debug, Default)]
pub(super) struct Telling {
    /// What its reports said, each as if it had told everything; ages as what they
    /// count from.
    told: BTreeMap<u64, Vec<ContainerInstance>>,
    /// The last one that was taken in and said something.
    base: Option<u64>,
    /// The last report that referred to another one.
    referred_in: Option<u64>,
}

impl Telling {
    /// The same said as what has changed since the last report that was taken in, if
    /// there is any.
    pub(super) fn shorten(&mut self, full: HeartbeatRequest, now: u64) -> HeartbeatRequest {
        let all: Vec<_> = full.containers.iter().map(|told| ageless(told, now)).collect();
        let complete = full.synced && full.docker.state == DockerState::Ok;
        let before = self.base.and_then(|base| Some((base, self.told.get(&base)?)));
        let Some((base, before)) = before.filter(|_| complete) else {
            self.referred_in = None;
            if complete {
                self.told.insert(full.seq, all);
            }
            return full;
        };
        let is_listed = |told: &ContainerInstance| all.iter().any(|other| other.id == told.id);
        let gone: Vec<_> =
            before.iter().filter(|told| !is_listed(told)).map(|told| told.id.clone()).collect();
        let changed = all.iter().zip(full.containers).filter(|(all, _)| !before.contains(all));
        let containers: Vec<_> = changed.map(|(_, told)| told).collect();
        if !(gone.is_empty() && containers.is_empty()) {
            self.told.insert(full.seq, all);
        }
        self.referred_in = Some(full.seq);
        HeartbeatRequest { same_as: Some(base), synced: false, containers, gone, ..full }
    }

    /// The scheduler has taken in everything up to `seq`. Returns whether it did not
    /// take in what referred to something, and wants to be told everything.
    pub(super) fn answered(&mut self, seq: u64) -> bool {
        if self.referred_in.is_some_and(|referred_in| seq < referred_in) {
            *self = Self::default();
            return true;
        }
        if self.told.contains_key(&seq) {
            self.base = Some(seq);
            self.told = self.told.split_off(&seq);
        }
        false
    }
}

fn ageless(told: &ContainerInstance, now: u64) -> ContainerInstance {
    let running = told.phase == Phase::Running;
    let since = |age: Option<u64>| if running { age.map(|age| now - age) } else { age };
    ContainerInstance {
        running_for_ms: since(told.running_for_ms),
        healthy_for_ms: since(told.healthy_for_ms),
        ..told.clone()
    }
}
