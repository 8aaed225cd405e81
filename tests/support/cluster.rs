//! A whole cluster as plain values on a virtual clock: the real scheduler core,
//! and agents, Docker daemons and a network that are made up. Nothing in here
//! waits, draws from the system or touches a socket, so a seed is a run.
//!
//! After each step of the scheduler the world checks what must always hold
//! ([`World::check`]) against the made-up Docker's truth, not the scheduler's view.
#![allow(dead_code)]

#[path = "cluster/change.rs"]
mod change;
#[path = "cluster/net.rs"]
mod net;
#[path = "cluster/tape.rs"]
pub mod tape;
#[path = "cluster/telling.rs"]
mod telling;
#[path = "cluster/truth.rs"]
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_lite::model::view::WorkloadView;
use kube_lite::model::wire::{
    DockerState, DockerStatus, HeartbeatRequest, OrderAccepted, RegisterRequest, RunOrder,
};
use kube_lite::model::{
    ApiError, ContainerInstance, DaemonId, Draws, Health, HealthCheckSpec, InstanceId, NodeId,
    Phase, PortMapping, PublishedPort, Reason, RestartPolicy, Timing, WorkloadId, WorkloadSpec,
};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{FORMAT, Meta};
use kube_lite::roles::scheduler::message::{
    Input, Moment, Order, OrderAnswer, OrderBody, OrderKind, Record, Reply, RolloutCall, Step,
    Ticket, UserCall,
};
use kube_lite::roles::scheduler::recording::{Checkpoint, Entry};
use kube_lite::roles::scheduler::state::{Share, State, StopCause, Tally};
use kube_lite::roles::scheduler::views::Snapshot;
use kube_lite::roles::scheduler::waves::Bounds;
use serde_json::Value;

/// A message takes this long when nothing disturbs it.
const LATENCY_MS: u64 = 1;
/// From a noted order to its container running.
pub const START_MS: u64 = 120;
/// From SIGTERM to gone.
pub const STOP_MS: u64 = 80;
/// The scheduler's clock shows this much when it starts.
const LONG_AGO_MS: u64 = 1_000_000_000;
/// From running to the first successful probe.
pub const PROBE_MS: u64 = 300;

/// The only source of chance in here.
#[derive(Clone, Debug)]
pub struct Rng(Draws);

impl Rng {
    /// What this seed has in store.
    pub const fn new(seed: u64) -> Self {
        Self(Draws::new(seed))
    }

    /// The next draw.
    pub fn next(&mut self) -> u64 {
        self.0.draw()
    }

    /// A draw below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// How the network misbehaves, in permille per message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    pub lost: u64,
    pub doubled: u64,
    pub delayed: u64,
    /// The longest delay of a delayed message.
    pub delay_ms: u64,
}

/// A container, as the made-up Docker has it.
#[derive(Clone, Debug)]
pub struct Container {
    pub node: NodeId,
    pub daemon: DaemonId,
    pub order: RunOrder,
    pub phase: Phase,
    pub exit_code: Option<i64>,
    pub reason: Option<Reason>,
    pub message: Option<String>,
    pub started_at: u64,
    pub ended_at: u64,
    pub ill: bool,
    pub restart_due: bool,
    pub ports: Vec<PublishedPort>,
    /// No container came of it: a start that failed.
    pub ghost: bool,
}

impl Container {
    pub fn is_live(&self) -> bool {
        !self.phase.is_final()
    }

    /// When it ends by itself, as its image says: `exit:CODE:AFTER_MS`.
    fn ends_at(&self) -> Option<(u64, i64)> {
        let mut parts = self.order.template.image.split(':');
        if parts.next() != Some("exit") || self.phase != Phase::Running {
            return None;
        }
        let code = parts.next()?.parse().ok()?;
        let after: u64 = parts.next()?.parse().ok()?;
        Some((self.started_at + after, code))
    }
}

#[derive(Clone, Debug)]
struct Queued {
    order: RunOrder,
    start_at: u64,
    /// All it takes is there, but not its place.
    prepared: bool,
}

