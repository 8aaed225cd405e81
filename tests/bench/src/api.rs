//! The scheduler's API with 1, 100 and 1,000 simulated nodes that report all the
//! while: reads of one object and durable writes, as many as there can be and at a
//! fixed pace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use indicatif::ProgressBar;
use kube_lite_testkit::Process;
use kube_lite_testkit::sandbox::Fleet;
use serde_json::json;
use tokio::net::TcpStream;

use crate::report::{Figure, PART, Row, attempt, quantile};
use crate::run::{Plan, bar, ms_since, until};

/// Callers at a time.
const CALLERS: usize = 16;
/// The cluster is up after this long.
const UP: Duration = Duration::from_secs(120);

/// Measures.
///
/// # Errors
/// When something did not work.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let sizes = plan.or(vec![1, 100, 1_000], vec![2]);
    let bar = bar("reads and writes", (plan.rounds * sizes.len()) as u64);
    let mut rows = Vec::new();
    for nodes in sizes {
        let part = with_nodes(plan, nodes, &bar);
        rows.extend(attempt(&format!("API, {nodes} nodes"), PART, part).await);
    }
    bar.finish_and_clear();
    Ok(rows)
}

async fn with_nodes(plan: &Plan, nodes: usize, bar: &ProgressBar) -> anyhow::Result<Vec<Row>> {
    let fleet = Fleet::scheduler_only(plan.binary()?).await;
    let _agents = simulated(plan.binary()?, &fleet.url, "s", nodes, &[])?;
    able(&fleet, nodes).await?;
    let replicas = nodes.div_ceil(5);
    for number in 0..10 {
        fleet.deploy(&spec(number, replicas, 60)).await;
    }
    until("all to run", UP, Duration::from_millis(100), || async {
        let Ok(all) = fleet.client.workloads().await else { return Ok(None) };
        Ok(all.iter().all(|w| w.running == w.desired).then_some(()))
    })
    .await?;
    let (address, time) = (fleet.address(), Duration::from_secs(plan.or(3, 1)));
    let read = || (Method::GET, "/workloads/app-1".to_owned(), Bytes::new());
    let bare = || (Method::GET, "/health".to_owned(), Bytes::new());
    let written = AtomicUsize::new(0);
    let write = || {
        // Durable, as it was another before, but nothing has to be started or stopped.
        let number = written.fetch_add(1, Ordering::Relaxed);
        let spec = spec(number % 10, replicas, 61 + number / 10 % 500);
        (Method::POST, "/deploy".to_owned(), Bytes::from(spec.to_string()))
    };
    let mut found = Found::default();
    for _ in 0..plan.rounds {
        found.add("bare", as_fast_as_can_be(address, CALLERS, time, bare).await?);
        found.add("reads", as_fast_as_can_be(address, CALLERS, time, read).await?);
        // The generator's own timer is in both.
        found.add("slow reads", paced(address, 200, time, read).await?);
        found.add("slow bare", paced(address, 200, time, bare).await?);
        found.add("writes", as_fast_as_can_be(address, CALLERS, time, write).await?);
        let count = plan.or(100, 5);
        let (one, disk) = in_turn(address, fleet.directory.path(), count, write).await?;
        found.add("one", one);
        found.add("disk", disk);
        found.add("slow writes", paced(address, 50, time, write).await?);
        bar.inc(1);
    }
    let what = |what: &str| format!("{what}, {nodes} nodes");
    let (health, sync) = ("GET /health", "4 KiB written and synced");
    Ok(vec![
        Row::new(what("reads, 16 callers"), found.rate("reads")).beside(health, found.rate("bare")),
        Row::new(what("… latency p99"), found.p99("reads")).beside(health, found.p99("bare")),
        Row::new(what("reads at 200/s, p50"), found.p50("slow reads"))
            .beside(health, found.p50("slow bare")),
        Row::new(what("reads at 200/s, p99"), found.p99("slow reads"))
            .beside(health, found.p99("slow bare"))
            .at_most(10.0),
        Row::new(what("durable writes, 16 callers"), found.rate("writes"))
            .beside("one sync after the other", found.rate("disk")),
        Row::new(what("… latency p99"), found.p99("writes")).beside(sync, found.p99("disk")),
        Row::new(what("… one caller, p50"), found.p50("one")).beside(sync, found.p50("disk")),
        Row::new(what("… one caller, p99"), found.p99("one")).beside(sync, found.p99("disk")),
        Row::new(what("writes at 50/s, p99"), found.p99("slow writes"))
            .beside(sync, found.p99("disk"))
            .at_most(50.0),
    ])
}

