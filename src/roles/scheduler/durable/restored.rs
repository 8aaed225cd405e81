//! After a backup was put back, time has gone by that nobody here remembers:
//! schedulers have started, revisions were made, and agents and containers have
//! seen them. Their numbers must not be given out again.
//!
//! What is *seen* of that time settles it exactly. An agent that is still
//! registered under another epoch says so in its next heartbeat: the epoch then
//! grows past it ([`Core::outgrow`]). A container of a revision past the last known
//! raises the number that the name goes on from ([`Core::keep_number`]). For what is
//! not seen in time (a node that is away for now), a backup that is put back leaves
//! gaps that nobody uses up between two backups: [`after_restore`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FORMAT, META, Meta, RecoverError, put, read, sense};
use crate::model::WorkloadId;
use crate::roles::scheduler::core::Core;
use crate::roles::scheduler::credible::{LAST_EPOCH, LAST_REVISION};

/// Key of the [`Restored`] record.
pub(super) const RESTORED: &str = "restored";
/// So many starts, and so many revisions of a name, may have been forgotten.
const GAP: u64 = 1_000;

/// That this state was a backup once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Restored {
    /// Every new revision has a larger number than this.
    pub(super) revisions_above: u64,
}

/// Only the numbers of a stored workload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    last_revision: u64,
}

/// What to store so that the scheduler goes on from these records of a backup.
///
/// # Errors
/// When a record cannot be read.
pub fn after_restore(
    mut records: BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, RecoverError> {
    let nonsense = |key: &str, what: &str| RecoverError::Nonsense {
        key: key.to_owned(),
        what: what.to_owned(),
    };
    let Some(value) = records.get(META) else {
        return Err(nonsense(META, "it is missing"));
    };
    let meta: Meta = read(META, value)?;
    let mut last = 0;
    for (key, value) in &records {
        let number = match key.split_once('/') {
            Some(("workload", _)) => read::<Numbers>(key, value)?.last_revision,
            Some(("tombstone", _)) => read(key, value)?,
            None if key == RESTORED => read::<Restored>(key, value)?.revisions_above,
            _ => continue,
        };
        sense::revision(number).map_err(|what| nonsense(key, &what))?;
        last = last.max(number);
    }
    let epoch = meta.epoch.saturating_add(GAP);
    for record in [
        put(META.to_owned(), &Meta { epoch, ..meta }),
        put(RESTORED.to_owned(), &Restored { revisions_above: last.saturating_add(GAP) }),
    ] {
        records.insert(record.key, record.value.unwrap_or_default());
    }
    Ok(records)
}

impl Core {
    /// The number of a new revision of a name whose last one was `last`.
    pub(in crate::roles::scheduler) fn next_revision(&self, last: u64) -> u64 {
        last.max(self.state.revisions_above) + 1
    }

    /// A container was found of a revision that is not known. If it is past the
    /// last one of its name, nobody gets its number any more.
    pub(in crate::roles::scheduler) fn keep_number(&mut self, name: &WorkloadId, revision: u64) {
        if revision > LAST_REVISION {
            return;
        }
        match self.state.workloads.get_mut(name) {
            Some(slot) if slot.last_revision < revision => {
                Arc::make_mut(slot).last_revision = revision;
            }
            Some(_) => return,
            None => {
                let last = self.state.tombstones.get(name).copied().unwrap_or(0);
                if last >= revision {
                    return;
                }
                self.state.tombstones.insert(name.clone(), revision);
            }
        }
        self.record_workload(name);
    }

    /// An agent is registered under an epoch that is not of this life: another
    /// scheduler of the cluster has it, or had it. Agents tell two schedulers apart
    /// by the epoch alone, so this one moves on past it. All register again.
    pub(in crate::roles::scheduler) fn outgrow(&mut self, epoch: u64) {
        let next = Meta {
            format: FORMAT,
            cluster: self.state.cluster.clone(),
            epoch: epoch.saturating_add(1),
        };
        // Whatever an agent says, this scheduler must be able to start again.
        if epoch < self.state.epoch || next.epoch > LAST_EPOCH {
            return;
        }
        let before = std::mem::replace(&mut self.state.epoch, next.epoch);
        let born: Vec<WorkloadId> = self
            .state
            .workloads
            .iter()
            .filter(|(_, workload)| workload.born_epoch == before)
            .map(|(name, _)| name.clone())
            .collect();
        for name in born {
            self.edit_workload(&name, |workload| workload.born_epoch = next.epoch);
        }
        self.note(
            "EpochRaised",
            format!(
                "an agent has taken orders under epoch {epoch}, which is not of this scheduler's \
                 life: going on under epoch {}",
                next.epoch
            ),
        );
        self.out.records.push(put(META.to_owned(), &next));
    }
}
