//! Agents without their scheduler: after nine seconds they restart what crashes
//! by themselves, start nothing else, and hand back cleanly.

use std::time::Duration;

use kube_lite::model::wire::labels;
use kube_lite_testkit::census::{agree, wanted};
use kube_lite_testkit::docker::Container;
use kube_lite_testkit::proxy::TcpProxy;
use kube_lite_testkit::sandbox::{Fleet, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Process, SHORT, until};
use nix::sys::signal::Signal;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// The container that runs in place of this one.
async fn successor_of(fleet: &Fleet, old: &Container) -> Container {
    let base = old.name.rsplit_once("-a").map_or(old.name.as_str(), |(base, _)| base).to_owned();
    until(&format!("a successor of {} to run", old.name), LONG, || async {
        let running = fleet.truth.running().await;
        let is_next = |c: &&Container| c.name != old.name && c.name.starts_with(&base);
        running.iter().find(is_next).cloned().ok_or(format!("{running:?}"))
    })
    .await
}

/// The scheduler hangs for a good while. What crashes meanwhile is restarted by
/// its agent, nothing else is started, and what the agent has learned about its
/// back-off is what the scheduler goes on with.
#[tokio::test(flavor = "multi_thread")]
async fn alone_an_agent_restarts_what_crashes_and_hands_it_back() {
    let fleet = Fleet::start(BIN, 2).await;
    fleet.deploy(&hello_probed("bystander", 2)).await;
    fleet.deploy(&hello("web", 2)).await;
    let mut once = hello("once", 1);
    once["restartPolicy"] = "never".into();
    fleet.deploy(&once).await;
    fleet.ready("bystander", 2).await;
    fleet.ready("once", 1).await;
    fleet.ready("web", 2).await;
    let bystanders = fleet.runs("bystander", 2).await;
    let [first, other] = fleet.runs("web", 2).await.try_into().expect("two");
    let [job] = fleet.runs("once", 1).await.try_into().expect("one");
    let watch = fleet.truth.watch().await;

    fleet.scheduler.signal(Signal::SIGSTOP);
    let since = std::time::Instant::now();
    fleet.truth.kill(&first.id).await;
    fleet.truth.kill(&job.id).await;
    let second = successor_of(&fleet, &first).await;
    // The last answer may be as old as a heartbeat's interval.
    assert!(since.elapsed() > Duration::from_secs(5), "not before it is cut off");
    assert_eq!(second.name, format!("{}-a1", first.name));
    assert_eq!(second.label(labels::REPLACES), first.name);
    assert_eq!(second.label(labels::RESTARTS), "1");
    for key in [labels::NODE, labels::REPLICA, labels::REVISION] {
        assert_eq!(second.label(key), first.label(key), "{key}");
    }
    // The first restart came at once, the next one takes its time.
    fleet.truth.kill(&second.id).await;
    let third = successor_of(&fleet, &second).await;
    assert_eq!(third.name, format!("{}-a2", first.name));
    assert_eq!(third.label(labels::REPLACES), second.name);
    assert_eq!(third.label(labels::RESTARTS), "2");
    stays("nothing else is started", Duration::from_secs(3), || async {
        let starts = watch.events().iter().filter(|event| event.action == "start").count();
        if starts == 2 { Ok(()) } else { Err(format!("{:?}", watch.events())) }
    })
    .await;

    fleet.scheduler.signal(Signal::SIGCONT);
    until("the scheduler to know", SHORT, || async {
        let view = fleet.workload("web").await;
        let right = (view.restarts, view.ready, view.stopping) == (2, 2, 0);
        if right { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    stays("what the agent did stands", Duration::from_secs(6), || async {
        let running = fleet.truth.running_of("web").await;
        let same = running.len() == 2 && running.contains(&third) && running.contains(&other);
        let starts = watch.events().iter().filter(|event| event.action == "start").count();
        if same && starts == 2 { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    agree(&fleet, &wanted([("bystander", 2), ("once", 0), ("web", 2)])).await;
    let job = fleet.workload("once").await;
    assert_eq!((job.done, watch.starts("once").len()), (1, 0), "{job:?}");

    // Two failures in a row were the agent's; the third waits two seconds.
    fleet.truth.kill(&third.id).await;
    agree(&fleet, &wanted([("bystander", 2), ("once", 0), ("web", 2)])).await;
    let view = fleet.workload("web").await;
    assert_eq!(view.restarts, 3, "{view:?}");
    let died = watch.events().into_iter().find(|e| e.container == third.id && e.action == "die");
    let starts = watch.starts("web");
    let waited_ns = starts.last().expect("a start").at_ns - died.expect("its end").at_ns;
    assert!(waited_ns >= 2_000_000_000, "it waited {} ms", waited_ns / 1_000_000);
    assert_eq!(starts.len(), 3, "{starts:?}");
    assert_eq!(fleet.nodes().await.iter().filter(|n| n.status.as_str() == "alive").count(), 2);
    let happened = watch.happened_to(&bystanders);
    assert!(happened.is_empty(), "{happened:?}");
}

/// One agent is cut off and its node taken for dead: its replicas are replaced
/// elsewhere while it restarts what crashes. When it is back, one of each stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_node_that_was_replaced_ends_with_one_of_each() {
    let mut fleet = Fleet::start(BIN, 1).await;
    let line = TcpProxy::before(fleet.address()).await;
    let url = format!("http://{}", line.address);
    let directory = fleet.directory.path().join("far");
    let far: Process = fleet.agent_process("far", &directory, &url, &[]).await;
    fleet.agents.insert("far".to_owned(), far);
    fleet.able(2).await;
    fleet.deploy(&hello_probed("web", 4)).await;
    fleet.ready("web", 4).await;
    let all = fleet.runs("web", 4).await;
    let (there, here): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|c| c.label(labels::NODE) == "far");
    assert_eq!((there.len(), here.len()), (2, 2));
    let watch = fleet.truth.watch().await;

    line.stall(true);
    fleet.truth.kill(&there[0].id).await;
    let successor = successor_of(&fleet, &there[0]).await;
    assert_eq!(successor.label(labels::NODE), "far");
    until("four to be ready on the node that is left", LONG, || async {
        let view = fleet.workload("web").await;
        if view.ready == 4 { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    assert_eq!(fleet.truth.running_of("web").await.len(), 6, "two of them out of sight");

    line.stall(false);
    fleet.able(2).await;
    agree(&fleet, &wanted([("web", 4)])).await;
    let left = fleet.runs("web", 4).await;
    assert!(here.iter().all(|c| left.contains(c)), "{here:?} {left:?}");
    for replica in 0..4 {
        let of_it = left.iter().filter(|c| c.label(labels::REPLICA) == replica.to_string());
        assert_eq!(of_it.count(), 1, "{left:?}");
    }
    assert!(watch.happened_to(&here).is_empty(), "{:?}", watch.events());
    assert_eq!(watch.starts("web").len(), 3, "{:?}", watch.starts("web"));
}