/// What was measured of each, round by round.
#[derive(Default)]
struct Found(BTreeMap<&'static str, Vec<Load>>);

impl Found {
    fn add(&mut self, what: &'static str, load: Load) {
        self.0.entry(what).or_default().push(load);
    }

    fn of(&self, what: &str, unit: &str, of: impl Fn(&Load) -> f64) -> Figure {
        Figure::of(unit, self.0.get(what).into_iter().flatten().map(of).collect())
    }

    fn rate(&self, what: &str) -> Figure {
        self.of(what, "/s", Load::per_second)
    }

    fn p50(&self, what: &str) -> Figure {
        self.of(what, "ms", |load| load.latency(0.5))
    }

    fn p99(&self, what: &str) -> Figure {
        self.of(what, "ms", |load| load.latency(0.99))
    }
}

fn spec(number: usize, replicas: usize, deadline: usize) -> serde_json::Value {
    json!({
        "name": format!("app-{number}"), "image": "shop/app:1", "replicas": replicas,
        "ports": [{"containerPort": 8080}], "strategy": {"progressDeadlineSeconds": deadline}
    })
}

/// So many simulated nodes in a process of their own.
///
/// # Errors
/// When it does not start.
pub fn simulated(
    binary: &str,
    scheduler: &str,
    name: &str,
    nodes: usize,
    options: &[&str],
) -> anyhow::Result<Process> {
    let mut command = Command::new(binary);
    command
        .args(["agent", "--runtime", "simulated", "--scheduler", scheduler])
        .args(["--listen", "127.0.0.1:0", "--node-id", name, "--nodes", &nodes.to_string()])
        .args(["--sim-pull", "10ms", "--sim-start", "100ms"])
        .args(options);
    Ok(Process::start("simulated agents", &mut command))
}

/// Waits until so many nodes may get instances.
///
/// # Errors
/// When they do not come.
pub async fn able(fleet: &Fleet, nodes: usize) -> anyhow::Result<()> {
    until(&format!("{nodes} nodes"), UP, Duration::from_millis(200), || async {
        let Ok(all) = fleet.client.nodes().await else { return Ok(None) };
        let able = all.iter().filter(|n| n.status.as_str() == "alive" && n.message.is_none());
        Ok((able.count() == nodes).then_some(()))
    })
    .await
}

/// What calls took.
#[derive(Debug)]
pub struct Load {
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
    seconds: f64,
}

impl Load {
    fn of(mut latencies: Vec<f64>, seconds: f64) -> anyhow::Result<Self> {
        ensure!(!latencies.is_empty(), "nobody was answered");
        latencies.sort_by(f64::total_cmp);
        Ok(Self { latencies, seconds })
    }

    /// All of them.
    pub fn each(&self) -> Figure {
        Figure::of("ms", self.latencies.clone())
    }

    /// How many per second.
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// Below which this share of the latencies are, milliseconds.
    pub fn latency(&self, share: f64) -> f64 {
        quantile(&self.latencies, share)
    }
}

/// What is asked for: how, where, and with which body.
pub type Call = (Method, String, Bytes);

struct Caller {
    sender: SendRequest<Full<Bytes>>,
    address: String,
}

impl Caller {
    async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // It ends with its sender.
            let _ = connection.await;
        });
        Ok(Self { sender, address: address.to_owned() })
    }

    async fn call(&mut self, (method, path, body): Call) -> anyhow::Result<()> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }
}

/// Each caller asks as soon as it was answered.
///
/// # Errors
/// When somebody is not answered well.
pub async fn as_fast_as_can_be(
    address: &str,
    callers: usize,
    time: Duration,
    call: impl Fn() -> Call + Copy,
) -> anyhow::Result<Load> {
    let began = Instant::now();
    let calls = (0..callers).map(|_| async move {
        let mut connection = Caller::connect(address).await?;
        let mut latencies = Vec::new();
        while began.elapsed() < time {
            let asked = Instant::now();
            connection.call(call()).await?;
            latencies.push(ms_since(asked));
        }
        anyhow::Ok(latencies)
    });
    let all = futures_util::future::try_join_all(calls).await?;
    Load::of(all.concat(), began.elapsed().as_secs_f64())
}

/// So many calls per second, whether or not the ones before were answered; each is
/// measured from when it was due.
async fn paced(
    address: &str,
    per_second: u32,
    time: Duration,
    call: impl Fn() -> Call + Copy,
) -> anyhow::Result<Load> {
    let began = Instant::now() + Duration::from_millis(10);
    let count = (time.as_secs_f64() * f64::from(per_second)) as usize;
    let calls = (0..CALLERS).map(|caller| async move {
        let mut connection = Caller::connect(address).await?;
        let mut latencies = Vec::new();
        for number in (caller..count).step_by(CALLERS) {
            let due = began + Duration::from_secs(1) * u32::try_from(number)? / per_second;
            tokio::time::sleep_until(due.into()).await;
            connection.call(call()).await?;
            latencies.push(ms_since(due));
        }
        anyhow::Ok(latencies)
    });
    let all = futures_util::future::try_join_all(calls).await?;
    Load::of(all.concat(), began.elapsed().as_secs_f64())
}

/// One durable write and one sync of 4 KiB, in place and on the same disk, in turn:
/// on a busy machine both meet the same trouble.
///
/// # Errors
/// When one of them fails.
pub async fn in_turn(
    address: &str,
    directory: &Path,
    count: usize,
    write: impl Fn() -> Call,
) -> anyhow::Result<(Load, Load)> {
    let mut connection = Caller::connect(address).await?;
    let mut file = File::create(directory.join("sync"))?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    let (mut writes, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let began = Instant::now();
        connection.call(write()).await?;
        writes.push(ms_since(began));
        let began = Instant::now();
        file.write_all_at(&[1; 4096], 0)?;
        file.sync_data()?;
        syncs.push(ms_since(began));
    }
    let seconds = |ms: &[f64]| ms.iter().sum::<f64>() / 1e3;
    let (writing, syncing) = (seconds(&writes), seconds(&syncs));
    Ok((Load::of(writes, writing)?, Load::of(syncs, syncing)?))
}
