//! The scheduler's disk: what is committed is there again, a batch is there
//! wholly or not at all, and now and then it refuses.

use std::collections::BTreeMap;

use kube_lite::roles::scheduler::durable::META;
use kube_lite::roles::scheduler::message::Record;
use serde_json::Value;

use crate::clock::Time;

/// The disk.
#[derive(Debug, Default)]
pub struct Disk {
    records: BTreeMap<String, Value>,
    /// It refuses every commit before then.
    pub refuses_until: Time,
    /// Each commit takes so much longer.
    pub slow_by_ms: u64,
    /// Commits so far.
    pub commits: u64,
    /// Everything it was told so far, if that is kept.
    pub tape: Option<Vec<Taped>>,
}

/// Something that happened to the disk.
#[derive(Clone, Debug)]
pub enum Taped {
    /// A batch was written.
    Batch(Vec<Record>),
    /// The scheduler died; this is what the disk had.
    Crash(BTreeMap<String, Value>),
}

impl Disk {
    /// Writes a batch, wholly.
    pub fn apply(&mut self, batch: &[Record]) {
        self.commits += 1;
        if let Some(tape) = &mut self.tape {
            tape.push(Taped::Batch(batch.to_vec()));
        }
        for record in batch {
            match &record.value {
                Some(value) => self.records.insert(record.key.clone(), value.clone()),
                None => self.records.remove(&record.key),
            };
        }
    }

    /// The scheduler has died.
    pub fn outlives(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.push(Taped::Crash(self.records.clone()));
        }
    }

    /// Everything it was told, up to now.
    pub fn take_tape(&mut self) -> Vec<Taped> {
        self.outlives();
        self.tape.take().unwrap_or_default()
    }

    /// What is stored, in its encoding and back; first what describes all of it.
    pub fn load(&self, encodes: bool) -> Result<(Option<Value>, BTreeMap<String, Value>), String> {
        let mut records = BTreeMap::new();
        for (key, value) in &self.records {
            let value = match encodes {
                true => serde_json::from_slice(&serde_json::to_vec(value).unwrap_or_default())
                    .map_err(|error| format!("record {key} is not JSON: {error}"))?,
                false => value.clone(),
            };
            records.insert(key.clone(), value);
        }
        Ok((records.remove(META), records))
    }
}
