//! Deploy, scale and delete on this machine's Docker, in turn with the raw Docker
//! API and the very same containers.

use anyhow::Context as _;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use kube_lite::model::wire::labels::WORKLOAD;
use kube_lite_testkit::Sandbox;
use kube_lite_testkit::sandbox::{Api, hello};

use crate::daemon::{Daemon, unique};
use crate::report::{Figure, Row};
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
    let bar = bar("deploy and delete", (sizes.len() * plan.rounds) as u64);
    let mut rows = Vec::new();
    for size in &sizes {
        let mut ours = Rounds::default();
        let mut raw = Rounds::default();
        for round in 0..plan.rounds {
            // Whoever comes second finds Docker as the first has left it.
            if round % 2 == 0 {
                ours.add(deploy(daemon, api, *size).await?);
                raw.add(by_hand(daemon, &pattern, *size, connections).await?);
            } else {
                raw.add(by_hand(daemon, &pattern, *size, connections).await?);
                ours.add(deploy(daemon, api, *size).await?);
            }
            bar.inc(1);
        }
        let row = Row::new(format!("deploy {size}"), ours.up()).beside(&floor, raw.up());
        rows.push(if *size == most { row.aim("≤ 1.05 ×") } else { row });
        if *size == most {
            let row = Row::new(format!("delete {size}"), ours.down()).beside(&floor, raw.down());
            rows.push(row);
        }
    }
    bar.finish_and_clear();
    rows.push(scale(plan, daemon, api, &pattern, connections).await?.with_floor(&floor));
    Ok(rows)
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

struct Scaled {
    what: String,
    ours: Vec<f64>,
    raw: Vec<f64>,
}

impl Scaled {
    fn with_floor(self, floor: &str) -> Row {
        Row::new(self.what, Figure::of("ms", self.ours)).beside(floor, Figure::of("ms", self.raw))
    }
}

/// Twenty more, while ten run.
async fn scale(
    plan: &Plan,
    daemon: &Daemon,
    api: &Api,
    body: &ContainerCreateBody,
    connections: usize,
) -> anyhow::Result<Scaled> {
    let (from, to) = plan.or((10_u32, 30_u32), (1, 2));
    let more = (to - from) as usize;
    let bar = bar("scale", plan.rounds as u64);
    let mut scaled =
        Scaled { what: format!("scale {from} → {to}"), ours: Vec::new(), raw: Vec::new() };
    let name = unique("scaled");
    api.deploy(&hello(&name, from)).await;
    api.ready(&name, from).await;
    for _ in 0..plan.rounds {
        let began = wall_ns();
        api.client.scale(&name, to).await?;
        scaled.ours.push(daemon.took((WORKLOAD, &name), "start", more, began).await?);
        api.ready(&name, to).await;
        let began = wall_ns();
        api.client.scale(&name, from).await?;
        daemon.took((WORKLOAD, &name), "destroy", more, began).await?;
        api.ready(&name, from).await;
        scaled.raw.push(by_hand(daemon, body, more, connections).await?.0);
        bar.inc(1);
    }
    bar.finish_and_clear();
    api.client.delete(&name).await?;
    Ok(scaled)
}
