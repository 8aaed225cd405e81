//! How far a drain has come, judged from what is seen: plain functions.

use std::fmt::Write;

use super::progress::{self, Line, Verdict};
use super::render::{Tone, lists, words};
use crate::model::view::{NodeStatus, NodeView, WorkloadView};
use crate::model::{ContainerInstance, NodeId, RestartPolicy, Why};

/// One look at a node that is being drained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The node; `None` if there is no such.
    pub node: Option<NodeView>,
    /// All instances, here and elsewhere.
    pub instances: Vec<ContainerInstance>,
    /// All workloads.
    pub workloads: Vec<WorkloadView>,
}

impl Seen {
    /// What has not left the node yet, as far as is known: on a node that is not
    /// heard, or whose Docker does not answer, nothing is seen to leave.
    fn left(&self) -> Vec<&ContainerInstance> {
        let Some(node) = &self.node else { return Vec::new() };
        let here = |one: &&ContainerInstance| one.node_id == node.id && !one.phase.is_final();
        lists::in_order(&self.instances).into_iter().filter(here).collect()
    }

    /// Whether the node was heard to be empty since the scheduler started.
    fn is_empty(&self) -> bool {
        let heard = |node: &NodeView| node.last_heartbeat_seconds_ago.is_some();
        self.node.as_ref().is_some_and(heard) && self.left().is_empty()
    }

    /// What runs or comes up elsewhere in place of `leaving`.
    fn replacement(&self, leaving: &ContainerInstance) -> Option<&ContainerInstance> {
        let same_place = |one: &&ContainerInstance| {
            (&one.workload_id, one.replica) == (&leaving.workload_id, leaving.replica)
                && one.node_id != leaving.node_id
        };
        let comes = |one: &&ContainerInstance| progress::is_live(one) && !one.stopping;
        self.instances.iter().filter(same_place).filter(comes).max_by_key(|one| one.ready)
    }
}

/// Judges one look; `was_wanted` tells whether an earlier one saw it being drained.
pub fn judge(seen: &Seen, was_wanted: bool) -> Verdict {
    match &seen.node {
        Some(node) if !is_wanted(seen) && was_wanted => Verdict::Off(format!(
            "{0}: no longer being drained, it was uncordoned meanwhile; \
             again: kube-lite ctl drain {0}",
            node.id
        )),
        Some(_) if is_wanted(seen) && seen.is_empty() => Verdict::Settled,
        Some(node) if is_wanted(seen) && node.status == NodeStatus::Dead => {
            Verdict::Off(died(&node.id, seen))
        }
        Some(_) => Verdict::Going,
        None if was_wanted => Verdict::Off("the node was removed meanwhile".to_owned()),
        None => Verdict::Off("there is no such node; see: kube-lite ctl nodes".to_owned()),
    }
}

/// Whether it is (still) being drained.
pub fn is_wanted(seen: &Seen) -> bool {
    seen.node.as_ref().is_some_and(|node| node.draining)
}

/// `box-2: 3 instances left, 1 moving, 2 waiting`.
pub fn headline(node: &NodeId, seen: &Seen) -> String {
    let left = seen.left();
    let mut text = format!("{node}: {} left", words::count(left.len() as u64, "instance"));
    let lines: Vec<Line> = left.into_iter().map(|one| line(one, seen)).collect();
    for state in ["stopping", "moving", "waiting", "staying"] {
        let number = lines.iter().filter(|line| line.state == state).count();
        if number > 0 {
            let _ = write!(text, ", {number} {state}");
        }
    }
    text
}

/// How it ended, and what may come next.
pub fn finished(node: &NodeId, seen: &Seen) -> String {
    let dead = seen.node.as_ref().is_some_and(|node| node.status == NodeStatus::Dead);
    if dead {
        return format!(
            "{node}: is dead; nothing ran there when it was last heard. \
             Forget it: kube-lite ctl node remove {node}"
        );
    }
    format!(
        "{node}: drained, nothing runs there and nothing new comes. \
         Back to work: kube-lite ctl uncordon {node}"
    )
}

/// What became of a node that died before it was seen to be empty.
fn died(node: &NodeId, seen: &Seen) -> String {
    const NAMED: usize = 10;
    let left = seen.left();
    let mut text = format!("{node}: is dead, and was not seen to be empty");
    for one in left.iter().take(NAMED) {
        let fate = match (seen.replacement(one), fate(one, seen)) {
            (Some(_), (_, Some(next))) => format!("moved {next}"),
            (None, (_, Some(why))) => format!("not replaced yet: {why}"),
            (_, (state, None)) => state.to_owned(),
        };
        let _ = write!(text, "\n  {}: {fate}", one.id);
    }
    if left.len() > NAMED {
        let _ = write!(text, "\n  … and {} more", left.len() - NAMED);
    }
    let _ = write!(
        text,
        "\nWhat was there may run on, should its machine be up. It stays drained if it comes back. \
         Forget it: kube-lite ctl node remove {node}"
    );
    text
}

/// One line for each instance that is still there: what becomes of it, and why it
/// is not gone yet.
pub fn lines(seen: &Seen) -> Vec<Line> {
    seen.left().into_iter().map(|one| line(one, seen)).collect()
}

fn line(leaving: &ContainerInstance, seen: &Seen) -> Line {
    let (state, why) = fate(leaving, seen);
    Line {
        subject: leaving.id.to_string(),
        node: leaving.node_id.to_string(),
        revision: None,
        state: state.to_owned(),
        tone: if state == "waiting" { Tone::Bad } else { Tone::Busy },
        fine: state == "stopping",
        as_before: false,
        reason: None,
        why,
    }
}

fn fate(leaving: &ContainerInstance, seen: &Seen) -> (&'static str, Option<String>) {
    if leaving.stopping && !leaving.lost {
        return ("stopping", lists::instance_why(leaving));
    }
    let view = seen.workloads.iter().find(|view| view.spec.name == leaving.workload_id);
    let Some(view) = view else { return ("stopping", None) };
    let name = &view.spec.name;
    if view.spec.restart_policy == RestartPolicy::Never {
        let why = "its restart policy is never: it is not moved, it runs to its end; or \
                   give it up: kube-lite ctl delete";
        return ("staying", Some(format!("{why} {name}")));
    }
    if let Some(successor) = seen.replacement(leaving) {
        let state = lists::instance_state(successor).1;
        let state = if successor.ready { "ready".to_owned() } else { state };
        let why = lists::instance_why(successor).filter(|_| !successor.ready);
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!("to {} on {}, {state}{why}", successor.id, successor.node_id);
        return ("moving", Some(text));
    }
    let is_about = |why: &&Why| why.replica == Some(leaving.replica);
    let of_all = |why: &&Why| why.replica.is_none() && why.instance_id.is_none();
    let mut reasons = view.reasons.iter();
    let why = reasons.clone().find(is_about).or_else(|| reasons.find(of_all));
    let paused = progress::open_rollout(view).is_some_and(|rollout| rollout.state == "paused");
    let why = match why {
        Some(why) => words::reason(why),
        // A drain goes on meanwhile, but not where the wave under way stands.
        None if paused => {
            format!("the rollout of {name} is paused: kube-lite ctl rollout resume {name}")
        }
        None => format!("for its turn; see: kube-lite ctl explain {name}"),
    };
    ("waiting", Some(why))
}
