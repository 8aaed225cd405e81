//! Options of what a node shows of its machine to containers.

use std::path::PathBuf;

use clap::Args;

use crate::roles::agent::docker::Allowed;

/// `--allow-mount` and `--env-dir`.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct AllowArgs {
    /// A file or directory that workloads may mount, with all that is in it; ":ro": to read only;
    /// repeatable [default: none]
    #[arg(long, value_name = "PATH[:ro]")]
    pub allow_mount: Vec<String>,
    /// A directory of files with NAME=value lines, which workloads name in envFrom [default: none]
    #[arg(long, value_name = "DIR")]
    pub env_dir: Option<PathBuf>,
}

impl AllowArgs {
    /// What is allowed.
    ///
    /// # Errors
    /// When a place that is named cannot be used.
    pub fn allowed(&self) -> anyhow::Result<Allowed> {
        Allowed::new(&self.allow_mount, self.env_dir.as_deref())
    }

    /// # Errors
    /// When something is allowed to containers that are not real.
    pub fn nothing(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            *self == Self::default(),
            "--allow-mount and --env-dir are about real containers; leave them out, or \
             --runtime simulated"
        );
        Ok(())
    }
}
