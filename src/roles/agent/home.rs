//! What an agent keeps on disk: the secret that proves it is the same machine
//! after a restart, and which cluster its containers belong to. Everything else
//! is in the containers' labels.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::message::Remembered;
use crate::paths::make_private;

const FILE: &str = "agent.json";

/// An agent's data directory, or none: then it is a new machine at each start.
#[derive(Debug)]
pub struct Home {
    dir: Option<PathBuf>,
    kept: Kept,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    key: String,
    #[serde(flatten)]
    remembered: Option<Remembered>,
}

impl Home {
    /// Reads the directory, or makes it with a new key in it.
    ///
    /// # Errors
    /// When it cannot be read or written, or holds something else: guessing would
    /// turn this node into another one.
    pub fn open(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            return Ok(Self { dir: None, kept: new()? });
        };
        let path = dir.join(FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; restore it, or remove it to start as a new node",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let kept = new()?;
                make_private(&dir)
                    .with_context(|| format!("cannot make the data directory {}", dir.display()))?;
                write(&dir, &kept)?;
                kept
            }
            Err(error) => bail!("cannot read {}: {error}", path.display()),
        };
        Ok(Self { dir: Some(dir), kept })
    }

    /// The node's secret.
    pub fn key(&self) -> &str {
        &self.kept.key
    }

    /// What the agent last knew of its cluster.
    pub fn remembered(&self) -> Option<Remembered> {
        self.kept.remembered.clone()
    }

    /// Keeps this for the next start.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before still is.
    pub fn remember(&mut self, remembered: Remembered) -> anyhow::Result<()> {
        self.kept.remembered = Some(remembered);
        match &self.dir {
            Some(dir) => write(dir, &self.kept),
            None => Ok(()),
        }
    }
}

fn new() -> anyhow::Result<Kept> {
    let mut key = [0; 16];
    getrandom::fill(&mut key).context("the system has no random numbers")?;
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Kept { key, remembered: None })
}

/// Writes all of it or nothing, readable by the owner alone.
fn write(dir: &Path, kept: &Kept) -> anyhow::Result<()> {
    let (path, new) = (dir.join(FILE), dir.join(format!("{FILE}.new")));
    let attempt = || -> std::io::Result<()> {
        // What an earlier attempt left might be readable by others.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(kept)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn remembered() -> Remembered {
        Remembered { cluster: "c1".into(), bind_ip: "10.0.0.1".parse().unwrap() }
    }

    #[test]
    fn key_and_cluster_survive_a_restart_and_only_the_owner_can_read_them() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let mut first = Home::open(Some(dir.clone())).unwrap();
        assert_eq!(first.remembered(), None);
        let left = dir.join(format!("{FILE}.new"));
        fs::write(&left, "left over").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        first.remember(remembered()).unwrap();
        let second = Home::open(Some(dir.clone())).unwrap();
        assert_eq!(second.key(), first.key());
        assert_eq!(second.remembered(), Some(remembered()));
        let mode = fs::metadata(dir.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn without_a_directory_each_start_is_a_new_machine() {
        let (one, other) = (Home::open(None).unwrap(), Home::open(None).unwrap());
        assert_ne!(one.key(), other.key());
        assert_eq!(one.key().len(), 32);
    }

    #[test]
    fn damage_is_an_error_not_a_new_node() {
        let temp = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "{\"key\": 5}"] {
            fs::write(temp.path().join(FILE), text).unwrap();
            let error = Home::open(Some(temp.path().into())).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{text}: {error}");
        }
    }
}
