//! What a simulated Docker remembers: images, containers, host ports. Plain values
//! and no time of its own.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};

use super::fate::{Chance, Fate};
use crate::model::wire::labels;
use crate::model::{ClusterId, InstanceId, NodeId, Protocol, PublishedPort, Reason};
use crate::roles::agent::message::{
    ContainerEvent, ContainerState, EventKind, Facts, Launch, LaunchOutcome, Observed,
};

/// Where Docker, too, picks its host ports.
const FIRST_PORT: u16 = 32_768;
const LAST_PORT: u16 = 60_999;
/// A process that was told to end by a signal, and did.
const SIGTERM: i64 = 143;
/// What containers are found with after a power cut.
const POWER_CUT: i64 = 255;

/// One simulated Docker. Times are Unix milliseconds.
#[derive(Debug)]
pub struct Machine {
    node: NodeId,
    images: BTreeSet<String>,
    containers: BTreeMap<String, Container>,
    by_name: BTreeMap<InstanceId, String>,
    /// When which container ends by itself.
    ends: BTreeSet<(u64, String)>,
    ports: BTreeSet<(u16, Protocol)>,
    next_port: u16,
    made: u32,
}

/// One simulated container. What it was made of is kept as text: a cluster may
/// have a million of them.
#[derive(Debug)]
pub struct Container {
    /// The instance, and its name.
    pub id: InstanceId,
    /// What becomes of it.
    pub fate: Fate,
    /// When it was started.
    pub started_at: u64,
    /// When and with which code it ended.
    pub ended: Option<(u64, i64)>,
    cluster: ClusterId,
    image: Box<str>,
    labels: Box<str>,
    ports: Box<[PublishedPort]>,
    number: u32,
}

