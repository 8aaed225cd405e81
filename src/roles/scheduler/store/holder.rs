//! One scheduler per data directory: a lock that ends with its process, and in
//! the locked file who that is. The database has a lock of its own; this one is
//! held over everything, also while there is no database file yet or while it is
//! being replaced.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::StoreError;
use crate::paths::make_private;

const FILE: &str = "scheduler.lock";

/// The data directory is ours, until this is dropped.
#[derive(Debug)]
pub(super) struct Holder {
    file: File,
}

impl Holder {
    /// Takes the directory, made if need be.
    pub(super) fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let failed = |error: std::io::Error| StoreError::Open {
            path: directory.to_owned(),
            source: error.into(),
        };
        make_private(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        lock(&file, directory)?;
        let mut holder = Self { file };
        holder.say(&format!("process {}", std::process::id()));
        Ok(holder)
    }

    /// The same for one who only reads: nothing is made, and where there is no
    /// lock file there is nobody to disturb.
    pub(super) fn visit(directory: &Path) -> Result<Option<Self>, StoreError> {
        match File::open(directory.join(FILE)) {
            Ok(file) => {
                lock(&file, directory)?;
                Ok(Some(Self { file }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(StoreError::Open { path: directory.to_owned(), source: error.into() })
            }
        }
    }

    /// Whom to name when somebody else wants the directory.
    pub(super) fn announce(&mut self, address: SocketAddr) {
        self.say(&format!("process {}, listening on {address}", std::process::id()));
    }

    fn say(&mut self, who: &str) {
        // Only for a message; on a full disk the lock is as good without.
        let _ = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(who.as_bytes()));
    }
}

fn lock(file: &File, directory: &Path) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(200).read_to_string(&mut text);
            let holder = read.is_ok().then(|| text.trim().to_owned()).filter(|who| {
                who.starts_with("process ") && who.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            });
            Err(StoreError::InUse { directory: directory.to_owned(), holder })
        }
        Err(TryLockError::Error(error)) => {
            Err(StoreError::Open { path: directory.join(FILE), source: error.into() })
        }
    }
}
