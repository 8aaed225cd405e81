//! 5,000 simulated nodes and 1,000,000 containers: a scheduler and the agents in
//! two processes, every order and heartbeat over HTTP on loopback. While all that
//! is up, one more node, in a process of its own, is killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use kube_lite::model::view::EventView;
use kube_lite_testkit::sandbox::Fleet;
use serde_json::json;

use crate::api::{able, simulated};
use crate::report::{Figure, Row};
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
    let workloads = (containers / 1_000).max(2);
    let each = containers / workloads;
    let mut fleet = Fleet::scheduler_only(plan.binary()?).await;
    let agents = simulated(plan.binary()?, &fleet.url, "s", nodes - 1, &[])?;
    let mut victim = simulated(plan.binary()?, &fleet.url, "victim", 1, &[])?;
    able(&fleet, nodes).await.with_context(|| agents.output())?;
    let bare = resident(fleet.scheduler.id())?;
    let bar = bar(&format!("{containers} containers on {nodes} nodes"), containers as u64);

    let began = Instant::now();
    let mut acknowledged = Vec::new();
    let names: Vec<usize> = (0..workloads).collect();
    for some in names.chunks(DEPLOYS) {
        let deploys = some.iter().map(|number| deploy(&fleet, format!("app-{number}"), each));
        acknowledged.extend(futures_util::future::try_join_all(deploys).await?);
    }
    let all_acknowledged = Instant::now();
    loop {
        let running = running(&fleet).await?;
        bar.set_position(running);
        if running >= (each * workloads) as u64 {
            break;
        }
        enough_memory().with_context(|| format!("{running} of {containers} run"))?;
        ensure!(fleet.scheduler.ended().is_none(), "the scheduler ended: {running} run");
        ensure!(began.elapsed() < LIMIT, "only {running} run after {} s", LIMIT.as_secs());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let up = all_acknowledged.elapsed().as_secs_f64();
    let up_from_first = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let n = format!("{containers} containers, {nodes} nodes");
    let memory = resident(fleet.scheduler.id())?;
    let memory_each = |bytes: f64| Figure::one("B", bytes / containers as f64);
    let mut rows = vec![
        Row::new(format!("{n}: acknowledged → all run"), Figure::one("s", up)).aim("≤ 60 s"),
        Row::new("… from the first request", Figure::one("s", up_from_first)),
        Row::new("… acknowledgement of each deploy", Figure::of("ms", acknowledged)),
        Row::new("… scheduler, per container", memory_each(memory - bare)).aim("≤ 1024 B"),
        Row::new("… scheduler, all", Figure::one("MB", memory / 1e6))
            .beside("all agents", Figure::one("MB", resident(agents.id())? / 1e6)),
    ];

    let rest = Duration::from_secs(plan.or(10, 1));
    tokio::time::sleep(rest).await;
    let before = (cpu_seconds(fleet.scheduler.id())?, cpu_seconds(agents.id())?);
    tokio::time::sleep(rest).await;
    let share = |process: u32, before: f64| {
        anyhow::Ok((cpu_seconds(process)? - before) / rest.as_secs_f64() * 100.0)
    };
    rows.push(
        Row::new("… scheduler at rest", Figure::one("%", share(fleet.scheduler.id(), before.0)?))
            .beside("all agents", Figure::one("%", share(agents.id(), before.1)?)),
    );
    let mut small = Vec::new();
    for number in 0..plan.or(20, 2) {
        small.push(deploy(&fleet, format!("small-{number}"), 1).await?);
    }
    rows.push(Row::new("… a small deploy is acknowledged", Figure::of("ms", small)).aim("≤ 50 ms"));
    rows.extend(node_death(&fleet, &mut victim).await?);
    Ok(rows)
}

async fn deploy(fleet: &Fleet, name: String, replicas: usize) -> anyhow::Result<f64> {
    let spec = json!({ "name": name, "image": "shop/app:1", "replicas": replicas });
    let began = Instant::now();
    let client = fleet.client.clone().with_timeout(LIMIT);
    client.deploy(Bytes::from(spec.to_string())).await?;
    Ok(ms_since(began))
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

/// Kills a node and follows the events until all that it had runs elsewhere.
async fn node_death(
    fleet: &Fleet,
    victim: &mut kube_lite_testkit::Process,
) -> anyhow::Result<Vec<Row>> {
    let nodes = fleet.client.nodes().await?;
    let it = nodes.iter().find(|node| node.id.as_str() == "victim-1").context("no victim")?;
    let had = it.instances as usize;
    let mut events = fleet.client.events(None, None, true).await?;
    let killed = Instant::now();
    victim.kill();
    let mut dead = None;
    let (mut ordered, mut again) = (Vec::new(), Vec::new());
    let mut ids = std::collections::BTreeSet::new();
    while again.len() < had {
        let line = tokio::time::timeout(Duration::from_secs(60), events.next_line()).await;
        let line = line.context("no more events")??.context("the events ended")?;
        let event: EventView = serde_json::from_slice(&line)?;
        let about = |id: &str| event.node.as_ref().is_some_and(|node| node.as_str() == id);
        match (event.kind.as_str(), dead) {
            ("NodeDead", None) if about("victim-1") => dead = Some(Instant::now()),
            ("InstanceOrdered", Some(dead)) => {
                ordered.push(ms_since(dead));
                ids.extend(event.instance);
            }
            ("InstanceRunning", Some(dead))
                if event.instance.as_ref().is_some_and(|id| ids.contains(id)) =>
            {
                again.push(ms_since(dead));
            }
            _ => {}
        }
    }
    ensure!(ordered.len() >= had, "only {} of {had} were ordered", ordered.len());
    let last = |all: &[f64]| Figure::one("ms", all[had - 1]);
    let silence = killed.elapsed().as_secs_f64() - again[had - 1] / 1e3;
    Ok(vec![
        Row::new("a node is killed → declared dead", Figure::one("s", silence)),
        Row::new(format!("… → {had} replacements ordered"), last(&ordered)).aim("≤ 1000 ms"),
        Row::new("… → all run", last(&again)),
    ])
}
