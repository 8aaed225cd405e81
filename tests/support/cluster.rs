//! A whole cluster as plain values on a virtual clock: the real scheduler core,
//! and agents, Docker daemons and a network that are made up. Nothing in here
//! waits, draws from the system or touches a socket, so a seed is a run.
//!
//! After each step of the scheduler the world checks what must always hold
//! ([`World::check`]) against the made-up Docker's truth, not the scheduler's view.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_lite::model::view::WorkloadView;
use kube_lite::model::wire::{
    DockerState, DockerStatus, HeartbeatRequest, OrderAccepted, RegisterRequest, RunOrder,
};
use kube_lite::model::{
    ApiError, ContainerInstance, DaemonId, Health, HealthCheckSpec, InstanceId, NodeId, Phase,
    PortMapping, PublishedPort, Reason, RestartPolicy, Timing, WorkloadId, WorkloadSpec,
};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{FORMAT, Meta};
use kube_lite::roles::scheduler::message::{
    Input, Moment, Order, OrderAnswer, OrderBody, OrderKind, Reply, Step, Ticket, UserCall,
};
use kube_lite::roles::scheduler::state::{Share, State, Tally};
use kube_lite::roles::scheduler::views::Snapshot;
use serde_json::Value;

/// A message takes this long when nothing disturbs it.
const LATENCY_MS: u64 = 1;
/// From a noted order to its container running.
pub const START_MS: u64 = 120;
/// From SIGTERM to gone.
pub const STOP_MS: u64 = 80;
/// From running to the first successful probe.
pub const PROBE_MS: u64 = 300;

