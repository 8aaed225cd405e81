//! Where things are kept when nobody says otherwise.

use std::path::PathBuf;

use anyhow::Context;

/// The directory for a role's state: `$XDG_STATE_HOME/kube-lite/NAME`, by
/// default `~/.local/state/kube-lite/NAME`.
///
/// # Errors
/// When neither `XDG_STATE_HOME` nor `HOME` says where that is.
pub fn state_dir(name: &str) -> anyhow::Result<PathBuf> {
    let absolute = |variable: &str| {
        std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .context(
            "neither XDG_STATE_HOME nor HOME is set; say where state is kept: --data-dir DIR",
        )?;
    Ok(base.join("kube-lite").join(name))
}
