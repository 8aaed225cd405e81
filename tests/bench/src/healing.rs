//! How soon what has died runs again, and how soon ten are other ones: by
//! Docker's events, beside the same done by hand in the same load.

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::KillContainerOptionsBuilder;
use kube_lite::model::wire::labels::WORKLOAD;
use kube_lite_testkit::Sandbox;
use kube_lite_testkit::sandbox::{Api, IMAGE, hello, hello_probed};

use crate::daemon::{Daemon, unique};
use crate::docker::pattern;
use crate::report::{Figure, PART, Row, attempt};
use crate::run::{Plan, bar, ms_between, wall_ns};

/// Measures.
///
/// # Errors
/// When something did not work.
pub async fn run(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let daemon = Daemon::follow(Docker::connect_with_defaults()?);
    let sandbox = Sandbox::start(plan.binary()?).await;
    let outcome = async {
        let body = pattern(&daemon, &sandbox).await?;
        let part = replacement(plan, &daemon, &sandbox, &body);
        let mut rows = attempt("die → replacement's start", PART, part).await;
        for surge in plan.or(vec![1, 10], vec![1]) {
            let what = format!("rolling update, surge {surge}");
            let part = rolling(plan, &daemon, &sandbox, &body, surge);
            rows.extend(attempt(&what, PART, part).await);
        }
        anyhow::Ok(rows)
    }
    .await;
    daemon.clean().await;
    outcome
}

/// `docker kill` of one of many, each only once: a second time it would rest.
async fn replacement(
    plan: &Plan,
    daemon: &Daemon,
    api: &Api,
    body: &ContainerCreateBody,
) -> anyhow::Result<Vec<Row>> {
    let count = plan.or(15, 2);
    let name = unique("dies");
    let label = (WORKLOAD, name.as_str());
    api.deploy(&hello(&name, count)).await;
    api.ready(&name, count).await;
    let bar = bar("die → start", u64::from(count));
    let (mut healed, mut single) = (Vec::new(), Vec::new());
    for victim in api.instances(&name).await {
        let began = wall_ns();
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        daemon.docker.kill_container(victim.id.as_str(), Some(options)).await?;
        daemon.took(label, "start", 1, began).await?;
        let died = daemon.events(label, "die", began);
        let started = daemon.events(label, "start", began);
        healed.push(ms_between(died[0].at, started[0].at));
        api.ready(&name, count).await;
        let run = unique("single");
        let (took, names) = daemon.start(body, &run, 1, 1).await?;
        single.push(took);
        daemon.end(&run, names, 1).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    api.client.delete(&name).await?;
    let row = Row::new("die → replacement's start", Figure::of("ms", healed));
    Ok(vec![row.beside("one create + start", Figure::of("ms", single)).at_most_more(50.0)])
}

/// A rolling update of ten with a probe, until done; by hand: start one, stop one.
async fn rolling(
    plan: &Plan,
    daemon: &Daemon,
    api: &Api,
    body: &ContainerCreateBody,
    surge: u32,
) -> anyhow::Result<Vec<Row>> {
    let count = plan.or(10, 2);
    let rounds = plan.or(3, 1);
    let name = unique("rolls");
    let mut spec = hello_probed(&name, count);
    spec["strategy"]["maxSurge"] = surge.into();
    api.deploy(&spec).await;
    api.ready(&name, count).await;
    let bar = bar(&format!("rolling update, surge {surge}"), rounds as u64);
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let image = if round % 2 == 0 { IMAGE.replace("v1", "v2") } else { IMAGE.to_owned() };
        let began = wall_ns();
        api.roll(&name, &image).await;
        ours.push(daemon.took((WORKLOAD, &name), "destroy", count as usize, began).await?);
        api.rollout_is(&name, "done").await;
        api.ready(&name, count).await;
        raw.push(by_hand(daemon, body, count as usize, surge as usize).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    api.client.delete(&name).await?;
    let row = Row::new(format!("rolling update of {count}, surge {surge}"), Figure::of("ms", ours));
    Ok(vec![row.beside("Docker's API, one wave after the other", Figure::of("ms", raw))])
}

async fn by_hand(
    daemon: &Daemon,
    body: &ContainerCreateBody,
    count: usize,
    surge: usize,
) -> anyhow::Result<f64> {
    let mut old = Vec::new();
    for _ in 0..count {
        let run = unique("old");
        let names = daemon.start(body, &run, 1, 1).await?.1;
        old.push((run, names));
    }
    let began = wall_ns();
    let mut new = Vec::new();
    for wave in old.chunks(surge) {
        let run = unique("new");
        let names = daemon.start(body, &run, wave.len(), 4).await?.1;
        new.push((run, names));
        let ends = wave.iter().map(|(run, names)| daemon.end(run, names.clone(), 1));
        futures_util::future::try_join_all(ends).await?;
    }
    let took = ms_between(began, wall_ns());
    for (run, names) in new {
        daemon.end(&run, names, 4).await?;
    }
    Ok(took)
}
