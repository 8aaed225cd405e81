//! `GET /metrics`: what is published, and how the scheduler itself does.

use std::collections::BTreeMap;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::http::Reply;
use crate::metrics::{Gauges, Requests, page, set};
use crate::model::view::NodeStatus;
use crate::model::{ApiError, Phase};
use crate::roles::scheduler::driver::SchedulerHandle;
use crate::roles::scheduler::views::Snapshot;

pub(super) fn metrics(handle: &SchedulerHandle, requests: &Requests) -> Result<Reply, ApiError> {
    page("scheduler", |registry| {
        cluster(&handle.snapshot(), registry);
        handle.vitals().register(registry);
        let inbox = Gauge::<i64>::default();
        inbox.set(i64::try_from(handle.waiting()).unwrap_or(i64::MAX));
        registry.register("inbox", "Inputs that wait for the task that owns the cluster", inbox);
        requests.register(registry);
    })
}

/// What is and what is wanted, as of the last durable step.
fn cluster(snapshot: &Snapshot, registry: &mut Registry) {
    let state = &snapshot.state;
    let nodes = Gauges::default();
    // Those of which there are none are told, too: an alert asks for a zero.
    for status in [NodeStatus::Alive, NodeStatus::Dead, NodeStatus::Unknown] {
        let count = state.nodes.values().filter(|node| node.status == status).count();
        set(&nodes, "status", status.as_str(), count as u64);
    }
    registry.register("nodes", "Nodes by status", nodes);

    let mut phases: BTreeMap<&str, u64> = Phase::ALL.map(|phase| (phase.as_str(), 0)).into();
    for instance in state.instances.values() {
        *phases.entry(instance.phase().as_str()).or_default() += 1;
    }
    let instances = Gauges::default();
    for (phase, count) in phases {
        set(&instances, "phase", phase, count);
    }
    registry.register("instances", "Instances by phase, lost ones included", instances);

    let [desired, ready, waiting, restarts] = [(); 4].map(|()| Gauges::default());
    for (id, workload) in &state.workloads {
        let name = id.as_str();
        let short = workload.missing.len() + workload.resting.len();
        let again = workload.replicas.values().map(|replica| u64::from(replica.restarts)).sum();
        set(&desired, "workload", name, workload.desired().into());
        set(&ready, "workload", name, state.tally(id).ready.into());
        set(&waiting, "workload", name, short as u64);
        set(&restarts, "workload", name, again);
    }
    registry.register("workload_desired", "Replicas wanted", desired);
    registry.register("workload_ready", "Instances that are ready and not stopping", ready);
    registry.register("workload_waiting", "Replicas that wait for a place or a time", waiting);
    registry.register("workload_restarts", "Restarts of the replicas there are", restarts);
}
