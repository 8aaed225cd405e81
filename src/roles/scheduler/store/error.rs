//! What can be wrong with durable state, in words that say what to do.

use std::path::PathBuf;

/// Why durable state cannot be read or written. None of these changes the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another scheduler has it.
    #[error(
        "another scheduler{} is using the state in {directory}; stop it first, or give this one \
         another --data-dir", .holder.as_ref().map_or_else(String::new, |who| format!(" ({who})"))
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// Who it is, if it said so.
        holder: Option<String>,
    },
    /// The directory cannot be used.
    #[error(
        "cannot open the state in {path}; its directory must be one that this user may write to \
         (choose with --data-dir)"
    )]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is not the state of a kube-lite scheduler: {what}. It was left as it is. Move it \
         away, or put a backup in its place: kube-lite scheduler --restore FILE --force"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The file is ours, but not as it was written.
    #[error(
        "the state in {path} is damaged: {what}. It was left as it is, and nothing is guessed. Put \
         a backup in its place (kube-lite scheduler --restore FILE --force), or an undamaged copy"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file is not there, and yet it was.
    #[error(
        "{path} is missing, and {commits} beside it says that it was there: this is no first start. \
         Put the file back, or a backup in its place (kube-lite scheduler --restore FILE); or, to \
         begin anew with nothing known, remove {commits} too (kube-lite dev: --fresh). Nothing was \
         changed"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What tells that it was there.
        commits: PathBuf,
    },
    /// It cannot be read at the moment.
    #[error("cannot read the state in {path}; nothing was changed")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// It cannot be written.
    #[error("cannot write the state in {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// There is state already, and nobody said that it may go.
    #[error(
        "there is state in {path} already; to put the backup in its place say --force (what is \
         there is kept beside it, with the ending .replaced)"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
}
