//! Rolling updates against real Docker: nothing a client would notice, and
//! whatever people change in the middle.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_lite::model::wire::labels;
use kube_lite_testkit::docker::Container;
use kube_lite_testkit::registry::free_port;
use kube_lite_testkit::sandbox::{Api, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Load, Replay, Sandbox, http, until};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const V2: &str = "kube-lite/hello:v2";

/// The sample app as people should run it: probed, and drained for a second.
fn web(replicas: u32) -> Value {
    let mut spec = hello_probed("web", replicas);
    spec["strategy"] = json!({"drainSeconds": 1});
    spec
}

async fn deployed(replicas: u32) -> Sandbox {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&web(replicas)).await;
    sandbox.ready("web", replicas).await;
    sandbox
}

fn ids(containers: &[Container]) -> BTreeSet<&str> {
    containers.iter().map(|c| c.id.as_str()).collect()
}

/// How many containers run of a revision.
fn of_revision(containers: &[Container], revision: &str) -> usize {
    containers.iter().filter(|c| c.label(labels::REVISION) == revision).count()
}

/// Waits until so many run, all of this revision, and the rollout is over.
async fn all_of(api: &Api, replicas: u32, revision: &str) {
    until(&format!("{replicas} of revision {revision}, nothing else"), LONG, || async {
        let running = api.truth.running_of("web").await;
        let fine = running.len() == replicas as usize
            && of_revision(&running, revision) == replicas as usize;
        let view = api.client.workload("web").await.map_err(|e| e.to_string())?;
        let open =
            view.rollout.as_ref().is_some_and(|r| !matches!(r.state.as_str(), "done" | "aborted"));
        if fine && !open && view.ready == replicas {
            Ok(())
        } else {
            Err(format!("{view:?} {running:?}"))
        }
    })
    .await;
}

/// Ten replicas under constant load from v1 to v2 and back, and on until it were tens
/// of thousands of requests: not one fails, never do more than eleven containers run,
/// never are fewer than ten ready.
#[tokio::test(flavor = "multi_thread")]
async fn ten_replicas_to_v2_and_back_without_a_failed_request() {
    let sandbox = deployed(10).await;
    let before = sandbox.runs("web", 10).await;
    let watch = sandbox.truth.watch().await;
    let replay = Replay::begin(&sandbox, "web").await;
    let load = Load::start(sandbox.address(), "web").await;

    sandbox.roll("web", V2).await;
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 10, "2").await;
    let half = load.report();
    let mut rollouts = 1;
    while rollouts < 2 || (load.report().answered < 20_000 && rollouts < 10) {
        sandbox.rollout("web", "undo").await;
        sandbox.rollout_is("web", "done").await;
        rollouts += 1;
        all_of(&sandbox, 10, if rollouts % 2 == 0 { "1" } else { "2" }).await;
    }

    let report = load.finish().await;
    let shown = replay.show(&sandbox).await;
    let running = watch.most_at_once("web", &before);
    println!(
        "{rollouts} rollouts, {shown:?}, {} requests answered ({} until v2 was done), {} failed, by version {:?}; at most \
         {running} ran at once; at least {:?} ready in {} samples",
        report.answered,
        half.answered,
        report.failed.len(),
        report.versions,
        report.fewest_ready,
        report.samples
    );
    report.assert_flawless(20_000, 10);
    assert_eq!((shown.fewest, shown.stopped), (10, 10 * rollouts));
    assert!(running <= 11, "{running} containers ran at once");
    assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"));
}

/// Paused in the middle nothing moves, but what is killed comes back with the
/// revision that it had; resumed, it finishes.
#[tokio::test(flavor = "multi_thread")]
async fn paused_nothing_moves_but_what_dies_comes_back_as_it_was() {
    let sandbox = deployed(6).await;
    sandbox.roll("web", V2).await;
    sandbox.rolled("web", 2).await;
    sandbox.rollout("web", "pause").await;
    // What was ordered before the pause still arrives.
    let mut still = sandbox.truth.running_of("web").await;
    let mut since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        let now = sandbox.truth.running_of("web").await;
        if ids(&now) != ids(&still) {
            still = now;
            since = std::time::Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (old, new) = (of_revision(&still, "1"), of_revision(&still, "2"));
    assert!(old > 0 && new >= 2, "it is in the middle: {still:?}");
    stays("nothing moves", Duration::from_secs(60), || async {
        let now = sandbox.truth.running_of("web").await;
        if now == still { Ok(()) } else { Err(format!("{now:?}, it was {still:?}")) }
    })
    .await;

    for revision in ["1", "2"] {
        let running = sandbox.truth.running_of("web").await;
        // The wave under way may have left a replica with both.
        let alone = |c: &&Container| {
            running.iter().filter(|o| o.label(labels::REPLICA) == c.label(labels::REPLICA)).count()
                == 1
        };
        let of_it = |c: &&Container| c.label(labels::REVISION) == revision;
        let victim = running.iter().filter(alone).find(of_it).expect("one that is alone");
        sandbox.truth.kill(&victim.id).await;
        until(&format!("one of revision {revision} to be replaced"), LONG, || async {
            let now = sandbox.truth.running_of("web").await;
            let healed = !ids(&now).contains(victim.id.as_str())
                && of_revision(&now, "1") == old
                && of_revision(&now, "2") == new;
            if healed { Ok(()) } else { Err(format!("{old} and {new} wanted: {now:?}")) }
        })
        .await;
    }
    assert_eq!(sandbox.workload("web").await.rollout.unwrap().state, "paused");

    sandbox.rollout("web", "resume").await;
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 6, "2").await;
}

