//! A recording run through the core again: the same inputs at the same moments,
//! and whether the same was decided.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use serde::Serialize;

use super::core::Core;
use super::durable::RecoverError;
use super::message::{Input, Moment, OrderBody, Record, Step, UserCall, heard};
use super::recording::{Checkpoint, Digest, Entry};
use super::state::State;
use crate::model::{InstanceId, WorkloadId};

/// The core, on its way through a recording.
#[derive(Debug)]
pub struct Replay {
    core: Core,
    /// As it was before the batch.
    before: State,
    batch: Vec<Relived>,
    /// What the last step has decided was not compared yet.
    undecided: bool,
    ended: bool,
}

/// One step, decided again.
#[derive(Clone, Debug)]
pub struct Relived {
    /// Its number in this life of the scheduler.
    pub number: u64,
    /// When it was.
    pub moment: Moment,
    /// What happened.
    pub input: Input,
    /// What this build decides on it.
    pub step: Step,
    /// In what that differs from what was decided then, if in anything.
    pub differs: Option<String>,
    /// The workloads of the instances that input and orders are about.
    about: Vec<(InstanceId, WorkloadId)>,
}

/// Steps that stand or fall together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In their order.
    pub steps: Vec<Relived>,
    /// What became of them.
    pub outcome: Outcome,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// There was nothing to be stored.
    NothingToStore,
    /// It is on the disk.
    Stored,
    /// The disk has refused it, for this reason: it never happened.
    RolledBack(String),
    /// The recording ends before it is told.
    Untold,
}

/// The recording says something that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it tells what came of a step before there is one")]
pub struct OutOfOrder;

impl Replay {
    /// Begins where a segment begins.
    ///
    /// # Errors
    /// When this build cannot begin from there.
    pub fn begin(checkpoint: Checkpoint) -> Result<Self, RecoverError> {
        let core = checkpoint.core()?;
        let before = core.state.clone();
        Ok(Self { core, before, batch: Vec::new(), undecided: false, ended: false })
    }

    /// The core as it is now.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Whether the scheduler had been told to stop.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the recording does not tell what was decided last.
    pub fn undecided(&self) -> bool {
        self.undecided
    }

    /// Goes on by one entry; returns a batch once it is known what became of it.
    ///
    /// # Errors
    /// When an entry is not where it can be.
    pub fn take(&mut self, entry: Entry) -> Result<Option<Batch>, OutOfOrder> {
        match entry {
            Entry::Step { number, first, moment, input } => {
                let done = if first { self.settle() } else { None };
                if first {
                    self.before = self.core.state.clone();
                }
                self.step(number, moment, input);
                Ok(done)
            }
            Entry::Decided(then) => {
                let last = self.batch.last_mut().filter(|_| self.undecided).ok_or(OutOfOrder)?;
                last.differs = then.difference(&Digest::of(&last.step));
                self.undecided = false;
                Ok(None)
            }
            Entry::Stored {} => self.end_batch(Outcome::Stored).map(Some),
            Entry::RolledBack { now, why } => {
                let batch = self.end_batch(Outcome::RolledBack(why))?;
                let heard = heard(batch.steps.iter().map(|relived| &relived.input));
                self.core.roll_back(self.before.clone(), &heard, now);
                Ok(Some(batch))
            }
            Entry::Ended {} => {
                self.ended = true;
                Ok(self.settle())
            }
        }
    }

    /// The recording is over; what is left of it.
    pub fn finish(&mut self) -> Option<Batch> {
        self.settle()
    }

    fn step(&mut self, number: u64, moment: Moment, input: Input) {
        let mut about = Vec::new();
        let mut note = |state: &State, id: &InstanceId| {
            if let Some(instance) = state.instances.get(id) {
                about.push((id.clone(), instance.workload.clone()));
            }
        };
        if let Input::Answered { id, .. } = &input {
            note(&self.core.state, id);
        }
        let step = self.core.step(moment, input.clone());
        for order in &step.orders {
            note(&self.core.state, order.body.id());
        }
        self.batch.push(Relived { number, moment, input, step, differs: None, about });
        self.undecided = true;
    }

    /// The end of a batch of which nothing more is told.
    fn settle(&mut self) -> Option<Batch> {
        let stores = self.batch.iter().any(|relived| !relived.step.records.is_empty());
        let outcome = if stores { Outcome::Untold } else { Outcome::NothingToStore };
        self.end_batch(outcome).ok()
    }

    fn end_batch(&mut self, outcome: Outcome) -> Result<Batch, OutOfOrder> {
        let steps = std::mem::take(&mut self.batch);
        if steps.is_empty() { Err(OutOfOrder) } else { Ok(Batch { steps, outcome }) }
    }
}

impl Relived {
    /// The same with nothing in it that is not about this workload; `None` when
    /// nothing is left.
    pub fn only(mut self, workload: &WorkloadId) -> Option<Self> {
        let about = std::mem::take(&mut self.about);
        let is_of = |id: &InstanceId| about.iter().any(|(of, name)| of == id && name == workload);
        self.step.events.retain(|event| event.workload.as_ref() == Some(workload));
        self.step.orders.retain(|order| match &order.body {
            OrderBody::Run(run) => run.workload == *workload,
            OrderBody::Stop { id, .. } => is_of(id),
        });
        self.step.records.retain(|record| subject(record) == Some(workload.as_str()));
        let asked = match &self.input {
            Input::User { call, .. } => called(call) == Some(workload),
            Input::Answered { id, .. } => is_of(id),
            _ => false,
        };
        if !asked {
            self.step.replies.clear();
        }
        let Step { records, orders, events, .. } = &self.step;
        let any = asked || !records.is_empty() || !orders.is_empty() || !events.is_empty();
        let any = any || self.differs.is_some();
        self.about = about;
        any.then_some(self)
    }

    /// Whether somebody asked for something in it, or anything was decided.
    pub fn is_of_interest(&self) -> bool {
        let Step { records, orders, events, .. } = &self.step;
        matches!(self.input, Input::User { .. })
            || !(records.is_empty() && orders.is_empty() && events.is_empty())
            || self.differs.is_some()
    }
}

/// The workload that somebody asks something of.
pub fn called(call: &UserCall) -> Option<&WorkloadId> {
    match call {
        UserCall::Deploy(spec) => Some(&spec.name),
        UserCall::Scale { id, .. } | UserCall::Delete(id) | UserCall::Rollout { id, .. } => {
            Some(id)
        }
        UserCall::RemoveNode(_) | UserCall::SetSchedulable { .. } | UserCall::Drain(_) => None,
    }
}

/// The workload that a record is about.
fn subject(record: &Record) -> Option<&str> {
    let mut parts = record.key.split('/');
    match parts.next() {
        Some("workload" | "tombstone" | "replica") => parts.next(),
        _ => None,
    }
}
