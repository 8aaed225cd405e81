//! What a recording of the scheduler consists of, and how it is written: lines of
//! JSON, each with a checksum of its own as its last field.
//!
//! A recording is a row of *segments*, a file each. A segment begins with a
//! [`Head`] and a [`Checkpoint`], from which the core begins, and goes on with
//! [`Entry`]s: every input with its moment, a [`Digest`] of what was decided on
//! it, and what the disk said. So every segment can be replayed by itself, exactly.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::core::Core;
use super::durable::{Meta, RecoverError};
use super::message::{Input, Millis, Moment, Step};
use crate::model::{ApiError, ClusterId, Timing};

/// The format of recordings; grows when an old build could not read a new one.
pub const FORMAT: u32 = 1;

/// The first field of every segment.
const MARK: &str = "{\"kubeLiteRecording\":";
/// Between a line's JSON and its checksum.
const SUM: &str = ",\"sum\":\"";
/// Hexadecimal digits of a checksum.
const SUM_DIGITS: usize = 16;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The format.
    pub kube_lite_recording: u32,
    /// The build that recorded it.
    pub version: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of its scheduler.
    pub epoch: u64,
    /// The number of the segment; also in the name of its file.
    pub segment: u64,
    /// Whether it goes on exactly where the segment before it ends.
    pub follows: bool,
    /// Steps of this life of the scheduler before it.
    pub after_step: u64,
}

/// The second line: what a segment begins from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Checkpoint {
    /// The scheduler started, and this was on its disk.
    Opened {
        /// Its new life.
        meta: Meta,
        /// All records but that of `meta`.
        records: BTreeMap<String, Value>,
        /// Every constant.
        timing: Box<Timing>,
        /// When it read them.
        moment: Moment,
    },
    /// The scheduler was running; its core between two steps.
    Running(Box<Core>),
}

impl Checkpoint {
    /// The core from which the segment goes on.
    ///
    /// # Errors
    /// When what the scheduler had opened does not make sense to this build.
    pub fn core(self) -> Result<Core, RecoverError> {
        match self {
            Self::Opened { meta, records, timing, moment } => {
                Core::recover(&meta, &records, *timing, moment)
            }
            Self::Running(core) => Ok(*core),
        }
    }
}

/// Every further line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// The core is given an input. Written before it is, so that one it does not
    /// survive is there, too.
    Step {
        /// Its number in this life of the scheduler, from 1.
        number: u64,
        /// It is the first of a batch: what the disk says, it says of a whole batch.
        first: bool,
        /// When, and the draw.
        moment: Moment,
        /// What happened.
        input: Input,
    },
    /// What the core decided on it.
    Decided(Digest),
    /// The records of the batch are on the disk.
    Stored {},
    /// The disk has refused them: the batch never happened.
    RolledBack {
        /// When.
        now: Millis,
        /// What the disk said.
        why: String,
    },
    /// The scheduler was told to stop.
    Ended {},
}

/// What a step has decided, as far as is needed to tell whether it was the same:
/// of each part `COUNT:HASH`, nothing where there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Changes of durable state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub records: String,
    /// Orders.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub orders: String,
    /// Answers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replies: String,
    /// Events.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub events: String,
}

impl Digest {
    /// That of a step.
    pub fn of(step: &Step) -> Self {
        // The status of an error is not in its JSON.
        let status = |(ticket, reply): &(_, Result<_, ApiError>)| {
            (*ticket, reply.as_ref().err().map(|error| error.status))
        };
        let statuses: Vec<(u64, Option<u16>)> = step.replies.iter().map(status).collect();
        Self {
            records: digest(step.records.len(), &step.records),
            orders: digest(step.orders.len(), &step.orders),
            replies: digest(step.replies.len(), &(&step.replies, statuses)),
            events: digest(step.events.len(), &step.events),
        }
    }

