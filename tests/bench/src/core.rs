//! The scheduler's core alone, without sockets, disk or clock: what a pass costs
//! when nothing has changed and when a hundred instances have, in clusters from
//! 10³ to 10⁶ instances. Two hundred on each node, as everywhere in here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use kube_lite::model::wire::{
    DockerState, DockerStatus, HeartbeatRequest, OrderAccepted, RegisterRequest, RunOrder,
};
use kube_lite::model::{ContainerInstance, NodeId, Phase, Timing, WorkloadSpec};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{
    Input, Moment, OrderAnswer, OrderBody, OrderKind, Step, UserCall,
};
use kube_lite::roles::scheduler::state::State;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::report::{Curve, Figure, Row};
use crate::run::{Plan, bar, resident};

/// Instances on each node.
const DENSITY: usize = 200;
/// Of these so many change at once.
const CHANGES: usize = 100;
/// On so many nodes, one after the other.
const SAMPLES: usize = 5;

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
pub fn run(plan: &Plan, curves: &mut Vec<Curve>) -> anyhow::Result<Vec<Row>> {
    let sizes = plan.or(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000]);
    let bar = bar("the core, 10³ to 10⁶ instances", sizes.len() as u64);
    let mut all = Vec::new();
    for size in sizes {
        all.push(apart(plan, size)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let first = all[0].clone();
    let size = |found: &Found| format!("{} instances", found.instances);
    let mut rows = Vec::new();
    for found in &all {
        let peer = (found.instances != first.instances).then(|| size(&first));
        let with = |row: Row, figure: Figure| match &peer {
            Some(peer) => row.beside(peer.clone(), figure),
            None => row,
        };
        let idle = |found: &Found| Figure::of("µs", found.idle_us.clone());
        let digest = |found: &Found| Figure::of("µs", found.digest_us.clone());
        let changed = |found: &Found| Figure::of("ms", found.changed_ms.clone());
        let n = size(found);
        let row = Row::new(format!("idle pass, visits {}, {n}", found.idle_visits), idle(found));
        rows.push(with(row.aim("visits 0"), idle(&first)));
        rows.push(with(Row::new(format!("digest of a node, {n}"), digest(found)), digest(&first)));
        let what = format!("{CHANGES} changes, visits {}, {n}", found.changed_visits);
        rows.push(with(Row::new(what, changed(found)).aim("flat"), changed(&first)));
    }
    if let Some(last) = all.last() {
        let what = format!("core's memory per instance, {}", size(last));
        rows.push(Row::new(what, Figure::one("B", last.bytes_each)).aim("≤ 1024 B"));
    }
    let curve = |what: &str, of: &dyn Fn(&Found) -> Figure, ms: f64| Curve {
        what: what.to_owned(),
        points: all.iter().map(|f| (f.instances as f64, of(f).median * ms)).collect(),
    };
    curves.push(curve("100 changes", &|f| Figure::of("ms", f.changed_ms.clone()), 1.0));
    curves.push(curve("digest of a node", &|f| Figure::of("µs", f.digest_us.clone()), 1e-3));
    curves.push(curve("idle pass", &|f| Figure::of("µs", f.idle_us.clone()), 1e-3));
    Ok(rows)
}

/// In a process of its own, so that no size finds the memory as another has left
/// it.
fn apart(plan: &Plan, instances: usize) -> anyhow::Result<Found> {
    let Some(itself) = &plan.itself else { return measure(instances) };
    let output = Command::new(itself).args(["core-pass", &instances.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the core's process said something else")
}

/// The same in this process.
///
/// # Errors
/// When the core does not do what it is asked.
pub fn measure(instances: usize) -> anyhow::Result<Found> {
    let before = resident(std::process::id())?;
    let mut cluster = Cluster::new(instances.div_ceil(DENSITY));
    cluster.deploy(instances)?;
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
        let began = Instant::now();
        for _ in 0..TICKS {
            cluster.step(Input::Tick);
        }
        found.idle_us.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(TICKS));
        found.idle_visits += cluster.core.visits - visits;
        let nodes: Vec<usize> = (0..cluster.nodes.len()).take(200).collect();
        let began = Instant::now();
        for node in &nodes {
            cluster.digest(*node);
        }
        found.digest_us.push(began.elapsed().as_secs_f64() * 1e6 / nodes.len() as f64);
        ensure!(nodes.iter().all(|node| cluster.is_taken(*node)), "a digest was not taken in");
    }
    for sample in 0..SAMPLES {
        let node = sample * (cluster.nodes.len() / SAMPLES);
        let visits = cluster.core.visits;
        let (took, orders) = cluster.crash(node);
        ensure!(orders == CHANGES, "{orders} replacements for {CHANGES} crashes");
        found.changed_ms.push(took);
        found.changed_visits = found.changed_visits.max(cluster.core.visits - visits);
    }
    found.steps = cluster.steps;
    // Taking a million apart is nobody's business.
    std::mem::forget(cluster);
    Ok(found)
}

/// One machine, as its agent would report it.
#[derive(Debug, Default)]
struct Machine {
    id: Option<NodeId>,
    seq: u64,
    containers: Vec<ContainerInstance>,
}

#[derive(Debug)]
struct Cluster {
    core: Core,
    nodes: Vec<Machine>,
    index: BTreeMap<NodeId, usize>,
    now: u64,
    steps: usize,
}

impl Cluster {
    fn new(nodes: usize) -> Self {
        let core = Core::new(State::new("bench".into(), 1), Timing::default());
        let mut cluster =
            Self { core, nodes: Vec::new(), index: BTreeMap::new(), now: 1_000_000, steps: 0 };
        for number in 0..nodes {
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
            cluster.step(Input::Register { ticket: 0, peer, request });
            cluster.index.insert(id.clone(), number);
            cluster.nodes.push(Machine { id: Some(id), ..Machine::default() });
            cluster.snapshot(number);
        }
        cluster
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

    /// At least a hundred workloads in each size, so that a hundred changes
    /// concern about as many.
    fn deploy(&mut self, instances: usize) -> anyhow::Result<()> {
        let each = (instances / 100).min(1_000);
        for number in 0..instances / each {
            let spec: WorkloadSpec = serde_json::from_value(json!({
                "name": format!("app-{number}"), "image": "registry.example.com/team/app:1.2.3",
                "replicas": each, "ports": [{"containerPort": 8080}]
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
        }
        let placed: usize = self.nodes.iter().map(|machine| machine.containers.len()).sum();
        ensure!(placed == instances, "{placed} of {instances} were ordered");
        for number in 0..self.nodes.len() {
            self.snapshot(number);
        }
        // Until what was noted for later is done with.
        for _ in 0..60 {
            self.now += 1_000;
            for number in 0..self.nodes.len() {
                self.digest(number);
            }
        }
        Ok(())
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

    fn digest(&mut self, number: usize) {
        // The last full snapshot is the second.
        let input = self.beat(number, Some(2));
        self.step(input);
    }

    /// Whether the core has taken in everything that this node has said. A digest
    /// that it does not take is cheaper still, and would measure nothing.
    fn is_taken(&self, number: usize) -> bool {
        let machine = &self.nodes[number];
        let known = machine.id.as_ref().and_then(|id| self.core.state.nodes.get(id));
        known.is_some_and(|node| node.seq == machine.seq)
    }

    fn beat(&mut self, number: usize, same_as: Option<u64>) -> Input {
        let machine = &mut self.nodes[number];
        machine.seq += 1;
        let containers = if same_as.is_none() { machine.containers.clone() } else { Vec::new() };
        let request = HeartbeatRequest {
            node_id: machine.id.clone().expect("a node has a name"),
            incarnation: 1,
            epoch: 1,
            seq: machine.seq,
            synced: same_as.is_none(),
            docker: docker(number),
            same_as,
            containers,
        };
        Input::Heartbeat { ticket: 0, request }
    }

    /// Half of a node's containers have ended. Returns how long it took the core,
    /// milliseconds, and how many replacements it ordered.
    fn crash(&mut self, number: usize) -> (f64, usize) {
        self.now += 1;
        for container in self.nodes[number].containers.iter_mut().take(CHANGES) {
            container.phase = Phase::Exited;
            container.exit_code = Some(1);
        }
        let input = self.beat(number, None);
        let began = Instant::now();
        let step = self.step(input);
        let took = began.elapsed().as_secs_f64() * 1e3;
        let runs = step.orders.iter().filter(|o| matches!(o.body, OrderBody::Run(_)));
        (took, runs.count())
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
