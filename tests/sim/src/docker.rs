//! Docker daemons: containers, images, host ports, and the stream of events. What
//! they are asked to do is in [`work`].

pub mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kube_lite::model::wire::labels;
use kube_lite::model::{DaemonId, InstanceId, NodeId, Protocol, PublishedPort, WorkloadId};
use kube_lite::roles::agent::message::{
    ContainerEvent, ContainerState, DockerReport, EventKind, Facts, Input, Launch, Probe,
};

pub use self::work::{Job, Stage, Work};
use crate::clock::{Time, Wall};
use crate::image::{Health, Life, behaviour};
use crate::rng::Rng;
use crate::tell;
use crate::world::{Event, World};

/// A daemon that is away is looked for this often.
const LOOK_FOR_IT_MS: u64 = 250;
/// Events are replayed from this long before a connection.
const OVERLAP_MS: u64 = 1_000;
/// Pings are this far apart, and unanswered after so long.
const PING_MS: (u64, u64) = (2_000, 5_000);

/// What an event stream brings.
pub type News = ContainerEvent;

/// How a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    Up,
    /// It accepts connections and does nothing.
    Hung,
    /// Nobody listens at its socket.
    Down,
}

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Its name in the story, and the first part of its identity.
    pub name: String,
    /// Boots of its machine.
    pub boot: u32,
    /// What the wall clock of its machine shows.
    pub wall: Wall,
    /// How it is.
    pub condition: Condition,
    /// Its containers, by Docker's id.
    pub containers: BTreeMap<String, Container>,
    /// Images it has.
    pub images: BTreeSet<String>,
    /// Host ports that somebody else has taken.
    pub foreign_ports: BTreeSet<u16>,
    /// Everything takes so much longer.
    pub slow_ms: u64,
    /// How often it fails.
    pub fails: Fails,
    /// Requests that wait until it does something again.
    stuck: Vec<(u64, Stage)>,
    /// Events that wait for the same.
    held: Vec<(NodeId, News)>,
    log: VecDeque<(Time, NodeId, News)>,
    next_port: u16,
    next_id: u64,
}

/// How often which request fails, in permille.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fails {
    /// Looking for an image, and listing.
    pub look: u64,
    /// Pulling.
    pub pull: u64,
    /// Creating.
    pub create: u64,
    /// Starting.
    pub start: u64,
    /// Stopping and removing.
    pub end: u64,
}

impl Fails {
    /// Whether anything fails just now.
    pub fn any(&self) -> bool {
        [self.look, self.pull, self.create, self.start, self.end].iter().any(|often| *often > 0)
    }
}

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Docker's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it was made from.
    pub image: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The instance, by its label.
    pub instance: InstanceId,
    /// The workload, by its label.
    pub workload: WorkloadId,
    /// The node, by its label.
    pub node: NodeId,
    /// How far it has come.
    pub state: ContainerState,
    /// Starts of it so far.
    pub run: u32,
    /// When it was last started.
    pub started_at: Time,
    /// When its state last changed.
    pub changed_at: Time,
    /// It was started on behalf of a process that was gone by then: whoever comes
    /// after that one may not know, and Docker starts what has ended meanwhile.
    pub started_late: bool,
    /// A person has started it again.
    pub revived: bool,
    /// It fails its probes before then.
    pub sick_until: Time,
    exit_code: Option<i64>,
    oom: bool,
    started_wall: Option<u64>,
    finished_wall: Option<u64>,
    ip: String,
    asked: Vec<(u16, u16, Protocol)>,
    ports: Vec<PublishedPort>,
    /// Requests that wait for its end.
    stoppers: Vec<u64>,
}

