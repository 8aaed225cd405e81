//! 5,000 simulated nodes and 1,000,000 containers: a scheduler and the agents in
//! two processes, every order and heartbeat over HTTP on loopback. While all that
//! is up, small workloads are deployed, and nodes in processes of their own are killed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use kube_lite::client::ClientError;
use kube_lite::model::view::EventView;
use kube_lite_testkit::Process;
use kube_lite_testkit::sandbox::Fleet;
use serde_json::json;

use crate::api::{able, as_fast_as_can_be, in_turn, simulated};
use crate::report::{Figure, PART, Row, attempt};
use crate::run::{Plan, bar, cpu_seconds, ms_since, resident};

/// Workloads deployed at a time.
const DEPLOYS: usize = 16;
/// All run after this long, or it is given up.
const LIMIT: Duration = Duration::from_secs(600);
/// Less memory than this must never be left.
const SPARE: f64 = 1.5e9;

/// Measures.
///
/// # Errors
/// When something did not work, or there is too little memory.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (nodes, containers) = plan.or(plan.million, (10, 200));
    let mut cluster = Cluster::start(plan, nodes).await?;
    let mut rows = fill(plan, &mut cluster, nodes, containers).await?;
    rows.extend(attempt("… at rest", PART, at_rest(plan, &cluster)).await);
    rows.extend(attempt("… small deploys", PART, small_deploys(plan, &cluster.fleet)).await);
    rows.extend(attempt("… a node's death", PART, deaths(&mut cluster)).await);
    Ok(rows)
}

/// The scheduler, the agents, and a few nodes that can be killed one by one.
struct Cluster {
    fleet: Fleet,
    agents: Process,
    victims: Vec<(String, Process)>,
}

impl Cluster {
    async fn start(plan: &Plan, nodes: usize) -> anyhow::Result<Self> {
        let fleet = Fleet::scheduler_only(plan.binary()?).await;
        let count = plan.or(3, 1);
        let agents = simulated(plan.binary()?, &fleet.url, "s", nodes - count, &[])?;
        let mut victims = Vec::new();
        for number in 0..count {
            let name = format!("victim{number}");
            let process = simulated(plan.binary()?, &fleet.url, &name, 1, &[])?;
            victims.push((format!("{name}-1"), process));
        }
        able(&fleet, nodes).await.with_context(|| agents.output())?;
        Ok(Self { fleet, agents, victims })
    }
}

