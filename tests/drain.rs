//! Planned maintenance against real Docker: a node is emptied without anybody
//! noticing, and a dead one is forgotten without a trace.

use std::time::Duration;

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::labels;
use kube_lite_testkit::docker::Container;
use kube_lite_testkit::registry::free_port;
use kube_lite_testkit::sandbox::{Api, Fleet, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Load, Replay, Sandbox, http, until};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

fn on_node(containers: &[Container], node: &str) -> usize {
    containers.iter().filter(|c| c.label(labels::NODE) == node).count()
}

async fn emptied(api: &Api, node: &str, replicas: u32) -> Vec<Container> {
    until(&format!("{node} to be empty"), LONG, || async {
        let running = api.truth.running_of("web").await;
        let view = api.client.workload("web").await.map_err(|e| e.to_string())?;
        let fine = on_node(&running, node) == 0
            && running.len() == replicas as usize
            && view.ready == replicas;
        if fine { Ok(running) } else { Err(format!("{view:?} {running:?}")) }
    })
    .await
}

/// Nine replicas on three nodes under constant load: one node is drained, gets
/// nothing while it is, and gets some again when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_without_a_failed_request() {
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello_probed("web", 9);
    spec["strategy"] = json!({"drainSeconds": 1});
    sandbox.deploy(&spec).await;
    sandbox.ready("web", 9).await;
    let before = sandbox.runs("web", 9).await;
    assert_eq!(on_node(&before, "node-2"), 3);
    let watch = sandbox.truth.watch().await;
    let load = Load::start(sandbox.address(), "web").await;

    let drained_at = sandbox.events("web").await.last().map_or(0, |e| e.seq);
    sandbox.post("/nodes/node-2/drain", None).await;
    let after = emptied(&sandbox, "node-2", 9).await;
    for container in before.iter().filter(|c| c.label(labels::NODE) != "node-2") {
        assert!(after.contains(container), "{} had no reason to move", container.name);
    }
    let most = watch.most_at_once("web", &before);
    assert!(most <= 10, "{most} ran at once");

    // Nothing new goes there: neither more replicas nor another version.
    sandbox.client.scale("web", 12).await.unwrap();
    emptied(&sandbox, "node-2", 12).await;
    sandbox.roll("web", "kube-lite/hello:v2").await;
    sandbox.rollout_is("web", "done").await;
    emptied(&sandbox, "node-2", 12).await;
    let events = sandbox.events("web").await;
    let ordered_there = events
        .iter()
        .filter(|e| e.seq > drained_at && e.kind == "InstanceOrdered")
        .filter(|e| e.node.as_ref().is_some_and(|n| n.as_str() == "node-2"));
    assert_eq!(ordered_there.count(), 0, "nothing was started there: {events:#?}");
    let node = sandbox.nodes().await.into_iter().find(|n| n.id.as_str() == "node-2").unwrap();
    assert!(node.message.is_some() && !node.schedulable, "it says why: {node:?}");

    sandbox.client.uncordon("node-2").await.unwrap();
    sandbox.client.scale("web", 15).await.unwrap();
    sandbox.ready("web", 15).await;
    let running = sandbox.runs("web", 15).await;
    assert!(on_node(&running, "node-2") >= 3, "what is new goes where there is room: {running:?}");

    let report = load.finish().await;
    println!("{} requests, {} failed", report.answered, report.failed.len());
    report.assert_flawless(5_000, 9);
}

/// Two of three nodes at once, in the middle of a rollout, under constant load: both
/// end empty, all is new on the third, and it is never one too few.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_are_drained_at_once_during_a_rollout() {
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello_probed("web", 6);
    spec["strategy"] = json!({"drainSeconds": 1});
    sandbox.deploy(&spec).await;
    sandbox.ready("web", 6).await;
    let before = sandbox.runs("web", 6).await;
    let watch = sandbox.truth.watch().await;
    let replay = Replay::begin(&sandbox, "web").await;
    let load = Load::start(sandbox.address(), "web").await;
    sandbox.roll("web", "kube-lite/hello:v2").await;
    sandbox.rolled("web", 2).await;
    sandbox.post("/nodes/node-1/drain", None).await;
    sandbox.post("/nodes/node-3/drain", None).await;
    let rollout = sandbox.workload("web").await.rollout.expect("a rollout");
    assert!(rollout.state == "rolling" && rollout.updated < 6, "in its middle: {rollout:?}");
    sandbox.rollout_is("web", "done").await;
    emptied(&sandbox, "node-1", 6).await;
    let after = emptied(&sandbox, "node-3", 6).await;
    assert!(after.iter().all(|c| c.label(labels::REVISION) == "2"), "{after:?}");
    assert_eq!(on_node(&after, "node-2"), 6, "{after:?}");
    sandbox.ready("web", 6).await;

    let report = load.finish().await;
    let shown = replay.show(&sandbox).await;
    println!("{shown:?}, {} requests", report.answered);
    assert_eq!(shown.fewest, 6, "{shown:?}");
    report.assert_flawless(1_000, 6);
    assert!(watch.most_at_once("web", &before) <= 7);
}

