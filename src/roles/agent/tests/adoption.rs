//! Adoption by label, resync both ways, strays, and life without a scheduler.

use serde_json::json;

use super::world::*;
use crate::model::wire::RunOrder;
use crate::model::{Health, Phase, Reason};
use crate::roles::agent::message::*;

const ID: &str = "web-r1-x";

fn web() -> crate::model::wire::RunOrder {
    let mut made = order(ID, json!({"healthCheck": {"port": 80}}));
    made.replica = 4;
    made.restarts = 2;
    made.replaces = Some("web-r1-w".into());
    made
}

fn on_docker(state: ContainerState) -> Observed {
    observed(&web(), facts("c-web-r1-x", state))
}

#[test]
fn what_runs_is_adopted_with_all_that_its_labels_say() {
    let mut world = World::new();
    world.now = 90_000;
    world.docker_ok();
    world.listed(vec![on_docker(ContainerState::Running)]);
    world.take_probe();
    let adopted = world.see(ID).unwrap();
    assert_eq!((adopted.phase, adopted.health), (Phase::Running, Health::Starting));
    assert_eq!((adopted.replica, adopted.restarts, adopted.revision), (4, 2, 1));
    assert_eq!(adopted.replaces, Some("web-r1-w".into()));
    assert_eq!(adopted.running_for_ms, Some(90_000), "it runs since before this agent");
    world.give(Input::Probed { id: ID.into(), container_id: "c-web-r1-x".into(), outcome: Ok(()) });
    assert_eq!(world.see(ID).unwrap().healthy_for_ms, Some(90_000));
    world.register();
    assert!(world.last_beat.clone().unwrap().synced);
    let again = world.run(&web()).unwrap();
    assert_eq!(again.id.as_str(), ID, "its order is known");
    world.assert_idle();
}

#[test]
fn snapshots_are_not_synced_before_the_first_listing() {
    let mut world = World::new();
    world.register();
    assert!(!world.last_beat.clone().unwrap().synced);
    world.docker_ok();
    world.pass(3_000);
    assert!(!world.last_beat.clone().unwrap().synced);
    world.listed(Vec::new());
    world.pass(5);
    assert!(world.last_beat.clone().unwrap().synced);
}

#[test]
fn a_listing_that_fails_is_repeated_and_proves_nothing() {
    let mut world = World::new();
    world.register();
    world.docker_ok();
    let listing = world.take(|action| matches!(action, Action::Docker(_)));
    let Action::Docker(DockerAction::List { number, .. }) = listing else { panic!() };
    world.give(Input::Listed { number, outcome: Err("timed out".into()) });
    world.pass(1_999);
    world.assert_idle();
    world.pass(1);
    assert!(!world.last_beat.clone().unwrap().synced);
    world.listed(Vec::new());
}

#[test]
fn what_was_made_but_not_started_is_started_once_the_scheduler_has_been_met() {
    let mut world = World::new();
    world.docker_ok();
    world.listed(vec![on_docker(ContainerState::Created)]);
    assert_eq!(world.phase(ID), Some(Phase::Created));
    world.pass(5_000);
    world.open.retain(|action| matches!(action, Action::Register(_)));
    world.register();
    world.launched(ID);
    assert_eq!(world.phase(ID), Some(Phase::Running));
}

#[test]
fn what_died_while_nobody_looked_is_reported_with_its_exit_code() {
    let mut ended = facts("c-web-r1-x", ContainerState::Ended);
    ended.exit_code = Some(3);
    ended.started_at_ms = Some(WALL - 60_000);
    ended.finished_at_ms = Some(WALL - 20_000);
    let mut world = World::ready_with(vec![observed(&web(), ended)]);
    let dead = world.see(ID).unwrap();
    assert_eq!((dead.phase, dead.exit_code), (Phase::Exited, Some(3)));
    assert_eq!(dead.running_for_ms, Some(40_000));
    world.pass(60_000);
    assert_eq!(world.ids(), [ID]);
}

#[test]
fn what_vanished_without_us_has_failed() {
    let mut world = World::ready_with(vec![on_docker(ContainerState::Running)]);
    world.resync(Vec::new());
    let gone = world.see(ID).unwrap();
    assert_eq!((gone.phase, gone.reason), (Phase::Failed, Some(Reason::Removed)));
    assert_eq!(gone.exit_code, None);
}

#[test]
fn what_ended_without_an_event_is_found_by_the_next_listing() {
    let mut world = World::ready_with(vec![on_docker(ContainerState::Running)]);
    world.open.clear();
    world.pass(15_000);
    world.listed(vec![on_docker(ContainerState::Ended)]);
    assert_eq!(world.phase(ID), Some(Phase::Exited));
}

