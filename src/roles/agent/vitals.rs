//! How the agent itself does, and what it last told the scheduler.

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::core::AgentCore;
use crate::metrics::{Gauges, set};
use crate::model::Phase;
use crate::model::wire::{DockerState, HeartbeatRequest};

/// The figures. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    instances: Gauges,
    docker: Gauge,
    heartbeats: Counter,
    /// Heartbeats and registrations that were refused or not answered.
    pub failed_calls: Counter,
    /// Orders of the scheduler that were taken.
    pub orders: Counter,
    /// Containers that were started.
    pub started: Counter,
    /// Containers that could not be started.
    pub not_started: Counter,
    /// Pulls of images that failed.
    pub failed_pulls: Counter,
}

impl Vitals {
    /// The scheduler is about to be told this.
    pub fn told(&self, snapshot: &HeartbeatRequest, core: &AgentCore) {
        self.heartbeats.inc();
        self.docker.set(i64::from(snapshot.docker.state == DockerState::Ok));
        let all_is_as_it_was = snapshot.containers.is_empty() && snapshot.gone.is_empty();
        if snapshot.same_as.is_some() && all_is_as_it_was {
            return;
        }
        let mut counts = BTreeMap::from(Phase::ALL.map(|phase| (phase, 0)));
        for phase in core.phases() {
            *counts.entry(phase).or_default() += 1;
        }
        for (phase, count) in counts {
            set(&self.instances, "phase", phase.as_str(), count);
        }
    }

    /// Puts them onto a page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "agent_instances",
            "Instances by phase, as last told to the scheduler",
            self.instances.clone(),
        );
        registry.register("agent_docker_up", "Whether Docker answers: 1 or 0", self.docker.clone());
        registry.register("agent_heartbeats", "Heartbeats sent", self.heartbeats.clone());
        registry.register(
            "agent_failed_calls",
            "Heartbeats and registrations refused or not answered",
            self.failed_calls.clone(),
        );
        registry.register("agent_orders", "Orders taken from the scheduler", self.orders.clone());
        registry.register("agent_started", "Containers started", self.started.clone());
        registry.register(
            "agent_not_started",
            "Containers that could not be started",
            self.not_started.clone(),
        );
        registry.register(
            "agent_failed_pulls",
            "Pulls of images that failed",
            self.failed_pulls.clone(),
        );
    }
}
