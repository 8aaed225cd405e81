//! Agents are killed in the middle of starts and stops: what was under way is
//! found again and not done twice, and what runs is left alone.

use std::time::Duration;

use kube_lite_testkit::LONG;
use kube_lite_testkit::census::{agree, wanted};
use kube_lite_testkit::chance::{a_while, chance};
use kube_lite_testkit::sandbox::{Fleet, hello, hello_probed};
use kube_lite_testkit::until;
use kube_lite_testkit::wait::stays;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// Each agent twice, and each of them in the middle of starts and of stops.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_is_found_again_and_not_done_twice() {
    let mut chance = chance("kill_agents");
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello_probed("bystander", 3)).await;
    fleet.ready("bystander", 3).await;
    let bystanders = fleet.runs("bystander", 3).await;
    let watch = fleet.truth.watch().await;
    fleet.deploy(&hello("web", 0)).await;

    for victim in ["n1", "n2", "n3", "n1", "n2", "n3"] {
        fleet.client.scale("web", 9).await.unwrap();
        a_while(&mut chance, 0..=1_200).await;
        fleet.agent(victim).kill();
        a_while(&mut chance, 0..=600).await;
        fleet.start_agent(victim, &[]).await;
        agree(&fleet, &wanted([("bystander", 3), ("web", 9)])).await;

        fleet.client.scale("web", 0).await.unwrap();
        a_while(&mut chance, 0..=600).await;
        fleet.agent(victim).kill();
        fleet.start_agent(victim, &[]).await;
        agree(&fleet, &wanted([("bystander", 3), ("web", 0)])).await;
    }
    for action in ["create", "start", "die"] {
        assert_eq!(watch.repeated(action), [""; 0], "an order is carried out once");
    }
    let most = watch.most_at_once("web", &[]);
    assert!(most <= 9, "{most} of nine ran at once");
    let happened = watch.happened_to(&bystanders);
    assert!(happened.is_empty(), "what runs is not touched: {happened:?}");
    let starts = watch.starts("web").len();
    assert_eq!(starts, 6 * 9, "nothing is started that is not needed");
    fleet.client.delete("web").await.unwrap();
    fleet.client.delete("bystander").await.unwrap();
    fleet.nothing_left().await;
}

/// All agents at once, and the scheduler with them.
#[tokio::test(flavor = "multi_thread")]
async fn everything_of_ours_killed_at_once_in_the_middle_of_starts() {
    let mut chance = chance("kill_all");
    let mut fleet = Fleet::start(BIN, 2).await;
    let watch = fleet.truth.watch().await;
    fleet.deploy(&hello("web", 8)).await;
    let running = until("some to run", LONG, || async {
        let running = fleet.truth.running_of("web").await;
        if running.len() >= 2 { Ok(running) } else { Err(running.len()) }
    })
    .await;
    a_while(&mut chance, 0..=300).await;
    for node in ["n1", "n2"] {
        fleet.agent(node).kill();
    }
    fleet.scheduler.kill();
    a_while(&mut chance, 0..=1_000).await;
    for node in ["n1", "n2"] {
        fleet.start_agent(node, &[]).await;
    }
    fleet.start_scheduler().await;
    agree(&fleet, &wanted([("web", 8)])).await;
    let happened = watch.happened_to(&running);
    let ended = happened.iter().any(|event| event.action == "die");
    assert!(!ended, "what runs is not touched: {happened:?}");
    assert_eq!(watch.repeated("create"), [""; 0]);
    stays("eight run", Duration::from_secs(3), || async {
        let count = fleet.truth.running_of("web").await.len();
        if count == 8 { Ok(()) } else { Err(count) }
    })
    .await;
}
