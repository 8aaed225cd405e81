//! Crashes at every byte: everything that the database does to its file is taped,
//! and from the tape the files are made that a crash (of the process, the system
//! or the power) would leave at each point: what was not flushed is there, or not,
//! or in parts. Our store opens each of them, and finds what was acknowledged, or
//! that and the batch that was being written.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/eventful.rs"]
mod eventful;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cluster::Rng;
use eventful::eventful;
use kube_lite::roles::scheduler::message::Record;
use kube_lite::roles::scheduler::store::{Opener, Store};
use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use serde_json::Value;
use tempfile::TempDir;

type Records = BTreeMap<String, Value>;

/// Disks write so much at once, or nothing of it.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// So many batches have been acknowledged.
    Acknowledged(usize),
}

/// What was done to the file, in order.
#[derive(Debug, Default)]
struct Tape {
    ops: Vec<Op>,
    /// From this operation on the file has its name.
    named_at: Option<usize>,
}

#[derive(Debug)]
struct Taped {
    file: FileBackend,
    name: PathBuf,
    tape: Arc<Mutex<Tape>>,
}

impl Taped {
    fn note(&self, op: Op) {
        let mut tape = self.tape.lock().unwrap();
        if tape.named_at.is_none() && self.name.exists() {
            tape.named_at = Some(tape.ops.len());
        }
        tape.ops.push(op);
    }
}

impl StorageBackend for Taped {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.note(Op::SetLen(len));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        // The tape shows what is safe: nothing is before this has returned.
        self.file.sync_data()?;
        self.note(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.note(Op::Write(offset, data.to_vec()));
        self.file.write(offset, data)
    }
}

fn taped(tape: &Arc<Mutex<Tape>>, name: PathBuf) -> Opener {
    let tape = Arc::clone(tape);
    Box::new(move |path| {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let file = FileBackend::new(file)?;
        let backend = Taped { file, name: name.clone(), tape: Arc::clone(&tape) };
        Database::builder().set_cache_size(1 << 20).create_with_backend(backend)
    })
}

/// One life of a scheduler's store, from what it found to its orderly end.
struct Life {
    /// What was there before.
    image: Vec<u8>,
    tape: Tape,
    /// What holds after each batch, before the first one first.
    states: Vec<Records>,
}

fn live(directory: &Path, batches: &[Vec<Record>]) -> Life {
    let name = directory.join("scheduler.redb");
    let image = std::fs::read(&name).unwrap_or_default();
    let tape = Arc::new(Mutex::new(Tape::default()));
    let store = Store::open_with(directory, taped(&tape, name)).unwrap();
    let mut records = store.load().unwrap();
    let mut states = vec![records.clone()];
    for (number, batch) in batches.iter().enumerate() {
        store.commit(batch).unwrap();
        tape.lock().unwrap().ops.push(Op::Acknowledged(number + 1));
        for record in batch {
            match &record.value {
                Some(value) => records.insert(record.key.clone(), value.clone()),
                None => records.remove(&record.key),
            };
        }
        states.push(records.clone());
    }
    drop(store);
    let tape = std::mem::take(&mut *tape.lock().unwrap());
    Life { image, tape, states }
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::SetLen(len) => image.resize(*len as usize, 0),
        Op::Write(offset, data) => {
            // Behind the end as the disk knows it nothing can be found.
            let start = (*offset as usize).min(image.len());
            let end = (start + data.len()).min(image.len());
            image[start..end].copy_from_slice(&data[..end - start]);
        }
        Op::Sync | Op::Acknowledged(_) => {}
    }
}

/// The file that a crash just before operation `at` leaves.
fn crashed(
    life: &Life,
    at: usize,
    flushed: &[u8],
    since: usize,
    fate: Fate,
    rng: &mut Rng,
) -> Vec<u8> {
    let mut image = flushed.to_vec();
    for op in &life.tape.ops[since..at] {
        match (fate, op) {
            (Fate::Whole, op) => apply(&mut image, op),
            (Fate::Lost, _) => {}
            (Fate::Torn, Op::Write(offset, data)) => {
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    if rng.below(2) == 0 {
                        let at = offset + (number * SECTOR) as u64;
                        apply(&mut image, &Op::Write(at, sector.to_vec()));
                    }
                }
            }
            (Fate::Torn, op) => {
                if rng.below(2) == 0 {
                    apply(&mut image, op);
                }
            }
            // All but one, which the disk has put off.
            (Fate::AllButOne, op) => {
                if rng.below(8) != 0 {
                    apply(&mut image, op);
                }
            }
        }
    }
    image
}

