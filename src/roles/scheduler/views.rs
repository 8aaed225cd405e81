//! What readers get: pure functions from a published state to views. They run
//! in the reader's own task, never in the one that owns the cluster.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::sync::Arc;

use super::core::ready_at;
use super::message::Millis;
use super::placement::{Refusal, refusal};
use super::state::{Instance, Node, Replica, RolloutState, State, StopCause, Workload};
use crate::model::view::{
    AgainView, DiscoverView, Endpoint, EventView, HealthView, NodeStatus, NodeView, RevisionView,
    RolloutView, WorkloadView,
};
use crate::model::wall::rfc3339;
use crate::model::wire::DockerState;
use crate::model::{
    ApiError, ContainerInstance, Health, InstanceId, NodeId, Phase, Reason, Why, WorkloadId,
};

/// Reasons listed per workload; more of the same help nobody.
const REASONS_SHOWN: usize = 20;

/// A published state, and the time at which it is read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The state after some step.
    pub state: State,
    /// Monotonic time of reading, the same clock as the core's.
    pub now: Millis,
}

impl Snapshot {
    /// All workloads by name.
    pub fn workloads(&self) -> Vec<WorkloadView> {
        self.state.workloads.iter().map(|(name, w)| self.view(name, w)).collect()
    }

    /// One workload.
    pub fn workload(&self, id: &str) -> Option<WorkloadView> {
        let name = WorkloadId::from(id);
        self.state.workloads.get(&name).map(|w| self.view(&name, w))
    }

    /// 404 with what there is instead.
    pub fn no_workload(&self, id: &str) -> ApiError {
        self.state.no_such_workload(id)
    }

    pub(super) fn view(&self, name: &WorkloadId, workload: &Workload) -> WorkloadView {
        let tally = self.state.tally(name);
        WorkloadView {
            spec: workload.spec.as_ref().clone(),
            revision: workload.revision,
            desired: workload.desired(),
            running: tally.running,
            ready: tally.ready,
            pending: tally.effective - tally.running,
            waiting: (workload.missing.len() + workload.resting.len()) as u32,
            done: workload.done.len() as u32,
            stopping: tally.stopping,
            restarts: workload.replicas.values().map(|r| u64::from(r.restarts)).sum(),
            reasons: self.reasons(name, workload),
            rollout: self.rollout(name, workload),
        }
    }

    fn rollout(&self, name: &WorkloadId, workload: &Workload) -> Option<RolloutView> {
        let rollout = workload.rollout.as_ref()?;
        let is_updated = |number: &u32, replica: &Replica| {
            let done = replica.done.as_ref().is_some_and(|done| done.revision == rollout.to);
            let there = || !workload.transit.contains(number) && replica.revision == rollout.to;
            // What it replaces may take its time to leave.
            let ready = || {
                let known = replica.instances.iter().rev();
                let mut of_it = known.filter_map(|id| self.state.instances.get(id));
                of_it.any(|i| i.revision == rollout.to && i.share.ready)
            };
            done || if rollout.is_open() { ready() } else { there() }
        };
        let updated = workload.replicas.iter().filter(|&(n, replica)| is_updated(n, replica));
        let updated = updated.count();
        let waiting_for = match rollout.state {
            RolloutState::Paused => Some("paused; `ctl rollout resume` lets it go on".to_owned()),
            RolloutState::Done | RolloutState::Aborted => rollout.why.clone(),
            RolloutState::Rolling | RolloutState::Aborting => Some(
                self.reasons(name, workload)
                    .into_iter()
                    .next()
                    .map_or_else(|| "the old instances to be gone".to_owned(), |why| why.message),
            ),
        };
        Some(RolloutView {
            from: rollout.from,
            to: rollout.to,
            state: rollout.state.as_str().to_owned(),
            updated: updated as u32,
            total: workload.desired(),
            why: rollout.why.clone(),
            waiting_for,
        })
    }

