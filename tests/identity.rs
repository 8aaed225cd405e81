//! Who is who: one scheduler per data directory, one agent per node.

use std::path::Path;

use kube_lite::model::wire::labels;
use kube_lite_testkit::sandbox::{Fleet, hello};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, Process, SHORT, until};
use nix::sys::signal::Signal;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

async fn says(process: &Process, words: &[&str]) {
    until(&format!("it to say {words:?}"), SHORT, || async {
        let output = process.output();
        if words.iter().all(|word| output.contains(word)) { Ok(()) } else { Err(output) }
    })
    .await;
}

async fn address_of(fleet: &Fleet, node: &str) -> String {
    let nodes = fleet.nodes().await;
    nodes.into_iter().find(|n| n.id.as_str() == node).expect("the node").address
}

/// A second scheduler on one data directory says who has it and what to do, and
/// the first one notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_scheduler_on_one_data_directory_refuses_to_start() {
    let mut fleet = Fleet::start(BIN, 1).await;
    fleet.deploy(&hello("web", 1)).await;
    fleet.ready("web", 1).await;
    let epoch = fleet.epoch().await;
    let mut command = std::process::Command::new(BIN);
    command.args(["scheduler", "--listen", "127.0.0.1:0", "--data-dir"]);
    command.arg(fleet.directory.path().join("scheduler"));
    let mut second = Process::start("the second scheduler", &mut command);
    let status = second.wait(SHORT);
    assert_eq!(status.code(), Some(1), "{}", second.output());
    says(&second, &["another scheduler", "is using the state", "stop it first", "--data-dir"])
        .await;
    assert!(!second.output().contains("listens on"), "{}", second.output());
    assert_eq!(fleet.scheduler.ended(), None);
    assert_eq!(fleet.epoch().await, epoch);
    fleet.client.scale("web", 2).await.expect("the first one still stores what it is told");
    fleet.ready("web", 2).await;
    // Once the first one is gone, the state is there for the next.
    fleet.restart_scheduler().await;
    assert_eq!(fleet.epoch().await, epoch + 1);
    fleet.ready("web", 2).await;
}

/// Another machine that was given the same node id waits until the holder is
/// dead, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn another_machine_gets_a_node_id_only_from_the_dead() {
    let mut fleet = Fleet::start(BIN, 2).await;
    fleet.deploy(&hello("web", 2)).await;
    fleet.ready("web", 2).await;
    let before = fleet.runs("web", 2).await;
    let watch = fleet.truth.watch().await;
    let holder = address_of(&fleet, "n1").await;

    let directory = fleet.directory.path().join("another-n1");
    let mut other = fleet.agent_process("n1", &directory, &fleet.url, &[]).await;
    says(&other, &["refused", "is taken by a living agent", &holder, "another --node-id"]).await;
    stays("the holder stays", std::time::Duration::from_secs(4), || async {
        let now = address_of(&fleet, "n1").await;
        if now == holder { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(other.ended(), None, "it waits for its turn");
    assert_eq!(fleet.agent("n1").ended(), None);
    fleet.client.scale("web", 4).await.unwrap();
    fleet.ready("web", 4).await;
    let started: Vec<_> = fleet.runs("web", 4).await;
    assert_eq!(started.iter().filter(|c| c.label(labels::NODE) == "n1").count(), 2);

    fleet.agent("n1").kill();
    until("the other to be the node", LONG, || async {
        let now = address_of(&fleet, "n1").await;
        if now == holder { Err(other.output()) } else { Ok(()) }
    })
    .await;
    fleet.able(2).await;
    fleet.ready("web", 4).await;
    fleet.runs("web", 4).await;
    let died: Vec<_> =
        watch.happened_to(&before).into_iter().filter(|e| e.action == "die").collect();
    assert!(died.is_empty(), "it has found the containers of the dead one: {died:?}");

    // Now the first is the other machine.
    let late = fleet.agent_process("n1", &fleet.directory.path().join("n1"), &fleet.url, &[]).await;
    says(&late, &["is taken by a living agent"]).await;
    assert_eq!(other.ended(), None);
}

/// A cloned data directory is the same machine started again: the newer one has
/// the node, the older one stops for good and leaves the containers alone.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_data_directory_the_newer_has_the_node() {
    let mut fleet = Fleet::start(BIN, 1).await;
    fleet.deploy(&hello("web", 2)).await;
    fleet.ready("web", 2).await;
    let before = fleet.runs("web", 2).await;
    let watch = fleet.truth.watch().await;
    let holder = address_of(&fleet, "n1").await;

    let directory = fleet.directory.path().join("clone");
    clone(&fleet.directory.path().join("n1"), &directory);
    let mut newer = fleet.agent_process("n1", &directory, &fleet.url, &[]).await;
    let status = fleet.agent("n1").wait(SHORT);
    // Of its own, so that nobody starts it again to take the node back.
    assert_eq!(status.code(), Some(4));
    says(fleet.agent("n1"), &["has been replaced", "taken over by a newer agent"]).await;
    assert_ne!(address_of(&fleet, "n1").await, holder);
    fleet.able(1).await;
    fleet.client.scale("web", 3).await.unwrap();
    fleet.ready("web", 3).await;
    let after = fleet.runs("web", 3).await;
    assert!(before.iter().all(|c| after.contains(c)), "{before:?} {after:?}");
    assert!(watch.happened_to(&before).is_empty(), "{:?}", watch.events());
    assert_eq!(newer.ended(), None);
    // And it ends like any other, its containers running on.
    newer.signal(Signal::SIGTERM);
    assert!(newer.wait(SHORT).success());
    assert_eq!(fleet.runs("web", 3).await, after);
}

/// A copy of an agent's data directory, as on a cloned machine.
fn clone(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the data directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}