impl Machine {
    /// A Docker on `node` that has nothing yet.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            images: BTreeSet::new(),
            containers: BTreeMap::new(),
            by_name: BTreeMap::new(),
            ends: BTreeSet::new(),
            ports: BTreeSet::new(),
            next_port: FIRST_PORT,
            made: 0,
        }
    }

    /// Whether an image is there.
    pub fn has_image(&self, image: &str) -> bool {
        self.images.contains(image)
    }

    /// An image has come.
    pub fn add_image(&mut self, image: &str) {
        self.images.insert(image.to_owned());
    }

    /// Makes and starts a container; one of that name that is there already is
    /// left as it is.
    pub fn launch(&mut self, launch: &Launch, fate: Fate, now: u64) -> LaunchOutcome {
        let there = self.by_name.get(&launch.id).and_then(|id| self.facts(id));
        if let Some(facts) = there {
            return LaunchOutcome::Started(facts);
        }
        if !self.has_image(&launch.image) {
            return failed(Reason::ImageNotFound, format!("there is no image {}", launch.image));
        }
        if fate.fails {
            return failed(Reason::StartFailed, "a simulated failure of its start".to_owned());
        }
        let ports = match self.publish(launch) {
            Ok(ports) => ports,
            Err(taken) => {
                let text = format!("host port {taken} is taken by another simulated container");
                return failed(Reason::PortTaken, text);
            }
        };
        self.made += 1;
        let container_id = self.new_id(&launch.id);
        if let Some((after_ms, _)) = fate.crash {
            self.ends.insert((now + after_ms, container_id.clone()));
        }
        self.by_name.insert(launch.id.clone(), container_id.clone());
        let cluster = launch.labels.get(labels::CLUSTER).map_or("", String::as_str).into();
        let container = Container {
            id: launch.id.clone(),
            fate,
            started_at: now,
            ended: None,
            cluster,
            image: launch.image.as_str().into(),
            labels: serde_json::to_string(&launch.labels).unwrap_or_default().into(),
            ports: ports.into(),
            number: self.made,
        };
        self.containers.insert(container_id.clone(), container);
        LaunchOutcome::Started(self.facts(&container_id).unwrap_or_default())
    }

    fn new_id(&self, name: &InstanceId) -> String {
        let made = self.made.to_string();
        let mut chance = Chance::of(0, &[self.node.as_str(), name.as_str(), &made]);
        (0..4).map(|_| format!("{:016x}", chance.next())).collect()
    }

    /// Host ports for all that it asks for, or the one that is taken.
    fn publish(&mut self, launch: &Launch) -> Result<Vec<PublishedPort>, u16> {
        let mut published = Vec::with_capacity(launch.ports.len());
        for port in &launch.ports {
            let taken = (port.host_port, port.protocol);
            let host_port = match port.host_port {
                0 => self.free_port(port.protocol),
                _ if self.ports.contains(&taken) => Err(port.host_port),
                asked => Ok(asked),
            };
            match host_port {
                Ok(host_port) => {
                    self.ports.insert((host_port, port.protocol));
                    published.push(PublishedPort {
                        container_port: port.container_port,
                        host_port,
                        protocol: port.protocol,
                    });
                }
                Err(taken) => {
                    self.unpublish(&published);
                    return Err(taken);
                }
            }
        }
        published.sort();
        Ok(published)
    }

    fn free_port(&mut self, protocol: Protocol) -> Result<u16, u16> {
        for _ in FIRST_PORT..=LAST_PORT {
            let port = self.next_port;
            self.next_port = if port == LAST_PORT { FIRST_PORT } else { port + 1 };
            if !self.ports.contains(&(port, protocol)) {
                return Ok(port);
            }
        }
        Err(0)
    }

    fn unpublish(&mut self, ports: &[PublishedPort]) {
        for port in ports {
            self.ports.remove(&(port.host_port, port.protocol));
        }
    }

    /// A container, dead or alive.
    pub fn container(&self, container_id: &str) -> Option<&Container> {
        self.containers.get(container_id)
    }

    /// A container is told to end.
    pub fn stop(&mut self, container_id: &str, now: u64) -> Option<ContainerEvent> {
        self.end(container_id, SIGTERM, now)
    }

    fn end(&mut self, container_id: &str, exit_code: i64, now: u64) -> Option<ContainerEvent> {
        let container = self.containers.get_mut(container_id).filter(|c| c.ended.is_none())?;
        container.ended = Some((now, exit_code));
        if let Some((after_ms, _)) = container.fate.crash {
            self.ends.remove(&(container.started_at + after_ms, container_id.to_owned()));
        }
        let event = ContainerEvent {
            container_id: container_id.to_owned(),
            cluster: container.cluster.clone(),
            id: container.id.clone(),
            kind: EventKind::Die { exit_code },
        };
        let ports = std::mem::take(&mut container.ports);
        self.unpublish(&ports);
        Some(event)
    }

    /// A container goes, and runs no more.
    pub fn remove(&mut self, container_id: &str, now: u64) {
        self.end(container_id, SIGTERM, now);
        if let Some(container) = self.containers.remove(container_id) {
            self.by_name.remove(&container.id);
        }
    }

    /// When the next container ends by itself.
    pub fn next_end(&self) -> Option<u64> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// What has ended by itself by now.
    pub fn ended_by(&mut self, now: u64) -> Vec<ContainerEvent> {
        let mut events = Vec::new();
        while let Some((at, container_id)) = self.ends.first().filter(|(at, _)| *at <= now).cloned()
        {
            self.ends.remove(&(at, container_id.clone()));
            let crash = self.containers.get(&container_id).and_then(|c| c.fate.crash);
            let code = crash.map_or(1, |(_, code)| code);
            events.extend(self.end(&container_id, code, now));
        }
        events
    }

    /// Everything that runs, ends.
    pub fn lose_power(&mut self, now: u64) {
        let all: Vec<String> = self.containers.keys().cloned().collect();
        for container_id in all {
            self.end(&container_id, POWER_CUT, now);
        }
    }

    /// What a health probe of it says.
    pub fn probe(&self, container_id: &str, now: u64) -> Result<(), &'static str> {
        let container = self.containers.get(container_id).filter(|c| c.ended.is_none());
        let container = container.ok_or("connection refused")?;
        let warm = container.fate.warm_up_ms.ok_or("answered with status 503")?;
        if now < container.started_at + warm { Err("connection refused") } else { Ok(()) }
    }

    /// All containers of a cluster.
    pub fn list(&self, cluster: &ClusterId) -> Vec<Observed> {
        let ours = self.containers.iter().filter(|(_, c)| c.cluster == *cluster);
        ours.map(|(container_id, container)| Observed {
            name: container.id.to_string(),
            image: container.image.to_string(),
            labels: serde_json::from_str(&container.labels).unwrap_or_default(),
            facts: container.facts(container_id),
        })
        .collect()
    }

    fn facts(&self, container_id: &str) -> Option<Facts> {
        self.containers.get(container_id).map(|container| container.facts(container_id))
    }
}

