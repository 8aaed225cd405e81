//! New versions that are no good, against real Docker: the rollout ends by itself,
//! and what served before serves on.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube_lite::model::Phase;
use kube_lite::model::view::{RevisionView, WorkloadView};
use kube_lite_testkit::proxy::TcpProxy;
use kube_lite_testkit::registry::Registry;
use kube_lite_testkit::sandbox::hello_probed;
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Load, Replay, Sandbox, until};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// The sample app, probed, drained for a second, and impatient.
fn web(replicas: u32, deadline: u32) -> Value {
    let mut spec = hello_probed("web", replicas);
    spec["strategy"] = json!({"drainSeconds": 1, "progressDeadlineSeconds": deadline});
    spec["healthCheck"]["failureThreshold"] = 2.into();
    spec
}

/// Deploys `good`, then `bad`, and shows that it is taken back within `limit`
/// while the very containers of `good` serve on. Returns what the history says.
async fn taken_back(sandbox: &Sandbox, good: &Value, bad: &Value, limit: Duration) -> RevisionView {
    let replicas = good["replicas"].as_u64().unwrap() as u32;
    sandbox.deploy(good).await;
    sandbox.ready("web", replicas).await;
    let before = sandbox.runs("web", replicas as usize).await;
    let watch = sandbox.truth.watch().await;
    let load = Load::start(sandbox.address(), "web").await;
    let began = Instant::now();
    sandbox.deploy(bad).await;
    let view = until("it to be taken back", limit, || async {
        let view: WorkloadView = sandbox.workload("web").await;
        let state = view.rollout.as_ref().map(|r| r.state.clone()).unwrap_or_default();
        if state == "aborted" { Ok(view) } else { Err(format!("{view:?}")) }
    })
    .await;
    let took = began.elapsed();
    let after = sandbox.runs("web", replicas as usize).await;
    assert_eq!(after, before, "the same containers");
    assert_eq!((view.ready, view.revision), (replicas, 1), "{view:?}");
    // What failed is kept for its logs or gone; it is not tried again, and what
    // serves serves on.
    stays("nothing moves any more", Duration::from_secs(3), || async {
        let now = sandbox.truth.running_of("web").await;
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    let starts = watch.starts("web").len();
    let report = load.finish().await;
    println!("taken back after {took:?}, {starts} start(s), {} requests", report.answered);
    assert!(starts <= 2, "{starts} of the bad ones were started");
    report.assert_flawless(200, replicas);
    let history = sandbox.client.history("web").await.expect("history");
    assert_eq!(history.len(), 2, "{history:?}");
    assert!(history[0].current && history[0].head, "{history:?}");
    history[1].clone()
}

fn outcome(revision: &RevisionView) -> &str {
    revision.outcome.as_deref().unwrap_or_default()
}

/// A v2 that exits at once.
#[tokio::test(flavor = "multi_thread")]
async fn v2_that_exits_at_once_is_taken_back() {
    let sandbox = Sandbox::start(BIN).await;
    let good = web(4, 60);
    let mut bad = good.clone();
    bad["env"] = json!({"VERSION": "v2", "HELLO_EXIT_CODE": "3"});
    let told = taken_back(&sandbox, &good, &bad, Duration::from_secs(30)).await;
    assert!(outcome(&told).contains("exited with code 3"), "{told:?}");
    assert!(told.why.contains("env"), "{told:?}");
}

/// A v2 that never gets healthy: its deadline is what ends it.
#[tokio::test(flavor = "multi_thread")]
async fn v2_that_never_gets_healthy_is_taken_back() {
    let sandbox = Sandbox::start(BIN).await;
    let good = web(4, 4);
    let mut bad = good.clone();
    bad["image"] = "kube-lite/hello:v2".into();
    bad["env"] = json!({"HELLO_UNHEALTHY": "1"});
    let told = taken_back(&sandbox, &good, &bad, Duration::from_secs(30)).await;
    assert!(outcome(&told).contains("not ready 4 s after"), "{told:?}");
}

/// A v2 whose image no registry has: nothing that runs is touched.
#[tokio::test(flavor = "multi_thread")]
async fn v2_without_an_image_is_taken_back() {
    let registry = Registry::start(false).await;
    let sandbox = Sandbox::start(BIN).await;
    let good = web(4, 60);
    let mut bad = good.clone();
    let image = format!("{}/there-is-no:v2", registry.address);
    bad["image"] = image.clone().into();
    let told = taken_back(&sandbox, &good, &bad, Duration::from_secs(30)).await;
    assert!(outcome(&told).contains(&image), "{told:?}");
}

/// A v2 that turns unhealthy half way: what is still of v1 is not touched any
/// more, the rest becomes v1 again, and no request fails meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn v2_that_turns_unhealthy_half_way_is_taken_back() {
    let sandbox = Sandbox::start(BIN).await;
    let good = web(6, 60);
    sandbox.deploy(&good).await;
    sandbox.ready("web", 6).await;
    let before = sandbox.runs("web", 6).await;
    let watch = sandbox.truth.watch().await;
    let load = Load::start(sandbox.address(), "web").await;
    let mut bad = good.clone();
    bad["image"] = "kube-lite/hello:v2".into();
    bad["env"] = json!({"HELLO_UNHEALTHY_AFTER_MS": "5000"});
    sandbox.deploy(&bad).await;
    sandbox.rollout_is("web", "aborted").await;
    let view = sandbox.ready("web", 6).await;
    assert_eq!(view.revision, 1);
    let after = sandbox.runs("web", 6).await;
    assert!(after.iter().all(|c| c.name.starts_with("web-r1-")), "{after:?}");

    let events = sandbox.events("web").await;
    let aborted = events.iter().position(|e| e.kind == "RolloutAborting").expect("it was aborted");
    let stopped = |until: usize| -> BTreeSet<String> {
        let stops = events[..until].iter().filter(|e| e.kind == "InstanceStopping");
        stops.filter_map(|e| e.instance.as_ref()).map(|id| id.as_str().to_owned()).collect()
    };
    let (early, all) = (stopped(aborted), stopped(events.len()));
    let mut kept = 0;
    for container in &before {
        if early.contains(&container.name) {
            continue;
        }
        kept += 1;
        assert!(!all.contains(&container.name), "{} was stopped later", container.name);
        assert!(after.contains(container), "{} serves on", container.name);
    }
    assert!((1..6).contains(&kept), "{kept} of v1 were left when it was aborted");
    let history = sandbox.client.history("web").await.expect("history");
    assert!(outcome(&history[1]).contains("unhealthy"), "{history:?}");
    let report = load.finish().await;
    println!("{kept} kept, {} requests, fewest ready {:?}", report.answered, report.fewest_ready);
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
    assert!(watch.most_at_once("web", &before) <= 7);
}

/// Aborted while an old one waits in its drain delay: that one is replaced with its
/// own revision, those that were not told to go are left alone, and the count never
/// falls short.
#[tokio::test(flavor = "multi_thread")]
async fn aborted_while_an_old_one_drains() {
    let sandbox = Sandbox::start(BIN).await;
    let mut good = web(4, 60);
    good["strategy"]["drainSeconds"] = 5.into();
    sandbox.deploy(&good).await;
    sandbox.ready("web", 4).await;
    let before = sandbox.runs("web", 4).await;
    let replay = Replay::begin(&sandbox, "web").await;
    let load = Load::start(sandbox.address(), "web").await;
    sandbox.roll("web", "kube-lite/hello:v2").await;
    let draining = until("an old one to drain", LONG, || async {
        let instances = sandbox.instances("web").await;
        let old = instances.iter().find(|i| i.stopping && i.revision == 1);
        old.map(|i| i.container_id.clone()).ok_or_else(|| format!("{instances:?}"))
    })
    .await;
    sandbox.rollout("web", "abort").await;
    let running = sandbox.truth.running_of("web").await;
    assert!(running.iter().any(|c| c.id == draining), "it drains still: {running:?}");
    sandbox.rollout_is("web", "aborted").await;
    assert_eq!(sandbox.ready("web", 4).await.revision, 1);
    let after = sandbox.runs("web", 4).await;
    assert!(after.iter().all(|c| c.name.starts_with("web-r1-")), "{after:?}");
    let kept = before.iter().filter(|c| after.contains(c)).count();
    assert_eq!(kept, 3, "{before:?} {after:?}");
    let report = load.finish().await;
    let shown = replay.show(&sandbox).await;
    println!("{shown:?}, {} requests", report.answered);
    assert_eq!((shown.fewest, shown.stopped), (4, 2), "the old one, and the new one for it");
    report.assert_flawless(500, 4);
}

/// Aborted while the new image is being pulled: the pull ends, nothing was started,
/// and nothing comes later.
#[tokio::test(flavor = "multi_thread")]
async fn aborted_while_the_image_is_pulled_nothing_is_left() {
    let mut registry = Registry::start(false).await;
    let proxy = TcpProxy::before(&registry.address).await;
    let image = registry.push("abandoned", 3_000_000, &proxy.address).await;
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&web(4, 60)).await;
    sandbox.ready("web", 4).await;
    let before = sandbox.runs("web", 4).await;
    let watch = sandbox.truth.watch().await;
    proxy.throttle(50_000);
    sandbox.roll("web", &image).await;
    until("the pull to be under way", LONG, || async {
        let pulls = sandbox.instances("web").await.iter().any(|i| i.phase == Phase::Pulling);
        let passed = proxy.passed();
        if pulls && passed > 20_000 { Ok(()) } else { Err(format!("{pulls}, {passed} bytes")) }
    })
    .await;
    sandbox.rollout("web", "abort").await;
    sandbox.rollout_is("web", "aborted").await;
    sandbox.ready("web", 4).await;
    proxy.throttle(0);
    stays("nothing of it appears", Duration::from_secs(3), || async {
        let all = sandbox.truth.all().await;
        // Unthrottled, a pull that went on would be done by now.
        let pulled = sandbox.truth.docker.inspect_image(&image).await.is_ok();
        let instances = sandbox.instances("web").await.len();
        let fine = all == before && instances == 4 && !pulled;
        if fine { Ok(()) } else { Err(format!("{pulled} {instances} {all:?}")) }
    })
    .await;
    assert!(watch.starts("web").is_empty(), "{:?}", watch.starts("web"));
}
