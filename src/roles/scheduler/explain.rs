//! `explain`: the story of a workload. What is wanted, what is, what was decided
//! and why, and what it waits for.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::state::{Replica, RolloutState, Workload};
use super::views::Snapshot;
use crate::model::view::{ExplainView, ReplicaView};
use crate::model::{Reason, RestartPolicy, Why, WorkloadId};

/// Replicas and events told of; a story has an end.
const REPLICAS_TOLD: usize = 50;
const EVENTS_TOLD: usize = 25;

impl Snapshot {
    /// The story of a workload; `None` when there is no such workload.
    pub fn explain(&self, id: &str) -> Option<ExplainView> {
        let name = WorkloadId::from(id);
        let workload = self.state.workloads.get(&name)?;
        let mut decided: Vec<_> = self
            .state
            .ring
            .iter()
            .rev()
            .filter(|event| event.workload.as_ref() == Some(&name))
            .take(EVENTS_TOLD)
            .map(|event| event.as_ref().clone())
            .collect();
        decided.reverse();
        let mut waiting_for = self.reasons(&name, workload);
        waiting_for.extend(self.rollout_waits(&name, workload, waiting_for.is_empty()));
        Some(ExplainView {
            wanted: wanted(workload),
            is: self.is(&name, workload),
            replicas: workload
                .replicas
                .iter()
                .take(REPLICAS_TOLD)
                .map(|(number, replica)| self.replica(workload, *number, replica))
                .collect(),
            decided,
            hints: hints(&name, &waiting_for),
            waiting_for,
            id: name,
        })
    }

    /// What an open rollout waits for, if nothing else says so: one that a person
    /// has frozen waits for a person, whatever else is.
    fn rollout_waits(&self, name: &WorkloadId, workload: &Workload, alone: bool) -> Option<Why> {
        let view = self.view(name, workload).rollout?;
        let so_far = format!("{} of {} are of revision {}", view.updated, view.total, view.to);
        match workload.rollout.as_ref()?.state {
            RolloutState::Paused => Some(Why::new(
                Reason::Paused,
                format!("the rollout is paused, {so_far}; a person lets it go on or takes it back"),
            )),
            RolloutState::Rolling | RolloutState::Aborting if alone => Some(Why::new(
                Reason::WaitingForStops,
                format!("the rollout is under way, {so_far}: the old instances are to be gone"),
            )),
            _ => None,
        }
    }

    fn is(&self, name: &WorkloadId, workload: &Workload) -> String {
        let tally = self.state.tally(name);
        let mut parts = vec![format!("{} of {} ready", tally.ready, workload.desired())];
        let mut add = |count: u32, what: &str| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        add(tally.running - tally.ready, "running but not ready");
        add(tally.effective - tally.running, "coming up");
        add((workload.missing.len() + workload.resting.len()) as u32, "waiting");
        add(workload.done.len() as u32, "done");
        add(tally.stopping, "being stopped");
        format!("{name} has {}", parts.join(", "))
    }

    fn replica(&self, workload: &Workload, number: u32, replica: &Replica) -> ReplicaView {
        let live: Vec<_> = replica
            .instances
            .iter()
            .filter_map(|id| self.state.instances.get(id))
            .filter(|i| !i.is_over())
            .collect();
        let (state, message) = if let Some(done) = &replica.done {
            let code = done
                .exit_code
                .map_or("without an exit code".to_owned(), |c| format!("with exit code {c}"));
            ("done", format!("finished {code} as {}", done.instance))
        } else if let Some(instance) = live.iter().find(|i| i.share.effective) {
            let message = match self.why(instance) {
                None => format!("{} runs on {} and is ready", instance.id, instance.node),
                Some(why) => format!("{} on {}: {}", instance.id, instance.node, why.message),
            };
            ("filled", message)
        } else if workload.resting.contains(&number) {
            ("waiting", self.why_resting(workload, number).message)
        } else {
            let message = match &workload.held {
                Some(held) => held.message.clone(),
                None => "to be started".to_owned(),
            };
            ("missing", message)
        };
        ReplicaView {
            replica: number,
            state: state.to_owned(),
            restarts: replica.restarts,
            message,
            instances: live.iter().map(|i| i.id.clone()).collect(),
        }
    }
}

fn wanted(workload: &Workload) -> String {
    let spec = &workload.spec;
    let policy = match spec.restart_policy {
        RestartPolicy::Always => "restarted whenever it ends",
        RestartPolicy::OnFailure => "restarted when it fails",
        RestartPolicy::Never => "never restarted",
    };
    let probe = match &spec.health_check {
        Some(check) => format!("probed at :{}{}", check.port, check.path),
        None => "without a health probe".to_owned(),
    };
    let limits = spec.limits_text().map(|text| format!(", {text}")).unwrap_or_default();
    format!(
        "{} replica(s) of {} at revision {} ({}), each {policy}, {probe}{limits}",
        workload.desired(),
        spec.name,
        workload.revision,
        spec.image
    )
}

fn hints(name: &WorkloadId, waiting_for: &[Why]) -> Vec<String> {
    let mut hints = Vec::new();
    let has = |reasons: &[Reason]| waiting_for.iter().find(|w| reasons.contains(&w.reason));
    if let Some(why) = has(&[Reason::BackOff, Reason::Unhealthy, Reason::HealthStarting]) {
        let whom = why.instance_id.as_ref().map_or(name.as_str(), |id| id.as_str());
        hints.push(format!("see what it says: kube-lite ctl logs {whom} --tail 50"));
    }
    if has(&[Reason::Paused]).is_some() {
        hints.push(format!("let it go on: kube-lite ctl rollout resume {name}"));
        hints.push(format!("take it back: kube-lite ctl rollout abort {name}"));
    }
    if has(&[Reason::NoRoom, Reason::NoNodes, Reason::NodeLost]).is_some() {
        hints.push("see the nodes: kube-lite ctl nodes -o wide".to_owned());
    }
    if has(&[Reason::PortTaken]).is_some() {
        hints.push(
            "let Docker pick the host port: set hostPort to 0 and find it with `kube-lite ctl \
             discover`"
                .to_owned(),
        );
    }
    if has(&[Reason::PullFailed]).is_some() {
        hints.push(
            "check that the nodes reach the image's registry (network, DNS, proxy of Docker), or load \
             the image there by hand; it is tried again by itself"
                .to_owned(),
        );
    }
    if has(&[Reason::ImageNotFound, Reason::ImageDenied]).is_some() {
        hints.push("check the image's name and that each node may pull it".to_owned());
    }
    if has(&[Reason::NotAllowed, Reason::NotOnNode]).is_some() {
        hints.push(
            "either let the nodes allow it (their agents' --allow-mount and --env-dir), or change \
             the workload's mounts and envFrom"
                .to_owned(),
        );
    }
    hints
}