/// From nothing until all run.
async fn fill(
    plan: &Plan,
    cluster: &mut Cluster,
    nodes: usize,
    containers: usize,
) -> anyhow::Result<Vec<Row>> {
    let workloads = (containers / 1_000).max(2);
    let each = containers / workloads;
    let all = each * workloads;
    let (scheduler, agents) = (cluster.fleet.scheduler.id(), cluster.agents.id());
    let bare = (resident(scheduler)?, resident(agents)?);
    let bare_call = || (Method::GET, "/health".to_owned(), Bytes::new());
    let time = Duration::from_secs(plan.or(3, 1));
    let floor = as_fast_as_can_be(cluster.fleet.address(), DEPLOYS, time, bare_call).await?;
    let floor = Figure::one("s", containers as f64 / floor.per_second());

    let progress = bar(&format!("{workloads} deploys"), workloads as u64);
    let began = Instant::now();
    let mut acknowledged = Vec::new();
    let fleet = &cluster.fleet;
    let names: Vec<usize> = (0..workloads).collect();
    for some in names.chunks(DEPLOYS) {
        let deploys = some.iter().map(|number| deploy(fleet, format!("app-{number}"), each));
        acknowledged.extend(futures_util::future::try_join_all(deploys).await?);
        progress.inc(some.len() as u64);
    }
    progress.finish_and_clear();
    let all_acknowledged = Instant::now();
    let refused: u32 = acknowledged.iter().map(|(_, refused)| refused).sum();
    let acknowledged = acknowledged.into_iter().map(|(took, _)| took).collect();
    let progress = bar(&format!("{all} containers on {nodes} nodes"), all as u64);
    loop {
        // Whoever does not answer now does later, or it is given up.
        let running = running(&cluster.fleet).await.unwrap_or(progress.position());
        progress.set_position(running);
        if running >= all as u64 {
            break;
        }
        enough_memory().with_context(|| format!("{running} of {all} run"))?;
        ensure!(cluster.fleet.scheduler.ended().is_none(), "the scheduler ended: {running} run");
        ensure!(cluster.agents.ended().is_none(), "the agents ended: {running} run");
        ensure!(began.elapsed() < LIMIT, "only {running} run after {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let up = all_acknowledged.elapsed().as_secs_f64();
    let up_from_first = began.elapsed().as_secs_f64();
    progress.finish_and_clear();
    let memory = (resident(scheduler)?, resident(agents)?);
    let memory_each = |bytes: f64| Figure::one("B", bytes / all as f64);
    let one_each = "as many GET /health, 16 callers";
    Ok(vec![
        Row::new(format!("{all} containers, {nodes} nodes: acknowledged → all run"), seconds(up))
            .beside(one_each, floor.clone())
            .at_most(60.0),
        Row::new("… from the first request", seconds(up_from_first)).beside(one_each, floor),
        Row::new("… acknowledgement of each deploy", Figure::of("ms", acknowledged)),
        Row::new("… deploys tried again (503, no answer)", Figure::one("", f64::from(refused))),
        Row::new("… scheduler, per container", memory_each(memory.0 - bare.0))
            .beside("all agents, per container", memory_each(memory.1 - bare.1))
            .at_most(1024.0),
        Row::new("… scheduler, all", Figure::one("MB", memory.0 / 1e6))
            .beside("all agents", Figure::one("MB", memory.1 / 1e6)),
        Row::new("… descriptors, scheduler", Figure::one("", descriptors(scheduler)?))
            .beside("all agents", Figure::one("", descriptors(agents)?))
            .at_most(20_000.0),
    ])
}

fn seconds(seconds: f64) -> Figure {
    Figure::one("s", seconds)
}

/// How many files and connections a process has open.
fn descriptors(process: u32) -> anyhow::Result<f64> {
    Ok(std::fs::read_dir(format!("/proc/{process}/fd"))?.count() as f64)
}

/// Processor time while nothing happens.
async fn at_rest(plan: &Plan, cluster: &Cluster) -> anyhow::Result<Vec<Row>> {
    tokio::time::sleep(Duration::from_secs(plan.or(10, 0))).await;
    let processes = [cluster.fleet.scheduler.id(), cluster.agents.id()];
    let mut busy: [Vec<f64>; 2] = Default::default();
    // A few rounds of heartbeats each.
    let pause = Duration::from_secs(plan.or(6, 1));
    for _ in 0..plan.or(3, 1) {
        let before = [cpu_seconds(processes[0])?, cpu_seconds(processes[1])?];
        tokio::time::sleep(pause).await;
        for ((busy, process), before) in busy.iter_mut().zip(processes).zip(before) {
            busy.push((cpu_seconds(process)? - before) / pause.as_secs_f64() * 100.0);
        }
    }
    let [scheduler, agents] = busy.map(|values| Figure::of("%", values));
    Ok(vec![Row::new("… scheduler at rest", scheduler).beside("all agents", agents)])
}

/// One small workload at a time, and a sync of the same disk in between.
async fn small_deploys(plan: &Plan, fleet: &Fleet) -> anyhow::Result<Vec<Row>> {
    let number = AtomicUsize::new(0);
    let small = || {
        let name = format!("small-{}", number.fetch_add(1, Ordering::Relaxed));
        let spec = json!({ "name": name, "image": "shop/app:1", "replicas": 1 });
        (Method::POST, "/deploy".to_owned(), Bytes::from(spec.to_string()))
    };
    let directory = fleet.directory.path();
    let (deploys, syncs) = in_turn(fleet.address(), directory, plan.or(50, 2), small).await?;
    let row = Row::new("… a small deploy is acknowledged", deploys.each());
    Ok(vec![row.beside("4 KiB written and synced", syncs.each()).at_most(50.0)])
}

/// What an acknowledged deploy took, and how often it was refused before (503), or
/// nobody answered.
async fn deploy(fleet: &Fleet, name: String, replicas: usize) -> anyhow::Result<(f64, u32)> {
    let spec = json!({ "name": name, "image": "shop/app:1", "replicas": replicas });
    let client = fleet.client.clone().with_timeout(LIMIT);
    let began = Instant::now();
    let mut refused = 0;
    loop {
        match client.deploy(Bytes::from(spec.to_string())).await {
            Ok(_) => return Ok((ms_since(began), refused)),
            Err(ClientError::Api(error)) if error.status == 503 && began.elapsed() < LIMIT => {
                refused += 1;
                let after = error.retry_after_seconds.unwrap_or(1);
                tokio::time::sleep(Duration::from_secs(after.into())).await;
            }
            // On a machine with other work to do.
            Err(ClientError::Unreachable { .. } | ClientError::TimedOut { .. })
                if began.elapsed() < LIMIT =>
            {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn running(fleet: &Fleet) -> anyhow::Result<u64> {
    let all = fleet.client.clone().with_timeout(LIMIT).workloads().await?;
    Ok(all.iter().map(|workload| u64::from(workload.running)).sum())
}

fn enough_memory() -> anyhow::Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: f64 = line.unwrap_or_default().trim().trim_end_matches(" kB").parse()?;
    ensure!(kib * 1024.0 > SPARE, "only {:.1} GB of memory are left", kib / 1e6);
    Ok(())
}

/// Kills one node after the other. Somebody deploys all the while: should deciding
/// take long, they wait for it.
async fn deaths(cluster: &mut Cluster) -> anyhow::Result<Vec<Row>> {
    for (name, _) in &cluster.victims {
        // What is deployed meanwhile is not to run where it is counted.
        cluster.fleet.post(&format!("/nodes/{name}/cordon"), None).await;
    }
    let bar = bar("nodes die", cluster.victims.len() as u64);
    let mut had = 0;
    let (mut silence, mut ordered, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let mut waits = Vec::new();
    for (name, process) in &mut cluster.victims {
        let death = tokio::select! {
            death = death(&cluster.fleet, name, process) => death?,
            failed = keep_deploying(&cluster.fleet, &mut waits) => {
                failed?;
                anyhow::bail!("nobody deploys any more")
            }
        };
        had = death.had;
        silence.push(death.silence);
        ordered.push(death.ordered);
        again.push(death.again);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let one = Figure::one("ms", 100.0);
    Ok(vec![
        Row::new("… a node is killed → told to be dead", Figure::of("s", silence))
            .beside("silence that counts", seconds(9.0)),
        Row::new(
            format!("… dead → the replacements of its {had} ordered"),
            Figure::of("ms", ordered),
        )
        .at_most(1_000.0),
        Row::new("… dead → they run elsewhere", Figure::of("ms", again))
            .beside("the simulated start of one", one),
        Row::new("… deploys meanwhile are acknowledged", Figure::of("ms", waits)).at_most(50.0),
    ])
}

async fn keep_deploying(fleet: &Fleet, waits: &mut Vec<f64>) -> anyhow::Result<()> {
    for number in 0.. {
        waits.push(deploy(fleet, format!("busy-{}", number % 4), 1 + number % 2).await?.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// How the death of a node went.
struct Death {
    /// Instances that it had.
    had: usize,
    /// Seconds from its end until it was called dead.
    silence: f64,
    /// Milliseconds from then until all replacements were ordered.
    ordered: f64,
    /// And until they ran.
    again: f64,
}

/// Kills a node and follows the events until all that it had runs elsewhere. When an
/// event happened is when a reader is told.
async fn death(fleet: &Fleet, name: &str, process: &mut Process) -> anyhow::Result<Death> {
    let nodes = fleet.client.nodes().await?;
    let it = nodes.iter().find(|node| node.id.as_str() == name).context("no victim")?;
    let had = it.instances as usize;
    ensure!(had > 0, "{name} has nothing to lose");
    let mut events = fleet.client.events(None, None, true).await?;
    let killed = Instant::now();
    process.kill();
    let mut dead = None;
    let mut all_ordered = None;
    let (mut ordered, mut again) = (BTreeSet::new(), 0);
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), events.next_line()).await;
        let line = line.with_context(|| {
            format!("dead: {}, ordered {}, again {again} of {had}", dead.is_some(), ordered.len())
        })?;
        let event: EventView = serde_json::from_slice(&line?.context("the events ended")?)?;
        let is_busy = event.workload.as_ref().is_some_and(|w| w.as_str().starts_with("busy"));
        let is_ours = event.instance.as_ref().is_some_and(|id| ordered.contains(id));
        match (event.kind.as_str(), dead) {
            ("NodeDead", None) if event.node.as_ref().is_some_and(|n| n.as_str() == name) => {
                dead = Some(Instant::now());
            }
            ("InstanceOrdered", Some(_)) if !is_busy => {
                ordered.extend(event.instance);
                if ordered.len() == had {
                    all_ordered.get_or_insert_with(Instant::now);
                }
            }
            ("InstanceRunning", Some(dead)) if is_ours => {
                again += 1;
                if let (true, Some(at)) = (again == had, all_ordered) {
                    return Ok(Death {
                        had,
                        silence: dead.duration_since(killed).as_secs_f64(),
                        ordered: at.duration_since(dead).as_secs_f64() * 1e3,
                        again: ms_since(dead),
                    });
                }
            }
            _ => {}
        }
    }
}
