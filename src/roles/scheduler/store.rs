//! The disk. A batch of records is written with one fsync or not at all.
//!
//! The boundary is small on purpose: load everything, commit a batch. Another
//! backend has nothing else to offer.
//!
//! - A file is looked into before it is opened ([`file::inspect`]): all of it is
//!   verified, on a copy in memory of what would be changed. A file that is damaged
//!   or not ours is an error and is left as it is.
//! - After a commit has failed, what is on the disk is in doubt: the batch may be
//!   there after all, and pages may be in the system's cache that the disk never
//!   took. The next commit therefore writes a new file, of what is there without
//!   what was refused, and goes on with that. So memory and disk agree again
//!   without a restart, whatever had gone wrong.

pub mod backup;
mod error;
mod file;
mod holder;
mod overlay;
mod witness;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow, bail};
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use serde_json::Value;

pub use self::error::StoreError;
pub use self::file::Opener;
use self::file::{Contents, Raw, Undo};
use self::holder::Holder;
use self::witness::Witness;
use super::message::Record;

const FILE: &str = "scheduler.redb";

/// Where durable state is kept.
#[derive(Debug)]
pub enum Store {
    /// Nowhere: a throw-away cluster.
    Memory,
    /// In a file of the data directory, which is locked meanwhile.
    File(Box<FileStore>),
}

/// State in a file.
pub struct FileStore {
    path: PathBuf,
    opener: Opener,
    disk: Mutex<Disk>,
}

struct Disk {
    state: DiskState,
    /// The number of the last acknowledged commit.
    commits: u64,
    witness: Witness,
    holder: Holder,
    /// What was found at the start, until somebody asks for it.
    found: Option<Raw>,
}