impl Container {
    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        self.state == ContainerState::Running
    }

    /// Whether a probe finds it well.
    pub fn is_well(&self, now: Time) -> bool {
        let age = now.saturating_sub(self.started_at);
        let by_nature = match behaviour(&self.image).health {
            Health::GoodAfter(ms) => age >= ms,
            Health::BadAfter(ms) => age < ms,
            Health::Never => false,
        };
        self.is_running() && by_nature && now >= self.sick_until
    }

    /// What inspecting it says.
    pub fn facts(&self) -> Facts {
        let running = self.is_running();
        Facts {
            container_id: self.id.clone(),
            state: self.state,
            exit_code: self.exit_code.filter(|_| self.state == ContainerState::Ended),
            oom_killed: self.oom,
            started_at_ms: self.started_wall,
            finished_at_ms: self.finished_wall,
            ip: running.then(|| self.ip.clone()),
            ports: if running { self.ports.clone() } else { Vec::new() },
        }
    }

    /// Host ports it holds by number.
    pub fn holds(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().filter(|_| self.is_running()).map(|port| port.host_port)
    }
}

impl Daemon {
    /// A daemon that runs, with nothing on it.
    pub fn new(name: String) -> Self {
        Self {
            name,
            boot: 1,
            wall: Wall::default(),
            condition: Condition::Up,
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            foreign_ports: BTreeSet::new(),
            slow_ms: 0,
            fails: Fails::default(),
            stuck: Vec::new(),
            held: Vec::new(),
            log: VecDeque::new(),
            next_port: 32_768,
            next_id: 0,
        }
    }

    /// Who it is, as seen from outside.
    pub fn id(&self) -> DaemonId {
        format!("{}-boot{}", self.name, self.boot).into()
    }

    /// The container of this name.
    pub fn named(&self, name: &str) -> Option<&Container> {
        self.containers.values().find(|container| container.name == name)
    }

    fn make(&mut self, launch: &Launch, now: Time) -> String {
        self.next_id += 1;
        // Long enough to be found by a prefix, as Docker's are.
        let id = format!("{}c{:012}", self.name, self.next_id);
        let label = |name: &str| launch.labels.get(name).map(String::as_str).unwrap_or_default();
        let container = Container {
            id: id.clone(),
            name: launch.id.to_string(),
            image: launch.image.clone(),
            instance: launch.id.clone(),
            workload: label(labels::WORKLOAD).into(),
            node: label(labels::NODE).into(),
            labels: launch.labels.clone(),
            state: ContainerState::Created,
            run: 0,
            started_at: 0,
            changed_at: now,
            started_late: false,
            revived: false,
            sick_until: 0,
            exit_code: None,
            oom: false,
            started_wall: None,
            finished_wall: None,
            ip: format!("172.17.{}.{}", self.next_id / 250, self.next_id % 250 + 2),
            asked: launch
                .ports
                .iter()
                .map(|port| (port.container_port, port.host_port, port.protocol))
                .collect(),
            ports: Vec::new(),
            stoppers: Vec::new(),
        };
        self.containers.insert(id.clone(), container);
        id
    }

    /// Gives a container its host ports; an error is the one that is taken.
    fn bind(&mut self, id: &str) -> Result<(), u16> {
        let Some(asked) = self.containers.get(id).map(|container| container.asked.clone()) else {
            return Ok(());
        };
        let mut taken: BTreeSet<u16> = self.foreign_ports.clone();
        taken.extend(self.containers.values().flat_map(Container::holds));
        let mut ports = Vec::new();
        for (container_port, host_port, protocol) in asked {
            let host_port = match host_port {
                0 => loop {
                    self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
                    if !taken.contains(&self.next_port) {
                        break self.next_port;
                    }
                },
                port if taken.contains(&port) => return Err(port),
                port => port,
            };
            taken.insert(host_port);
            ports.push(PublishedPort { container_port, host_port, protocol });
        }
        ports.sort();
        if let Some(container) = self.containers.get_mut(id) {
            container.ports = ports;
        }
        Ok(())
    }
}

impl World {
    // ---- containers ----