/// Draws (SplitMix64): the only source of chance in here.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next draw.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
    /// It was told that it has been replaced.
    pub superseded: bool,
    pub docker: DockerState,
    pub docker_since: u64,
    synced_at: u64,
    next_beat: u64,
    register_at: u64,
    dirty: bool,
    queue: BTreeMap<InstanceId, Queued>,
    /// Orders noted, with the snapshot before.
    noted: BTreeMap<InstanceId, (RunOrder, u64)>,
    stops: BTreeSet<InstanceId>,
    stopping: BTreeMap<InstanceId, u64>,
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
    /// What is on the disk.
    pub records: BTreeMap<String, Value>,
    pub network: Network,
    /// Answers to people.
    pub replies: BTreeMap<Ticket, Result<Reply, ApiError>>,
    /// Every id that was ever ordered to run.
    pub ordered: BTreeSet<InstanceId>,
    /// Every id that ever became a container.
    pub started: BTreeSet<InstanceId>,
    /// Orders since the start, repeats included.
    pub orders: u64,
    /// Records since the start.
    pub recorded: u64,
    /// What was decided, in words; equal for equal seeds.
    pub log: Vec<String>,
    /// The scheduler's process runs.
    pub scheduler_up: bool,
    /// SIGSTOP of the scheduler.
    pub scheduler_frozen: bool,
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
            rng: Rng(seed),
            agents: BTreeMap::new(),
            docker: BTreeMap::new(),
            records: BTreeMap::new(),
            network: Network::default(),
            replies: BTreeMap::new(),
            ordered: BTreeSet::new(),
            started: BTreeSet::new(),
            orders: 0,
            recorded: 0,
            log: Vec::new(),
            scheduler_up: true,
            scheduler_frozen: false,
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
            superseded: false,
            docker: DockerState::Ok,
            docker_since: self.now,
            synced_at: 0,
            next_beat: 0,
            register_at: 0,
            dirty: false,
            queue: BTreeMap::new(),
            noted: BTreeMap::new(),
            stops: BTreeSet::new(),
            stopping: BTreeMap::new(),
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
            now: self.now - self.origin,
            wall: 1_700_000_000_000 + self.now,
            draw: self.rng.next(),
        }
    }

    /// One step of the core, its records on the disk, its orders on the way.
    pub fn feed(&mut self, input: Input) {
        let moment = self.moment();
        let known: BTreeSet<InstanceId> = self.core.state.instances.keys().cloned().collect();
        let occupied = self.occupied_in_truth();
        let step = self.core.step(moment, input);
        self.stepped_at = self.now;
        let born: Vec<InstanceId> =
            self.core.state.instances.keys().filter(|id| !known.contains(*id)).cloned().collect();
        self.check_starts(&born, &occupied);
        self.carry_out(step);
        self.check();
    }

    fn carry_out(&mut self, step: Step) {
        for record in step.records {
            self.recorded += 1;
            self.log.push(format!("{} record {} {:?}", self.now, record.key, record.value));
            match record.value {
                Some(value) => self.records.insert(record.key, value),
                None => self.records.remove(&record.key),
            };
        }
        for event in step.events {
            self.log.push(format!("{} {} {}", self.now, event.kind, event.message));
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

    // ---- the network ----

    /// Sends a message; false when it gets lost.
    fn post(&mut self, packet: Packet) -> bool {
        let Network { lost, doubled, delayed, delay_ms } = self.network;
        if self.rng.below(1000) < lost {
            return false;
        }
        let copies = if self.rng.below(1000) < doubled { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.rng.below(1000) < delayed { self.rng.below(delay_ms) } else { 0 };
            self.post_at(self.now + LATENCY_MS + late, packet.clone());
        }
        true
    }

    fn post_at(&mut self, at: u64, packet: Packet) {
        self.packet_count += 1;
        self.packets.insert((at, self.packet_count), packet);
    }

    fn unanswered(&mut self, life: u64, order: &Order) {
        let input = answered(order, OrderAnswer::Unanswered("timed out".to_owned()));
        let at = self.now + self.timing.order_timeout_ms;
        self.post_at(at, Packet::ToScheduler { life, from: None, input });
    }

    fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::ToScheduler { life, from, mut input } => {
                if let Some((node, incarnation)) = from {
                    // A connection to whichever scheduler listens.
                    if !self.scheduler_up || self.agents[&node].cut {
                        return;
                    }
                    self.tickets += 1;
                    self.waiting.insert(self.tickets, (node, incarnation));
                    match &mut input {
                        Input::Register { ticket, .. } | Input::Heartbeat { ticket, .. } => {
                            *ticket = self.tickets;
                        }
                        _ => {}
                    }
                } else if life != self.life {
                    return;
                }
                if self.scheduler_frozen {
                    self.post_at(self.now + 1, Packet::ToScheduler { life, from: None, input });
                    return;
                }
                self.feed(input);
            }
            Packet::ToAgent { node, incarnation, reply } => {
                self.agent_hears(&node, incarnation, reply);
            }
            Packet::Order { life, order } => self.order_arrives(life, order),
        }
    }

    fn agent_hears(&mut self, node: &NodeId, incarnation: u64, reply: Result<Reply, ApiError>) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(node) else { return };
        if !agent.up || agent.frozen || agent.cut || agent.incarnation != incarnation {
            return;
        }
        match reply {
            Ok(Reply::Registered(done)) => {
                agent.registered = Some(done.epoch);
                agent.dirty = true;
            }
            Ok(_) => {}
            Err(error) if error.status == 422 => {
                agent.registered = None;
                agent.register_at = now;
            }
            Err(error) if error.reason == "Superseded" => {
                agent.superseded = true;
                agent.up = false;
            }
            Err(_) => {}
        }
    }

    fn order_arrives(&mut self, life: u64, order: Order) {
        let now = self.now;
        let node = order.fence.node.clone();
        let Some(agent) = self.agents.get_mut(&node) else {
            self.unanswered(life, &order);
            return;
        };
        if !agent.up || agent.frozen || agent.cut || agent.address != order.address {
            self.unanswered(life, &order);
            return;
        }
        let answer = if order.fence.incarnation != agent.incarnation
            || Some(order.fence.epoch) != agent.registered
        {
            OrderAnswer::Refused(ApiError::new(409, "StaleFence", "not for me"))
        } else {
            let (incarnation, seq) = (agent.incarnation, agent.seq);
            let accepted =
                |id: InstanceId, seq| OrderAnswer::Accepted(OrderAccepted { incarnation, seq, id });
            match &order.body {
                OrderBody::Run(run) => {
                    let known = agent.noted.get(&run.id).cloned();
                    let exists = self.docker.get(&run.id).map(|c| c.order == **run);
                    if let Some((first, noted_at)) = known {
                        if first == **run {
                            accepted(run.id.clone(), noted_at)
                        } else {
                            OrderAnswer::Refused(ApiError::new(409, "OtherContents", "differs"))
                        }
                    } else if exists == Some(true) {
                        accepted(run.id.clone(), 0)
                    } else if exists == Some(false) {
                        OrderAnswer::Refused(ApiError::new(409, "OtherContents", "differs"))
                    } else if agent.stops.contains(&run.id) {
                        OrderAnswer::Refused(ApiError::new(409, "Stopped", "stopped before"))
                    } else {
                        let order = run.as_ref().clone();
                        agent.noted.insert(run.id.clone(), (order.clone(), seq));
                        agent
                            .queue
                            .insert(run.id.clone(), Queued { order, start_at: now + START_MS });
                        agent.dirty = true;
                        accepted(run.id.clone(), seq)
                    }
                }
                OrderBody::Stop { id, drain_ms, .. } => {
                    agent.stops.insert(id.clone());
                    agent.queue.remove(id);
                    if self.docker.contains_key(id) {
                        agent.stopping.entry(id.clone()).or_insert(now + drain_ms + STOP_MS);
                    }
                    agent.dirty = true;
                    accepted(id.clone(), seq)
                }
            }
        };
        let input = answered(&order, answer);
        if !self.post(Packet::ToScheduler { life, from: None, input }) {
            self.unanswered(life, &order);
        }
    }

    // ---- time ----

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            self.act();
            let next = self.next_at();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
        }
    }

    /// Lets time pass until `what` holds, for at most `ms`.
    pub fn until(&mut self, ms: u64, what: &str, mut holds: impl FnMut(&World) -> bool) {
        let end = self.now + ms;
        while !holds(self) {
            assert!(self.now < end, "not within {ms} ms: {what}\n{}", self.story());
            self.run_for(5);
        }
    }

    /// Until every workload has what it wants.
    pub fn settle(&mut self) {
        self.until(30_000, "every workload has what it wants", World::is_settled);
    }

    pub fn is_settled(&self) -> bool {
        self.core.state.workloads.iter().all(|(name, _)| {
            let view = self.view(name.as_str());
            view.ready + view.done == view.desired
                && view.stopping == 0
                && self.live(name.as_str()).len() as u32 + view.done == view.desired
        })
    }

    /// For this long, nothing at all is ordered or written.
    pub fn nothing_happens_for(&mut self, ms: u64) {
        let (orders, recorded, from) = (self.orders, self.recorded, self.log.len());
        self.run_for(ms);
        assert_eq!(
            (self.orders, self.recorded),
            (orders, recorded),
            "something happened:\n{}",
            self.log[from..].join("\n")
        );
    }

    /// The same, but only after this long.
    pub fn nothing_happens_after(&mut self, first: u64, ms: u64) {
        self.run_for(first);
        self.nothing_happens_for(ms);
    }

    /// For this long, nothing is ordered; nodes may come and go.
    pub fn nothing_happens_for_orders(&mut self, ms: u64) {
        let (orders, from) = (self.orders, self.log.len());
        self.run_for(ms);
        assert_eq!(self.orders, orders, "ordered:\n{}", self.log[from..].join("\n"));
    }

    /// Until every workload has what it wants, not counting what runs unseen on
    /// these nodes.
    pub fn settle_except(&mut self, nodes: &[&str]) {
        self.until(30_000, "every workload has what it wants", |w| {
            w.core.state.workloads.keys().all(|name| {
                let view = w.view(name.as_str());
                let live = w.live(name.as_str());
                let seen = live.iter().filter(|id| !nodes.contains(&w.docker[*id].node.as_str()));
                view.ready + view.done == view.desired
                    && view.stopping == 0
                    && seen.count() as u32 + view.done == view.desired
            })
        });
    }

    fn wake_at(&self) -> u64 {
        let core = self.core.wake_at() + self.origin;
        core.min(self.stepped_at + self.timing.sweep_ms)
    }

    fn next_at(&self) -> u64 {
        let mut next = u64::MAX;
        if self.scheduler_up && !self.scheduler_frozen {
            next = next.min(self.wake_at());
        }
        if let Some(((at, _), _)) = self.packets.first_key_value() {
            next = next.min(*at);
        }
        for agent in self.agents.values().filter(|a| a.up && !a.frozen) {
            next = next.min(agent.next_beat);
            if agent.registered.is_none() {
                next = next.min(agent.register_at);
            }
            if agent.docker == DockerState::Ok {
                next = next.min(agent.queue.values().map(|q| q.start_at).min().unwrap_or(next));
                next = next.min(agent.stopping.values().min().copied().unwrap_or(next));
            }
            if agent.synced_at > self.now {
                next = next.min(agent.synced_at);
            }
        }
        for container in self.docker.values() {
            if let Some((at, _)) = container.ends_at() {
                next = next.min(at);
            }
            if container.phase == Phase::Running
                && container.order.template.health_check.is_some()
                && container.started_at + PROBE_MS > self.now
            {
                next = next.min(container.started_at + PROBE_MS);
            }
        }
        next.max(self.now + 1)
    }

    /// Everything that is due now.
    fn act(&mut self) {
        let now = self.now;
        let ends: Vec<(InstanceId, i64)> = self
            .docker
            .iter()
            .filter_map(|(id, c)| {
                c.ends_at().filter(|(at, _)| *at <= now).map(|e| (id.clone(), e.1))
            })
            .collect();
        for (id, code) in ends {
            self.crash(&id, code);
        }
        let probed: Vec<NodeId> = self
            .docker
            .values()
            .filter(|c| c.order.template.health_check.is_some())
            .filter(|c| c.phase == Phase::Running && c.started_at + PROBE_MS == now)
            .map(|c| c.node.clone())
            .collect();
        for node in probed {
            self.changed_on(&node);
        }
        let ids: Vec<NodeId> = self.agents.keys().cloned().collect();
        for id in ids {
            self.agent_acts(&id);
        }
        while let Some(((at, _), _)) = self.packets.first_key_value() {
            if *at > now {
                break;
            }
            let Some((_, packet)) = self.packets.pop_first() else { break };
            self.deliver(packet);
        }
        if self.scheduler_up && !self.scheduler_frozen && self.wake_at() <= now {
            self.feed(Input::Tick);
        }
    }

    fn agent_acts(&mut self, id: &NodeId) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(id) else { return };
        if !agent.up || agent.frozen {
            return;
        }
        if agent.docker == DockerState::Ok {
            let due: Vec<InstanceId> = agent
                .queue
                .iter()
                .filter(|(_, q)| q.start_at <= now)
                .map(|(id, _)| id.clone())
                .collect();
            let begin: Vec<RunOrder> =
                due.iter().filter_map(|id| agent.queue.remove(id)).map(|q| q.order).collect();
            let end: Vec<InstanceId> = agent
                .stopping
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(id, _)| id.clone())
                .collect();
            for id in &end {
                agent.stopping.remove(id);
                agent.dirty = true;
            }
            if !begin.is_empty() {
                agent.dirty = true;
            }
            let (node, daemon) = (agent.id.clone(), agent.daemon.clone());
            for id in end {
                self.docker.remove(&id);
            }
            for order in begin {
                self.start_container(&node, &daemon, order);
            }
            self.prune_dead(&node);
        }
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.registered.is_none() {
            if agent.register_at <= now {
                agent.register_at = now + 1_000;
                let request = RegisterRequest {
                    node_id: agent.id.clone(),
                    key: agent.key.clone(),
                    incarnation: agent.incarnation,
                    advertise: Some(agent.address.clone()),
                    port: 8081,
                    docker: docker_status(agent, now),
                    version: String::new(),
                };
                let peer: IpAddr = "10.0.0.1".parse().expect("an address");
                self.call(id, Input::Register { ticket: 0, peer, request });
            }
            return;
        }
        if agent.synced_at == now {
            agent.dirty = true;
        }
        if agent.dirty || agent.next_beat <= now {
            let jitter = self.rng.below(300);
            let request = self.report(id);
            if let Some(agent) = self.agents.get_mut(id) {
                agent.dirty = false;
                agent.next_beat = now + self.timing.heartbeat_ms - jitter;
            }
            self.call(id, Input::Heartbeat { ticket: 0, request });
        }
    }

    fn call(&mut self, id: &NodeId, input: Input) {
        let agent = &self.agents[id];
        if agent.cut {
            return;
        }
        let from = Some((id.clone(), agent.incarnation));
        self.post(Packet::ToScheduler { life: 0, from, input });
    }

    /// The snapshot an agent would send now.
    pub fn report(&mut self, id: &NodeId) -> HeartbeatRequest {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(id) else { panic!("no agent {id}") };
        agent.seq += 1;
        let agent = &self.agents[id];
        let synced = agent.synced_at <= now;
        let queued = agent.queue.values().map(|q| blank(&agent.id, &q.order));
        let mut containers: Vec<ContainerInstance> = queued.collect();
        if synced {
            for container in self.docker.values().filter(|c| c.node == *id) {
                let mut report = described(container, now);
                report.stopping = agent.stopping.contains_key(&container.order.id);
                containers.push(report);
            }
        }
        HeartbeatRequest {
            node_id: id.clone(),
            incarnation: agent.incarnation,
            epoch: agent.registered.unwrap_or(0),
            seq: agent.seq,
            synced,
            docker: docker_status(agent, now),
            containers,
        }
    }

    fn start_container(&mut self, node: &NodeId, daemon: &DaemonId, order: RunOrder) {
        assert!(!self.docker.contains_key(&order.id), "{} started twice", order.id);
        assert!(self.started.insert(order.id.clone()), "{} lives twice", order.id);
        let wanted: Vec<_> = order.template.ports.iter().filter(|p| p.host_port != 0).collect();
        let clash = self.docker.iter().find(|(_, c)| {
            c.is_live()
                && c.daemon == *daemon
                && c.ports.iter().any(|p| {
                    wanted.iter().any(|w| w.host_port == p.host_port && w.protocol == p.protocol)
                })
        });
        if let Some((other, container)) = clash {
            let holder_lost = self.core.state.nodes.get(&container.node).is_none_or(|n| n.lost);
            let restarted = self.epoch > 1;
            assert!(
                holder_lost || restarted || !self.core.state.instances.contains_key(other),
                "{} was ordered onto a port that {other} holds\n{}",
                order.id,
                self.story()
            );
        }
        let failed = if clash.is_some() {
            Some((Reason::PortTaken, "port is already allocated"))
        } else if order.template.image == "nostart" {
            Some((Reason::StartFailed, "exec format error"))
        } else {
            None
        };
        let ports = order
            .template
            .ports
            .iter()
            .map(|p| PublishedPort {
                container_port: p.container_port,
                host_port: if p.host_port == 0 {
                    32_768 + (self.started.len() % 20_000) as u16
                } else {
                    p.host_port
                },
                protocol: p.protocol,
            })
            .collect();
        let container = Container {
            node: node.clone(),
            daemon: daemon.clone(),
            order: order.clone(),
            phase: if failed.is_some() { Phase::Failed } else { Phase::Running },
            exit_code: None,
            reason: failed.map(|f| f.0),
            message: failed.map(|f| f.1.to_owned()),
            started_at: self.now,
            ended_at: self.now,
            ill: false,
            restart_due: false,
            ports: if failed.is_some() { Vec::new() } else { ports },
            ghost: failed.is_some(),
        };
        self.docker.insert(order.id, container);
    }

    /// Agents keep the last two dead containers per workload.
    fn prune_dead(&mut self, node: &NodeId) {
        let mut dead: BTreeMap<WorkloadId, Vec<(u64, InstanceId)>> = BTreeMap::new();
        for (id, container) in self.docker.iter().filter(|(_, c)| c.node == *node && !c.is_live()) {
            let of = dead.entry(container.order.workload.clone()).or_default();
            of.push((container.ended_at, id.clone()));
        }
        for mut of in dead.into_values() {
            of.sort();
            let excess = of.len().saturating_sub(self.timing.dead_kept);
            for (_, id) in of.into_iter().take(excess) {
                self.docker.remove(&id);
            }
        }
    }

    // ---- what must always hold ----

    /// Per workload: what Docker really has or is about to have, on nodes that
    /// the scheduler counts, whatever the scheduler believes to be there.
    fn occupied_in_truth(&self) -> BTreeMap<WorkloadId, BTreeSet<InstanceId>> {
        let mut occupied: BTreeMap<WorkloadId, BTreeSet<InstanceId>> = BTreeMap::new();
        let state = &self.core.state;
        let counted = |node: &NodeId, id: &InstanceId| {
            state
                .nodes
                .get(node)
                .is_some_and(|n| !n.lost && (n.synced || state.instances.contains_key(id)))
        };
        for (id, container) in &self.docker {
            if container.is_live() && counted(&container.node, id) {
                let of = occupied.entry(container.order.workload.clone()).or_default();
                of.insert(id.clone());
            }
        }
        for agent in self.agents.values() {
            for (id, queued) in &agent.queue {
                if counted(&agent.id, id) {
                    let of = occupied.entry(queued.order.workload.clone()).or_default();
                    of.insert(id.clone());
                }
            }
        }
        for packet in self.packets.values() {
            if let Packet::Order { life, order } = packet
                && let OrderBody::Run(run) = &order.body
                && *life == self.life
                && self.agents.get(&order.fence.node).is_some_and(|agent| {
                    agent.up
                        && agent.incarnation == order.fence.incarnation
                        && !agent.stops.contains(&run.id)
                        && !agent.noted.contains_key(&run.id)
                })
                && counted(&order.fence.node, &run.id)
            {
                let of = occupied.entry(run.workload.clone()).or_default();
                of.insert(run.id.clone());
            }
        }
        occupied
    }

    /// Nothing is started while as much as is wanted is there (DESIGN 7.1).
    fn check_starts(
        &self,
        born: &[InstanceId],
        occupied: &BTreeMap<WorkloadId, BTreeSet<InstanceId>>,
    ) {
        let mut starts: BTreeMap<&WorkloadId, BTreeSet<InstanceId>> = BTreeMap::new();
        for id in born {
            let instance = &self.core.state.instances[id];
            if instance.seen.is_none() {
                starts.entry(&instance.workload).or_default().insert(id.clone());
            }
        }
        let lost_now = |id: &InstanceId| {
            let node =
                self.docker.get(id).map(|c| &c.node).or_else(|| {
                    self.agents.values().find(|a| a.queue.contains_key(id)).map(|a| &a.id)
                });
            node.is_some_and(|node| self.core.state.nodes.get(node).is_none_or(|n| n.lost))
        };
        for (name, starts) in starts {
            let workload = &self.core.state.workloads[name];
            let bound = workload.desired() as usize - workload.done.len();
            let there: Vec<&InstanceId> =
                occupied.get(name).into_iter().flatten().filter(|id| !lost_now(id)).collect();
            assert!(
                there.len() + starts.len() <= bound,
                "{name}: starts {starts:?} while {there:?} are there, wanted {bound}\n{}",
                self.story()
            );
        }
    }

    /// What must hold after each step.
    pub fn check(&self) {
        check_books(&self.core.state);
        let snapshot = self.snapshot();
        for (name, _) in &self.core.state.workloads {
            let view = self.view(name.as_str());
            let _ = snapshot.explain(name.as_str());
            if view.ready + view.done < view.desired {
                assert!(!view.reasons.is_empty(), "{name}: no reason\n{view:#?}\n{}", self.story());
            }
            for why in &view.reasons {
                assert!(!why.message.is_empty());
            }
        }
        let mut bound: BTreeSet<(&DaemonId, u16)> = BTreeSet::new();
        for container in self.docker.values().filter(|c| c.is_live()) {
            for port in &container.ports {
                let fresh = bound.insert((&container.daemon, port.host_port));
                assert!(fresh || port.host_port >= 32_768, "host port {port:?} twice");
            }
        }
    }

    /// The last things that happened, for a failed assertion.
    pub fn story(&self) -> String {
        let from = self.log.len().saturating_sub(40);
        let views: Vec<String> =
            self.snapshot().workloads().iter().map(|view| format!("{view:?}")).collect();
        let nodes: Vec<String> =
            self.snapshot().nodes().iter().map(|view| format!("{view:?}")).collect();
        format!(
            "at {}\n{}\n{}\n{}\n{:#?}",
            self.now,
            self.log[from..].join("\n"),
            views.join("\n"),
            nodes.join("\n"),
            self.core.state.instances.values().collect::<Vec<_>>()
        )
    }
}

