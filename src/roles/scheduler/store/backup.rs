//! A backup: all durable records at one point, as text that outlives this build
//! and its database. One JSON object per line: a head, the records in the order of
//! their keys, and an end with their number and a SHA-256 over all lines before it
//! (`head -n -1 FILE | sha256sum` gives the same).
//!
//! ```text
//! {"kubeLiteBackup":1,"cluster":"5f0c…","takenAt":"2026-11-22T13:35:23.120Z","version":"0.1.0"}
//! {"key":"meta","value":{"cluster":"5f0c…","epoch":3,"format":1}}
//! {"key":"workload/web","value":{…}}
//! {"records":2,"sha256":"…"}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The version of this format.
const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    #[serde(rename = "kubeLiteBackup")]
    version_of_format: u32,
    /// The cluster it is of.
    pub cluster: String,
    /// When it was taken, RFC 3339.
    pub taken_at: String,
    /// The build that wrote it.
    pub version: String,
}

impl Head {
    /// The head of a backup that is taken now.
    pub fn new(cluster: &str, taken_at: String) -> Self {
        Self {
            version_of_format: VERSION,
            cluster: cluster.to_owned(),
            taken_at,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
struct End {
    records: u64,
    sha256: String,
}

/// A whole and undamaged backup.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Where it comes from.
    pub head: Head,
    /// Everything that was stored.
    pub records: BTreeMap<String, Value>,
}

/// Why something cannot be used as a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("this is no backup of kube-lite: its first line is not {{\"kubeLiteBackup\": …}}")]
    Foreign,
    /// A newer build wrote it.
    #[error(
        "the backup is in format {found}, this build reads up to {VERSION}; use a newer kube-lite"
    )]
    TooNew {
        /// Its format.
        found: u32,
    },
    /// Its end is missing.
    #[error(
        "the backup is cut short: its last line is not {{\"records\": …, \"sha256\": …}}; take it \
         again, or use another one"
    )]
    CutShort,
    /// It was changed since.
    #[error("the backup is damaged: {0}; use another one")]
    Damaged(String),
}

/// Makes a backup, piece by piece.
#[derive(Debug, Default)]
pub struct Writer {
    hash: Sha256,
    records: u64,
}

impl Writer {
    /// The first line.
    pub fn head(&mut self, head: &Head) -> Vec<u8> {
        self.line(head)
    }

    /// The line of a record, given its value as JSON.
    ///
    /// # Errors
    /// When the value is not JSON.
    pub fn record(&mut self, key: &str, value: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        let value = serde_json::from_slice(value)?;
        self.records += 1;
        Ok(self.line(&Line { key: key.to_owned(), value }))
    }

    /// The last line.
    pub fn end(self) -> Vec<u8> {
        json(&End { records: self.records, sha256: hex(self.hash) })
    }

    fn line(&mut self, value: &impl Serialize) -> Vec<u8> {
        let line = json(value);
        self.hash.update(&line);
        line
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain data with string keys: this cannot fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a backup and verifies all of it.
///
/// # Errors
/// [`BackupError`].
pub fn read(bytes: &[u8]) -> Result<Backup, BackupError> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().ok_or(BackupError::Foreign)?;
    let version: Value = serde_json::from_slice(first).map_err(|_| BackupError::Foreign)?;
    match version.get("kubeLiteBackup").and_then(Value::as_u64) {
        None => return Err(BackupError::Foreign),
        Some(found) if found > u64::from(VERSION) => {
            return Err(BackupError::TooNew { found: u32::try_from(found).unwrap_or(u32::MAX) });
        }
        Some(_) => {}
    }
    // First that it is whole, then what it says.
    let rest = &bytes[first.len()..];
    let last = rest.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let end: End = serde_json::from_slice(last)
        .ok()
        .filter(|_| last.ends_with(b"\n"))
        .ok_or(BackupError::CutShort)?;
    let body = &bytes[..bytes.len() - last.len()];
    let hash = hex(Sha256::new_with_prefix(body));
    if hash != end.sha256 {
        return Err(BackupError::Damaged(format!(
            "its contents do not fit its checksum (SHA-256 {hash}, it says {})",
            crate::model::error::tame(&end.sha256)
        )));
    }
    let wrong = |number: usize, error: serde_json::Error| {
        BackupError::Damaged(format!("line {number} is no record: {error}"))
    };
    let head = serde_json::from_slice(first).map_err(|error| wrong(1, error))?;
    let mut records = BTreeMap::new();
    for (index, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate().skip(1) {
        let Line { key, value } =
            serde_json::from_slice(line).map_err(|error| wrong(index + 1, error))?;
        if records.insert(key.clone(), value).is_some() {
            return Err(BackupError::Damaged(format!("the record {key:?} is in it twice")));
        }
    }
    if records.len() as u64 != end.records {
        let (found, said) = (records.len(), end.records);
        return Err(BackupError::Damaged(format!("it has {found} records and says {said}")));
    }
    Ok(Backup { head, records })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::default();
        let mut text = writer.head(&Head::new("c1", "2026-11-22T13:35:23.120Z".to_owned()));
        text.extend(writer.record("meta", br#"{"format":1}"#).unwrap());
        text.extend(writer.record("workload/web", br#"{"n": [1, 2, "\n"]}"#).unwrap());
        text.extend(writer.end());
        text
    }

    #[test]
    fn what_is_written_is_read() {
        let backup = read(&sample()).unwrap();
        assert_eq!(backup.head.cluster, "c1");
        assert_eq!(backup.head.version, env!("CARGO_PKG_VERSION"));
        assert_eq!(backup.records["workload/web"], serde_json::json!({"n": [1, 2, "\n"]}));
        assert_eq!(backup.records.len(), 2);
        assert_eq!(sample().iter().filter(|byte| **byte == b'\n').count(), 4, "a line each");
    }

    #[test]
    fn no_change_goes_unnoticed() {
        let good = sample();
        let whole = read(&good).unwrap();
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "cut to {length}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                // White space around the last object means nothing.
                assert!(
                    read(&flipped).is_err_and(|e| !e.to_string().is_empty())
                        || read(&flipped) == Ok(whole.clone()),
                    "byte {at}, bit {bit}"
                );
            }
        }
        for twice in 1..good.len() {
            let mut longer = good.clone();
            longer.extend_from_slice(&good[twice..]);
            assert!(read(&longer).is_err(), "with its end from {twice} on again");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, wanted) in [
            (&b""[..], "no backup of kube-lite"),
            (b"PK\x03\x04", "no backup of kube-lite"),
            (b"{}\n", "no backup of kube-lite"),
            (b"{\"kubeLiteBackup\":2,\"news\":true}\n", "format 2, this build reads up to 1"),
            (b"{\"kubeLiteBackup\":1}\n", "cut short"),
            (b"{\"kubeLiteBackup\":1}\n{\"records\":0,\"sha256\":\"00\"}\n", "checksum"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
