//! Who watches that what must hold holds (DESIGN section 7), by what is true in
//! the world and not by what the scheduler believes.
//!
//! [`scheduler`](self::scheduler) looks at each step of the scheduler, [`node`](self::node)
//! at what agents and Docker do, [`promises`](self::promises) at what people were told and
//! what a restart finds, [`rounds`](self::rounds) at what holds in the long run, and
//! [`ending`](self::ending) at how everything ends.

pub mod ending;
pub mod node;
pub mod promises;
pub mod rounds;
pub mod scheduler;

use std::collections::{BTreeMap, BTreeSet};

use kube_lite::model::wire::{Fence, RunOrder};
use kube_lite::model::{Health, InstanceId, NodeId, Phase, WorkloadId};

use self::promises::Promises;
use crate::clock::Time;

/// What does not hold, and how it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Which invariant: its number in DESIGN section 7, and a word.
    pub invariant: String,
    /// What was seen.
    pub text: String,
}

/// What the judge remembers.
#[derive(Debug, Default)]
pub struct Judge {
    objection: Option<Objection>,
    /// What the present life of the scheduler can know.
    view: View,
    /// The same, before the batch under way, while the disk refuses.
    view_before: Option<View>,
    /// Every order to run that was ever given.
    orders: BTreeMap<InstanceId, (NodeId, RunOrder)>,
    /// Every instance that was ever ordered to stop.
    stops: BTreeSet<InstanceId>,
    /// What people were promised, and what has to be found after a restart.
    promises: Promises,
    /// Which container each instance was, once started.
    started: BTreeMap<InstanceId, String>,
    /// Containers that somebody else has removed.
    pub removed_by_others: BTreeSet<String>,
    /// Orders on their way through an agent.
    #[allow(clippy::type_complexity)]
    reaching: BTreeMap<(usize, u64), (Fence, InstanceId, bool, Option<InstanceId>)>,
    /// What was done so far: records, orders, and Docker's work but listings.
    pub deeds: Deeds,
}

/// What the present life of the scheduler can know, by what reached it.
#[derive(Clone, Debug, Default)]
struct View {
    /// What was true of each instance when the present life of the scheduler
    /// was last told of it, by a heartbeat that it took in.
    told: BTreeMap<InstanceId, Told>,
    /// Ordered to run by the present life of the scheduler.
    ordered: BTreeSet<InstanceId>,
    /// When each node was last heard, by the scheduler's clock, its own pauses
    /// taken out.
    contact: BTreeMap<NodeId, u64>,
    /// The scheduler's clock at its last step.
    stepped_at: u64,
    /// How long it did not run in all.
    slept: u64,
    /// Nodes that the present life of the scheduler has to wait for.
    awaited: BTreeSet<NodeId>,
    /// Workloads from before the present life of the scheduler.
    recovered: BTreeSet<WorkloadId>,
    /// Since when complete snapshots of a node have come without a gap.
    steady: BTreeMap<NodeId, Steady>,
}

impl View {
    /// The scheduler did not run for so long, up to `now`: that is held against
    /// nobody.
    fn sleep(&mut self, gap: u64, now: u64) {
        self.slept += gap;
        for at in self.contact.values_mut() {
            *at = (*at + gap).min(now);
        }
    }
}

/// Counts of what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Records written.
    pub records: u64,
    /// Orders given.
    pub orders: u64,
    /// Requests to Docker that change something or fetch an image.
    pub docker: u64,
}

/// What the scheduler was told of an instance.
#[derive(Clone, Debug)]
struct Told {
    node: NodeId,
    phase: Phase,
    health: Health,
}

#[derive(Clone, Copy, Debug)]
struct Steady {
    since: Time,
    last: Time,
}

impl Judge {
    /// Notes what does not hold; the first objection stands.
    pub fn object(&mut self, invariant: &str, text: String) {
        if self.objection.is_none() {
            self.objection = Some(Objection { invariant: invariant.to_owned(), text });
        }
    }

    /// Whether everything has held so far.
    pub fn is_content(&self) -> bool {
        self.objection.is_none()
    }

    /// What did not hold, if anything.
    pub fn objection(&self) -> Option<&Objection> {
        self.objection.as_ref()
    }

    /// Instances whose container is there although nobody told the scheduler yet
    /// are not held against it.
    fn knows(&self, id: &InstanceId) -> bool {
        self.view.told.contains_key(id) || self.view.ordered.contains(id)
    }

    /// The order that an instance comes from: its own, or that of the instance
    /// which its agent restarted by itself.
    fn origin(&self, id: &InstanceId) -> Option<&(NodeId, RunOrder)> {
        let mut text = id.as_str();
        loop {
            if let Some(found) = self.orders.get(text) {
                return Some(found);
            }
            let (base, number) = text.rsplit_once("-a")?;
            number.parse::<u64>().ok()?;
            text = base;
        }
    }
}
