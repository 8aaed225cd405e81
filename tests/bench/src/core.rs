//! The scheduler's core alone, without sockets, disk or clock: what a pass costs
//! when nothing has changed and when a hundred instances have, in clusters from
//! 10³ to 10⁶ instances. Two hundred on each node, as everywhere in here.
//!
//! What changes is the same in every size: one instance of each of a hundred
//! workloads of ten, on one of five nodes. Only the rest of the cluster differs.
//! Times are the thread's own, whatever else the machine does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_lite::model::wire::{
    DockerState, DockerStatus, HeartbeatRequest, OrderAccepted, RegisterRequest, RunOrder,
};
use kube_lite::model::{ContainerInstance, NodeId, Phase, Timing, WorkloadSpec};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{
    Input, Moment, Order, OrderAnswer, OrderBody, OrderKind, Step, UserCall,
};
use kube_lite::roles::scheduler::state::State;
use nix::time::ClockId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::report::{Curve, Figure, Row};
use crate::run::{Plan, bar, output, resident};

/// Instances on each node.
const DENSITY: usize = 200;
/// So many instances change at once, each of another workload.
pub const CHANGES: usize = 100;
/// Replicas of each of those workloads.
const FEW: usize = 10;
/// Where they run; one of these nodes after the other has the changes.
const CHANGING: usize = CHANGES * FEW / DENSITY;
/// Replicas of all other workloads, where there are nodes enough.
const MANY: usize = 1_000;
/// How often each is measured.
const SAMPLES: usize = 10;

/// What was found in a cluster of one size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    instances: usize,
    idle_us: Vec<f64>,
    idle_visits: u64,
    digest_us: Vec<f64>,
    changed_ms: Vec<f64>,
    changed_visits: u64,
    bytes_each: f64,
    steps: usize,
}