fn answered(order: &Order, answer: OrderAnswer) -> Input {
    let (id, kind) = match &order.body {
        OrderBody::Run(run) => (run.id.clone(), OrderKind::Run),
        OrderBody::Stop { id, .. } => (id.clone(), OrderKind::Stop),
    };
    Input::Answered {
        node: order.fence.node.clone(),
        id,
        kind,
        incarnation: order.fence.incarnation,
        answer,
    }
}

fn docker_status(agent: &Agent, now: u64) -> DockerStatus {
    DockerStatus {
        state: agent.docker,
        for_ms: now - agent.docker_since,
        daemon: Some(agent.daemon.clone()),
        message: None,
    }
}

fn blank(node: &NodeId, order: &RunOrder) -> ContainerInstance {
    ContainerInstance {
        id: order.id.clone(),
        container_id: String::new(),
        workload_id: order.workload.clone(),
        replica: order.replica,
        revision: order.revision,
        node_id: node.clone(),
        image: order.template.image.clone(),
        phase: Phase::Pending,
        health: Health::Unknown,
        ready: false,
        stopping: false,
        lost: false,
        exit_code: None,
        ip: None,
        ports: Vec::new(),
        restarts: order.restarts,
        started_at: None,
        reason: None,
        message: None,
        replaces: order.replaces.clone(),
        running_for_ms: None,
        healthy_for_ms: None,
        restart_due: false,
    }
}

