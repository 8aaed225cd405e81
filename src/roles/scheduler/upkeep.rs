//! `kube-lite scheduler --check` and `--restore`: what is done with the state of a
//! scheduler that does not run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

use super::core::Core;
use super::driver::Clock;
use super::durable::{META, Meta, after_restore};
use super::message::Input;
use super::state::{State, Workload};
use super::store::Store;
use super::store::backup::{self, Backup};
use crate::model::{NodeId, Timing, WorkloadId};

/// So many names are listed.
const LISTED: usize = 20;

/// Verifies the state in a directory and says what is in it. Changes nothing.
///
/// # Errors
/// When there is none, when a scheduler uses it, or when it is not whole.
pub(super) fn check(directory: &Path) -> anyhow::Result<()> {
    let Some(found) = Store::look(directory)? else {
        bail!("there is no state in {}; say where it is with --data-dir", directory.display());
    };
    let title = format!("the state in {} is whole, {} bytes", found.path.display(), found.bytes);
    let said = examine(&found.records)
        .with_context(|| format!("the state in {} cannot be used", found.path.display()))?;
    say(&format!("{title}\n{said}"))
}

/// Verifies a backup and says what is in it. Changes nothing.
///
/// # Errors
/// When it cannot be read or is not whole.
pub(super) fn check_backup(file: &Path) -> anyhow::Result<()> {
    let Backup { head, records } = read(file)?;
    let said = examine(&records)
        .with_context(|| format!("the backup in {} cannot be used", file.display()))?;
    say(&format!(
        "the backup in {} is whole, taken {} by kube-lite {}\n{said}",
        file.display(),
        head.taken_at,
        head.version
    ))
}

/// Puts a backup in the place of the state in a directory.
///
/// # Errors
/// When the backup is not whole, when there is state already and `force` is not
/// given, or when a scheduler uses it. Nothing has changed then.
pub(super) fn restore(file: &Path, directory: &Path, force: bool) -> anyhow::Result<()> {
    let Backup { head, records } = read(file)?;
    let unusable = || format!("the backup in {} cannot be used", file.display());
    examine(&records).with_context(unusable)?;
    let records = after_restore(records).with_context(unusable)?;
    let said = examine(&records).with_context(unusable)?;
    let path = Store::replace(directory, &records, force)?;
    say(&format!(
        "restored the backup of {} into {}\n{said}\
         Start the scheduler on it when no other one of this cluster runs any more. What was \
         deployed, changed or\ndeleted after the backup is not known to it: containers of \
         workloads and revisions that are not in it are removed.\n",
        head.taken_at,
        path.display()
    ))
}

fn read(file: &Path) -> anyhow::Result<Backup> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read the backup in {}", file.display()))?;
    backup::read(&bytes).with_context(|| format!("cannot use {}", file.display()))
}

/// Starts a scheduler's core over these records, lets it look at everything once,
/// and says what it knows.
fn examine(records: &BTreeMap<String, Value>) -> anyhow::Result<String> {
    let meta = Meta::of(records)?.ok_or_else(|| anyhow!("its record {META:?} is missing"))?;
    let clock = Clock::start();
    let core = catch_unwind(AssertUnwindSafe(|| {
        let mut core = Core::recover(&meta, records, Timing::default(), clock.moment())?;
        core.step(clock.moment(), Input::Tick);
        Ok::<_, anyhow::Error>(core)
    }));
    let core = core.unwrap_or_else(|_| Err(anyhow!("the scheduler cannot go on from it")))?;
    Ok(summary(&meta, records, &core.state))
}

fn summary(meta: &Meta, records: &BTreeMap<String, Value>, state: &State) -> String {
    let mut text = String::new();
    let mut line = |what: &str, is: &str| {
        let _ = writeln!(text, "  {what:<12}{is}");
    };
    line("format", &meta.format.to_string());
    line("cluster", meta.cluster.as_str());
    line("epoch", &meta.epoch.to_string());
    line("workloads", &listed(state.workloads.iter().map(|(name, w)| of_workload(name, w))));
    let rolling = state.workloads.iter().filter_map(|(name, w)| of_rollout(name, w));
    line("rollouts", &listed(rolling));
    let node = |id: &NodeId| match records.get(&format!("node/{id}")) {
        Some(record) if record["draining"] == true => format!("{id} (draining)"),
        Some(record) if record["schedulable"] == false => format!("{id} (cordoned)"),
        _ => id.to_string(),
    };
    line("nodes", &listed(state.nodes.keys().map(node)));
    line("deleted", &listed(state.tombstones.keys().map(ToString::to_string)));
    let strange = records.keys().filter(|key| !is_known(key)).cloned();
    if strange.clone().next().is_some() {
        line("not known", &listed(strange));
    }
    text
}

fn of_workload(name: &WorkloadId, workload: &Workload) -> String {
    let done = workload.replicas.values().filter(|replica| replica.done.is_some()).count();
    let done = if done > 0 { format!(", {done} done") } else { String::new() };
    format!("{name} (revision {}, {} wanted{done})", workload.revision, workload.desired())
}

fn of_rollout(name: &WorkloadId, workload: &Workload) -> Option<String> {
    let rollout = workload.rollout.as_ref().filter(|rollout| rollout.is_open())?;
    Some(format!("{name} ({} {} to {})", rollout.state.as_str(), rollout.from, rollout.to))
}

/// `3: a, b, c`; long lists are cut.
fn listed(names: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = names.collect();
    let mut text = all.len().to_string();
    for (index, name) in all.iter().take(LISTED).enumerate() {
        text.push_str(if index == 0 { ": " } else { ", " });
        text.push_str(name);
    }
    if all.len() > LISTED {
        text.push_str(", …");
    }
    text
}

/// Whether this build reads a record; those of newer builds are left alone.
fn is_known(key: &str) -> bool {
    let kinds = ["workload", "tombstone", "node", "replica"];
    [META, "restored"].contains(&key)
        || key.split_once('/').is_some_and(|(kind, _)| kinds.contains(&kind))
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
