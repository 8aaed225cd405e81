//! A scheduler that comes back to fewer nodes than it left, nodes that come back
//! to a cluster that went on without them.

use std::time::{Duration, Instant};

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::labels;
use kube_lite_testkit::census::{agree, wanted};
use kube_lite_testkit::docker::Container;
use kube_lite_testkit::sandbox::{Fleet, hello, hello_probed};
use kube_lite_testkit::{LONG, until};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

async fn until_dead(fleet: &Fleet, node: &str) {
    until(&format!("{node} to be dead"), LONG, || async {
        let nodes = fleet.client.nodes().await.map_err(|e| e.to_string())?;
        let dead = nodes.iter().any(|n| n.id.as_str() == node && n.status == NodeStatus::Dead);
        if dead { Ok(()) } else { Err(format!("{nodes:?}")) }
    })
    .await;
}

fn on<'a>(containers: &'a [Container], node: &str) -> Vec<&'a Container> {
    containers.iter().filter(|c| c.label(labels::NODE) == node).collect()
}

/// The scheduler and one of three nodes are gone at once, and only the scheduler
/// comes back: for nine seconds nothing that existed before is started or
/// stopped, then the node is dead and replaced. When it returns with its healthy
/// containers, it is the replacements that go.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_until_every_known_node_has_reported_or_is_dead() {
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello_probed("web", 3)).await;
    fleet.deploy(&hello("short", 3)).await;
    fleet.ready("web", 3).await;
    fleet.ready("short", 3).await;
    let before = fleet.runs("web", 3).await;
    assert_eq!(on(&before, "n3").len(), 1, "{before:?}");
    let watch = fleet.truth.watch().await;

    fleet.agent("n3").kill();
    fleet.scheduler.kill();
    // One is missing already when the scheduler comes back.
    let short = fleet.runs("short", 3).await;
    fleet.truth.remove(&on(&short, "n1")[0].id).await;
    fleet.start_scheduler().await;
    let back = Instant::now();
    fleet.client.scale("web", 4).await.expect("scale");
    fleet.deploy(&hello("new", 2)).await;
    until("what is new to run, on the nodes that are there", LONG, || async {
        let running = fleet.truth.running_of("new").await.len();
        if running == 2 { Ok(()) } else { Err(running) }
    })
    .await;
    until("the reason to be told", LONG, || async {
        let (web, short) = (fleet.workload("web").await, fleet.workload("short").await);
        let told = [web, short].map(|view| format!("{:?}", view.reasons));
        let right = told.iter().all(|text| text.contains("Recovering") && text.contains("n3"));
        if right { Ok(()) } else { Err(told.join(" ")) }
    })
    .await;
    until_dead(&fleet, "n3").await;
    assert!(back.elapsed() > Duration::from_secs(8), "it had nine seconds: {:?}", back.elapsed());
    fleet.ready("web", 4).await;
    fleet.ready("short", 3).await;
    // By Docker's clock: the new ones at once, the others not before.
    let (new, old): (Vec<_>, Vec<_>) = watch
        .events()
        .into_iter()
        .filter(|event| event.action == "start")
        .partition(|event| event.workload == "new");
    let last_new = new.iter().map(|event| event.at_ns).max().expect("they were started");
    let first_old = old.iter().map(|event| event.at_ns).min().expect("they were started");
    assert!(first_old > last_new, "{new:?} {old:?}");
    // web: the fourth and the one of n3; short: the removed one and the one of n3.
    assert_eq!((watch.starts("web").len(), watch.starts("short").len()), (2, 2));
    assert!(watch.happened_to(&before).is_empty(), "{:?}", watch.events());

    fleet.start_agent("n3", &[]).await;
    fleet.able(3).await;
    agree(&fleet, &wanted([("new", 2), ("short", 3), ("web", 4)])).await;
    // Without a probe the original is as ready as its replacement, on a node that
    // is less crowded. One with a probe has first to be asked again.
    let after = fleet.runs("short", 3).await;
    assert!(on(&after, "n3") == on(&short, "n3"), "{short:?} {after:?}");
    let untouched: Vec<Container> =
        before.into_iter().filter(|c| c.label(labels::NODE) != "n3").collect();
    assert!(watch.happened_to(&untouched).is_empty(), "{:?}", watch.events());
}

/// Deleted while one of its nodes was away, the scheduler restarted since, and
/// the name given out anew: when the node is back, its old containers go, the new
/// ones stay, and no revision number is used twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_its_node_was_away_goes_when_it_returns() {
    let mut fleet = Fleet::start(BIN, 2).await;
    fleet.deploy(&hello("again", 0)).await;
    let mut changed = hello("again", 0);
    changed["env"] = serde_json::json!({"MARK": "2"});
    fleet.deploy(&changed).await;
    fleet.client.scale("again", 2).await.expect("scale");
    assert_eq!(fleet.workload("again").await.revision, 2);
    fleet.deploy(&hello("gone", 2)).await;
    agree(&fleet, &wanted([("again", 2), ("gone", 2)])).await;
    let before = fleet.truth.running().await;
    assert_eq!(on(&before, "n2").len(), 2, "{before:?}");

    fleet.agent("n2").kill();
    fleet.client.delete("again").await.expect("delete");
    fleet.client.delete("gone").await.expect("delete");
    fleet.restart_scheduler().await;
    fleet.deploy(&hello("again", 1)).await;
    assert_eq!(fleet.workload("again").await.revision, 3, "numbers are never reused");
    until_dead(&fleet, "n2").await;
    fleet.ready("again", 1).await;
    until("only what is out of reach and what is new to be left", LONG, || async {
        let (out_of_reach, rest): (Vec<_>, Vec<_>) =
            fleet.truth.all().await.into_iter().partition(|c| c.label(labels::NODE) == "n2");
        let right = out_of_reach.len() == 2
            && matches!(&rest[..], [new] if new.label(labels::REVISION) == "3");
        if right { Ok(()) } else { Err(format!("{out_of_reach:?} {rest:?}")) }
    })
    .await;
    let new =
        on(&fleet.truth.running_of("again").await, "n1").into_iter().cloned().collect::<Vec<_>>();

    fleet.start_agent("n2", &[]).await;
    fleet.able(2).await;
    agree(&fleet, &wanted([("again", 1)])).await;
    until("nothing else to be left", LONG, || async {
        let left = fleet.truth.all().await;
        if left == new { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    // Long gone, and still nothing of it is used again.
    fleet.deploy(&hello("gone", 1)).await;
    assert_eq!(fleet.workload("gone").await.revision, 2);
    agree(&fleet, &wanted([("again", 1), ("gone", 1)])).await;
}
