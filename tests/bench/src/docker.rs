//! Deploy, scale and delete on this machine's Docker, in turn with the raw Docker
//! API and the very same containers.

use anyhow::Context as _;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use kube_lite::model::wire::labels::WORKLOAD;
use kube_lite_testkit::Sandbox;
use kube_lite_testkit::sandbox::{Api, hello};

use crate::daemon::{Daemon, unique};
use crate::report::{Figure, PART, Row, attempt};
use crate::run::{Plan, bar, wall_ns};

/// Measures.
///
/// # Errors
/// When something did not work.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let daemon = Daemon::follow(Docker::connect_with_defaults()?);
    let sandbox = Sandbox::start(plan.binary()?).await;
    let outcome = measure(plan, &daemon, &sandbox).await;
    daemon.clean().await;
    outcome
}

async fn measure(plan: &Plan, daemon: &Daemon, api: &Api) -> anyhow::Result<Vec<Row>> {
    let sizes = plan.or(vec![1, 10, 30], vec![2]);
    let most = *sizes.last().context("no sizes")?;
    let pattern = pattern(daemon, api).await?;
    let connections =
        daemon.best_connections(&pattern, most, plan.or(&[2, 4, 8, 16], &[2])).await?;
    let floor = format!("Docker's API, {connections} connections");
    let floor = Floor { body: pattern, connections, name: floor };
    let mut rows = Vec::new();
    for size in &sizes {
        let part = deploys(plan, daemon, api, &floor, *size, *size == most);
        rows.extend(attempt(&format!("deploy {size}"), PART, part).await);
    }
    rows.extend(attempt("scale", PART, scale(plan, daemon, api, &floor)).await);
    Ok(rows)
}

/// What is to be done by hand: as many of these at a time.
struct Floor {
    body: ContainerCreateBody,
    connections: usize,
    name: String,
}

async fn deploys(
    plan: &Plan,
    daemon: &Daemon,
    api: &Api,
    floor: &Floor,
    size: usize,
    most: bool,
) -> anyhow::Result<Vec<Row>> {
    let bar = bar(&format!("deploy and delete {size}"), plan.rounds as u64);
    let (mut ours, mut raw) = (Rounds::default(), Rounds::default());
    for round in 0..plan.rounds {
        // Whoever comes second finds Docker as the first has left it.
        for turn in 0..2 {
            match (round + turn) % 2 {
                0 => ours.add(deploy(daemon, api, size).await?),
                _ => raw.add(by_hand(daemon, &floor.body, size, floor.connections).await?),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let up = Row::new(format!("deploy {size}"), ours.up()).beside(&floor.name, raw.up());
    let down = Row::new(format!("delete {size}"), ours.down()).beside(&floor.name, raw.down());
    Ok(if most { vec![up.at_most_times(1.05), down] } else { vec![up] })
}

/// What starting and ending took, round by round, milliseconds.
#[derive(Debug, Default)]
pub struct Rounds {
    up: Vec<f64>,
    down: Vec<f64>,
}

impl Rounds {
    /// One round more.
    pub fn add(&mut self, (up, down): (f64, f64)) {
        self.up.push(up);
        self.down.push(down);
    }

    /// Until all had started.
    pub fn up(&self) -> Figure {
        Figure::of("ms", self.up.clone())
    }

    /// Until all were gone.
    pub fn down(&self) -> Figure {
        Figure::of("ms", self.down.clone())
    }
}

/// What Docker is asked for when kube-lite starts the sample app.
///
/// # Errors
/// When it does not start.
pub async fn pattern(daemon: &Daemon, api: &Api) -> anyhow::Result<ContainerCreateBody> {
    let name = unique("like");
    api.deploy(&hello(&name, 1)).await;
    api.ready(&name, 1).await;
    let body = daemon.like((WORKLOAD, &name)).await?;
    let began = wall_ns();
    api.client.delete(&name).await?;
    daemon.took((WORKLOAD, &name), "destroy", 1, began).await?;
    Ok(body)
}

/// From a deploy until all have started; from its delete until all are gone.
///
/// # Errors
/// When that does not happen.
pub async fn deploy(daemon: &Daemon, api: &Api, count: usize) -> anyhow::Result<(f64, f64)> {
    let name = unique("web");
    let spec = hello(&name, u32::try_from(count)?);
    let began = wall_ns();
    api.deploy(&spec).await;
    let up = daemon.took((WORKLOAD, &name), "start", count, began).await?;
    api.ready(&name, u32::try_from(count)?).await;
    let began = wall_ns();
    api.client.delete(&name).await?;
    let down = daemon.took((WORKLOAD, &name), "destroy", count, began).await?;
    Ok((up, down))
}

/// The same by hand.
///
/// # Errors
/// When that does not happen.
pub async fn by_hand(
    daemon: &Daemon,
    body: &ContainerCreateBody,
    count: usize,
    connections: usize,
) -> anyhow::Result<(f64, f64)> {
    let run = unique("raw");
    let (up, names) = daemon.start(body, &run, count, connections).await?;
    let down = daemon.end(&run, names, connections).await?;
    Ok((up, down))
}

/// Twenty more, while ten run.
async fn scale(plan: &Plan, daemon: &Daemon, api: &Api, floor: &Floor) -> anyhow::Result<Vec<Row>> {
    let (from, to) = plan.or((10_u32, 30_u32), (1, 2));
    let more = (to - from) as usize;
    let bar = bar("scale", plan.rounds as u64);
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let name = unique("scaled");
    api.deploy(&hello(&name, from)).await;
    api.ready(&name, from).await;
    for _ in 0..plan.rounds {
        let began = wall_ns();
        api.client.scale(&name, to).await?;
        ours.push(daemon.took((WORKLOAD, &name), "start", more, began).await?);
        api.ready(&name, to).await;
        let began = wall_ns();
        api.client.scale(&name, from).await?;
        daemon.took((WORKLOAD, &name), "destroy", more, began).await?;
        api.ready(&name, from).await;
        raw.push(by_hand(daemon, &floor.body, more, floor.connections).await?.0);
        bar.inc(1);
    }
    bar.finish_and_clear();
    api.client.delete(&name).await?;
    let row = Row::new(format!("scale {from} → {to}"), Figure::of("ms", ours));
    Ok(vec![row.beside(&floor.name, Figure::of("ms", raw))])
}
