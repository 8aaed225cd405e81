//! The disk. A batch of records is written with one fsync or not at all.
//!
//! The boundary is small on purpose: load everything, commit a batch. Another
//! backend has nothing else to offer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::message::Record;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const FILE: &str = "scheduler.redb";

/// Where durable state is kept.
#[derive(Debug)]
pub enum Store {
    /// Nowhere: a throw-away cluster.
    Memory,
    /// In a file of the data directory, locked while open.
    File {
        /// The open database.
        database: Database,
        /// Where it is, for messages.
        path: PathBuf,
    },
}

/// Why durable state cannot be read or written, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another scheduler has it open.
    #[error(
        "another scheduler is using {path}; stop it first, or give this one another --data-dir"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error(
        "cannot open the state in {path}; its directory must be one that this user may write to \
         (choose with --data-dir)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// It cannot be read.
    #[error("cannot read the state in {path}; nothing was changed")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// It cannot be written.
    #[error("cannot write the state in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
}

impl Store {
    /// Opens the state in this directory, made if need be.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it, [`StoreError::Open`]
    /// when it cannot be made or is no state of ours.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let failed = |source: anyhow::Error| StoreError::Open { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(|e| failed(e.into()))?;
        match Database::builder().set_cache_size(4 * 1024 * 1024).create(&path) {
            Ok(database) => Ok(Store::File { database, path }),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse { path }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Forgets the state in this directory, if there is one.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when a scheduler has it open.
    pub fn forget(directory: &Path) -> Result<(), StoreError> {
        let path = directory.join(FILE);
        let failed = |source: anyhow::Error| StoreError::Open { path: path.clone(), source };
        if !path.exists() {
            return Ok(());
        }
        // Forgetting is the way out of a damaged file, too: only one that somebody
        // uses is spared.
        if let Err(redb::DatabaseError::DatabaseAlreadyOpen) = Database::open(&path) {
            return Err(StoreError::InUse { path });
        }
        std::fs::remove_file(&path).map_err(|e| failed(e.into()))
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// [`StoreError::Read`]; a record that is not JSON is an error too.
    pub fn load(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        match self {
            Store::Memory => Ok(BTreeMap::new()),
            Store::File { database, path } => {
                load(database).map_err(|source| StoreError::Read { path: path.clone(), source })
            }
        }
    }

    /// Writes a batch. When this returns, it is on disk; when it fails, nothing
    /// of it is.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        match self {
            Store::Memory => Ok(()),
            Store::File { database, path } => commit(database, records)
                .map_err(|source| StoreError::Write { path: path.clone(), source }),
        }
    }
}

fn load(database: &Database) -> anyhow::Result<BTreeMap<String, Value>> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut records = BTreeMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let key = key.value().to_owned();
        let value = serde_json::from_slice(value.value())
            .map_err(|error| anyhow::anyhow!("record {key:?} is not JSON: {error}"))?;
        records.insert(key, value);
    }
    Ok(records)
}

fn commit(database: &Database, records: &[Record]) -> anyhow::Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for record in records {
            match &record.value {
                Some(value) => {
                    let bytes = serde_json::to_vec(value)?;
                    table.insert(record.key.as_str(), bytes.as_slice())?;
                }
                None => {
                    table.remove(record.key.as_str())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
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
        }
        let store = Store::open(directory.path()).unwrap();
        let keys: Vec<String> = store.load().unwrap().into_keys().collect();
        assert_eq!(keys, ["b", "c"]);
    }

    #[test]
    fn a_second_scheduler_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Store::open(directory.path()).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        std::fs::write(&path, b"this is no database of ours").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"this is no database of ours");
    }
}