/// How the file is.
enum DiskState {
    /// There is none yet.
    Absent,
    /// Verified, and not opened yet.
    Closed,
    Open(Database),
    /// A commit has failed; this undoes whatever came of it.
    InDoubt(Undo),
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What a look into a data directory has found.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Everything that is stored.
    pub records: BTreeMap<String, Value>,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens the state in this directory, made if need be. Nothing in the file
    /// changes before the first commit.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, [`StoreError::Open`]
    /// when it cannot be had, [`StoreError::Foreign`], [`StoreError::Damaged`] and
    /// [`StoreError::Missing`] when it is no state, or none any more.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, file::plain())
    }

    /// The same with another way of opening the database: for tests that watch
    /// what is written, or fail it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(directory: &Path, opener: Opener) -> Result<Self, StoreError> {
        let holder = Holder::take(directory)?;
        let path = directory.join(FILE);
        let witness = Witness::of(directory);
        // Left by a start or a mending that was cut short; never finished, never used.
        let _ = file::remove(&file::beside(&path, "new"));
        let found = inspect(&path, &witness)?;
        let disk = Disk {
            state: if found.is_some() { DiskState::Closed } else { DiskState::Absent },
            commits: found.as_ref().map_or(0, |contents| contents.commits),
            witness,
            holder,
            found: Some(found.unwrap_or_default().records),
        };
        Ok(Store::File(Box::new(FileStore { path, opener, disk: Mutex::new(disk) })))
    }

    /// Looks into a directory without changing anything in it; `None` when there
    /// is no state.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Damaged`] for a record that is no JSON.
    pub fn look(directory: &Path) -> Result<Option<Found>, StoreError> {
        let _visit = Holder::visit(directory)?;
        let path = directory.join(FILE);
        let Some(contents) = inspect(&path, &Witness::of(directory))? else { return Ok(None) };
        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Ok(Some(Found { records: decode(&path, contents.records)?, bytes, path }))
    }

    /// Puts these records in the place of what is in this directory, which is kept
    /// beside it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is something and `force` is not given;
    /// [`StoreError::InUse`], [`StoreError::Open`] and [`StoreError::Write`].
    pub fn replace(
        directory: &Path,
        records: &BTreeMap<String, Value>,
        force: bool,
    ) -> Result<PathBuf, StoreError> {
        let _holder = Holder::take(directory)?;
        let path = directory.join(FILE);
        let exists = path.symlink_metadata().is_ok();
        if exists && !force {
            return Err(StoreError::Exists { path });
        }
        free_of_older_builds(&path)?;
        let attempt = || -> anyhow::Result<()> {
            let mut contents = Contents { records: Raw::new(), commits: 1 };
            for (key, value) in records {
                contents.records.insert(key.clone(), serde_json::to_vec(value)?);
            }
            if exists {
                // A second name for it, so that there is a state at any moment.
                let kept = file::beside(&path, "replaced");
                file::remove(&kept)?;
                std::fs::hard_link(&path, &kept)
                    .or_else(|_| std::fs::copy(&path, &kept).map(drop))?;
            }
            Witness::of(directory).forget()?;
            file::make(&path, &contents, &file::plain())?.close()?;
            Ok(())
        };
        attempt().map_err(|source| StoreError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Forgets the state in this directory, if there is one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when a scheduler has it open.
    pub fn forget(directory: &Path) -> Result<(), StoreError> {
        let _holder = Holder::take(directory)?;
        let path = directory.join(FILE);
        // Forgetting is the way out of a damaged file, too: only one that somebody
        // uses is spared.
        free_of_older_builds(&path)?;
        // In this order: a file that is missed is an error, one without a witness is not.
        Witness::of(directory)
            .forget()
            .and_then(|()| file::remove(&path))
            .map_err(|error| StoreError::Open { path, source: error.into() })
    }

    /// Whether this directory holds state, whole or not, or has lost some.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(FILE).symlink_metadata().is_ok() || Witness::of(directory).trace().is_some()
    }

    /// Tells who wants the directory next whom to look for.
    pub fn announce(&self, address: SocketAddr) {
        if let Store::File(store) = self {
            store.disk().holder.announce(address);
        }
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// [`StoreError::Read`]; [`StoreError::Damaged`] for a record that is no JSON.
    pub fn load(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        match self {
            Store::Memory => Ok(BTreeMap::new()),
            Store::File(store) => store.load(),
        }
    }

    /// Writes a batch. When this returns, it is on disk; when it fails, nothing
    /// of it counts: should some have got there after all, the next batch removes
    /// it (an empty one, too). Only a crash before that can bring it back.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        match self {
            Store::Memory => Ok(()),
            Store::File(store) => store
                .disk()
                .commit(&store.path, &store.opener, records)
                .map_err(|source| StoreError::Write { path: store.path.clone(), source }),
        }
    }

    /// All records as of the last acknowledged commit, to be read at leisure while
    /// commits go on.
    ///
    /// # Errors
    /// [`StoreError::Read`] while the disk fails.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        match self {
            Store::Memory => Ok(None),
            Store::File(store) => {
                let failed =
                    |source: anyhow::Error| StoreError::Read { path: store.path.clone(), source };
                match &store.disk().state {
                    DiskState::Open(database) => {
                        let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
                        Ok(Some(Snapshot { transaction, path: store.path.clone() }))
                    }
                    _ => Err(failed(anyhow!("the disk has failed and is not mended yet"))),
                }
            }
        }
    }
}

/// The records at one point.
pub struct Snapshot {
    transaction: ReadTransaction,
    path: PathBuf,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Hands out one record after the other in the order of their keys, until
    /// told to stop.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn each(&self, take: &mut dyn FnMut(&str, &[u8]) -> bool) -> Result<(), StoreError> {
        file::read_records(&self.transaction, take)
            .map_err(|source| StoreError::Read { path: self.path.clone(), source })
    }
}

impl FileStore {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        let mut disk = self.disk();
        let raw = match (disk.found.take(), &disk.state) {
            (Some(raw), _) => raw,
            (None, DiskState::Open(database)) => all_of(database)
                .map_err(|source| StoreError::Read { path: self.path.clone(), source })?,
            (None, _) => inspect(&self.path, &disk.witness)?.unwrap_or_default().records,
        };
        decode(&self.path, raw)
    }
}