/// Measures.
///
/// # Errors
/// When the core does not do what it is asked.
pub async fn run(plan: &Plan, curves: &mut Vec<Curve>) -> anyhow::Result<Vec<Row>> {
    let sizes = plan.or(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000]);
    let bar = bar("the core, 10³ to 10⁶ instances", sizes.len() as u64);
    let mut all = Vec::new();
    for size in sizes {
        all.push(apart(plan, size).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let idle = |found: &Found| Figure::of("µs", found.idle_us.clone());
    let digest = |found: &Found| Figure::of("µs", found.digest_us.clone());
    let changed = |found: &Found| Figure::of("ms", found.changed_ms.clone());
    let (first, last) = (&all[0], &all[all.len() - 1]);
    let mut rows = Vec::new();
    for found in &all {
        let n = format!("{} instances", found.instances);
        let with = |row: Row, figure: Figure| match found.instances == first.instances {
            true => row,
            false => row.beside(format!("{} instances", first.instances), figure),
        };
        let visits = found.idle_visits;
        let row = Row::new(format!("idle pass, visits {visits}, {n}"), idle(found));
        rows.push(with(row.aim("visits 0", visits == 0), idle(first)));
        rows.push(with(Row::new(format!("digest of a node, {n}"), digest(found)), digest(first)));
        let what = format!("{CHANGES} changes, visits {}, {n}", found.changed_visits);
        let row = with(Row::new(what, changed(found)), changed(first));
        // A cache holds a small cluster and no large one: level, not equal.
        let flat = changed(found).median <= 2.0 * changed(first).median
            && found.changed_visits == first.changed_visits;
        let is_last = found.instances == last.instances;
        rows.push(if is_last { row.aim("≤ 2 ×, same visits", flat) } else { row });
    }
    let what = format!("core's memory per instance, {} instances", last.instances);
    let at_first = Figure::one("B", first.bytes_each);
    rows.push(
        Row::new(what, Figure::one("B", last.bytes_each))
            .beside(format!("{} instances", first.instances), at_first)
            .at_most(1024.0),
    );
    let curve = |what: &str, of: &dyn Fn(&Found) -> Figure, ms: f64| Curve {
        what: what.to_owned(),
        points: all.iter().map(|f| (f.instances as f64, of(f).median * ms)).collect(),
    };
    curves.push(curve("100 changes", &changed, 1.0));
    curves.push(curve("digest of a node", &digest, 1e-3));
    curves.push(curve("idle pass", &idle, 1e-3));
    Ok(rows)
}

/// In a process of its own, so that no size finds the memory as another has left
/// it.
async fn apart(plan: &Plan, instances: usize) -> anyhow::Result<Found> {
    let Some(itself) = &plan.itself else { return measure(instances) };
    let mut command = Command::new(itself);
    command.args(["core-pass", &instances.to_string()]);
    let output = output(command).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the core's process said something else")
}

/// The same in this process.
///
/// # Errors
/// When the core does not do what it is asked.
pub fn measure(instances: usize) -> anyhow::Result<Found> {
    let before = resident(std::process::id())?;
    let mut cluster = Cluster::of(instances)?;
    let bytes_each = (cluster.resident_core()? - before) / instances as f64;
    let mut found = Found {
        instances,
        idle_us: Vec::new(),
        idle_visits: 0,
        digest_us: Vec::new(),
        changed_ms: Vec::new(),
        changed_visits: 0,
        bytes_each,
        steps: 0,
    };
    for _ in 0..SAMPLES {
        const TICKS: u32 = 200;
        let visits = cluster.core.visits;
        let began = own_ms();
        for _ in 0..TICKS {
            cluster.idle();
        }
        found.idle_us.push((own_ms() - began) * 1e3 / f64::from(TICKS));
        found.idle_visits += cluster.core.visits - visits;
        let nodes: Vec<usize> = (0..cluster.nodes.len()).take(200).collect();
        let began = own_ms();
        for node in &nodes {
            cluster.digest(*node);
        }
        found.digest_us.push((own_ms() - began) * 1e3 / nodes.len() as f64);
        ensure!(nodes.iter().all(|node| cluster.is_taken(*node)), "a digest was not taken in");
    }
    for sample in 0..SAMPLES {
        let visits = cluster.core.visits;
        let input = cluster.crash(sample);
        let began = own_ms();
        let given = cluster.take(input);
        found.changed_ms.push(own_ms() - began);
        let orders = cluster.note(given);
        ensure!(orders == CHANGES, "{orders} replacements for {CHANGES} crashes");
        found.changed_visits = found.changed_visits.max(cluster.core.visits - visits);
    }
    found.steps = cluster.steps;
    // Taking a million apart is nobody's business.
    std::mem::forget(cluster);
    Ok(found)
}

/// What this thread has worked so far, milliseconds.
fn own_ms() -> f64 {
    let own = ClockId::CLOCK_THREAD_CPUTIME_ID.now().expect("a thread has a clock");
    own.tv_sec() as f64 * 1e3 + own.tv_nsec() as f64 / 1e6
}

/// One machine, as its agent would report it.
#[derive(Clone, Debug)]
struct Machine {
    id: NodeId,
    seq: u64,
    /// The last snapshot that was not a digest.
    full: u64,
    containers: Vec<ContainerInstance>,
}

/// A core, and the machines that it believes in.
#[derive(Clone, Debug)]
pub struct Cluster {
    core: Core,
    nodes: Vec<Machine>,
    index: BTreeMap<NodeId, usize>,
    now: u64,
    steps: usize,
}

impl Cluster {
    /// A cluster of so many instances, all of them running.
    ///
    /// # Errors
    /// When the core does not order them.
    pub fn of(instances: usize) -> anyhow::Result<Self> {
        let core = Core::new(State::new("bench".into(), 1), Timing::default());
        let mut cluster =
            Self { core, nodes: Vec::new(), index: BTreeMap::new(), now: 1_000_000, steps: 0 };
        // Those that will change come first, and find but these nodes.
        cluster.add_nodes(CHANGING);
        for number in 0..CHANGES {
            cluster.deploy(&format!("changing-{number}"), FEW)?;
        }
        cluster.add_nodes(instances.div_ceil(DENSITY));
        // At most one replica on each other node, so that all of them are filled evenly.
        let each = MANY.min(cluster.nodes.len() - CHANGING);
        let mut left = instances - CHANGES * FEW;
        while left > 0 {
            cluster.deploy(&format!("app-{left}"), each.min(left))?;
            left -= each.min(left);
        }
        let placed: usize = cluster.nodes.iter().map(|machine| machine.containers.len()).sum();
        ensure!(placed == instances, "{placed} of {instances} were ordered");
        for machine in &cluster.nodes[..CHANGING] {
            let n = machine.containers.len();
            ensure!(n == DENSITY, "{} has {n} instances, not {DENSITY}", machine.id);
        }
        cluster.settle();
        Ok(cluster)
    }

    fn add_nodes(&mut self, up_to: usize) {
        for number in self.nodes.len()..up_to {
            let id: NodeId = format!("node-{number}").into();
            let request = RegisterRequest {
                node_id: id.clone(),
                key: format!("key-{number}"),
                incarnation: 1,
                advertise: Some(format!("10.{}.{}.1:8081", number / 250, number % 250)),
                port: 8081,
                docker: docker(number),
                version: String::new(),
            };
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            self.step(Input::Register { ticket: 0, peer, request });
            self.index.insert(id.clone(), number);
            self.nodes.push(Machine { id, seq: 0, full: 0, containers: Vec::new() });
            self.snapshot(number);
        }
    }

    /// As the driver does it: while it decides, readers hold what was.
    fn step(&mut self, input: Input) -> Step {
        self.steps += 1;
        let published = self.core.state.clone();
        let moment = Moment {
            now: self.now,
            wall: self.now,
            draw: (self.steps as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let step = self.core.step(moment, input);
        drop(published);
        step
    }

    fn deploy(&mut self, name: &str, replicas: usize) -> anyhow::Result<()> {
        let spec: WorkloadSpec = serde_json::from_value(json!({
            "name": name, "image": "registry.example.com/team/app:1.2.3",
            "replicas": replicas, "ports": [{"containerPort": 8080}]
        }))?;
        let call = UserCall::Deploy(Box::new(spec));
        let step = self.step(Input::User { ticket: 0, by: "bench".into(), call });
        for order in step.orders {
            let OrderBody::Run(run) = order.body else { continue };
            let node = order.fence.node;
            let machine = &mut self.nodes[self.index[&node]];
            machine.containers.push(container(&node, &run, machine.containers.len()));
            let answer = OrderAnswer::Accepted(OrderAccepted {
                incarnation: 1,
                seq: machine.seq,
                id: run.id.clone(),
            });
            let (id, kind) = (run.id, OrderKind::Run);
            self.step(Input::Answered { node, id, kind, incarnation: 1, answer });
        }
        Ok(())
    }

    /// All runs, and what was noted for later is done with.
    fn settle(&mut self) {
        for number in 0..self.nodes.len() {
            self.snapshot(number);
        }
        for _ in 0..60 {
            self.now += 1_000;
            for number in 0..self.nodes.len() {
                self.digest(number);
            }
        }
    }

    /// What the core has, without what the made-up machines remember.
    fn resident_core(&mut self) -> anyhow::Result<f64> {
        let all = resident(std::process::id())?;
        let containers: usize = self.nodes.iter().map(|machine| machine.containers.len()).sum();
        let copies: Vec<_> = self.nodes.iter().map(|machine| machine.containers.clone()).collect();
        let with_copies = resident(std::process::id())?;
        drop(copies);
        ensure!(containers > 0, "nothing runs");
        Ok(all - (with_copies - all))
    }

    fn snapshot(&mut self, number: usize) {
        let input = self.beat(number, None);
        self.step(input);
    }

    /// A pass with nothing to do.
    pub fn idle(&mut self) {
        self.step(Input::Tick);
    }

    /// A node says that all is as it was.
    pub fn digest(&mut self, number: usize) {
        let full = self.nodes[number].full;
        let input = self.beat(number, Some(full));
        self.step(input);
    }

    /// Whether the core has taken in everything that this node has said. A digest
    /// that it does not take is cheaper still, and would measure nothing.
    fn is_taken(&self, number: usize) -> bool {
        let machine = &self.nodes[number];
        self.core.state.nodes.get(&machine.id).is_some_and(|node| node.seq == machine.seq)
    }

    fn beat(&mut self, number: usize, same_as: Option<u64>) -> Input {
        let machine = &mut self.nodes[number];
        machine.seq += 1;
        if same_as.is_none() {
            machine.full = machine.seq;
        }
        let containers = if same_as.is_none() { machine.containers.clone() } else { Vec::new() };
        let request = HeartbeatRequest {
            node_id: machine.id.clone(),
            incarnation: 1,
            epoch: 1,
            seq: machine.seq,
            synced: same_as.is_none(),
            docker: docker(number),
            same_as,
            gone: Vec::new(),
            containers,
        };
        Input::Heartbeat { ticket: 0, request }
    }

    /// What a node says when one container of each of the hundred workloads has
    /// ended. It has two of each: the first five times it is the one, then the other.
    pub fn crash(&mut self, sample: usize) -> Input {
        self.now += 1;
        let (node, skip) = (sample % CHANGING, sample / CHANGING % 2);
        for container in self.nodes[node].containers.iter_mut().skip(skip).step_by(2) {
            container.phase = Phase::Exited;
            container.exit_code = Some(1);
        }
        self.beat(node, None)
    }

    /// Takes it in; returns what is ordered.
    pub fn take(&mut self, input: Input) -> Vec<Order> {
        self.step(input).orders
    }

    /// The machines note these orders, and have not begun with them when they report
    /// next; returns how many are to run something.
    pub fn note(&mut self, orders: Vec<Order>) -> usize {
        let mut count = 0;
        for Order { fence, body, .. } in orders {
            let (node, id, kind) = (fence.node, body.id().clone(), body.kind());
            count += usize::from(kind == OrderKind::Run);
            let accepted = OrderAccepted { incarnation: 1, seq: u64::MAX, id: id.clone() };
            let answer = OrderAnswer::Accepted(accepted);
            self.step(Input::Answered { node, id, kind, incarnation: 1, answer });
        }
        count
    }
}

fn docker(number: usize) -> DockerStatus {
    DockerStatus {
        state: DockerState::Ok,
        for_ms: 60_000,
        daemon: Some(format!("daemon-{number}").as_str().into()),
        message: None,
    }
}

fn container(node: &NodeId, run: &RunOrder, number: usize) -> ContainerInstance {
    serde_json::from_value(json!({
        "id": run.id, "containerId": format!("{:0>64x}", number), "workloadId": run.workload,
        "replica": run.replica, "revision": run.revision, "nodeId": node,
        "image": run.template.image, "phase": "running", "health": "healthy",
        "ip": "172.17.0.2", "runningForMs": 60_000, "healthyForMs": 60_000,
        "ports": [{"containerPort": 8080, "hostPort": 32_768 + number, "protocol": "tcp"}],
        "startedAt": "2026-01-01T00:00:00.000Z"
    }))
    .expect("a good container")
}