    /// Starts a container's process; the error is the host port that is taken.
    pub fn start_container(&mut self, daemon: usize, id: &str) -> Result<(), u16> {
        let now = self.now;
        let here = &mut self.daemons[daemon];
        here.bind(id)?;
        let wall = here.wall.read(now);
        let Some(container) = here.containers.get_mut(id) else { return Ok(()) };
        container.state = ContainerState::Running;
        container.run += 1;
        container.changed_at = now;
        container.started_at = now;
        container.started_wall = Some(wall);
        container.finished_wall = None;
        container.exit_code = None;
        let (run, life) = (container.run, behaviour(&container.image).life);
        let container = container.clone();
        let (name, instance) = (&here.name, &container.instance);
        tell!(self, format!("docker {name}"), "started {instance}, {:?}", container.ports);
        self.judge_container_started(daemon, &container);
        self.docker_says(daemon, id, EventKind::Start);
        let ends = match life {
            Life::Forever => None,
            Life::Ends(code, after) => Some((code, after)),
            Life::EndsSomehow(after) => Some((self.rng.below(2) as i64, after)),
        };
        if let Some((code, after)) = ends {
            let event = Event::Ends { daemon, container: id.to_owned(), run, code };
            self.plan(after, event);
        }
        Ok(())
    }

    /// A container's process ends.
    pub fn process_ends(&mut self, daemon: usize, id: &str, run: u32, code: i64) {
        let now = self.now;
        let here = &mut self.daemons[daemon];
        let wall = here.wall.read(now);
        let Some(container) = here.containers.get_mut(id) else { return };
        if !container.is_running() || container.run != run {
            return;
        }
        container.state = ContainerState::Ended;
        container.changed_at = now;
        container.exit_code = Some(code);
        container.finished_wall = Some(wall);
        let stoppers = std::mem::take(&mut container.stoppers);
        let instance = &container.instance;
        tell!(self, format!("docker {}", here.name), "{instance} ended with {code}");
        self.docker_says(daemon, id, EventKind::Die { exit_code: code });
        for job in stoppers {
            self.docker_answers(job, true, "");
        }
    }

    /// A container is removed, with its process.
    pub fn remove_container(&mut self, daemon: usize, id: &str) {
        let Some(run) = self.daemons[daemon].containers.get(id).map(|container| container.run)
        else {
            return;
        };
        self.process_ends(daemon, id, run, 137);
        self.docker_says(daemon, id, EventKind::Destroy);
        let here = &mut self.daemons[daemon];
        if let Some(container) = here.containers.remove(id) {
            tell!(self, format!("docker {}", here.name), "removed {}", container.instance);
        }
    }

    // ---- news ----

    fn docker_says(&mut self, daemon: usize, id: &str, kind: EventKind) {
        let now = self.now;
        let here = &mut self.daemons[daemon];
        let Some(container) = here.containers.get(id) else { return };
        let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
        let news = News {
            container_id: container.id.clone(),
            cluster: label(labels::CLUSTER).into(),
            id: container.instance.clone(),
            kind,
        };
        let node = container.node.clone();
        here.log.push_back((now, node.clone(), news.clone()));
        while here.log.front().is_some_and(|(at, ..)| at + OVERLAP_MS < now) {
            here.log.pop_front();
        }
        match here.condition {
            Condition::Up => self.stream(daemon, &node, &news),
            Condition::Hung => here.held.push((node, news)),
            Condition::Down => {}
        }
    }

    fn stream(&mut self, daemon: usize, node: &NodeId, news: &News) {
        for machine in 0..self.machines.len() {
            let here = &mut self.machines[machine];
            if here.daemon != daemon || here.node != *node {
                continue;
            }
            let takes = self.rng.range(1, 3);
            let Some(process) = &mut here.agent else { continue };
            let Some(stream) = process.watch.stream else { continue };
            let at = (self.now + takes).max(process.watch.last_at);
            process.watch.last_at = at;
            let life = process.life;
            self.queue.plan(at, Event::Streams { machine, life, stream, news: news.clone() });
        }
    }