/// v3 in the middle of v1 to v2: everything becomes v3, and no client notices.
#[tokio::test(flavor = "multi_thread")]
async fn v3_in_the_middle_is_where_it_ends() {
    let sandbox = deployed(6).await;
    let before = sandbox.runs("web", 6).await;
    let watch = sandbox.truth.watch().await;
    let load = Load::start(sandbox.address(), "web").await;
    sandbox.roll("web", V2).await;
    sandbox.rolled("web", 2).await;
    let mut third = web(6);
    third["env"] = json!({"VERSION": "v3"});
    sandbox.deploy(&third).await;
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 6, "3").await;
    let report = load.finish().await;
    println!("{} requests, by version {:?}", report.answered, report.versions);
    report.assert_flawless(2_000, 6);
    assert!(report.versions.contains_key("v3"), "{:?}", report.versions);
    assert!(watch.most_at_once("web", &before) <= 7);

    // The head before was v1: v2 never became it.
    sandbox.rollout("web", "undo").await;
    all_of(&sandbox, 6, "1").await;
}

/// Scaled down and up in the middle: the counts are right and all are new.
#[tokio::test(flavor = "multi_thread")]
async fn scaled_in_the_middle() {
    let sandbox = deployed(10).await;
    let before = sandbox.runs("web", 10).await;
    let watch = sandbox.truth.watch().await;
    let replay = Replay::begin(&sandbox, "web").await;
    let load = Load::start(sandbox.address(), "web").await;
    sandbox.roll("web", V2).await;
    sandbox.rolled("web", 3).await;
    sandbox.client.scale("web", 4).await.unwrap();
    until("the six to be gone", LONG, || async {
        let view = sandbox.workload("web").await;
        let right = view.desired == 4 && view.running <= 5 && view.stopping == 0;
        if right { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    sandbox.client.scale("web", 12).await.unwrap();
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 12, "2").await;
    let report = load.finish().await;
    report.assert_flawless(2_000, 4);
    assert!(watch.most_at_once("web", &before) <= 13);
    // Ten are ready until it is four, then four; on the way to twelve none is stopped
    // that would be missed.
    let shown = replay.show(&sandbox).await;
    println!("{shown:?}, {} requests", report.answered);
    assert!(shown.fewest >= 4 && shown.stopped >= 10, "{shown:?}");
}

/// Deleted in the middle: nothing is left, and nothing comes back.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_in_the_middle() {
    let sandbox = deployed(6).await;
    sandbox.roll("web", V2).await;
    sandbox.rolled("web", 2).await;
    sandbox.client.delete("web").await.unwrap();
    sandbox.nothing_left().await;
    stays("nothing comes back", Duration::from_secs(3), || async {
        let left = sandbox.truth.all().await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(http::get(sandbox.address(), "/workloads/web").await.unwrap().status, 404);
}

/// An undo that is aborted half way goes back to what it wanted to leave.
#[tokio::test(flavor = "multi_thread")]
async fn an_undo_can_be_aborted() {
    let sandbox = deployed(4).await;
    let load = Load::start(sandbox.address(), "web").await;
    sandbox.roll("web", V2).await;
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 4, "2").await;
    sandbox.rollout("web", "undo").await;
    sandbox.rolled("web", 1).await;
    let kept: BTreeSet<String> = sandbox
        .instances("web")
        .await
        .into_iter()
        .filter(|i| i.revision == 2 && i.ready)
        .map(|i| i.container_id)
        .collect();
    sandbox.rollout("web", "abort").await;
    sandbox.rollout_is("web", "aborted").await;
    all_of(&sandbox, 4, "2").await;
    let after = sandbox.runs("web", 4).await;
    let stayed = after.iter().filter(|c| kept.contains(&c.id)).count();
    // One may have been told to go between the look and the abort.
    assert!(stayed + 1 >= kept.len() && stayed > 0, "{stayed} of {} stayed", kept.len());
    load.finish().await.assert_flawless(2_000, 4);
    // The head is v2 still, v1 the one before.
    sandbox.rollout("web", "undo").await;
    all_of(&sandbox, 4, "1").await;
}

/// One replica with a fixed host port: there is no room beside it, so the new one
/// takes its place, and the events say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_host_port_is_handed_over_in_place() {
    let port = free_port();
    let sandbox = Sandbox::start(BIN).await;
    let mut spec = hello("web", 1);
    spec["ports"] = json!([{"containerPort": 8080, "hostPort": port, "fixed": true}]);
    sandbox.deploy(&spec).await;
    sandbox.ready("web", 1).await;
    let first = sandbox.runs("web", 1).await;
    let watch = sandbox.truth.watch().await;
    sandbox.roll("web", V2).await;
    sandbox.rollout_is("web", "done").await;
    all_of(&sandbox, 1, "2").await;

    let address = format!("127.0.0.1:{port}");
    assert_eq!(sandbox.discover("web").await.endpoints[0].address, address);
    assert!(http::get(&address, "/").await.unwrap().body.contains("version v2"));
    let second = sandbox.runs("web", 1).await;
    assert_eq!(second[0].label(labels::NODE), first[0].label(labels::NODE), "in its place");
    assert_eq!(watch.most_at_once("web", &first), 1, "one after the other");
    let told: Vec<String> = sandbox.events("web").await.into_iter().map(|e| e.kind).collect();
    assert!(told.iter().any(|kind| kind == "ReplacedInPlace"), "{told:?}");
}