impl Disk {
    fn commit(&mut self, path: &Path, opener: &Opener, records: &[Record]) -> anyhow::Result<()> {
        self.found = None;
        let number = self.commits + 1;
        let ready = match std::mem::replace(&mut self.state, DiskState::Absent) {
            DiskState::Open(database) => Ok(database),
            DiskState::Absent => {
                self.witness.forget()?;
                let empty = Contents { records: Raw::new(), commits: self.commits };
                file::make(path, &empty, opener).map_err(|error| (DiskState::Absent, error))
            }
            DiskState::Closed => {
                open(path, opener, self.commits).map_err(|error| (DiskState::Closed, error))
            }
            DiskState::InDoubt(undo) => {
                let mended = mend(path, opener, &undo, self.commits);
                mended.map_err(|error| (DiskState::InDoubt(undo), error))
            }
        };
        let database = match ready {
            Ok(database) => database,
            Err((before, error)) => {
                self.state = before;
                return Err(error);
            }
        };
        if records.is_empty() {
            self.state = DiskState::Open(database);
            return Ok(());
        }
        let mut undo = Undo::new();
        let written = guarded(|| file::commit(&database, records, number, &mut undo));
        if written.is_err() {
            // Closed here, unflushed: after an error it takes no more commits.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
            self.state = DiskState::InDoubt(undo);
            return written;
        }
        self.state = DiskState::Open(database);
        self.commits = number;
        self.witness.note(number);
        Ok(())
    }
}

fn all_of(database: &Database) -> anyhow::Result<Raw> {
    let mut raw = Raw::new();
    file::read_records(&database.begin_read()?, &mut |key, value| {
        raw.insert(key.to_owned(), value.to_vec());
        true
    })?;
    Ok(raw)
}

/// Opens a file that was found good.
fn open(path: &Path, opener: &Opener, commits: u64) -> anyhow::Result<Database> {
    guarded(|| {
        let database = opener(path)?;
        let now = file::commits_of(&database)?;
        if now != commits {
            bail!("somebody else has changed the file meanwhile");
        }
        Ok(database)
    })
}

/// Writes what was acknowledged into a new file.
fn mend(path: &Path, opener: &Opener, undo: &Undo, commits: u64) -> anyhow::Result<Database> {
    let found = file::inspect(path)?.context("the file is gone")?;
    // Either without what was refused, or with all of it.
    if found.commits != commits && found.commits != commits + 1 {
        bail!("somebody else has changed the file meanwhile");
    }
    let mut contents = Contents { records: found.records, commits };
    for (key, before) in undo {
        match before {
            Some(value) => contents.records.insert(key.clone(), value.clone()),
            None => contents.records.remove(key),
        };
    }
    guarded(|| file::make(path, &contents, opener))
}

/// A panic inside the database is an error like any other: the file is in doubt.
fn guarded<T>(attempt: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(attempt))
        .unwrap_or_else(|_| Err(anyhow!("the database failed unexpectedly; the log says more")))
}

/// The file as it is, if it holds everything that was acknowledged.
fn inspect(path: &Path, witness: &Witness) -> Result<Option<Contents>, StoreError> {
    let Some(contents) = file::inspect(path)? else {
        return match witness.trace() {
            None => Ok(None),
            Some(commits) => {
                Err(StoreError::Missing { path: path.to_owned(), commits: commits.to_owned() })
            }
        };
    };
    let noted = witness.number();
    if contents.commits < noted {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!(
                "it ends with commit {}, but commit {noted} was acknowledged: what came between is \
                 lost, or this is an old copy",
                contents.commits
            ),
        });
    }
    Ok(Some(contents))
}

