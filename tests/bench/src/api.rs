//! The scheduler's API with 1, 100 and 1,000 simulated nodes that report all the
//! while: reads of one object and durable writes, as many as there can be and at a
//! fixed pace.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use kube_lite_testkit::Process;
use kube_lite_testkit::sandbox::Fleet;
use serde_json::json;
use tokio::net::TcpStream;

use crate::report::{Figure, Row, quantile};
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
    let bar = bar("reads and writes", 4 * sizes.len() as u64);
    let mut rows = Vec::new();
    for nodes in sizes {
        let fleet = Fleet::scheduler_only(plan.binary()?).await;
        let _agents = simulated(plan.binary()?, &fleet.url, "s", nodes, &[])?;
        able(&fleet, nodes).await?;
        for number in 0..10 {
            let replicas = nodes.div_ceil(5);
            fleet.deploy(&spec(number, replicas, 60)).await;
        }
        until("all to run", UP, Duration::from_millis(100), || async {
            let all = fleet.client.workloads().await?;
            Ok(all.iter().all(|w| w.running == w.desired).then_some(()))
        })
        .await?;
        let (address, time) = (fleet.address(), Duration::from_secs(plan.or(5, 1)));
        let read = |_| (Method::GET, "/workloads/app-1".to_owned(), Bytes::new());
        let bare = |_| (Method::GET, "/health".to_owned(), Bytes::new());
        let write = |number: usize| {
            // Durable, but nothing has to be started or stopped for it.
            let spec = spec(number % 10, nodes.div_ceil(5), 60 + number / 10 % 500);
            (Method::POST, "/deploy".to_owned(), Bytes::from(spec.to_string()))
        };
        let health = as_fast_as_can_be(address, CALLERS, time, bare).await?;
        let reads = as_fast_as_can_be(address, CALLERS, time, read).await?;
        let what = |what: &str| format!("{what}, {nodes} nodes");
        rows.push(
            Row::new(what("reads, 16 callers"), reads.per_second())
                .beside("GET /health", health.per_second()),
        );
        rows.push(
            Row::new(what("… latency p99"), reads.latency(0.99))
                .beside("GET /health", health.latency(0.99)),
        );
        bar.inc(1);
        // The generator's own timer is in both.
        let slow = paced(address, 200, time, read).await?;
        let bare = paced(address, 200, time, bare).await?;
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            let row = Row::new(what(&format!("reads at 200/s, {name}")), slow.latency(share))
                .beside("GET /health", bare.latency(share));
            rows.push(if share > 0.9 { row.aim("≤ 10 ms") } else { row });
        }
        bar.inc(1);
        let writes = as_fast_as_can_be(address, CALLERS, time, write).await?;
        let (one, disk) = in_turn(address, fleet.directory.path(), plan.or(400, 5), write).await?;
        rows.push(
            Row::new(what("durable writes, 16 callers"), writes.per_second())
                .beside("one sync after the other", Figure::one("/s", 1e3 / disk.mean())),
        );
        for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
            rows.push(
                Row::new(what(&format!("… one caller, {name}")), one.latency(share))
                    .beside("4 KiB written and synced", disk.latency(share)),
            );
        }
        bar.inc(1);
        let slow = paced(address, 50, time, write).await?;
        rows.push(Row::new(what("writes at 50/s, p99"), slow.latency(0.99)).aim("≤ 50 ms"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
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
        let all = fleet.client.nodes().await?;
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

    fn per_second(&self) -> Figure {
        Figure::one("/s", self.latencies.len() as f64 / self.seconds)
    }

    fn mean(&self) -> f64 {
        self.latencies.iter().sum::<f64>() / self.latencies.len() as f64
    }

    /// Below which this share of the latencies are.
    pub fn latency(&self, share: f64) -> Figure {
        Figure::one("ms", quantile(&self.latencies, share))
    }
}

type Call = (Method, String, Bytes);

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
async fn as_fast_as_can_be(
    address: &str,
    callers: usize,
    time: Duration,
    call: impl Fn(usize) -> Call + Copy,
) -> anyhow::Result<Load> {
    let began = Instant::now();
    let calls = (0..callers).map(|caller| async move {
        let mut connection = Caller::connect(address).await?;
        let mut latencies = Vec::new();
        let mut number = caller;
        while began.elapsed() < time {
            let asked = Instant::now();
            connection.call(call(number)).await?;
            latencies.push(ms_since(asked));
            number += callers;
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
    call: impl Fn(usize) -> Call + Copy,
) -> anyhow::Result<Load> {
    let began = Instant::now() + Duration::from_millis(10);
    let count = (time.as_secs_f64() * f64::from(per_second)) as usize;
    let calls = (0..CALLERS).map(|caller| async move {
        let mut connection = Caller::connect(address).await?;
        let mut latencies = Vec::new();
        for number in (caller..count).step_by(CALLERS) {
            let due = began + Duration::from_secs(1) * u32::try_from(number)? / per_second;
            tokio::time::sleep_until(due.into()).await;
            connection.call(call(number)).await?;
            latencies.push(ms_since(due));
        }
        anyhow::Ok(latencies)
    });
    let all = futures_util::future::try_join_all(calls).await?;
    Load::of(all.concat(), began.elapsed().as_secs_f64())
}

/// One durable write and one sync of 4 KiB, in place and on the same disk, in turn:
/// on a busy machine both meet the same trouble.
async fn in_turn(
    address: &str,
    directory: &Path,
    count: usize,
    write: impl Fn(usize) -> Call,
) -> anyhow::Result<(Load, Load)> {
    let mut connection = Caller::connect(address).await?;
    let mut file = File::create(directory.join("sync"))?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    let (mut writes, mut syncs) = (Vec::new(), Vec::new());
    for number in 0..count {
        let began = Instant::now();
        // Other numbers than before: what is so already is not written.
        connection.call(write(number + 2_500)).await?;
        writes.push(ms_since(began));
        let began = Instant::now();
        file.write_all_at(&[1; 4096], 0)?;
        file.sync_data()?;
        syncs.push(ms_since(began));
    }
    Ok((Load::of(writes, 1.0)?, Load::of(syncs, 1.0)?))
}
