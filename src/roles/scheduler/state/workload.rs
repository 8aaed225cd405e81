//! What is desired: a workload, its revisions and rollout, and the places it has.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::super::message::Millis;
use crate::model::{InstanceId, NodeId, Reason, RestartPolicy, Template, Why, WorkloadSpec};

/// A workload and the places it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// What the user wants; `replicas` is always filled in.
    pub spec: Arc<WorkloadSpec>,
    /// The revision of its template.
    pub revision: u64,
    /// Revisions by number.
    pub revisions: OrdMap<u64, Arc<Revision>>,
    /// The largest number ever given out.
    pub last_revision: u64,
    /// Revisions that were completely rolled out, the latest last; never empty.
    /// Its last is the head: what an abort goes back to.
    pub heads: Vector<u64>,
    /// The rollout under way, or how the last one ended.
    #[serde(with = "crate::roles::scheduler::recording::whole_rollout")]
    pub rollout: Option<Rollout>,
    /// Replicas that are still of another revision than the one wanted.
    pub outdated: OrdSet<u32>,
    /// Replicas on their way: of the wanted revision or to another node, and not
    /// there yet or with what they replace not yet gone.
    pub transit: OrdSet<u32>,
    /// The epoch it was created in: a workload of this epoch has nothing to
    /// recover and need not wait for anybody. 0 if its name was used before, for
    /// what was made under it may still be leaving.
    pub born_epoch: u64,
    /// Its places. There are exactly `desired` of them; numbers may have gaps.
    pub replicas: OrdMap<u32, Replica>,
    /// Replicas without an effective instance that may be started now.
    pub missing: OrdSet<u32>,
    /// Replicas without an effective instance that must wait.
    pub resting: OrdSet<u32>,
    /// Replicas that finished.
    pub done: OrdSet<u32>,
    /// The replica that is being restarted for ill health, if any: one at a
    /// time per workload.
    pub healing: Option<u32>,
    /// Why `missing` replicas are not started.
    pub held: Option<Why>,
}

impl Workload {
    /// How many replicas are wanted.
    pub fn desired(&self) -> u32 {
        self.replicas.len() as u32
    }

    /// The template of a revision that is still known.
    pub fn template(&self, revision: u64) -> Option<&Template> {
        self.revisions.get(&revision).map(|r| r.template.as_ref())
    }

    /// The revision that was last completely rolled out.
    pub fn head(&self) -> u64 {
        self.heads.last().copied().unwrap_or(self.revision)
    }

    /// Whether a person has frozen its rollout.
    pub fn is_frozen(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Paused)
    }

    /// The restart policy of a revision; that of the current one for unknown ones.
    pub fn restart_policy(&self, revision: u64) -> RestartPolicy {
        self.template(revision).map_or(self.spec.restart_policy, |t| t.restart_policy)
    }
}

/// A change from one revision to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The revision it came from.
    pub from: u64,
    /// The revision it goes to.
    pub to: u64,
    /// How far it is.
    pub state: RolloutState,
    /// Why it was aborted.
    #[serde(default)]
    pub why: Option<String>,
    /// Since when its deadlines count: its start, or when it was last resumed.
    #[serde(skip)]
    pub since: Millis,
    /// The same in Unix milliseconds, so that a restart of the scheduler does not
    /// put it off.
    #[serde(default)]
    pub since_wall: u64,
}

impl Rollout {
    /// Whether it still has something to do.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, RolloutState::Done | RolloutState::Aborted)
    }

    /// Whether it may move replicas now.
    pub fn moves(&self) -> bool {
        matches!(self.state, RolloutState::Rolling | RolloutState::Aborting)
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RolloutState {
    /// Waves go on.
    Rolling,
    /// Frozen by a person; healing goes on.
    Paused,
    /// On the way back to where it came from.
    Aborting,
    /// All are new and the old are gone.
    Done,
    /// Everything is as before.
    Aborted,
}

impl RolloutState {
    /// The same words as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutState::Rolling => "rolling",
            RolloutState::Paused => "paused",
            RolloutState::Aborting => "aborting",
            RolloutState::Done => "done",
            RolloutState::Aborted => "aborted",
        }
    }
}

