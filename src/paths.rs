//! Where things are kept when nobody says otherwise.

use std::path::PathBuf;

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
