//! A disk that fails: whatever a commit that failed has left on it, what was
//! acknowledged stays, what was refused has not happened, and it goes on by itself.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/eventful.rs"]
mod eventful;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cluster::{World, spec, spec_of};
use eventful::eventful;
use kube_lite::model::RestartPolicy;
use kube_lite::roles::scheduler::message::Record;
use kube_lite::roles::scheduler::store::{Opener, Store};
use redb::backends::FileBackend;
use redb::{Database, StorageBackend};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What fails, from when on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    /// Nothing is written any more.
    NoRoom,
    /// All is written, and the flush says that it failed.
    FlushLies,
    /// Half of what is to be written is.
    Half,
    /// The driver is broken.
    Panic,
}

#[derive(Debug)]
struct Failing {
    file: FileBackend,
    failure: Failure,
    /// So many writes and flushes go well yet; negative: nothing does.
    left: Arc<AtomicI64>,
}

impl Failing {
    fn fails(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::StorageFull, "no room, says the test")
}

impl StorageBackend for Failing {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        match self.failure == Failure::NoRoom && self.fails() {
            true => Err(refused()),
            false => self.file.set_len(len),
        }
    }

    fn sync_data(&self) -> Result<()> {
        match self.fails() {
            true => Err(refused()),
            false => self.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        if self.failure == Failure::FlushLies || !self.fails() {
            return self.file.write(offset, data);
        }
        if self.failure == Failure::Half {
            self.file.write(offset, &data[..data.len() / 2])?;
        }
        assert!(self.failure != Failure::Panic, "the driver is broken, says the test");
        Err(refused())
    }
}

fn failing(failure: Failure, left: &Arc<AtomicI64>) -> Opener {
    let left = Arc::clone(left);
    Box::new(move |path| {
        let file = FileBackend::new(OpenOptions::new().read(true).write(true).open(path)?)?;
        let backend = Failing { file, failure, left: Arc::clone(&left) };
        Database::builder().set_cache_size(1 << 20).create_with_backend(backend)
    })
}

fn apply(records: &mut BTreeMap<String, Value>, batch: &[Record]) {
    for record in batch {
        match &record.value {
            Some(value) => records.insert(record.key.clone(), value.clone()),
            None => records.remove(&record.key),
        };
    }
}

/// The disk fails at each operation of a commit in turn, for a while, and works
/// again: no restart is needed, and what is on the disk is what was acknowledged.
#[test]
fn what_was_refused_is_not_there_and_what_was_acknowledged_is() {
    let batches = eventful().batches.unwrap();
    let (past, future) = batches.split_at(12);
    let refused_one = [
        Record { key: "workload/refused".to_owned(), value: Some(json!("must not be seen")) },
        Record { key: "workload/web".to_owned(), value: None },
        eventful::meta(77),
    ];
    let plenty = i64::MAX / 2;
    let mut left_behind = 0;
    for failure in [Failure::NoRoom, Failure::FlushLies, Failure::Half, Failure::Panic] {
        let mut operations = 0;
        loop {
            let directory = TempDir::new().unwrap();
            let left = Arc::new(AtomicI64::new(plenty));
            let store = Store::open_with(directory.path(), failing(failure, &left)).unwrap();
            let mut records = BTreeMap::new();
            for batch in past {
                store.commit(batch).unwrap();
                apply(&mut records, batch);
            }
            left.store(operations, Ordering::SeqCst);
            let Err(error) = store.commit(&refused_one) else {
                left.store(plenty, Ordering::SeqCst);
                break; // It takes no more operations than that.
            };
            assert!(error.to_string().contains("cannot write the state in"), "{error}");
            // It may have got there: that is what makes it hard.
            let copy = TempDir::new().unwrap();
            let name = "scheduler.redb";
            std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
            let there = Store::look(copy.path()).unwrap().unwrap().records;
            left_behind += usize::from(there.contains_key("workload/refused"));
            // While it lasts, everything is refused, also an attempt to mend it.
            for batch in [&future[0][..], &[]] {
                store.commit(batch).unwrap_err();
                store.snapshot().unwrap_err();
            }
            left.store(plenty, Ordering::SeqCst);
            if operations % 2 == 0 {
                store.commit(&[]).unwrap();
                assert_eq!(store.load().unwrap(), records, "mended: {failure:?} {operations}");
            }
            for batch in future {
                store.commit(batch).unwrap();
                apply(&mut records, batch);
            }
            assert_eq!(store.load().unwrap(), records, "{failure:?} at {operations}");
            assert!(store.snapshot().unwrap().is_some());
            drop(store);
            let again = Store::open(directory.path()).unwrap().load().unwrap();
            assert_eq!(again, records, "{failure:?} at {operations}, read back");
            operations += 1;
        }
        assert!(operations >= 1, "{failure:?}");
        println!("{failure:?}: failed at each of {operations} operations");
    }
    assert!(left_behind > 0, "no commit that failed was on the disk after all");
}

/// A first start on a full disk, and then there is room.
#[test]
fn a_file_that_could_not_be_made_is_made_later() {
    let directory = TempDir::new().unwrap();
    let left = Arc::new(AtomicI64::new(0));
    let store = Store::open_with(directory.path(), failing(Failure::NoRoom, &left)).unwrap();
    store.commit(&[eventful::meta(1)]).unwrap_err();
    assert!(!directory.path().join("scheduler.redb").exists());
    assert!(!directory.path().join("scheduler.redb.new").exists(), "it took up room");
    left.store(i64::MAX / 2, Ordering::SeqCst);
    store.commit(&[eventful::meta(1)]).unwrap();
    assert_eq!(store.load().unwrap().len(), 1);
}

/// For half a minute nothing can be written, while reports come in that ought to
/// be: no node dies for it, and what runs is not touched.
#[test]
fn no_node_dies_for_a_disk_that_refuses() {
    let mut world = World::new(3);
    world.deploy(spec("web", 3));
    world.deploy(spec_of("crash", 3, "exit:1:400", RestartPolicy::Always));
    world.run_for(5_000);
    let web = world.live("web");
    assert_eq!(web.len(), 3);
    world.disk_refuses = true;
    let refused = world.user(kube_lite::roles::scheduler::message::UserCall::Scale {
        id: "web".into(),
        replicas: 9,
    });
    assert_eq!(refused.unwrap_err().reason, "StorageFailed");
    world.run_for(30_000);
    assert_eq!(world.view("web").desired, 3);
    world.disk_refuses = false;
    world.run_for(20_000);
    assert_eq!(world.events("NodeDead"), 0, "{}", world.story());
    assert_eq!(world.live("web"), web, "{}", world.story());
    world.scale("web", 4);
    world.until(20_000, "it goes on", |w| w.view("web").ready == 4);
}
