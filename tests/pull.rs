//! Pulling, from a real registry on localhost.

use std::time::Duration;

use kube_lite_testkit::proxy::TcpProxy;
use kube_lite_testkit::registry::Registry;
use kube_lite_testkit::sandbox::{Fleet, hello};
use kube_lite_testkit::{LONG, SHORT, Sandbox, http, until};
use serde_json::Value;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

fn of_image(name: &str, replicas: u32, image: &str) -> Value {
    let mut spec = hello(name, replicas);
    spec["image"] = image.into();
    spec
}

async fn until_reason(sandbox: &Sandbox, name: &str, word: &str) -> String {
    until(&format!("{name} to say {word}"), LONG, || async {
        let view = sandbox.workload(name).await;
        let told = serde_json::to_string(&view.reasons).unwrap();
        if told.contains(word) { Ok(told) } else { Err(told) }
    })
    .await
}

/// Three replicas on one node that all need an image that is not there: it is
/// pulled, and only once.
#[tokio::test(flavor = "multi_thread")]
async fn pulls_once_for_three_replicas() {
    let mut registry = Registry::start(false).await;
    let proxy = TcpProxy::before(&registry.address).await;
    let size = 600_000;
    let image = registry.push("once", size, &proxy.address).await;
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "1"], &[]).await;
    sandbox.able(1).await;
    // Slow enough that all three ask while it is under way.
    proxy.throttle(400_000);
    sandbox.deploy(&of_image("web", 3, &image)).await;
    until_reason(&sandbox, "web", "Pulling").await;
    sandbox.ready("web", 3).await;
    let passed = proxy.passed();
    assert!(passed > size as u64, "{passed} bytes: it was pulled");
    assert!(passed < 2 * size as u64, "{passed} bytes: it was pulled once");

    // Present now: a further replica does not ask the registry at all.
    let connections = proxy.connections();
    sandbox.client.scale("web", 4).await.unwrap();
    sandbox.ready("web", 4).await;
    assert_eq!(proxy.connections(), connections, "ifNotPresent asks nobody");
}

/// A missing tag and a refused login say so, and a tag that appears is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_tag_and_a_refused_login_give_their_reason() {
    let mut registry = Registry::start(false).await;
    let mut locked = Registry::start(true).await;
    let secret = locked.push("secret", 1000, &locked.address.clone()).await;
    let missing = format!("{}/late:v1", registry.address);
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "2"], &[]).await;
    sandbox.able(2).await;
    sandbox.deploy(&of_image("missing", 1, &missing)).await;
    sandbox.deploy(&of_image("denied", 1, &secret)).await;
    let mut never = of_image("never", 1, "kube-lite/not-here:v1");
    never["pullPolicy"] = "never".into();
    sandbox.deploy(&never).await;
    let told = until_reason(&sandbox, "missing", "failure(s) in a row").await;
    assert!(told.contains("late"), "it names the image: {told}");
    let told = until_reason(&sandbox, "denied", "failure(s) in a row").await;
    assert!(told.contains("secret"), "it names the image: {told}");
    until_reason(&sandbox, "never", "pullPolicy").await;
    for (name, word) in [("missing", "ImageNotFound"), ("denied", "ImageDenied")] {
        let told = sandbox.workload(name).await.reasons;
        assert_eq!(told[0].reason.to_string(), word, "{told:?}");
        let story = sandbox.get_json(&format!("/workloads/{name}/explain")).await;
        assert!(story["hints"].to_string().contains("image's name"), "{story}");
    }
    registry.push("late", 1000, &registry.address.clone()).await;
    sandbox.ready("missing", 1).await;
}

/// A pull that takes long holds up neither another workload nor heartbeats, and
/// deleting the workload in its middle leaves nothing over.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pull_disturbs_nobody_and_can_be_deleted() {
    let mut registry = Registry::start(false).await;
    let proxy = TcpProxy::before(&registry.address).await;
    let image = registry.push("slow", 3_000_000, &proxy.address).await;
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "2"], &[]).await;
    sandbox.able(2).await;
    proxy.throttle(50_000);
    sandbox.deploy(&of_image("slow", 4, &image)).await;
    until_reason(&sandbox, "slow", "Pulling").await;
    sandbox.deploy(&hello("quick", 4)).await;
    sandbox.ready("quick", 4).await;
    let slow = sandbox.workload("slow").await;
    assert_eq!((slow.ready, slow.running), (0, 0), "it is still pulling: {slow:?}");
    for node in sandbox.nodes().await {
        assert!(node.last_heartbeat_seconds_ago.unwrap_or(99.0) < 6.0, "{node:?}");
    }
    sandbox.client.delete("slow").await.unwrap();
    until("it to be gone", SHORT, || async {
        let answer = http::get(sandbox.address(), "/instances?workload=slow").await.unwrap();
        if answer.status == 404 { Ok(()) } else { Err(answer.body) }
    })
    .await;
    proxy.throttle(0);
    kube_lite_testkit::wait::stays("nothing of it appears", Duration::from_secs(3), || async {
        let all = sandbox.truth.all().await;
        let left: Vec<_> = all.iter().filter(|c| c.name.starts_with("slow-")).collect();
        // Unthrottled, a pull that went on would be done by now.
        let pulled = sandbox.truth.docker.inspect_image(&image).await.is_ok();
        if left.is_empty() && !pulled { Ok(()) } else { Err(format!("{pulled} {left:?}")) }
    })
    .await;
}

/// The scheduler hanging up (here: dying) does not cancel what it ordered.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_outlives_the_scheduler_that_ordered_it() {
    let mut registry = Registry::start(false).await;
    let proxy = TcpProxy::before(&registry.address).await;
    let image = registry.push("outlive", 1_500_000, &proxy.address).await;
    let mut fleet = Fleet::start(BIN, 1).await;
    proxy.throttle(150_000);
    fleet.deploy(&of_image("web", 1, &image)).await;
    until("the pull to be under way", LONG, || async {
        if proxy.passed() > 100_000 { Ok(()) } else { Err(format!("{} bytes", proxy.passed())) }
    })
    .await;
    fleet.scheduler.kill();
    fleet.runs("web", 1).await;
    let before = fleet.truth.running_of("web").await;
    assert!(proxy.passed() < 2 * 1_500_000, "pulled once");
    fleet.restart_scheduler().await;
    fleet.ready("web", 1).await;
    assert_eq!(fleet.runs("web", 1).await, before, "and it was adopted");
}
