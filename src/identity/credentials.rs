//! The file that says to `ctl` where the scheduler is, how to know it, and who asks.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::files;

/// Names another file than the usual one.
pub const VARIABLE: &str = "KUBE_LITE_CREDENTIALS";

/// What is in the file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// Where the scheduler is: `https://host:port`.
    pub server: String,
    /// SHA-256 of the authority's certificate.
    pub fingerprint: String,
    /// Who asks.
    pub token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of whoever runs this program; `None`: there are none.
    ///
    /// # Errors
    /// When the file was named and is not there, or cannot be used, or others can
    /// read it.
    pub fn find() -> anyhow::Result<Option<Self>> {
        match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(path) => {
                let path = PathBuf::from(path);
                let found = Self::read(&path)?;
                found.map(Some).with_context(|| format!("{VARIABLE}: no file {}", path.display()))
            }
            None => match usual() {
                Some(path) => Self::read(&path),
                None => Ok(None),
            },
        }
    }

    /// Those in this file; `None`: there is no such file.
    ///
    /// # Errors
    /// When it cannot be used, or others can read it.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let Some(text) = files::read(path)? else { return Ok(None) };
        let parsed = serde_json::from_str(&text).map(Some);
        // Without the parser's words, which may quote the token.
        parsed.map_err(|_| {
            anyhow::anyhow!(
                "{} is no file of credentials; an admin makes one: kube-lite ctl token create \
                 --role viewer --write FILE",
                path.display()
            )
        })
    }

    /// Writes them, for the owner alone.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        files::write(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// `$XDG_CONFIG_HOME/kube-lite/credentials.json`, if there is a place for it.
pub fn usual() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("kube-lite/credentials.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_never_shown() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("c.json");
        let kept = Credentials {
            server: "https://box:1".into(),
            fingerprint: "f".into(),
            token: "klu_hidden".into(),
        };
        assert_eq!(Credentials::read(&path).unwrap(), None);
        kept.write(&path).unwrap();
        assert_eq!(Credentials::read(&path).unwrap(), Some(kept.clone()));
        assert!(!format!("{kept:?}").contains("hidden"));
        files::write(&path, b"{\"token\": klu_hidden}").unwrap();
        let error = format!("{:#}", Credentials::read(&path).unwrap_err());
        assert!(error.contains("token create") && !error.contains("hidden"), "{error}");
    }
}