/// One distinct template of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// What its instances are made of.
    pub template: Arc<Template>,
    /// When it was first asked for, Unix milliseconds.
    pub at: u64,
    /// By whom.
    pub by: String,
    /// With what.
    pub why: String,
    /// When, by whom and with what it was last asked for again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Word>,
    /// How its last rollout ended, if not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// What somebody asked for, for the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Word {
    /// When, Unix milliseconds.
    pub at: u64,
    /// Who.
    pub by: String,
    /// With what.
    pub why: String,
}

/// One of a workload's places. There is one per container that is wanted, so what few
/// have is kept apart: its [`Past`], whose fields are read and written as if they were
/// its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The revision it is to have: during a rollout some have moved on already.
    pub revision: u64,
    /// Instances in it that are not over. Usually one; two during a rollout, a
    /// drain, or while a node that was lost returns.
    pub instances: SmallVec<[InstanceId; 1]>,
    /// In the rollout under way, its instance of the wanted revision was ready.
    pub arrived: bool,
    /// Something of it is on disk.
    pub recorded: bool,
    /// Read back after a restart, and nothing was heard of its instance yet: it
    /// may well run on a node that is out of sight.
    pub unaccounted: bool,
    /// None says the same as one in which nothing has happened.
    pub(in crate::roles::scheduler) past: Option<Box<Past>>,
}

/// What a replica has learned from instances that it had before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// How often it was restarted.
    pub restarts: u32,
    /// Failures in a row.
    pub step: u32,
    /// Not to be started before.
    pub not_before: Option<Millis>,
    /// It finished.
    pub done: Option<Box<Done>>,
    /// It had finished in the revision before: that counts again if the rollout
    /// is aborted.
    pub done_before: Option<Box<Done>>,
    /// Its last failure.
    pub last_failure: Option<Box<Failure>>,
    /// A crash is restarted where it happened.
    pub pin: Option<NodeId>,
    /// The instance that the next one follows.
    pub follows: Option<InstanceId>,
}

/// Nothing has happened yet.
static NO_PAST: Past = Past {
    restarts: 0,
    step: 0,
    not_before: None,
    done: None,
    done_before: None,
    last_failure: None,
    pin: None,
    follows: None,
};

impl Deref for Replica {
    type Target = Past;

    fn deref(&self) -> &Past {
        self.past.as_deref().unwrap_or(&NO_PAST)
    }
}

impl DerefMut for Replica {
    fn deref_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }
}

impl Replica {
    /// A place of its own, with nothing in it.
    pub fn of(revision: u64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// The same with a past.
    pub(in crate::roles::scheduler) fn after(self, past: Past) -> Self {
        let mut replica = Self { past: Some(past.into()), ..self };
        replica.tidy();
        replica
    }

    /// Keeps no past in which nothing has happened: two that are the same are equal.
    pub(in crate::roles::scheduler) fn tidy(&mut self) {
        self.past.take_if(|past| **past == NO_PAST);
    }

    /// Gives it another revision. What has finished counts for its own revision only;
    /// where this goes back to what it had before, that does not run twice.
    pub(in crate::roles::scheduler) fn turn_to(&mut self, revision: u64, goes_back: bool) {
        self.revision = revision;
        if self.done.as_ref().is_some_and(|done| done.revision == revision) {
            return;
        }
        let left = self.done.take();
        if goes_back && self.has_finished(revision) {
            self.done = self.done_before.take();
        } else if left.is_some() {
            self.done_before = left;
        }
    }

    /// Whether it had finished before, when it was of `revision`.
    pub(in crate::roles::scheduler) fn has_finished(&self, revision: u64) -> bool {
        self.done_before.as_ref().is_some_and(|done| done.revision == revision)
    }
}

/// How a replica finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Of which revision: done counts per revision.
    pub revision: u64,
    /// With which exit code; none if it disappeared.
    pub exit_code: Option<i64>,
    /// Which instance it was.
    pub instance: InstanceId,
}

/// A failure of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Which instance it was.
    pub instance: InstanceId,
    /// The machine word.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
    /// When, Unix milliseconds, for display.
    pub at: u64,
}
