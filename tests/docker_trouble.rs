//! Docker absent, gone and hung: behind a socket of the test's own, never the
//! machine's.

use std::time::Duration;

use kube_lite::model::wire::DockerState;
use kube_lite_testkit::proxy::DockerProxy;
use kube_lite_testkit::sandbox::{hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Sandbox, until};
use tempfile::TempDir;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

async fn until_docker(sandbox: &Sandbox, state: DockerState) {
    until(&format!("all nodes to say Docker is {state:?}"), LONG, || async {
        let nodes = sandbox.client.nodes().await.map_err(|e| e.to_string())?;
        let all = nodes.len() == 2 && nodes.iter().all(|n| n.docker.state == state);
        if all { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
}

async fn behind(proxy: &DockerProxy) -> Sandbox {
    Sandbox::start_with(BIN, &["--nodes", "2"], &[("DOCKER_HOST", &proxy.docker_host())]).await
}

/// No Docker at the start: clear words, and once it is there, all goes well
/// without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn absent_at_the_start() {
    let directory = TempDir::new().unwrap();
    let mut proxy = DockerProxy::new(&directory.path().join("docker.sock"));
    let mut sandbox = behind(&proxy).await;
    until_docker(&sandbox, DockerState::Away).await;
    sandbox.deploy(&hello("web", 2)).await;
    until("the reason to name Docker", LONG, || async {
        let told = serde_json::to_string(&sandbox.workload("web").await.reasons).unwrap();
        if told.contains("Docker does not answer") { Ok(()) } else { Err(told) }
    })
    .await;
    for node in sandbox.nodes().await {
        let message = node.message.unwrap_or_default();
        assert!(message.contains("Docker"), "{message}");
    }
    proxy.open();
    sandbox.ready("web", 2).await;
    assert_eq!(sandbox.process.ended(), None);
}

/// Docker's socket vanishes in the middle and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn gone_in_the_middle() {
    let directory = TempDir::new().unwrap();
    let mut proxy = DockerProxy::new(&directory.path().join("docker.sock"));
    proxy.open();
    let mut sandbox = behind(&proxy).await;
    sandbox.able(2).await;
    sandbox.deploy(&hello_probed("web", 2)).await;
    sandbox.ready("web", 2).await;
    let before = sandbox.runs("web", 2).await;
    proxy.close();
    until_docker(&sandbox, DockerState::Away).await;
    stays("nothing is given up and both stay endpoints", Duration::from_secs(4), || async {
        let (running, endpoints) =
            (sandbox.truth.running_of("web").await, sandbox.discover("web").await.endpoints);
        let fine = running == before && endpoints.len() == 2;
        if fine { Ok(()) } else { Err(format!("{running:?} {endpoints:?}")) }
    })
    .await;
    // What dies meanwhile is noticed when Docker is back.
    sandbox.truth.kill(&before[0].id).await;
    sandbox.client.scale("web", 3).await.unwrap();
    proxy.open();
    until_docker(&sandbox, DockerState::Ok).await;
    sandbox.ready("web", 3).await;
    sandbox.runs("web", 3).await;
    assert_eq!(sandbox.process.ended(), None);
}

/// Docker accepts and does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn hung_in_the_middle() {
    let directory = TempDir::new().unwrap();
    let mut proxy = DockerProxy::new(&directory.path().join("docker.sock"));
    proxy.open();
    let mut sandbox = behind(&proxy).await;
    sandbox.able(2).await;
    sandbox.deploy(&hello("web", 2)).await;
    sandbox.ready("web", 2).await;
    let before = sandbox.runs("web", 2).await;
    proxy.stall(true);
    until_docker(&sandbox, DockerState::Hung).await;
    sandbox.client.scale("web", 4).await.unwrap();
    for node in sandbox.nodes().await {
        assert_eq!(node.status.as_str(), "alive", "heartbeats go on: {node:?}");
    }
    proxy.stall(false);
    sandbox.ready("web", 4).await;
    let after = sandbox.runs("web", 4).await;
    assert!(before.iter().all(|c| after.contains(c)), "what ran, runs: {before:?} {after:?}");
    assert_eq!(sandbox.process.ended(), None);
    assert!(sandbox.interrupt().success());
    sandbox.nothing_left().await;
}
