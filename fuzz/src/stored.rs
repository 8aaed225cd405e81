//! What was written down, by a scheduler of another time or on a disk that is no longer
//! what it was: records, backups, recordings.

use std::collections::BTreeMap;

use kube_lite::model::Timing;
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{META, Meta, after_restore};
use kube_lite::roles::scheduler::message::{Input, Moment};
use kube_lite::roles::scheduler::recording::{self, Checkpoint, Digest};
use kube_lite::roles::scheduler::replay::Replay;
use kube_lite::roles::scheduler::store::backup::{self, Backup, Writer};
use serde_json::Value;

use crate::{lines, machines};

const WALL: u64 = 1_700_000_000_000;
/// More replicas than this are slow, and no different.
const MOST_REPLICAS: u64 = 200;

/// The records of a store, as a JSON object: either it is said what is wrong with which,
/// or the scheduler goes on from them.
pub fn records(bytes: &[u8]) {
    let Ok(all) = serde_json::from_slice::<BTreeMap<String, Value>>(bytes) else { return };
    recover(&all);
}

fn recover(all: &BTreeMap<String, Value>) {
    let small = |value: &Value| {
        let ranges = value.get("replicas").and_then(Value::as_array).into_iter().flatten();
        let length =
            |range: &Value| Some(range.get(1)?.as_u64()?.saturating_sub(range.get(0)?.as_u64()?));
        let of_spec = value.get("spec").and_then(|spec| spec.get("replicas")?.as_u64());
        ranges.filter_map(length).chain(of_spec).all(|length| length < MOST_REPLICAS)
    };
    if !all.values().all(small) {
        return;
    }
    let meta = match Meta::of(all) {
        Ok(Some(meta)) => meta,
        Ok(None) => return,
        Err(error) => return assert!(error.to_string().len() > 10, "{error:?}"),
    };
    let mut rest = all.clone();
    rest.remove(META);
    let meta = Meta { epoch: meta.epoch + 1, ..meta };
    let moment = |now| Moment { now, wall: WALL + now, draw: now.wrapping_mul(0x9E37_79B9) };
    let mut core = match Core::recover(&meta, &rest, Timing::default(), moment(0)) {
        Ok(core) => core,
        Err(error) => {
            let said = error.to_string();
            assert!(rest.keys().any(|key| said.contains(&format!("{key:?}"))), "which? {said}");
            return;
        }
    };
    machines::tells(&core);
    // It lives, and what it writes then can be read as well.
    for now in [1, 1_000, 9_000, 20_000, 120_000] {
        for record in core.step(moment(now), Input::Tick).records {
            match record.value {
                Some(value) => rest.insert(record.key, value),
                None => rest.remove(&record.key),
            };
        }
    }
    machines::tells(&core);
    let again = Core::recover(&meta, &rest, Timing::default(), moment(0));
    let again = again.unwrap_or_else(|error| panic!("cannot start again: {error:?}"));
    assert_eq!(core.state.workloads.len(), again.state.workloads.len());
}

/// A backup. As it is, and with a head and an end that fit, since nobody finds a
/// checksum by chance: then the lines in between are what is tried.
pub fn backup(bytes: &[u8]) {
    taken(bytes);
    let mut writer = Writer::default();
    let mut text = writer.head(&backup::Head::new("c1", "2026-11-22T13:35:23.120Z".to_owned()));
    for line in lines(bytes) {
        let Some(split) = line.iter().position(|byte| *byte == b' ') else { continue };
        let (key, value) = (String::from_utf8_lossy(&line[..split]), &line[split + 1..]);
        if let Ok(record) = writer.record(&key, value) {
            text.extend(record);
        }
    }
    text.extend(writer.end());
    taken(&text);
}

fn taken(bytes: &[u8]) {
    let Backup { head, records } = match backup::read(bytes) {
        Ok(backup) => backup,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("backup") && said.len() < 2_000, "{said}");
            return;
        }
    };
    let mut writer = Writer::default();
    let mut text = writer.head(&head);
    for (key, value) in &records {
        let value = serde_json::to_vec(value).expect("it can be written");
        text.extend(writer.record(key, &value).expect("it is JSON"));
    }
    text.extend(writer.end());
    let again = backup::read(&text).expect("what was written is read");
    assert_eq!(again, Backup { head, records: records.clone() });
    recover(&records);
    if let Ok(restored) = after_restore(records.clone()) {
        recover(&restored);
    }
}

/// A recording. As it is, and each line with the checksum that fits it.
pub fn recording(bytes: &[u8]) {
    replayed(bytes);
    let mut sealed = Vec::new();
    for line in lines(bytes) {
        match serde_json::from_slice::<Value>(line) {
            Ok(value @ Value::Object(_)) => sealed.extend(recording::line(&value)),
            _ => sealed.extend([line, b"\n"].concat()),
        }
    }
    replayed(&sealed);
}

fn replayed(bytes: &[u8]) {
    let segment = match recording::read(bytes) {
        Ok(segment) => segment,
        Err(flaw) => return assert!(flaw.to_string().len() > 10, "{flaw:?}"),
    };
    let recording::Segment { checkpoint, entries, cut_short, .. } = segment;
    assert!(cut_short < bytes.len());
    // A running core is our own memory, written down under a checksum: nothing but
    // damage makes it contradict itself, and that is noticed. An opened one was a disk.
    if matches!(checkpoint, Checkpoint::Running(_)) {
        return;
    }
    let Ok(mut replay) = Replay::begin(checkpoint) else { return };
    for entry in entries.into_iter().take(64) {
        match replay.take(entry) {
            Ok(Some(batch)) => {
                for relived in &batch.steps {
                    assert_eq!(
                        Digest::of(&relived.step).difference(&Digest::of(&relived.step)),
                        None
                    );
                }
            }
            Ok(None) => {}
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    machines::tells(replay.core());
}
