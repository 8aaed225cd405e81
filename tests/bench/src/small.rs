//! Cold start, memory, size.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube_lite_testkit::Process;
use kube_lite_testkit::sandbox::{Fleet, hello};

use crate::report::{Figure, Row};
use crate::run::{Plan, bar, cpu_seconds, ms_since, named, resident};

/// A figure of memory is in these, as in the aims.
const MB: f64 = 1e6;

/// Measures.
///
/// # Errors
/// When something did not work.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let binary = plan.binary()?;
    let size = std::fs::metadata(&plan.binary)?.len() as f64 / MB;
    let mut rows = vec![Row::new("size of the binary", Figure::one("MB", size)).aim("≤ 12 MB")];
    let bar = bar("cold start, memory", plan.rounds as u64 + 2);
    let (mut cold, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        cold.push(cold_start(binary).await?);
        let began = Instant::now();
        Command::new(binary).arg("--version").stdout(Stdio::null()).status()?;
        bare.push(ms_since(began));
        bar.inc(1);
    }
    rows.push(
        Row::new("dev, 3 nodes: start → all alive", Figure::of("ms", cold))
            .beside("kube-lite --version", Figure::of("ms", bare))
            .aim("≤ 300 ms"),
    );
    let mut fleet = Fleet::start(binary, 1).await;
    let rest = Duration::from_secs(plan.or(10, 1));
    tokio::time::sleep(rest).await;
    bar.inc(1);
    let count = plan.or(30, 2);
    let (scheduler, agent) = (fleet.scheduler.id(), fleet.agent("n1").id());
    let idle = (resident(scheduler)? / MB, resident(agent)? / MB);
    fleet.deploy(&hello("memory", count)).await;
    fleet.ready("memory", count).await;
    let busy = |processes: &[u32]| processes.iter().map(|id| cpu_seconds(*id)).sum();
    let docker: Vec<u32> = [named("dockerd"), named("containerd")].concat();
    let before: (anyhow::Result<f64>, anyhow::Result<f64>) =
        (busy(&[scheduler, agent]), busy(&docker));
    tokio::time::sleep(rest).await;
    let share = |after: f64, before: f64| (after - before) / rest.as_secs_f64() * 100.0;
    let ours = share(busy(&[scheduler, agent])?, before.0?);
    let theirs = share(busy(&docker)?, before.1?);
    let docker_memory: f64 = docker.iter().filter_map(|id| resident(*id).ok()).sum();
    let beside =
        |row: Row| row.beside("dockerd and containerd", Figure::one("MB", docker_memory / MB));
    rows.push(Row::new("memory, scheduler, idle", Figure::one("MB", idle.0)).aim("≤ 12 MB"));
    rows.push(Row::new("memory, agent, idle", Figure::one("MB", idle.1)).aim("≤ 10 MB"));
    let with = |process| anyhow::Ok(Figure::one("MB", resident(process)? / MB));
    rows.push(beside(Row::new(format!("memory, scheduler, {count} containers"), with(scheduler)?)));
    rows.push(beside(Row::new(format!("memory, agent, {count} containers"), with(agent)?)));
    rows.push(
        Row::new(format!("processor, both, {count} containers"), Figure::one("%", ours))
            .beside("dockerd and containerd", Figure::one("%", theirs)),
    );
    bar.finish_and_clear();
    Ok(rows)
}

/// Milliseconds from the start of `dev` until its API answers and all nodes can
/// run containers.
async fn cold_start(binary: &str) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let listen = format!("127.0.0.1:{port}");
    let client = kube_lite::client::Client::new(&listen)?;
    let mut command = Command::new(binary);
    command.args(["dev", "--listen", &listen, "--data-dir"]).arg(directory.path());
    let began = Instant::now();
    let mut process = Process::start("kube-lite dev", &mut command);
    let took = loop {
        let nodes = client.nodes().await.unwrap_or_default();
        let able = nodes.iter().filter(|n| n.status.as_str() == "alive" && n.message.is_none());
        if able.count() == 3 {
            break ms_since(began);
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "dev does not come up");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    process.signal(nix::sys::signal::Signal::SIGINT);
    process.wait(Duration::from_secs(20));
    Ok(took)
}