#[test]
fn a_listing_says_nothing_about_what_changed_while_it_was_made() {
    let mut world = World::ready();
    world.docker_ok();
    let old = order("old", json!({}));
    world.start(&old);
    world.listed(Vec::new());
    assert_eq!(world.phase("old"), Some(Phase::Running), "started since");

    world.docker_ok();
    world.dies("old", 0);
    world.listed(vec![observed(&old, facts("c-old", ContainerState::Running))]);
    assert_eq!(world.phase("old"), Some(Phase::Exited), "ended since");
    world.assert_idle();

    world.docker_ok();
    world.stop("old", 0).unwrap();
    world.removed("old");
    world.listed(vec![observed(&old, facts("c-old", ContainerState::Ended))]);
    assert_eq!(world.ids(), Vec::<String>::new(), "removed since");
    world.assert_idle();
}

#[test]
fn a_container_of_something_gone_is_removed() {
    let mut world = World::ready();
    let web = order(ID, json!({}));
    world.start(&web);
    world.stop(ID, 0).unwrap();
    world.stopped(ID, 10);
    world.removed(ID);
    world.resync(vec![observed(&web, facts("c-late", ContainerState::Running))]);
    world.take_docker(DockerAction::Remove { container_id: "c-late".into() });
    world.give(Input::Removed { container_id: "c-late".into(), outcome: Ok(()) });
    assert_eq!(world.ids(), Vec::<String>::new());
}

#[test]
fn a_second_container_with_the_labels_of_a_known_one_is_removed() {
    let mut world = World::ready_with(vec![
        on_docker(ContainerState::Running),
        observed(&web(), facts("c-copy", ContainerState::Running)),
    ]);
    world.take_docker(DockerAction::Remove { container_id: "c-copy".into() });
    assert_eq!(world.see(ID).unwrap().container_id, "c-web-r1-x");
}

#[test]
fn another_cluster_means_starting_from_nothing_and_touching_nothing() {
    let mut world =
        World::with(Default::default(), Some(Remembered { cluster: "old".into(), ..remembered() }));
    world.docker_ok();
    world.listed(vec![on_docker(ContainerState::Running)]);
    world.take_probe();
    world.register();
    world.take(|action| *action == Action::Remember(remembered()));
    assert_eq!(world.ids(), Vec::<String>::new());
    assert!(!world.core.snapshot().synced);
    world.listed(Vec::new());
    assert!(world.core.snapshot().synced);
    world.assert_idle();
}

// --- without a scheduler ---------------------------------------------------

fn alone() -> World {
    let mut world = World::ready();
    world.start(&order(ID, json!({})));
    world.pass(100);
    world.scheduler_up = false;
    world
}

fn forget_listings(world: &mut World) {
    world.open.retain(|action| !matches!(action, Action::Docker(DockerAction::List { .. })));
}

#[test]
fn a_crash_is_healed_nine_seconds_after_the_last_answer_and_not_before() {
    let mut world = alone();
    world.dies(ID, 1);
    world.pass(8_800);
    world.assert_idle();
    assert_eq!(world.ids(), [ID]);
    world.pass(200);
    let launch = world.take_launch("web-r1-x-a1");
    assert_eq!(launch.labels["kube-lite.replaces"], ID);
    assert_eq!(launch.labels["kube-lite.restarts"], "1");
}

#[test]
fn while_the_scheduler_answers_nothing_is_restarted() {
    let mut world = World::ready();
    world.start(&order(ID, json!({})));
    world.dies(ID, 1);
    world.pass(100_000);
    forget_listings(&mut world);
    world.assert_idle();
}

#[test]
fn alone_policy_decides() {
    for (policy, exit_code, restarted) in [
        ("always", 0, true),
        ("always", 1, true),
        ("onFailure", 0, false),
        ("onFailure", 1, true),
        ("never", 0, false),
        ("never", 1, false),
    ] {
        let mut world = World::ready();
        world.start(&order(ID, json!({"restartPolicy": policy})));
        world.scheduler_up = false;
        world.dies(ID, exit_code);
        world.pass(12_000);
        assert_eq!(world.ids().len() == 2, restarted, "{policy} {exit_code}");
    }
}