/// What becomes of what was not flushed.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// All of it is there: only the process has died.
    Whole,
    Lost,
    Torn,
    AllButOne,
}

/// Goes through all crashes of a life; returns how many found the batch that was
/// being written, how many did not, and some files with what has to be in them.
fn all_crashes(life: &Life, rng: &mut Rng) -> (usize, usize, Vec<(Vec<u8>, Records)>) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("scheduler.redb");
    let witness = directory.path().join("scheduler.commits");
    let named_at = if life.image.is_empty() { life.tape.named_at.unwrap() } else { 0 };
    let (mut with, mut without, mut some) = (0, 0, Vec::new());
    let mut flushed = life.image.clone();
    let (mut since, mut acknowledged) = (0, 0);
    let first = commits_before(life);
    for at in 0..=life.tape.ops.len() {
        if at >= named_at {
            for fate in [Fate::Whole, Fate::Lost, Fate::Torn, Fate::AllButOne, Fate::Torn] {
                let image = crashed(life, at, &flushed, since, fate, rng);
                std::fs::write(&path, &image).unwrap();
                let noted = first + acknowledged as u64;
                std::fs::write(&witness, format!("{noted:020} {noted:020}\n")).unwrap();
                let found = Store::open(directory.path())
                    .and_then(|store| store.load())
                    .unwrap_or_else(|error| panic!("operation {at}, {fate:?}: {error}"));
                let old = found == life.states[acknowledged];
                let new = life.states.get(acknowledged + 1) == Some(&found);
                assert!(old || new, "operation {at}, {fate:?}: neither the old nor the new");
                if rng.below(40) == 0 {
                    some.push((image, found));
                }
                if old { without += 1 } else { with += 1 }
            }
        }
        match life.tape.ops.get(at) {
            Some(Op::Sync) => {
                for op in &life.tape.ops[since..at] {
                    apply(&mut flushed, op);
                }
                since = at + 1;
            }
            Some(Op::Acknowledged(count)) => acknowledged = *count,
            _ => {}
        }
    }
    (with, without, some)
}

/// The number of the last commit in the file that the life began with.
fn commits_before(life: &Life) -> u64 {
    if life.image.is_empty() {
        return 0;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("before.redb");
    std::fs::write(&path, &life.image).unwrap();
    use redb::ReadableDatabase as _;
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_read().unwrap();
    let seals = redb::TableDefinition::<&str, u64>::new("seals");
    let table = transaction.open_table(seals).unwrap();
    redb::ReadableTable::get(&table, "commits").unwrap().unwrap().value()
}

#[test]
fn a_crash_anywhere_leaves_what_was_acknowledged_or_one_batch_more() {
    let mut rng = Rng::new(5);
    let batches = eventful().batches.unwrap();
    assert!(batches.len() > 20, "{}", batches.len());
    let directory = TempDir::new().unwrap();
    let life = live(directory.path(), &batches);
    let (with, without, some) = all_crashes(&life, &mut rng);
    println!(
        "{} operations, {} batches: {with} crashes with the batch in flight, {without} without",
        life.tape.ops.len(),
        batches.len()
    );
    assert!(with > batches.len() && without > batches.len(), "{with} {without}");
    assert!(some.len() > 20, "{}", some.len());
    // A crash while a file is mended that a crash has left.
    let next: Vec<Vec<Record>> = vec![
        vec![eventful::meta(2)],
        vec![Record { key: "node/n1".to_owned(), value: None }, eventful::meta(3)],
    ];
    let mut again = 0;
    for (image, expected) in some.into_iter().step_by(7) {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("scheduler.redb"), &image).unwrap();
        let life = live(directory.path(), &next);
        assert_eq!(life.states[0], expected);
        let (with, without, _) = all_crashes(&life, &mut rng);
        again += with + without;
    }
    println!("{again} crashes of schedulers that had just gone on from a crash");
    assert!(again > 200, "{again}");
}
