//! Files that only their owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::paths::make_private;

/// Makes a directory that only its owner may enter.
pub(super) fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = make_private(dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Writes all of it or nothing, readable by the owner alone.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let attempt = || -> std::io::Result<()> {
        // What an earlier attempt left might be readable by others.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a file with a secret in it; `None`: there is no such file.
///
/// # Errors
/// When it cannot be read, or others can read it as well.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{path} can be read by others (its mode is {mode:o}), and it holds a secret; mend it: \
             chmod 600 {path}",
            path = path.display()
        );
    }
    let text = fs::read_to_string(path);
    text.map(Some).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_their_owner() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("secret.json");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(path.with_extension("new"), "left over").unwrap();
        write(&path, b"x").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("x"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains("640"), "{error}");
    }
}