/// An agent: what one process remembers. Containers are not in here.
#[derive(Clone, Debug)]
pub struct Agent {
    pub id: NodeId,
    pub key: String,
    pub address: String,
    pub daemon: DaemonId,
    pub incarnation: u64,
    pub seq: u64,
    /// The epoch it is registered under.
    pub registered: Option<u64>,
    /// The process runs.
    pub up: bool,
    /// SIGSTOP.
    pub frozen: bool,
    /// No message gets through, either way.
    pub cut: bool,
    /// It is heard, but no order reaches it: a firewall.
    pub deaf: bool,
    /// It was told that it has been replaced.
    pub superseded: bool,
    pub docker: DockerState,
    pub docker_since: u64,
    synced_at: u64,
    /// It forgot at its start what its probes had said.
    probes_from: u64,
    next_beat: u64,
    register_at: u64,
    dirty: bool,
    queue: BTreeMap<InstanceId, Queued>,
    /// Orders noted, with the snapshot before.
    noted: BTreeMap<InstanceId, (RunOrder, u64)>,
    stops: BTreeSet<InstanceId>,
    stopping: BTreeMap<InstanceId, u64>,
    /// If it tells only what has changed.
    telling: Option<telling::Telling>,
}

#[derive(Clone, Debug)]
enum Packet {
    ToScheduler { life: u64, from: Option<(NodeId, u64)>, input: Input },
    ToAgent { node: NodeId, incarnation: u64, reply: Result<Reply, ApiError> },
    Order { life: u64, order: Order },
}

/// The cluster.
#[derive(Clone)]
pub struct World {
    pub core: Core,
    pub timing: Timing,
    pub now: u64,
    pub rng: Rng,
    pub agents: BTreeMap<NodeId, Agent>,
    pub docker: BTreeMap<InstanceId, Container>,
    /// Daemons on whose disk nothing more fits.
    pub full: BTreeSet<DaemonId>,
    /// What is on the disk.
    pub records: BTreeMap<String, Value>,
    pub network: Network,
    /// Answers to people.
    pub replies: BTreeMap<Ticket, Result<Reply, ApiError>>,
    /// Every id that was ever ordered to run.
    pub ordered: BTreeSet<InstanceId>,
    /// Every id that ever became a container.
    pub started: BTreeSet<InstanceId>,
    /// The node of every instance that was ordered.
    ran_on: BTreeMap<InstanceId, NodeId>,
    /// Those that really ran, with their revisions.
    ran: BTreeSet<(InstanceId, u64)>,
    memory: change::Memory,
    /// Orders since the start, repeats included.
    pub orders: u64,
    /// Records since the start.
    pub recorded: u64,
    /// What each step wrote, if somebody wants to know.
    pub batches: Option<Vec<Vec<Record>>>,
    /// A recording, if somebody wants one.
    pub tape: Option<tape::Tape>,
    /// What was decided, in words; equal for equal seeds.
    pub log: Vec<String>,
    /// The scheduler's process runs.
    pub scheduler_up: bool,
    /// SIGSTOP of the scheduler.
    pub scheduler_frozen: bool,
    /// The scheduler's disk takes nothing.
    pub disk_refuses: bool,
    /// No order leaves the scheduler: they pile up undelivered.
    pub hold_orders: bool,
    epoch: u64,
    life: u64,
    origin: u64,
    stepped_at: u64,
    tickets: Ticket,
    waiting: BTreeMap<Ticket, (NodeId, u64)>,
    packets: BTreeMap<(u64, u64), Packet>,
    packet_count: u64,
    incarnations: u64,
}

/// A plain spec.
pub fn spec(name: &str, replicas: u32) -> WorkloadSpec {
    serde_json::from_value(serde_json::json!({
        "name": name, "replicas": replicas, "image": "app"
    }))
    .expect("a good spec")
}

/// The same with another image, i.e. other behaviour.
pub fn spec_of(name: &str, replicas: u32, image: &str, policy: RestartPolicy) -> WorkloadSpec {
    let mut spec = spec(name, replicas);
    spec.image = image.to_owned();
    spec.restart_policy = policy;
    spec
}

/// A probe on port 80.
pub fn probe() -> HealthCheckSpec {
    serde_json::from_value(serde_json::json!({ "port": 80 })).expect("a good probe")
}

/// A port mapping.
pub fn port(container: u16, host: u16, fixed: bool) -> PortMapping {
    serde_json::from_value(serde_json::json!({
        "containerPort": container, "hostPort": host, "fixed": fixed
    }))
    .expect("a good port")
}

