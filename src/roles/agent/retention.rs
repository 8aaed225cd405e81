//! Dead instances: what is said about their end, how many are kept for their
//! logs, and when they are forgotten.
//!
//! An end is kept until the scheduler has taken it in, however many there are:
//! an instance that vanished untold would be taken for lost. After that the last
//! `dead_kept` of each workload stay, and older ones are retired.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::AgentCore;
use super::instance::{Leaving, Since};
use super::orders::Grave;
use crate::model::{InstanceId, Reason};

impl AgentCore {
    /// The scheduler has taken in snapshot `seq`.
    pub(super) fn acknowledged(&mut self, seq: u64) {
        while let Some((told, _, _)) = self.unacknowledged.first()
            && *told <= seq
        {
            let Some((_, _, id)) = self.unacknowledged.pop_first() else { break };
            if let Some(death) = self.instances.get_mut(&id).and_then(|dead| dead.death.as_mut()) {
                death.acknowledged = true;
            }
            self.may_be_retired(&id);
        }
        self.drop_old_crashes();
    }

    /// `id` is dead and need no longer be told: it counts towards `dead_kept`.
    pub(super) fn may_be_retired(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        if instance.leaving.is_some() {
            return;
        }
        let workload = instance.order.workload.clone();
        let kept = self.dead.entry(workload).or_default();
        if !kept.contains(id) {
            kept.push(id.clone());
        }
        let excess = kept.len().saturating_sub(self.timing.dead_kept);
        let retired: Vec<InstanceId> = kept.drain(..excess).collect();
        for old in &retired {
            if let Some(instance) = self.instances.get_mut(old)
                && instance.leaving.is_none()
            {
                instance.leaving = Some(Leaving::Retired);
                self.crashed.remove(old);
                self.advance(old);
            }
        }
    }

    /// It is gone: nothing is left of it but its id, which must not come back.
    pub(super) fn forget(&mut self, id: &InstanceId) {
        self.reschedule(id, None);
        let Some(instance) = self.instances.remove(id) else { return };
        self.report_gone(id);
        self.advance_followers(id);
        if let Some(container) = &instance.container {
            self.by_container.remove(&container.id);
        }
        if let Some(death) = &instance.death {
            self.unacknowledged.remove(&(death.seq, death.wall_ms, id.clone()));
        }
        if let Some(kept) = self.dead.get_mut(&instance.order.workload) {
            kept.retain(|other| other != id);
            if kept.is_empty() {
                self.dead.remove(&instance.order.workload);
            }
        }
        self.crashed.remove(id);
        let seq = match instance.leaving {
            Some(Leaving::Ordered { seq, .. }) => seq,
            _ => self.contact.seq,
        };
        self.bury(id, seq, Grave::Gone);
        self.news();
    }

    /// `id` has a successor: if it never had a container, nothing about it is
    /// worth keeping.
    pub(super) fn superseded(&mut self, id: &InstanceId) {
        self.crashed.remove(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.phase.is_final() && instance.present_container().is_none() {
            instance.leaving.get_or_insert(Leaving::Retired);
            self.advance(id);
        }
    }
}

/// Why a container that ended is over: the machine word and the sentence.
pub(super) fn exit_text(
    exit_code: Option<i64>,
    oom_killed: bool,
    ran_for_ms: Option<u64>,
) -> (Reason, String) {
    let after = ran_for_ms.map_or_else(String::new, |ms| format!(" after {}", duration_text(ms)));
    match exit_code {
        Some(0) => (Reason::Completed, format!("finished with exit code 0{after}")),
        Some(code) if oom_killed => {
            (Reason::OutOfMemory, format!("killed for want of memory (exit code {code}){after}"))
        }
        Some(code @ 137) => (Reason::Error, format!("killed by SIGKILL (exit code {code}){after}")),
        Some(code @ 143) => (Reason::Error, format!("ended by SIGTERM (exit code {code}){after}")),
        Some(code) => (Reason::Error, format!("exited with code {code}{after}")),
        None => (Reason::Error, format!("ended{after}; Docker does not know its exit code")),
    }
}

/// A duration as people say it: `0.4 s`, `12 s`, `3 min`, `2 h`.
pub(super) fn duration_text(ms: u64) -> String {
    match ms {
        0..=9_999 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        10_000..=119_999 => format!("{} s", ms / 1_000),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Whether a death lies so far back that its story is over.
pub(super) fn is_old(at: Since, now: u64, limit_ms: u64) -> bool {
    at.age_ms(now) > limit_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        let cases = [
            (Some(0), false, Some(400), Reason::Completed, "finished with exit code 0 after 0.4 s"),
            (Some(3), false, Some(12_345), Reason::Error, "exited with code 3 after 12 s"),
            (Some(137), false, None, Reason::Error, "killed by SIGKILL (exit code 137)"),
            (
                Some(137),
                true,
                Some(7_200_000),
                Reason::OutOfMemory,
                "killed for want of memory (exit code 137) after 2 h",
            ),
            (None, false, None, Reason::Error, "ended; Docker does not know its exit code"),
        ];
        for (code, oom, ran, reason, text) in cases {
            assert_eq!(exit_text(code, oom, ran), (reason, text.to_owned()));
        }
    }
}
