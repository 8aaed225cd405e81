//! Where things are kept when nobody says otherwise.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The directory for a role's state: `$XDG_STATE_HOME/kube-lite/NAME`, by
/// default `~/.local/state/kube-lite/NAME`.
///
/// # Errors
/// When neither `XDG_STATE_HOME` nor `HOME` says where that is, or with a path that
/// means something else in every directory.
pub fn state_dir(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(state) = absolute("XDG_STATE_HOME")? {
        return Ok(state.join("kube-lite").join(name));
    }
    let home = absolute("HOME")?.context(
        "neither XDG_STATE_HOME nor HOME is set; say where state is kept: --data-dir DIR",
    )?;
    Ok(home.join(".local/state/kube-lite").join(name))
}

/// Makes a directory that only its owner may enter, unless it is there. Those above it,
/// made if need be, are like any others: what root makes in `/var/lib` is given to the
/// user of a service, which has to get there.
///
/// # Errors
/// Those of the system.
pub fn make_private(directory: &Path) -> std::io::Result<()> {
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn absolute(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    let given = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = given.as_ref().filter(|path| !path.is_absolute()) {
        bail!(
            "{variable} is {path:?}, which is no absolute path; correct it, or say where state is \
             kept: --data-dir DIR"
        );
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_directory_itself_is_private() {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().join("kube-lite/scheduler");
        make_private(&directory).unwrap();
        make_private(&directory).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let plain = temp.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        assert_eq!(mode(directory.parent().unwrap()), mode(&plain), "as others are");
    }
}