/// Refuses a file that a scheduler from before there was a lock file has open.
fn free_of_older_builds(path: &Path) -> Result<(), StoreError> {
    match file::inspect(path) {
        Err(error @ StoreError::InUse { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn decode(path: &Path, raw: Raw) -> Result<BTreeMap<String, Value>, StoreError> {
    let decode = |(key, bytes): (String, Vec<u8>)| match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!("its record {key:?} is not JSON ({error})"),
        }),
    };
    raw.into_iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<u64>) -> Record {
        Record { key: key.to_owned(), value: value.map(Value::from) }
    }

    #[test]
    fn what_is_committed_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        {
            let store = Store::open(directory.path()).unwrap();
            assert_eq!(store.load().unwrap(), BTreeMap::new());
            store.commit(&[record("a", Some(1)), record("b", Some(2))]).unwrap();
            store.commit(&[record("a", None), record("c", Some(3))]).unwrap();
            let keys: Vec<String> = store.load().unwrap().into_keys().collect();
            assert_eq!(keys, ["b", "c"]);
        }
        let store = Store::open(directory.path()).unwrap();
        let keys: Vec<String> = store.load().unwrap().into_keys().collect();
        assert_eq!(keys, ["b", "c"]);
    }

    #[test]
    fn a_file_that_was_there_is_missed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Store::look(directory.path()).unwrap().is_none(), "nothing is no loss");
        let store = Store::open(directory.path()).unwrap();
        store.commit(&[record("a", Some(1))]).unwrap();
        drop(store);
        std::fs::remove_file(directory.path().join(FILE)).unwrap();
        for _ in 0..2 {
            let error = Store::open(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::Missing { .. }), "{error}");
            let error = Store::look(directory.path()).unwrap_err().to_string();
            for words in ["scheduler.redb is missing", "--restore", "scheduler.commits too"] {
                assert!(error.contains(words), "{words}: {error}");
            }
        }
        // Both ways out: a backup, without having to insist, and a new beginning.
        let records = BTreeMap::from([("b".to_owned(), Value::from(9))]);
        Store::replace(directory.path(), &records, false).unwrap();
        assert_eq!(Store::open(directory.path()).unwrap().load().unwrap(), records);
        for forget in [false, true] {
            let store = Store::open(directory.path()).unwrap();
            store.commit(&[record("a", Some(1))]).unwrap();
            drop(store);
            std::fs::remove_file(directory.path().join(FILE)).unwrap();
            match forget {
                true => Store::forget(directory.path()).unwrap(),
                false => std::fs::remove_file(directory.path().join("scheduler.commits")).unwrap(),
            }
            assert_eq!(Store::open(directory.path()).unwrap().load().unwrap(), BTreeMap::new());
        }
    }

    #[test]
    fn a_second_scheduler_is_refused_and_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open(directory.path()).unwrap();
        let attempts: [fn(&Path) -> StoreError; 4] = [
            |directory| Store::open(directory).unwrap_err(),
            |directory| Store::look(directory).unwrap_err(),
            |directory| Store::forget(directory).unwrap_err(),
            |directory| Store::replace(directory, &BTreeMap::new(), true).unwrap_err(),
        ];
        for attempt in attempts {
            let error = attempt(directory.path());
            assert!(matches!(error, StoreError::InUse { .. }), "{error}");
            let process = format!("another scheduler (process {})", std::process::id());
            assert!(error.to_string().starts_with(&process), "{error}");
        }
        first.announce("127.0.0.1:8080".parse().unwrap());
        let error = Store::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("listening on 127.0.0.1:8080) is using"), "{error}");
        drop(first);
        Store::open(directory.path()).unwrap();
    }

    #[test]
    fn a_scheduler_of_a_build_without_a_lock_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let _older = Database::create(path).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        let error = Store::forget(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    }

    #[test]
    fn what_is_replaced_is_kept_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for number in 0..5 {
            store.commit(&[record("a", Some(number))]).unwrap();
        }
        drop(store);
        let records = BTreeMap::from([("b".to_owned(), Value::from(9))]);
        let error = Store::replace(directory.path(), &records, false).unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
        Store::replace(directory.path(), &records, true).unwrap();
        assert_eq!(Store::open(directory.path()).unwrap().load().unwrap(), records);
        let kept = directory.path().join("scheduler.redb.replaced");
        std::fs::rename(kept, directory.path().join(FILE)).unwrap();
        let found = Store::look(directory.path()).unwrap().unwrap();
        assert_eq!(found.records, BTreeMap::from([("a".to_owned(), Value::from(4))]));
    }
}
