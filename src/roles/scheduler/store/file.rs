//! The database file: looking into it without changing it, making one, and
//! committing to it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, TableError,
};

use super::error::StoreError;
use super::overlay::Overlay;
use crate::roles::scheduler::message::Record;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Under [`COMMITS`]: the number of the commit that wrote this.
const SEALS: TableDefinition<'_, &str, u64> = TableDefinition::new("seals");
const COMMITS: &str = "commits";
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Values by key, as they are on the disk.
pub(super) type Raw = BTreeMap<String, Vec<u8>>;
/// What has to be written to undo a commit that may or may not have happened.
pub(super) type Undo = BTreeMap<String, Option<Vec<u8>>>;

/// How a database file is opened: with redb's own backend, or, in tests, with
/// one that watches or fails.
pub type Opener = Box<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// The opener that is not a test's.
pub(super) fn plain() -> Opener {
    Box::new(|path| Builder::new().set_cache_size(CACHE_BYTES).create(path))
}

/// All that is in a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    pub(super) records: Raw,
    /// The number of the last commit; 0 in files of builds before there were any.
    pub(super) commits: u64,
}

/// Looks into a file, verifies every page of it that counts, and changes
/// nothing; `None` where there is no file.
pub(super) fn inspect(path: &Path) -> Result<Option<Contents>, StoreError> {
    let unreadable =
        |error: std::io::Error| StoreError::Open { path: path.to_owned(), source: error.into() };
    let foreign = |what: &str| StoreError::Foreign { path: path.to_owned(), what: what.to_owned() };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(foreign("it is no regular file"));
    }
    if metadata.len() == 0 {
        return Err(foreign("it is empty"));
    }
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err(foreign("it does not begin like one"));
    }
    // A build from before there was a lock file has only the database's own lock.
    if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
        let directory = path.parent().unwrap_or(path).to_owned();
        return Err(StoreError::InUse { directory, holder: None });
    }
    // The database trusts what it reads more than a damaged file deserves.
    catch_unwind(AssertUnwindSafe(|| read_all(file)))
        .unwrap_or_else(|_| Err(Trouble::Damaged("it cannot be made sense of".to_owned())))
        .map(Some)
        .map_err(|trouble| match trouble {
            Trouble::Damaged(what) => StoreError::Damaged { path: path.to_owned(), what },
            Trouble::Foreign(what) => foreign(what),
            Trouble::Io(source) => StoreError::Read { path: path.to_owned(), source },
        })
}

/// What can be wrong with a file's contents.
enum Trouble {
    Damaged(String),
    Foreign(&'static str),
    Io(anyhow::Error),
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error)
                if !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
            {
                Trouble::Io(error.into())
            }
            error => Trouble::Damaged(error.to_string()),
        }
    }
}

impl From<redb::Error> for Trouble {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => StorageError::Io(error).into(),
            error => Trouble::Damaged(error.to_string()),
        }
    }
}

fn read_all(file: File) -> Result<Contents, Trouble> {
    let overlay = Overlay::new(file).map_err(|error| Trouble::Io(error.into()))?;
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(overlay)
        .map_err(redb::Error::from)?;
    contents(&database.begin_read().map_err(redb::Error::from)?)
}

fn contents(transaction: &ReadTransaction) -> Result<Contents, Trouble> {
    let mut found = Contents::default();
    match transaction.open_table(RECORDS) {
        Ok(table) => each(&table, &mut |key, value| {
            found.records.insert(key.to_owned(), value.to_vec());
            true
        })?,
        // Made, and then nothing was written: a start that was cut short.
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => {}
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(Trouble::Foreign("it is a database of another program"));
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(Trouble::Foreign("it is a database of another program")),
    }
    match transaction.open_table(SEALS) {
        Ok(table) => found.commits = table.get(COMMITS)?.map_or(0, |number| number.value()),
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(redb::Error::from(error).into()),
    }
    Ok(found)
}

/// Hands out one record after the other, until told to stop.
fn each(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    take: &mut dyn FnMut(&str, &[u8]) -> bool,
) -> Result<(), StorageError> {
    for entry in table.iter()? {
        let (key, value) = entry?;
        if !take(key.value(), value.value()) {
            break;
        }
    }
    Ok(())
}

/// The records of an open database at one point, one after the other.
pub(super) fn read_records(
    transaction: &ReadTransaction,
    take: &mut dyn FnMut(&str, &[u8]) -> bool,
) -> anyhow::Result<()> {
    match transaction.open_table(RECORDS) {
        Ok(table) => Ok(each(&table, take)?),
        Err(TableError::TableDoesNotExist(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The number of the last commit of an open database.
pub(super) fn commits_of(database: &Database) -> anyhow::Result<u64> {
    match database.begin_read()?.open_table(SEALS) {
        Ok(table) => Ok(table.get(COMMITS)?.map_or(0, |number| number.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Writes a batch as commit `number`, with one fsync. What was there before goes
/// into `undo`, unless an earlier attempt has put something there already.
pub(super) fn commit(
    database: &Database,
    records: &[Record],
    number: u64,
    undo: &mut Undo,
) -> anyhow::Result<()> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for record in records {
            let before = match &record.value {
                Some(value) => {
                    let bytes = serde_json::to_vec(value)?;
                    table.insert(record.key.as_str(), bytes.as_slice())?
                }
                None => table.remove(record.key.as_str())?,
            };
            let before = before.map(|value| value.value().to_vec());
            undo.entry(record.key.clone()).or_insert(before);
        }
        transaction.open_table(SEALS)?.insert(COMMITS, number)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes a file with these contents, which takes the place of what is there in
/// one step: nobody ever finds half of it.
pub(super) fn make(path: &Path, contents: &Contents, opener: &Opener) -> anyhow::Result<Database> {
    let new = beside(path, "new");
    let attempt = || -> anyhow::Result<Database> {
        remove(&new)?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let database = opener(&new)?;
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for (key, value) in &contents.records {
                table.insert(key.as_str(), value.as_slice())?;
            }
            transaction.open_table(SEALS)?.insert(COMMITS, contents.commits)?;
        }
        transaction.commit()?;
        // The commit has flushed the data; this also flushes the file's length.
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_directory(path)?;
        Ok(database)
    };
    attempt().inspect_err(|_| {
        // It only takes up room now, perhaps the last there is.
        let _ = remove(&new);
    })
}

/// `scheduler.redb` → `scheduler.redb.ENDING`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a rename durable.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
