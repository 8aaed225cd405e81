//! What the simulated disk is told goes through the real store, too: after each
//! crash the files, as a killed process leaves them, have what the simulated disk has,
//! and a scheduler starts from them. Writes that are torn: tests/store_crash.rs.

use std::collections::BTreeMap;
use std::path::Path;

use kube_lite::model::Timing;
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{META, Meta};
use kube_lite::roles::scheduler::message::Moment;
use kube_lite::roles::scheduler::store::Store;
use kube_lite_sim::disk::Taped;
use kube_lite_sim::run::{Options, run};
use serde_json::Value;
use tempfile::TempDir;

/// So many crashes at least are looked at.
const CRASHES: usize = 60;
/// And so many seeds at most.
const SEEDS: u64 = 60;

/// A scheduler's start from what a file has.
fn start(directory: &Path) -> (Store, BTreeMap<String, Value>) {
    let store = Store::open(directory).unwrap_or_else(|error| panic!("it does not open: {error}"));
    let found = store.load().unwrap_or_else(|error| panic!("it cannot be read: {error}"));
    let mut records = found.clone();
    if let Some(meta) = records.remove(META) {
        let meta: Meta = serde_json::from_value(meta).expect("the record of the cluster");
        let moment = Moment { now: 1_000_000_000, wall: 1_790_000_000_000, draw: 1 };
        let core = Core::recover(&meta, &records, Timing::default(), moment)
            .unwrap_or_else(|error| panic!("it does not start: {error}"));
        let workloads = records.keys().filter(|key| key.starts_with("workload/")).count();
        assert_eq!(core.state.workloads.len(), workloads, "every workload is back");
    }
    (store, found)
}

/// What a process that is killed now leaves behind: the files as they are, with nobody
/// having closed them.
fn left_behind(directory: &Path) -> TempDir {
    let left = tempfile::tempdir().expect("a directory");
    for file in std::fs::read_dir(directory).expect("the directory") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), left.path().join(file.file_name())).expect("a copy");
    }
    left
}

#[test]
fn what_is_written_at_every_crash_point_opens_again() {
    let (mut crashes, mut batches, mut full) = (0, 0, 0);
    for seed in 1..=SEEDS {
        let tape = run(seed, Options { tapes: true, ..Options::default() }).tape;
        let mut directory = tempfile::tempdir().expect("a directory");
        let (mut store, _) = start(directory.path());
        for taped in tape {
            match taped {
                Taped::Batch(records) => {
                    batches += 1;
                    store.commit(&records).expect("a batch is written");
                }
                Taped::Crash(expected) => {
                    crashes += 1;
                    let left = left_behind(directory.path());
                    let found;
                    (store, found) = start(left.path());
                    directory = left;
                    assert_eq!(found, expected, "seed {seed}, crash {crashes}");
                    full += usize::from(found.keys().any(|key| key.starts_with("replica/")));
                }
            }
        }
        if crashes >= CRASHES {
            break;
        }
    }
    println!("{crashes} crashes, {batches} batches, {full} with what replicas have learned");
    assert!(crashes >= CRASHES && batches > crashes && full > 0, "{crashes} {batches} {full}");
}
