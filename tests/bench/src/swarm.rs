//! Swarm and kube-lite in turn on one Docker daemon, which is the benchmark's own,
//! in a network of its own. Nothing is published: in such a network Swarm cannot.

use bollard::models::{
    ServiceSpec, ServiceSpecMode, ServiceSpecModeReplicated, SwarmInitRequest, TaskSpec,
    TaskSpecContainerSpec, TaskSpecRestartPolicy,
};
use bollard::query_parameters::KillContainerOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use kube_lite::model::wire::labels::WORKLOAD;
use kube_lite_testkit::Sandbox;
use kube_lite_testkit::sandbox::{Api, IMAGE, hello};
use kube_lite_testkit::second::{SecondDocker, apart, impossible};
use tokio::sync::oneshot;

use crate::daemon::{Daemon, unique};
use crate::docker::{Rounds, by_hand};
use crate::report::{Figure, PART, Row, attempt};
use crate::run::{Plan, bar, ms_between, wall_ns};

const SERVICE: &str = "com.docker.swarm.service.name";
const SECOND_NS: i64 = 1_000_000_000;

/// Measures.
///
/// # Errors
/// When something did not work, or this machine cannot have a second daemon.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = impossible() {
        anyhow::bail!("there can be no second Docker daemon: {why}");
    }
    let plan = plan.clone();
    let (sender, receiver) = oneshot::channel();
    // Should nobody wait any more, everything there ends, too.
    let (_waiting, given_up) = oneshot::channel::<()>();
    let network = tokio::task::spawn_blocking(move || {
        apart(move || async move {
            tokio::select! {
                found = measure(&plan) => drop(sender.send(found)),
                _ = given_up => {}
            }
        });
    });
    match receiver.await {
        Ok(found) => {
            network.await?;
            found
        }
        Err(_) => match network.await {
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            _ => anyhow::bail!("it ended without a word"),
        },
    }
}

async fn measure(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let second = SecondDocker::start(&[IMAGE]).await;
    let host = second.docker_host();
    let socket = host.trim_start_matches("unix://");
    let daemon = Daemon::follow(Docker::connect_with_unix(socket, 120, API_DEFAULT_VERSION)?);
    let init = SwarmInitRequest {
        listen_addr: Some("127.0.0.1:2377".to_owned()),
        advertise_addr: Some("127.0.0.1".to_owned()),
        ..SwarmInitRequest::default()
    };
    daemon.docker.init_swarm(init).await?;
    let sandbox =
        Sandbox::start_with(plan.binary()?, &["--nodes", "3"], &[("DOCKER_HOST", &host)]).await;
    sandbox.able(3).await;
    let image = daemon.docker.inspect_image(IMAGE).await?.id.unwrap_or_default();
    let rows = compare(plan, &daemon, &sandbox, &image).await;
    let mut sandbox = sandbox;
    sandbox.interrupt();
    rows
}

async fn compare(plan: &Plan, daemon: &Daemon, api: &Api, image: &str) -> anyhow::Result<Vec<Row>> {
    let size = plan.or(30, 2);
    let first = unique("like");
    api.deploy(&spec(&first, 1)).await;
    api.ready(&first, 1).await;
    let body = daemon.like((WORKLOAD, &first)).await?;
    api.client.delete(&first).await?;
    let connections = daemon.best_connections(&body, size, plan.or(&[2, 4, 8, 16], &[2])).await?;
    let bar = bar("beside Swarm", plan.rounds as u64);
    let (mut ours, mut swarm, mut raw) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..plan.rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => ours.add(deploy(daemon, api, size).await?),
                1 => swarm.add(service(daemon, image, size).await?),
                _ => raw.add(by_hand(daemon, &body, size, connections).await?),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let floor = format!("Docker's API, {connections} connections");
    let mut rows = vec![
        Row::new(format!("deploy {size}, no ports"), ours.up()).beside("Swarm", swarm.up()),
        Row::new("the same", ours.up()).beside(floor.clone(), raw.up()).at_most_times(1.05),
        Row::new(format!("delete {size}"), ours.down()).beside("Swarm", swarm.down()),
        Row::new("the same", ours.down()).beside(floor, raw.down()),
    ];
    let what = "die → replacement's start";
    rows.extend(attempt(what, PART, deaths(plan, daemon, api, image)).await);
    Ok(rows)
}