impl World {
    /// `nodes` agents named n1, n2 …, each with a Docker of its own, registered
    /// and reporting.
    pub fn new(nodes: usize) -> Self {
        let mut world = Self::empty(7);
        for number in 1..=nodes {
            world.add_agent(&format!("n{number}"), &format!("d{number}"));
        }
        world.run_for(50);
        world
    }

    /// No agent at all.
    pub fn empty(seed: u64) -> Self {
        let timing = Timing::default();
        Self {
            core: Core::new(State::new("test".into(), 1), timing.clone()),
            timing,
            now: 1_000,
            rng: Rng::new(seed),
            agents: BTreeMap::new(),
            docker: BTreeMap::new(),
            full: BTreeSet::new(),
            records: BTreeMap::new(),
            network: Network::default(),
            replies: BTreeMap::new(),
            ordered: BTreeSet::new(),
            started: BTreeSet::new(),
            ran_on: BTreeMap::new(),
            ran: BTreeSet::new(),
            memory: change::Memory::default(),
            orders: 0,
            recorded: 0,
            batches: None,
            tape: None,
            log: Vec::new(),
            scheduler_up: true,
            scheduler_frozen: false,
            disk_refuses: false,
            hold_orders: false,
            epoch: 1,
            life: 1,
            origin: 999,
            stepped_at: 1_000,
            tickets: 0,
            waiting: BTreeMap::new(),
            packets: BTreeMap::new(),
            packet_count: 0,
            incarnations: 0,
        }
    }

    // ---- machines ----

    pub fn add_agent(&mut self, id: &str, daemon: &str) {
        let last_octet = self.agents.len() as u64 % 250 + 1;
        let agent = Agent {
            id: id.into(),
            key: format!("key-{id}"),
            address: format!("10.0.{}.{last_octet}:8081", self.agents.len() / 250),
            daemon: daemon.into(),
            incarnation: 0,
            seq: 0,
            registered: None,
            up: false,
            frozen: false,
            cut: false,
            deaf: false,
            superseded: false,
            docker: DockerState::Ok,
            docker_since: self.now,
            synced_at: 0,
            probes_from: 0,
            next_beat: 0,
            register_at: 0,
            dirty: false,
            queue: BTreeMap::new(),
            noted: BTreeMap::new(),
            stops: BTreeSet::new(),
            stopping: BTreeMap::new(),
            // Every other one is of a release that always tells everything.
            telling: self.agents.len().is_multiple_of(2).then(Default::default),
        };
        self.agents.insert(id.into(), agent);
        self.start_agent(id);
    }

    pub fn agent(&mut self, id: &str) -> &mut Agent {
        self.agents.get_mut(id).unwrap_or_else(|| panic!("no agent {id}"))
    }

    /// kill -9: the process forgets everything, its containers run on.
    pub fn kill_agent(&mut self, id: &str) {
        let agent = self.agent(id);
        agent.up = false;
        agent.queue.clear();
        agent.noted.clear();
        agent.stops.clear();
        agent.stopping.clear();
        agent.telling = agent.telling.take().map(|_| Default::default());
    }

    /// A new life of the agent.
    pub fn start_agent(&mut self, id: &str) {
        self.incarnations += 1;
        let (incarnation, now) = (self.incarnations, self.now);
        let id: NodeId = id.into();
        self.docker.retain(|_, c| c.node != id || !c.ghost);
        let agent = self.agents.get_mut(&id).expect("an agent");
        agent.up = true;
        agent.frozen = false;
        agent.superseded = false;
        agent.incarnation = incarnation;
        agent.seq = 0;
        agent.registered = None;
        agent.synced_at = now + 10;
        agent.probes_from = now;
        agent.next_beat = now;
        agent.register_at = now;
        agent.dirty = true;
    }

    pub fn restart_agent(&mut self, id: &str) {
        self.kill_agent(id);
        self.start_agent(id);
    }

    pub fn set_docker(&mut self, id: &str, state: DockerState) {
        let now = self.now;
        let agent = self.agent(id);
        if agent.docker != state {
            agent.docker = state;
            agent.docker_since = now;
            agent.dirty = true;
        }
    }

