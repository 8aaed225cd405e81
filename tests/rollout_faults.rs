//! Rollouts against real Docker in whose middle a part of us or a machine fails: they
//! go on where they were, to the same end.

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::labels;
use kube_lite_testkit::docker::Container;
use kube_lite_testkit::sandbox::{Fleet, hello_probed};
use kube_lite_testkit::{LONG, Load, until};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const V2: &str = "kube-lite/hello:v2";

async fn deployed(replicas: u32) -> Fleet {
    let fleet = Fleet::start(BIN, 3).await;
    let mut spec = hello_probed("web", replicas);
    spec["strategy"] = json!({"drainSeconds": 1});
    fleet.deploy(&spec).await;
    fleet.ready("web", replicas).await;
    fleet
}

/// All is of revision 2, and the rollout was not taken back on the way.
async fn ends_well(fleet: &Fleet, replicas: u32) -> Vec<Container> {
    fleet.rollout_is("web", "done").await;
    let view = fleet.ready("web", replicas).await;
    assert_eq!(view.revision, 2);
    let running = fleet.runs("web", replicas as usize).await;
    assert!(running.iter().all(|c| c.label(labels::REVISION) == "2"), "{running:?}");
    let events = fleet.events("web").await;
    assert!(events.iter().all(|e| e.kind != "RolloutAborting"), "{events:#?}");
    running
}

/// The scheduler and an agent are killed and started again, one after the other:
/// no client notices, and no container is started in vain.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_scheduler_and_of_an_agent_are_not_noticed() {
    let mut fleet = deployed(6).await;
    let before = fleet.runs("web", 6).await;
    let watch = fleet.truth.watch().await;
    let load = Load::start(fleet.address(), "web").await;
    fleet.roll("web", V2).await;
    fleet.rolled("web", 1).await;
    fleet.restart_scheduler().await;
    let rollout = fleet.workload("web").await.rollout.expect("the rollout that was under way");
    assert!(rollout.state == "rolling" && rollout.updated < 6, "in its middle: {rollout:?}");
    fleet.rolled("web", 3).await;
    fleet.agent("n2").kill();
    fleet.start_agent("n2", &[]).await;
    let rollout = fleet.workload("web").await.rollout.expect("the same");
    assert!(rollout.state == "rolling" && rollout.updated < 6, "in its middle: {rollout:?}");

    ends_well(&fleet, 6).await;
    let report = load.finish().await;
    println!("{} requests", report.answered);
    report.assert_flawless(1_000, 0);
    assert_eq!(watch.starts("web").len(), 6, "{:#?}", watch.starts("web"));
    assert!(watch.most_at_once("web", &before) <= 7);
}

/// A machine is lost with all that ran there: what it had is of the new revision
/// elsewhere in the end, and nobody else is moved for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_death_does_not_take_it_back() {
    let mut fleet = deployed(6).await;
    fleet.roll("web", V2).await;
    fleet.rolled("web", 2).await;
    fleet.agent("n2").kill();
    let mut lost = 0;
    for container in fleet.truth.all().await {
        if container.label(labels::NODE) == "n2" {
            fleet.truth.remove(&container.id).await;
            lost += 1;
        }
    }
    assert!(lost > 0, "something ran there");
    until("n2 to be dead", LONG, || async {
        let nodes = fleet.nodes().await;
        let dead = nodes.iter().any(|n| n.id.as_str() == "n2" && n.status == NodeStatus::Dead);
        if dead { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
    let running = ends_well(&fleet, 6).await;
    assert!(running.iter().all(|c| c.label(labels::NODE) != "n2"), "{running:?}");
}