    /// Why a workload is short of its count; empty when it is not.
    pub fn reasons(&self, name: &WorkloadId, workload: &Workload) -> Vec<Why> {
        let mut reasons = Vec::new();
        if let Some(held) = &workload.held {
            let mut why = held.clone();
            if workload.missing.len() > 1 {
                why.message = format!("{} replicas: {}", workload.missing.len(), why.message);
            } else {
                why.replica = workload.missing.get_min().copied();
            }
            reasons.push(why);
        }
        for number in &workload.resting {
            if reasons.len() >= REASONS_SHOWN {
                break;
            }
            reasons.push(self.why_resting(workload, *number));
        }
        let tally = self.state.tally(name);
        let lacks = tally.ready + (workload.done.len() as u32) < workload.desired();
        if (tally.ready < tally.effective || lacks)
            && let Some(cohort) = self.state.cohorts.get(name)
        {
            let unready = cohort
                .ids
                .iter()
                .filter_map(|id| self.state.instances.get(id))
                .filter(|i| {
                    let waits = self.state.waits_for_predecessor(i)
                        && !i.is_over()
                        && !self.state.is_lost(i);
                    (i.share.effective || waits) && !i.ready
                })
                .take(REASONS_SHOWN.saturating_sub(reasons.len()));
            reasons.extend(unready.filter_map(|i| self.why(i)));
        }
        reasons
    }

    /// Why a replica that could be started is not.
    pub(super) fn why_resting(&self, workload: &Workload, number: u32) -> Why {
        let Some(replica) = workload.replicas.get(&number) else {
            return Why::new(Reason::Other, "this replica is gone");
        };
        let failure = replica.last_failure.as_ref();
        let stopping = replica
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .find(|i| !i.is_over() && i.stop.is_some() && !self.state.is_lost(i));
        let mut why = match replica.not_before.filter(|at| *at > self.now) {
            Some(at) => {
                // What a person has to look after is called by its name.
                let reason = failure.map(|f| f.reason);
                let reason = reason.filter(|r| r.is_final() || *r == Reason::PullFailed);
                let mut why = Why::new(
                    reason.unwrap_or(Reason::BackOff),
                    format!(
                        "replica {number} is restarted in {:.1} s, after {} failure(s) in a row; \
                         the last: {}",
                        (at - self.now) as f64 / 1000.0,
                        replica.step,
                        failure.map_or("unknown", |f| f.message.as_str())
                    ),
                );
                why.for_ms = Some(at - self.now);
                why
            }
            None if stopping.is_some() => Why::new(
                Reason::Stopping,
                format!(
                    "replica {number} is restarted once {} is gone, which is being stopped: {}",
                    stopping.map_or("it", |i| i.id.as_str()),
                    stopping
                        .and_then(|i| Some(self.why_stopped(i, i.stop.as_ref()?.cause)))
                        .unwrap_or("it must")
                ),
            ),
            None if self.state.mass_loss.is_some() => Why::new(
                Reason::MassNodeLoss,
                format!(
                    "replica {number} was on a node that fell silent with over half of all nodes; \
                     nothing is replaced for now"
                ),
            ),
            None if self.is_lost_with_its_node(replica) => Why::new(
                Reason::NodeLost,
                format!(
                    "replica {number} is on a lost node and its restart policy forbids replacing it"
                ),
            ),
            None => Why::new(
                Reason::BackOff,
                match failure {
                    Some(failure) => format!(
                        "replica {number} is restarted now; the last failure: {}",
                        failure.message
                    ),
                    None => format!("replica {number} is restarted now"),
                },
            ),
        };
        why.replica = Some(number);
        why.instance_id = failure.map(|f| f.instance.clone());
        why
    }

    fn is_lost_with_its_node(&self, replica: &Replica) -> bool {
        let mut known = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        known.any(|i| !i.is_over() && self.state.is_lost(i))
    }