    /// In what `now` differs from this, in words; `None`: in nothing.
    pub fn difference(&self, now: &Digest) -> Option<String> {
        let parts = [
            ("records", &self.records, &now.records),
            ("orders", &self.orders, &now.orders),
            ("replies", &self.replies, &now.replies),
            ("events", &self.events, &now.events),
        ];
        let count = |digest: &str| match digest.split_once(':') {
            Some((count, _)) => count.to_owned(),
            None => "0".to_owned(),
        };
        let differing = parts.into_iter().filter(|(_, then, now)| then != now);
        let words: Vec<String> = differing
            .map(|(part, then, now)| match (count(then), count(now)) {
                (then, now) if then == now => format!("{part}: {now}, with other contents"),
                (then, now) => format!("{part}: {now} instead of {then}"),
            })
            .collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

fn digest(count: usize, part: &impl Serialize) -> String {
    match count {
        0 => String::new(),
        _ => format!("{count}:{}", checksum(&json(part))),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // All of these are plain data with keys that are strings or numbers: it cannot
    // fail; and were it to, reading would tell.
    serde_json::to_vec(value).unwrap_or_default()
}

fn checksum(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().take(SUM_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// A line, with its end.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = json(value);
    let sum = checksum(&line);
    line.pop();
    line.extend_from_slice(format!("{SUM}{sum}\"}}\n").as_bytes());
    line
}

/// The JSON of a line, if it is as it was written.
fn unseal(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    let tail = SUM.len() + SUM_DIGITS + 2;
    let cut = line.len().checked_sub(tail).ok_or("it is too short")?;
    let mut json = line[..cut].to_vec();
    json.push(b'}');
    let sealed = format!("{SUM}{}\"}}", checksum(&json));
    if line[cut..] == *sealed.as_bytes() { Ok(json) } else { Err("its checksum does not fit") }
}

/// A segment, read back.
#[derive(Debug)]
pub struct Segment {
    /// Where it comes from.
    pub head: Head,
    /// What it begins from.
    pub checkpoint: Checkpoint,
    /// What happened then.
    pub entries: Vec<Entry>,
    /// So many bytes at its end are the beginning of a line.
    pub cut_short: usize,
}

/// Why a segment cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is something else.
    #[error("it is no recording of a kube-lite scheduler")]
    Foreign,
    /// Written by a newer build.
    #[error(
        "it was recorded in format {found}, this build reads up to {FORMAT}; use a newer kube-lite"
    )]
    TooNew {
        /// The format found.
        found: u32,
    },
    /// It ends before its checkpoint does, so there is nothing in it to go on from.
    #[error("it is cut short before its first step: the scheduler ended while it began it")]
    Unborn,
    /// A line is not as it was written.
    #[error("it is damaged: line {line}: {what}")]
    Damaged {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// It is whole, but this build has no use for it.
    #[error(
        "line {line} says nothing to this build ({what}); it was recorded by kube-lite {version}, \
         replay it with that"
    )]
    OtherBuild {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
        /// The build that recorded it.
        version: String,
    },
}

/// Whether a segment may begin like this.
pub fn begins(bytes: &[u8]) -> bool {
    let length = bytes.len().min(MARK.len());
    bytes[..length] == MARK.as_bytes()[..length]
}

/// Reads a segment. The last line may be cut short, as a scheduler leaves it that
/// is killed.
///
/// # Errors
/// Any [`Flaw`].
pub fn read(bytes: &[u8]) -> Result<Segment, Flaw> {
    if !begins(bytes) {
        return Err(Flaw::Foreign);
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let cut_short = bytes.len() - whole;
    let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').zip(1..);
    let mut next = |version: &str| {
        let Some((line, number)) = lines.next() else { return Ok(None) };
        let json = unseal(&line[..line.len() - 1])
            .map_err(|what| Flaw::Damaged { line: number, what: what.to_owned() })?;
        Ok(Some(Line { json, number, version: version.to_owned() }))
    };
    let Some(first) = next("?")? else { return Err(Flaw::Unborn) };
    // Of a newer format, no more than its number may be as it is here.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Format {
        kube_lite_recording: u32,
    }
    let Format { kube_lite_recording: found } = first.read()?;
    if found > FORMAT {
        return Err(Flaw::TooNew { found });
    }
    let head: Head = first.read()?;
    let Some(second) = next(&head.version)? else { return Err(Flaw::Unborn) };
    let checkpoint = second.read()?;
    let mut entries = Vec::new();
    while let Some(line) = next(&head.version)? {
        entries.push(line.read()?);
    }
    Ok(Segment { head, checkpoint, entries, cut_short })
}

/// A line whose checksum fits.
struct Line {
    json: Vec<u8>,
    number: usize,
    version: String,
}

impl Line {
    fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, Flaw> {
        serde_json::from_slice(&self.json).map_err(|error| Flaw::OtherBuild {
            line: self.number,
            what: error.to_string(),
            version: self.version.clone(),
        })
    }
}

/// A rollout with since when its deadlines count, which its durable form leaves out.
pub(super) mod whole_rollout {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::roles::scheduler::message::Millis;
    use crate::roles::scheduler::state::Rollout;

    pub fn serialize<S: Serializer>(of: &Option<Rollout>, to: S) -> Result<S::Ok, S::Error> {
        of.as_ref().map(|rollout| (rollout, rollout.since)).serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Rollout>, D::Error> {
        let read: Option<(Rollout, Millis)> = Option::deserialize(from)?;
        Ok(read.map(|(rollout, since)| Rollout { since, ..rollout }))
    }
}

/// An error with its HTTP status, which its other form leaves out.
pub(super) mod with_status {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::ApiError;

    pub fn serialize<S: Serializer>(of: &ApiError, to: S) -> Result<S::Ok, S::Error> {
        (of.status, of).serialize(to)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<ApiError, D::Error> {
        let (status, error): (u16, ApiError) = Deserialize::deserialize(from)?;
        Ok(ApiError { status, ..error })
    }
}
