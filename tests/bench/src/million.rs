//! 5,000 simulated nodes and 1,000,000 containers: a scheduler and the agents in
//! two processes, every order and heartbeat over HTTP on loopback. While all that
//! is up, one more node, in a process of its own, is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use kube_lite::client::ClientError;
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
    let refused: u32 = acknowledged.iter().map(|(_, refused)| refused).sum();
    let acknowledged = acknowledged.into_iter().map(|(took, _)| took).collect();
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
        Row::new("… deploys refused meanwhile (503)", Figure::one("", f64::from(refused))),
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
        small.push(deploy(&fleet, format!("small-{number}"), 1).await?.0);
    }
    rows.push(Row::new("… a small deploy is acknowledged", Figure::of("ms", small)).aim("≤ 50 ms"));
    rows.extend(node_death(&fleet, &mut victim).await?);
    Ok(rows)
}

/// What an acknowledged deploy took, and how often it was refused before (503).
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

/// Kills a node and follows the events until all that it had runs elsewhere.
/// Somebody deploys all the while: should deciding take long, they wait for it. (A
/// decision is told of together with its cause, so the two have no time between.)
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
    let follow = async {
        let mut dead = None;
        let mut ordered = BTreeSet::new();
        let mut again = 0;
        loop {
            let line = tokio::time::timeout(Duration::from_secs(60), events.next_line()).await;
            let line = line.context("no more events")??.context("the events ended")?;
            let event: EventView = serde_json::from_slice(&line)?;
            let ours = event.instance.as_ref().is_some_and(|id| ordered.contains(id));
            match (event.kind.as_str(), dead) {
                ("NodeDead", None)
                    if event.node.as_ref().is_some_and(|n| n.as_str() == "victim-1") =>
                {
                    dead = Some(Instant::now());
                }
                ("InstanceOrdered", Some(_))
                    if !event.workload.as_ref().is_some_and(|w| w.as_str().starts_with("busy")) =>
                {
                    ordered.extend(event.instance);
                }
                ("InstanceRunning", Some(dead)) if ours => {
                    again += 1;
                    if again == had {
                        return anyhow::Ok((dead, ms_since(dead)));
                    }
                }
                _ => {}
            }
        }
    };
    let mut waits = Vec::new();
    let busy = async {
        for number in 0.. {
            waits.push(deploy(fleet, format!("busy-{}", number % 4), 1 + number % 2).await?.0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    let (dead, again) = tokio::select! {
        found = follow => found?,
        failed = busy => { failed?; anyhow::bail!("nobody deploys any more") }
    };
    let silence = dead.duration_since(killed).as_secs_f64();
    Ok(vec![
        Row::new("a node is killed → told to be dead", Figure::one("s", silence))
            .beside("silence that counts", Figure::one("s", 9.0)),
        Row::new(format!("… told → its {had} all run elsewhere"), Figure::one("ms", again))
            .beside("the simulated start of one", Figure::one("ms", 100.0))
            .aim("ordered ≤ 1000 ms"),
        Row::new("… deploys meanwhile are acknowledged", Figure::of("ms", waits)).aim("≤ 50 ms"),
    ])
}
