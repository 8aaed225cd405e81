//! How many orders are under way. A mass start must not put a million of them into
//! memory, nor have them repeated because they wait; and one node that does not
//! answer must not keep the others from theirs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::message::OrderKind;
use crate::model::{InstanceId, NodeId};

/// Orders without an answer, at most.
const ALL: usize = 8_192;
/// The same for each node.
const PER_NODE: usize = 128;

/// Orders that have left and were not answered yet, and those that are held back.
/// Every order that leaves is answered, if only by that it was not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Traffic {
    under_way: BTreeMap<NodeId, BTreeSet<(InstanceId, OrderKind)>>,
    count: usize,
    held: BTreeMap<NodeId, BTreeSet<InstanceId>>,
}

impl Traffic {
    /// Whether any more may leave.
    pub fn has_room(&self) -> bool {
        self.count < ALL
    }

    /// Whether this order may leave; it counts from then on. Else it is held back.
    pub fn lets_go(&mut self, node: &NodeId, id: &InstanceId, kind: OrderKind) -> bool {
        let here = self.under_way.entry(node.clone()).or_default();
        let key = (id.clone(), kind);
        if here.len() >= PER_NODE && !here.contains(&key) {
            self.held.entry(node.clone()).or_default().insert(id.clone());
            return false;
        }
        self.count += usize::from(here.insert(key));
        true
    }

    /// An order was answered. Returns whose orders are to be looked at again.
    pub fn answered(
        &mut self,
        node: &NodeId,
        id: &InstanceId,
        kind: OrderKind,
    ) -> BTreeSet<InstanceId> {
        let Some(here) = self.under_way.get_mut(node) else { return BTreeSet::new() };
        self.count -= usize::from(here.remove(&(id.clone(), kind)));
        let left = here.len();
        if left == 0 {
            self.under_way.remove(node);
        }
        // Not with each answer: all that are held are looked at.
        if left > PER_NODE / 2 {
            return BTreeSet::new();
        }
        self.held.remove(node).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_silent_does_not_take_all_the_room() {
        let mut traffic = Traffic::default();
        let (silent, other) = (NodeId::from("n1"), NodeId::from("n2"));
        let id = |n: usize| InstanceId::from(format!("web-r1-{n}"));
        let gone = (0..1_000).filter(|n| traffic.lets_go(&silent, &id(*n), OrderKind::Run));
        assert_eq!(gone.count(), PER_NODE);
        assert!(traffic.has_room() && traffic.lets_go(&other, &id(5_000), OrderKind::Run));
        assert!(traffic.lets_go(&silent, &id(3), OrderKind::Run), "a repeated one is the same");
        assert_eq!(traffic.answered(&other, &id(5_000), OrderKind::Run), BTreeSet::new());
        assert_eq!(traffic.count, PER_NODE);

        let back: Vec<usize> = (0..PER_NODE)
            .map(|n| traffic.answered(&silent, &id(n), OrderKind::Run).len())
            .collect();
        assert_eq!(back.iter().sum::<usize>(), 1_000 - PER_NODE, "each is looked at once");
        assert_eq!(back.iter().position(|count| *count > 0), Some(PER_NODE / 2 - 1));
        assert_eq!((traffic.count, traffic.under_way.len(), traffic.held.len()), (0, 0, 0));
        assert_eq!(traffic.answered(&silent, &id(0), OrderKind::Run), BTreeSet::new());
    }

    #[test]
    fn there_is_an_end_to_all() {
        let mut traffic = Traffic::default();
        let mut gone = 0;
        while traffic.has_room() {
            let node = NodeId::from(format!("n{}", gone % 100));
            let id = InstanceId::from(format!("web-r1-{gone}"));
            gone += usize::from(traffic.lets_go(&node, &id, OrderKind::Run));
        }
        assert_eq!(gone, ALL);
        traffic.answered(&"n0".into(), &"web-r1-0".into(), OrderKind::Run);
        assert!(traffic.has_room());
    }
}