fn spec(name: &str, replicas: u32) -> serde_json::Value {
    let mut spec = hello(name, replicas);
    spec["ports"] = serde_json::json!([]);
    spec
}

async fn deploy(daemon: &Daemon, api: &Api, count: usize) -> anyhow::Result<(f64, f64)> {
    let name = unique("web");
    let began = wall_ns();
    api.deploy(&spec(&name, u32::try_from(count)?)).await;
    let up = daemon.took((WORKLOAD, &name), "start", count, began).await?;
    api.ready(&name, u32::try_from(count)?).await;
    let began = wall_ns();
    api.client.delete(&name).await?;
    Ok((up, daemon.took((WORKLOAD, &name), "destroy", count, began).await?))
}

/// A service of Swarm's, by the image's id and restarted at once: its best.
async fn create(daemon: &Daemon, name: &str, image: &str, count: usize) -> anyhow::Result<()> {
    let spec = ServiceSpec {
        name: Some(name.to_owned()),
        task_template: Some(TaskSpec {
            container_spec: Some(TaskSpecContainerSpec {
                image: Some(image.to_owned()),
                stop_grace_period: Some(2 * SECOND_NS),
                ..TaskSpecContainerSpec::default()
            }),
            restart_policy: Some(TaskSpecRestartPolicy {
                delay: Some(0),
                ..TaskSpecRestartPolicy::default()
            }),
            ..TaskSpec::default()
        }),
        mode: Some(ServiceSpecMode {
            replicated: Some(ServiceSpecModeReplicated { replicas: Some(i64::try_from(count)?) }),
            ..ServiceSpecMode::default()
        }),
        ..ServiceSpec::default()
    };
    daemon.docker.create_service(spec, None).await?;
    Ok(())
}

async fn service(daemon: &Daemon, image: &str, count: usize) -> anyhow::Result<(f64, f64)> {
    let name = unique("service");
    let began = wall_ns();
    create(daemon, &name, image, count).await?;
    let up = daemon.took((SERVICE, &name), "start", count, began).await?;
    let began = wall_ns();
    daemon.docker.delete_service(&name).await?;
    Ok((up, daemon.took((SERVICE, &name), "destroy", count, began).await?))
}

/// From `die` to the next `start`, for a few of each.
async fn deaths(plan: &Plan, daemon: &Daemon, api: &Api, image: &str) -> anyhow::Result<Vec<Row>> {
    let count = plan.or(10, 1);
    let (ours, theirs) = (unique("dies"), unique("service-dies"));
    let began = wall_ns();
    api.deploy(&spec(&ours, u32::try_from(count)?)).await;
    api.ready(&ours, u32::try_from(count)?).await;
    create(daemon, &theirs, image, count).await?;
    daemon.took((SERVICE, &theirs), "start", count, began).await?;
    let (mut healed, mut restarted) = (Vec::new(), Vec::new());
    let firsts = |label: (&str, &str)| daemon.events(label, "start", began);
    let (mine, swarms) = (firsts((WORKLOAD, &ours)), firsts((SERVICE, &theirs)));
    for (one, other) in mine.iter().zip(&swarms) {
        healed.push(die(daemon, (WORKLOAD, &ours), &one.container).await?);
        restarted.push(die(daemon, (SERVICE, &theirs), &other.container).await?);
    }
    api.client.delete(&ours).await?;
    daemon.docker.delete_service(&theirs).await?;
    let row = Row::new("die → replacement's start", Figure::of("ms", healed));
    Ok(vec![row.beside("Swarm, restart delay 0", Figure::of("ms", restarted))])
}

async fn die(daemon: &Daemon, label: (&str, &str), container: &str) -> anyhow::Result<f64> {
    let began = wall_ns();
    let options = KillContainerOptionsBuilder::default().signal("KILL").build();
    daemon.docker.kill_container(container, Some(options)).await?;
    daemon.took(label, "start", 1, began).await?;
    let died = daemon.events(label, "die", began);
    let started = daemon.events(label, "start", began);
    Ok(ms_between(died[0].at, started[0].at))
}
