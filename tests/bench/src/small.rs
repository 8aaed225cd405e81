//! Cold start, memory, size.

use std::path::{Path, PathBuf};
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
    let size = |path: &Path| anyhow::Ok(Figure::one("MB", path.metadata()?.len() as f64 / MB));
    let row = Row::new("size of the binary", size(&plan.binary)?);
    let mut rows = vec![match program("dockerd") {
        Some(path) => row.beside("dockerd's", size(&path)?),
        None => row,
    }];
    rows[0] = rows[0].clone().at_most(12.0);
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
            .at_most(300.0),
    );
    let mut fleet = Fleet::start(binary, 1).await;
    let docker: Vec<u32> = [named("dockerd"), named("containerd")].concat();
    let (scheduler, agent) = (fleet.scheduler.id(), fleet.agent("n1").id());
    rows.extend(at_rest(plan, &[scheduler, agent], &docker, "idle").await?);
    bar.inc(1);
    let count = plan.or(30, 2);
    fleet.deploy(&hello("memory", count)).await;
    fleet.ready("memory", count).await;
    let with = format!("{count} containers");
    rows.extend(at_rest(plan, &[scheduler, agent], &docker, &with).await?);
    bar.finish_and_clear();
    Ok(rows)
}

/// Memory and processor time of a scheduler, an agent, and Docker's processes while
/// nothing happens.
async fn at_rest(
    plan: &Plan,
    ours: &[u32; 2],
    docker: &[u32],
    when: &str,
) -> anyhow::Result<Vec<Row>> {
    // What has just started first comes to rest.
    tokio::time::sleep(Duration::from_secs(plan.or(5, 0))).await;
    let mut memory: [Vec<f64>; 3] = Default::default();
    let mut busy: [Vec<f64>; 2] = Default::default();
    let all = |processes: &[u32]| -> f64 {
        processes.iter().filter_map(|process| cpu_seconds(*process).ok()).sum()
    };
    let pause = Duration::from_secs(plan.or(4, 1));
    for _ in 0..plan.rounds {
        let before = [all(ours), all(docker)];
        tokio::time::sleep(pause).await;
        for (busy, (process, before)) in busy.iter_mut().zip([ours, docker].iter().zip(before)) {
            busy.push((all(process) - before) / pause.as_secs_f64() * 100.0);
        }
        memory[0].push(resident(ours[0])? / MB);
        memory[1].push(resident(ours[1])? / MB);
        memory[2].push(docker.iter().filter_map(|id| resident(*id).ok()).sum::<f64>() / MB);
    }
    let [scheduler, agent, dockers] = memory.map(|values| Figure::of("MB", values));
    let [busy, dockers_busy] = busy.map(|values| Figure::of("%", values));
    let row = |what: &str, ours: Figure, theirs: Figure| {
        Row::new(format!("{what}, {when}"), ours).beside("dockerd and containerd", theirs)
    };
    let aimed = |row: Row, limit| if when == "idle" { row.at_most(limit) } else { row };
    Ok(vec![
        aimed(row("memory, scheduler", scheduler, dockers.clone()), 12.0),
        aimed(row("memory, agent", agent, dockers), 10.0),
        row("processor, both", busy, dockers_busy),
    ])
}

/// Where a program is.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
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
