//! Host ports that were asked for by number.

use kube_lite_testkit::registry::free_port;
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, SHORT, Sandbox, until};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// A host port that a foreign process holds: the reason says so, nothing is left
/// over from the attempts, and once it is free the workload comes up.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_held_by_a_stranger() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello("web", 1);
    spec["ports"] = json!([{"containerPort": 8080, "hostPort": port}]);
    sandbox.deploy(&spec).await;
    until("the reason to name the port", LONG, || async {
        let told = serde_json::to_string(&sandbox.workload("web").await.reasons).unwrap();
        if told.contains(&port.to_string()) { Ok(()) } else { Err(told) }
    })
    .await;
    until("nothing to be left over", SHORT, || async {
        let left = sandbox.truth.all().await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    drop(stranger);
    sandbox.ready("web", 1).await;
    let endpoints = sandbox.discover("web").await.endpoints;
    assert_eq!(endpoints[0].address, format!("127.0.0.1:{port}"));
}

/// One replica gets the port it asked for; several each get one that Docker
/// picks, and the deploy says so; scaled back to one, its holder is kept.
#[tokio::test(flavor = "multi_thread")]
async fn one_gets_its_port_several_do_not() {
    let port = free_port();
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello("web", 1);
    spec["ports"] = json!([{"containerPort": 8080, "hostPort": port}]);
    let first = sandbox.client.deploy(spec.to_string().into()).await.unwrap();
    assert_eq!(first.warnings, Vec::<String>::new());
    sandbox.ready("web", 1).await;
    let holder = sandbox.runs("web", 1).await;
    let asked = format!("127.0.0.1:{port}");
    assert_eq!(sandbox.discover("web").await.endpoints[0].address, asked);

    spec["replicas"] = 3.into();
    let second = sandbox.client.deploy(spec.to_string().into()).await.unwrap();
    assert!(second.warnings[0].contains("discover"), "{:?}", second.warnings);
    sandbox.ready("web", 3).await;
    let endpoints = sandbox.discover("web").await.endpoints;
    assert_eq!(endpoints.iter().filter(|e| e.address == asked).count(), 1, "{endpoints:?}");

    sandbox.client.scale("web", 1).await.unwrap();
    sandbox.ready("web", 1).await;
    assert_eq!(sandbox.runs("web", 1).await, holder, "the holder of the port was kept");
}

/// A fixed port exists once per Docker daemon; all dev nodes share one, so the
/// second replica waits and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_port_exists_once_per_daemon() {
    let port = free_port();
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello("web", 2);
    spec["ports"] = json!([{"containerPort": 8080, "hostPort": port, "fixed": true}]);
    sandbox.deploy(&spec).await;
    until("one to be ready and one to wait for the port", LONG, || async {
        let view = sandbox.workload("web").await;
        let told = view.reasons.iter().any(|why| {
            format!("{}", why.reason) == "PortTaken" && why.message.contains(&port.to_string())
        });
        if view.ready == 1 && view.waiting == 1 && told { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    // The one that runs goes: the other gets its port.
    sandbox.client.scale("web", 1).await.unwrap();
    sandbox.ready("web", 1).await;
    assert_eq!(sandbox.discover("web").await.endpoints[0].address, format!("127.0.0.1:{port}"));
}
