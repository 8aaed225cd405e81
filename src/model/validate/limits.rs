//! What `resources`, `logs`, `mounts` and `envFrom` may say. What a node then
//! allows is its agent's business.

use std::collections::BTreeSet;

use super::{check_count, invalid, shown, too_long, within};
use crate::model::{ApiError, ByteSize, Cpus, Mount, WorkloadSpec};

/// The most mounts, and the most files of environment variables.
const MAX_MOUNTS: usize = 100;
/// The longest path that Linux takes, and the longest name in it.
const LONGEST_PATH: usize = 4_095;
const LONGEST_NAME: usize = 255;
/// Docker's own least.
const MEMORY: [ByteSize; 2] = [ByteSize(6 << 20), ByteSize(1 << 50)];
const CPUS: [Cpus; 2] = [Cpus(10), Cpus(1_000_000)];
/// More the kernel does not count.
const MOST_PIDS: u32 = 4_194_304;
const LOG_SIZE: [ByteSize; 2] = [ByteSize(16 << 10), ByteSize(1 << 40)];

pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ApiError> {
    between("resources.memory", spec.resources.memory, MEMORY)?;
    between("resources.cpus", spec.resources.cpus, CPUS)?;
    if let Some(pids) = spec.resources.pids {
        within("resources.pids", pids, 1, MOST_PIDS)?;
    }
    between("logs.maxSize", spec.logs.max_size, LOG_SIZE)?;
    if let Some(files) = spec.logs.max_files {
        within("logs.maxFiles", files, 1, 100)?;
    }
    check_mounts(&spec.mounts)?;
    check_count("envFrom", spec.env_from.len(), MAX_MOUNTS)?;
    for (index, from) in spec.env_from.iter().enumerate() {
        if !is_file_name(&from.file) {
            return Err(invalid(
                format!("envFrom[{index}].file"),
                shown(&from.file),
                "the name of a file in the nodes' --env-dir, without a directory: letters, digits, \
                 '.', '_' and '-', not beginning with '.', at most 255",
            ));
        }
    }
    Ok(())
}

/// Whether it names a file and can name nothing else.
pub fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

fn between<T: Ord + std::fmt::Display>(
    field: &str,
    given: Option<T>,
    [least, most]: [T; 2],
) -> Result<(), ApiError> {
    match given {
        Some(given) if given < least || given > most => {
            Err(invalid(field, given.to_string(), &format!("from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn check_mounts(mounts: &[Mount]) -> Result<(), ApiError> {
    check_count("mounts", mounts.len(), MAX_MOUNTS)?;
    let mut targets = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let source = format!("mounts[{index}].source");
        let target = format!("mounts[{index}].target");
        check_path(&source, &mount.source, "a file or directory of the node")?;
        check_path(&target, &mount.target, "where the container sees it")?;
        let parts: Vec<&str> = parts(&mount.target).collect();
        if parts.is_empty() {
            return Err(invalid(target, "\"/\"", "below it: the image is mounted there"));
        }
        if !targets.insert(parts) {
            let given = format!("{} for the second time", shown(&mount.target));
            return Err(invalid(target, given, "mounted on only once"));
        }
    }
    Ok(())
}

/// The names in a path; what is written twice or at the end counts for nothing.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn check_path(field: &str, path: &str, what: &str) -> Result<(), ApiError> {
    if path.len() > LONGEST_PATH {
        return Err(too_long(field.to_owned(), path.len(), LONGEST_PATH));
    }
    let refuse = |allowed: &str| Err(invalid(field, shown(path), &format!("{what}, {allowed}")));
    if !path.starts_with('/') {
        return refuse("as a path from the root: it begins with '/'");
    }
    if parts(path).any(|part| part == "." || part == "..") {
        return refuse("as a path without '.' and '..' in it");
    }
    if path.chars().any(char::is_control) {
        return refuse("as a path without control characters");
    }
    Ok(())
}