#[test]
fn alone_a_crash_loop_slows_down_and_its_dead_are_bounded() {
    let mut world = alone();
    let mut id = ID.to_owned();
    let mut started_at = Vec::new();
    for number in 1..=6 {
        world.dies(&id, 1);
        id = format!("{ID}-a{number}");
        while !world.ids().contains(&id) {
            world.pass(100);
            forget_listings(&mut world);
        }
        started_at.push(world.now);
        world.launched(&id);
        for dead in world.open.clone() {
            let Action::Docker(DockerAction::Remove { container_id }) = dead else { panic!() };
            world.removed(container_id.strip_prefix("c-").unwrap());
        }
    }
    let pauses: Vec<u64> = started_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, base) in pauses.iter().zip([1_000, 2_000, 4_000, 8_000, 16_000]) {
        assert!((base..base * 5 / 4 + 200).contains(pause), "{pauses:?}");
    }
    assert_eq!(world.ids().len(), 3, "two dead ones and the one that runs: {:?}", world.ids());
}

/// What is found dead may have had a successor in a former life of the agent, which
/// is gone by now: its id is not given again.
#[test]
fn alone_a_dead_one_that_was_found_gets_a_successor_with_an_id_of_its_own() {
    let mut world = World::with(Default::default(), Some(remembered()));
    world.docker_ok();
    let mut dead = facts("c-web-r1-x", ContainerState::Ended);
    (dead.exit_code, dead.finished_at_ms) = (Some(1), Some(WALL));
    world.listed(vec![observed(&order(ID, json!({})), dead)]);
    world.scheduler_up = false;
    world.pass(12_000);
    let ids = world.ids();
    let number = ids.iter().find_map(|id| id.strip_prefix("web-r1-x-a")?.parse::<u64>().ok());
    assert!(number.is_some_and(|number| number > 1_000), "{ids:?}");
}

#[test]
fn alone_only_what_crashed_is_restarted() {
    let mut world = World::ready();
    world.run(&order("failed", json!({"pullPolicy": "never"}))).unwrap();
    world.image_checked(false);
    world.start(&order("stopped", json!({})));
    world.scheduler_up = false;
    world.stop("stopped", 0).unwrap();
    world.stopped("stopped", 10);
    world.removed("stopped");
    world.pass(100_000);
    assert_eq!(world.ids(), ["failed"]);
}

#[test]
fn what_the_scheduler_judged_long_ago_is_left_alone() {
    let mut world = World::ready();
    world.start(&order(ID, json!({})));
    world.dies(ID, 1);
    world.pass(70_000);
    world.scheduler_up = false;
    world.pass(70_000);
    forget_listings(&mut world);
    world.assert_idle();
}

/// The node was off for so long that the replica was filled elsewhere, which nobody but
/// the scheduler knows. It has been told of the end.
#[test]
fn what_was_found_dead_and_told_is_left_alone() {
    let mut dead = facts("c-web-r1-x", ContainerState::Ended);
    (dead.exit_code, dead.finished_at_ms) = (Some(255), Some(WALL));
    let mut world = World::ready_with(vec![observed(&order(ID, json!({})), dead)]);
    world.pass(3_500);
    world.scheduler_up = false;
    world.pass(30_000);
    assert_eq!(world.ids(), [ID]);
}

#[test]
fn a_replica_that_is_filled_again_is_left_alone() {
    let mut world = World::ready();
    world.start(&order(ID, json!({})));
    world.dies(ID, 1);
    world.pass(10);
    let mut next = order("web-r1-y", json!({}));
    next.replaces = Some(ID.into());
    world.start(&next);
    world.scheduler_up = false;
    world.pass(70_000);
    forget_listings(&mut world);
    world.assert_idle();
    assert_eq!(world.ids().len(), 2);
}

#[test]
fn a_pause_of_the_agent_itself_is_not_the_schedulers_silence() {
    let mut world = World::ready();
    world.start(&order(ID, json!({})));
    world.pass(100);
    world.now += 3_600_000;
    world.dies(ID, 1);
    world.pass(1_000);
    forget_listings(&mut world);
    world.assert_idle();
    assert_eq!(world.ids(), [ID]);
}

#[test]
fn alone_a_successor_waits_for_nobodys_place() {
    // What it was to follow made room long ago, on another node.
    let known = RunOrder { after: Some("web-r0-x".into()), ..order(ID, json!({})) };
    let mut world =
        World::ready_with(vec![observed(&known, facts("c-web-r1-x", ContainerState::Running))]);
    world.scheduler_up = false;
    world.pass(10_000);
    forget_listings(&mut world);
    world.dies(ID, 1);
    world.pass(20_000);
    forget_listings(&mut world);
    let next = world.ids().into_iter().find(|id| id != ID).expect("a successor");
    assert_ne!(world.reason(&next), Some(Reason::Prepared), "{:?}", world.see(&next));
    world.take_launch(&next);
}
