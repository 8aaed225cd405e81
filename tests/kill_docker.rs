//! The Docker daemon itself is killed in the middle of starts, one that lets its
//! containers live on and one that does not.
//!
//! The truth is Docker's view. A daemon (20.10) that is killed between making a
//! process and noting it down does not know that process any more: it refuses to
//! start the container again, and removing it leaves the process running.

use std::collections::BTreeMap;

use kube_lite::model::wire::DockerState;
use kube_lite_testkit::census::{agree_on, wanted};
use kube_lite_testkit::chance::{a_while, chance};
use kube_lite_testkit::docker::Truth;
use kube_lite_testkit::sandbox::{Fleet, IMAGE, hello, hello_probed};
use kube_lite_testkit::second::{self, SecondDocker};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, until};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// Every container that runs, with its process.
async fn processes(truth: &Truth) -> BTreeMap<String, i64> {
    let mut found = BTreeMap::new();
    for container in truth.running().await {
        // It may be gone by now; then it does not run.
        if let Ok(said) = truth.docker.inspect_container(&container.id, None).await
            && let Some(process) = said.state.and_then(|state| state.pid)
        {
            found.insert(container.id, process);
        }
    }
    found
}

async fn docker_killed_in_the_middle_of_starts(live_restore: bool) {
    let mut chance = chance(&format!("kill_docker, live-restore {live_restore}"));
    let options: &[&str] = if live_restore { &["--live-restore"] } else { &[] };
    let mut docker = SecondDocker::start_with(&[IMAGE], options).await;
    let mut fleet = Fleet::scheduler_only(BIN).await;
    let host = docker.docker_host();
    fleet.start_agent("n1", &[("DOCKER_HOST", &host)]).await;
    fleet.start_agent("n2", &[("DOCKER_HOST", &host)]).await;
    fleet.able(2).await;
    let truth = docker.truth(&fleet.truth.cluster);
    fleet.deploy(&hello_probed("bystander", 2)).await;
    fleet.deploy(&hello("web", 0)).await;
    fleet.ready("bystander", 2).await;

    for _ in 0..3 {
        let watch = truth.watch().await;
        fleet.client.scale("web", 8).await.unwrap();
        until("a start", LONG, || async {
            if watch.starts("web").is_empty() { Err("none") } else { Ok(()) }
        })
        .await;
        a_while(&mut chance, 0..=900).await;
        let before = processes(&truth).await;
        docker.kill().await;
        until("both agents to say that Docker is away", LONG, || async {
            let nodes = fleet.client.nodes().await.map_err(|e| e.to_string())?;
            let away = nodes.iter().filter(|n| n.docker.state == DockerState::Away).count();
            if away == 2 { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .await;
        assert_eq!(watch.repeated("create"), [""; 0]);
        a_while(&mut chance, 0..=1_500).await;
        docker.start_again().await;
        let again = truth.watch().await;

        agree_on(&fleet, &truth, &wanted([("bystander", 2), ("web", 8)])).await;
        let after = processes(&truth).await;
        if live_restore {
            for (container, process) in &before {
                assert_eq!(after.get(container), Some(process), "{container} lives on");
            }
        }
        stays("eight run", std::time::Duration::from_secs(2), || async {
            let count = truth.running_of("web").await.len();
            if count == 8 { Ok(()) } else { Err(count) }
        })
        .await;
        assert_eq!(again.repeated("create"), [""; 0], "{:?}", again.events());
        fleet.client.scale("web", 0).await.unwrap();
        agree_on(&fleet, &truth, &wanted([("bystander", 2), ("web", 0)])).await;
    }
    for name in ["bystander", "web"] {
        fleet.client.delete(name).await.expect("delete");
    }
    until("nothing to be left", LONG, || async {
        let left = truth.all().await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

fn apart(live_restore: bool) {
    if second::is_skipped() {
        return;
    }
    second::apart(move || docker_killed_in_the_middle_of_starts(live_restore));
}

/// What ran runs on in the same processes, and what was being started runs once.
#[test]
fn with_live_restore_what_runs_lives_on() {
    apart(true);
}

/// What ran has ended and is started anew, what was being started runs once.
#[test]
fn without_live_restore_everything_is_started_anew_once() {
    apart(false);
}