    /// Why an instance is being stopped; completes "being stopped: …".
    fn why_stopped(&self, instance: &Instance, cause: StopCause) -> &'static str {
        let rollout = self.state.workloads.get(&instance.workload).and_then(|w| w.rollout.as_ref());
        let aborted = rollout.is_some_and(|rollout| {
            matches!(rollout.state, RolloutState::Aborting | RolloutState::Aborted)
                && rollout.to == instance.revision
        });
        match cause {
            StopCause::Replaced if aborted => "the rollout of its revision was aborted",
            cause => cause.because(),
        }
    }

    /// Why an instance is not running and ready; `None` when it is.
    pub fn why(&self, instance: &Instance) -> Option<Why> {
        let (reason, message) = self.reason_of(instance)?;
        let mut why = Why::new(reason, message);
        why.replica = Some(instance.replica);
        why.instance_id = Some(instance.id.clone());
        why.node_id = Some(instance.node.clone());
        Some(why)
    }

    fn reason_of(&self, instance: &Instance) -> Option<(Reason, String)> {
        let (id, node) = (&instance.id, &instance.node);
        let said = instance.seen.as_ref().and_then(|s| s.message.clone());
        let word = instance.seen.as_ref().and_then(|s| s.reason);
        if instance.is_over() {
            let code = instance.seen.as_ref().and_then(|s| s.exit_code);
            let reason = word.unwrap_or(match code {
                Some(0) => Reason::Completed,
                _ => Reason::Error,
            });
            let message = said.unwrap_or_else(|| match code {
                Some(code) => format!("exited with code {code}"),
                None => "ended without an exit code".to_owned(),
            });
            return Some((reason, message));
        }
        if self.state.is_lost(instance) {
            let docker = self.state.nodes.get(node).map(|n| (n.status, n.docker.state));
            return Some(match docker {
                Some((NodeStatus::Alive, state)) if state != DockerState::Ok => (
                    Reason::DockerUnavailable,
                    format!("Docker on {node} has not answered for a long time"),
                ),
                _ => (Reason::NodeLost, format!("node {node} is dead")),
            });
        }
        if let Some(stop) = &instance.stop {
            let why = self.why_stopped(instance, stop.cause);
            return Some((Reason::Stopping, format!("being stopped: {why}")));
        }
        let waits = (self.now.saturating_sub(instance.since)) as f64 / 1000.0;
        let default = |word_of: Reason, text: String| {
            Some((word.unwrap_or(word_of), said.clone().unwrap_or(text)))
        };
        match instance.phase() {
            Phase::Pending if instance.seen.is_none() => Some((
                Reason::Ordered,
                format!("ordered {waits:.1} s ago, {node} has not confirmed it yet"),
            )),
            Phase::Pending => default(Reason::Queued, format!("{node} will start it next")),
            Phase::Pulling => default(Reason::Pulling, format!("{node} is pulling its image")),
            Phase::Created => default(Reason::Starting, format!("{node} is starting it")),
            Phase::Running => match instance.health() {
                Health::Unhealthy => {
                    default(Reason::Unhealthy, "its health probe fails".to_owned())
                }
                Health::Starting => default(
                    Reason::HealthStarting,
                    "runs, its health probe has not succeeded yet".to_owned(),
                ),
                Health::Healthy if !instance.ready => {
                    let workload = self.state.workloads.get(&instance.workload);
                    let seconds = workload.map_or(0, |w| w.spec.min_ready_seconds);
                    if seconds == 0 {
                        let message = "runs without a health probe; in a rollout it counts as \
                                       ready after a few seconds";
                        return Some((Reason::MinReady, message.to_owned()));
                    }
                    let left = ready_at(instance, u64::from(seconds) * 1000)
                        .map_or(0, |at| at.saturating_sub(self.now));
                    Some((
                        Reason::MinReady,
                        format!(
                            "healthy, counts as ready in {:.1} s (minReadySeconds {seconds})",
                            left as f64 / 1000.0
                        ),
                    ))
                }
                Health::Healthy => None,
                Health::Unknown => {
                    default(Reason::Other, format!("{node} does not know its health"))
                }
            },
            Phase::Exited | Phase::Failed => None,
        }
        .map(|(reason, message)| (reason, message.replace(id.as_str(), "it")))
    }

    /// Revisions of a workload, oldest first.
    pub fn history(&self, id: &str) -> Option<Vec<RevisionView>> {
        let workload = self.state.workloads.get(&WorkloadId::from(id))?;
        let views = workload.revisions.iter().map(|(number, revision)| RevisionView {
            revision: *number,
            at: rfc3339(revision.at),
            by: revision.by.clone(),
            why: revision.why.clone(),
            again: revision.again.as_ref().map(|word| AgainView {
                at: rfc3339(word.at),
                by: word.by.clone(),
                why: word.why.clone(),
            }),
            current: *number == workload.revision,
            head: *number == workload.head(),
            outcome: revision.outcome.clone(),
            template: revision.template.as_ref().clone(),
        });
        Some(views.collect())
    }

    /// All nodes by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        self.state.nodes.values().map(|node| self.node(node)).collect()
    }

    pub(super) fn node(&self, node: &Node) -> NodeView {
        let silent = self.now.saturating_sub(node.heard_at);
        let mut docker = node.docker.clone();
        docker.for_ms = self.now.saturating_sub(node.docker_since);
        let message = match (node.status, refusal(node)) {
            (NodeStatus::Unknown, _) => {
                Some("not heard since the scheduler started; waiting for it".to_owned())
            }
            (NodeStatus::Dead, _) => Some(format!("nothing heard for {} s", silent / 1000)),
            (_, Some(Refusal::NoDocker)) => Some(format!(
                "its Docker does not answer{}",
                docker.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default()
            )),
            (_, Some(Refusal::NotReported)) => {
                Some("registered, has not yet reported what it runs".to_owned())
            }
            (_, Some(Refusal::Unreachable)) => Some(format!(
                "heard, but does not answer orders at {}: is --advertise right, is the port open?",
                node.address
            )),
            (_, Some(Refusal::Draining)) => Some(match node.placed {
                0 => "drained: gets nothing new".to_owned(),
                left => format!("being drained: {left} instance(s) still to move"),
            }),
            (_, Some(Refusal::Cordoned)) => Some("cordoned: gets nothing new".to_owned()),
            _ => None,
        };
        NodeView {
            id: node.id.clone(),
            address: node.address.clone(),
            status: node.status,
            schedulable: node.schedulable,
            draining: node.draining,
            last_heartbeat_seconds_ago: node.heard.then_some(silent as f64 / 1000.0),
            instances: node.placed,
            docker,
            version: node.version.clone(),
            message,
        }
    }

    /// All instances, or those of one workload; `None` when there is and was no
    /// such workload.
    pub fn instances(&self, workload: Option<&str>) -> Option<Vec<ContainerInstance>> {
        match workload {
            None => Some(self.state.instances.values().map(|i| self.instance(i)).collect()),
            Some(name) => {
                let name = WorkloadId::from(name);
                let cohort = self.state.cohorts.get(&name);
                if cohort.is_none() && !self.state.workloads.contains_key(&name) {
                    return None;
                }
                let ids = cohort.map(|c| c.ids.clone()).unwrap_or_default();
                Some(
                    ids.iter()
                        .filter_map(|id| self.state.instances.get(id))
                        .map(|i| self.instance(i))
                        .collect(),
                )
            }
        }
    }

    pub(super) fn instance(&self, instance: &Instance) -> ContainerInstance {
        let why = self.why(instance);
        let seen = instance.seen.as_ref();
        let lost = !instance.is_over() && self.state.is_lost(instance);
        let image = self
            .state
            .workloads
            .get(&instance.workload)
            .and_then(|w| w.template(instance.revision))
            .map(|t| t.image.clone())
            .unwrap_or_default();
        let age = |since: Option<Millis>| since.map(|at| self.now.saturating_sub(at));
        ContainerInstance {
            id: instance.id.clone(),
            container_id: seen.map(|s| s.container_id.to_string()).unwrap_or_default(),
            workload_id: instance.workload.clone(),
            replica: instance.replica,
            revision: instance.revision,
            node_id: instance.node.clone(),
            image,
            phase: instance.phase(),
            health: if lost { Health::Unknown } else { instance.health() },
            ready: instance.share.ready,
            stopping: instance.stop.is_some() && !instance.is_over(),
            lost,
            exit_code: seen.and_then(|s| s.exit_code),
            ip: seen.and_then(|s| s.ip).map(|ip| ip.to_string()),
            ports: seen.map(|s| s.ports.to_vec()).unwrap_or_default(),
            asked_ports: Vec::new(),
            restarts: instance.restarts,
            backoff_step: instance.step,
            started_at: seen.and_then(|s| s.started_wall).map(rfc3339),
            reason: why.as_ref().map(|w| w.reason),
            message: why.map(|w| w.message),
            replaces: instance.replaces.clone(),
            after: instance.after.clone(),
            running_for_ms: age(seen.and_then(|s| s.running_since))
                .or(seen.and_then(|s| s.ran_for_ms)),
            healthy_for_ms: age(seen.and_then(|s| s.healthy_since)),
            restart_due: seen.is_some_and(|s| s.restart_due),
        }
    }

    /// Whether the scheduler has just started and waits to hear of this workload.
    pub fn is_recovering(&self, name: &str) -> bool {
        let workload = self.state.workloads.get(&WorkloadId::from(name));
        workload.is_some_and(|workload| self.state.is_recovering(workload))
    }

    /// Where a workload's ready instances are reached; `None`: no such workload.
    pub fn discover(&self, name: &str) -> Option<DiscoverView> {
        let name = WorkloadId::from(name);
        if !self.state.workloads.contains_key(&name) {
            return None;
        }
        let mut endpoints = Vec::new();
        let ids = self.state.cohorts.get(&name).map(|c| c.ids.clone()).unwrap_or_default();
        for instance in ids.iter().filter_map(|id| self.state.instances.get(id)) {
            // While half the cluster is out of sight, what was ready there is
            // more likely serving than not.
            let unseen = self.state.mass_loss.is_some()
                && instance.ready
                && instance.stop.is_none()
                && self.state.is_lost(instance);
            if !instance.share.ready && !unseen {
                continue;
            }
            let (Some(node), Some(seen)) =
                (self.state.nodes.get(&instance.node), instance.seen.as_ref())
            else {
                continue;
            };
            let host = node.address.rsplit_once(':').map_or(node.address.as_str(), |(h, _)| h);
            for port in &seen.ports {
                endpoints.push(Endpoint {
                    instance_id: instance.id.clone(),
                    node_id: instance.node.clone(),
                    address: format!("{host}:{}", port.host_port),
                    container_port: port.container_port,
                    health: if unseen { Health::Unknown } else { seen.health },
                });
            }
        }
        Some(DiscoverView { name, endpoints })
    }

    /// The instance of this id, or whose container id begins with this, and
    /// its node and where the agent is.
    ///
    /// # Errors
    /// 404 when there is none, 409 when the prefix fits several.
    pub fn find_instance(&self, id: &str) -> Result<(InstanceId, NodeId, String), ApiError> {
        let found = match self.state.instances.get(&InstanceId::from(id)) {
            Some(instance) => vec![instance],
            None => self
                .state
                .instances
                .values()
                .filter(|i| {
                    !id.is_empty()
                        && i.seen
                            .as_ref()
                            .is_some_and(|s| s.container_id.to_string().starts_with(id))
                })
                .take(2)
                .collect(),
        };
        match found.as_slice() {
            [] => Err(ApiError::not_found(format!(
                "there is no instance {id:?}, nor a container of ours whose id begins with it; list \
                 them with `kube-lite ctl instances`"
            ))),
            [instance] => match self.state.nodes.get(&instance.node) {
                Some(node) => Ok((instance.id.clone(), node.id.clone(), node.address.clone())),
                None => Err(ApiError::not_found(format!("the node of {id} was removed"))),
            },
            [first, second, ..] => Err(ApiError::conflict(format!(
                "{id:?} fits several containers, among them those of {} and {}; give more of the id",
                first.id, second.id
            ))),
        }
    }

    /// Events after `since`, oldest first.
    ///
    /// # Errors
    /// 410 when some of them have been dropped already, or `since` is of another
    /// life: whoever follows would wait for ever.
    pub fn events(
        &self,
        since: Option<u64>,
        workload: Option<&str>,
    ) -> Result<Vec<Arc<EventView>>, ApiError> {
        let ring = &self.state.ring;
        let first = ring.front().map_or(self.state.next_event, |e| e.seq);
        let since = since.unwrap_or(first.saturating_sub(1));
        if since + 1 < first {
            return Err(ApiError::new(
                410,
                "Gone",
                format!(
                    "events after {since} are no longer all kept; the oldest kept is {first}. Ask \
                     again without `since`"
                ),
            ));
        }
        if since >= self.state.next_event {
            return Err(ApiError::new(
                410,
                "Gone",
                format!(
                    "event {since} has not happened: the next one is {}. The scheduler was \
                     started anew without its state; ask again without `since`",
                    self.state.next_event
                ),
            ));
        }
        let start = ((since + 1 - first) as usize).min(ring.len());
        Ok(ring
            .skip(start)
            .into_iter()
            .filter(|e| {
                workload.is_none_or(|w| e.workload.as_ref().is_some_and(|x| x.as_str() == w))
            })
            .collect())
    }

    /// How the scheduler itself is.
    pub fn health(&self) -> HealthView {
        HealthView {
            status: "ok".to_owned(),
            cluster: Some(self.state.cluster.to_string()),
            epoch: Some(self.state.epoch),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            warnings: Vec::new(),
        }
    }
}
