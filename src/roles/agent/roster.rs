//! The instances of an agent, and which of them may have changed since they were
//! last described: cost follows change, so nobody may change one unnoticed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::ops::Deref;

use super::instance::Instance;
use crate::model::InstanceId;

/// Instances by id. Whoever takes one to change it leaves a mark on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    all: BTreeMap<InstanceId, Instance>,
}

impl Deref for Roster {
    type Target = BTreeMap<InstanceId, Instance>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl Roster {
    /// To change it.
    pub fn get_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let instance = self.all.get_mut(id)?;
        instance.report.marked = true;
        Some(instance)
    }

    /// To note when it is to be looked at, or what was said about it: nothing that
    /// a report says.
    pub fn get_mut_unmarked(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.all.get_mut(id)
    }

    /// A new one.
    pub fn insert(&mut self, id: InstanceId, instance: Instance) {
        self.all.insert(id, instance);
    }

    /// It is gone.
    pub fn remove(&mut self, id: &InstanceId) -> Option<Instance> {
        self.all.remove(id)
    }

    /// All of them are somebody else's.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Nobody has been told of any.
    pub fn forget_reports(&mut self) {
        for instance in self.all.values_mut() {
            instance.report = Default::default();
        }
    }
}
