//! Health probes against real containers.

use std::time::Duration;

use kube_lite::model::Health;
use kube_lite_testkit::sandbox::hello_probed;
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, SHORT, Sandbox, http, until};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// The address of the only endpoint of a workload.
async fn only_endpoint(sandbox: &Sandbox, name: &str) -> String {
    let endpoints = sandbox.discover(name).await.endpoints;
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");
    endpoints[0].address.clone()
}

/// Unhealthy: out of `/discover`, and after as many failures again restarted,
/// with the reason told.
#[tokio::test(flavor = "multi_thread")]
async fn unhealthy_leaves_discover_and_is_restarted() {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello_probed("web", 1)).await;
    sandbox.ready("web", 1).await;
    let first = sandbox.runs("web", 1).await.remove(0);
    let address = only_endpoint(&sandbox, "web").await;
    assert_eq!(http::get(&address, "/set/unhealthy").await.unwrap().status, 200);

    until("it to leave /discover while its container still runs", LONG, || async {
        let endpoints = sandbox.discover("web").await.endpoints;
        let running = sandbox.truth.running_of("web").await;
        let same = running.first().is_some_and(|c| c.id == first.id);
        if endpoints.is_empty() && same {
            Ok(())
        } else {
            Err(format!("{endpoints:?} {running:?}"))
        }
    })
    .await;
    until("a restart", LONG, || async {
        let running = sandbox.truth.running_of("web").await;
        let fresh = running.len() == 1 && running[0].id != first.id;
        if fresh { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    sandbox.ready("web", 1).await;
    let story = sandbox.get_json("/workloads/web/explain").await.to_string();
    assert!(story.contains("health probe"), "{story}");
    assert_eq!(sandbox.workload("web").await.restarts, 1);
}

/// One failed probe among good ones changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_blip_changes_nothing() {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello_probed("web", 1)).await;
    sandbox.ready("web", 1).await;
    let before = sandbox.runs("web", 1).await;
    let address = only_endpoint(&sandbox, "web").await;
    assert_eq!(http::get(&address, "/set/blip?n=2").await.unwrap().status, 200);
    stays("it stays an endpoint", Duration::from_secs(5), || async {
        let endpoints = sandbox.discover("web").await.endpoints;
        if endpoints.len() == 1 { Ok(()) } else { Err(format!("{endpoints:?}")) }
    })
    .await;
    assert_eq!(sandbox.runs("web", 1).await, before, "the same container");
    assert_eq!(sandbox.workload("web").await.restarts, 0);
}

/// An endpoint that accepts and never answers has failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_probe_counts_as_failure() {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello_probed("web", 1)).await;
    sandbox.ready("web", 1).await;
    let address = only_endpoint(&sandbox, "web").await;
    assert_eq!(http::get(&address, "/set/hang").await.unwrap().status, 200);
    until("it to be unhealthy", LONG, || async {
        let instances = sandbox.instances("web").await;
        let sick = instances.iter().any(|i| i.health == Health::Unhealthy)
            || sandbox.workload("web").await.restarts > 0;
        if sick { Ok(()) } else { Err(format!("{instances:?}")) }
    })
    .await;
}

/// An app that needs long to come up is `starting`, whatever fails meanwhile;
/// one that never does is unhealthy after `startupSeconds`.
#[tokio::test(flavor = "multi_thread")]
async fn starting_is_not_unhealthy_until_its_time_is_up() {
    let sandbox = Sandbox::start(BIN).await;
    let mut slow = hello_probed("slow", 1);
    slow["env"] = serde_json::json!({"HELLO_START_DELAY_MS": "5000"});
    sandbox.deploy(&slow).await;
    let mut never = hello_probed("never", 1);
    never["env"] = serde_json::json!({"HELLO_UNHEALTHY": "1"});
    never["healthCheck"]["startupSeconds"] = 3.into();
    sandbox.deploy(&never).await;
    sandbox.ready("slow", 1).await;
    assert_eq!(sandbox.workload("slow").await.restarts, 0);
    until("the other to be restarted", LONG, || async {
        let view = sandbox.workload("never").await;
        if view.restarts > 0 { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    until("it to say why", SHORT, || async {
        let view = sandbox.workload("never").await;
        if view.reasons.is_empty() { Err("no reason".to_owned()) } else { Ok(()) }
    })
    .await;
}