impl Container {
    fn facts(&self, container_id: &str) -> Facts {
        let running = self.ended.is_none();
        let [_, _, high, low] = self.number.to_be_bytes();
        Facts {
            container_id: container_id.to_owned(),
            state: if running { ContainerState::Running } else { ContainerState::Ended },
            exit_code: self.ended.map(|(_, code)| code),
            oom_killed: false,
            started_at_ms: Some(self.started_at),
            finished_at_ms: self.ended.map(|(at, _)| at),
            ip: running.then(|| format!("172.17.{high}.{low}")),
            ports: self.ports.to_vec(),
        }
    }
}

fn failed(reason: Reason, message: String) -> LaunchOutcome {
    LaunchOutcome::Failed { reason, message, left_over: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::agent::message::BoundPort;
    use crate::roles::agent::message::Limits;

    fn fate() -> Fate {
        Fate {
            start_ms: 0,
            fails: false,
            warm_up_ms: Some(50),
            stop_ms: 0,
            crash: Some((1_000, 7)),
            line_ms: 1,
        }
    }

    fn launch(id: &str, host_port: u16) -> Launch {
        Launch {
            id: id.into(),
            workload: "web".into(),
            image: "web:1".to_owned(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            labels: [(labels::CLUSTER.to_owned(), "c1".to_owned())].into(),
            ports: vec![BoundPort {
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: [127, 0, 0, 1].into(),
                host_port,
            }],
            limits: Limits::default(),
            mounts: Vec::new(),
            env_from: Vec::new(),
            stop_grace_period_seconds: 1,
        }
    }

    fn started(outcome: LaunchOutcome) -> Facts {
        match outcome {
            LaunchOutcome::Started(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    fn refused(outcome: LaunchOutcome) -> Reason {
        match outcome {
            LaunchOutcome::Failed { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    fn machine() -> Machine {
        let mut machine = Machine::new("n1".into());
        machine.add_image("web:1");
        machine
    }

    #[test]
    fn twice_is_once_and_a_port_is_given_once() {
        let mut machine = machine();
        let first = started(machine.launch(&launch("a", 8_000), fate(), 0));
        assert_eq!(started(machine.launch(&launch("a", 8_000), fate(), 5)), first);
        assert_eq!(refused(machine.launch(&launch("b", 8_000), fate(), 5)), Reason::PortTaken);
        let other = started(machine.launch(&launch("c", 0), fate(), 5));
        assert_eq!(other.ports[0].host_port, FIRST_PORT);
        machine.remove(&first.container_id, 6);
        started(machine.launch(&launch("b", 8_000), fate(), 7));
        assert_eq!(machine.list(&"c1".into()).len(), 2);
        assert_eq!(machine.list(&"c2".into()).len(), 0);
    }

    #[test]
    fn what_cannot_start_leaves_nothing() {
        let mut machine = machine();
        let bad = Fate { fails: true, ..fate() };
        assert_eq!(refused(machine.launch(&launch("a", 1), bad, 0)), Reason::StartFailed);
        let absent = Launch { image: "other:1".to_owned(), ..launch("a", 1) };
        assert_eq!(refused(machine.launch(&absent, fate(), 0)), Reason::ImageNotFound);
        assert!(machine.list(&"c1".into()).is_empty() && machine.ports.is_empty());
    }

    #[test]
    fn it_warms_up_and_crashes_in_its_time() {
        let mut machine = machine();
        let id = started(machine.launch(&launch("a", 0), fate(), 100)).container_id;
        assert!(machine.probe(&id, 149).is_err());
        assert_eq!(machine.probe(&id, 150), Ok(()));
        assert_eq!(machine.next_end(), Some(1_100));
        assert!(machine.ended_by(1_099).is_empty());
        let events = machine.ended_by(1_100);
        assert_eq!(events[0].kind, EventKind::Die { exit_code: 7 });
        assert!(machine.probe(&id, 1_101).is_err());
        assert_eq!(machine.next_end(), None);
        assert_eq!(machine.list(&"c1".into())[0].facts.exit_code, Some(7));
    }

    #[test]
    fn a_power_cut_ends_all_and_forgets_nothing() {
        let mut machine = machine();
        for id in ["a", "b"] {
            started(machine.launch(&launch(id, 0), fate(), 0));
        }
        machine.lose_power(5);
        let found = machine.list(&"c1".into());
        assert!(found.iter().all(|c| c.facts.exit_code == Some(POWER_CUT)), "{found:?}");
        assert_eq!((found.len(), machine.next_end()), (2, None));
    }
}