    /// News reach an agent.
    pub fn streams(&mut self, machine: usize, life: u64, stream: u64, news: News) {
        let process = self.machines[machine].agent.as_ref();
        if process.is_some_and(|p| p.life == life && p.watch.stream == Some(stream)) {
            self.agent_input(machine, Input::Event(news));
        }
    }

    /// An agent looks for its daemon; see `docker/watch.rs`.
    pub fn meets(&mut self, machine: usize, life: u64) {
        let daemon = self.machines[machine].daemon;
        let number = self.number();
        let Some(process) = &mut self.machines[machine].agent else { return };
        if process.life != life || process.watch.stream.is_some() {
            return;
        }
        let here = &self.daemons[daemon];
        match here.condition {
            // It is looked for again once there is something to be found.
            Condition::Down => {
                self.report(machine, life, 0, 1, DockerReport::Away("no such socket".to_owned()));
            }
            Condition::Hung => {
                let report = DockerReport::Hung("did not answer within 5 s".to_owned());
                self.report(machine, life, 0, PING_MS.1, report);
            }
            Condition::Up => {
                process.watch = crate::agent::Watch {
                    stream: Some(number),
                    last_at: self.now + 1,
                    said_hung: false,
                };
                let node = &self.machines[machine].node;
                let replayed: Vec<News> = here
                    .log
                    .iter()
                    .filter(|(at, of, _)| at + OVERLAP_MS >= self.now && of == node)
                    .map(|(.., news)| news.clone())
                    .collect();
                let report = DockerReport::Ok { daemon: here.id() };
                self.report(machine, life, number, 1, report);
                for news in replayed {
                    self.plan(2, Event::Streams { machine, life, stream: number, news });
                }
                if let Some(process) = &mut self.machines[machine].agent {
                    process.watch.last_at = self.now + 2;
                }
            }
        }
    }

    fn report(&mut self, machine: usize, life: u64, stream: u64, after: u64, report: DockerReport) {
        self.plan(after, Event::Notices { machine, life, stream, report });
    }

    /// An agent notices how its daemon is, if it still is so.
    pub fn notices(&mut self, machine: usize, life: u64, stream: u64, report: DockerReport) {
        let condition = self.daemons[self.machines[machine].daemon].condition;
        let Some(process) = &mut self.machines[machine].agent else { return };
        if process.life != life || process.watch.stream.unwrap_or(0) != stream {
            return;
        }
        match (&report, condition) {
            (DockerReport::Hung(_), Condition::Hung) => process.watch.said_hung = true,
            (DockerReport::Hung(_), _) => return,
            _ => {}
        }
        self.agent_input(machine, Input::Docker(report));
    }

    // ---- the daemon's own life ----

    /// Machines whose agents use this daemon, with the life of each.
    fn users_of(&self, daemon: usize) -> Vec<(usize, u64)> {
        let machines = self.machines.iter().enumerate();
        machines
            .filter(|(_, machine)| machine.daemon == daemon)
            .filter_map(|(index, machine)| Some((index, machine.agent.as_ref()?.life)))
            .collect()
    }

    /// The event stream to one agent breaks.
    pub fn break_stream(&mut self, machine: usize, why: &str) {
        let Some(process) = &mut self.machines[machine].agent else { return };
        let life = process.life;
        if process.watch.stream.take().is_some() {
            let report = DockerReport::Away(why.to_owned());
            self.report(machine, life, 0, 1, report);
            self.plan(LOOK_FOR_IT_MS, Event::Meets { machine, life });
        }
    }

    /// The daemon does nothing any more.
    pub fn docker_hangs(&mut self, daemon: usize) {
        if self.daemons[daemon].condition != Condition::Up {
            return;
        }
        self.daemons[daemon].condition = Condition::Hung;
        for (machine, life) in self.users_of(daemon) {
            let after = self.rng.range(PING_MS.1, PING_MS.0 + PING_MS.1);
            let stream = self.machines[machine].agent.as_ref().and_then(|p| p.watch.stream);
            if let Some(stream) = stream {
                let report = DockerReport::Hung("did not answer a ping".to_owned());
                self.report(machine, life, stream, after, report);
            }
        }
    }

