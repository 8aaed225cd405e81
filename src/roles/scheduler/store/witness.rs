//! The number of the last acknowledged commit, beside the database.
//!
//! Every commit carries a number inside the database. After it is on disk, and
//! before anybody is told, the same number is noted here. So a database that
//! opens well and yet has a smaller number than this has lost something that was
//! acknowledged (the database goes back by one commit when the last one is
//! damaged and it was not shut down in order, and cannot know better; or somebody
//! has put an old copy in its place). A number here is never larger than what was
//! durable when it was written, so it needs no fsync and cannot raise a false alarm.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const FILE: &str = "scheduler.commits";

/// Where the number is noted.
#[derive(Debug)]
pub(super) struct Witness {
    path: PathBuf,
    file: Option<File>,
}

impl Witness {
    /// In this directory.
    pub(super) fn of(directory: &Path) -> Self {
        Self { path: directory.join(FILE), file: None }
    }

    /// The number noted; 0 when there is none or it cannot be read: then there is
    /// no witness, and nothing to hold against the database.
    pub(super) fn number(&self) -> u64 {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            // Twice, so that a torn or flipped one is told from a good one.
            (Some(Ok(one)), Some(Ok(other))) if one == other => one,
            _ => 0,
        }
    }

    /// Where it is, if there is one, whatever it says: then there was a database.
    pub(super) fn trace(&self) -> Option<&Path> {
        self.path.symlink_metadata().is_ok().then_some(self.path.as_path())
    }

    /// Notes a number.
    pub(super) fn note(&mut self, number: u64) {
        // Without a witness everything works as well; only damage of the very last
        // commit might go unnoticed.
        if let Err(error) = self.write(number) {
            tracing::debug!("cannot note the number of the last commit: {error}");
        }
    }

    fn write(&mut self, number: u64) -> std::io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&self.path)?,
        };
        // Always as long: it overwrites what is there, also on a full disk.
        file.write_all_at(format!("{number:020} {number:020}\n").as_bytes(), 0)?;
        self.file = Some(file);
        Ok(())
    }

    /// Removes it: the database is going to be another one.
    pub(super) fn forget(&mut self) -> std::io::Result<()> {
        self.file = None;
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_noted_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let mut witness = Witness::of(directory.path());
        assert_eq!(witness.number(), 0);
        for number in [1, 9, 10, u64::MAX, 7] {
            witness.note(number);
            assert_eq!(Witness::of(directory.path()).number(), number);
        }
        let path = directory.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert!([0, 7].contains(&witness.number()), "{at}");
        }
        witness.forget().unwrap();
        witness.forget().unwrap();
        assert_eq!(witness.number(), 0);
    }
}