/// A fixed host port on a node that shares its Docker daemon with the others: there
/// can be only one, so the new one is prepared elsewhere and takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_host_port_moves_to_another_node_of_the_same_daemon() {
    let port = free_port();
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "2"], &[]).await;
    sandbox.able(2).await;
    let mut spec = hello("web", 1);
    spec["ports"] = json!([{"containerPort": 8080, "hostPort": port, "fixed": true}]);
    sandbox.deploy(&spec).await;
    sandbox.ready("web", 1).await;
    let before = sandbox.runs("web", 1).await;
    let watch = sandbox.truth.watch().await;
    let (from, to) = match before[0].label(labels::NODE) {
        "node-1" => ("node-1", "node-2"),
        _ => ("node-2", "node-1"),
    };
    sandbox.post(&format!("/nodes/{from}/drain"), None).await;
    let after = emptied(&sandbox, from, 1).await;
    assert_eq!(on_node(&after, to), 1, "{after:?}");
    assert_eq!(watch.most_at_once("web", &before), 1, "one after the other");
    let endpoints = sandbox.discover("web").await.endpoints;
    let address = format!("127.0.0.1:{port}");
    assert!(endpoints.len() == 1 && endpoints[0].address == address, "{endpoints:?}");
    let told = http::get(&address, "/").await.expect("an answer").body;
    assert!(told.contains(&after[0].name), "{told}");
}

/// A drain that is taken back in the middle: what is left there stays.
#[tokio::test(flavor = "multi_thread")]
async fn uncordoned_in_the_middle_the_rest_stays() {
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "2"], &[]).await;
    sandbox.able(2).await;
    let mut spec = hello_probed("web", 8);
    spec["strategy"] = json!({"drainSeconds": 1});
    sandbox.deploy(&spec).await;
    sandbox.ready("web", 8).await;
    sandbox.runs("web", 8).await;
    sandbox.post("/nodes/node-1/drain", None).await;
    until("one to have moved", LONG, || async {
        let running = sandbox.truth.running_of("web").await;
        if on_node(&running, "node-1") < 4 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    sandbox.client.uncordon("node-1").await.unwrap();
    sandbox.ready("web", 8).await;
    let left = sandbox.runs("web", 8).await;
    assert!(on_node(&left, "node-1") >= 1, "{left:?}");
    stays("nothing moves any more", Duration::from_secs(4), || async {
        let now = sandbox.truth.running_of("web").await;
        if now == left { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

/// A node that died is removed: nothing refers to it any more, and what it ran
/// runs elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_forgotten_without_a_trace() {
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello_probed("web", 6)).await;
    fleet.deploy(&hello("gone", 3)).await;
    fleet.ready("web", 6).await;
    fleet.ready("gone", 3).await;
    fleet.agent("n2").kill();
    for container in fleet.truth.all().await {
        if container.label(labels::NODE) == "n2" {
            fleet.truth.remove(&container.id).await;
        }
    }
    let refused = http::send(fleet.address(), "DELETE", "/nodes/n2", None).await.unwrap();
    assert_eq!(refused.status, 409, "not while it may be alive: {}", refused.body);
    until("n2 to be dead", LONG, || async {
        let nodes = fleet.nodes().await;
        let dead = nodes.iter().any(|n| n.id.as_str() == "n2" && n.status == NodeStatus::Dead);
        if dead { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
    // A delete waits for the dead node, too; its removal ends that.
    fleet.client.delete("gone").await.unwrap();
    fleet.client.remove_node("n2").await.unwrap();
    let nodes = fleet.nodes().await;
    assert!(nodes.iter().all(|n| n.id.as_str() != "n2"), "{nodes:?}");
    let instances = fleet.get_json("/instances").await;
    let ghosts = instances.as_array().unwrap().iter().filter(|i| i["nodeId"] == "n2").count();
    assert_eq!(ghosts, 0, "{instances}");
    let endpoints = fleet.discover("web").await.endpoints;
    assert!(endpoints.iter().all(|e| e.node_id.as_str() != "n2"), "{endpoints:?}");
    fleet.ready("web", 6).await;
    let running = fleet.runs("web", 6).await;
    assert_eq!(on_node(&running, "n2"), 0);
    let view = fleet.get_json("/workloads/web").await.to_string();
    assert!(!view.contains("n2"), "{view}");
    until("the deleted workload to be gone", LONG, || async {
        let left = fleet.truth.running_of("gone").await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;

    // Neither does a scheduler remember it that starts anew.
    fleet.restart_scheduler().await;
    fleet.able(2).await;
    let nodes = fleet.nodes().await;
    assert!(nodes.iter().all(|n| n.id.as_str() != "n2"), "{nodes:?}");
    let instances = fleet.get_json("/instances").await.to_string();
    assert!(!instances.contains("\"n2\""), "{instances}");
    fleet.ready("web", 6).await;
}
