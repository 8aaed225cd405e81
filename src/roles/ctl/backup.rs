//! `backup`: all durable state in one file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::args::BackupArgs;
use super::session::Session;
use super::stop::Stop;
use crate::roles::scheduler::store::backup;

/// Takes a backup. It is verified before anything is written.
pub async fn backup(session: &Session, args: &BackupArgs) -> Result<(), Stop> {
    let bytes = session.client.backup().await.map_err(|error| session.failed(&error))?;
    let taken = backup::read(&bytes)
        .map_err(|error| Stop::Failed(format!("what the scheduler sent is of no use: {error}")))?;
    if args.file == "-" {
        return session.say(&bytes);
    }
    let path = Path::new(&args.file);
    write(path, &bytes).map_err(|error| {
        Stop::Failed(format!("cannot write the backup to {}: {error}", path.display()))
    })?;
    let workloads = taken.records.keys().filter(|key| key.starts_with("workload/")).count();
    session.remark(&format!(
        "cluster {} with {workloads} workload(s) is backed up to {} ({} bytes). It holds the \
         environment of all workloads, passwords included.",
        taken.head.cluster,
        path.display(),
        bytes.len()
    ));
    Ok(())
}

/// Writes all of it or nothing, readable by the owner alone.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = beside(path);
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().inspect_err(|_| {
        let _ = std::fs::remove_file(&new);
    })
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}