    /// The daemon goes away; without live-restore its containers go with it.
    pub fn docker_goes(&mut self, daemon: usize, live_restore: bool) {
        if self.daemons[daemon].condition == Condition::Down {
            return;
        }
        self.daemons[daemon].condition = Condition::Down;
        self.daemons[daemon].held.clear();
        for (machine, _) in self.users_of(daemon) {
            self.break_stream(machine, "its event stream ended");
        }
        for (job, _) in std::mem::take(&mut self.daemons[daemon].stuck) {
            self.docker_breaks_off(job);
        }
        let waiting: Vec<u64> = self.daemons[daemon]
            .containers
            .values_mut()
            .flat_map(|container| std::mem::take(&mut container.stoppers))
            .collect();
        for job in waiting {
            self.docker_breaks_off(job);
        }
        if !live_restore {
            self.end_all(daemon, 137);
        }
    }

    /// Every process in a container ends.
    pub fn end_all(&mut self, daemon: usize, code: i64) {
        let running: Vec<(String, u32)> = self.daemons[daemon]
            .containers
            .values()
            .filter(|container| container.is_running())
            .map(|container| (container.id.clone(), container.run))
            .collect();
        for (id, run) in running {
            self.process_ends(daemon, &id, run, code);
        }
    }

    /// The daemon answers again, whatever it was.
    pub fn docker_comes(&mut self, daemon: usize) {
        let here = &mut self.daemons[daemon];
        let before = std::mem::replace(&mut here.condition, Condition::Up);
        if before == Condition::Up {
            return;
        }
        let (stuck, held) = (std::mem::take(&mut here.stuck), std::mem::take(&mut here.held));
        for (job, stage) in stuck {
            let after = self.rng.range(1, 20);
            self.plan(after, Event::Docker { job, stage });
        }
        for (node, news) in held {
            self.stream(daemon, &node, &news);
        }
        let id = self.daemons[daemon].id();
        for (machine, life) in self.users_of(daemon) {
            let after = self.rng.range(1, LOOK_FOR_IT_MS);
            let Some(process) = &mut self.machines[machine].agent else { continue };
            match process.watch.stream {
                Some(stream) if process.watch.said_hung => {
                    process.watch.said_hung = false;
                    let report = DockerReport::Ok { daemon: id.clone() };
                    self.report(machine, life, stream, after, report);
                }
                Some(_) => {}
                None => self.plan(after, Event::Meets { machine, life }),
            }
        }
    }

    // ---- probes ----

    /// One probe of a container.
    pub fn probe(&mut self, machine: usize, life: u64, probe: Probe) {
        let here = &self.daemons[self.machines[machine].daemon];
        let found = here.containers.get(&probe.container_id);
        let outcome = match found {
            Some(container) if container.is_well(self.now) => Ok(()),
            Some(container) if container.is_running() => Err("answered with status 500".to_owned()),
            _ => Err("connection refused".to_owned()),
        };
        let hangs = outcome.is_err() && found.is_some_and(|c| c.sick_until % 2 == 1);
        let after = if hangs { probe.timeout_ms } else { self.rng.range(1, 3) };
        let Probe { id, container_id, .. } = probe;
        let input = Input::Probed { id, container_id, outcome };
        self.plan(after, Event::Outcome { machine, life, job: None, input });
    }

    /// A running container of ours, if there is any.
    pub fn any_container(&self, rng: &mut Rng, running: bool) -> Option<(usize, String)> {
        let all: Vec<(usize, &str)> = self
            .daemons
            .iter()
            .enumerate()
            .flat_map(|(daemon, here)| {
                let fitting = here.containers.values().filter(|c| c.is_running() == running);
                fitting.map(move |container| (daemon, container.id.as_str()))
            })
            .collect();
        let (daemon, id) = *all.get(rng.below(all.len() as u64) as usize)?;
        Some((daemon, id.to_owned()))
    }
}