fn described(container: &Container, now: u64) -> ContainerInstance {
    let mut report = blank(&container.node, &container.order);
    report.phase = container.phase;
    report.container_id = format!("c-{}", container.order.id);
    report.exit_code = container.exit_code;
    report.reason = container.reason;
    report.message = container.message.clone();
    let running = container.phase == Phase::Running;
    if !container.ghost {
        let until = if running { now } else { container.ended_at };
        report.running_for_ms = Some(until - container.started_at);
    }
    if running {
        report.ports = container.ports.clone();
        let probed = container.order.template.health_check.is_some();
        let healthy_at = container.started_at + if probed { PROBE_MS } else { 0 };
        report.health = match () {
            () if container.ill => Health::Unhealthy,
            () if healthy_at > now => Health::Starting,
            () => Health::Healthy,
        };
        if report.health == Health::Healthy {
            report.healthy_for_ms = Some(now - healthy_at);
        }
        report.restart_due = container.restart_due;
    }
    report
}

/// The sums and indexes of a state are what counting everything gives.
pub fn check_books(state: &State) {
    let mut tallies: BTreeMap<WorkloadId, Tally> = BTreeMap::new();
    let mut placed: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut per_node: BTreeMap<(WorkloadId, NodeId), u32> = BTreeMap::new();
    for (id, instance) in &state.instances {
        assert_eq!(*id, instance.id);
        let tally = tallies.entry(instance.workload.clone()).or_default();
        let live = !instance.is_over();
        let counts = live && !state.is_lost(instance);
        let effective = counts && instance.stop.is_none();
        let share = Share {
            effective,
            stopping: counts && instance.stop.is_some(),
            running: effective && instance.phase() == Phase::Running,
            ready: instance.share.ready,
            ailing: instance.share.ailing,
            placed: live,
        };
        assert_eq!(instance.share, share, "share of {id}");
        assert!(!instance.share.ready || effective);
        tally.effective += u32::from(share.effective);
        tally.stopping += u32::from(share.stopping);
        tally.running += u32::from(share.running);
        tally.ready += u32::from(share.ready);
        if live {
            *placed.entry(instance.node.clone()).or_default() += 1;
            let here = (instance.workload.clone(), instance.node.clone());
            *per_node.entry(here).or_default() += 1;
        }
        assert!(state.cohorts.get(&instance.workload).is_some_and(|c| c.ids.contains(id)));
        let node = state.nodes.get(&instance.node);
        assert!(node.is_some_and(|n| n.instances.contains(id)), "{id} is on no node");
    }
    for (name, cohort) in &state.cohorts {
        assert_eq!(cohort.tally, tallies.remove(name).unwrap_or_default(), "sums of {name}");
        assert!(!cohort.ids.is_empty(), "cohort of {name} is empty");
        for id in &cohort.ids {
            assert!(state.instances.contains_key(id));
        }
        for id in &cohort.ailing {
            assert!(state.instances.get(id).is_some_and(|i| i.share.ailing), "{id} does not ail");
        }
        for (node, count) in &cohort.per_node {
            assert_eq!(per_node.remove(&(name.clone(), node.clone())), Some(*count));
        }
    }
    assert!(per_node.is_empty(), "not in per_node: {per_node:?}");
    for node in state.nodes.values() {
        assert_eq!(node.placed, placed.remove(&node.id).unwrap_or(0), "placed on {}", node.id);
        for id in &node.instances {
            assert!(state.instances.get(id).is_some_and(|i| i.node == node.id));
        }
    }
    for holder in state.host_ports.values() {
        assert!(state.instances.get(holder).is_some_and(|i| !i.is_over()), "{holder} holds a port");
    }
    for (name, workload) in &state.workloads {
        for (number, replica) in &workload.replicas {
            let filled = replica
                .instances
                .iter()
                .filter_map(|id| state.instances.get(id))
                .any(|i| i.share.effective);
            let places = usize::from(workload.missing.contains(number))
                + usize::from(workload.resting.contains(number))
                + usize::from(workload.done.contains(number));
            let expected = usize::from(!filled || replica.done.is_some());
            assert_eq!(places, expected, "{name}/{number} is filed wrongly: {replica:?}");
            for id in &replica.instances {
                assert!(state.instances.contains_key(id), "{name}/{number} has a ghost {id}");
            }
        }
        for set in [&workload.missing, &workload.resting, &workload.done] {
            assert!(set.iter().all(|n| workload.replicas.contains_key(n)), "{name}: stale place");
        }
    }
}