    /// All containers of a node are gone.
    pub fn wipe(&mut self, id: &str) {
        let id: NodeId = id.into();
        self.docker.retain(|_, c| c.node != id);
    }

    // ---- containers ----

    pub fn live(&self, workload: &str) -> Vec<InstanceId> {
        let of = |c: &&Container| c.is_live() && c.order.workload.as_str() == workload;
        self.docker.iter().filter(|(_, c)| of(c)).map(|(id, _)| id.clone()).collect()
    }

    pub fn live_on(&self, workload: &str, node: &str) -> Vec<InstanceId> {
        let live = self.live(workload);
        live.into_iter().filter(|id| self.docker[id].node.as_str() == node).collect()
    }

    /// How many live containers of a workload each node has.
    pub fn spread(&self, workload: &str) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for id in self.live(workload) {
            *spread.entry(self.docker[&id].node.to_string()).or_insert(0) += 1;
        }
        spread
    }

    /// The process ends with this code.
    pub fn crash(&mut self, id: &InstanceId, code: i64) {
        let now = self.now;
        if let Some(container) = self.docker.get_mut(id)
            && container.is_live()
        {
            container.phase = Phase::Exited;
            container.exit_code = Some(code);
            container.ended_at = now;
            let node = container.node.clone();
            self.changed_on(&node);
        }
    }

    /// docker rm -f by hand.
    pub fn remove_by_hand(&mut self, id: &InstanceId) {
        if let Some(container) = self.docker.remove(id) {
            self.changed_on(&container.node);
        }
    }

    /// Its probe fails; `due`: for so long that it is to be restarted.
    pub fn sicken(&mut self, id: &InstanceId, due: bool) {
        if let Some(container) = self.docker.get_mut(id) {
            container.ill = true;
            container.restart_due = due;
            let node = container.node.clone();
            self.changed_on(&node);
        }
    }

    pub fn cure(&mut self, id: &InstanceId) {
        if let Some(container) = self.docker.get_mut(id) {
            container.ill = false;
            container.restart_due = false;
            let node = container.node.clone();
            self.changed_on(&node);
        }
    }

    fn changed_on(&mut self, node: &NodeId) {
        if let Some(agent) = self.agents.get_mut(node) {
            agent.dirty = true;
        }
    }

    // ---- people ----

    pub fn user(&mut self, call: UserCall) -> Result<Reply, ApiError> {
        self.tickets += 1;
        let ticket = self.tickets;
        self.feed(Input::User { ticket, by: "test".to_owned(), call });
        self.replies.remove(&ticket).expect("every call is answered in its own step")
    }

    pub fn deploy(&mut self, spec: WorkloadSpec) -> u64 {
        match self.user(UserCall::Deploy(Box::new(spec))) {
            Ok(Reply::Deployed(done)) => done.revision,
            other => panic!("deploy: {other:?}"),
        }
    }

    pub fn scale(&mut self, id: &str, replicas: u32) {
        self.user(UserCall::Scale { id: id.into(), replicas }).expect("scaled");
    }

    pub fn delete(&mut self, id: &str) {
        self.user(UserCall::Delete(id.into())).expect("deleted");
    }

    /// A word about a rollout.
    pub fn rollout(&mut self, id: &str, step: RolloutCall) -> Result<Reply, ApiError> {
        self.user(UserCall::Rollout { id: id.into(), step })
    }

    /// Where the last rollout stands: `rolling`, `done` …; empty without one.
    pub fn state_of(&self, id: &str) -> String {
        self.view(id).rollout.map(|rollout| rollout.state).unwrap_or_default()
    }

    pub fn view(&self, id: &str) -> WorkloadView {
        self.snapshot().workload(id).unwrap_or_else(|| panic!("no workload {id}"))
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.core.state.clone(), now: self.core.state.now }
    }

    pub fn reasons(&self, id: &str) -> Vec<Reason> {
        self.view(id).reasons.iter().map(|why| why.reason).collect()
    }

    /// Kinds of events so far, of this life of the scheduler.
    pub fn events(&self, kind: &str) -> usize {
        self.core.state.ring.iter().filter(|e| e.kind == kind).count()
    }

    // ---- the scheduler's process ----

    pub fn kill_scheduler(&mut self) {
        self.scheduler_up = false;
        self.life += 1;
        self.waiting.clear();
    }

    /// Starts it again from what is on the disk.
    pub fn start_scheduler(&mut self) {
        self.epoch += 1;
        self.origin = self.now - 1;
        let meta = Meta { format: FORMAT, cluster: "test".into(), epoch: self.epoch };
        let moment = self.moment();
        self.core = Core::recover(&meta, &self.records, self.timing.clone(), moment)
            .expect("what was written can be read");
        let (records, timing) = (self.records.clone(), Box::new(self.timing.clone()));
        self.begin_segment(&Checkpoint::Opened { meta, records, timing, moment }, false);
        self.scheduler_up = true;
        self.scheduler_frozen = false;
        self.feed(Input::Tick);
    }

    pub fn restart_scheduler(&mut self) {
        self.kill_scheduler();
        self.start_scheduler();
    }

    pub fn moment(&mut self) -> Moment {
        Moment {
            now: self.now - self.origin + LONG_AGO_MS,
            wall: 1_700_000_000_000 + self.now,
            draw: self.rng.next(),
        }
    }

    /// One step of the core, its records on the disk, its orders on the way.
    pub fn feed(&mut self, input: Input) {
        let moment = self.moment();
        let before = self.core.state.clone();
        let visits = self.core.visits;
        let heard = match &input {
            Input::Heartbeat { request, .. } => {
                vec![(request.node_id.clone(), request.incarnation)]
            }
            _ => Vec::new(),
        };
        let by_hand = matches!(input, Input::User { .. });
        self.record_input(moment, &input);
        let step = self.core.step(moment, input);
        self.record_decision(&step);
        self.stepped_at = self.now;
        if self.disk_refuses && !step.records.is_empty() {
            // As the driver does it.
            self.note(&Entry::RolledBack { now: moment.now, why: "no room".to_owned() });
            self.core.roll_back(before, &heard, moment.now);
            let refusal = ApiError::unavailable("StorageFailed", "no room", 5);
            let replies =
                step.replies.into_iter().map(|(ticket, _)| (ticket, Err(refusal.clone())));
            return self.carry_out(Step { replies: replies.collect(), ..Step::default() });
        }
        for event in &step.events {
            self.log.push(format!("{} {} {}", self.now, event.kind, event.message));
        }
        if !step.records.is_empty() {
            self.note(&Entry::Stored {});
        }
        // Where nothing was looked at and nothing was said, nothing has changed.
        let changed = visits != self.core.visits || !step.events.is_empty();
        if changed {
            let after = &self.core.state.instances;
            let born: Vec<InstanceId> =
                after.keys().filter(|id| !before.instances.contains_key(*id)).cloned().collect();
            if !born.is_empty() {
                let occupied = self.occupied_in_truth(&before);
                self.check_starts(&before, &born, &occupied);
            }
            self.remember();
            self.check_births(&before, &born);
            self.check_stops(&before);
            self.check_turns(&before, by_hand);
            self.check_ready(&before);
        }
        self.carry_out(step);
        if changed {
            self.check();
        }
    }

    fn carry_out(&mut self, step: Step) {
        if let Some(batches) = self.batches.as_mut().filter(|_| !step.records.is_empty()) {
            batches.push(step.records.clone());
        }
        for record in step.records {
            self.recorded += 1;
            self.log.push(format!("{} record {} {:?}", self.now, record.key, record.value));
            match record.value {
                Some(value) => self.records.insert(record.key, value),
                None => self.records.remove(&record.key),
            };
        }
        for (ticket, reply) in step.replies {
            match self.waiting.remove(&ticket) {
                Some((node, incarnation)) => {
                    self.post(Packet::ToAgent { node, incarnation, reply });
                }
                None => {
                    self.replies.insert(ticket, reply);
                }
            }
        }
        for order in step.orders {
            self.orders += 1;
            if let OrderBody::Run(run) = &order.body {
                self.ordered.insert(run.id.clone());
                self.ran_on.insert(run.id.clone(), order.fence.node.clone());
            }
            self.log.push(format!("{} order {:?}", self.now, order));
            let life = self.life;
            if self.hold_orders {
                continue;
            }
            if !self.post(Packet::Order { life, order: order.clone() }) {
                self.unanswered(life, &order);
            }
        }
    }
}
