//! What the agent says about itself: the full snapshot in each heartbeat, and
//! single instances for readers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::AgentCore;
use super::instance::{Instance, Leaving, Op};
use super::retention::duration_text;
use crate::model::wall::rfc3339;
use crate::model::wire::{DockerStatus, HeartbeatRequest};
use crate::model::{ContainerInstance, Health, InstanceId, Phase, Reason};

impl AgentCore {
    /// Everything this agent has, as of now.
    pub fn snapshot(&self) -> HeartbeatRequest {
        let containers = self.instances.values().map(|instance| self.describe(instance)).collect();
        HeartbeatRequest { containers, ..self.head() }
    }

    /// What a heartbeat says about the agent itself.
    pub(super) fn head(&self) -> HeartbeatRequest {
        HeartbeatRequest {
            node_id: self.identity.node.clone(),
            incarnation: self.identity.incarnation,
            epoch: self.contact.epoch.unwrap_or(0),
            seq: self.contact.seq,
            synced: self.synced,
            docker: self.docker_status(),
            same_as: None,
            containers: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// How Docker is, and for how long it has been so.
    pub fn docker_status(&self) -> DockerStatus {
        let for_ms = self.now().saturating_sub(self.docker.since);
        DockerStatus { for_ms, ..self.docker.status.clone() }
    }

    /// One instance by its id, or by an unambiguous prefix (12 or more
    /// characters) of its container's id.
    pub fn find(&self, name: &str) -> Option<ContainerInstance> {
        if let Some(instance) = self.instances.get(name) {
            return Some(self.describe(instance));
        }
        if name.len() < 12 {
            return None;
        }
        let mut matches = self
            .by_container
            .range(name.to_owned()..)
            .take_while(|(container_id, _)| container_id.starts_with(name));
        let (_, id) = matches.next()?;
        if matches.next().is_some() {
            return None;
        }
        self.instances.get(id).map(|instance| self.describe(instance))
    }

    /// The epoch it is registered under.
    pub fn epoch(&self) -> Option<u64> {
        self.contact.epoch
    }

    /// Whether everything is settled: nothing is under way and nothing is owed
    /// but the next heartbeat, probe or listing.
    pub fn is_settled(&self) -> bool {
        self.synced
            && self.images.is_empty()
            && self.strays.is_empty()
            && self.instances.values().all(|instance| {
                instance.op.is_none()
                    && instance.leaving.is_none()
                    && instance.phase >= Phase::Running
            })
    }

    /// How far each instance has come.
    pub fn phases(&self) -> impl Iterator<Item = Phase> {
        self.instances.values().map(|instance| instance.phase)
    }

    /// The ids of all instances.
    pub fn instance_ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.instances.keys()
    }

    pub(super) fn describe(&self, instance: &Instance) -> ContainerInstance {
        let now = self.now();
        let order = &instance.order;
        let check = order.template.health_check.as_ref();
        let running = instance.phase == Phase::Running;
        let healthy = match (&instance.prober, check) {
            (Some(prober), _) => prober.healthy(),
            (None, None) => instance.running,
            (None, Some(_)) => None,
        };
        let health = match (&instance.prober, check) {
            _ if !running => Health::Unknown,
            (Some(prober), _) => prober.health(),
            (None, None) => Health::Healthy,
            (None, Some(_)) => Health::Unknown,
        };
        let why = self.why(instance);
        let ran_for_ms = instance.death.as_ref().and_then(|death| death.ran_for_ms);
        let container = instance.container.as_ref();
        let shown = container.filter(|_| running);
        ContainerInstance {
            id: order.id.clone(),
            container_id: container.map(|container| container.id.clone()).unwrap_or_default(),
            workload_id: order.workload.clone(),
            replica: order.replica,
            revision: order.revision,
            node_id: self.identity.node.clone(),
            image: order.template.image.clone(),
            phase: instance.phase,
            health,
            ready: false,
            stopping: matches!(instance.leaving, Some(Leaving::Ordered { .. })),
            lost: false,
            exit_code: instance.exit_code,
            ip: shown.and_then(|container| container.ip.clone()),
            ports: shown.map(|container| container.ports.clone()).unwrap_or_default(),
            asked_ports: match instance.phase < Phase::Running {
                true => order.asked_ports(),
                false => Vec::new(),
            },
            restarts: order.restarts,
            backoff_step: order.backoff_step,
            started_at: instance.started_wall_ms.map(rfc3339),
            reason: why.as_ref().map(|(reason, _)| *reason),
            message: why.map(|(_, message)| message),
            replaces: order.replaces.clone(),
            after: order.after.clone(),
            running_for_ms: match running {
                true => instance.running.map(|since| since.age_ms(now)),
                false => ran_for_ms,
            },
            healthy_for_ms: healthy.filter(|_| running).map(|since| since.age_ms(now)),
            restart_due: match (&instance.prober, check) {
                (Some(prober), Some(check)) => running && prober.restart_due(check),
                _ => false,
            },
        }
    }

    /// Why it is not running and well; `None` if it is.
    fn why(&self, instance: &Instance) -> Option<(Reason, String)> {
        if let Some(Leaving::Ordered { why, .. }) = &instance.leaving {
            let mut text = "being stopped".to_owned();
            if !why.is_empty() {
                text = format!("{text}: {why}");
            }
            if let Some(trouble) = &instance.trouble {
                text = format!("{text}; {trouble}, trying again");
            }
            return Some((Reason::Stopping, text));
        }
        match instance.phase {
            Phase::Exited | Phase::Failed => instance.verdict.clone(),
            Phase::Running => self.why_not_healthy(instance),
            Phase::Pending | Phase::Pulling | Phase::Created => Some(self.why_not_up(instance)),
        }
    }

    fn why_not_healthy(&self, instance: &Instance) -> Option<(Reason, String)> {
        let prober = instance.prober.as_ref()?;
        let last = prober.last_failure().map_or_else(String::new, |last| format!(": {last}"));
        match prober.health() {
            Health::Starting => {
                Some((Reason::HealthStarting, format!("no health probe has succeeded yet{last}")))
            }
            Health::Unhealthy => Some((Reason::Unhealthy, format!("its health probe fails{last}"))),
            Health::Healthy | Health::Unknown => None,
        }
    }

    fn why_not_up(&self, instance: &Instance) -> (Reason, String) {
        let image = &instance.order.template.image;
        if !self.docker_ok() {
            let said = self.docker.status.message.as_deref().unwrap_or("it does not answer");
            return (Reason::DockerUnavailable, format!("waits for Docker: {said}"));
        }
        if let Some(trouble) = &instance.trouble {
            return (Reason::Starting, format!("{trouble}; trying again"));
        }
        match instance.op {
            Some(Op::Pull) => match self.pull_trouble(instance) {
                Some((trouble, at)) if at > self.now() => {
                    let pause = duration_text(at - self.now());
                    let text =
                        format!("{image} could not be pulled: {trouble}; next try in {pause}");
                    (Reason::PullFailed, text)
                }
                Some((trouble, _)) => {
                    (Reason::Pulling, format!("pulling {image} again, after: {trouble}"))
                }
                None => (Reason::Pulling, format!("pulling {image}")),
            },
            Some(Op::CheckImage) => (Reason::Queued, format!("looking for {image} on the node")),
            Some(_) => (Reason::Starting, "its container is being created and started".to_owned()),
            None if !self.synced => {
                (Reason::Queued, "waits for the agent's first look at its containers".to_owned())
            }
            None if instance.prepared => {
                let before = instance.order.after.as_ref().map_or("another", InstanceId::as_str);
                (Reason::Prepared, format!("its image is here; it starts when {before} is gone"))
            }
            None => (Reason::Queued, "waits for its turn".to_owned()),
        }
    }
}
