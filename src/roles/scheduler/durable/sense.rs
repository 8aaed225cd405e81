//! Whether a stored record makes sense: what no build ever writes is damage, and
//! acting on it would be guessing.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::{Meta, NodeRecord, ReplicaRecord, WorkloadRecord};
use crate::model::ids::dns_label_problem;
use crate::model::validate::MAX_REPLICAS;

/// Numbers that only ever count up stay far below this: any JSON reader sees them
/// exactly.
const LARGEST: u64 = 1 << 53;
/// Starts of a scheduler, and restarts of a replica, stay far below this.
const MANY: u64 = 1 << 31;

pub(super) fn meta(meta: &Meta) -> Result<(), String> {
    if meta.format == 0 {
        return Err("there never was a format 0".to_owned());
    }
    if meta.cluster.as_str().is_empty() {
        return Err("it names no cluster".to_owned());
    }
    counted("epoch", meta.epoch, MANY)
}

pub(super) fn workload(name: &str, record: &WorkloadRecord) -> Result<(), String> {
    label(name)?;
    if record.spec.name.as_str() != name {
        return Err(format!("its spec is that of {:?}", record.spec.name.as_str()));
    }
    counted("last revision", record.last_revision, LARGEST)?;
    let known = |what: &str, revision: u64| match record.revisions.contains_key(&revision) {
        true => Ok(()),
        false => Err(format!("its {what} is revision {revision}, which is not there")),
    };
    known("goal", record.revision)?;
    for head in &record.heads {
        known("history", *head)?;
    }
    for revision in record.outdated.keys() {
        known("replicas' revision", *revision)?;
    }
    if let Some(newest) = record.revisions.keys().next_back().filter(|n| **n > record.last_revision)
    {
        return Err(format!("it has a revision {newest} after its last, {}", record.last_revision));
    }
    if let Some(rollout) = record.rollout.as_ref().filter(|rollout| rollout.is_open()) {
        known("rollout's goal", rollout.to)?;
    }
    ranges(&record.replicas)?;
    record.outdated.values().try_for_each(|numbers| ranges(numbers))
}

pub(super) fn replica(record: &ReplicaRecord) -> Result<(), String> {
    counted("number of restarts", record.restarts.into(), MANY)?;
    counted("back-off step", record.step.into(), MANY)
}

pub(super) fn node(id: &str, _record: &NodeRecord) -> Result<(), String> {
    label(id)
}

pub(super) fn revision(number: u64) -> Result<(), String> {
    counted("revision", number, LARGEST)
}

fn label(name: &str) -> Result<(), String> {
    dns_label_problem(name).map_or(Ok(()), |problem| Err(format!("its name {problem}")))
}

fn counted(what: &str, number: u64, below: u64) -> Result<(), String> {
    match number < below {
        true => Ok(()),
        false => Err(format!("its {what} is {number}, which cannot be")),
    }
}

/// Inclusive ranges, in order, and not more numbers than a workload may have.
fn ranges(ranges: &[(u32, u32)]) -> Result<(), String> {
    let mut next = 0_u64;
    let mut total = 0_u64;
    for (first, last) in ranges {
        if first > last || u64::from(*first) < next {
            return Err(format!("the replica numbers {first} to {last} are out of order"));
        }
        next = u64::from(*last) + 1;
        total += next - u64::from(*first);
    }
    match total <= u64::from(MAX_REPLICAS) {
        true => Ok(()),
        false => Err(format!("it has {total} replicas, more than are allowed")),
    }
}
