//! Files that are not as they were written: whatever has happened to them, the
//! store says so and leaves them as they are, or finds exactly what was written.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/eventful.rs"]
mod eventful;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cluster::Rng;
use eventful::eventful;
use kube_lite::roles::scheduler::store::{Store, StoreError};
use serde_json::Value;
use tempfile::TempDir;

/// A data directory as its scheduler has left it.
struct Left {
    file: Vec<u8>,
    witness: Vec<u8>,
    records: BTreeMap<String, Value>,
}

/// After an orderly end, or killed in the middle.
fn left(orderly: bool) -> Left {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.load().unwrap();
    for batch in eventful().batches.unwrap() {
        store.commit(&batch).unwrap();
    }
    let records = store.load().unwrap();
    let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
    if orderly {
        drop(store);
        return Left { file: read("scheduler.redb"), witness: read("scheduler.commits"), records };
    }
    Left { file: read("scheduler.redb"), witness: read("scheduler.commits"), records }
}

/// A directory that is given one file after the other.
struct Bench {
    directory: TempDir,
    path: PathBuf,
    refused: usize,
    fine: usize,
}

impl Bench {
    fn new(left: &Left) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("scheduler.commits"), &left.witness).unwrap();
        let path = directory.path().join("scheduler.redb");
        Self { directory, path, refused: 0, fine: 0 }
    }

    /// Opens this file: it holds what was written, or it is refused. Either way it
    /// stays as it is.
    fn judge(&mut self, what: &str, bytes: &[u8], left: &Left) {
        std::fs::write(&self.path, bytes).unwrap();
        let outcome = Store::open(self.directory.path()).and_then(|store| store.load());
        match outcome {
            Ok(records) => {
                assert_eq!(records, left.records, "{what}: other records, and nobody has noticed");
                self.fine += 1;
            }
            Err(error @ (StoreError::Damaged { .. } | StoreError::Foreign { .. })) => {
                let said = error.to_string();
                assert!(
                    said.contains("left as it is") || said.contains("left as it was"),
                    "{said}"
                );
                self.refused += 1;
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
        assert_eq!(std::fs::read(&self.path).unwrap(), bytes, "{what}: the file was changed");
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn a_flipped_bit_is_noticed_or_means_nothing() {
    let mut rng = Rng::new(11);
    for orderly in [true, false] {
        let left = left(orderly);
        let mut bench = Bench::new(&left);
        bench.judge("as it was left", &left.file, &left);
        assert_eq!((bench.fine, bench.refused), (1, 0), "orderly: {orderly}");
        // A bit of each byte of the head, all of its first, and some everywhere.
        let everywhere = left.file.len() as u64 * 8;
        let some: Vec<usize> = (0..500).map(|_| rng.below(everywhere) as usize).collect();
        let head: Vec<usize> = (0..320).map(|byte| byte * 8 + rng.below(8) as usize).collect();
        for bit in (0..64 * 8).chain(head).chain(some) {
            bench.judge(&format!("bit {bit}"), &flipped(&left.file, bit), &left);
        }
        assert!(bench.refused > 100, "{} were noticed, {} fine", bench.refused, bench.fine);
        println!("orderly {orderly}: {} noticed, {} meant nothing", bench.refused, bench.fine);
    }
}

#[test]
fn a_file_cut_short_or_grown_or_mixed_up_is_noticed_or_means_nothing() {
    let mut rng = Rng::new(12);
    for orderly in [true, false] {
        let left = left(orderly);
        let mut bench = Bench::new(&left);
        let length = left.file.len();
        let pages = (0..=length / 4096).map(|page| page * 4096);
        let odd: Vec<usize> = (0..30).map(|_| rng.below(length as u64) as usize).collect();
        for cut in [0, 1, 8, 9, 10, 100, 320, 511, 512].into_iter().chain(pages).chain(odd) {
            bench.judge(&format!("cut to {cut}"), &left.file[..cut.min(length)], &left);
        }
        for more in [1, 4095, 4096, 100_000] {
            let mut longer = left.file.clone();
            longer.resize(length + more, 0x5a);
            bench.judge(&format!("longer by {more}"), &longer, &left);
        }
        for round in 0..100 {
            let mut mixed = left.file.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(length as u64) as usize;
                let end = (at + rng.below(5_000) as usize).min(length);
                match rng.below(3) {
                    0 => mixed[at..end].fill(0),
                    1 => mixed[at..end].iter_mut().for_each(|byte| *byte = rng.next() as u8),
                    _ => {
                        let from = rng.below((length - (end - at)) as u64 + 1) as usize;
                        let piece = left.file[from..from + (end - at)].to_vec();
                        mixed[at..end].copy_from_slice(&piece);
                    }
                }
            }
            bench.judge(&format!("mixed up, round {round}"), &mixed, &left);
        }
        assert!(bench.refused > 60, "{} were noticed, {} fine", bench.refused, bench.fine);
    }
}

/// What is no file of ours at all.
#[test]
fn foreign_files_are_refused_and_left_alone() {
    let left = left(true);
    let mut bench = Bench::new(&left);
    for bytes in [&b""[..], b"{}", b"SQLite format 3\0", &[0; 73_728], b"redb\x1a\x0a\xa9\x0d\x0a"]
    {
        bench.judge("foreign", bytes, &left);
    }
    assert_eq!(bench.refused, 5);
    let other = bench.directory.path().join("other.redb");
    {
        let table = redb::TableDefinition::<u64, u64>::new("somebody's");
        let database = redb::Database::create(&other).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert(1, 2).unwrap();
        transaction.commit().unwrap();
    }
    bench.judge("another program's", &std::fs::read(other).unwrap(), &left);
    assert_eq!(bench.refused, 6);
}

/// The last commit is lost, and nothing in the file shows it: an old copy.
#[test]
fn an_old_copy_is_noticed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("scheduler.redb");
    let batches = eventful().batches.unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.commit(&batches[0]).unwrap();
    let old = std::fs::read(&path).unwrap();
    store.commit(&batches[1]).unwrap();
    drop(store);
    std::fs::write(&path, old).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("ends with commit 1, but commit 2 was acknowledged"), "{error}");
    // That the file is gone is noticed, too; who removes both begins anew, knowingly.
    std::fs::remove_file(&path).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("scheduler.redb is missing"), "{error}");
    std::fs::remove_file(directory.path().join("scheduler.commits")).unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.commit(&batches[0]).unwrap();
    drop(store);
    assert_eq!(Store::open(directory.path()).unwrap().load().unwrap().len(), 1);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What an interrupted start has left behind is cleared away.
#[test]
fn an_unfinished_file_is_not_taken_for_a_finished_one() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("scheduler.redb.new"), b"half").unwrap();
    let store = Store::open(directory.path()).unwrap();
    assert!(store.load().unwrap().is_empty());
    assert_eq!(names(directory.path()), ["scheduler.lock"]);
    store.commit(&[eventful::meta(1)]).unwrap();
    let all = ["scheduler.commits", "scheduler.lock", "scheduler.redb"];
    assert_eq!(names(directory.path()), all);
    use std::os::unix::fs::PermissionsExt as _;
    for name in all {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
